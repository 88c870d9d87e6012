"""What all explorers share: controls above a canvas, and a static picture of it where no browser watches."""

import sys
import weakref
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from dit_course.explore.engine.canvas import Canvas, Patch
from dit_course.explore.engine.keyboard import Accessible
from dit_course.explore.engine.still import SENTENCE, advise, still_of
from dit_course.explore.engine.worker import Cache, Job, Weights, Worker
from dit_course.show import Picture

MEMORY = 64 * 2**20  # bytes of pictures that an explorer may keep


class Live(widgets.VBox):
    """A box of widgets with a static picture of itself; a subclass has the property `picture`."""

    def close(self) -> None:
        """Take everything from the page, and free its memory."""
        hidden = [value for value in vars(self).values() if isinstance(value, widgets.Widget)]  # not on the page
        for widget in (*_within(self), *(part for one in hidden for part in (*_within(one), one))):
            widget.close()
        super().close()

    def _repr_mimebundle_(self, **kwargs):
        """The live view for JupyterLab, and a still picture for GitHub, a printed page or VS Code without network."""
        live = super()._repr_mimebundle_(**kwargs) or {}
        static, metadata = still_of(self.picture)._repr_mimebundle_()
        static["text/plain"] += f" {SENTENCE}"
        advise()
        return {**live, **static}, metadata | self.children[-1]._repr_mimebundle_()[1]  # anywidget's, for Colab


class View(Live):
    """Controls above a canvas.

    A subclass makes its controls, calls `super().__init__`, and has `render`, which computes the state of the controls
    and shows it. It may have `picked`, called with the place of a click on the canvas, (x, y) in pixels of the page: to
    move a control there.

    Where a browser watches, a callback only files a request, and the worker's thread serves the newest one. Where none
    does (plain Python, nbval), the picture is complete when the assignment returns.
    """

    worker: Worker | None = None

    def __init__(self, controls: Sequence[widgets.Widget], rows: Sequence[widgets.Widget] | None = None):
        self.controls = tuple(controls)
        self.worker = Worker(_Weak(self._work), _Weak(self._idle), _Weak(self._failed), pause=_cells.running)
        self.canvas = Canvas(self.worker.prefetch, _Weak(self.picked) if hasattr(self, "picked") else None)
        self._rendered: Any = None  # the state that is on screen
        _cells.listen()
        self.worker.run_now()  # an error in the first picture belongs to the cell
        for control in self.controls:
            control.observe(self._changed, "value")
        if rows is None:
            rows = [widgets.HBox(self.controls, layout={"flex_flow": "row wrap"})]
        super().__init__([*rows, self.canvas, Accessible()])
        _replace_earlier(self)

    def state(self) -> Any:
        """The values of all controls."""
        return tuple(control.value for control in self.controls)

    def render(self, job: Job, state: Any) -> None:
        """Show this state, in full quality at the end; `job.check()` between steps of long work."""
        raise NotImplementedError

    def prefetch(self, job: Job, state: Any) -> None:
        """Compute what the next move may need; `job.check()` between steps."""

    def show(
        self, picture: Picture, status: str | None = None, rough: bool = False, patch: Patch | None = None
    ) -> None:
        """Put a picture on the canvas. status: None takes its alt text. rough, patch: as in `Canvas.draw`."""
        self._shown = picture
        self.canvas.draw(picture.pixels, picture.alt, picture.alt if status is None else status, rough, patch)

    @property
    def picture(self) -> Picture:
        """What is on screen, for where no kernel runs."""
        self.wait_idle()
        return self._shown

    @property
    def status(self) -> str:
        """The line below the picture."""
        return self.canvas.status[min(self.canvas.frame_index, len(self.canvas.status) - 1)]

    def wait_idle(self, timeout: float = 60.0) -> bool:
        """Wait until the picture shows the state of the controls, in full quality. Returns whether it does."""
        return self.worker.wait_idle(timeout)

    def close(self) -> None:
        """Take the view from the page, end its thread, free its memory."""
        if self.worker is None:  # it was never finished
            return
        self.worker.close()
        super().close()
        for kept in vars(self).values():  # the notebook keeps the view itself, as Out[...]
            if isinstance(kept, Cache | Weights):
                kept.clear()

    def _changed(self, _change) -> None:
        if self.canvas.watched:
            self.worker.request()
            return
        try:
            self.worker.run_now()
        except Exception as error:  # what a callback raises is shown nowhere
            self._failed(error)

    def _work(self, job: Job) -> None:
        state = self.state()
        self._rendered = None
        self.render(job, state)
        self._rendered = state

    def _idle(self, job: Job) -> None:
        if self._rendered is not None:
            self.prefetch(job, self._rendered)

    def _failed(self, error: Exception) -> None:
        self.canvas.set_status(f"{type(error).__name__}: {error}", wrong=True)


class DrawnView(View):
    """A view whose pictures are cached as long as there is memory, and prefetched for the next moves.

    A subclass has `picture_of`. version: part of the cache's keys; a subclass changes it with its model's weights.
    """

    version = 0

    def __init__(self, controls: Sequence[widgets.Widget], rows: Sequence[widgets.Widget] | None = None):
        self._drawings = Cache(MEMORY)
        super().__init__(controls, rows)

    def picture_of(self, state: tuple) -> Picture:
        """The picture of a state."""
        raise NotImplementedError

    def render(self, job: Job, state: tuple) -> None:
        """Show the picture of a state."""
        picture, patch = self._cached(state)
        self.show(picture, patch=patch)

    def prefetch(self, job: Job, state: tuple) -> None:
        """Draw the states that are one move away."""
        for one in neighbors(self.controls, state):
            job.check()
            self._cached(one)

    def _cached(self, state: tuple) -> tuple[Picture, Patch | None]:
        """The picture of a state, and the patch that has to travel."""

        def draw() -> tuple[Picture, Patch | None]:
            picture = self.picture_of(state)
            return picture, self.canvas.patch_of(picture.pixels)

        return self._drawings.fetch((self.version, state), draw)


def neighbors(controls: Sequence[widgets.Widget], state: tuple) -> list[tuple]:
    """The states that are one move of one control away: a step up or down, or the next choice."""
    found = []
    for place, (control, value) in enumerate(zip(controls, state, strict=True)):
        if isinstance(control, widgets.SelectionSlider | widgets.Dropdown):
            values = [option[1] if isinstance(option, tuple) else option for option in control.options]
            index = values.index(value)
            moves = [values[i] for i in (index + 1, index - 1) if 0 <= i < len(values)]
        elif isinstance(control, widgets.Checkbox):
            moves = [not value]
        else:
            moves = [value + control.step, value - control.step]
            moves = [round(move, 10) if isinstance(move, float) else move for move in moves]
            moves = [move for move in moves if control.min <= move <= control.max]
        found += [(*state[:place], move, *state[place + 1 :]) for move in moves]
    return found


class _Cells:
    """Knows whether a cell runs: then nothing is prefetched, which would slow it down."""

    def __init__(self):
        self._running, self._shell = False, None

    def running(self) -> bool:
        """Whether a cell of the notebook is running now."""
        return self._running

    def listen(self) -> None:
        """From now on; called from a cell."""
        try:
            shell = sys.modules["IPython"].get_ipython()
            if shell is self._shell or not hasattr(shell, "kernel"):
                return
            shell.events.register("pre_run_cell", self._on_begin)
            shell.events.register("post_run_cell", self._on_end)
        except (AttributeError, KeyError):
            return  # no notebook
        self._shell, self._running = shell, True

    def _on_begin(self, *_) -> None:
        self._running = True

    def _on_end(self, *_) -> None:
        self._running = False


_cells = _Cells()


class _Weak:
    """A bound method that does not keep its object alive, for threads; does nothing once the object is gone."""

    def __init__(self, method):
        self.method = weakref.WeakMethod(method)

    def __call__(self, *arguments):
        method = self.method()
        return None if method is None else method(*arguments)


def _within(box: widgets.Widget) -> list[widgets.Widget]:
    """All widgets inside a box, with their layouts and styles."""
    styles = [getattr(box, name) for name in ("layout", "style") if hasattr(box, name)]
    return [*(part for child in getattr(box, "children", ()) for part in (*_within(child), child)), *styles]


_views: dict[str, tuple[str, list[View]]] = {}  # by cell: the id of its last run, and the views made then


def _replace_earlier(view: View) -> None:
    """Close the views of an earlier run of the same cell: nobody can see them any more."""
    try:
        header = sys.modules["IPython"].get_ipython().kernel.get_parent()
        cell, run = header["metadata"]["cellId"], header["header"]["msg_id"]
    except (AttributeError, KeyError, TypeError):
        return  # no notebook
    before, views = _views.get(cell, (run, []))
    if before != run:
        for old in views:
            old.close()
        views = []
    _views[cell] = (run, [*views, view])

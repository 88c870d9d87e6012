"""What all explorers share: controls above a canvas, and a still picture of it where no browser watches."""

import sys
import weakref
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from dit_course.explore.engine.canvas import Canvas, Patch
from dit_course.explore.engine.keyboard import Accessible
from dit_course.explore.engine.worker import Cache, Job, Weights, Worker
from dit_course.show import Picture

MEMORY = 64 * 2**20  # bytes that an explorer may keep of its drawings


class Live(widgets.VBox):
    """A box of widgets that carries a still of itself; a subclass has the property `picture`."""

    picture: Picture

    def close(self) -> None:
        """Take everything from the page, and let go of its memory."""
        hidden = [value for value in vars(self).values() if isinstance(value, widgets.Widget)]  # not on show
        for widget in (*_within(self), *(part for one in hidden for part in (*_within(one), one))):
            widget.close()
        super().close()

    def _repr_mimebundle_(self, **kwargs):
        """The live view for JupyterLab, and the still picture for GitHub, a printed page or a run without a browser."""
        live = super()._repr_mimebundle_(**kwargs) or {}
        still, metadata = self.picture._repr_mimebundle_()
        return {**live, **still}, metadata


class View(Live):
    """Controls above a canvas.

    A subclass makes its controls, calls `super().__init__`, and has `answer` (compute and show what the controls say;
    without a browser a plain call to the end) and `picture` (the still). It may have `picked`, called with the place
    that the mouse has clicked at on the canvas, (x, y) in pixels of the page: to move a control there.

    Where a browser watches, a callback only leaves a note for the worker's thread, which answers the newest one. Where
    none does (plain Python, nbval), the answer is there when the assignment returns.
    """

    worker: Worker | None = None

    def __init__(self, controls: Sequence[widgets.Widget], rows: Sequence[widgets.Widget] | None = None):
        self.controls = tuple(controls)
        self.worker = Worker(_Weak(self._work), _Weak(self._idle), _Weak(self._failed), pause=_cells.running)
        self.canvas = Canvas(self.worker.rouse, _Weak(self.picked) if hasattr(self, "picked") else None)
        self._answered: Any = None  # the state that was answered last
        _cells.listen()
        self.worker.now()  # what is wrong with the first drawing is for the cell
        for control in self.controls:
            control.observe(self._changed, "value")
        if rows is None:
            rows = [widgets.HBox(self.controls, layout={"flex_flow": "row wrap"})]
        super().__init__([*rows, self.canvas, Accessible()])
        _replace_earlier(self)

    def state(self) -> Any:
        """What the controls say."""
        return tuple(control.value for control in self.controls)

    def answer(self, job: Job, state: Any) -> None:
        """Show what the controls say, the best answer last; `job.check()` between steps of long work."""
        raise NotImplementedError

    def ahead(self, job: Job, state: Any) -> None:
        """Compute what may be asked for after this; `job.check()` between steps."""

    @property
    def said(self) -> str:
        """The line below the picture."""
        return self.canvas.said[min(self.canvas.moment, len(self.canvas.said) - 1)]

    def settle(self, timeout: float = 60.0) -> bool:
        """Wait until what is shown is what the controls say, in full quality. Returns whether it is."""
        return self.worker.settle(timeout)

    def close(self) -> None:
        """Take the view from the page, end its thread, let go of its memory."""
        if self.worker is None:  # it was never finished
            return
        self.worker.close()
        super().close()
        for kept in vars(self).values():  # the notebook remembers the view itself, as Out[...]
            if isinstance(kept, Cache | Weights):
                kept.clear()

    def _changed(self, _change) -> None:
        if self.canvas.watched:
            self.worker.ask()
            return
        try:
            self.worker.now()
        except Exception as error:  # what a callback raises is shown nowhere
            self._failed(error)

    def _work(self, job: Job) -> None:
        state = self.state()
        self._answered = None
        self.answer(job, state)
        self._answered = state

    def _idle(self, job: Job) -> None:
        if self._answered is not None:
            self.ahead(job, self._answered)

    def _failed(self, error: Exception) -> None:
        self.canvas.say(f"{type(error).__name__}: {error}", wrong=True)


class DrawnView(View):
    """A view whose pictures are whole drawings, each made once as long as there is memory, and the next ones ahead.

    A subclass has `drawn`. version: what is remembered belongs to it; a subclass whose model has learned changes it.
    """

    version = 0

    def __init__(self, controls: Sequence[widgets.Widget], rows: Sequence[widgets.Widget] | None = None):
        self._drawings = Cache(MEMORY)
        super().__init__(controls, rows)

    def drawn(self, state: tuple) -> Picture:
        """The drawing for what the controls say."""
        raise NotImplementedError

    @property
    def picture(self) -> Picture:
        """What is on show: the still for where no kernel runs."""
        self.settle()
        return self._shown

    def answer(self, job: Job, state: tuple) -> None:
        """Show the drawing."""
        self._shown, patch = self._remembered(state)
        self.canvas.draw(self._shown.pixels, self._shown.alt, self._shown.alt, patch=patch)

    def ahead(self, job: Job, state: tuple) -> None:
        """Draw what one move of a control would ask for."""
        for one in beside(self.controls, state):
            job.check()
            self._remembered(one)

    def _remembered(self, state: tuple) -> tuple[Picture, Patch | None]:
        """The drawing, and what of it has to travel."""
        key = (self.version, state)
        found = self._drawings.get(key)
        if found is None:
            picture = self.drawn(state)
            found = picture, self.canvas.patch_of(picture.pixels)
            self._drawings.put(key, found)
        return found


def beside(controls: Sequence[widgets.Widget], state: tuple) -> list[tuple]:
    """The states that one move away of one control would lead to: a step up or down, or the next choice."""
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
    """Knows whether a cell runs: then nothing is computed ahead, which would slow it down."""

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
            shell.events.register("pre_run_cell", self._begins)
            shell.events.register("post_run_cell", self._ends)
        except (AttributeError, KeyError):
            return  # no notebook
        self._shell, self._running = shell, True

    def _begins(self, *_) -> None:
        self._running = True

    def _ends(self, *_) -> None:
        self._running = False


_cells = _Cells()


class _Weak:
    """A bound method that does not keep its object alive, for threads: nothing happens once the object is gone."""

    def __init__(self, method):
        self.method = weakref.WeakMethod(method)

    def __call__(self, *arguments):
        method = self.method()
        return None if method is None else method(*arguments)


def _within(box: widgets.Widget) -> list[widgets.Widget]:
    """All widgets inside of a box, with those that say how they look."""
    looks = [getattr(box, name) for name in ("layout", "style") if hasattr(box, name)]
    return [*(part for child in getattr(box, "children", ()) for part in (*_within(child), child)), *looks]


_views: dict[str, tuple[str, list[View]]] = {}  # of each cell: the run that made them, and they


def _replace_earlier(view: View) -> None:
    """Close what the same cell has made when it ran before: nobody can see it any more."""
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

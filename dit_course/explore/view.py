"""What all explorers share: controls above a canvas, and a still picture of it where no browser watches."""

import sys
import weakref
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from dit_course.explore.canvas import Canvas
from dit_course.explore.keyboard import Accessible
from dit_course.explore.worker import Job, Worker
from dit_course.show import Picture


class View(widgets.VBox):
    """A box of controls above a canvas.

    A subclass makes its controls, calls `super().__init__`, and has `state` (what the controls say), `answer` (compute
    and show it; a plain call in the end, which tests make without a browser) and `picture` (the still).

    Where a browser watches, a callback only leaves a note for the worker's thread, which answers the newest one. Where
    none does (plain Python, nbval), the answer is there when the assignment returns.
    """

    worker: Worker | None = None

    def __init__(self, controls: Sequence[widgets.Widget], rows: Sequence[widgets.Widget]):
        self.controls = tuple(controls)
        self.canvas = Canvas()
        self.worker = Worker(_Weak(self._work), _Weak(self._idle), _Weak(self._failed))
        self._answered: Any = None  # the state that was answered last
        self.worker.now()  # what is wrong with the first drawing is for the cell
        for control in self.controls:
            control.observe(self._changed, "value")
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
    def picture(self) -> Picture:
        """The still of what is shown."""
        raise NotImplementedError

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
        hidden = [value for value in vars(self).values() if isinstance(value, widgets.Widget)]  # not on show
        for widget in (*_within(self), *(part for one in hidden for part in (*_within(one), one))):
            widget.close()
        super().close()

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

    def _repr_mimebundle_(self, **kwargs):
        """The live view for JupyterLab, and the still picture for GitHub, a printed page or a run without a browser."""
        live = super()._repr_mimebundle_(**kwargs) or {}
        still, metadata = self.picture._repr_mimebundle_()
        return {**live, **still}, metadata


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

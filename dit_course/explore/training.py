"""A training that can be watched and stopped: the loss, what the network draws, the time left.

It runs in the cell, in the kernel's main thread, so the notebook goes on when it is done. The Stop button works all the
same: JupyterLab delivers clicks to another thread (a "subshell"), which leaves a note that is read after each step. So
does the interrupt button of the toolbar, everywhere. Pictures are drawn between two steps: no weight changes meanwhile.
"""

import contextlib
import html
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator

import anywidget
import ipywidgets as widgets
import traitlets
from torch import Tensor, nn

from dit_course.distributed.train_config import Step
from dit_course.explore.engine.canvas import Canvas
from dit_course.explore.engine.keyboard import Accessible
from dit_course.explore.engine.view import Live
from dit_course.sampling import Sampler
from dit_course.show import Picture, to_bytes
from dit_course.show.lesson_06_training import ROWS
from dit_course.show.lesson_06_training import training as draw_training

MOST_PICTURES = 10
SHARE = 0.04  # of the time that drawing may take
GLANCE, LOOK = 0.3, 2.0  # at least so many seconds between two messages, and between two drawings
FIRST_LINE, LINE = 10.0, 30.0  # seconds until the first printed line, and between two, where nobody watches


def training(
    steps: Iterable[Step], model: nn.Module | None = None, cfg: float = 2.0, solver_steps: int = 8, seed: int = 0
) -> "Training":
    """Run a training and watch it: `run = explore.training(train(model, dataset, config, ema=ema), ema.model)`.

    steps: what `train` gives, or any generator of `Step`. model: who draws the pictures, best the averaged one; None
        for no pictures. cfg, solver_steps, seed: how they are drawn, a few steps of AB2 from the same noise each time.
    Drawing takes at most about 4 % of the time, and no time of `TrainConfig(minutes=...)`.
    Returns the view, once the training has ended or was stopped; in both cases what was learned is in the model.
    Where nobody watches (no JupyterLab), it prints a line now and then. `view.picture` is the still figure.
    """
    view = Training(steps, model, cfg, solver_steps, seed)
    view.run()
    return view


def clock(seconds: float) -> str:
    """Seconds as minutes: 83.4 is "1:23"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def chosen(moments: list[float], most: int = ROWS) -> list[int]:
    """Which of many moments to show: the last, and backwards from it each about half as late, and the first.

    moments: growing. Returns at most `most` of their numbers, growing.
    """
    kept: list[int] = []
    for k in range(most - 1):
        wanted = moments[-1] / 2**k if moments else 0.0
        nearest = min(range(len(moments)), key=lambda i: abs(moments[i] - wanted), default=0)
        if moments and (not kept or moments[nearest] < 0.75 * moments[kept[-1]]):
            kept.append(nearest)
    return sorted({*kept, 0} if moments else kept)


class Presence(anywidget.AnyWidget):
    """Tells the kernel that somebody watches: a browser runs this, a notebook that is only executed does not.

    It says so again until it is heard, since its first words may wait in a queue behind the running cell.
    """

    _esm = """
    function render({ model, el }) {
      el.style.display = "none";
      let left = 20;
      const again = setInterval(() => {
        if (model.get("here") || left-- <= 0) clearInterval(again);
        else model.send("here");
      }, 500);
      return () => clearInterval(again);
    }
    export default { render };
    """
    here = traitlets.Bool(False).tag(sync=True)

    def __init__(self):
        super().__init__()
        self.on_msg(self._heard)

    def _heard(self, *_) -> None:
        self.here = True


def hear_while_busy(widget: widgets.Widget) -> None:
    """Let what the browser says to a widget arrive while a cell runs.

    ipykernel 7.4 brings it to the shell that has last spoken to the widget, and that is the busy cell's. Without this
    memory it goes where JupyterLab addresses it: to the subshell. Where there is no such memory, nothing happens.
    """
    with contextlib.suppress(AttributeError, TypeError):
        vars(widget.comm).pop("_reply_subshell_id", None)


class Training(Live):
    """The view that `training` makes.

    losses: of all steps. strips: pairs of seconds and the pictures drawn then, (n, C, H, W) uint8. stopped: whether
    somebody has ended it early. seconds: of training; drawing: of drawing. picture: what is shown.
    """

    def __init__(self, steps: Iterable[Step], model: nn.Module | None, cfg: float, solver_steps: int, seed: int):
        self.steps, self.model, self.seed = steps, model, seed
        self.sampler = None if model is None else Sampler(model, solver_steps, "ab2", cfg)
        self.losses: list[float] = []
        self.strips: list[tuple[float, Tensor]] = []
        self.stopped, self.seconds, self.drawing = False, 0.0, 0.0
        self._waiting: list[Step] = []  # whose losses have not been read yet: on a GPU, reading waits
        self._stop = threading.Event()
        self._next_glance = self._next_look = self._next_line = time.perf_counter()
        self.bar = widgets.FloatProgress(0, min=0, max=1, layout={"width": "260px"})
        self.button = widgets.Button(description="Stop", icon="stop", layout={"width": "90px"})
        self.button.tooltip = "end the training after this step and keep what was learned"
        self.button.on_click(self._clicked)
        self.message = widgets.HTML()
        self.canvas = Canvas()
        self.presence = Presence()
        self.title: str | None = None
        row = widgets.HBox([self.button, self.bar, self.message], layout={"align_items": "center"})
        super().__init__([row, self.canvas, self.presence, Accessible()])
        self._redraw()

    @property
    def picture(self) -> Picture:
        """The loss so far, and what was drawn on the way."""
        rows = [(clock(self.strips[i][0]), self.strips[i][1]) for i in chosen([at for at, _ in self.strips])]
        captions = getattr(self.model, "class_names", None) or ()
        return draw_training(self.losses, rows, captions, self.title)

    def run(self) -> None:
        """Take step after step until the end, or until somebody stops it."""
        handle = _display(self)
        for widget in (self.button, self.presence):
            hear_while_busy(widget)
        self._look(None)
        self._next_line = time.perf_counter() + FIRST_LINE
        step = None
        try:
            with self._interruptible():
                for step in self.steps:
                    self._note(step)
                    if self._stop.is_set():
                        self.stopped = True
                        break
        except KeyboardInterrupt:
            self.stopped = True
        finally:
            self._end(step)
            if handle is not None:
                handle.update(self)  # so that a stored notebook holds the last state

    def stop(self) -> None:
        """End the training after the step in hand; from any thread."""
        self._stop.set()

    def _clicked(self, _button) -> None:
        self.button.disabled, self.button.description = True, "Stopping"
        self.stop()

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The interrupt button ends the training between two steps; a second time, it interrupts at once."""

        def interrupt(number, frame):
            if self._stop.is_set():
                raise KeyboardInterrupt
            self.stop()

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _note(self, step: Step) -> None:
        """Keep the loss, and show what is due."""
        self._waiting.append(step)
        self.seconds = step.seconds
        now = time.perf_counter()
        if now >= self._next_look and step.progress < 1:
            self._look(step)
        elif now >= self._next_glance:
            self._glance(step)
        if now >= self._next_line and not self.presence.here:
            self._next_line = now + LINE
            print(self._line(step), flush=True)

    def _glance(self, step: Step) -> None:
        self.bar.value = step.progress
        self.message.value = f'<span role="status">{html.escape(self._line(step))}</span>'
        self._next_glance = time.perf_counter() + GLANCE

    def _look(self, step: Step | None) -> None:
        """Draw pictures and the curve; the next time only when that costs no more than its share."""
        start = time.perf_counter()
        if self.sampler is not None:
            labels = self.model.config.num_classes
            count = MOST_PICTURES if labels is None else min(labels, MOST_PICTURES)
            self.strips.append((self.seconds, to_bytes(self.sampler.sample(count, seed=self.seed))))
        self._redraw()
        if step is not None:
            self._glance(step)
        cost = time.perf_counter() - start
        self.drawing += cost
        self._next_look = time.perf_counter() + max(LOOK, cost * (1 - SHARE) / SHARE)

    def _redraw(self) -> None:
        self.losses += [step.loss for step in self._waiting]
        self._waiting.clear()
        picture = self.picture
        self.canvas.draw(picture.pixels, picture.alt, "")

    def _line(self, step: Step) -> str:
        """Where the training stands, in one line."""
        left = step.seconds_left * (1 + self.drawing / max(self.seconds, 1e-9))
        done = f"{step.index:,} of {step.total:,} steps" if step.total else f"{step.index:,} steps"
        speed = f"{step.images_per_second:,.0f} images/s"
        return f"{clock(self.seconds)} | {done} | loss {step.loss:.3f} | {speed} | about {clock(left)} left"

    def _end(self, step: Step | None) -> None:
        """Close the generator, which saves where it has a folder, and draw the end."""
        with contextlib.suppress(AttributeError):
            self.steps.close()
        if step is not None:
            cost = f"{clock(self.drawing)} more for the pictures on the way"
            what = "stopped after" if self.stopped else "done:"
            text = f"{what} {step.index:,} steps in {clock(self.seconds)}, and {cost}"
            self.title = f"{step.index:,} steps in {clock(self.seconds)}" + (", then stopped" if self.stopped else "")
            self._look(None)
            self.bar.value = 1.0 if not self.stopped else step.progress
            self.message.value = f'<span role="status">{html.escape(text)}</span>'
            if not self.presence.here:
                print(text, flush=True)
        self.button.layout.display = "none"


def _display(view: Training):
    """Show a view in the notebook, where there is one; returns what can update it, or None."""
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        return None
    return ipython.display.display(view, display_id=True)

"""A training run that can be watched and stopped: the loss, samples of the network, the time left.

It runs in the cell, in the kernel's main thread, so the notebook goes on when it is done. The Stop button works all the
same: JupyterLab delivers clicks to another thread (a "subshell"), which sets a flag that is read after each step. So
does the interrupt button of the toolbar, everywhere. Samples are made between two steps: no weight changes meanwhile.
"""

import contextlib
import html
import signal
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
from dit_course.notebook import shell
from dit_course.sampling import Sampler
from dit_course.show import Picture, to_bytes
from dit_course.show.lesson_06_training import ROWS
from dit_course.show.lesson_06_training import training as draw_training

MOST_PICTURES = 10
SHARE = 0.04  # of the time that sampling and plotting may take
MESSAGE, REDRAW = 0.3, 2.0  # least seconds between two messages, and between two updates of the picture
FIRST_LINE, LINE = 10.0, 30.0  # seconds until the first printed line, and between two, without a browser


def training(
    steps: Iterable[Step], model: nn.Module | None = None, cfg: float = 2.0, solver_steps: int = 8, seed: int = 0
) -> "Training":
    """Train and watch: `run = explore.training(train(model, dataset, config, ema=ema), ema.model)`.

    steps: what `train` yields, or any generator of `Step`. model: what is sampled from, best the EMA; None for no
        samples. cfg, solver_steps, seed: of the sampler, a few steps of AB2 from the same noise each time.
    Sampling takes at most about 4 % of the time, and none of `TrainConfig(minutes=...)`.
    Returns the view once the training has ended or was stopped; in both cases the model keeps what it has learned.
    Without JupyterLab it prints a line now and then. `view.picture` is the static figure.
    """
    view = Training(steps, model, cfg, solver_steps, seed)
    view.run()
    return view


def clock(seconds: float) -> str:
    """Seconds as minutes: 83.4 is "1:23"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def chosen(times: list[float], most: int = ROWS) -> list[int]:
    """Which of many times to show: the last, going back each about half of the one before, and the first.

    times: increasing. Returns at most `most` of their indices, increasing.
    """
    if not times:
        return []
    kept: list[int] = []
    for k in range(most - 1):
        nearest = min(range(len(times)), key=lambda i: abs(times[i] - times[-1] / 2**k))
        if not kept or times[nearest] < 0.75 * times[kept[-1]]:
            kept.append(nearest)
    return sorted({*kept, 0})


class Presence(anywidget.AnyWidget):
    """Tells the kernel that a browser watches; a notebook that is only executed does not run this.

    It repeats its message until the kernel has received it, since the first may wait behind the running cell.
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
        self.on_msg(self._on_message)

    def _on_message(self, *_) -> None:
        self.here = True


def receive_while_busy(widget: widgets.Widget) -> None:
    """Let a widget receive messages of the browser while a cell runs.

    ipykernel 7.4 delivers them to the shell that has last sent to the widget, which is the busy cell's. Without that
    attribute they go where JupyterLab addresses them: to the subshell. Other versions have no such attribute.
    """
    with contextlib.suppress(AttributeError, TypeError):
        vars(widget.comm).pop("_reply_subshell_id", None)


class Training(Live):
    """The view that `training` makes.

    losses: of all steps. strips: pairs of seconds and the samples made then, (n, C, H, W) uint8. stopped: whether it
    was ended early. seconds: of training; sampling_seconds: of sampling and plotting. picture: what is shown.
    """

    def __init__(self, steps: Iterable[Step], model: nn.Module | None, cfg: float, solver_steps: int, seed: int):
        self.steps, self.model, self.seed = steps, model, seed
        self.sampler = None if model is None else Sampler(model, solver_steps, "ab2", cfg)
        self.losses: list[float] = []
        self.strips: list[tuple[float, Tensor]] = []
        self.stopped, self.seconds, self.sampling_seconds = False, 0.0, 0.0
        self._unread: list[Step] = []  # reading a loss makes a GPU wait
        self._stop = threading.Event()
        self._next_message = self._next_redraw = self._next_line = time.perf_counter()
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
        self._plot()

    @property
    def picture(self) -> Picture:
        """The loss so far, and the samples made on the way."""
        rows = [(clock(self.strips[i][0]), self.strips[i][1]) for i in chosen([at for at, _ in self.strips])]
        captions = getattr(self.model, "class_names", None) or ()
        return draw_training(self.losses, rows, captions, self.title)

    def run(self) -> None:
        """Take step after step until the end, or until somebody stops it."""
        handle = _display(self)
        try:
            self._follow()
        finally:
            if handle is not None:
                handle.update(self)  # so that a stored notebook holds the last state

    def _follow(self) -> None:
        for widget in (self.button, self.presence):
            receive_while_busy(widget)
        self._redraw(None)
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

    def stop(self) -> None:
        """End the training after the current step; from any thread."""
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
        self._unread.append(step)
        self.seconds = step.seconds
        now = time.perf_counter()
        if now >= self._next_redraw and step.progress < 1:
            self._redraw(step)
        elif now >= self._next_message:
            self._show_message(step)
        if now >= self._next_line:
            self._next_line = now + LINE
            self._say(self._line(step))

    def _say(self, line: str) -> None:
        """Print a line where no browser shows it."""
        if not self.presence.here:
            print(line, flush=True)

    def _show_message(self, step: Step) -> None:
        self.bar.value = step.progress
        self.message.value = f'<span role="status">{html.escape(self._line(step))}</span>'
        self._next_message = time.perf_counter() + MESSAGE

    def _redraw(self, step: Step | None) -> None:
        """Sample, and plot the curve; the next time only when that costs no more than its share."""
        start = time.perf_counter()
        if self.sampler is not None:
            labels = self.model.config.num_classes
            count = MOST_PICTURES if labels is None else min(labels, MOST_PICTURES)
            self.strips.append((self.seconds, to_bytes(self.sampler.sample(count, seed=self.seed))))
        self._plot()
        if step is not None:
            self._show_message(step)
        cost = time.perf_counter() - start
        self.sampling_seconds += cost
        self._next_redraw = time.perf_counter() + max(REDRAW, cost * (1 - SHARE) / SHARE)

    def _plot(self) -> None:
        self.losses += [step.loss for step in self._unread]
        self._unread.clear()
        picture = self.picture
        self.canvas.draw(picture.pixels, picture.alt, "")

    def _line(self, step: Step) -> str:
        """Where the training stands, in one line."""
        left = step.seconds_left * (1 + self.sampling_seconds / max(self.seconds, 1e-9))
        done = f"{step.index:,} of {step.total:,} steps" if step.total else f"{step.index:,} steps"
        speed = f"{step.images_per_second:,.0f} images/s"
        return f"{clock(self.seconds)} | {done} | loss {step.loss:.3f} | {speed} | about {clock(left)} left"

    def _end(self, step: Step | None) -> None:
        """Close the generator, which saves where it has a folder, and show the end."""
        with contextlib.suppress(AttributeError):
            self.steps.close()
        if step is not None:
            cost = f"{clock(self.sampling_seconds)} more for the pictures on the way"
            what = "stopped after" if self.stopped else "done:"
            text = f"{what} {step.index:,} steps in {clock(self.seconds)}, and {cost}"
            self.title = f"{step.index:,} steps in {clock(self.seconds)}" + (", then stopped" if self.stopped else "")
            self._redraw(None)
            self.bar.value = 1.0 if not self.stopped else step.progress
            self.message.value = f'<span role="status">{html.escape(text)}</span>'
            self._say(text)
        self.button.layout.display = "none"


def _display(view: Training):
    """Show a view in the notebook, where there is one; returns what can update it, or None."""
    if shell() is None:
        return None
    from IPython.display import display

    return display(view, display_id=True)

"""Figures of lesson 12: what the victim of a bug saw, and which probe catches which bug."""

from collections.abc import Mapping, Sequence

import numpy as np

from dit_course.show.arrays import enlarge, to_bytes
from dit_course.show.axes import LABEL, add_axes, headline
from dit_course.show.figures import exponential_mean
from dit_course.show.layout import DENSITY, GAP, PALETTE, Picture, blank_figure, rendered
from dit_course.show.text import paste, write

WIDTH, BAND, TOP = 800, 152, 40  # of the page, of one case, and of the title
CHART, LEFT, ZOOM = (60, 250), 356, 3  # where the chart begins and its width; where pictures begin; device pixels
ACROSS = 10  # pictures in a row
TRACE = 1.9  # losses above are cut off: a new model has 1 + E[x^2]


def symptoms(*cases, beside, title: str | None = None) -> Picture:
    """Show what was seen of each case: its loss, samples (a column for each class), scores.

    cases: each with a `title`, and `seen`: losses (steps,), pictures (20, C, H, W) in [0, 1], class_accuracy and
    frechet_distance. beside: the case that all are compared with, whose loss is the gray line.
    """
    if not cases:
        raise ValueError("there is no case to show: give some, and beside which they are shown")
    title = title or f"Loss, samples and scores: {', '.join(case.title for case in cases)}"
    height, gray = TOP + BAND * len(cases), _smooth(beside.seen.losses)
    figure, lines = blank_figure(WIDTH, height), [_smooth(case.seen.losses) for case in cases]
    for number, (case, line) in enumerate(zip(cases, lines, strict=True)):
        bottom = height - TOP - BAND * (number + 1)
        box = (CHART[0] / WIDTH, (bottom + 36) / height, CHART[1] / WIDTH, (BAND - 48) / height)
        axes = add_axes(figure, box, "step" if number == len(cases) - 1 else "", "loss", "y")
        alone = case is beside
        axes.plot(gray, color=PALETTE["noise"], linewidth=2 if alone else 6, alpha=1 if alone else 0.5)
        if not alone:
            axes.plot(line, color=PALETTE["guidance"], linewidth=2)
        axes.set_ylim(0, TRACE)
        axes.set_xlim(0, max(len(line) - 1, 1))
    headline(figure, title)
    page = rendered(figure)
    told = [_paste(page, case, TOP + BAND * number) for number, case in enumerate(cases)]
    ends = [f"{text}, loss {line[-1]:.2f} at the end" for text, line in zip(told, lines, strict=True)]
    return Picture.of(page, f"{title}. A loss curve and twenty samples each. {'; '.join(ends)}")


def _smooth(losses) -> np.ndarray:
    """The running mean of losses; what is not finite lies above the chart."""
    return exponential_mean(np.nan_to_num(np.asarray(losses, dtype=float), nan=9.0, posinf=9.0).clip(max=9.0), 0.9)


def _paste(page: np.ndarray, case, top: float) -> str:
    """The samples of a case and its scores, in place; returns the scores as text."""
    pixels = to_bytes(case.seen.pictures) // 16 * 17  # 16 grays make a small file, also of noise
    side = ZOOM * pixels.shape[-1] / DENSITY
    tiles = enlarge(pixels, ZOOM).permute(0, 2, 3, 1).numpy()  # (n, c, h, w) -> (n, h, w, c)
    for i, tile in enumerate(tiles[: 2 * ACROSS]):
        row, column = divmod(i, ACROSS)
        paste(page, tile, top + 26 + row * (side + GAP), LEFT + column * (side + GAP / 2))
    scores = f"{case.seen.class_accuracy:.0%} in their class, Fréchet distance {case.seen.frechet_distance:.3g}"
    write(page, f"{case.title}: {scores}", LEFT, top + 14)
    return f"{case.title}: {scores}"


def scoreboard(caught: Mapping[str, Sequence[str]], bugs: Mapping[str, str], title: str | None = None) -> Picture:
    """Show which probe catches which bug: a column for each probe, a row for each bug.

    caught: by probe, the keys of the bugs that it catches. bugs: by key, what the row says.
    """
    unknown = {key for keys in caught.values() for key in keys} - set(bugs)
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} was caught and is not among the bugs: {', '.join(bugs)}")
    found = {key for keys in caught.values() for key in keys}
    title = title or f"{len(caught)} probes catch {len(found)} of {len(bugs)} bugs"
    row, head = 22, 128
    height, left = head + row * len(bugs) + 12, 300
    figure = blank_figure(WIDTH, height)
    box = (left / WIDTH, 12 / height, (WIDTH - left - 60) / WIDTH, row * len(bugs) / height)
    axes = figure.add_axes(box, facecolor="white")
    for column, keys in enumerate(caught.values()):
        rows = [number for number, key in enumerate(bugs) if key in keys]
        axes.plot([column] * len(rows), rows, "o", color=PALETTE["model"], markersize=10)
    axes.set(xlim=(-0.5, len(caught) - 0.5), ylim=(len(bugs) - 0.5, -0.5))
    axes.set_yticks(range(len(bugs)), list(bugs.values()), **LABEL)
    axes.xaxis.tick_top()
    names = [name.removeprefix("probe_").replace("_", " ") for name in caught]
    axes.set_xticks(range(len(caught)), names, rotation=40, ha="left", **LABEL)
    axes.tick_params(length=0)
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    headline(figure, title)
    told = "; ".join(f"{name}: {', '.join(keys) or 'none'}" for name, keys in caught.items())
    return Picture.of(rendered(figure), f"{title}. A table of probes and bugs: {told}")

"""Figures of lesson 11: what an evaluation buys, with and without distillation."""

from collections.abc import Mapping, Sequence

from dit_course.show.axes import LABEL, add_axes, end_label, headline, log_ticks, spread
from dit_course.show.layout import PALETTE, Picture, blank_figure, rendered

# color and marker of each line, as in lesson 08
STYLES = {"euler": ("noise", "o"), "ab2": ("model", "^"), "student": ("guidance", "D")}
DARK = {**PALETTE, "noise": "#5f5f5f"}  # dark enough for text
GOALS = {
    "class_accuracy": ("in the class asked for (higher is better)", "{:.0%}"),
    "frechet_distance": ("Fréchet distance (lower is better)", "{:.3g}"),
    "recall": ("recall: variety (higher is better)", "{:.0%}"),
}


def evaluations(rows: Sequence[Mapping], goals: Sequence[str], title: str | None = None) -> Picture:
    """Show measures against the number of function evaluations (NFE): a panel for each goal, a line for each solver.

    rows: with the keys solver, evaluations and the goals, of which there are class_accuracy, frechet_distance, recall.
    """
    unknown = [goal for goal in goals if goal not in GOALS or any(goal not in row for row in rows)]
    if unknown or not rows:
        raise ValueError(
            f"no {', '.join(unknown) or 'rows'}: each row needs solver, evaluations and {', '.join(goals)}"
        )
    from matplotlib.ticker import LogLocator, NullLocator

    names = list(dict.fromkeys(row["solver"] for row in rows))
    ticks = sorted({row["evaluations"] for row in rows})
    title = title or f"What an evaluation buys: {', '.join(names)}"
    figure = blank_figure(780, 330)
    share, ends = 1 / len(goals), []
    for number, goal in enumerate(goals):
        box = (0.065 + 0.97 * share * number, 0.15, 0.97 * share - 0.165, 0.62)
        axes = add_axes(figure, box, "evaluations of the network")
        label, form = GOALS[goal]
        axes.set_title(label, loc="left", **LABEL)
        lasts = []
        for name in names:
            line = sorted((row["evaluations"], row[goal]) for row in rows if row["solver"] == name)
            kind, marker = STYLES.get(name, ("data", "s"))
            axes.plot(*zip(*line, strict=True), color=PALETTE[kind], marker=marker, linewidth=2, markersize=6)
            lasts.append((*line[-1], name, kind))
            ends.append(f"{name}, {goal}: " + ", ".join(f"{value:.3g} with {count}" for count, value in line))
        axes.set_xscale("log")
        if goal == "frechet_distance":
            axes.set_yscale("log")
        log_ticks(axes, ticks)
        if goal == "frechet_distance":
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0), numticks=12))
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.yaxis.set_major_locator(_few_ticks())
        axes.yaxis.set_major_formatter(lambda value, _, form=form: form.format(value))
        axes.margins(y=0.14)
        _name(axes, lasts, ticks[-1], -1 if goal == "frechet_distance" else 1)
    headline(figure, title)
    return Picture.of(rendered(figure), f"{title}. Line charts over the number of evaluations. {'; '.join(ends)}")


def _name(axes, lasts: Sequence[tuple], right: int, side: int) -> None:
    """Write each name beside the last point of its line: at the right edge, moved apart where two would overlap.

    A line that ends before `right` has its name above that point (side 1), or below (-1).
    """
    axes.figure.canvas.draw()  # the scale is settled now
    far = [last for last in lasts if last[0] == right]
    heights = [axes.transAxes.inverted().transform(axes.transData.transform(last[:2]))[1] for last in far]
    for (_, _, name, kind), height in zip(far, spread(heights, 0.09), strict=True):
        _, y = axes.transData.inverted().transform(axes.transAxes.transform((0, height)))
        end_label(axes, f"   {name}", right, y, DARK[kind])
    for last in lasts:
        if last not in far:
            place = {"xytext": (0, 12 * side), "textcoords": "offset points", "ha": "center", "va": "center"}
            axes.annotate(last[2], last[:2], **place, **LABEL | {"color": DARK[last[3]]})


def _few_ticks():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5, steps=[1, 2, 5, 10])


def variety(rows: Sequence[Mapping], title: str | None = None) -> Picture:
    """Show recall against class accuracy, a line for each solver and number of evaluations, a point for each guidance.

    rows: with the keys solver, evaluations, cfg, class_accuracy and recall. The scale stands beside the points of the
    first line and of the last one.
    """
    lines: dict[tuple, list] = {}
    for row in sorted(rows, key=lambda row: row["cfg"]):
        lines.setdefault((row["solver"], row["evaluations"]), []).append(row)
    title = title or "More guidance: more in their class, less variety"
    figure = blank_figure(780, 360)
    axes = add_axes(figure, (0.085, 0.15, 0.88, 0.73), "in the class asked for", "recall: variety", title=title)
    axes.margins(x=0.08, y=0.13)
    ends = []
    for number, ((solver, count), points) in enumerate(lines.items()):
        place = [[row[goal] for row in points] for goal in ("class_accuracy", "recall")]
        kind, marker = STYLES.get(solver, ("data", "s"))
        faint = 1 if number in (0, len(lines) - 1) else 0.45
        axes.plot(*place, color=PALETTE[kind], marker=marker, linewidth=2, markersize=6, alpha=faint)
        name, style = f"{solver}, {count} evaluation{'s' * (count > 1)}", LABEL | {"color": DARK[kind]}
        axes.annotate(
            name, (place[0][0], place[1][0]), xytext=(-4, 8 if number == 0 else 14), textcoords="offset points", **style
        )
        ends.append(f"{name}: recall from {place[1][0]:.2f} to {place[1][-1]:.2f}")
        offset, side = ((-5, -9), "right") if number == 0 else ((9, 0), "left")
        for row in points if faint == 1 else ():
            at = (row["class_accuracy"], row["recall"])
            where = {"xytext": offset, "textcoords": "offset points", "ha": side, "va": "center"}
            axes.annotate(f"cfg {row['cfg']:g}", at, **where, **style)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(_few_ticks())
        axis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return Picture.of(rendered(figure), f"{title}. Lines over the guidance scale. {'; '.join(ends)}")

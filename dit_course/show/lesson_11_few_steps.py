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
        axes.yaxis.set_major_formatter(lambda value, _, form=form: form.format(value))
        axes.yaxis.set_minor_formatter(lambda value, _, form=form: form.format(value))
        axes.tick_params(which="minor", labelsize=LABEL["fontsize"])
        _name(axes, lasts)
    headline(figure, title)
    return Picture.of(rendered(figure), f"{title}. Line charts over the number of evaluations. {'; '.join(ends)}")


def _name(axes, lasts: Sequence[tuple]) -> None:
    """Write each name beside the last point of its line, at the right edge, moved apart where two would overlap."""
    axes.figure.canvas.draw()  # the scale is settled now
    right = axes.get_xlim()[1]
    heights = [axes.transAxes.inverted().transform(axes.transData.transform(end[:2]))[1] for end in lasts]
    for (_, _, name, kind), height in zip(lasts, spread(heights, 0.09), strict=True):
        _, y = axes.transData.inverted().transform(axes.transAxes.transform((0, height)))
        end_label(axes, f"  {name}", right, y, DARK[kind])

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
    axes = add_axes(figure, (0.075, 0.14, 0.69, 0.74), "in the class asked for", "recall: variety", title=title)
    ends = []
    for number, ((solver, count), points) in enumerate(lines.items()):
        place = [[row[goal] for row in points] for goal in ("class_accuracy", "recall")]
        kind, marker = STYLES.get(solver, ("data", "s"))
        faint = 1 if number in (0, len(lines) - 1) else 0.45
        axes.plot(*place, color=PALETTE[kind], marker=marker, linewidth=2, markersize=6, alpha=faint)
        name = f"{solver}, {count} evaluation{'s' * (count > 1)}"
        axes.annotate(name, (place[0][0], place[1][0]), xytext=(-8, 0), ha="right", va="center",
                      textcoords="offset points", **LABEL | {"color": DARK[kind]})  # fmt: skip
        ends.append(f"{name}: recall from {place[1][0]:.2f} to {place[1][-1]:.2f}")
        for row in points if faint == 1 else ():
            below, side = ((-9, -3), "right") if number == 0 else ((9, 3), "left")
            axes.annotate(f"cfg {row['cfg']:g}", (row["class_accuracy"], row["recall"]), xytext=below, ha=side,
                          va="center", textcoords="offset points", **LABEL | {"color": DARK[kind]})  # fmt: skip
    return Picture.of(rendered(figure), f"{title}. Lines over the guidance scale. {'; '.join(ends)}")

"""The figures of experiments with paired seeds: each training as a dot, and differences with their intervals."""

from statistics import mean

from dit_course.show.axes import LABEL, T_AXIS, bare_axes, finished, headline
from dit_course.show.layout import CAPTION, INK, PALETTE, TEXT, TITLE, Picture, blank_figure
from dit_course.studies.experiments import paired_difference, smallest_effect

NAMES = {
    "class_accuracy": ("share of samples in the class asked for", "{:.1%}"),
    "frechet_distance": ("Fréchet distance (lower is better)", "{:.1f}"),
    "validation_loss": ("loss on test pictures", "{:.4f}"),
}


def experiment(rows: list[dict], metric: str = "class_accuracy", title: str | None = None) -> Picture:
    """Show the rows of `load_experiment`: every training as a dot, those with the same seed joined by a line.

    rows: dicts with variant, seed and the metric. title: None states the means.
    A bar marks the mean of each variant.
    Raises ValueError when the metric is in no row.
    """
    if not rows or any(metric not in row for row in rows):
        known = ", ".join(k for k in rows[0] if k not in ("variant", "seed", "steps")) if rows else "none"
        raise ValueError(f"no {metric!r} in these rows: there is {known}")
    name, _, cfg = metric.rpartition("_")
    label, form = NAMES.get(metric) or NAMES.get(name, (metric.replace("_", " "), "{:.3g}"))
    label += f",\nguidance {cfg}" if name in NAMES and metric not in NAMES else ""
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    values = {(row["variant"], row["seed"]): row[metric] for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    means = {name: mean(values[key] for key in values if key[0] == name) for name in variants}
    means_text = ", ".join(f"{name}: {form.format(means[name])}" for name in variants)
    title = title or f"Means of {len(seeds)} seeds. {means_text}"
    figure, axes = _chart(560, 330, (0.15, 0.1, 0.82, 0.78), "", label, title, -0.16)
    for seed in seeds:
        line = [(i, values[name, seed]) for i, name in enumerate(variants) if (name, seed) in values]
        axes.plot(*zip(*line, strict=True), color=PALETTE["noise"], linewidth=1, zorder=1)
        axes.scatter(*zip(*line, strict=True), s=36, color=PALETTE["model"], zorder=2)
    top = max(values.values())
    room = (top - min(values.values())) or abs(top) or 1.0
    for i, name in enumerate(variants):
        axes.plot([i - 0.12, i + 0.12], [means[name]] * 2, color=INK, linewidth=2.5, zorder=3)
    axes.set(xlim=(-0.5, len(variants) - 0.5), ylim=(min(values.values()) - 0.08 * room, top + 0.08 * room))
    axes.set_xticks(range(len(variants)), variants)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}" if "%" in form else f"{value:.3g}")
    label = label.replace("\n", " ")
    alt = f"{title}. {label}, by variant; a dot for each of {len(rows)} trainings, joined by seed. Means: {means_text}"
    return finished(figure, alt)


def paired_losses(rows: list[dict], a: str, b: str, title: str | None = None) -> Picture:
    """Show over t by how much the loss of variant a is above that of b, with 95% intervals over paired seeds.

    rows: those of `load_experiment`, with columns loss_at_T. A bar that does not cross 0 is a measured difference.
    """
    times = [float(name.removeprefix("loss_at_")) for name in rows[0] if name.startswith("loss_at_")]
    found = [paired_difference(rows, f"loss_at_{t:.2f}", a, b) for t in times]
    middles, halves = zip(*found, strict=True)
    title = title or f"Loss of {a} minus loss of {b}, by t"
    figure, axes = _chart(640, 300, (0.14, 0.17, 0.83, 0.71), T_AXIS, f"loss: {a}\nminus {b}", title)
    axes.axhline(0, color=INK, linewidth=1)
    axes.errorbar(times, middles, halves, fmt="o", color=PALETTE["model"], markersize=6, capsize=4, linewidth=2)
    edge = 1.15 * max(abs(m) + h for m, h in found)
    axes.set(xlim=(0, 1), ylim=(-edge, edge))
    for y, text in ((0.93, f"better: {b}"), (0.04, f"better: {a}")):
        axes.text(0.985, y, text, transform=axes.transAxes, ha="right", **LABEL)
    means_text = ", ".join(f"{m:+.3f} at t = {t:.2f}" for m, t in zip(middles, times, strict=True))
    return finished(figure, f"{title}. Points with error bars: {means_text}")


PANELS = {
    "class_accuracy": ("class accuracy, points\n(higher is better)", 100),
    "frechet_distance": ("Fréchet distance\n(lower is better)", 1),
    "recall": ("recall, points\n(higher is better)", 100),
}


def tricks(rows: list[dict], base: str, scales: tuple[float, ...] = (1.0, 2.5), title: str | None = None) -> Picture:
    """Show by how much each variant differs from `base`, with 95% intervals over paired seeds, in three measures.

    rows: those of `load_experiment("tricks")`, with columns such as class_accuracy_2.5, a point for each scale.
    The band around 0 holds what so few pairs may miss, at the last scale: see `smallest_effect`. The variant with the
    largest Fréchet distance there comes first.
    """
    names = list(dict.fromkeys(row["variant"] for row in rows if row["variant"] != base))
    names.sort(key=lambda name: -paired_difference(rows, f"frechet_distance_{scales[-1]:g}", name, base)[0])
    pairs = len({row["seed"] for row in rows})
    title = title or f"What each trick buys: the difference from the {base}, {pairs} pairs of training runs"
    top, bottom, gap = 74, 64, 30  # pixels: titles, the axis, between names
    width, height = 820, top + bottom + gap * len(names)
    figure, said = blank_figure(width, height), []
    headline(figure, title)
    panels = [(0.235 + 0.262 * i, bottom / height, 0.235, gap * len(names) / height) for i in range(len(PANELS))]
    for (measure, (label, unit)), box in zip(PANELS.items(), panels, strict=True):
        axes = bare_axes(figure, box, label)
        band = unit * smallest_effect(rows, f"{measure}_{scales[-1]:g}", base)
        axes.axvspan(-band, band, color="#eeeeee", zorder=0)
        axes.axvline(0, color=INK, linewidth=1, zorder=1)
        for cfg, color, shift in zip(scales, (PALETTE["model"], PALETTE["guidance"]), (-0.16, 0.16), strict=True):
            found = [paired_difference(rows, f"{measure}_{cfg:g}", name, base) for name in names]
            middles, halves = ([unit * value for value in values] for values in zip(*found, strict=True))
            places = [i + shift for i in range(len(names))]
            axes.errorbar(middles, places, xerr=halves, fmt="o", color=color, markersize=5, capsize=3, linewidth=1.8)
            told = (f"{name} {m:+.1f} ± {h:.1f}" for name, m, h in zip(names, middles, halves, strict=True))
            said.append(f"{measure.replace('_', ' ')} at guidance {cfg:g}: {', '.join(told)}")
        axes.set(ylim=(len(names) - 0.5, -0.5))
        axes.set_yticks(range(len(names)), names if not said[2:] else [""] * len(names))
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=4)
        axes.spines[["top", "right", "left"]].set_visible(False)
    for i, (cfg, color) in enumerate(zip(scales, ("model", "guidance"), strict=True)):
        style = {**LABEL, "color": PALETTE[color]}
        figure.text(0.235 + 0.16 * i, 1 - 52 / height, f"● guidance {cfg:g}", **style)
    band = f"gray: what {pairs} pairs may miss, at guidance {scales[-1]:g}"
    figure.text(0.235 + 0.16 * len(scales), 1 - 52 / height, band, **LABEL)
    return finished(figure, f"{title}. {'. '.join(said)}")


def _chart(width: float, height: float, box: tuple, x: str, y: str, title: str, left: float = 0.0):
    figure = blank_figure(width, height)
    axes = bare_axes(figure, box, x, y)
    axes.set_title(title, loc="left", x=left, fontsize=TITLE if len(title) < 60 else CAPTION, **TEXT)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes

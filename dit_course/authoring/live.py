"""The live pictures of the site: sliders that move a few-step student in the reader's browser, without a kernel.

The student goes along as an ONNX file. onnxruntime-web runs it (`make onnxruntime-web` fetches it), our scripts in
`web/` do the sampling, the canvas is that of the notebooks. Where one of them cannot run, a still picture stays.
"""

import json
import shutil
from html import escape
from pathlib import Path

import numpy as np

from dit_course.checkpoints import load_pretrained
from dit_course.explore import engine
from dit_course.explore.guidance import EVERY_CLASS
from dit_course.few_steps import CFG_RANGE, FewStepDiT, FewStepSampler
from dit_course.pretrained.onnx_file import export_onnx
from dit_course.show import ImageGrid, Picture, to_bytes, to_png

STUDENT = "fashion-mnist-few-steps"
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")  # of onnxruntime-web, in .cache/
SCRIPTS, CANVAS = Path(__file__).with_name("web"), Path(engine.__file__).with_name("canvas.js")
PICTURES = 10
DARK = np.array([0xCE, 0x12])  # text and page of the site's dark theme

# page: the cell that the sliders stand behind, whether they replace its output, what is said above them, their start
FIRST = {"cfg": 2.5, "label": None, "seed": 2, "steps": 1}
BAGS = {"cfg": 4.0, "label": 8, "seed": 1, "steps": 1}
OPENING = "Drawn from noise by a Diffusion Transformer like the one you will build."
STUDENT_TOO = """Without a kernel, on this page: the few-step student of lesson 11. It takes one evaluation in place of
sixteen, knows guidance from 1 to 6, and has no interval."""
PLACES = {
    "index.md": (None, False, OPENING, FIRST),
    "notebooks/00_start_here.ipynb": ("slider", True, "", FIRST),
    "notebooks/08_cfg_sampling.ipynb": ("slider", False, STUDENT_TOO, BAGS),
    "notebooks/11_few_steps.ipynb": ("slider", True, "", FIRST | {"seed": 3}),
}
BLOCK = """{said}<div class="dit-live" data-cfg="{cfg:g}" data-label="{label}" data-seed="{seed}" data-steps="{steps}">
<img src="{up}_static/live/{still}" width="{width}" height="{height}" alt="{alt}">
<p class="dit-status">{note}</p>
</div>{script}"""
NOTE = "A still picture. Where scripts run, and a web server sends the page, it has sliders."
SCRIPT = '\n<script type="module" src="{up}_static/live/live.js"></script>'


def missing(runtime: Path) -> str | None:
    """What keeps the pictures still, in words: onnxruntime-web has to be in the folder `runtime`."""
    if all((runtime / name).exists() for name in RUNTIME):
        return None
    return f"left out: the live pictures, which need onnxruntime-web in {runtime} (`make onnxruntime-web` fetches it)"


def style() -> str:
    """The style sheet of the pictures and their sliders."""
    return "\n".join(file.read_text() for file in (CANVAS.with_suffix(".css"), SCRIPTS / "live.css"))


def add_live(pages: Path, runtime: Path) -> None:
    """Put the live pictures into the pages of the site, or stills where the folder `runtime` lacks onnxruntime-web."""
    student, live = load_pretrained(STUDENT), pages / "_static" / "live"
    live.mkdir()
    runs = missing(runtime) is None
    if runs:
        _write_scripts(live, student, runtime)
    for page, (cell, replaces, said, start) in PLACES.items():
        picture = _still(student, **start)
        picture.save(live / f"{Path(page).stem}.png")
        up = "../" * page.count("/")
        block = BLOCK.format(
            **start | {"label": "" if start["label"] is None else start["label"]},
            said=said and f"{said}\n\n",
            up=up,
            still=f"{Path(page).stem}.png",
            width=picture.width,
            height=picture.height,
            alt=escape(picture.alt),
            note=NOTE if runs else escape(picture.alt),
            script=SCRIPT.format(up=up) if runs else "",
        )
        text = (pages / page).read_text()
        (pages / page).write_text(_below_title(text, block) if cell is None else _behind(text, cell, replaces, block))


def _grid(student: FewStepDiT, label: int | None) -> tuple[list[int], ImageGrid]:
    """The classes of the pictures, and their layout: as the notebooks show them."""
    config, names = student.config, student.class_names
    labels = list(range(PICTURES)) if label is None else [label] * PICTURES
    shape = (PICTURES, config.channels, *config.image_shape)
    return labels, ImageGrid(shape, [names[i] for i in labels], columns=5)


def _still(student: FewStepDiT, cfg: float, label: int | None, seed: int, steps: int) -> Picture:
    labels, grid = _grid(student, label)
    images = FewStepSampler(student, steps, cfg).sample(PICTURES, labels, seed)
    name = EVERY_CLASS if label is None else student.class_names[label]
    evaluations = f"{steps} evaluation{'s' * (steps > 1)} per picture"
    alt = f"{PICTURES} pictures: {name}, guidance {cfg:.1f}, seed {seed}, {evaluations}"
    return Picture.of(grid.paint(to_bytes(images)), alt)


def _write_scripts(live: Path, student: FewStepDiT, runtime: Path) -> None:
    """All that the pages load: scripts, network, layouts, and their backgrounds in both themes."""
    for file in (*SCRIPTS.glob("*.js"), CANVAS, *(runtime / name for name in RUNTIME)):
        shutil.copy(file, live)
    export_onnx(student, live / "network.onnx")
    grids = []
    for label in (None, *range(student.config.num_classes)):
        labels, grid = _grid(student, label)
        backgrounds = {"light": grid.blank, "dark": _darkened(grid.blank)}
        for theme, pixels in backgrounds.items():
            (live / f"{len(grids)}-{theme}.png").write_bytes(to_png(pixels))
        grids.append(
            {
                "name": EVERY_CLASS if label is None else student.class_names[label],
                "labels": labels,
                "width": grid.width,
                "height": grid.height,
                "corners": grid.corners,
                "tile": grid.tile,
                "background": {theme: {"file": f"{len(grids)}-{theme}.png"} for theme in backgrounds},
            }
        )
    shape = [student.config.channels, *student.config.image_shape]
    (live / "live.json").write_text(json.dumps({"shape": shape, "cfg": CFG_RANGE, "grids": grids}))


def _darkened(pixels: np.ndarray) -> np.ndarray:
    """Black text on white as the dark theme has it: uint8 of any shape."""
    return np.interp(pixels, (0, 255), DARK).round().astype(np.uint8)


def _below_title(text: str, block: str) -> str:
    title, rest = text.split("\n", 1)
    return f"{title}\n\n{block}\n{rest}"


def _behind(notebook: str, cell: str, replaces: bool, block: str) -> str:
    """A notebook with the block behind a cell, or in place of its output."""
    content = json.loads(notebook)
    (place,) = [i for i, one in enumerate(content["cells"]) if one["id"] == cell]
    if replaces:
        content["cells"][place]["outputs"] = []
    made = {"cell_type": "markdown", "id": f"{cell}-live", "metadata": {}, "source": block}
    content["cells"].insert(place + 1, made)
    return json.dumps(content)

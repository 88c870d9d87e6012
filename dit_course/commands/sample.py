"""`python -m dit_course sample`: pictures from a trained model into a PNG, a GIF, an MP4."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dit_course import show
from dit_course.checkpoints import load_pretrained
from dit_course.sampling import Sampler


@dataclass
class Sample:
    """Draw pictures with a trained model."""

    model: str = "fashion-mnist"
    """A shipped model, a run's folder, or a .safetensors file."""
    out: Path = Path("grid.png")
    """The picture grid to write."""
    gif: Path | None = None
    """Also write the way from noise to pictures, as GIF."""
    mp4: Path | None = None
    """Also write it as MP4."""
    classes: tuple[str, ...] = ()
    """Names or numbers of the classes to draw; all unless told."""
    per_class: int = 4
    """How many pictures of each class (in all, for a model without classes: ten times as many)."""
    cfg: float = 2.5
    """Guidance scale: 1 is none."""
    cfg_interval: tuple[float, float] = (0.0, 1.0)
    """The times t between which guidance acts."""
    steps: int = 20
    """Steps from noise to picture."""
    solver: Literal["euler", "heun", "ab2"] = "euler"
    """How each step is taken."""
    seed: int | None = None
    """The same seed draws the same pictures."""

    def run(self) -> None:
        """Draw and write."""
        for path, ending in ((self.out, ".png"), (self.gif, ".gif"), (self.mp4, ".mp4")):
            if path is not None and path.suffix.lower() != ending:  # said before minutes of drawing, not after
                raise ValueError(f"{path} must end in {ending}")
        model = load_pretrained(self.model)
        sampler = Sampler(model, self.steps, self.solver, self.cfg, self.cfg_interval)
        if self.per_class < 1:
            raise ValueError(f"per_class = {self.per_class}, but it must be at least 1")
        labels, columns, count = None, 10, 10 * self.per_class
        if model.config.num_classes is not None:
            chosen = [int(c) if c.isdecimal() else c for c in self.classes] or list(range(model.config.num_classes))
            columns, count = len(chosen), len(chosen) * self.per_class
            labels = chosen * self.per_class  # a column a class
        recorder = show.Recorder() if self.gif or self.mp4 else None
        pictures = sampler.sample(count, labels, seed=self.seed, callback=recorder)
        show.save_image(pictures, self.out, columns=columns)
        for path in filter(None, (self.gif, self.mp4)):
            show.save_animation(recorder.frames, path, columns=columns)
        written = ", ".join(str(path) for path in (self.out, self.gif, self.mp4) if path)
        print(f"{count} pictures, cfg {sampler.cfg}, {self.steps} {self.solver} steps: {written}")

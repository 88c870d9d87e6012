"""`python -m dit_course sample`: samples of a trained model, as PNG, GIF or MP4."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from dit_course import show
from dit_course.checkpoints import load_pretrained
from dit_course.commands._network import make_sampler, named_device
from dit_course.dit import DiT
from dit_course.few_steps import FewStepDiT


@dataclass
class Sample:
    """Sample from a trained model."""

    model: str = "fashion-mnist"
    """A shipped model, a run's folder, or a .safetensors file."""
    out: Path = Path("grid.png")
    """The grid of samples to write."""
    gif: Path | None = None
    """Also write the trajectory from noise to images, as GIF."""
    mp4: Path | None = None
    """Also write it as MP4."""
    classes: tuple[str, ...] = ()
    """Names or numbers of the classes; all by default."""
    per_class: int = 4
    """Samples of each class (a model without classes: ten times as many in all)."""
    cfg: float | None = None
    """Guidance scale: 1 is none; by default 2.5, and 4 with --official."""
    cfg_interval: tuple[float, float] = (0.0, 1.0)
    """The times t between which guidance acts."""
    steps: int | None = None
    """Steps from noise to image; by default 20, 1 for a few-step student, 250 with --official."""
    solver: Literal["euler", "heun", "ab2"] = "euler"
    """The ODE solver; a few-step student needs none."""
    seed: int | None = None
    """The same seed gives the same samples."""
    device: str = "cpu"
    """cpu, cuda, mps, or auto for the fastest there is."""
    official: Path | None = None
    """Instead of --model: released weights of DiT, a file such as DiT-XL-2-256x256.pt or a folder of diffusers."""
    vae: str | None = None
    """For --official: the folder of the VAE (or its name on the Hugging Face Hub) that decodes the latents."""
    heads: int | None = None
    """For --official: attention heads; known for the paper's sizes."""
    method: Literal["ddpm", "ddim"] = "ddpm"
    """For --official: the sampler of diffusion."""

    def run(self) -> None:
        """Sample and write."""
        for path, ending in ((self.out, ".png"), (self.gif, ".gif"), (self.mp4, ".mp4")):
            if path is not None and path.suffix.lower() != ending:  # checked before minutes of sampling, not after
                raise ValueError(f"{path} must end in {ending}")
        if self.per_class < 1:
            raise ValueError(f"per_class = {self.per_class}, but it must be at least 1")
        if self.official is None:
            self._sample_flow()
        else:
            self._sample_official()

    def _sample_flow(self) -> None:
        if self.vae or self.heads:
            raise ValueError("--vae and --heads go with --official: leave them out, or say where the weights are")
        model = load_pretrained(self.model).to(named_device(self.device))
        cfg = 2.5 if self.cfg is None else self.cfg
        sampler = make_sampler(model, self.steps, cfg, 20, self.solver, self.cfg_interval)
        count, labels, columns = self._choice(model)
        recorder = show.Recorder() if self.gif or self.mp4 else None
        pictures = sampler.sample(count, labels, seed=self.seed, callback=recorder)
        how = f"{sampler.steps} {self.solver} steps"
        if isinstance(model, FewStepDiT):
            how = "one evaluation" if sampler.steps == 1 else f"{sampler.steps} evaluations"
        self._write(pictures, columns, recorder, f"cfg {sampler.cfg}, {how}")

    def _sample_official(self) -> None:
        from dit_course.commands import _official as official

        steps, cfg = 250 if self.steps is None else self.steps, 4.0 if self.cfg is None else self.cfg
        place = named_device(self.device)
        sampler = official.official_sampler(
            self.official, self.vae, self.heads, place, steps, cfg, self.cfg_interval, self.method
        )
        count, labels, columns = self._choice(sampler.model)
        recorder = official.LatentRecorder(steps, sampler.decode) if self.gif or self.mp4 else None
        with official.passes(sampler, count, together=recorder is not None):
            pictures = sampler.sample(count, labels, self.seed, recorder, batch_size=official.BATCH)
        self._write(pictures, columns, recorder, f"cfg {sampler.cfg}, {steps} {self.method} steps")

    def _choice(self, model: DiT) -> tuple[int, list[int | str] | None, int]:
        """How many samples, of which classes, in how many columns."""
        classes = model.config.num_classes
        if classes is None:
            return 10 * self.per_class, None, 10
        if classes > 100 and not self.classes:
            names = " or names" if model.class_names else ""
            raise ValueError(f"this model knows {classes} classes: say with --classes which to draw, numbers{names}")
        chosen = [int(c) if c.isdecimal() else c for c in self.classes] or list(range(classes))
        return len(chosen) * self.per_class, chosen * self.per_class, len(chosen)  # a column a class

    def _write(self, pictures: Tensor, columns: int, recorder, settings: str) -> None:
        show.save_image(pictures, self.out, columns=columns)
        for path in filter(None, (self.gif, self.mp4)):
            show.save_animation(recorder.frames, path, columns=columns)
        written = ", ".join(str(path) for path in (self.out, self.gif, self.mp4) if path)
        print(f"{len(pictures)} pictures, {settings}: {written}")

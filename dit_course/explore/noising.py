"""A slider for t: an image interpolated with noise, always the same noise, and what a model predicts from it."""

import torch
from torch import Tensor, nn

from dit_course.data import to_float
from dit_course.explore.engine.controls import slider
from dit_course.explore.engine.view import View
from dit_course.explore.engine.worker import Job, Weights
from dit_course.flow import data_from_velocity, interpolate
from dit_course.show import ImageGrid, Picture
from dit_course.show.lesson_01_patches import one_image

PARTS = ("(1 - t) picture", "t noise", "the sum: x_t")
GUESS = "the model's guess"


@torch.no_grad()
def draw(
    pixels: Tensor, noise: Tensor, t: float, model: nn.Module | None = None, label: int | None = None
) -> tuple[Tensor, list[str]]:
    """What the slider shows for one t: images (3 or 4, C, H, W) uint8, where 0 is gray, and their names.

    pixels: (C, H, W) uint8. noise: (C, H, W). With a model, the image that it predicts comes last.
    """
    x, time = to_float(pixels), torch.tensor([t])
    x_t = interpolate(x[None], noise[None], time)  # (1, c, h, w)
    parts, names = [(1 - t) * x, t * noise, x_t[0]], list(PARTS)
    if model is not None:
        classes = model.config.num_classes
        y = None if classes is None else torch.tensor([classes if label is None else label])
        velocity = model(x_t, time) if y is None else model(x_t, time, y)
        parts.append(data_from_velocity(x_t, velocity, time)[0])
        names.append(GUESS)
    return (torch.stack(parts) * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8), names


class Noising(View):
    """A slider for t: the shares of image and noise, and their sum x_t.

    image: (C, H, W) or (1, C, H, W), uint8 or floats in [0, 1]. t: where the slider starts, 0 is data, 1 is noise.
    seed: of the noise, which stays the same. model: shows the image that it predicts from x_t, too; label: its class
    (None: no label).
    """

    def __init__(
        self, image: Tensor, t: float = 0.3, seed: int = 0, model: nn.Module | None = None, label: int | None = None
    ):
        self.pixels, self.label = one_image(image), label
        self.weights = None if model is None else Weights(model)
        self.noise = torch.randn(self.pixels.shape, generator=torch.Generator().manual_seed(seed))
        self._grid = None
        self.t = slider("t", t, 0, 1, 0.01, (20, 480))
        super().__init__([self.t])

    @property
    def picture(self) -> Picture:
        """What is on screen, with t as its title, for where no kernel runs."""
        self.wait_idle()
        pixels, names, caption = self._shown
        return Picture.of(ImageGrid(pixels.shape, names, len(names), caption).paint(pixels), caption)

    def render(self, job: Job, state: tuple[float]) -> None:
        """Interpolate image and noise; a model takes one evaluation."""
        (t,) = state
        model = None if self.weights is None else self.weights.copy()
        pixels, names = draw(self.pixels, self.noise, t, model, self.label)
        self._grid = self._grid or ImageGrid(pixels.shape, names, len(names))
        caption = f"t = {t:.2f}: {1 - t:.2f} of the picture and {t:.2f} of the noise"
        self._shown = pixels, names, caption
        self.canvas.show(self._grid, pixels, caption, caption)

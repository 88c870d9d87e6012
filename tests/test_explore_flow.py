"""The sliders of lesson 05: what they draw is right, they say it, and stay alive when something fails."""

import threading

import numpy as np
import pytest
import torch
from canvas_pixels import shown

from dit_course import explore
from dit_course.data import to_float
from dit_course.dit import DiT, DiTConfig
from dit_course.explore.noising import draw
from dit_course.explore.timesteps import caption


@pytest.fixture
def image():
    """A picture that is not square."""
    return torch.randint(0, 255, (1, 8, 12), dtype=torch.uint8)


# -- noising -----------------------------------------------------------------------------------------------------


def test_the_ends_of_the_path_are_image_and_noise(image):
    noise = torch.randn(1, 8, 12)
    (part, nothing, x_t), names = draw(image, noise, 0.0)
    assert names == ["(1 - t) picture", "t noise", "the sum: x_t"]
    assert torch.equal(x_t, image)
    assert torch.equal(part, image)
    assert nothing.unique().tolist() == [128]  # gray: nothing
    (nothing, part, x_t), _ = draw(image, noise, 1.0)
    assert nothing.unique().tolist() == [128]
    assert torch.equal(x_t, part)
    assert torch.equal(x_t, (noise * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8))


class Oracle(torch.nn.Module):
    """Knows the picture: v = (x_t - x) / t. With classes: records its labels."""

    def __init__(self, x, num_classes):
        super().__init__()
        self.x, self.given = x, []
        self.config = DiTConfig(image_size=(8, 12), patch_size=4, channels=1, width=8, heads=2, num_classes=num_classes)

    def forward(self, x_t, t, *y):
        self.given += [label.tolist() for label in y]
        return (x_t - self.x) / t.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize(("classes", "label", "given"), [(None, None, []), (10, None, [[10]]), (10, 3, [[3]])])
def test_a_model_shows_the_picture_that_it_guesses(image, classes, label, given):
    model = Oracle(to_float(image), classes)
    parts, names = draw(image, torch.randn(1, 8, 12), 0.7, model, label)
    assert names[-1] == "the model's guess"
    assert (parts[-1].int() - image.int()).abs().max() <= 1
    assert model.given == given


def test_every_move_draws_again_with_the_same_noise(image):
    view = explore.noising(image, t=0.5)
    first = shown(view)
    assert "t = 0.50: 0.50 of the picture and 0.50 of the noise" in view.status
    view.t.value = 0.9
    assert "t = 0.90: 0.10 of the picture" in view.status
    assert not np.array_equal(shown(view), first)
    view.t.value = 0.5
    assert np.array_equal(shown(view), first)
    assert not np.array_equal(shown(explore.noising(image, t=0.5, seed=1)), first)


def test_a_model_works_from_another_thread_without_gradients(image):
    config = DiTConfig(image_size=(8, 12), patch_size=4, channels=1, width=8, depth=1, heads=2)
    view = explore.noising(image, model=DiT(config))
    thread = threading.Thread(target=setattr, args=(view.t, "value", 0.8))
    thread.start()
    thread.join()
    assert "t = 0.80" in view.status
    assert len(view._shown[0]) == 4


def test_noising_takes_what_a_learner_has(image):
    for picture in (image, image[None], image / 255):
        assert explore.noising(picture).t.value == 0.3
    with pytest.raises(ValueError, match="one picture at a time"):
        explore.noising(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match="t = 30, but the slider goes from 0 to 1"):
        explore.noising(image, t=30)


# -- timesteps ---------------------------------------------------------------------------------------------------


def test_timesteps_say_how_rare_the_ends_are():
    view = explore.timesteps()
    assert "t > 0.98: 1 in 20,000 of the draws" in view.status
    first = shown(view)
    view.mean.value = 1.0
    view.std.value = 0.6
    assert "mean 1.0, std 0.6" in view.status
    assert "1 in 1,400,000" in view.status
    assert not np.array_equal(shown(view), first)
    assert view.canvas.alt == [view.picture.alt]


def test_timesteps_refuse_what_the_sliders_cannot_show():
    for mean, std in ((0.0, 0.1), (3.0, 1.0), (0.0, 9.0)):
        with pytest.raises(ValueError, match="the slider goes from"):
            explore.timesteps(mean, std)
    assert caption(0.0, 1.7).startswith("mean 0.0, std 1.7. t < 0.02: 1.1%")

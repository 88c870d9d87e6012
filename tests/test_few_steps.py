"""The few-step student: targets against closed forms, and the student against its teacher."""

import pytest
import torch

from dit_course.checkpoints import load_pretrained, save_pretrained
from dit_course.distributed.rows import BatchShard, loss_of_rows
from dit_course.distributed.train_config import TrainConfig
from dit_course.dit import DiT, DiTConfig
from dit_course.ema import EMA
from dit_course.few_steps import (
    FewStepDiT,
    FewStepSampler,
    SelfConsistency,
    guided_velocity,
    mean_flow_target,
    path_target,
    random_cfg,
    shortcut_target,
    teacher_paths,
)
from dit_course.flow import per_image
from dit_course.sampling import Sampler, euler, guided
from dit_course.trainer import train


def perturbed(num_classes=3, **changes):
    torch.manual_seed(0)
    shape = {"image_size": (8, 12), "patch_size": 4, "channels": 2, "width": 16, "depth": 2, "heads": 2}
    model = DiT(DiTConfig(**shape, num_classes=num_classes, **changes))
    for parameter in model.parameters():  # zero-initialised layers would hide everything
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def inputs(n=5):
    generator = torch.Generator().manual_seed(1)
    t = torch.rand(n, generator=generator)
    return torch.randn(n, 2, 8, 12, generator=generator), t, torch.arange(n) % 3


class Gaussian:
    """Data from N(0, s^2): the velocity is v = x (t - (1 - t) s^2) / r(t)^2, and a path keeps x / r(t)."""

    def __init__(self, s):
        self.s = s

    def deviation(self, t):
        return ((1 - t) ** 2 * self.s**2 + t**2).sqrt()

    def velocity(self, x, t):
        return x * per_image((t - (1 - t) * self.s**2) / self.deviation(t) ** 2, x)

    def average(self, x, t, t_next):
        ratio = self.deviation(t_next) / self.deviation(t)
        return x * per_image((1 - ratio) / (t - t_next), x)


@pytest.fixture
def steps():
    t = torch.tensor([1.0, 0.9, 0.6, 0.35], dtype=torch.float64)
    return torch.randn(4, 3, dtype=torch.float64), t, torch.tensor([0.0, 0.5, 0.1, 0.3], dtype=torch.float64)


def test_a_field_that_is_constant_along_its_paths_is_its_own_average(steps):
    x, t, t_next = steps
    speed = torch.randn_like(x)
    point = torch.randn_like(x)
    for average in (lambda x, t, s: speed, lambda x, t, s: (x - point) / per_image(t, x)):  # the second: one-point data
        here = average(x, t, t_next)
        torch.testing.assert_close(shortcut_target(average, x, t, t_next), here)
        torch.testing.assert_close(mean_flow_target(average, x, t, t_next, here), here)


@pytest.mark.parametrize("s", [0.1, 0.5, 2.0])
def test_on_a_gaussian_the_true_average_velocity_is_the_fixed_point_of_both_targets(s, steps):
    x, t, t_next = steps
    flow = Gaussian(s)
    exact = flow.average(x, t, t_next)
    torch.testing.assert_close(shortcut_target(flow.average, x, t, t_next), exact)
    torch.testing.assert_close(mean_flow_target(flow.average, x, t, t_next, flow.velocity(x, t)), exact)
    many = euler(flow.velocity, x[:1], torch.linspace(1, 0, 20_001, dtype=torch.float64))
    torch.testing.assert_close(path_target(x[:1], many, t[:1], t_next[:1]), exact[:1], atol=1e-3, rtol=0)


def test_a_wrong_average_is_no_fixed_point(steps):
    x, t, t_next = steps
    flow = Gaussian(0.5)
    wrong = lambda x, t, s: flow.velocity(x, t)  # noqa: E731
    assert (shortcut_target(wrong, x, t, t_next) - wrong(x, t, t_next)).abs().max() > 0.01
    target = mean_flow_target(wrong, x, t, t_next, flow.velocity(x, t))
    assert (target - wrong(x, t, t_next)).abs().max() > 0.01


def test_the_derivative_of_mean_flow_agrees_with_a_difference():
    student = FewStepDiT.from_teacher(perturbed()).double()
    for parameter in student.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, t, y = inputs()
    x, t = x.double(), t.double()
    average, velocity, tiny = student.at(y, torch.full_like(t, 2.0)), torch.randn_like(x), 1e-6
    t_next = t / 3
    moved = average(x + tiny * velocity, t + tiny, t_next) - average(x - tiny * velocity, t - tiny, t_next)
    expected = velocity - per_image(t - t_next, x) * moved / (2 * tiny)
    # times go through float32 in the embedder, so the difference is coarse
    error = mean_flow_target(average, x, t, t_next, velocity) - expected
    assert error.norm() < 0.2 * expected.norm()


def test_at_first_the_student_is_its_teacher_whatever_span_and_guidance():
    teacher = perturbed()
    student = FewStepDiT.from_teacher(teacher).eval()
    x, t, y = inputs()
    torch.testing.assert_close(student(x, t, y), teacher(x, t, y))
    torch.testing.assert_close(student(x, t, y, t / 2, random_cfg(5)), teacher(x, t, y))
    for embedder in (student.span_embed, student.cfg_embed):
        torch.nn.init.normal_(embedder.output.weight)
    assert (student(x, t, y, t / 2) - student(x, t, y)).abs().max() > 1e-3
    assert (student(x, t, y, t, torch.full((5,), 3.0)) - student(x, t, y)).abs().max() > 1e-3


def test_a_scale_for_every_picture_is_the_guidance_of_lesson_8():
    teacher, (x, t, y) = perturbed(), inputs()
    cfg = torch.tensor([1.0, 1.5, 2.0, 4.0, 6.0])
    velocity = guided_velocity(teacher, x, t, y, cfg)
    for i, scale in enumerate(cfg.tolist()):
        one = slice(i, i + 1)
        torch.testing.assert_close(velocity[one], guided(teacher, y[one], scale)(x[one], t[one]))


def test_paths_end_where_the_sampler_ends():
    teacher, y = perturbed(), torch.arange(3)
    sampler = Sampler(teacher, steps=6, solver="ab2", cfg=2.5)
    noise = sampler._noise(3, seed=0)
    states = teacher_paths(teacher, noise, y, torch.full((3,), 2.5), torch.linspace(1, 0, 7))
    assert states.shape == (7, 3, 2, 8, 12)
    torch.testing.assert_close(((states[-1] + 1) / 2).clamp(0, 1), sampler.sample(3, y, seed=0))


@pytest.mark.parametrize("classes", [3, None])
def test_shapes_loss_and_sampler(classes):
    teacher = perturbed(classes, registers=0)
    student = FewStepDiT.from_teacher(teacher)
    x, _, y = inputs(8)
    y = y if classes else None
    loss = SelfConsistency(teacher).loss(student, x.clamp(-1, 1), y)
    loss.backward()
    assert loss.shape == ()
    assert student.span_embed.output.weight.grad.abs().max() > 0
    seen = []
    drawn = FewStepSampler(student, steps=4).sample(3, seed=0, callback=lambda index, t, x: seen.append((index, t)))
    assert drawn.shape == (3, 2, 8, 12)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert seen == [(0, 1.0), (1, 0.75), (2, 0.5), (3, 0.25), (4, 0.0)]
    again = FewStepSampler(student, steps=4).sample(5, seed=0)[:3]
    torch.testing.assert_close(drawn, again)


def test_steps_lie_between_noise_and_data():
    span, t = SelfConsistency(perturbed()).sample_steps(1000, None, None)
    assert (span[:250] == 0).all()
    assert (span[250:] > 0).all()
    assert t.max() <= 1
    assert (t - span).min() >= 0
    assert (t[span == 1] == 1).all()


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_have_the_loss_of_the_whole(parts):
    teacher = perturbed()
    student, x, y = FewStepDiT.from_teacher(teacher), inputs(8)[0].clamp(-1, 1), torch.arange(8) % 3
    torch.nn.init.normal_(student.span_embed.output.weight)
    flow = SelfConsistency(teacher)

    def loss_of(part):
        torch.manual_seed(7)
        return loss_of_rows(flow, student, x, y, part, None)

    rows = BatchShard(accumulate=parts).parts(8)
    torch.manual_seed(7)
    whole = flow.loss(student, x, y)
    torch.testing.assert_close(sum(map(loss_of, rows)) / parts, whole)
    assert abs(loss_of(rows[0]) - loss_of(rows[1])) > 1e-3


def test_a_distillation_that_was_stopped_goes_on_bit_for_bit(tmp_path):
    teacher = perturbed()
    images = torch.randint(256, (24, 2, 8, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)

    def distill(folder, stop_at=0):
        torch.manual_seed(1)
        student = FewStepDiT.from_teacher(teacher)
        ema, losses = EMA(student, 0.9), []
        config = TrainConfig(steps=6, batch_size=8, warmup=2)
        flow = SelfConsistency(teacher, ema.model)
        for done in train(student, (images, torch.arange(24) % 3), config, flow=flow, ema=ema, folder=folder):
            losses.append(done.loss)
            if done.index == stop_at:
                break
        return losses, ema.model.state_dict()

    whole, weights = distill(tmp_path / "whole")
    first, _ = distill(tmp_path / "stopped", stop_at=3)
    rest, resumed = distill(tmp_path / "stopped")
    assert first + rest == whole
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    assert (weights["cfg_embed.output.weight"] != 0).any()


@pytest.mark.parametrize(("t", "t_next"), [(0.5, 0.7), (0.5, -0.2), (1.3, 0.2)])
def test_a_span_outside_of_0_to_1_is_one_line(t, t_next):
    student, (x, _, y) = FewStepDiT.from_teacher(perturbed()), inputs()
    with pytest.raises(ValueError, match="0 <= t_next <= t <= 1") as raised:
        student(x, torch.full((5,), t), y, torch.full((5,), t_next))
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="one time for each image"):
        student(x, torch.full((5,), 0.5), y, torch.tensor(0.2))


@pytest.mark.parametrize("setting", [{"base": 1.5}, {"base": -0.1}, {"shortest": -1}, {"shortest": 2.5}])
def test_shares_and_spans_that_make_no_sense(setting):
    with pytest.raises(ValueError, match="between 0 and 1"):
        SelfConsistency(perturbed(), **setting)


@pytest.mark.parametrize(("setting", "words"), [({"steps": 0}, "steps"), ({"cfg": 9.0}, "1 to 6"), ({"cfg": 0.5}, "1")])
def test_settings_that_make_no_sense(setting, words):
    with pytest.raises(ValueError, match=words):
        FewStepSampler(FewStepDiT.from_teacher(perturbed()), **setting)


def test_a_student_is_saved_and_loaded_as_one(tmp_path):
    student = FewStepDiT.from_teacher(perturbed()).eval()
    torch.nn.init.normal_(student.span_embed.output.weight)
    save_pretrained(tmp_path / "model", student, training={"teacher": "one"})
    loaded = load_pretrained(tmp_path)
    assert isinstance(loaded, FewStepDiT)
    x, t, y = inputs()
    torch.testing.assert_close(loaded(x, t, y, t / 2), student(x, t, y, t / 2))

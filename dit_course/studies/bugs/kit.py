"""A kit of probes: small tests of any code with the course's signatures, one property each (lesson 12).

A probe takes the code (a namespace as `right_code()` gives), returns when the property holds, and raises AssertionError
when it does not. None needs a trained model, and all together take about a second.
"""

from itertools import pairwise
from types import SimpleNamespace

import torch
from torch import Tensor, nn


def solver_reads_the_clock(code) -> None:
    """Euler's velocity is evaluated at the time where each step begins, the same for every picture."""
    seen, ts = [], torch.linspace(1, 0, 5)
    code.euler(lambda x, t: seen.append(t) or torch.zeros_like(x), torch.zeros(3, 1, 2, 2), ts)
    assert torch.equal(torch.stack(seen), ts[:-1, None].expand(-1, 3)), (
        f"the network was told {torch.stack(seen)[:, 0]}"
    )


def guidance_extrapolates(code) -> None:
    """v_no_label + cfg (v_label - v_no_label), in every channel."""

    def model(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return (y != 2)[:, None, None, None] * torch.ones_like(x)  # 1 with a label, 0 without

    model.config = SimpleNamespace(num_classes=2)
    velocity = code.guided(model, torch.tensor([0, 1]), cfg=3.0)(torch.zeros(2, 5, 4, 4), torch.ones(2))
    assert torch.equal(velocity, torch.full_like(velocity, 3.0)), f"by channel: {velocity.mean((0, 2, 3))}"


def times_can_be_told_apart(code) -> None:
    """The sinusoids move while t goes from 0 to 1, and differ for neighboring times."""
    embed = code.TimestepEmbedder(16)
    moved = embed.sinusoids(torch.linspace(0, 1, 101)).std(0) > 0.1
    assert moved.float().mean() > 0.4, f"only {moved.float().mean():.0%} of the sinusoids move at all"
    first, second = embed.sinusoids(torch.tensor([0.7, 0.7005]))
    assert (first - second).abs().max() > 0.05, "0.7 and 0.7005 are the same time"


def labels_are_dropped_in_training(code) -> None:
    """In training a share of the labels becomes "no label"; outside of training none does."""
    embed = code.LabelEmbedder(3, 4, dropout=0.5)
    labels = torch.ones(400, dtype=torch.int64)
    with torch.no_grad():
        embed.table.weight.copy_(torch.arange(4.0)[:, None].expand(-1, 4))  # a class's vector is its number
        trained, sampled = embed.train()(labels)[:, 0], embed.eval()(labels)[:, 0]
    assert set(trained.tolist()) == {1.0, 3.0}, f"label 1 became {sorted(set(trained.tolist()))}, not 1 or 3"
    assert 0.35 < (trained == 3).float().mean() < 0.65, f"{(trained == 3).float().mean():.0%} were dropped, not half"
    assert (sampled == 1).all(), "labels are dropped in eval mode, too"


def a_new_model_predicts_zero(code) -> None:
    """adaLN-Zero: the last layer and all gates are zero when a DiT is made."""
    model = _model(code)
    x, t, y = torch.randn(2, 3, 8, 12), torch.rand(2), torch.tensor([0, 1])
    assert model(x, t, y).abs().max() == 0, "a new model's velocity is not zero"
    gates = [p for name, p in model.named_parameters() if "modulation" in name]
    assert all((gate == 0).all() for gate in gates), "modulations do not start at zero"


def the_last_shift_comes_first(code) -> None:
    """The final layer's modulation gives shift, then scale: the order that all released weights have."""
    layer = code.FinalLayer(4, 4)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.eye(4))
        layer.modulation.bias[:4] = 1
    assert torch.allclose(layer(torch.zeros(1, 3, 4), torch.zeros(1, 4)), torch.ones(1, 3, 4)), "no shift of 1 is seen"


def patches_fit_together(code) -> None:
    """unpatchify undoes patchify, for pictures that are no squares."""
    x = torch.randn(2, 3, 8, 12)
    assert torch.equal(code.unpatchify(code.patchify(x, 4), 4, 3, 8, 12), x), "the picture comes back scrambled"


def pictures_lie_between_minus_one_and_one(code) -> None:
    """Bytes 0 and 255 become -1 and 1."""
    ends = code.to_float(torch.tensor([0, 255], dtype=torch.uint8))
    assert ends.tolist() == [-1, 1], f"0 and 255 become {ends.tolist()}"


def noises_are_independent(code) -> None:
    """Within a batch every picture gets noise of its own."""
    seen = []
    code.RectifiedFlow("uniform").loss(lambda x_t, t: seen.append((x_t, t)) or x_t, torch.zeros(64, 1, 4, 4))
    (x_t, t), *_ = seen
    noise = (x_t / t[:, None, None, None]).flatten(1)  # the picture is 0: x_t = t noise
    assert noise.std(0).min() > 0.5, "all pictures have the same noise"


def steps_are_independent(code) -> None:
    """Two steps of a training draw different random numbers."""
    drawn, model = [], nn.Linear(1, 1)
    flow = SimpleNamespace(loss=lambda model, x, y: drawn.append(torch.rand(4)) or model(torch.ones(1)).sum())
    images = torch.zeros(8, 1, 4, 4, dtype=torch.uint8)
    list(code.training_loop(model, flow, images, torch.zeros(8, dtype=torch.int64), steps=2, batch_size=4))
    assert not torch.equal(*drawn), "the second step repeats the first one's noise"


def each_picture_has_its_time(code) -> None:
    """x_t = (1 - t) x + t noise, picture by picture, even where the batch is as large as the width."""
    t = torch.linspace(0, 1, 6)
    x_t = code.interpolate(torch.zeros(6, 1, 6, 6), torch.ones(6, 1, 6, 6), t)
    assert torch.allclose(x_t, t[:, None, None, None].expand_as(x_t)), "t varies within a picture"


def a_step_forgets_the_last(code) -> None:
    """Two steps on the same loss, with plain gradient descent, go equally far."""
    model = nn.Linear(2, 1, bias=False)
    flow = SimpleNamespace(loss=lambda model, x, y: model(x).mean())
    optimizer, places = torch.optim.SGD(model.parameters(), lr=0.1), [model.weight.detach().clone()]
    for _ in range(2):
        code.training_step(model, flow, optimizer, torch.ones(3, 2), None, clip=1e9)
        places.append(model.weight.detach().clone())
    first, second = (b - a for a, b in pairwise(places))
    assert torch.allclose(first, second), f"the second step is {(second / first).mean():.1f} times as long"


def the_average_leaves_its_start(code) -> None:
    """With a decay of 0.9999 and warm-up, a hundred updates bring the average most of the way."""
    assert _averaged(code, 0.9999, updates=100, target=1.0) > 0.5, "after 100 updates the EMA is still the start"


def the_average_follows_the_model(code) -> None:
    """With a decay of 0, an update copies the model."""
    assert _averaged(code, 0.0, updates=1, target=1.0) == 1, "the EMA does not see the model's weights"


def small_updates_count(code) -> None:
    """A small change of a large weight is not rounded away: weights of 1 that became 1.01, decay 0.999."""
    expected = 0.01 * (1 - 0.999**100)
    moved = _averaged(code, 0.999, updates=100, target=1.01, start=1.0, warmup=False) - 1
    assert abs(moved - expected) < 0.1 * expected, f"the average moved by {moved:.5f}, not by {expected:.5f}"


KIT = (
    solver_reads_the_clock, guidance_extrapolates, times_can_be_told_apart, labels_are_dropped_in_training,
    a_new_model_predicts_zero, the_last_shift_comes_first, patches_fit_together, pictures_lie_between_minus_one_and_one,
    noises_are_independent, steps_are_independent, each_picture_has_its_time, a_step_forgets_the_last,
    the_average_leaves_its_start, the_average_follows_the_model, small_updates_count,
)  # fmt: skip


def catches(probe, code) -> str | None:
    """What a probe says of some code: None when it passes, else the first line of its complaint."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            probe(code)
        except Exception as error:
            return (str(error) or type(error).__name__).splitlines()[0]
    return None


def _model(code, **config):
    return code.DiT(code.DiTConfig(image_size=(8, 12), patch_size=4, width=16, depth=2, heads=2, **config)).eval()


def _averaged(code, decay: float, updates: int, target: float, start: float = 0.0, warmup: bool = True) -> float:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, start)
    ema = code.EMA(model, decay, warmup)
    nn.init.constant_(model.weight, target)
    for _ in range(updates):
        ema.update(model)
    return ema.model.weight.item()

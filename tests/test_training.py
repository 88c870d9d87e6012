"""The training loop: it learns, it repeats itself exactly, and it survives being killed at any moment."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dit_course import (
    EMA,
    DiT,
    DiTConfig,
    NonFiniteLoss,
    RectifiedFlow,
    TrainConfig,
    overfit,
    train,
    training_loop,
    training_step,
)
from dit_course.checkpoints import checkpoints_in
from dit_course.trainer import StepBudget, Throughput, make_batch
from dit_course.training import batch_indices, randomness

CONFIG = DiTConfig(image_size=8, patch_size=4, channels=1, width=16, depth=2, heads=2, num_classes=3)


def small_data(n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(n) % 3
    images = (labels * 100).to(torch.uint8)[:, None, None, None].expand(n, 1, 8, 8).clone()
    return images, labels


def new_model() -> DiT:
    torch.manual_seed(0)
    return DiT(CONFIG)


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_loss_falls_and_the_ema_follows():
    model = new_model()
    ema = EMA(model)
    steps = list(train(model, small_data(), TrainConfig(steps=150, batch_size=16, lr=5e-3, warmup=10), ema=ema))
    assert [s.index for s in steps] == list(range(1, 151))
    first, last = (sum(s.loss for s in part) / 10 for part in (steps[:10], steps[-10:]))
    assert last < 0.5 * first
    assert ema.updates == 150
    assert 0 < (weights(model) - weights(ema.model)).abs().max() < 0.5
    assert steps[-1].progress == 1
    assert steps[-1].seconds_left == 0


def test_a_step_is_adamw_on_the_gradient_of_the_flow_loss():
    """One step, by hand: the same pictures, noise, clipping and learning rate give the same weights."""
    data = small_data(16)
    config = TrainConfig(steps=1, batch_size=16, warmup=0, decay=0, clip=0.1, seed=5)
    trained = new_model()
    (done,) = train(trained, data, config)

    by_hand = new_model().train()
    optimizer = torch.optim.AdamW(by_hand.parameters(), config.lr, betas=config.betas, weight_decay=config.weight_decay)
    with randomness(5, 0, torch.device("cpu")):
        chosen = batch_indices(16, 16, 5, 0)
        loss = RectifiedFlow().loss(by_hand, data[0][chosen].float() / 127.5 - 1, data[1][chosen])
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 0.1)
    optimizer.step()
    assert done.loss == loss.item()
    assert done.gradient_norm == pytest.approx(norm.item())
    torch.testing.assert_close(weights(trained), weights(by_hand))


def test_the_bare_loop_takes_the_same_steps():
    config = TrainConfig(steps=12, batch_size=8)
    bare, trained = new_model(), new_model()
    ema, other = EMA(bare), EMA(trained)
    losses = [loss.item() for loss in training_loop(bare, RectifiedFlow(), *small_data(), 12, batch_size=8, ema=ema)]
    assert losses == pytest.approx([step.loss for step in train(trained, small_data(), config, ema=other)], rel=1e-5)
    torch.testing.assert_close(weights(ema.model), weights(other.model))


def test_a_compiled_model_trains_and_its_checkpoint_is_the_models_own(tmp_path: Path):
    config, calls = TrainConfig(steps=3, batch_size=8), []

    def backend(graph, inputs):
        calls.append(graph)
        return graph.forward

    plain, model = new_model(), new_model()
    compiled = torch.compile(model, backend=backend)
    losses = [step.loss for step in train(compiled, small_data(), config, folder=tmp_path)]
    assert calls
    assert losses == pytest.approx([step.loss for step in train(plain, small_data(), config)], rel=1e-5)
    resumed = new_model()
    assert list(train(resumed, small_data(), config, folder=tmp_path)) == []  # finished: its weights are loaded
    assert torch.equal(weights(resumed), weights(model))


def test_a_data_parallel_model_is_refused_with_what_to_hand_over():
    for wrapped in (torch.nn.DataParallel(new_model()), torch.compile(torch.nn.DataParallel(new_model()))):
        with pytest.raises(
            ValueError, match=r"^train wants the model itself, not DataParallel .*: hand over model\.module"
        ):
            next(train(wrapped, small_data(), TrainConfig(steps=1)))


def test_images_per_second_is_the_true_rate_where_only_some_steps_wait_for_the_gpu():
    """24 steps that return at once, and one that waits until the GPU has done all 25."""
    throughput = Throughput(batch_size=64)
    rates = [
        throughput.update(seconds, waits)
        for _ in range(4)
        for seconds, waits in [(0.005, False)] * 24 + [(0.130, True)]
    ]
    assert rates[24:] == pytest.approx([64 * 25 / 0.250] * 76)
    for _ in range(300):  # a machine that grows slower, and waits in every step
        slow = throughput.update(0.1, True)
    assert slow == pytest.approx(640, rel=1e-3)


def test_a_seed_decides_everything_and_the_callers_randomness_is_left_alone():
    config = TrainConfig(steps=5, batch_size=8, seed=3)
    torch.manual_seed(11)
    expected_next = torch.rand(1)

    def run(outer_seed: int, config: TrainConfig) -> tuple[list[float], torch.Tensor, torch.Tensor]:
        model = new_model()
        torch.manual_seed(outer_seed)
        losses = [step.loss for step in train(model, small_data(), config)]
        return losses, weights(model), torch.rand(1)

    (losses_a, weights_a, next_a), (losses_b, weights_b, _) = run(11, config), run(12, config)
    assert losses_a == losses_b
    assert torch.equal(weights_a, weights_b)
    assert torch.equal(next_a, expected_next)
    assert run(11, TrainConfig(steps=5, batch_size=8, seed=4))[0] != losses_a


def test_every_epoch_sees_every_picture_once():
    seen = torch.cat([batch_indices(20, 5, 0, step) for step in range(8)])
    assert seen[:20].sort().values.tolist() == list(range(20))
    assert seen[20:].sort().values.tolist() == list(range(20))
    assert seen[:20].tolist() != seen[20:].tolist()
    assert batch_indices(3, 8, 0, 0).shape == (8,)  # fewer pictures than a batch holds


@pytest.mark.parametrize("stop_at", [1, 7, 10])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, stop_at: int):
    config = TrainConfig(steps=14, batch_size=8, checkpoint_every=5)

    def run(folder: Path, steps: int) -> tuple[list[float], DiT, EMA]:
        model = new_model()
        ema = EMA(model)
        losses = []
        for step in train(model, small_data(), config, ema=ema, folder=folder):
            losses.append(step.loss)
            if step.index == steps:
                break
        return losses, model, ema

    whole, model, ema = run(tmp_path / "whole", 14)
    first, _, _ = run(tmp_path / "parts", stop_at)
    second, resumed, resumed_ema = run(tmp_path / "parts", 14)
    assert first + second == whole
    assert torch.equal(weights(resumed), weights(model))
    assert torch.equal(weights(resumed_ema.model), weights(ema.model))
    assert resumed_ema.updates == ema.updates == 14
    assert run(tmp_path / "parts", 14)[0] == []  # finished: nothing left to do


CHILD = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from test_training import *
model = new_model(); ema = EMA(model)
for step in train(model, small_data(), TrainConfig(steps=4000, batch_size=8, checkpoint_every=3), ema=ema,
                  folder={folder!r}):
    print(step.index, repr(step.loss), flush=True)
"""


def test_kill_9_at_any_moment_loses_only_the_steps_since_the_checkpoint(tmp_path: Path):
    """Kill a process a few times while it writes checkpoints all the time; the run equals an undisturbed one."""
    code = CHILD.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    losses: dict[int, float] = {}
    restarts = []
    for steps, patience in ((8, 0.0), (5, 0.007), (9, 0.013)):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
            first = "".join(child.stdout.readline() for _ in range(steps))  # training has begun
            time.sleep(patience)
            os.kill(child.pid, signal.SIGKILL)
            lines = (first + child.stdout.read()).splitlines()
        rows = [line.split() for line in lines if len(line.split()) == 2]
        restarts.append(int(rows[0][0]))
        for index, loss in rows[:-1]:  # the last line may be cut
            assert losses.setdefault(int(index), float(loss)) == float(loss), f"step {index} differs after a restart"
    assert restarts[0] == 1
    assert restarts[2] > restarts[1] > 1

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the children: sums must be taken in the same order
    undisturbed = [
        step.loss
        for step, _ in zip(
            train(new_model(), small_data(), TrainConfig(steps=4000, batch_size=8)), range(max(losses)), strict=False
        )
    ]
    torch.set_num_threads(threads)
    assert [losses[i] for i in range(1, max(losses) + 1)] == undisturbed


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path):
    config = TrainConfig(steps=20, batch_size=8, checkpoint_every=5)
    for step in train(new_model(), small_data(), config, folder=tmp_path):
        if step.index == 11:
            break
    newest, older = checkpoints_in(tmp_path)
    assert (newest.name, older.name) == ("checkpoint-00000011", "checkpoint-00000010")
    file = newest.with_suffix(".safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    assert next(iter(train(new_model(), small_data(), config, folder=tmp_path))).index == 11


def test_another_run_in_the_folder_is_an_error_that_names_the_difference(tmp_path: Path):
    list(train(new_model(), small_data(), TrainConfig(steps=2, batch_size=8), folder=tmp_path))
    with pytest.raises(ValueError, match=r"lr was 0\.002 and is now 0\.1.*another folder"):
        list(train(new_model(), small_data(), TrainConfig(steps=2, batch_size=8, lr=0.1), folder=tmp_path))


def test_a_run_can_be_made_longer_until_its_learning_rate_falls(tmp_path: Path):
    def run(folder: str, stop_at: int = 99, **settings) -> list[float]:
        config = TrainConfig(**{"steps": 6, "batch_size": 8, "decay_steps": 0} | settings)
        losses = []
        for step in train(new_model(), small_data(), config, folder=tmp_path / folder):
            losses.append(step.loss)
            if step.index == stop_at:
                break
        return losses

    longer = {"steps": 10, "decay_steps": 4}
    whole = run("whole", **longer)
    assert run("parts", stop_at=5) + run("parts", **longer) == whole, "before its end"
    with pytest.raises(ValueError, match=r"steps was 10 and is now 12.*same settings"):
        run("parts", steps=12, decay_steps=4)  # the rate has fallen: 12 steps would have gone another way
    run("open", stop_at=4, minutes=600)
    assert run("open", **longer) == whole[4:], "from minutes to steps"
    run("short", stop_at=4)
    with pytest.raises(ValueError, match=r"4 steps .* past the end now asked for: give more"):
        run("short", steps=3)
    with pytest.raises(ValueError, match="past the end now asked for: give more"):
        run("short", minutes=1e-9)


def test_a_non_finite_loss_stops_and_points_to_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = new_model()
    steps = train(model, small_data(), TrainConfig(steps=9, checkpoint_every=5), folder=tmp_path)
    for _ in range(5):
        next(steps)
    flow_loss = RectifiedFlow.loss
    monkeypatch.setattr(RectifiedFlow, "loss", lambda *args: flow_loss(*args) * float("nan"))
    with pytest.raises(NonFiniteLoss, match=r"nan.*step 6.*checkpoint-00000005.*half the learning rate"):
        next(steps)
    assert checkpoints_in(tmp_path)[0].name == "checkpoint-00000005"


def test_what_is_not_finite_reaches_no_weight(monkeypatch: pytest.MonkeyPatch):
    model = new_model()
    before = weights(model)
    flow_loss = RectifiedFlow.loss
    monkeypatch.setattr(RectifiedFlow, "loss", lambda *args: flow_loss(*args) * float("inf"))
    with pytest.raises(NonFiniteLoss, match="step 1"):
        next(train(model, small_data(), TrainConfig(steps=9, batch_size=8)))
    assert torch.equal(weights(model), before)


def test_a_step_asks_the_guard_before_anything_changes():
    model, seen = new_model(), []
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    before = weights(model)

    def guard(loss, norm):
        seen.append((loss.item(), norm.item(), torch.equal(weights(model), before)))

    x, y = torch.randn(8, 1, 8, 8), torch.arange(8) % 3
    loss, norm = training_step(model, RectifiedFlow(), optimizer, x, y, 1.0, guard)
    assert seen == [(loss.item(), norm.item(), True)]
    assert not loss.requires_grad
    assert not torch.equal(weights(model), before)
    assert all(p.grad is None for p in model.parameters())


def test_one_batch_is_learned_by_heart_and_the_callers_randomness_is_left_alone():
    x, y = torch.rand(6, 1, 8, 8) * 2 - 1, torch.arange(6) % 3
    model, state = new_model(), torch.get_rng_state()
    losses = overfit(model, RectifiedFlow(), x, y, steps=250, lr=1e-2)
    assert losses.shape == (250,)
    assert not losses.requires_grad
    assert losses[0] == pytest.approx(1 + x.square().mean().item(), rel=0.25)
    assert losses[-1] < 0.05 * losses[0]
    assert torch.equal(torch.get_rng_state(), state)


def test_warm_up_then_flat_then_a_straight_line_to_zero():
    config = TrainConfig(steps=100, lr=1.0, warmup=9, decay=0.5)
    rates = [StepBudget.of(config).learning_rate(config, done) for done in range(100)]
    assert rates[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert rates[9:51] == [1.0] * 42
    assert rates[50:] == pytest.approx([1 - i / 50 for i in range(50)])


class Slow(RectifiedFlow):
    """A machine that grows slow in the middle of a training."""

    def __init__(self, after: int):
        super().__init__()
        self.calls, self.after = 0, after

    def loss(self, *args, **options):
        self.calls += 1
        time.sleep(0.002 if self.calls <= self.after else 0.1)
        return super().loss(*args, **options)


def test_a_training_by_minutes_ends_in_time_on_a_machine_that_grows_slower_and_can_be_repeated(tmp_path):
    dataset, seconds = small_data(), 1.5
    config = TrainConfig(minutes=seconds / 60, batch_size=2, warmup=0)
    model, steps = new_model(), []
    for step in train(model, dataset, config, flow=(flow := Slow(10**9)), folder=tmp_path / "slow"):
        steps.append(step)
        if step.total is not None:  # the number of steps has been fixed
            flow.after = 0
    *_, last = steps
    assert last.seconds < seconds + 0.6  # at most one step late, on a busy machine
    assert last.index < last.total
    assert last.progress == 1
    plan = json.loads(next((tmp_path / "slow").glob("checkpoint-*.json")).read_text())["plan"]
    assert plan["last"] == last.index
    again = TrainConfig(
        steps=plan["total"], decay_steps=plan["decay_steps"], stop_after=plan["last"], batch_size=2, warmup=0
    )
    repeated = list(train(new_model(), dataset, again))
    assert [step.loss for step in repeated] == [step.loss for step in steps]
    assert list(train(new_model(), dataset, config, folder=tmp_path / "slow")) == []  # it is over


def test_minutes_fix_the_steps_when_the_decay_begins_and_can_be_repeated_by_number():
    config = TrainConfig(minutes=1, decay=0.4, lr=1.0, warmup=0)
    plan = StepBudget.of(config)
    plan.fix(config, 100, 35.9)
    assert plan.total is None
    plan.fix(config, 101, 36.36)  # 60 % of the time is over at 2.78 steps a second
    assert (plan.total, plan.decay_steps) == (167, 66)
    plan.fix(config, 150, 59.0)
    assert plan.total == 167  # fixed is fixed
    repeat = TrainConfig(steps=167, decay_steps=66, lr=1.0, warmup=0)
    for done in range(167):
        assert plan.learning_rate(config, done) == StepBudget.of(repeat).learning_rate(repeat, done)


def test_minutes_end_in_time():
    start = time.perf_counter()
    steps = list(train(new_model(), small_data(), TrainConfig(minutes=0.02, batch_size=8)))
    assert 5 < steps[-1].index <= steps[-1].total  # fewer than planned where the machine has grown slower
    assert steps[-1].progress == 1
    assert 0.6 < steps[-1].seconds < 3 < 10 > time.perf_counter() - start


def test_an_unconditional_model_trains():
    model = DiT(DiTConfig(image_size=8, channels=1, width=16, depth=1, heads=2, num_classes=None))
    assert len(list(train(model, small_data(), TrainConfig(steps=3, batch_size=8)))) == 3


def test_flip_mirrors_about_half_of_the_pictures():
    images = torch.zeros(200, 1, 8, 8, dtype=torch.uint8)
    images[..., 0] = 255
    x, _ = make_batch(images, torch.zeros(200, dtype=torch.int64), torch.arange(200), flip=True)
    left = (x[:, 0, 0, 0] == 1).sum().item()
    assert 60 < left < 140
    assert ((x[:, 0, 0, 0] == 1) ^ (x[:, 0, 0, 7] == 1)).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"minutes": -1.0}, "minutes"),
        ({"minutes": float("nan")}, "minutes"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": 0.0}, "lr"),
        ({"clip": float("inf")}, "clip"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"decay": 1.5}, "decay"),
        ({"precision": "fp8"}, "precision"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_that_make_no_sense_are_named(setting: dict, message: str):
    with pytest.raises(ValueError, match=message) as error:
        TrainConfig(**setting)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (torch.zeros(3), "pair of tensors"),
        ((torch.zeros(3, 1, 8, 8), torch.zeros(3, dtype=torch.int64)), "uint8 images"),
        ((torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.zeros(3)), "int64 labels"),
        ((torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)), "as many of each"),
        ((torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)), r"made for \(1, 8, 8\)"),
        ((torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.full((3,), 7)), "a label is 7"),
    ],
)
def test_data_that_does_not_fit_is_named(dataset, message: str):
    with pytest.raises(ValueError, match=message):
        next(iter(train(new_model(), dataset, TrainConfig(steps=1))))


def test_csv_log_holds_full_precision(tmp_path: Path):
    from dit_course.commands._progress import Log

    step = next(iter(train(new_model(), small_data(), TrainConfig(steps=1, batch_size=4))))
    log = Log(tmp_path / "log.csv", 1)
    log.write(step)
    with (tmp_path / "log.csv").open() as file:
        assert float(next(csv.DictReader(file))["loss"]) == step.loss
    (tmp_path / "log.csv").write_text((tmp_path / "log.csv").read_text() + "2,0.5,0.")  # cut by a kill
    Log(tmp_path / "log.csv", 2)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2

"""Lesson 07: the running average of the weights."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dit_course.dit import DiT
from dit_course.ema import EMA, averaging_weights, half_life, post_hoc_average, running_average, warmup_decays


class Scalar(nn.Module):
    """One weight, and one buffer."""

    def __init__(self, value):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(value, dtype=torch.float64))
        self.register_buffer("seen", torch.tensor(0))

    def set(self, value, seen=0):
        with torch.no_grad():
            self.weight.fill_(value)
            self.seen.fill_(seen)


weights = st.lists(st.floats(-5, 5), min_size=1, max_size=40)


@given(weights, st.floats(0, 0.9999), st.booleans())
def test_average_is_its_closed_form(values, decay, warmup):
    """Weight w_i counts (1 - d_i) d_(i+1) d_(i+2) ... d_n, and the start d_1 d_2 ... d_n."""
    start, *updates = values
    model = Scalar(start)
    ema = EMA(model, decay, warmup)
    for value in updates:
        model.set(value)
        ema.update(model)
    decays = [min(decay, (1 + n) / (10 + n)) if warmup else decay for n in range(len(updates))]
    expected = start * math.prod(decays)
    for i, value in enumerate(updates):
        expected += (1 - decays[i]) * value * math.prod(decays[i + 1 :])
    assert ema.model.weight.item() == pytest.approx(expected, abs=1e-12)
    assert model.weight.item() == values[-1], "the model itself must stay as it is"


def test_warmup_counts_from_one_tenth_up_to_the_decay():
    ema = EMA(Scalar(0.0), decay=0.5)
    decays = []
    for _ in range(12):
        decays.append(ema.current_decay())
        ema.update(Scalar(0.0))
    expected = [1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 0.5, 0.5, 0.5, 0.5]
    assert decays == pytest.approx(expected)
    assert ema.updates == 12


def test_warmup_to_0_9999_ends_after_89990_updates():
    ema = EMA(Scalar(0.0), decay=0.9999)
    ema.updates = 89_989
    assert ema.current_decay() < 0.9999
    ema.updates = 89_990
    assert ema.current_decay() == pytest.approx(0.9999, abs=1e-15)
    ema.updates = 10**6
    assert ema.current_decay() == 0.9999


@pytest.mark.parametrize(("warmup", "left"), [(False, 0.999**1000), (True, 1 / math.comb(1009, 9))])
def test_how_much_of_the_random_start_is_left(warmup, left):
    """A constant decay keeps 37% of it after 1 / (1 - decay) updates; with warm-up nothing is left."""
    ema = EMA(Scalar(1.0), decay=0.999, warmup=warmup)
    trained = Scalar(0.0)
    for _ in range(1000):
        ema.update(trained)
    assert ema.model.weight.item() == pytest.approx(left, rel=1e-9)
    assert (left > 0.36) == (not warmup)


def test_decay_zero_is_a_copy():
    ema = EMA(Scalar(1.0), decay=0.0)
    ema.update(Scalar(5.0))
    assert ema.model.weight.item() == 5.0


def test_buffers_are_copied_as_they_are():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ema = EMA(model, decay=0.9)
    for _ in range(3):
        model(torch.randn(8, 3) + 2)
        ema.update(model)
    for name, buffer in model.named_buffers():
        assert torch.equal(ema.model.get_buffer(name), buffer), name
    assert ema.model[1].num_batches_tracked == 3
    assert ema.model[1].running_mean.data_ptr() != model[1].running_mean.data_ptr()


def test_average_of_a_whole_dit(small_config, perturbed):
    model = perturbed(DiT(small_config()))
    ema = EMA(model, decay=0.6)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    perturbed(model, seed=2)
    ema.update(model)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ema.model.get_parameter(name), 0.1 * before[name] + 0.9 * parameter.detach())
    x, t, y = torch.randn(2, 3, 8, 12), torch.rand(2), torch.tensor([1, 5])
    with torch.no_grad():
        assert not torch.equal(ema.model(x, t, y), model.eval()(x, t, y))


def test_averaged_model_is_ready_to_sample_and_apart_from_the_trained_one(small_config):
    model = DiT(small_config()).train()
    ema = EMA(model)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert not any(module.training for module in ema.model.modules())
    assert not any(p.requires_grad for p in ema.model.parameters())
    ours, theirs = [{p.data_ptr() for p in m.parameters() if p.numel()} for m in (ema.model, model)]
    assert not ours & theirs
    ema.update(model)
    assert model.training
    assert not ema.model.training


def test_update_keeps_no_graph(small_config):
    model = DiT(small_config())
    ema = EMA(model)
    ema.update(model)
    assert all(p.grad_fn is None and p.is_leaf for p in ema.model.parameters())


def test_update_survives_training_of_the_model():
    model = Scalar(1.0)
    ema = EMA(model, decay=0.5, warmup=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    expected, weight = 1.0, 1.0
    for _ in range(5):
        optimizer.zero_grad()
        model.weight.square().backward()
        optimizer.step()
        ema.update(model)
        weight -= 0.5 * 2 * weight
        expected = 0.5 * expected + 0.5 * weight
    assert ema.model.weight.item() == pytest.approx(expected, abs=1e-12)


def test_going_on_from_a_checkpoint_is_going_on(small_config, perturbed):
    def run(model, ema, seeds):
        for seed in seeds:
            perturbed(model, seed=seed)
            ema.update(model)

    torch.manual_seed(0)
    model = DiT(small_config())
    straight = EMA(model)
    run(model, straight, range(6))

    torch.manual_seed(0)
    model = DiT(small_config())
    first = EMA(model)
    run(model, first, range(3))
    again = EMA(DiT(small_config()))  # another start, which must leave no trace
    again.model.load_state_dict({name: tensor.clone() for name, tensor in first.model.state_dict().items()})
    again.updates = first.updates
    run(model, again, range(3, 6))
    assert again.updates == straight.updates == 6
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name


@pytest.mark.parametrize("decay", [1, 1.0, -0.1, 2, float("nan"), float("inf")])
def test_decays_that_make_no_average_are_refused(decay, one_line_error):
    with one_line_error(ValueError, "decay", decay):
        EMA(Scalar(0.0), decay)


def test_a_model_of_another_shape_is_refused():
    with pytest.raises(RuntimeError, match="size"):
        EMA(nn.Linear(2, 3)).update(nn.Linear(3, 2))


def test_a_running_average_is_an_ema_of_numbers():
    values = torch.randn(8, dtype=torch.float64)
    ema = EMA(Scalar(values[0].item()), decay=0.7, warmup=False)
    expected = [values[0].item()]
    for value in values[1:]:
        ema.update(Scalar(value.item()))
        expected.append(ema.model.weight.item())
    assert running_average(values, 0.7).tolist() == pytest.approx(expected)
    assert running_average(values.reshape(4, 2), 0.7).shape == (4, 2)


def test_after_a_half_life_half_is_left():
    decays = torch.tensor([[0.5, 0.9], [0.999, 0.9999]], dtype=torch.float64)
    assert torch.allclose(decays ** half_life(decays), torch.tensor(0.5, dtype=torch.float64))
    assert half_life(decays)[1, 1].item() == pytest.approx(6931.1, abs=0.1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_profile_adds_up_to_one_and_is_what_a_loop_finds(decays):
    shares = [1.0]
    for decay in decays:
        shares = [decay * share for share in shares] + [1 - decay]
    found = averaging_weights(torch.tensor(decays, dtype=torch.float64))
    assert found.tolist() == pytest.approx(shares, abs=1e-12)
    assert found.sum().item() == pytest.approx(1)


def test_an_average_of_snapshots_is_the_ema_that_went_along():
    snapshots = torch.randn(13, 5, dtype=torch.float64)
    model = nn.Linear(4, 1).double()

    def load(row):
        nn.utils.vector_to_parameters(row.clone(), model.parameters())

    load(snapshots[0])
    ema = EMA(model, decay=0.4)
    for row in snapshots[1:]:
        load(row)
        ema.update(model)
    found = post_hoc_average(snapshots, warmup_decays(0.4, 12))
    torch.testing.assert_close(found, nn.utils.parameters_to_vector(ema.model.parameters()))


def test_warmup_decays_are_those_of_an_ema():
    ema, decays = EMA(Scalar(0.0), decay=0.6), []
    for _ in range(30):
        decays.append(ema.current_decay())
        ema.update(Scalar(0.0))
    assert warmup_decays(0.6, 30).tolist() == pytest.approx(decays)


def test_the_warmup_is_a_power_function_average_of_width_0_0905():
    """Karras et al. 2023, section 3.1: the profile grows as t**8, and this is its standard deviation."""
    n = 4000
    shares, place = averaging_weights(warmup_decays(1.0, n)), torch.arange(n + 1, dtype=torch.float64) / n
    mean = (shares * place).sum()
    assert (shares * (place - mean) ** 2).sum().sqrt().item() == pytest.approx(0.0905, abs=2e-4)

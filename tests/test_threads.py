"""Rows of a batch in several threads: the same training as in one, but for rounding."""

import copy
import gc
import threading
import time

import pytest
import torch

from dit_course import DiT, DiTConfig, FewStepDiT, FewStepSampler, RectifiedFlow, Sampler, TrainConfig, euler
from dit_course.blocks import DiTBlock
from dit_course.distributed.rows import RowsInThreads
from dit_course.distributed.threads import divisible, worthwhile
from dit_course.few_steps import SelfConsistency
from dit_course.trainer import train

SIZES = {"image_size": (8, 12), "patch_size": 4, "channels": 2, "width": 32, "depth": 2, "heads": 4, "num_classes": 5}


def network(kind=DiT, **options):
    torch.manual_seed(0)
    model = kind(DiTConfig(**SIZES | options))
    for parameter in model.parameters():  # zeros would hide everything
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def batch(n=19):
    torch.manual_seed(1)
    return torch.randn(n, 2, 8, 12), torch.randint(5, (n,))


def trained_once(model, learner, flow=None, labels=True):
    """The loss, all gradients, and the next random number."""
    x, y = batch()
    torch.manual_seed(2)
    loss = (flow or RectifiedFlow()).loss(learner, x, y if labels else None)
    loss.backward()
    return loss, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, torch.rand(1)


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize(
    "options", [{}, {"registers": 0}, {"label_dropout": 0.7}, {"num_classes": None}, {"norm": "layer"}]
)
def test_loss_and_gradients_are_those_of_the_whole_batch(threads, options):
    model = network(**options)
    other = copy.deepcopy(model)
    labels = model.config.num_classes is not None
    loss, gradients, following = trained_once(model, model.train(), labels=labels)
    theirs = trained_once(other, RowsInThreads(other.train(), threads), labels=labels)
    torch.testing.assert_close(theirs[0], loss)
    torch.testing.assert_close(theirs[1], gradients)
    assert theirs[2] == following  # as many random numbers were drawn: times, noise, dropped labels


def test_a_students_loss_works_too():
    teacher, student = network(), network(FewStepDiT, label_dropout=0.0)
    other = copy.deepcopy(student)
    flow = SelfConsistency(teacher.eval())
    loss, gradients, _ = trained_once(student, student, flow)
    theirs = trained_once(other, RowsInThreads(other, 2), flow)
    torch.testing.assert_close(theirs[0], loss)
    torch.testing.assert_close(theirs[1], gradients)


def test_a_teacher_keeps_torchs_threads_while_its_student_is_trained():
    teacher, student, seen = network().eval(), network(FewStepDiT, label_dropout=0.0), []
    teacher.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    data = torch.randint(256, (32, 2, 8, 12), dtype=torch.uint8), torch.arange(32) % 5
    next(train(student, data, TrainConfig(steps=1, batch_size=32), flow=SelfConsistency(teacher)))
    assert seen == [2]


def test_without_gradients_there_is_no_graph():
    model = RowsInThreads(network(), 2)
    x, y = batch()
    with torch.no_grad():
        assert not model(x, torch.rand(19), y).requires_grad
    assert model(x, torch.rand(19), y).requires_grad


def test_an_error_in_a_thread_is_raised_here():
    x, y = batch()
    with pytest.raises(ValueError, match="label"):
        RowsInThreads(network(), 2)(x, torch.rand(19), y + 7)


def test_torchs_own_threads_stay_as_they_were():
    seen = []
    model = RowsInThreads(network(), 2)
    model.model.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    x, y = batch()
    model(x, torch.rand(19), y)
    assert seen == [1, 1]
    assert torch.get_num_threads() == 2
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]


def test_the_threads_end_with_the_training():
    before = set(threading.enumerate())
    data = torch.randint(256, (32, 2, 8, 12), dtype=torch.uint8), torch.arange(32) % 5
    steps = train(network(), data, TrainConfig(steps=3, batch_size=16))
    next(steps)
    assert len(set(threading.enumerate()) - before) == 2
    list(steps)
    del steps
    gc.collect()
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


def test_training_in_threads_repeats_bit_for_bit_and_stays_near_the_plain_one():
    data = torch.randint(256, (64, 2, 8, 12), dtype=torch.uint8), torch.arange(64) % 5

    def losses(**options):
        model = network()
        return [step.loss for step in train(model, data, TrainConfig(steps=8, batch_size=32, lr=1e-3, **options))]

    assert losses() == losses()
    assert losses() == pytest.approx(losses(row_threads=1), rel=1e-4)
    assert losses() != losses(seed=1)


@pytest.mark.parametrize(("rows", "threads"), [(64, 2), (16, 2), (15, 1), (0, 1)])
def test_small_batches_stay_whole(rows, threads):
    assert worthwhile(rows) == threads


def test_a_setting_without_sense_is_refused():
    with pytest.raises(ValueError, match="row_threads"):
        TrainConfig(row_threads=0)


# --- sampling -----------------------------------------------------------------------------------------------------


def threads_of(sampler, n=20, **options):
    """The samples, and the threads that computed them."""
    names, integrate = set(), sampler.integrate

    def seen(*arguments):
        names.add(threading.current_thread().name)
        return integrate(*arguments)

    sampler.integrate = seen
    return sampler.sample(n, seed=0, **options), names


def test_images_are_those_of_one_thread():
    images, names = threads_of(Sampler(network(), 4, "heun", 2.5))
    assert len(names) == 2
    torch.set_num_threads(1)
    plain, names = threads_of(Sampler(network(), 4, "heun", 2.5))
    assert names == {"MainThread"}
    torch.testing.assert_close(images, plain)
    assert not images.requires_grad


def test_a_student_samples_in_threads_too():
    images, names = threads_of(FewStepSampler(network(FewStepDiT, label_dropout=0.0), 2))
    assert len(names) == 2
    assert images.shape == (20, 2, 8, 12)


class TheirOwn(DiT):
    """A learner's network."""


class TheirBlock(DiTBlock):
    """A learner's block in our network."""


def with_their_block(forward=None):
    model = network()
    model.blocks[1] = TheirBlock(32, 4)
    if forward:
        model.blocks[1] = network().blocks[1]
        model.blocks[1].forward = model.blocks[1].forward
    return model


def test_their_code_is_trained_in_one_thread():
    data, seen = (torch.randint(256, (32, 2, 8, 12), dtype=torch.uint8), torch.arange(32) % 5), set()

    class Watched(RectifiedFlow):
        def loss(self, model, *batch):
            seen.add(type(model).__name__)
            return super().loss(model, *batch)

    for model in (network(TheirOwn), with_their_block(), with_their_block(forward=True)):
        next(train(model, data, TrainConfig(steps=1, batch_size=32), flow=Watched()))
    assert seen == {"_Autocast"}
    next(train(network(), data, TrainConfig(steps=1, batch_size=32), flow=Watched()))
    assert seen == {"_Autocast", "RowsInThreads"}


def test_code_of_others_and_observers_stay_in_one_thread():
    def mine(velocity, noise, ts, callback=None):
        return euler(velocity, noise, ts, callback)

    def states(index, t, x):
        assert len(x) == 20

    hooked = network()
    hooked.blocks[0].register_forward_hook(lambda *_: None)
    theirs = (network(TheirOwn), with_their_block(), with_their_block(forward=True), hooked)
    assert not divisible(torch.compile(network()))
    for sampler in (Sampler(network(), 2, mine), *(Sampler(model, 2) for model in theirs)):
        assert threads_of(sampler)[1] == {"MainThread"}
    assert threads_of(Sampler(network(), 2), callback=states)[1] == {"MainThread"}
    assert threads_of(Sampler(network(), 2), n=8)[1] == {"MainThread"}
    with torch.autocast("cpu", torch.bfloat16):
        assert threads_of(Sampler(network(), 2))[1] == {"MainThread"}

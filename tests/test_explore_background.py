"""A training in a process of its own: cells run meanwhile, it can be stopped, and it ends with the kernel."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from dit_course import EMA, DiT, DiTConfig, TrainConfig, explore, load_dataset, train

CONFIG = DiTConfig(image_size=28, channels=1, patch_size=14, width=16, depth=1, heads=2)


def network():
    torch.manual_seed(0)
    return DiT(CONFIG)


def start(config, moments=(), **options):
    model = network()
    ema = EMA(model)
    return model, ema, explore.start_training(model, "fashion-mnist", config, ema, moments, solver_steps=1, **options)


def test_it_learns_what_it_would_learn_here_and_cells_run_meanwhile(capsys):
    config, threads = TrainConfig(steps=40, batch_size=8), torch.get_num_threads()
    torch.manual_seed(7)
    model, ema, run = start(config, moments=(0.25, 0.5))
    torch.manual_seed(7)
    numbers = torch.rand(3)  # nobody else draws from this process's random numbers
    run.wait()
    torch.manual_seed(7)
    assert torch.equal(numbers, torch.rand(3))
    other = network()
    average = EMA(other)
    losses = [step.loss for step in train(other, load_dataset("fashion-mnist", split="train"), config, ema=average)]
    assert run.losses == pytest.approx(losses, rel=1e-3)
    for ours, theirs in ((model, other), (ema.model, average.model)):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-4)
    assert ema.updates == 40
    assert len(run.copies) == 3
    assert list(run.copies) == sorted(run.copies)
    assert all(torch.equal(a, b) for a, b in zip(run.copies[0.0].parameters(), network().parameters(), strict=True))
    assert run.strips[0][0] == 0.0
    assert run.strips[-1][1].shape == (10, 1, 28, 28)
    assert not run.stopped
    assert "done: 40 steps in 0:" in capsys.readouterr().out
    assert torch.get_num_threads() == threads
    assert not run._process.is_alive()


def test_it_is_stopped_from_another_thread_and_hands_over_what_it_has_learned(capsys):
    model, _, run = start(TrainConfig(steps=10**6, batch_size=8))
    before = [p.clone() for p in model.parameters()]
    while not run._unread and not run.losses:
        time.sleep(0.05)
    threading.Timer(0.1, run.button.click).start()
    run.wait()
    assert run.stopped
    assert "stopped after" in capsys.readouterr().out
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not run._process.is_alive()


def test_an_interrupt_while_waiting_stops_it():
    _, _, run = start(TrainConfig(steps=10**6, batch_size=8))
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    run.wait()
    assert run.stopped
    assert not run._process.is_alive()


def test_what_goes_wrong_there_is_raised_by_wait():
    model = network()
    run = explore.start_training(model, "fashion", TrainConfig(steps=5), EMA(model))
    with pytest.raises(ValueError, match="fashion-mnist"):
        run.wait()
    _, _, run = start(TrainConfig(steps=10**6, batch_size=8))
    run._process.kill()
    with pytest.raises(RuntimeError, match="the training process has ended"):
        run.wait()


def test_a_new_one_ends_the_one_before():
    _, _, first = start(TrainConfig(steps=10**6, batch_size=8))
    _, _, second = start(TrainConfig(steps=2, batch_size=8))
    assert not first._process.is_alive()
    second.wait()
    assert len(second.losses) == 2


DIES = """
import os, sys, time
from dit_course import EMA, DiT, DiTConfig, TrainConfig, explore
if __name__ == "__main__":
    model = DiT(DiTConfig(image_size=28, channels=1, patch_size=14, width=16, depth=1, heads=2))
    run = explore.start_training(model, "fashion-mnist", TrainConfig(steps=10**6, batch_size=8), EMA(model))
    while not run._unread and not run.losses:
        time.sleep(0.05)
    print(run._process.pid, flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_it_ends_with_a_kernel_that_is_killed(tmp_path):
    (tmp_path / "dies.py").write_text(DIES)
    out = subprocess.run([sys.executable, tmp_path / "dies.py"], capture_output=True, text=True, timeout=120)
    pid = int(out.stdout)
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if b") Z" in Path(f"/proc/{pid}/stat").read_bytes():  # ended, and nobody has asked how
            return
        time.sleep(0.1)
    pytest.fail("the training goes on without its kernel")

"""The planted bugs: each patch still applies, is still wrong, and is caught by the kit, which the right code passes."""

import inspect
import re
from itertools import product

import pytest
import torch

from dit_course.studies.bugs import BUGS, code, find_bug, plant, right_code
from dit_course.studies.bugs.kit import KIT, catches

named = pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)


def test_the_right_code_passes_every_probe():
    for seed, probe in product(range(3), KIT):
        torch.manual_seed(seed)
        assert catches(probe, right_code()) is None


@named
def test_a_bug_is_caught(bug):
    assert [probe.__name__ for probe in KIT if catches(probe, plant(bug.name))]


@named
def test_a_bug_is_described(bug):
    assert bug.level in (1, 2, 3, 4)
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", place) for place in bug.seen)
    assert bug.what.endswith(".")


def test_a_copy_without_patches_is_the_package():
    """Same seed, same weights, same samples: only the bug differs."""
    samples = []
    for namespace in (right_code(), code.patched_code("unchanged", ())):
        torch.manual_seed(0)
        config = namespace.DiTConfig(image_size=(8, 12), width=16, depth=1, heads=2)
        model = namespace.DiT(config)
        torch.nn.init.normal_(model.final.linear.weight)
        samples.append(namespace.Sampler(model, steps=3, cfg=3.0).sample(2, seed=0))
    assert torch.equal(*samples)


def test_a_copy_is_apart_from_the_package():
    faulty = plant("swapped_modulation")
    assert faulty.DiT is not right_code().DiT
    assert "scale, shift = self.modulation" in inspect.getsource(faulty.FinalLayer)
    assert "shift, scale = self.modulation" in inspect.getsource(right_code().FinalLayer)


def test_a_patch_that_no_longer_applies_says_so():
    with pytest.raises(ValueError, match=r"flow.py holds 'no such line' 0 times, not once"):
        code.patched_code("stale", [("flow", "no such line", "")])
    with pytest.raises(ValueError, match="there is no bug 'moth': there is reversed_time"):
        find_bug("moth")

"""The planted bugs: each patch still applies, is still wrong, and is caught by the kit, which the right code passes."""

import inspect
import re
import runpy
from itertools import product

import pytest
import torch

import dit_course
from dit_course.check.lesson_12_bug_hunt.variants import ANOTHER_HAND, another_hand, nonsense
from dit_course.studies.bugs import BUGS, LETTERS, code, find_bug, open_case, plant, right_code
from dit_course.studies.bugs.kit import KIT, catches, examine, save_kit
from dit_course.studies.bugs.public import public_layout

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


# -- lesson 12 -------------------------------------------------------------------------------------


def test_every_bug_is_a_case_and_a_case_does_not_tell_which():
    assert sorted(LETTERS.values()) == sorted(bug.name for bug in BUGS)
    for letter, name in LETTERS.items():
        assert open_case(letter).bug.name == name
        assert name not in f"{open_case(letter).title} {open_case(letter).code.name} {open_case(letter).code.DiT}"
    with pytest.raises(ValueError, match="there is no case 'I': there are A, B, "):
        open_case("I")


def test_each_bug_is_caught_by_one_probe_and_no_probe_is_idle():
    caught = {probe.__name__: [x for x in LETTERS if catches(probe, open_case(x).code)] for probe in KIT}
    assert sorted(letter for letters in caught.values() for letter in letters) == sorted(LETTERS)
    assert all(caught.values())


@pytest.mark.parametrize("number", [None, *range(len(ANOTHER_HAND))])
def test_code_by_another_hand_is_right_and_differs(number):
    assert not [probe.__name__ for probe in KIT if catches(probe, another_hand(number))]
    rooms = {room for _, _, patches in ANOTHER_HAND for room, *_ in patches}
    assert rooms == {"conditioning", "sampling", "ema", "data", "training", "flow", "patches", "blocks", "dit"}


@pytest.mark.parametrize("probe", [probe for probe in KIT if probe.__name__ not in ("probe_average", "probe_step")])
def test_nonsense_is_caught(probe):
    values, _ = nonsense(probe.__name__)
    assert catches(probe, values)


def test_a_kit_is_a_file_that_runs_by_itself_and_says_what_is_missing(tmp_path):
    file = save_kit(KIT, tmp_path / "kit.py")
    assert "dit_course." not in file.read_text()
    mine = runpy.run_path(str(file))
    assert [line.split()[1] for line in mine["examine"](dit_course)] == ["ok"] * len(KIT)
    said = dict(line.split(maxsplit=1) for line in mine["examine"](open_case("A").code))
    assert said.pop("probe_solver").startswith("COMPLAINS: steps begin at [1.0, 0.75, 0.5, 0.25], and the velocity was")
    assert set(said.values()) == {"ok"}
    (line,) = mine["examine"](object(), KIT[:1])
    assert line == "probe_average    not tested: there is no EMA"


def helper():
    """Stands outside of the probe below."""


def test_a_kit_is_tried_before_it_is_saved(tmp_path):
    def probe_more(code):
        helper()

    with pytest.raises(ValueError, match=r"probe_more complains .* name 'helper' is not defined. Helpers and imports"):
        save_kit([*KIT, probe_more], tmp_path / "kit.py")
    assert not list(tmp_path.iterdir())


def test_what_the_kit_says_of_a_public_layout():
    def complaints(repaired):
        return [line.split()[0] for line in examine(public_layout(repaired)) if "COMPLAINS" in line]

    assert complaints(repaired=True) == ["probe_solver", "probe_mediocre"]
    assert complaints(repaired=False) == ["probe_solver", "probe_loss", "probe_mediocre"]

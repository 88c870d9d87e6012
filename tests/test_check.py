"""The lesson machine under what beginners write: verdicts, limits, and that nothing is left behind."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dit_course import check
from dit_course import patches as course
from dit_course.check.engine import limits, verdict
from dit_course.check.engine.compare import difference
from dit_course.check.engine.exercise import OTHERWISE, SIZES, Case, Draw, Exercise, ModuleCase
from dit_course.check.engine.limits import run_limited
from dit_course.check.engine.mistakes import MatchesOutput, MatchesRule, with_hints
from dit_course.check.engine.modules import AnswerError, matched


@pytest.fixture(autouse=True)
def _nothing_solved(monkeypatch):
    """Each test is a learner who begins."""
    monkeypatch.setattr(verdict, "verdicts", {})
    monkeypatch.setattr("dit_course.check.engine.exercise.patience", contextlib.nullcontext)  # on a busy machine
    for name in ("DIT_COURSE_STRICT", "DIT_COURSE_CHECK_SEED"):
        monkeypatch.delenv(name, raising=False)
    kept = list(verdict.exercises)
    yield
    verdict.exercises[:] = kept  # without those that a test has made


def right(images, patch_size):
    return course.patchify(images, patch_size)


def stub(images, patch_size):
    raise NotImplementedError  # your code here


def wrong(images, patch_size):
    return course.patchify(images, patch_size) + 1


# -- the contract ----------------------------------------------------------------------------------


def test_a_right_answer_comes_back_itself(capsys):
    assert check.patchify(right) is right
    assert capsys.readouterr().out.startswith("right. Same as the course's on 3 inputs: 2x1x28x28 in patches of 4, ")


def test_until_then_the_course_version_comes_back_and_says_so(capsys):
    assert check.patchify(stub) is course.patchify
    assert capsys.readouterr().out == ("not tried yet: going on with the course's version, so the lesson continues.\n")
    assert check.patchify(wrong) is course.patchify
    text = capsys.readouterr().out
    assert text.startswith("not yet: your answer is the right one plus 1. 100% of the values are wrong, by up to 1;")
    assert "going on with the course's version" in text


def test_a_class_comes_back_itself_or_as_the_course_version():
    class Convolution(nn.Module):
        def __init__(self, patch_size, channels, width):
            super().__init__()
            self.convolution = nn.Conv2d(channels, width, patch_size, stride=patch_size)
            nn.init.xavier_uniform_(self.convolution.weight.data.flatten(1))
            nn.init.zeros_(self.convolution.bias)

        def forward(self, images):
            return self.convolution(images).flatten(2).mT

    class Stub(nn.Module):
        def __init__(self, patch_size, channels, width):
            super().__init__()
            raise NotImplementedError  # your code here

    assert check.PatchEmbed(Convolution) is Convolution
    assert check.PatchEmbed(Stub) is course.PatchEmbed
    assert str(verdict.verdicts["PatchEmbed"]).startswith("not tried yet")


def test_code_below_the_stub_is_noticed():
    def below(images, patch_size):
        rows = images.shape[2] // patch_size
        raise NotImplementedError  # your code here
        return images.reshape(rows)

    class Below(nn.Module):
        def __init__(self, patch_size, channels, width):
            super().__init__()
            raise NotImplementedError  # your code here
            self.projection = nn.Linear(channels, width)

    for name, answer in (("patchify", below), ("PatchEmbed", Below)):
        text = str(getattr(check, name).examine(answer))
        assert text.startswith("not yet: your code stands below `raise NotImplementedError`"), text
    assert check.patchify.examine(stub).status == "not tried yet"


@pytest.mark.parametrize("answer", [stub, wrong])
def test_in_strict_mode_the_same_verdict_is_an_error(answer, monkeypatch):
    monkeypatch.setenv("DIT_COURSE_STRICT", "1")
    with pytest.raises(
        AssertionError, match=r"^patchify: (not tried yet\.$|not yet: your answer is the right one plus 1)"
    ) as refused:
        check.patchify(answer)
    assert "going on" not in str(refused.value)  # the name does not become the course's version
    assert check.patchify(right) is right
    monkeypatch.setenv("DIT_COURSE_STRICT", "0")
    assert check.patchify(answer) is course.patchify


def test_the_check_cell_run_twice_does_not_praise_the_course(capsys, monkeypatch):
    check.patchify(wrong)
    capsys.readouterr()
    assert check.patchify(course.patchify) is course.patchify
    assert "this is the course's version: run your own cell" in capsys.readouterr().out
    assert verdict.verdicts["patchify"].status == "not yet"  # what is known of the learner's own stays known
    monkeypatch.setenv("DIT_COURSE_STRICT", "1")
    with pytest.raises(AssertionError, match=r"this is the course's version: run your own cell .*, then this one\.$"):
        check.patchify(course.patchify)


def test_the_seed_is_an_argument_or_from_the_environment(monkeypatch, capsys):
    said = []
    for seed, environment in ((None, ""), (0, "5"), (5, ""), (None, "5")):
        monkeypatch.setenv("DIT_COURSE_CHECK_SEED", environment)
        check.patchify(right, seed=seed)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2] == said[3]


@pytest.mark.parametrize("seed", range(40))
def test_no_two_sizes_of_a_random_case_can_be_mistaken(seed):
    cases = check.patchify.cases(Draw(seed))
    sizes = [4]
    for images, p in (case.args for case in cases[1:]):
        batch, channels, height, width = images.shape
        tokens, features = height * width // p**2, channels * p**2
        assert len({batch, channels, height // p, width // p, p}) == 5
        assert tokens not in (batch, features)
        assert images.dtype in (torch.float32, torch.float64)
        sizes.append(p)
    assert len(set(sizes)) == 3, "a patch size written as a number could pass"


# -- what beginners hand over ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "should be a function (hand it over without calling it), not None"),
        (course.patchify(torch.zeros(1, 1, 4, 4), 2), "should be a function"),
        (nn.Linear, "should be a function (hand it over without calling it), not class"),
        (lambda: 3, "is called with images, patch_size"),
        (lambda a, b, c: 3, "is called with images, patch_size"),
        (lambda a, b: {"x": a}, "returns a dict"),
        (lambda a, b: "tokens", "returns a str"),
        (lambda a, b: 1.5, "plain number (1.5)"),
        (lambda a, b: course.patchify, "returns a function"),
        (lambda a, b: torch.zeros(0), "it should have (2, 49, 16)"),
        (lambda a, b: torch.tensor(3), "it should have (2, 49, 16)"),
        (lambda a, b: course.patchify(a, b).bool(), "of the values are wrong"),
        (lambda a, b: course.patchify(a, b).to(torch.complex64), "NaN or infinite"),
        (lambda a, b: course.patchify(a, b).half(), "torch.float16 and should be torch.float32"),
        (lambda a, b: course.patchify(a, b).to_sparse(), ""),
        (lambda a, b: a.__class__, "returns a _TensorMeta"),
        (lambda a, b: exit(), "it ends the whole program"),
        (lambda a, b: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda a, b: undefined, "NameError: name 'undefined' is not defined"),  # noqa: F821
        (lambda a, b: (lambda f: f(f))(lambda f: f(f)), "RecursionError"),
        (lambda a, b: course.patchify(a, 5), "a 28x28 image cannot be cut into patches of 5"),
    ],
)
def test_odd_answers_get_a_kind_verdict(answer, words):
    result = check.patchify.examine(answer)
    assert result.status in ("not yet", "right")
    assert words in str(result)
    assert "cannot read" not in str(result)
    assert "\n" not in str(result)


def test_even_an_answer_that_breaks_the_check_does_not_break_the_lesson():
    class Nasty(torch.Tensor):
        @classmethod
        def __torch_function__(cls, *args, **kwargs):
            raise RuntimeError("no")

    result = check.patchify.examine(lambda images, p: torch.Tensor._make_subclass(Nasty, images))
    assert result.status == "not yet"
    assert "RuntimeError" in str(result)


def test_an_error_is_shown_with_the_learners_own_line():
    def answer(images, patch_size):
        tokens = images.reshape(3, 5)
        return tokens

    text = str(check.patchify.examine(answer))
    line = answer.__code__.co_firstlineno + 1
    assert f'in test_check.py, line {line}: "tokens = images.reshape(3, 5)": RuntimeError: shape' in text


@pytest.mark.parametrize(
    ("step", "advice"),
    [
        (lambda x: float(x), "take one number"),
        (lambda x: x if x > 0 else -x, "want one yes or no"),
        (lambda x: [][-1], "still empty"),
        (lambda x: None.shape, "something is None"),
        (lambda x: x.long().mean(), "whole numbers"),
        (lambda x: nn.Linear(2, 2).weight.mul_(2), "within `torch.no_grad()` only"),
        (lambda x: x.no_such_method(), ""),
    ],
)
def test_errors_that_beginners_meet_are_explained(step, advice):
    text = str(check.patchify.examine(lambda images, patch_size: step(images)))
    assert "an error stopped your code" in text
    assert advice in text


def test_prints_are_kept_aside_and_mentioned_when_all_is_right(capsys):
    def chatty(images, patch_size):
        print("shape", images.shape, file=sys.stderr)
        print("x" * 10_000)
        return right(images, patch_size)

    check.patchify(chatty)
    seen = capsys.readouterr()
    assert seen.err == ""
    assert "xxx" not in seen.out
    assert "It also prints" in seen.out


# -- limits ----------------------------------------------------------------------------------------


def endless():
    while True:
        pass


def stubborn():
    while True:
        try:
            sum(range(1000))
        except:  # noqa: E722
            continue


def test_code_that_catches_everything_is_stopped_all_the_same():
    rounds = []

    def swallowing():
        while len(rounds) < 2000:
            try:
                rounds.append(sum(range(300_000)))  # nearly all of the time is spent inside of `try`
            except:  # noqa: E722
                continue

    assert run_limited(swallowing, seconds=0.1).stopped == "time"
    assert len(rounds) < 1000


def polite():
    while True:
        try:
            time.sleep(0.001)
        except Exception:
            continue


def elsewhere(work):
    """The result of work() in another thread, as widgets' callbacks run there."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join(60)
    return found[0]


@pytest.mark.parametrize("work", [endless, stubborn, polite, lambda: time.sleep(600), threading.Event().wait])
def test_what_never_ends_is_stopped_in_the_main_thread(work):
    start = time.monotonic()
    outcome = run_limited(work, seconds=0.1)
    assert outcome.stopped == "time"
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("work", [endless, stubborn, polite, lambda: time.sleep(5)])
def test_what_never_ends_is_stopped_or_left_behind_in_another_thread(work, monkeypatch):
    monkeypatch.setattr(limits, "GRACE", 1.0)
    start = time.monotonic()
    assert elsewhere(lambda: run_limited(work, seconds=0.1)).stopped == "time"
    assert time.monotonic() - start < 20


def test_without_signals_as_on_windows_limits_hold_in_the_main_thread_too(monkeypatch):
    monkeypatch.delattr(signal, "pthread_kill")
    assert run_limited(endless, seconds=0.1).stopped == "time"
    assert run_limited(lambda: 3).value == 3


def test_the_verdict_names_the_line_that_never_ends():
    def answer(images, patch_size):
        while len(images):
            patch_size += 1

    text = str(check.patchify.examine(answer, seconds=6.0))  # time enough to get there on a busy machine
    assert "took too long and was stopped in test_check.py, line" in text
    assert text.endswith("is there a loop that never ends?")


def growing():
    kept = []
    while True:
        kept.append(bytearray(2**20))


def test_a_growing_memory_is_stopped():
    assert run_limited(growing, grow=2**26).stopped == "memory"
    assert elsewhere(lambda: run_limited(growing, grow=2**26)).stopped == "memory"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse no single request")
@pytest.mark.parametrize("work", [lambda: torch.ones(10**12), lambda: np.ones(10**12), lambda: [0] * 10**12])
def test_one_huge_request_is_refused_and_the_limit_taken_back(work):
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    assert run_limited(work).stopped == "memory"
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_the_stop_button_still_stops():
    def pressed():
        signal.raise_signal(signal.SIGINT)
        time.sleep(5)

    # a shell starts what runs in the background deaf to it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_limited(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
    assert run_limited(lambda: 3).value == 3


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no alarms here")
def test_somebody_elses_alarm_still_rings():
    heard = []
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append(1))
    try:
        run_limited(lambda: signal.raise_signal(signal.SIGALRM))
        assert run_limited(endless, seconds=0.05).stopped == "time"
        signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert heard == [1, 1]


def test_nothing_is_left_running():
    before = set(threading.enumerate())  # some of other tests may still be ending
    for work in (endless, stubborn, lambda: 3):
        run_limited(work, seconds=0.05)
    assert sys.gettrace() is None or "raise_at_next_line" not in repr(sys.gettrace())
    assert set(threading.enumerate()) <= before


# -- what is put back ------------------------------------------------------------------------------


def test_whatever_an_answer_changes_for_everybody_is_put_back(tmp_path):
    def vandal(images, patch_size):
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        random.seed(3)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_num_threads(torch.get_num_threads() + 1)
        os.chdir(tmp_path)
        sys.stdout = None
        raise ValueError

    def state():
        numbers = torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        return numbers, torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device(), os.getcwd()

    before, threads, out = state(), torch.get_num_threads(), sys.stdout
    check.patchify.examine(vandal)
    assert (state(), torch.get_num_threads(), sys.stdout) == (before, threads, out)
    elsewhere(lambda: check.patchify.examine(vandal))
    assert (state(), torch.get_num_threads(), sys.stdout) == (before, threads, out)


def test_a_session_with_other_defaults_is_judged_the_same():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            assert str(check.patchify.examine(right)).startswith("right.")
            assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_an_answer_that_changes_its_input_is_found_even_when_its_result_is_right():
    def answer(images, patch_size):
        tokens = right(images, patch_size)
        images.zero_()
        return tokens

    assert "changes its input in place" in str(check.patchify.examine(answer))


def test_random_numbers_in_an_answer_are_found():
    text = str(check.patchify.examine(lambda images, p: right(images, p) + torch.randn(1)))
    assert "another one at every call" in text


# -- writing a check -------------------------------------------------------------------------------


def double(x):
    return 2 * x


def exercise(**changes):
    settings = {
        "reference": double,
        "lesson": "99",
        "cases": lambda draw: [
            Case((draw.normal(2, 3),), "a small table"),
            Case((draw.normal(*draw.sizes(2)),), "any"),
        ],
        "mistakes": [
            "you squared it",
            lambda x: x * x,
            MatchesRule("much too large", lambda got, right: got.shape == right.shape and bool((got.abs() > 50).any())),
        ],
    }
    return Exercise("double", **(settings | changes))


def test_a_check_is_a_few_lines():
    mine = exercise()
    assert mine.examine(lambda x: x + x).status == "right"
    assert str(mine.examine(lambda x: x**2)).startswith("not yet: you squared it. ")
    assert str(mine.examine(lambda x: 100 * x)).startswith("not yet: much too large. ")
    assert "your answer is 1.5 times the right one" in str(mine.examine(lambda x: 3 * x))
    text = "axes 0 and 1 of your answer are swapped; apart from that it is right"
    assert text in str(mine.examine(lambda x: 2 * x.T))


def test_a_wrong_version_that_cannot_do_a_case_is_passed_over():
    mine = exercise(mistakes=["never", lambda x: x.reshape(7, 7), "squared", lambda x: x * x])
    assert "squared" in str(mine.examine(lambda x: x * x))


def test_a_hint_goes_with_all_the_wrong_versions_that_follow_it():
    squared, cubed, rule = (lambda x: x * x), (lambda x: x**3), MatchesRule("off", lambda got, right: True)
    found = with_hints(["a power", squared, cubed, rule, "half", lambda x: x / 2])
    assert [mistake.hint for mistake in found] == ["a power", "a power", "off", "half"]
    assert found[1] == MatchesOutput("a power", cubed)
    assert found[2] is rule


def test_an_exercise_with_random_numbers_is_judged_with_the_same_ones():
    noisy = exercise(reference=lambda x: x + torch.randn_like(x), mistakes=[])
    assert noisy.examine(lambda x: torch.randn_like(x) + x).status == "right"
    assert noisy.examine(lambda x: torch.rand_like(x) + x).status == "not yet"


def test_a_case_may_make_one_tensor_of_what_an_answer_gives():
    class Pair(Case):
        def use(self, answer, track=False):
            result, given = super().use(answer, track)
            return torch.stack(result), given

    mine = exercise(reference=lambda x: (x, 2 * x), cases=lambda draw: [Pair((draw.normal(3),), "three")])
    assert mine.examine(lambda x: [x, x + x]).status == "right"
    assert "of the values are wrong" in str(mine.examine(lambda x: [x, x]))
    assert "no gradient gets through" in str(mine.examine(lambda x: [x.detach(), 2 * x.detach()]))


@pytest.mark.parametrize(("words", "stop"), [("took too long", True), ("no second time", False)])
def test_an_answer_that_breaks_when_it_is_called_once_more_is_told_so(words, stop):
    calls = []

    def answer(x):
        calls.append(x)
        while stop and len(calls) > 2:
            pass
        if len(calls) > 2:
            raise RuntimeError("no second time")
        return 2 * x

    text = str(exercise().examine(answer, seconds=0.5))
    assert text.startswith("not yet: right at first, but not when it is called once more: ")
    assert words in text


def test_an_error_that_only_gradients_bring_about_is_about_gradients():
    text = str(exercise().examine(lambda x: torch.from_numpy(2 * x.numpy())))
    assert "no gradient gets through" in text


def test_a_session_without_gradients_is_asked_for_them_all_the_same():
    with torch.no_grad():
        assert "no gradient gets through" in str(check.patchify.examine(lambda a, p: right(a, p).detach()))


def test_module_cases_perturb_what_starts_at_zero():
    zero = nn.Linear(3, 2)
    nn.init.zeros_(zero.weight)
    case = ModuleCase((3, 2), "3 to 2", (torch.randn(5, 3),), zero, Draw(0))
    assert zero.weight.abs().min() > 0
    result, _ = case.use(nn.Linear)
    assert torch.equal(result, zero(case.given[0]))


def test_parameters_are_matched_by_shape_then_turned_then_by_number():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(3))
            self.turned = nn.Parameter(torch.zeros(8, 3))

    model = nn.Linear(8, 3)
    with torch.no_grad():
        pairs = {name: value for _, (name, value) in matched(Mixed(), model)}
    assert torch.equal(pairs["weight"], model.weight.T)
    two, other = (nn.ModuleDict({name: nn.Linear(2, 2) for name in names}) for names in ("ab", "ba"))
    for own, (name, _) in matched(two, other):
        assert own is two.get_parameter(name), "the name tells apart what has one shape"
    (kernel, (_, value)), _ = matched(nn.Conv2d(2, 3, 2), model)
    assert value.shape == kernel.shape
    assert torch.equal(value.flatten(1), model.weight)
    with pytest.raises(AnswerError, match=r"no weight of shape \(3, 8\)"):
        matched(nn.Linear(7, 3), model)
    with pytest.raises(AnswerError, match=r"does not need: 1\.weight"):
        matched(nn.Sequential(nn.Linear(8, 3), nn.Linear(3, 3)), model)


def test_how_far_off_is_said_in_numbers():
    expected = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    kind, text = difference(torch.tensor([[1.0, 2.0], [3.0, 4.5]]), expected)
    assert kind == "values"
    assert text == "25% of the values are wrong, by up to 0.5; the first, at [1, 1], is 4.5 instead of 4"
    assert difference(expected + 1e-7, expected) == ("", "")
    assert difference(torch.tensor(3.00002), torch.tensor(3.0), 1e-6)[1] == "it is 3.00002 instead of 3"
    one = torch.ones((), dtype=torch.float64)
    assert difference(one + 2e-8, one, 1e-9)[1].startswith("it is 1.00000002")
    table = torch.arange(12.0).reshape(3, 4)
    column = difference(table + torch.tensor([0, 0, 1, 0]), table)[1]
    assert column.startswith("only values at index 2 of axis 1 are wrong, by up to 1; the first, at [0, 2], is 3 ")
    most = torch.zeros(40, 40)
    most[0, 0] = 1
    assert difference(torch.zeros(40, 40), most - 1)[1].startswith("99% of the values are wrong")
    assert difference(torch.full((2, 2), torch.nan), expected)[0] == "values"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.flip(1), "axis 1 runs the wrong way"),
        (lambda x: x.roll(1, 0), "moved by one place along axis 0"),
        (lambda x: x.mT, "axes 0 and 1 of your answer are swapped; apart from that it is right"),
        (lambda x: x * torch.tensor([1.0, 2, 3])[:, None], "times factors that change along axis 0"),
        (lambda x: x + torch.tensor([1.0, 2, 3]), "plus numbers that change along axis 1"),
        (lambda x: x.abs(), "is the absolute value of the right one"),
        (lambda x: x**2, "is the square of the right one"),
        (lambda x: x + 1e-3 * x**2, "nearly right, within a hundredth"),
        (lambda x: x + x[0, 0] * x**2, "100% of the values are wrong"),
    ],
)
def test_something_better_than_a_share_is_said_where_it_is_true(change, words):
    cases = lambda draw: [Case((draw.normal(3, 3),), "3x3")]  # noqa: E731
    said = exercise(cases=cases, mistakes=[]).examine(lambda x: change(2 * x)).reason
    assert words in said
    assert said.startswith("100 %") == words.startswith("100 %")


# -- pictures and progress -------------------------------------------------------------------------


def test_expected_and_yours_are_drawn_side_by_side():
    def transposed(*args):
        return course.unpatchify(*args).mT

    picture = check.unpatchify.examine(transposed).picture()
    assert picture.png.startswith(b"\x89PNG")
    assert "expected, yours" in picture.alt
    assert picture.width < 500
    assert check.patchify.examine(lambda images, p: right(images, p).flip(2)).picture() is not None
    positions = check.sincos_position_embedding.examine(lambda *args: course.sincos_position_embedding(*args).flip(0))
    assert positions.picture() is not None


def test_where_there_is_nothing_to_compare_nothing_is_drawn():
    for answer in (right, stub, lambda images, p: images, lambda images, p: None):
        assert check.patchify.examine(answer).picture() is None
    nan = check.unpatchify.examine(lambda *args: course.unpatchify(*args) * torch.nan)
    assert nan.picture() is not None


def test_progress_counts_what_is_solved(capsys):
    assert str(check.progress()).startswith("0 of 6 exercises solved")
    check.patchify(right)
    check.unpatchify(lambda *args: course.unpatchify(*args) * 2)
    text = str(check.progress())
    assert text.startswith("1 of 6 exercises solved\n  ● 1.1      patchify  ")
    assert "◐ 1.2      unpatchify                   not yet: your answer is 2 times the right one" in text
    assert "○ 1.3      PatchEmbed                   not tried yet" in text
    html = check.progress("01")._repr_html_()
    assert "<b>1 of 6 exercises solved</b>" in html
    assert "&lt;" not in html.replace("<code>", "")


def test_progress_counts_as_the_notebooks_do():
    """Every check stands under the heading with its exercise's number."""
    for path in sorted((Path(__file__).parents[1] / "notebooks" / "solutions").rglob("*.ipynb")):
        label = "appendix"
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                label = (re.findall(r"^### Exercise ([\d.]+)", text, re.M) or [label])[-1]
            for name in re.findall(r"^\w+ = check\.(\w+)\(", text, re.M):
                assert getattr(check, name).label == label, name
    labels = [label for label, *_ in check.progress("08").rows]
    assert labels == [*(f"8.{number}" for number in range(1, 9)), "appendix"]


def test_long_verdicts_break_at_spaces(capsys):
    check.velocity_target(lambda x, noise: x - noise)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 100
    assert " ".join(lines).startswith(str(check.velocity_target.examine(lambda x, noise: x - noise)))


# -- in a notebook's kernel ------------------------------------------------------------------------

KERNEL = """
import threading, time, torch
from dit_course import check
import dit_course

def patchify(images, patch_size):
    while True:
        time.sleep(0.01)

first = check.patchify(patchify, seconds=0.3)

def patchify(images, patch_size):
    x = 3
    return x + undefined

second = check.patchify(patchify)

def unpatchify(*args):
    return dit_course.unpatchify(*args).mT

def endless(images, patch_size):
    while True:
        pass

class PatchEmbed(torch.nn.Module):
    def __init__(self, patch_size, channels, width):
        super().__init__()
        raise NotImplementedError
        self.width = width

check.PatchEmbed(PatchEmbed)
third = check.unpatchify(unpatchify)
thread = threading.Thread(target=lambda: print(check.patchify.examine(endless, seconds=0.3)))
thread.start(); thread.join()
print("still here", first is second is dit_course.patchify)
"""


@pytest.mark.slow
def test_limits_lines_and_pictures_in_a_notebooks_kernel(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(KERNEL)])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = notebook.cells[0].outputs
    text = " ".join("".join(output.get("text", "") for output in outputs).split())
    assert 'stopped in In[1], line 7: "time.sleep(0.01)"' in text
    assert "in In[1], line 13: \"return x + undefined\": NameError: name 'undefined' is not defined" in text
    assert "your picture comes back transposed" in text
    assert "your code stands below" in text
    assert "still here True" in text
    assert "took too long" in text.rpartition("transposed")[2]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_the_checks_import_fast_and_without_matplotlib():
    code = "import dit_course.check, sys; print('matplotlib' in sys.modules, 'IPython' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == ["False", "False"], run.stderr


def test_right_on_some_inputs_only_asks_what_fits_the_exercise():
    for question in (SIZES, OTHERWISE, "what about negative numbers?"):
        inputs = [Case((torch.tensor([2.0, 3.0]),), "plain"), Case((torch.tensor([-2.0, 4.0]),), "signed")]
        exercise = Exercise("own", lambda x: x.clone(), "99", lambda draw, inputs=inputs: inputs, partly=question)
        said = str(exercise.examine(lambda x: x.abs()))
        wanted = OTHERWISE if question == SIZES else question  # sizes are the same here, and only values differ
        assert said.startswith(f"not yet: right on plain, but not on signed: {wanted} 50% of the values are wrong")


# -- what values do not show -----------------------------------------------------------------------


def scale(x, factor=2.0):
    return x * factor


def with_another_default(x, factor=3.0):
    return x * factor


def partly_detached(x, factor=2.0):
    return x + (factor - 1) * x.detach()


def sets_the_seed(x, factor=2.0):
    torch.manual_seed(0)
    return x * factor


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (with_another_default, "`factor` has the default 3.0, and `factor=2.0`"),
        (partly_detached, "the gradient of `x` is not the one that the formula has"),
        (sets_the_seed, "it sets torch's random numbers back"),
    ],
)
def test_right_values_are_not_all(answer, words):
    mine = exercise(reference=scale, cases=lambda draw: [Case((draw.normal(3, 2), 2.0), "3x2")], mistakes=[])
    assert mine.examine(lambda x, factor=2.0: factor * x).status == "right"
    assert words in mine.examine(answer).reason
    assert mine.examine(answer).reason.startswith("your values are right, but ")


def test_free_inputs_may_have_any_gradient():
    cases = lambda draw: [Case((draw.normal(3, 2), 2.0), "3x2")]  # noqa: E731
    assert "the gradient of `x`" in exercise(reference=scale, cases=cases, mistakes=[]).examine(partly_detached).reason
    assert exercise(reference=scale, cases=cases, mistakes=[], free=("x",)).examine(partly_detached).status == "right"


def test_the_gradient_of_an_input_behind_a_function_has_its_name():
    def applied(function, x):
        return function(x) * x

    own = exercise(reference=applied, cases=lambda draw: [Case((torch.sin, draw.normal(3)), "a")], mistakes=[])
    assert "the gradient of `x`" in own.examine(lambda function, x: function(x) * x.detach()).reason


def test_a_case_may_allow_to_seed():
    class Repeated(Case):
        may_seed = True

    for kind, status in ((Case, "not yet"), (Repeated, "right")):
        mine = exercise(reference=scale, cases=lambda draw, kind=kind: [kind((draw.normal(2), 2.0), "2")], mistakes=[])
        assert mine.examine(sets_the_seed).status == status


def test_a_case_says_in_which_modes_it_is_tried():
    class Evaluated(ModuleCase):
        modes = (False,)

    for kind, status in ((ModuleCase, "not yet"), (Evaluated, "right")):
        cases = lambda draw, kind=kind: [kind((6,), "6", (draw.normal(4, 6),), Layer(6).eval(), draw)]  # noqa: E731
        assert exercise(reference=Layer, cases=cases, mistakes=[]).examine(OnlyInEvaluation).status == status


def halves(x):
    if len(x) % 2:
        raise ValueError(f"{len(x)} is odd")
    return x[: len(x) // 2]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: x[: len(x) // 2], "with 3 numbers it should raise ValueError, and raises nothing"),
        (lambda x: x.unflatten(0, (2, -1))[0], 'raises RuntimeError: keep or write the guard, as in "3 is odd"'),
    ],
)
def test_what_the_text_refuses_is_refused(answer, words):
    options = {"cases": lambda draw: [Case((draw.normal(4),), "4")], "mistakes": []}
    mine = exercise(reference=halves, refused=lambda draw: [Case((draw.normal(3),), "3 numbers")], **options)
    assert mine.examine(lambda x: halves(x)).status == "right"
    assert words in mine.examine(answer).reason
    assert exercise(reference=halves, **options).examine(answer).status == "right"


def test_both_ends_are_tried():
    t = torch.tensor([0.3, 0.5, 0.9])
    mine = exercise(reference=lambda x, t: x * t, cases=lambda draw: [Case((draw.normal(3), t), "3")], mistakes=[])
    assert mine.examine(lambda x, t: t * x).status == "right"
    assert "where `t` is exactly 0 or 1" in mine.examine(lambda x, t: x * t.clamp(0.02, 0.98)).reason


class Layer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.linear(x) * self.gain


class Frozen(Layer):
    def __init__(self, width):
        super().__init__(width)
        self.linear.bias.requires_grad_(False)


class WithoutGain(Layer):
    def forward(self, x):
        return self.linear(x) * self.gain.detach()


class Large(Layer):
    def __init__(self, width):
        super().__init__(width)
        nn.init.normal_(self.linear.weight, std=30)


class AllTheSame(Layer):
    def __init__(self, width):
        super().__init__(width)
        nn.init.eye_(self.linear.weight)


class StartsAtZero(Layer):
    def __init__(self, width):
        super().__init__(width)
        nn.init.zeros_(self.gain)


class StaysInEvaluation(Layer):
    def forward(self, x):
        self.eval()
        return super().forward(x)


class OnlyInEvaluation(Layer):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, self.training)


class Remembers(Layer):
    def forward(self, x):
        self.first = getattr(self, "first", x)
        return super().forward(self.first)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Frozen, "no gradient reaches `linear.bias`, which would never learn"),
        (WithoutGain, "no gradient reaches `gain`, which would never learn"),
        (Large, "`linear.weight` starts too large"),
        (AllTheSame, "`linear.weight` is the same in every new module"),
        (StartsAtZero, "`gain` should start at 1"),
        (StaysInEvaluation, "it leaves the module in another mode"),
        (OnlyInEvaluation, "in training mode, after `.train()`, your module gives another result"),
        (Remembers, "something is kept from the first"),
    ],
)
def test_a_module_with_right_values_is_looked_at_again(answer, words):
    def cases(draw):
        return [ModuleCase((6,), "6 features", (draw.normal(4, 6),), Layer(6).eval(), draw)]

    class Turned(Layer):  # another order, and another initialization
        def __init__(self, width):
            super().__init__(width)
            nn.init.xavier_uniform_(self.linear.weight)

        def forward(self, x):
            return self.gain * (x @ self.linear.weight.T + self.linear.bias)

    mine = exercise(reference=Layer, cases=cases, mistakes=[])
    assert mine.examine(Turned).status == "right"
    assert words in mine.examine(answer).reason


class Xavier(Layer):
    def __init__(self, width, scale=1.0):
        super().__init__(width)
        nn.init.xavier_normal_(self.linear.weight, scale)
        nn.init.zeros_(self.linear.bias)


class TooLarge(Xavier):
    def __init__(self, width):
        super().__init__(width, 1.1)


def test_an_exact_initialization_is_compared_closely():
    class Uniform(Xavier):
        def __init__(self, width):
            super().__init__(width)
            nn.init.xavier_uniform_(self.linear.weight)

    cases = lambda draw: [ModuleCase((6,), "6 features", (draw.normal(4, 6),), Xavier(6).eval(), draw)]  # noqa: E731
    for exact in (True, False):
        mine = exercise(reference=Xavier, cases=cases, mistakes=[], exact=exact)
        assert mine.examine(Uniform).status == "right"
        assert mine.examine(TooLarge).status == mine.examine(Layer).status == ("not yet" if exact else "right")
    mine = exercise(reference=Xavier, cases=cases, mistakes=[], exact=True)
    assert "`linear.weight` starts too large" in mine.examine(TooLarge).reason


def test_a_loss_that_is_a_new_leaf_is_no_loss():
    mine = exercise(reference=lambda x: x.square().mean(), mistakes=[])
    assert mine.examine(lambda x: (x * x).mean()).status == "right"
    leaf = mine.examine(lambda x: (x * x).mean().detach().requires_grad_())
    assert "no gradient reaches `x`" in leaf.reason

"""Answers that do harm: the kernel lives, the verdict is right, and afterwards all is as before."""

import builtins
import inspect
import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from torch import nn

from dit_course import check, patches
from dit_course.check.engine import verdict
from dit_course.check.engine.exercise import Case, Exercise
from dit_course.check.engine.limits import run_limited
from dit_course.check.engine.tampering import put_back

TIME, MEMORY, ENDS, ERROR = "took too long", "wanted too much memory", "it ends the whole program", "an error stopped"
BORROWED, REPLACES, RUNNING = "they are the course's: your code calls its", "your code replaces", "leaves it running"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="signals and limits of Linux")


@pytest.fixture(autouse=True)
def _nothing_solved(monkeypatch):
    monkeypatch.setattr(Exercise, "may_borrow", False)
    monkeypatch.setattr(verdict, "verdicts", {})
    kept = list(verdict.exercises)
    yield
    verdict.exercises[:] = kept
    put_back()


def double(x):
    return 2 * x


def doubling(reference=double, **options):
    cases = lambda draw: [Case((draw.normal(*draw.sizes(2)),), "a table"), Case((draw.normal(4),), "a row")]  # noqa: E731
    return Exercise("double", reference, "99", cases, **options)


def endless_python(x):
    while True:
        pass


def deaf_to_all_exceptions(x):
    while True:
        try:
            sum(range(100))
        except BaseException:
            continue


def long_in_c(x):
    sum(itertools.islice(itertools.count(), 10_000_000))
    return 2 * x


def long_in_torch(x):
    for _ in range(1000):
        torch.ones(700, 700) @ torch.ones(700, 700)


def asleep(x):
    time.sleep(1000)


def takes_the_alarm(x):
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    while True:
        pass


def lets_the_alarm_kill(x):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    while True:
        pass


def leaves_an_alarm(x):
    signal.alarm(1)
    return 2 * x


def stops_the_clock(x):
    time.monotonic = lambda: 0
    while True:
        pass


def one_huge_tensor(x):
    return torch.ones(10**12)


def deep(x):
    return deep(x)


def deeper_than_the_stack(x):
    sys.setrecursionlimit(10**9)

    class Loop(nn.Module):
        def forward(self, x):
            return self(x)

    return Loop()(x)


def exits(x):
    exit()


def exits_at_once(x):
    os._exit(3)


def raises_everything(x):
    raise BaseException("no Exception")


def leaves_a_thread(x):
    threading.Thread(target=endless_python, args=(x,), daemon=True).start()
    return 2 * x


def waits_for_its_thread(x):
    found = []
    thread = threading.Thread(target=lambda: found.append(2 * x))
    thread.start()
    thread.join()
    return found[0]


def replaces_the_comparison(x):
    torch.isclose = torch.allclose = lambda *args, **options: torch.tensor(True)
    return x


def replaces_a_method(x):
    torch.Tensor.__mul__ = lambda a, b: a
    return x


def replaces_len(x):
    builtins.len = lambda x: 3
    return 2 * x


def goes_through_the_stack(x):
    frame = inspect.currentframe()
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if isinstance(value, Exercise):
                return value.reference(x)
        frame = frame.f_back


def finds_the_result_on_the_stack(x):
    frame = inspect.currentframe()
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if isinstance(value, torch.Tensor) and value.shape == x.shape and not torch.equal(value, x):
                return value.clone()
        frame = frame.f_back
    return x


def floods(x):
    for _ in range(2000):
        print("x" * 1000)
        sys.stderr.write("y" * 1000)
    return 2 * x


def closes_the_output(x):
    sys.stdout = None
    return 2 * x


def switches_strictness_off(x):
    os.environ["DIT_COURSE_STRICT"] = "0"
    return x


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (endless_python, TIME),
        (deaf_to_all_exceptions, TIME),
        (long_in_c, TIME),
        (long_in_torch, TIME),
        (asleep, TIME),
        pytest.param(takes_the_alarm, TIME, marks=LINUX),
        pytest.param(lets_the_alarm_kill, TIME, marks=LINUX),
        pytest.param(leaves_an_alarm, "right", marks=LINUX),
        (stops_the_clock, REPLACES),
        pytest.param(one_huge_tensor, MEMORY, marks=LINUX),
        (deep, "RecursionError"),
        (deeper_than_the_stack, "RecursionError"),
        (exits, ENDS),
        (exits_at_once, ENDS),
        (raises_everything, ENDS),
        (leaves_a_thread, RUNNING),
        (waits_for_its_thread, "right"),
        (replaces_the_comparison, f"{REPLACES} `torch.allclose`, `torch.isclose` for everybody"),
        (replaces_a_method, f"{REPLACES} `Tensor.__mul__`"),
        (replaces_len, f"{REPLACES} `len`"),
        (goes_through_the_stack, BORROWED),
        (finds_the_result_on_the_stack, "compute the result from the inputs"),
        (lambda x: double(x), BORROWED),
        (floods, "It also prints"),
        (closes_the_output, "right"),
        (switches_strictness_off, "not yet"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_kernel_lives_and_the_verdict_is_right(answer, words, capsys):
    before = set(threading.enumerate()), dict(os.environ), sys.getrecursionlimit(), sys.stdout, os._exit
    said = str(doubling().examine(answer, seconds=0.25))
    assert words in said
    assert said.startswith("right") == (words in ("right", "It also prints"))
    assert "cannot read" not in said
    after = set(threading.enumerate()), dict(os.environ), sys.getrecursionlimit(), sys.stdout, os._exit
    assert (after[0] <= before[0], *after[1:]) == (True, *before[1:])
    assert not put_back()
    if hasattr(signal, "getitimer"):
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert capsys.readouterr() == ("", "")
    assert doubling().examine(lambda x: x + x).status == "right"


def test_memory_that_grows_is_stopped(monkeypatch):
    monkeypatch.setattr("dit_course.check.engine.limits.BYTES", 2**26)
    kept = []
    assert MEMORY in str(doubling().examine(lambda x: [kept.append(bytearray(2**20)) for _ in itertools.count()]))


def test_what_a_cell_has_replaced_is_put_back_before_the_check():
    torch.relu = lambda x: x
    said = str(doubling().examine(lambda x: x + x))
    assert said.startswith("not yet: your code replaces `torch.relu` for everybody")
    assert torch.relu(torch.tensor(-1.0)) == 0
    assert doubling().examine(lambda x: x + x).status == "right"


def test_what_libraries_replace_stays():
    original = torch.sin
    try:
        torch.sin = torch.cos  # torch's own: no code of a learner
        assert put_back() == []
        assert torch.sin is torch.cos
    finally:
        torch.sin = original


@pytest.mark.parametrize("change", ["imported", "inherited", "made inside", "its method", "its code"])
def test_the_courses_own_version_is_no_answer(change):
    class Inside(nn.Module):
        def __init__(self, patch_size, channels, width):
            super().__init__()
            self.inner = patches.PatchEmbed(patch_size, channels, width)

        def forward(self, images):
            return self.inner(images)

    class Method(patches.PatchEmbed):
        def forward(self, images):
            return super().forward(images)

    answers = {
        "imported": ("patchify", lambda images, patch_size: patches.patchify(images, patch_size)),
        "inherited": ("PatchEmbed", type("PatchEmbed", (patches.PatchEmbed,), {})),
        "made inside": ("PatchEmbed", Inside),
        "its method": ("PatchEmbed", Method),
        "its code": ("patchify", type(double)(patches.patchify.__code__, vars(patches))),
    }
    name, answer = answers[change]
    assert f"{BORROWED} `{name}`" in getattr(check, name).examine(answer).reason


def test_the_courses_version_may_be_called_by_its_own_parts():
    """What the course's modules call is theirs: only calls from a learner's line count."""
    embed = patches.PatchEmbed(2, 1, 3)  # calls `patchify`
    own = Exercise("own", patches.patchify, "99", lambda draw: [Case((draw.normal(2, 1, 4, 6), 2), "pictures")])

    def answer(images, p):
        embed(images)
        return images.unfold(2, p, p).unfold(3, p, p).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)

    assert own.examine(answer).status == "right"


def test_a_thread_of_a_library_is_left_alone():
    event = threading.Event()
    thread = threading.Thread(target=event.wait, daemon=True)
    assert not run_limited(thread.start).threads
    assert thread.is_alive()
    event.set()
    thread.join()


KERNEL = """
from IPython.display import display
from dit_course import check

def patchify(images, patch_size):
    for _ in range(100):
        display("flooded")
    exit()

check.patchify(patchify)
print("it lives")
"""


@pytest.mark.slow
def test_an_exit_in_a_notebook_does_not_end_the_kernel(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    cells = [nbformat.v4.new_code_cell(text) for text in (KERNEL, "print('and lives')")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    first, second = ("".join(o.get("text", str(o.get("data"))) for o in cell.outputs) for cell in notebook.cells)
    assert ENDS in " ".join(first.split())  # the verdict is wrapped
    assert "it lives" in first
    assert "flooded" not in first
    assert second == "and lives\n"


FORK = """
import os
from dit_course.check.engine.limits import run_limited

def work():
    child = os.fork()
    if not child:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

print(run_limited(work).value)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no children here")
def test_a_child_process_may_end():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=300)
    assert done.stdout == "7\n", done.stderr


def test_a_check_that_takes_long_says_so(capsys, monkeypatch):
    monkeypatch.setenv("DIT_COURSE_PATIENCE", "0.05")
    slow = doubling(reference=lambda x: 2 * x)
    slow(lambda x: time.sleep(0.1) or 2 * x)
    assert capsys.readouterr().out.startswith("checking ...\nright. ")
    monkeypatch.setenv("DIT_COURSE_PATIENCE", "50")
    slow(lambda x: 2 * x)
    assert capsys.readouterr().out.startswith("right. ")

"""Fixtures shared by all tests.

The helpers are fixtures of session scope that return functions, so that Hypothesis may use them too.
"""

import pytest
import torch
from hypothesis import HealthCheck, settings

from dit_course.check.engine.exercise import Exercise
from dit_course.dit import DiT, DiTConfig

# no deadline: on a busy laptop a slow example is no bug; the same examples in every run
settings.register_profile(
    "course",
    deadline=None,
    max_examples=15,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("course")

torch.set_num_threads(1)  # for models this small more threads only get into each other's way


Exercise.may_borrow = True  # most answers of tests are the course's own version, or a change of it

ALONE = "test_mutants.py"  # its many tests share nothing: they fill the gaps between the files


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `--dist loadfile`: a file stays on one worker, because its tests share what they trained, but for ALONE.

    Groups (`--dist loadgroup`) would do, but pytest-xdist 3.8 does not see them with pytest 9.2, and says nothing.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return nodeid if file.endswith(ALONE) else file

    return Scheduling(config, log)


def pytest_sessionfinish(session):
    """Fail where a file was run by two workers after all: everything passes then, but it takes twice as long."""
    if session.config.getoption("dist", "no") != "loadfile":
        return
    reporter, workers = session.config.pluginmanager.get_plugin("terminalreporter"), {}
    for report in reporter.stats.get("passed", []):
        if hasattr(report, "node"):  # not with -n 0
            workers.setdefault(report.nodeid.partition("::")[0], set()).add(report.node.gateway.id)
    for file, names in workers.items():
        if len(names) > 1 and not file.endswith(ALONE):
            reporter.write_line(f"\n{file} was run by {len(names)} workers: see pytest_xdist_make_scheduler", red=True)
            session.exitstatus = 1


def pytest_terminal_summary(terminalreporter):
    """Count the mutants at the end, where they were run: what workers print is lost."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    if any(ALONE in report.nodeid for report in reports):
        import mutants

        terminalreporter.write_line("")
        for line in mutants.summary():
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same random state and on the same default dtype, whatever ran before."""
    torch.manual_seed(0)
    yield
    assert torch.get_default_dtype() == torch.float32, "a test left another default dtype behind"
    assert torch.is_grad_enabled(), "a test left gradients switched off"


@pytest.fixture(autouse=True)
def _figures_fit_the_page(request, monkeypatch):
    """Whatever a test of figures draws is no wider than a notebook's page, and says what it shows."""
    if not request.path.name.startswith("test_show"):
        return
    from dit_course.show.layout import PAGE_WIDTH, Picture

    made = Picture.__init__

    def make(self, png, width, height, alt, pixels=None):
        made(self, png, width, height, alt, pixels)
        assert 0 < width <= PAGE_WIDTH, f"{width} pixels wide: {alt}"
        assert alt

    monkeypatch.setattr(Picture, "__init__", make)


def _perturbed(model, std=0.2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(std * noise.to(parameter.dtype))
    return model


@pytest.fixture(scope="session")
def perturbed():
    """`perturbed(model)` adds noise to all parameters, in place: zeroed layers hide all the others."""
    return _perturbed


def _small_config(**changes):
    return DiTConfig(
        **{
            "image_size": (8, 12),
            "patch_size": 4,
            "channels": 3,
            "width": 24,
            "depth": 2,
            "heads": 3,
            "registers": 2,
            "num_classes": 5,
            **changes,
        }
    )


@pytest.fixture(scope="session")
def small_config():
    """`small_config(depth=3, ...)`: a tiny DiT on 8x12 pictures, where height is not width."""
    return _small_config


@pytest.fixture(scope="session")
def small_dit():
    """`small_dit(depth=3, ...)`: a tiny DiT in float64 and eval mode, all parameters perturbed."""

    def make(std=0.2, seed=1, **changes):
        torch.manual_seed(seed)
        return _perturbed(DiT(_small_config(**changes)).double().eval(), std, seed)

    return make


@pytest.fixture(scope="session")
def one_line_error():
    """`with one_line_error(ValueError, "width"):` expects an error of one line that names all the words."""

    class Expect:
        def __init__(self, kind, *words):
            self.kind, self.words = kind, words

        def __enter__(self):
            return self

        def __exit__(self, kind, error, traceback):
            self.error = error
            assert kind is not None, f"no {self.kind.__name__} was raised"
            if not issubclass(kind, self.kind):
                return False
            message = str(error)
            assert message, "the error says nothing"
            assert "\n" not in message, f"more than one line: {message!r}"
            for word in self.words:
                assert str(word).lower() in message.lower(), f"{word!r} is not named in: {message}"
            return True

    return Expect

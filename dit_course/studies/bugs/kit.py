"""A kit of probes: small tests of any code with the course's signatures (lesson 12, `bug_hunt`).

A probe takes the code, a namespace such as `dit_course` itself or `right_code()`. It returns when all is well, and
raises AssertionError when not. None needs a trained model, and all together take less than a second.
"""

import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from dit_course.data import atomic_write
from dit_course.studies.bugs.code import right_code


def probe_average(code) -> None:
    """After a hundred updates with warm-up, an EMA has left its start and is near the model's weights."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    ema = code.EMA(model, decay=0.9999)
    nn.init.constant_(model.weight, 1.003)
    for _ in range(100):
        ema.update(model)
    moved = (ema.model.weight.item() - 1) / 0.003
    assert moved > 0.5, f"after 100 updates the average has come {moved:.0%} of the way"


def probe_solver(code) -> None:
    """Euler evaluates the velocity at the time where each step begins."""
    told, ts = [], torch.linspace(1, 0, 5)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        told.append(t[0].item())
        return torch.zeros_like(x)

    code.euler(velocity, torch.zeros(3, 1, 2, 2), ts)
    expected = ts[:-1].tolist()
    assert told == expected, f"steps begin at {expected}, and the velocity was told {[round(t, 2) for t in told]}"


def probe_guidance(code) -> None:
    """v_no_label + cfg (v_label - v_no_label), in every channel."""

    def model(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        has_label = (y != 2).float()
        return has_label[:, None, None, None].expand_as(x)  # 1 with a label, 0 without

    model.config = SimpleNamespace(num_classes=2)
    velocity = code.guided(model, torch.tensor([0, 1]), cfg=3.0)
    v = velocity(torch.zeros(2, 5, 4, 4), torch.ones(2))
    assert torch.allclose(v, torch.tensor(3.0)), f"0 + 3 (1 - 0) in each channel: {v.mean(dim=(0, 2, 3)).tolist()}"


def probe_labels(code) -> None:
    """In training a share of the labels becomes "no label"; outside of training none does."""
    embed = code.LabelEmbedder(3, 4, dropout=0.5)
    labels = torch.ones(400, dtype=torch.int64)
    with torch.no_grad():
        embed.table.weight.copy_(torch.arange(4.0)[:, None].expand(4, 4))  # the vector of class k is k, k, k, k
        trained, sampled = embed.train()(labels)[:, 0], embed.eval()(labels)[:, 0]
    assert (sampled == 1).all(), "labels are dropped while sampling, too"
    assert ((trained == 1) | (trained == 3)).all(), f"label 1 became {trained.unique().tolist()}, 3 is no label"
    share = (trained == 3).float().mean()
    assert 0.35 < share < 0.65, f"{share:.0%} of the labels were dropped, not half"


def probe_start(code) -> None:
    """adaLN-Zero: a new DiT predicts a velocity of exactly zero."""
    config = code.DiTConfig(image_size=(8, 12), patch_size=4, width=16, depth=2, heads=2)
    v = code.DiT(config)(torch.randn(2, 3, 8, 12), torch.rand(2), torch.tensor([0, 1]))
    assert (v == 0).all(), f"a new model predicts velocities up to {v.abs().max():.2f}"


def probe_loss(code) -> None:
    """Each picture of a batch gets one time and noise of its own, whatever the sizes."""
    x, t = torch.zeros(6, 1, 6, 6), torch.linspace(0, 1, 6)
    x_t = code.interpolate(x, torch.ones(6, 1, 6, 6), t)
    found = [sorted({round(value, 2) for value in picture.flatten().tolist()}) for picture in x_t]
    assert torch.allclose(x_t, t[:, None, None, None].expand_as(x)), f"data 0 and noise 1 at t = 0.2 make {found[1]}"
    seen = []
    code.RectifiedFlow().loss(lambda x_t, t: seen.append(x_t) or x_t, torch.zeros(2, 1, 32, 32))
    alike = torch.corrcoef(seen[0].flatten(1))[0, 1]  # (2, 1, 32, 32) -> (2, 1024)
    assert alike < 0.5, f"the noises of two pictures correlate by {alike:.2f}"


def probe_mediocre(code) -> None:
    """The sinusoids move while t goes from 0 to 1, and tell neighboring times apart."""
    embed = code.TimestepEmbedder(16)
    moving = embed.sinusoids(torch.linspace(0, 1, 101)).std(dim=0) > 0.1
    assert moving.float().mean() > 0.4, f"only {moving.float().mean():.0%} of the sinusoids move at all"
    first, second = embed.sinusoids(torch.tensor([0.7, 0.7005]))
    assert (first - second).abs().max() > 0.05, "0.7 and 0.7005 are the same time"


def probe_too_good(code) -> None:
    """Bytes become [-1, 1], and no two steps of a training draw the same noise."""
    ends = code.to_float(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
    assert ends == [-1, 1], f"bytes 0 and 255 become {ends}"
    drawn, model = [], nn.Linear(1, 1)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        drawn.append(torch.randn(4))
        return model(torch.ones(1)).sum()

    images, labels = torch.zeros(8, 1, 4, 4, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64)
    list(code.training_loop(model, SimpleNamespace(loss=loss), images, labels, steps=2, batch_size=4))
    assert not torch.equal(*drawn), "the second step draws the noise of the first once more"


def probe_unseen(code) -> None:
    """Pictures that are no squares survive patches; the final modulation is shift, then scale."""
    x = torch.randn(2, 3, 8, 12)
    back = code.unpatchify(code.patchify(x, 4), 4, 3, 8, 12)
    assert torch.equal(back, x), "8x12 pixels come back in another order"
    layer = code.FinalLayer(4, 4)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.eye(4))
        layer.modulation.bias[:4] = 1  # the first half
    out = layer(torch.zeros(1, 3, 4), torch.zeros(1, 4))
    assert torch.allclose(out, torch.ones(1, 3, 4)), "the first half of the modulation does not shift"


def probe_step(code) -> None:
    """Two steps on the same loss, with plain gradient descent, go equally far."""
    model = nn.Linear(2, 1, bias=False)
    flow = SimpleNamespace(loss=lambda model, x, y: model(x).mean())
    optimizer, places = torch.optim.SGD(model.parameters(), lr=0.1), [model.weight.detach().clone()]
    for _ in range(2):
        code.training_step(model, flow, optimizer, torch.ones(3, 2), None, clip=1e9)
        places.append(model.weight.detach().clone())
    first, second = (b - a for a, b in pairwise(places))
    assert torch.allclose(first, second), f"the second step is {(second / first).mean():.1f} times as long"


KIT = (
    probe_average, probe_solver, probe_guidance, probe_labels, probe_start, probe_loss, probe_mediocre, probe_too_good,
    probe_unseen, probe_step,
)  # fmt: skip


def catches(probe: Callable, code) -> str | None:
    """What a probe says of some code: None when it passes, else the first line of its complaint."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            probe(code)
        except Exception as error:
            return (str(error) or type(error).__name__).splitlines()[0]
    return None


def examine(code, probes: Sequence[Callable] = KIT) -> Iterator[str]:
    """A line for each probe: ok, what it complains about, or which part the code does not have."""
    for probe in probes:
        try:
            probe(code)
            said = "ok"
        except AttributeError as error:
            said = f"not tested: there is no {error.name}" if error.obj is code else f"COMPLAINS: {error}"
        except Exception as error:
            said = f"COMPLAINS: {error or type(error).__name__}"
        yield f"{probe.__name__:<16} {said}"


HEAD = '''"""My probes: each tests one property of code with the signatures of dit_course, without a trained model.

    import probe_kit
    print("\\n".join(probe_kit.examine(code)))   # code: a module or a namespace with DiT, euler, guided, EMA, ...
"""

from itertools import pairwise
from types import SimpleNamespace

import torch
from torch import Tensor, nn
'''
TAIL = """if __name__ == "__main__":
    import dit_course

    print("\\n".join(examine(dit_course)))
"""


def save_kit(probes: Sequence[Callable], path: str | Path = "probe_kit.py") -> Path:
    """Write probes into a Python file that needs torch alone, and try the file on right code.

    Raises ValueError for a probe that uses other names than the file's imports.
    """
    sources = [textwrap.dedent(inspect.getsource(probe)).strip() for probe in probes]
    kit = f"KIT = ({', '.join(probe.__name__ for probe in probes)},)"
    runner = inspect.getsource(examine).replace("Sequence[Callable]", "tuple").replace(" -> Iterator[str]", "")
    parts = [HEAD.strip(), *sources, kit, runner.strip(), TAIL.strip()]
    text = "\n\n\n".join(parts) + "\n"
    saved = {"__name__": "probe_kit"}
    exec(compile(text, str(path), "exec"), saved)
    for probe in probes:
        if complaint := catches(saved[probe.__name__], right_code()):
            raise ValueError(
                f"{probe.__name__} complains about right code when it stands alone: {complaint}. Helpers and imports "
                "from other cells belong inside the function"
            )
    atomic_write(Path(path), text.encode())
    return Path(path)

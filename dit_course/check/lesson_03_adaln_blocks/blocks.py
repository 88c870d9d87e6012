"""Lesson 03, second half: the block with adaLN-Zero, and the last layer."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dit_course import blocks
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import Draw, Exercise, ModuleCase
from dit_course.check.engine.modules import AnswerError
from dit_course.check.lesson_03_adaln_blocks import blocks_mistakes as wrong
from dit_course.check.lesson_03_adaln_blocks.conditioning import FIRST_ONLY
from dit_course.conditioning import modulate


@dataclass(frozen=True)
class BornCase(ModuleCase):
    """A module that, once it computes the right thing, is also asked what it does when it is new.

    born: is given a new module and what it is called with; returns what is wrong with it, "" for nothing.
    """

    born: Callable[[nn.Module, tuple], str] = None

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Build, load, call; then look at a new one, whose weights are as the answer makes them."""
        try:
            result, given = super().use(answer, track)
        except (RuntimeError, ValueError) as error:
            if isinstance(self.module, blocks.FinalLayer) and all(f"({size})" in str(error) for size in self.args[:2]):
                raise AnswerError(RESIDUAL) from error
            if any(words in str(error) for words in MISFITS):  # it comes up in `modulate`, and is no fault of that
                raise AnswerError(
                    f"the pieces of the modulation do not fit ({' '.join(str(error).split())}). Each should have the "
                    "shape (batch, 1, width): is there an axis for the tokens, and are the pieces cut along the last "
                    "axis?"
                ) from error
            raise
        kept = all(same(after, before) for after, before in zip(given, self.given, strict=True))
        if not track and kept and same(result, self.module(*self.given)):
            fresh = answer(*self.args).to(self.given[0].dtype)
            complaint = self.born(fresh, tuple(x.clone() for x in self.given))
            if complaint:
                raise AnswerError(complaint)
        return result, given


RESIDUAL = "x is added to what comes out, as in a block: the last layer has no residual, its tokens become patches"
MISFITS = ("must match the size of tensor", "values to unpack")

# -- DiTBlock --------------------------------------------------------------------------------------


def born_as_identity(block: nn.Module, given: tuple) -> str:
    """A new block hands its tokens through, all of it can learn, and its modulation is where later cells look."""
    x, condition = given
    if not isinstance(getattr(block, "modulation", None), nn.Module):
        return "right, but the next cells look for its modulation as `self.modulation`: give the layer this name"
    out = block(x.clone(), condition)
    if (out - x).abs().max() > 1e-6:
        return (
            "with given weights your block is right, but a new one changes its tokens: its gates do "
            "not start at zero. Which layer makes them, and how does it begin?"
        )
    if any(p.count_nonzero() for p in block.modulation.parameters()):
        return "right, and a new block is the identity. But *all* weights and biases of the modulation start at zero"
    if not all(p.requires_grad for p in block.modulation.parameters()):
        return "right, but the modulation is frozen (requires_grad=False), so no gate would ever open"
    dead = never_moved(block, given) if out.requires_grad else []  # else the check says so in words of its own
    if dead:
        return (
            f"with given weights your block is right, and a new one is the identity. But `{dead[0]}` would never "
            "learn: a gate *and* its layer are zero, and zero times zero gives neither of them a gradient. Only the "
            "modulation starts at zero"
        )
    return ""


def never_moved(block: nn.Module, given: tuple) -> list[str]:
    """The names of parameters that have no gradient in any of three steps of training."""
    left = dict(block.named_parameters())
    for _ in range(3):
        loss = (block(*given) * given[0].roll(1, dims=1)).sum()
        slopes = torch.autograd.grad(loss, list(left.values()), allow_unused=True)
        moved = {name for name, slope in zip(left, slopes, strict=True) if slope is not None and slope.any()}
        with torch.no_grad():
            for (name, own), slope in zip(left.items(), slopes, strict=True):
                own -= 0.1 * slope / slope.norm() if name in moved else 0
        left = {name: own for name, own in left.items() if name not in moved}
        if not left:
            break
    return list(left)


def block_cases(draw: Draw) -> list[BornCase]:
    """Blocks of two sizes and both norms, tokens and conditions for them."""
    cases = []
    for norm, ratio, qk_norm in (("rms", 4.0, True), ("layer", 2.0, False)):
        batch, tokens, heads = draw.sizes(3)
        args = (4 * heads, heads, ratio, qk_norm, norm)
        given = (draw.normal(batch, tokens, 4 * heads), draw.normal(batch, 4 * heads))
        label = f"{batch} pictures of {tokens} tokens, width {4 * heads}, {heads} heads"
        cases.append(BornCase(args, label, given, blocks.DiTBlock(*args), draw, born_as_identity))
    return cases


BLOCK_SILU = "the SiLU before the modulation is missing: F.silu(condition) goes in"
BLOCK_BEND = "the activation before the modulation is another one: F.silu is meant"
BLOCK_AFTER = "norm and modulation are in the wrong order: the norm would undo the scale. First norm, then modulate"

DiTBlock = Exercise(
    "DiTBlock",
    reference=blocks.DiTBlock,
    lesson="03",
    number=4,
    cases=block_cases,
    mistakes=[
        "the condition is not used: shift, scale and gate come from `self.modulation(F.silu(condition))`",
        wrong.unconditioned,
        BLOCK_SILU,
        wrong.otherwise(bend=lambda x: x),
        BLOCK_BEND,
        *[wrong.otherwise(bend=bend) for bend in (F.relu, F.gelu, torch.tanh, torch.sigmoid)],
        "the six parts come in another order: shift, scale, gate for the attention, then the same for the MLP",
        *map(wrong.otherwise, ((1, 0, 2, 4, 3, 5), (2, 1, 0, 5, 4, 3), (0, 2, 1, 3, 5, 4), (1, 2, 0, 4, 5, 3))),
        *map(wrong.otherwise, ((0, 2, 4, 1, 3, 5), (3, 4, 5, 0, 1, 2), (2, 0, 1, 5, 3, 4), (0, 1, 4, 2, 3, 5))),
        "both lines use the first gate: the second line has one of its own",
        wrong.otherwise((0, 1, 2, 3, 4, 2)),
        "the SiLU comes after the modulation: it belongs before, F.silu(condition) goes in",
        wrong.bent_late,
        "the gates stand inside the layers: each multiplies what its layer gives, not what goes in",
        wrong.otherwise(gate="inside"),
        "the x itself is missing in the first line: it is x + gate * attention(...)",
        wrong.otherwise(residual="not first"),
        "the x itself is missing in the second line: it is x + gate * mlp(...)",
        wrong.otherwise(residual="not second"),
        "the MLP's tokens are not modulated: the second line has a shift and a scale, too",
        wrong.otherwise(second="bare"),
        "both lines use the same shift, scale and gate: the second has its own three",
        wrong.otherwise((0, 1, 2, 0, 1, 2)),
        "the parts are taken in turns, every sixth number: `chunk` cuts six pieces that hang together",
        wrong.interleaved,
        "the gates are missing: each multiplies what its layer gives, before that is added to x",
        wrong.otherwise(gate="none"),
        "the gate is 1 + gate: that is for the scale. A gate of zero lets nothing through",
        wrong.otherwise(gate="plus one"),
        "the gate goes through a sigmoid: it is used as it is, so that it can start at zero",
        wrong.otherwise(gate="sigmoid"),
        "the gate multiplies x, too: only what the layer gives is gated, x stays as it is",
        wrong.otherwise(gate="all"),
        "x itself is missing: each line is x + gate * layer(...)",
        wrong.otherwise(residual="none"),
        "the norm of x is added instead of x: what stays is x as it came in",
        wrong.otherwise(residual="norm"),
        "the norms are missing: they come before the modulation",
        wrong.otherwise(norm="none"),
        BLOCK_AFTER,
        wrong.otherwise(after=True),
        "the MLP looks at the x from before the attention: the second line goes on with the x of the first",
        wrong.otherwise(parallel=True),
        "the MLP comes before the attention: it is the other way round",
        wrong.otherwise(swap=True),
        wrong.otherwise((3, 4, 5, 0, 1, 2), swap=True),
        "the MLP is missing: there is a second line like the first",
        wrong.lone(0),
        "the attention is missing: it is the first of two lines",
        wrong.lone(1),
        FIRST_ONLY,
        lambda block, x, condition: block(x, condition[:1].expand_as(condition)),
    ],
    praise="Right with weights of all kinds, and the identity when it is new,",
)


# -- FinalLayer ------------------------------------------------------------------------------------


def born_as_zero(layer: nn.Module, given: tuple) -> str:
    """A new last layer answers zero, and modulates nothing."""
    if layer(*given).abs().max() > 1e-6:
        return (
            "with given weights your layer is right, but a new one does not answer zero: which of its "
            "layers has to start at zero?"
        )
    if any(p.count_nonzero() for p in layer.parameters()):
        return "a new layer answers zero, as it should, but its modulation does not start at zero: both layers do"
    return ""


def final_cases(draw: Draw) -> list[BornCase]:
    """Layers of two sizes and both norms."""
    cases = []
    for norm in ("rms", "layer"):
        batch, tokens, outputs, width = draw.sizes(4, 5, 9)  # never twice as many: both matrices would have one shape
        args = (width, outputs, norm)
        given = (draw.normal(batch, tokens, width), draw.normal(batch, width))
        label = f"{batch} pictures of {tokens} tokens, from width {width} to {outputs}"
        cases.append(BornCase(args, label, given, blocks.FinalLayer(*args), draw, born_as_zero))
    return cases


FinalLayer = Exercise(
    "FinalLayer",
    reference=blocks.FinalLayer,
    lesson="03",
    number=5,
    cases=final_cases,
    mistakes=[
        "the condition is not used: shift and scale come from `self.modulation(F.silu(condition))`",
        lambda layer, x, condition: layer.linear(layer.norm(x)),
        lambda layer, x, condition: layer.linear(x),
        BLOCK_SILU,
        wrong.final(bend=lambda x: x),
        BLOCK_BEND,
        *[wrong.final(bend=bend) for bend in (F.relu, F.gelu, torch.tanh, torch.sigmoid)],
        "shift and scale are swapped: the shift is the first half of the modulation",
        wrong.final(swap=True),
        "the norm is missing: it comes before the modulation",
        wrong.final(norm=False),
        BLOCK_AFTER,
        wrong.final(after=True),
        RESIDUAL,
        lambda layer, x, condition: layer.linear(x + _modulated(layer, x, condition)),
        lambda layer, x, condition: layer.linear(x) + layer(x, condition),
        "the linear map at the end is missing: the tokens still have their width",
        lambda layer, x, condition: _modulated(layer, x, condition),
        "an activation bends the result: a velocity may have any sign and size",
        *[
            lambda layer, x, condition, bend=bend: bend(layer(x, condition))
            for bend in (torch.tanh, torch.sigmoid, F.relu, F.silu)
        ],
        FIRST_ONLY,
        lambda layer, x, condition: layer(x, condition[:1].expand_as(condition)),
    ],
    praise="Right with weights of all kinds, and zero when it is new,",
)


def _modulated(layer: nn.Module, x: Tensor, condition: Tensor) -> Tensor:
    shift, scale = layer.modulation(F.silu(condition))[:, None].chunk(2, dim=-1)
    return modulate(layer.norm(x), shift, scale)

"""Wrong blocks and last layers that the checks of lesson 03 recognize."""

import torch.nn.functional as F
from torch import Tensor, nn

from dit_course.conditioning import modulate


def parts(block: nn.Module, condition: Tensor, bend=F.silu) -> list[Tensor]:
    """shift_1, scale_1, gate_1, shift_2, scale_2, gate_2: (batch, 1, width) each."""
    return list(block.modulation(bend(condition))[:, None].chunk(6, dim=-1))


def computed(block: nn.Module, x: Tensor, p: list[Tensor], **other) -> Tensor:
    """The block with given parts, and with one thing done otherwise."""
    norm = (block.norm_1, block.norm_2)
    if other.get("norm") == "none":
        norm = (lambda x: x,) * 2
    layers = (block.attention, block.mlp)
    if other.get("swap"):
        layers = layers[::-1]
    start = x
    for i, (layer, (shift, scale, gate)) in enumerate(zip(layers, (p[:3], p[3:]), strict=True)):
        inside = start if other.get("parallel") else x
        if i and other.get("second") == "bare":
            inside = norm[i](inside)
        elif other.get("after"):  # the norm behind the modulation
            inside = norm[i](modulate(inside, shift, scale))
        else:
            inside = modulate(norm[i](inside), shift, scale)
        y = layer(gate * inside if other.get("gate") == "inside" else inside)
        gate = {"none": 1, "inside": 1, "plus one": 1 + gate, "sigmoid": gate.sigmoid()}.get(other.get("gate"), gate)
        lost = {"none": (0, 1), "not first": (0,), "not second": (1,)}.get(
            other.get("residual"), ()
        )  # lines without their x
        before = 0 if i in lost else norm[i](x) if other.get("residual") == "norm" else x
        x = gate * (before + y) if other.get("gate") == "all" else before + gate * y
    return x


def otherwise(order=range(6), bend=F.silu, **other):
    """A wrong `DiTBlock`: the six parts in another order, another activation, or what `computed` can do."""

    def wrong(block: nn.Module, x: Tensor, condition: Tensor) -> Tensor:
        p = parts(block, condition, bend)
        return computed(block, x, [p[i] for i in order], **other)

    return wrong


def bent_late(block: nn.Module, x: Tensor, condition: Tensor) -> Tensor:
    """The activation behind the modulation."""
    return computed(block, x, list(F.silu(block.modulation(condition))[:, None].chunk(6, dim=-1)))


def lone(which: int):
    """A block with one of its two lines only."""

    def wrong(block: nn.Module, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate = parts(block, condition)[3 * which : 3 * which + 3]
        norm, layer = ((block.norm_1, block.attention), (block.norm_2, block.mlp))[which]
        return x + gate * layer(modulate(norm(x), shift, scale))

    return wrong


def unconditioned(block: nn.Module, x: Tensor, condition: Tensor) -> Tensor:
    """The plain block of lesson 02."""
    x = x + block.attention(block.norm_1(x))
    return x + block.mlp(block.norm_2(x))


def interleaved(block: nn.Module, x: Tensor, condition: Tensor) -> Tensor:
    """Every sixth number, instead of six chunks."""
    p = block.modulation(F.silu(condition))[:, None].unflatten(-1, (-1, 6)).unbind(-1)
    return computed(block, x, list(p))


def final(swap=False, bend=F.silu, norm=True, after=False, both=modulate):
    """A wrong `FinalLayer`."""

    def wrong(layer: nn.Module, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = layer.modulation(bend(condition))[:, None].chunk(2, dim=-1)
        shift, scale = (scale, shift) if swap else (shift, scale)
        if after:
            return layer.linear(layer.norm(both(x, shift, scale)))
        return layer.linear(both(layer.norm(x) if norm else x, shift, scale))

    return wrong

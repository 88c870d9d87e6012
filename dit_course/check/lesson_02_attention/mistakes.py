"""Plausible wrong versions of lesson 02's exercises."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dit_course.attention import merge_heads, split_heads


def logits(query: Tensor, key: Tensor, scale: float | None = None) -> Tensor:
    """Scaled products of queries and keys."""
    return query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)


def weighted(scale=None, dim: int = -1):
    """Wrong `attention_weights`: another scale, a function of (query, key), or a softmax over another axis."""

    def wrong(query: Tensor, key: Tensor) -> Tensor:
        return logits(query, key, None if scale is None else scale(query, key)).softmax(dim=dim)

    return wrong


def one_highest(query: Tensor, key: Tensor) -> Tensor:
    """The largest logit of all rows is subtracted."""
    weights = (logits(query, key) - logits(query, key).max()).exp()
    return weights / weights.sum(dim=-1, keepdim=True)


def over_all(query: Tensor, key: Tensor) -> Tensor:
    """One softmax over the whole table."""
    table = logits(query, key)
    return table.flatten(-2).softmax(dim=-1).reshape(table.shape)


def unequal_heads(x: Tensor, heads: int) -> Tensor:
    """Every head gets each `heads`-th feature."""
    batch, tokens, width = x.shape
    return x.reshape(batch, tokens, width // heads, heads).permute(0, 3, 1, 2)


def four_heads(x: Tensor, heads: int) -> Tensor:
    """As in the course's own network, whatever is asked for."""
    return split_heads(x, 4)


def sizes_swapped(x: Tensor, heads: int) -> Tensor:
    """As many heads as a head has features."""
    batch, tokens, _ = x.shape
    return x.reshape(batch, tokens, -1, heads).transpose(1, 2)


def heads_reshaped(x: Tensor, heads: int) -> Tensor:
    """The right shape without moving anything."""
    batch, tokens, width = x.shape
    return x.reshape(batch, heads, tokens, width // heads)


def merge_reshaped(x: Tensor) -> Tensor:
    """The right shape without moving anything."""
    batch, heads, tokens, size = x.shape
    return x.reshape(batch, tokens, heads * size)


def mean_first(norm: nn.Module, x: Tensor, eps: str = "inside") -> Tensor:
    """The square of the mean instead of the mean of the squares."""
    square = x.mean(dim=-1, keepdim=True).square()
    return x / (square + (norm.eps if eps == "inside" else 0)).sqrt() * (1 if norm.weight is None else norm.weight)


def by_spread(correction: int, eps: str, centered: bool = False) -> Callable:
    """Divided by the standard deviation, which is a root mean square, but of what is left without the mean."""

    def wrong(norm: nn.Module, x: Tensor) -> Tensor:
        spread = x.std(dim=-1, keepdim=True, correction=correction)
        spread = (spread.square() + norm.eps).sqrt() if eps == "inside" else spread
        spread = spread + norm.eps if eps == "outside" else spread
        size = x - x.mean(dim=-1, keepdim=True) if centered else x
        return size / spread * (1 if norm.weight is None else norm.weight)

    return wrong


def normed(
    x: Tensor, norm: nn.Module, dim=-1, root=True, mean=True, eps: str = "inside", centered=False, scaled=True
) -> Tensor:
    """RMSNorm with one thing done otherwise; `norm` has the scale and eps."""
    size = x - x.mean(dim=-1, keepdim=True) if centered else x
    square = size.square().mean(dim, keepdim=True) if mean else size.square().sum(dim, keepdim=True)
    square = square + norm.eps if eps == "inside" else square
    divisor = square.sqrt() if root else square
    divisor = divisor + norm.eps if eps == "outside" else divisor
    return size / divisor * (norm.weight if scaled and norm.weight is not None else 1)


def otherwise(**changes):
    """A wrong `RMSNorm`."""
    return lambda norm, x: normed(x, norm, **changes)


def attended(
    layer: nn.Module,
    x: Tensor,
    order: str = "qkv",
    split=split_heads,
    merge=merge_heads,
    norm: str = "qk",
    mix=F.scaled_dot_product_attention,
) -> Tensor:
    """Self-attention with one thing done otherwise, before the output's linear map."""
    parts = dict(zip(order, layer.qkv(x).chunk(3, dim=-1), strict=True))
    query, key, value = (split(parts[name], layer.heads) for name in "qkv")
    query = layer.norm_k(query) if norm == "kk" else layer.norm_q(query) if "q" in norm else query
    key = layer.norm_q(key) if norm == "qq" else layer.norm_k(key) if "k" in norm else key
    value = layer.norm_k(value) if "v" in norm else value
    return merge(mix(query, key, value))


def self_attention(**changes):
    """A wrong `SelfAttention`."""
    return lambda layer, x: layer.output(attended(layer, x, **changes))


def taken_in_turns(layer: nn.Module, x: Tensor) -> Tensor:
    """Query, key and value of a head side by side: the width is split into heads before it is split into three."""
    both = split_heads(layer.qkv(x), layer.heads)  # (b, h, n, 3 * d)
    query, key, value = both.chunk(3, dim=-1)
    return layer.output(merge_heads(F.scaled_dot_product_attention(layer.norm_q(query), layer.norm_k(key), value)))


def reshaped_in_three(layer: nn.Module, x: Tensor) -> Tensor:
    """(b, n, 3 * w) reshaped at once to (3, b, h, n, d)."""
    batch, tokens, width = x.shape
    query, key, value = layer.qkv(x).reshape(3, batch, layer.heads, tokens, width // layer.heads)
    return layer.output(merge_heads(F.scaled_dot_product_attention(layer.norm_q(query), layer.norm_k(key), value)))


def scaled_twice(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Divided by the root of d by hand, and by `scaled_dot_product_attention` again."""
    return F.scaled_dot_product_attention(query * query.shape[-1] ** -0.5, key, value)


def unscaled(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Without the root of d."""
    return F.scaled_dot_product_attention(query, key, value, scale=1.0)


def over_queries(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The softmax goes over the queries."""
    return logits(query, key).softmax(dim=-2) @ value


def causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Nobody looks ahead."""
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def in_pieces(query: Tensor, key: Tensor, value: Tensor, size: int) -> tuple[list[Tensor], list[Tensor]]:
    """Logits and values, piece by piece."""
    return [logits(query, keys) for keys in key.split(size, dim=-2)], list(value.split(size, dim=-2))


def softmax_each(query: Tensor, key: Tensor, value: Tensor, size: int, average: bool = True) -> Tensor:
    """A softmax in every piece, as if the others were not there."""
    tables, values = in_pieces(query, key, value, size)
    mixed = torch.stack([table.softmax(dim=-1) @ v for table, v in zip(tables, values, strict=True)])
    return mixed.mean(dim=0) if average else mixed.sum(dim=0)


def not_shrunk(query: Tensor, key: Tensor, value: Tensor, size: int) -> Tensor:
    """Each piece subtracts its own largest logit, and what came before is not brought down to it."""
    tables, values = in_pieces(query, key, value, size)
    total, mixed = 0, 0
    for table, v in zip(tables, values, strict=True):
        weights = (table - table.amax(dim=-1, keepdim=True)).exp()
        total, mixed = total + weights.sum(dim=-1, keepdim=True), mixed + weights @ v
    return mixed / total


def online(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    size: int,
    keep: str = "after",
    shrunk: str = "both",
    dim: int | None = -1,
) -> Tensor:
    """The right loop, with one thing done otherwise: when the new highest is kept, whose it is, what is shrunk."""
    highest, total, mixed = torch.full_like(query[..., :1], -torch.inf), 0, 0
    for table, v in zip(*in_pieces(query, key, value, size), strict=True):
        higher = torch.maximum(highest, table.max() if dim is None else table.amax(dim=dim, keepdim=True))
        shrink, weights = (highest - higher).exp(), (table - higher).exp()
        shrink = torch.ones_like(shrink) if keep == "before" else shrink
        total = total * (shrink if shrunk in ("both", "total") else 1) + weights.sum(dim=-1, keepdim=True)
        mixed = mixed * (shrink if shrunk in ("both", "mixed") else 1) + weights @ v
        highest = highest if keep == "never" else higher
    return mixed / total


def whole_pieces_only(query: Tensor, key: Tensor, value: Tensor, size: int) -> Tensor:
    """What is left over at the end is forgotten."""
    end = key.shape[-2] // size * size
    return weighted()(query, key[..., :end, :]) @ value[..., :end, :]

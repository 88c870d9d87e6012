"""Lesson 02: weights, heads, RMSNorm, self-attention with QK-norm, and attention in chunks."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch

from dit_course import attention
from dit_course.check.compare import same
from dit_course.check.exercise import Case, Draw, Exercise, LooksLike, ModuleCase, When
from dit_course.check.modules import Complaint, build
from dit_course.check.stretch import attention_in_chunks as in_chunks
from dit_course.check.wrong_attention import (
    attended,
    by_exponentials,
    causal,
    heads_reshaped,
    logits,
    merge_reshaped,
    not_shrunk,
    otherwise,
    over_all,
    over_queries,
    reshaped_in_three,
    scaled_twice,
    self_attention,
    sizes_swapped,
    softmax_each,
    taken_in_turns,
    unequal_heads,
    unscaled,
    weighted,
    whole_pieces_only,
    without_highest,
)

FIRST_ONLY = "only the first picture of the batch comes back: is there a 0 where all of them are meant?"
OVERFLOW = "exp of a large logit is infinite, and infinite / infinite is NaN: "

# -- attention_weights -----------------------------------------------------------------------------


def weight_cases(draw: Draw) -> list[Case]:
    """One picture without batch or heads; two random shapes, one in double precision; and large logits."""
    cases = [Case((draw.normal(5, 4), draw.normal(7, 4)), "5 queries, 7 keys")]
    for dtype, factor in ((torch.float32, 1), (torch.float64, 1), (torch.float32, 30)):
        batch, heads, n, m, d = draw.sizes(5)
        query, key = draw.normal(batch, heads, n, d, dtype=dtype), draw.normal(batch, heads, m, d, dtype=dtype)
        text = f"queries {batch}x{heads}x{n}x{d}, keys {batch}x{heads}x{m}x{d}"
        cases.append(Case((factor * query, factor * key), text + (", large logits" if factor > 1 else "")))
    return cases


WEIGHTS_COLUMNS = "your columns sum to 1, not your rows: the softmax goes over the keys, which axis is that?"
WEIGHTS_OTHER = "the softmax goes over the batch or the heads: each token shares its look among the keys"
WEIGHTS_SCALE = "the logits are not divided by the square root of d: they are too large, so your softmax is too sharp"
WEIGHTS_D = "the logits are divided by d itself: its square root is meant"
WEIGHTS_TIMES = "the logits are multiplied by the square root of d: they should be divided by it"
WEIGHTS_N = "the logits are divided by the root of the number of tokens: d is the length of one query, the last axis"
WEIGHTS_LATE = "the softmax comes first and the division after it, so your rows do not sum to 1: divide the logits"
WEIGHTS_LOGITS = "these are the logits: the softmax is missing, which makes weights of them"
WEIGHTS_ALL = "your whole table sums to 1: each row should, as each token has its own look to share"
WEIGHTS_TURNED = "your table lies on its side: a row for each query, a column for each key"
WEIGHTS_EXP = "these are exponentials: divide each row by its sum, as softmax does"
WEIGHTS_LOG = "these are logarithms of the weights: softmax is meant, not log_softmax"
WEIGHTS_SIGMOID = "each weight is made by itself (a sigmoid): a softmax lets the keys compete, so that a row sums to 1"
WEIGHTS_OVERFLOW = OVERFLOW + "torch's softmax avoids that by subtracting the largest logit of a row first"

attention_weights = Exercise(
    "attention_weights",
    reference=attention.attention_weights,
    lesson="02",
    cases=weight_cases,
    diagnoses=[
        LooksLike(WEIGHTS_COLUMNS, weighted(dim=-2)),
        LooksLike(WEIGHTS_OTHER, weighted(dim=0)),
        LooksLike(WEIGHTS_OTHER, weighted(dim=1)),
        LooksLike(WEIGHTS_SCALE, weighted(lambda query, key: 1.0)),
        LooksLike(WEIGHTS_D, weighted(lambda query, key: 1 / query.shape[-1])),
        LooksLike(WEIGHTS_TIMES, weighted(lambda query, key: query.shape[-1] ** 0.5)),
        LooksLike(WEIGHTS_N, weighted(lambda query, key: query.shape[-2] ** -0.5)),
        LooksLike(WEIGHTS_N, weighted(lambda query, key: key.shape[-2] ** -0.5)),
        LooksLike(WEIGHTS_LATE, lambda q, k: weighted(lambda *_: 1.0)(q, k) * q.shape[-1] ** -0.5),
        LooksLike(WEIGHTS_LATE, lambda q, k: attention.attention_weights(q, k) * q.shape[-1] ** -0.5),
        LooksLike(WEIGHTS_LOGITS, logits),
        LooksLike(WEIGHTS_LOGITS, lambda q, k: logits(q, k, 1.0)),
        LooksLike(WEIGHTS_ALL, over_all),
        LooksLike(WEIGHTS_TURNED, lambda q, k: attention.attention_weights(k, q)),
        LooksLike(WEIGHTS_TURNED, lambda q, k: attention.attention_weights(q, k).mT),
        LooksLike(WEIGHTS_EXP, lambda q, k: logits(q, k).exp()),
        LooksLike(WEIGHTS_LOG, lambda q, k: logits(q, k).log_softmax(dim=-1)),
        LooksLike(WEIGHTS_SIGMOID, lambda q, k: logits(q, k).sigmoid()),
        When(
            WEIGHTS_OVERFLOW,
            lambda got, expected: (
                got.shape == expected.shape
                and bool(got.isnan().any(dim=-1).any())
                and not bool(got.isnan().all())
                and same(got[~got.isnan()], expected[~got.isnan()])
            ),
        ),
        LooksLike(WEIGHTS_OVERFLOW, by_exponentials),
    ],
    praise="Every row sums to 1, and the weights are the course's",
    picture=lambda weights: weights[None],
)

# -- split_heads and merge_heads -------------------------------------------------------------------


def head_sizes(draw: Draw) -> list[tuple[int, int, int, int, torch.dtype]]:
    """batch, heads, tokens and features of a head: all different, the products too."""
    found = [(2, 3, 5, 4, torch.float32)]
    for dtype in (torch.float32, torch.float64):
        while True:
            batch, heads, tokens, size = draw.sizes(4)
            if tokens not in (heads * size, batch * heads) and heads != size:
                break
        found.append((batch, heads, tokens, size, dtype))
    return found


def split_cases(draw: Draw) -> list[Case]:
    """Tokens, and the number of heads."""
    return [
        Case((draw.normal(b, n, h * d, dtype=dtype), h), f"{b}x{n}x{h * d} in {h} heads")
        for b, h, n, d, dtype in head_sizes(draw)
    ]


def merge_cases(draw: Draw) -> list[Case]:
    """What heads have made."""
    return [Case((draw.normal(b, h, n, d, dtype=dtype),), f"{b}x{h}x{n}x{d}") for b, h, n, d, dtype in head_sizes(draw)]


SPLIT_RESHAPED = (
    "the tokens are only reshaped, so a head holds whole tokens instead of a part of each: split the width first, "
    "then change the order of the axes"
)
SPLIT_STILL = "the width is split, but the heads come after the tokens: they belong in front, (batch, heads, tokens, d)"
SPLIT_TURNS = "the heads take turns at the features: a head gets neighbouring features, which axis splits off first?"
SPLIT_SWAPPED = "heads and features of a head are swapped: there are `heads` heads, of width / heads features each"
SPLIT_FLIPPED = "tokens and features are swapped within each head: (batch, heads, tokens, d) is wanted"
SPLIT_FIRST = "the heads come before the batch: (batch, heads, tokens, d) is wanted"
SPLIT_MERGED = "batch and heads have become one axis: keep them apart, (batch, heads, tokens, d)"
SPLIT_CUT = "the tokens are shared among the heads: every head sees all tokens, but a part of their features"

split_heads = Exercise(
    "split_heads",
    reference=attention.split_heads,
    lesson="02",
    cases=split_cases,
    diagnoses=[
        LooksLike(SPLIT_RESHAPED, heads_reshaped),
        LooksLike(SPLIT_STILL, lambda x, h: x.unflatten(2, (h, -1))),
        LooksLike(SPLIT_TURNS, unequal_heads),
        LooksLike(SPLIT_SWAPPED, sizes_swapped),
        LooksLike(SPLIT_SWAPPED, lambda x, h: x.unflatten(2, (-1, h))),
        LooksLike(SPLIT_FLIPPED, lambda x, h: attention.split_heads(x, h).mT),
        LooksLike(SPLIT_FIRST, lambda x, h: attention.split_heads(x, h).transpose(0, 1)),
        LooksLike(SPLIT_MERGED, lambda x, h: attention.split_heads(x, h).flatten(0, 1)),
        When(
            SPLIT_CUT, lambda got, expected: got.ndim == 4 and got.shape[-1] == expected.shape[1] * expected.shape[-1]
        ),
        LooksLike(FIRST_ONLY, lambda x, h: attention.split_heads(x, h)[:1]),
        LooksLike(FIRST_ONLY, lambda x, h: attention.split_heads(x, h)[0]),
    ],
)

MERGE_RESHAPED = "the heads are only reshaped, so pieces of several tokens share a row: bring the heads of one token side by side first"
MERGE_STILL = "the axes stand in the right order, but heads and features are not merged yet: (batch, tokens, width)"
MERGE_TURNS = "the features of the heads take turns: all features of head 0 come first, then those of head 1"
MERGE_TOKENS = "heads and tokens are merged: the features are to be, so that each token has all of its width again"
MERGE_SUM = "the heads are added or averaged: they belong side by side, none of them is lost"
MERGE_FLIPPED = "tokens and features are swapped: (batch, tokens, width) is wanted"

merge_heads = Exercise(
    "merge_heads",
    reference=attention.merge_heads,
    lesson="02",
    cases=merge_cases,
    diagnoses=[
        LooksLike(MERGE_RESHAPED, merge_reshaped),
        LooksLike(MERGE_STILL, lambda x: x.transpose(1, 2)),
        LooksLike(MERGE_TURNS, lambda x: x.permute(0, 2, 3, 1).flatten(2)),
        LooksLike(MERGE_TOKENS, lambda x: x.flatten(1, 2)),
        LooksLike(MERGE_TOKENS, lambda x: x.transpose(1, 2).flatten(1, 2)),
        LooksLike(MERGE_SUM, lambda x: x.sum(dim=1)),
        LooksLike(MERGE_SUM, lambda x: x.mean(dim=1)),
        LooksLike(MERGE_FLIPPED, lambda x: attention.merge_heads(x).mT),
        LooksLike(MERGE_FLIPPED, lambda x: x.transpose(2, 3).flatten(1, 2)),
        LooksLike(FIRST_ONLY, lambda x: attention.merge_heads(x)[:1]),
        LooksLike(FIRST_ONLY, lambda x: attention.merge_heads(x)[0]),
    ],
)

# -- RMSNorm ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NormCase(ModuleCase):
    """Modules with and without a scale; one that is right so far is also tried in half precision."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Build, load, call. Raises Complaint for parameters that should not be, and for squares that overflow."""
        if self.module.weight is not None:
            module = build(answer, self.args, self.module)
        else:
            module = answer(*self.args)
            found = [name for name, _ in module.named_parameters()] if isinstance(module, torch.nn.Module) else []
            if found:
                raise Complaint(f"with scale=False there is nothing to learn, but your module has {', '.join(found)}")
        given = (self.given[0].clone().requires_grad_(track),)
        result = module(*given)
        if self.module.weight is not None and same(result, self.module(*self.given)):
            halved = copy.deepcopy(module).half()(torch.full((1, 1, self.args[0]), 1000.0, dtype=torch.float16))
            if not (halved.isfinite().all() and halved.count_nonzero()):
                raise Complaint(NORM_HALF)
        return result, given


def norm_cases(draw: Draw) -> list[NormCase]:
    """Common numbers; tiny ones, where eps matters; and no scale."""
    cases = []
    for label, factor, scale, dtype in (
        ("{} vectors of {}", 1.0, True, torch.float32),
        ("{} tiny vectors of {}", 2e-3, True, torch.float64),
        ("{} vectors of {}, scale=False", 3.0, False, torch.float32),
    ):
        batch, tokens, width = draw.sizes(3, 2, 9)
        x = (factor * (draw.normal(batch, tokens, width, dtype=torch.float64) + 0.5)).to(dtype)
        module = attention.RMSNorm(width, 1e-6, scale).to(dtype)
        cases.append(NormCase((width, 1e-6, scale), label.format(f"{batch}x{tokens}", width), (x,), module, draw))
    return cases


NORM_CENTRED = "the mean is subtracted: that is LayerNorm, RMSNorm leaves the mean alone"
NORM_SUM = "you divide by the root of the *sum* of squares: the mean of the squares is meant"
NORM_ROOT = "you divide by the mean square itself: its root is meant"
NORM_EPS = "eps is missing or in another place: it is added to the mean square, under the root (seen on tiny numbers)"
NORM_AXIS = "the mean goes over another axis: each token is normed by itself, over its own features"
NORM_SCALE = "the learned scale is not used: the result is multiplied by `self.weight`, where there is one"
NORM_SIZE = "you divide by the mean size |x|: root, mean, square, read backwards, says what to divide by"
NORM_HALF = (
    "right, but not in half precision: 1000 squared is more than float16 can hold, so the mean square is infinite. "
    "Take it in float32: x.float()"
)
NORM_TIMES = "you multiply by the root of the mean square: dividing by it brings every vector to one size"

RMSNorm = Exercise(
    "RMSNorm",
    reference=attention.RMSNorm,
    lesson="02",
    cases=norm_cases,
    diagnoses=[
        LooksLike(NORM_CENTRED, otherwise(centred=True)),
        LooksLike(NORM_SUM, otherwise(mean=False)),
        LooksLike(NORM_ROOT, otherwise(root=False)),
        LooksLike(NORM_AXIS, otherwise(dim=1)),
        LooksLike(NORM_AXIS, otherwise(dim=0)),
        LooksLike(NORM_AXIS, otherwise(dim=(-2, -1))),
        LooksLike(NORM_AXIS, otherwise(dim=(0, 1, 2))),
        LooksLike(NORM_SCALE, lambda norm, x: norm(x) / norm.weight),
        LooksLike(NORM_SCALE, otherwise(scaled=False)),
        LooksLike(
            NORM_SIZE, lambda norm, x: x / x.abs().mean(-1, keepdim=True) * (1 if norm.weight is None else norm.weight)
        ),
        LooksLike(NORM_TIMES, lambda norm, x: x.square() / norm(x) * (1 if norm.weight is None else norm.weight**2)),
        LooksLike(NORM_EPS, otherwise(eps="none")),
        LooksLike(NORM_EPS, otherwise(eps="outside")),
    ],
)

# -- SelfAttention ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttentionCase(ModuleCase):
    """`forward` is compared; `heads_of` is looked at where `forward` says nothing of it."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Build, load, call. Raises Complaint when only one of the two methods is done."""
        module = build(answer, self.args, self.module)
        given = copy.deepcopy(self.given)
        given[0].requires_grad_(track)
        try:
            result = module(*given)
        except NotImplementedError as error:
            own = type(module).heads_of is not attention.SelfAttention.heads_of
            if not error.args and own and self._heads_are_right(module):
                raise Complaint("`heads_of` is right. Now `forward`, which still raises NotImplementedError") from None
            raise
        if same(result, self.module(*self.given)) and not self._heads_are_right(module):
            raise Complaint("`forward` is right, but `heads_of` does not return queries, keys and values as it should")
        return result, given

    def _heads_are_right(self, module: torch.nn.Module) -> bool:
        """By the weights that come of them: which of the two norms is whose makes no difference."""
        try:
            (query, key, value), (_, _, expected) = (one.heads_of(*self.given) for one in (module, self.module))
        except Exception:
            return False
        weights = attention.attention_weights(query, key)
        return same(value, expected) and same(weights, self.module.weights(*self.given))


def attention_cases(draw: Draw) -> list[AttentionCase]:
    """Modules of other widths and heads, with and without QK-norm."""
    cases = []
    for (batch, heads, tokens, size, dtype), qk_norm in zip(head_sizes(draw), (True, True, False), strict=True):
        width = heads * size
        module = attention.SelfAttention(width, heads, qk_norm).to(dtype)
        label = f"{batch}x{tokens}x{width}, {heads} heads" + ("" if qk_norm else ", qk_norm=False")
        x = 2 * draw.normal(batch, tokens, width, dtype=dtype)
        cases.append(AttentionCase((width, heads, qk_norm), label, (x,), module, draw))
    return cases


SELF_NO_NORM = "queries and keys are not normed: `self.norm_q` and `self.norm_k` wait for them, behind `split_heads`"
SELF_HALF_NORM = "only one of queries and keys is normed: both are"
SELF_VALUE = "the values are normed, too: QK-norm is for queries and keys only"
SELF_ORDER = (
    "queries, keys and values are taken in another order: of the three parts of `self.qkv(x)`, they are 1, 2, 3"
)
SELF_OUTPUT = "the output's linear map is missing: `self.output` lets the heads talk to each other at the end"
SELF_MERGE = "the heads are put together without moving their axis back: `merge_heads` does it"
SELF_TURNS = "the heads are split before queries, keys and values are told apart: first three parts, then heads"
SELF_TWICE = "the logits are divided by the root of d twice: `scaled_dot_product_attention` does it already"
SELF_UNSCALED = "the logits are not divided by the root of d"
SELF_QUERIES = "the softmax goes over the queries: each token shares its look among the keys"
SELF_CAUSAL = "tokens do not look ahead (is_causal=True): that is for text, in a picture all look at all"
SELF_RESIDUAL = "x is added to the result: that is the block's business, later in this lesson"
SELF_ONE = "there is one head only: `split_heads` shares the width among `self.heads`"
SELF_INTERLEAVED = "the heads take turns at the features: `split_heads` gives each of them neighbouring features"
SELF_MIXED = "the values come through as they are, nothing is mixed: where do the weights come in?"

SelfAttention = Exercise(
    "SelfAttention",
    reference=attention.SelfAttention,
    lesson="02",
    cases=attention_cases,
    diagnoses=[
        LooksLike(SELF_NO_NORM, self_attention(norm="")),
        LooksLike(SELF_HALF_NORM, self_attention(norm="q")),
        LooksLike(SELF_HALF_NORM, self_attention(norm="k")),
        LooksLike(SELF_VALUE, self_attention(norm="qkv")),
        *[LooksLike(SELF_ORDER, self_attention(order=order)) for order in ("kvq", "vkq", "vqk", "qvk", "kqv")],
        LooksLike(SELF_OUTPUT, attended),
        LooksLike(SELF_MERGE, self_attention(merge=merge_reshaped)),
        LooksLike(SELF_TURNS, taken_in_turns),
        LooksLike(SELF_TURNS, reshaped_in_three),
        LooksLike(SELF_TWICE, self_attention(mix=scaled_twice)),
        LooksLike(SELF_UNSCALED, self_attention(mix=unscaled)),
        LooksLike(SELF_QUERIES, self_attention(mix=over_queries)),
        LooksLike(SELF_CAUSAL, self_attention(mix=causal)),
        LooksLike(SELF_RESIDUAL, lambda layer, x: x + layer(x)),
        LooksLike(SELF_ONE, self_attention(norm="", split=lambda x, h: x[:, None])),
        LooksLike(SELF_INTERLEAVED, self_attention(split=unequal_heads)),
        LooksLike(
            SELF_INTERLEAVED, self_attention(split=unequal_heads, merge=lambda x: x.permute(0, 2, 3, 1).flatten(2))
        ),
        LooksLike(SELF_MIXED, self_attention(mix=lambda query, key, value: value)),
        LooksLike(FIRST_ONLY, lambda layer, x: layer(x)[:1]),
        LooksLike(FIRST_ONLY, lambda layer, x: layer(x)[0]),
    ],
    praise="The same tokens come out",
)

# -- stretch: attention_in_chunks ------------------------------------------------------------------


def chunk_cases(draw: Draw) -> list[Case]:
    """A size that fits, one that leaves something over, one that is larger than all, and large logits."""
    cases = []
    for number, (dtype, factor) in enumerate(
        ((torch.float32, 1), (torch.float64, 2), (torch.float32, 1), (torch.float32, 30))
    ):
        batch, n, d, e = draw.sizes(4)
        m, size = ((12, 4), (13, 5), (7, 9), (14, 4))[number]
        query, key = (factor * draw.normal(batch, k, d, dtype=dtype) for k in (n, m))
        args = (query, key, draw.normal(batch, m, e, dtype=dtype), size)
        cases.append(Case(args, f"{m} keys, {size} at a time" + (", large logits" if factor == 30 else "")))
    return cases


CHUNK_EACH = "each chunk has a softmax of its own: the sum below the fraction must run over all chunks"
CHUNK_SHRINK = "the chunks are not on one scale: each subtracted its own largest logit. When a larger one is found, the sums so far must be shrunk"
CHUNK_OVERFLOW = OVERFLOW + "subtract the largest logit seen so far"
CHUNK_REST = "the last chunk is left out when it is shorter than the others"
CHUNK_SCALE = "the logits are not divided by the root of d"
CHUNK_TOTAL = "the sums are not divided at the end: mixed values over the total of their weights"

attention_in_chunks = Exercise(
    "attention_in_chunks",
    reference=in_chunks,
    lesson="02",
    cases=chunk_cases,
    diagnoses=[
        LooksLike(CHUNK_EACH, softmax_each),
        LooksLike(CHUNK_EACH, lambda *args: softmax_each(*args, average=False)),
        LooksLike(CHUNK_SHRINK, not_shrunk),
        LooksLike(CHUNK_OVERFLOW, without_highest),
        LooksLike(CHUNK_REST, whole_pieces_only),
        LooksLike(CHUNK_SCALE, lambda q, k, v, size: weighted(lambda *_: 1.0)(q, k) @ v),
        LooksLike(CHUNK_TOTAL, lambda q, k, v, size: (logits(q, k) - logits(q, k).amax(-1, keepdim=True)).exp() @ v),
        LooksLike(CHUNK_TOTAL, lambda q, k, v, size: logits(q, k).exp() @ v),
        When(CHUNK_OVERFLOW, lambda got, expected: bool((~got.isfinite()).any())),
    ],
    praise="The same as attention at once",
)

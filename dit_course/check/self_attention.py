"""Lesson 02, the rest: RMSNorm, self-attention with QK-norm, and attention in chunks."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch

from dit_course import attention
from dit_course.check.attention import FIRST_ONLY, OVERFLOW, head_sizes, overflown
from dit_course.check.compare import same
from dit_course.check.exercise import Case, Draw, Exercise, LooksLike, ModuleCase, When
from dit_course.check.modules import Complaint, build
from dit_course.check.stretch import attention_in_chunks as in_chunks
from dit_course.check.wrong_attention import (
    attended,
    causal,
    logits,
    merge_reshaped,
    not_shrunk,
    otherwise,
    over_queries,
    reshaped_in_three,
    scaled_twice,
    self_attention,
    softmax_each,
    taken_in_turns,
    unequal_heads,
    unscaled,
    weighted,
    whole_pieces_only,
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
        try:
            result = module(*given)
        except TypeError as error:
            if self.module.weight is None and "NoneType" in str(error):
                raise Complaint(NORM_NONE) from None
            raise
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
NORM_NONE = "with scale=False `self.weight` is None, and nothing can be multiplied with None: return without it then"
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
        for norm in (getattr(module, name, None) for name in ("norm_q", "norm_k")):
            if isinstance(norm, torch.nn.Module):
                norm.register_forward_pre_hook(self._fits_a_head)
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

    def _fits_a_head(self, _norm: torch.nn.Module, inputs: tuple) -> None:
        """A hook: norms before the split would stop with an error that says nothing."""
        width, heads, _ = self.args
        if inputs[0].shape[-1] != width // heads:
            raise Complaint(SELF_EARLY)

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
SELF_EARLY = "the norms come too early: they are for one head's features, so they stand behind `split_heads`"
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
    """A size that fits, one that leaves something over, one that is larger than all, and some large logits."""
    cases = []
    for m, size, dtype in (
        (12, 4, torch.float32),
        (13, 5, torch.float64),
        (7, 9, torch.float32),
        (14, 4, torch.float32),
    ):
        batch, n, d, e = draw.sizes(4)
        query, key = draw.normal(batch, n, d, dtype=dtype), draw.normal(batch, m, d, dtype=dtype)
        label = f"{m} keys, {size} at a time"
        if m == 14:  # in the first picture only
            query[0] *= 1000
            label += ", large logits"
        cases.append(Case((query, key, draw.normal(batch, m, e, dtype=dtype), size), label))
    return cases


CHUNK_EACH = "each chunk has a softmax of its own: the sum below the fraction must run over all chunks"
CHUNK_SHRINK = (
    "the chunks are not on one scale: each subtracted its own largest logit. When a larger one is found, "
    "the sums so far must be shrunk"
)
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
        LooksLike(CHUNK_REST, whole_pieces_only),
        LooksLike(CHUNK_SCALE, lambda q, k, v, size: weighted(lambda *_: 1.0)(q, k) @ v),
        LooksLike(CHUNK_TOTAL, lambda q, k, v, size: (logits(q, k) - logits(q, k).amax(-1, keepdim=True)).exp() @ v),
        When(CHUNK_OVERFLOW, overflown),
    ],
    praise="The same as attention at once",
)

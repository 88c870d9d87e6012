"""Lesson 02, the rest: self-attention with QK-norm, and attention in chunks."""

import copy
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dit_course import attention
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import OTHERWISE, Case, Draw, Exercise, ModuleCase
from dit_course.check.engine.mistakes import MatchesRule
from dit_course.check.engine.modules import AnswerError, explain_errors, load_reference_weights
from dit_course.check.lesson_02_attention import mistakes as wrong
from dit_course.check.lesson_02_attention.weights_and_heads import (
    FIRST_ONLY,
    OVERFLOW,
    UNDERFLOW,
    head_sizes,
    not_finite,
    overflown,
)
from dit_course.check.stretch_solutions import attention_in_chunks as in_chunks

# -- SelfAttention ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttentionCase(ModuleCase):
    """`forward` is compared; `project_qkv` is looked at where `forward` says nothing of it."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Build, load, call. Raises AnswerError when only one of the two methods is done."""
        module = load_reference_weights(answer, self.args, self.module)
        given = copy.deepcopy(self.given)
        given[0].requires_grad_(track)
        norms = [norm for name, norm in module.named_children() if name in ("norm_q", "norm_k")]
        hooks = [norm.register_forward_pre_hook(self._fits_a_head) for norm in norms]
        try:
            with explain_errors(SELF_ERRORS):
                result = module(*given)
        except NotImplementedError as error:
            if not error.args:
                self._say_which_is_left(module, error)
            raise
        finally:
            for hook in hooks:
                hook.remove()
        if same(result, self.module(*self.given)):
            if not self._heads_are_right(module):
                raise AnswerError(
                    "`forward` is right, but `project_qkv` does not return queries, keys and values as it should"
                )
            inputs = (self.given, [x.flip(1) for x in self.given])
            if not all(same(module.attention_map(*x), self.module.attention_map(*x)) for x in inputs):
                raise AnswerError(
                    "`forward` is right, but `attention_map`, which was given, has changed: it returns the weights of "
                    "the queries and keys from `project_qkv`"
                )
        return result, given

    def _fits_a_head(self, _norm: torch.nn.Module, inputs: tuple) -> None:
        """A hook: norms before the split would stop with an error that says nothing."""
        width, heads, _ = self.args
        if inputs[0].shape[-1] != width // heads:
            raise AnswerError(
                (
                    "queries, keys and values are cut along another axis: of `self.qkv(x)` it is the *last* "
                    "that holds all three"
                )
                if inputs[0].shape[-1] in (3 * width, 3 * width // heads)
                else "the norms come too early: they are for one head's features, so they stand behind `split_heads`"
            )

    def _say_which_is_left(self, module: torch.nn.Module, error: NotImplementedError) -> None:
        """One of the two methods is done, the other not yet: raises AnswerError; returns when neither is."""
        if type(module).project_qkv is attention.SelfAttention.project_qkv:
            return
        if traceback.extract_tb(error.__traceback__)[-1].name == "project_qkv":  # `forward` has called it
            raise AnswerError(
                "`forward` calls `project_qkv`, which still raises NotImplementedError: write it, too"
            ) from None
        try:
            heads = module.project_qkv(*self.given)
        except NotImplementedError:
            return
        if self._heads_are_right(module):
            raise AnswerError("`project_qkv` is right. Now `forward`, which still raises NotImplementedError") from None
        if not (isinstance(heads, tuple | list) and len(heads) == 3 and all(isinstance(x, Tensor) for x in heads)):
            raise AnswerError("`project_qkv` should return three tensors: query, key, value") from None
        wanted = tuple(self.module.project_qkv(*self.given)[0].shape)
        for name, got in zip(("query", "key", "value"), heads, strict=True):
            if tuple(got.shape) != wanted:
                said = f"of `project_qkv` the {name} has shape {tuple(got.shape)}, it should have {wanted}"
                raise AnswerError(f"{said} (batch, heads, tokens, width / heads)") from None
        raise AnswerError(
            "`project_qkv` returns the right shapes, but not the right values: are queries and keys "
            "normed and values not? Are the parts taken in the order query, key, value?"
        ) from None

    def _heads_are_right(self, module: torch.nn.Module) -> bool:
        """By the weights that come of them: which of the two norms is whose makes no difference."""
        try:
            (query, key, value), (_, _, expected) = (one.project_qkv(*self.given) for one in (module, self.module))
        except Exception:
            return False
        weights = attention.attention_weights(query, key)
        return same(value, expected) and same(weights, self.module.attention_map(*self.given))


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


SELF_ERRORS = {
    "values to unpack": "`self.qkv(x)` is cut into three along its *last* axis, dim=-1",
    "cannot be multiplied": "`self.output` takes whole tokens: are the values mixed and the heads merged before?",
}

SelfAttention = Exercise(
    "SelfAttention",
    reference=attention.SelfAttention,
    exact=True,
    refused=lambda draw: [Case((6, 4), "a width of 6 and 4 heads")],
    lesson="02",
    number=4,
    partly=OTHERWISE,
    cases=attention_cases,
    mistakes=[
        "queries and keys are not normed: `self.norm_q` and `self.norm_k` wait for them, behind `split_heads`",
        wrong.self_attention(norm=""),
        "only one of queries and keys is normed: both are",
        wrong.self_attention(norm="q"),
        wrong.self_attention(norm="k"),
        "queries and keys go through the same norm: each has its own, `self.norm_q` and `self.norm_k`",
        wrong.self_attention(norm="qq"),
        wrong.self_attention(norm="kk"),
        "the values are normed, too: QK-norm is for queries and keys only",
        wrong.self_attention(norm="qkv"),
        "queries, keys and values are taken in another order: of the three parts of `self.qkv(x)`, they are 1, 2, 3",
        *[wrong.self_attention(order=order) for order in ("kvq", "vkq", "vqk", "qvk", "kqv")],
        "the output's linear map is missing: `self.output` lets the heads talk to each other at the end",
        wrong.attended,
        "the heads are put together without moving their axis back: `merge_heads` does it",
        wrong.self_attention(merge=wrong.merge_reshaped),
        "the heads are split before queries, keys and values are told apart: first three parts, then heads",
        wrong.taken_in_turns,
        wrong.reshaped_in_three,
        "the logits are divided by the root of d twice: `scaled_dot_product_attention` does it already",
        wrong.self_attention(mix=wrong.scaled_twice),
        "the logits are not divided by the root of d",
        wrong.self_attention(mix=wrong.unscaled),
        "the softmax goes over the queries: each query spreads its weight over the keys, the last axis",
        wrong.self_attention(mix=wrong.over_queries),
        "tokens do not look ahead (is_causal=True): that is for text, in a picture all look at all",
        wrong.self_attention(mix=wrong.causal),
        "x is added to the result: that is the block's business, in part 02b",
        lambda layer, x: x + layer(x),
        "there is one head only: `split_heads` shares the width among `self.heads`",
        wrong.self_attention(norm="", split=lambda x, h: x[:, None]),
        "the heads take turns at the features: `split_heads` gives each of them neighboring features",
        wrong.self_attention(split=wrong.unequal_heads),
        wrong.self_attention(split=wrong.unequal_heads, merge=lambda x: x.permute(0, 2, 3, 1).flatten(2)),
        "the values come through as they are, nothing is mixed: where do the weights come in?",
        wrong.self_attention(mix=lambda query, key, value: value),
        FIRST_ONLY,
        lambda layer, x: layer(x)[:1],
        lambda layer, x: layer(x)[0],
    ],
    praise="The same tokens come out",
)

# -- stretch: attention_in_chunks ------------------------------------------------------------------


class Tables(TorchFunctionMode):
    """Notes how many keys each product of matrices looks at, for n queries. others: lengths of something else."""

    def __init__(self, n: int, others: tuple[int, ...]):
        super().__init__()
        self.n, self.others, self.most = n, others, 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Look at every product."""
        result = function(*args, **(kwargs or {}))
        if function is F.scaled_dot_product_attention and len(args) > 1:
            self.most = max(self.most, args[1].shape[-2])
        product = function.__name__ in ("matmul", "__matmul__", "bmm", "mm", "einsum") and result.ndim > 1
        if product and result.shape[-2] == self.n and result.shape[-1] not in self.others:
            self.most = max(self.most, result.shape[-1])
        return result


LAST = 3  # the size in the last case


class ChunkCase(Case):
    """Queries, keys and values, and how many keys at a time."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Behind an error of axes stands what to look for. Raises AnswerError when more keys were taken at once."""
        query, _, value, size = self.args
        try:
            with explain_errors(CHUNK_ERRORS), Tables(query.shape[-2], (query.shape[-1], value.shape[-1])) as tables:
                result, given = super().use(answer, track)
            if tables.most > size == LAST and same(result, in_chunks(*self.args)):  # all else is right by then
                raise AnswerError(
                    f"right, but {tables.most} keys are looked at together, and `size` is {size}: the table of all "
                    "weights is never to exist. Take `size` keys and values at a time"
                )
            return result, given
        except RuntimeError as error:
            if "non-singleton dimension 0" in str(error):
                raise AnswerError(
                    "the pictures of the batch are split, not the keys: keys and values are split along dim=-2"
                ) from None
            raise

    def words(self, got: Tensor, expected: Tensor) -> str:
        """What is no number is not some distance away."""
        return not_finite(got)


def chunk_cases(draw: Draw) -> list[ChunkCase]:
    """A size that fits, one that leaves something over, one that is larger than all, and some large logits.

    There are one, no, two and one axes in front.
    """
    cases = []
    for m, size, axes, dtype in (
        (12, 4, 1, torch.float32),
        (13, 5, 0, torch.float64),
        (7, 9, 2, torch.float32),
        (14, LAST, 1, torch.float32),
    ):
        batch, heads, n = draw.sizes(3)
        d, e = draw.sizes(2, 8, 11)  # more than keys at a time, and no number of keys
        front = (batch + 6, heads)[:axes] if m == 12 else (batch, heads)[:axes]  # more pictures than keys in a chunk
        query, key = draw.normal(*front, n, d, dtype=dtype), draw.normal(*front, m, d, dtype=dtype)
        label = f"{m} keys, {size} at a time"
        if m == 14:  # in the first picture only
            query[0] *= 1000
            label += ", large logits"
        cases.append(ChunkCase((query, key, draw.normal(*front, m, e, dtype=dtype), size), label))
    return cases


CHUNK_ERRORS = {
    "must match the size": "does the largest logit, does the sum, keep its axis with size 1 (`keepdim=True`)?",
    "return_types.max": "`.max(dim)` returns values and their places, `.amax(dim)` the values alone",
}

attention_in_chunks = Exercise(
    "attention_in_chunks",
    reference=in_chunks,
    lesson="02",
    number=5,
    partly="any number of axes may stand in front, even none: do yours count from the end? Is the last chunk shorter?",
    cases=chunk_cases,
    mistakes=[
        "each chunk has a softmax of its own: the sum below the fraction must run over all chunks",
        wrong.softmax_each,
        lambda *args: wrong.softmax_each(*args, average=False),
        (
            "the chunks are not on one scale: each subtracted its own largest logit. When a larger one is found, the "
            "sums so far must be shrunk"
        ),
        wrong.not_shrunk,
        "only the last chunk counts: is the new highest kept for the next chunk (`highest = ...`), at its end?",
        lambda *args: wrong.online(*args, keep="never"),
        (
            "the sums so far are not shrunk when a larger logit is found: the factor is exp(old highest - new "
            "highest), not the other way round, and the new one is kept only after that"
        ),
        lambda *args: wrong.online(*args, keep="before"),
        "only one of the two sums is shrunk: `total` and `mixed` both were taken with the old highest",
        lambda *args: wrong.online(*args, shrunk="total"),
        lambda *args: wrong.online(*args, shrunk="mixed"),
        MatchesRule(
            "at the first chunk the old highest is minus infinity: the factor is exp(old - new), which "
            "is 0 then. The other way round it is infinite, and infinite times 0 is NaN",
            lambda got, expected: got.shape == expected.shape and bool(got.isnan().all()),
        ),
        UNDERFLOW + "the chunk",
        lambda *args: wrong.online(*args, dim=None),
        "the last chunk is left out when it is shorter than the others",
        wrong.whole_pieces_only,
        "the logits are not divided by the root of d",
        lambda q, k, v, size: wrong.weighted(lambda *_: 1.0)(q, k) @ v,
        "the sums are not divided at the end: mixed values over the total of their weights",
        lambda q, k, v, size: (wrong.logits(q, k) - wrong.logits(q, k).amax(-1, keepdim=True)).exp() @ v,
        MatchesRule(OVERFLOW + "subtract the largest logit seen so far", overflown),
    ],
    praise="The same as attention at once",
)

"""Lesson 02, its functions: the weights of attention, and heads. The rest is in `self_attention.py`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dit_course import attention
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import Case, Draw, Exercise
from dit_course.check.engine.mistakes import MatchesRule
from dit_course.check.engine.modules import AnswerError, explain_errors
from dit_course.check.lesson_02_attention import mistakes as wrong

FIRST_ONLY = "only the first picture of the batch comes back: is there a 0 where all of them are meant?"
OVERFLOW = "exp of a large logit is infinite, and infinite / infinite is NaN: "
UNDERFLOW = "exp of very negative logits is 0, and 0 / 0 is NaN: subtract the largest logit of each row, not one of "


def overflown(got: Tensor, expected: Tensor) -> bool:
    """Whether some values are NaN or infinite, and not all."""
    return got.shape == expected.shape and bool((~got.isfinite()).any()) and not bool(got.isnan().all())


def not_finite(got: Tensor) -> str:
    """How many values are NaN or infinite, for `Case.words`: how far off they are cannot be said."""
    bad = int((~got.isfinite()).sum())
    every = "all of your values are NaN or infinite"
    return every if bad == got.numel() else f"{bad} of your {got.numel()} values are NaN or infinite" if bad else ""


# -- attention_weights -----------------------------------------------------------------------------


@dataclass(frozen=True)
class WeightCase(Case):
    """Queries and keys, sometimes with axes in front."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Raises AnswerError for what is right only while there are axes in front, or while there are none."""
        try:
            with explain_errors(WEIGHTS_ERRORS):
                return super().use(answer, track)
        except IndexError as error:
            if self.args[0].ndim == 2 and "Dimension out of range" in str(error):
                raise AnswerError(
                    "here are queries without any axes in front, just (n, d), and there is no such axis as you "
                    "ask for: count from the end, where -1 is the last"
                ) from None
            raise
        except Exception:
            if self.args[0].ndim > 2 and self._is_right_without_axes_in_front(answer):
                raise AnswerError(
                    "right for one picture and one head. With axes in front, as batch and heads, `.T` and "
                    "`transpose(0, 1)` turn other axes than you mean: count from the end, where -1 is the last"
                ) from None
            raise

    def _is_right_without_axes_in_front(self, answer: Callable) -> bool:
        query, key = (x[0, 0].clone() for x in self.args)
        return same(answer(query, key), attention.attention_weights(query, key))

    def words(self, got: Tensor, expected: Tensor) -> str:
        """What is no number is not some distance away."""
        return not_finite(got)


def weight_cases(draw: Draw) -> list[WeightCase]:
    """One picture without batch or heads; two random shapes, one in double precision; and large logits."""
    cases = [WeightCase((draw.normal(5, 4), draw.normal(7, 4)), "5 queries, 7 keys")]
    for dtype, factor in ((torch.float32, 1), (torch.float64, 1), (torch.float32, 30)):
        batch, heads, n, m, d = draw.sizes(5)
        query, key = draw.normal(batch, heads, n, d, dtype=dtype), draw.normal(batch, heads, m, d, dtype=dtype)
        text = f"queries {batch}x{heads}x{n}x{d}, keys {batch}x{heads}x{m}x{d}"
        cases.append(WeightCase((factor * query, factor * key), text + (", large logits" if factor > 1 else "")))
    return cases


WEIGHTS_ERRORS = {
    "cannot be multiplied": "`@` takes rows of the first with columns of the second: which axes of the keys must swap?",
    "Expected size for first two dimensions": "which two axes of the keys must swap, counted from the end?",
}

attention_weights = Exercise(
    "attention_weights",
    reference=attention.attention_weights,
    lesson="02",
    number=1,
    cases=weight_cases,
    mistakes=[
        "your columns sum to 1, not your rows: the softmax goes over the keys, which axis is that?",
        wrong.weighted(dim=-2),
        "the softmax goes over the batch or the heads: each query spreads its weight over the keys, the last axis",
        wrong.weighted(dim=0),
        wrong.weighted(dim=1),
        "the logits are not divided by the square root of d: they are too large, so your softmax is too sharp",
        wrong.weighted(lambda query, key: 1.0),
        "the logits are divided by d itself: its square root is meant",
        wrong.weighted(lambda query, key: 1 / query.shape[-1]),
        "the logits are multiplied by the square root of d: they should be divided by it",
        wrong.weighted(lambda query, key: query.shape[-1] ** 0.5),
        (
            "the logits are divided by the root of `len(query)`, which is the size of its *first* axis: d is the last "
            "entry of its shape"
        ),
        wrong.weighted(lambda query, key: len(query) ** -0.5),
        wrong.weighted(lambda query, key: len(key) ** -0.5),
        "the logits are divided by the root of the number of tokens: d is the length of one query, the last axis",
        wrong.weighted(lambda query, key: query.shape[-2] ** -0.5),
        wrong.weighted(lambda query, key: key.shape[-2] ** -0.5),
        "the softmax comes first and the division after it, so your rows do not sum to 1: divide the logits",
        lambda q, k: wrong.weighted(lambda *_: 1.0)(q, k) * q.shape[-1] ** -0.5,
        lambda q, k: attention.attention_weights(q, k) * q.shape[-1] ** -0.5,
        "these are the logits: the softmax is missing, which makes weights of them",
        wrong.logits,
        lambda q, k: wrong.logits(q, k, 1.0),
        "your whole table sums to 1: each row should, as each token has its own look to share",
        wrong.over_all,
        "your table lies on its side: a row for each query, a column for each key",
        lambda q, k: attention.attention_weights(k, q),
        lambda q, k: attention.attention_weights(q, k).mT,
        "these are exponentials: divide each row by its sum, as softmax does",
        lambda q, k: wrong.logits(q, k).exp(),
        "these are logarithms of the weights: softmax is meant, not log_softmax",
        lambda q, k: wrong.logits(q, k).log_softmax(dim=-1),
        "each weight is made by itself (a sigmoid): a softmax lets the keys compete, so that a row sums to 1",
        lambda q, k: wrong.logits(q, k).sigmoid(),
        UNDERFLOW + "the whole table",
        wrong.one_highest,
        MatchesRule(
            OVERFLOW + "torch's softmax avoids that by subtracting the largest logit of a row first", overflown
        ),
    ],
    praise="Every row sums to 1, and the weights are the course's",
    picture=lambda weights: weights[None],
)

# -- split_heads and merge_heads -------------------------------------------------------------------


def head_sizes(draw: Draw) -> list[tuple[int, int, int, int, torch.dtype]]:
    """batch, heads, tokens and features of a head: all different, the products too."""
    found = [(3, 2, 5, 6, torch.float32)]  # 4 heads, as in the text, could share these 12 features, too
    for dtype in (torch.float32, torch.float64):  # the last is a single picture
        while True:
            batch, heads, tokens, size = draw.sizes(4)
            if tokens not in (heads * size, batch * heads) and heads != size:
                break
        found.append((batch if dtype == torch.float32 else 1, heads, tokens, size, dtype))
    return found


@dataclass(frozen=True)
class SplitCase(Case):
    """Tokens and a number of heads."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Behind an error of sizes that are no whole numbers stands what to do."""
        with explain_errors({"float": "a size is a whole number, and `//` divides to one"}):
            return super().use(answer, track)


def split_cases(draw: Draw) -> list[Case]:
    """Tokens, and the number of heads."""
    return [
        SplitCase((draw.normal(b, n, h * d, dtype=dtype), h), f"{b}x{n}x{h * d} in {h} heads")
        for b, h, n, d, dtype in head_sizes(draw)
    ]


def merge_cases(draw: Draw) -> list[Case]:
    """What heads have made."""
    return [Case((draw.normal(b, h, n, d, dtype=dtype),), f"{b}x{h}x{n}x{d}") for b, h, n, d, dtype in head_sizes(draw)]


split_heads = Exercise(
    "split_heads",
    reference=attention.split_heads,
    lesson="02",
    number=2,
    cases=split_cases,
    mistakes=[
        (
            "the tokens are only reshaped, so a head holds whole tokens instead of a part of each: split the width "
            "first, then change the order of the axes"
        ),
        wrong.heads_reshaped,
        "the width is split, but the heads come after the tokens: they belong in front, (batch, heads, tokens, d)",
        lambda x, h: x.unflatten(2, (h, -1)),
        "the heads take turns at the features: a head gets neighboring features, which axis splits off first?",
        wrong.unequal_heads,
        "there are four heads, always: the number of heads is `heads`, not a number in your code",
        wrong.four_heads,
        "heads and features of a head are swapped: there are `heads` heads, of width / heads features each",
        wrong.sizes_swapped,
        lambda x, h: x.unflatten(2, (-1, h)),
        "tokens and features are swapped within each head: (batch, heads, tokens, d) is wanted",
        lambda x, h: attention.split_heads(x, h).mT,
        "the heads come before the batch: (batch, heads, tokens, d) is wanted",
        lambda x, h: attention.split_heads(x, h).transpose(0, 1),
        "batch and heads have become one axis: keep them apart, (batch, heads, tokens, d)",
        lambda x, h: attention.split_heads(x, h).flatten(0, 1),
        MatchesRule(
            "the tokens are shared among the heads: every head sees all tokens, but a part of their features",
            lambda got, expected: got.ndim == 4 and got.shape[-1] == expected.shape[1] * expected.shape[-1],
        ),
        FIRST_ONLY,
        lambda x, h: attention.split_heads(x, h)[:1],
        lambda x, h: attention.split_heads(x, h)[0],
    ],
)


merge_heads = Exercise(
    "merge_heads",
    reference=attention.merge_heads,
    lesson="02",
    number=2,
    cases=merge_cases,
    mistakes=[
        (
            "the heads are only reshaped, so pieces of several tokens share a row: bring the heads of one token side "
            "by side first"
        ),
        wrong.merge_reshaped,
        (
            "`flatten(2)` comes too early: axes 2 and 3 are tokens and features, so these are merged. Bring the heads "
            "beside the features first"
        ),
        lambda x: x.flatten(2),
        "the axes stand in the right order, but heads and features are not merged yet: (batch, tokens, width)",
        lambda x: x.transpose(1, 2),
        "the features of the heads take turns: all features of head 0 come first, then those of head 1",
        lambda x: x.permute(0, 2, 3, 1).flatten(2),
        "heads and tokens are merged: the features are to be, so that each token has all of its width again",
        lambda x: x.flatten(1, 2),
        lambda x: x.transpose(1, 2).flatten(1, 2),
        "the heads are added or averaged: they belong side by side, none of them is lost",
        lambda x: x.sum(dim=1),
        lambda x: x.mean(dim=1),
        "tokens and features are swapped: (batch, tokens, width) is wanted",
        lambda x: attention.merge_heads(x).mT,
        lambda x: x.transpose(2, 3).flatten(1, 2),
        FIRST_ONLY,
        lambda x: attention.merge_heads(x)[:1],
        lambda x: attention.merge_heads(x)[0],
    ],
)

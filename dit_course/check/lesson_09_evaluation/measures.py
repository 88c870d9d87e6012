"""Lesson 09, second half: an honest measurement, the choices that nothing beats, and a distance without bias."""

from itertools import combinations

import torch
from torch import Tensor

from dit_course import evaluation
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import OTHERWISE, Case, Draw, Exercise
from dit_course.check.engine.mistakes import MatchesOutput, MatchesRule
from dit_course.check.lesson_09_evaluation import mistakes as wrong
from dit_course.check.lesson_09_evaluation.cases import ChosenCase, MeasuredCase, image_inputs, trained_judge

# -- measure ---------------------------------------------------------------------------------------


def measured_cases(draw: Draw) -> list[Case]:
    """A judge in training mode and pictures as bytes, then as floats; more real ones than drawn, and fewer."""
    cases = []
    for drawn, real, byte in ((61, 67, True), (60, 37, True), (29, 83, False)):
        labels = torch.randint(10, (drawn,), generator=draw.generator)
        args = (
            trained_judge(draw),
            image_inputs(draw, drawn, byte).flip(2),
            labels,
            image_inputs(draw, real, byte),
        )
        label = f"{drawn} drawn pictures against {real} real ones{'' if byte else ', in [0, 1]'}"
        cases.append(MeasuredCase(args, label, drawn < 61))
    return cases


M_HINTS = {
    "training": "the judge still learns: in training mode its batch norms look at the batch and change at every call",
    "mirrored": "the real pictures are mirrored, as a training loader does: these are not the real ones any more",
    "few": "the Frechet distance is taken to a part of the real pictures: with fewer it grows by itself",
    "bytes": "the judge gets floats up to 255: `.float()` does not divide. Bytes it can take as they are",
    "bytes again": "the judge gets floats up to 255 for the accuracy: `.float()` does not divide. Give it the bytes",
    "labels": "the accuracy is not that of the labels which were asked for",
    "swapped": "precision and recall are swapped: which features does `precision_recall` want first?",
    "unequal": "precision and recall need as many real as drawn pictures, or they depend on the numbers",
}


def _remaining() -> list[MatchesOutput]:
    """Every combination of the careless measurement's mistakes; the hint names the first that is left."""
    found = []
    for count in range(1, len(wrong.MISTAKES) + 1):
        for left in combinations(wrong.MISTAKES, count):
            others = len({name.split()[0] for name in left}) - 1  # ".float()" is one mistake, in two places
            more = f" (and {others} more)" if others else ""
            found.append(MatchesOutput(f"{M_HINTS[left[0]]}{more}", wrong.careless(left)))
    return found


def _reordered(got: Tensor, expected: Tensor) -> bool:
    return got.shape == expected.shape and same(got.sort().values, expected.sort().values)


measure = Exercise(
    "measure",
    reference=evaluation.measure,
    lesson="09",
    number=4,
    cases=measured_cases,
    mistakes=[
        *_remaining(),
        M_HINTS["training"],
        wrong.still_training,
        "the pictures are cut to equal numbers for all: only precision and recall want that, the others take them all",
        *[wrong.cut(which) for which in ("real", "drawn", "real drawn")],
        "all is divided by 255, and pictures may come as floats in [0, 1] already: the judge takes both as they are",
        lambda judge, drawn, labels, real: evaluation.measure(judge, drawn / 255, labels, real / 255),
        "the accuracy is in percent: a share from 0 to 1 is wanted",
        lambda *args: evaluation.measure(*args) * torch.tensor([100.0, 1, 1, 1]),
        MatchesRule("the four numbers are in another order: accuracy, distance, precision, recall", _reordered),
    ],
    praise="An honest measurement",
)


# -- pareto_front ----------------------------------------------------------------------------------


def score_cases(draw: Draw) -> list[Case]:
    """A table with ties, one with equal rows, one with three goals."""
    table = torch.tensor([[0.2, 0.1], [0.9, 0.3], [0.9, 0.5], [0.5, 0.8], [0.1, 0.8], [0.4, 0.6]])
    ties = torch.randint(5, (9, 2), generator=draw.generator).float()
    ties = torch.cat([ties, torch.tensor([[5.0, 0.0], [0.0, 5.0], [0.0, 5.0], [5.0, -1.0]])])
    return [
        ChosenCase((table,), "6 choices with 2 goals"),
        ChosenCase((ties,), "13 choices, some of them equal"),
        ChosenCase((0.5 + 1e-4 * draw.normal(6, 2),), "6 choices close to each other"),
        ChosenCase((draw.normal(8, 3),), "8 choices with 3 goals"),
        ChosenCase((torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 2.0]]),), "3 choices, one of them best in all"),
    ]


pareto_front = Exercise(
    "pareto_front",
    reference=evaluation.pareto_front,
    lesson="09",
    number=5,
    partly=OTHERWISE,
    cases=score_cases,
    mistakes=[
        "you list the rows that beat nobody: either lower counts as better with you, or you ask along the wrong axis",
        lambda scores: evaluation.pareto_front(-scores),
        (
            "with you a row is beaten only where another is better in *every* column: as good in one and better in "
            "another is enough"
        ),
        wrong.front(lambda others, rows: (others > rows).all(dim=2)),
        "with you a row is beaten by any that is better in *one* column: it must not be worse in the others",
        wrong.front(lambda others, rows: (others > rows).any(dim=2)),
        (
            "with you a row is beaten by one that is as good in every column, and every row is as good as itself: in "
            "one it must be better"
        ),
        wrong.front(lambda others, rows: (others >= rows).all(dim=2)),
        "these are the rows that *are* beaten: the others are wanted",
        lambda scores: _marked(scores).logical_not().nonzero().flatten(),
        "you mark each row with true or false: their numbers are wanted, as nonzero gives them",
        lambda scores: _marked(scores),
        "these are the rows themselves: their numbers are wanted",
        lambda scores: scores[evaluation.pareto_front(scores)],
        "your numbers stand in a table with one column, as nonzero leaves them: flatten it",
        lambda scores: evaluation.pareto_front(scores)[:, None],
        "adding the columns up decides how much one is worth in terms of the other, and nobody asked for that",
        lambda scores: scores.sum(dim=1).argmax(),
        lambda scores: scores.sum(dim=1).argmax()[None],
        "these are the rows that are best in some column: one in between may be beaten by nobody, too",
        lambda scores: scores.argmax(dim=0),
        lambda scores: scores.argmax(dim=0).unique(),
        lambda scores: (scores == scores.max(dim=0).values).any(dim=1).nonzero().flatten(),
    ],
    praise="The same choices",
)


def _marked(scores: Tensor) -> Tensor:
    mark = torch.zeros(len(scores), dtype=torch.bool)
    mark[evaluation.pareto_front(scores)] = True
    return mark


# -- stretch: kernel_distance ----------------------------------------------------------------------


def feature_cases(draw: Draw) -> list[Case]:
    """Sets of different sizes, close to each other and apart, and a set with itself, which falls below 0."""
    cases = []
    for n, m, size, apart in ((5, 8, 3, 0.0), (9, 6, 4, 1.0), (12, 7, 10, 0.3)):
        args = (draw.normal(n, size), draw.normal(m, size) + apart)
        cases.append(Case(args, f"{n} and {m} samples of {size} features"))
    return [*cases, Case((args[0], args[0].flip(0)), "a set of 12 samples and itself")]


def _divided(a: Tensor, b: Tensor) -> Tensor:
    """Without the diagonal, divided by n * n."""
    a, b = a.double(), b.double()
    within = [(x @ x.T / x.shape[1] + 1) ** 3 for x in (a, b)]
    means = [(table.sum() - table.trace()) / len(table) ** 2 for table in within]
    return means[0] + means[1] - 2 * ((a @ b.T / a.shape[1] + 1) ** 3).mean()


CROSSED = (
    lambda n, m: n * m,
    lambda n, m: n * (m - 1),
    lambda n, m: m * (n - 1),
    lambda n, m: n * m - min(n, m),
    lambda n, m: n * (n - 1),
)


def _crossed(pairs):
    """The diagonal is left out between the sets, too, and the sum divided by some number of pairs."""

    def wrong(a: Tensor, b: Tensor) -> Tensor:
        table = (a.double() @ b.double().T / a.shape[1] + 1) ** 3
        between = (table.sum() - table.trace()) / pairs(len(a), len(b))
        return evaluation.kernel_distance(a, b) + 2 * table.mean() - 2 * between

    return wrong


kernel_distance = Exercise(
    "kernel_distance",
    reference=evaluation.kernel_distance,
    lesson="09",
    number=6,
    cases=feature_cases,
    mistakes=[
        "each sample is also paired with itself, and its kernel with itself is large: leave the diagonal out",
        wrong.kernel(itself=True),
        "the diagonal is left out of the sum, but still counted in the number of pairs: there are n (n - 1)",
        _divided,
        "the sum has each pair once, but the number of pairs, n (n - 1), counts it twice",
        wrong.kernel(share=0.5),
        "the products are not divided by the number of features",
        wrong.kernel(scaled=False),
        "the power is 3",
        *[wrong.kernel(power=power) for power in (1, 2, 4)],
        "the 1 in the kernel is missing",
        wrong.kernel(plus=0),
        "the pairs between both sets count twice: a with b, and b with a",
        wrong.kernel(between=1),
        "between the two sets no pair is left out: a_i and b_i are different samples",
        *[_crossed(pairs) for pairs in CROSSED],
        "the products are divided by the number of samples: d is the number of features, the length of a row",
        wrong.kernel(divisor=lambda x, y: len(x)),
        "the 1 is added to the quotient, not to the number it is divided by",
        wrong.kernel(divisor=lambda x, y: x.shape[1] + 1, plus=0),
        "the square root at the end is too much: this distance stays squared, and may fall below 0",
        lambda a, b: evaluation.kernel_distance(a, b).clamp(min=0).sqrt(),
        lambda a, b: evaluation.kernel_distance(a, b).abs().sqrt(),
    ],
    praise="The same distance",
)

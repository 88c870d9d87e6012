"""Lesson 03: the class as a vector, and labels that are dropped."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dit_course import conditioning
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import Draw, Exercise, ModuleCase
from dit_course.check.engine.mistakes import MatchesRule
from dit_course.check.engine.modules import AnswerError, load_reference_weights
from dit_course.check.lesson_03_adaln_blocks import conditioning_mistakes as wrong
from dit_course.check.lesson_03_adaln_blocks.conditioning import FIRST_ONLY

FATES = 40  # batches in which the fate of the labels is counted


@dataclass(frozen=True)
class LabelCase(ModuleCase):
    """Labels that a module looks up."""

    def built(self, answer) -> nn.Module:
        """The answer with the case's table. Raises AnswerError when there is no row for "no label"."""
        classes, width, _ = self.args
        try:
            return load_reference_weights(answer, self.args, self.module)
        except AnswerError:
            if any(own.shape == (classes, width) for own in answer(*self.args).parameters()):
                raise AnswerError(
                    'the table has a row for each class, and needs one more, the last, for "no label"'
                ) from None
            raise

    def use(self, answer, track: bool = False) -> tuple[object, tuple]:
        """Build, load, call; look at a new table, once the result is right."""
        given, embedder = self.given[0].clone(), self.built(answer)
        if hasattr(embedder, "drop_labels") and embedder.drop_labels(given.clone()) is None:
            raise AnswerError("`drop_labels` returns nothing: is the `return` missing?")
        result = embedder(given)
        if not track and same(result, self.module(*self.given)):
            table = getattr(answer(100, 64, 0.1), "table", None)
            if not isinstance(table, nn.Embedding):
                raise AnswerError(
                    "right, but the next cell looks for the table as `self.table`, an nn.Embedding: give it this name"
                )
            spread = table.weight.std().item()
            if not 0.015 < spread < 0.025:
                raise AnswerError(
                    "right, but the table does not start small: its numbers should spread by 0.02, and spread "
                    f"by {spread:.2g}"
                )
        return result, (given,)


@dataclass(frozen=True)
class DroppedLabels(LabelCase):
    """A module in training is called often, and what became of the labels is counted; the last three are "no label".

    The result: the share of labels that became "no label" (to one decimal, which chance does not change), whether
    labels had the same fate in all of a batch, in every batch, in as many places of each, or with another one; whether
    every vector is a row that it may be, and whether those that are not are zero, class 0, or the last class.
    """

    def use(self, answer, track: bool = False) -> tuple[object, tuple]:
        """Build, load, call often, count."""
        module, given = self.built(answer), self.given[0].clone()
        try:
            return self._counted(lambda: module(given)), (given,)
        except RuntimeError as error:
            if "not implemented for 'Long'" in str(error):  # torch.rand_like(labels)
                raise AnswerError(
                    "the random numbers take the labels' type here, and labels are whole numbers: between 0 "
                    "and 1 there are none. Draw ordinary random numbers, of the labels' shape"
                ) from error
            raise

    def words(self, got: Tensor, expected: Tensor) -> str:
        """What was counted."""
        if not same(got[0], expected[0]):
            return f'about {got[0]:.0%} of the labels became "no label", it should be {expected[0]:.0%}'
        which = "what becomes of them" if same(got[1:5], expected[1:5]) else "which ones"
        return f"the share of dropped labels is right, {which} is not"

    def imitate(self, wrong) -> object:
        """The same count for a wrong version."""
        return self._counted(lambda: wrong(self.module, self.given[0].clone()))

    def _counted(self, call) -> object:
        (labels,), table = self.given, self.module.table.weight.detach()
        outputs = []
        for _ in range(FATES):
            output = call()
            if not isinstance(output, Tensor) or output.shape != (len(labels), table.shape[1]):
                return torch.zeros_like(output) if isinstance(output, Tensor) else output
            outputs.append(output.detach())
        vectors = torch.stack(outputs)  # (FATES, labels, width)
        kept, dropped, zero, first, last = (
            (vectors - row).abs().amax(dim=2) < 1e-3 for row in (table[labels], table[-1], 0, table[0], table[-2])
        )
        odd = ~(kept | dropped)
        fates = dropped[:, :-3].float()  # (FATES, labels)
        share, some = fates.mean(), 0 < fates.mean() < 1
        alike = (fates == fates[:, :1]).all(dim=1).float().mean().round().bool()
        again = some & (fates == fates[0]).all()
        counted = some & (fates.sum(dim=1).var() < fates.shape[1] * share * (1 - share) / 4)
        tied = some & ~again & any(abs(_correlation(fates - share, lag)) > 0.25 for lag in (1, fates.shape[1] // 2))
        share = share.new_tensor(self.args[2]) if some and (alike or again) else share.round(decimals=1)
        found = [
            alike,
            again,
            counted,
            tied,
            ~odd.any(),
            *((odd & x).sum() > odd.sum() / 2 for x in (zero, first, last)),
        ]
        return torch.stack([share, *(x.float() for x in found)])


def _correlation(x: Tensor, lag: int) -> float:
    """Of numbers (batches, n) around 0 with those `lag` places further on."""
    return ((x[:, lag:] * x[:, :-lag]).mean() / x.square().mean()).item()


def label_cases(draw: Draw) -> list[LabelCase]:
    """Outside of training; in training with no, with every and with some labels dropped."""
    classes, width, batch = draw.sizes(3, 3, 9)
    model = conditioning.LabelEmbedder(classes, width, 1.0).eval()
    labels = torch.randint(classes, (batch,), generator=draw.generator)
    labels = torch.cat([labels, torch.tensor([1, classes])])  # "no label" may be asked for
    label = f"{len(labels)} labels of {classes} classes, outside of training"
    cases = [LabelCase((classes, width, 1.0), label, (labels,), model, draw)]
    for rate in (1.0, 0.3, 0.0):
        classes, width = draw.sizes(2, 3, 9)
        model = conditioning.LabelEmbedder(classes, width, rate).train()
        labels = torch.randint(classes, (50,), generator=draw.generator)
        labels = torch.cat([labels, torch.full((3,), classes)])
        label = f"{FATES} batches of 53 labels, in training with dropout {rate}, whose fate was counted"
        cases.append(DroppedLabels((classes, width, rate), label, (labels,), model, draw))
    return cases


def refused_labels(draw: Draw) -> list[ModuleCase]:
    """Numbers that are no class."""
    model = conditioning.LabelEmbedder(3, 6, 0.1).eval()
    return [ModuleCase((3, 6, 0.1), f"label {y} of 3 classes", (torch.tensor([0, y]),), model, draw) for y in (4, -1)]


LabelEmbedder = Exercise(
    "LabelEmbedder",
    reference=conditioning.LabelEmbedder,
    refused=refused_labels,
    lesson="03",
    number=2,
    partly="which labels are dropped in training, and which number do they become?",
    cases=label_cases,
    mistakes=[
        "labels are never dropped: while training (`self.training`), each has to become num_classes now and then",
        lambda m, y: m.table(y),
        "labels are dropped outside of training, too: look at `self.training` first",
        lambda m, y: wrong.dropping(m, y, wrong.chances(y) < m.dropout),
        "labels are kept where they should be dropped: the comparison is the wrong way round",
        lambda m, y: wrong.dropping(m, y, m.training & (wrong.chances(y) > m.dropout)),
        "the labels of a batch are dropped all together or not at all: draw one random number for each label",
        lambda m, y: wrong.dropping(m, y, m.training & (torch.rand(1) < m.dropout)),
        "the same labels are dropped at every call: draw new random numbers each time, without a seed of your own",
        lambda m, y: wrong.dropping(
            m, y, m.training & (torch.rand(y.shape, generator=torch.Generator().manual_seed(0)) < m.dropout)
        ),
        "as many labels are dropped in each batch, and a small batch would lose none: let chance decide for each label",
        lambda m, y: wrong.dropping(m, y, m.training & (torch.randperm(len(y)) < int(m.dropout * len(y)))),
        "one label's fate depends on another's: draw one random number for each label",
        lambda m, y: wrong.dropping(
            m, y, m.training & (wrong.chances(y[::2]).repeat_interleave(2)[: len(y)] < m.dropout)
        ),
        'in training a label that is "no label" already becomes another one: only dropped labels are replaced',
        lambda m, y: wrong.dropping(
            m, torch.where(y == m.num_classes, y * (not m.training), y), m.training & (wrong.chances(y) < m.dropout)
        ),
        'a dropped label becomes class 0: "no label" has a row of its own, number num_classes',
        lambda m, y: wrong.dropping(m, y, m.training & (wrong.chances(y) < m.dropout), 0),
        'a dropped label becomes the last class: "no label" has the row behind it, number num_classes',
        lambda m, y: wrong.dropping(m, y, m.training & (wrong.chances(y) < m.dropout), m.num_classes - 1),
        'the vector of a dropped label is set to zero: it should be the row of "no label", which is learned',
        lambda m, y: m.table(y) * (~(m.training & (wrong.chances(y) < m.dropout)))[:, None],
        'single features are dropped, as F.dropout does it: here a whole label becomes "no label"',
        lambda m, y: F.dropout(m.table(y), m.dropout, m.training),
        "the same share of labels is dropped whatever `dropout` says: compare with self.dropout",
        *[lambda m, y, rate=rate: wrong.dropping(m, y, m.training & (wrong.chances(y) < rate)) for rate in (0.1, 0.5)],
        MatchesRule(
            "the random numbers come from a bell curve (`torch.randn`): below 0.1 there lie more than half of them",
            wrong.normal_share,
        ),
        FIRST_ONLY,
        lambda m, y: m(y)[:1],
    ],
    praise="Kept and dropped as they should be",
)

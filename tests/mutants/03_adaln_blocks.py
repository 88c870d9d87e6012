"""Lesson 03: what people write for the time, the class, the block and the last layer."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from dit_course.attention import MLP, SelfAttention
from dit_course.blocks import make_norm, zero_linear
from dit_course.guards import check_labels
from mutants import mutant, right_answer

# -- TimestepEmbedder ------------------------------------------------------------------------------


def started(*layers):
    """As the given lines do."""
    for linear in layers:
        nn.init.normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)


class Clock(nn.Module):
    """The given lines, and the frame of many answers."""

    def __init__(self, width, frequencies=256, max_period=10000.0):
        super().__init__()
        if frequencies % 2:
            raise ValueError("no even number")
        steps = torch.arange(frequencies // 2) / (frequencies // 2)
        self.register_buffer("frequencies", torch.exp(-math.log(max_period) * steps))
        self.input, self.output = nn.Linear(frequencies, width), nn.Linear(width, width)
        started(self.input, self.output)

    def forward(self, t):
        return self.output(F.silu(self.input(self.sinusoids(t))))

    def sinusoids(self, t):
        angles = self.angles(t)
        return torch.cat([angles.cos(), angles.sin()], dim=1)

    def angles(self, t):
        return 1000 * t[:, None] * self.frequencies


@right_answer(exercise="TimestepEmbedder")
class ByOuter(Clock):
    def angles(self, t):
        return torch.outer(1000 * t, self.frequencies)


@right_answer(exercise="TimestepEmbedder")
class ByEinsum(Clock):
    def angles(self, t):
        return torch.einsum("b,f->bf", t, 1000 * self.frequencies)


@right_answer(exercise="TimestepEmbedder")
class InSequence(nn.Module):
    def __init__(self, width, frequencies=256, max_period=10000.0):
        super().__init__()
        self.slowest, (self.half, odd) = max_period, divmod(frequencies, 2)
        if odd:
            raise ValueError("no even number")
        self.mlp = nn.Sequential(nn.Linear(frequencies, width), nn.SiLU(), nn.Linear(width, width))
        started(*self.mlp[::2])

    def forward(self, t):
        return self.mlp(self.sinusoids(t))

    def sinusoids(self, t):
        rows = [[1000 * s / self.slowest ** (k / self.half) for k in range(self.half)] for s in t.tolist()]
        return torch.tensor([[f(a) for f in (math.cos, math.sin) for a in row] for row in rows])


@mutant(exercise="TimestepEmbedder", hint="the factor 1000 is missing")
class WithoutFactor(Clock):
    def angles(self, t):
        return t.unsqueeze(1) * self.frequencies


@mutant(exercise="TimestepEmbedder", hint="t is divided by 1000")
class DividedByFactor(Clock):
    def angles(self, t):
        return t[:, None] / 1000 * self.frequencies


@mutant(exercise="TimestepEmbedder", hint="2 pi times too fast")
class InTurns(Clock):
    def angles(self, t):
        return 2 * math.pi * 1000 * t[:, None] * self.frequencies


@mutant(exercise="TimestepEmbedder", hint="2 pi times too fast")
class TwoPiInsteadOfFactor(Clock):
    def angles(self, t):
        return 2 * math.pi * t[:, None] * self.frequencies


@mutant(exercise="TimestepEmbedder", hint="you divide by the frequencies")
class DividedByFrequencies(Clock):
    def angles(self, t):
        return 1000 * t[:, None] / self.frequencies


@mutant(exercise="TimestepEmbedder", hint="sines and cosines are swapped")
class SinesFirst(Clock):
    def sinusoids(self, t):
        return torch.cat([self.angles(t).sin(), self.angles(t).cos()], dim=1)


@mutant(exercise="TimestepEmbedder", hint="take turns")
class TakingTurns(Clock):
    def sinusoids(self, t):
        return torch.stack([self.angles(t).cos(), self.angles(t).sin()], dim=-1).flatten(1)


@mutant(exercise="TimestepEmbedder", hint="only cosines, or only sines")
class OnlySines(Clock):
    def sinusoids(self, t):
        return torch.cat([self.angles(t).sin(), self.angles(t).sin()], dim=1)


@mutant(exercise="TimestepEmbedder", hint="no SiLU between the two")
class WithoutActivation(Clock):
    def forward(self, t):
        return self.output(self.input(self.sinusoids(t)))


@mutant(exercise="TimestepEmbedder", hint="F.silu is meant")
class WithRelu(Clock):
    def forward(self, t):
        return self.output(self.input(self.sinusoids(t)).relu())


@mutant(exercise="TimestepEmbedder", hint="F.silu is meant")
class WithSigmoid(Clock):
    def forward(self, t):
        return self.output(torch.sigmoid(self.input(self.sinusoids(t))))


@mutant(exercise="TimestepEmbedder", hint="activation after the last linear layer")
class ActivationAtTheEnd(Clock):
    def forward(self, t):
        return F.silu(self.output(self.input(self.sinusoids(t))))


@mutant(exercise="TimestepEmbedder", hint="activation before the first linear layer")
class ActivationAtTheStart(Clock):
    def forward(self, t):
        return self.output(self.input(F.silu(self.sinusoids(t))))


@mutant(exercise="TimestepEmbedder", hint="only one of the two linear layers")
class OneLayer(Clock):
    def forward(self, t):
        return F.silu(self.input(self.sinusoids(t)))


@mutant(exercise="TimestepEmbedder", hint="the sinusoids themselves come back")
class SinusoidsOnly(Clock):
    def forward(self, t):
        return self.sinusoids(t)


@mutant(exercise="TimestepEmbedder", hint="only the first of the batch is used")
class FirstTime(Clock):
    def forward(self, t):
        return super().forward(t[0:1])


@mutant(exercise="TimestepEmbedder", hint="only t = 0 comes out right")
class FactorHundred(Clock):
    def angles(self, t):
        return 100 * t[:, None] * self.frequencies


@mutant(exercise="TimestepEmbedder", hint="only t = 0 comes out right")
class RoundedTimes(Clock):
    def angles(self, t):
        return 1000 * t.int()[:, None] * self.frequencies


@mutant(exercise="TimestepEmbedder", hint="`sinusoids` alone is not")
class FactorInForward(Clock):
    def forward(self, t):
        return super().forward(1000 * t)

    def angles(self, t):
        return t[:, None] * self.frequencies


@mutant(exercise="TimestepEmbedder", hint="`sinusoids` alone is not")
class AllInForward(Clock):
    def forward(self, t):
        angles = self.angles(t)
        return self.output(F.silu(self.input(torch.cat([angles.cos(), angles.sin()], dim=1))))

    def sinusoids(self, t):
        return None


@mutant(exercise="TimestepEmbedder", hint="an error stopped your code")
class NoColumn(Clock):
    def angles(self, t):
        return 1000 * t * self.frequencies


@mutant(exercise="TimestepEmbedder", hint="an error stopped your code")
class CatAlongTheBatch(Clock):
    def sinusoids(self, t):
        return torch.cat([self.angles(t).cos(), self.angles(t).sin()])


# -- LabelEmbedder ---------------------------------------------------------------------------------


class Table(nn.Module):
    def __init__(self, num_classes, width, dropout=0.1):
        super().__init__()
        self.num_classes, self.dropout = num_classes, dropout
        self.table = nn.Embedding(num_classes + 1, width)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, labels):
        check_labels(labels, self.num_classes)
        if self.training:
            labels = torch.where(self.dropped(labels), self.new_label(), labels)
        return self.table(labels)

    def dropped(self, labels):
        return torch.rand(len(labels)) < self.dropout

    def new_label(self):
        return self.num_classes


@right_answer(exercise="LabelEmbedder")
class ByWhere(Table):
    pass


@right_answer(exercise="LabelEmbedder")
class ByBernoulli(Table):
    def dropped(self, labels):
        return torch.full(labels.shape, float(self.dropout)).bernoulli().bool()


@right_answer(exercise="LabelEmbedder")
class ByOneHot(nn.Module):
    def __init__(self, num_classes, width, dropout=0.1):
        super().__init__()
        self.table = nn.Embedding(num_classes + 1, width)
        self.table.weight.data.normal_().mul_(0.02)
        self.dropout = dropout

    def forward(self, labels):
        check_labels(labels, len(self.table.weight) - 1)
        labels = labels.clone()
        for i in range(len(labels)):
            if self.training and torch.rand(()) < self.dropout:
                labels[i] = len(self.table.weight) - 1
        return F.one_hot(labels, len(self.table.weight)).float() @ self.table.weight


@right_answer(exercise="LabelEmbedder")
class CarefulAtTheEdges(Table):
    def dropped(self, labels):
        return torch.rand(labels.shape) > 1 - self.dropout


@mutant(exercise="LabelEmbedder", hint="labels are never dropped")
class NeverDropped(Table):
    def forward(self, labels):
        return self.table(labels)


@mutant(exercise="LabelEmbedder", hint="labels are dropped outside of training")
class AlwaysDropped(Table):
    def forward(self, labels):
        return self.table(labels.masked_fill(self.dropped(labels), self.num_classes))


@mutant(exercise="LabelEmbedder", hint="the comparison is the wrong way round")
class WrongWayRound(Table):
    def dropped(self, labels):
        return torch.rand(labels.shape) > self.dropout


@mutant(exercise="LabelEmbedder", hint="all together or not at all")
class AllTogether(Table):
    def dropped(self, labels):
        return (torch.rand(1) < self.dropout).expand(labels.shape)


@mutant(exercise="LabelEmbedder", hint="a dropped label becomes class 0")
class ToClassZero(Table):
    def new_label(self):
        return 0


@mutant(exercise="LabelEmbedder", hint="a dropped label becomes the last class")
class ToTheLastClass(Table):
    def new_label(self):
        return self.num_classes - 1


@mutant(exercise="LabelEmbedder", hint="vector of a dropped label is set to zero")
class ToZeroVector(Table):
    def forward(self, labels):
        keep = ~self.dropped(labels) if self.training else torch.ones(labels.shape)
        return self.table(labels) * keep[:, None]


@mutant(exercise="LabelEmbedder", hint="single features are dropped")
class FeatureDropout(Table):
    def forward(self, labels):
        return F.dropout(self.table(labels), self.dropout, self.training)


@mutant(exercise="LabelEmbedder", hint="the same share of labels is dropped whatever")
class TenPercent(Table):
    def dropped(self, labels):
        return torch.rand(labels.shape) < 0.1


@mutant(exercise="LabelEmbedder", hint="the same share of labels is dropped whatever")
class FlippedCoin(Table):
    def dropped(self, labels):
        return torch.randint(0, 2, labels.shape) == 0


@mutant(exercise="LabelEmbedder", hint="come from a bell curve")
class NormalNumbers(Table):
    def dropped(self, labels):
        return torch.randn(labels.shape) < self.dropout


@mutant(exercise="LabelEmbedder", hint="take the labels' type")
class RandLike(Table):
    def dropped(self, labels):
        return torch.rand_like(labels) < self.dropout


@mutant(exercise="LabelEmbedder", hint="does not start small")
class StandardInit(Table):
    def __init__(self, num_classes, width, dropout=0.1):
        super().__init__(num_classes, width, dropout)
        self.table = nn.Embedding(num_classes + 1, width)


@mutant(exercise="LabelEmbedder", hint="`drop_labels` returns nothing")
class NothingReturned(Table):
    def forward(self, labels):
        return self.table(self.drop_labels(labels))

    def drop_labels(self, labels):
        if self.training:
            labels = labels.masked_fill(self.dropped(labels), self.num_classes)


@mutant(exercise="LabelEmbedder", hint="looks for the table as `self.table`")
class OtherName(nn.Module):
    def __init__(self, num_classes, width, dropout=0.1):
        super().__init__()
        self.num_classes, self.dropout = num_classes, dropout
        self.embedding = nn.Embedding(num_classes + 1, width)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, labels):
        dropped = torch.rand(labels.shape) < (self.dropout if self.training else 0)
        return self.embedding(labels.masked_fill(dropped, self.num_classes))


@mutant(exercise="LabelEmbedder", hint="of the labels became")
class HalfAsOften(Table):
    def dropped(self, labels):
        return torch.rand(labels.shape) < self.dropout / 2


@mutant(exercise="LabelEmbedder", hint="needs one more, the last")
class NoRowForNoLabel(Table):
    def __init__(self, num_classes, width, dropout=0.1):
        super().__init__(num_classes, width, dropout)
        self.table = nn.Embedding(num_classes, width)


@mutant(exercise="LabelEmbedder", hint="changes its input in place")
class InPlace(Table):
    def forward(self, labels):
        if self.training:
            labels.masked_fill_(self.dropped(labels), self.num_classes)
        return self.table(labels)


@mutant(exercise="LabelEmbedder", hint="only the first of the batch is used")
class FirstLabel(Table):
    def forward(self, labels):
        return super().forward(labels)[:1]


@mutant(exercise="LabelEmbedder", hint="your module has no weight of shape")
class TransposedTable(Table):
    def __init__(self, num_classes, width, dropout=0.1):
        super().__init__(num_classes, width, dropout)
        self.table = nn.Embedding(width, num_classes + 2)


# -- modulate --------------------------------------------------------------------------------------


@right_answer(exercise="modulate")
def multiplied_out(x, shift, scale):
    return x + x * scale + shift


@right_answer(exercise="modulate")
def by_addcmul(x, shift, scale):
    return torch.addcmul(shift.expand_as(x), x, scale + 1)


@right_answer(exercise="modulate")
def token_by_token(x, shift, scale):
    return torch.stack([x[:, i] * (1 + scale[:, 0]) + shift[:, 0] for i in range(x.shape[1])], dim=1)


@mutant(exercise="modulate", hint="axis")
def one_axis_too_many(x, shift, scale):
    return (x * (1 + scale) + shift)[:, None]


# -- DiTBlock --------------------------------------------------------------------------------------


class Block(nn.Module):
    """The given lines, and the frame of many answers: change what is wrong."""

    zero = True

    def __init__(self, width, heads, mlp_ratio=4.0, qk_norm=True, norm="rms"):
        super().__init__()
        self.norm_1, self.norm_2 = make_norm(norm, width), make_norm(norm, width)
        self.attention, self.mlp = SelfAttention(width, heads, qk_norm), MLP(width, int(width * mlp_ratio))
        self.modulation = zero_linear(width, 6 * width) if self.zero else nn.Linear(width, 6 * width)

    def six(self, condition):
        return self.modulation(F.silu(condition)).unsqueeze(1).chunk(6, dim=2)

    def forward(self, x, condition):
        return self.lines(x, *self.six(condition))

    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        x = x + gate_1 * self.attention(self.norm_1(x) * (1 + scale_1) + shift_1)
        return x + gate_2 * self.mlp(self.norm_2(x) * (1 + scale_2) + shift_2)


@right_answer(exercise="DiTBlock")
class InSplits(Block):
    def six(self, condition):
        parts = self.modulation(F.silu(condition)).split(condition.shape[1], dim=1)
        return [part[:, None, :] for part in parts]


@right_answer(exercise="DiTBlock")
class SixMatrices(Block):
    def six(self, condition):
        pieces = zip(self.modulation.weight.chunk(6), self.modulation.bias.chunk(6), strict=True)
        return [F.linear(F.silu(condition), weight, bias).unsqueeze(1) for weight, bias in pieces]


@right_answer(exercise="DiTBlock")
class WithSequential(nn.Module):
    """As in the official code: SiLU and linear layer in one module, zeroed by hand."""

    def __init__(self, width, heads, mlp_ratio=4.0, qk_norm=True, norm="rms"):
        super().__init__()
        self.norm = make_norm(norm, width)
        self.attention, self.mlp = SelfAttention(width, heads, qk_norm), MLP(width, int(width * mlp_ratio))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        for parameter in self.modulation.parameters():
            nn.init.constant_(parameter, 0)

    def forward(self, x, condition):
        knobs = self.modulation(condition).unflatten(1, (2, 3, 1, -1))
        for layer, three in zip((self.attention, self.mlp), knobs.unbind(1), strict=True):
            shift, scale, gate = three.unbind(1)
            x = torch.addcmul(x, gate, layer(self.norm(x) * (scale + 1) + shift))
        return x


@mutant(exercise="DiTBlock", hint="*all* weights and biases of the modulation start at zero")
class OnlyGatesAtZero(Block):
    zero = False

    def __init__(self, *args):
        super().__init__(*args)
        for gate in (2, 5):
            for parameter in self.modulation.parameters():
                parameter.data.chunk(6)[gate].zero_()


@mutant(exercise="DiTBlock", hint="its gates do not start at zero")
class NotZero(Block):
    zero = False


@mutant(exercise="DiTBlock", hint="its gates do not start at zero")
class OnlyBiasZero(Block):
    zero = False

    def __init__(self, *args):
        super().__init__(*args)
        nn.init.xavier_uniform_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)


@mutant(exercise="DiTBlock", hint="its gates do not start at zero")
class OnesInTheBias(Block):
    def __init__(self, *args):
        super().__init__(*args)
        nn.init.ones_(self.modulation.bias)


@mutant(exercise="DiTBlock", hint="zero times zero")
class EverythingZero(Block):
    def __init__(self, *args):
        super().__init__(*args)
        for linear in (self.attention.output, self.mlp.down):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)


@mutant(exercise="DiTBlock", hint="the condition is not used")
class PlainBlock(Block):
    def forward(self, x, condition):
        x = x + self.attention(self.norm_1(x))
        return x + self.mlp(self.norm_2(x))


@mutant(exercise="DiTBlock", hint="the SiLU before the modulation is missing")
class NoSilu(Block):
    def six(self, condition):
        return self.modulation(condition)[:, None].chunk(6, dim=-1)


@mutant(exercise="DiTBlock", hint="the activation before the modulation is another one")
class GeluFirst(Block):
    def six(self, condition):
        return self.modulation(F.gelu(condition))[:, None].chunk(6, dim=-1)


def reordered(hint, name, *order):
    """A block that takes the six pieces in another order."""

    class Reordered(Block):
        def six(self, condition):
            pieces = super().six(condition)
            return [pieces[i] for i in order]

    Reordered.__name__ = name
    mutant(exercise="DiTBlock", hint=hint)(Reordered)


ORDER = "the six parts come in another order"
reordered(ORDER, "ScaleFirst", 1, 0, 2, 4, 3, 5)
reordered(ORDER, "GateFirst", 1, 2, 0, 4, 5, 3)
reordered(ORDER, "BothShiftsFirst", 0, 2, 4, 1, 3, 5)
reordered(ORDER, "MlpFirstInTheList", 3, 4, 5, 0, 1, 2)
reordered("both lines use the first gate", "FirstGateTwice", 0, 1, 2, 3, 4, 2)
reordered("both lines use the same shift", "SameThreeTwice", 0, 1, 2, 0, 1, 2)


@mutant(exercise="DiTBlock", hint="every sixth number")
class EverySixth(Block):
    def six(self, condition):
        knobs = self.modulation(F.silu(condition))[:, None]
        return [knobs[..., i::6] for i in range(6)]


@mutant(exercise="DiTBlock", hint="the gates are missing")
class NoGates(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        return super().lines(x, shift_1, scale_1, 1, shift_2, scale_2, 1)


@mutant(exercise="DiTBlock", hint="the gate is 1 + gate")
class OnePlusGate(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        return super().lines(x, shift_1, scale_1, 1 + gate_1, shift_2, scale_2, 1 + gate_2)


@mutant(exercise="DiTBlock", hint="the gate goes through a sigmoid")
class SigmoidGate(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        return super().lines(x, shift_1, scale_1, gate_1.sigmoid(), shift_2, scale_2, gate_2.sigmoid())


@mutant(exercise="DiTBlock", hint="the gate multiplies x, too")
class GateOverAll(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        x = gate_1 * (x + self.attention(self.norm_1(x) * (1 + scale_1) + shift_1))
        return gate_2 * (x + self.mlp(self.norm_2(x) * (1 + scale_2) + shift_2))


@mutant(exercise="DiTBlock", hint="x itself is missing")
class NoResidual(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        x = gate_1 * self.attention(self.norm_1(x) * (1 + scale_1) + shift_1)
        return gate_2 * self.mlp(self.norm_2(x) * (1 + scale_2) + shift_2)


@mutant(exercise="DiTBlock", hint="the norm of x is added instead of x")
class NormedResidual(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        x = self.norm_1(x)
        x = x + gate_1 * self.attention(x * (1 + scale_1) + shift_1)
        x = self.norm_2(x)
        return x + gate_2 * self.mlp(x * (1 + scale_2) + shift_2)


@mutant(exercise="DiTBlock", hint="the norms are missing")
class NoNorms(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        x = x + gate_1 * self.attention(x * (1 + scale_1) + shift_1)
        return x + gate_2 * self.mlp(x * (1 + scale_2) + shift_2)


@mutant(exercise="DiTBlock", hint="norm and modulation are in the wrong order")
class NormAfterModulation(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        x = x + gate_1 * self.attention(self.norm_1(x * (1 + scale_1) + shift_1))
        return x + gate_2 * self.mlp(self.norm_2(x * (1 + scale_2) + shift_2))


@mutant(exercise="DiTBlock", hint="the MLP looks at the x from before the attention")
class Parallel(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        attended = gate_1 * self.attention(self.norm_1(x) * (1 + scale_1) + shift_1)
        return x + attended + gate_2 * self.mlp(self.norm_2(x) * (1 + scale_2) + shift_2)


@mutant(exercise="DiTBlock", hint="the MLP comes before the attention")
class MlpBeforeAttention(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        x = x + gate_1 * self.mlp(self.norm_1(x) * (1 + scale_1) + shift_1)
        return x + gate_2 * self.attention(self.norm_2(x) * (1 + scale_2) + shift_2)


@mutant(exercise="DiTBlock", hint="the MLP is missing")
class NoMlp(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        return x + gate_1 * self.attention(self.norm_1(x) * (1 + scale_1) + shift_1)


@mutant(exercise="DiTBlock", hint="the attention is missing")
class NoAttention(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        return x + gate_2 * self.mlp(self.norm_2(x) * (1 + scale_2) + shift_2)


@mutant(exercise="DiTBlock", hint="only the first of the batch is used")
class FirstCondition(Block):
    def six(self, condition):
        return self.modulation(F.silu(condition[0])).chunk(6)


@mutant(exercise="DiTBlock", hint="the pieces of the modulation do not fit")
class NoNewAxis(Block):
    def six(self, condition):
        return self.modulation(F.silu(condition)).chunk(6, dim=-1)


@mutant(exercise="DiTBlock", hint="the pieces of the modulation do not fit")
class ChunkOfTheBatch(Block):
    def forward(self, x, condition):
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(F.silu(condition))[:, None].chunk(6)
        return self.lines(x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2)


@mutant(exercise="DiTBlock", hint="look for its modulation as `self.modulation`")
class OtherNameOfTheLayer(Block):
    def __init__(self, *args):
        super().__init__(*args)
        self.knobs = self.modulation
        del self.modulation

    def six(self, condition):
        return self.knobs(F.silu(condition)).unsqueeze(1).chunk(6, dim=2)


@mutant(exercise="DiTBlock", hint="changes its input in place")
class InPlaceBlock(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        x += gate_1 * self.attention(self.norm_1(x) * (1 + scale_1) + shift_1)
        x += gate_2 * self.mlp(self.norm_2(x) * (1 + scale_2) + shift_2)
        return x


@mutant(exercise="DiTBlock", hint="missing in the first line")
class NoXInLineOne(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        x = gate_1 * self.attention(self.norm_1(x) * (1 + scale_1) + shift_1)
        return x + gate_2 * self.mlp(self.norm_2(x) * (1 + scale_2) + shift_2)


@mutant(exercise="DiTBlock", hint="missing in the second line")
class NoXInLineTwo(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        x = x + gate_1 * self.attention(self.norm_1(x) * (1 + scale_1) + shift_1)
        return gate_2 * self.mlp(self.norm_2(x) * (1 + scale_2) + shift_2)


@mutant(exercise="DiTBlock", hint="the gates stand inside the layers")
class GateInside(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        x = x + self.attention(gate_1 * (self.norm_1(x) * (1 + scale_1) + shift_1))
        return x + self.mlp(gate_2 * (self.norm_2(x) * (1 + scale_2) + shift_2))


@mutant(exercise="DiTBlock", hint="the SiLU comes after the modulation")
class SiluLate(Block):
    def six(self, condition):
        return F.silu(self.modulation(condition))[:, None].chunk(6, dim=-1)


@mutant(exercise="DiTBlock", hint="the MLP's tokens are not modulated")
class SecondLineBare(Block):
    def lines(self, x, shift_1, scale_1, gate_1, shift_2, scale_2, gate_2):
        x = x + gate_1 * self.attention(self.norm_1(x) * (1 + scale_1) + shift_1)
        return x + gate_2 * self.mlp(self.norm_2(x))


@mutant(exercise="DiTBlock", hint="your module has no weight of shape")
class ThreePieces(Block):
    def __init__(self, width, *args):
        super().__init__(width, *args)
        self.modulation = zero_linear(width, 3 * width)


# -- FinalLayer ------------------------------------------------------------------------------------


class Last(nn.Module):
    def __init__(self, width, outputs, norm="rms"):
        super().__init__()
        self.norm = make_norm(norm, width)
        self.modulation, self.linear = zero_linear(width, 2 * width), zero_linear(width, outputs)

    def forward(self, x, condition):
        shift, scale = self.two(condition)
        return self.linear(self.norm(x) * (1 + scale) + shift)

    def two(self, condition):
        return self.modulation(F.silu(condition))[:, None].chunk(2, dim=-1)


@right_answer(exercise="FinalLayer")
class BySlices(Last):
    def two(self, condition):
        knobs = self.modulation(F.silu(condition)).unflatten(1, (2, 1, -1))
        return knobs[:, 0], knobs[:, 1]


@right_answer(exercise="FinalLayer")
class TokenByToken(Last):
    def forward(self, x, condition):
        shift, scale = (knob[:, 0] for knob in self.two(condition))
        return torch.stack([self.linear(self.norm(token) * (1 + scale) + shift) for token in x.unbind(1)], dim=1)


@mutant(exercise="FinalLayer", hint="the last layer has no residual")
class WithResidual(Last):
    def forward(self, x, condition):
        return x + super().forward(x, condition)


@right_answer(exercise="FinalLayer")
class ByHand(nn.Module):
    def __init__(self, width, outputs, norm="rms"):
        super().__init__()
        self.norm = make_norm(norm, width)
        self.knobs = nn.Sequential(nn.SiLU(), zero_linear(width, 2 * width))
        self.matrix, self.bias = nn.Parameter(torch.zeros(width, outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x, condition):
        knobs = self.knobs(condition)
        shift, scale = knobs[:, : x.shape[2]], knobs[:, x.shape[2] :]
        return (
            torch.einsum("bnw,wo->bno", self.norm(x) * (1 + scale[:, None]) + shift[:, None], self.matrix) + self.bias
        )


@mutant(exercise="FinalLayer", hint="a new one does not answer zero")
class LinearNotZero(Last):
    def __init__(self, width, outputs, norm="rms"):
        super().__init__(width, outputs, norm)
        self.linear = nn.Linear(width, outputs)


@mutant(exercise="FinalLayer", hint="a new one does not answer zero")
class BiasNotZero(Last):
    def __init__(self, width, outputs, norm="rms"):
        super().__init__(width, outputs, norm)
        nn.init.ones_(self.linear.bias)


@mutant(exercise="FinalLayer", hint="its modulation does not start at zero")
class ModulationNotZero(Last):
    def __init__(self, width, outputs, norm="rms"):
        super().__init__(width, outputs, norm)
        self.modulation = nn.Linear(width, 2 * width)


@mutant(exercise="FinalLayer", hint="the pieces of the modulation do not fit")
class NoTokenAxis(Last):
    def two(self, condition):
        return self.modulation(F.silu(condition)).chunk(2, dim=-1)


@mutant(exercise="FinalLayer", hint="the condition is not used")
class Unconditioned(Last):
    def forward(self, x, condition):
        return self.linear(self.norm(x))


@mutant(exercise="FinalLayer", hint="the condition is not used")
class LinearAlone(Last):
    def forward(self, x, condition):
        return self.linear(x)


@mutant(exercise="FinalLayer", hint="the SiLU before the modulation is missing")
class WithoutSilu(Last):
    def two(self, condition):
        return self.modulation(condition)[:, None].chunk(2, dim=-1)


@mutant(exercise="FinalLayer", hint="the activation before the modulation is another one")
class ReluFirst(Last):
    def two(self, condition):
        return self.modulation(F.relu(condition))[:, None].chunk(2, dim=-1)


@mutant(exercise="FinalLayer", hint="shift and scale are swapped")
class ScaleThenShift(Last):
    def two(self, condition):
        return super().two(condition)[::-1]


@mutant(exercise="FinalLayer", hint="the norm is missing")
class NormForgotten(Last):
    def forward(self, x, condition):
        shift, scale = self.two(condition)
        return self.linear(x * (1 + scale) + shift)


@mutant(exercise="FinalLayer", hint="norm and modulation are in the wrong order")
class NormLast(Last):
    def forward(self, x, condition):
        shift, scale = self.two(condition)
        return self.linear(self.norm(x * (1 + scale) + shift))


@mutant(exercise="FinalLayer", hint="the linear map at the end is missing")
class LinearForgotten(Last):
    def forward(self, x, condition):
        shift, scale = self.two(condition)
        return self.norm(x) * (1 + scale) + shift


@mutant(exercise="FinalLayer", hint="an activation bends the result")
class TanhAtTheEnd(Last):
    def forward(self, x, condition):
        return torch.tanh(super().forward(x, condition))


@mutant(exercise="FinalLayer", hint="only the first of the batch is used")
class FirstConditionOnly(Last):
    def two(self, condition):
        return self.modulation(F.silu(condition[:1])).chunk(2, dim=-1)


@mutant(exercise="FinalLayer", hint="your module has no weight of shape")
class SixPieces(Last):
    def __init__(self, width, outputs, norm="rms"):
        super().__init__(width, outputs, norm)
        self.modulation = zero_linear(width, 6 * width)


# -- block_changes ---------------------------------------------------------------------------------


@mutant(exercise="block_changes", hint="asks the model for `embed`")
def by_walking(model, x, t, y):
    tokens, condition, changes = model.embed(x), model.condition(t, y), []
    for block in model.blocks:
        before, tokens = tokens, block(tokens, condition)
        changes.append((tokens - before).abs().max())
    return torch.stack(changes)


@right_answer(exercise="block_changes")
def by_two_kinds_of_hooks(model, x, t, y):
    before, after = [], []
    handles = []
    for block in model.blocks:
        handles.append(block.register_forward_pre_hook(lambda _, inputs: before.append(inputs[0])))
        handles.append(block.register_forward_hook(lambda _, inputs, output: after.append(output)))
    model(x, t, y)
    [handle.remove() for handle in handles]
    return torch.tensor([float((a - b).abs().max()) for a, b in zip(after, before, strict=True)])


@right_answer(exercise="block_changes")
@torch.no_grad()
def in_a_dictionary(model, x, t, y):
    found = {}

    def listen(block, inputs, output):
        found[block] = max((output - inputs[0]).max(), (inputs[0] - output).max())

    handles = [block.register_forward_hook(listen) for block in model.blocks]
    try:
        model(x, t, y)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([found[block] for block in model.blocks])


@right_answer(exercise="block_changes")
def by_a_partial(model, x, t, y):
    found = [None] * len(model.blocks)

    def listen(number, block, inputs, output):
        found[number] = torch.linalg.vector_norm(output - inputs[0], ord=float("inf"))

    handles = [b.register_forward_hook(partial(listen, i)) for i, b in enumerate(model.blocks)]
    was_training = model.training
    model.eval()(x, t, y)
    model.train(was_training)
    for handle in handles:
        handle.remove()
    return torch.stack(found).detach()


def listened(model, x, t, y, measure):
    found = []
    hooks = [b.register_forward_hook(lambda _, i, o: found.append(measure(i[0], o))) for b in model.blocks]
    with torch.no_grad():
        model(x, t, y)
    for hook in hooks:
        hook.remove()
    return torch.stack(found)


@mutant(exercise="block_changes", hint="the model ran")
def one_run_a_block(model, x, t, y):
    found = []
    for block in model.blocks:
        handle = block.register_forward_hook(lambda _, i, o: found.append((o - i[0]).abs().max()))
        model(x, t, y)
        handle.remove()
    return torch.stack(found)


@mutant(exercise="block_changes", hint="comes back in another mode")
def left_in_eval(model, x, t, y):
    return listened(model.eval(), x, t, y, lambda before, after: (after - before).abs().max())


@mutant(exercise="block_changes", hint="your hook returns something")
def hook_with_a_result(model, x, t, y):
    hooks = [b.register_forward_hook(lambda _, i, o: (o - i[0]).abs().max()) for b in model.blocks]
    found = model(x, t, y)
    [hook.remove() for hook in hooks]
    return found


@mutant(exercise="block_changes", hint="that of new blocks is")
def new_blocks(model, x, t, y):
    from dit_course import DiTBlock

    width = model.blocks[0].modulation.in_features
    tokens, condition = torch.randn(2, 4, width), torch.randn(2, width)
    return torch.stack([(DiTBlock(width, 2)(tokens, condition) - tokens).abs().max() for _ in model.blocks])


@mutant(exercise="block_changes", hint="your hooks are still on the model")
def hooks_left_behind(model, x, t, y):
    found = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, i, o: found.append((o - i[0]).abs().max()))
    model(x, t, y)
    return torch.stack(found)


@mutant(exercise="block_changes", hint="returns a list")
def not_stacked(model, x, t, y):
    return list(by_two_kinds_of_hooks(model, x, t, y))


@mutant(exercise="block_changes", hint="it should have")
def the_output_of_the_model(model, x, t, y):
    return model(x, t, y)

"""Lesson 10: work, even tokens, power laws, shares of a batch, and a number format."""

import torch
from torch import Tensor

from dit_course import scaling
from dit_course.check.engine.exercise import OTHERWISE, Case, Draw, Exercise
from dit_course.check.lesson_10_scaling_up import mistakes as wrong
from dit_course.check.lesson_10_scaling_up.cases import MeasuredCase, NumberCase, ShareCase
from dit_course.distributed import rows
from dit_course.dit import DiTConfig

# -- training_flops --------------------------------------------------------------------------------


def training_cases(draw: Draw) -> list[Case]:
    """Networks of different kinds, and different numbers of pictures."""
    a, b = draw.sizes(2, 2, 7)
    usual = DiTConfig(image_size=28, channels=1, width=128, depth=6, heads=4)
    odd = DiTConfig((8, 12), 4, 3, 24 * a, b, 6, 1.5, 3, None, out_channels=6)
    plain = DiTConfig(16, 2, 4, 32 * b, a, 2, 2.0, 0, 7, qk_norm=False)
    return [
        NumberCase((usual, 1), "one picture, the course's small network"),
        NumberCase((usual, 64_000), "64,000 pictures, the same network"),
        NumberCase((odd, 1000 * a), f"{1000 * a:,} pictures of 8x12, another network"),
        NumberCase((plain, 300 * b), f"{300 * b:,} pictures of 16x16, a network without registers"),
    ]


training_flops = Exercise(
    "training_flops",
    reference=scaling.training_flops,
    lesson="10",
    number=1,
    partly=OTHERWISE,
    cases=training_cases,
    mistakes=[
        "the number of pictures has no influence: each of them goes through the network",
        lambda config, pictures: 6 * wrong.work(config),
        "only the way forward is counted: training goes backward, too",
        lambda config, pictures: 2 * wrong.work(config) * pictures,
        lambda config, pictures: wrong.work(config) * pictures,
        "these are multiply-adds: a FLOP is a multiplication *or* an addition, so there are twice as many",
        lambda config, pictures: 3 * wrong.work(config) * pictures,
        (
            "that is one forward pass too few: backward each matrix product needs *two* of its kind, one for the "
            "gradient of its input and one for that of its weights"
        ),
        lambda config, pictures: 4 * wrong.work(config) * pictures,
        "that is one forward pass too many: forward once, backward twice as much, together three",
        lambda config, pictures: 8 * wrong.work(config) * pictures,
        "you count parameters: each works once for *every token*, or once a picture, or (the pairs) there is none",
        lambda config, pictures: 6 * wrong.weights(config) * pictures,
        lambda config, pictures: 2 * wrong.weights(config) * pictures,
        (
            "6 FLOPs for each parameter and token is the rule for language models: here adaLN's parameters work once "
            "a picture, and the pairs of tokens are work without parameters. `count_multiply_adds` knows"
        ),
        lambda config, pictures: 6 * wrong.weights(config) * wrong.tokens(config) * pictures,
    ],
    praise="The same number of FLOPs",
)

# -- even_tokens -----------------------------------------------------------------------------------


def even_cases(draw: Draw) -> list[Case]:
    """Usual networks and unusual ones; widths and ratios that no formula with a 6 in it gets right."""
    a, b = draw.sizes(2, 3, 9)
    cases = [(384, 4.0), (16 * a, 2.0), (12 * b, 1.5), (20 * a, 8 / 3)]
    return [NumberCase(case, f"width {case[0]}, mlp_ratio {case[1]:.3g}") for case in cases]


even_tokens = Exercise(
    "even_tokens",
    reference=scaling.even_tokens,
    lesson="10",
    number=2,
    partly=OTHERWISE,
    cases=even_cases,
    mistakes=[
        "the MLP is left out: its two layers do most of the linear work",
        wrong.even(layers=0),
        "the linear layers of attention are left out: queries, keys, values and the output",
        wrong.even(attention=0),
        "attention's last layer is left out: after the heads there is another one, from w to w",
        wrong.even(attention=3),
        "the MLP has two layers: up to mlp_ratio times the width, and down again",
        wrong.even(layers=1),
        "each pair works twice: a query meets a key, and then a value is gathered, w multiply-adds each time",
        wrong.even(pair=1),
        "the answer does not depend on `mlp_ratio`: is a 4 (or the 8 or the 6 it leads to) written into your formula?",
        wrong.even(ratio=4.0),
        "adaLN is counted for every token: it works once a picture, and is left out here",
        wrong.even(more=6),
        "width is left over where it should have gone, or has gone where it stays: w² linear work a token, w a pair",
        lambda width, ratio: width * wrong.even()(width, ratio),
        lambda width, ratio: wrong.even()(width, ratio) / width,
        "the fraction is upside down: linear work divided by that of a pair",
        lambda width, ratio: 1 / wrong.even()(width, ratio),
        "both sides grow with the number of tokens n: linear work with n, pairs with n². Divide both by n",
        lambda width, ratio: wrong.even()(width, ratio) ** 0.5,
    ],
    praise="The same number of tokens",
)

# -- fit_power_law ---------------------------------------------------------------------------------


def law_cases(draw: Draw) -> list[Case]:
    """Points near falling and growing laws, spread unevenly; two points; the FLOPs of real trainings."""
    cases = []
    for count, exponent, scale in ((6, -0.3, 1.0), (4, 0.7, 100.0), (9, -1.5, 0.1)):
        x = scale * (1.2 * draw.normal(count, dtype=torch.float64)).exp()
        y = 5 * x**exponent * (0.2 * draw.normal(count, dtype=torch.float64)).exp()
        cases.append(MeasuredCase((x, y), f"{count} points near a law with exponent {exponent}"))
    flops = torch.tensor([3e11, 1e12, 4e12, 2e13])
    cases.append(MeasuredCase((flops, 0.5 * (flops / 1e12) ** -0.125), "4 points of float32, x up to 2e13"))
    return cases


fit_power_law = Exercise(
    "fit_power_law",
    reference=scaling.fit_power_law,
    lesson="10",
    number=3,
    partly=OTHERWISE,
    cases=law_cases,
    mistakes=[
        "factor and exponent are swapped: the factor comes first",
        lambda x, y: scaling.fit_power_law(x, y).flip(0),
        "this is a straight line through x and y: a power law is straight only in the logarithms of *both*",
        wrong.fitted(lambda x: x, lambda y: y, lambda start: start),
        wrong.fitted(lambda x: x, lambda y: y),
        "only one of x and y is brought to logarithms: that fits an exponential or a logarithm, not a power",
        wrong.fitted(before_x=lambda x: x),
        wrong.fitted(before_y=lambda y: y, after=lambda start: start),
        wrong.fitted(before_y=lambda y: y),
        "the factor is still a logarithm: the line begins at log(factor), and exp undoes the log",
        wrong.fitted(after=lambda start: start),
        "the logarithm and what undoes it have different bases: log goes with exp, log10 with 10 ** ...",
        wrong.fitted(torch.log10, torch.log10),
        wrong.fitted(after=lambda start: 10**start),
        "x is fitted by y: it is y that depends on x",
        wrong.fitted(fit=wrong.turned),
        lambda x, y: scaling.fit_power_law(y, x),
        "your line is forced through the origin: subtract the mean of log x first",
        wrong.fitted(fit=wrong.through_zero),
        wrong.fitted(fit=lambda x, y: (torch.zeros(()).double(), wrong.through_zero(x, y)[1])),
        "only the first and the last point decide: least squares listens to all of them",
        wrong.fitted(fit=wrong.through_ends),
        "the exponent is divided by something else than the summed squares of log x about its mean",
        wrong.fitted(fit=wrong.sloped(lambda x, y: (y - y.mean()).square().sum())),
        wrong.fitted(fit=wrong.sloped(lambda x, y: x.square().sum())),
        wrong.fitted(fit=wrong.sloped(lambda x, y: (x - x.mean()).square().mean())),
        "the exponent's sign is wrong: a law that falls has a negative one",
        lambda x, y: scaling.fit_power_law(x, y) * torch.tensor([1.0, -1.0]),
    ],
    praise="The same law",
)

# -- Share -----------------------------------------------------------------------------------------


def share_cases(draw: Draw) -> list[Case]:
    """One process, several, several parts, both; then a batch that does not fit, one that is too small, and none."""
    a, b, c = draw.sizes(3, 2, 5)
    cases = []
    for world, accumulate, batch in ((a, 1, 3 * a), (1, b, 2 * b), (a, b, c * a * b), (1, 1, 7)):
        label = f"{batch} rows, {world} process{'es' * (world > 1)}, {accumulate} part{'s' * (accumulate > 1)} each"
        cases.append(ShareCase((world, accumulate, batch), label))
    cases.append(ShareCase((a, b, a * b * c + 1), "a batch that cannot be shared out evenly"))
    cases.append(ShareCase((3, 2, 3), "a batch with fewer rows than there are parts"))
    cases.append(ShareCase((2, 1, 0), "a batch of no rows: every part would be empty"))
    return cases


BatchShard = Exercise(
    "BatchShard",
    reference=rows.BatchShard,
    lesson="10",
    number=4,
    partly=OTHERWISE,
    cases=share_cases,
    praise="Every row is computed once, by one process",
)

# -- stretch: to_bfloat16 --------------------------------------------------------------------------


def rounding_cases(draw: Draw) -> list[Case]:
    """Numbers of all sizes, both signs, and many that lie exactly halfway, or one bit beside it."""
    a, b = draw.sizes(2)
    powers = 2.0 ** torch.arange(-20, 20).repeat(5)  # (200,)
    halves = (1 + (2 * torch.arange(200) + 1) / 256) * powers * draw.normal(200).sign()
    steps = torch.tensor([[1], [-1]], dtype=torch.int32)
    beside = (halves.view(torch.int32) + steps).view(torch.float32).flatten()  # (400,)
    spread = draw.normal(400) * (8 * draw.normal(400)).exp()
    return [
        Case((draw.normal(a, b),), f"a table of {a}x{b} numbers"),
        Case((spread,), "400 numbers, tiny to huge"),
        Case((halves,), "200 numbers halfway between two"),
        Case((beside,), "400 numbers beside the middle of two"),
        Case((torch.tensor([0.0, 1.0, -1.5, 256.0, 3.140625]),), "numbers that bfloat16 has"),
    ]


to_bfloat16 = Exercise(
    "to_bfloat16",
    reference=scaling.to_bfloat16,
    lesson="10",
    number=5,
    partly=OTHERWISE,
    tolerance=1e-7,
    cases=rounding_cases,
    mistakes=[
        "your answer is its input, unchanged or nearly so: of the 32 bits the first 16 stay",
        lambda x: x,
        "these are the bits, read as a whole number: a second `.view` turns them back",
        lambda x: scaling.to_bfloat16(x).view(torch.int32),
        "the second half is cut off, so everything is rounded towards zero: go to the *nearest*",
        wrong.by_bits(0),
        "halfway always goes away from zero: it should go to the number whose last bit is 0",
        wrong.by_bits(0x8000),
        "halfway always goes towards zero: it should go to the number whose last bit is 0",
        wrong.by_bits(0x7FFF),
        "everything goes away from zero, even what is hardly over a number: go to the *nearest*",
        wrong.by_bits(0xFFFF),
        wrong.by_bits(0x10000),
        "that is float16: 5 bits of exponent and 10 behind the point; bfloat16 has 8 and 7",
        lambda x: x.half().float(),
        "bfloat16 has 7 bits behind the *floating* point: its steps grow with the number, yours are equally wide",
        lambda x: (x * 128).round() / 128,
        (
            "`.int()` and `.to(torch.int32)` convert the value, and drop what stands behind the point: `.view` keeps "
            "the bits"
        ),
        lambda x: by_value(x),
    ],
    praise="The same as torch's own rounding",
)


def by_value(x: Tensor) -> Tensor:
    """The recipe, with the value in place of its bits."""
    whole = x.int()
    return ((whole + 0x7FFF + ((whole >> 16) & 1)) >> 16 << 16).float()

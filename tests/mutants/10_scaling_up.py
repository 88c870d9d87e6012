"""Lesson 10: what people write for work, power laws, shares of a batch and rounding."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from dit_course import count_multiply_adds, count_parameters
from mutants import mutant, right_answer

# -- training_flops --------------------------------------------------------------------------------


@right_answer(exercise="training_flops")
def forward_and_twice_backward(config, pictures):
    forward = 2 * sum(count_multiply_adds(config).values())
    backward = 2 * forward
    return (forward + backward) * pictures


@right_answer(exercise="training_flops")
def in_a_loop(config, pictures):
    total = 0.0
    for part in count_multiply_adds(config).values():
        total = total + 6.0 * part * pictures
    return total


@mutant(exercise="training_flops", hint="only the way forward is counted")
def forward_only(config, pictures):
    return 2 * sum(count_multiply_adds(config).values()) * pictures


@mutant(exercise="training_flops", hint="only the way forward is counted")
def multiply_adds_only(config, pictures):
    return sum(count_multiply_adds(config).values()) * pictures


@mutant(exercise="training_flops", hint="these are multiply-adds")
def without_the_two(config, pictures):
    return 3 * sum(count_multiply_adds(config).values()) * pictures


@mutant(exercise="training_flops", hint="one forward pass too few")
def backward_like_forward(config, pictures):
    forward = 2 * sum(count_multiply_adds(config).values())
    return (forward + forward) * pictures


@mutant(exercise="training_flops", hint="one forward pass too many")
def four_passes(config, pictures):
    return 4 * 2 * sum(count_multiply_adds(config).values()) * pictures


@mutant(exercise="training_flops", hint="the number of pictures has no influence")
def of_one_picture(config, pictures):
    return 6 * sum(count_multiply_adds(config).values())


@mutant(exercise="training_flops", hint="you count parameters")
def six_parameters(config, pictures):
    return 6 * sum(count_parameters(config).values()) * pictures


@mutant(exercise="training_flops", hint="you count parameters")
def two_parameters(config, pictures):
    return 2 * sum(count_parameters(config).values()) * pictures


@mutant(exercise="training_flops", hint="the rule for language models")
def six_n_d(config, pictures):
    rows, columns = config.grid
    return 6 * sum(count_parameters(config).values()) * pictures * (rows * columns + config.registers)


@mutant(exercise="training_flops", hint="a dictionary of parts")
def part_by_part(config, pictures):
    return {part: 6 * count * pictures for part, count in count_multiply_adds(config).items()}


@mutant(exercise="training_flops", hint="right on one picture, the course's small network, but not on 64,000")
def squared_pictures(config, pictures):
    return 6 * sum(count_multiply_adds(config).values()) * pictures**2


# -- even_tokens -----------------------------------------------------------------------------------


@right_answer(exercise="even_tokens")
def in_one_line(width, mlp_ratio=4.0):
    return (2 + mlp_ratio) * width


@right_answer(exercise="even_tokens")
def by_search(width, mlp_ratio=4.0):
    tokens = 1.0
    for _ in range(200):  # n = linear(n) / (pairs(n) / n)
        tokens = (4 * tokens * width**2 + 2 * tokens * width * (mlp_ratio * width)) / (2 * tokens * width)
    return torch.tensor(tokens)


@mutant(exercise="even_tokens", hint="the MLP is left out")
def without_mlp(width, mlp_ratio=4.0):
    return 4 * width**2 / (2 * width)


@mutant(exercise="even_tokens", hint="the linear layers of attention are left out")
def without_attention(width, mlp_ratio=4.0):
    return 2 * mlp_ratio * width**2 / (2 * width)


@mutant(exercise="even_tokens", hint="attention's last layer is left out")
def without_output(width, mlp_ratio=4.0):
    return (3 + 2 * mlp_ratio) * width / 2


@mutant(exercise="even_tokens", hint="the MLP has two layers")
def one_mlp_layer(width, mlp_ratio=4.0):
    return (4 * width**2 + mlp_ratio * width**2) / (2 * width)


@mutant(exercise="even_tokens", hint="each pair works twice")
def pairs_once(width, mlp_ratio=4.0):
    return (4 * width**2 + 2 * mlp_ratio * width**2) / width


@mutant(exercise="even_tokens", hint="does not depend on `mlp_ratio`")
def six_widths(width, mlp_ratio=4.0):
    return 6 * width


@mutant(exercise="even_tokens", hint="adaLN is counted for every token")
def with_adaln(width, mlp_ratio=4.0):
    return (4 + 2 * mlp_ratio + 6) * width**2 / (2 * width)


@mutant(exercise="even_tokens", hint="width is left over")
def squared_width(width, mlp_ratio=4.0):
    return (2 + mlp_ratio) * width**2


@mutant(exercise="even_tokens", hint="width is left over")
def no_width(width, mlp_ratio=4.0):
    return 2 + mlp_ratio


@mutant(exercise="even_tokens", hint="the fraction is upside down")
def upside_down(width, mlp_ratio=4.0):
    return 2 * width / (4 * width**2 + 2 * mlp_ratio * width**2)


@mutant(exercise="even_tokens", hint="Divide both by n")
def rooted(width, mlp_ratio=4.0):
    return math.sqrt((4 * width**2 + 2 * mlp_ratio * width**2) / (2 * width))


# -- fit_power_law ---------------------------------------------------------------------------------


@right_answer(exercise="fit_power_law")
def by_lstsq(x, y):
    x, y = x.double().log10(), y.double().log10()
    table = torch.stack([torch.ones_like(x), x], dim=1)
    start, slope = torch.linalg.lstsq(table, y[:, None]).solution[:, 0]
    return torch.stack([10**start, slope])


@right_answer(exercise="fit_power_law")
def by_polyfit(x, y):
    slope, start = np.polyfit(np.log(x.double().numpy()), np.log(y.double().numpy()), 1)
    return torch.tensor([np.exp(start), slope])


@right_answer(exercise="fit_power_law")
def by_covariance(x, y):
    both = torch.stack([x.double().log(), y.double().log()])
    spread = torch.cov(both)
    slope = spread[0, 1] / spread[0, 0]
    return torch.stack([torch.exp(both[1].mean() - slope * both[0].mean()), slope])


def steepness(x, y):
    away = x - x.mean()
    return (away * y).sum() / (away**2).sum()


@mutant(exercise="fit_power_law", hint="a straight line through x and y")
def no_logs(x, y):
    x, y = x.double(), y.double()
    slope = steepness(x, y)
    return torch.stack([y.mean() - slope * x.mean(), slope])


@mutant(exercise="fit_power_law", hint="only one of x and y is brought to logarithms")
def log_of_y(x, y):
    x, y = x.double(), y.double().log()
    slope = steepness(x, y)
    return torch.stack([(y.mean() - slope * x.mean()).exp(), slope])


@mutant(exercise="fit_power_law", hint="only one of x and y is brought to logarithms")
def log_of_x(x, y):
    x, y = x.double().log(), y.double()
    slope = steepness(x, y)
    return torch.stack([y.mean() - slope * x.mean(), slope])


@mutant(exercise="fit_power_law", hint="the factor is still a logarithm")
def log_factor(x, y):
    x, y = x.double().log(), y.double().log()
    slope = steepness(x, y)
    return torch.stack([y.mean() - slope * x.mean(), slope])


@mutant(exercise="fit_power_law", hint="have different bases")
def two_bases(x, y):
    x, y = x.double().log10(), y.double().log10()
    slope = steepness(x, y)
    return torch.stack([(y.mean() - slope * x.mean()).exp(), slope])


@mutant(exercise="fit_power_law", hint="have different bases")
def other_bases(x, y):
    x, y = x.double().log(), y.double().log()
    slope = steepness(x, y)
    return torch.stack([10 ** (y.mean() - slope * x.mean()), slope])


@mutant(exercise="fit_power_law", hint="factor and exponent are swapped")
def exponent_first(x, y):
    return by_lstsq(x, y).flip(0)


@mutant(exercise="fit_power_law", hint="x is fitted by y")
def x_by_y(x, y):
    x, y = x.double().log(), y.double().log()
    slope = steepness(y, x)
    return torch.stack([(x.mean() - slope * y.mean()).exp(), slope])


@mutant(exercise="fit_power_law", hint="forced through the origin")
def not_centred(x, y):
    x, y = x.double().log(), y.double().log()
    slope = (x * y).sum() / (x * x).sum()
    return torch.stack([(y.mean() - slope * x.mean()).exp(), slope])


@mutant(exercise="fit_power_law", hint="only the first and the last point decide")
def two_points(x, y):
    x, y = x.double().log(), y.double().log()
    slope = (y[-1] - y[0]) / (x[-1] - x[0])
    return torch.stack([(y[0] - slope * x[0]).exp(), slope])


@mutant(exercise="fit_power_law", hint="divided by something else")
def by_the_spread_of_y(x, y):
    x, y = x.double().log(), y.double().log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (y - y.mean()).square().sum()
    return torch.stack([(y.mean() - slope * x.mean()).exp(), slope])


@mutant(exercise="fit_power_law", hint="divided by something else")
def mean_below(x, y):
    x, y = x.double().log(), y.double().log()
    away = x - x.mean()
    slope = (away * y).sum() / away.square().mean()
    return torch.stack([(y.mean() - slope * x.mean()).exp(), slope])


@mutant(exercise="fit_power_law", hint="the exponent's sign is wrong")
def positive_exponent(x, y):
    return by_lstsq(x, y) * torch.tensor([1, -1])


@mutant(exercise="fit_power_law", hint="returns a tuple")
def a_pair(x, y):
    factor, exponent = by_lstsq(x, y)
    return factor, exponent


# -- Share -----------------------------------------------------------------------------------------


def refuse(world, accumulate, batch_size):
    if batch_size % (world * accumulate) or batch_size < world * accumulate:
        raise ValueError("cannot be shared out")


def share(parts):
    """A class whose `parts` is made by a function of rank, world, accumulate and batch_size."""

    @dataclass(frozen=True)
    class BatchShard:
        rank: int = 0
        world_size: int = 1
        accumulate: int = 1

        def parts(self, batch_size):
            return parts(self.rank, self.world_size, self.accumulate, batch_size)

    return BatchShard


def answer_of(parts):
    made = share(parts)
    made.__name__ = parts.__name__
    return made


@right_answer(exercise="BatchShard")
@answer_of
def one_block_each(rank, world, accumulate, batch_size):
    refuse(world, accumulate, batch_size)
    size = batch_size // world // accumulate
    first = rank * accumulate * size
    return [slice(first + k * size, first + (k + 1) * size) for k in range(accumulate)]


@right_answer(exercise="BatchShard")
@answer_of
def part_after_part(rank, world, accumulate, batch_size):
    refuse(world, accumulate, batch_size)
    edges = np.arange(0, batch_size + 1, batch_size // (world * accumulate)).tolist()
    every = [slice(a, b) for a, b in pairwise(edges)]
    return tuple(every[rank::world])


@mutant(exercise="BatchShard", hint="all processes compute the same rows")
@answer_of
def without_rank(rank, world, accumulate, batch_size):
    refuse(world, accumulate, batch_size)
    size = batch_size // (world * accumulate)
    return [slice(k * size, (k + 1) * size) for k in range(accumulate)]


@mutant(exercise="BatchShard", hint="parts are not of the right size")
@answer_of
def whole_batches(rank, world, accumulate, batch_size):
    refuse(world, accumulate, batch_size)
    return [slice(0, batch_size)] * accumulate


@mutant(exercise="BatchShard", hint="the parts of a process are all the same rows")
@answer_of
def one_part_again(rank, world, accumulate, batch_size):
    refuse(world, accumulate, batch_size)
    size = batch_size // (world * accumulate)
    return [slice(rank * size, (rank + 1) * size)] * accumulate


@mutant(exercise="BatchShard", hint="not every row is computed once")
@answer_of
def overlapping(rank, world, accumulate, batch_size):
    refuse(world, accumulate, batch_size)
    size = batch_size // (world * accumulate)
    return [slice((rank + k) * size, (rank + k + 1) * size) for k in range(accumulate)]


@mutant(exercise="BatchShard", hint="not every row is computed once")
@answer_of
def ranks_from_one(rank, world, accumulate, batch_size):
    refuse(world, accumulate, batch_size)
    size = batch_size // (world * accumulate)
    starts = [((k * world + rank) + 1) * size for k in range(accumulate)]
    return [slice(start, start + size) for start in starts]


@mutant(exercise="BatchShard", hint="not every row is computed once")
@answer_of
def parts_for_processes(rank, world, accumulate, batch_size):
    refuse(world, accumulate, batch_size)
    size = batch_size // (world * accumulate)
    starts = [(k * accumulate + rank) * size for k in range(accumulate)]
    return [slice(start, start + size) for start in starts]


@mutant(exercise="BatchShard", hint="each process has")
@answer_of
def one_slice_in_a_list(rank, world, accumulate, batch_size):
    refuse(world, accumulate, batch_size)
    size = batch_size // world
    return [slice(rank * size, (rank + 1) * size)]


@mutant(exercise="BatchShard", hint="your answer is one slice")
@answer_of
def one_slice(rank, world, accumulate, batch_size):
    refuse(world, accumulate, batch_size)
    return one_slice_in_a_list(rank, world, accumulate).parts(batch_size)[0]


@mutant(exercise="BatchShard", hint="parts are not of the right size")
@answer_of
def shared_among_processes_only(rank, world, accumulate, batch_size):
    refuse(world, accumulate, batch_size)
    size = batch_size // world
    return [slice(rank * size, (rank + 1) * size) for _ in range(accumulate)]


@mutant(exercise="BatchShard", hint="is accepted: either rows would be lost")
@answer_of
def rest_lost(rank, world, accumulate, batch_size):
    size = batch_size // (world * accumulate)
    starts = [(k * world + rank) * size for k in range(accumulate)]
    return [slice(start, start + size) for start in starts]


@mutant(exercise="BatchShard", hint="is accepted: either rows would be lost")
@answer_of
def too_few_accepted(rank, world, accumulate, batch_size):
    if batch_size > world * accumulate and batch_size % (world * accumulate):
        raise ValueError("cannot be shared out")
    size = batch_size // (world * accumulate)
    starts = [(k * world + rank) * size for k in range(accumulate)]
    return [slice(start, start + size) for start in starts]


@mutant(exercise="BatchShard", hint="is accepted: either rows would be lost")
@answer_of
def none_accepted(rank, world, accumulate, batch_size):
    if batch_size % (world * accumulate):
        raise ValueError("cannot be shared out")
    size = batch_size // (world * accumulate)
    starts = [(k * world + rank) * size for k in range(accumulate)]
    return [slice(start, start + size) for start in starts]


@mutant(exercise="BatchShard", hint="it should raise a ValueError that says what would fit")
@answer_of
def asserted(rank, world, accumulate, batch_size):
    assert batch_size % (world * accumulate) == 0, "does not fit"
    size = batch_size // (world * accumulate)
    starts = [(k * world + rank) * size for k in range(accumulate)]
    return [slice(start, start + size) for start in starts]


@mutant(exercise="BatchShard", hint="yours holds a range")
@answer_of
def ranges(rank, world, accumulate, batch_size):
    refuse(world, accumulate, batch_size)
    size = batch_size // (world * accumulate)
    starts = [(k * world + rank) * size for k in range(accumulate)]
    return [range(start, start + size) for start in starts]


@mutant(exercise="BatchShard", hint="rows are counted in whole numbers")
@answer_of
def true_division(rank, world, accumulate, batch_size):
    refuse(world, accumulate, batch_size)
    size = batch_size / (world * accumulate)
    starts = [(k * world + rank) * size for k in range(accumulate)]
    return [slice(start, start + size) for start in starts]


@mutant(exercise="BatchShard", hint="and no step")
@answer_of
def every_nth_row(rank, world, accumulate, batch_size):
    refuse(world, accumulate, batch_size)
    return [slice(k * world + rank, batch_size, world * accumulate) for k in range(accumulate)]


@mutant(exercise="BatchShard", hint="a generator")
@answer_of
def yielded(rank, world, accumulate, batch_size):
    refuse(world, accumulate, batch_size)
    return (slice(k, k + 1) for k in range(accumulate))


# -- to_bfloat16 -----------------------------------------------------------------------------------


@right_answer(exercise="to_bfloat16")
def by_torch(x):
    return x.to(torch.bfloat16).to(torch.float32)


@right_answer(exercise="to_bfloat16")
def by_arithmetic(x):
    _, exponent = torch.frexp(x)  # x = mantissa * 2 ** exponent, mantissa in [0.5, 1)
    steps = torch.ldexp(torch.ones_like(x), exponent - 8)
    return torch.round(x / steps) * steps  # torch.round goes to the even one


@right_answer(exercise="to_bfloat16")
def by_numpy(x):
    bits = x.numpy().view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return torch.from_numpy(bits.astype(np.uint32).view(np.float32))


@mutant(exercise="to_bfloat16", hint="unchanged or nearly so")
def rounded_to_itself(x):
    return x.float()


@mutant(exercise="to_bfloat16", hint="the second half is cut off")
def cut_off(x):
    return (x.view(torch.int32) >> 16 << 16).view(torch.float32)


@mutant(exercise="to_bfloat16", hint="halfway always goes away from zero")
def half_up(x):
    return (x.view(torch.int32) + 0x8000 >> 16 << 16).view(torch.float32)


@mutant(exercise="to_bfloat16", hint="halfway always goes towards zero")
def half_down(x):
    return (x.view(torch.int32) + 0x7FFF >> 16 << 16).view(torch.float32)


@mutant(exercise="to_bfloat16", hint="everything goes away from zero")
def next_one(x):
    return ((x.view(torch.int32) >> 16) + 1 << 16).view(torch.float32)


@mutant(exercise="to_bfloat16", hint="everything goes away from zero")
def ceiling(x):
    return (x.view(torch.int32) + 0xFFFF >> 16 << 16).view(torch.float32)


@mutant(exercise="to_bfloat16", hint="that is float16")
def float16(x):
    return x.half().float()


@mutant(exercise="to_bfloat16", hint="of the 32 bits the first 16 stay")
def eight_bits(x):
    return (x.view(torch.int32) >> 8 << 8).view(torch.float32)


@mutant(exercise="to_bfloat16", hint="of the 32 bits the first 16 stay")
def eight_bits_rounded(x):
    bits = x.view(torch.int32)
    return (bits + 0x7F + ((bits >> 8) & 1) >> 8 << 8).view(torch.float32)


@mutant(exercise="to_bfloat16", hint="its steps grow with the number")
def fixed_point(x):
    return torch.round(x * 2**7) / 2**7


@mutant(exercise="to_bfloat16", hint="convert the value")
def values_for_bits(x):
    bits = x.to(torch.int32)
    bits = bits + 0x7FFF + ((bits >> 16) & 1)
    return (bits >> 16 << 16).float()


@mutant(exercise="to_bfloat16", hint="they are torch.bfloat16")
def not_back(x):
    return x.bfloat16()


@mutant(exercise="to_bfloat16", hint="these are the bits")
def still_bits(x):
    bits = x.view(torch.int32)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    return bits.view(torch.float32).view(torch.int32)


@mutant(exercise="to_bfloat16", hint="changes its input in place")
def in_its_input(x):
    bits = x.view(torch.int32)
    bits += 0x7FFF + ((bits >> 16) & 1)
    return (bits >> 16 << 16).view(torch.float32)

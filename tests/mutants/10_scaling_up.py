"""Lesson 10: what people write for work, power laws, shares of a batch and rounding."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from dit_course import count_multiply_adds
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


@right_answer(exercise="training_flops")
def as_a_tensor(config, pictures):
    adds = torch.tensor(list(count_multiply_adds(config).values()))
    return 6 * pictures * adds.sum()


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


@right_answer(exercise="even_tokens")
def layer_by_layer(width, mlp_ratio=4.0):
    hidden = mlp_ratio * width
    attention = sum(width * width for _ in ("query", "key", "value", "output"))
    return np.float64(attention + width * hidden + hidden * width) / (width + width)


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


@right_answer(exercise="BatchShard")
@answer_of
def rows_of_a_table(rank, world, accumulate, batch_size):
    if batch_size == 0 or batch_size % (world * accumulate):
        raise ValueError(f"{batch_size} rows cannot be divided among {world} processes in {accumulate} parts")
    rows = torch.arange(batch_size).reshape(world, accumulate, -1)[rank]
    return [slice(int(part[0]), int(part[-1]) + 1) for part in rows]


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


@mutant(exercise="to_bfloat16", hint="they are torch.bfloat16")
def not_back(x):
    return x.bfloat16()


@mutant(exercise="to_bfloat16", hint="changes its input in place")
def in_its_input(x):
    bits = x.view(torch.int32)
    bits += 0x7FFF + ((bits >> 16) & 1)
    return (bits >> 16 << 16).view(torch.float32)

"""One process or many: who computes which rows of a batch, and how a training is configured (lesson 10)."""

import os

import torch

from dit_course.distributed.single import SingleProcess


def processes() -> int:
    """How many processes a launcher has started for this program: 1 without one."""
    names = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # as accelerate reads them
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdecimal()), 1)


def process_group(device: str | torch.device, shard: bool = False) -> SingleProcess:
    """The group that this process belongs to: `Distributed` under a launcher, itself alone without one.

    Raises ValueError when a launcher has started several processes and accelerate is not installed.
    """
    if processes() == 1:
        return SingleProcess()
    from dit_course.distributed.group import Distributed

    return Distributed(torch.device(device).type == "cpu", shard)

"""One process or many: who computes which rows of a batch, and how a training is configured (lesson 10).

Processes are started by `torchrun`, `accelerate launch` or `notebook_launcher`. Hugging Face's accelerate sets up the
process group and copies the model (data-parallel); torch's `fully_shard` (FSDP2) splits a model that does not fit: see
`group.py`. Without a launcher, `single.py` has the same interface and needs neither.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dit_course.distributed.single import SingleProcess


def processes() -> int:
    """How many processes a launcher has started for this program: 1 without one."""
    names = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # as accelerate reads them
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdecimal()), 1)


def process_group(device: str | torch.device, shard: bool = False) -> SingleProcess:
    """The processes that train together: `Distributed` under a launcher, a `SingleProcess` without one.

    Raises ValueError when a launcher has started several processes and accelerate is not installed.
    """
    if processes() == 1:
        return SingleProcess()
    from dit_course.distributed.group import Distributed

    return Distributed(torch.device(device).type == "cpu", shard)


@contextmanager
def graceful_interrupt(group: SingleProcess) -> Iterator[None]:
    """Ctrl-C ends the training after the step in hand, so that nothing is lost; a second one ends it at once.

    With several processes the launcher sends the signal again, and SIGTERM where a cluster takes the machine back: they
    stop together and save once.
    """

    def stop(number, _) -> None:
        alone = group.world_size == 1
        if group.is_main and not group.stop_requested:
            more = " (Ctrl-C again loses what is not saved)" if alone else ""
            print(f"\nstopping after this step, then saving{more}", flush=True)
        group.stop_requested = True
        if alone:
            signal.signal(number, before[number])

    signals = [signal.SIGINT] if group.world_size == 1 else [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

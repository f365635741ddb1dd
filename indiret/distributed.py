"""One training on several processes or machines: each learns from its share of every batch.

Started by ``torchrun``, every process draws the same batch, makes the tensors of its own share,
and the gradients are averaged before each step. So the network takes the steps that one process
would take with the whole batch, up to rounding, as long as nothing mixes the pairs of a batch:
with group norm. Batch norm takes mean and variance over the share of its own process; what it
keeps for later is averaged at every row of the log.

Chapter: *Reproducing the tables*.
"""

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

import torch
from torch import Tensor, distributed

PATIENCE = timedelta(days=1)  # of those who wait while the first process measures


class ProcessGroup(NamedTuple):
    """The processes of one training, as one of them sees it; alone, it does nothing.

    Examples
    --------
    >>> alone = ProcessGroup()
    >>> alone.first, alone.broadcast(0.5), list(range(6))[alone.share(6)]
    (True, (0.5,), [0, 1, 2, 3, 4, 5])
    >>> list(range(6))[ProcessGroup(rank=1, size=2).share(6)]
    [1, 3, 5]
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process validates, writes and decides."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """Which pairs of a batch are this process's; ValueError if not to be shared evenly."""
        if batch % self.size:  # means of unequal shares are not the mean
            raise ValueError(
                f"a batch of {batch} pairs cannot be shared by {self.size} processes evenly; "
                f"choose a multiple of {self.size}."
            )
        return slice(self.rank, None, self.size)

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        parts = list(tensors)
        if self.size == 1 or not parts:
            return
        flat = torch.cat([part.detach().flatten() for part in parts])
        distributed.all_reduce(flat)
        means = (flat / self.size).split([part.numel() for part in parts])
        for part, mean in zip(parts, means, strict=True):
            part.copy_(mean.view_as(part))

    def mean(self, value: float) -> float:
        """The mean of every process's number."""
        boxed = torch.tensor([value], dtype=torch.float64)
        self.average([boxed])
        return float(boxed)

    def broadcast(self, *values: float) -> tuple[float, ...]:
        """The first process's numbers, in every process."""
        if self.size == 1:
            return values
        boxed: list[tuple[float, ...]] = [values]
        distributed.broadcast_object_list(boxed, src=0)
        return boxed[0]

    def barrier(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            distributed.barrier()


def init_process_group(device: str = "cpu") -> ProcessGroup:
    """The group that ``torchrun`` started this process for; alone without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ProcessGroup()
    if not distributed.is_initialized():
        backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
        distributed.init_process_group(backend, timeout=PATIENCE)
    return ProcessGroup(distributed.get_rank(), size)


def local_device(device: str) -> str:
    """``"cuda"`` as this process's own GPU, where ``torchrun`` started several on one machine.

    Examples
    --------
    >>> local_device("cpu"), local_device("cuda:1")
    ('cpu', 'cuda:1')
    """
    number = os.environ.get("LOCAL_RANK")
    return f"cuda:{number}" if device == "cuda" and number else device


def destroy_process_group(group: ProcessGroup) -> None:
    """End the group; `torchrun` waits for it."""
    if group.size > 1:
        distributed.destroy_process_group()

"""The processes that train one network together: which of them this is, and what is its share.

One process alone is the same thing with a world of 1: it has everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from edge_fgr.errors import DeviceError, UsageError
from edge_fgr.progress import say

__all__ = ["ALONE", "Ranks"]

Item = TypeVar("Item")

_FEWEST = 2
"""Pictures of a rank in a step: BatchNorm needs more than one."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """One process among those of a training.

    Attributes:
        rank: its number; 0 reads the run's folder, writes it, and speaks.
        world: how many there are.
        local: its number on this machine.
        neighbours: how many there are on this machine.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    neighbours: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def say(self, text: str) -> None:
        """Print one line on stderr, once for all ranks."""
        if self.is_first:
            say(text)

    def own(self, rows: Sequence[Item], before: int = 0) -> list[Item]:
        """Return this rank's part of a batch, and so many before it; the batch is a ring."""
        count = len(rows) // self.world
        first = self.rank * count
        return [rows[i] for i in range(first - before, first + count)]

    def share(self, count: int, batch: int) -> slice:
        """Return which of ``count`` rows this rank computes: whole batches, as one process has."""
        batches = -(-count // batch)
        first, last = (batches * rank // self.world * batch for rank in (self.rank, self.rank + 1))
        return slice(first, min(last, count))

    def card(self, device: torch.device) -> torch.device:
        """Return this rank's own of a machine's GPUs; a processor serves all ranks.

        Raises:
            DeviceError: there are fewer GPUs than ranks.
        """
        if self.world == 1 or device.type != "cuda":
            return device
        count = torch.cuda.device_count()
        if self.neighbours > count:
            raise DeviceError(
                f"cuda: {self.neighbours} ranks on this machine, but PyTorch finds {count} GPU(s); "
                f"use torchrun --nproc_per_node={count}, or --device cpu"
            )
        own = torch.device("cuda", self.local)
        torch.cuda.set_device(own)
        return own

    def refuse_uneven(self, batch: int, pieces: int) -> None:
        """Refuse a batch that the ranks cannot share evenly.

        Args:
            batch: pictures of a step, all ranks together.
            pieces: that each rank computes its part in.

        Raises:
            UsageError: parts would differ, or have pieces of a single picture.
        """
        parts = self.world * pieces
        if self.world > 1 and (batch % parts or batch // parts < _FEWEST):
            even = parts * max(_FEWEST, round(batch / parts))
            raise UsageError(
                f"a batch of {batch} pictures cannot be shared by {self.world} ranks in {pieces} "
                f"piece(s) each: all need the same number, at least {_FEWEST}; use "
                f"--set optimise.batch={even}, or another number of ranks"
            )


ALONE = Ranks()
"""A process that trains by itself."""

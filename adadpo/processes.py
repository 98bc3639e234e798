"""The processes that train one run together: who this one is, and what they agree on."""

from __future__ import annotations

from typing import Any

import torch


class Processes:
    """A group of processes; without a torch group it is one process alone.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
    """

    def __init__(self, group: Any = None) -> None:
        """`group`: a torch process group on the CPU (gloo), apart from the one that gradients go through."""
        self._group = group
        self.rank: int = 0 if group is None else torch.distributed.get_rank(group)
        self.size: int = 1 if group is None else torch.distributed.get_world_size(group)

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether some process says yes: all get the same answer."""
        if self.size == 1:
            return list(flags)
        votes = torch.tensor([int(flag) for flag in flags])
        torch.distributed.all_reduce(votes, torch.distributed.ReduceOp.MAX, group=self._group)
        return [bool(vote) for vote in votes.tolist()]

    def barrier(self) -> None:
        """Wait for all."""
        if self.size > 1:
            torch.distributed.barrier(group=self._group)


ALONE = Processes()

"""What every micro-batch of an optimiser step weighs, so that the step's loss is the mean over its pairs."""

from __future__ import annotations

from typing import NamedTuple


class Share(NamedTuple):
    """What a micro-batch of one process contributes to the mean over a step's pairs."""

    pairs: int  # those that count, from the first; behind them are duplicates
    weight: float  # of their mean: 1 where all micro-batches are full

    @property
    def scale(self) -> float:
        """The weight of one pair."""
        return self.weight / self.pairs if self.pairs else 0.0


def micro_batch_shares(
    *, pairs: int, per_batch: int, accumulation: int, processes: int, rank: int, step: int, batches: int
) -> list[Share]:
    """The shares of one process's micro-batches in an optimiser step: their mean is that over the step's pairs.

    The pairs of a step are dealt out as accelerate does: micro-batch after micro-batch to one process after another;
    the last round of an epoch is filled up with pairs from its beginning. Losses are averaged over processes and over
    the micro-batches of the step, hence the factors.

    Args:
        pairs: in an epoch.
        per_batch: pairs of a micro-batch.
        accumulation: micro-batches of a step in each process.
        processes: how many.
        rank: of this one.
        step: optimiser steps done, epochs before included.
        batches: micro-batches that this process has in this step; fewer at an epoch's end.
    """
    per_step = per_batch * processes * accumulation
    first = step % -(-pairs // per_step) * per_step
    total = min(per_step, pairs - first)
    shares = []
    for batch in range(batches):
        start = first + (batch * processes + rank) * per_batch
        here = min(max(pairs - start, 0), per_batch)
        shares.append(Share(here, here * batches * processes / total))
    return shares

"""The order of training pairs: at random, with pairs of like length in one optimiser step, so that little is padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Sampler

# Steps whose pairs are sorted together: enough that a step is nearly even, few enough that it stays a random sample.
WINDOW_STEPS = 16


def pair_lengths(dataset: Any, max_length: int | None) -> list[int]:
    """Tokens of every pair with its prompt counted once, after the cut; the same however they are computed.

    Args:
        dataset: columns `prompt_ids`, `chosen_ids`, `rejected_ids`.
        max_length: where prompt + response is cut; None: nowhere.
    """
    columns = (dataset[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    found = []
    for prompt, *responses in zip(*columns, strict=True):
        shared = len(prompt) if max_length is None else min(len(prompt), max_length)
        room = None if max_length is None else max_length - shared
        found.append(shared + sum(len(response[:room]) for response in responses))
    return found


def order_by_length(lengths: Sequence[int], batch_size: int, rng: np.random.Generator) -> list[int]:
    """A random order of pairs in which each run of `batch_size` holds pairs of like length.

    Pairs are shuffled, sorted by length within windows of `WINDOW_STEPS` steps, cut into steps, and the steps shuffled.
    It depends on lengths, batch and generator alone, so that every arm sees the same pairs in the same steps.

    Args:
        lengths: of the pairs, in tokens.
        batch_size: pairs of an optimiser step, over all processes.
        rng: source of the order.

    Returns:
        Each position once; an incomplete step comes last.
    """
    shuffled = rng.permutation(len(lengths))
    whole = len(shuffled) - len(shuffled) % batch_size
    window = WINDOW_STEPS * batch_size
    steps: list[list[int]] = []
    for start in range(0, whole, window):
        # Stable: ties stay in their random order.
        inside = sorted(
            shuffled[start : min(start + window, whole)].tolist(), key=lambda pair: -lengths[pair]
        )
        steps += [inside[k : k + batch_size] for k in range(0, len(inside), batch_size)]
    order = [pair for number in rng.permutation(len(steps)) for pair in steps[number]]
    return order + shuffled[whole:].tolist()


class LengthSampler(Sampler[int]):
    """`order_by_length`, another one in each epoch; the trainer tells the epoch."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """What determines the next order, together with the seed."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        return iter(order_by_length(self.lengths, self.batch_size, rng))


# What every micro-batch of an optimiser step weighs, so that the step's loss is the mean over its pairs.


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

"""The order of training pairs is checked against what it promises: each pair once, alike in length, for all alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adadpo.data.batching import WINDOW_STEPS, LengthSampler, order_by_length


def order(lengths: list[int], batch_size: int, seed: int = 0) -> list[int]:
    return order_by_length(lengths, batch_size, np.random.default_rng(seed))


@given(st.lists(st.integers(1, 50), max_size=200), st.integers(1, 9), st.integers(0, 5))
def test_every_pair_once(lengths: list[int], batch_size: int, seed: int) -> None:
    """Against the positions, whatever the sizes."""
    assert sorted(order(lengths, batch_size, seed)) == list(range(len(lengths)))


def test_steps_of_one_window_do_not_overlap_in_length() -> None:
    """Against one sort: with no more pairs than a window, a step's lengths lie between those of the others."""
    lengths = np.random.default_rng(1).permutation(WINDOW_STEPS * 4).tolist()
    found = order(lengths, 4)
    steps = sorted(sorted(lengths[pair] for pair in found[k : k + 4]) for k in range(0, len(found), 4))
    assert [length for step in steps for length in step] == sorted(lengths)


def test_less_is_padding() -> None:
    """Against the random order, for lengths that vary by a factor: of what is computed, more is tokens of pairs."""
    lengths = np.random.default_rng(0).lognormal(5, 0.5, 400).astype(int)

    def useful(these: list[int]) -> float:
        steps = lengths[these].reshape(-1, 8)
        return float(steps.sum() / (8 * steps.max(1).sum()))

    assert useful(list(range(400))) < 0.6
    assert useful(order(lengths.tolist(), 8)) > 0.85


def test_steps_come_in_random_order() -> None:
    """Against a sorted order: the mean length of steps has no trend beyond chance over many seeds."""
    lengths = list(range(WINDOW_STEPS * 4))
    trends = []
    for seed in range(200):
        means = np.array(order(lengths, 4, seed)).reshape(-1, 4).mean(1)
        trends.append(np.corrcoef(means, np.arange(len(means)))[0, 1])
    assert abs(np.mean(trends)) < 4 * np.std(trends) / np.sqrt(len(trends))


def test_pairs_of_one_length_are_shuffled_as_any() -> None:
    """Against the uniform distribution of the first pair, within 5 standard errors."""
    first = [order([7] * 10, 2, seed)[0] for seed in range(2000)]
    share = np.bincount(first, minlength=10) / 2000
    assert share == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / 2000))


def test_an_incomplete_step_is_last_and_random() -> None:
    """Against positions: 2 of 10 pairs are in no whole step of 4, and not always the same."""
    last = {tuple(sorted(order(list(range(10)), 4, seed)[8:])) for seed in range(30)}
    assert len(last) > 10


def test_epochs_and_seeds() -> None:
    """Against itself: repeated for the same, another one for another epoch or seed."""
    lengths = list(range(40))
    sampler, other = LengthSampler(lengths, 4, 0), LengthSampler(lengths, 4, 1)
    first = list(sampler)
    assert list(sampler) == first == list(LengthSampler(lengths, 4, 0))
    sampler.set_epoch(1)
    assert len(sampler) == 40
    assert list(sampler) != first
    assert list(other) != first

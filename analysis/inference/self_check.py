"""Self-check: the false-positive rate of a test on the user's own results with arm labels permuted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.inference.crossed import Table, check_table, crossed_test, setting_means
from analysis.inference.intervals import clopper_pearson
from analysis.inference.signed_rank import signed_rank_test
from analysis.results.model import FlipUnit, SelfCheck

# Differences [settings, seeds] to a p-value; None does not reject.
PValue: TypeAlias = Callable[[Table], float | None]


def check_false_positives(
    differences: ArrayLike,
    p_value: PValue,
    *,
    unit: FlipUnit,
    rng: np.random.Generator,
    alpha: float = 0.05,
    flips: int = 2000,
) -> SelfCheck:
    """Permute the two arms' labels within each unit and count how often the test rejects.

    Exchanging the labels at a setting negates all its differences at once, so what seeds of one setting share stays
    shared. A test that treats them as independent shows a rate above alpha here. Only dependence within the unit shows:
    flips by setting cannot tell what seeds, prompts or the judge share across settings.

    Args:
        differences: candidate minus baseline [settings, seeds]; NaN: no complete pair.
        p_value: the test, such as `setting_p_value`.
        unit: whose labels are exchanged together: the declared unit of the test.
        rng: source of the sign patterns; not used when all of them are taken.
        alpha: nominal level, in (0, 1).
        flips: sign patterns to try; when there are no more than that, each is taken once. At least 1.

    Raises:
        ValueError: not a table, no complete pair, an unknown unit, an alpha or a number of flips out of range.

    Source: Fisher (1935), The Design of Experiments, section 21 (randomisation of signs).
    """
    if not 0 < alpha < 1 or flips < 1:
        raise ValueError(f"need alpha between 0 and 1 and at least 1 flip, got {alpha} and {flips}")
    table = check_table(differences)
    known = ~np.isnan(table)
    if not known.any():
        raise ValueError("no complete pair: there is nothing to permute")
    if unit == "setting":
        table = table[known.any(axis=1)]
        shape, units = (len(table), 1), len(table)
    elif unit == "seed":
        table = table[:, known.any(axis=0)]
        shape, units = (1, table.shape[1]), table.shape[1]
    elif unit == "pair":
        shape, units = table.shape, int(known.sum())
    else:
        raise ValueError(f"unit must be one of setting, seed, pair, got {unit!r}")

    exhaustive = 2**units <= flips
    rejected = tried = 0
    for pattern in _patterns(units, flips, exhaustive, rng):
        signs = np.ones(shape)
        if unit == "pair":
            signs[known] = pattern
        else:
            signs = pattern.reshape(shape)
        p = p_value(table * signs)
        rejected += p is not None and p <= alpha
        tried += 1
    return SelfCheck(
        unit=unit,
        units=units,
        alpha=alpha,
        rate=rejected / tried,
        interval=None if exhaustive else clopper_pearson(rejected, tried),
        rejected=rejected,
        flips=tried,
        exhaustive=exhaustive,
    )


def setting_p_value(table: Table) -> float:
    """Two-sided p of the headline test: the exact signed-rank test over seed-averaged differences."""
    return signed_rank_test(setting_means(table)).p_value


def pooled_p_value(table: Table) -> float:
    """Two-sided p of the signed-rank test over all pairs as if independent."""
    return signed_rank_test(table[~np.isnan(table)]).p_value


def crossed_p_value(table: Table) -> float | None:
    """Two-sided p of the crossed test; None where it has none."""
    return crossed_test(table).p_value


def _patterns(
    units: int, flips: int, exhaustive: bool, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    if exhaustive:
        yield from map(np.array, itertools.product((1.0, -1.0), repeat=units))
    else:
        for _ in range(flips):
            yield rng.choice((1.0, -1.0), size=units)

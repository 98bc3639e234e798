"""Differences between two arms as a table of settings by seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.moments import mean, sd
from analysis.results import SeedValue, SettingDifference
from analysis.table import Pair

Table: TypeAlias = NDArray[np.float64]  # [settings, seeds], the metric's unit; NaN: no complete pair


def setting_differences(pairs: Iterable[Pair]) -> list[SettingDifference]:
    """Candidate minus baseline at each setting: per seed, and mean and SD (ddof = 1) over complete pairs."""
    differences = []
    for setting, of_setting in groupby(pairs, key=lambda pair: pair.setting):
        values = [SeedValue(seed=pair.seed, value=pair.difference) for pair in of_setting]
        known = [v.value for v in values if v.value is not None]
        differences.append(
            SettingDifference(setting=setting, values=values, n=len(known), mean=mean(known), sd=sd(known))
        )
    return differences


def difference_table(differences: Sequence[SettingDifference]) -> Table:
    """Differences d_ks [settings, seeds] as `setting_differences` gives them; NaN where a partner is missing.

    Raises:
        ValueError: settings with different seeds: columns would mix seeds.
    """
    seeds = [[value.seed for value in setting.values] for setting in differences]
    for setting, of_setting in zip(differences, seeds, strict=True):
        if of_setting != seeds[0]:
            raise ValueError(
                f"{setting.setting} has seeds {of_setting}, {differences[0].setting} has {seeds[0]}: "
                "a table needs the same seeds at every setting"
            )
    rows = [[np.nan if v.value is None else v.value for v in setting.values] for setting in differences]
    return check_table(rows)


def check_table(differences: ArrayLike) -> Table:
    """A table [settings, seeds] of numbers, NaN where a pair is missing.

    Raises:
        ValueError: not two-dimensional, empty, or infinite somewhere.
    """
    table = np.array(differences, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"need differences as a table [settings, seeds], got shape {table.shape}")
    for setting, seed in np.argwhere(np.isinf(table)):
        raise ValueError(
            f"differences must be finite or NaN, got {table[setting, seed]} at {setting}, {seed}"
        )
    return table


def setting_means(table: Table) -> NDArray[np.float64]:
    """Mean difference over the seeds of each setting that has one, in order [settings with a complete pair]."""
    known = ~np.isnan(table)
    some = known.any(axis=1)
    return np.asarray(np.where(known, table, 0.0)[some].sum(axis=1) / known[some].sum(axis=1))

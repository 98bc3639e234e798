"""The settings of a comparison by the values of an axis, such as the loss: each value's own difference."""

from __future__ import annotations

from statistics import fmean
from typing import Literal

from analysis.inference.crossed import setting_differences
from analysis.inference.intervals import hodges_lehmann
from analysis.inference.multiplicity import benjamini_hochberg
from analysis.inference.signed_rank import signed_rank_test
from analysis.results.blocks import Block
from analysis.results.values import Frozen, Interval, SignedRank, Value
from analysis.study import Study


class SettingGroup(Frozen):
    """The settings that share one value of an axis; exploratory."""

    axis: str
    value: Value
    settings: list[str]
    n: int
    """Settings with a complete pair."""
    baseline: float | None
    """Mean over these settings of the mean over seeds of complete pairs."""
    candidate: float | None
    mean: float | None
    """Of the setting's differences."""
    estimate: Interval | None
    """Hodges-Lehmann."""
    won: int
    lost: int
    test: SignedRank | None
    adjusted: float | None
    """Benjamini-Hochberg over the groups of the axis."""
    reason: str | None
    """Why there is no test, or why none could reach alpha."""


class Groups(Block[list[SettingGroup]]):
    """One entry for each value of each axis whose values are names."""

    kind: Literal["groups"] = "groups"
    what: str = "The comparison within each value of an axis that is not numeric, such as the loss"


BLOCK = Groups


def make(study: Study) -> Groups:
    """The primary comparison within each value of each axis whose values are names: which loss, which optimiser.

    Exploratory: two-sided tests over a group's own settings, adjusted by Benjamini-Hochberg over the groups of the
    axis. An axis of numbers makes no groups, nor one with a single value.
    """
    declared, metric, settings, axes = study.declared, study.primary, study.table.settings, study.axes
    at = {run.setting: run.hyperparameters for run in study.table.index.values()}
    pairs = study.pairs(metric.name)
    differences = {each.setting: each for each in setting_differences(pairs)}
    found: list[SettingGroup] = []
    for axis, values in axes.items():
        if len(values) < 2 or not any(isinstance(value, str) for value in values):
            continue
        groups = []
        for value in values:
            members = [
                setting for setting in settings if setting in at and at[setting].get(axis, _NONE) == value
            ]
            d = [mean for each in members if (mean := differences[each].mean) is not None]
            test = signed_rank_test(d, decimals=declared.decimals) if d else None
            sides = [
                [
                    fmean(side)
                    for setting in members
                    if (
                        side := [
                            known
                            for pair in pairs
                            if pair.setting == setting
                            and pair.difference is not None
                            and (known := getattr(pair, name)) is not None
                        ]
                    )
                ]
                for name in ("baseline", "candidate")
            ]
            higher, lower = (
                sum(round(x, declared.decimals) > 0 for x in d),
                sum(round(x, declared.decimals) < 0 for x in d),
            )
            won, lost = (lower, higher) if metric.higher_is_better is False else (higher, lower)
            groups.append(
                SettingGroup(
                    axis=axis,
                    value=value,
                    settings=members,
                    n=len(d),
                    baseline=fmean(sides[0]) if d else None,
                    candidate=fmean(sides[1]) if d else None,
                    mean=fmean(d) if d else None,
                    estimate=hodges_lehmann(d, 1 - declared.alpha) if d else None,
                    won=won,
                    lost=lost,
                    test=test,
                    adjusted=None,
                    reason=_why_not(test, declared.alpha),
                )
            )
        found += _adjusted(groups)
    return Groups(value=found)


_NONE = object()  # an axis that a run does not have; None is a value


def _why_not(test: SignedRank | None, alpha: float) -> str | None:
    if test is None:
        return "no setting has a complete pair"
    if test.smallest_p > alpha:
        few = "1 setting" if test.n == 1 else f"{test.n} settings"
        return f"not testable: with {few} the smallest p is {test.smallest_p:.2g}"
    return None


def _adjusted(groups: list[SettingGroup]) -> list[SettingGroup]:
    p_values = [
        None if group.test is None or group.reason is not None else group.test.p_value for group in groups
    ]
    adjusted = benjamini_hochberg(p_values).adjusted
    return [
        group.model_copy(update={"adjusted": value}) for group, value in zip(groups, adjusted, strict=True)
    ]

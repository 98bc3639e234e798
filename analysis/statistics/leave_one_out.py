"""Whether the mean difference hangs on one setting: each setting left out in turn."""

from __future__ import annotations

from statistics import fmean
from typing import Literal

from analysis.inference.crossed import setting_differences
from analysis.results.blocks import Block
from analysis.results.values import Frozen
from analysis.results.words import format_amount
from analysis.study import Study


class LeaveOneOut(Frozen):
    """Range of the mean difference over all settings left out one at a time, in the metric's unit."""

    mean: float
    """Over all settings that have a complete pair."""
    low: float
    """The lowest mean with one setting left out."""
    high: float
    """The highest one."""
    most: str
    """The setting whose removal moves the mean most; the first of equal ones."""
    without_most: float
    """The mean without it."""
    settings: int
    """Settings that have a complete pair."""


class LeaveOneOutBlock(Block[LeaveOneOut]):
    """Undefined below 3 settings: without one, a single setting would be left."""

    kind: Literal["leave_one_out"] = "leave_one_out"
    what: str = "Leave one setting out"


BLOCK = LeaveOneOutBlock


def make(study: Study) -> LeaveOneOutBlock:
    """The range, and the setting that moves the mean most.

    Source: the jackknife's influence values, Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 11.
    """
    metric = study.primary
    known = [(k.setting, k.mean) for k in setting_differences(study.pairs(metric.name)) if k.mean is not None]
    if len(known) < 3:
        return LeaveOneOutBlock(reason=f"needs 3 settings with a complete pair, has {len(known)}")
    n, whole = len(known), fmean(d for _, d in known)
    without = {setting: (n * whole - d) / (n - 1) for setting, d in known}
    most = max(without, key=lambda setting: abs(without[setting] - whole))
    low, high = min(without.values()), max(without.values())
    shown = [format_amount(each, metric, signed=True, unit=False) for each in (low, high, without[most])]
    return LeaveOneOutBlock(
        value=LeaveOneOut(mean=whole, low=low, high=high, most=most, without_most=without[most], settings=n),
        sentence=f"With each of the {n} settings left out in turn, the mean difference in {metric.label} runs from "
        f"{shown[0]} to {shown[1]} {metric.unit}".rstrip()
        + f" (all settings: {format_amount(whole, metric, signed=True, unit=False)}). Leaving out {most} moves it "
        f"most, to {shown[2]}.",
    )

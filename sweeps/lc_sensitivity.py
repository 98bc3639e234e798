"""The comparison under the other formulas of length control that this sweep's judgement allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adadpo.models import cache_folder
from analysis.results import LcComparison, RunRow
from sweeps.metrics import METRICS
from sweeps.sweep import Sweep

if TYPE_CHECKING:
    from analysis.calibration import Calibration
    from analysis.length_control import LcData


def lc_sensitivity_of(sweep: Sweep, rows: Sequence[RunRow], data: Mapping[str, LcData]) -> list[LcComparison]:
    """Of `run_rows` and the data of `judged_runs`, by the sweep's own evaluation; empty where nothing was judged."""
    from analysis.lc_sensitivity import lc_sensitivity

    own = sweep.job.evaluation.lc_method
    formulas: dict[Any, Calibration | str | None] = {
        "length_controlled_v1": _official(),
        "joint_difficulty": _joint(data),
        "no_difficulty": None,
    }
    by_name = {metric.name: metric for metric in METRICS}
    return lc_sensitivity(
        rows,
        data,
        {method: calibration for method, calibration in formulas.items() if method != own},
        lc=by_name["length_controlled_win_rate"],
        wr=by_name["win_rate"],
        lc_method=own,
        declared=sweep.declared(),
        settings=sweep.settings,
        seeds=sweep.seeds,
    )


def _official() -> Calibration | str:
    """AlpacaEval's calibration where it is already here: a report asks no network."""
    from analysis.alpaca_eval_assets import (
        CALIBRATION,
        PROMPTS,
        AssetError,
        list_assets,
        official_calibration,
    )

    absent = [
        each.name for each in list_assets(cache_folder(), [CALIBRATION, PROMPTS]) if each.status != "present"
    ]
    if absent:
        return f"{' and '.join(absent)} of AlpacaEval not in the cache (adadpo assets fetches them)"
    try:
        return official_calibration(cache_folder())
    except AssetError as error:
        return str(error)


def _joint(data: Mapping[str, LcData]) -> Calibration | str:
    from analysis import joint_difficulty

    try:
        found: Calibration = joint_difficulty(data.values())
    except ValueError as error:  # fewer than two runs, several judges, no convergence
        return str(error)
    return found

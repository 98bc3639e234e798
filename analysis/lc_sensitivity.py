"""One comparison under every way of the win rate that these annotations allow: does the answer hang on the formula?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from adadpo.errors import CalibrationError
from analysis.alpaca_eval.annotations import Records
from analysis.alpaca_eval.calibration import Calibration
from analysis.alpaca_eval.length_control import (
    LcData,
    LcMethod,
    fit_length_control,
    lc_data,
    length_controlled_of_each,
)
from analysis.comparison import compare_pairs
from analysis.results.model import LcComparison, Metric, RunRow
from analysis.results.table import index_runs, mean, pair_by_setting
from analysis.results.values import State
from analysis.study import Study

# A formula's calibration (None: it needs none), or why it cannot be used.
Formulas = Mapping[LcMethod, Calibration | str | None]


def lc_sensitivity(
    study: Study,
    annotations: Mapping[str, Records | LcData],
    formulas: Formulas,
    *,
    lc: Metric,
    wr: Metric,
    lc_method: str,
) -> list[LcComparison]:
    """Candidate minus baseline by the sweep's own LC, by each other formula, and by the raw win rate.

    Values of unlike formulas are compared with nothing but themselves. None of it is declared, but the first row is
    the headline where LC is the declared primary.

    Args:
        study: the study, with the sweep's own LC and the win rate among its metrics.
        annotations: run id -> AlpacaEval annotations, or `lc_data` of them, of the runs that count.
        formulas: every other formula.
        lc: the length-controlled win rate.
        wr: the raw win rate.
        lc_method: of the LC that the table holds.

    Returns:
        The sweep's own first, the formulas in the given order, the raw win rate last; empty without annotations.
    """
    if not annotations:
        return []
    runs, declared = study.table.runs, study.declared

    def compared(method: str, name: str, rows: Sequence[RunRow], why: str | None = None) -> LcComparison:
        metric = lc if name == lc.name else wr
        pairs = pair_by_setting(
            index_runs(rows),
            metric=name,
            baseline=declared.baseline,
            candidate=declared.candidate,
            settings=study.table.settings,
            seeds=study.table.seeds,
        )
        found = compare_pairs(
            pairs,
            metric=metric,
            alternative=declared.alternative if declared.primary == lc.name else "two-sided",
            alpha=declared.alpha,
            decimals=declared.decimals,
        )
        known = {
            arm: [
                value
                for row in rows
                if row.arm == arm and row.state == State.DONE and (value := row.metrics.get(name)) is not None
            ]
            for arm in (declared.baseline, declared.candidate)
        }
        return LcComparison(
            method=method,
            own=method == lc_method,
            means={arm: mean(values) for arm, values in known.items()},
            runs=sum(map(len, known.values())),
            # What stands around it is the headline's; here it would only be bytes.
            comparison=found.model_copy(update={"inference": None}),
            reason=(why or found.test_reason) if found.test is None else None,
        )

    rows = [compared(lc_method, lc.name, runs)]
    for method, calibration in formulas.items():
        if isinstance(calibration, str):
            rows.append(
                LcComparison(method=method, own=False, means={}, runs=0, comparison=None, reason=calibration)
            )
            continue
        values, why = _values(annotations, calibration)
        changed = [
            row.model_copy(update={"metrics": {**row.metrics, lc.name: values.get(row.run_id)}})
            for row in runs
        ]
        rows.append(compared(method, lc.name, changed, why))
    return [*rows, compared("win_rate", wr.name, runs)]


def _values(
    annotations: Mapping[str, Records | LcData], calibration: Calibration | None
) -> tuple[dict[str, float | None], str | None]:
    """Every run's LC, and why the first that has none has none."""
    data: dict[str, LcData] = {}
    reasons: dict[str, str] = {}
    for run_id, rows in annotations.items():
        try:
            data[run_id] = lc_data(rows, calibration)
        except CalibrationError as error:
            reasons[run_id] = str(error)
    counts = [np.ones(len(one.targets)) for one in data.values()]
    found = length_controlled_of_each(list(data.values()), counts, calibration)
    values = {
        run_id: None if math.isnan(value) else value
        for run_id, value in zip(data, found.tolist(), strict=True)
    }
    for run_id in annotations:
        if values.get(run_id) is None:
            why = reasons.get(run_id) or fit_length_control(data[run_id], calibration).reason
            return values, why
    return values, None

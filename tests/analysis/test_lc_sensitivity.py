"""The comparison under other formulas of length control, against differences put together by hand."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest

from analysis.alpaca_eval.difficulty import joint_difficulty
from analysis.alpaca_eval.length_control import length_controlled_win_rate
from analysis.lc_sensitivity import lc_sensitivity
from analysis.results.model import Declared, LcComparison, Metric, RunRow
from analysis.study import make_study
from tests.analysis.analysis_examples import compare

LC = Metric(name="length_controlled_win_rate", label="LC", unit="points", decimals=1, higher_is_better=True)
WR = Metric(name="win_rate", label="WR", unit="points", decimals=1, higher_is_better=True)
DECLARED = Declared(baseline="dpo", candidate="adadpo", primary=LC.name, alternative="greater")
SETTINGS, SEEDS = ["a", "b", "c"], [0, 1]


def annotation(place: int, number: int) -> dict[str, Any]:
    return {
        "instruction": f"prompt {place}",
        "output_1": "x" * (40 + 7 * place % 23),
        "output_2": "y" * (30 + (11 * place + 5 * number) % 37),
        "preference": 1 + (1 + math.sin(3.1 * place + number)) / 2,
    }


ANNOTATIONS = {f"run{number}": [annotation(place, number) for place in range(20)] for number in range(12)}


def table(**without: Any) -> list[RunRow]:
    found = []
    for number, (setting, seed, arm) in enumerate(product(SETTINGS, SEEDS, ["dpo", "adadpo"])):
        rows = ANNOTATIONS[f"run{number}"]
        done = number != without.get("failed")
        raw = 100 * sum(row["preference"] - 1 for row in rows) / len(rows)
        lc = length_controlled_win_rate(rows).length_controlled_win_rate
        found.append(
            RunRow(
                run_id=f"run{number}",
                arm=arm,
                setting=setting,
                hyperparameters={},
                seed=seed,
                state="done" if done else "failed",
                metrics={LC.name: lc if done else None, WR.name: raw if done else None},
            )
        )
    return found


def sensitivity(runs: list[RunRow], formulas: Any, annotations: Any = ANNOTATIONS) -> list[LcComparison]:
    return lc_sensitivity(
        make_study(
            runs=runs,
            declared=DECLARED,
            metrics=[LC, WR],
            settings=SETTINGS,
            seeds=SEEDS,
            arms=["dpo", "adadpo"],
        ),
        annotations,
        formulas,
        lc=LC,
        wr=WR,
        lc_method="no_difficulty",
    )


def test_own_formula_is_the_headline() -> None:
    """The first row against `compare` on the same table, without what stands around it; no formula needs a row."""
    runs = table()
    [own, raw] = sensitivity(runs, {})
    [headline, *_] = compare(
        runs=runs, declared=DECLARED, metrics=[LC, WR], settings=SETTINGS, seeds=SEEDS, arms=["dpo", "adadpo"]
    )
    assert own.own
    assert own.method == "no_difficulty"
    assert own.comparison is not None
    assert own.comparison.model_copy(update={"confirmatory": True}) == headline.model_copy(
        update={"inference": None}
    )
    assert (raw.method, raw.own, raw.runs) == ("win_rate", False, 12)


def test_joint_difficulty_is_fitted_for_every_run() -> None:
    """Means per arm and per setting against each run's LC under the joint difficulties, averaged here."""
    calibration = joint_difficulty(ANNOTATIONS.values())
    [_, joint, raw] = sensitivity(table(), {"joint_difficulty": calibration})
    lc = {
        run_id: length_controlled_win_rate(rows, calibration).length_controlled_win_rate
        for run_id, rows in ANNOTATIONS.items()
    }
    values = [lc[f"run{number}"] for number in range(12)]
    assert None not in values
    assert joint.comparison is not None
    for place, each in enumerate(joint.comparison.differences):
        four = [float(value or 0) for value in values[4 * place : 4 * place + 4]]
        assert each.mean == pytest.approx((four[1] - four[0] + four[3] - four[2]) / 2)
    assert joint.means["adadpo"] == pytest.approx(sum(float(value or 0) for value in values[1::2]) / 6)
    assert joint.comparison.test is not None
    assert joint.comparison.test.alternative == "greater"
    assert raw.comparison is not None
    assert raw.comparison.estimate != joint.comparison.estimate


def test_what_cannot_be_used_says_why() -> None:
    """A formula without its calibration, prompts it does not know, and no annotations at all."""
    unknown = joint_difficulty(
        [[annotation(place, 0) | {"instruction": f"other {place}"} for place in range(5)]] * 2
    )
    [_, absent, strange, _] = sensitivity(
        table(), {"length_controlled_v1": "not here", "joint_difficulty": unknown}
    )
    assert (absent.comparison, absent.reason, absent.runs) == (None, "not here", 0)
    assert strange.reason is not None
    assert "not among the calibration's" in strange.reason
    assert strange.runs == 0
    assert sensitivity(table(), {}, {}) == []


def test_a_failed_run_counts_nowhere() -> None:
    """Its annotations may lie about, but neither pairs nor means have it."""
    [own, joint, raw] = sensitivity(
        table(failed=0),
        {"joint_difficulty": joint_difficulty(ANNOTATIONS.values())},
        {run_id: rows for run_id, rows in ANNOTATIONS.items() if run_id != "run0"},
    )
    for each in (own, joint, raw):
        assert each.runs == 11
        assert each.comparison is not None
        assert [setting.n for setting in each.comparison.differences] == [1, 2, 2]

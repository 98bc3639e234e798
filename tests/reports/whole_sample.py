"""Results in which every section of the report has something to show, through the real analysis."""

from __future__ import annotations

from typing import Any

from analysis.document import Results
from analysis.results.model import Judgement, LcComparison, Metric, RunRow
from tests.analysis.analysis_examples import analyse
from tests.reports.sample_results import changed, make_results

# What a sweep calls them.
_NAMES = {"kl_divergence": "kl", "average_length": "mean_length"}


def make_whole(n_settings: int = 6, seeds: tuple[int, ...] = (0, 1), steps: int = 8) -> Results:
    """`make_results` analysed, with judgements, formulas, a third arm and notes on runs."""
    made = make_results(n_settings, seeds, steps)
    metrics = [_renamed(metric) for metric in made.metrics]
    runs = [_run(run) for run in made.runs]
    runs += [_third(run) for run in runs if run.arm == "adadpo"]
    arms = {**made.arms, "simpo": {"loss": "simpo", "balance": "none", "gamma": 0.5}}
    found = analyse(
        runs=runs,
        declared=made.declared,
        metrics=metrics,
        settings=made.settings,
        seeds=made.seeds,
        arms=list(arms),
        prompts=made.evaluation.n_prompts if made.evaluation else None,
    )
    assert found.other_arms
    return changed(
        made,
        {
            "metrics": metrics,
            "runs": runs,
            "arms": arms,
            "cells": found.cells,
            "comparisons": found.comparisons,
            "other_arms": found.other_arms,
            "average_ranks": found.average_ranks,
            "verdict": found.verdict,
            "verdict_kind": found.verdict_kind,
            "next_steps": found.next_steps,
            "next_steps_reason": found.next_steps_reason,
            "power": found.power,
            "judgements": [_judgement(found, declared) for declared in (True, False)],
            "lc_sensitivity": list(_formulas(found)),
        },
    )


def _renamed(metric: Metric) -> Metric:
    return metric.model_copy(update={"name": _NAMES.get(metric.name, metric.name)})


def _run(run: RunRow) -> RunRow:
    metrics = {_NAMES.get(name, name): value for name, value in run.metrics.items()}
    flags = ["3 responses are cut at max_new_tokens"] if run.seed == 0 and run.arm == "adadpo" else []
    return run.model_copy(update={"metrics": metrics, "flags": flags})


def _third(run: RunRow) -> RunRow:
    metrics = {name: None if value is None else 0.97 * value for name, value in run.metrics.items()}
    return run.model_copy(
        update={"run_id": run.run_id[::-1], "arm": "simpo", "metrics": metrics, "flags": []}
    )


def _judgement(found: Any, declared: bool) -> Judgement:
    means = {"dpo": {"length_controlled_win_rate": 51.26, "win_rate": 50.5}, "adadpo": {"win_rate": 51.25}}
    return Judgement(
        eval_id="abc/def0" if declared else "abc/def1",
        judge="rubric" if declared else "another judge",
        lc_method="no_difficulty",
        declared=declared,
        counts={"done": 35, "failed": 1},
        means=means,
        comparison=found.comparisons[0],
        judging={"pairs": 100, "missing": 1, "requests": 240, "dollars": 1.25},
    )


def _formulas(found: Any) -> Any:
    bare = [each.model_copy(update={"inference": None}) for each in found.comparisons]
    means = {"dpo": 51.2, "adadpo": 52.9}
    for method, comparison in (
        ("no_difficulty", bare[0]),
        ("joint_difficulty", bare[0]),
        ("win_rate", bare[1]),
    ):
        own = method == "no_difficulty"
        yield LcComparison(method=method, own=own, means=means, runs=23, comparison=comparison, reason=None)
    yield LcComparison(
        method="length_controlled_v1", own=False, means={}, runs=0, comparison=None, reason="not in the cache"
    )

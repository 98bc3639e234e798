"""Differences of a sweep's runs with their errors over prompts, from one set of draws for all runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from analysis.prompts.bootstrap import BootstrapMetric, PromptBootstrap, bootstrap_difference
from analysis.results.model import Declared, PromptInterval, PromptLevel, RunRow
from analysis.results.table import index_runs


def prompt_level(
    draws: PromptBootstrap,
    runs: Iterable[RunRow],
    *,
    declared: Declared,
    settings: Sequence[str],
    seeds: Sequence[int],
    confidence: float = 0.95,
) -> tuple[PromptLevel | None, str | None]:
    """Candidate minus baseline on the primary metric, per setting and per pair of runs.

    The interval says how far other prompts of the same kind would move the difference of these policies. It says
    nothing of other seeds, and its width is no part of the test over settings.

    Args:
        draws: of every run that counts.
        runs: the tidy table.
        declared: arms and primary metric.
        settings: planned, in the order of the result.
        seeds: planned.
        confidence: of the intervals, in (0, 1).

    Returns:
        The intervals, or None and why: the primary metric is not one of prompts, or no pair is complete.
    """
    metric = next((name for name in get_args(BootstrapMetric) if name == declared.primary), None)
    if metric is None:
        return None, f"{declared.primary} is not a mean over prompts"
    index = index_runs(runs)
    of_settings, of_pairs = [], []
    for setting in settings:
        pairs = []
        for seed in seeds:
            both = [index.get((arm, setting, seed)) for arm in (declared.candidate, declared.baseline)]
            ids = [run.run_id for run in both if run is not None and run.run_id in draws.places]
            if len(ids) == 2:
                pairs.append((ids[0], ids[1]))
                of_pairs.append(_interval(draws, [pairs[-1]], metric, setting, seed, confidence))
        if pairs:
            of_settings.append(_interval(draws, pairs, metric, setting, None, confidence))
    if not of_settings:
        return None, "no setting has a complete pair of judged runs"
    return (
        PromptLevel(
            metric=metric,
            confidence=confidence,
            prompts=draws.n,
            replicates=draws.replicates["win_rate"].shape[1],
            lc_method=draws.lc_method,
            settings=of_settings,
            pairs=of_pairs,
        ),
        None,
    )


def _interval(
    draws: PromptBootstrap,
    pairs: Sequence[tuple[str, str]],
    metric: BootstrapMetric,
    setting: str,
    seed: int | None,
    confidence: float,
) -> PromptInterval:
    candidates, baselines = zip(*pairs, strict=True)
    found = bootstrap_difference(draws, candidates, baselines, metric, confidence=confidence)
    return PromptInterval(
        setting=setting,
        seed=seed,
        estimate=found.estimate,
        standard_error=found.standard_error,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        undefined=found.undefined,
        reason=found.reason,
    )

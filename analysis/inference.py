"""The evidence around the headline test of one comparison, put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.bayes import bayesian_signed_rank
from analysis.crossed import crossed_test
from analysis.difference_table import Table, difference_table, setting_means
from analysis.effect_sizes import probability_of_improvement, settings_won
from analysis.equivalence import equivalence_test
from analysis.evidence import Inference
from analysis.guard import DifferenceDraws, guard_test
from analysis.missing_runs import analyse_missing_runs
from analysis.pooled import explore_settings, pooled_signed_rank, zero_sensitivity
from analysis.results import Alternative, Declared, Metric, SettingDifference
from analysis.self_check import check_false_positives
from analysis.signed_rank import signed_rank_test
from analysis.table import Index, Pair
from analysis.units import unit_of_test

# The exact test enumerates sums of ranks: above these sizes minutes, for what is only descriptive.
MOST_POOLED_PAIRS = 200
MOST_CHECKED_SETTINGS = 60
FLIPS = 1000


def infer(
    pairs: Sequence[Pair],
    differences: Sequence[SettingDifference],
    *,
    metric: Metric,
    alternative: Alternative,
    alpha: float,
    decimals: int,
    family: int = 1,
    draws: DifferenceDraws | None = None,
    draws_reason: str | None = None,
    prompts: int | None = None,
) -> Inference | None:
    """What every metric gets: unit, crossed test, guard, zero methods, settings won, probability of improvement.

    Args:
        pairs: of both arms, in the order of `pair_by_setting`.
        differences: `setting_differences` of them.
        metric: what is compared.
        alternative: of the tests, about candidate minus baseline.
        alpha: intervals are two-sided at 1 - alpha.
        decimals: as for `signed_rank_test`.
        family: declared candidates; the guard's interval for equivalence is at 1 - 2 alpha / family.
        draws: of the prompts, for the guard.
        draws_reason: why there are none.
        prompts: their number, where it is known.

    Returns:
        None where no pair is complete.
    """
    table = difference_table(differences)
    if np.isnan(table).all():
        return None
    means = setting_means(table).tolist()
    seeds = table.shape[1]
    won = improvement = None
    reasons = {}
    if metric.higher_is_better is None:
        reasons = dict.fromkeys(
            ("settings_won", "improvement"), f"neither direction of {metric.label} is better"
        )
    else:
        better: dict[str, Any] = {"higher_is_better": metric.higher_is_better}
        won = settings_won(means, decimals=decimals, confidence=1 - alpha, **better)
        candidate = _values([pair.candidate for pair in pairs], table)
        baseline = _values([pair.baseline for pair in pairs], table)
        improvement = probability_of_improvement(candidate, baseline, **better)
    return Inference(
        unit=unit_of_test("setting", settings=len(means), seeds=seeds),
        crossed=crossed_test(table, alternative=alternative, confidence=1 - alpha),
        guard=guard_test(
            table,
            draws,
            draws_reason=draws_reason,
            prompts=prompts,
            reach=None if metric.attainable is None else metric.attainable[1] - metric.attainable[0],
            alternative=alternative,
            confidence=1 - alpha,
            narrow=1 - 2 * alpha / family if alpha / family < 0.5 else 1 - alpha,
        ),
        zero_methods=zero_sensitivity(means, alternative=alternative, decimals=decimals),
        settings_won=won,
        improvement=improvement,
        reasons=reasons,
    )


def infer_primary(
    found: Inference,
    differences: Sequence[SettingDifference],
    index: Index,
    *,
    metric: Metric,
    declared: Declared,
    rng_seed: int,
) -> Inference:
    """What the declared primary has besides: pooled pairs, equivalence, Bayes, missing runs, self-check, each setting.

    Args:
        found: `infer` of the same comparison.
        differences: one per planned setting.
        index: `index_runs` of the table of runs.
        metric: the primary.
        declared: arms, direction, alpha and rope.
        rng_seed: of a generator for the Bayesian test and one for the self-check.
    """
    table = difference_table(differences)
    means = setting_means(table).tolist()
    test: dict[str, Any] = {"alternative": declared.alternative, "decimals": declared.decimals}
    more: dict[str, Any] = {"rng_seed": rng_seed}
    reasons = dict(found.reasons)

    if (pairs := int((~np.isnan(table)).sum())) <= MOST_POOLED_PAIRS:
        more["pooled"] = pooled_signed_rank(table, **test)
    else:
        reasons["pooled"] = f"descriptive, and not enumerated for {pairs} pairs (at most {MOST_POOLED_PAIRS})"
    level = declared.alpha / (
        1 + len(declared.more_candidates)
    )  # Bonferroni over the family, as in the verdict
    if declared.rope > 0 and level < 0.5:
        more["equivalence"] = equivalence_test(means, declared.rope, level)
    else:
        reasons["equivalence"] = "needs a margin above 0 and an alpha below 0.5"
    more["bayesian"] = bayesian_signed_rank(
        means,
        rope=declared.rope,
        rng=np.random.default_rng(rng_seed),
        draws=min(50_000, 5_000_000 // len(means)),  # each draws a weight for every setting
        decimals=declared.decimals,
    )
    more["missing"] = analyse_missing_runs(
        index,
        metric=metric,
        baseline=declared.baseline,
        candidate=declared.candidate,
        settings=[each.setting for each in differences],
        seeds=[value.seed for value in differences[0].values],
        attainable=metric.attainable,
        alpha=declared.alpha,
        **test,
    )
    if len(means) <= MOST_CHECKED_SETTINGS:
        more["self_check"] = check_false_positives(
            table,
            lambda flipped: signed_rank_test(setting_means(flipped), **test).p_value,
            unit="setting",
            rng=np.random.default_rng(rng_seed),
            alpha=declared.alpha,
            flips=FLIPS,
        )
    else:
        reasons["self_check"] = f"not run over {len(means)} settings (at most {MOST_CHECKED_SETTINGS})"
    labels = [each.setting for each in differences]
    more["by_setting"] = explore_settings(table, labels, alpha=declared.alpha, decimals=declared.decimals)
    return found.model_copy(update=more | {"reasons": reasons})


def _values(values: Sequence[float | None], like: Table) -> Table:
    """One arm's values [settings, seeds], in the order of the pairs."""
    return np.array([np.nan if value is None else value for value in values]).reshape(like.shape)

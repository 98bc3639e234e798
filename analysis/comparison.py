"""Paired comparison of two arms over settings, one metric at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.inference.bayes import bayesian_signed_rank
from analysis.inference.crossed import (
    Table,
    crossed_test,
    difference_table,
    setting_differences,
    setting_means,
)
from analysis.inference.equivalence import equivalence_test
from analysis.inference.generalization import NO_PROMPT_DATA, DifferenceDraws, generalization_test
from analysis.inference.intervals import (
    hodges_lehmann,
    probability_of_improvement,
    rank_biserial,
    settings_won,
    sign_test,
)
from analysis.inference.missing_runs import analyse_missing_runs
from analysis.inference.multiplicity import benjamini_hochberg, holm
from analysis.inference.pooled import explore_settings, pooled_signed_rank, zero_sensitivity
from analysis.inference.self_check import check_false_positives
from analysis.inference.signed_rank import signed_rank_test
from analysis.prompts.bootstrap import difference_draws
from analysis.results.model import (
    Alternative,
    ArmComparison,
    Comparison,
    Inference,
    Metric,
    SettingDifference,
    unit_of_test,
)
from analysis.results.table import Pair
from analysis.study import Study
from analysis.verdict import make_verdict

# More than two arms: the baseline against each other one, adjusted within the declared family and outside it.


def compare_arms(study: Study, first: Comparison) -> tuple[Comparison, list[ArmComparison]]:
    """Compare the baseline with every arm except the first candidate, on the primary metric.

    The declared candidates are one family: Holm's adjustment decides, of both tests. Any other arm is exploratory,
    two-sided, and adjusted by Benjamini-Hochberg among its like.

    Args:
        study: the study.
        first: its comparison with `declared.candidate`.

    Returns:
        The first comparison with its adjusted p where the family has more than one, and the other arms in their order,
        the declared ones first.

    Raises:
        ValueError: a declared candidate that is no arm.

    Source: Holm (1979), Scand. J. Statist. 6:65; Benjamini & Hochberg (1995), JRSS B 57:289.
    """
    declared, arms = study.declared, study.table.arms
    if absent := [arm for arm in declared.more_candidates if arm not in arms]:
        raise ValueError(f"candidate {absent[0]!r} is not an arm; arms: {', '.join(arms)}")
    family = [first]
    family += [compare(study.against(arm, declared=True))[0] for arm in declared.more_candidates]
    if len(family) > 1:
        adjusted = holm([_p_value(each) for each in family]).adjusted
        wider = holm([_generalization_p_value(each) for each in family]).adjusted
        family = [
            _generalization_adjusted(each, q).model_copy(update={"adjusted_p": p, "family": len(family)})
            for each, p, q in zip(family, adjusted, wider, strict=True)
        ]
    named = {declared.baseline, declared.candidate, *declared.more_candidates}
    others = [arm for arm in arms if arm not in named]
    explored = [compare(study.against(arm, declared=False))[0] for arm in others]
    adjusted = benjamini_hochberg([_p_value(each) for each in explored]).adjusted
    found = []
    for arm, comparison in zip(declared.more_candidates, family[1:], strict=True):
        of_arm = declared.model_copy(update={"candidate": arm})
        verdict = make_verdict(comparison, declared=of_arm, metric=study.primary)
        found.append(
            ArmComparison(
                candidate=arm,
                declared=True,
                comparison=comparison,
                verdict=verdict.sentence,
                verdict_kind=verdict.kind,
            )
        )
    for arm, comparison, p in zip(others, explored, adjusted, strict=True):
        update = {"adjusted_p": p, "family": len(others)}
        found.append(
            ArmComparison(candidate=arm, declared=False, comparison=comparison.model_copy(update=update))
        )
    return family[0], found


def _p_value(comparison: Comparison) -> float | None:
    return None if comparison.test is None else comparison.test.p_value


def _generalization_p_value(comparison: Comparison) -> float | None:
    generalization = None if comparison.inference is None else comparison.inference.generalization
    return None if generalization is None else generalization.p_value


def _generalization_adjusted(comparison: Comparison, p_value: float | None) -> Comparison:
    inference = comparison.inference
    if inference is None or inference.generalization is None:
        return comparison
    generalization = inference.generalization.model_copy(update={"adjusted_p": p_value})
    return comparison.model_copy(
        update={"inference": inference.model_copy(update={"generalization": generalization})}
    )


def compare(study: Study) -> list[Comparison]:
    """Compare the declared candidate with the declared baseline on every metric.

    The unit is the setting: d_k is the mean over complete seed pairs of candidate minus baseline at setting
    k, and the test runs over the d_k, since runs of one setting are not independent. A setting without a
    complete pair is not in the test; every missing pair is listed.

    Args:
        study: the study. Its declared `alternative` is about the primary metric as measured ("greater": candidate
            minus baseline is above 0) and is used for no other metric.

    Returns:
        The primary comparison with everything around it, then the other metrics in order, two-sided and
        exploratory, with less around them. Differences are in the unit of the metric; intervals are two-sided at
        1 - alpha; the sign test is two-sided.
    """
    declared = study.declared
    comparisons = []
    for metric in sorted(study.table.metrics, key=lambda m: m.name != declared.primary):  # stable
        is_primary = metric.name == declared.primary
        pairs = study.pairs(metric.name)
        draws, reason = _draws(study, pairs, metric)
        found = compare_pairs(
            pairs,
            metric=metric,
            family=1 + len(declared.more_candidates) if is_primary else 1,
            draws=draws,
            draws_reason=reason,
            prompts=study.prompts if study.bootstrap is None else study.bootstrap.n,
            alternative=declared.alternative if is_primary else "two-sided",
            alpha=declared.alpha,
            decimals=declared.decimals,
            confirmatory=is_primary and not study.declaration_changed,
        )
        if is_primary and study.around and found.inference is not None:
            more = infer_primary(study, found.inference, found.differences)
            found = found.model_copy(update={"inference": more})
        comparisons.append(found)
    return comparisons


def compare_pairs(
    pairs: Sequence[Pair],
    *,
    metric: Metric,
    alternative: Alternative = "two-sided",
    alpha: float = 0.05,
    decimals: int = 9,
    confirmatory: bool = False,
    family: int = 1,
    draws: DifferenceDraws | None = None,
    draws_reason: str | None = None,
    prompts: int | None = None,
) -> Comparison:
    """Compare two arms on one metric, from their pairs in the order of `pair_by_setting`.

    `won` counts settings whose mean difference, rounded to `decimals`, is better for the candidate; where
    neither direction of a metric is better, those where the candidate is higher.
    """
    differences = setting_differences(pairs)
    d = [k.mean for k in differences if k.mean is not None]
    missing = [pair.missing for pair in pairs if pair.missing is not None]
    if not d:
        return Comparison(
            metric=metric.name,
            differences=differences,
            test=None,
            test_reason=f"no setting has a complete pair of {metric.label} values",
            estimate=None,
            rank_biserial=None,
            won=0,
            tied=0,
            lost=0,
            sign_p_value=None,
            missing_pairs=missing,
            confirmatory=confirmatory,
        )
    test = signed_rank_test(d, alternative=alternative, decimals=decimals)
    higher, lower = sum(round(x, decimals) > 0 for x in d), sum(round(x, decimals) < 0 for x in d)
    won, lost = (lower, higher) if metric.higher_is_better is False else (higher, lower)
    return Comparison(
        metric=metric.name,
        differences=differences,
        test=test,
        test_reason=None,
        estimate=hodges_lehmann(d, 1 - alpha),
        rank_biserial=rank_biserial(test.w_plus, test.w_minus),
        won=won,
        tied=len(d) - won - lost,
        lost=lost,
        sign_p_value=sign_test(won, lost),
        missing_pairs=missing,
        confirmatory=confirmatory,
        inference=infer(
            pairs,
            differences,
            metric=metric,
            alternative=alternative,
            alpha=alpha,
            decimals=decimals,
            family=family,
            draws=draws,
            draws_reason=draws_reason,
            prompts=prompts,
        ),
    )


def _draws(study: Study, pairs: Sequence[Pair], metric: Metric) -> tuple[DifferenceDraws | None, str | None]:
    """Differences under common draws of prompts [settings, seeds], or why there are none."""
    bootstrap, declared, index = study.bootstrap, study.declared, study.table.index
    if bootstrap is None:
        return None, NO_PROMPT_DATA
    name = next((one for one in bootstrap.estimates if one == metric.name), None)
    if name is None:
        return None, f"{metric.label} is not computed per draw of prompts"
    runs = [
        None
        if pair.missing is not None
        else (
            index[declared.candidate, pair.setting, pair.seed].run_id,
            index[declared.baseline, pair.setting, pair.seed].run_id,
        )
        for pair in pairs
    ]
    seeds = len(study.table.seeds)
    table = [runs[start : start + seeds] for start in range(0, len(runs), seeds)]
    found = difference_draws(bootstrap, name, table)
    return found, None if found is not None else "no pair of runs has draws of prompts"


# The evidence around the headline test of one comparison, put together.

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
    """What every metric gets: unit, crossed test, generalization test, zero methods, settings won, probability of
    improvement.

    Args:
        pairs: of both arms, in the order of `pair_by_setting`.
        differences: `setting_differences` of them.
        metric: what is compared.
        alternative: of the tests, about candidate minus baseline.
        alpha: intervals are two-sided at 1 - alpha.
        decimals: as for `signed_rank_test`.
        family: declared candidates; the generalization test's interval for equivalence is at 1 - 2 alpha / family.
        draws: of the prompts, for the generalization test.
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
        generalization=generalization_test(
            table,
            draws,
            draws_reason=draws_reason,
            prompts=prompts,
            max_prompt_effect=None
            if metric.attainable is None
            else metric.attainable[1] - metric.attainable[0],
            alternative=alternative,
            confidence=1 - alpha,
            narrow=1 - 2 * alpha / family if alpha / family < 0.5 else 1 - alpha,
        ),
        zero_methods=zero_sensitivity(means, alternative=alternative, decimals=decimals),
        settings_won=won,
        improvement=improvement,
        reasons=reasons,
    )


def infer_primary(study: Study, found: Inference, differences: Sequence[SettingDifference]) -> Inference:
    """What the declared primary has too: pooled pairs, equivalence, Bayes, missing runs, self-check, each setting.

    Args:
        study: the study.
        found: `infer` of its primary comparison.
        differences: one per planned setting.
    """
    declared, metric, rng_seed = study.declared, study.primary, study.rng_seed
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
        study.table.index,
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

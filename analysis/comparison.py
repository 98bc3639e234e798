"""Paired comparison of two arms over settings, one metric at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from analysis.inference.crossed import setting_differences
from analysis.inference.generalization import NO_PROMPT_DATA, DifferenceDraws
from analysis.inference.intervals import hodges_lehmann, rank_biserial, sign_test
from analysis.inference.signed_rank import signed_rank_test
from analysis.prompts.bootstrap import difference_draws
from analysis.results.model import Alternative, Comparison, Declared, Metric, RunRow
from analysis.results.table import Index, Pair, as_runs, check_planned, index_runs, pair_by_setting

if TYPE_CHECKING:
    import pandas as pd

    from analysis.prompts.bootstrap import PromptBootstrap
from typing import TYPE_CHECKING

from analysis.inference.multiplicity import benjamini_hochberg, holm
from analysis.results.model import ArmComparison
from analysis.verdict import make_verdict

if TYPE_CHECKING:
    import pandas as pd

    from analysis.prompts.bootstrap import PromptBootstrap
from typing import Any

import numpy as np

from analysis.inference.bayes import bayesian_signed_rank
from analysis.inference.crossed import Table, crossed_test, difference_table, setting_means
from analysis.inference.equivalence import equivalence_test
from analysis.inference.generalization import generalization_test
from analysis.inference.intervals import probability_of_improvement, settings_won
from analysis.inference.missing_runs import analyse_missing_runs
from analysis.inference.pooled import explore_settings, pooled_signed_rank, zero_sensitivity
from analysis.inference.self_check import check_false_positives
from analysis.results.model import Inference, SettingDifference, unit_of_test

# More than two arms: the baseline against each other one, adjusted within the declared family and outside it.


def compare_arms(
    first: Comparison,
    *,
    runs: Iterable[RunRow] | pd.DataFrame,
    declared: Declared,
    metric: Metric,
    settings: Sequence[str],
    seeds: Sequence[int],
    arms: Sequence[str],
    declaration_changed: Sequence[str] = (),
    bootstrap: PromptBootstrap | None = None,
    prompts: int | None = None,
    rng_seed: int = 0,
    around: bool = True,
) -> tuple[Comparison, list[ArmComparison]]:
    """Compare the baseline with every arm besides the first candidate, on the primary metric.

    The declared candidates are one family: Holm's adjustment decides, of the headline tests and of the generalization
    tests. Any other arm is exploratory, two-sided, and adjusted by Benjamini-Hochberg among its like.

    Args:
        first: the comparison with `declared.candidate`.
        runs: the tidy table, one row per run.
        declared: what was declared; `more_candidates` are the rest of the family.
        metric: the primary.
        settings: planned settings.
        seeds: planned seeds.
        arms: planned arms.
        declaration_changed: as for `compare`, as are bootstrap, prompts, rng_seed and around.
        bootstrap: see there.
        prompts: see there.
        rng_seed: see there.
        around: see there.

    Returns:
        The first comparison with its adjusted p where the family has more than one, and the other arms in their order,
        the declared ones first.

    Raises:
        TableError: duplicate or unplanned runs.
        ValueError: a declared candidate that is no arm.

    Source: Holm (1979), Scand. J. Statist. 6:65; Benjamini & Hochberg (1995), JRSS B 57:289.
    """
    rows = list(runs) if not hasattr(runs, "columns") else runs

    def against(arm: str, is_declared: bool) -> Comparison:
        changed = list(declaration_changed) if is_declared else ["not declared"]
        alone = {"alternative": "two-sided", "more_candidates": []}
        update = {"candidate": arm} | ({} if is_declared else alone)
        (found,) = compare(
            runs=rows,
            declared=declared.model_copy(update=update),
            metrics=[metric],
            settings=settings,
            seeds=seeds,
            arms=arms,
            declaration_changed=changed,
            bootstrap=bootstrap,
            prompts=prompts,
            rng_seed=rng_seed,
            around=around,
        )
        return found

    family = [first, *(against(arm, True) for arm in declared.more_candidates)]
    if len(family) > 1:
        adjusted = holm([_p_value(each) for each in family]).adjusted
        generalizations = holm([_generalization_p_value(each) for each in family]).adjusted
        family = [
            _generalization_adjusted(each, generalization).model_copy(
                update={"adjusted_p": p, "family": len(family)}
            )
            for each, p, generalization in zip(family, adjusted, generalizations, strict=True)
        ]
    named = {declared.baseline, declared.candidate, *declared.more_candidates}
    others = [arm for arm in arms if arm not in named]
    explored = [against(arm, False) for arm in others]
    adjusted = benjamini_hochberg([_p_value(each) for each in explored]).adjusted
    found = []
    for arm, comparison in zip(declared.more_candidates, family[1:], strict=True):
        verdict = make_verdict(
            comparison, declared=declared.model_copy(update={"candidate": arm}), metric=metric
        )
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


def compare(
    *,
    runs: Iterable[RunRow] | pd.DataFrame,
    declared: Declared,
    metrics: Sequence[Metric],
    settings: Sequence[str],
    seeds: Sequence[int],
    arms: Sequence[str],
    declaration_changed: Sequence[str] = (),
    bootstrap: PromptBootstrap | None = None,
    prompts: int | None = None,
    rng_seed: int = 0,
    around: bool = True,
) -> list[Comparison]:
    """Compare the declared candidate with the declared baseline on every metric.

    The unit is the setting: d_k is the mean over complete seed pairs of candidate minus baseline at setting
    k, and the test runs over the d_k, since runs of one setting are not independent. A setting without a
    complete pair is not in the test; every missing pair is listed.

    Args:
        runs: the tidy table, one row per run.
        declared: the comparison declared before results existed. Its `alternative` is about the primary
            metric as measured ("greater": candidate minus baseline is above 0) and is used for no other
            metric.
        metrics: what to compare, the primary among them.
        settings: planned settings.
        seeds: planned seeds.
        arms: planned arms; those besides baseline and candidate are in no comparison.
        declaration_changed: what changed since launch; anything makes the primary exploratory.
        bootstrap: every run's value under common draws of prompts, by `run_id`, so that the generalization test takes
            the prompts as a sample; None: it speaks of these prompts.
        prompts: their number, where it is known without a bootstrap.
        rng_seed: of the draws behind the Bayesian test and the self-check, which nothing else needs.
        around: whether the primary gets what no verdict needs: pooled pairs, Bayes, missing runs, the self-check.

    Returns:
        The primary comparison with everything around it, then the other metrics in order, two-sided and
        exploratory, with less around them. Differences are in the unit of the metric; intervals are two-sided at
        1 - alpha; the sign test is two-sided.

    Raises:
        TableError: duplicate or unplanned runs.
        ValueError: a declared arm or metric that is not there, or two metrics of one name.
    """
    index = index_runs(as_runs(runs))
    check_planned(index, arms, settings, seeds)
    for role, arm in (("baseline", declared.baseline), ("candidate", declared.candidate)):
        if arm not in arms:
            raise ValueError(f"{role} {arm!r} is not an arm; arms: {', '.join(arms)}")
    if declared.baseline == declared.candidate:
        raise ValueError(f"baseline and candidate are the same arm, {declared.baseline!r}")
    by_name = {metric.name: metric for metric in metrics}
    if len(by_name) < len(metrics):
        raise ValueError(f"two metrics have one name: {', '.join(m.name for m in metrics)}")
    if declared.primary not in by_name:
        raise ValueError(f"primary {declared.primary!r} is not a metric; metrics: {', '.join(by_name)}")

    comparisons = []
    for metric in sorted(metrics, key=lambda m: m.name != declared.primary):  # stable: the primary first
        is_primary = metric.name == declared.primary
        pairs = pair_by_setting(
            index,
            metric=metric.name,
            baseline=declared.baseline,
            candidate=declared.candidate,
            settings=settings,
            seeds=seeds,
        )
        draws, reason = _draws(bootstrap, pairs, index, metric, declared, len(seeds))
        found = compare_pairs(
            pairs,
            metric=metric,
            family=1 + len(declared.more_candidates) if is_primary else 1,
            draws=draws,
            draws_reason=reason,
            prompts=prompts if bootstrap is None else bootstrap.n,
            alternative=declared.alternative if is_primary else "two-sided",
            alpha=declared.alpha,
            decimals=declared.decimals,
            confirmatory=is_primary and not declaration_changed,
        )
        if is_primary and around and found.inference is not None:
            more = infer_primary(
                found.inference, found.differences, index, metric=metric, declared=declared, rng_seed=rng_seed
            )
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


def _draws(
    bootstrap: PromptBootstrap | None,
    pairs: Sequence[Pair],
    index: Index,
    metric: Metric,
    declared: Declared,
    seeds: int,
) -> tuple[DifferenceDraws | None, str | None]:
    """Differences under common draws of prompts [settings, seeds], or why there are none."""
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

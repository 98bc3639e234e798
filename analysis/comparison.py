"""Paired comparison of two arms over settings, one metric at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from analysis.difference_table import setting_differences
from analysis.guard import NO_PROMPT_DATA, DifferenceDraws, difference_draws
from analysis.inference import infer, infer_primary
from analysis.intervals import hodges_lehmann, rank_biserial, sign_test
from analysis.results import Alternative, Comparison, Declared, Metric, RunRow
from analysis.signed_rank import signed_rank_test
from analysis.table import Index, Pair, as_runs, check_planned, index_runs, pair_by_setting

if TYPE_CHECKING:
    import pandas as pd

    from analysis.prompt_bootstrap import PromptBootstrap


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
        bootstrap: every run's value under common draws of prompts, by `run_id`, so that the guard takes the prompts
            as a sample; None: it speaks of these prompts.
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

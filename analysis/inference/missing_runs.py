"""Runs that diverged or are missing: counted as outcomes first, left out second, bounded third."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from analysis.inference.crossed import setting_differences
from analysis.inference.intervals import hodges_lehmann, sign_test
from analysis.inference.signed_rank import signed_rank_test
from analysis.results.model import Alternative, Failures, Metric, MissingRuns, Rule, RuleResult, RunRow, State
from analysis.results.table import Index, Pair, as_runs, index_runs, mean, value_of, why_missing

if TYPE_CHECKING:
    import pandas as pd


# These have an outcome, whatever became of the evaluation; the others may still turn out either way.
ENDED: frozenset[State] = frozenset({State.DONE, State.QUARANTINED, State.DIVERGED})


def analyse_missing_runs(
    runs: Iterable[RunRow] | pd.DataFrame | Index,
    *,
    metric: Metric,
    baseline: str,
    candidate: str,
    settings: Sequence[str],
    seeds: Sequence[int],
    attainable: tuple[float, float] | None = None,
    failures: Sequence[State] = (State.DIVERGED,),
    alternative: Alternative = "two-sided",
    alpha: float = 0.05,
    decimals: int = 9,
) -> MissingRuns:
    """Compare two arms under each rule for runs without a value.

    "Intention to treat": a failed run is an outcome of its method, the metric's worst value; other gaps stay.
    "Complete pairs": pairs with both values. "Lowest" and "highest difference": every missing value, failed or not, is
    the attainable one that is worst or best for the candidate's difference, so the truth lies between.

    Args:
        runs: the tidy table or `index_runs` of it.
        metric: what is compared.
        baseline: arm that is subtracted.
        candidate: arm it is subtracted from.
        settings: planned settings.
        seeds: planned seeds.
        attainable: lowest and highest value of the metric, (0, 100) for win rates; None: it has none.
        failures: states that count as failures of the method.
        alternative: of the tests, about candidate minus baseline.
        alpha: intervals are two-sided at 1 - alpha.
        decimals: as for `signed_rank_test`.

    Raises:
        TableError: two runs with the same key.
        ValueError: `attainable` is not in order.

    Source: intention to treat and bounds as in Hollis & Campbell (1999), BMJ 319:670, and Horowitz & Manski (2000),
    JASA 95:77; McNemar (1947), Psychometrika 12:153, exact by the binomial distribution.
    """
    if attainable is not None and not attainable[0] < attainable[1]:
        raise ValueError(f"attainable must be (lowest, highest), got {attainable}")
    index = runs if isinstance(runs, dict) else index_runs(as_runs(runs))
    keys = [(setting, seed) for setting in settings for seed in seeds]

    def under(rule: Rule) -> RuleResult:
        pairs, filled, blocked = [], [], False
        for setting, seed in keys:
            values = []
            for arm in (baseline, candidate):
                run = index.get((arm, setting, seed))
                value = value_of(run, metric.name)
                if value is None and _fills(rule, run, failures):
                    value = _filling(rule, arm == candidate, metric, attainable)
                    blocked |= value is None
                    if value is not None:
                        cause = f"{arm} {why_missing(run, metric.name)}"
                        filled.append(f"{setting}, seed {seed}: {cause}, taken as {value:g}")
                values.append(value)
            pairs.append(Pair(setting, seed, values[0], values[1], missing=None))
        # Complete pairs under another rule's name would be a false result.
        reason = f"{metric.label} has no worst and best value to give to a missing run" if blocked else None
        return _compare(rule, pairs, filled, reason, alternative, alpha, decimals)

    return MissingRuns(
        rules=[
            under("intention to treat"),
            under("complete pairs"),
            under("lowest difference"),
            under("highest difference"),
        ],
        failures=_count_failures(index, keys, baseline, candidate, failures),
    )


def _fills(rule: Rule, run: RunRow | None, failures: Sequence[State]) -> bool:
    """Whether a rule gives a value to a run without one."""
    if rule == "intention to treat":
        return run is not None and run.state in failures
    return rule != "complete pairs"


def _filling(
    rule: Rule, of_candidate: bool, metric: Metric, attainable: tuple[float, float] | None
) -> float | None:
    """That value; None where the metric has none."""
    if attainable is None:
        return None
    low, high = attainable
    if rule == "intention to treat":
        return {True: low, False: high, None: None}[metric.higher_is_better]
    return low if of_candidate == (rule == "lowest difference") else high


def _compare(
    rule: Rule,
    pairs: Sequence[Pair],
    filled: list[str],
    reason: str | None,
    alternative: Alternative,
    alpha: float,
    decimals: int,
) -> RuleResult:
    d = [] if reason else [k.mean for k in setting_differences(pairs) if k.mean is not None]
    return RuleResult(
        rule=rule,
        filled=filled,
        left_out=sum(pair.difference is None for pair in pairs),
        mean=mean(d),
        estimate=hodges_lehmann(d, 1 - alpha) if d else None,
        test=signed_rank_test(d, alternative=alternative, decimals=decimals) if d else None,
        reason=reason or (None if d else "no setting has a complete pair"),
    )


def _count_failures(
    index: Index,
    keys: Sequence[tuple[str, int]],
    baseline: str,
    candidate: str,
    failures: Sequence[State],
) -> Failures:
    ended = ENDED | set(failures)
    failed: list[tuple[bool, bool]] = []  # candidate's, baseline's
    for setting, seed in keys:
        ours, theirs = index.get((candidate, setting, seed)), index.get((baseline, setting, seed))
        if ours is not None and theirs is not None and ours.state in ended and theirs.state in ended:
            failed.append((ours.state in failures, theirs.state in failures))
    only_candidate, only_baseline = failed.count((True, False)), failed.count((False, True))
    return Failures(
        states=list(failures),
        pairs=len(failed),
        candidate=sum(ours for ours, _ in failed),
        baseline=sum(theirs for _, theirs in failed),
        only_candidate=only_candidate,
        only_baseline=only_baseline,
        p_value=sign_test(only_candidate, only_baseline),
    )

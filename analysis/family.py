"""More than two arms: the baseline against each other one, adjusted within the declared family and outside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from analysis.comparison import compare
from analysis.multiplicity import benjamini_hochberg, holm
from analysis.results import ArmComparison, Comparison, Declared, Metric, RunRow
from analysis.verdict import make_verdict

if TYPE_CHECKING:
    import pandas as pd

    from analysis.prompt_bootstrap import PromptBootstrap


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

    The declared candidates are one family: Holm's adjustment decides, of the headline tests and of the guards. Any
    other arm is exploratory, two-sided, and adjusted by Benjamini-Hochberg among its like.

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
        guards = holm([_guard_p_value(each) for each in family]).adjusted
        family = [
            _guard_adjusted(each, guard).model_copy(update={"adjusted_p": p, "family": len(family)})
            for each, p, guard in zip(family, adjusted, guards, strict=True)
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


def _guard_p_value(comparison: Comparison) -> float | None:
    guard = None if comparison.inference is None else comparison.inference.guard
    return None if guard is None else guard.p_value


def _guard_adjusted(comparison: Comparison, p_value: float | None) -> Comparison:
    inference = comparison.inference
    if inference is None or inference.guard is None:
        return comparison
    guard = inference.guard.model_copy(update={"adjusted_p": p_value})
    return comparison.model_copy(update={"inference": inference.model_copy(update={"guard": guard})})

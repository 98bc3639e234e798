"""What a sweep's design can show, from its file and from the runs that are done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeps.errors import UserError
from sweeps.rows import run_rows
from sweeps.seen import Seen, look
from sweeps.sweep import Sweep

if TYPE_CHECKING:
    from analysis.design import DesignCheck, Spreads
    from analysis.evidence import NextSteps


def require_testable(sweep: Sweep, *, allow: bool) -> None:
    """Refuse to spend anything on a design whose outcome cannot reach alpha whatever it is.

    Raises:
        UserError: it cannot, and `--allow-untestable` was not given.
    """
    from analysis.power import fewest_settings, smallest_p

    compare, settings = sweep.spec.compare, sweep.settings_in_all
    family = len(compare.candidates)
    smallest, level = smallest_p(settings, compare.alternative), compare.alpha / family
    if allow or smallest <= level:
        return
    shared = "" if family == 1 else f" / {family} candidates"
    raise UserError(
        f"{sweep.spec.name} cannot reach alpha = {compare.alpha:g}{shared}: over {settings} settings the smallest p is "
        f"{smallest:.4g}; {fewest_settings(level, compare.alternative)} settings can. "
        "--allow-untestable runs it all the same"
    )


def check_sweep(
    sweep: Sweep, spreads_from: Sweep | None = None, seen: Seen | None = None
) -> tuple[DesignCheck, NextSteps | None]:
    """The design of a sweep, and its cheapest next step once there are results.

    SDs are those that the file states (`compare.run_sd`, `setting_sd`, `seed_sd`), else those of another sweep's
    finished runs, else those of its own.

    Args:
        sweep: whose design.
        spreads_from: the other sweep.
        seen: of `look` at the sweep, where the caller has it.

    Raises:
        UserError: the other sweep's finished runs do not give SDs.
    """
    from analysis.design import check_design

    metric = sweep.spec.compare.primary
    own, steps = _so_far(sweep, metric, seen or look(sweep))
    spreads: Spreads | str | None = _stated(sweep)
    if spreads is None and spreads_from is not None:
        spreads = _so_far(spreads_from, metric, look(spreads_from))[0]
        if spreads is None or isinstance(spreads, str):
            why = spreads or "SDs need 2 settings and 2 seeds without a missing pair"
            raise UserError(f"--sds-from {spreads_from.spec.name}: {why}")
    declared = sweep.spec.compare
    found = check_design(
        settings=sweep.settings_in_all,
        seeds=len(sweep.seeds),
        alpha=declared.alpha,
        alternative=declared.alternative,
        family=len(declared.candidates),
        effect=declared.effect,
        spreads=spreads or own,
    )
    return found, steps


def _so_far(of: Sweep, metric: str, seen: Seen) -> tuple[Spreads | str | None, NextSteps | None]:
    """Of the finished runs: SDs of a metric's differences or why there are none, and what to add."""
    if not seen.finished:
        return None, None
    import numpy as np

    from analysis.advice import advise
    from analysis.crossed import crossed_test
    from analysis.design import measured_spreads
    from analysis.difference_table import difference_table, setting_differences
    from analysis.table import pair_by_setting

    declared, rows = of.declared(), run_rows(of, seen=seen)
    arms = {"baseline": declared.baseline, "candidate": declared.candidate}
    pairs = pair_by_setting(rows, metric=metric, **arms, settings=of.settings, seeds=of.seeds)
    table = difference_table(setting_differences(pairs))
    settings = int((~np.isnan(table)).any(axis=1).sum())
    if not settings:
        return None, None
    crossed = crossed_test(table, alternative=declared.alternative, confidence=1 - declared.alpha)
    spreads = measured_spreads(crossed, f"the finished runs of {of.spec.name}")
    return spreads, advise(crossed, settings=settings, runs=rows, declared=declared)[0]


def design_lines(check: DesignCheck, steps: NextSteps | None, unit: str) -> list[str]:
    """`check_sweep` for people."""
    lines = [
        f"  what it can show: the signed-rank test over {check.settings} settings reaches p "
        f"{f'= {check.smallest_p:.4g}' if check.smallest_p else '< 1e-300'} at best; alpha is {check.alpha:g}"
    ]
    if not check.testable:
        lines.append(
            f"  NOT TESTABLE: this design cannot reach alpha whatever the results are; {check.fewest_settings} "
            "settings can; launch refuses without --allow-untestable"
        )
    if check.seeds == 1:
        lines.append("  with one seed no verdict is better or worse, whatever the results are: add seeds")
    if check.power is not None:
        lines.append(
            f"  power for a true difference of {check.power.effect:g} {unit}: {check.power.verdict or 0:.2f}"
            + (f"; {check.enough_settings} settings have 0.80" if check.enough_settings else "")
            + f" (the signed-rank test alone {check.power.power:.2f}; the verdict needs the guard of seeds too; what "
            "prompts share is not in it)"
        )
    if check.detectable is not None:
        lines.append(f"  found with a power of 0.80: a true difference of {check.detectable:.2g} {unit}")
    if check.spreads is not None:
        spreads = check.spreads
        lines.append(
            f"  by SDs of {spreads.run:.3g} between runs, {spreads.setting:.3g} between settings, {spreads.seed:.3g} "
            f"between seeds ({spreads.source})"
        )
    elif check.testable:
        lines.append(f"  power: not known: {check.reasons['power']}")
    return lines + next_step_lines(steps)


def next_step_lines(steps: NextSteps | None) -> list[str]:
    """The cheapest next step for people."""
    best = None if steps is None else next((s for s in steps.steps if s.reduction_per_cost is not None), None)
    if steps is None or best is None or not steps.standard_error:  # nothing varies: no step would help
        return []
    said = (
        f"cheapest next step: {best.amount} more {best.action}, {best.cost:.2g} {steps.unit}: standard error "
        f"{steps.standard_error:.3g} to {best.standard_error:.3g}"
    )
    return [f"  {said}" + (f"; {steps.warning}" if steps.warning else "")]


def _stated(sweep: Sweep) -> Spreads | None:
    from analysis.design import Spreads

    compare = sweep.spec.compare
    if compare.run_sd is None or compare.setting_sd is None:
        return None
    return Spreads(
        run=compare.run_sd, setting=compare.setting_sd, seed=compare.seed_sd, source="stated in the file"
    )

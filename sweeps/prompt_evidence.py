"""What a sweep's judgements of single prompts tell beside its tests: intervals, bests of the grid, flipped prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.findings import FlippedPrompts, GridBest, PromptLevel
from analysis.results import Declared, RunRow
from sweeps.evaluation import BOOTSTRAP_SEED, REPLICATES
from sweeps.judged_runs import JudgedRuns, annotations_of
from sweeps.metrics import METRICS
from sweeps.sweep import Sweep

if TYPE_CHECKING:
    from analysis.prompt_bootstrap import PromptBootstrap

BESTS = ("length_controlled_win_rate", "win_rate")


@dataclass(frozen=True, slots=True)
class PromptEvidence:
    """Parts of `Results`; a reason stands beside each None."""

    prompt_level: PromptLevel | None
    prompt_level_reason: str | None
    best_of_grid: list[GridBest]
    flips: FlippedPrompts | None
    flips_reason: str | None


def prompt_evidence(
    sweep: Sweep,
    rows: Sequence[RunRow],
    judged: JudgedRuns,
    declared: Declared,
    draws: tuple[PromptBootstrap | None, str | None],
) -> PromptEvidence:
    """Of the runs that count, under the sweep's own evaluation.

    Args:
        sweep: whose runs.
        rows: of `run_rows`.
        judged: of `judged_runs`.
        declared: the comparison.
        draws: of `prompt_draws`.

    Raises:
        FailureError: annotations cannot be read any more.
    """
    from analysis.flipped_prompts import flipped_prompts
    from analysis.prompt_level import prompt_level

    plan: dict[str, Any] = {"declared": declared, "settings": sweep.settings, "seeds": sweep.seeds}
    boot, reason = draws
    if boot is None:
        return PromptEvidence(None, reason, _bests(sweep, rows, declared, None, None), None, reason)
    level, reason = prompt_level(boot, rows, **plan)
    flips = flipped_prompts(
        judged.data, rows, lambda run_id: annotations_of(sweep, sweep.job.evaluation, run_id), **plan
    )
    return PromptEvidence(
        prompt_level=level,
        prompt_level_reason=reason,
        best_of_grid=_bests(sweep, rows, declared, judged, boot),
        flips=flips,
        flips_reason=None if flips else "no prompt has a judgement in both runs of a pair",
    )


def _bests(
    sweep: Sweep,
    rows: Sequence[RunRow],
    declared: Declared,
    judged: JudgedRuns | None,
    boot: PromptBootstrap | None,
) -> list[GridBest]:
    """On both win rates, and first on the primary metric where that is another one of which a direction is better."""
    import numpy as np

    from analysis.grid_best import grid_best
    from analysis.grid_scores import Drawn, grid_scores
    from analysis.prompt_bootstrap import draw_prompts

    scores = None
    if judged is not None and boot is not None:
        # The same draws: what each run came to under them is known.
        drawn = Drawn(draw_prompts(boot.n, REPLICATES, np.random.default_rng(BOOTSTRAP_SEED)), boot)
        scores = grid_scores(judged.data, judged.calibration, drawn)
    names = sorted(dict.fromkeys([declared.primary, *BESTS]), key=lambda name: name != declared.primary)
    by_name = {metric.name: metric for metric in METRICS}
    found = []
    for name in names:
        if by_name[name].higher_is_better is None:
            continue
        best = grid_best(
            rows,
            metric=by_name[name],
            candidate=declared.candidate,
            baseline=declared.baseline,
            settings=sweep.settings,
            seeds=sweep.seeds,
            scores=scores if name in BESTS else None,
            rng_seed=BOOTSTRAP_SEED,
        )
        found += [] if best is None else [best]
    return found

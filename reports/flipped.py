"""The prompts that one arm wins and the other loses most consistently over the pairs of runs of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.findings import FlippedPrompt
from analysis.paired_prompts import PromptPair
from analysis.results import Results
from reports.flips import Flip, flip_of
from reports.lookup import arm_name, reference_name
from reports.shown import Missing
from reports.text import plural, shorten


@dataclass(frozen=True)
class Direction:
    """The prompts that flipped one way."""

    title: str
    flips: list[Flip]
    note: str


@dataclass(frozen=True)
class Flipped:
    """The section."""

    lead: str
    directions: list[Direction]


def flipped_of(results: Results) -> Flipped | Missing | None:
    """Both directions; None for results of before they were kept, and for a table without responses."""
    found = results.flips
    if found is None:
        reason = results.flips_reason
        return Missing(f"Nothing to show: {reason}.") if reason and results.evaluation else None
    candidate, baseline = (
        shorten(name, 60) for name in (results.declared.candidate, results.declared.baseline)
    )
    return Flipped(
        lead=f"Of {plural(found.prompts, 'prompt')} judged in {plural(found.pairs, 'pair')} of runs, "
        f"{found.n_to_candidate:,} went more often from lost to won with {candidate} in place of {baseline}, and "
        f"{found.n_to_baseline:,} the other way round. Won and lost: against the answer of "
        f"{shorten(reference_name(results), 60)}. Shown are the most consistent, so some of them are luck.",
        directions=[
            _direction(
                f"{candidate} wins, {baseline} loses", found.to_candidate, found.n_to_candidate, results
            ),
            _direction(
                f"{baseline} wins, {candidate} loses", found.to_baseline, found.n_to_baseline, results
            ),
        ],
    )


def _direction(title: str, prompts: Sequence[FlippedPrompt], total: int, results: Results) -> Direction:
    left_out = total - len(prompts)
    note = (
        f"{plural(left_out, 'more prompt')} flipped this way on balance, less consistently."
        if left_out
        else ""
    )
    return Direction(
        f"{title}: {plural(total, 'prompt')}", [_flip(prompt, results) for prompt in prompts], note
    )


def _flip(prompt: FlippedPrompt, results: Results) -> Flip:
    pair = PromptPair(
        instruction=prompt.instruction,
        baseline_output=prompt.reference_output,
        output_a=prompt.candidate_output,
        output_b=prompt.baseline_output,
        preference_a=prompt.candidate_preference,
        preference_b=prompt.baseline_preference,
    )
    names = arm_name(results, results.declared.candidate), arm_name(results, results.declared.baseline)
    shown = flip_of(pair, names, reference_name(results))
    forth, back = sorted((prompt.candidate_wins, prompt.baseline_wins), reverse=True)
    against = f", {back} the other way" if back else ""
    return replace(
        shown,
        difference=f"{forth} of {plural(prompt.pairs, 'pair')}{against}",
        origin=f"{shorten(prompt.setting, 200)}, seed {prompt.seed}",
    )

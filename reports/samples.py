"""Answers to look at, side by side; long ones are cut and say so."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.results import Results, Sample
from reports.formats import decimal
from reports.lookup import arm_name, reference_name
from reports.shown import ArmName, Missing, Shown
from reports.text import Excerpt, excerpt, plural, shorten

ANSWER, PROMPT = 1500, 1000  # characters shown
OPEN, MOST = 4, 24  # samples shown at once, and at all


@dataclass(frozen=True)
class Answer:
    """One of the two answers."""

    title: Shown
    excerpt: Excerpt
    preferred: bool


@dataclass(frozen=True)
class Pair:
    """A prompt with both answers and the judge's preference."""

    arm: ArmName
    origin: str
    prompt: Excerpt
    answers: tuple[Answer, Answer]
    preference: str


@dataclass(frozen=True)
class Samples:
    """The pairs that are open, those behind a fold, and a note on what is left out."""

    shown: list[Pair]
    folded: list[Pair]
    note: str


def samples_of(results: Results) -> Samples | Missing:
    """All samples, up to a limit."""
    if not results.samples:
        return Missing("No sample was kept.")
    pairs = [_pair(results, sample) for sample in results.samples[:MOST]]
    left_out = len(results.samples) - len(pairs)
    note = f"{plural(left_out, 'more sample')} in results.json." if left_out else ""
    return Samples(pairs[:OPEN], pairs[OPEN:], note)


def _pair(results: Results, sample: Sample) -> Pair:
    preference = sample.preference
    known = preference is not None and math.isfinite(preference)
    # AlpacaEval: 2 is the second answer, 1 the first; 1.5 and 0 are draws.
    leaning = 0.0 if not known or preference in (None, 0) else preference - 1.5
    return Pair(
        arm=arm_name(results, sample.arm),
        origin=f"{sample.setting}, seed {sample.seed}",
        prompt=excerpt(sample.instruction, PROMPT),
        answers=(
            Answer(
                f"Evaluation baseline: {shorten(reference_name(results), 60)}",
                excerpt(sample.baseline_output, ANSWER),
                leaning < 0,
            ),
            Answer(arm_name(results, sample.arm), excerpt(sample.output, ANSWER), leaning > 0),
        ),
        preference=_preference(preference, leaning),
    )


def _preference(preference: float | None, leaning: float) -> str:
    if preference is None or not math.isfinite(preference):
        return "– (this pair was not judged)"
    scale = "from 1 (evaluation baseline) to 2 (trained policy)"
    return f"preference {decimal(preference, 2)}, {scale}" + (": a draw" if leaning == 0 else "")

"""Who judged the responses: the declared judge beside those that judged them again, and what the gate noted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.document import Results
from analysis.prompts.paired import PromptPair
from analysis.results.model import FlippedPrompt, Judgement, Sample
from analysis.results.values import State
from reports.render.cells import ArmName, Column, Missing, NoWrap, Shown, Table, Tag, beginning, state_tag
from reports.render.formats import (
    arm_name,
    arms_in_order,
    decimal,
    interval,
    measure,
    metric_named,
    number,
    p_value,
    reference_name,
    titled,
)
from reports.render.text import Excerpt, excerpt, plural, shorten
from reports.sections.flips import Flip, flip_of

MOST = 150  # rows of a table on the page
_RATES = ("length_controlled_win_rate", "win_rate")
_FACTS = {
    "answers_asked": ("Answers asked for", 0),
    "answers_cached": ("Answers from the cache", 0),
    "requests": ("Requests", 0),
    "dollars": ("Dollars charged to the sweep by then", 2),
    "truncated_pairs": ("Pairs cut for the reward model", 0),
    "missing": ("Pairs without a preference", 0),
    "position_bias_estimate": ("Position bias: preference for the answer shown first, minus 0.5", 3),
    "position_bias_consistency": ("Share of pairs with the same preference in both orders", 3),
    "noise_within_pair_sd": ("Judge's own noise: SD of a preference judged again", 3),
    "noise_win_rate_sd": ("Of which in a run's win rate (points)", 2),
}


@dataclass(frozen=True)
class Judgements:
    """The section's parts, a column for each judgement; empty tables have no rows."""

    table: Table
    judging: Table
    failures: Table  # of judgements beside the declared one, whose own stand with the design
    without: int  # rows of it, shown or not
    notes: Table
    noted: int


def judgements_of(results: Results) -> Judgements | None:
    """The section; `None` where one judge judged once and nothing was noted."""
    notes, judging = _notes(results), _judging(results)
    if len(results.judgements) < 2 and not judging.rows and not notes.rows:
        return None
    failures = _failures(results)
    return Judgements(
        table=_table(results),
        judging=judging,
        failures=beginning(failures, MOST, "results.json"),
        without=len(failures.rows),
        notes=beginning(notes, MOST, "results.json"),
        noted=len(notes.rows),
    )


def _columns(results: Results) -> list[Column]:
    return [Column("Of each judgement"), *(Column(each.judge) for each in results.judgements)]


def _table(results: Results) -> Table:
    shown = results.judgements
    arms = [arm for arm in arms_in_order(results) if arm in results.arms]
    rows: list[list[Shown]] = [
        ["Judgement", *(_role(each) for each in shown)],
        ["Folder in a run's eval/*", *(NoWrap(each.eval_id.rpartition("/")[2]) for each in shown)],
        ["LC method", *(each.lc_method for each in shown)],
        ["Runs that count", *(_counting(each) for each in shown)],
    ]
    for name in _RATES:
        rate = metric_named(results, name)
        for arm in arms:
            values = [each.means.get(arm, {}).get(name) for each in shown]
            cells = [
                measure(value, rate, reason=_reason(each, name))
                for each, value in zip(shown, values, strict=True)
            ]
            rows.append([(rate.label, ": ", arm_name(results, arm)), *cells])
    metric = metric_named(results, results.declared.primary)
    if metric.name in (*_RATES, "lc_minus_wr"):  # no judge has a say in any other
        differences = [_difference(each, metric.decimals, results.declared.alpha) for each in shown]
        for place, label in enumerate((f"Difference, {titled(metric)}", "Interval", "Wilcoxon signed-rank")):
            rows.append([label, *(each[place] for each in differences)])
    note = "Means over the runs that count. Judges and LC methods are never pooled; the declared judgement decides."
    return Table("The same responses under each judge", _columns(results), rows, note)


def _role(each: Judgement) -> Tag:
    return Tag("confirmatory", "declared") if each.declared else Tag("exploratory", "not declared")


def _counting(each: Judgement) -> str:
    others = [f"{count} {state}" for state, count in each.counts.items() if state != State.DONE]
    said = f"{each.counts.get(State.DONE, 0)} of {sum(each.counts.values())}"
    return f"{said} ({', '.join(others)})" if others else said


def _reason(each: Judgement, name: str) -> str:
    if each.reason and name == "length_controlled_win_rate":
        return each.reason
    return "no run that counts has a value"


def _difference(each: Judgement, decimals: int, alpha: float) -> list[Shown]:
    found = each.comparison
    if found is None or found.estimate is None:
        return [Missing(each.reason or "no setting has a complete pair of runs")] * 3
    p: Shown = (
        p_value(found.test.p_value, alpha) if found.test else Missing(found.test_reason or "there is no test")
    )
    return [number(found.estimate.estimate, decimals, signed=True), interval(found.estimate, decimals), p]


def _judging(results: Results) -> Table:
    rows: list[list[Shown]] = []
    for name, (label, decimals) in _FACTS.items():
        values = [_figure(each, name) for each in results.judgements]
        if any(value is not None and (name != "missing" or value) for value in values):
            rows.append(
                [label, *(number(value, decimals, reason="no figure of this judge") for value in values)]
            )
    return Table("How judging went, over all runs", _columns(results), rows)


def _figure(each: Judgement, name: str) -> float | None:
    value = each.judging.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _failures(results: Results) -> Table:
    rows: list[list[Shown]] = [
        [
            each.judge,
            NoWrap(run.run_id),
            arm_name(results, run.arm),
            NoWrap(run.setting),
            str(run.seed),
            state_tag(run.state),
            run.reason,
        ]
        for each in results.judgements
        for run in each.failures
    ]
    columns = [Column("Judge"), Column("Run"), Column("Arm"), Column("Setting"), Column("Seed", numeric=True)]
    columns += [Column("State"), Column("Reason")]
    return Table("Runs without a result of another judge", columns, rows)


def _notes(results: Results) -> Table:
    rows: list[list[Shown]] = [
        [
            NoWrap(run.run_id),
            arm_name(results, run.arm),
            NoWrap(run.setting),
            str(run.seed),
            "; ".join(run.flags),
        ]
        for run in results.runs
        if run.flags and run.state == State.DONE
    ]
    columns = [Column("Run"), Column("Arm"), Column("Setting"), Column("Seed", numeric=True), Column("Note")]
    return Table(f"{plural(len(rows), 'run')} that count, with a note of the integrity check", columns, rows)


# The prompts that one arm wins and the other loses most consistently over the pairs of runs of a sweep.


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
        f"{candidate} more often won {found.n_to_candidate:,} that {baseline} lost, and {baseline} more often won "
        f"{found.n_to_baseline:,} that {candidate} lost, against the answer of "
        f"{shorten(reference_name(results), 60)}. The most consistent ones are shown, so some of them are luck.",
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


# Answers to look at, side by side; long ones are cut and say so.

ANSWER, PROMPT = 1500, 1000  # characters shown
OPEN, MOST_SAMPLES = 4, 24  # samples shown at once, and at all


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
    pairs = [_pair(results, sample) for sample in results.samples[:MOST_SAMPLES]]
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

"""How to read the page: what the units are and share, how win rates were made, where it all comes from."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.document import Results
from analysis.results.model import Evaluation
from reports.render.cells import Column, Fact, Missing, Shown, Table
from reports.render.formats import seeds_phrase, setting_value
from reports.render.text import plural

_LC_METHODS = {
    "no_difficulty": ", a logistic regression of the preference on the difference in length, without "
    "instruction difficulty or calibration file. It does not compare with AlpacaEval's leaderboard",
}


@dataclass(frozen=True)
class Methods:
    """How to read the page, and how the evaluation was made."""

    notes: list[Fact]
    evaluation: list[Fact]


def methods_of(results: Results) -> Methods:
    """The section."""
    return Methods(notes_of(results), evaluation_facts(results.evaluation) if results.evaluation else [])


def notes_of(results: Results) -> list[Fact]:
    """Notes, each a term and a paragraph."""
    declared = results.declared
    size = f"{plural(len(results.settings), 'setting')}, each over {plural(len(results.seeds), 'seed')}"
    shared = seeds_phrase(results.seeds)
    rounding = plural(declared.decimals, "decimal")
    return [
        Fact(
            "Unit of analysis",
            f"The setting: one combination of hyperparameters. For each, {declared.candidate} minus "
            f"{declared.baseline} is averaged over seeds, and the test ranks these averages ({size}). Seeds "
            "do not count as further units: p would come out too small.",
        ),
        Fact(
            "What the units share",
            f"All runs share the evaluation prompts, the judge and, across settings, the seeds ({shared}). "
            "So p generalizes to similar settings with the same prompts, seeds and judge. It says nothing about other "
            "prompts or seeds: their luck moves all settings together.",
        ),
        Fact(
            "The test",
            "Wilcoxon's signed-rank test with its exact null distribution, ties and zeros included (of more than 2,000 "
            "settings an approximation, which the test then names). "
            f"Differences are rounded to {rounding} before ranking; numbers on this page are rounded "
            "afterwards, for display only. The interval inverts the test, so it has one of the few levels "
            "that a discrete distribution allows.",
        ),
        Fact(
            "Mean ± SD",
            "SD over seeds, with n − 1 in the denominator. It needs at least 2 seeds and is rough with few: "
            "at 3 seeds, the 95% interval for the true SD reaches from half to six times the SD shown.",
        ),
        *_length_control(results),
        Fact(
            "Confirmatory and exploratory",
            "Only the primary comparison is confirmatory, and only while it is as declared before results "
            "existed. The rest is exploratory: it suggests what to test next and settles nothing.",
        ),
    ]


def _length_control(results: Results) -> list[Fact]:
    if results.evaluation is None:
        return []
    method = results.evaluation.lc_method
    return [
        Fact(
            "Length-controlled win rate",
            f"Method (lc_method): {method}{_LC_METHODS.get(method, '')}. Values from different LC methods, "
            "judges or baselines are never pooled, and a raw win rate (WR) is never reported as "
            "length-controlled (LC).",
        )
    ]


def evaluation_facts(made: Evaluation) -> list[Fact]:
    """The setting of the evaluation."""
    size = (
        Missing("the number of prompts was not recorded") if made.n_prompts is None else f"{made.n_prompts:,}"
    )
    decoding: Shown = ", ".join(
        f"{key} {setting_value(value)}" for key, value in made.decoding.items()
    ) or Missing("decoding was not recorded")
    return [
        Fact("Model", made.model),
        Fact("Training data", made.data),
        Fact("Prompts", (made.prompts, " (", size, ")")),
        Fact("Judge", made.judge),
        Fact("Baseline of the win rate", made.baseline),
        Fact("LC method", made.lc_method),
        Fact("Decoding", decoding),
    ]


def provenance_of(results: Results) -> Table | Missing:
    """Everything that was recorded about the origin of the results."""
    if not results.provenance:
        return Missing("No provenance was recorded.")
    rows: list[list[Shown]] = [[key, value] for key, value in results.provenance.items()]
    return Table("Versions and origin", [Column("What"), Column("Value")], rows)

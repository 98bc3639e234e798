"""The blocks of a results file, one for each statistic; one in `analysis/statistics` brings its own along."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from analysis.results.gradient_audit import Audit
from analysis.results.model import (
    ArmComparison,
    Cell,
    Comparison,
    Curve,
    FlippedPrompts,
    GridBest,
    Judgement,
    LcComparison,
    NextSteps,
    PaperClaims,
    Power,
    PromptLevel,
    Sample,
    Search,
    VerdictKind,
)
from analysis.results.values import Frozen

T = TypeVar("T")


class Block(Frozen, Generic[T]):
    """One part of the results, which says what it is."""

    kind: str = ""
    """Names it; its section's template has the same name."""
    what: str = ""
    """What it is, in a few words."""
    value: T | None = None
    """null: undefined, for `reason`, or not made."""
    sentence: str = ""
    """The finding, ready to be read; empty: the values speak for themselves."""
    reason: str | None = None
    """Why `value` is null."""


class VerdictBlock(Block[VerdictKind]):
    """The verdict; its sentence names estimate, interval, p, unit and n."""

    kind: Literal["verdict"] = "verdict"
    what: str = "Verdict on the primary metric"


class Cells(Block[list[Cell]]):
    """One entry for each arm, setting and metric."""

    kind: Literal["cells"] = "cells"
    what: str = "Mean and SD over seeds of every arm at every setting, by metric"


class Comparisons(Block[list[Comparison]]):
    """One entry for each metric."""

    kind: Literal["comparisons"] = "comparisons"
    what: str = "Candidate against baseline by metric, the primary first"


class OtherArms(Block[list[ArmComparison]]):
    """The declared arms first; empty with two arms."""

    kind: Literal["other_arms"] = "other_arms"
    what: str = "Every other arm against the baseline, on the primary metric"


class Curves(Block[list[Curve]]):
    """One entry for each run and quantity."""

    kind: Literal["curves"] = "curves"
    what: str = "Quantities logged during training"


class Samples(Block[list[Sample]]):
    """To be looked at, not to be counted."""

    kind: Literal["samples"] = "samples"
    what: str = "Prompts with the answers of both sides"


class Judgements(Block[list[Judgement]]):
    """Empty for a table of runs."""

    kind: Literal["judgements"] = "judgements"
    what: str = "The comparison under each judge, the declared one first"


class LcSensitivity(Block[list[LcComparison]]):
    """Empty where nothing was judged."""

    kind: Literal["lc_sensitivity"] = "lc_sensitivity"
    what: str = "The comparison under each formula of length control"


class SearchBlock(Block[Search]):
    """Not made where the settings are a grid."""

    kind: Literal["search"] = "search"
    what: str = "How the settings were searched"


class AuditBlock(Block[Audit]):
    """Not made where no audit was run."""

    kind: Literal["audit"] = "audit"
    what: str = "Gradient audit"


class NextStepsBlock(Block[NextSteps]):
    """From the primary comparison."""

    kind: Literal["next_steps"] = "next_steps"
    what: str = "What to add to the sweep, the cheapest first"


class PowerBlock(Block[list[Power]]):
    """Empty where the spread is not known."""

    kind: Literal["power"] = "power"
    what: str = "Power of a new sweep like this one"


class PromptLevelBlock(Block[PromptLevel]):
    """From one set of draws for all runs."""

    kind: Literal["prompt_level"] = "prompt_level"
    what: str = "Differences with their intervals over prompts"


class BestOfGridBlock(Block[list[GridBest]]):
    """One entry for each metric."""

    kind: Literal["best_of_grid"] = "best_of_grid"
    what: str = "Each arm's best setting, corrected for selection; the primary metric first"


class PaperClaimsBlock(Block[PaperClaims]):
    """Made for AdaDPO against DPO alone."""

    kind: Literal["paper_claims"] = "paper_claims"
    what: str = "The AdaDPO paper's claims and the same quantities here"


class FlipsBlock(Block[FlippedPrompts]):
    """Over all pairs of runs."""

    kind: Literal["flips"] = "flips"
    what: str = "Prompts that one arm wins and the other loses"


BLOCKS: list[type[Block[Any]]] = [
    VerdictBlock,
    Cells,
    Comparisons,
    OtherArms,
    Curves,
    Samples,
    Judgements,
    LcSensitivity,
    SearchBlock,
    AuditBlock,
    NextStepsBlock,
    PowerBlock,
    PromptLevelBlock,
    BestOfGridBlock,
    PaperClaimsBlock,
    FlipsBlock,
]

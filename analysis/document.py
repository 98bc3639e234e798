"""`results.json`: a header that says what was run, and the blocks, one for each statistic.

A statistic in `analysis/statistics` is found by its file's name and needs no line here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar, Union

from pydantic import Field

from analysis import statistics
from analysis.results.blocks import (
    BLOCKS,
    AuditBlock,
    BestOfGridBlock,
    Block,
    Cells,
    Comparisons,
    Curves,
    FlipsBlock,
    Judgements,
    LcSensitivity,
    NextStepsBlock,
    OtherArms,
    PaperClaimsBlock,
    PowerBlock,
    PromptLevelBlock,
    Samples,
    SearchBlock,
    VerdictBlock,
)
from analysis.results.model import Declared, Evaluation, Failure, Frozen, Metric, RunRow, VerdictKind
from analysis.results.values import State, Value
from analysis.statistics.average_ranks import AverageRanksBlock
from analysis.statistics.groups import Groups

SCHEMA_VERSION = 2
KINDS: dict[str, type[Block[Any]]] = {
    each.model_fields["kind"].default: each
    for each in [*BLOCKS, *(module.BLOCK for module in statistics.modules())]
}
if TYPE_CHECKING:
    AnyBlock = Block[Any]
else:
    AnyBlock = Annotated[Union[tuple(KINDS.values())], Field(discriminator="kind")]  # noqa: UP007

T = TypeVar("T")
BlockT = TypeVar("BlockT", bound=Block[Any])


class _One(Generic[T]):
    """The value of the block of one kind, None where there is none."""

    def __init__(self, kind: type[Block[T]]) -> None:
        self.kind = kind

    def __get__(self, reader: Reader, owner: type[Reader]) -> T | None:
        return reader.value(self.kind)


class _All(Generic[T]):
    """The values of the block of one kind, empty where there is none."""

    def __init__(self, kind: type[Block[list[T]]]) -> None:
        self.kind = kind

    def __get__(self, reader: Reader, owner: type[Reader]) -> list[T]:
        return reader.value(self.kind) or []


class Reader:
    """Blocks by their kind, and the values that several sections read."""

    if TYPE_CHECKING:
        blocks: list[AnyBlock]

    def block(self, kind: type[BlockT]) -> BlockT | None:
        """The block of this kind; None: it was not made."""
        return next((each for each in self.blocks if isinstance(each, kind)), None)

    def value(self, kind: type[Block[T]]) -> T | None:
        """Its value."""
        block = self.block(kind)
        return None if block is None else block.value

    def reason(self, kind: type[Block[Any]]) -> str | None:
        """Why it has no value."""
        block = self.block(kind)
        return None if block is None else block.reason

    @property
    def verdict(self) -> str:
        """The verdict's sentence."""
        block = self.block(VerdictBlock)
        return "" if block is None else block.sentence

    @property
    def verdict_kind(self) -> VerdictKind:
        """The verdict in one word."""
        return self.value(VerdictBlock) or "untestable"

    @property
    def next_steps_reason(self) -> str | None:
        """Why there are no next steps."""
        return self.reason(NextStepsBlock)

    @property
    def prompt_level_reason(self) -> str | None:
        """Why there are no intervals over prompts."""
        return self.reason(PromptLevelBlock)

    @property
    def flips_reason(self) -> str | None:
        """Why there are no flipped prompts."""
        return self.reason(FlipsBlock)

    cells = _All(Cells)
    comparisons = _All(Comparisons)
    other_arms = _All(OtherArms)
    curves = _All(Curves)
    samples = _All(Samples)
    judgements = _All(Judgements)
    lc_sensitivity = _All(LcSensitivity)
    power = _All(PowerBlock)
    best_of_grid = _All(BestOfGridBlock)
    groups = _All(Groups)
    average_ranks = _One(AverageRanksBlock)
    search = _One(SearchBlock)
    audit = _One(AuditBlock)
    next_steps = _One(NextStepsBlock)
    prompt_level = _One(PromptLevelBlock)
    paper_claims = _One(PaperClaimsBlock)
    flips = _One(FlipsBlock)


class Results(Frozen, Reader):
    """Everything the report shows. `results.json` is this, serialised."""

    schema_version: Literal[2] = 2
    """Version of this format."""
    sweep: str
    """Name of the sweep or of the table."""
    declared: Declared
    """The comparison that was declared."""
    declaration_changed: list[str]
    """What changed since launch, in words; empty: confirmatory."""
    evaluation: Evaluation | None
    """How win rates were made; null: a table of runs, of which nothing else is known."""
    axes: dict[str, list[Value]]
    """Grid axis -> its values."""
    arms: dict[str, dict[str, Value]]
    """Arm -> its method's hyperparameters."""
    settings: list[str]
    seeds: list[int]
    metrics: list[Metric]
    counts: dict[State, int]
    """State -> number of runs."""
    failures: list[Failure]
    """Runs that have no result, and why."""
    runs: list[RunRow]
    blocks: list[AnyBlock]
    """The statistics, one block for each."""
    provenance: dict[str, str]
    """Where the results come from, in words."""

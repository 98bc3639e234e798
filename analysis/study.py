"""A study: the tidy table of runs with its plan, what was declared about it, and the draws behind the tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from analysis.results.model import Cell, Declared, Metric, RunRow, SeedValue
from analysis.results.table import (
    Index,
    Pair,
    as_runs,
    check_planned,
    index_runs,
    mean,
    pair_by_setting,
    sd,
    value_of,
)
from analysis.results.values import Value

if TYPE_CHECKING:
    import pandas as pd

    from analysis.prompts.bootstrap import PromptBootstrap


@dataclass(frozen=True, eq=False)
class RunTable:
    """Runs, one per arm, setting and seed, and the plan that says which there should be."""

    runs: Sequence[RunRow]
    arms: Sequence[str]
    settings: Sequence[str]
    seeds: Sequence[int]
    metrics: Sequence[Metric]

    @cached_property
    def index(self) -> Index:
        """Runs by (arm, setting, seed)."""
        return index_runs(self.runs)

    def metric(self, name: str) -> Metric:
        """The metric of this name."""
        return next(each for each in self.metrics if each.name == name)

    def cells(self) -> list[Cell]:
        """Mean and SD over seeds (ddof = 1) of every arm at every setting, one cell per metric, in that order."""
        return [
            self._cell(arm, setting, metric.name)
            for arm in self.arms
            for setting in self.settings
            for metric in self.metrics
        ]

    def _cell(self, arm: str, setting: str, metric: str) -> Cell:
        values = [
            SeedValue(seed=seed, value=value_of(self.index.get((arm, setting, seed)), metric))
            for seed in self.seeds
        ]
        known = [each.value for each in values if each.value is not None]
        return Cell(
            arm=arm,
            setting=setting,
            metric=metric,
            values=values,
            n=len(known),
            mean=mean(known),
            sd=sd(known),
        )


@dataclass(frozen=True, eq=False)
class Study:
    """What every statistic of a comparison is a function of."""

    table: RunTable
    declared: Declared
    declaration_changed: Sequence[str] = ()
    """What changed since launch, in words; anything makes the primary comparison exploratory."""
    bootstrap: PromptBootstrap | None = None
    """Every run's value under common draws of prompts; None: the tests condition on these prompts."""
    prompts: int | None = None
    """Number of prompts, where it is known without a bootstrap."""
    axes: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    """Grid axis -> its values, in order."""
    rng_seed: int = 0
    """Seed of the Bayesian test's and the self-check's draws."""
    around: bool = True
    """Whether the primary gets what no verdict needs: pooled pairs, Bayes, missing runs, the self-check."""

    @property
    def primary(self) -> Metric:
        """The declared metric."""
        return self.table.metric(self.declared.primary)

    def pairs(self, metric: str) -> list[Pair]:
        """Candidate and baseline at every planned setting and seed."""
        return pair_by_setting(
            self.table.index,
            metric=metric,
            baseline=self.declared.baseline,
            candidate=self.declared.candidate,
            settings=self.table.settings,
            seeds=self.table.seeds,
        )

    def against(self, arm: str, *, declared: bool) -> Study:
        """The same study of another candidate, on the primary alone; two-sided and exploratory unless declared."""
        alone: dict[str, Any] = {} if declared else {"alternative": "two-sided", "more_candidates": []}
        return replace(
            self,
            table=replace(self.table, metrics=[self.primary]),
            declared=self.declared.model_copy(update={"candidate": arm} | alone),
            declaration_changed=self.declaration_changed if declared else ["not declared"],
        )


def make_study(
    *,
    runs: Iterable[RunRow] | pd.DataFrame,
    declared: Declared,
    metrics: Sequence[Metric],
    settings: Sequence[str],
    seeds: Sequence[int],
    arms: Sequence[str],
    **options: Any,
) -> Study:
    """A study whose table, plan and declaration fit together; `options` are the other fields of `Study`.

    Raises:
        TableError: duplicate or unplanned runs.
        ValueError: a declared arm or metric that does not exist, or two metrics of one name.
    """
    table = RunTable(as_runs(runs), arms, settings, seeds, metrics)
    check_planned(table.index, arms, settings, seeds)
    for role, arm in (("baseline", declared.baseline), ("candidate", declared.candidate)):
        if arm not in arms:
            raise ValueError(f"{role} {arm!r} is not an arm; arms: {', '.join(arms)}")
    if declared.baseline == declared.candidate:
        raise ValueError(f"baseline and candidate are the same arm, {declared.baseline!r}")
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):
        raise ValueError(f"two metrics have one name: {', '.join(names)}")
    if declared.primary not in names:
        raise ValueError(f"primary {declared.primary!r} is not a metric; metrics: {', '.join(names)}")
    return Study(table, declared, **options)

"""A sweep opened for work: its file as it was checked, its runs and their states, its declaration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from analysis.results.model import Declared
from analysis.results.values import State
from sweeps.config.expand import cells, setting_label
from sweeps.config.schema import SweepSpec
from sweeps.state.plan_file import Origin
from sweeps.store.control_files import ControlFiles
from sweeps.store.declaration import SuggestedSetting, changes, declaration, read_declaration
from sweeps.store.job import Identities, Job, PlannedRun
from sweeps.store.layout import Store

ASSUMED = {"effect", "run_sd", "setting_sd", "seed_sd"}  # for adadpo plan alone: no part of the declaration


@dataclass(frozen=True)
class Sweep:
    """A sweep with all its runs; see `open_sweep` and `resolve_sweep`."""

    spec: SweepSpec  # of a search: its grid is the settings so far
    origin: Origin
    store: Store
    job: Job
    identities: Identities
    extra_seeds: tuple[int, ...] = ()  # added by `adadpo extend`
    asked: tuple[SuggestedSetting, ...] = ()  # of a search: the settings so far

    @property
    def folder(self) -> Path:
        """The sweep's folder in the store."""
        return self.store.sweep(self.spec.name)

    @property
    def eval_id(self) -> str:
        """The id of the sweep's evaluation."""
        return self.job.evaluation.eval_id

    @cached_property
    def settings(self) -> list[str]:
        """Labels of the settings, in the order of the grid."""
        return [setting_label(cell) for cell in cells(self.spec)]

    @cached_property
    def seeds(self) -> list[int]:
        """The file's seeds and those added by `extend`."""
        return list(dict.fromkeys(run.seed for run in self.job.runs)) or self.spec.seeds

    @cached_property
    def pruned(self) -> dict[str, str]:
        """Setting -> why a search gave it up: its further seeds do not run."""
        return {setting_label(one.setting): one.pruned for one in self.asked if one.pruned is not None}

    @property
    def is_asking(self) -> bool:
        """A search that may ask for further settings."""
        return len(self.settings) < self.settings_in_all

    @property
    def settings_in_all(self) -> int:
        """How many settings there will be: of a search, those that it may still ask for too."""
        search = self.spec.search
        return len(self.settings) if search is None else max(search.trials, len(self.settings))

    def states(self) -> dict[str, State]:
        """Run id -> state, read from the files now."""
        present, cancelled_ids = self.store.present(), self.control.cancelled_ids()
        return {
            run.run_id: self.effective_state(
                run,
                self.store.run(run.run_id).state(self.eval_id) if run.run_id in present else State.WAITING,
                cancelled_ids,
            )
            for run in self.job.runs
        }

    def state(self, run: PlannedRun) -> State:
        """A run's state; what this sweep took back is not waiting for anybody."""
        cancelled_ids = {run.run_id} if self.control.cancelled(run.run_id) else ()
        return self.effective_state(run, self.store.run(run.run_id).state(self.eval_id), cancelled_ids)

    def effective_state(self, run: PlannedRun, state: State, cancelled_ids: Container[str]) -> State:
        """The state that a run's files tell, with what the sweep alone knows: a run that nobody is to begin.

        Args:
            run: which.
            state: by its files.
            cancelled_ids: the runs that a person cancelled.
        """
        if state == State.WAITING and run.setting in self.pruned:
            return State.PRUNED
        return State.CANCELLED if state == State.WAITING and run.run_id in cancelled_ids else state

    @property
    def control(self) -> ControlFiles:
        """What the sweep's workers are told."""
        return ControlFiles(self.folder)

    def counts(self) -> Counter[str]:
        """How many runs are in each state."""
        return Counter(self.states().values())

    def select(self, *states: State) -> list[PlannedRun]:
        """The runs that are in one of some states."""
        now = self.states()
        return [run for run in self.job.runs if now[run.run_id] in states]

    def declared(self) -> Declared:
        """The comparison as the file declares it now."""
        compare = self.spec.compare
        first, *more = compare.candidates
        named = {"candidate": first, "more_candidates": more}
        return Declared(**compare.model_dump(exclude=ASSUMED) | named)

    def _declaration(self) -> dict[str, Any]:
        """The content that is hashed; of a single candidate it is what it was before there were families."""
        declared = self.declared()
        single = set() if declared.more_candidates else {"more_candidates"}
        content = declared.model_dump(exclude={"preregistered"} | single)
        search = self.spec.search
        return content if search is None else content | {"search": search.model_dump(exclude={"parallel"})}

    def declaration_changes(self) -> list[str]:
        """How the declared comparison, its evaluation and the planned grid differ from those at launch, in words."""
        path = self.folder / "declared.json"
        return changes(read_declaration(path), self.declares(self.seeds)) if path.exists() else []

    def declares(self, seeds: Sequence[int]) -> dict[str, Any]:
        """What a launch with some seeds writes down."""
        return declaration(
            self._declaration(),
            self._declared_evaluation(),
            settings=self.settings if self.spec.search is None else [],  # the search is what is declared
            arms=list(self.spec.arms),
            seeds=list(seeds),
        )

    def _declared_evaluation(self) -> dict[str, str]:
        evaluation = self.job.evaluation
        return {
            "id": evaluation.eval_id,
            "judge": evaluation.judge_name,
            "lc_method": evaluation.lc_method,
            "prompts": evaluation.prompts,
            "baseline": evaluation.baseline,
        }

    def begin(self, runs: Sequence[PlannedRun]) -> None:
        """A launch of some runs begins."""
        seeds = list(self.extra_seeds)
        self.control.begin(
            [run.run_id for run in runs], file=self.origin.path, folder=self.origin.folder, seeds=seeds
        )

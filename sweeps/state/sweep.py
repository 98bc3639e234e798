"""A sweep opened for work: its checked file, its runs and their states, its declaration."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from adadpo.errors import FailureError, UserError, suggest
from adadpo.files import atomic_write
from analysis.results.model import Declared
from analysis.results.values import State
from sweeps.config.expand import cells, expand, setting_label
from sweeps.config.filters import select_runs
from sweeps.config.grid import parse_seeds
from sweeps.config.schema import SweepSpec, spec_of
from sweeps.config.yaml_source import YamlFile, load_yaml
from sweeps.store.control_files import ControlFiles
from sweeps.store.declaration import SuggestedSetting, changes, declaration, read_asked, read_declaration
from sweeps.store.job import Job, PlannedRun
from sweeps.store.layout import Store, read_json, write_json

ASSUMED = {"effect", "run_sd", "setting_sd", "seed_sd"}  # for adadpo plan alone: no part of the declaration


@dataclass(frozen=True)
class Sweep:
    """A sweep file with everything it refers to."""

    spec: SweepSpec
    file: YamlFile
    store: Store
    job: Job
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

    def record(self) -> None:
        """Write down what is launched; the declaration only the first time."""
        text = self.file.path.read_text(encoding="utf-8")
        atomic_write(self.folder / "spec.yaml", text)
        write_json(self.folder / "origin.json", {"folder": str(self.file.folder)})
        if not (self.folder / "declared.json").exists():
            # Launched before, it had one; whoever writes it now may know results.
            lost = {"lost": True} if (self.folder / "launched.json").exists() else {}
            write_json(
                self.folder / "declared.json", self.declares(self.seeds) | {"time": time.time()} | lost
            )

    def find(self, words: Sequence[str]) -> list[PlannedRun]:
        """The runs that words such as `beta=0.1 '!seed=2' state:failed` mean, see `selectors`; all without words.

        Raises:
            UserError: a word means nothing here, or no run fits.
        """
        quarantined: set[str] = set()
        if any("quarantined" in word for word in words):
            from sweeps.state.run_table import run_rows

            quarantined = {row.run_id for row in run_rows(self) if row.state == State.QUARANTINED}
        return select_runs(
            self.job.runs,
            words,
            state=lambda run: "quarantined" if run.run_id in quarantined else self.state(run),
            cause=lambda run: (self.store.run(run.run_id).failed(self.eval_id) or {}).get("kind"),
            sweep=self.spec.name,
        )


def open_sweep(target: str, store: Store) -> Sweep:
    """A sweep by its file, or by the name under which it was launched.

    Raises:
        UserError: neither, or the file has problems.
    """
    try:
        path = Path(target).expanduser()
        is_file = path.suffix in (".yaml", ".yml") or path.is_file()
        is_name = not is_file and (store.sweep(target) / "spec.yaml").is_file()
    except (OSError, RuntimeError) as error:  # too long for a path, or ~somebody who is not a user here
        said = getattr(error, "strerror", None) or error
        raise UserError(f"no sweep {target!r}: {said}") from error
    if is_file:
        file = load_yaml(path)
    elif is_name:
        folder = store.sweep(target)
        file = load_yaml(folder / "spec.yaml", origin_of(folder))
    else:
        known = store.sweeps()
        hint = suggest(target, known) if known else ""
        raise UserError(f"no sweep {target!r}: neither a .yaml file nor a sweep in {store.root}{hint}")
    return sweep_of(file, store)


def origin_of(folder: Path) -> Path:
    """Where the file of a launched sweep was: relative paths in it start there.

    Raises:
        FailureError: it is not known.
    """
    origin = read_json(folder / "origin.json")
    if not isinstance(origin, dict) or not isinstance(origin.get("folder"), str):
        raise FailureError(f"{folder / 'origin.json'} is damaged: it names no folder")
    return Path(origin["folder"])


def sweep_of(file: YamlFile, store: Store) -> Sweep:
    """A sweep by its file as it was read, with the seeds and settings that its folder adds.

    Raises:
        UserError: the file has problems.
    """
    spec = spec_of(file)
    asked: list[SuggestedSetting] = []
    if spec.search is not None:
        # From here on, the settings that were asked for are the grid.
        asked = read_asked(store.sweep(spec.name))
        spec = spec.model_copy(
            update={"grid": [{axis: [value] for axis, value in one.setting.items()} for one in asked]}
        )
    job = expand(spec, file, store.root, extra_seeds(store, spec.name))
    later = {(setting_label(one.setting), seed) for one in asked for seed in one.not_yet(spec.seeds)}
    runs = [run for run in job.runs if (run.setting, run.seed) not in later]
    return Sweep(spec, file, store, job.model_copy(update={"runs": runs}), tuple(asked))


def extra_seeds(store: Store, name: str) -> list[int]:
    """The seeds that `extend` added.

    Raises:
        FailureError: they cannot be read.
    """
    path = store.sweep(name) / "seeds.json"
    seeds = read_json(path) if path.exists() else []
    if not isinstance(seeds, list) or any(type(seed) is not int for seed in seeds):
        raise FailureError(f"{path} is damaged: it is no list of seeds")
    return seeds


def extend_seeds(sweep: Sweep, wanted: str) -> list[int]:
    """Add seeds: `+3` (the next three), `5`, `3..5` or `3,4`.

    Returns:
        The seeds that are new.

    Raises:
        UserError: not one of these forms, or nothing new.
    """
    with FileLock(sweep.folder / "seeds.lock"):
        return _extend(sweep, wanted)


def _extend(sweep: Sweep, wanted: str) -> list[int]:
    added = extra_seeds(sweep.store, sweep.spec.name)  # also since the sweep was opened
    have = list(dict.fromkeys([*sweep.seeds, *added]))
    try:
        if wanted.startswith("+"):
            seeds = parse_seeds(f"{max(have) + 1}..{max(have) + _whole(wanted[1:])}")
        elif ".." in wanted:
            seeds = parse_seeds(wanted)
        else:
            seeds = parse_seeds([_whole(word) for word in wanted.split(",")])
    except ValueError as error:
        raise UserError(
            f"--seeds {wanted!r}: give +N, a list such as 3,4 or a range such as 3..5 ({error})"
        ) from error
    new = [seed for seed in seeds if seed not in have]
    if not new:
        raise UserError(f"--seeds {wanted!r} adds nothing: the sweep has seeds {have}")
    write_json(sweep.folder / "seeds.json", [*added, *new])
    return new


def _whole(word: str) -> int:
    if not re.fullmatch(r"\s*[0-9]{1,10}\s*", word):
        raise ValueError(f"{word!r} is no whole number below 2^32")
    return int(word)

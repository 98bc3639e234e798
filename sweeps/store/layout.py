"""The store: folders and files are the truth, everything else can be rebuilt from them.

<root>/<run_id>/                     one training run, shared by every sweep that contains it
    config.json provenance.json log.txt lease.json failure.json attempts.jsonl
    train/      history.jsonl, adapter/ or model/, checkpoints/, metrics.json   (last: done); freed.json: no weights
    retraining/ of a trained run whose weights were freed, and are needed again
    eval/<generation_id>/                 config.json, generation.json, outputs.json   (last: done)
    eval/<generation_id>/<judgement_id>/  config, judging, annotations (.json), replicates.npy, scores.json (last: done)
<root>/baselines/<id>/outputs.json   the untrained model's responses
<root>/sweeps/<name>/                plan.json, spec.yaml, declared.json, study.journal, jobs/, results.json, ...
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from adadpo.errors import FailureError, UserError
from adadpo.files import atomic_write
from analysis.results.values import State
from sweeps.store.lease import Lease, holder_state

STAGES = ("train", "generate", "judge", "score")
WEIGHTS = ("adapter", "model")  # folders of a training's result
ASIDE = ".gc-"  # beginning of the name under which something waits for its deletion by `adadpo gc`
CUT_SHORT = ("node", "preempted", "timeout")  # failures that say nothing about what was written
# What a stage leaves for the later ones and the report; the last one is written last.
FILES = {
    "train": ("history.jsonl", "metrics.json"),
    "generate": ("generation.json", "outputs.json"),
    "judge": ("judging.json", "annotations.json"),
    "score": ("scores.json",),
}


def flush_folder(folder: Path) -> None:
    """Have everything under a folder on the disk, so that a file written after it vouches for it."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())


def write_json(path: Path, value: Any) -> None:
    """`atomic_write` of indented JSON."""
    atomic_write(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, kind: type | None = None, keys: Sequence[str] = ()) -> Any:
    """A JSON file's content.

    Args:
        path: the file.
        kind: what it has to hold, `dict` or `list`; None: anything.
        keys: that an object has to have.

    Raises:
        FailureError: it cannot be read, is not whole or holds something else.
    """
    try:
        content = parse_json(path.read_bytes())
    except OSError as error:
        raise FailureError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # the latter by a file of brackets
        raise FailureError(f"{path} is damaged ({error}); delete it and the stage runs again") from error
    if kind is not None and not isinstance(content, kind):
        said = f"holds {type(content).__name__}, not {kind.__name__}"
        raise FailureError(f"{path} is damaged ({said}); delete it and the stage runs again")
    if missing := [key for key in keys if key not in content]:
        said = f"has no {', '.join(missing)}"
        raise FailureError(f"{path} is damaged ({said}); delete it and the stage runs again")
    return content


def parse_json(content: bytes) -> Any:
    """`json.loads` of UTF-8, in a quarter of the time.

    Raises:
        ValueError: it is not that.
        RecursionError: it is a heap of brackets.
    """
    try:
        return from_json(content)
    except ValueError:  # lone surrogates are beyond it, and deep nesting
        return json.loads(content.decode("utf-8"))


def read_json_or_none(path: Path) -> Any:
    """`read_json`; None where there is no such file, be it that somebody has just deleted it."""
    try:
        return read_json(path)
    except FailureError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


@dataclass(frozen=True)
class RunFolder:
    """One run's files."""

    path: Path

    @property
    def train(self) -> Path:
        """Folder of the train stage."""
        return self.path / "train"

    @property
    def metrics(self) -> Path:
        """The train stage's last file."""
        return self.train / "metrics.json"

    @property
    def history(self) -> Path:
        """A line per training step, and one per evaluation."""
        return self.train / "history.jsonl"

    @property
    def freed(self) -> Path:
        """Says that the trained weights were given up by `adadpo gc --weights`, and what they were."""
        return self.train / "freed.json"

    @property
    def weights_freed(self) -> bool:
        """The run was trained and its weights were given up since."""
        if not os.path.exists(f"{self.path}/train/freed.json"):  # noqa: PTH110 -- see `has_files`
            return False
        if any((self.train / name).is_dir() for name in WEIGHTS):
            return False
        return self.has_files("train", "")

    @property
    def training(self) -> Path:
        """Where training writes: beside `train` where only the weights of that are to be made again."""
        return self.path / "retraining" if self.weights_freed else self.train

    @property
    def failure(self) -> Path:
        """Why the run has no result."""
        return self.path / "failure.json"

    @property
    def attempts(self) -> Path:
        """A line for each attempt that ended without a result."""
        return self.path / "attempts.jsonl"

    @property
    def log(self) -> Path:
        """What happened, with times."""
        return self.path / "log.txt"

    @property
    def lease(self) -> Lease:
        """Who works on the run."""
        return Lease(self.path / "lease.json")

    def generation(self, eval_id: str) -> Path:
        """Folder of the responses that an evaluation judges; several judgements share it."""
        return self.evaluation(eval_id).parent

    def evaluation(self, eval_id: str) -> Path:
        """Folder of one evaluation; its id is `<generation_id>/<judgement_id>`."""
        return self.path / "eval" / eval_id

    def last_file(self, stage: str, eval_id: str) -> Path:
        """The file whose existence means that a stage is done."""
        return Path(self._home(stage, eval_id), FILES[stage][-1])

    def has(self, stage: str, eval_id: str) -> bool:
        """A stage is done; training is not where weights that were freed are needed for responses."""
        if not self.has_files(stage, eval_id):
            return False
        return stage != "train" or not self.weights_freed or self.has_files("generate", eval_id)

    def has_files(self, stage: str, eval_id: str) -> bool:
        """A stage was done: its last file was written, and none was deleted since."""
        # Asked of every run of a sweep: to join paths would take several times as long as to look.
        home = self._home(stage, eval_id)
        return all(os.path.exists(f"{home}/{name}") for name in reversed(FILES[stage]))  # noqa: PTH110

    def _home(self, stage: str, eval_id: str) -> str:
        if stage == "train":
            return f"{self.path}/train"
        return f"{self.path}/eval/{eval_id.partition('/')[0] if stage == 'generate' else eval_id}"

    def state(self, eval_id: str) -> State:
        """Derived from the files, never stored. That a run was cancelled is its sweep's to say, see `Sweep.states`."""
        if self.done(eval_id):
            return State.DONE
        holder = holder_state(self.lease)
        if holder == "alive":
            return State.RUNNING
        if failure := self.failed(eval_id):
            return State.DIVERGED if failure["kind"] == "diverged" else State.FAILED
        return State.UNKNOWN if holder == "unknown" else State.WAITING

    def failed(self, eval_id: str) -> dict[str, Any] | None:
        """Why this evaluation has no result; how another one failed says nothing about it."""
        failure: dict[str, Any] | None = read_json_or_none(self.failure)
        of = failure.get("evaluation") if failure else None  # None: training, on which every evaluation rests
        return failure if of is None or f"{eval_id}/".startswith(f"{of}/") else None

    def stages_done(self, eval_id: str) -> list[str]:
        """The finished stages, in order."""
        return [stage for stage in STAGES if self.has(stage, eval_id)]

    def done(self, eval_id: str) -> bool:
        """Every stage is done."""
        return all(self.has(stage, eval_id) for stage in reversed(STAGES))

    def outcome(self, eval_id: str) -> State:
        """How the run ended, for whoever holds its lease; waiting: its next stages are another job's."""
        if self.done(eval_id):
            return State.DONE
        failure = read_json_or_none(self.failure)
        if failure is None:
            return State.WAITING
        return State.DIVERGED if failure["kind"] == "diverged" else State.FAILED

    def clear_failure(self) -> None:
        """Forget a failure so that the run is tried again.

        Half-written training goes with it, unless it was only cut short: then its checkpoints are good.
        """
        anew = self.restarts_from_scratch
        self.failure.unlink(missing_ok=True)
        if anew:
            shutil.rmtree(self.training, ignore_errors=True)

    @property
    def restarts_from_scratch(self) -> bool:
        """The run failed such that another try leaves nothing of its half-written training."""
        failure = read_json_or_none(self.failure)
        unfinished = self.weights_freed or not self.metrics.exists()
        return failure is not None and unfinished and failure.get("kind") not in CUT_SHORT


@dataclass(frozen=True)
class Store:
    """The root folder of runs and sweeps."""

    root: Path

    def run(self, run_id: str) -> RunFolder:
        """A run's folder."""
        return RunFolder(self.root / run_id)

    def present(self) -> set[str]:
        """Names in the root: a run that is not among them has not begun."""
        try:
            return set(os.listdir(self.root))  # noqa: PTH208 -- names, of which there may be 100,000
        except OSError:
            return set()

    def sweep(self, name: str) -> Path:
        """A sweep's folder."""
        return self.root / "sweeps" / name

    def baseline(self, baseline_id: str) -> Path:
        """Folder of an untrained model's responses."""
        return self.root / "baselines" / baseline_id

    def sweeps(self) -> list[str]:
        """Names of the launched sweeps."""
        marks = [*self.root.glob("sweeps/*/plan.json"), *self.root.glob("sweeps/*/spec.yaml")]
        return sorted({mark.parent.name for mark in marks})

    def require_there(self) -> None:
        """Refuse to call a mistyped store whole, or empty.

        Raises:
            UserError: it is no folder.
        """
        if not self.root.is_dir():
            raise UserError(f"no store at {self.root}; choose another by --store")

    def require_writable(self) -> None:
        """Fail before any work if the store cannot be written.

        Raises:
            UserError: it is not a folder or not writable.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise UserError(
                f"store {self.root} cannot be written: {error.strerror}; choose another by --store"
            ) from error


def open_store(chosen: Path | None) -> Store:
    """`--store`, else ADADPO_STORE, else ./runs.

    Raises:
        UserError: it cannot be a path.
    """
    given = chosen or Path(os.environ.get("ADADPO_STORE") or "runs")
    try:
        root = given.expanduser().absolute()
        with suppress(FileNotFoundError, NotADirectoryError):
            root.stat()
    except (
        OSError,
        RuntimeError,
    ) as error:  # too long, closed to this user, or ~somebody who is not a user here
        said = getattr(error, "strerror", None) or error
        raise UserError(f"store {str(given)!r}: {said}; choose another by --store") from error
    return Store(root)

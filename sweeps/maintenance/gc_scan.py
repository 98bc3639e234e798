"""What a store holds that nothing needs any more. Looking only; `sweeps.maintenance.gc_free` frees."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from adadpo.config import RunConfig
from adadpo.errors import FailureError
from adadpo.training.resume_points import MANIFEST, checkpoint_problem, newest_first
from sweeps.execution.run_context import PARTIAL
from sweeps.maintenance.weights_needed import Plans, why_needed
from sweeps.store.layout import ASIDE, WEIGHTS, RunFolder, Store, read_json
from sweeps.store.lease import holder_state

Kind = Literal["checkpoints", "older checkpoints", "partial", "quarantine", "weights"]
KINDS: dict[Kind, str] = {
    "checkpoints": "of runs that are trained, or would be trained from the beginning",
    "older checkpoints": "training would resume from a newer one, which is whole",
    "partial": "left by writers that are gone",
    "quarantine": "moved aside by adadpo fsck --repair, and done again since",
    "weights": "of runs whose every evaluation is complete",
}
LINK = "is a symbolic link: not followed"
# A temporary file outside of runs has no lease; whoever writes one does so for seconds.
OLD_SECONDS = 3600.0

CheckpointProblem = Callable[[Path, str], str | None]  # `adadpo.training.resume_points.checkpoint_problem`


@dataclass(frozen=True)
class Item:
    """A file or folder that can be freed."""

    kind: Kind
    path: Path
    size: int  # bytes
    run_id: str | None = None


@dataclass
class Garbage:
    """What was found."""

    items: list[Item] = field(default_factory=list)
    kept: dict[Path, str] = field(default_factory=dict)  # path -> why it stays

    def add(self, root: Path, kind: Kind, path: Path, run_id: str | None = None) -> None:
        """Something to free, unless it is reached by a link: that may lead out of the store."""
        if (link := first_link(root, path)) is not None:
            self.kept[link] = LINK
        else:
            self.items.append(Item(kind, path, size_of(path), run_id))


def find_garbage(store: Store, plans: Plans, run_ids: Iterable[str] | None, names: Iterable[str]) -> Garbage:
    """Everything that can be freed.

    Args:
        store: the root.
        plans: of all its sweeps.
        run_ids: only of these runs; None: of all, and what belongs to none.
        names: sweeps whose own folders are looked at, where only some runs are.
    """
    found, root = Garbage(), store.root
    everything = run_ids is None
    folders = [store.run(run_id) for run_id in (_run_ids(root) if run_ids is None else run_ids)]
    problem_of = cache(checkpoint_problem)  # it reads whole checkpoints
    for folder in folders:
        if folder.path.is_dir():
            run_garbage(root, folder, plans, found, problem_of)
    elsewhere = [root / "sweeps", root / "baselines"] if everything else [root / "sweeps" / n for n in names]
    for place in elsewhere:
        for path in walk(place):
            if path.name.startswith(ASIDE) or (path.suffix == ".part" and _is_old(path)):
                found.add(root, "partial", path)
    if everything:
        for path in sorted(root.glob(f"baselines/*/{PARTIAL}")):
            if path.with_name("outputs.json").exists():
                found.add(root, "partial", path)
    wanted = {folder.path.name for folder in folders}
    for piece in sorted(root.glob("quarantine/*/*")):
        is_run = piece.name not in ("sweeps", "baselines")
        if everything or piece.name in wanted:
            _quarantined(root, piece, store.run(piece.name) if is_run else None, plans, found)
    paths = {item.path for item in found.items}
    found.items = [item for item in found.items if paths.isdisjoint(item.path.parents)]  # each byte once
    return found


def run_garbage(
    root: Path, folder: RunFolder, plans: Plans, found: Garbage, checkpoint_problem: CheckpointProblem
) -> None:
    """Add what one run can give up; nothing while a worker is working on it, or may."""
    try:
        if (reason := in_work(folder)) is None:
            _of_run(root, folder, plans, found, checkpoint_problem)
    except FailureError as error:
        reason = str(error)
    if reason is not None:
        found.kept[folder.path] = reason


def _of_run(
    root: Path, folder: RunFolder, plans: Plans, found: Garbage, checkpoint_problem: CheckpointProblem
) -> None:
    run_id, trained = folder.path.name, folder.has_files("train", "")
    again = folder.path / "retraining"
    if again.exists() and not folder.weights_freed:
        found.add(root, "partial", again, run_id)
    for checkpoints in sorted({folder.train / "checkpoints", folder.training / "checkpoints"}):
        if not checkpoints.is_dir():
            continue
        if folder.restarts_from_scratch or (trained and checkpoints.parent == folder.train):
            found.add(root, "checkpoints", checkpoints, run_id)
        else:
            _resumable(root, folder, checkpoints, found, checkpoint_problem)
    for path in walk(folder.path):
        if _is_left_over(path):
            found.add(root, "partial", path, run_id)
    if trained:
        _weights(root, folder, plans, found)


def _is_left_over(path: Path) -> bool:
    """Of a writer of a run that nobody works on."""
    if path.name == PARTIAL:
        return path.with_name("outputs.json").exists()  # else generation goes on from it
    if path.name.startswith((ASIDE, *(f".{name}" for name in WEIGHTS))) or path.suffix == ".part":
        return True
    return path.parent.name == "snapshots" and path.name.startswith(".step-")


def _resumable(
    root: Path, folder: RunFolder, checkpoints: Path, found: Garbage, checkpoint_problem: CheckpointProblem
) -> None:
    """Checkpoints of a training that is to go on: the newest whole one stays, and all where none is known to be."""
    try:
        config = RunConfig.model_validate(read_json(folder.path / "config.json"))
    except (FailureError, ValidationError):
        found.kept[checkpoints] = (
            "its run's config.json cannot be read: which checkpoint is whole is not known"
        )
        return
    whole: Path | None = None
    for path in newest_first(checkpoints):
        if (link := first_link(root, path)) is not None:
            found.kept[link] = LINK
        elif not (path / MANIFEST).exists():
            found.add(root, "partial", path, folder.path.name)
        elif whole is not None:
            found.add(root, "older checkpoints", path, folder.path.name)
        elif checkpoint_problem(path, config.fingerprint()) is None:
            whole = path


def _weights(root: Path, folder: RunFolder, plans: Plans, found: Garbage) -> None:
    saved = [folder.train / name for name in (*WEIGHTS, "snapshots")]
    present = [path for path in saved if path.exists()]
    try:
        reason = why_needed(folder, plans)
    except FailureError as error:
        reason = f"{error}"
    for path in present:
        if reason is None:
            found.add(root, "weights", path, folder.path.name)
        else:
            found.kept[path] = reason


def _quarantined(root: Path, piece: Path, folder: RunFolder | None, plans: Plans, found: Garbage) -> None:
    """What fsck moved aside; of a run, once it has been done again."""
    if folder is not None:
        open_for = [
            name
            for name, evaluation in plans.own.get(folder.path.name, ())
            if not folder.done(evaluation.eval_id)
        ]
        if open_for or plans.unreadable:
            found.kept[piece] = f"{(open_for or plans.unreadable)[0]} has not done its run again"
            return
    found.add(root, "quarantine", piece, None if folder is None else folder.path.name)


def in_work(folder: RunFolder) -> str | None:
    """Why a run is left alone; None: certainly nobody works on it."""
    holder = holder_state(folder.lease)
    if holder == "alive":
        return "a worker is working on it"
    if holder == "unknown":
        return "its owner is silent, and may still work on it"
    # A lease that names nobody says nothing of whether somebody works.
    return (
        "its lease is damaged: see adadpo fsck" if holder == "none" and folder.lease.path.exists() else None
    )


def first_link(root: Path, path: Path) -> Path | None:
    """The first symbolic link on the way from the store's root to a path, itself included."""
    place = root
    for part in path.relative_to(root).parts:
        place = place / part
        if place.is_symlink():
            return place
    return None


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files under a folder; links count as themselves."""
    if not path.is_dir() or path.is_symlink():
        return _bytes(path)
    return sum(_bytes(Path(folder) / name) for folder, _, names in os.walk(path) for name in names)


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:  # deleted since it was seen
        return 0


def _run_ids(root: Path) -> list[str]:
    """Of every run in the store, whatever its sweep."""
    marks = [*root.glob("*/config.json"), *root.glob("*/train"), *root.glob("*/retraining")]
    return sorted({mark.parent.name for mark in marks} - {"sweeps", "baselines", "quarantine"})


def walk(place: Path) -> Iterator[Path]:
    """Files and folders below, without following links; not into what waits for its deletion.

    What goes away meanwhile is passed over (`Path.rglob` would raise): beside a launch, checkpoints come and go.
    """
    for folder, folders, names in os.walk(place):
        yield from (Path(folder) / name for name in (*folders, *names))
        folders[:] = [name for name in folders if not name.startswith(ASIDE)]


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > OLD_SECONDS
    except FileNotFoundError:  # a writer has just renamed it
        return False

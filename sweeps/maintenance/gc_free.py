"""`adadpo gc`: what can be freed in a store or a sweep, and freeing it.

Under the lock of a run's lease, so that nobody begins to work on it, everything is looked at once more and renamed;
the renamed is deleted afterwards. A kill in between leaves something that the next gc finds, and nothing half there.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from adadpo.errors import SweepError
from adadpo.training.resume_points import checkpoint_problem
from sweeps.maintenance.gc_scan import Garbage, Item, Kind, find_garbage, first_link, run_garbage
from sweeps.maintenance.weights_needed import Plans, plans_of
from sweeps.state.opening import open_sweep
from sweeps.state.run_table import find_runs
from sweeps.state.sweep import Sweep
from sweeps.store.layout import ASIDE, WEIGHTS, RunFolder, Store, write_json
from sweeps.store.manifests import manifest_path, read_manifest, weights_digest


@dataclass
class Collection:
    """What `adadpo gc` is about."""

    store: Store
    target: Sweep | None  # None: the whole store
    plans: Plans
    garbage: Garbage
    freed: dict[Path, int] = field(default_factory=dict)  # path -> bytes
    failed: dict[Path, str] = field(default_factory=dict)  # path -> why it could not be freed


def find_freeable(store: Store, name: str | None, words: Sequence[str]) -> Collection:
    """Find what can be freed.

    Args:
        store: the root.
        name: a sweep file or a launched sweep's name; None: the whole store.
        words: of some of the sweep's runs, see `selectors`; none: all of them.

    Raises:
        UserError: there is no such sweep, or no run fits.
    """
    target = None if name is None else open_sweep(name, store)
    sweeps, unreadable = [] if target is None else [target], []
    for each in store.sweeps():
        try:
            sweeps.append(open_sweep(each, store))
        except SweepError:
            unreadable.append(each)
    plans = plans_of(sweeps, unreadable)
    if target is None:
        return Collection(store, None, plans, find_garbage(store, plans, None, ()))
    run_ids = [run.run_id for run in find_runs(target, words)]
    names = () if words else (target.spec.name,)
    return Collection(store, target, plans, find_garbage(store, plans, run_ids, names))


def free(found: Collection, kinds: Sequence[Kind]) -> None:
    """Free what was found of some kinds, where it still can be."""
    problem_of = cache(checkpoint_problem)
    groups: dict[str | None, list[Item]] = {}
    for item in found.garbage.items:
        if item.kind in kinds:
            groups.setdefault(None if item.kind == "quarantine" else item.run_id, []).append(item)
    for run_id, items in groups.items():
        if run_id is None:
            _delete(found, [(item, aside) for item in items if (aside := _aside(found, item))])
            continue
        folder = found.store.run(run_id)
        with folder.lease.looking():
            now = Garbage()
            run_garbage(found.store.root, folder, found.plans, now, problem_of)
            still = {(item.kind, item.path) for item in now.items}
            mine = [item for item in items if (item.kind, item.path) in still]
            if any(item.path.name in WEIGHTS and item.kind == "weights" for item in mine):
                _note_freed(folder, sum(item.size for item in mine if item.kind == "weights"))
            renamed = [(item, aside) for item in mine if (aside := _aside(found, item))]
        _delete(found, renamed)
        for item in items:
            if item not in mine:
                found.failed[item.path] = now.kept.get(folder.path, "has changed since it was looked at")


def _note_freed(folder: RunFolder, size: int) -> None:
    """Say what the weights were, before they go: without it their absence would be damage."""
    manifest = read_manifest(manifest_path(folder, "train", "")) or {"files": {}}
    digest = weights_digest(folder.train, manifest["files"])
    write_json(folder.freed, {"time": time.time(), "bytes": size, "digest": digest})


def _aside(found: Collection, item: Item) -> Path | None:
    """Rename something to a name that nobody looks for."""
    if item.path.name.startswith(ASIDE):
        return item.path
    target = item.path.with_name(f"{ASIDE}{uuid.uuid4().hex}")
    try:
        if first_link(found.store.root, item.path) is not None:
            raise OSError("became a symbolic link")
        item.path.rename(target)
    except OSError as error:
        found.failed[item.path] = error.strerror or str(error)
        return None
    return target


def _delete(found: Collection, renamed: Sequence[tuple[Item, Path]]) -> None:
    for item, path in renamed:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)  # which follows no links
            else:
                path.unlink()
        except OSError as error:
            found.failed[item.path] = f"{error.strerror or error}: {error.filename or path}"
        else:
            found.freed[item.path] = item.size
            if item.kind == "quarantine":
                with suppress(OSError):  # unless more was moved aside at that time
                    path.parent.rmdir()


def as_dict(found: Collection, chosen: Sequence[Kind]) -> dict[str, Any]:
    """Plain data."""
    root, items = found.store.root, found.garbage.items
    runs: dict[str, dict[str, int]] = {}
    classes: dict[str, int] = {}
    for item in items:
        classes[item.kind] = classes.get(item.kind, 0) + item.size
        if item.run_id is not None:
            mine = runs.setdefault(item.run_id, {})
            mine[item.kind] = mine.get(item.kind, 0) + item.size
    return {
        "store": str(root),
        "sweep": None if found.target is None else found.target.spec.name,
        "bytes": sum(item.size for item in items if item.kind in chosen),
        "classes": classes,
        "chosen": list(chosen),
        "runs": runs,
        "items": [
            {
                "path": str(item.path.relative_to(root)),
                "class": item.kind,
                "bytes": item.size,
                "run": item.run_id,
                "freed": item.path in found.freed,
            }
            for item in items
        ],
        "kept": {str(path.relative_to(root)): reason for path, reason in found.garbage.kept.items()},
        "failed": {str(path.relative_to(root)): reason for path, reason in found.failed.items()},
        "freed_bytes": sum(found.freed.values()),
    }

"""The files without which a sweep's folder cannot be opened, and its declaration: made again from what else is there.

spec.yaml       from the user's own file, where that is still this sweep's
seeds.json      from the runs of the last launch
declared.json   from the sweep, where the last report proves that it declares the same; else it is lost, and says so
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sweeps.declaration import declaration_line
from sweeps.errors import FailureError, SweepError
from sweeps.resolve import resolve
from sweeps.spec import SweepSpec, spec_of
from sweeps.store import Store, read_json, write_json
from sweeps.sweep import Sweep, extra_seeds, origin_of
from sweeps.yamlfile import YamlFile, load_yaml

FURTHER_SEEDS = 100  # after the file's last one: those that are tried against the ids of the runs


def file_at_fault(store: Store, name: str) -> tuple[Path, str] | None:
    """Which file of a sweep's folder keeps it from being opened, and why; None: something outside of the folder."""
    folder = store.sweep(name)
    again = "adadpo launch FILE, with the sweep's own file, writes it again"
    try:
        origin = origin_of(folder)
    except FailureError as error:
        return folder / "origin.json", f"{_flaw(error)}; {again}"
    try:
        spec_of(load_yaml(folder / "spec.yaml", origin))
    except SweepError as error:
        return folder / "spec.yaml", f"{_flaw(error)}; {again}"
    try:
        extra_seeds(store, name)
    except FailureError as error:
        return folder / "seeds.json", f"{_flaw(error)}; it lists the seeds that adadpo extend added"
    return None


def content_of(store: Store, path: Path) -> tuple[str, str] | None:
    """What a file that `file_at_fault` named has to hold, and from what that follows; None: from nothing here."""
    if path.name == "spec.yaml":
        return _spec_again(store, path)
    return _seeds_again(store, path) if path.name == "seeds.json" else None


def declare_again(sweep: Sweep) -> str:
    """Write the declaration of a sweep that has lost it; returns what it is worth."""
    folder, content = sweep.folder, sweep.declares(sweep.spec.seeds)
    with suppress(FailureError, KeyError, TypeError):
        said = read_json(folder / "results.json")["provenance"]
        if (said["declaration"], said["evaluation id"]) == (declaration_line(content), sweep.eval_id):
            write_json(folder / "declared.json", content | {"time": None})
            return "written again: the last report names the same digests"
    write_json(folder / "declared.json", content | {"time": time.time(), "lost": True})
    return "moved aside; declared again as of now, which is after the results: the comparison is exploratory"


def launched_runs(store: Store, name: str) -> list[str]:
    """Ids of the runs of the last launch; none where that is not known."""
    with suppress(FailureError, KeyError, TypeError):
        return [str(run_id) for run_id in read_json(store.sweep(name) / "launched.json")["runs"]]
    return []


def _seeds_again(store: Store, path: Path) -> tuple[str, str] | None:
    name = path.parent.name
    file = load_yaml(path.with_name("spec.yaml"), origin_of(path.parent))
    spec, known = spec_of(file), launched_runs(store, name)
    if not known:
        return None
    tried = [*_seeds_of_runs(store, known), *range(max(spec.seeds), max(spec.seeds) + FURTHER_SEEDS)]
    found = {run.seed for run in resolve(spec, file, store.root, tried).runs if run.run_id in set(known)}
    found |= set(_seeds_of_runs(store, known)) if spec.search is not None else set()
    seeds = sorted(found - set(spec.seeds))
    return json.dumps(seeds) + "\n", f"the runs of the last launch: {seeds or 'none were added'}"


def _seeds_of_runs(store: Store, run_ids: list[str]) -> Iterator[int]:
    for run_id in run_ids:
        with suppress(FailureError, KeyError, TypeError):
            yield int(read_json(store.run(run_id).path / "config.json")["seed"])


def _spec_again(store: Store, path: Path) -> tuple[str, str] | None:
    name, origin = path.parent.name, origin_of(path.parent)
    for file in sorted([*origin.glob("*.yaml"), *origin.glob("*.yml")]):
        with suppress(SweepError, OSError):
            found = load_yaml(file)
            spec = spec_of(found)
            if spec.name == name and _is_the_launched_one(store, spec, found):
                said = f"{file}, which gives the launched runs and declaration"
                return file.read_text(encoding="utf-8"), said
    return None


def _is_the_launched_one(store: Store, spec: SweepSpec, file: YamlFile) -> bool:
    """A file of the same name may have been changed since: the launched runs and what was declared must be its own."""
    known = launched_runs(store, spec.name)
    job = resolve(spec, file, store.root)
    declared: Any = None
    with suppress(FailureError, KeyError, TypeError):
        declared = read_json(store.sweep(spec.name) / "declared.json")["digest"]
    same = declared is None or declared == Sweep(spec, file, store, job).declares(spec.seeds)["digest"]
    return bool(known) and same and {run.run_id for run in job.runs} <= set(known)


def _flaw(error: SweepError) -> str:
    """What is wrong, without the advice for the files of a run."""
    return str(error).splitlines()[0].partition("; delete it")[0]

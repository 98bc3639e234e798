"""Verifying a store: what is damaged, what follows from other files and is made again, what is moved aside.

Nothing is ever deleted: what a launch has to do again goes to `<root>/quarantine/<time>/`, at its old path below it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.errors import SweepError
from sweeps.garbage import walk
from sweeps.lease import held, holder_state
from sweeps.manifests import BASELINE_SEAL, content_digest, read_manifest
from sweeps.mending import mend
from sweeps.run_checks import Checked, Finding, check_run, json_flaw
from sweeps.store import ASIDE, RunFolder, Store
from sweeps.sweep import Sweep, open_sweep
from sweeps.sweep_checks import check_sweep_files
from sweeps.sweep_files import file_at_fault

FRESH_SECONDS = 60.0  # a temporary file this young may be somebody's who writes right now


@dataclass
class Verdict:
    """What was found, and what became of it."""

    store: Path
    sweeps: list[str] = field(default_factory=list)
    checked: Checked = field(default_factory=Checked)
    in_work: list[str] = field(default_factory=list)  # runs that somebody works on: not looked at
    findings: list[Finding] = field(default_factory=list)
    mended: dict[Path, str] = field(default_factory=dict)  # path -> what was done
    reports: list[Sweep] = field(default_factory=list)  # whose report is to be written again

    @property
    def remaining(self) -> list[Finding]:
        """What is still wrong."""
        return [finding for finding in self.findings if finding.path not in self.mended]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "store": str(self.store),
            "sweeps": self.sweeps,
            "runs": self.checked.runs,
            "stages": self.checked.stages,
            "files": self.checked.files,
            "stages_without_hashes": self.checked.unverified,
            "in_work": self.in_work,
            "findings": [
                {
                    "path": str(finding.path.relative_to(self.store)),
                    "problem": finding.problem,
                    "run": finding.run_id,
                    "stage": finding.stage,
                    "remedy": finding.remedy,
                    "mended": self.mended.get(finding.path),
                }
                for finding in self.findings
            ],
            "remaining": len(self.remaining),
        }


def check_store(store: Store, names: Sequence[str], *, repair: bool) -> Verdict:
    """Verify some sweeps with their runs, or all there is.

    Args:
        store: the root.
        names: of launched sweeps or sweep files; empty: every sweep, and every run whatever its sweep.
        repair: mend what can be mended.

    Raises:
        UserError: a named sweep is not there.
    """
    found = Verdict(store.root)
    aside = store.root / "quarantine" / time.strftime("%Y%m%dT%H%M%S")
    sweeps = _opened(found, store, names or _launched(store), aside, repair=repair, strict=bool(names))
    found.sweeps = [sweep.spec.name for sweep in sweeps]
    configs: dict[str, tuple[Sweep, Any]] = {
        run.run_id: (sweep, run) for sweep in reversed(sweeps) for run in sweep.job.runs
    }
    run_ids = [run_id for run_id in configs if store.run(run_id).path.is_dir()]
    if not names:
        run_ids += [path.parent.name for path in sorted(store.root.glob("*/config.json"))]
        run_ids += [path.parent.parent.name for path in sorted(store.root.glob("*/train/metrics.json"))]
    for run_id in dict.fromkeys(run_ids):
        _check_one(found, store.run(run_id), configs.get(run_id), aside, repair=repair)
    for finding in _baselines(store):
        _add(found, finding, None, aside, repair=repair)
    for finding in _temporary(store, found.in_work):
        _add(found, finding, None, aside, repair=repair)
    for sweep in sweeps:
        mine = list(check_sweep_files(sweep))
        for finding in mine:
            _add(found, finding, (sweep, None), aside, repair=repair)
        touched = {run.run_id for run in sweep.job.runs} & {
            finding.run_id for finding in found.findings if finding.path in found.mended
        }
        if repair and (touched or mine) and (sweep.folder / "declared.json").exists():
            found.reports.append(sweep)
    return found


def _launched(store: Store) -> list[str]:
    """Names of the launched sweeps, those too whose file is lost."""
    declared = {path.parent.name for path in store.root.glob("sweeps/*/declared.json")}
    return sorted({*store.sweeps(), *declared})


def _opened(
    found: Verdict, store: Store, names: Sequence[str], aside: Path, *, repair: bool, strict: bool
) -> list[Sweep]:
    """The sweeps that can be opened; what keeps others from it is a finding, mended where that is possible."""
    sweeps = []
    # By name: `store.sweep("/")` or of ".." is a folder too.
    folders = {path.name for path in store.root.glob("sweeps/*") if path.is_dir()}
    for name in names:
        tried: set[Path] = set()
        while True:
            try:
                sweeps.append(open_sweep(name, store))
            except SweepError as error:
                there = name in folders
                if strict and not there:
                    raise
                fault = file_at_fault(store, name) if there else None
                if fault is None or fault[0] in tried:
                    said = f"the sweep cannot be opened: {error}"
                    found.findings.append(Finding(store.sweep(name), said, "none"))
                    break
                tried.add(fault[0])
                _add(found, Finding(*fault, "restore"), None, aside, repair=repair)
                if fault[0] not in found.mended:
                    break
            else:
                break
    return sweeps


def _check_one(
    found: Verdict, folder: RunFolder, known: tuple[Sweep, Any] | None, aside: Path, *, repair: bool
) -> None:
    """A run, under its lease where something is to be changed."""
    holder = holder_state(folder.lease)
    if holder in ("alive", "unknown"):
        found.in_work.append(folder.path.name)
        return
    if holder == "dead":
        lease = Finding(folder.lease.path, "its process is gone", "release", folder.path.name)
        _add(found, lease, known, aside, repair=repair)
    elif folder.lease.path.exists():
        damaged = Finding(folder.lease.path, "is damaged: names no owner", "move", folder.path.name)
        _add(found, damaged, known, aside, repair=repair)
    config = None if known is None else known[1].config.model_dump(mode="json")
    if not repair:
        found.findings += check_run(folder, config, found.checked)
        return
    with held(folder.lease, {"sweep": "", "work": "fsck"}) as lease_held:
        if lease_held is None:
            found.in_work.append(folder.path.name)
            return
        findings = list(check_run(folder, config, found.checked))
        for finding in sorted(findings, key=lambda finding: finding.remedy == "score"):
            alone = all(each is finding or each.remedy == "rewrite" for each in findings)
            _add(found, finding, known, aside, repair=True, alone=alone)


def _add(
    found: Verdict,
    finding: Finding,
    known: tuple[Sweep, Any] | None,
    aside: Path,
    *,
    repair: bool,
    alone: bool = True,
) -> None:
    found.findings.append(finding)
    if repair and (said := mend(finding, found.store, known, aside, alone=alone)):
        found.mended[finding.path] = said


def _baselines(store: Store) -> Iterator[Finding]:
    for path in sorted(store.root.glob("baselines/*/outputs.json")):
        seal = path.with_name(BASELINE_SEAL)
        try:
            manifest = read_manifest(seal) or {"files": {}}
        except SweepError as error:
            yield Finding(seal, str(error), "move")
            manifest = {"files": {}}
        said = json_flaw(path, list)
        for name, expected in manifest["files"].items():
            file = path.with_name(name)
            if not file.exists():
                yield Finding(path, f"{name} beside it is missing", "move")
            elif file != path and content_digest(file) != expected:
                yield Finding(file, "is not as it was written: another hash", "move")
            elif file == path and content_digest(file) != expected:
                said = said or "is not as it was written: another hash"
        if said:
            yield Finding(path, said, "move")


def _temporary(store: Store, in_work: Sequence[str]) -> Iterator[Finding]:
    """What interrupted writers left."""
    for path in sorted(path for path in walk(store.root) if path.suffix == ".part"):
        parts = path.relative_to(store.root).parts
        given_up = any(part.startswith(ASIDE) for part in parts)
        if parts[0] == "quarantine" or parts[0] in in_work or given_up or not path.is_file():
            continue
        with suppress(FileNotFoundError):  # its writer has just renamed it
            of = path.stat()
            if time.time() - of.st_mtime > FRESH_SECONDS:
                yield Finding(path, f"left by an interrupted writer ({of.st_size} bytes)", "move")

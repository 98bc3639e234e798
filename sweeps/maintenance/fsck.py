"""Verifying a store: what is damaged, what follows from other files and is made again, what is moved aside.

Nothing is ever deleted: what a launch has to do again goes to `<root>/quarantine/<time>/`, at its old path below it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adadpo.errors import FailureError, SweepError
from adadpo.files import atomic_write
from sweeps.execution.run_context import RunContext
from sweeps.maintenance.check_run import Checked, Finding, check_run, json_flaw, said_without_path
from sweeps.maintenance.gc_scan import walk
from sweeps.search.study_storage import in_journal, journal
from sweeps.state.judgements import other_evaluations
from sweeps.state.opening import launched_name, open_sweep, planned_from, rebuild, record
from sweeps.state.plan_file import plan_path, read_plan
from sweeps.state.snapshot import snapshot_path, stale_entries
from sweeps.state.sweep import Sweep
from sweeps.store.declaration import FILE as SEARCH_FILE
from sweeps.store.declaration import declaration_line, read_asked, read_declaration, write_asked
from sweeps.store.ids import digest
from sweeps.store.layout import ASIDE, FILES, STAGES, RunFolder, Store, read_json, write_json
from sweeps.store.lease import held, holder_state
from sweeps.store.manifests import (
    BASELINE_SEAL,
    BESIDE,
    content_digest,
    manifest_path,
    note_evaluations,
    read_manifest,
    reseal,
)

# What `adadpo fsck --repair` does about a finding.


def repair_finding(
    finding: Finding, root: Path, known: tuple[Sweep, Any] | None, aside: Path, *, alone: bool
) -> str | None:
    """Mend one finding; returns what was done, None where nothing can be.

    Args:
        finding: what is wrong.
        root: of the store.
        known: the sweep, and the planned run where it is about one; None: of no sweep that is known.
        aside: folder for what is moved.
        alone: nothing else is wrong with the run, so that scores can be trusted to follow from it.
    """
    if finding.remedy == "none":
        return None
    if finding.remedy == "release":
        finding.path.unlink(missing_ok=True)
        return "released"
    if finding.remedy == "restore":
        assert known is not None
        move_aside(finding.path, root, aside)
        if finding.path.name == SEARCH_FILE:
            write_asked(finding.path.parent, known[0].asked)
        else:
            atomic_write(finding.path, known[0].origin.text)
        return "written again from the plan"
    if finding.remedy == "declare":
        assert known is not None
        move_aside(finding.path, root, aside)
        return declare_again(known[0])
    if finding.remedy == "move":
        return _moved_alone(finding, root, aside)
    assert finding.run_id is not None
    folder = Store(root).run(finding.run_id)
    if finding.remedy == "rewrite":
        return _rewritten(finding, folder, root, known, aside)
    assert finding.stage is not None
    assert finding.eval_id is not None
    if finding.remedy == "score":
        _move_stage(folder, "score", finding.eval_id, root, aside)
        if alone and known is not None and _scored_again(folder, finding.eval_id, *known):
            return "scored again from the annotations"
        return "moved aside: the next launch scores it again"
    moved = [finding.stage]
    if "not made from" in finding.problem:  # what rests on it is of another training or of other responses
        moved = list(STAGES[STAGES.index(finding.stage) :])
    for stage in moved:
        _move_stage(folder, stage, finding.eval_id, root, aside)
    return f"moved aside: the next launch does {finding.stage} again"


def move_aside(path: Path, root: Path, aside: Path) -> None:
    """Move a file or folder into the quarantine, at its path below it."""
    if not path.exists():
        return
    target = aside / path.relative_to(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    while target.exists():
        target = target.with_name(f"{target.name}.again")
    os.rename(path, target)  # noqa: PTH104 -- within one file system


def _planned_again(path: Path, root: Path, aside: Path) -> str:
    sweep = rebuild(Store(root), path.parent.name)
    move_aside(path, root, aside)
    record(sweep)
    return f"rebuilt from {sweep.origin.path}, which gives the launched runs"


def _moved_alone(finding: Finding, root: Path, aside: Path) -> str:
    move_aside(finding.path, root, aside)
    if finding.stage is not None and finding.eval_id is not None and finding.run_id is not None:
        reseal(Store(root).run(finding.run_id), finding.stage, finding.eval_id)
    if finding.path.parent.parent == root / "baselines":  # its responses are generated again together
        for name in ("outputs.json", "generation.json", BASELINE_SEAL):
            move_aside(finding.path.with_name(name), root, aside)
    return "moved aside"


def _move_stage(folder: RunFolder, stage: str, eval_id: str, root: Path, aside: Path) -> None:
    """A stage is as if it had never been done."""
    if stage == "train":
        move_aside(folder.train, root, aside)
        return
    home = folder.last_file(stage, eval_id).parent
    # The last file first: a kill in between leaves a stage that is not done, never one that looks done.
    for name in (*reversed(FILES[stage]), *BESIDE[stage], manifest_path(folder, stage, eval_id).name):
        move_aside(home / name, root, aside)


def _rewritten(
    finding: Finding, folder: RunFolder, root: Path, known: tuple[Sweep, Any] | None, aside: Path
) -> str:
    if finding.path == folder.history:
        note_evaluations(folder, read_json(folder.metrics), {})
        return "written again from the evaluations"
    content = None
    if known is not None:
        sweep, run = known
        content = run.config if finding.stage is None else _evaluation(sweep, finding)
    move_aside(finding.path, root, aside)
    if content is not None:
        write_json(finding.path, content.model_dump(mode="json"))
    if finding.stage is not None and finding.eval_id is not None:
        reseal(folder, finding.stage, finding.eval_id)
    return "moved aside" if content is None else "written again"


def _evaluation(sweep: Sweep, finding: Finding) -> Any:
    """The evaluation that a configuration beside results is of; None: of one that the sweep does not know."""
    generation, _, judgement = str(finding.eval_id).partition("/")
    for evaluation in (sweep.job.evaluation, *other_evaluations(sweep)):
        same = evaluation.generation_id == generation
        if same and (finding.stage == "generate" or evaluation.judgement_id == judgement):
            return evaluation
    return None


def _scored_again(folder: RunFolder, eval_id: str, sweep: Sweep, run: Any) -> bool:
    """Scores from the annotations; False where the sweep does not know the evaluation, or its baseline is not here."""
    from sweeps.execution.stages import run_stages

    evaluation = next(
        (each for each in (sweep.job.evaluation, *other_evaluations(sweep)) if each.eval_id == eval_id), None
    )
    if evaluation is None:
        return False
    job = sweep.job.model_copy(update={"evaluation": evaluation, "runs": [run], "stages": ["score"]})
    context = RunContext(job)
    if not context.has_baseline(run):
        return False
    with suppress(SweepError):
        run_stages(context, run, folder, lambda stage, done, total: None)
    return folder.has("score", eval_id)


FRESH_SECONDS = 60.0  # a temporary file this young may be somebody's who writes right now


@dataclass
class Verdict:
    """What was found, and what became of it."""

    store: Path
    sweeps: list[str] = field(default_factory=list)
    checked: Checked = field(default_factory=Checked)
    in_work: list[str] = field(default_factory=list)  # runs that somebody works on: not looked at
    findings: list[Finding] = field(default_factory=list)
    repaired: dict[Path, str] = field(default_factory=dict)  # path -> what was done
    reports: list[Sweep] = field(default_factory=list)  # whose report is to be written again

    @property
    def remaining(self) -> list[Finding]:
        """What is still wrong."""
        return [finding for finding in self.findings if finding.path not in self.repaired]

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
                    "repaired": self.repaired.get(finding.path),
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
        repair: repair what can be repaired.

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
            finding.run_id for finding in found.findings if finding.path in found.repaired
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
    """The sweeps that can be opened; what keeps others from it is a finding, repaired where that is possible."""
    sweeps = []
    # By name: `store.sweep("/")` or of ".." is a folder too.
    folders = {path.name for path in store.root.glob("sweeps/*") if path.is_dir()}
    for target in names:
        name = launched_name(target, store) if strict and target not in folders else target
        if name in folders and (problem := _plan_problem(store, str(name))) is not None:
            path, said = plan_path(store, str(name)), None
            if repair:
                try:
                    said = _planned_again(path, store.root, aside)
                except SweepError as error:
                    problem += f"; it cannot be rebuilt: {error}"
            found.findings.append(Finding(path, problem, "plan"))
            if said is not None:
                found.repaired[path] = said
            elif path.exists():
                continue
        try:
            sweeps.append(open_sweep(target, store))
        except SweepError as error:
            if strict and name not in folders:
                raise
            said = f"the sweep cannot be opened: {error}"
            found.findings.append(Finding(store.sweep(str(name)), said, "none"))
    return sweeps


def _plan_problem(store: Store, name: str) -> str | None:
    """What is wrong with a sweep's plan; None: nothing, or the sweep was launched before there were plans."""
    path = plan_path(store, name)
    try:
        lost = read_plan(store, name) is None and "file" in planned_from(path.parent)
    except SweepError as error:
        return None if not path.exists() else str(error).removeprefix(f"{path} ").partition("; ")[0]
    return "is missing" if lost else None


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
    if repair and (said := repair_finding(finding, found.store, known, aside, alone=alone)):
        found.repaired[finding.path] = said


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
                yield Finding(path, f"its {name} is missing", "move")
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


# The declaration of a sweep that has lost it.


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


# Whether the files of a sweep's own folder are whole; most of them follow from its runs.

DERIVED = ("results.json", "launched.json", "stopped.json", "finished.json")  # written again when needed
KEPT = (
    "judgements.json",
    "audit.json",
)  # moved aside: judging and auditing again cost nothing that is kept elsewhere


def check_sweep_files(sweep: Sweep) -> Iterator[Finding]:
    """Everything that is wrong with the folder of a sweep that could be opened."""
    folder = sweep.folder
    spec = folder / "spec.yaml"
    if not spec.is_file() or spec.read_text(encoding="utf-8", errors="replace") != sweep.origin.text:
        yield Finding(spec, "is not the sweep file as it was launched", "restore")
    try:
        read_asked(folder)
    except FailureError as error:
        yield Finding(folder / SEARCH_FILE, said_without_path(error, folder / SEARCH_FILE), "restore")
    for name in (*DERIVED, *KEPT):
        path = folder / name
        if path.exists() and (said := json_flaw(path, list if name == "judgements.json" else dict)):
            yield Finding(path, said, "move")
    judgements = folder / "judgements.json"
    if judgements.exists() and not json_flaw(judgements, list):
        from sweeps.state.judgements import recorded_evaluations

        try:
            recorded_evaluations(sweep)
        except FailureError:
            yield Finding(judgements, "holds something that is no evaluation", "move")
    derived = [path for kind in ("joint", "prompts", "seen") for path in folder.glob(f"{kind}/*.json")]
    for path in sorted(derived):
        if said := json_flaw(path, dict):
            yield Finding(path, said, "move")
    with suppress(FailureError):  # a run's damaged files are told of themselves
        if wrong := stale_entries(sweep):
            said = f"is not what the files of {len(wrong)} runs say, such as {wrong[0]}"
            yield Finding(snapshot_path(sweep, sweep.eval_id), said, "move")
    results = folder / "results.json"
    if results.exists() and not json_flaw(results, dict) and not _is_older(read_json(results)):
        from adadpo.errors import ReportError
        from reports.files import load_results

        try:
            load_results(results)
        except (ReportError, ValueError) as error:
            yield Finding(results, f"cannot be read: {str(error).splitlines()[0]}", "move")
    if in_journal(sweep) and (said := _unusable(journal(sweep))):
        yield Finding(journal(sweep), said, "move")
    declared = folder / "declared.json"
    if not declared.exists():
        if (folder / "launched.json").exists():
            yield Finding(declared, "is missing; it says what was declared before the first run", "declare")
        return
    try:
        content = read_declaration(declared)
    except FailureError as error:
        said = str(error).removeprefix(f"{declared} ").partition("; adadpo")[0]
        yield Finding(declared, f"{said}; it says what was declared before the first run", "declare")
        return
    if content["digest"] != digest(content["compare"]):
        yield Finding(declared, "does not match its digest: it was changed after launch", "none")


def _is_older(results: dict[str, Any]) -> bool:
    """Written by an earlier version: no damage, the next report writes it in today's form."""
    from analysis.document import SCHEMA_VERSION

    version = results.get("schema_version")
    return isinstance(version, int) and version < SCHEMA_VERSION


def _unusable(path: Path) -> str | None:
    """Why a file cannot be written again in its place; what is in it does not matter."""
    if path.exists() and not path.is_file():
        return "is a folder" if path.is_dir() else "is no file"
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return "cannot be read and written by this user"
    return None

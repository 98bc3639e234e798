"""What `adadpo fsck --repair` does about a finding."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from sweeps.errors import SweepError
from sweeps.history import note_evaluations
from sweeps.manifests import BASELINE_SEAL, BESIDE, manifest_path, reseal
from sweeps.rejudge import remembered
from sweeps.run_checks import Finding
from sweeps.store import FILES, STAGES, RunFolder, Store, read_json, write_json, write_whole
from sweeps.sweep import Sweep
from sweeps.sweep_files import content_of, declare_again
from sweeps.workshop import Workshop


def mend(
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
        return _restored(finding.path, root, aside)
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


def _restored(path: Path, root: Path, aside: Path) -> str | None:
    """One of the files without which a sweep's folder cannot be opened."""
    found = content_of(Store(root), path)
    if found is None and path.name != "seeds.json":
        return None  # the sweep would be gone from the store's list
    move_aside(path, root, aside)
    if found is None:
        return "moved aside: nothing says which seeds were added, add them again by adadpo extend"
    content, source = found
    write_whole(path, content)
    return f"written again from {source}"


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
    for evaluation in (sweep.job.evaluation, *remembered(sweep)):
        same = evaluation.generation_id == generation
        if same and (finding.stage == "generate" or evaluation.judgement_id == judgement):
            return evaluation
    return None


def _scored_again(folder: RunFolder, eval_id: str, sweep: Sweep, run: Any) -> bool:
    """Scores from the annotations; False where the sweep does not know the evaluation, or its baseline is not here."""
    from sweeps.stages import run_stages

    evaluation = next(
        (each for each in (sweep.job.evaluation, *remembered(sweep)) if each.eval_id == eval_id), None
    )
    if evaluation is None:
        return False
    job = sweep.job.model_copy(update={"evaluation": evaluation, "runs": [run], "stages": ["score"]})
    workshop = Workshop(job)
    if not workshop.has_baseline(run):
        return False
    with suppress(SweepError):
        run_stages(workshop, run, folder, lambda stage, done, total: None)
    return folder.has("score", eval_id)

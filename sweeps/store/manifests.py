"""What each stage left behind when it ended: hashes of its files, what they were made from, how long it took.

A manifest is written beside the stage's files after the last of them. It is no part of what makes a stage done, so that
stores from before there were manifests stay as they are; `adadpo fsck` says which stages have none.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from adadpo.errors import FailureError
from adadpo.files import atomic_write
from sweeps.store.host import host_info
from sweeps.store.ids import digest
from sweeps.store.layout import (
    FILES,
    STAGES,
    WEIGHTS,
    RunFolder,
    parse_json,
    read_json,
    write_json,
)

REPLICATES_FILE = "replicates.npy"  # see replicates.py
BASELINE_SEAL = "baseline.manifest.json"
# Beside a stage's own files: what else it writes, from the stage's folder on.
BESIDE = {
    "train": ("../provenance.json",),
    "generate": ("config.json",),
    "judge": ("config.json",),
    "score": (REPLICATES_FILE,),
}
MADE_FROM = {"train": None, "generate": "train", "judge": "generate", "score": "judge"}


def manifest_path(folder: RunFolder, stage: str, eval_id: str) -> Path:
    """Where a stage's manifest is."""
    return folder.last_file(stage, eval_id).with_name(f"{stage}.manifest.json")


def stage_files(folder: RunFolder, stage: str, eval_id: str) -> Iterator[Path]:
    """The files of a stage that its manifest vouches for, and that exist."""
    home = folder.last_file(stage, eval_id).parent
    names = [*FILES[stage], *BESIDE[stage]]
    yield from (path for name in names if (path := home / name).is_file())
    if stage == "train":
        yield from weight_files(home)


def weight_files(train: Path) -> Iterator[Path]:
    """The files of a training's adapter or model."""
    for saved in WEIGHTS:
        yield from sorted(path for path in (train / saved).rglob("*") if path.is_file())


def record_stage(folder: RunFolder, stage: str, eval_id: str, started: float) -> None:
    """Write the manifest of a stage that has just ended.

    Raises:
        FailureError: the disk is full.
    """
    before = MADE_FROM[stage]
    content = {
        "stage": stage,
        "started": started,
        "seconds": time.time() - started,
        **host_info(),
        "made_from": None if before is None else result_digest(folder, before, eval_id),
        "files": _digests(folder, stage, eval_id),
    }
    _seal(manifest_path(folder, stage, eval_id), content)


def reseal(folder: RunFolder, stage: str, eval_id: str) -> None:
    """Have a stage's manifest vouch for its files as they are now; where there is none, none is made."""
    path = manifest_path(folder, stage, eval_id)
    if (content := read_manifest(path)) is not None:
        _seal(path, content | {"files": _digests(folder, stage, eval_id)})


def seal_files(path: Path, names: Sequence[str]) -> None:
    """A manifest of some files beside it, of nothing that is a stage."""
    _seal(path, {"files": {name: content_digest(path.with_name(name)) for name in names}})


def _digests(folder: RunFolder, stage: str, eval_id: str) -> dict[str, str]:
    root = folder.path.resolve()
    files = (path.resolve() for path in stage_files(folder, stage, eval_id))
    return {str(path.relative_to(root)): content_digest(path) for path in files}


def _seal(path: Path, content: dict[str, Any]) -> None:
    write_json(path, content | {"digest": digest(content)})


def result_digest(folder: RunFolder, stage: str, eval_id: str) -> str | None:
    """What the next stage is made from: of training its weights, of the others their last file; None: not there."""
    if stage == "train":
        return read_json(folder.freed)["digest"] if folder.weights_freed else weights_digest(folder.train)
    last = folder.last_file(stage, eval_id)
    return content_digest(last) if last.exists() else None


def is_of_other_weights(folder: RunFolder, eval_id: str) -> bool:
    """By the manifests alone: the run was trained anew since its responses were made, and not bit for bit the same."""
    with suppress(FailureError, KeyError, TypeError):
        trained = read_manifest(manifest_path(folder, "train", ""))
        generated = read_manifest(manifest_path(folder, "generate", eval_id))
        if trained is not None and generated is not None:
            freed = folder.weights_freed
            now = (
                read_json(folder.freed)["digest"] if freed else weights_digest(folder.train, trained["files"])
            )
            return generated["made_from"] not in (None, now)
    return False


def weights_digest(train: Path, known: Mapping[str, str] | None = None) -> str | None:
    """What a training's weights are; None: there are none.

    Args:
        train: its folder.
        known: hashes by path from the run's folder on, as a manifest has them; what is not there is read.
    """
    weights = [path for path in weight_files(train) if path.suffix == ".safetensors"]
    names = [str(path.relative_to(train.parent)) for path in weights]
    hashes = [
        (known or {}).get(name) or content_digest(path) for name, path in zip(names, weights, strict=True)
    ]
    return digest(hashes) if hashes else None


def read_manifest(path: Path) -> dict[str, Any] | None:
    """A manifest; None where there is none.

    Raises:
        FailureError: it is not as it was written.
    """
    if not path.exists():
        return None
    content = read_json(path)
    if not isinstance(content, dict):
        raise FailureError(f"{path} is damaged: not an object")
    said = content.pop("digest", None)
    if said != digest(content):
        raise FailureError(f"{path} is damaged: it does not match its own digest")
    return content


def content_digest(path: Path) -> str:
    """Sha256 of a file's bytes; of a history its training steps alone: evaluations add lines to it later."""
    if path.name == "history.jsonl":
        steps = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, RecursionError, TypeError):  # a damaged line is a step that differs
                if "evaluation" in json.loads(line):
                    continue
            steps.append(line)
        return hashlib.sha256("\n".join(steps).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stage_times(folder: RunFolder, eval_id: str) -> dict[str, dict[str, Any]]:
    """Stage -> seconds, gpus and end of each stage that is done; older stores know it of training and generation."""
    found: dict[str, dict[str, Any]] = {}
    for stage in folder.stages_done(eval_id):
        manifest = None
        with suppress(FailureError):
            manifest = read_manifest(manifest_path(folder, stage, eval_id))
        if manifest is not None:
            ended = manifest["started"] + manifest["seconds"]
            found[stage] = {"seconds": manifest["seconds"], "gpus": manifest["gpus"], "ended": ended}
            continue
        old = {"train": "metrics.json", "generate": "generation.json"}.get(stage)
        if old is not None:
            with suppress(FailureError, KeyError, TypeError):
                path = folder.last_file(stage, eval_id).with_name(old)
                ended = path.stat().st_mtime
                found[stage] = {"seconds": read_json(path)["wall_seconds"], "gpus": None, "ended": ended}
    return {stage: found[stage] for stage in STAGES if stage in found}


# A run's history: a line per training step, and one for every evaluation.


def note_evaluations(folder: RunFolder, metrics: dict[str, Any], new: dict[str, Any]) -> None:
    """A line of the history for every evaluation: what it came to."""
    lines = [json.dumps(step) for step in load_history(folder)] + evaluation_lines(folder, metrics, new)
    atomic_write(folder.history, "".join(line + "\n" for line in lines))


def evaluation_lines(
    folder: RunFolder, metrics: dict[str, Any], new: dict[str, Any] | None = None
) -> list[str]:
    """The lines that the evaluations of a run come to; `new`: evaluation id -> scores that have no file yet."""
    finished = folder.path.glob("eval/*/*/scores.json")
    scored = {f"{path.parent.parent.name}/{path.parent.name}": read_json(path) for path in finished} | (
        new or {}
    )
    lines = []
    for eval_id, scores in sorted(scored.items()):
        generation = read_json(folder.generation(eval_id) / "generation.json", dict)
        line = {"step": metrics["steps"], "evaluation": eval_id}
        line |= {name: value for name, value in metrics.items() if name.startswith("heldout_")}
        line |= {name: v for name, v in generation.items() if name not in ("wall_seconds", "versions")}
        line |= {name: value for name, value in scores.items() if isinstance(value, int | float)}
        lines.append(json.dumps(line))
    return lines


def load_history(folder: RunFolder) -> list[dict[str, Any]]:
    """The logged steps of a run's training, without those behind a line that was cut short by a kill."""
    return read_history(folder)[0]


def read_history(folder: RunFolder) -> tuple[list[dict[str, Any]], bool]:
    """`load_history`, and whether no line is damaged."""
    lines = _lines(folder)
    whole = itertools.takewhile(lambda line: line is not None, lines)
    return [line for line in whole if line is not None and "evaluation" not in line], None not in lines


def _lines(folder: RunFolder) -> list[dict[str, Any] | None]:
    """Steps and evaluations; None for a line that is damaged."""
    lines: list[dict[str, Any] | None] = []
    history = folder.history
    # Bytes that are no text are a damaged line as any other.
    for text in (
        history.read_text(encoding="utf-8", errors="replace").splitlines() if history.exists() else ()
    ):
        try:
            line = parse_json(text.encode())
        except (ValueError, RecursionError):
            line = None
        lines.append(line if isinstance(line, dict) else None)
    return lines

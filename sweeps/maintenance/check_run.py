"""Whether the files of one run are what its stages wrote: they parse, agree with one another and with their hashes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adadpo.errors import FailureError
from sweeps.operations.disk import safetensors_shapes
from sweeps.store.job import Evaluation
from sweeps.store.layout import FILES, STAGES, WEIGHTS, RunFolder, read_json
from sweeps.store.manifests import (
    BESIDE,
    MADE_FROM,
    content_digest,
    evaluation_lines,
    manifest_path,
    read_manifest,
    result_digest,
    stage_files,
)

# How a finding is repaired: `stage`: the stage's files are moved aside, a launch redoes it; `score`: scored again
# from the annotations; `rewrite`: the file follows from others; `move`: the file alone is moved aside; `release`: a
# dead process's lease; `none`: only a person can.
Remedy = Literal["stage", "score", "rewrite", "move", "release", "restore", "plan", "declare", "none"]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written."""

    path: Path
    problem: str
    remedy: Remedy
    run_id: str | None = None
    stage: str | None = None
    eval_id: str | None = None


@dataclass
class Checked:
    """How much was looked at."""

    runs: int = 0
    stages: int = 0
    files: int = 0
    unverified: int = 0  # stages that were written before hashes were recorded


def check_run(folder: RunFolder, config: dict[str, Any] | None, checked: Checked) -> Iterator[Finding]:
    """Everything that is wrong with a run's folder.

    Args:
        folder: nobody works in it.
        config: what its `config.json` should hold; None: the run is of no sweep that is known.
        checked: counts what was looked at.
    """
    checked.runs += 1
    run_id = folder.path.name
    yield from _check_config(folder, config)
    for path in (folder.failure, folder.freed):
        if path.exists() and (said := json_flaw(path, dict)):
            yield Finding(path, said, "move", run_id)
            if path == folder.freed:
                return  # without it the missing weights would be damage of everything made from them
    evaluations = sorted(
        str(path.relative_to(folder.path / "eval")) for path in folder.path.glob("eval/*/*") if path.is_dir()
    )
    generations = dict.fromkeys(
        [each.partition("/")[0] for each in evaluations]
        + [path.name for path in sorted(folder.path.glob("eval/*")) if path.is_dir()]
    )
    found = list(_check_stage(folder, "train", "-/-", checked))
    intact = not found
    for generation in generations:
        found += _check_stage(folder, "generate", f"{generation}/-", checked, rest=intact)
    for eval_id in evaluations:
        for stage in ("judge", "score"):
            found += _check_stage(folder, stage, eval_id, checked)
    yield from found
    if not found and folder.has_files("train", "-/-"):  # what follows from damaged files is no measure of it
        yield from _check_evaluation_lines(folder)


def _check_config(folder: RunFolder, config: dict[str, Any] | None) -> Iterator[Finding]:
    path, run_id = folder.path / "config.json", folder.path.name
    if not path.exists():
        return
    if said := json_flaw(path, dict):
        yield Finding(path, said, "move" if config is None else "rewrite", run_id)
    elif config is not None and read_json(path) != config:
        yield Finding(path, "is not the configuration of this run", "rewrite", run_id)


def _check_stage(
    folder: RunFolder, stage: str, eval_id: str, checked: Checked, *, rest: bool = True
) -> Iterator[Finding]:
    """One stage's files; `rest`: also what it was made from, which is intact."""
    home = folder.last_file(stage, eval_id).parent
    present = [name for name in FILES[stage] if (home / name).exists()]
    if not folder.has_files(stage, eval_id):
        # An unfinished training has a history alone; any other part of a stage is what is left of a whole one.
        sealed = manifest_path(folder, stage, eval_id).exists()
        if sealed or FILES[stage][-1] in present:
            missing = [name for name in FILES[stage] if name not in present]
            yield Finding(
                home / missing[0], "is missing", _remedy(stage, home, []), folder.path.name, stage, eval_id
            )
        return
    checked.stages += 1
    seal = manifest_path(folder, stage, eval_id)
    try:
        manifest = read_manifest(seal)
    except FailureError as error:
        manifest = None
        yield Finding(seal, said_without_path(error, seal), "move", folder.path.name, stage, eval_id)
    if manifest is None:
        checked.unverified += 1
    flaws = dict(_hash_flaws(folder, stage, eval_id, manifest))
    for path, said in _CONTENT[stage](folder, eval_id):
        flaws.setdefault(path, said)
    checked.files += sum(1 for _ in stage_files(folder, stage, eval_id))
    beside = [(home / name).resolve() for name in BESIDE[stage]]
    for path, said in flaws.items():
        yield Finding(path, said, _remedy(stage, path, beside), folder.path.name, stage, eval_id)
    if rest and not flaws and manifest is not None and MADE_FROM[stage] is not None:
        before = MADE_FROM[stage]
        assert before is not None
        if manifest["made_from"] not in (None, result_digest(folder, before, eval_id)):
            said = f"was not made from this {before} stage's result"
            yield Finding(home / FILES[stage][-1], said, "stage", folder.path.name, stage, eval_id)


def _remedy(stage: str, path: Path, beside: list[Path]) -> Remedy:
    if path.resolve() in beside:
        return "rewrite" if path.name == "config.json" else "move"
    return "score" if stage == "score" else "stage"


def _hash_flaws(
    folder: RunFolder, stage: str, eval_id: str, manifest: dict[str, Any] | None
) -> Iterator[tuple[Path, str]]:
    for name, expected in (manifest or {"files": {}})["files"].items():
        path = folder.path / name
        if _is_freed(folder, path):
            continue
        if not path.is_file():
            yield path, "is missing"
        elif content_digest(path) != expected:
            said = json_flaw(path, object) if path.suffix == ".json" else None
            yield path, said or "is not as it was written: another hash"


def _is_freed(folder: RunFolder, path: Path) -> bool:
    """Of the weights that `adadpo gc` freed: gone, and no damage."""
    return folder.weights_freed and any(path.is_relative_to(folder.train / name) for name in WEIGHTS)


def _train_flaws(folder: RunFolder, eval_id: str) -> Iterator[tuple[Path, str]]:
    if said := json_flaw(folder.metrics, dict):
        yield folder.metrics, said
        return
    steps = read_json(folder.metrics).get("steps")
    numbers = [line.get("step") for line in _step_lines(folder.history)]
    if numbers != list(range(1, steps + 1) if isinstance(steps, int) else []):
        yield folder.history, f"holds {len(numbers)} whole steps in order, metrics.json says {steps}"
    weights = [path for path in stage_files(folder, "train", eval_id) if path.suffix == ".safetensors"]
    if not weights and not folder.weights_freed:
        yield folder.train / "model", "no trained weights: adapter/ or model/ is missing"
    for path in weights:
        try:
            safetensors_shapes(path)
        except ValueError as error:
            yield path, str(error)


def _step_lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            break
        if isinstance(line, dict) and "evaluation" not in line:
            found.append(line)
    return found


def _check_evaluation_lines(folder: RunFolder) -> Iterator[Finding]:
    """What the history says of evaluations, against the evaluations."""
    try:
        expected = evaluation_lines(folder, read_json(folder.metrics))
    except (FailureError, KeyError, TypeError, AttributeError):
        return  # an evaluation is damaged: told of it itself
    lines = folder.history.read_text(encoding="utf-8", errors="replace").splitlines()
    mine = lines[len(_step_lines(folder.history)) :]
    if mine != expected:
        said = "its lines of evaluations are not what the evaluations came to"
        yield Finding(folder.history, said, "rewrite", folder.path.name, "train", "-/-")


def _generate_flaws(folder: RunFolder, eval_id: str) -> Iterator[tuple[Path, str]]:
    home = folder.generation(eval_id)
    if said := json_flaw(home / "generation.json", dict):
        yield home / "generation.json", said
    elif not {"versions", "wall_seconds"} <= read_json(home / "generation.json").keys():
        yield home / "generation.json", "lacks versions or wall_seconds"
    if said := json_flaw(home / "outputs.json", list) or _outputs_flaw(read_json(home / "outputs.json")):
        yield home / "outputs.json", said
    yield from _evaluation_flaws(home / "config.json", "generation_id", home.name)


def _outputs_flaw(rows: list[Any]) -> str | None:
    for place, row in enumerate(rows, start=1):
        for key in ("instruction", "output", "generator"):
            if not isinstance(row, dict) or not isinstance(row.get(key), str):
                return f"response {place} has no text {key!r}"
    instructions = [row["instruction"] for row in rows]
    return None if len(set(instructions)) == len(rows) > 0 else "is empty, or answers a prompt twice"


def _judge_flaws(folder: RunFolder, eval_id: str) -> Iterator[tuple[Path, str]]:
    home, outputs = folder.evaluation(eval_id), folder.last_file("generate", eval_id)
    if said := json_flaw(home / "judging.json", dict):
        yield home / "judging.json", said
    path = home / "annotations.json"
    if said := json_flaw(path, list):
        yield path, said
    elif outputs.exists() and not json_flaw(outputs, list) and not _outputs_flaw(read_json(outputs)):
        answers = {row["instruction"]: row["output"] for row in read_json(outputs)}
        if said := _annotations_flaw(read_json(path), answers):
            yield path, said
    yield from _evaluation_flaws(home / "config.json", "judgement_id", home.name)


def _annotations_flaw(rows: list[Any], answers: dict[str, str]) -> str | None:
    """Against the responses that were judged; without a judge there are none."""
    if rows and len(rows) != len(answers):
        return f"{len(rows)} annotations of {len(answers)} responses"
    for place, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or answers.get(row.get("instruction", "")) != row.get("output_2"):
            return f"annotation {place} is not of this run's response"
        preference = row.get("preference")
        if preference is not None and not (isinstance(preference, int | float) and 0 <= preference <= 2):
            return f"annotation {place} prefers {preference!r}"
    return None


def _score_flaws(folder: RunFolder, eval_id: str) -> Iterator[tuple[Path, str]]:
    from analysis.alpaca_eval.win_rates import win_rate

    home = folder.evaluation(eval_id)
    path = home / "scores.json"
    if said := json_flaw(path, dict):
        yield path, said
        return
    annotations = home / "annotations.json"
    if not annotations.exists() or json_flaw(annotations, list):
        return
    rows, scores = read_json(annotations), read_json(path)
    try:
        expected = win_rate(rows).win_rate if rows else None
    except (ValueError, KeyError, TypeError):
        return  # the annotations are damaged: told of them
    if scores.get("win_rate") != expected:
        yield path, f"win rate {scores.get('win_rate')}, the annotations give {expected}"


def _evaluation_flaws(path: Path, key: str, expected: str) -> Iterator[tuple[Path, str]]:
    if not path.exists():
        return  # older stores have one only beside the scores
    if said := json_flaw(path, dict):
        yield path, said
        return
    try:
        evaluation = Evaluation.model_validate(read_json(path))
    except ValueError:
        yield path, "is no evaluation"
        return
    if getattr(evaluation, key) != expected:
        yield path, f"is of {key} {getattr(evaluation, key)}"


_CONTENT = {
    "train": _train_flaws,
    "generate": _generate_flaws,
    "judge": _judge_flaws,
    "score": _score_flaws,
}
assert tuple(_CONTENT) == STAGES


def json_flaw(path: Path, kind: type) -> str | None:
    """Why a file is not JSON of a kind; None when it is."""
    try:
        content = read_json(path)
    except FailureError as error:
        return said_without_path(error, path)
    return None if isinstance(content, kind) else f"holds {type(content).__name__}, not {kind.__name__}"


def said_without_path(error: FailureError, path: Path) -> str:
    """A message without the path, and without the advice to delete by hand."""
    return (
        str(error).removeprefix(f"{path} ").removeprefix(f"cannot read {path}: ").partition("; delete it")[0]
    )

"""The `import` judge: annotations that alpaca_eval has already written, if they are of exactly these answers."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from adadpo.errors import AnnotationError, JudgeError
from analysis.alpaca_eval.annotations import read_annotations
from analysis.judges import Judge, Judgement, Progress, annotation, check_answers, no_progress, summary_of
from analysis.judges.config import Import


def import_judge(config: Import) -> Judge:
    """The judge that reads a file of annotations, or the one of a folder's files that holds the answers."""
    return partial(_judge, Path(config.path).expanduser())


def files_of(path: Path) -> list[Path]:
    """The file, or a folder's `.json` and `.json.gz`, by name.

    Raises:
        JudgeError: there is none.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.endswith((".json", ".json.gz")))
        if not files:
            raise JudgeError(f"no annotations (*.json, *.json.gz) in the folder {path}")
        return files
    if not path.is_file():
        raise JudgeError(f"no annotations to import: there is no file {path}")
    return [path]


def import_digest(path: Path) -> str:
    """Sha256 over the content of the files, whatever they are called."""
    digests = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files_of(path))
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _judge(
    path: Path,
    prompts: Sequence[Mapping[str, Any]],
    baseline: Sequence[str],
    candidate: Sequence[str],
    *,
    baseline_name: str,
    candidate_name: str,
    on_progress: Progress = no_progress,
) -> Judgement:
    check_answers(prompts, baseline, candidate)
    if not prompts:
        return Judgement([], summary_of("import", []))
    nearest: tuple[int, str] | None = None
    for file in files_of(path):
        rows, annotator = _read(file)
        differing = _differing(rows, prompts, baseline, candidate)
        if differing is None:
            break
        if nearest is None or differing[0] < nearest[0]:
            nearest = differing
    else:
        assert nearest is not None  # files_of gives at least one
        raise JudgeError(f"{path}: no annotations of these answers; {nearest[1]}")
    annotations = []
    for prompt, *outputs in zip(prompts, baseline, candidate, strict=True):
        row = rows.get(prompt["instruction"], {})
        annotations.append(
            annotation(
                prompt,
                (outputs[0], outputs[1]),
                (baseline_name, candidate_name),
                annotator,
                row.get("preference"),
                price=row.get("price_per_example"),
                seconds=row.get("time_per_example"),
                raw_completion=row.get("raw_completion"),
            )
        )
    on_progress(len(prompts), len(prompts))
    absent = sum(prompt["instruction"] not in rows for prompt in prompts)
    return Judgement(annotations, summary_of("import", annotations, file=file.name, absent=absent))


def _read(file: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """Validated rows by instruction, with every key of the file, and the annotator."""
    try:
        content = file.read_bytes()
        raw = json.loads(gzip.decompress(content) if file.suffix == ".gz" else content)
        checked = read_annotations(raw)
    except (OSError, EOFError, ValueError, AnnotationError) as error:
        raise JudgeError(f"{file}: not AlpacaEval's annotations: {error}") from error
    rows = {
        one.instruction: {**row, "preference": one.preference} for one, row in zip(checked, raw, strict=True)
    }
    return rows, checked[0].annotator if checked else "none"


def _differing(
    rows: Mapping[str, Mapping[str, Any]],
    prompts: Sequence[Mapping[str, Any]],
    baseline: Sequence[str],
    candidate: Sequence[str],
) -> tuple[int, str] | None:
    """How many answers are not the file's, and that in words; None when all that it has are."""
    known = [
        (rows[prompt["instruction"]], first, second)
        for prompt, first, second in zip(prompts, baseline, candidate, strict=True)
        if prompt["instruction"] in rows
    ]
    firsts = sum(row["output_1"] != first for row, first, _ in known)
    seconds = sum(row["output_2"] != second for row, _, second in known)
    if known and not firsts and not seconds:
        return None
    if not known:
        return 2 * len(prompts) + 1, f"it has none of the {len(prompts)} instructions"
    annotated = f"of the {len(known)} annotated pairs {seconds} have another candidate's answer"
    return firsts + seconds, f"{annotated}, {firsts} another baseline's"

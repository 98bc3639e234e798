"""A run's history: a line per training step, and one for every evaluation."""

from __future__ import annotations

import itertools
import json
from typing import Any

from sweeps.store import RunFolder, parse_json, read_json, write_whole


def note_evaluations(folder: RunFolder, metrics: dict[str, Any], new: dict[str, Any]) -> None:
    """A line of the history for every evaluation: what it came to."""
    lines = [json.dumps(step) for step in load_history(folder)] + evaluation_lines(folder, metrics, new)
    write_whole(folder.history, "".join(line + "\n" for line in lines))


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

"""Reading `results.json` and writing files so that a reader never meets half of one."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from adadpo.errors import ResultsError
from adadpo.files import atomic_write
from analysis.document import SCHEMA_VERSION, Results
from reports.exports import exports_of
from reports.outline import sections_of
from reports.page import render_html


def load_results(path: str | Path) -> Results:
    """Read and check a `results.json`.

    Raises:
        ResultsError: the file is missing, is not JSON, has another schema version or does not fit the schema.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file; the analysis writes it") from None
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        # Not pydantic's own JSON parser: it refuses the lone surrogates that a model's answer can hold.
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ResultsError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        raise ResultsError(f"{path}: not usable JSON: {error}") from None
    if not isinstance(content, dict) or "schema_version" not in content:
        raise ResultsError(f"{path}: not a results file: it has no schema_version")
    version = content["schema_version"]
    if version != SCHEMA_VERSION:
        raise ResultsError(
            f"{path}: schema_version is {version!r}, this version reads {SCHEMA_VERSION}; "
            "run `adadpo report` (of a table: `adadpo compare`) again"
        )
    try:
        return Results.model_validate(content)
    except ValidationError as error:
        raise ResultsError(f"{path}: does not fit the schema of results: {_first_problems(error)}") from None


def _first_problems(error: ValidationError, limit: int = 5) -> str:
    problems = error.errors(include_url=False, include_input=False)
    lines = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems[:limit]]
    more = [f"and {len(problems) - limit} more"] if len(problems) > limit else []
    return "; ".join(lines + more)


def write_report(results: Results, folder: str | Path) -> list[Path]:
    """Write `tables/`, `figures/` and last `report.html` into a folder, each file whole or not at all.

    Equal results give equal bytes.

    Returns:
        The files' paths, the page's first.

    Raises:
        ReportError: a figure cannot be drawn.
        FailureError: a file cannot be written.
    """
    folder, sections, written = Path(folder), sections_of(results), []
    for twin in exports_of(results, sections):
        written.append(folder / twin.path)
        atomic_write(written[-1], twin.make())
    page = folder / "report.html"
    atomic_write(page, render_html(results, sections))
    return [page, *written]

"""Reading `results.json` and writing files so that a reader never meets half of one."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from analysis.results.model import SCHEMA_VERSION, Results
from reports.errors import ReportError
from reports.latex import latex_files
from reports.outline import Section, sections_of
from reports.page import render_html
from reports.render.cells import Column, Link, Shown, Table
from reports.render.csv import CSV_TABLES
from reports.render.pdf import figure_pdf
from reports.svg_files import pictures_in, standalone_svg

# The report's exports: the same numbers and figures as files for a paper or a reader's own analysis.


@dataclass(frozen=True)
class Export:
    """One file: where it lies below the report's folder, what it holds, and how it is made."""

    path: str
    holds: str
    make: Callable[[], str | bytes | Iterable[str]]


def exports_of(results: Results, sections: Sequence[Section]) -> Iterator[Export]:
    """Every file but the page itself; none is made yet.

    Args:
        results: what the files tell.
        sections: of the page about these results, whose figures they are.
    """
    for name, (holds, csv) in CSV_TABLES.items():
        yield Export(f"tables/{name}", holds, partial(csv, results))
    for name, holds, make in latex_files(results, sections):
        yield Export(f"tables/{name}", holds, make)
    for picture in pictures_in(sections):
        yield Export(f"figures/{picture.name}.svg", picture.title, partial(standalone_svg, picture))
        yield Export(f"figures/{picture.name}.pdf", picture.title, partial(figure_pdf, picture))


def files_section(results: Results, sections: Sequence[Section]) -> Section:
    """The page's list of the files that lie beside it."""
    rows: dict[str, list[Shown]] = {}
    for twin in exports_of(results, sections):
        stem = twin.path.rpartition(".")[0] if twin.path.startswith("figures/") else twin.path
        row = rows.setdefault(stem, [twin.holds, Link(twin.path)])
        if row[1] != Link(twin.path):
            row[1] = (row[1], " ", Link(twin.path))
    table = Table(
        "Beside this page, from the same results", [Column("What"), Column("File")], list(rows.values())
    )
    return Section("files", "Files", table, "")


def load_results(path: str | Path) -> Results:
    """Read and check a `results.json`.

    Raises:
        ReportError: the file is missing, is not JSON, has another schema version or does not fit the schema.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ReportError(f"{path}: no such file; the analysis writes it") from None
    except UnicodeDecodeError as error:
        raise ReportError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        # Not pydantic's own JSON parser: it refuses the lone surrogates that a model's answer can hold.
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ReportError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        raise ReportError(f"{path}: not usable JSON: {error}") from None
    if not isinstance(content, dict) or "schema_version" not in content:
        raise ReportError(f"{path}: not a results file: it has no schema_version")
    version = content["schema_version"]
    if version != SCHEMA_VERSION:
        raise ReportError(
            f"{path}: schema_version is {version!r}, this report reads {SCHEMA_VERSION}: analyse again"
        )
    try:
        return Results.model_validate(content)
    except ValidationError as error:
        raise ReportError(f"{path}: does not fit the schema of results: {_first_problems(error)}") from None


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
        ReportError: a file cannot be made or written.
    """
    folder, sections, written = Path(folder), sections_of(results), []
    for twin in exports_of(results, sections):
        written.append(folder / twin.path)
        write_whole(written[-1], twin.make())
    page = folder / "report.html"
    write_whole(page, render_html(results, sections))
    return [page, *written]


def write_whole(path: Path, content: str | bytes | Iterable[str]) -> None:
    """Write a file (text as UTF-8, or its pieces) under a temporary name, then give it its own; folders are made.

    Raises:
        ReportError: the file cannot be written.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                for piece in [content] if isinstance(content, str | bytes) else content:
                    file.write(piece.encode("utf-8") if isinstance(piece, str) else piece)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror}") from error

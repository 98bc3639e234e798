"""The files that go with the page: the same numbers and figures for a paper or a reader's own analysis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from analysis.document import Results
from reports.figure_files import figure_pdf, pictures_in, standalone_svg
from reports.latex import latex_files
from reports.outline import Section
from reports.render.cells import Column, Link, Shown, Table
from reports.render.csv import CSV_TABLES


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
    table = Table("Other files with the same results", [Column("What"), Column("File")], list(rows.values()))
    return Section("files", "Files", table, "")

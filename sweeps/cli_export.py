"""`adadpo export`: the report and its twins in a folder of the user's choice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweeps.errors import FailureError, UserError
from sweeps.store import open_store


def export(
    sweep: Annotated[
        str,
        typer.Argument(
            metavar="SWEEP", help="A sweep file, the name of a launched sweep, or a results.json itself."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to; made when it is not there.")
    ],
    store: Annotated[
        Path | None, typer.Option("--store", help="Root of the store. Default: $ADADPO_STORE, else ./runs.")
    ] = None,
) -> None:
    """Write the report, its tables (CSV, LaTeX) and figures (SVG, PDF) into a folder, from results.json as it is."""
    from reports import ReportError, load_results, write_report
    from reports.files import write_whole
    from sweeps.sweep import open_sweep

    source = Path(sweep).expanduser()
    if source.suffix != ".json":
        opened = open_sweep(sweep, open_store(store))
        source = opened.folder / "results.json"
        if not source.is_file():
            raise UserError(f"{opened.spec.name} has no results yet: adadpo report {sweep} writes them")
    folder = output.expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {output} is a file; name a folder")
    try:
        results = load_results(source)
    except ReportError as error:
        raise UserError(str(error)) from error
    try:
        if source.resolve() != (folder / "results.json").resolve():
            write_whole(folder / "results.json", source.read_bytes())
        files = write_report(results, folder)
    except ReportError as error:
        raise FailureError(str(error)) from error
    typer.echo(f"{results.sweep}: {len(files) + 1} files in {folder}")

"""Verbs about the store's files: `fsck`, `gc`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from adadpo.errors import UserError
from sweeps.cli.shared import JsonOption, RunsArgument, StoreOption, open_launched, print_json, say
from sweeps.store.layout import open_store

if TYPE_CHECKING:
    from sweeps.maintenance.fsck import Verdict
    from sweeps.maintenance.gc_free import Collection
    from sweeps.maintenance.gc_scan import Kind

SHOWN_RUNS = 20


def fsck(
    sweep: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SWEEP]...", help="Sweep files or names. Default: the whole store."),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Restore what follows from other files; move aside what a launch has to redo.",
        ),
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a store: every file parses, hashes match, stages agree. Exit code 1 while damage remains.

    Runs that a worker has are left alone. Nothing is ever deleted: damaged files go to the store's
    `quarantine` folder.
    """
    from sweeps.maintenance.fsck import check_store
    from sweeps.operations.launch import write_everything

    opened = open_store(store)
    opened.require_there()
    if repair:
        opened.require_writable()
    found = check_store(opened, sweep or [], repair=repair)
    quiet = Console(quiet=True)
    for each in found.reports:
        write_everything(each, quiet)
    if as_json:
        print_json(found.as_dict())
    else:
        _show(found, repair=repair)
    if found.remaining:
        raise typer.Exit(1)


def _show(found: Verdict, *, repair: bool) -> None:
    seen = found.checked
    lines = [f"{found.store}: {seen.runs} runs, {seen.stages} stages, {seen.files} files looked at"]
    if seen.unverified:
        lines.append(f"  {seen.unverified} stages are from before hashes were recorded: checked without them")
    if found.in_work:
        lines.append(f"  being worked on, not checked: {', '.join(found.in_work)}")
    for finding in found.findings:
        lines.append(f"  {finding.path.relative_to(found.store)}: {finding.problem}")
        if said := found.repaired.get(finding.path):
            lines.append(f"    -> {said}")
    left = len(found.remaining)
    if not found.findings:
        lines.append("  no corruption found")
    elif left and not repair:
        lines.append(f"  {left} damaged; to repair them: adadpo fsck --repair")
    elif left:
        lines.append(f"  {left} remain that need a person to repair them")
    else:
        lines.append(
            "  repaired; what was moved aside is in the store's quarantine folder. Now: adadpo launch"
        )
    say(*lines)


def gc(
    sweep: Annotated[
        str | None,
        typer.Argument(metavar="[SWEEP]", help="A sweep file or a launched sweep. Default: the whole store."),
    ] = None,
    run: RunsArgument = None,
    weights: Annotated[
        bool,
        typer.Option(
            "--weights",
            help="Also the trained weights of runs whose every evaluation is complete. Another evaluation "
            "then retrains them.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Free without asking.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a store can free, then free it: checkpoints that no run resumes from, leftovers, quarantined pieces.

    Nothing is freed without --yes or an answer. Runs that a worker has, or may have, are left alone, and so are
    files that any sweep in the store still needs.
    """
    from sweeps.maintenance.gc_free import as_dict, find_freeable, free
    from sweeps.maintenance.gc_scan import KINDS

    opened = open_store(store)
    opened.require_there()
    chosen = [kind for kind in KINDS if kind != "weights" or weights]
    found = find_freeable(opened, sweep, run or [])
    if not as_json:
        _show_garbage(found, chosen)
    some = any(item.kind in chosen for item in found.garbage.items)
    if some and not yes and not as_json and sys.stdin.isatty() and typer.confirm("free it?", default=False):
        yes, found = True, find_freeable(opened, sweep, run or [])  # an answer may take its time
    if yes and some:
        opened.require_writable()
        free(found, chosen)
    if as_json:
        print_json(as_dict(found, chosen))
    elif some:
        _show_freed(found, yes=yes)
    if found.failed:
        raise typer.Exit(1)


def _show_garbage(found: Collection, chosen: list[Kind]) -> None:
    from rich.filesize import decimal

    from sweeps.maintenance.gc_free import as_dict
    from sweeps.maintenance.gc_scan import KINDS

    told = as_dict(found, chosen)
    name = "" if found.target is None else f" of {found.target.spec.name}"
    lines = [f"{found.store.root}: {decimal(told['bytes'])}{name} can be freed"]
    for kind, meaning in KINDS.items():
        if kind in told["classes"]:
            only = "" if kind in chosen else "; stays without --weights"
            lines.append(f"  {decimal(told['classes'][kind]):>9}  {kind} ({meaning}{only})")
    largest = sorted(told["runs"].items(), key=lambda each: -sum(each[1].values()))
    for run_id, sizes in largest[:SHOWN_RUNS]:
        said = ", ".join(f"{kind} {decimal(size)}" for kind, size in sizes.items())
        lines.append(f"    {run_id}: {said}")
    if len(largest) > SHOWN_RUNS:
        lines.append(f"    and {len(largest) - SHOWN_RUNS} more runs: --json has all")
    reasons: dict[str, list[str]] = {}
    for path, reason in told["kept"].items():
        reasons.setdefault(reason, []).append(path)
    for reason, paths in reasons.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        lines.append(f"  kept: {paths[0]}{more}: {reason}")
    say(*lines)


def _show_freed(found: Collection, *, yes: bool) -> None:
    from rich.filesize import decimal

    if not yes:
        say("nothing was freed; --yes frees it")
        return
    lines = [f"freed {decimal(sum(found.freed.values()))}"]
    lines += [
        f"  not freed: {path.relative_to(found.store.root)}: {why}" for path, why in found.failed.items()
    ]
    say(*lines)


# `adadpo export`: the report and its twins in a folder of the user's choice.


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
    store: StoreOption = None,
) -> None:
    """Write the report, its tables (CSV, LaTeX) and figures (SVG, PDF) into a folder, from results.json as it is."""
    from adadpo.files import atomic_write
    from reports.files import load_results, write_report

    source = Path(sweep).expanduser()
    if source.suffix != ".json":
        opened = open_launched(sweep, store)
        source = opened.folder / "results.json"
        if not source.is_file():
            raise UserError(f"{opened.spec.name} has no results yet: adadpo report {sweep} writes them")
    folder = output.expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {output} is a file; name a folder")
    results = load_results(source)
    if source.resolve() != (folder / "results.json").resolve():
        atomic_write(folder / "results.json", source.read_bytes())
    files = write_report(results, folder)
    typer.echo(f"{results.sweep}: {len(files) + 1} files in {folder}")

"""Verbs about the store's files: `fsck`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sweeps.cli_runs import JsonOption, StoreOption
from sweeps.store import open_store

if TYPE_CHECKING:
    from sweeps.fsck import Verdict


def fsck(
    sweep: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SWEEP]...", help="Sweep files or names. Default: the whole store."),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Make again what follows from other files; move aside what a launch has to do again.",
        ),
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a store: every file parses, hashes match, stages agree. Exit code 1 while damage remains.

    Runs that somebody works on are left alone. Nothing is ever deleted: what is damaged goes to the store's
    `quarantine` folder.
    """
    from sweeps.fsck import check_store
    from sweeps.launch import write_everything

    opened = open_store(store)
    if repair:
        opened.require_writable()
    found = check_store(opened, sweep or [], repair=repair)
    quiet = Console(quiet=True)
    for each in found.reports:
        write_everything(each, quiet)
    if as_json:
        print(json.dumps(found.as_dict(), indent=1))
    else:
        _show(found, repair=repair)
    if found.remaining:
        raise typer.Exit(1)


def _show(found: Verdict, *, repair: bool) -> None:
    out = Console(soft_wrap=True, emoji=False, highlight=False)
    seen = found.checked
    lines = [f"{found.store}: {seen.runs} runs, {seen.stages} stages, {seen.files} files looked at"]
    if seen.unverified:
        lines.append(f"  {seen.unverified} stages are from before hashes were recorded: checked without them")
    if found.in_work:
        lines.append(f"  in work, not looked at: {', '.join(found.in_work)}")
    for finding in found.findings:
        lines.append(f"  {finding.path.relative_to(found.store)}: {finding.problem}")
        if said := found.mended.get(finding.path):
            lines.append(f"    -> {said}")
    left = len(found.remaining)
    if not found.findings:
        lines.append("  everything is as it was written")
    elif left and not repair:
        lines.append(f"  {left} damaged; mend what can be mended: adadpo fsck --repair")
    elif left:
        lines.append(f"  {left} remain that only a person can mend")
    else:
        lines.append("  mended; what was moved aside is in the store's quarantine folder. Now: adadpo launch")
    for line in lines:
        out.print(line, markup=False)

"""Whether the files of a sweep's own folder are whole; most of them follow from its runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sweeps.declaration import read_declaration
from sweeps.errors import FailureError
from sweeps.identity import digest
from sweeps.run_checks import Finding, json_flaw
from sweeps.seen import kept_at, misremembered
from sweeps.study_storage import in_journal, journal
from sweeps.sweep import Sweep

DERIVED = ("results.json", "launched.json", "stopped.json", "finished.json")  # written again when needed
KEPT = (
    "judgements.json",
    "audit.json",
)  # moved aside: judging and auditing again cost nothing that is kept elsewhere


def check_sweep_files(sweep: Sweep) -> Iterator[Finding]:
    """Everything that is wrong with the folder of a sweep that could be opened."""
    folder = sweep.folder
    for name in (*DERIVED, *KEPT):
        path = folder / name
        if path.exists() and (said := json_flaw(path, list if name == "judgements.json" else dict)):
            yield Finding(path, said, "move")
    judgements = folder / "judgements.json"
    if judgements.exists() and not json_flaw(judgements, list):
        from sweeps.rejudge import known_to

        try:
            known_to(sweep)
        except FailureError:
            yield Finding(judgements, "holds something that is no evaluation", "move")
    derived = [path for kind in ("joint", "prompts", "seen") for path in folder.glob(f"{kind}/*.json")]
    for path in sorted(derived):
        if said := json_flaw(path, dict):
            yield Finding(path, said, "move")
    with suppress(FailureError):  # a run's damaged files are told of themselves
        if wrong := misremembered(sweep):
            said = f"is not what the files of {len(wrong)} runs say, such as {wrong[0]}"
            yield Finding(kept_at(sweep, sweep.eval_id), said, "move")
    results = folder / "results.json"
    if results.exists() and not json_flaw(results, dict):
        from reports import ReportError, load_results

        try:
            load_results(results)
        except (ReportError, ValueError) as error:
            yield Finding(results, f"cannot be read: {str(error).splitlines()[0]}", "move")
    if in_journal(sweep) and (said := _unusable(journal(sweep))):
        yield Finding(journal(sweep), said, "move")
    declared = folder / "declared.json"
    if not declared.exists():
        if (folder / "launched.json").exists():
            yield Finding(declared, "is missing; it says what was declared before the first run", "declare")
        return
    try:
        content = read_declaration(declared)
    except FailureError as error:
        said = str(error).removeprefix(f"{declared} ").partition("; adadpo")[0]
        yield Finding(declared, f"{said}; it says what was declared before the first run", "declare")
        return
    if content["digest"] != digest(content["compare"]):
        yield Finding(declared, "does not match its digest: it was changed after launch", "none")


def _unusable(path: Path) -> str | None:
    """Why a file cannot be written again in its place; what is in it does not matter."""
    if path.exists() and not path.is_file():
        return "is a folder" if path.is_dir() else "is no file"
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return "cannot be read and written by this user"
    return None

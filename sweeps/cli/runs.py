"""Verbs about the runs of a sweep: `status`, `logs`, `why`, `cancel`, `retry`. Runs are named alike in all of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from adadpo.errors import UserError
from analysis.results.values import State
from sweeps.cli.shared import (
    JsonOption,
    RunsArgument,
    StoreOption,
    SweepArgument,
    UntestableOption,
    open_launched,
    out,
    print_json,
    resolve,
    say,
)

if TYPE_CHECKING:
    from sweeps.state.sweep import Sweep
    from sweeps.store.job import PlannedRun

WATCH_SECONDS = 2.0


def status(
    sweep: SweepArgument,
    run: RunsArgument = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Refresh in place until all is over, or Ctrl-C.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a sweep stands: progress and time left, what it cost, failures by cause, mean ± SD per cell."""
    from sweeps.cli.status_screen import status_screen
    from sweeps.operations.status import make_status
    from sweeps.state.run_table import find_runs

    opened = open_launched(sweep, store)
    chosen = find_runs(opened, run) if run else None
    if as_json:
        print_json(make_status(opened, chosen))
        return
    console = Console(emoji=False, highlight=False)
    if not watch:
        console.print(status_screen(make_status(opened, chosen)), soft_wrap=True)
        return
    from rich.live import Live

    found = make_status(opened, chosen)
    with Live(status_screen(found), console=console, auto_refresh=False) as live:
        try:
            while found["counts"].keys() & {"running", "waiting", "unknown"}:
                time.sleep(WATCH_SECONDS)
                found = make_status(opened, chosen)
                live.update(status_screen(found), refresh=True)
        except KeyboardInterrupt:
            return  # looking ends, the sweep goes on


def logs(
    sweep: SweepArgument,
    run: RunsArgument = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print what is added until the run ends, or Ctrl-C.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Print the log of a run (by default of the runs that failed or diverged)."""
    from sweeps.execution.progress import label
    from sweeps.operations.explain import require_one
    from sweeps.operations.status import follow_log
    from sweeps.state.run_table import find_runs

    opened = open_launched(sweep, store)
    if follow:
        one = require_one(opened, run or ["state:running"], "logs -f")
        say(f"== {one.run_id} {label(one)}")
        try:
            for text in follow_log(opened, one):
                print(text, end="", flush=True)
        except KeyboardInterrupt:
            return  # looking ends, the run goes on
        say(f"== {opened.state(one)}")
        return
    chosen = find_runs(opened, run) if run else opened.select(State.FAILED, State.DIVERGED)
    if not chosen:
        say("no run has failed; name one to see its log")
    for one in chosen:
        file = opened.store.run(one.run_id).log
        say(f"== {one.run_id} {label(one)}")
        say(file.read_text(encoding="utf-8", errors="replace") if file.exists() else "(not started)")


def why(
    sweep: SweepArgument, run: RunsArgument = None, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Say everything that is known about a run: state, owner, stages, cause and evidence, what happens next."""
    from sweeps.operations.explain import explain, require_one, why_lines

    opened = open_launched(sweep, store)
    found = explain(opened, require_one(opened, run or [], "why"))
    if as_json:
        print_json(found)
    else:
        say("\n".join(why_lines(found)))


def cancel(sweep: SweepArgument, run: RunsArgument = None, store: StoreOption = None) -> None:
    """Cancel runs: a worker leaves its run at the next step, and no launch starts it until `adadpo retry`."""
    from sweeps.execution.progress import label
    from sweeps.operations.cancel import cancel_runs
    from sweeps.state.run_table import find_runs

    opened = open_launched(sweep, store)
    opened.store.require_writable()
    with out.status("waiting for workers to leave"):
        found = cancel_runs(opened, find_runs(opened, run or []))
    say(
        f"{opened.spec.name}: {len(found.cancelled_ids)} runs cancelled; they stay so until: "
        + _again(opened)
    )
    if found.jobs:
        say(f"  Slurm jobs cancelled: {', '.join(found.jobs)}")
    for one in found.still_running:
        say(f"  still running, leaves at its next step: {one.run_id[:8]} {label(one)}")
    for one in found.elsewhere:
        say(f"  goes on for another sweep that shares it: {one.run_id[:8]} {label(one)}")


def _again(opened: Sweep) -> str:
    return f"adadpo retry {opened.spec.name} state:cancelled"


def retry(
    sweep: SweepArgument,
    run: RunsArgument = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only failed runs, not diverged ones.")] = False,
    cause: Annotated[
        str | None,
        typer.Option("--cause", metavar="NAME", help="Only runs that failed by it: oom, bug, node, ..."),
    ] = None,
    store: StoreOption = None,
    allow_untestable: UntestableOption = False,
) -> None:
    """Try failed and diverged runs again (all of them, or the named ones), then go on as launch does.

    A cancelled run, and one whose owner on another machine is silent, is tried again when it is named.
    """
    from sweeps.operations.launch import launch_sweep
    from sweeps.operations.plan import require_testable

    opened = open_launched(sweep, store)
    words = [*(run or []), *([f"cause:{cause}"] if cause else []), *(["state:failed"] if failed else [])]
    chosen = _to_retry(opened, words, named=bool(run))
    if not chosen:
        raise UserError(f"nothing to retry in {opened.spec.name}: no such run has failed or diverged")
    resolved = resolve(sweep, store)  # from here on, it is a launch
    require_testable(resolved, allow=allow_untestable)
    for one in chosen:
        allow_again(opened, one)
    launch_sweep(resolved, out)


def _to_retry(opened: Sweep, words: list[str], *, named: bool) -> list[PlannedRun]:
    from sweeps.state.run_table import find_runs

    states = opened.states()
    # A silent owner is only overruled, and a person's cancelling undone, when the user names the run.
    wanted = ("failed", "diverged", *(("unknown", "cancelled") if named else ()))
    try:
        found = find_runs(opened, words)
    except UserError as error:
        if str(error).startswith("no run of") and not named:
            return []
        raise
    return [one for one in found if states[one.run_id] in wanted]


def allow_again(opened: Sweep, run: PlannedRun) -> None:
    """Forget why a run is not waiting and reset its count of retries. A worker that has it continues."""
    from sweeps.failures.attempts import note_attempt
    from sweeps.store.lease import holder_state

    folder = opened.store.run(run.run_id)
    with folder.lease.looking():
        if holder_state(folder.lease) != "alive":  # else another retry was faster
            if folder.failure.exists():
                note_attempt(folder, None)
            folder.clear_failure()
            folder.lease.release()
    opened.control.allow(run.run_id)

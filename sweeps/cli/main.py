"""The command line. Exit codes: 0 done, 1 something failed, 2 bad input, 130 interrupted."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from adadpo.errors import AdaDPOError, UserError
from analysis.results.values import State
from sweeps.cli import audit, judge, runs, score
from sweeps.cli import store as stores
from sweeps.cli.shared import (
    JsonOption,
    StoreOption,
    SweepArgument,
    UntestableOption,
    err,
    open_launched,
    out,
    print_json,
    resolve,
    say,
)
from sweeps.execution.gpu_packing import wait_briefly
from sweeps.store.layout import open_store
from sweeps.store.signals import interrupt

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"adadpo {version('adadpo')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Seeds x beta x learning-rate sweeps of DPO and AdaDPO, with evidence a referee accepts."""


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("sweep.yaml"),
) -> None:
    """Write a commented sweep file to start from."""
    from adadpo.files import atomic_write

    if path.exists():
        raise UserError(f"{path} exists already; give another name")
    atomic_write(path, (Path(__file__).parents[1] / "configs" / "template.yaml").read_text(encoding="utf-8"))
    say(f"wrote {path}; next: adadpo check {path}, then adadpo launch {path}")


@app.command()
def check(sweep: SweepArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Check a sweep file and everything it refers to, without spending anything."""
    from sweeps.config.expand import check_pairs
    from sweeps.state.opening import drift, resolve_sweep

    opened = resolve_sweep(sweep, open_store(store))
    changes = drift(opened)
    pairs = check_pairs(opened.job)
    found = {
        "sweep": opened.spec.name,
        "runs": len(opened.job.runs),
        "data": {
            name: {"pairs": len(p.pairs), "skipped": [vars(row) for row in p.bad_rows]}
            for name, p in pairs.items()
        },
        "drift": changes,
    }
    if as_json:
        print_json(found)
        return
    say(f"{sweep}: fine. {len(opened.job.runs)} runs of {', '.join(opened.spec.arms)}")
    for name, read in pairs.items():
        skipped = f", {len(read.bad_rows)} rows skipped" if read.bad_rows else ""
        say(f"  {name}: {len(read.pairs)} pairs{skipped}")
        for row in read.bad_rows[:10]:
            say(f"    row {row.number}: {row.reason}")
    for change in changes:
        say(f"  {change}")


@app.command()
def plan(
    sweep: SweepArgument,
    sds_from: Annotated[
        str | None,
        typer.Option("--sds-from", metavar="SWEEP", help="Power by the SDs of this sweep's finished runs."),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a launch would do, cost and be able to show."""
    from sweeps.operations.plan import make_plan, plan_lines
    from sweeps.state.opening import open_sweep, resolve_sweep

    other = None if sds_from is None else open_sweep(sds_from, open_store(store))
    made = make_plan(resolve_sweep(sweep, open_store(store)), other)
    if as_json:
        print_json(made)
    else:
        say("\n".join(plan_lines(made)))


@app.command()
def launch(
    sweep: SweepArgument,
    store: StoreOption = None,
    allow_untestable: UntestableOption = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Slurm: show progress until all have ended; Ctrl-C detaches.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Slurm: print the batch scripts and commands, and do nothing.")
    ] = False,
) -> None:
    """Run what is missing, then write the report. The same command continues after any interruption."""
    from sweeps.operations.launch import launch_sweep, show_dry_run
    from sweeps.operations.plan import require_testable

    opened = resolve(sweep, store)
    if dry_run:
        say(show_dry_run(opened))
        return
    # Where nothing is left to run, the report costs nothing and says the same.
    is_done = not opened.select(State.WAITING) and not opened.is_asking
    require_testable(opened, allow=allow_untestable or is_done)
    launch_sweep(opened, out, follow=follow)


@app.command()
def extend(
    sweep: SweepArgument,
    seeds: Annotated[str, typer.Option("--seeds", help="+3 (the next three), 5, 3,4 or 3..5.")],
    store: StoreOption = None,
    allow_untestable: UntestableOption = False,
) -> None:
    """Add seeds to a sweep and run only those; the report widens."""
    from sweeps.operations.launch import launch_sweep
    from sweeps.operations.plan import require_testable
    from sweeps.state.opening import extend_seeds

    opened = resolve(sweep, store)
    require_testable(opened, allow=allow_untestable)  # more seeds do not help there
    opened.store.require_writable()
    opened, new = extend_seeds(opened, seeds)
    say(f"{opened.spec.name}: seeds {', '.join(map(str, new))} added")
    launch_sweep(opened, out)


@app.command()
def report(sweep: SweepArgument, store: StoreOption = None) -> None:
    """Write results.json, report.html and the tables from the files as they are."""
    from sweeps.operations.launch import write_everything

    write_everything(open_launched(sweep, store), out)


@app.command()
def dashboard(
    sweep: SweepArgument,
    store: StoreOption = None,
    port: Annotated[int, typer.Option(help="On this machine only.", min=0, max=65535)] = 8080,
) -> None:
    """Open the sweep's Optuna study in optuna-dashboard, on loopback."""
    from sweeps.search.study import mirror
    from sweeps.search.study_storage import open_storage

    opened = open_launched(sweep, store)
    try:
        from optuna_dashboard import run_server
    except ImportError as error:
        raise UserError("optuna-dashboard is not installed: pip install 'adadpo[dashboard]'") from error
    mirror(opened)
    say(f"http://127.0.0.1:{port}/  (Ctrl-C ends it)")
    for number in (signal.SIGINT, signal.SIGTERM):
        # An exception would be swallowed, with a traceback, by a request that is being answered.
        signal.signal(number, lambda *_: os._exit(130))
    run_server(open_storage(opened), host="127.0.0.1", port=port)


VERBS: tuple[Callable[..., None], ...] = (runs.status, runs.logs, runs.why, runs.cancel, runs.retry)
VERBS += (
    stores.fsck,
    stores.gc,
    judge.judge,
    judge.assets,
    audit.audit,
    stores.export,
    score.score,
    score.compare,
)
for verb in VERBS:
    app.command()(verb)


def main() -> None:
    """Run a command; an error of the project is one message, without a traceback."""
    # A polite kill leaves as Ctrl-C does: leases released, nothing half-written.
    signal.signal(signal.SIGTERM, interrupt)
    wait_briefly()  # workers inherit it
    # A large sweep is a million objects that live to the end; to look at them again and again is a fifth of `status`.
    gc.set_threshold(100_000, 50, 50)
    try:
        app(standalone_mode=True)
    except AdaDPOError as error:
        err.print(f"adadpo: {error}", markup=False, highlight=False)
        sys.exit(error.exit_code)
    except SystemExit as leaving:  # typer turns Ctrl-C into 130 without a word
        if leaving.code == 130:
            err.print("adadpo: interrupted; the same command continues where it was", highlight=False)
        raise
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        err.print(f"adadpo: {error.strerror or error}{place}", markup=False, highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Launching a sweep: what is missing runs, then study, results and report are brought up to date."""

from __future__ import annotations

from contextlib import nullcontext

from filelock import FileLock
from rich.console import Console
from rich.markup import escape

from adadpo.data.pairs import hub_rows
from adadpo.errors import DataError, FailureError, ModelError, UserError
from adadpo.models.load import fetch_model, resolve_model
from analysis.results.values import State
from sweeps.config.launch import Local, Slurm
from sweeps.evaluation.preflight import (
    require_evaluation,
    require_path,
    require_strategy,
    require_training_packages,
)
from sweeps.execution.retraining import retraining_lines
from sweeps.operations.disk import disk_lines, disk_use
from sweeps.operations.on_finish import ending_told
from sweeps.operations.plan import next_step_lines
from sweeps.search.loop import advance, search_lines
from sweeps.state.judgements import record_evaluation
from sweeps.state.opening import record
from sweeps.state.sweep import Sweep
from sweeps.store.job import PlannedRun


def launch_sweep(sweep: Sweep, console: Console, *, follow: bool = False) -> None:
    """Run what is missing by the sweep's executor.

    Args:
        sweep: what to run.
        console: for progress and the verdict.
        follow: jobs on Slurm until they have ended; without it, they are left to Slurm.

    Raises:
        SweepError: the store cannot be written, the model cannot be had, or something stopped every run.
        FailureError: after the report is written, when runs failed.
    """
    require_path(sweep.store.root, sweep.spec.launch)
    sweep.store.require_writable()
    sweep = advance(record(sweep))
    sweep.begin(sweep.job.runs)
    if sweep.job.evaluation.judge is not None:
        record_evaluation(sweep, sweep.job.evaluation)
    counts = sweep.counts()
    runs = sweep.select(State.WAITING)
    elsewhere = counts[State.RUNNING] + counts[State.UNKNOWN]
    console.print(
        f"{sweep.spec.name}: {len(sweep.job.runs)} runs, {counts['done']} done, {len(runs)} to do"
        + (f", {elsewhere} running elsewhere (see adadpo status)" if elsewhere else ""),
        highlight=False,
    )
    for line in retraining_lines({run.run_id: sweep.store.run(run.run_id) for run in runs}):
        console.print(line, markup=False, highlight=False)
    disk = disk_use(sweep, runs)
    for line in disk_lines(disk) if disk is not None and disk["fits"] is False else ():
        console.print(line.strip(), markup=False, highlight=False)
    if isinstance(sweep.spec.launch, Slurm) and (runs or elsewhere):
        if runs:
            _prepare(sweep, console)
        _submit(sweep, sweep.spec.launch, console)
        if follow:
            from sweeps.dispatch.slurm import follow_slurm

            follow_slurm(sweep, console)
        return
    with ending_told(sweep, console):
        if runs:
            _prepare(sweep, console)
            _dispatch(sweep, runs, console)
            sweep = _go_on(sweep, runs, console)
        write_everything(sweep, console)
        counts = sweep.counts()
        if counts[State.FAILED]:
            raise FailureError(
                f"{counts['failed']} runs failed: see adadpo logs {sweep.spec.name}, "
                f"try them again by adadpo retry {sweep.spec.name}"
            )


def _go_on(sweep: Sweep, launched: list[PlannedRun], console: Console) -> Sweep:
    """Run what a search asks for next, until it asks for nothing more."""
    while (sweep := advance(sweep)) and (runs := sweep.select(State.WAITING)) and runs != launched:
        for line in search_lines(sweep):
            console.print(line.strip(), markup=False, highlight=False)
        sweep.begin(runs)
        _dispatch(sweep, runs, console)
        launched = runs
    return sweep


def write_everything(sweep: Sweep, console: Console) -> None:
    """Mirror the study, analyse, write the report; say the verdict and where it is.

    Raises:
        FailureError: a run's files cannot be used; or, after the report is written, the study's database failed.
    """
    from adadpo.errors import ReportError
    from sweeps.operations.report import write_results
    from sweeps.search.study import mirror

    sweep.store.require_writable()
    unmirrored = None
    try:
        mirror(sweep)
    except FailureError as error:  # the files are the truth: the report does not wait for a database
        unmirrored = error
    try:
        results, page = write_results(sweep)
    except ReportError as error:
        raise FailureError(str(error)) from error
    console.print(results.verdict, markup=False, highlight=False)
    for arm in results.other_arms:
        if arm.verdict is not None:
            console.print(arm.verdict, markup=False, highlight=False)
    if quarantined := results.counts.get(State.QUARANTINED):
        said = f"quarantined, not counted: {quarantined} of {len(results.runs)} runs"
        console.print(f"{said}; adadpo status {sweep.spec.name} says why", markup=False, highlight=False)
    for line in next_step_lines(results.next_steps):
        console.print(line.strip(), markup=False, highlight=False)
    console.print(f"report: {page}", markup=False, highlight=False)
    if unmirrored is not None:
        raise unmirrored


def _prepare(sweep: Sweep, console: Console) -> None:
    """Fetch what every run needs before any starts, so that what is missing costs nothing."""
    require_training_packages()
    require_strategy(sweep.job.processes, sweep.job.strategy)
    require_evaluation(sweep.job.evaluation, console)
    source = resolve_model(sweep.job.model)
    try:
        with console.status(f"preparing {escape(source.name)} (downloads once)"):
            fetch_model(source)
        for data in (sweep.job.train, sweep.job.heldout):
            if data is not None and data.kind == "hub":
                with console.status(f"fetching {escape(data.name)} (once)"):
                    hub_rows(data.open())
    except (ModelError, DataError) as error:
        raise FailureError(str(error)) from error


def finish_sweep(sweep: Sweep, console: Console) -> None:
    """The last job of a sweep on Slurm: have lost runs and a search go on, write the report; once at a time."""
    from sweeps.dispatch.job_outcomes import note_losses

    with FileLock(sweep.folder / "finish.lock"):
        lost = note_losses(sweep)
        later, refused = advance(sweep), None
        asks = later.asked != sweep.asked
        if lost:
            console.print(f"{lost} runs were lost with their jobs and are tried again", highlight=False)
        tries = bool(lost) and later.control.stopped() is None
        goes_on = (asks or tries) and bool(later.select(State.WAITING))
        if goes_on and isinstance(later.spec.launch, Slurm):
            if asks:
                later.begin(later.job.runs)
            try:
                _submit(later, later.spec.launch, console)
            except FailureError as error:  # on some clusters nodes may not submit jobs
                refused = FailureError(f"{error}; the sweep goes on by: adadpo launch {sweep.spec.name}")
        with nullcontext() if goes_on and refused is None else ending_told(later, console):
            write_everything(later, console)
            if refused is not None:
                raise refused


def show_dry_run(sweep: Sweep) -> str:
    """The scripts and commands of a launch now.

    Raises:
        UserError: the sweep does not run on Slurm.
    """
    from sweeps.dispatch.slurm import dry_run

    launch = sweep.spec.launch
    if not isinstance(launch, Slurm):
        raise UserError(
            f"--dry-run prints what goes to Slurm; launch.executor is {launch.executor}: see adadpo plan"
        )
    require_path(sweep.store.root, launch)
    return dry_run(sweep, launch) or "nothing to submit: every run is done, failed or queued"


def _submit(sweep: Sweep, launch: Slurm, console: Console) -> None:
    from sweeps.dispatch.slurm import launch_slurm

    ids = launch_slurm(sweep, launch)
    said = f"submitted {len(ids)} jobs: {', '.join(ids)}" if ids else "every run is queued already"
    name = sweep.spec.name
    said += f"; follow: adadpo status {name}; the last job writes the report"
    console.print(said, markup=False, highlight=False)


def _dispatch(sweep: Sweep, runs: list[PlannedRun], console: Console) -> None:
    if isinstance(sweep.spec.launch, Local):
        from sweeps.dispatch.local import launch_local

        launch_local(sweep, runs, sweep.spec.launch, console)
    else:
        from sweeps.dispatch.local import launch_inline

        launch_inline(sweep, runs, console)

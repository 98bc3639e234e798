"""Launching a sweep: what is missing runs, then study, results and report are brought up to date."""

from __future__ import annotations

from importlib.util import find_spec

from rich.console import Console
from rich.markup import escape

from adadpo.models import ModelError, prepare_model, resolve_model
from analysis.judges import JudgeError
from sweeps.errors import FailureError, UserError
from sweeps.evaluation import asset, open_judge
from sweeps.plan import smallest_p
from sweeps.spec import Local, Slurm
from sweeps.sweep import Sweep


def launch_sweep(sweep: Sweep, console: Console) -> None:
    """Run what is missing by the sweep's executor.

    Raises:
        SweepError: the store cannot be written, the model cannot be had, or something stopped every run.
        FailureError: after the report is written, when runs failed.
    """
    sweep.store.require_writable()
    sweep.record()
    counts = sweep.counts()
    runs = sweep.select("waiting")
    elsewhere = counts["running"] + counts["unknown"]
    console.print(
        f"{sweep.spec.name}: {len(sweep.job.runs)} runs, {counts['done']} done, {len(runs)} to do"
        + (f", {elsewhere} in work elsewhere (see adadpo status)" if elsewhere else ""),
        highlight=False,
    )
    compare = sweep.spec.compare
    if smallest_p(len(sweep.settings), compare.alternative) > compare.alpha:
        console.print(
            f"  this design cannot reach alpha {compare.alpha:g} over {len(sweep.settings)} settings"
        )
    if runs:
        _prepare(sweep, console)
        _dispatch(sweep, console)
        if isinstance(sweep.spec.launch, Slurm):
            return
    write_everything(sweep, console)
    counts = sweep.counts()
    if counts["failed"]:
        raise FailureError(
            f"{counts['failed']} runs failed: see adadpo logs {sweep.spec.name}, "
            f"try them again by adadpo retry {sweep.spec.name}"
        )


def write_everything(sweep: Sweep, console: Console) -> None:
    """Mirror the study, analyse, write the report; say the verdict and where it is."""
    from reports import ReportError, load_results
    from sweeps.collect import write_results
    from sweeps.study import mirror

    sweep.store.require_writable()
    mirror(sweep)
    try:
        page = write_results(sweep)
    except ReportError as error:
        raise FailureError(str(error)) from error
    console.print(load_results(page.with_name("results.json")).verdict, markup=False, highlight=False)
    console.print(f"report: {page}", markup=False, highlight=False)


TRAINING_PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "peft", "safetensors")


def _prepare(sweep: Sweep, console: Console) -> None:
    """Fetch and convert the model before any run starts, so that a missing one costs nothing."""
    missing = [name for name in TRAINING_PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"training needs {', '.join(missing)}: pip install 'adadpo[train]'")
    source = resolve_model(sweep.job.model)
    try:
        with console.status(f"preparing {escape(source.name)} (downloads once)"):
            prepare_model(source)
    except ModelError as error:
        raise FailureError(str(error)) from error
    for name in sweep.job.evaluation.needs_assets:
        with console.status(f"fetching AlpacaEval's {escape(name)} (once)"):
            asset(name)
    try:
        open_judge(sweep.job.evaluation, sweep.spec.name)
    except JudgeError as error:
        raise UserError(f"evaluate.judge: {error}") from error


def _dispatch(sweep: Sweep, console: Console) -> None:
    launch, runs = sweep.spec.launch, sweep.select("waiting")
    if isinstance(launch, Slurm):
        from sweeps.dispatch.jobs import launch_slurm

        jobs = launch_slurm(sweep, runs, launch)
        said = f"submitted {len(jobs)} jobs ({jobs[0]} ...)" if jobs else "every run is queued already"
        console.print(
            f"{said}; follow: adadpo status {sweep.spec.name}; then: adadpo report {sweep.spec.name}"
        )
    elif isinstance(launch, Local):
        from sweeps.dispatch.jobs import launch_local

        launch_local(sweep, runs, launch, console)
    else:
        from sweeps.dispatch.inline import launch_inline

        launch_inline(sweep, runs, console)

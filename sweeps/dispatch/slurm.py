"""Launching on Slurm: what is missing as job arrays, submitted at once and then left to Slurm.

Nothing here has to live on for the jobs to end well: each job is told by its batch script's path what it has to do,
which `work.json` beside the script says; leases decide who does a run; a last job writes the report. So a launcher
may be killed at any moment: the next one asks squeue what there is and submits the rest.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.console import Console

from adadpo.errors import FailureError, UserError
from adadpo.files import atomic_write
from analysis.results.values import State
from sweeps.config.launch import Slurm
from sweeps.dispatch.local import follow_files
from sweeps.dispatch.side_by_side import SHIELD
from sweeps.dispatch.submission import (
    FINISH,
    Part,
    Submission,
    next_folder,
    parts_to_submit,
    queue_of,
    states_in_queue,
)
from sweeps.execution.progress import SweepProgress
from sweeps.failures.causes import retries_of
from sweeps.state.sweep import Sweep
from sweeps.store.layout import write_json

DEFAULT_ARRAY_SIZE = 1001  # Slurm's own default of MaxArraySize
SUBMIT_SECONDS = 300  # sbatch waits by itself while the controller is busy or full
ARRAY_PARALLELISM = 256  # submitit's default
# What only training needs: judging and the report are work for a CPU.
FOR_GPUS = (
    "gpus_per_node",
    "gpus_per_task",
    "num_gpus",
    "gres",
    "mem_per_gpu",
    "cpus_per_gpu",
    "constraint",
    "exclusive",
)
# One of a run's processes was killed, and srun ended the others: what they had goes on in another start of the job. The
# run's attempts are counted by its leases; the limit here is for jobs that die before they take one. So does the last
# job, after which nobody comes. scancel ends the batch script too, so that this does not come after it.
AFTER_KILLED = """\
case $code in 137|143)
  if [ "${SLURM_RESTART_COUNT:-0}" -lt %d ]; then scontrol requeue "$SLURM_JOB_ID"; fi
esac
exit $code"""
LIMITS = ("MaxSubmit", "submit limit", "QOSMaxSubmitJobPerUserLimit", "AssocMaxSubmitJobLimit")


@dataclass(frozen=True)
class Batch:
    """One call of sbatch.

    Attributes:
        name: of the script, without its suffix.
        script: its text.
        after: what it waits for: (kind of dependency, name of an earlier batch or a job id).
        besides: the user's own dependency, as sbatch takes it.
    """

    name: str
    script: str
    after: tuple[tuple[str, str], ...] = ()
    besides: str | None = None

    def command(self, folder: Path, ids: dict[str, str]) -> list[str]:
        """The call; a batch in `ids` is known by its job id, else by its name in brackets."""
        waits: dict[str, list[str]] = {}
        for kind, name in self.after:
            waits.setdefault(kind, []).append(ids.get(name, name if name.isdigit() else f"<{name}>"))
        conditions = [":".join([kind, *names]) for kind, names in waits.items()]
        told = ",".join([*conditions, self.besides] if self.besides else conditions)
        # Without kill-on-invalid-dep a job whose condition can never come true would be pending for ever.
        options = [f"--dependency={told}", "--kill-on-invalid-dep=yes"] if told else []
        return ["sbatch", "--parsable", *options, str(folder / f"{self.name}.sh")]


def launch_slurm(sweep: Sweep, launch: Slurm) -> list[str]:
    """Submit what is missing and not queued; returns the ids of the arrays, and of the job that writes the report.

    Raises:
        FailureError: there is no Slurm here, or it refuses.
    """
    sweep.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(
        sweep.folder / "launch.lock"
    ):  # two launchers: the second one sees what the first one submitted
        queue = queue_of(sweep, shared=False)
        submission = _submission(sweep, launch, queue)
        if submission is None:
            return []
        folder = next_folder(sweep)
        batches = list(_batches(sweep, launch, submission, folder, max_array_size()))
        write_json(folder / "work.json", submission.model_dump(mode="json"))
        (folder / "logs").mkdir()
        for batch in batches:
            atomic_write(folder / f"{batch.name}.sh", batch.script)
        ids: dict[str, str] = {}
        for batch in batches:
            ids[batch.name] = _sbatch(batch.command(folder, ids), len(ids), len(batches))
            write_json(folder / "submitted.json", ids)  # by which `ended` asks how a job ended
        _take_back([queued.job.job_id for queued in queue if not queued.stages])
        return list(ids.values())


def dry_run(sweep: Sweep, launch: Slurm, *, ask: bool = True) -> str:
    """Exactly what `launch_slurm` would submit now, and by which commands; nothing is written.

    Args:
        sweep: whose.
        launch: the parameters.
        ask: Slurm, for what is queued and how long an array may be; False: nothing and its default.

    Raises:
        UserError: submitit refuses a parameter.
    """
    submission = _submission(sweep, launch, queue_of(sweep) if ask else [])
    if submission is None:
        return ""
    folder = next_folder(sweep)
    size = max_array_size() if ask else DEFAULT_ARRAY_SIZE
    shown = [
        f"# {folder / batch.name}.sh\n{batch.script.strip()}\n\n$ {shlex.join(batch.command(folder, {}))}\n"
        for batch in _batches(sweep, launch, submission, folder, size)
    ]
    return "\n".join(shown)


def slurm_executor(parameters: dict[str, Any], folder: Path) -> Any:
    """Submitit's executor, which checks parameters and renders batch scripts; it submits nothing here.

    Its own way to submit is not used: it renames what a job reads only after sbatch, so that a launcher killed in
    between leaves jobs that cannot run, and it learns how jobs ended from sacct alone, which many clusters lack.

    Raises:
        UserError: submitit refuses a parameter.
    """
    from submitit import SlurmExecutor

    class Renderer(SlurmExecutor):
        @classmethod
        def affinity(cls) -> int:
            return 1  # submitit would look for srun: planning happens on laptops too

    executor = Renderer(folder=folder)
    try:
        common = executor._equivalence_dict()  # submitit's names for every kind of cluster, such as mem_gb
        own = {key: value for key, value in parameters.items() if key not in common}
        shared = executor._convert_parameters({key: parameters[key] for key in parameters if key in common})
        executor.update_parameters(**(shared | own))
    except (ValueError, TypeError, NameError, AssertionError) as error:
        raise UserError(f"launch: submitit refuses these Slurm parameters: {error}") from error
    return executor


def max_array_size() -> int:
    """How many elements an array of this cluster may have.

    Raises:
        FailureError: Slurm does not answer.
    """
    answer = _slurm(["scontrol", "show", "config"], 60)
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer, re.MULTILINE)
    return int(found[1]) if found else DEFAULT_ARRAY_SIZE


def _submission(sweep: Sweep, launch: Slurm, queue: list[Any]) -> Submission | None:
    parts = parts_to_submit(
        sweep,
        queue,
        split=launch.judge is not None,
        runs_per_job=launch.runs_of_a_job,
        runs_per_gpu=launch.runs_per_gpu,
    )
    arrays = {queued.job.label.partition("_")[0] for queued in queue if queued.stages}
    if not parts and (not arrays or any(not queued.stages for queued in queue)):
        return None
    wanted = {run_id for part in parts.values() for element in part.elements for run_id in element}
    job = sweep.job.model_copy(update={"runs": [run for run in sweep.job.runs if run.run_id in wanted]})
    # Once nothing of the sweep is queued any more, however it ended, one job writes the report.
    finish = Part(stages=[], elements=[[]], after=tuple(sorted(arrays)))
    return Submission(job=job, parts={**parts, FINISH: finish})


def _batches(sweep: Sweep, launch: Slurm, submission: Submission, folder: Path, size: int) -> Iterator[Batch]:
    """The arrays of every part, none longer than `size`, and the last job."""
    arrays: list[str] = []
    for name, part in submission.parts.items():
        parameters = _parameters(sweep, launch, name)
        if name == FINISH:
            after = tuple(("afterany", array) for array in (*part.after, *arrays))
            yield Batch(FINISH, _script(launch, parameters, folder, FINISH, 0, None), after)
            continue
        starts = list(range(0, len(part.elements), size))
        allowed = int(parameters.pop("array_parallelism", ARRAY_PARALLELISM))
        # Arrays side by side share what may run at once; where that is less than one each, they follow one another.
        lanes = min(allowed, len(starts))
        given = parameters.pop("dependency", None)
        for number, start in enumerate(starts):
            lane = number % lanes
            waits = (
                [("aftercorr", f"{part.like}-{start}")]
                if part.like
                else [("afterany", a) for a in part.after]
            )
            if number >= lanes:
                waits.append(("afterany", f"{name}-{starts[number - lanes]}"))
            own = parameters | {"array_parallelism": allowed // lanes + (lane < allowed % lanes)}
            count = min(size, len(part.elements) - start)
            yield Batch(
                f"{name}-{start}", _script(launch, own, folder, name, start, count), tuple(waits), given
            )
            arrays.append(f"{name}-{start}")


def _parameters(sweep: Sweep, launch: Slurm, part: str) -> dict[str, Any]:
    """What submitit gets for a part's jobs."""
    parameters = {"job_name": f"adadpo-{sweep.spec.name}", **launch.parameters()}
    if part in ("run", "train"):
        if sweep.spec.processes > 1:  # a run whose other processes are gone cannot go on
            parameters["srun_args"] = [*(parameters.get("srun_args") or []), "--kill-on-bad-exit=1"]
            _start_again_when_killed(parameters, launch)
        return parameters
    for key in (*FOR_GPUS, "dependency"):
        parameters.pop(key, None)
    parameters |= {"nodes": 1, "tasks_per_node": 1, **(launch.judge or {})}
    if part == FINISH:
        _start_again_when_killed(parameters, launch)
    return parameters


def _start_again_when_killed(parameters: dict[str, Any], launch: Slurm) -> None:
    after = AFTER_KILLED % retries_of("node", launch.retries)
    parameters["teardown"] = ["code=$?", *(parameters.get("teardown") or []), after]


def _script(
    launch: Slurm, parameters: dict[str, Any], folder: Path, part: str, first: int, count: int | None
) -> str:
    extra = parameters.get("additional_parameters", {})
    if isinstance(extra, dict) and not {"requeue", "no-requeue", "no_requeue"} & {*extra}:
        # A preempted job, and one whose node failed, goes on elsewhere; not every cluster requeues by itself.
        parameters = {**parameters, "additional_parameters": {"requeue": True, **extra}}
    executor = slurm_executor(parameters, folder / "logs")
    if count is not None:
        executor.parameters["map_count"] = count
    executor.parameters.setdefault("time", None)  # the partition's own limit; submitit's would be 5 minutes
    python = [*launch.python_command, "-P", "-u", "-m"]
    worker = [*python, "sweeps.dispatch.worker", str(folder), part, str(first)]
    if part == FINISH:
        worker = [*python, "sweeps.operations.finish_job", str(folder)]
    return str(executor._make_submission_file_text(shlex.join([*SHIELD, *worker]), part))


def _sbatch(command: list[str], taken: int, of: int) -> str:
    """Submit one batch; returns its job id."""
    try:
        return _slurm(command, SUBMIT_SECONDS).strip().partition(";")[0]
    except FailureError as error:
        said = f"Slurm did not take the jobs: {error}" if not taken else (
            f"Slurm took {taken} of {of} submissions and not the rest: {error}; what it took goes on, "
            "the same command submits the rest"
        )  # fmt: skip
        if any(limit.lower() in str(error).lower() for limit in LIMITS):
            said += (
                ". It is the limit on queued jobs of your account: launch again when some have ended, or put "
            )
            said += "more runs into each job by launch.runs_per_job"
        raise FailureError(said) from error


def _take_back(finishing: list[str]) -> None:
    """Pending jobs that were to write the report: the new one comes after everything that they waited for."""
    if finishing:
        with suppress(FailureError):  # a report written twice is as good
            _slurm(["scancel", "--state=PENDING", *finishing], 60)


def _slurm(command: list[str], seconds: int) -> str:
    # In a job, sbatch would take that job's own resources for options of the new one.
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SLURM") or k == "SLURM_CONF"}
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False, env=environ
        )
    except FileNotFoundError as error:
        raise FailureError(f"there is no {command[0]} on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise FailureError(f"{command[0]} did not answer within {seconds} s") from error
    if answer.returncode != 0:
        lines = [line for line in answer.stderr.splitlines() if line.strip()] or ["no message"]
        raise FailureError("; ".join(line.removeprefix(f"{command[0]}: ") for line in lines[-2:]))
    return answer.stdout


# Following a sweep's jobs on Slurm from outside: what is shown here nobody waits for.

POLL_SECONDS = 2.0


def follow_slurm(sweep: Sweep, console: Console) -> None:
    """Show progress until no job of the sweep is left; Ctrl-C leaves the jobs alone."""
    runs = sweep.select(State.WAITING, State.RUNNING, State.UNKNOWN)
    ended: set[str] = set()
    try:
        with SweepProgress(console, len(sweep.job.runs), len(sweep.job.runs) - len(runs)) as progress:
            while True:
                try:
                    queue = queue_of(sweep)
                except FailureError:
                    queue = None  # a controller that is restarted: the files go on telling
                follow_files(sweep, runs, ended, progress)
                if queue is not None:
                    if not queue:
                        break
                    waiting = Counter(states_in_queue(queue).values())["queued"]
                    progress.note(f"{waiting} queued" if waiting else "")
                time.sleep(POLL_SECONDS)
            follow_files(sweep, runs, ended, progress)
    except KeyboardInterrupt:
        name = sweep.spec.name
        console.print(
            f"detached; the jobs go on. adadpo status {name} shows them, adadpo cancel {name} ends them"
        )
        return
    console.print(f"report: {sweep.folder / 'report.html'}", markup=False, highlight=False)

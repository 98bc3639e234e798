"""What is submitted to Slurm at once: written down before it is, so that jobs can be told by their batch script's path.

sweeps/<name>/jobs/slurm-001/   work.json (what each job does), train-0.sh, judge-0.sh, finish.sh, logs/
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from adadpo.errors import FailureError
from analysis.results.values import State
from sweeps.state.sweep import Sweep
from sweeps.store.job import Fixed, Job
from sweeps.store.layout import STAGES, read_json
from sweeps.store.slurm_queue import SlurmJob, slurm_jobs

FINISH = "finish"


class Part(Fixed):
    """An array of jobs that do the same stages."""

    stages: list[str]
    elements: list[list[str]]  # run ids of each job
    like: str | None = None  # element by element after this part
    after: tuple[str, ...] = ()  # job ids after which it begins
    runs_per_gpu: int = 1  # of a job's runs at a time


class Submission(Fixed):
    """What `work.json` holds."""

    job: Job
    parts: dict[str, Part]

    def work(self, part: str, element: int) -> Job:
        """What one job of an array has to do."""
        wanted, runs = self.parts[part], {run.run_id: run for run in self.job.runs}
        chosen = [runs[run_id] for run_id in wanted.elements[element]]
        return self.job.model_copy(update={"runs": chosen, "stages": wanted.stages})


@dataclass(frozen=True)
class Queued:
    """A job of the sweep that Slurm has: pending, running or about to end."""

    job: SlurmJob
    stages: list[str]  # empty: the job that brings the report up to date
    runs: list[str]


def queue_of(sweep: Sweep, *, shared: bool = True) -> list[Queued]:
    """The sweep's jobs that Slurm has, by its own word; what was written at submission only says what they do.

    Args:
        sweep: whose.
        shared: an answer of squeue that is some seconds old will do.

    Raises:
        FailureError: Slurm does not answer.
    """
    if not any(submissions(sweep)):
        return []
    known: dict[Path, Submission | None] = {}
    found = []
    for job in slurm_jobs(shared=shared):
        folder = job.script.parent
        if folder not in known:
            mine = folder.parent.name == "jobs" and _same(folder.parent, sweep.folder / "jobs")
            known[folder] = read_submission(folder) if mine else None
        submission = known[folder]
        if submission is None:
            continue
        part, _, first = job.script.stem.rpartition("-")
        if part in submission.parts and job.index is not None:
            content = submission.parts[part]
            found.append(Queued(job, content.stages, content.elements[int(first) + job.index]))
        elif job.script.stem == FINISH:
            found.append(Queued(job, [], []))
    return found


def states_in_queue(queue: Iterable[Queued]) -> dict[str, str]:
    """Run id -> `queued` or `starting` of the runs that Slurm has; a run whose job works says more by its lease."""
    found: dict[str, str] = {}
    for queued in queue:
        for run in queued.runs:
            if queued.job.state == "PENDING":
                found.setdefault(run, "queued")
            else:
                found[run] = "starting"
    return found


def submissions(sweep: Sweep) -> list[Path]:
    """Folders of what was submitted, in order."""
    return sorted((sweep.folder / "jobs").glob("slurm-*"))


def next_folder(sweep: Sweep) -> Path:
    """Where the next submission will be; the same for everybody who holds the sweep's launch lock."""
    last = max((int(path.name.rpartition("-")[2]) for path in submissions(sweep)), default=0)
    return sweep.folder / "jobs" / f"slurm-{last + 1:03d}"


def read_submission(folder: Path) -> Submission:
    """What was written before it was submitted.

    Raises:
        FailureError: it is gone or damaged.
    """
    try:
        return Submission.model_validate(read_json(folder / "work.json"))
    except ValueError as error:
        raise FailureError(f"{folder / 'work.json'} is damaged: {str(error).splitlines()[0]}") from error


def parts_to_submit(
    sweep: Sweep, queue: list[Queued], *, split: bool, runs_per_job: int, runs_per_gpu: int = 1
) -> dict[str, Part]:
    """What is missing and nobody is about to do.

    Args:
        sweep: whose runs.
        queue: the jobs that Slurm has.
        split: judge in jobs of their own.
        runs_per_job: runs that share a job.
        runs_per_gpu: of them at a time, where they are trained.
    """
    states, eval_id = sweep.states(), sweep.eval_id
    covered: dict[str, dict[str, str]] = {}  # run -> stage -> the array that will do it
    for queued in queue:
        for run_id in queued.runs:
            array = queued.job.label.partition("_")[0]
            covered.setdefault(run_id, {}).update(dict.fromkeys(queued.stages, array))
    missing: dict[str, list[str]] = {}
    for run in sweep.job.runs:
        # What a process outside Slurm works on, it brings to its end; a failed run waits for `retry`.
        if states[run.run_id] == State.WAITING or (
            states[run.run_id] == State.RUNNING and run.run_id in covered
        ):
            done = [*sweep.store.run(run.run_id).stages_done(eval_id), *covered.get(run.run_id, ())]
            missing[run.run_id] = [stage for stage in STAGES if stage not in done]
    groups = {"train": STAGES[:2], "judge": STAGES[2:]} if split else {"run": STAGES}
    parts: dict[str, Part] = {}
    submitted: set[str] = set()
    for name, stages in groups.items():
        need = [run_id for run_id, lacks in missing.items() if any(stage in lacks for stage in stages)]
        if submitted:  # the judging of what is trained now follows job by job
            parts[name] = parts["train"].model_copy(
                update={"stages": list(stages), "like": "train", "runs_per_gpu": 1}
            )
            need = [run_id for run_id in need if run_id not in submitted]
            name = f"{name}-rest"
        if not need:
            continue
        elements = [need[start : start + runs_per_job] for start in range(0, len(need), runs_per_job)]
        # Queued without their later stages: a launcher was killed between two calls of sbatch.
        after = tuple(sorted({array for run_id in need for array in covered.get(run_id, {}).values()}))
        together = runs_per_gpu if "train" in stages else 1
        parts[name] = Part(stages=list(stages), elements=elements, after=after, runs_per_gpu=together)
        submitted.update(need)
    return parts


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False

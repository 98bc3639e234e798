"""A job whose runs are trained by several processes: the first one leads, the others train with it when it says so.

The first process alone holds leases, does every other stage and writes; the others wait for its word. What happens to
all alike (a diverged run, a request to stop) leaves them together; after anything else that one of them meets, the job
ends in all of them. On Slurm it is started again while it has runs left; elsewhere the next launch goes on from the
last checkpoint.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adadpo.errors import ProcessGroupError, StoppedError, UserError
from sweeps.execution.run_context import RunContext
from sweeps.store.job import Job, PlannedRun
from sweeps.store.layout import Store

if TYPE_CHECKING:
    from adadpo.training.processes import Processes

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# What torch says of a process that is gone; its errors have no kind of their own.
LOST = ("peer", "connection", "broken pipe", "socket", "gloo", "nccl", "timed out")
END, STOPPED = "end", "stopped"  # instead of a run's id


@contextmanager
def work_together(job: Job) -> Iterator[Processes]:
    """The job's processes, this one among them, for the length of a block.

    Raises:
        UserError: they are not as many as the job is for, or not as many as there are GPUs.
        ProcessGroupError: they do not find one another, or one of them is gone.
    """
    from adadpo.errors import PeerError
    from adadpo.training.processes import ALONE, joined

    if job.processes == 1 or "train" not in job.stages:  # nothing else is shared
        use_one_gpu()
        yield ALONE
        return
    found = ranks(job.processes, os.environ)
    os.environ.update(found)
    gpu = gpu_of(_gpus(), int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]))
    if gpu is not None:
        os.environ["LOCAL_RANK"] = str(gpu)  # what the libraries take for the number of the GPU
    try:
        with joined(job.strategy, _lost, gpu, None if "MASTER_PORT" in found else _meeting(job)) as processes:
            yield processes
    except PeerError as error:
        raise ProcessGroupError(str(error)) from error


def use_one_gpu() -> None:
    """A run of one process: where several GPUs are visible, TRL would refuse to train. Before CUDA starts."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.partition(",")[0]


def ranks(expected: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Torch's variables for this process: torchrun's as they are, else from submitit's environment of the job.

    There without a port: any that all would derive from the job's id may be another job's on the same node.

    Raises:
        UserError: the job has another number of processes than its runs need.
    """
    if set(VARIABLES) <= set(environ):
        found = {name: environ[name] for name in VARIABLES}
    else:
        from submitit import JobEnvironment

        try:
            task = JobEnvironment()
            found = {
                "RANK": str(task.global_rank),
                "WORLD_SIZE": str(task.num_tasks),
                "LOCAL_RANK": str(task.local_rank),
                "LOCAL_WORLD_SIZE": str(task.num_tasks // task.num_nodes),
                "MASTER_ADDR": _address(task.hostnames[0]),
            }
        except (RuntimeError, KeyError) as error:
            raise UserError(
                f"these runs are trained by {expected} processes each: launch them on Slurm, by executor local, or "
                "the job under torchrun"
            ) from error
    if int(found["WORLD_SIZE"]) != expected:
        raise UserError(
            f"this job has {found['WORLD_SIZE']} processes, its runs are planned for {expected} "
            "(launch.nodes x launch.tasks_per_node): launch again"
        )
    return found


def gpu_of(visible: int, local_rank: int, local_size: int) -> int | None:
    """The GPU of a process among those that it sees; None: the machine has none, the CPU it is.

    Raises:
        UserError: there are fewer GPUs than processes.
    """
    if visible == 0:
        return None
    if visible >= local_size:
        return local_rank
    if visible == 1:
        return 0  # Slurm gave each task its own (gpus_per_task)
    raise UserError(
        f"{local_size} processes of a run on this machine, but {visible} GPUs: each needs its own; "
        f"set launch.gpus_per_node to {local_size}, or launch.tasks_per_node to {visible}"
    )


@contextmanager
def leading(processes: Processes) -> Iterator[None]:
    """In the first process: the others are told when the work ends."""
    try:
        yield
    except StoppedError:
        with suppress(RuntimeError):  # one that is gone has stopped too
            processes.from_first(STOPPED)
        raise
    try:
        processes.from_first(END)
    except RuntimeError as error:  # all is done; only that nobody can be told
        print(f"adadpo: at the end of the job: {error}", file=sys.stderr)


def follow(job: Job, processes: Processes) -> None:
    """In every other process: train what the first one trains, until it says that the work ends.

    Raises:
        StoppedError: all were asked to stop.
        PeerError: another process is gone.
        Exception: what this process met; the first one notes it.
    """
    from adadpo.errors import PeerGoneError

    try:
        _follow(job, processes)
    except RuntimeError as error:
        if not _says_lost(str(error)):
            raise
        raise PeerGoneError(str(error)) from error


def _follow(job: Job, processes: Processes) -> None:
    from adadpo.errors import DivergedError
    from adadpo.training.train import train_run

    context, store = RunContext(job), Store(Path(job.store))
    runs = {run.run_id: run for run in job.runs}
    while (word := processes.from_first(END)) not in (END, STOPPED):
        run = runs[word]
        with suppress(DivergedError, StoppedError):  # so did the first one, which says what follows
            train_run(
                context.base(run),
                run.config,
                context.data(run),
                store.run(word).training,
                on_progress=lambda done, total: None,
                processes=processes,
            )
    if word == STOPPED:
        raise StoppedError("all processes of the run were asked to stop")


def train_together(context: RunContext, run: PlannedRun, folder: Path, on_progress: Any) -> dict[str, Any]:
    """`train_run` in the first process, and by its word in the others.

    Raises:
        PeerError: another process failed, with what it said; `PeerGoneError` when it said nothing.
        Exception: as `train_run`.
    """
    from adadpo.errors import DivergedError, PeerError, PeerGoneError
    from adadpo.training.train import train_run

    processes = context.processes
    try:
        processes.from_first(run.run_id)
        return train_run(
            context.base(run),
            run.config,
            context.data(run),
            folder,
            on_progress=on_progress,
            processes=processes,
        )
    except (DivergedError, StoppedError):
        raise
    except BaseException as error:
        context.parted = processes.size > 1
        if context.parted and isinstance(error, RuntimeError):
            said = processes.failure() or str(error)
            if _says_lost(said):  # also of a third one, which was the first to notice
                raise PeerGoneError(f"a process of the run went away: {said}") from error
            if said != str(error):
                raise PeerError(said) from error
        raise


def _meeting(job: Job) -> Path:
    """The file by which the processes of this start of the job find one another."""
    from submitit import JobEnvironment

    # A requeued job keeps its id, and the processes of its earlier start may still be there.
    start = f"{JobEnvironment().job_id}-{os.environ.get('SLURM_RESTART_COUNT') or 0}"
    return Store(Path(job.store)).sweep(job.sweep) / "jobs" / f"meeting-{start}.json"


def _says_lost(message: str) -> bool:
    return any(word in message.lower() for word in LOST)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()  # those of CUDA_VISIBLE_DEVICES that are there


def _address(host: str) -> str:
    """The first node's address: its name, or what Slurm says where nobody resolves that."""
    with suppress(OSError):
        socket.getaddrinfo(host, None)
        return host
    with suppress(OSError, subprocess.SubprocessError):
        command = ["scontrol", "show", "node", "--oneliner", host]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        for word in shown.split():
            if word.startswith("NodeAddr="):
                return word.partition("=")[2]
    return host


def _lost(reason: str) -> None:
    """The last words of a process that is ended because another one failed, and it cannot end by itself."""
    print(f"adadpo: ended with the other processes of the run: {reason}", file=sys.stderr, flush=True)

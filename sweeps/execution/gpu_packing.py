"""Runs that share a GPU: as many as are wanted, or as many as fit, by the memory that the first one took."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from adadpo.errors import FailureError
from sweeps.store.layout import Store
from sweeps.store.manifests import manifest_path, read_manifest

CUDA_BYTES = 3 * 2**28  # what CUDA takes for itself in each process, beside torch's tensors (0.5 to 0.7 GiB)
MARGIN = 0.95  # of the free memory that may be used
LOOK_AT = 200  # runs whose memory is asked for: a store on a network answers slowly
GIB = 2**30


@dataclass(frozen=True)
class Memory:
    """Bytes; 0 of a GPU: there is none, or it does not say."""

    gpu: int
    host: int


@dataclass(frozen=True)
class Sharing:
    """How many workers a machine's GPUs may have at a time.

    Attributes:
        gpus: as CUDA_VISIBLE_DEVICES names them; none: the CPU is shared.
        wanted: workers on each.
        free: memory before any of them started; of the GPU that has the least.
    """

    gpus: Sequence[str]
    wanted: int
    free: Memory

    @property
    def most(self) -> int:
        """Workers at a time if they fit."""
        return self.wanted * self._places

    def workers(self, need: Memory | None) -> int:
        """Workers at a time, at least one on each GPU.

        Args:
            need: of one worker; None: not known yet, so that none gets company.
        """
        if need is None:
            return self._places
        fit = min(self.wanted, int(MARGIN * self.free.host) // (need.host * self._places))
        if self.free.gpu and need.gpu:
            fit = min(fit, int(MARGIN * self.free.gpu) // (need.gpu + CUDA_BYTES))
        return self._places * max(1, fit)

    def said(self, need: Memory) -> str | None:
        """What to tell when fewer fit than are wanted, or when nobody knows; None: nothing."""
        allowed, where = self.workers(need) // self._places, "GPU" if self.gpus else "machine"
        if allowed < self.wanted:
            taken = f"a run takes {need.host / GIB:.1f} GiB of the machine's memory, of which "
            taken += f"{self.free.host / GIB:.1f} GiB are free"
            if self.free.gpu and need.gpu:
                taken += (
                    f", and {(need.gpu + CUDA_BYTES) / GIB:.1f} GiB of a GPU's {self.free.gpu / GIB:.1f} GiB"
                )
            return f"{allowed} instead of {self.wanted} runs at a time on each {where}: {taken}"
        if self.gpus and not (self.free.gpu and need.gpu):
            return (
                f"{self.wanted} runs at a time on each GPU; whether its memory is enough could not be checked"
            )
        return None

    @property
    def _places(self) -> int:
        return max(1, len(self.gpus))


def sharing_here(gpus: Sequence[str], wanted: int) -> Sharing:
    """Of this machine, or of this Slurm job's part of it, as it is now."""
    return Sharing(gpus, wanted, Memory(_free_on_gpus(gpus), _free_on_host(max(1, len(gpus)))))


def measured_need(store: Store, run_ids: Iterable[str], eval_id: str) -> Memory | None:
    """The most that a worker had after training and answering, by the manifests; None: no run has come so far."""
    found = []
    for run_id in islice(run_ids, LOOK_AT):
        with suppress(FailureError, KeyError, TypeError):
            manifest = read_manifest(manifest_path(store.run(run_id), "generate", eval_id))
            if manifest is not None:
                found.append(Memory(**manifest["memory"]))
    if not found:
        return None
    return Memory(max(one.gpu for one in found), max(one.host for one in found))


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _free_on_gpus(gpus: Sequence[str]) -> int:
    """Of the one that has the least; asked outside of CUDA, which would take memory for the question."""
    command = [
        "nvidia-smi",
        f"--id={','.join(gpus)}",
        "--query-gpu=memory.free",
        "--format=csv,noheader,nounits",
    ]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        return min(int(line) for line in answer.split()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):  # no such program; a part of a GPU (MIG)
        return 0


def _free_on_host(gpus: int) -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    # What Slurm gives the job, in MiB; 0: all of the machine's.
    for name, times in (
        ("SLURM_MEM_PER_NODE", 1),
        ("SLURM_MEM_PER_CPU", int(os.environ.get("SLURM_CPUS_ON_NODE") or 1)),
        ("SLURM_MEM_PER_GPU", gpus),
    ):
        if given := int(os.environ.get(name) or 0):
            return min(free, given * times * 2**20)
    return free


# How many threads of torch there are, and how they wait for each other.


def wait_briefly() -> None:
    """Let OpenMP's threads spin for a moment, then sleep; before torch is loaded, and unless the user says else.

    Training of SmolLM2-135M (8 steps, two threads on two cores) took 11.2 s with a count of 1,000, 9.2 with 5,000 and
    8.6 with 10,000 where nothing else ran; 14.4, 17.7 and some 24 where another process kept one core busy, and 2.5
    times as long with the library's own 300,000.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def threads_each(workers: int) -> int:
    """For each of the workers that compute at once here: with a thread per core they would wait for one another.

    No more than OMP_NUM_THREADS, where the user says it, nor than this job's cores on Slurm.
    """
    cores = len(os.sched_getaffinity(0))
    cores = min(cores, int(os.environ.get("SLURM_CPUS_PER_TASK") or cores))
    share = max(1, cores // workers)
    return min(share, int(os.environ.get("OMP_NUM_THREADS") or share))

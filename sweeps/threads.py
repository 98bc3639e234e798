"""How many threads of torch there are, and how they wait for each other."""

from __future__ import annotations

import os


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

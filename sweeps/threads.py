"""How many threads of torch there are, and how they wait for each other."""

from __future__ import annotations

import os


def wait_briefly() -> None:
    """Let OpenMP's threads spin for microseconds, then sleep; before torch is loaded, and unless the user says else.

    Threads that spin long make torch 2.5 times slower on a machine that does something else too; threads that do not
    spin at all make a training step a fifth slower and generation a third on one that does not.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def threads_each(workers: int) -> int:
    """For each of the workers that compute at once here: with a thread per core they would wait for one another.

    No more than OMP_NUM_THREADS, where the user says it, nor than this job's cores on Slurm.
    """
    cores = len(os.sched_getaffinity(0))
    cores = min(cores, int(os.environ.get("SLURM_CPUS_PER_TASK") or cores))
    share = max(1, cores // workers)
    return min(share, int(os.environ.get("OMP_NUM_THREADS") or share))

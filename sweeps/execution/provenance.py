"""Where a result comes from: versions, commit, machine, command."""

from __future__ import annotations

import os
import platform
import socket
import time
from typing import Any

from sweeps.store.allocator import allocator
from sweeps.store.host import git_state, package_folders, split, versions
from sweeps.store.job import Job, PlannedRun

# What makes training faster, each to be put off in the sweep file; defaults included, which config.json leaves out.
SPEED = ("forward", "batching", "precision", "gradient_checkpointing", "caches")


def provenance(job: Job, run: PlannedRun) -> dict[str, Any]:
    """Of one training run."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": socket.gethostname(),
        "device": gpu
        or f"CPU ({platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads)",
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "runs_of_job": len(job.runs),
        "batch": split(job, run),
        "speed": {name: getattr(run.config.train, name) for name in SPEED},
        "allocator": allocator(),
        "python": platform.python_version(),
        "packages": versions(),
        "loaded_from": package_folders(),
        "git": git_state(),
        "command": job.command,
        "model": {"name": job.model, "identity": run.config.model},
        "data": {"name": job.train.name, "identity": run.config.data},
    }

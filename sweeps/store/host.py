"""What this machine and this process are: memory, versions, where the code comes from."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from _adadpo_start import PACKAGES as OWN_PACKAGES
from sweeps.store.job import Job, PlannedRun

SHARERS = "ADADPO_SHARERS"  # set for workers that share a GPU: how many they are


PACKAGES = (
    "adadpo",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "numpy",
    "scipy",
    "optuna",
)


def split(job: Job, run: PlannedRun) -> dict[str, Any]:
    """How a step's pairs are shared: no part of the run's identity, as it changes results in the last bits alone."""
    train = run.config.train
    passes = train.accumulation_steps(job.processes)
    return {
        "pairs": train.batch_size,
        "per_pass": train.batch_size // (job.processes * passes),
        "processes": job.processes,
        "passes": passes,
        "strategy": job.strategy if job.processes > 1 else None,
    }


def host_info() -> dict[str, Any]:
    """Where work is done: host, Slurm job, GPUs that it holds (1/2: shared by two workers), and what memory it took.

    Torch is asked only where it is loaded. Memory is the most that this process ever had, in bytes.
    """
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_available()
    processes, sharing = int(os.environ.get("WORLD_SIZE") or 1), sharers()
    return {
        "host": socket.gethostname(),
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "gpus": (processes if sharing == 1 else processes / sharing) if on_gpu else 0,
        "sharers": sharing,
        "memory": {
            "gpu": torch.cuda.max_memory_reserved() if torch is not None and on_gpu else 0,
            "host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        },
    }


def sharers() -> int:
    """How many workers share this one's GPU, this one included."""
    return int(os.environ.get(SHARERS) or 1)


def versions() -> dict[str, str]:
    """Versions of the packages that a result may depend on."""
    return {package: version for package in PACKAGES if (version := _version(package)) is not None}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def package_folders() -> dict[str, str | None]:
    """The folder that each of the project's packages comes from in this process."""
    specs = {name: find_spec(name) for name in OWN_PACKAGES}
    return {
        name: None if spec is None or spec.origin is None else str(Path(spec.origin).parent)
        for name, spec in specs.items()
    }


def git_state() -> dict[str, Any] | None:
    """Commit of the code, and whether it was changed since; None outside a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "diff": git("diff", "HEAD", "--", "*.py")}
    except (OSError, subprocess.SubprocessError):
        return None


def generator_versions(engine: str) -> dict[str, str]:
    """Versions of what a model's responses come from: answers made by unlike ones are not compared."""
    packages = ("torch", "transformers", *(["vllm"] if engine == "vllm" else []))
    return {name: version for name in packages if (version := _version(name)) is not None}

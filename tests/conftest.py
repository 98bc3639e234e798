"""Built-in models come from the user's own cache; everything else that tests cache stays in temporary folders.

`slurm` is a real cluster (tests/cluster), started when the first test asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import Cluster, missing, running

from adadpo.files import cache_folder

# Before torch loads, and for every process that a test starts: on tiny models a second thread only costs, and the
# threads of two processes wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_models_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of its own whose models are the user's: converting one takes up to half a minute."""
    models = cache_folder() / "models"
    models.mkdir(parents=True, exist_ok=True)
    cache = tmp_path_factory.mktemp("cache")
    (cache / "models").symlink_to(models, target_is_directory=True)
    return cache


def require(reason: str | None) -> None:
    """Skip a test where what it needs is absent; in CI nothing is."""
    if reason is not None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@pytest.fixture(scope="session")
def deepspeed() -> dict[str, str]:
    """The variables by which a process finds DeepSpeed, and computes on the CPU."""
    folder = Path(__file__).parents[1] / ".deepspeed"
    require(None if (folder / "installed").exists() else "DeepSpeed is not installed: make deepspeed")
    return {"PYTHONPATH": str(folder), "DS_ACCELERATOR": "cpu"}


@pytest.fixture(scope="session")
def slurm_session() -> Iterator[Cluster]:
    """The session's cluster of four nodes; tests take `slurm`."""
    require(missing())
    with running() as cluster:
        yield cluster


@pytest.fixture
def slurm(slurm_session: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The cluster with idle nodes and no job; sbatch and squeue of this process find it."""
    slurm_session.reset()
    monkeypatch.setenv("SLURM_CONF", str(slurm_session.conf))
    yield slurm_session
    slurm_session.reset()


@pytest.fixture
def slurm_accounting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster of its own whose sacct answers, of one node."""
    require(missing(accounting=True))
    with running(nodes=1, accounting=True) as cluster:
        monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
        yield cluster

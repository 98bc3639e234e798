"""Built-in models come from the user's own cache; everything else that tests cache stays in temporary folders.

`slurm` is a real cluster (tests/cluster), started when the first test asks for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adadpo.files import cache_folder
from tests.cluster.slurm_cluster import Cluster, missing, running
from tests.judges.judge_client import KEY, ROOT, JudgeServer

# Before torch loads, and for every process that a test starts: on tiny models a second thread only costs, and the
# threads of two processes wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Fixtures that put a test into a tier, and files whose tests each start sweeps or processes.
TIERS = {
    "cluster": {"slurm", "slurm_session", "slurm_accounting"},
    "browser": {"browser", "chromium"},
    "train": {"finished", "undisturbed", "base", "two_runs"},
}
SLOW = {
    *("test_allocator", "test_audit_command", "test_data_of_the_hub", "test_diagnostics", "test_disk"),
    *("test_examples", "test_failures", "test_fsck", "test_gc", "test_interrupting", "test_interruptions"),
    *("test_judging", "test_killed_judging", "test_launch", "test_lost_jobs", "test_meeting", "test_models"),
    *("test_on_finish", "test_operating", "test_plan_file", "test_prompt_draws", "test_quarantine"),
    *("test_rejudging", "test_report_attacked", "test_report_large", "test_search", "test_shadowing"),
    *("test_shared_work", "test_side_by_side", "test_start_up", "test_token_cache", "test_together"),
    *(
        "test_fetching_from_the_hub",
        "test_generation_resume",
        "test_store_before_plans",
        "test_validity_harness",
    ),
    *("test_alpaca_eval", "test_readme", "test_rank_sums", "test_memory"),
}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's tier follows from the fixtures it asks for; parallel workers get whole files, one of them Slurm."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        for tier, asked in TIERS.items():
            if fixtures & asked:
                item.add_marker(tier)
        file = item.nodeid.partition("::")[0]
        if Path(file).stem in SLOW:
            item.add_marker("slow")
        of_cluster = item.get_closest_marker("cluster") is not None
        item.add_marker(pytest.mark.xdist_group("slurm" if of_cluster else file))


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


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JudgeServer]:
    """A judge's server for the whole session; tests take `server`."""
    port_file = tmp_path_factory.mktemp("server") / "port"
    process = subprocess.Popen([sys.executable, "-m", "tests.judges.judge_server", str(port_file)], cwd=ROOT)
    try:
        for _ in range(3000):
            if port_file.exists():
                break
            time.sleep(0.02)
        yield JudgeServer(int(port_file.read_text()))
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def server(running_server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> JudgeServer:
    """The judge's server, reset."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    running_server.told()
    return running_server

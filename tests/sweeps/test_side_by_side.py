"""Several runs at a time on a GPU: how many fit, and the same bytes as one at a time, whatever happens to one of them.

No GPU is needed: CUDA_VISIBLE_DEVICES and an nvidia-smi of the tests' own stand for one, and torch computes on the CPU.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweeps.dispatch.worker import StopRequest, leave
from sweeps.execution.gpu_packing import CUDA_BYTES, GIB, Memory, Sharing, measured_need, sharing_here
from sweeps.failures.attempts import attempts
from sweeps.store.layout import STAGES
from sweeps.store.lease import Lease
from tests.cluster.slurm_cluster import Cluster
from tests.sweeps.sweep_examples import SMALL, adadpo, contents, opened, spec_errors, start, write_sweep

FOUR = SMALL.replace("[0.05, 0.1]", "[0.1]")  # four runs
SLURM = {"executor": "slurm", "runs_per_job": 4, "runs_per_gpu": 2, "cpus_per_task": 4, "mem_gb": 6}
# A run of seed 1 finds too little memory while another one is on its GPU.
CROWDED = """\
import os, sys
if any(word in sys.orig_argv for word in ("one-of-several", "submitit.core._submit")):
    import adadpo.training.train
    train_run = adadpo.training.train.train_run
    def crowded(base, config, *args, **options):
        if config.seed == 1 and int(os.environ.get("ADADPO_SHARERS", 1)) > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return train_run(base, config, *args, **options)
    adadpo.training.train.train_run = crowded
"""


def four(folder: Path, launch: dict[str, Any], text: str = FOUR) -> Path:
    return write_sweep(folder / "small.yaml", text.replace("{executor: inline}", json.dumps(launch)))


@pytest.fixture(scope="module")
def calm(finished: Path) -> dict[str, str]:
    """The same four runs, one after another in one process."""
    return contents(finished)


def same(store: Path, calm: dict[str, str], runs: int = 4) -> bool:
    """Runs of five files each, and the baseline's responses, as in peace."""
    found = contents(store)
    return len(found) == 5 * runs + 1 and found == {
        path: what for path, what in calm.items() if path in found
    }


def overlap(store: Path) -> bool:
    """Two runs were in work at the same time, by what their stages' manifests say."""
    spans = []
    for run in store.glob("*/train"):
        found = [json.loads(path.read_text()) for path in run.parent.rglob("*.manifest.json")]
        spans.append(
            (min(one["started"] for one in found), max(one["started"] + one["seconds"] for one in found))
        )
    spans.sort()
    return any(later[0] < earlier[1] for earlier, later in pairwise(spans))


def test_as_many_as_fit() -> None:
    """By hand: one on each GPU until the need is known; then the GPU's memory, or the machine's, decides."""
    two = Sharing(["0", "1"], 4, Memory(80 * GIB, 100 * GIB))
    assert two.workers(None) == 2
    assert two.workers(Memory(10 * GIB, 2 * GIB)) == 8
    assert two.workers(Memory(25 * GIB, 2 * GIB)) == 4  # 76 of 80 GiB for 25.75 each: 2
    assert two.workers(Memory(10 * GIB, 20 * GIB)) == 4  # 95 of 100 GiB for 20 each: 4 in all
    assert two.workers(Memory(90 * GIB, 200 * GIB)) == 2
    assert two.said(Memory(10 * GIB, 2 * GIB)) is None
    assert two.said(Memory(25 * GIB, 2 * GIB)) == (
        "2 instead of 4 runs at a time on each GPU: a run takes 2.0 GiB of the machine's memory, of which 100.0 GiB "
        "are free, and 25.8 GiB of a GPU's 80.0 GiB"
    )
    unknown = Sharing(["MIG-1"], 4, Memory(0, 100 * GIB))
    assert unknown.workers(Memory(10 * GIB, 2 * GIB)) == 4
    assert "could not be checked" in str(unknown.said(Memory(10 * GIB, 2 * GIB)))
    assert Sharing([], 4, Memory(0, 5 * GIB)).workers(Memory(0, 2 * GIB)) == 2
    assert CUDA_BYTES < GIB


def test_memory_is_asked_of_the_driver_and_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU with the least free memory; of a job's memory no more than Slurm gives it, in each way it may say so."""
    fake_driver(tmp_path, monkeypatch, "40000\n2000")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1000")
    assert sharing_here(["0", "1"], 2).free == Memory(2000 * 2**20, 1000 * 2**20)
    assert (tmp_path / "asked").read_text().split()[0] == "--id=0,1"
    monkeypatch.delenv("SLURM_MEM_PER_NODE")
    monkeypatch.setenv("SLURM_MEM_PER_GPU", "300")
    assert sharing_here(["0", "1"], 2).free.host == 600 * 2**20
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "100")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "4")
    assert sharing_here(["0", "1"], 2).free.host == 400 * 2**20
    fake_driver(tmp_path, monkeypatch, "No devices were found")
    assert sharing_here(["7"], 2).free.gpu == 0


def fake_driver(folder: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\necho \"$@\" > {folder}/asked\necho '{says}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_what_a_run_took_is_in_its_manifests(finished: Path, small: Path) -> None:
    """Of this process's size, more or less: torch and a tiny model; unknown for runs that are not there."""
    sweep = opened(small, finished)
    need = measured_need(sweep.store, (run.run_id for run in sweep.job.runs), sweep.eval_id)
    assert need is not None
    assert need.gpu == 0
    assert 0.2 * GIB < need.host < 20 * GIB
    assert measured_need(sweep.store, ["0" * 16], sweep.eval_id) is None


@pytest.mark.parametrize(
    ("launch", "said"),
    [
        ("{executor: slurm, runs_per_gpu: 2, nodes: 2}", "launch.nodes is 2: a run on several GPUs has them alone"),
        ("{executor: local, runs_per_gpu: 2, tasks_per_node: 2}", "launch.tasks_per_node is 2: a run on several"),
        ("{executor: slurm, runs_per_gpu: 4, runs_per_job: 2}", "a job has no more runs than launch.runs_per_job, 2"),
        ("{executor: inline, runs_per_gpu: 4}", "unknown key 'runs_per_gpu' under launch"),
        ("{executor: slurm, python: ' '}", "launch.python is empty; leave it out"),
        ("{executor: slurm, python: apptainer 'x}", "is no command: no closing quotation"),
    ],
)  # fmt: skip
def test_what_cannot_share(tmp_path: Path, launch: str, said: str) -> None:
    """At its place in the file, with both numbers."""
    [error] = spec_errors(tmp_path, SMALL.replace("{executor: inline}", launch))
    assert error.startswith("14:")
    assert said in error


def test_a_container_without_slurms_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked to leave where there is no scontrol: said, and the code of the signal, without a traceback."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    assert leave(StopRequest(), lambda: False) == 128 + signal.SIGUSR2
    assert "no scontrol in this container to start again: launch again" in capsys.readouterr().out


def test_vllm_shares_with_nobody(tmp_path: Path) -> None:
    """It takes what memory there is."""
    text = SMALL.replace("{executor: inline}", "{executor: local, runs_per_gpu: 2}")
    errors = spec_errors(tmp_path, text.replace("max_new_tokens: 8", "max_new_tokens: 8, engine: vllm"))
    assert any("runs_per_gpu is 2, but evaluate.decoding.engine is vllm" in error for error in errors)


def test_local_workers_share_a_gpu(
    tmp_path: Path, calm: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One GPU, two workers: one until the first run is measured; a run that finds no room goes on alone afterwards."""
    fake_driver(tmp_path, monkeypatch, "80000")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CROWDED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    store = tmp_path / "store"
    file = four(tmp_path, {"executor": "local", "runs_per_gpu": 2})
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 0, answer.err + answer.out
    assert "2 runs at a time on each GPU; whether its memory is enough could not be checked" in answer.out
    assert "2 runs were out of memory next to other runs: they continue alone" in answer.out
    assert same(store, calm)
    sweep = opened(file, store)
    for run in sweep.job.runs:
        tried = attempts(sweep.store.run(run.run_id))
        assert [(line["cause"], line["sharers"]) for line in tried] == [("out of memory", 2)] * (
            run.seed == 1
        )
    assert not list(store.glob("*/failure.json"))


def output(store: Path) -> str:
    return "\n".join(path.read_text() for path in store.glob("sweeps/small/jobs/slurm-*/logs/*.out"))


def test_a_job_does_its_runs_two_at_a_time(
    tmp_path: Path, slurm: Cluster, calm: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four runs in one job on two GPUs' worth of one: same bytes, each stage once, runs that found no room alone."""
    (tmp_path / "sitecustomize.py").write_text(CROWDED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    store = tmp_path / "store"
    file = four(tmp_path, {**SLURM, "gpus_per_node": 1})
    answer = start(tmp_path / "log", "launch", file, "--store", store, "--follow").wait()
    assert answer.code == 0, answer.out + output(store)
    assert same(store, calm)
    assert "2 runs at a time on each GPU; whether its memory is enough could not be checked" in output(store)
    for log in store.glob("*/log.txt"):
        text = log.read_text()
        assert [text.count(f"sweeps: {stage} done") for stage in STAGES] == [1, 1, 1, 1], text
    crowded = [
        log for log in store.glob("*/log.txt") if "next to other runs: tried again alone" in log.read_text()
    ]
    assert len(crowded) == 2
    assert not list(store.glob("*/failure.json"))


def test_too_little_memory_for_two(tmp_path: Path, slurm: Cluster, calm: dict[str, str]) -> None:
    """A job with 700 MiB, whose Python is started by a container: said with the figures, and one run after another."""
    store, container = tmp_path / "store", tmp_path / "container"
    container.write_text('#!/bin/sh\necho "in the image: $*"\nexec "$@"\n')
    container.chmod(0o755)
    keys = {"mem_gb": 0.7, "gpus_per_node": 0, "python": f"{container} {sys.executable}"}
    file = four(tmp_path, {**SLURM, **keys}, FOUR.replace("[0, 1]", "[0]"))
    answer = start(tmp_path / "log", "launch", file, "--store", store, "--follow").wait()
    assert answer.code == 0, answer.out + output(store)
    assert re.search(r"1 instead of 2 runs at a time on each machine: a run takes 0\.\d GiB", output(store))
    for module in ("sweeps.dispatch.worker", "sweeps.operations.finish_job"):  # runs, report
        assert output(store).count(f"in the image: {sys.executable} -P -u -m {module}") == 1
    assert same(store, calm, runs=2)
    assert not overlap(store)


LONGER = FOUR.replace("warmup: 0", "checkpoint_steps: 1, epochs: 12, warmup: 0")


@pytest.fixture(scope="module")
def calm_longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a launch in peace."""
    folder = tmp_path_factory.mktemp("longer")
    answer = adadpo("launch", write_sweep(folder / "small.yaml", LONGER), "--store", folder / "store")
    assert answer.code == 0, answer.err
    return folder / "store"


def two_in_work(folder: Path, slurm: Cluster, calm: Path) -> tuple[Path, Path, list[psutil.Process]]:
    """A launch whose first run is there already, so that memory is known and two workers begin at once."""
    store, file = folder / "store", four(folder, SLURM, LONGER)
    done = opened(file, calm).job.runs[0].run_id
    for part in (done, "baselines"):
        shutil.copytree(calm / part, store / part)
    assert adadpo("launch", file, "--store", store).code == 0
    slurm.wait(lambda: len(in_training(store)) == 2, 120, "two runs in training")
    return file, store, in_training(store)


def in_training(store: Path) -> list[psutil.Process]:
    """The workers whose run has a checkpoint."""
    runs = {path.parents[2] for path in store.glob("*/train/checkpoints/checkpoint-*")}
    owners = [Lease(run / "lease.json").read() for run in runs]
    return [psutil.Process(owner["pid"]) for owner in owners if owner is not None]


def ends_as_in_peace(store: Path, calm: Path, train_starts: int) -> None:
    assert contents(store) == contents(calm), output(store)
    logs = [log.read_text() for log in store.glob("*/log.txt")]
    for log in logs:
        assert [log.count(f"sweeps: {stage} done") for stage in STAGES] == [1, 1, 1, 1], log
    assert sum(log.count("sweeps: train starts") for log in logs) == train_starts, output(store)
    assert not list(store.rglob("lease.json"))


def test_preempted_while_two_are_in_work(tmp_path: Path, slurm: Cluster, calm_longer: Path) -> None:
    """Both workers leave with a checkpoint and the job comes back; both runs go on there."""
    _, store, _ = two_in_work(tmp_path, slurm, calm_longer)
    [job] = [job for job, state in slurm.queue().items() if state == "RUNNING"]
    node = slurm.command("squeue", "-h", "-j", job, "-o", "%N").strip()
    slurm.command(
        *("sbatch", "-p", "high", "-w", node, "--cpus-per-task=4", "--output=/dev/null", "--wrap", "sleep 2")
    )
    slurm.wait_until_empty(400)
    ends_as_in_peace(store, calm_longer, 6)


def test_killed_while_two_are_in_work(tmp_path: Path, slurm: Cluster, calm_longer: Path) -> None:
    """One worker: the other goes on. Then the job's own process: no worker outlives it, another launch goes on."""
    file, store, (one, other) = two_in_work(tmp_path, slurm, calm_longer)
    starter = other.parent()
    assert starter is not None
    one.send_signal(signal.SIGKILL)
    time.sleep(1)
    assert other.is_running()
    starter.send_signal(signal.SIGKILL)
    slurm.wait(lambda: not other.is_running(), 20, "the end of its workers")
    slurm.wait_until_empty(120)
    slurm.wait(lambda: "running" not in opened(file, store).counts(), 40, "the status to say so")
    assert adadpo("launch", file, "--store", store).code == 0
    slurm.wait_until_empty(400)
    ends_as_in_peace(store, calm_longer, 6)

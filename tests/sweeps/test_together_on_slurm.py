"""A run over two nodes with two processes each, on a real Slurm: warned, and with its processes killed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sweeps.failures.attempts import attempts
from sweeps.store.layout import STAGES
from tests.cluster.slurm_cluster import Cluster
from tests.sweeps.sweep_examples import TWO, adadpo, contents, opened, start, write_sweep

# SGD: AdamW's first step is the gradient's sign, which rounding decides where a gradient is almost 0.
ONE = TWO.replace(
    "learning_rate: 1.0e-3", "learning_rate: 0.01, optimizer: sgd, epochs: 12, checkpoint_steps: 1"
)
SLURM = {
    "executor": "slurm", "nodes": 2, "tasks_per_node": 2, "gpus_per_node": 0, "mem_gb": 3, "runs_per_job": 2,
}  # fmt: skip
FOUR = {"executor": "local", "tasks_per_node": 4}


def launched_with(folder: Path, name: str, launch: dict[str, object] | None) -> tuple[Path, Path]:
    """A sweep file and its store."""
    text = ONE if launch is None else ONE.replace("{executor: inline}", json.dumps(launch))
    return write_sweep(folder / name / "two.yaml", text), folder / name / "store"


def ranks_of(slurm: Cluster) -> dict[int, int]:
    """Rank -> pid of the job's workers."""
    found = {}
    for pid in slurm.workers():
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        rank = next((word.partition("=")[2] for word in environ if word.startswith("SLURM_PROCID=")), None)
        if rank is not None and b"sweeps.dispatch.worker" in words and b"python" in words[0]:
            found[int(rank)] = pid
    return found


def test_two_nodes_of_two_processes_are_one_run_whatever_happens(tmp_path: Path, slurm: Cluster) -> None:
    """Warned, then the last rank killed, then the first: each time all end within seconds and Slurm starts them again.

    One result in the end: the bytes of four undisturbed processes of this machine, to 1e-6 those of a single one.
    """
    file, store = launched_with(tmp_path, "slurm", SLURM)
    assert adadpo("launch", file, "--store", store).code == 0
    sweep = opened(file, store)

    def steps() -> int:
        return sum(len(text.read_text().splitlines()) for text in store.glob("*/train/history.jsonl"))

    def said() -> str:
        return "\n".join(path.read_text()[-3000:] for path in store.glob("sweeps/two/jobs/*/logs/*"))

    for restart, killed in enumerate((None, 3, 0)):
        before = steps()
        slurm.wait(lambda before=before: len(ranks_of(slurm)) == 4 and steps() >= before + 2, 120, said())
        ranks = ranks_of(slurm)
        [job] = [job for job, state in slurm.queue().items() if state == "RUNNING"]
        if killed is None:
            slurm.command("scancel", "--signal=USR2", job)
        else:
            os.kill(ranks[killed], signal.SIGKILL)
        began = time.monotonic()
        slurm.wait(lambda ranks=ranks: not any(Path(f"/proc/{pid}").exists() for pid in ranks.values()), 30)
        print(f"all ended within {time.monotonic() - began:.1f} s")
        slurm.wait(lambda job=job: slurm.queue().get(job) in ("PENDING", "RUNNING"), 10, said())
        shown = slurm.command("scontrol", "show", "job", "--oneliner", job)
        assert f"Restarts={restart + 1} " in shown, shown
        assert not list(store.glob("*/failure.json")), said()
    slurm.wait_until_empty()
    assert dict(sweep.counts()) == {"done": 2}, said()
    for run in sweep.job.runs:
        log = sweep.store.run(run.run_id).log.read_text()
        assert [log.count(f"sweeps: {stage} done") for stage in STAGES] == [1, 1, 1, 1], log
    lost = [line for run in sweep.job.runs for line in attempts(sweep.store.run(run.run_id))]
    assert [line["cause"] for line in lost] == ["node", "node"], lost
    assert not [line for line in lost if "RUNNING" in line["evidence"]]
    assert not list(store.rglob("lease.json"))
    assert not list(store.rglob("meeting-*"))

    same, theirs = launched_with(tmp_path, "local", FOUR)
    answer = start(tmp_path / "log", "launch", same, "--store", theirs).wait()
    assert answer.code == 0, answer.out
    assert contents(store) == contents(theirs)
    alone = launched_with(tmp_path, "alone", None)
    assert adadpo("launch", alone[0], "--store", alone[1]).code == 0
    for history in alone[1].glob("*/train/history.jsonl"):
        mine = store / history.relative_to(alone[1])
        weights = [load_file(path.parent / "model" / "model.safetensors") for path in (history, mine)]
        assert all((weights[0][name] - weights[1][name]).abs().max() < 1e-6 for name in weights[0])
        for one, four in zip(history.read_text().splitlines(), mine.read_text().splitlines(), strict=True):
            if "evaluation" not in json.loads(one):
                assert json.loads(four) == pytest.approx(json.loads(one), rel=1e-5, abs=2e-6)
        split = json.loads((mine.parents[1] / "provenance.json").read_text())["batch"]
        assert split == {"pairs": 8, "per_pass": 2, "processes": 4, "passes": 1, "strategy": "ddp"}

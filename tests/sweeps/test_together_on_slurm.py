"""A run over two nodes with two processes each, on a real Slurm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from slurm_cluster import Cluster
from sweep_examples import TWO, adadpo, start, write_sweep

ONE = TWO.replace("learning_rate: 1.0e-3", "learning_rate: 0.1, optimizer: sgd")
SLURM = {
    "executor": "slurm",
    "nodes": 2,
    "tasks_per_node": 2,
    "gpus_per_node": 0,
    "mem_gb": 3,
    "timeout_min": 15,
}


def test_two_nodes_of_two_processes_are_one_run(tmp_path: Path, slurm: Cluster) -> None:
    """Against one process here: the same ids, weights and numbers to 1e-6; every process was where it should be."""
    alone, store = tmp_path / "alone", tmp_path / "store"
    assert adadpo("launch", write_sweep(tmp_path / "two.yaml", ONE), "--store", alone).code == 0
    file = write_sweep(tmp_path / "two.yaml", ONE.replace("{executor: inline}", json.dumps(SLURM)))
    answer = start(tmp_path / "log", "launch", file, "--store", store, "--follow").wait()
    said = "\n".join(path.read_text()[-3000:] for path in store.glob("sweeps/two/jobs/*/logs/*"))
    assert answer.code == 0, answer.out + said
    assert adadpo("plan", file, "--store", store, "--json").json["done"] == 2, said
    for history in alone.glob("*/train/history.jsonl"):
        theirs = store / history.relative_to(alone)
        weights = [load_file(path.parent / "model" / "model.safetensors") for path in (history, theirs)]
        assert all((weights[0][name] - weights[1][name]).abs().max() < 1e-6 for name in weights[0])
        for one, four in zip(history.read_text().splitlines(), theirs.read_text().splitlines(), strict=True):
            if "evaluation" not in json.loads(one):
                assert json.loads(four) == pytest.approx(json.loads(one), rel=1e-5, abs=2e-6)
        split = json.loads((theirs.parents[1] / "provenance.json").read_text())["batch"]
        assert split == {"pairs": 8, "per_pass": 2, "processes": 4, "passes": 1, "strategy": "ddp"}
    assert not list(store.rglob("lease.json"))

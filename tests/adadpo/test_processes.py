"""Several processes train what one does: two, by torchrun with gloo on a CPU, with the same pairs per step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from adadpo.models.policy import Base
from adadpo.quiet import quiet
from tests.adadpo.train_in_processes import train

METHODS = ["adadpo", "adasimpo", "adaorpo"]
GATHERED = ["rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen",
            "logps/rejected", "balance/chosen", "balance/rejected", "balance/clipped",
            "balance/log_gradient_ratio"]  # fmt: skip


@pytest.fixture(scope="module")
def model(base: Base, cache_root: Path) -> str:
    return str(cache_root / "models" / base.source.identity)


@pytest.fixture(scope="module")
def two(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every method trained by two processes."""
    folder = tmp_path_factory.mktemp("two")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "tests.adadpo.train_in_processes", model, str(folder), *METHODS],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_what_one_does(model: str, two: Path, tmp_path: Path, method: str) -> None:
    """Against one process with batches twice as large: weights to 1e-6 and every gathered metric, SGD in float32."""
    with quiet():
        train(model, tmp_path, method, processes=1)
    expected, found = (load_file(folder / "weights.safetensors") for folder in (tmp_path, two / method))
    untrained = load_file(Path(model) / "model.safetensors")
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        assert (found[name] - weight).abs().max() < 1e-6
        assert (untrained[name] - weight).abs().max() > 1e-5  # they moved, all of them
    steps: list[list[dict[str, Any]]] = [
        json.loads((folder / "steps.json").read_text()) for folder in (tmp_path, two / method)
    ]
    assert len(steps[0]) == len(steps[1]) == 3
    for one, both in zip(*steps, strict=True):
        assert both["num_tokens"] == one["num_tokens"]
        for name in ("loss", "grad_norm", *GATHERED):
            assert both[name] == pytest.approx(one[name], rel=2e-5, abs=1e-6), name
    assert abs(steps[0][-1]["rewards/margins"]) > 1e-3

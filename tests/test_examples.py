"""The examples run, and say what they claim; a new one needs its test here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from adadpo import signed_rank_test
from tests.sweeps.sweep_examples import adadpo

EXAMPLES = Path(__file__).parents[1] / "examples"


def output(script: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert [path.name for path in sorted(EXAMPLES.iterdir()) if f'"{path.name}"' not in here] == []


def test_two_annotation_files(tmp_path: Path) -> None:
    """Win rates and differences against the preferences written here: A wins 9 of 12, B 3 of 12."""
    preferences = {"a": [2.0] * 9 + [1.0] * 3, "b": [2.0] * 3 + [1.0] * 9}
    for name, values in preferences.items():
        rows = [
            {"instruction": f"{i}", "output_1": "Short", "output_2": "More " * (1 + i % 4), "preference": value,
             "generator_1": "base", "generator_2": name, "annotator": "judge"}
            for i, value in enumerate(values)
        ]  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    said = output("compare_annotations.py", tmp_path / "a.json", tmp_path / "b.json")
    assert "a.json: WR 75.0" in said
    assert "b.json: WR 25.0" in said
    assert "A - B: +50.0 points over 12 prompts" in said
    p = signed_rank_test([100.0] * 6 + [0.0] * 6).p_value
    assert f"signed-rank p = {p:.4f}; A better on 6, worse on 0: p = 0.0312" in said


def test_own_loss() -> None:
    """Both coefficients train; without balance they are 1, with it the chosen side moves differently."""
    moved = [
        tuple(map(float, re.findall(r"([+-]\d+\.\d+) nats", line)))
        for line in output("own_loss.py").splitlines()
    ]
    assert len(moved) == 2
    assert all(up > down for up, down in moved)
    assert moved[0] != moved[1]


@pytest.mark.train
def test_ablation(tmp_path: Path) -> None:
    """24 runs, and a report with a family of three comparisons."""
    adadpo("launch", EXAMPLES / "ablation.yaml", "--store", tmp_path)
    (found,) = tmp_path.glob("sweeps/*/results.json")
    results = json.loads(found.read_text())
    assert results["counts"] == {"done": 24}
    assert (found.parent / "report.html").exists()


def test_the_api_page_is_complete() -> None:
    """Every documented name by its module, and nothing that is gone."""
    home_of_names: dict[str, str] = vars(import_module("adadpo"))["_HOME"]
    page = (EXAMPLES.parent / "docs" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^::: (\S+)$", page, flags=re.M)) - {"adadpo.errors"}
    homes = {
        name: home.replace(":", ".") if ":" in home else f"{home}.{name}"
        for name, home in home_of_names.items()
    }
    assert listed == {home for home in homes.values() if not home.startswith("adadpo.errors")}

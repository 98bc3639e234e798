"""Commands that compute nothing answer without importing what takes seconds."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from sweep_examples import CONFIGS

HEAVY = {"torch", "transformers", "trl", "datasets", "peft", "accelerate"}
CODE = """
import sys
from sweeps.cli import main
try:
    main()
finally:
    print(sorted(set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["launch", "--help"],
        ["check", "{config}"],
        ["plan", "{config}"],
        ["plan", "{slurm}"],
        ["plan", "small", "--store", "{store}"],
        ["status", "small", "--store", "{store}"],
        ["logs", "small", "--store", "{store}"],
        ["gc", "--store", "{store}"],
        ["audit", "--help"],
        ["score", "--help"],
        ["compare", "--help"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(words: list[str], finished: Path) -> None:
    """sys.modules of a fresh process after the command; help and status do without numpy, too."""
    names = {
        "config": str(CONFIGS / "quickstart.yaml"),
        "slurm": str(CONFIGS / "llama3_8b_ultrafeedback.yaml"),
        "store": str(finished),
    }
    command = [sys.executable, "-c", CODE, *(word.format(**names) for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stderr.splitlines()[-1]))
    assert not HEAVY & loaded
    assert "optuna" not in loaded
    if "--help" in words:
        assert not {"numpy", "scipy", "ruamel.yaml"} & loaded
    if words[0] == "status":
        assert not {"numpy", "scipy", "pandas"} & loaded


def test_every_command_says_what_it_does() -> None:
    """One line each in --help."""
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.cli", "--help"], capture_output=True, text=True, check=True
    )
    for verb in (
        "init",
        "check",
        "plan",
        "launch",
        "status",
        "logs",
        "retry",
        "extend",
        "report",
        "dashboard",
        "audit",
        "gc",
        "score",
        "compare",
    ):
        assert f" {verb} " in done.stdout
        one = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import sys; sys.argv = ['adadpo', '{verb}', '--help']; from sweeps.cli import main; main()",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "Usage: " in one.stdout

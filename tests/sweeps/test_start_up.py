"""Commands that compute nothing answer without importing what takes seconds."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from tests.sweeps.sweep_examples import CONFIGS

HEAVY = {"torch", "transformers", "trl", "datasets", "peft", "accelerate"}
CODE = """
import sys
from sweeps.cli.main import main
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


# "up" is printed when the entry has its handler and begins to import.
BEGUN = """
import sys

class Up:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "sweeps.cli.main":
            print("up", flush=True)

sys.meta_path.insert(0, Up)
from sweeps.cli.entry import main
main()
"""


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5])
def test_interrupted_while_it_starts(seconds: float) -> None:
    """Exit code 130 and one line, whatever is being imported; later, the command may have ended before."""
    command = [sys.executable, "-c", BEGUN, "check", str(CONFIGS / "quickstart.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    ended = [(0, 0), (-signal.SIGINT, 0)]  # the latter while the interpreter takes its handlers down
    assert (process.returncode, len(said.splitlines())) in [(130, 1), *(ended if seconds >= 0.1 else [])]
    assert said.startswith("adadpo: interrupted") or not said


def test_the_program_starts_there() -> None:
    """pyproject.toml names the entry that the test above interrupts; where SIGINT is ignored (nohup), it stays so."""
    project = tomllib.loads((CONFIGS.parents[1] / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["adadpo"] == "_adadpo_start:main"
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.argv = ['adadpo', '--help']\n"
        "from sweeps.cli.entry import main\ntry:\n    main()\nfinally:\n"
        "    print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "True\n"


def test_every_command_says_what_it_does() -> None:
    """One line each in --help."""
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.cli.main", "--help"], capture_output=True, text=True, check=True
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
                f"import sys; sys.argv = ['adadpo', '{verb}', '--help']; from sweeps.cli.main import main; main()",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "Usage: " in one.stdout

"""The wheel, installed in an environment of its own and used in another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.sweeps.sweep_examples import TWO, write_sweep

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environ, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_a_wheel_elsewhere(
    tmp_path: Path, shared_models_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds what it needs and nothing else; its command runs a sweep by the installed packages."""
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path)
    run(sys.executable, *build, ROOT, cwd=tmp_path)
    [wheel] = tmp_path.glob("adadpo-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"_adadpo_start.py", "adadpo", "analysis", "reports", "sweeps"}
    needed = [
        "adadpo/__init__.pyi",
        "sweeps/configs/quickstart.yaml",
        "sweeps/data/train.jsonl",
        "reports/py.typed",
    ]
    assert {*needed, "reports/templates/style.css"} <= {*names}
    assert not [name for name in names if name.endswith((".pyc", "topics.txt", "README.template.md"))]

    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        wheel,
        cwd=tmp_path,
    )
    [packages] = (tmp_path / "env" / "lib").glob("python3*/site-packages")
    # The dependencies are those of this environment; a .pth file in there, an editable install, is not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    monkeypatch.setenv("ADADPO_CACHE", str(shared_models_cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    command = tmp_path / "env" / "bin" / "adadpo"
    assert run(command, "--version", cwd=tmp_path).startswith("adadpo ")
    file = write_sweep(tmp_path / "two.yaml", TWO)
    run(command, "launch", file, "--allow-untestable", "--store", tmp_path / "store", cwd=tmp_path)
    report = tmp_path / "store" / "sweeps" / "two" / "report.html"
    assert "adadpo" in report.read_text(encoding="utf-8")
    for provenance in (tmp_path / "store").glob("*/train/provenance.json"):
        folders = json.loads(provenance.read_text())["loaded_from"]
        assert folders == {name: str(packages / name) for name in ("adadpo", "analysis", "reports", "sweeps")}

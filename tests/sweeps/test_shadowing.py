"""A user's files that are called like ours, or like Python's own: in the working directory they do not matter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from _adadpo_start import find_shadow
from tests.cluster.slurm_cluster import Cluster
from tests.sweeps.sweep_examples import TWO, contents, write_sweep

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("adadpo")
BROKEN = "raise RuntimeError('this is a file of the user')\n"
USERS = (
    "analysis.py",
    "reports/__init__.py",
    "sweeps/__init__.py",
    "torch.py",
    "random.py",
    "json.py",
    "typing.py",
)
SLURM = {"executor": "slurm", "cpus_per_task": 1, "mem_gb": 2, "gpus_per_node": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with the user's files and, below `old`, an earlier checkout of this project."""
    for name in USERS:
        file = tmp_path / "work" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(BROKEN)
    shutil.copytree(
        ROOT / "adadpo", tmp_path / "work" / "adadpo", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "work" / "adadpo" / "config.py").write_text(BROKEN)
    return tmp_path / "work"


def start(folder: Path, *words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [str(COMMAND), *map(str, words)]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environ, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_files_in_the_working_directory(folder: Path, undisturbed: Path, executor: str) -> None:
    """The same bytes as a launch elsewhere; the runs' provenance names the installed packages."""
    file = write_sweep(folder / "two.yaml", TWO.replace("inline", executor))
    done = start(folder, "launch", file.name, "--allow-untestable", "--store", "store")
    assert done.returncode == 0, done.stderr
    assert contents(folder / "store") == contents(undisturbed)
    for provenance in (folder / "store").glob("*/train/provenance.json"):
        folders = json.loads(provenance.read_text())["loaded_from"]
        assert folders == {name: str(ROOT / name) for name in ("adadpo", "analysis", "reports", "sweeps")}


def test_files_in_the_working_directory_of_slurm_jobs(
    folder: Path, undisturbed: Path, slurm: Cluster
) -> None:
    """Runs and the finish job."""
    file = write_sweep(folder / "two.yaml", TWO.replace("{executor: inline}", json.dumps(SLURM)))
    done = start(folder, "launch", file.name, "--allow-untestable", "--store", "store", "--follow")
    assert done.returncode == 0, done.stderr
    assert contents(folder / "store") == contents(undisturbed)
    assert (folder / "store" / "sweeps" / "two" / "report.html").exists()


@pytest.mark.parametrize("name", [*USERS, "an old checkout"])
def test_files_on_pythonpath(folder: Path, tmp_path: Path, name: str) -> None:
    """Ends at once with the file's name, the variable's, and exit code 2."""
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    if name == "an old checkout":
        shutil.copytree(folder / "adadpo", shadow / "adadpo")
        file = shadow / "adadpo" / "__init__.py"
    else:
        file = shadow / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(BROKEN)
    done = start(tmp_path, "--version", PYTHONPATH=str(shadow))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"adadpo: {file} shadows "), done.stderr
    assert "PYTHONPATH" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_pythonpath_of_other_packages(tmp_path: Path) -> None:
    """A folder with packages of its own, our own root and Python's own folder are no shadows."""
    (tmp_path / "mine.py").touch()
    folders = [str(tmp_path), str(ROOT), str(Path(os.__file__).parent)]
    assert start(tmp_path, "--version", PYTHONPATH=os.pathsep.join(folders)).returncode == 0


def test_a_shadow_in_sys_path(tmp_path: Path) -> None:
    """A package of the same name that was installed before ours is named, too."""
    (tmp_path / "reports.py").touch()
    found = find_shadow([str(tmp_path), str(ROOT)], "")
    assert found is not None
    assert found.startswith(f"{tmp_path / 'reports.py'} shadows adadpo's own package 'reports'")
    assert find_shadow([str(ROOT), str(tmp_path)], "") is None

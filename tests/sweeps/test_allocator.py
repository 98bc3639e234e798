"""Memory that worker processes keep: by what the system says of a process that was started so."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.store.allocator import TUNABLES, VARIABLE, kept_memory
from tests.sweeps.sweep_examples import TWO, adadpo, write_sweep

# Takes 100 MB, frees them, and says how many MB it still has of them.
KEEPS = """\
import ctypes, re
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before = resident()
where = libc.malloc(100 * 2**20)
ctypes.memset(where, 1, 100 * 2**20)
libc.free(where)
print(resident() - before)
"""


def kept_by_a_child() -> float:
    done = subprocess.run([sys.executable, "-c", KEEPS], capture_output=True, text=True, check=True)
    assert not done.stderr  # the C library names a tunable that it does not know
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the variable is of the GNU C library")
def test_what_is_freed_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with kept_memory(huge_pages=True):
        assert kept_by_a_child() > 95
    with kept_memory(huge_pages=False):
        assert kept_by_a_child() < 20
    assert VARIABLE not in os.environ


def test_the_users_own_setting_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    with kept_memory(huge_pages=True):
        assert os.environ[VARIABLE] == ""
    assert os.environ[VARIABLE] == ""


@pytest.mark.parametrize(("key", "told"), [("", True), (", huge_pages: false", False)])
def test_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, told: bool) -> None:
    """What a run's provenance records of its worker; the launcher's own children are not told."""
    monkeypatch.delenv(VARIABLE, raising=False)
    launch = f"executor: local{key}, on_finish: 'echo told=${VARIABLE} > {tmp_path}/finished'"
    text = TWO.replace("executor: inline", launch).replace("max_new_tokens: 8", "max_new_tokens: 1")
    store = tmp_path / "store"
    answer = adadpo("launch", write_sweep(tmp_path / "two.yaml", text), "--store", store)
    assert answer.code == 0, answer.err + answer.out
    found = {json.loads(file.read_text())["allocator"] for file in store.glob("*/provenance.json")}
    everything = ":".join(f"glibc.malloc.{name}={value}" for name, value in TUNABLES.items())
    assert found == {everything if told else "as it comes"}
    assert (tmp_path / "finished").read_text() == "told=\n"

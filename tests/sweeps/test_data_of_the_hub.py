"""A data set of the hub is fetched where a launch is called, so that nodes without a network can train on it.

Against a stand-in hub, by real processes: the hub's address and its cache are read when its client is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.sweeps.sweep_examples import TWO, with_flag, write_sweep

COMMIT = "b" * 40
ROWS = [{"prompt": f"Say {i}.", "chosen": f"{i}", "rejected": "I would rather not."} for i in range(16)]
CONTENT = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
FILES = {"train.jsonl": CONTENT, "test.jsonl": CONTENT}
OF_HUB = TWO.replace('"builtin:instructions", limit: 16, heldout_limit: 8', "org/pairs")
SLURM = OF_HUB.replace("executor: inline", "executor: slurm, timeout_min: 5")


class Hub(BaseHTTPRequestHandler):
    """One data set, org/pairs, of two splits."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer()

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)  # type: ignore[attr-defined]
        name = path.removeprefix(f"/datasets/org/pairs/resolve/{COMMIT}/")
        entries = [
            {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for file, content in FILES.items()
        ]
        siblings = [{"rfilename": file} for file in FILES]
        info = {"id": "org/pairs", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
        if path.startswith("/api/datasets/org/pairs/revision/") or path == "/api/datasets/org/pairs":
            self.send(json.dumps(info).encode())
        elif path == f"/api/datasets/org/pairs/tree/{COMMIT}":
            self.send(json.dumps(entries).encode())
        elif path == f"/api/datasets/org/pairs/paths-info/{COMMIT}":
            self.send(b"[]")
        elif name in FILES:
            self.send(FILES[name])
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_runs_train_on_it_without_a_network(
    hub: ThreadingHTTPServer, tmp_path: Path, shared_models_cache: Path
) -> None:
    """The files are asked for before sbatch, which refuses; then runs are trained by a process told to stay offline."""
    asked: list[str] = hub.asked  # type: ignore[attr-defined]
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text("#!/bin/sh\necho no job today >&2\nexit 1\n")
    for name in ("squeue", "scontrol", "sinfo"):
        (programs / name).write_text("#!/bin/sh\n")
    for program in programs.iterdir():
        program.chmod(0o755)

    def launch(text: str, offline: str) -> subprocess.CompletedProcess[str]:
        file = write_sweep(tmp_path / "sweep.yaml", text)
        environ = {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": offline, "NO_PROXY": "127.0.0.1", "ADADPO_CACHE": str(shared_models_cache),
            "PATH": f"{programs}:{os.environ['PATH']}",
        }  # fmt: skip
        words = with_flag("launch", file, "--store", tmp_path / "runs")
        return subprocess.run(
            [sys.executable, "-m", "sweeps.cli.main", *words],
            env=os.environ | environ,
            capture_output=True,
            text=True,
        )

    submitted = launch(SLURM, "0")
    assert (submitted.returncode, "no job today" in submitted.stderr) == (1, True), submitted.stderr
    assert {f"/datasets/org/pairs/resolve/{COMMIT}/{name}" for name in FILES} <= set(asked)
    before = len(asked)
    trained = launch(OF_HUB, "1")
    assert trained.returncode == 0, trained.stderr
    assert len(list((tmp_path / "runs").rglob("metrics.json"))) == 2
    assert len(asked) == before

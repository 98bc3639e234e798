"""A model is fetched where a launch is called, so that nodes without a network can load it; against a stand-in hub."""

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

from adadpo.models.load import prepare_model, resolve_model

COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """One repository, org/tiny: what the tiny model is made of, a pickle of weights, and a picture."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        files: dict[str, bytes] = self.server.files  # type: ignore[attr-defined]
        asked: list[str] = self.server.asked  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        asked.append(path)
        name = path.removeprefix(f"/org/tiny/resolve/{COMMIT}/")
        if path == "/api/models/org/tiny/revision/main":
            self.send(json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": []}).encode())
        elif path == f"/api/models/org/tiny/tree/{COMMIT}":
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ]
            self.send(json.dumps(entries).encode())
        elif name in files:
            self.send(files[name])
        else:
            self.send_error(404)

    def send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    folder = Path(prepare_model(resolve_model("tiny-random-llama")))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    server.files = files | {"pytorch_model.bin": b"pickle", "picture.png": b"png"}  # type: ignore[attr-defined]
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def python(code: str, **environ: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from adadpo.models.load import *; source = resolve_model('org/tiny'); {code}",
        ],
        env=os.environ | environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_model_of_the_hub_is_there_before_the_network_goes(
    hub: ThreadingHTTPServer, tmp_path: Path
) -> None:
    """Fetched without torch, neither pickles nor pictures; then loaded by a process that is told to stay offline."""
    home = {"HF_HOME": str(tmp_path / "home")}
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    said = python(
        "import sys; fetch_model(source); print('torch' in sys.modules)",
        **home, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="0",
    )  # fmt: skip
    assert said.strip() == "False"
    fetched = {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path}  # type: ignore[attr-defined]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= fetched
    assert not fetched & {"pytorch_model.bin", "picture.png"}
    before = len(hub.asked)  # type: ignore[attr-defined]
    load = "print(type(load_model(source)).__name__, len(load_tokenizer(source)) > 0)"
    assert python(load, **home, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="1").split() == [
        "LlamaForCausalLM",
        "True",
    ]
    assert len(hub.asked) == before  # type: ignore[attr-defined]

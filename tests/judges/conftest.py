"""A judge's server for the whole session, reset before each test that uses it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
KEY = "sk-secret-0123456789abcdef"


class JudgeServer:
    """The running server, seen from a test."""

    def __init__(self, port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"

    def told(self, **how: Any) -> None:
        """Reset the counts and say how to behave: `faults`, `delay`, `noise`."""
        request = urllib.request.Request(f"{self.root}/control", json.dumps(how).encode(), method="POST")
        _DIRECT.open(request, timeout=10).close()

    def stats(self) -> dict[str, Any]:
        with _DIRECT.open(f"{self.root}/stats", timeout=10) as response:
            found: dict[str, Any] = json.load(response)
        return found


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JudgeServer]:
    port_file = tmp_path_factory.mktemp("server") / "port"
    process = subprocess.Popen([sys.executable, "-m", "judge_server", str(port_file)], cwd=HERE)
    try:
        for _ in range(3000):
            if port_file.exists():
                break
            time.sleep(0.02)
        yield JudgeServer(int(port_file.read_text()))
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def server(running_server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> JudgeServer:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    running_server.told()
    return running_server

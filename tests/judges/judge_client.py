"""The judge's server of the tests, as a test sees it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]  # helper processes start here: `python -m tests.judges.NAME`
KEY = "sk-secret-0123456789abcdef"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


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

"""How the processes of a run find one another where a file or a port is not what it was: real processes, gloo."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# One process of two: says what the first one said, or why they do not meet.
MEET = """\
import sys
from datetime import timedelta
from pathlib import Path
from adadpo.training import processes
from adadpo.training.processes import PeerError, joined
if not sys.argv[1:]:
    processes.MEET_TIMEOUT = timedelta(seconds=3)
try:
    with joined("ddp", print, None, Path(sys.argv[1]) if sys.argv[1:] else None) as processes:
        print("met", processes.from_first(f"rank {processes.rank}"), processes.size)
except PeerError as error:
    print("PeerError:", error)
"""


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another program listens, and answers nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def begin(rank: int, *words: str | Path, **more: str) -> subprocess.Popen[str]:
    environ = {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        **more,
    }
    return subprocess.Popen(
        [sys.executable, "-c", MEET, *map(str, words)],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def said(processes: list[subprocess.Popen[str]]) -> list[str]:
    try:
        return [process.communicate(timeout=60)[0].strip() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_file_that_an_earlier_start_left(tmp_path: Path, taken: int) -> None:
    """It names a port that another program has by now: the second one, there first, waits for the first one's own."""
    meeting = tmp_path / "meeting.json"
    meeting.write_text(json.dumps({"port": taken, "word": "earlier"}))
    second = begin(1, meeting)
    time.sleep(1)
    assert said([begin(0, meeting), second]) == ["met rank 0 2"] * 2
    assert not meeting.exists()


def test_a_port_that_another_program_took(taken: int) -> None:
    """MASTER_PORT as somebody chose it: both say so and end."""
    found = said([begin(rank, MASTER_PORT=str(taken)) for rank in range(2)])
    for words in found:
        assert words.startswith("PeerError: the processes of the run cannot connect through 127.0.0.1:"), (
            found
        )

"""What is computed once: by several real processes at a time, one of which may be killed while it computes."""

from __future__ import annotations

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from adadpo.caches import computed_once
from adadpo.errors import StoppedError
from adadpo.stopping import forget_stop, request_stop

FORK = multiprocessing.get_context("fork")
WHAT = "numbers"
NUMBERS = {"x": torch.arange(5.0)}


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask(folder: Path, number: int, together: Callable[[], object]) -> None:
    """One of several processes: what it computes, logs and gets goes into files."""
    logging.basicConfig(filename=folder / f"{number}.log", level=logging.INFO, force=True)

    def compute() -> dict[str, torch.Tensor]:
        wait_for(lambda: sum("waiting" in log.read_text() for log in folder.glob("*.log")) == 2)
        return NUMBERS

    together()
    found = computed_once(folder / "x.safetensors", WHAT, compute)
    (folder / f"{number}.found").write_text(str(found["x"].tolist()))


def test_processes_that_ask_together(tmp_path: Path) -> None:
    """Three at once: one computes, which takes until the others wait; those say so, and all have the same."""
    together = FORK.Barrier(3)
    asking = [FORK.Process(target=ask, args=(tmp_path, number, together.wait)) for number in range(3)]
    for process in asking:
        process.start()
    for process in asking:
        process.join(120)
        assert process.exitcode == 0
    logs = [file.read_text() for file in tmp_path.glob("*.log")]
    assert sum("numbers: computed in " in log for log in logs) == 1
    assert sum("numbers: waiting for another process that computes them" in log for log in logs) == 2
    assert sum("numbers: waited " in log for log in logs) == 2
    assert {file.read_text() for file in tmp_path.glob("*.found")} == {"[0.0, 1.0, 2.0, 3.0, 4.0]"}


@contextmanager
def somebody_computes(file: Path) -> Iterator[multiprocessing.process.BaseProcess]:
    """A process that holds the right to compute a file, and never comes to an end."""
    begun = file.with_suffix(".begun")

    def forever() -> dict[str, torch.Tensor]:
        begun.touch()
        time.sleep(600)
        return NUMBERS

    holder = FORK.Process(target=computed_once, args=(file, WHAT, forever))
    holder.start()
    try:
        wait_for(begun.exists)
        yield holder
    finally:
        holder.kill()
        holder.join()


def when_waiting(caplog: pytest.LogCaptureFixture, act: Callable[[], object]) -> threading.Thread:
    """Do something as soon as this process waits."""

    def watch() -> None:
        wait_for(lambda: "waiting for another process" in caplog.text)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_a_holder_that_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """kill -9 of the process that computes: the one that waits computes instead, and nothing else is left behind."""
    caplog.set_level(logging.INFO)
    file = tmp_path / "x.safetensors"
    with somebody_computes(file) as holder:
        thread = when_waiting(caplog, holder.kill)
        found = computed_once(file, WHAT, lambda: NUMBERS)
        thread.join()
    assert torch.equal(found["x"], NUMBERS["x"])
    assert "numbers: computed in " in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.begun", "x.lock", "x.safetensors"]


def test_asked_to_stop_while_waiting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A signal to stop does not wait for the other process, and computes nothing."""
    caplog.set_level(logging.INFO)
    file = tmp_path / "x.safetensors"
    try:
        with somebody_computes(file) as holder:
            thread = when_waiting(caplog, request_stop)
            with pytest.raises(StoppedError):
                computed_once(file, WHAT, lambda: pytest.fail("computed"))
            thread.join()
            assert holder.is_alive()
    finally:
        forget_stop()
    assert not file.exists()

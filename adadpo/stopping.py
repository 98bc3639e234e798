"""Being asked to stop, by preemption or a time limit, and leaving in a state that the next attempt continues from.

A signal handler calls `request_stop`, which only sets a flag. Training looks at it after every optimiser step: it
saves a checkpoint and raises `StoppedError`; generation and judging raise it between two batches, which are kept on
the disk. The next attempt gives the bytes that an undisturbed run would have given. Nothing here installs a handler
by itself:

    with stopping_on(signal.SIGTERM, signal.SIGUSR2):
        execute(job, ...)  # raises StoppedError: the lease is given up, the run's state is "waiting"

One flag for the process: signals are the process's own.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from adadpo.errors import StoppedError

_asked = threading.Event()


def request_stop(signal_number: int | None = None, frame: FrameType | None = None) -> None:
    """Ask this process's work to stop; fit to be a signal handler."""
    _asked.set()


def stop_requested() -> bool:
    """Whether a stop was requested."""
    return _asked.is_set()


def forget_stop() -> None:
    """Withdraw the request: the process goes on to something else."""
    _asked.clear()


def raise_if_stopped() -> None:
    """For work that may be left at once.

    Raises:
        StoppedError: a stop was requested.
    """
    if _asked.is_set():
        raise StoppedError("asked to stop")


@contextmanager
def stopping_on(*signals: signal.Signals) -> Iterator[None]:
    """`request_stop` as the handler of some signals, for the length of a block; for the main thread.

    A request that is still open at the end is withdrawn.
    """
    before = {number: signal.signal(number, request_stop) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        forget_stop()

"""Leaving when asked to: KeyboardInterrupt where it stays one, or at once."""

from __future__ import annotations

import _thread
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PAUSE_SECONDS = 0.005
_postponed: set[int] = set()


def interrupt(signal_number: int, frame: FrameType | None) -> None:
    """A signal handler that waits until the modules are there that are being imported; asked again, it leaves.

    C code in their midst makes an ImportError of the exception, pydantic a SchemaError of its own, and code that
    can do without a module goes on without it.

    Raises:
        KeyboardInterrupt: now or, where modules are being imported, soon.
    """
    if signal_number in _postponed:
        leave(signal_number, frame)
    if not postponed(signal_number, frame):
        raise KeyboardInterrupt


def leave(signal_number: int, frame: FrameType | None) -> None:
    """A signal handler that ends the process at once, as a kill would, and says so."""
    signal.signal(signal_number, signal.SIG_IGN)  # said once
    os.write(2, b"adadpo: interrupted\n")
    os._exit(130)


def postponed(signal_number: int, frame: FrameType | None) -> bool:
    """Whether modules are being imported in `frame`; then the signal comes again a little later."""
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    if frame is None:
        return False
    if signal_number not in _postponed:
        _postponed.add(signal_number)
        again = threading.Timer(PAUSE_SECONDS, _again, (signal_number,))
        again.daemon = True
        again.start()
    return True


@contextmanager
def held_back(signal_number: signal.Signals) -> Iterator[None]:
    """The signal is handled after the block; child processes that it starts know nothing of that."""
    came: list[int] = []
    before = signal.signal(signal_number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal_number, before)
        if came:
            signal.raise_signal(signal_number)


def _again(signal_number: signal.Signals) -> None:
    _postponed.discard(signal_number)
    _thread.interrupt_main(signal_number)  # whether or not the process blocks the signal

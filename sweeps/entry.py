"""The program's entry: Ctrl-C ends it at once and in one line while its modules are imported, and while it leaves."""

from __future__ import annotations

import os
import signal
from types import FrameType


def main() -> None:
    """The command line, `sweeps.cli`."""
    # Ignored under nohup, and so it stays.
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, _leave)
    from sweeps.cli import main as command

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command()
    except KeyboardInterrupt:  # between two statements of the command line's own
        _leave(signal.SIGINT, None)
    finally:
        if heeded:
            signal.signal(signal.SIGINT, _leave)


def _leave(signal_number: int, frame: FrameType | None) -> None:
    # Without unwinding: C code that is being imported makes an ImportError of the exception, in many lines.
    os.write(2, b"adadpo: interrupted\n")
    os._exit(130)

"""The program's entry: Ctrl-C ends it at once and in one line while its modules are imported, and while it leaves."""

from __future__ import annotations

import signal

from sweeps.store.signals import interrupt, leave


def main() -> None:
    """The command line, `sweeps.cli.main`."""
    # Ignored under nohup, and so it stays.
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, leave)
    from sweeps.cli.main import main as command

    if heeded:
        signal.signal(signal.SIGINT, interrupt)
    try:
        command()
    except KeyboardInterrupt:  # between two statements of the command line's own
        leave(signal.SIGINT, None)
    finally:
        if heeded:
            signal.signal(signal.SIGINT, leave)

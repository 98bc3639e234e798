"""A search with made-up results whose process kills itself at one of its writes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from sweeps.state.opening import open_sweep
from sweeps.store.layout import Store
from tests.sweeps.search_examples import run_all


def write(file: str, store: str, dies_at: int) -> None:
    """Go on until the n-th rename: even numbers die before it, odd ones after it."""
    left = iter(range(dies_at, -1, -1))
    original = os.replace

    def replace(*words: Any) -> None:
        dies = next(left, None) == 0
        if not (dies and dies_at % 2 == 0):
            original(*words)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace  # type: ignore[assignment]
    run_all(open_sweep(file, Store(Path(store))))

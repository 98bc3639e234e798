"""How the threads of torch wait for each other."""

from __future__ import annotations

import os


def wait_briefly() -> None:
    """Let OpenMP's threads spin for microseconds, then sleep; before torch is loaded, and unless the user says else.

    Threads that spin long make torch 2.5 times slower on a machine that does something else too; threads that do not
    spin at all make a training step a fifth slower and generation a third on one that does not.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")

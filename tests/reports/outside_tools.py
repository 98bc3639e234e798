"""Programs that are no Python packages: tests skip without them on a user's machine, and fail in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def needed(name: str, package: str) -> str:
    """The program's path.

    Args:
        name: of the program.
        package: of Debian, that brings it.
    """
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no {name!r} on PATH: CI must have it ({package})")
        pytest.skip(f"no {name!r} on PATH: apt-get install {package}")
    return found

"""Errors that are told to a user in plain words, without a traceback.

SweepError
├── UserError      something the user wrote or asked for cannot be; exit code 2
└── FailureError   the work could not be done; exit code 1
    └── ProcessGroupError   not by these processes together; by another start of their job it can
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SweepError(Exception):
    """A message for the user; `exit_code` is the process's."""

    exit_code = 1


class UserError(SweepError):
    """Bad input: the message names the value, the choices and the place."""

    exit_code = 2


class FailureError(SweepError):
    """A failure of the work itself: disk, network, every run failing alike."""


class ProcessGroupError(FailureError):
    """The processes of a job cannot go on together: one of them is gone, or in the middle of something else."""


def suggest(word: str, allowed: Iterable[str]) -> str:
    """`; did you mean ...?` when something is near, else the choices."""
    allowed = list(allowed)
    near = difflib.get_close_matches(word, allowed, n=1)
    return (
        f"; did you mean {near[0]!r}?" if near else f"; choose from {', '.join(allowed)}" if allowed else ""
    )

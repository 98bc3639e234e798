"""Every error of the project, in one tree; what a caller can handle differently has a class of its own.

AdaDPOError
├── SweepError                 a command or a worker cannot go on
│   ├── UserError              what the user wrote or asked for cannot be done; exit code 2
│   └── FailureError           the work could not be done; exit code 1
│       └── ProcessGroupError  the processes of a job cannot go on together; another start of the job can
├── StoppedError               asked to stop, and did, between two steps: no failure of the run
├── DivergedError              a loss or gradient is not a finite number: an outcome of the run
├── PeerError                  another process of the run failed
│   └── PeerGoneError          ... and left no message: killed, or its machine is down
├── ModelError                 a model that cannot be named, found, fetched or read
├── DataError                  preference data that cannot be used
│   └── RowError               ... one row of them
├── JudgeError                 answers that cannot be judged, or a judge that cannot go on
├── QuestionError              one pair that a judge cannot be asked about
├── ConstraintError            a verifiable constraint that is not one
├── RequestError               one request to a judge's endpoint
│   ├── UnusableAnswerError    ... answered without what was asked for
│   ├── FailedRequestError     ... not answered, and trying again would not help
│   │   └── UnavailableError   ... not answered after every attempt; later it may be
│   └── JudgingStoppedError    ... given up, because another request ended the judging
├── AnnotationError            AlpacaEval annotations that cannot be used
│   └── UnlikeError            annotations that must not be compared
│       └── UnlikePromptsError ... of different prompts: the common ones can be compared
├── CalibrationError           a calibration of length control that cannot be used
├── AssetError                 a file of AlpacaEval that cannot be fetched, or is another file
├── TableError                 a table of runs with duplicate, unknown or missing keys
└── ReportError                results that cannot be read, or a report that cannot be written

A message names the value, the choices and the place. The command line prints it without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AdaDPOError(Exception):
    """A message for the user; `exit_code` is the exit code of a command that ends with it."""

    exit_code = 1


class SweepError(AdaDPOError):
    """A command or a worker cannot go on."""


class UserError(SweepError):
    """What the user wrote or asked for cannot be done."""

    exit_code = 2


class FailureError(SweepError):
    """The work could not be done: disk, network, too many runs with the same failure."""


class ProcessGroupError(FailureError):
    """The processes of a job cannot go on together: one of them is gone, or is at another point."""


class StoppedError(AdaDPOError):
    """The process was asked to stop, and stopped between two steps or batches; no failure of the run."""


class DivergedError(AdaDPOError, RuntimeError):
    """Training produced a loss or gradient that is not a finite number."""

    def __init__(self, step: int, quantity: str, value: float) -> None:
        self.step, self.quantity = step, quantity
        super().__init__(f"diverged at step {step}: {quantity} is {value}")


class PeerError(AdaDPOError, RuntimeError):
    """Another process of the run failed, so that this one cannot go on; the message is that one's."""


class PeerGoneError(PeerError):
    """Another process of the run is gone and left no message: it was killed, or its machine is down."""


class ModelError(AdaDPOError, ValueError):
    """A model that cannot be named, found, fetched or read; the message says which and what would help."""

    exit_code = 2


class DataError(AdaDPOError, ValueError):
    """Preference data that cannot be used."""

    exit_code = 2


class RowError(DataError):
    """One row that cannot be used; the message says why."""


class JudgeError(AdaDPOError, ValueError):
    """Answers that cannot be judged, or a judge that cannot go on; the message says what would help."""


class QuestionError(AdaDPOError, ValueError):
    """A pair that a judge cannot be asked about; the others can."""


class ConstraintError(AdaDPOError, ValueError):
    """A constraint that is not one; the message names the value and the choices."""


class RequestError(AdaDPOError):
    """One request to a judge's endpoint that brought no answer."""


class UnusableAnswerError(RequestError):
    """An answer without what was asked for; `usage` is what it cost."""

    def __init__(self, reason: str, usage: dict[str, int] | None = None) -> None:
        super().__init__(reason)
        self.reason, self.usage = reason, usage


class FailedRequestError(RequestError):
    """No answer, and trying again could not bring one; other questions may do better."""


class UnavailableError(FailedRequestError):
    """No answer after every attempt; later there may be one."""


class JudgingStoppedError(RequestError):
    """Another request ended the judging."""


class AnnotationError(AdaDPOError, ValueError):
    """Annotations that cannot be used; the message names the record and the value."""

    exit_code = 2


class UnlikeError(AnnotationError):
    """Annotations that must not be compared; the message names what differs."""


class UnlikePromptsError(UnlikeError):
    """Annotations of different prompt sets: the common prompts could be compared."""


class CalibrationError(AdaDPOError, ValueError):
    """A calibration that cannot be used, or annotations of prompts that it does not know."""

    exit_code = 2


class AssetError(AdaDPOError, RuntimeError):
    """A file of AlpacaEval that cannot be fetched or is not what it should be; the message says what to do."""


class TableError(AdaDPOError, ValueError):
    """A table of runs that cannot be joined: duplicate, unknown or missing keys."""

    exit_code = 2


class ReportError(AdaDPOError):
    """Results that cannot be read, or a report that cannot be written; the message names the file."""


def suggest(word: str, allowed: Iterable[str]) -> str:
    """`; did you mean ...?` when something is near, else the choices."""
    allowed = list(allowed)
    near = difflib.get_close_matches(word, allowed, n=1)
    return (
        f"; did you mean {str(near[0])!r}?"
        if near
        else f"; choose from {', '.join(allowed)}"
        if allowed
        else ""
    )

"""Every error of the project, in one tree; what a caller can handle differently has a class of its own.

AdaDPOError
├── SweepError                 a command or a worker cannot continue
│   ├── UserError              the user asked for something that cannot be done; exit code 2
│   └── FailureError           the work failed: disk, network, too many equal failures; exit code 1
│       └── ProcessGroupError  the processes of a job lost each other; restarting the job can help
├── StoppedError               the process was asked to stop and stopped; the run did not fail
├── DivergedError              a loss or gradient is not a finite number: a result of the run
├── PeerError                  another process of the run failed
│   └── PeerGoneError          ... and left no message: it was killed, or its machine is down
├── ModelError                 a model cannot be named, found, fetched or read
├── DataError                  preference data cannot be used
│   └── RowError               ... because of one row
├── JudgeError                 answers cannot be judged, or a judge cannot continue
├── QuestionError              one pair cannot be sent to the judge; the other pairs can
├── ConstraintError            a verifiable constraint is not valid
├── RequestError               one request to a judge's endpoint gave no answer
│   ├── UnusableAnswerError    ... its answer lacks what the request asked for
│   ├── FailedRequestError     ... and a retry would not help
│   │   └── UnavailableError   ... after every attempt; a later one may succeed
│   └── JudgingStoppedError    ... because another request ended the judging
├── AnnotationError            AlpacaEval annotations cannot be used
│   └── UnlikeError            two files of annotations must not be compared
│       └── UnlikePromptsError ... because their prompts differ; the common prompts can be compared
├── CalibrationError           a calibration of length control cannot be used
├── AssetError                 a file of AlpacaEval cannot be fetched, or has the wrong content
├── TableError                 a table of runs has duplicate, unknown or missing keys
└── ReportError                a report cannot be written
    └── ResultsError           a results file cannot be read

A message names what happened, the value and what to do. The command line prints it without a traceback and ends with
the class's `exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AdaDPOError(Exception):
    """A message for the user; `exit_code` is that of a command which ends with this error."""

    exit_code = 1


class SweepError(AdaDPOError):
    """A command or a worker cannot continue."""


class UserError(SweepError):
    """The user asked for something that cannot be done."""

    exit_code = 2


class FailureError(SweepError):
    """The work failed: disk, network, too many runs with the same failure."""


class ProcessGroupError(FailureError):
    """The processes of a job lost each other: one is gone, or works at another point."""


class StoppedError(AdaDPOError):
    """The process was asked to stop and stopped between two steps or batches; the run did not fail."""


class DivergedError(AdaDPOError, RuntimeError):
    """Training produced a loss or gradient that is not a finite number."""

    def __init__(self, step: int, quantity: str, value: float) -> None:
        self.step, self.quantity = step, quantity
        super().__init__(f"diverged at step {step}: {quantity} is {value}")


class PeerError(AdaDPOError, RuntimeError):
    """Another process of the run failed, so this one cannot continue; the message is the other's."""


class PeerGoneError(PeerError):
    """Another process of the run ended without a message: it was killed, or its machine is down."""


class ModelError(AdaDPOError, ValueError):
    """A model cannot be named, found, fetched or read."""

    exit_code = 2


class DataError(AdaDPOError, ValueError):
    """Preference data cannot be used."""

    exit_code = 2


class RowError(DataError):
    """One row of the data cannot be used."""


class JudgeError(AdaDPOError, ValueError):
    """Answers cannot be judged, or the judge cannot continue."""


class QuestionError(AdaDPOError, ValueError):
    """One pair cannot be sent to the judge; the other pairs can."""


class ConstraintError(AdaDPOError, ValueError):
    """A verifiable constraint is not valid."""


class RequestError(AdaDPOError):
    """One request to a judge's endpoint gave no answer."""


class UnusableAnswerError(RequestError):
    """The answer lacks what the request asked for; `usage` is its tokens, None where unknown."""

    def __init__(self, reason: str, usage: dict[str, int] | None = None) -> None:
        super().__init__(reason)
        self.reason, self.usage = reason, usage


class FailedRequestError(RequestError):
    """No answer, and a retry would not help; other requests may succeed."""


class UnavailableError(FailedRequestError):
    """No answer after every attempt; a later one may succeed."""


class JudgingStoppedError(RequestError):
    """Another request ended the judging."""


class AnnotationError(AdaDPOError, ValueError):
    """AlpacaEval annotations cannot be used."""

    exit_code = 2


class UnlikeError(AnnotationError):
    """Two files of annotations must not be compared; the message names what differs."""


class UnlikePromptsError(UnlikeError):
    """The annotations are of different prompts; the common prompts can be compared."""


class CalibrationError(AdaDPOError, ValueError):
    """A calibration of length control cannot be used, or does not know a prompt."""

    exit_code = 2


class AssetError(AdaDPOError, RuntimeError):
    """A file of AlpacaEval cannot be fetched, or has the wrong content."""


class TableError(AdaDPOError, ValueError):
    """A table of runs has duplicate, unknown or missing keys."""

    exit_code = 2


class ReportError(AdaDPOError):
    """A report cannot be written."""


class ResultsError(ReportError):
    """A results file cannot be read."""

    exit_code = 2


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

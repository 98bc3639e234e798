"""What a worker does about a failure: writes it down as the run's, tries again, or stops what would fail alike."""

from __future__ import annotations

import logging
import shutil
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from adadpo.errors import (
    DataError,
    FailureError,
    JudgeError,
    ModelError,
    PeerError,
    ProcessGroupError,
    StoppedError,
    SweepError,
)
from sweeps.failures.attempts import may_try_again, note_attempt, waits_to_be_alone
from sweeps.failures.causes import POLICIES, Cause, classify, signature, traceback_tail
from sweeps.store.control_files import ControlFiles
from sweeps.store.host import host_info
from sweeps.store.job import Job
from sweeps.store.layout import RunFolder, Store, read_json_or_none, write_json


@contextmanager
def record_failures(job: Job, folder: RunFolder, stage: str) -> Iterator[None]:
    """For the length of a stage: the run's own failure is written down, or left for another try by its policy.

    Raises:
        SweepError: what concerns every run; a full disk and a silent judge stop the other workers too.
        StoppedError: the process was asked to stop.
    """
    log, began = logging.getLogger("sweeps"), time.time()
    control = ControlFiles(Store(Path(job.store)).sweep(job.sweep))
    try:
        yield
    except StoppedError as error:
        log.info("%s: %s; the next attempt goes on here", stage, error)
        raise
    except JudgeError as error:
        log.error("%s: %s", stage, error)
        control.stop("judge", str(error))
        raise FailureError(str(error)) from error
    except (SweepError, ModelError, DataError) as error:
        log.error("%s: %s", stage, error)
        if classify(error.__cause__ or error) == "disk":
            _stop_for_disk(control, str(error))
        raise error if isinstance(error, SweepError) else FailureError(str(error)) from error
    except Exception as error:
        cause: Cause = "disk" if _no_room(folder.path) else classify(error)
        if cause == "diverged":
            log.warning("%s", error)
        else:
            log.error("%s", traceback.format_exc())
        if cause == "disk":
            said = f"{stage}: no space left on the disk of {folder.path}"
            _stop_for_disk(control, said)
            raise FailureError(said) from error
        if (
            isinstance(error, OSError) and cause == "bug"
        ):  # a folder that cannot be written, a file that is a folder
            raise FailureError(
                f"{stage}: {error.strerror or error}: {error.filename or folder.path}"
            ) from error
        _note(job, folder, stage, cause, error, time.time() - began)
        if cause == "node" and folder.failed(job.evaluation.eval_id) is None:
            if isinstance(error, PeerError):
                raise ProcessGroupError(f"{stage}: {error}") from error
            raise FailureError(f"{stage}: this machine is in trouble: {_first_line(error)}") from error


def stop_on_repeated_failure(store: Store, control: ControlFiles, folder: RunFolder) -> None:
    """Stop the launch when a run's failure is one of too many that are the same, in whatever process or job.

    Raises:
        FailureError: it is.
    """
    failure = read_json_or_none(folder.failure) or {}
    policy = POLICIES.get(failure.get("kind", ""))
    if policy is None or policy.stop_after is None or "signature" not in failure:
        return
    alike = control.same_failure(store, failure["signature"])
    if folder.path.name in alike and len(alike) >= policy.stop_after:
        message = f"{len(alike)} runs failed alike: {failure['message']} (log: {folder.log})"
        control.stop(failure["kind"], message)
        raise FailureError(f"stopped: {message}")


def _note(job: Job, folder: RunFolder, stage: str, cause: Cause, error: Exception, seconds: float) -> None:
    eval_id, generation_id = job.evaluation.eval_id, job.evaluation.generation_id
    message = _first_line(error)
    note_attempt(folder, cause, stage=stage, seconds=seconds, evidence=message, **host_info())
    if waits_to_be_alone(folder):
        logging.getLogger("sweeps").warning("%s: %s next to other runs: tried again alone", stage, cause)
        return
    if cause != "diverged" and may_try_again(folder, cause, job.retries):
        logging.getLogger("sweeps").warning("%s: %s: tried again", stage, cause)
        return
    more: dict[str, Any] = {}
    if cause == "diverged":
        message = str(error)
        more = {name: getattr(error, name, None) for name in ("step", "quantity")}
    else:
        # None: training, on which every evaluation rests
        more["evaluation"] = {"train": None, "generate": generation_id}.get(stage, eval_id)
        more |= {"signature": signature(error), "traceback": traceback_tail(error)}
    write_json(
        folder.failure,
        {"kind": cause, "stage": stage, "message": message, "time": time.time(), "host": socket.gethostname()}
        | more,
    )
    if folder.restarts_from_scratch:  # so that runs that failed do not fill the disk
        shutil.rmtree(folder.training / "checkpoints", ignore_errors=True)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _no_room(folder: Path) -> bool:
    return (
        shutil.disk_usage(folder).free < 2**20
    )  # safetensors and torch wrap the system's error in their own


def _stop_for_disk(control: ControlFiles, message: str) -> None:
    with suppress(SweepError):  # there may be no room for that either
        control.stop("disk", message)

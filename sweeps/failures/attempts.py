"""The attempts of a run that ended without a result: a line each in its folder, for every process to count."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

from sweeps.failures.causes import Cause, cause_of_loss, retries_of
from sweeps.store.host import sharers
from sweeps.store.layout import RunFolder, write_json


def note_attempt(folder: RunFolder, cause: Cause | None, **more: Any) -> None:
    """Add a line, by whoever holds the run's lease; cause None: a person asked for another try, counting begins."""
    folder.path.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": time.time(), "cause": cause, **more})
    with folder.attempts.open("a+b") as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            if stream.read() != b"\n":  # torn by a kill: this line must not become the rest of that one
                stream.write(b"\n")
        stream.write(line.encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def attempts(folder: RunFolder) -> list[dict[str, Any]]:
    """Every line that is whole, in order."""
    found = []
    for text in folder.attempts.read_bytes().split(b"\n") if folder.attempts.exists() else ():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and "cause" in line:
            found.append(line)
    return found


def count(folder: RunFolder, cause: Cause) -> int:
    """Attempts that ended by a cause since a person last asked for another try.

    Memory that was too small beside other runs says nothing of the run alone: it is not counted.
    """
    causes = ["crowded" if _crowded(line) else line["cause"] for line in attempts(folder)]
    start = len(causes) - causes[::-1].index(None) if None in causes else 0
    return causes[start:].count(cause)


def may_try_again(folder: RunFolder, cause: Cause, retries: Mapping[str, int]) -> bool:
    """Whether the policy allows another try by itself, after the attempts that are noted."""
    return count(folder, cause) <= retries_of(cause, retries)


def needs_a_gpu_alone(folder: RunFolder) -> bool:
    """The last attempt ran out of memory beside other runs: the next one is to have the GPU for itself."""
    tried = attempts(folder)
    return bool(tried) and _crowded(tried[-1])


def waits_to_be_alone(folder: RunFolder) -> bool:
    """As `needs_a_gpu_alone`, and this worker shares its GPU: the run is not for it."""
    return sharers() > 1 and needs_a_gpu_alone(folder)


def _crowded(line: Mapping[str, Any]) -> bool:
    return line["cause"] == "out of memory" and (line.get("sharers") or 1) > 1


def note_loss(folder: RunFolder, owner: Mapping[str, Any], retries: Mapping[str, int]) -> None:
    """Note that the owner of the run's lease went away; after too often that is the run's failure.

    Args:
        folder: of the run; the caller holds its lease.
        owner: the content of the lost lease.
        retries: `launch.retries`.
    """
    cause, evidence = cause_of_loss(owner)
    stage = (owner.get("progress") or {}).get("stage")
    taken, refreshed = owner.get("taken"), owner.get("refreshed")
    seconds = refreshed - taken if isinstance(taken, float) and isinstance(refreshed, float) else None
    about = {name: owner.get(name) for name in ("host", "slurm_job_id", "gpus")}
    note_end(folder, cause, evidence, retries, stage, seconds=seconds, **about)


def note_end(
    folder: RunFolder,
    cause: Cause,
    evidence: str,
    retries: Mapping[str, int],
    stage: str | None,
    **about: Any,
) -> None:
    """Note an attempt that ended without a word; after too often that is the run's failure.

    Args:
        folder: of the run; the caller holds its lease.
        cause: why it ended.
        evidence: in a sentence.
        retries: `launch.retries`.
        stage: at which the run stood.
        about: host and Slurm job, for the line and the failure.
    """
    note_attempt(folder, cause, stage=stage, evidence=evidence, **about)
    if not may_try_again(folder, cause, retries):
        times = count(folder, cause)
        given_up = f"; given up after {times} attempts that ended so" if times > 1 else ""
        failure = {
            "kind": cause,
            "stage": stage or "train",
            "message": evidence + given_up,
            "time": time.time(),
            "host": about.get("host"),
            "slurm_job_id": about.get("slurm_job_id"),
        }
        write_json(folder.failure, failure)

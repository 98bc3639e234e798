"""Causes of failures by what was raised or what Slurm says, and what follows from each."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adadpo.errors import DivergedError, JudgeError
from sweeps.failures.attempts import attempts, count, may_try_again, note_attempt, note_loss
from sweeps.failures.causes import (
    POLICIES,
    Cause,
    cause_of_loss,
    classify,
    normalised,
    retries_of,
    signature,
    traceback_tail,
)
from sweeps.state.run_table import find_runs
from sweeps.store.layout import RunFolder, write_json
from tests.sweeps.sweep_examples import SMALL, TWO, adadpo, opened, write_sweep
from tests.sweeps.test_failures import failing

# What libraries say, each seen in their code or when it happened.
RAISED: list[tuple[BaseException, Cause]] = [
    (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), "out of memory"),  # torch
    (
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"),
        "out of memory",
    ),
    (MemoryError(), "out of memory"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
    (OSError(errno.ENOSPC, "No space left on device"), "disk"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk"),
    (
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        "disk",
    ),  # safetensors
    (OSError(errno.ESTALE, "Stale file handle"), "node"),
    (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "node"),
    (RuntimeError("No CUDA-capable device is detected"), "node"),
    (DivergedError(3, "loss", float("nan")), "diverged"),
    (JudgeError("no answer"), "judge"),
    (ValueError("boom"), "bug"),
    (KeyError("memory"), "bug"),
]


@pytest.mark.parametrize(("error", "cause"), RAISED, ids=[str(i) for i in range(len(RAISED))])
def test_the_cause_of_an_exception(error: BaseException, cause: Cause) -> None:
    """Against the messages of the libraries."""
    assert classify(error) == cause


def test_every_cause_has_a_policy() -> None:
    """One table; what a spec says in `launch.retries` goes before it, by name or alias."""
    assert set(POLICIES) == set(get_args(Cause))
    assert {cause for cause, policy in POLICIES.items() if policy.retries} == {"node", "preempted", "timeout"}
    assert {cause for cause, policy in POLICIES.items() if policy.stop_after} == {
        "out of memory", "disk", "judge", "bug",
    }  # fmt: skip
    assert (retries_of("out of memory", {}), retries_of("out of memory", {"oom": 2})) == (0, 2)


def raised(function: Callable[[], object]) -> Exception:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def deep(depth: int, message: str) -> None:
    if depth:
        deep(depth - 1, message)
    raise ValueError(message)


def elsewhere(message: str) -> None:
    raise ValueError(message)


@given(st.integers(0, 10**6), st.floats(allow_nan=False), st.integers(0, 5))
def test_the_same_error_has_one_signature(number: int, value: float, depth: int) -> None:
    """Numbers, paths, addresses, quoted words and depth of a recursion may differ; place, kind and words may not."""
    first = signature(raised(lambda: deep(1, "run 'a' at /x/y.py: step 3 of 0x7f: -1.5e-3")))
    message = f"run 'b{number}' at /z/{number}/w.py: step {number} of {hex(number)}: {value!r}"
    assert signature(raised(lambda: deep(depth, message))) == first
    assert signature(raised(lambda: elsewhere(message))) != first
    assert signature(raised(lambda: deep(depth, message.replace("step", "epoch")))) != first
    assert signature(TypeError(message)) != signature(ValueError(message))


def test_evidence_is_kept_within_bounds() -> None:
    """The end of a long traceback, with the message; the first line alone is compared."""
    tail = traceback_tail(raised(lambda: deep(3, "x" * 9000 + "the end")))
    assert tail.endswith("the end")
    assert len(tail) <= 4000
    assert normalised("at 3\nmore") == "at #"


@pytest.mark.parametrize(
    ("sacct", "scontrol", "cause"),
    [
        ("echo '7|2026-01-01|NODE_FAIL'", "exit 1", "node"),
        ("echo '7|2026-01-01|PREEMPTED'", "exit 1", "preempted"),
        ("echo '7|2026-01-01|TIMEOUT'", "exit 1", "timeout"),
        ("echo '7|2026-01-01|OUT_OF_MEMORY'", "exit 1", "out of memory"),
        ("echo '7|2026-01-01|FAILED'", "exit 1", "node"),
        ("echo '8|2026-01-01|TIMEOUT'; echo '7|2026-01-01|FAILED'", "exit 1", "node"),  # 8: of the same array
        ("exit 1", "echo 'JobId=7 JobName=x JobState=TIMEOUT Reason=TimeLimit'", "timeout"),  # no accounting
        ("exit 1", "exit 1", "node"),
    ],
)
def test_slurm_says_why_an_owner_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sacct: str, scontrol: str, cause: Cause
) -> None:
    """Accounting first, then what the controller recalls; the evidence names the job's end."""
    for name, text in (("sacct", sacct), ("scontrol", scontrol)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found, evidence = cause_of_loss({"slurm_job_id": "7", "pid": 1, "host": "n1"})
    assert found == cause
    assert ("Slurm: job 7 ended as" in evidence) is (cause != "node" or "FAIL" in sacct)


@pytest.mark.parametrize(
    ("start", "sacct", "scontrol", "cause", "said"),
    [
        (0, "7|2026-01-02|RUNNING\n7|2026-01-01|PREEMPTED", "", "preempted", "job 7 ended as PREEMPTED"),
        (0, "7|2026-01-02|RUNNING\n7|2026-01-01|REQUEUED", "", "node", "job 7 was requeued"),
        (1, "7|Unknown|PENDING\n7|2026-01-01|REQUEUED\n7|2026-01-02|NODE_FAIL", "", "node",
         "job 7, restart 1, ended as NODE_FAIL"),
        (0, "", "JobId=7 JobName=x JobState=RUNNING Restarts=1 BatchFlag=1", "node", "job 7 was requeued"),
        (1, "", "JobId=7 JobName=x JobState=RUNNING Restarts=1 BatchFlag=1", "node",
         "process 1 on n1 ended without a word, while Slurm says that job 7, restart 1, is RUNNING"),
        (0, "", "JobId=8 ArrayJobId=7 JobState=FAILED Restarts=0\nJobId=7 ArrayJobId=7 JobState=TIMEOUT Restarts=0",
         "timeout", "job 7 ended as TIMEOUT"),
    ],
)  # fmt: skip
def test_the_start_that_was_lost_is_what_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start: int,
    sacct: str,
    scontrol: str,
    cause: Cause,
    said: str,
) -> None:
    """A requeued job runs again under its id: how that start stands is not how the lost one ended."""
    for name, text in (("sacct", sacct), ("scontrol", scontrol)):
        (tmp_path / f"{name}.txt").write_text(text)
        (tmp_path / name).write_text(f"#!/bin/sh\ncat {tmp_path}/{name}.txt\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found, evidence = cause_of_loss({"slurm_job_id": "7", "slurm_restarts": start, "pid": 1, "host": "n1"})
    assert found == cause
    assert said in evidence
    assert "ended as RUNNING" not in evidence


def test_attempts_are_counted_across_processes_and_torn_lines(tmp_path: Path) -> None:
    """From the last retry on, by cause; a line cut by a kill is no attempt and swallows none."""
    folder = RunFolder(tmp_path / "run")
    assert (attempts(folder), count(folder, "node")) == ([], 0)
    note_attempt(folder, "node")
    note_attempt(folder, None)
    note_attempt(folder, "timeout")
    with folder.attempts.open("a") as stream:
        stream.write('{"cause": "no')
    note_attempt(folder, "node", evidence="x")
    assert [line["cause"] for line in attempts(folder)] == ["node", None, "timeout", "node"]
    assert (count(folder, "node"), count(folder, "timeout"), count(folder, "bug")) == (1, 1, 0)
    assert may_try_again(folder, "node", {"node": 1})
    assert not may_try_again(folder, "node", {"node": 0})


def test_a_run_whose_owner_is_lost_again_and_again_fails(tmp_path: Path) -> None:
    """Twice allowed, the third is its failure, with the evidence and the time that was spent."""
    folder, owner = RunFolder(tmp_path / "run"), {"pid": 1, "host": "n1", "taken": 5.0, "refreshed": 9.0}
    for _ in range(2):
        note_loss(folder, owner, {"node": 2})
        assert not folder.failure.exists()
    note_loss(folder, {**owner, "progress": {"stage": "generate", "done": 1, "total": 2}}, {"node": 2})
    failure = json.loads(folder.failure.read_text())
    assert (failure["kind"], failure["stage"]) == ("node", "generate")
    assert "given up after 3 attempts" in failure["message"]
    assert attempts(folder)[0]["seconds"] == 4.0


def test_retries_of_the_spec_are_tried_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`retries: {oom: 1}`: two attempts of each run, then it fails, with the traceback as evidence."""
    file = write_sweep(tmp_path / "two.yaml", TWO.replace("inline}", "inline, retries: {oom: 1}}"))
    tried = failing(monkeypatch, RuntimeError("CUDA out of memory."), {0})
    assert adadpo("launch", file, "--store", tmp_path / "store").code == 1
    assert len(tried) == 4
    sweep = opened(file, tmp_path / "store")
    for run in find_runs(sweep, ["cause:oom"]):
        failure = json.loads(sweep.store.run(run.run_id).failure.read_text())
        assert failure["traceback"].endswith("RuntimeError: CUDA out of memory.")
        assert count(sweep.store.run(run.run_id), "out of memory") == 2


def test_an_unknown_cause_in_the_spec(tmp_path: Path) -> None:
    """At its place, with a suggestion; a negative number too."""
    text = TWO.replace("inline}", "inline, retries: {ooom: 1}}")
    answer = adadpo("check", write_sweep(tmp_path / "two.yaml", text))
    assert answer.code == 2
    assert "unknown cause 'ooom' under launch.retries; did you mean 'oom'?" in answer.err
    assert adadpo("check", write_sweep(tmp_path / "two.yaml", text.replace("ooom: 1", "node: -1"))).code == 2


def test_failures_of_other_jobs_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs failed alike in other processes since the launch: the first failure here is the third, and stops it."""
    file, store = write_sweep(tmp_path / "small.yaml", SMALL), tmp_path / "store"
    error = RuntimeError("boom 1")
    failing(monkeypatch, error, {0, 1})
    sweep = opened(file, store)
    from sweeps.execution.stages import execute

    first, *others = sweep.job.runs
    sweep.control.begin([run.run_id for run in sweep.job.runs])
    execute(sweep.job.model_copy(update={"runs": [first]}), lambda *a: None, lambda *a: None)
    failure = json.loads(store.joinpath(first.run_id, "failure.json").read_text())
    for run in others[:2]:
        write_json(store / run.run_id / "failure.json", {**failure, "time": time.time()})
    sweep.control.begin([run.run_id for run in sweep.job.runs])  # the earlier ones are of another launch
    assert sweep.control.same_failure(sweep.store, failure["signature"]) == []
    for run in others[:2]:
        write_json(store / run.run_id / "failure.json", {**failure, "time": time.time()})
    from adadpo.errors import FailureError

    with pytest.raises(FailureError, match="3 runs failed alike: RuntimeError: boom 1"):
        execute(sweep.job.model_copy(update={"runs": others[2:]}), lambda *a: None, lambda *a: None)
    assert (sweep.control.stopped() or {})["cause"] == "bug"
    # Another worker of the same launch does not begin either.
    with pytest.raises(FailureError, match="stopped: 3 runs failed alike"):
        execute(sweep.job.model_copy(update={"runs": others[4:]}), lambda *a: None, lambda *a: None)

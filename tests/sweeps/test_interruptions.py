"""A launch interrupted at any moment, by Ctrl-C or by kill -9, continues with the same command and the same bytes."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from adadpo.errors import StoppedError
from adadpo.stopping import stop_requested, stopping_on
from sweeps.execution.stages import execute
from sweeps.store.job import PlannedRun
from tests.sweeps.sweep_examples import (
    LAST_FILES,
    RESULT_FILES,
    TWO,
    adadpo,
    contents,
    files_of,
    opened,
    run_files,
    start,
    write_sweep,
)

# Two runs pass 12 reports of progress and about 30 renames; the moments are drawn once, with this seed.
DRAW = random.Random(20260)
MOMENTS = [
    (place, DRAW.randrange(1, last), number)
    for number in (signal.SIGKILL, signal.SIGINT)
    for place, last in (("progress", 12), ("progress", 12), ("rename", 25), ("rename", 25))
]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda m: f"{signal.Signals(m[2]).name}-{m[0]}-{m[1]}")
def test_an_interrupted_launch_continues(
    moment: tuple[str, int, int], two: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Against an undisturbed launch: equal bytes; stages that were done keep their times; nothing half-written."""
    store = tmp_path / "store"
    answer = start(tmp_path / "log", "launch", two, "--store", store, interruption=moment).wait()
    assert answer.code == (-signal.SIGKILL if moment[2] == signal.SIGKILL else 130), answer.out
    assert "Traceback" not in answer.out
    if moment[2] == signal.SIGINT:
        assert "interrupted; the same command continues" in answer.out
        assert not list(store.rglob("lease.json"))
        assert not list(store.rglob("*.part"))
    plan = adadpo("plan", two, "--store", store, "--json").json
    assert plan["new"] + plan["done"] == 2
    assert plan["running"] == plan["unknown"] == plan["failed"] == 0
    before = run_files(store, LAST_FILES)

    answer = adadpo("launch", two, "--store", store)
    assert answer.code == 0, answer.err
    after = run_files(store, LAST_FILES)
    assert {path: after[path] for path in before} == before
    assert contents(store) == contents(undisturbed)
    assert adadpo("plan", two, "--store", store, "--json").json["done"] == 2


def test_interrupted_again_and_again(two: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Killed at every fourth report of progress until nothing is left to do; no stage is ever done twice."""
    store, seen, kills = tmp_path / "store", {}, 0
    for _ in range(15):
        answer = start(
            tmp_path / "log", "launch", two, "--store", store, interruption=("progress", 4, signal.SIGKILL)
        ).wait()
        now = run_files(store, LAST_FILES)
        assert {path: now[path] for path in seen} == seen
        seen = now
        if answer.code == 0:
            break
        assert answer.code == -signal.SIGKILL, answer.out
        kills += 1
    assert kills >= 3
    assert contents(store) == contents(undisturbed)


def test_training_resumes_from_its_checkpoint(undisturbed: Path, tmp_path: Path) -> None:
    """Killed after the first checkpoint, bit for bit the run that was never killed."""
    text = TWO.replace("warmup: 0", "checkpoint_steps: 1, warmup: 0").replace("limit: 16", "limit: 32")
    file = write_sweep(tmp_path / "two.yaml", text)
    assert adadpo("launch", file, "--store", tmp_path / "straight").code == 0
    killed = ("progress", 4, signal.SIGKILL)  # training reports 0, 1, 2, 3 of 4 steps
    answer = start(
        tmp_path / "log", "launch", file, "--store", tmp_path / "store", interruption=killed
    ).wait()
    assert answer.code == -signal.SIGKILL
    [run] = {
        path.parents[3].name for path in (tmp_path / "store").glob("*/train/checkpoints/*/manifest.json")
    }
    resumed = start(tmp_path / "log", "launch", file, "--store", tmp_path / "store").wait()
    assert resumed.code == 0, resumed.out
    names = set(RESULT_FILES)
    for store in ("straight", "store"):
        assert not list((tmp_path / store).glob("*/train/checkpoints"))
    assert contents(tmp_path / "store") == contents(tmp_path / "straight")
    assert {Path(path).name for path in files_of(tmp_path / "store" / run)} >= names


@pytest.mark.parametrize(("moment", "where"), [(6, "baselines/*"), (10, "*/eval/*")])
def test_generation_goes_on_from_its_finished_batches(tmp_path: Path, moment: int, where: str) -> None:
    """Killed between batches: what is there is not generated again, and the bytes are those of a calm launch."""
    file = write_sweep(tmp_path / "two.yaml", TWO.replace("batch_size: 8}", "batch_size: 2}"))
    assert adadpo("launch", file, "--store", tmp_path / "calm").code == 0
    killed = (
        "progress",
        moment,
        signal.SIGKILL,
    )  # 3 reports of training, then 4 batches each of baseline and policy
    store = tmp_path / "store"
    assert start(tmp_path / "log", "launch", file, "--store", store, interruption=killed).wait().code == -9
    [partial] = store.glob(f"{where}/partial.jsonl")
    batches = len(partial.read_text().splitlines())
    assert 0 < batches < 4
    answer = start(
        tmp_path / "log", "launch", file, "--store", store, interruption=("progress", 99, 9)
    ).wait()
    assert answer.code == 0, answer.out
    assert not list(store.rglob("partial.jsonl"))
    assert contents(store) == contents(tmp_path / "calm")


@pytest.mark.parametrize(
    ("stage", "kept"),
    [
        ("train", "*/train/checkpoints/checkpoint-*/manifest.json"),
        ("baseline", "baselines/*/outputs.json"),
        ("generate", "*/eval/*/partial.jsonl"),
        ("KL", "*/train/metrics.json"),
    ],
)
def test_a_signal_leaves_what_the_next_attempt_goes_on_from(
    two: Path, undisturbed: Path, tmp_path: Path, stage: str, kept: str
) -> None:
    """Against an undisturbed launch: signalled in a stage, as by Slurm before a time limit, the work ends in order.

    No lease, no failure, the run waits; the next attempt ends in the same bytes.
    """
    store = tmp_path / "store"
    job = opened(two, store).job

    def signalled(run: PlannedRun, now: str, done: int, total: int) -> None:
        if now == stage and not stop_requested():
            os.kill(os.getpid(), signal.SIGUSR2)

    with stopping_on(signal.SIGTERM, signal.SIGUSR2), pytest.raises(StoppedError):
        execute(job, signalled, lambda run, state: pytest.fail(f"ended: {state}"))
    assert not list(store.rglob("lease.json"))
    assert not list(store.rglob("failure.json"))
    assert list(store.glob(kept))
    assert len(opened(two, store).select("waiting")) == 2
    assert "the next attempt goes on here" in next(store.glob("*/log.txt")).read_text()
    assert adadpo("launch", two, "--store", store).code == 0
    assert contents(store) == contents(undisturbed)
    assert not list(store.rglob("checkpoint-*"))

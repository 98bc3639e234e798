"""Operating a sweep: status, why, logs, cancel and retry against real small sweeps and real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from reports.files import load_results
from sweeps.cli import runs as cli_runs
from sweeps.cli.runs import allow_again
from sweeps.failures.attempts import note_attempt
from sweeps.operations import status as tail
from sweeps.state import timing
from sweeps.state.snapshot import take_snapshot
from sweeps.store.layout import read_json, write_json
from sweeps.store.lease import held, is_here
from tests.sweeps.sweep_examples import TWO, adadpo, contents, opened, start, write_sweep
from tests.sweeps.test_failures import failing

# Runs that last a little and leave resume points, so that there is time to cancel it.
LONG = TWO.replace("warmup: 0", "max_steps: 20, checkpoint_steps: 4, warmup: 0").replace(
    "name: two", "name: long"
)


def wait_for(happened: Callable[[], Any], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def status(target: str | Path, store: Path, *words: str) -> Any:
    return adadpo("status", target, *words, "--store", store, "--json").json


def test_progress_and_hours_follow_from_the_stage_times(store: Path, small: Path) -> None:
    """Six runs done, one generating, one waiting: share, time left and hours against sums over the manifests."""
    sweep = opened(small, store)
    working, waiting, *done = sweep.job.runs
    for run in (working, waiting):
        sweep.store.run(run.run_id).last_file("score", sweep.eval_id).unlink()
        sweep.store.run(run.run_id).last_file("generate", sweep.eval_id).unlink()
    sweep.store.run(waiting.run_id).metrics.unlink()

    def seconds(stage: str, *runs: Any) -> list[float]:
        found = [next(store.glob(f"{run.run_id}/**/{stage}.manifest.json")) for run in runs]
        return [json.loads(file.read_text())["seconds"] for file in found]

    each = {stage: median(seconds(stage, *done)) for stage in ("generate", "score")}
    each["train"] = median(seconds("train", working, *done))
    each["judge"] = median(seconds("judge", working, waiting, *done))
    with held(sweep.store.run(working.run_id).lease) as lease:
        assert lease is not None
        lease.report("generate", 4, 8)
        lease._write()
        found = status(small, store)
    # Answering is 78% of the stage, the rest is the KL estimate; judging is done in both.
    left = (
        each["generate"] * (1 - 0.78 / 2) + each["score"] + each["train"] + each["generate"] + each["score"]
    )
    progress = found["progress"]
    assert progress["seconds_left"] == pytest.approx(left)
    assert progress["at_a_time"] == 1
    assert progress["share"] == pytest.approx(1 - left / (8 * sum(each.values())))
    assert found["used"]["unit"] == "CPU process-hours"
    spent = sum(sum(seconds(stage, *done)) for stage in ("train", "generate", "judge", "score"))
    spent += sum(seconds("train", working)) + sum(seconds("judge", working, waiting))
    assert found["used"]["hours"] == pytest.approx(
        spent / 3600, abs=2 / 3600
    )  # the lease was held for a moment
    note_attempt(sweep.store.run(waiting.run_id), "node", seconds=36.0, gpus=0)
    assert status(small, store)["used"]["lost_hours"] == pytest.approx(0.01)


def test_hours_on_gpus_are_times_their_number(store: Path, small: Path) -> None:
    """Two GPUs in a manifest count twice; a store from before manifests counts one by its provenance."""
    from sweeps.store.ids import digest

    sweep = opened(small, store)
    for path in store.glob("*/**/*.manifest.json"):
        content = read_json(path)
        content.pop("digest")
        content |= {"gpus": 2, "seconds": 90.0}
        write_json(path, content | {"digest": digest(content)})
    found = timing.used_hours(sweep, timing.spent_by_runs(sweep, take_snapshot(sweep)))
    assert (found["unit"], found["runs"], found["lost_hours"]) == ("GPU-hours", 8, 0)
    assert found["hours"] == pytest.approx(8 * 4 * 90 * 2 / 3600)
    for path in store.glob("*/**/*.manifest.json"):
        path.unlink()
    for path in store.glob("*/provenance.json"):
        write_json(path, read_json(path) | {"device": "NVIDIA H100"})
    old = sum(read_json(path)["wall_seconds"] for path in store.glob("*/train/metrics.json"))
    old += sum(read_json(path)["wall_seconds"] for path in store.glob("*/eval/*/generation.json"))
    assert timing.used_hours(sweep, timing.spent_by_runs(sweep, take_snapshot(sweep)))[
        "hours"
    ] == pytest.approx(old / 3600)


def test_time_left_is_not_made_up(two: Path, tmp_path: Path) -> None:
    """Before a run has been measured it is not known, and says so."""
    found = status(two, tmp_path / "store")
    assert (found["progress"]["share"], found["progress"]["seconds_left"]) == (0, None)
    assert "time left not known before a run" in adadpo("status", two, "--store", tmp_path / "store").out


def test_failures_by_cause_with_the_next_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two OOMs of different sizes are one group; `why` has cause, evidence, advice; the commands it names work."""
    file, store = write_sweep(tmp_path / "two.yaml", TWO), tmp_path / "store"
    with monkeypatch.context() as patch:
        failing(patch, RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), {0})
        assert adadpo("launch", file, "--store", store).code == 1
    found = status("two", store)
    [cause] = found["causes"]
    assert (cause["cause"], cause["stage"], len(cause["runs"])) == ("out of memory", "train", 2)
    assert cause["next"] == "adadpo retry two --cause oom"
    said = adadpo("status", "two", "--store", store).out
    assert "2 runs: out of memory in train: RuntimeError: CUDA out of memory" in said
    assert cause["next"] in said
    assert len(status("two", store, "cause:oom", "arm=dpo")["failures"]) == 1

    why = adadpo(*cause["look"].split()[1:], "--store", store)
    assert why.code == 0, why.err
    for words in (
        "failed since", "train not done", "cause: out of memory in train", "RuntimeError: CUDA out of memory",
        "train: {micro_batch_size: 4} instead of 8 keeps the effective batch of 8 pairs",
        "0 automatic retries", f"adadpo retry two {cause['runs'][0][:8]}", str(store / cause["runs"][0]),
    ):  # fmt: skip
        assert words in why.out
    assert adadpo("why", "two", "--store", store).code == 2  # which of the two?
    assert adadpo("retry", "two", "--cause", "bug", "--store", store).code == 2
    assert adadpo("retry", "two", "--cause", "oom", "--store", store).code == 0
    assert status("two", store)["counts"] == {"done": 2}


def test_why_speaks_of_every_state(store: Path, small: Path, undisturbed: Path) -> None:
    """Done, waiting, cancelled, running, silent: state, since when, and what to type."""
    sweep = opened(small, store)
    run, *_ = sweep.job.runs

    def why(which: Any = run) -> str:
        return adadpo("why", small, which.run_id, "--store", store).out

    assert "done since" in why()
    assert "score done in" in why()
    folder = sweep.store.run(run.run_id)
    folder.last_file("score", sweep.eval_id).unlink()
    assert "waiting" in why()
    assert "Not started: no worker is assigned. Unless one is queued: adadpo launch small" in why()
    assert status(small, store)["stalled"] is True
    assert (
        "nothing runs: 1 runs wait; go on: adadpo launch small"
        in adadpo("status", small, "--store", store).out
    )
    sweep.control.cancel(run.run_id)
    assert "cancelled since" in why()
    assert status(small, store)["counts"] == {"done": 7, "cancelled": 1}
    sweep.control.allow(run.run_id)
    with held(folder.lease, {"sweep": "another"}) as lease:
        assert lease is not None
        assert f"held by process {os.getpid()} on" in why()
        assert "for the sweep another" in why()
        assert "adadpo logs small" in why()
    write_json(folder.lease.path, {"host": "elsewhere", "pid": 1, "refreshed": 0, "taken": time.time()})
    assert "unknown since" in why()
    assert f"adadpo retry small {run.run_id[:8]}" in why()
    sweep.control.stop("disk", "no space left")
    assert "launch stopped: disk: no space left" in adadpo("status", small, "--store", store).out


def test_a_cancelled_run_is_called_so_in_the_report(store: Path, small: Path) -> None:
    """Taken back after its training: counted and named as cancelled, on the page too; retried, it waits."""
    sweep = opened(small, store)
    run = sweep.job.runs[0]
    sweep.store.run(run.run_id).last_file("score", sweep.eval_id).unlink()
    sweep.control.cancel(run.run_id)
    assert adadpo("report", small, "--store", store).code == 0
    results = load_results(sweep.folder / "results.json")
    assert results.counts == {"done": 7, "cancelled": 1}
    [failure] = results.failures
    assert (failure.run_id, failure.state) == (run.run_id, "cancelled")
    assert failure.reason == "cancelled; 3 of 4 stages are done"
    assert results.comparisons[0].missing_pairs == [
        f"{run.setting}, seed {run.seed}: {run.arm} was cancelled"
    ]
    page = (sweep.folder / "report.html").read_text()
    assert "cancelled; 3 of 4 stages are done" in page
    assert "1 cancelled by hand" in page
    assert "1 cancelled" in adadpo("status", small, "--store", store).out
    allow_again(sweep, run)
    adadpo("report", small, "--store", store)
    assert load_results(sweep.folder / "results.json").counts == {"done": 7, "waiting": 1}


def test_logs_follow_until_the_run_ends(two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started before the launch, it prints exactly what the log holds in the end, then stops by itself."""
    store, answers = tmp_path / "store", []
    monkeypatch.setattr(tail, "POLL_SECONDS", 0.01)
    sweep = opened(two, store)
    run = sweep.job.runs[0]
    reader = threading.Thread(
        target=lambda: answers.append("".join(tail.follow_log(sweep, run))), daemon=True
    )
    reader.start()
    child = start(tmp_path / "log", "launch", two, "--store", store)
    assert child.wait().code == 0
    reader.join(20)
    [text] = answers
    assert text == sweep.store.run(run.run_id).log.read_text()
    assert "score done" in text
    said = adadpo("logs", two, run.run_id, "-f", "--store", store).out
    assert said.startswith(f"== {run.run_id}")
    assert said.endswith("== done\n")
    assert text in said


def test_a_watched_status_ends_with_the_sweep_or_by_ctrl_c(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a real launch: it ends by itself when all is over; Ctrl-C ends the looking, with code 0."""
    monkeypatch.setattr(cli_runs, "WATCH_SECONDS", 0.05)
    store = tmp_path / "store"
    child = start(tmp_path / "log", "launch", two, "--store", store)
    watched = adadpo("status", two, "-w", "--store", store)
    assert child.wait().code == 0
    assert (watched.code, "2 done" in watched.out) == (0, True)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_runs.time, "sleep", interrupted)
    watched = adadpo("status", write_sweep(tmp_path / "s.yaml"), "-w", "--store", store)
    assert (watched.code, watched.err) == (0, "")


@pytest.fixture(scope="module")
def calm_long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which `LONG` was left alone."""
    folder = tmp_path_factory.mktemp("long")
    answer = adadpo("launch", write_sweep(folder / "long.yaml", LONG), "--store", folder / "store")
    assert answer.code == 0, answer.err
    return folder / "store"


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_a_cancelled_run_ends_alone_and_is_retried_to_the_same_bytes(
    tmp_path: Path, calm_long: Path, executor: str
) -> None:
    """Cancelled in the middle of training: its worker goes on with the other; retried, it resumes to equal bytes."""
    file, store = write_sweep(tmp_path / "long.yaml", LONG.replace("inline", executor)), tmp_path / "store"
    sweep = opened(file, store)
    first, _ = sweep.job.runs
    child = start(tmp_path / "log", "launch", file, "--store", store)
    history = sweep.store.run(first.run_id).history
    wait_for(lambda: history.exists() and len(history.read_text().splitlines()) >= 6)
    answer = adadpo("cancel", file, first.run_id[:10], "--store", store)
    assert answer.code == 0, answer.err
    assert "1 runs cancelled" in answer.out
    assert "adadpo retry long state:cancelled" in answer.out
    launched = child.wait()
    assert launched.code == 0, launched.out
    assert "Traceback" not in launched.out
    assert status(file, store)["counts"] == {"cancelled": 1, "done": 1}
    assert not list(store.rglob("lease.json"))
    assert not list(store.rglob("*.part"))
    assert not sweep.store.run(first.run_id).failure.exists()
    assert "0 to do" in adadpo("launch", file, "--store", store).out
    assert adadpo("cancel", file, "--store", store).code == 2  # nothing is left to cancel
    assert adadpo("retry", file, "--store", store).code == 2  # not by itself
    again = adadpo("retry", file, "state:cancelled", "--store", store)
    assert again.code == 0, again.err
    assert contents(store) == contents(calm_long)


def test_a_whole_sweep_is_cancelled_within_seconds(tmp_path: Path) -> None:
    """Without selectors: the running run and the waiting one; the launch ends, nothing is half-written."""
    file, store = write_sweep(tmp_path / "long.yaml", LONG), tmp_path / "store"
    child = start(tmp_path / "log", "launch", file, "--store", store)
    wait_for(lambda: list(store.glob("*/train/history.jsonl")))
    began = time.monotonic()
    answer = adadpo("cancel", file, "--store", store)
    assert "2 runs cancelled" in answer.out
    assert time.monotonic() - began < 15
    assert child.wait().code == 0
    assert status(file, store)["counts"] == {"cancelled": 2}


def test_a_worker_that_does_not_step_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither step nor refresh looks at the marker: the process is ended by signal, if it is still the same one."""
    from sweeps.operations import cancel

    file, store = write_sweep(tmp_path / "two.yaml", TWO), tmp_path / "store"
    sweep = opened(file, store)
    hold = (
        "import sys, time; from pathlib import Path; from sweeps.store.lease import held, Lease\n"
        "with held(Lease(Path(sys.argv[1])), {'sweep': 'two'}): print(1, flush=True); time.sleep(60)"
    )
    path = sweep.store.run(sweep.job.runs[0].run_id).lease.path
    process = subprocess.Popen([sys.executable, "-c", hold, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    monkeypatch.setattr(cancel, "PATIENCE_SECONDS", 1.0)
    owner = sweep.store.run(sweep.job.runs[0].run_id).lease.read()
    assert owner is not None
    assert is_here(owner)
    assert not is_here({**owner, "process_started": "1"})  # the pid was given to another process since
    assert not is_here({**owner, "host": "elsewhere"})
    answer = adadpo("cancel", file, "--store", store)
    assert process.wait(10) == -signal.SIGTERM
    process.stdout.close()
    assert "2 runs cancelled" in answer.out
    assert status(file, store)["counts"] == {"cancelled": 2}


def test_a_second_retry_leaves_the_run_that_the_first_one_began(two: Path, tmp_path: Path) -> None:
    """Both saw it failed; whoever works on it since keeps the lease and what it wrote."""
    sweep = opened(two, tmp_path / "store")
    folder = sweep.store.run(sweep.job.runs[0].run_id)
    write_json(folder.failure, {"kind": "bug", "stage": "train", "message": "m", "time": 1.0})
    allow_again(sweep, sweep.job.runs[0])
    with held(folder.lease, {"sweep": "two"}) as lease:
        assert lease is not None
        folder.train.mkdir()
        folder.history.write_text("{}\n")
        allow_again(sweep, sweep.job.runs[0])
        assert sweep.state(sweep.job.runs[0]) == "running"
        assert folder.history.exists()


def test_a_shared_run_goes_on_for_the_other_sweep(store: Path, small: Path, two: Path) -> None:
    """Cancelled in one sweep while another works on it: it is not interrupted, and not cancelled there."""
    sweep = opened(two, store)
    run = sweep.job.runs[0]
    sweep.store.run(run.run_id).last_file("score", sweep.eval_id).unlink()
    with held(sweep.store.run(run.run_id).lease, {"sweep": "small"}) as lease:
        assert lease is not None
        answer = adadpo("cancel", two, run.run_id, "--store", store)
        assert "goes on for another sweep" in answer.out
        lease.report("train", 1, 2)  # would raise if it had to leave
    assert status(small, store)["counts"] == {"done": 7, "waiting": 1}
    assert status(two, store)["counts"] == {"done": 1, "cancelled": 1}


def test_judging_again_takes_selectors(two_runs: Path, two: Path) -> None:
    """Only the chosen arm's responses are judged."""
    answer = adadpo("judge", two, "arm=dpo", "--judge", "rubric", "--store", two_runs)
    assert answer.code == 0, answer.err
    assert re.search(r"1 of 1 runs have responses, 1 to judge", answer.out)
    assert len(list(two_runs.glob("*/eval/*/*/scores.json"))) == 1

"""`launch.on_finish` with real commands after real sweeps: told once for each ending, of which it changes nothing."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sweeps.operations import on_finish
from sweeps.store.layout import read_json
from tests.cluster.slurm_cluster import Cluster
from tests.sweeps.results_content import by_kind
from tests.sweeps.sweep_examples import SMALL, TWO, adadpo, contents, opened, spec_errors, start, write_sweep
from tests.sweeps.test_failures import failing

NAMES = ("SWEEP", "STORE", "OUTCOME", "RUNS", "DONE", "FAILED", "DIVERGED", "WAITING", "REPORT", "MESSAGE")
# A line of JSON for each time that it is called, in a file beside the sweep's.
TELL = f"""{sys.executable} -c 'import json, os, sys
names = {json.dumps(NAMES)}
open("told", "a").write(json.dumps({{n: os.environ["ADADPO_" + n] for n in names}}) + chr(10))'"""


def sweep_with(folder: Path, command: str, text: str = TWO, **launch: object) -> Path:
    section = json.dumps({"executor": "inline", **launch, "on_finish": command})
    return write_sweep(folder / "two.yaml", text.replace("launch: {executor: inline}", f"launch: {section}"))


def told(folder: Path) -> list[dict[str, str]]:
    file = folder / "told"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_finished_sweep_is_told_once(tmp_path: Path) -> None:
    """With counts, the report that is there, and the verdict; a launch that finds nothing to do is no other ending."""
    file, store = sweep_with(tmp_path, TELL, executor="local", workers=1), tmp_path / "store"
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 0, answer.err
    [found] = told(tmp_path)
    expected = {
        "SWEEP": "two", "STORE": str(store), "OUTCOME": "done", "RUNS": "2", "DONE": "2", "FAILED": "0",
        "DIVERGED": "0", "WAITING": "0", "REPORT": str(store / "sweeps" / "two" / "report.html"),
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert Path(found["REPORT"]).exists()
    verdict = by_kind(read_json(store / "sweeps" / "two" / "results.json"))["verdict"]
    assert found["MESSAGE"] == f"two done: 2 done of 2 runs. {verdict}"
    assert adadpo("launch", file, "--store", store).code == 0
    assert len(told(tmp_path)) == 1
    sweep = opened(file, store)
    sweep.store.run(sweep.job.runs[0].run_id).last_file("score", sweep.eval_id).unlink()
    assert adadpo("launch", file, "--store", store).code == 0
    assert len(told(tmp_path)) == 2  # something ran, and it ended again


def test_two_launchers_that_race_tell_it_once(tmp_path: Path) -> None:
    """Each does a run and both see the end."""
    file, store = sweep_with(tmp_path, TELL), tmp_path / "store"
    children = [start(tmp_path / f"log{i}", "launch", file, "--store", store) for i in range(2)]
    for child in children:
        assert child.wait().code == 0, child.log.read_text()
    while adadpo("status", file, "--store", store, "--json").json["counts"] != {"done": 2}:
        time.sleep(0.1)
    assert [each["OUTCOME"] for each in told(tmp_path)] == ["done"]


def test_a_message_is_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run says in failing reaches the command as text; each failing retry is an ending of its own."""
    file, store = sweep_with(tmp_path, TELL), tmp_path / "store"
    nasty = "$(touch pwned)`touch pwned`'; touch pwned; \x1b[31m\nX: y"
    failing(monkeypatch, RuntimeError(nasty), {0})
    assert adadpo("launch", file, "--store", store).code == 1
    [found] = told(tmp_path)
    assert (found["OUTCOME"], found["FAILED"], found["DONE"]) == ("failed", "2", "0")
    assert found["MESSAGE"].startswith("two failed: 2 failed of 2 runs. 2 runs failed: see adadpo logs two")
    assert adadpo("retry", file, "--store", store).code == 1
    assert len(told(tmp_path)) == 2
    assert not list(tmp_path.rglob("pwned"))


def test_a_stopped_launch_is_told_with_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs that fail alike stop it; their message is text, without what would steer a terminal."""
    file, store = sweep_with(tmp_path, TELL, SMALL), tmp_path / "store"
    failing(monkeypatch, RuntimeError("$(touch pwned) \x1b[31m"), {0, 1})
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 1
    [found] = told(tmp_path)
    assert (found["OUTCOME"], found["FAILED"], found["WAITING"], found["REPORT"]) == ("stopped", "3", "5", "")
    assert "3 runs failed alike: RuntimeError: $(touch pwned)" in found["MESSAGE"]
    assert "\x1b" not in found["MESSAGE"]
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    ("command", "problem", "output"),
    [
        ("echo out; echo error >&2; exit 3", "exit code 3", "out\nerror\n"),
        ("echo begun; sleep 77 & sleep 77", "did not end within 1 s", "begun\n"),
        ("yes", "did not end within 1 s", "y\n" * 2000),
        ("kill -9 $$", "ended by signal 9", ""),
        ("sleep 7 & echo done", None, "done\n"),
        ("nothing-of-this-name", "exit code 127", "not found"),
    ],
)
def test_what_becomes_of_the_command_changes_nothing(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, problem: str | None, output: str
) -> None:  # fmt: skip
    """It fails, hangs, floods: noted with its output and said, the launch ends with 0 and at once."""
    monkeypatch.setattr(on_finish, "SECONDS", 1.0)
    store = shutil.copytree(undisturbed, tmp_path / "store")
    began = time.monotonic()
    answer = adadpo("launch", sweep_with(tmp_path, command), "--store", store)
    assert answer.code == 0, answer.err
    assert time.monotonic() - began < 20
    noted: Any = read_json(store / "sweeps" / "two" / "ended.json")
    assert noted["outcome"] == "done"
    assert noted["on_finish"]["problem"] == problem
    assert output in noted["on_finish"]["output"]
    assert len(noted["on_finish"]["output"]) <= on_finish.KEPT_OUTPUT
    assert (f"on_finish: {problem}" in answer.out) == (problem is not None)
    shown = adadpo("status", "two", "--store", store).out
    assert ("on_finish" in shown) == (problem is not None)


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_a_command_that_hangs_costs_no_result(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    """After runs that were really run: the results of a launch without a command, its report, and code 0."""
    monkeypatch.setattr(on_finish, "SECONDS", 1.0)
    store, workers = tmp_path / "store", {"workers": 2} if executor == "local" else {}
    file = sweep_with(tmp_path, "echo begun; sleep 77", executor=executor, **workers)
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 0, answer.err
    assert "on_finish: did not end within 1 s: begun" in answer.out
    assert contents(store) == contents(undisturbed)
    assert (store / "sweeps" / "two" / "report.html").exists()


def test_whoever_told_it_was_killed(tmp_path: Path, undisturbed: Path) -> None:
    """kill -9 of the launch while the command runs: the next one does not tell it again, and the status says why."""
    store = Path(shutil.copytree(undisturbed, tmp_path / "store"))
    file = sweep_with(tmp_path, "echo begun >> told; kill -9 $PPID; sleep 7")
    start(tmp_path / "log", "launch", file, "--store", store).wait()
    assert (tmp_path / "told").read_text() == "begun\n"
    assert (
        "on_finish: interrupted: the process that ran it was killed"
        in adadpo("status", file, "--store", store).out
    )
    assert adadpo("launch", file, "--store", store).code == 0
    assert (tmp_path / "told").read_text() == "begun\n"


def test_it_is_no_part_of_a_run_and_is_checked(tmp_path: Path, two: Path) -> None:
    """The same ids with and without; anything but a command is named with its place."""
    with_it, without = opened(sweep_with(tmp_path, TELL), tmp_path), opened(two, tmp_path)
    assert [run.run_id for run in with_it.job.runs] == [run.run_id for run in without.job.runs]
    for wrong in ("[a]", "''", "5"):
        text = TWO.replace("{executor: inline}", f"{{executor: inline, on_finish: {wrong}}}")
        [said] = spec_errors(tmp_path, text)
        assert said.startswith("14:39: launch.on_finish: ")


def test_on_slurm_the_last_job_tells_it(tmp_path: Path, slurm: Cluster) -> None:
    """Once when all is done; and of jobs that somebody else cancels, that the sweep stalls."""
    file = sweep_with(tmp_path, TELL, executor="slurm", runs_per_job=2)
    assert adadpo("launch", file, "--store", tmp_path / "store").code == 0
    slurm.wait(lambda: told(tmp_path), 240, "on_finish")
    slurm.wait_until_empty()
    assert [(each["OUTCOME"], each["DONE"]) for each in told(tmp_path)] == [("done", "2")]
    answer = adadpo("launch", file, "--store", tmp_path / "other", "--dry-run")
    assert "on_finish" not in answer.out
    assert adadpo("launch", file, "--store", tmp_path / "other").code == 0
    ids = read_json(tmp_path / "other" / "sweeps" / "two" / "jobs" / "slurm-001" / "submitted.json")
    slurm.command("scancel", ids["run-0"])
    slurm.wait(lambda: len(told(tmp_path)) == 2, 120, "on_finish")
    slurm.wait_until_empty()
    assert [each["OUTCOME"] for each in told(tmp_path)] == ["done", "stalled"]
    assert told(tmp_path)[1]["WAITING"] == "2"

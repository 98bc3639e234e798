"""Jobs on Slurm that are gone without their runs' results: the last job has them tried again, and is so itself.

On a real Slurm, and where Slurm's word is what matters with commands of the tests' own in its place.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from sweeps.config.launch import Slurm
from sweeps.dispatch.job_outcomes import note_ended, note_losses
from sweeps.dispatch.slurm import launch_slurm
from sweeps.failures.attempts import attempts
from sweeps.state.opening import record
from sweeps.state.sweep import Sweep
from sweeps.store.layout import read_json
from tests.cluster.slurm_cluster import Cluster
from tests.sweeps.sweep_examples import SMALL, TWO, adadpo, contents, opened, write_sweep
from tests.sweeps.test_on_finish import TELL, told

# While Python starts: the first job and the first last job are killed, the second job ends with a code of its own.
AT_IMPORT = """\
import os, sys
words = sys.orig_argv
if "sweeps.dispatch.worker" in words:
    folder, part = words[-3:-1]
    this = f"{part}-{os.environ.get('SLURM_ARRAY_TASK_ID')}"
    once = os.path.join(os.path.dirname(__file__), this)
    if folder.endswith("slurm-001") and not os.path.exists(once):
        open(once, "w").close()
        if this in ("run-0", "finish-None"):
            os.kill(os.getpid(), 9)
        if this == "run-1":
            os._exit(3)
"""
# The first training of seed 1 meets a file system that went away, in a job with others.
STALE = """\
import errno, os, sys
if "sweeps.dispatch.worker" in sys.orig_argv:
    import adadpo.training.train
    train_run = adadpo.training.train.train_run
    once = os.path.join(os.path.dirname(__file__), "once")
    def stale(base, config, *args, **options):
        if config.seed == 1 and not os.path.exists(once):
            open(once, "w").close()
            raise OSError(errno.ESTALE, "Stale file handle")
        return train_run(base, config, *args, **options)
    adadpo.training.train.train_run = stale
"""


def on_slurm(folder: Path, text: str = TWO, **launch: object) -> Path:
    section = json.dumps({"executor": "slurm", **launch})
    return write_sweep(folder / "sweep.yaml", text.replace("{executor: inline}", section))


def one_line(out: str) -> str:
    return " ".join(out.split())


def logs(store: Path) -> str:
    return "\n".join(path.read_text()[-1500:] for path in store.glob("sweeps/*/jobs/*/logs/*"))


def test_jobs_that_end_before_they_begin_a_run(
    tmp_path: Path, slurm: Cluster, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while Python starts: tried again by the last job, itself killed and started again. An exit code: a bug.

    The ending is told once; what `retry` brings back ends as the calm one.
    """
    (tmp_path / "sitecustomize.py").write_text(AT_IMPORT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    file, store = on_slurm(tmp_path, on_finish=TELL), tmp_path / "store"
    assert adadpo("launch", file, "--store", store).code == 0
    slurm.wait_until_empty(240)
    first, second = opened(file, store).job.runs
    status = adadpo("status", file, "--store", store)
    shown = adadpo("status", file, "--store", store, "--json").json
    assert shown["counts"] == {"done": 1, "failed": 1}, logs(store)
    [attempt] = attempts(opened(file, store).store.run(first.run_id))
    assert attempt["cause"] == "node"
    assert attempt["evidence"].startswith("before the run was begun, Slurm: job ")
    assert "ended as FAILED, exit code 137:0" in attempt["evidence"]
    [cause] = shown["causes"]
    assert (cause["cause"], cause["runs"]) == ("bug", [second.run_id])
    assert "ended as FAILED, exit code 3:0 (output: " in cause["message"]
    assert list(store.glob("sweeps/two/jobs/slurm-001/logs/*")), cause["message"]
    assert "exit code 3:0" in one_line(status.out)
    assert "exit code 3:0" in one_line(adadpo("why", file, second.run_id, "--store", store).out)
    assert [each["OUTCOME"] for each in told(tmp_path)] == ["failed"], logs(store)
    assert (store / "sweeps" / "two" / "report.html").exists()
    assert adadpo("retry", file, "--store", store).code == 0
    slurm.wait_until_empty(240)
    assert contents(store) == contents(undisturbed)
    assert [each["OUTCOME"] for each in told(tmp_path)] == ["failed", "done"]


def test_a_run_of_a_packed_job_that_fails_for_its_machine(
    tmp_path: Path, slurm: Cluster, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job ends there; the next wave has that run and those behind it, in one job; it alone has an attempt noted."""
    (tmp_path / "sitecustomize.py").write_text(STALE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    file = on_slurm(tmp_path, SMALL.replace("[0.05, 0.1]", "[0.1]"), runs_per_job=4)
    store = tmp_path / "store"
    assert adadpo("launch", file, "--store", store).code == 0
    slurm.wait_until_empty(240)
    sweep = opened(file, store)
    assert sweep.counts() == {"done": 4}, logs(store)
    ids = [run.run_id for run in sweep.job.runs]
    ended = next(place for place, run in enumerate(sweep.job.runs) if run.seed == 1)
    noted = {run_id: [line["cause"] for line in attempts(sweep.store.run(run_id))] for run_id in ids}
    assert noted == {run_id: ["node"] if run_id == ids[ended] else [] for run_id in ids}
    again = read_json(sweep.folder / "jobs" / "slurm-002" / "work.json")
    assert again["parts"]["run"]["elements"] == [ids[ended:]]
    expected = contents(finished)
    assert contents(store) == {path: expected[path] for path in contents(store)}


@pytest.fixture
def submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Sweep, Path]:
    """Four jobs of a run each, taken by an sbatch that says 7; squeue knows none of them. And the file of sacct."""
    says = {
        "sbatch": "echo 7",
        "squeue": "true",
        "scontrol": "echo MaxArraySize = 1001",
        "sacct": f"cat {tmp_path}/sacct.txt",
        "scancel": "true",
    }
    for name, text in says.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    (tmp_path / "sacct.txt").write_text("")
    sweep = opened(
        on_slurm(tmp_path, SMALL.replace("[0.05, 0.1]", "[0.1]"), retries={"node": 2}), tmp_path / "store"
    )
    record(sweep)
    sweep.control.begin([run.run_id for run in sweep.job.runs])
    submit(sweep)
    return sweep, tmp_path / "sacct.txt"


def submit(sweep: Sweep) -> None:
    assert isinstance(sweep.spec.launch, Slurm)
    launch_slurm(sweep, sweep.spec.launch)


def test_what_slurm_says_of_a_job_decides(submitted: tuple[Sweep, Path]) -> None:
    """Cancelled by a person, or left with an error that it told: said, not tried again. Time limit, bug: by policy."""
    sweep, sacct = submitted
    sacct.write_text("7_[0,9-12%4]|CANCELLED by 0|0:15\n7_1|TIMEOUT|0:0\n7_2|FAILED|2:0\n7_3|FAILED|1:0\n")
    note_ended(sweep.folder / "jobs" / "slurm-001", "run", 3, "cannot load data set 'x'")
    assert note_losses(sweep) == 1
    noted = [attempts(sweep.store.run(run.run_id)) for run in sweep.job.runs]
    assert [[line["cause"] for line in lines] for lines in noted] == [[], ["timeout"], ["bug"], []]
    assert [sweep.state(run) for run in sweep.job.runs] == ["waiting", "waiting", "failed", "waiting"]
    answer = adadpo("status", "small", "--store", sweep.store.root)
    assert "job 7_3 ended: cannot load data set 'x'" in one_line(answer.out)
    assert "job 7_0 ended as CANCELLED" in one_line(answer.out)
    why = adadpo("why", "small", sweep.job.runs[3].run_id, "--store", sweep.store.root).out
    assert "cannot load data set 'x'" in one_line(why)


def test_jobs_that_never_begin_are_not_submitted_for_ever(submitted: tuple[Sweep, Path]) -> None:
    """Slurm knows nothing of them: `retries: {node: 2}` waves more, then each is a failure."""
    sweep, _ = submitted
    for wave in range(2):
        assert note_losses(sweep) == 4, wave
        submit(sweep)
    assert note_losses(sweep) == 0
    assert sweep.counts() == {"failed": 4}
    failure: Any = read_json(sweep.store.run(sweep.job.runs[0].run_id).failure)
    assert failure["kind"] == "node"
    assert "Slurm does not know how it ended" in failure["message"]
    assert failure["message"].endswith("given up after 3 attempts that ended so")


def test_a_report_that_nobody_is_to_write(tmp_path: Path, undisturbed: Path) -> None:
    """All runs are done and the last job is gone: said with the next command, which writes it; before a result, too."""
    store, file = Path(shutil.copytree(undisturbed, tmp_path / "store")), on_slurm(tmp_path)
    record(opened(file, store))  # as a launch does
    assert "report" not in adadpo("status", file, "--store", store).out
    (store / "sweeps" / "two" / "results.json").unlink()
    assert "the report is not written" in adadpo("status", file, "--store", store).out
    answer = adadpo("status", file, "--store", store, "--json")
    assert answer.json["report_missing"] is True
    assert adadpo("launch", file, "--store", store).code == 0
    assert adadpo("status", file, "--store", store, "--json").json["report_missing"] is False
    results = store / "sweeps" / "two" / "results.json"
    os.utime(results, (1, 1))
    assert adadpo("status", file, "--store", store, "--json").json["report_missing"] is True

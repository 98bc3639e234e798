"""The Optuna study mirrors the store: one trial per run, made again at any time, shown by optuna-dashboard."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from adadpo.errors import FailureError
from sweeps.search.study import mirror
from sweeps.search.study_storage import storage_of
from sweeps.state.opening import record
from sweeps.state.run_table import run_rows
from sweeps.state.sweep import Sweep
from sweeps.store.layout import write_json
from tests.sweeps.postgres_server import PASSWORD
from tests.sweeps.sweep_examples import SMALL, adadpo, opened, write_sweep


@pytest.fixture(params=["journal", "sqlite", "postgres"])
def sweep(
    request: pytest.FixtureRequest, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Sweep:
    """The finished sweep, its study in a journal file and in databases named through the environment."""
    monkeypatch.setenv("STUDY_FOLDER", str(tmp_path))
    storage = {"journal": "journal", "sqlite": "sqlite:///$STUDY_FOLDER/study.db"}.get(request.param)
    if storage is None:
        monkeypatch.setenv("STUDY_PASSWORD", PASSWORD)
        storage = request.getfixturevalue("postgres").database(f"study_{uuid.uuid4().hex}")
    text = SMALL + f"study: {{storage: '{storage}'}}\n"
    return opened(write_sweep(tmp_path / "small.yaml", text), store)


def trials(sweep: Sweep) -> list[FrozenTrial]:
    with storage_of(sweep) as storage:
        return optuna.load_study(study_name=sweep.spec.name, storage=storage).get_trials()


def content(trial: FrozenTrial) -> tuple[Any, ...]:
    return trial.number, trial.state, trial.values, trial.params, trial.distributions, trial.user_attrs


def test_every_run_is_a_trial(sweep: Sweep) -> None:
    """Parameters, value and attributes of each trial against the run's own row."""
    mirror(sweep)
    found = {trial.user_attrs["run_id"]: trial for trial in trials(sweep)}
    assert len(trials(sweep)) == len(found) == len(sweep.job.runs) == 8
    for run, row in zip(sweep.job.runs, run_rows(sweep), strict=True):
        trial = found[run.run_id]
        assert trial.state == TrialState.COMPLETE
        assert trial.value == row.metrics["length_controlled_win_rate"]
        assert trial.params == {"arm": run.arm, "seed": run.seed, "beta": run.hyperparameters["beta"]}
        assert {key: trial.user_attrs[key] for key in row.metrics} == row.metrics
        assert {key: trial.user_attrs[key] for key in ("arm", "seed", "setting", "state", "eval_id")} == {
            "arm": run.arm, "seed": run.seed, "setting": run.setting, "state": "done", "eval_id": sweep.eval_id,
        }  # fmt: skip


KEPT = """
import gc, sys
from pathlib import Path
from sweeps.store.layout import Store
from sweeps.search.study import mirror
from sweeps.state.opening import open_sweep
mirror(open_sweep("small", Store(Path(sys.argv[1]))))
gc.collect()
print(sum(type(one).__name__ == "FrozenTrial" for one in gc.get_objects()))
"""


def test_no_trial_is_kept_in_memory(store: Path) -> None:
    """Of a process in which the mirror imports optuna: they were in a frame that an ImportError of optuna held."""
    command = [sys.executable, "-c", KEPT, str(store)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0\n"


def test_mirroring_again_adds_nothing(sweep: Sweep) -> None:
    """Idempotent: the same trials with the same numbers."""
    mirror(sweep)
    before = [content(trial) for trial in trials(sweep)]
    assert mirror(sweep) == 0
    assert [content(trial) for trial in trials(sweep)] == before


def test_a_deleted_study_is_rebuilt_equal(sweep: Sweep) -> None:
    """The study can be deleted and rebuilt from the files."""
    mirror(sweep)
    before = [content(trial) for trial in trials(sweep)]
    with storage_of(sweep) as storage:
        optuna.delete_study(study_name=sweep.spec.name, storage=storage)
    assert mirror(sweep) == 8
    assert [content(trial) for trial in trials(sweep)] == before


def test_a_retried_run_is_one_trial(sweep: Sweep) -> None:
    """Failed, then done: a trial cannot be changed, so the study is made again; it equals a rebuilt one."""
    run = sweep.job.runs[0]
    folder = sweep.store.run(run.run_id)
    scores = folder.last_file("score", sweep.eval_id)
    aside = scores.rename(scores.with_suffix(".aside"))
    write_json(
        folder.failure, {"kind": "diverged", "stage": "train", "message": "diverged at step 2", "time": 0.0}
    )
    mirror(sweep)
    states = {trial.user_attrs["run_id"]: trial.state for trial in trials(sweep)}
    assert states.pop(run.run_id) == TrialState.FAIL
    assert set(states.values()) == {TrialState.COMPLETE}
    aside.rename(scores)
    folder.failure.unlink()
    mirror(sweep)
    after = [content(trial) for trial in trials(sweep)]
    assert len(after) == 8
    assert {trial.state for trial in trials(sweep)} == {TrialState.COMPLETE}
    with storage_of(sweep) as storage:
        optuna.delete_study(study_name=sweep.spec.name, storage=storage)
    mirror(sweep)
    assert [content(trial) for trial in trials(sweep)] == after


def test_another_primary_metric_is_another_value(sweep: Sweep, tmp_path: Path) -> None:
    """The trials' value follows the declared metric."""
    mirror(sweep)
    text = sweep.origin.text.replace("primary: length_controlled_win_rate", "primary: reward_margin")
    other = opened(write_sweep(tmp_path / "other.yaml", text), sweep.store.root)
    mirror(other)
    assert [trial.value for trial in trials(other)] == [
        row.metrics["reward_margin"] for row in run_rows(other)
    ]


def test_trials_of_others_do_not_stop_the_mirror(sweep: Sweep) -> None:
    """A trial that somebody added by hand goes: the study is the store's mirror."""
    mirror(sweep)
    with storage_of(sweep) as storage:
        study = optuna.load_study(study_name=sweep.spec.name, storage=storage)
        study.add_trial(optuna.create_trial(value=1.0))
    mirror(sweep)
    assert len(trials(sweep)) == 8


def test_a_database_that_cannot_be_opened_keeps_its_password(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says why and names neither the URL nor what is in it; the report is written all the same."""
    monkeypatch.setenv("STUDY_PASSWORD", "secret @/:")
    monkeypatch.setenv("STUDY_FOLDER", "nowhere/secret")
    for url, said in (
        ("postgresql://me:$STUDY_PASSWORD@127.0.0.1:1/db", "[Rr]efused"),
        ("sqlite:////$STUDY_FOLDER/study.db", "OperationalError: unable to open database file"),
        ("sqlite:////nowhere/secret/study.db", "OperationalError: unable to open database file"),
        ("nonsense://$STUDY_PASSWORD", "NoSuchModuleError"),
    ):
        sweep = opened(write_sweep(tmp_path / "small.yaml", SMALL + f"study: {{storage: '{url}'}}\n"), store)
        with pytest.raises(FailureError, match=rf"study\.storage .* cannot be opened: .*{said}") as caught:
            mirror(sweep)
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None  # a worker's traceback would show it
        report = sweep.folder / "report.html"
        report.unlink()
        record(sweep)
        answer = adadpo("report", sweep.origin.path, "--store", store)
        assert answer.code == 1
        assert "report: " in answer.out
        assert report.exists()
        assert "secret" not in answer.err + answer.out
        kept = [path for path in sweep.folder.rglob("*") if path.is_file()]
        found = {path.name for path in kept if b"secret" in path.read_bytes()}
        assert found <= (
            {"plan.json", "spec.yaml"} if "secret" in url else set()
        )  # the sweep file itself says it


def test_the_dashboard_shows_the_sweep(finished: Path, tmp_path: Path) -> None:
    """A real server on a free loopback port: its page, and the sweep among its studies with 8 trials."""
    if importlib.util.find_spec("optuna_dashboard") is None:
        pytest.skip("optuna-dashboard is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "sweeps.cli.main",
        "dashboard",
        "small",
        "--store",
        finished,
        "--port",
        str(port),
    ]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "NO_PROXY": "*"}
        )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        for _ in range(200):
            try:
                page = opener.open(f"http://127.0.0.1:{port}/", timeout=5).read()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.1)
        assert b"<title>" in page
        studies = json.load(opener.open(f"http://127.0.0.1:{port}/api/studies", timeout=10))
        [study] = studies["study_summaries"]
        assert study["study_name"] == "small"
        found = json.load(
            opener.open(f"http://127.0.0.1:{port}/api/studies/{study['study_id']}?after=0", timeout=10)
        )
        assert len(found["trials"]) == 8
        with pytest.raises(
            OSError, match="refused"
        ):  # loopback alone: no other address of this machine answers
            socket.create_connection(("127.0.0.2", port), timeout=5)
        server.terminate()
        assert server.wait(timeout=20) == 130
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        server.kill()
        server.wait()

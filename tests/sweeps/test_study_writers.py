"""Many writers of one study, writers that are killed, a database that goes away: the files stay the truth."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
import uuid
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileSymlinkLock

from adadpo.errors import FailureError
from sweeps.search import study as study_module
from sweeps.search.study import mirror
from sweeps.search.study_storage import journal, open_storage, storage_of
from sweeps.state.sweep import Sweep
from tests.sweeps import study_writer
from tests.sweeps.made_up_results import fail, make_up
from tests.sweeps.postgres_server import PASSWORD, Server
from tests.sweeps.sweep_examples import SMALL, adadpo, opened, write_sweep

# 2 arms x 10 settings x 2 seeds
TEXT = SMALL.replace("beta: [0.05, 0.1]", f"beta: {[n / 100 for n in range(1, 11)]}")
WRITERS = multiprocessing.get_context("forkserver")


def made_up(folder: Path, storage: str, name: str = "small") -> Sweep:
    """A sweep of 40 runs that ended: most are done, some diverged, one failed, two are to be run."""
    text = TEXT.replace("name: small", f"name: {name}") + f"study: {{storage: '{storage}'}}\n"
    sweep = opened(write_sweep(folder / f"{name}.yaml", text), folder / "store")
    for number, run in enumerate(sweep.job.runs[:-2]):
        if number % 19 == 7:
            fail(sweep, run, "bug" if number == 7 else "diverged")
        else:
            make_up(sweep, run, 40 + number / 7)
    return sweep


@pytest.fixture(params=["journal", "postgres"])
def sweep(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """`made_up`, its study kept in each of the ways that several machines can share."""
    if request.param == "journal":
        return made_up(tmp_path, "journal")
    monkeypatch.setenv("STUDY_PASSWORD", PASSWORD)
    url = request.getfixturevalue("postgres").database(f"writers_{uuid.uuid4().hex}")
    return made_up(tmp_path, url)


def contents(sweep: Sweep) -> Counter[str]:
    """The study's trials without their numbers, as the study's own storage tells them."""
    with storage_of(sweep) as storage:
        study = optuna.load_study(study_name=sweep.spec.name, storage=storage)
        return Counter(
            repr((t.state, t.values, sorted(t.params.items()), sorted(t.user_attrs.items())))
            for t in study.get_trials()
        )


def built_anew(sweep: Sweep) -> Counter[str]:
    """What a study holds that is built from the files now."""
    with storage_of(sweep) as storage:
        optuna.delete_study(study_name=sweep.spec.name, storage=storage)
    mirror(sweep)
    return contents(sweep)


def start(sweep: Sweep, dies_at: int | None = None) -> BaseProcess:
    """A process that mirrors the sweep; it may kill itself in the middle of its n-th write."""
    password = os.environ.get("STUDY_PASSWORD", "")
    arguments = (str(sweep.origin.path), str(sweep.store.root), password, dies_at)
    process = WRITERS.Process(target=study_writer.write, args=arguments)
    process.start()
    return process


def test_eight_writers_at_once_add_each_trial_once(sweep: Sweep) -> None:
    """On a study that is not there yet."""
    processes = [start(sweep) for _ in range(8)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    found = contents(sweep)
    assert found.total() == len(found) == 38
    assert mirror(sweep) == 0
    assert found == built_anew(sweep)


@pytest.mark.parametrize("seed", range(2))
def test_killed_writers_leave_no_broken_study(sweep: Sweep, seed: int) -> None:
    """Each is killed in the middle of a write; the next one goes on, and in the end nothing is lost or twice."""
    draw = random.Random(seed)
    for _ in range(2):
        process = start(sweep, dies_at=draw.randrange(1, 13))
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    start_time = time.monotonic()
    mirror(sweep)
    assert time.monotonic() - start_time < 20  # no lock of the dead is waited for
    found = contents(sweep)
    assert found.total() == len(found) == 38
    assert found == built_anew(sweep)


def test_killed_at_any_time_among_others(sweep: Sweep) -> None:
    """Eight writers, five of them killed at seeded times; the others and a last one bring it in order."""
    draw = random.Random(5)
    processes = [start(sweep) for _ in range(8)]
    for process in draw.sample(processes, 5):
        time.sleep(draw.uniform(0, 0.6))
        process.kill()
    for process in processes:
        process.join(120)
        assert process.exitcode in (0, -signal.SIGKILL)
    mirror(sweep)
    found = contents(sweep)
    assert found.total() == len(found) == 38
    assert found == built_anew(sweep)


def test_a_stale_lock_of_optunas_own_is_not_waited_for(tmp_path: Path) -> None:
    """A killed program that opened the journal by optuna itself leaves its lock, which optuna waits 30 s for."""
    sweep = made_up(tmp_path, "journal")
    sweep.folder.mkdir(parents=True, exist_ok=True)
    JournalFileSymlinkLock(str(journal(sweep))).acquire()
    start_time = time.monotonic()
    assert mirror(sweep) == 38
    assert time.monotonic() - start_time < 20


@pytest.mark.parametrize("damage", ["torn", "middle", "not a journal", "zeros"])
def test_a_damaged_journal_is_made_again(tmp_path: Path, damage: str) -> None:
    """Half a line at the end, a line lost in the middle, another file, the blocks of a crash: all give equal trials."""
    sweep = made_up(tmp_path, "journal")
    mirror(sweep)
    before, lines = contents(sweep), journal(sweep).read_bytes().splitlines(keepends=True)
    ruined = {
        "torn": [*lines[:-9], lines[-9][:40]],
        "middle": [*lines[:9], lines[9][:30], *lines[10:]],
        "not a journal": [b"\x00\xff no journal\n", b"[]\n"],
        "zeros": [*lines[:20], b"\x00" * 4096],
    }[damage]
    journal(sweep).write_bytes(b"".join(ruined))
    mirror(sweep)
    assert contents(sweep) == before
    assert mirror(sweep) == 0


def test_a_database_that_goes_away_in_the_middle(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server crashes between two trials: one message without the password, a report from the files; then repair."""
    monkeypatch.setenv("STUDY_PASSWORD", PASSWORD)
    sweep = made_up(tmp_path, postgres.database(f"gone_{uuid.uuid4().hex}"))
    trials = iter(range(100))
    original = optuna.Study.add_trial

    def add(self: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if next(trials) == 15:
            postgres.stop()
        original(self, trial)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "add_trial", add)
        try:
            answer = adadpo("report", sweep.origin.path, "--store", sweep.store.root)
        finally:
            postgres.start()
    assert answer.code == 1
    assert "study.storage failed: " in answer.err
    assert "report: " in answer.out
    assert (sweep.folder / "results.json").exists()
    files = [
        path.read_text(errors="replace") for path in sweep.folder.rglob("*") if path.is_file()
    ]  # PDFs are bytes
    for text in (answer.err, answer.out, *files):
        assert PASSWORD not in text
        assert postgres.full_url("").partition("@")[0] not in text
    assert 0 < contents(sweep).total() < 38
    mirror(sweep)
    assert contents(sweep).total() == 38
    assert contents(sweep) == built_anew(sweep)


def test_a_study_of_another_store_is_left_alone(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people with one database and one name for their sweeps: neither deletes the other's trials."""
    monkeypatch.setenv("STUDY_PASSWORD", PASSWORD)
    url = postgres.database(f"shared_{uuid.uuid4().hex}")
    mine, other = made_up(tmp_path / "mine", url), made_up(tmp_path / "other", url)
    mirror(mine)
    before = contents(mine)
    with pytest.raises(
        FailureError, match=r"holds a study 'small' of the store .*mine/store; give this sweep"
    ):
        mirror(other)
    assert contents(mine) == before
    assert mirror(made_up(tmp_path / "other", url, "other")) == 38
    with storage_of(other) as storage:
        optuna.create_study(study_name="third", storage=storage).add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(FailureError, match="holds a study 'third' that no sweep made"):
        mirror(made_up(tmp_path / "other", url, "third"))


def test_an_unset_name_and_a_missing_driver_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any connection is tried."""
    monkeypatch.delenv("STUDY_PASSWORD", raising=False)
    with pytest.raises(FailureError, match=r"names \$STUDY_PASSWORD: not set in the environment"):
        open_storage(made_up(tmp_path, "postgresql://me:$STUDY_PASSWORD@127.0.0.1/x"))
    with pytest.raises(
        FailureError,
        match=r"\(postgresql\+pg8000\) cannot be opened: no driver is installed: pip install 'adadpo\[postgres\]'",
    ):
        open_storage(made_up(tmp_path, "postgresql+pg8000://127.0.0.1/x"))


def test_looking_for_new_trials_is_linear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trial, of the study and of the files, is looked at once; timed in bench, counted here."""
    sweep = made_up(tmp_path, "journal")
    mirror(sweep)
    looks = Counter[str]()
    original = study_module._content

    def counted(trial: optuna.trial.FrozenTrial) -> str:
        found = original(trial)
        looks[found] += 1
        return found

    monkeypatch.setattr(study_module, "_content", counted)
    assert mirror(sweep) == 0
    assert len(looks) == 38
    assert set(looks.values()) == {2}

"""What finished runs came to is kept beside the sweep; the runs' files decide whether it still holds."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from sweeps.state.run_table import run_rows
from sweeps.state.snapshot import take_snapshot
from sweeps.state.sweep import Sweep
from sweeps.store.layout import read_json, write_json
from tests.sweeps.sweep_examples import adadpo, opened


@pytest.fixture
def sweep(small: Path, store: Path) -> Sweep:
    """Eight finished runs whose files are older than a tick of the clock, and nothing kept of them."""
    found = opened(small, store)
    shutil.rmtree(found.folder / "seen", ignore_errors=True)
    age(store)
    return found


def age(store: Path) -> None:
    for path in store.rglob("*"):
        os.utime(path, (time.time() - 60, time.time() - 60))


def kept(sweep: Sweep) -> Path:
    (path,) = (sweep.folder / "seen").glob("*.json")
    return path


def forbid_reading(patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("read again")

    patch.setattr("sweeps.state.snapshot.read_run", refuse)


def scores_of(sweep: Sweep, number: int) -> Path:
    return sweep.store.run(sweep.job.runs[number].run_id).evaluation(sweep.eval_id) / "scores.json"


def test_runs_are_read_once(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look reads no run and says the same, to the last digit."""
    first = take_snapshot(sweep)
    assert len(first.finished) == len(sweep.job.runs)
    rows = run_rows(sweep)
    forbid_reading(monkeypatch)
    assert run_rows(sweep) == rows
    assert take_snapshot(sweep) == first
    assert list(kept(sweep).parent.iterdir()) == [kept(sweep)]


def test_a_changed_score_counts(sweep: Sweep) -> None:
    """Written anew or edited in place: what the file says now, of that run alone."""
    take_snapshot(sweep)
    for write in (write_json, lambda path, value: path.write_text(json.dumps(value))):
        before = {row.run_id: row.metrics["win_rate"] for row in run_rows(sweep)}
        new = read_json(scores_of(sweep, 2)) | {"win_rate": before[sweep.job.runs[2].run_id] / 2 + 1}
        write(scores_of(sweep, 2), new)
        after = {row.run_id: row.metrics["win_rate"] for row in run_rows(sweep)}
        assert after == before | {sweep.job.runs[2].run_id: new["win_rate"]}


@pytest.mark.parametrize("name", ["annotations.json", "scores.json", "../outputs.json"])
def test_a_run_whose_file_was_deleted_is_not_done(sweep: Sweep, name: str) -> None:
    """Also a file that is not read for it; with the file back, the run is done again."""
    take_snapshot(sweep)
    path = scores_of(sweep, 0).parent / name
    content = path.read_bytes()
    path.unlink()
    run_id = sweep.job.runs[0].run_id
    found = take_snapshot(sweep)
    assert (found.states[run_id], run_id in found.finished) == ("waiting", False)
    path.write_bytes(content)
    assert take_snapshot(sweep).states[run_id] == "done"


@pytest.mark.parametrize(
    "content", ["", "{", "[" * 100_000, "[]", '{"version": 0}', '{"version": 1, "evaluation": "-/-"}']
)
def test_what_is_kept_may_be_damaged(sweep: Sweep, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged, of another version or evaluation, or deleted: the runs are read, and it is made again."""
    expected = take_snapshot(sweep)
    kept(sweep).write_text(content)
    assert take_snapshot(sweep) == expected
    forbid_reading(monkeypatch)
    assert take_snapshot(sweep) == expected


def test_files_that_are_just_written_are_not_trusted(sweep: Sweep) -> None:
    """Within a tick of the clock another write would leave the same time: such a run is read again."""
    path = scores_of(sweep, 1)
    write_json(path, read_json(path))
    take_snapshot(sweep)
    entries = read_json(kept(sweep))["runs"]
    fresh = [run_id for run_id, entry in entries.items() if entry["files"] is None]
    assert fresh == [sweep.job.runs[1].run_id]


def test_a_sweep_that_was_never_launched_keeps_nothing(sweep: Sweep) -> None:
    """Its runs are another sweep's; a plan must not make its folder."""
    shutil.rmtree(sweep.folder)
    assert len(take_snapshot(sweep).finished) == len(sweep.job.runs)
    assert not sweep.folder.exists()


def test_fsck_compares_what_is_kept_with_the_files(sweep: Sweep, small: Path) -> None:
    """A value that no file says is found, moved aside and made again from the files."""
    expected = take_snapshot(sweep)
    content = read_json(kept(sweep))
    content["runs"][sweep.job.runs[3].run_id]["scores"]["win_rate"] = -1
    write_json(kept(sweep), content)
    store = sweep.store.root
    answer = adadpo("fsck", small, "--store", store)
    assert answer.code == 1
    said = f"is not what the files of 1 runs say, such as {sweep.job.runs[3].run_id}"
    assert said in " ".join((answer.out + answer.err).split())
    assert adadpo("fsck", small, "--store", store, "--repair").code == 0
    assert take_snapshot(sweep).finished.keys() == expected.finished.keys()
    assert {one: found["scores"] for one, found in take_snapshot(sweep).finished.items()} == {
        one: found["scores"] for one, found in expected.finished.items()
    }

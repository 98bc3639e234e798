"""`adadpo gc` on stores that real launches left: what it shows, what it frees, what it never touches."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from reports.files import load_results
from sweeps.execution import stages
from sweeps.state.opening import record
from sweeps.state.run_table import OTHER_WEIGHTS
from sweeps.store.layout import read_json
from sweeps.store.lease import held
from tests.sweeps.sweep_examples import TWO, adadpo, contents, files_of, opened, start, write_sweep

# As `two`, with six steps and a resume point at each.
STEPS = TWO.replace("warmup: 0", "max_steps: 6, checkpoint_steps: 1, warmup: 0")
# The runs of `two` in another sweep, with other responses.
OTHER = TWO.replace("name: two", "name: other").replace("max_new_tokens: 8", "max_new_tokens: 6")


def gc(store: Path, *words: str | Path) -> Any:
    answer = adadpo("gc", *words, "--store", store, "--json")
    assert answer.code == 0, answer.err
    return answer.json


def paths(found: Any, kind: str) -> list[str]:
    return sorted(item["path"] for item in found["items"] if item["class"] == kind)


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@pytest.fixture
def done(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of the store of two finished runs."""
    return Path(shutil.copytree(undisturbed, tmp_path / "store"))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    """The file of two runs, a store whose first run was killed at its fifth step, and the calm results."""
    folder = tmp_path_factory.mktemp("interrupted")
    file = write_sweep(folder / "two.yaml", STEPS)
    answer = adadpo("launch", file, "--store", folder / "calm")
    assert answer.code == 0, answer.err
    killed = start(
        folder / "log",
        "launch",
        file,
        "--store",
        folder / "store",
        interruption=("progress", 6, signal.SIGKILL),
    )
    killed.wait()
    return file, folder / "store", contents(folder / "calm")


@pytest.fixture
def torn(interrupted: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> tuple[Path, Path, Path]:
    """Its file, a copy of its store, and the folder of the checkpoints."""
    store = Path(shutil.copytree(interrupted[1], tmp_path / "torn"))
    [checkpoints] = store.glob("*/train/checkpoints")
    assert len(list(checkpoints.glob("checkpoint-*"))) == 2
    return interrupted[0], store, checkpoints


def test_a_finished_store_is_shown_and_left_alone(finished: Path) -> None:
    """Eight trained runs: their weights could go, with the bytes that are on the disk; without a word nothing does."""
    before = files_of(finished)
    answer = adadpo("gc", "--store", finished)
    assert answer.code == 0, answer.err
    assert "0 bytes can be freed" in answer.out
    assert "stays without --weights" in answer.out
    found = gc(finished, "--weights")
    assert found["bytes"] == sum(size(path) for path in finished.glob("*/train/model")) > 0
    assert len(found["runs"]) == 8
    assert found["freed_bytes"] == 0
    assert "nothing was freed" in adadpo("gc", "--weights", "--store", finished).out
    assert files_of(finished) == before


def test_only_older_checkpoints_go_and_the_run_resumes(
    torn: tuple[Path, Path, Path], interrupted: tuple[Path, Path, dict[str, str]]
) -> None:
    """The killed run keeps its newest whole checkpoint and ends as the calm one, bit for bit; none is left then."""
    file, store, checkpoints = torn
    older, newest = sorted(checkpoints.glob("checkpoint-*"))
    bytes_of_older = size(older)
    found = gc(store, file)
    assert paths(found, "older checkpoints") == [str(older.relative_to(store))]
    assert found["bytes"] == bytes_of_older == sum(found["runs"][checkpoints.parents[1].name].values())
    assert older.exists()
    freed = gc(store, file, "--yes")
    assert (freed["freed_bytes"], older.exists(), newest.exists()) == (bytes_of_older, False, True)
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 0, answer.err
    assert contents(store) == interrupted[2]
    assert not list(store.glob("*/train/checkpoints"))
    assert adadpo("fsck", "--store", store).code == 0


def test_a_damaged_newest_checkpoint_keeps_the_one_before(torn: tuple[Path, Path, Path]) -> None:
    """One that training would pass over is not what it resumes from; one without manifest is a leftover."""
    _, store, checkpoints = torn
    older, newest = sorted(checkpoints.glob("checkpoint-*"))
    weights = newest / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert gc(store)["items"] == []
    weights.write_bytes(content)
    (older / "manifest.json").unlink()
    found = gc(store)
    assert paths(found, "partial") == [str(older.relative_to(store))]
    assert paths(found, "older checkpoints") == []


@pytest.mark.parametrize("holder", ["alive", "unknown", "damaged"])
def test_what_somebody_may_work_on_is_left_alone(torn: tuple[Path, Path, Path], holder: str) -> None:
    """A live owner, a silent one on another machine, a lease that names nobody: nothing of the run is offered."""
    _, store, checkpoints = torn
    run = checkpoints.parents[1]
    lease = run / "lease.json"
    owner = read_json(lease)
    if holder == "alive":
        start_time = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
        lease.write_text(json.dumps(owner | {"pid": os.getpid(), "process_started": start_time}))
    elif holder == "unknown":
        elsewhere = {"host": "elsewhere", "boot": "other", "refreshed": time.time() - 1000}
        lease.write_text(json.dumps(owner | elsewhere))
    else:
        lease.write_text("")
    found = gc(store, "--yes", "--weights")
    assert found["items"] == []
    assert found["kept"].keys() == {run.name}
    assert len(list(checkpoints.glob("checkpoint-*"))) == 2


def test_who_begins_meanwhile_keeps_its_files(
    torn: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that takes the run between looking and freeing: told, exit code 1, nothing is gone."""
    from sweeps.maintenance import gc_free as freeing

    file, store, checkpoints = torn
    sweep = opened(file, store)
    folder = sweep.store.run(checkpoints.parents[1].name)
    original = freeing.find_freeable

    def slow(*arguments: Any) -> Any:
        found = original(*arguments)
        stack.enter_context(held(folder.lease))
        return found

    from contextlib import ExitStack

    monkeypatch.setattr(freeing, "find_freeable", slow)
    with ExitStack() as stack:
        answer = adadpo("gc", "--yes", "--store", store)
    assert answer.code == 1
    assert "not freed" in answer.out
    assert "a worker is working on it" in answer.out
    assert len(list(checkpoints.glob("checkpoint-*"))) == 2


def test_a_run_that_would_begin_anew_gives_up_its_checkpoints(torn: tuple[Path, Path, Path]) -> None:
    """After a bug a retry deletes them anyway; after a lost node it goes on from them."""
    _, store, checkpoints = torn
    failure = checkpoints.parents[1] / "failure.json"
    for kind, expected in (("bug", [str(checkpoints.relative_to(store))]), ("node", [])):
        failure.write_text(json.dumps({"kind": kind, "stage": "train", "message": "m", "time": 1.0}))
        assert paths(gc(store), "checkpoints") == expected


def test_links_are_not_followed(torn: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Checkpoints behind a link, a run that is one: they stay and are told. A link in what is deleted goes alone."""
    _, store, checkpoints = torn
    outside = tmp_path / "outside"
    checkpoints.rename(outside)
    checkpoints.symlink_to(outside, target_is_directory=True)
    found = gc(store, "--yes")
    assert "symbolic link" in " ".join(found["kept"].values())
    assert found["items"] == []
    assert len(list(outside.glob("checkpoint-*"))) == 2
    checkpoints.unlink()
    outside.rename(checkpoints)
    run = checkpoints.parents[1]
    run.rename(outside)
    run.symlink_to(outside, target_is_directory=True)
    assert gc(store, "--yes")["kept"] == {run.name: "is a symbolic link: not followed"}
    run.unlink()
    outside.rename(run)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    older = min(checkpoints.glob("checkpoint-*"))
    (older / "link").symlink_to(precious, target_is_directory=True)
    gc(store, "--yes")
    assert not older.exists()
    assert (precious / "file").read_text() == "mine"


def test_leftovers_and_what_fsck_moved_aside(done: Path, two: Path) -> None:
    """Temporary files of dead writers, half a model, a quarantined stage: shown by class, then gone; the rest stays."""
    sweep = opened(two, done)
    run = sweep.store.run(sweep.job.runs[0].run_id)
    scores = run.evaluation(sweep.eval_id) / "scores.json"
    scores.write_text("")
    assert adadpo("fsck", "--repair", "--store", done).code == 0
    part, half, young = run.path / ".x.part", run.train / ".model", sweep.folder / ".y.part"
    partial, old = run.generation(sweep.eval_id) / "partial.jsonl", sweep.folder / ".z.part"
    half.mkdir()
    for file in (part, half / "weights", young, partial, old):
        file.write_text("half")
    os.utime(old, (time.time() - 7200,) * 2)
    before = contents(done)
    found = gc(done)
    assert paths(found, "partial") == sorted(
        str(path.relative_to(done)) for path in (part, half, partial, old)
    )
    [aside] = (done / "quarantine").glob(f"*/{run.path.name}")
    assert paths(found, "quarantine") == [str(aside.relative_to(done))]
    some = gc(done, two, f"!{run.path.name}")
    assert some["items"] == [
        each for each in gc(done, two, "--weights")["items"] if each["run"] in some["runs"]
    ]
    assert not paths(some, "partial")
    freed = gc(done, "--yes")
    assert freed["freed_bytes"] == freed["bytes"] > 0
    assert not any(path.exists() for path in (part, half, partial, old, aside))
    assert list((done / "quarantine").iterdir()) == []
    assert young.exists()
    assert {path: what for path, what in contents(done).items() if "quarantine" not in path} == {
        path: what for path, what in before.items() if "quarantine" not in path
    }
    assert adadpo("fsck", "--store", done).code == 0


def test_weights_that_an_evaluation_still_needs_stay(done: Path, two: Path, tmp_path: Path) -> None:
    """Another sweep of the store plans responses of the same runs: its name is the reason; so is a broken sweep."""
    other = write_sweep(tmp_path / "other.yaml", OTHER)
    assert len(paths(gc(done, two), "weights")) == 2
    assert paths(gc(done, other), "weights") == []  # planned, if not launched
    record(opened(other, done))
    found = gc(done, two, "--weights", "--yes")
    assert found["items"] == []
    assert set(found["kept"].values()) == {"other has not evaluated it"}
    (done / "sweeps" / "other" / "plan.json").write_text("{")
    assert "cannot be opened" in " ".join(gc(done, two, "--weights", "--yes")["kept"].values())
    assert len(list(done.glob("*/train/model"))) == 2


def test_an_evaluation_that_was_begun_keeps_the_weights(done: Path, two: Path) -> None:
    """Whoever began it; and a run that nobody ever evaluated keeps them too."""
    sweep = opened(two, done)
    first, second = (sweep.store.run(run.run_id) for run in sweep.job.runs)
    (first.path / "eval" / "another").mkdir()
    shutil.rmtree(second.path / "eval")
    shutil.rmtree(sweep.folder)
    found = gc(done, "--weights", "--yes")
    assert found["items"] == []
    assert set(found["kept"].values()) == {
        "an evaluation of it was begun and is not complete", "it was never evaluated",
    }  # fmt: skip


def test_freed_weights_are_no_damage_and_come_back_when_needed(
    done: Path, undisturbed: Path, two: Path, tmp_path: Path
) -> None:
    """All verbs say the truth after it; another evaluation trains anew, told once, and equals the one with weights."""
    other = write_sweep(tmp_path / "other.yaml", OTHER)
    expected = Path(shutil.copytree(undisturbed, tmp_path / "expected"))
    assert adadpo("launch", other, "--store", expected).code == 0
    freed = gc(done, two, "--weights", "--yes")
    assert freed["freed_bytes"] == sum(size(path) for path in undisturbed.glob("*/train/model"))
    assert not list(done.glob("*/train/model"))
    assert adadpo("fsck", "--store", done).code == 0
    assert adadpo("status", two, "--store", done, "--json").json["counts"] == {"done": 2}
    assert adadpo("report", two, "--store", done).code == 0
    launched = adadpo("launch", two, "--store", done)
    assert (launched.code, "2 done, 0 to do" in launched.out) == (0, True)
    assert gc(done, "--weights")["items"] == []
    said = "2 runs are retrained, since this evaluation needs weights that adadpo gc freed"
    assert said in adadpo("plan", other, "--store", done).out
    run = next(iter(freed["runs"]))
    assert "retrained" in adadpo("why", other, run, "--store", done).out
    before = {path: what for path, what in files_of(done).items() if "/eval/" in path or "metrics" in path}
    # Killed in the new training, the first sweep's results are what they were, and stay counted.
    start(
        tmp_path / "log", "launch", other, "--store", done, interruption=("progress", 2, signal.SIGKILL)
    ).wait()
    assert list(done.glob("*/retraining"))
    assert adadpo("status", two, "--store", done, "--json").json["counts"] == {"done": 2}
    assert adadpo("fsck", "--store", done, "--repair").code == 0
    answer = adadpo("launch", other, "--store", done)
    assert (answer.code, answer.out.count(said)) == (0, 1), answer.err
    assert contents(done) == contents(expected)
    assert not list(done.glob("*/retraining"))
    assert not list(done.glob("*/train/freed.json"))
    after = files_of(done)
    assert {path: after[path] for path in before} == before
    assert adadpo("fsck", "--store", done).code == 0


def test_weights_that_come_back_differently_are_told(
    done: Path, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU may do it: one weight is another. Told in the log; fsck names what was made from the earlier ones."""
    gc(done, two, "--weights", "--yes")
    train = stages.train_together

    def differently(context: Any, run: Any, folder: Path, on_progress: Any) -> dict[str, Any]:
        metrics = train(context, run, folder, on_progress)
        file = folder / "model" / "model.safetensors"
        weights = load_file(file)
        next(iter(weights.values())).view(-1)[0] += 1
        save_file(weights, file, {"format": "pt"})
        return metrics

    monkeypatch.setattr(stages, "train_together", differently)
    other = write_sweep(tmp_path / "other.yaml", OTHER)
    assert adadpo("launch", other, "--store", done).code == 0
    assert all("not bit for bit" in log.read_text() for log in done.glob("*/log.txt"))
    assert not list(done.glob("*/retraining"))
    assert adadpo("status", other, "--store", done, "--json").json["counts"] == {"done": 2}
    answer = adadpo("fsck", "--store", done, "--json")
    assert answer.code == 1
    sweep = opened(two, done)
    files = [sweep.store.run(run.run_id).last_file("generate", sweep.eval_id) for run in sweep.job.runs]
    said = {finding["path"]: finding["problem"] for finding in answer.json["findings"]}
    assert said == dict.fromkeys(
        (str(file.relative_to(done)) for file in files), "was not made from this train stage's result"
    )
    # The report of the earlier responses says it of each run, that of the new ones of none; freed again, no less.
    for _ in range(2):
        for file, runs in ((two, 2), (other, 0)):
            assert adadpo("report", file, "--store", done).code == 0
            folder = opened(file, done).folder
            assert (
                sum(OTHER_WEIGHTS in run.flags for run in load_results(folder / "results.json").runs) == runs
            )
            assert ("its responses are of earlier weights" in (folder / "report.html").read_text()) == (
                runs > 0
            )
        gc(done, "--weights", "--yes")


@pytest.mark.parametrize(
    ("place", "times"), [("replace", 1), ("move", 1), ("move", 2), ("unlink", 1), ("unlink", 3), ("rmdir", 1)]
)
def test_a_kill_in_the_middle(done: Path, two: Path, tmp_path: Path, place: str, times: int) -> None:
    """At every kind of step: fsck finds nothing wrong, both runs are done, the next gc frees the rest."""
    killed = start(
        tmp_path / "log",
        *("gc", two, "--weights", "--yes", "--store", done),
        interruption=(place, times, signal.SIGKILL),
    ).wait()
    assert killed.code == -signal.SIGKILL, killed.out
    assert adadpo("fsck", "--store", done).code == 0
    assert adadpo("status", two, "--store", done, "--json").json["counts"] == {"done": 2}
    gc(done, "--weights", "--yes")
    assert not list(done.glob("*/train/model"))
    assert not list(done.rglob(".gc-*"))
    assert adadpo("fsck", "--store", done).code == 0


class Terminal(io.StringIO):
    """A person who answers."""

    def isatty(self) -> bool:
        return True


def test_a_person_is_asked(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal: no leaves everything, yes frees what was shown."""
    for answer, left in (("n\n", 2), ("y\n", 0)):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        said = adadpo("gc", "--weights", "--store", done)
        assert (said.code, "free it?" in said.out) == (0, True)
        assert ("nothing was freed" in said.out) == (left > 0)
        assert len(list(done.glob("*/train/model"))) == left


def test_words_and_mistakes(store: Path, small: Path) -> None:
    """Words choose as for every verb; what is not there is named with code 2."""
    found = gc(store, small, "beta=0.1", "arm=dpo", "--weights", "--yes")
    assert len(found["runs"]) == 2
    assert len(list(store.glob("*/train/model"))) == 6
    assert adadpo("gc", small, "betta=1", "--store", store).code == 2
    answer = adadpo("gc", "smal", "--store", store)
    assert (answer.code, "did you mean 'small'" in answer.err) == (2, True)

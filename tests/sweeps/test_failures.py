"""What goes wrong is said in plain words, with the right exit code, and loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from adadpo.errors import FailureError
from adadpo.models.load import prepare_model, resolve_model
from reports.files import load_results
from sweeps.execution.stages import execute
from tests.sweeps.sweep_examples import (
    LAST_FILES,
    SMALL,
    TWO,
    adadpo,
    contents,
    files_of,
    opened,
    run_files,
    start,
    tiny_disk,
    write_sweep,
)

ROW = {"prompt": "Say hello.", "chosen": "Hello.", "rejected": "No."}
DATA = '{source: "builtin:instructions", limit: 16, heldout_limit: 8}'
PROMPT = {"instruction": "Say hello.", "constraints": [{"kind": "no_commas"}]}

# what is written into the sweep, and into a file beside it -> words of the message; all are bad input
BAD_INPUT: dict[str, tuple[tuple[str, str], str | bytes | None, str]] = {
    "model unknown": (
        ("tiny-random-llama", "tiny-random-lama"),
        None,
        "2:8: unknown model 'tiny-random-lama'",
    ),
    "model folder missing": (("tiny-random-llama", "./nowhere"), None, "2:8: unknown model"),
    "model folder empty": (("tiny-random-llama", "./"), None, "has no config.json"),
    "data missing": ((DATA, "file.jsonl"), None, "3:7: cannot read data file"),
    "data nowhere": ((DATA, "builtin:instruction"), None, "unknown built-in data 'builtin:instruction'"),
    "data misspelt": (
        (DATA, "pairs.csv"),
        None,
        "is neither 'builtin:instructions', nor a .json or .jsonl file",
    ),
    "data empty": ((DATA, "file.jsonl"), "", "no usable preference pair"),
    "data half-written": (
        (DATA, "file.jsonl"),
        json.dumps(ROW) + '\n{"prompt": "Say',
        "file.jsonl:2:12: not JSON",
    ),
    "data column missing": (
        (DATA, "file.jsonl"),
        json.dumps({"prompt": "Say hello.", "chosen": "Hello."}),
        "row 1: column 'rejected' is missing (has: chosen, prompt)",
    ),
    "data not text": ((DATA, "file.jsonl"), b"\xff\xfe\x00", "not UTF-8"),
    "prompts missing": (("limit: 8\n", "prompts: file.json\n"), None, "cannot read prompts"),
    "prompts half-written": (("limit: 8\n", "prompts: file.json\n"), '[{"instruction"', "not JSON"),
    "prompts twice": (
        ("limit: 8\n", "prompts: file.json\n"),
        json.dumps([PROMPT, PROMPT]),
        "instruction is there twice: 'Say hello.'",
    ),
    "prompts without constraints": (
        ("limit: 8\n", "prompts: file.json\n"),
        json.dumps([{"instruction": "Say hello."}]),
        "prompt 1 has none",
    ),
    "prompts with an unknown constraint": (
        ("limit: 8\n", "prompts: file.json\n"),
        json.dumps([PROMPT | {"constraints": [{"kind": "no_comma"}]}]),
        "prompt 1: unknown kind of constraint 'no_comma'",
    ),
    "prompts with NaN": (
        ("limit: 8\n", "prompts: file.json\n"),
        json.dumps([PROMPT | {"weight": float("nan")}]),
        "NaN is not a number in JSON",
    ),
    "calibration missing": (("limit: 8\n", "calibration: file.csv\n"), None, "cannot read calibration"),
    "baseline missing": (("limit: 8\n", "baseline: file.json\n"), None, "cannot read baseline outputs"),
    "baseline for other prompts": (
        ("limit: 8\n", "limit: 8\n  baseline: file.json\n"),
        json.dumps([{"instruction": "?", "output": "", "generator": "x"}]),
        "no output for 8 of 8 prompts",
    ),
    "baseline without outputs": (
        ("limit: 8\n", "baseline: file.json\n"),
        json.dumps([{"instruction": "?"}]),
        "output 1 has no text 'output'",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
@pytest.mark.parametrize("command", ["check", "launch"])
def test_bad_input_is_told_before_anything_is_spent(tmp_path: Path, case: str, command: str) -> None:
    """Exit code 2, one message with the place, no traceback, nothing written to the store."""
    (old, new), content, message = BAD_INPUT[case]
    assert old in TWO
    file = write_sweep(tmp_path / "two.yaml", TWO.replace(old, new))
    if content is not None:
        name = "file.jsonl" if "jsonl" in new else "file.json"
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    answer = adadpo(command, file, "--store", tmp_path / "store")
    assert answer.code == 2, answer
    assert answer.err.startswith(f"adadpo: {file}:")
    assert message in answer.err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["launch", "nowhere.yaml"], "no such file: nowhere.yaml"),
        (["status", "smal"], "no sweep 'smal': neither a .yaml file nor a sweep in"),
        (["status", "smal"], "did you mean 'small'?"),
        (["logs", "small", "zzz"], "no run of small fits 'zzz'"),
        (["logs", "small", "arm=nobody"], "no run of small fits 'arm=nobody'"),
        (["retry", "small"], "nothing to retry in small"),
        (["extend", "small", "--seeds", "0"], "adds nothing: the sweep has seeds [0, 1]"),
        (["extend", "small", "--seeds", "+1e9"], "'1e9' is no whole number below 2^32"),
        (["judge", "small", "--judge", "{kind: "], "--judge:1:8: expected the node content, but found"),
        (["judge", "small", "--judge", "no.yaml"], "no such file: "),
        (["judge", "small", "--calibration", "no.csv"], "no.csv: No such file or directory"),
        (["status", "s" * 300], "sss': File name too long"),
        (["status", "~nobody-here/x"], "no sweep '~nobody-here/x': "),
    ],
)
def test_wrong_words_on_the_command_line(finished: Path, words: list[str], message: str) -> None:
    """Exit code 2 and a message that names the word."""
    answer = adadpo(*words, "--store", finished)
    assert answer.code == 2, answer
    assert message in answer.err
    assert "Errno" not in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("store", "why"), [("s" * 300, "File name too long"), ("~nobody-here/x", "home directory")]
)
def test_a_store_that_is_no_path(small: Path, store: str, why: str) -> None:
    """Exit code 2, the option's value and why."""
    answer = adadpo("status", small, "--store", store)
    assert answer.code == 2, answer
    assert answer.err.startswith(f"adadpo: store '{store}': ")
    assert why in answer.err


@pytest.mark.parametrize(
    "words", [["lunch"], ["plan"], ["plan", "x.yaml", "--jsn"], ["dashboard", "x", "--port", "99999"]]
)
def test_wrong_commands_and_options(words: list[str]) -> None:
    """typer's own: exit code 2."""
    assert adadpo(*words).code == 2


@pytest.mark.parametrize("command", ["launch", "report"])
def test_a_store_that_cannot_be_written(finished: Path, small: Path, tmp_path: Path, command: str) -> None:
    """A file in place of the folder (root may write everywhere): exit code 2."""
    (tmp_path / "store").write_text("")
    answer = adadpo(command, small, "--store", tmp_path / "store")
    assert answer.code == 2
    assert "cannot be written: " in answer.err
    assert "choose another by --store" in answer.err


def test_a_sweep_folder_that_cannot_be_written(small: Path, tmp_path: Path) -> None:
    """A file in place of a folder below: exit code 1, named."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "sweeps").write_text("")
    answer = adadpo("launch", small, "--store", tmp_path / "store")
    assert answer.code == 1
    assert "sweeps/small" in answer.err
    assert "Traceback" not in answer.err


def one_run(store: Path, small: Path) -> tuple[Path, Path]:
    """The first run's folder and its evaluation's."""
    sweep = opened(small, store)
    folder = sweep.store.run(sweep.job.runs[0].run_id)
    return folder.path, folder.evaluation(sweep.eval_id)


@pytest.mark.parametrize(
    "name",
    ["metrics.json", "history.jsonl", "generation.json", "judging.json", "annotations.json", "scores.json"],
)
def test_a_half_written_file_is_named_and_mended(store: Path, small: Path, name: str) -> None:
    """Cut in the middle (a dying disk): report and launch name it with code 1; deleted, its stage runs again."""
    before = contents(store)
    run, evaluation = one_run(store, small)
    places = (run / "train" / name, evaluation.parent / name, evaluation / name)
    file = next(path for path in places if path.exists())
    text = file.read_text()
    file.write_text(text[: len(text) // 2])
    others = {path: what for path, what in files_of(store).items() if not path.startswith("sweeps/")}
    for command in ("report", "launch"):
        answer = adadpo(command, small, "--store", store)
        assert answer.code == 1, answer.out
        assert f"{file} is damaged" in answer.err
        assert "delete it" in answer.err
    assert {path: what for path, what in files_of(store).items() if not path.startswith("sweeps/")} == others
    file.unlink()
    answer = adadpo("launch", small, "--store", store)
    assert answer.code == 0, answer.err
    assert "8 runs, 7 done, 1 to do" in answer.out
    assert contents(store) == before


@pytest.mark.parametrize("name", ["outputs.json", "annotations.json"])
def test_a_half_written_file_that_the_next_stage_needs(store: Path, small: Path, name: str) -> None:
    """The launch stops at it with code 1, the log says it too, and nothing else is touched."""
    _, evaluation = one_run(store, small)
    (evaluation / "scores.json").unlink()
    if name == "outputs.json":
        (evaluation / "annotations.json").unlink()
    file = evaluation.parent / name if name == "outputs.json" else evaluation / name
    file.write_text(file.read_text()[:-20])
    before = run_files(store, LAST_FILES)
    answer = adadpo("launch", small, "--store", store)
    assert answer.code == 1
    assert f"{file} is damaged" in answer.err
    assert run_files(store, LAST_FILES) == before
    assert not list(store.rglob("lease.json"))
    assert not list(store.rglob("failure.json"))


def test_a_damaged_baseline_is_made_again(store: Path, small: Path, tmp_path: Path) -> None:
    """The baseline's responses are shared: named when damaged, generated again when deleted."""
    [baseline] = store.glob("baselines/*/outputs.json")
    whole = baseline.read_bytes()
    baseline.write_bytes(whole[:50])
    file = write_sweep(tmp_path / "small.yaml", SMALL.replace("seeds: [0, 1]", "seeds: [0, 1, 2]"))
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 1
    assert f"{baseline} is damaged" in answer.err
    baseline.unlink()
    assert adadpo("launch", file, "--store", store).code == 0
    assert baseline.read_bytes() == whole


def test_a_damaged_study_is_made_again(store: Path, small: Path) -> None:
    """The journal is only a mirror."""
    (store / "sweeps" / "small" / "study.journal").write_text("no\njournal\n")
    assert adadpo("report", small, "--store", store).code == 0


def test_a_full_disk_ends_the_launch_and_room_continues_it(
    two: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Real file systems of several sizes, so that it fills up in several places: code 1, no traceback, nothing lost."""
    pages = sum(-(-path.stat().st_size // 4096) for path in undisturbed.rglob("*") if path.is_file())
    with tiny_disk(tmp_path / "disk", "16k") as disk:
        seen: dict[str, tuple[int, str]] = {}
        for share in (0.15, 0.35, 0.55, 0.75, 0.9):
            size = int(pages * share) * 4
            subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True)
            answer = start(tmp_path / "log", "launch", two, "--store", disk / "store").wait()
            assert answer.code == 1, answer.out
            assert "no space left" in answer.out.lower()
            assert "Traceback" not in answer.out
            assert "Logging error" not in answer.out
            assert not list(disk.rglob("failure.json"))
            now = run_files(disk / "store", LAST_FILES)
            assert {path: now[path] for path in seen} == seen
            seen = now
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        answer = start(tmp_path / "log", "launch", two, "--store", disk / "store").wait()
        assert answer.code == 0, answer.out
        now = run_files(disk / "store", LAST_FILES)
        assert {path: now[path] for path in seen} == seen
        assert contents(disk / "store") == contents(undisturbed)


def test_a_run_that_diverges(tmp_path: Path) -> None:
    """A learning rate of 1e20 makes the loss NaN after the first step: DIVERGED with step and cause."""
    text = TWO.replace("grid: {beta: [0.1]}", "grid: {learning_rate: [1.0e-3, 1.0e+20]}").replace(
        ", learning_rate: 1.0e-3}", "}"
    )
    file, store = write_sweep(tmp_path / "two.yaml", text), tmp_path / "store"
    answer = adadpo("launch", file, "--store", store)
    assert answer.out.count("seed=0 diverged") == 2
    assert answer.code == 0  # an outcome, not an error
    for run in opened(file, store).select("diverged"):
        failure = json.loads(store.joinpath(run.run_id, "failure.json").read_text())
        assert run.hyperparameters == {"learning_rate": 1e20}
        assert (failure["kind"], failure["stage"]) == ("diverged", "train")
        assert failure["step"] in (1, 2)
        assert failure["quantity"] in ("loss", "grad norm", "held-out reward margin")
        assert f"diverged at step {failure['step']}: {failure['quantity']} is " in failure["message"]
        assert failure["message"] in adadpo("logs", "two", run.run_id, "--store", store).out
    status = adadpo("status", "two", "--store", store)
    assert "2 done" in status.out
    assert "2 runs: diverged in train: diverged at step" in status.out
    results = load_results(store / "sweeps" / "two" / "results.json")
    assert results.counts == {"done": 2, "diverged": 2}
    assert [failure.state for failure in results.failures] == ["diverged", "diverged"]
    assert "diverged at step" in (store / "sweeps" / "two" / "report.html").read_text()
    # It stays so: a second launch has nothing to do, and retry tries again.
    assert "2 done, 0 to do" in adadpo("launch", file, "--store", store).out
    before = run_files(store, LAST_FILES)
    again = adadpo("retry", "two", "--store", store)
    assert "2 done, 2 to do" in again.out
    assert run_files(store, LAST_FILES) == before


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, seeds: set[int]) -> list[int]:
    """Training that fails for some seeds; returns the seeds that were tried."""
    import adadpo.training.train

    train_run, tried = adadpo.training.train.train_run, []

    def train(base: Any, config: Any, *args: Any, **kwargs: Any) -> Any:
        tried.append(config.seed)
        if config.seed in seeds:
            raise error
        return train_run(base, config, *args, **kwargs)

    monkeypatch.setattr(adadpo.training.train, "train_run", train)
    return tried


@pytest.mark.parametrize(
    ("error", "kind"),
    [(RuntimeError("boom [red]"), "bug"), (RuntimeError("CUDA out of memory. Tried to"), "out of memory")],
)
def test_a_run_that_fails_is_tried_again_on_demand(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    """One of two seeds fails: the other is done, code 1, the log has the traceback; retry runs it alone."""
    store = tmp_path / "store"
    write_sweep(two, TWO.replace("seeds: [0]", "seeds: [0, 1]"))
    with monkeypatch.context() as patch:
        failing(patch, error, {1})
        answer = adadpo("launch", two, "--store", store)
    assert answer.code == 1
    assert "2 runs failed: see adadpo logs two, try them again by adadpo retry two" in answer.err
    assert "Traceback" not in answer.err + answer.out
    status = adadpo("status", "two", "--store", store)
    assert f"{kind} in train: RuntimeError: {error}" in status.out
    assert "Traceback" in adadpo("logs", "two", "--store", store).out
    assert "4 runs, 2 done, 0 to do" in adadpo("launch", two, "--store", store).out
    before = run_files(store, LAST_FILES)
    answer = adadpo("retry", "two", "arm=dpo", "--store", store)
    assert "4 runs, 2 done, 1 to do" in answer.out
    assert answer.code == 1  # the other one is still failed
    assert adadpo("retry", "two", "--store", store).code == 0
    after = run_files(store, LAST_FILES)
    assert {path: after[path] for path in before} == before
    assert adadpo("plan", "two", "--store", store, "--json").json["done"] == 4


def test_the_same_failure_thrice_stops_the_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would hit every run does not: five of eight runs are not even tried."""
    file = write_sweep(tmp_path / "small.yaml", SMALL)
    tried = failing(monkeypatch, RuntimeError("boom"), {0, 1})
    answer = adadpo("launch", file, "--store", tmp_path / "store")
    assert answer.code == 1
    assert "stopped: 3 runs failed alike: RuntimeError: boom" in answer.err
    assert len(tried) == 3
    plan = adadpo("plan", file, "--store", tmp_path / "store", "--json").json
    assert (plan["failed"], plan["new"]) == (3, 5)


@pytest.mark.parametrize("what", ["data", "heldout", "prompts", "model"])
def test_what_changed_since_it_was_planned_is_refused(tmp_path: Path, what: str) -> None:
    """A queued job whose inputs are edited before it starts must not put results under the old id."""
    import shutil

    files = {
        "data": "data.jsonl",
        "heldout": "heldout.jsonl",
        "prompts": "prompts.json",
        "model": "model/config.json",
    }
    shutil.copytree(prepare_model(resolve_model("tiny-random-llama")), tmp_path / "model")
    for name in ("data", "heldout"):
        (tmp_path / files[name]).write_text(json.dumps(ROW) + "\n")
    (tmp_path / "prompts.json").write_text(json.dumps([PROMPT]))
    text = TWO.replace(DATA, "{source: data.jsonl, heldout: heldout.jsonl}").replace(
        "limit: 8\n", "prompts: prompts.json\n"
    )
    file = write_sweep(
        tmp_path / "two.yaml",
        text.replace("tiny-random-llama", "./model").replace("batch_size: 8, max", "batch_size: 1, max"),
    )
    job = opened(file, tmp_path / "store").job
    with (tmp_path / files[what]).open("a") as stream:
        stream.write("\n")
    if what == "prompts":
        (tmp_path / files[what]).write_text(json.dumps([PROMPT, PROMPT | {"instruction": "Say no."}]))
    with pytest.raises(FailureError, match=r"changed since the runs were planned"):
        execute(job, lambda *args: None, lambda *args: None)
    assert not list((tmp_path / "store").rglob("scores.json"))
    assert not list((tmp_path / "store").rglob("failure.json"))


def test_a_killed_worker_is_told_and_continued(tmp_path: Path, undisturbed: Path) -> None:
    """kill -9 of a local worker in training: code 1 with a message; the same command continues."""
    store = tmp_path / "store"
    file = write_sweep(tmp_path / "two.yaml", TWO.replace("executor: inline", "executor: local"))
    child = start(tmp_path / "log", "launch", file, "--store", store)
    deadline = time.monotonic() + 90
    while not (leases := list(store.glob("*/lease.json"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(json.loads(leases[0].read_text())["pid"], signal.SIGKILL)
    answer = child.wait()
    assert answer.code == 1, answer.out
    assert "Traceback" not in answer.out
    assert "a worker ended" in answer.out
    assert adadpo("launch", write_sweep(file, TWO), "--store", store).code == 0
    assert contents(store) == contents(undisturbed)

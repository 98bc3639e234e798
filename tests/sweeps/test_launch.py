"""The whole path on a tiny model: launch, launch again, extend, declare anew, and every executor."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from reports.files import load_results
from sweeps.state.opening import extend_seeds
from sweeps.store.host import PACKAGES
from sweeps.store.layout import STAGES
from sweeps.store.lease import held
from tests.sweeps.sweep_examples import (
    SMALL,
    TWO,
    Answer,
    adadpo,
    contents,
    files_of,
    opened,
    run_files,
    start,
    write_sweep,
)

HEX = r"[0-9a-f]{16}"


def test_every_run_has_every_file(finished: Path, small: Path) -> None:
    """The store's layout against the head of sweeps/store/layout.py."""
    sweep = opened(small, finished)
    assert len(sweep.job.runs) == 8  # 2 arms x 2 betas x 2 seeds
    assert Counter(sweep.states().values()) == {"done": 8}
    for run in sweep.job.runs:
        folder = sweep.store.run(run.run_id)
        assert re.fullmatch(HEX, run.run_id)
        assert folder.stages_done(sweep.eval_id) == list(STAGES)
        names = {path.split("/", 1)[-1] for path in files_of(folder.path)}
        assert {"config.json", "provenance.json", "log.txt"} <= names
        generation_id = sweep.job.evaluation.generation_id
        assert {f"{generation_id}/{name}" for name in ("config.json", "generation.json")} <= names
        assert {f"{sweep.eval_id}/{name}" for name in ("config.json", "judging.json")} <= names
        assert not {"lease.json", "failure.json"} & names
    leftovers = [path for path in finished.rglob("*") if path.name.endswith(".part")]
    assert leftovers == []
    assert {path.name for path in (finished / "sweeps" / "small").iterdir()} >= {
        *("spec.yaml", "declared.json", "study.journal", "results.json", "report.html", "tables"),
    }


def test_the_report_says_the_verdict_that_the_launch_printed(first_launch: tuple[Path, Answer]) -> None:
    """results.json, report.html and the launch's own words against each other."""
    store, answer = first_launch
    folder = store / "sweeps" / "small"
    results = load_results(folder / "results.json")
    assert results.verdict in answer.out
    assert results.counts == {"done": 8}
    assert len(results.runs) == 8
    page = (folder / "report.html").read_text()
    assert "LC win rate" in page
    plain = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    assert results.verdict.split("(")[0].strip()[:60] in plain
    assert str(folder / "report.html") in answer.out


def test_a_second_launch_finds_nothing_to_do(store: Path, small: Path) -> None:
    """Times and contents of every run's files before and after; torch is not even imported."""
    before = run_files(store, tuple({Path(path).name for path in files_of(store)}))
    code = (
        "import sys; from sweeps.cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'transformers', 'trl'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        [*command, "launch", small, "--store", store, "--allow-untestable"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "8 runs, 8 done, 0 to do" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
    assert run_files(store, tuple({Path(path).name for path in files_of(store)})) == before


def test_provenance_holds_what_the_design_lists(finished: Path, small: Path) -> None:
    """A run can be traced: versions, commit and diff, host, device, wall time, command, model and data hashes."""
    sweep = opened(small, finished)
    run = sweep.job.runs[0]
    folder = sweep.store.run(run.run_id)
    found = json.loads((folder.path / "provenance.json").read_text())
    assert {"torch", "transformers", "trl"} <= set(found["packages"]) <= set(PACKAGES)
    assert found["git"] is None or re.fullmatch(r"[0-9a-f]{40}", found["git"]["commit"])
    assert found["git"] is None or isinstance(found["git"]["diff"], str)
    assert found["host"]
    assert found["device"]
    assert found["speed"] == {
        "forward": "shared_prompt", "batching": "random", "precision": "float32", "gradient_checkpointing": False,
        "caches": True,
    }  # fmt: skip
    assert found["runs_of_job"] == 8
    (generation,) = folder.path.glob("eval/*/generation.json")
    assert json.loads(generation.read_text())["engine"] == "transformers"
    assert found["command"][1:3] == ["launch", str(small)]
    assert found["model"]["identity"] == run.config.model == "tiny-random-llama-v1"
    assert found["data"]["identity"] == run.config.data
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\[:16\]", run.config.data)
    assert json.loads(folder.metrics.read_text())["wall_seconds"] > 0


def test_reading_commands_speak_json(finished: Path, small: Path) -> None:
    """`--json` of every reading command parses and says the same counts."""
    assert adadpo("check", small, "--json").json["runs"] == 8
    plan = adadpo("plan", small, "--store", finished, "--json").json
    assert (plan["new"], plan["done"], plan["failed"], plan["diverged"]) == (0, 8, 0, 0)
    assert (plan["settings"], plan["seeds"]) == (2, [0, 1])
    # Exact signed-rank, two-sided, 2 settings: every sign equal has probability 2 / 2^2.
    assert plan["smallest_p"] == 0.5
    assert plan["testable"] is False
    status = adadpo("status", "small", "--store", finished, "--json").json
    assert status["counts"] == {"done": 8}
    assert {(cell["arm"], cell["n"]) for cell in status["cells"]} == {("dpo", 2), ("adadpo", 2)}


def test_status_and_logs_for_people(finished: Path, small: Path) -> None:
    """Every arm and setting is in the table; a run's log names its stages."""
    said = adadpo("status", "small", "--store", finished).out
    assert "8 done" in said
    for word in ("beta=0.05", "beta=0.1", "dpo", "adadpo"):
        assert word in said
    log = adadpo("logs", "small", "arm=dpo", "beta=0.1", "seed=1", "--store", finished).out
    for stage in STAGES:
        assert f"{stage} starts" in log
        assert f"{stage} done" in log
    assert "no run has failed" in adadpo("logs", "small", "--store", finished).out


def test_the_sweep_can_be_named_without_its_file(store: Path, small: Path) -> None:
    """A launched sweep by its name equals the one by its file."""
    by_name = adadpo("plan", "small", "--store", store, "--json").json
    assert by_name == adadpo("plan", small, "--store", store, "--json").json


def test_extend_runs_only_the_new_seeds(store: Path, small: Path) -> None:
    """Old runs keep their times; new ones are exactly seed 2 of every cell; the report has three seeds."""
    before = run_files(store, ("metrics.json", "scores.json"))
    answer = adadpo("extend", "small", "--seeds", "+1", "--store", store)
    assert answer.code == 0, answer.err
    assert "seeds 2 added" in answer.out
    assert "12 runs, 8 done, 4 to do" in answer.out
    after = run_files(store, ("metrics.json", "scores.json"))
    assert {path: after[path] for path in before} == before
    assert len(after) == len(before) + 2 * 4
    results = load_results(store / "sweeps" / "small" / "results.json")
    assert results.seeds == [0, 1, 2]
    assert len(results.runs) == 12
    assert {run.seed for run in results.runs} == {0, 1, 2}
    # The file that was launched is not rewritten, and it knows of the new seeds too.
    assert adadpo("plan", small, "--store", store, "--json").json["done"] == 12
    again = adadpo("extend", "small", "--seeds", "2", "--store", store)
    assert again.code == 2
    assert "adds nothing" in again.err


@pytest.mark.parametrize(
    ("executor", "name"),
    [("local", "50%a"), ("slurm", "50%j"), ("slurm", "back\\slash"), ("slurm", "two\nlines")],
)
def test_a_store_whose_path_an_executor_would_misread(tmp_path: Path, executor: str, name: str) -> None:
    """Submitit raises at %a and makes folders elsewhere at %j; Slurm's jobs end without a log. Nothing is written."""
    file = write_sweep(tmp_path / "two.yaml", TWO.replace("inline", executor))
    for more in ([], ["--dry-run"] if executor == "slurm" else []):
        answer = adadpo("launch", file, *more, "--store", tmp_path / name)
        assert answer.code == 2
        assert f"launch.executor {executor} cannot use a path with" in answer.err
    assert not (tmp_path / name).exists()


def test_seeds_added_at_the_same_time_are_no_seed_twice(small: Path, tmp_path: Path) -> None:
    """Two people opened the sweep, each adds one: two seeds, every run once."""
    sweeps = [opened(small, tmp_path / "store") for _ in range(2)]
    assert [extend_seeds(sweep, "+1")[1] for sweep in sweeps] == [[2], [3]]
    after = opened(small, tmp_path / "store")
    assert after.seeds == [0, 1, 2, 3]
    assert len({run.run_id for run in after.job.runs}) == len(after.job.runs) == 16


@pytest.mark.parametrize(
    "seeds", ["", "x", "-1", "+0x", "1..", "3..1", "4294967296", "0..99999999999", "+99999999999"]
)
def test_extend_refuses_what_is_no_seed(store: Path, seeds: str) -> None:
    """Exit code 2, nothing written."""
    before = (store / "sweeps" / "small" / "plan.json").read_bytes()
    answer = adadpo("extend", "small", f"--seeds={seeds}", "--store", store)
    assert answer.code == 2
    assert "--seeds" in answer.err
    assert (store / "sweeps" / "small" / "plan.json").read_bytes() == before


def test_a_declaration_changed_after_launch_makes_it_exploratory(store: Path, tmp_path: Path) -> None:
    """Against the design's rule: declared at the first launch; changed later, the results and the page say so."""
    file = write_sweep(
        tmp_path / "small.yaml",
        SMALL.replace("primary: length_controlled_win_rate", "primary: win_rate, alpha: 0.1"),
    )
    plan = adadpo("plan", file, "--store", store, "--json").json
    assert plan["declaration_changed"] == [
        "primary: 'length_controlled_win_rate' at launch, now 'win_rate'",
        "alpha: 0.05 at launch, now 0.1",
    ]
    assert adadpo("launch", file, "--store", store).code == 0
    folder = store / "sweeps" / "small"
    results = load_results(folder / "results.json")
    assert results.declaration_changed == plan["declaration_changed"]
    assert not any(each.confirmatory for each in results.comparisons)
    assert "EXPLORATORY" in (folder / "report.html").read_text()
    # What was declared first stays on record.
    assert (
        json.loads((folder / "declared.json").read_text())["compare"]["primary"]
        == "length_controlled_win_rate"
    )


def test_two_sweeps_share_the_runs_they_have_in_common(store: Path, tmp_path: Path) -> None:
    """A sweep that is part of a finished one has nothing to do; a new arm label alone trains nothing."""
    file = write_sweep(
        tmp_path / "two.yaml",
        TWO.replace("dpo: {}\n  adadpo", "plain: {method: dpo}\n  adadpo").replace(
            "baseline: dpo", "baseline: plain"
        ),
    )
    assert "2 runs, 2 done, 0 to do" in adadpo("launch", file, "--store", store).out


def test_a_new_evaluation_does_not_train_again(store: Path, tmp_path: Path) -> None:
    """Other decoding, other evaluation id: train files keep their times."""
    before = run_files(store, ("metrics.json",))
    file = write_sweep(tmp_path / "two.yaml", TWO.replace("max_new_tokens: 8", "max_new_tokens: 4"))
    assert "2 runs, 0 done, 2 to do" in adadpo("launch", file, "--store", store).out
    assert run_files(store, ("metrics.json",)) == before
    assert len(run_files(store, ("scores.json",))) == 8 + 2


def test_runs_in_work_elsewhere_are_said(two: Path, undisturbed: Path, tmp_path: Path) -> None:
    """One of two runs is held by this process, against what a launch and the status say of it."""
    store = Path(shutil.copytree(undisturbed, tmp_path / "store"))
    sweep = opened(two, store)
    folder = sweep.store.run(sweep.job.runs[0].run_id)
    folder.last_file("score", sweep.eval_id).unlink()
    with held(folder.lease):
        assert "2 runs, 1 done, 0 to do, 1 running elsewhere" in adadpo("launch", two, "--store", store).out
        assert "2 runs: 1 running" in adadpo("status", two, "--store", store).out


def test_two_launchers_do_each_run_once(two: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Started together on an empty store: each stage of each run starts once, and the results are the usual ones."""
    store = tmp_path / "store"
    text = TWO.replace("seeds: [0]", "seeds: [0, 1]")
    write_sweep(two, text)
    launchers = [start(tmp_path / f"{n}.log", "launch", two, "--store", store) for n in range(2)]
    answers = [launcher.wait() for launcher in launchers]
    assert [answer.code for answer in answers] == [0, 0], answers
    for log in store.glob("*/log.txt"):
        lines = log.read_text()
        assert [lines.count(f"sweeps: {stage} starts") for stage in STAGES] == [1, 1, 1, 1]
    assert adadpo("plan", two, "--store", store, "--json").json["done"] == 4
    expected = contents(undisturbed)
    assert {path: what for path, what in contents(store).items() if path in expected} == expected


def _workers(store: Path, module: str = "submitit.core._submit") -> list[int]:
    """Processes of submitit whose command line names the store."""
    lines = {
        process.pid: " ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])
    }
    return [pid for pid, line in lines.items() if module in line and str(store) in line]


def test_ctrl_c_leaves_no_worker_behind(tmp_path: Path, undisturbed: Path) -> None:
    """SIGINT to a launcher with two workers: code 130, no worker left, and the same command continues."""
    store = tmp_path / "store"
    file = write_sweep(tmp_path / "two.yaml", TWO.replace("executor: inline", "executor: local, workers: 2"))
    child = start(tmp_path / "log", "launch", file, "--store", store)
    deadline = time.monotonic() + 60
    while len(_workers(store)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    assert child.process.pid is not None
    os.kill(child.process.pid, signal.SIGINT)
    answer = child.wait()
    assert answer.code == 130, answer.out
    assert "Traceback" not in answer.out
    assert "interrupted" in answer.out
    assert _workers(store) == []
    inline = write_sweep(tmp_path / "two.yaml", TWO)
    assert adadpo("launch", inline, "--store", store).code == 0
    assert contents(store) == contents(undisturbed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_worker_is_not_forgotten_while_it_starts(number: signal.Signals, tmp_path: Path) -> None:
    """Signalled when the second worker's process is there, but submitit has not handed its job over yet."""
    store = tmp_path / "store"
    file = write_sweep(tmp_path / "two.yaml", TWO.replace("executor: inline", "executor: local, workers: 2"))
    answer = start(
        tmp_path / "log", "launch", file, "--store", store, interruption=("worker", 2, number)
    ).wait()
    assert answer.code == 130, answer.out
    assert _workers(store, "submitit.") == []
    assert not list(store.rglob("lease.json"))

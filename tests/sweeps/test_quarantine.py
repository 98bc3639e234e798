"""An evaluation that fails the integrity gate is shown with its reason and counts nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from sweeps.search.study_storage import open_storage
from tests.sweeps.judging_examples import api, read, results, with_judge
from tests.sweeps.sweep_examples import TWO, adadpo, opened, write_sweep

Spoil = Callable[[Path, Any], None]  # the folder of a run's responses, the judge's server


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def constant_outputs(folder: Path, server: Any) -> None:
    rows = read(folder / "outputs.json")
    write(folder / "outputs.json", [row | {"output": "Yes."} for row in rows])


def empty_outputs(folder: Path, server: Any) -> None:
    rows = read(folder / "outputs.json")
    write(
        folder / "outputs.json",
        [row | {"output": "" if n < 2 else row["output"]} for n, row in enumerate(rows)],
    )


def another_version(folder: Path, server: Any) -> None:
    described = read(folder / "generation.json")
    write(folder / "generation.json", described | {"versions": described["versions"] | {"torch": "0.1"}})


def unreadable_answers(folder: Path, server: Any) -> None:
    texts = [row["output"] for row in read(folder / "outputs.json")]
    server.told(faults={f'"""{text}"""': ["wrong tokens"] for text in texts[:2]})


def another_prompt(folder: Path, server: Any) -> None:
    first, *rest = read(folder / "outputs.json")
    write(folder / "outputs.json", [first | {"instruction": "Another?"}, *rest])


SPOILT: dict[str, tuple[Spoil, str]] = {
    "constant": (constant_outputs, "8 of 8 outputs are given to more than one prompt (100.0%), one of them 8 times"),
    "empty": (empty_outputs, "2 of 8 outputs are empty (25.0%)"),
    "version": (another_version, "the version of torch is '0.1', expected"),
    "unreadable": (unreadable_answers, "2 of 8 prompts have no preference (25.0%) and are left out"),
    "prompts": (another_prompt, "1 of 8 prompts are missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_a_run_that_fails_the_gate(
    case: str, two_runs: Path, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One spoilt run of two: its reason everywhere, its numbers nowhere; the other one counts."""
    monkeypatch.setenv("ADADPO_CACHE", str(tmp_path / "cache"))
    spoil, reason = SPOILT[case]
    file = with_judge(tmp_path / "two.yaml", api(server.url))
    sweep = opened(file, two_runs)
    good, bad = sweep.job.runs
    spoil(two_runs / bad.run_id / "eval" / sweep.job.evaluation.generation_id, server)
    answer = adadpo("launch", file, "--store", two_runs)
    assert answer.code == 0, answer.err
    assert "quarantined, not counted: 1 of 2 runs; adadpo status two says why" in answer.out

    said = adadpo("status", file, "--store", two_runs)
    status = adadpo("status", file, "--store", two_runs, "--json").json
    assert [one["run"] for one in status["quarantined"]] == [bad.run_id]
    assert any(reason in each for each in status["quarantined"][0]["reasons"])
    assert "1 done  1 quarantined" in said.out
    assert f"quarantined: {bad.run_id}" in said.out
    assert reason in said.out
    assert [cell["arm"] for cell in status["cells"]] == [good.arm]

    found = results(two_runs)
    row = next(row for row in found.runs if row.run_id == bad.run_id)
    assert found.counts == {"done": 1, "quarantined": 1}
    assert row.state == "quarantined"
    judged = ("win_rate", "length_controlled_win_rate", "lc_minus_wr")
    assert [row.metrics[name] for name in judged] == [None, None, None]
    assert [failure.run_id for failure in found.failures] == [bad.run_id]
    assert found.failures[0].reason.startswith("quarantined: ")
    assert reason in found.failures[0].reason
    for cell in found.cells:
        assert (cell.n == 0) == (cell.arm == bad.arm)  # also KL and lengths: an evaluation counts or does not
    [judgement] = found.judgements
    assert judgement.means[bad.arm] == {"win_rate": None, "length_controlled_win_rate": None}
    assert judgement.means[good.arm]["win_rate"] is not None
    assert found.comparisons[0].test is None
    assert f"{bad.arm} is quarantined" in found.comparisons[0].missing_pairs[0]
    assert found.verdict_kind == "untestable"
    assert [sample.arm for sample in found.samples if sample.arm == bad.arm] == []

    page = (two_runs / "sweeps" / "two" / "report.html").read_text()
    assert "quarantined" in page
    assert reason.replace("'", "&#39;") in page
    trials = optuna.load_study(study_name="two", storage=open_storage(sweep)).get_trials()
    states = {trial.user_attrs["run_id"]: (trial.state.name, trial.value) for trial in trials}
    assert states[bad.run_id] == ("FAIL", None)
    assert states[good.run_id][0] == "COMPLETE"


def test_a_quarantined_run_has_no_value_whatever_is_declared(two_runs: Path, tmp_path: Path) -> None:
    """Primary metric of training: the run has one, but its evaluation does not count."""
    file = write_sweep(
        tmp_path / "two.yaml",
        TWO.replace("primary: length_controlled_win_rate", "primary: reward_margin"),
    )
    sweep = opened(file, two_runs)
    bad = sweep.job.runs[1].run_id
    constant_outputs(two_runs / bad / "eval" / sweep.job.evaluation.generation_id, None)
    assert adadpo("launch", file, "--store", two_runs).code == 0
    assert results(two_runs).counts == {"done": 1, "quarantined": 1}
    trials = optuna.load_study(study_name="two", storage=open_storage(sweep)).get_trials()
    assert {trial.user_attrs["run_id"]: trial.state.name for trial in trials}[bad] == "FAIL"
    [cell] = adadpo("status", file, "--store", two_runs, "--json").json["cells"]
    assert cell["arm"] == sweep.job.runs[0].arm


def test_a_baseline_with_other_texts(two_runs: Path, tmp_path: Path) -> None:
    """A file of baseline outputs that changes: other responses are another judgement, never mixed with the first."""
    sweep = opened(write_sweep(tmp_path / "two.yaml", TWO), two_runs)
    [reference] = (two_runs / "baselines").glob("*/outputs.json")
    write(tmp_path / "base.json", [row | {"output": "One thing."} for row in read(reference)])
    file = write_sweep(
        tmp_path / "two.yaml", TWO.replace("  limit: 8\n", "  limit: 8\n  baseline: base.json\n")
    )
    assert adadpo("launch", file, "--store", two_runs).code == 0
    before = opened(file, two_runs).job.evaluation
    assert before.generation_id == sweep.job.evaluation.generation_id
    write(tmp_path / "base.json", [row | {"output": "Another thing."} for row in read(reference)])
    after = opened(file, two_runs).job.evaluation
    assert (before.generation_id, after.generation_id) == (after.generation_id, before.generation_id)
    assert before.judgement_id != after.judgement_id
    # What was judged against other texts than it says does not count, however it came about.
    folder = two_runs / sweep.job.runs[0].run_id / "eval" / before.eval_id
    rows = read(folder / "annotations.json")
    write(folder / "annotations.json", [rows[0] | {"output_1": "A third thing."}, *rows[1:]])
    (folder / "scores.json").unlink()
    write(tmp_path / "base.json", [row | {"output": "One thing."} for row in read(reference)])
    assert adadpo("launch", file, "--store", two_runs).code == 0
    [failure] = results(two_runs).failures
    assert "the baseline's answers differ from the expected ones on 1 prompt" in failure.reason


def test_a_worker_meets_another_baseline_than_was_planned(two_runs: Path, tmp_path: Path) -> None:
    """The file changes between planning and work, as it may in a queue: refused, nothing judged."""
    from adadpo.errors import FailureError
    from sweeps.execution.stages import execute

    [reference] = (two_runs / "baselines").glob("*/outputs.json")
    write(tmp_path / "base.json", read(reference))
    file = write_sweep(
        tmp_path / "two.yaml", TWO.replace("  limit: 8\n", "  limit: 8\n  baseline: base.json\n")
    )
    job = opened(file, two_runs).job
    write(tmp_path / "base.json", [row | {"output": "Another thing."} for row in read(reference)])
    with pytest.raises(FailureError, match=r"base\.json changed since the runs were planned; launch again"):
        execute(job, lambda *_: None, lambda *_: None)
    assert not list(two_runs.glob("*/eval/*/*/annotations.json"))
    assert not list(two_runs.rglob("failure.json"))

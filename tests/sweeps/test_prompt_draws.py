"""The prompt bootstrap of a whole sweep: the draws of the runs' own errors, kept until what it rests on changes."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adadpo.errors import FailureError
from analysis.prompts.bootstrap import PromptBootstrap, bootstrap_difference, bootstrap_estimate
from analysis.results.model import GeneralizationTest
from sweeps.evaluation.judge_and_score import REPLICATES, length_controlled
from sweeps.evaluation.replicates import replicates_file
from sweeps.state.judged_runs import annotations_of, read_judged
from sweeps.state.prompt_draws import prompt_draws
from sweeps.state.run_table import run_scores
from sweeps.state.sweep import Sweep
from sweeps.store.manifests import REPLICATES_FILE
from tests.sweeps.judging_examples import read, write_annotations
from tests.sweeps.sweep_examples import TWO, adadpo, opened, write_sweep

METRICS = ("win_rate", "length_controlled_win_rate", "lc_minus_wr")


@pytest.fixture
def judged(request: pytest.FixtureRequest, two: Path, two_runs: Path, tmp_path: Path) -> Sweep:
    """Two runs with preferences that vary, under a formula for LC."""
    assert adadpo("launch", two, "--store", two_runs).code == 0  # writes the baseline
    write_annotations(two_runs, tmp_path / "found", two)
    method = f"  lc_method: {request.param}\n  judge: {{kind: import, path: found}}\n"
    file = write_sweep(tmp_path / "imported.yaml", TWO.replace("  limit: 8\n", f"  limit: 8\n{method}"))
    assert adadpo("launch", file, "--store", two_runs).code == 0
    return opened(file, two_runs)


def drawn(sweep: Sweep, scores: Any = None) -> PromptBootstrap:
    evaluation = sweep.job.evaluation
    found, reason = prompt_draws(sweep, evaluation, scores or run_scores(sweep))
    assert found is not None, reason
    return found


def older(scores: dict[str, Any]) -> dict[str, Any]:
    """Scores from before replicates were kept beside them."""
    return {run_id: {k: v for k, v in one.items() if k != "replicates"} for run_id, one in scores.items()}


def forbid_drawing(patch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("computed again")

    patch.setattr("analysis.prompts.bootstrap.prompt_bootstrap", refuse)


@pytest.mark.parametrize("judged", ["no_difficulty", "joint_difficulty"], indirect=True)
def test_the_draws_of_the_runs_own_errors(judged: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and standard errors of every run against its scores; read back bit by bit, without computing."""
    scores, runs = run_scores(judged), [run.run_id for run in judged.job.runs]
    found = drawn(judged)
    assert found.runs == tuple(runs)
    assert found.lc_method == scores[runs[0]]["lc_method"] == judged.job.evaluation.lc_method
    for run_id in runs:
        for metric in METRICS:
            ours = bootstrap_estimate(found, run_id, metric)
            assert ours.estimate == pytest.approx(scores[run_id][metric], rel=1e-12)
            # With eight prompts so many draws may have no LC that there is no error: then neither has one.
            error = scores[run_id][f"{metric}_se"]
            assert ours.standard_error == (None if error is None else pytest.approx(error, rel=1e-12))
    with monkeypatch.context() as patch:
        forbid_drawing(patch)
        again = drawn(judged)
    for name in METRICS:
        np.testing.assert_array_equal(again.drawn(name, [0, 1]), found.drawn(name, [0, 1]))
        np.testing.assert_array_equal(again.estimates[name], found.estimates[name])
    said = [(each.runs, each.lc_method, each.calibration, each.n, each.reasons) for each in (again, found)]
    assert said[0] == said[1]
    assert bootstrap_difference(again, *runs, "win_rate") == bootstrap_difference(found, *runs, "win_rate")


@pytest.mark.parametrize("judged", ["no_difficulty"], indirect=True)
def test_what_lies_beside_the_scores(judged: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicates of the runs' own stages against those of all runs at once; one that is damaged is not believed."""
    with monkeypatch.context() as patch:
        forbid_drawing(patch)
        of_runs = drawn(judged)
    together = drawn(judged, older(run_scores(judged)))
    assert of_runs.replicates["win_rate"].shape == (2, REPLICATES)
    assert not isinstance(of_runs.replicates["win_rate"], np.ndarray)  # they stay in their files
    for name in METRICS:
        np.testing.assert_array_equal(of_runs.drawn(name, [1, 0]), together.drawn(name, [1, 0]))
        np.testing.assert_array_equal(of_runs.drawn(name, [0, 1]), together.drawn(name, [0, 1]))
        np.testing.assert_allclose(of_runs.estimates[name], together.estimates[name], rtol=0, atol=0)
    said = [
        (each.runs, each.lc_method, each.calibration, each.n, each.reasons) for each in (of_runs, together)
    ]
    assert said[0] == said[1]
    (judged.folder / "prompt_draws" / f"{judged.job.evaluation.judgement_id}.npz").unlink()
    file = judged.store.run(judged.job.runs[0].run_id).evaluation(judged.eval_id) / REPLICATES_FILE
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    # What was verified before is not mixed with what was written since, nor with what is gone.
    with pytest.raises(FailureError, match="rewritten while it was read: try again"):
        of_runs.drawn("win_rate", [0])
    file.rename(aside := file.with_name("aside"))
    with pytest.raises(FailureError, match="went away while it was read"):
        of_runs.drawn("win_rate", [0])
    aside.rename(file)
    with monkeypatch.context() as patch:
        forbid_drawing(patch)
        with pytest.raises(AssertionError, match="computed again"):
            drawn(judged)
    np.testing.assert_array_equal(drawn(judged).drawn("win_rate", [0, 1]), together.drawn("win_rate", [0, 1]))


@pytest.mark.parametrize("judged", ["no_difficulty"], indirect=True)
def test_other_prompts_are_other_draws(judged: Sweep) -> None:
    """Runs of which one lacks a prompt: under the draws of the union, not under those of its own."""
    first, second = (run.run_id for run in judged.job.runs)
    scores = run_scores(judged)
    file = judged.store.run(second).evaluation(judged.eval_id) / "annotations.json"
    rows = read(file)[1:]
    file.write_text(json.dumps(rows))
    _, alone = length_controlled(rows, None)
    assert alone is not None
    content, said = replicates_file(rows, alone)
    file.with_name(REPLICATES_FILE).write_bytes(content)
    found = drawn(judged, {first: scores[first], second: scores[second] | {"replicates": said}})
    assert found.n == len(rows) + 1
    assert (found.drawn("win_rate", [1]) != alone.drawn("win_rate", [0])).any()


@pytest.mark.parametrize("judged", ["no_difficulty"], indirect=True)
def test_kept_until_something_changes(judged: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed judgement, a run that counts no more and a damaged file against draws of their own: older stores."""
    scores = older(run_scores(judged))
    first = drawn(judged, scores)
    one, other = (run.run_id for run in judged.job.runs)
    kept = judged.folder / "prompt_draws" / f"{judged.job.evaluation.judgement_id}.npz"
    flag = {"name": "spoilt", "severity": "quarantine", "message": "spoilt", "values": {}}
    scores[one]["integrity"]["flags"].append(flag)
    assert drawn(judged, scores).runs == (other,)
    drawn(judged, older(run_scores(judged)))
    kept.write_bytes(kept.read_bytes()[:-100])
    again = drawn(judged, older(run_scores(judged)))
    np.testing.assert_array_equal(again.drawn("win_rate", [0, 1]), first.drawn("win_rate", [0, 1]))
    file = judged.store.run(other).evaluation(judged.eval_id) / "annotations.json"
    rows = read(file)
    rows[0]["preference"] = 3 - rows[0]["preference"]
    file.write_text(json.dumps(rows))
    changed = drawn(judged, older(run_scores(judged)))
    assert (changed.drawn("win_rate", [1]) != first.drawn("win_rate", [1])).any()
    np.testing.assert_array_equal(changed.drawn("win_rate", [0]), first.drawn("win_rate", [0]))
    with monkeypatch.context() as patch:
        forbid_drawing(patch)
        again = drawn(judged, older(run_scores(judged)))
    np.testing.assert_array_equal(again.drawn("win_rate", [0, 1]), changed.drawn("win_rate", [0, 1]))


@pytest.mark.parametrize("judged", ["no_difficulty"], indirect=True)
def test_no_run_that_counts(judged: Sweep) -> None:
    """Scores without a win rate against None and the reason."""
    scores = {run_id: {**one, "win_rate": None} for run_id, one in run_scores(judged).items()}
    found, reason = prompt_draws(judged, judged.job.evaluation, scores)
    assert found is None
    assert reason == "no run that counts has a judged response"


def test_the_generalization_test_of_the_results_takes_them(small: Path, store: Path) -> None:
    """The prompts' part of the variance against that of the mean difference over the sweep's own draws."""
    from sweeps.operations.report import build_results

    sweep = opened(small, store)

    def generalization() -> GeneralizationTest:
        inference = build_results(sweep).comparisons[0].inference
        assert inference is not None
        assert inference.generalization is not None
        return inference.generalization

    # LC of eight near-equal responses is undefined in many draws: the win rate stands in for any metric
    primary = sweep.spec.compare.model_copy(update={"primary": "win_rate"})
    sweep = replace(sweep, spec=sweep.spec.model_copy(update={"compare": primary}))
    enough = generalization()
    assert enough.prompts == 8
    assert enough.prompt is not None
    found = drawn(sweep)
    signs = {run.run_id: 1 if run.arm == "adadpo" else -1 for run in sweep.job.runs}
    values = found.drawn("win_rate", range(len(found.runs)))
    mean = np.array([signs[run] for run in found.runs]) @ values / 4
    assert enough.prompt.total == pytest.approx(float(np.var(mean, ddof=1)) * 8 / 7, rel=1e-9)


@pytest.mark.parametrize("judged", ["no_difficulty"], indirect=True)
def test_annotations_are_held_without_their_texts(judged: Sweep) -> None:
    """Runs share their prompts, nothing holds an answer; a file that lacks a key is named, and what to do."""
    evaluation, runs = judged.job.evaluation, [run.run_id for run in judged.job.runs]
    first, second = read_judged(judged, evaluation, runs).values()
    assert first.instructions is second.instructions
    rows = annotations_of(judged, evaluation, runs[0])
    assert first.instructions == tuple(row["instruction"] for row in rows)
    assert first.delta_length.tolist() == [len(row["output_1"]) - len(row["output_2"]) for row in rows]
    held = repr([getattr(first, field.name) for field in fields(first)])
    assert not any(row["output_1"] in held for row in rows if row["output_1"])
    file = judged.store.run(runs[0]).evaluation(judged.eval_id) / "annotations.json"
    file.write_text(json.dumps([{"instruction": "a", "preference": 1.0}]))
    with pytest.raises(
        FailureError, match=r"annotations.json is damaged \(annotation 0: missing output_1, output_2"
    ):
        read_judged(judged, evaluation, runs)

"""What a sweep's results hold from its judgements of single prompts, on the whole path."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.document import Results
from reports.files import load_results
from tests.sweeps.judging_examples import write_annotations
from tests.sweeps.sweep_examples import SMALL, TWO, adadpo, write_sweep


@pytest.fixture
def judged(two: Path, two_runs: Path, tmp_path: Path) -> Results:
    """Two runs with preferences that vary."""
    assert adadpo("launch", two, "--store", two_runs).code == 0  # writes the baseline
    write_annotations(two_runs, tmp_path / "found", two)
    text = TWO.replace("  limit: 8\n", "  limit: 8\n  judge: {kind: import, path: found}\n")
    assert adadpo("launch", write_sweep(tmp_path / "imported.yaml", text), "--store", two_runs).code == 0
    return load_results(two_runs / "sweeps" / "two" / "results.json")


def test_results_of_judged_runs(judged: Results) -> None:
    """Intervals, bests, claims and flips against the runs' own rows and the responses in the store."""
    by_arm = {run.arm: run.metrics for run in judged.runs}
    level = judged.prompt_level
    assert level is not None
    (of_setting,), (of_pair,) = level.settings, level.pairs
    difference = (by_arm["adadpo"]["length_controlled_win_rate"] or 0) - (
        by_arm["dpo"]["length_controlled_win_rate"] or 0
    )
    assert of_setting.estimate == of_pair.estimate == pytest.approx(difference)
    assert (level.prompts, level.metric) == (8, "length_controlled_win_rate")
    lc, wr = judged.best_of_grid
    assert [each.metric for each in (lc, wr)] == ["length_controlled_win_rate", "win_rate"]
    assert wr.bests.candidate.naive == pytest.approx(by_arm["adadpo"]["win_rate"])
    assert wr.bests.baseline.corrected is not None
    assert judged.paper_claims is not None
    assert judged.paper_claims.claims[0].settings == 1
    assert "tiny-random-llama" in judged.paper_claims.measured_for
    assert judged.flips is not None
    assert (judged.flips.prompts, judged.flips.pairs) == (8, 1)
    for flip in (*judged.flips.to_candidate, *judged.flips.to_baseline):
        assert flip.candidate_output.startswith("Response")
        assert flip.candidate_output != flip.baseline_output


def test_claims_are_shown_for_adadpo_against_dpo_alone(tmp_path: Path) -> None:
    """SimPO against DPO, not yet run: the paper claims nothing of it; nor is there anything of prompts, and why."""
    text = SMALL.replace("adadpo: {}", "simpo: {}").replace("candidate: adadpo", "candidate: simpo")
    file = write_sweep(tmp_path / "other.yaml", text.replace("name: small", "name: other"))
    assert adadpo("report", file, "--store", tmp_path / "empty").code == 0
    found = load_results(tmp_path / "empty" / "sweeps" / "other" / "results.json")
    assert found.paper_claims is None
    assert (found.prompt_level, found.flips, found.best_of_grid) == (None, None, [])
    assert found.prompt_level_reason == found.flips_reason == "no run that counts has a judged response"

"""The report of a sweep shows its comparison under every formula of length control that can be computed."""

from __future__ import annotations

import re
from pathlib import Path

from tests.sweeps.judging_examples import results, write_annotations
from tests.sweeps.sweep_examples import TWO, adadpo, write_sweep


def test_every_formula_is_in_the_results_and_on_the_page(two: Path, two_runs: Path, tmp_path: Path) -> None:
    """Imported preferences: the sweep's own formula first, AlpacaEval's says what it lacks, WR is its own row."""
    assert adadpo("launch", two, "--store", two_runs).code == 0  # writes the baseline
    write_annotations(two_runs, tmp_path / "found", two)
    judged = TWO.replace("  limit: 8\n", "  limit: 8\n  judge: {kind: import, path: found}\n")
    file = write_sweep(tmp_path / "imported.yaml", judged)
    assert adadpo("launch", file, "--store", two_runs).code == 0
    found = results(two_runs)
    methods = ["no_difficulty", "length_controlled_v1", "joint_difficulty", "win_rate"]
    assert [each.method for each in found.lc_sensitivity] == methods
    own, official, joint, raw = found.lc_sensitivity
    shown = {metric.metric: metric.differences for metric in found.comparisons}
    assert own.comparison is not None
    assert raw.comparison is not None
    assert own.comparison.differences == shown["length_controlled_win_rate"]
    assert raw.comparison.differences == shown["win_rate"]
    assert own.runs == joint.runs == raw.runs == 2
    assert own.means != joint.means
    assert official.comparison is None
    assert official.reason is not None
    assert "not in the cache" in official.reason
    page = (two_runs / "sweeps" / found.sweep / "report.html").read_text(encoding="utf-8")
    section = re.search(r'<section aria-labelledby="sensitivity">.*?</section>', page, re.DOTALL)
    assert section
    assert all(method in section[0] for method in methods[:-1])
    assert official.reason in section[0]

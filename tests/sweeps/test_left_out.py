"""Rows that cannot be used are named wherever a run with them is looked at."""

from __future__ import annotations

import json
from pathlib import Path

from adadpo.data.pairs import read_rows
from reports.files import load_results
from sweeps.data import builtin_instructions_path
from tests.sweeps.sweep_examples import TWO, adadpo, write_sweep


def test_skipped_and_too_long_rows_are_named(tmp_path: Path) -> None:
    """A file with an empty response and a prompt beyond max_length, against the rows that were spoilt."""
    rows = read_rows(builtin_instructions_path("train"))[:10]
    rows[3]["chosen"][0]["content"] = " "
    rows[5]["prompt"][1]["content"] = "word " * 400
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = TWO.replace(
        '{source: "builtin:instructions", limit: 16, heldout_limit: 8}',
        "{source: pairs.jsonl, bad_rows: skip}",
    )
    sweep, store = write_sweep(tmp_path / "own.yaml", text), tmp_path / "store"

    checked = adadpo("check", sweep)
    assert "train: 9 pairs, 1 rows skipped" in checked.out
    assert "row 4: chosen is empty" in checked.out

    assert adadpo("launch", sweep, "--store", store).code == 0
    for file in store.glob("*/train/metrics.json"):
        metrics = json.loads(file.read_text())
        assert metrics["train_pairs"] == 8
        first, second = metrics["left_out"]
        assert first == "pairs.jsonl: row 4: chosen is empty"
        assert second.startswith("pairs.jsonl: usable pair 5: the prompt has")
        assert "left out: pairs.jsonl: row 4" in file.parents[1].joinpath("log.txt").read_text()
    results = load_results(store / "sweeps" / "two" / "results.json")
    assert results.provenance["pairs"].startswith("8 for training, 0 held out; 2 left out")

    refused = adadpo("check", write_sweep(tmp_path / "strict.yaml", text.replace(", bad_rows: skip", "")))
    assert refused.code == 2
    assert "row 4: chosen is empty" in refused.err


def test_an_undefined_primary_is_named_with_its_reason(tmp_path: Path) -> None:
    """A sweep whose responses nobody judges: every run is done, none has the metric, each says why."""
    text = TWO.replace("evaluate:\n", "evaluate:\n  judge: none\n")
    store = tmp_path / "store"
    answer = adadpo("launch", write_sweep(tmp_path / "unjudged.yaml", text), "--store", store)
    assert answer.code == 0
    assert "Not testable" in answer.out
    results = load_results(store / "sweeps" / "two" / "results.json")
    assert results.counts == {"done": 2}
    reason = "no length_controlled_win_rate: the responses were not judged (judge: none)"
    assert [failure.reason for failure in results.failures] == [reason, reason]

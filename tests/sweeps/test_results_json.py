"""`results.json` is written in pieces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reports.files import load_results
from sweeps.operations import report as build_results


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_pieces_are_the_whole(two_runs: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """Pieces of any length against all fields as one JSON text, which is the file's."""
    file = two_runs / "sweeps" / "two" / "results.json"
    results = load_results(file)
    monkeypatch.setattr(build_results, "PIECE", piece)
    whole = json.dumps(results.model_dump(mode="python"), allow_nan=False) + "\n"
    assert "".join(build_results.results_json(results)) == whole
    assert json.loads(file.read_text()) == json.loads(whole)
    assert len(results.curves) > 3

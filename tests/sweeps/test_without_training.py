"""Analysis and reports install without torch; what needs it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweeps.sweep_examples import TWO, adadpo, write_sweep


def test_launch_names_the_packages_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the extra `train`, stood for by a finder that does not see two of its packages."""
    import sweeps.evaluation.preflight

    real = sweeps.evaluation.preflight.find_spec
    monkeypatch.setattr(
        sweeps.evaluation.preflight,
        "find_spec",
        lambda name: None if name in ("torch", "trl") else real(name),
    )
    answer = adadpo("launch", write_sweep(tmp_path / "two.yaml", TWO), "--store", tmp_path / "store")
    assert answer.code == 2
    assert "training needs torch, trl: pip install 'adadpo[train]'" in answer.err
    assert "Traceback" not in answer.err

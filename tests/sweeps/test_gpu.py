"""A run's process sees one GPU at most. No GPU is needed to check what it is told to see."""

from __future__ import annotations

import os

import pytest

from sweeps.stages import use_one_gpu


@pytest.mark.parametrize(
    ("visible", "one"), [(None, "0"), ("", ""), ("3", "3"), ("2,3", "2"), ("GPU-ab,GPU-cd", "GPU-ab")]
)
def test_the_first_visible_gpu_is_used(
    visible: str | None, one: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against CUDA's rule for the variable: a list in order of preference, empty for none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is put back afterwards
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    use_one_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == one

"""The tiny model, once for all tests; caches stay in temporary folders."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adadpo.config import RunConfig, TrainSettings
from adadpo.models.load import load_model, resolve_model
from adadpo.models.policy import Base, load_base
from adadpo.training.train import TrainingData
from tests.adadpo.run_examples import run, training_data

TINY = "tiny-random-llama"


@pytest.fixture(scope="session", autouse=True)
def _imports_are_no_garbage() -> None:
    """Every `Trainer.train` collects garbage, 0.3 s for what the imported packages hold; most of a small run's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def cache_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def base(cache_root: Path) -> Base:
    """The tiny model in float32; nobody may change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADADPO_CACHE", str(cache_root))
        return load_base(resolve_model(TINY), TrainSettings(precision="float32"))


@pytest.fixture
def fresh_model(base: Base, cache_root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads the tiny model anew at every call."""
    monkeypatch.setenv("ADADPO_CACHE", str(cache_root))
    return lambda dtype="float32": load_model(base.source, dtype)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADADPO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def data(base: Base) -> TrainingData:
    return training_data(base)


@pytest.fixture(scope="session")
def whole(
    base: Base, data: TrainingData, cache_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[RunConfig], tuple[Path, dict[str, Any]]]:
    """A configuration's uninterrupted run, its folder and its metrics; made once."""
    made: dict[RunConfig, tuple[Path, dict[str, Any]]] = {}

    def of(config: RunConfig) -> tuple[Path, dict[str, Any]]:
        if config not in made:
            folder = tmp_path_factory.mktemp("whole")
            made[config] = folder, run(base, config, data, folder)
        return made[config]

    return of

"""One finished sweep, shared by all tests that only read; copies for those that change something."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sweeps.postgres_server import Server, running_postgres
from tests.sweeps.sweep_examples import SMALL, TWO, Answer, adadpo, write_sweep


@pytest.fixture(scope="session", autouse=True)
def surroundings(shared_models_cache: Path) -> Iterator[None]:
    """One core (others work on this machine too), caches of these tests, no store of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADADPO_CACHE", str(shared_models_cache))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.delenv("ADADPO_STORE", raising=False)
        yield


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep file of `finished`."""
    return write_sweep(tmp_path_factory.mktemp("small") / "small.yaml", SMALL)


@pytest.fixture(scope="session")
def first_launch(small: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """A store with the finished sweep, and what its launch said."""
    store = tmp_path_factory.mktemp("finished") / "store"
    answer = adadpo("launch", small, "--store", store)
    assert answer.code == 0, answer.err
    return store, answer


@pytest.fixture(scope="session")
def finished(first_launch: tuple[Path, Answer]) -> Path:
    """Nobody may change it."""
    return first_launch[0]


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished store, times included."""
    return Path(shutil.copytree(finished, tmp_path / "store"))


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """The sweep file of two runs."""
    return write_sweep(tmp_path / "two.yaml", TWO)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the sweep of two runs was launched and left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    answer = adadpo("launch", write_sweep(folder / "two.yaml", TWO), "--store", folder / "store")
    assert answer.code == 0, answer.err
    return folder / "store"


@pytest.fixture
def two_runs(undisturbed: Path, tmp_path: Path) -> Path:
    """A store with the two runs of `two.yaml`, trained but not judged, so that judging needs no training.

    The tiny model hardly changes in two steps: the responses here are made up, so that there is something to judge.
    """
    store = Path(shutil.copytree(undisturbed, tmp_path / "two_runs"))
    for number, file in enumerate(sorted(store.glob("*/eval/*/outputs.json"))):
        rows = json.loads(file.read_text())
        for place, row in enumerate(rows):
            row["output"] = f"Response {place} of {number}" + " and on" * ((5 * place + 3 * number) % 7 // 2)
        file.write_text(json.dumps(rows))
        for judgement in (path for path in file.parent.iterdir() if path.is_dir()):
            shutil.rmtree(judgement)
    return store


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One server for all tests; a test makes a database of its own in it."""
    with running_postgres() as server:
        yield server

"""What a sweep computes once: by all its workers together, and by the runs of one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adadpo import caches as token_cache
from adadpo.models import policy
from adadpo.training import reference
from tests.sweeps.sweep_examples import SMALL, adadpo, contents, write_sweep

# 2 arms x 2 settings that differ in beta and learning rate x 2 seeds.
MANY = (
    SMALL.replace("{beta: [0.05, 0.1]}", "{zip: {beta: [0.05, 0.1], learning_rate: [1.0e-3, 2.0e-3]}}")
    .replace(", learning_rate: 1.0e-3}", ", batching: by_length}")
    .replace("  limit: 8\n", "  judge: none\n  limit: 2\n")
    .replace("max_new_tokens: 8", "max_new_tokens: 2")
)
PARTS = ("token ids of 16 pairs", "token ids of 8 pairs", "reference log-probabilities of 16 pairs",
         "reference log-probabilities of 8 pairs")  # fmt: skip


@pytest.fixture
def empty_cache(shared_models_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with models and nothing else."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "models").symlink_to(shared_models_cache / "models", target_is_directory=True)
    monkeypatch.setenv("ADADPO_CACHE", str(cache))
    return cache


def first_steps(store: Path) -> dict[int, list[float]]:
    """Seed -> the first batch's log-probabilities in each of its runs, before anything is learnt."""
    found: dict[int, list[float]] = {}
    for file in store.glob("*/config.json"):
        line = json.loads((file.parent / "train" / "history.jsonl").read_text().splitlines()[0])
        found.setdefault(json.loads(file.read_text())["seed"], []).append(line["chosen_logps"])
    return found


def test_workers_that_start_together(finished: Path, tmp_path: Path, empty_cache: Path) -> None:
    """Two local workers with 4 of 8 runs each: the bytes of one process, and nothing computed by both.

    Of each set of pairs there was one tokenisation and one reference pass, as the runs' logs count them.
    """
    text, store = SMALL.replace("executor: inline", "executor: local, workers: 2"), tmp_path / "store"
    answer = adadpo("launch", write_sweep(tmp_path / "small.yaml", text), "--store", store)
    assert answer.code == 0, answer.err + answer.out
    found = contents(store)
    assert len(found) == 8 * 5 + 1  # five files a run, and the baseline's responses
    assert found == contents(finished)
    jobs = sorted((store / "sweeps" / "small" / "jobs").glob("*/job.json"))
    assert [len(json.loads(job.read_text())["runs"]["runs"]) for job in jobs] == [4, 4]
    logs = "".join(file.read_text() for file in store.glob("*/log.txt"))
    assert logs.count("train done") == 8
    assert [logs.count(f"{part}: computed in") for part in PARTS] == [1] * 4


def test_without_caches(finished: Path, tmp_path: Path, empty_cache: Path) -> None:
    """`train: {caches: false}`: the bytes and names of runs that share, recorded, and nothing is left for others."""
    text, store = SMALL.replace("warmup: 0", "warmup: 0, caches: false"), tmp_path / "store"
    file = write_sweep(tmp_path / "small.yaml", text.replace("seeds: [0, 1]", "seeds: [0]"))
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 0, answer.err + answer.out
    found = contents(store)
    assert len(found) == 4 * 5 + 1
    assert found.items() <= contents(finished).items()
    assert [path.name for path in empty_cache.iterdir()] == ["models"]
    recorded = [json.loads(path.read_text())["speed"]["caches"] for path in store.glob("*/provenance.json")]
    assert recorded == [False] * 4


def test_runs_of_one_process(tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 runs one after another: weights are loaded once, ids and reference log-probabilities read once, then known.

    And by length too, every arm and setting sees the same pairs first, another seed others.
    """
    calls: dict[str, int] = {}

    def count(module: Any, name: str) -> None:
        original = getattr(module, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls[name] = calls.get(name, 0) + 1
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)

    count(policy, "load_model")
    count(policy, "load_tokenizer")
    count(token_cache, "tokenize_pairs")
    count(token_cache, "computed_once")
    count(reference, "computed_once")
    store = tmp_path / "store"
    answer = adadpo("launch", write_sweep(tmp_path / "many.yaml", MANY), "--store", store)
    assert answer.code == 0, answer.err + answer.out
    assert calls == {"load_model": 1, "load_tokenizer": 1, "tokenize_pairs": 2, "computed_once": 4}
    for file in store.glob("*/provenance.json"):
        assert json.loads(file.read_text())["speed"]["batching"] == "by_length"
    steps = first_steps(store)
    assert {seed: len(values) for seed, values in steps.items()} == {0: 4, 1: 4}
    assert all(max(values) - min(values) < 1e-4 for values in steps.values())
    assert abs(steps[0][0] - steps[1][0]) > 1e-2

"""`search:` as it is written: every mistake at its place, before anything is spent."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.config.schema import load_spec
from sweeps.config.search import Range
from tests.sweeps.search_examples import GRID, SPACE, search_text
from tests.sweeps.sweep_examples import adadpo, spec_errors, write_sweep

TRIALS = "trials: 12"
MISTAKES = {
    "grid too": (GRID + "SEARCH", TRIALS, SPACE, ["a sweep has a grid or a search, not both"]),
    "unknown axis": (
        "SEARCH",
        TRIALS,
        "{betta: [0.1]}",
        ["unknown key 'betta' under search.space; did you mean 'beta'?"],
    ),
    "no bound": ("SEARCH", TRIALS, "{beta: {low: 0.1}}", ["missing key 'high' under search.space.beta"]),
    "order": (
        "SEARCH",
        TRIALS,
        "{beta: {low: 1, high: 0.1}}",
        ["search.space.beta: low must be below high, got 1 and 0.1"],
    ),
    "log of 0": (
        "SEARCH",
        TRIALS,
        "{warmup: {low: 0, high: 0.5, log: true}}",
        ["search.space.warmup: low must be above 0 where log is true, got 0"],
    ),
    "bad bound": (
        "SEARCH",
        TRIALS,
        "{beta: {low: -1, high: 1}}",
        ["search.space.beta.low must be greater than 0, got -1"],
    ),
    "text": (
        "SEARCH",
        TRIALS,
        "{beta: {low: a, high: 1}}",
        ["search.space.beta.low must be a number, got 'a'"],
    ),
    "step": (
        "SEARCH",
        TRIALS,
        "{beta: {low: 0.1, high: 1, lag: true}}",
        ["unknown key 'lag' under search.space.beta; did you mean 'log'?"],
    ),
    "bad value": (
        "SEARCH",
        "trials: 1",
        "{beta: [0.1, -2]}",
        ["search.space.beta[1] must be greater than 0, got -2"],
    ),
    "arm's own": (
        "SEARCH",
        TRIALS,
        "{beta: {low: 0.1, high: 1}, simpo_gamma: {low: 0.1, high: 1}}",
        [
            f"axis 'simpo_gamma' cannot be used with arm '{arm}': simpo_gamma has no effect on loss dpo; "
            "simpo_gamma belongs to simpo"
            for arm in ("adadpo", "dpo")
        ],
    ),
    "nothing": (
        "SEARCH",
        TRIALS,
        "{}",
        ["search.space must map at least one axis to {low: ..., high: ...} or to its values"],
    ),
    "too many": (
        "SEARCH",
        TRIALS,
        "{beta: [0.1, 0.2], epochs: [1, 2]}",
        ["search.trials 12 is more than the 4 settings of its space"],
    ),
    "no trials": ("SEARCH", "sampler: tpe", SPACE, ["missing key 'trials' under search"]),
    "sampler": (
        "SEARCH",
        TRIALS + ", sampler: cma",
        SPACE,
        ["search.sampler: input should be 'tpe' or 'random', got 'cma'"],
    ),
    "unknown key": (
        "SEARCH",
        TRIALS + ", prunner: median",
        SPACE,
        ["unknown key 'prunner' under search; did you mean 'pruner'?"],
    ),
    "one seed": (
        "SEARCH",
        TRIALS + ", pruner: median",
        SPACE,
        ["a setting is pruned between two seeds: give at least 2 seeds"],
    ),
    "no judge": (
        "SEARCH",
        TRIALS,
        SPACE,
        [
            "a search needs compare.primary length_controlled_win_rate of every run as it ends; judge none gives none"
        ],
    ),
    "joint": (
        "SEARCH",
        TRIALS,
        SPACE,
        ["a search needs a value of each run alone; by joint_difficulty it depends on all runs"],
    ),
}
JUDGING = {"no judge": "  judge: none\n", "joint": "  lc_method: joint_difficulty\n"}


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_told_at_its_place(tmp_path: Path, name: str) -> None:
    """Line of the search (or the key it collides with), a column within it, and the sentence."""
    where, options, space, expected = MISTAKES[name]
    text = search_text(options, space)
    line = next(line for line in text.splitlines(keepends=True) if line.startswith("search:"))
    text = text.replace(line, where.replace("SEARCH", line))
    if name == "one seed":
        text = text.replace("seeds: [0, 1]", "seeds: [0]")
    text = text.replace("  limit: 8\n", JUDGING.get(name, "  limit: 8\n"))
    found = spec_errors(tmp_path, text)
    assert [problem.split(": ", 1)[1] for problem in found] == expected
    key = {"no judge": "  judge", "joint": "  lc_method"}.get(name, "search:")
    number = next(n for n, written in enumerate(text.splitlines(), 1) if written.startswith(key))
    assert {problem.split(":")[0] for problem in found} == {str(number)}


def test_whole_numbers_and_lists(tmp_path: Path) -> None:
    """An axis of whole numbers is searched in whole numbers; a list is its values."""
    space = "{batch_size: {low: 4, high: 8}, beta: {low: 1, high: 2}, scheduler: [cosine, constant]}"
    text = search_text("trials: 3", space).replace("batch_size: 8, max_length", "max_length")
    spec = load_spec(write_sweep(tmp_path / "sweep.yaml", text))
    assert spec.search is not None
    assert spec.search.space == {
        "batch_size": Range(low=4, high=8, whole=True),
        "beta": Range(low=1, high=2),
        "scheduler": ["cosine", "constant"],
    }
    assert spec.grid == []


def test_check_and_plan_before_the_first_launch(tmp_path: Path) -> None:
    """Nothing was asked for, and nothing is written; what there will be is told, and whether it can show anything."""
    file = write_sweep(tmp_path / "small.yaml", search_text("trials: 4"))
    store = tmp_path / "store"
    assert adadpo("check", file, "--store", store).code == 0
    plan = adadpo("plan", file, "--store", store)
    assert plan.code == 0
    assert "0 of 4 settings asked for; 1 at a time, at most 16 runs in all" in plan.out
    assert "over 4 settings" in plan.out
    assert not store.exists()
    from tests.sweeps.sweep_examples import command

    refused = command("launch", file, "--store", store)
    assert refused.code == 2
    assert "cannot reach alpha" in refused.err
    assert not store.exists()

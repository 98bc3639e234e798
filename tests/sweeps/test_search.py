"""A search on results made up by a known function: what is asked for, when, and what survives a kill."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest

from adadpo.errors import FailureError
from sweeps.config.search import Search, parse_space
from sweeps.operations.report import build_results
from sweeps.search.loop import advance, search_trials
from sweeps.search.sampler import SearchTrial, is_hopeless, next_setting
from sweeps.search.study import mirror
from sweeps.search.study_storage import storage_of
from sweeps.state.opening import open_sweep, record, resolve_sweep
from sweeps.state.sweep import Sweep
from sweeps.store.layout import read_json
from tests.sweeps import search_writer
from tests.sweeps.made_up_results import fail, make_up
from tests.sweeps.results_content import by_kind
from tests.sweeps.search_examples import hill, opened_search, run_all, search_text
from tests.sweeps.sweep_examples import adadpo


def settings(sweep: Sweep) -> list[dict[str, object]]:
    return [dict(one.setting) for one in sweep.asked]


def best(sweep: Sweep) -> float:
    """Mean over arms and seeds at the best setting."""
    return max(trial.value for trial in search_trials(sweep) if trial.value is not None)


def test_every_arm_gets_every_setting_once(tmp_path: Path) -> None:
    """As many settings as declared, each different, with every arm and seed; then nothing more is asked for."""
    sweep = run_all(opened_search(tmp_path))
    labels = [json.dumps(setting) for setting in settings(sweep)]
    assert len(labels) == len(set(labels)) == 12
    assert Counter((run.arm, run.seed) for run in sweep.job.runs) == dict.fromkeys(
        [("dpo", 0), ("adadpo", 0), ("dpo", 1), ("adadpo", 1)], 12
    )
    assert sweep.counts() == {"done": 48}
    assert advance(sweep).asked == sweep.asked
    for setting in settings(sweep):
        assert 0.01 <= setting["beta"] <= 1.0
        assert 1e-5 <= setting["learning_rate"] <= 1e-2


def test_tpe_finds_what_random_does_not(tmp_path: Path) -> None:
    """On a smooth hill over 5 seeds, the median best of 30 by TPE is nearer the top, 60."""

    def median_best(sampler: str) -> float:
        found = []
        for seed in range(5):
            search = Search(space=parse_space_text(), trials=30, startup=8, sampler=sampler, seed=seed)
            trials: list[SearchTrial] = []
            while len(trials) < 30:
                setting = next_setting(search, trials, maximize=True)
                assert setting is not None
                trials.append(SearchTrial(setting, "complete", hill(setting, "dpo", 0)))
            found.append(max(trial.value or 0 for trial in trials))
        return statistics.median(found)

    tpe, drawn = median_best("tpe"), median_best("random")
    assert tpe > 59.5
    assert tpe > drawn


def parse_space_text() -> dict[str, Any]:
    low_high = {"beta": (0.01, 1.0), "learning_rate": (1e-5, 1e-2)}
    return parse_space(
        {axis: {"low": low, "high": high, "log": True} for axis, (low, high) in low_high.items()}
    )


def test_minimised_metrics_go_the_other_way() -> None:
    """The same hill upside down under minimize: the same suggestions."""
    search = Search(space=parse_space_text(), trials=9, startup=3)
    up: list[SearchTrial] = []
    down: list[SearchTrial] = []
    for _ in range(9):
        first, second = (next_setting(search, up, maximize=True), next_setting(search, down, maximize=False))
        assert first == second
        assert first is not None
        up.append(SearchTrial(first, "complete", hill(first, "dpo", 0)))
        down.append(SearchTrial(first, "complete", -hill(first, "dpo", 0)))


def test_the_same_seed_and_results_give_the_same_settings(tmp_path: Path) -> None:
    """In another store, in another order of ending; another seed asks for others."""
    first = run_all(opened_search(tmp_path / "one"))
    second = opened_search(tmp_path / "two")
    draw = random.Random(0)
    while (second := advance(second)) and (waiting := second.select("waiting")):
        draw.shuffle(waiting)
        for run in waiting:
            make_up(second, run, hill(run.hyperparameters, run.arm, run.seed))
            assert advance(second).asked == second.asked or not second.select("waiting")
    assert settings(second) == settings(first)
    options = "trials: 12, startup: 4, parallel: 2, seed: 1"
    other = run_all(opened_search(tmp_path / "three", search_text(options)))
    assert not [setting for setting in settings(other) if setting in settings(first)]


def test_exchanging_the_arms_changes_no_choice(tmp_path: Path) -> None:
    """Results swapped between the arms: the same settings, so the signs of the differences are not selected."""
    swapped = {"dpo": "adadpo", "adadpo": "dpo"}

    def noisy(setting: dict[str, float], arm: str, seed: int) -> float:
        return hill(setting, arm, seed) + 5 * random.Random(repr((setting, arm, seed))).gauss(0, 1)

    options = "trials: 12, startup: 3, parallel: 2, pruner: median"
    first = run_all(opened_search(tmp_path / "one", search_text(options)), noisy)
    second = run_all(
        opened_search(tmp_path / "two", search_text(options)),
        lambda setting, arm, seed: noisy(setting, swapped[arm], seed),
    )
    assert first.asked == second.asked
    assert first.pruned


def test_a_batch_waits_for_all_of_the_last_one(tmp_path: Path) -> None:
    """Two at a time: nothing is asked for while a run is missing."""
    sweep = advance(opened_search(tmp_path))
    assert len(sweep.asked) == 2
    waiting = sweep.select("waiting")
    assert len(waiting) == 8
    for run in waiting[:-1]:
        make_up(sweep, run, 50.0)
        assert advance(sweep).asked == sweep.asked
    make_up(sweep, waiting[-1], 50.0)
    assert len(advance(sweep).asked) == 4


@pytest.mark.parametrize("pruner", ["median", "successive_halving"])
def test_pruned_settings_are_shown_and_not_run(tmp_path: Path, pruner: str) -> None:
    """Fewer runs than without a pruner; every pruned one is named with its reason, in state, table and study."""
    options = f"trials: 12, startup: 4, parallel: 2, pruner: {pruner}"
    sweep = run_all(opened_search(tmp_path, search_text(options).replace("seeds: [0, 1]", "seeds: 0..3")))
    assert len(sweep.asked) == 12
    assert 1 <= len(sweep.pruned) <= 8
    counts = sweep.counts()
    assert counts["done"] + counts["pruned"] == 12 * 2 * 4
    assert counts["pruned"] > 0
    assert set(counts) == {"done", "pruned"}
    complete = [trial.value for trial in search_trials(sweep) if trial.value is not None]
    assert (
        max(complete)
        == best(sweep)
        > max(hill(dict(one.setting), "dpo", 0) for one in sweep.asked if one.pruned is not None)
    )
    record(sweep)
    results = build_results(sweep)
    assert results.search is not None
    assert results.search.pruned == len(sweep.pruned)
    assert results.counts["pruned"] == counts["pruned"]
    reasons = {failure.setting: failure.reason for failure in results.failures}
    assert set(reasons) == set(sweep.pruned)
    assert all(reason.startswith(f"pruned by the search: {pruner}: ") for reason in reasons.values())
    assert "pruned" in results.comparisons[0].missing_pairs[0]
    mirror(sweep)
    with storage_of(sweep) as storage:
        study = optuna.load_study(study_name="small (search)", storage=storage)
        states = Counter(trial.state.name for trial in study.get_trials())
    assert states == {"COMPLETE": 12 - len(sweep.pruned), "PRUNED": len(sweep.pruned)}


def test_the_median_rule() -> None:
    """Against the rule's own words: below the median of the others' means over as many seeds, after the start-up."""
    search = Search(space=parse_space_text(), trials=9, startup=3, pruner="median")

    def trial(*steps: float, ending: str = "complete") -> SearchTrial:
        value = steps[-1] if ending == "complete" else None
        return SearchTrial({"beta": 0.1, "learning_rate": 1e-3}, ending, value, steps)  # type: ignore[arg-type]

    others = [trial(10.0, 50.0), trial(20.0, 40.0), trial(30.0, 30.0)]
    assert is_hopeless(search, others, trial(19.0, ending="running"), maximize=True)
    assert not is_hopeless(search, others, trial(21.0, ending="running"), maximize=True)
    assert not is_hopeless(search, others, trial(19.0, ending="running"), maximize=False)
    assert not is_hopeless(search, others[:2], trial(1.0, ending="running"), maximize=True)
    assert not is_hopeless(search.model_copy(update={"pruner": "none"}), others, trial(1.0), maximize=True)


def test_what_has_no_value_is_told_and_avoided(tmp_path: Path) -> None:
    """Settings with a learning rate above 1e-3 diverge in one arm: tried, then avoided."""
    sweep = opened_search(tmp_path, search_text("trials: 24, startup: 8, parallel: 4"))
    while (sweep := advance(sweep)) and (waiting := sweep.select("waiting")):
        for run in waiting:
            if run.hyperparameters["learning_rate"] > 1e-3 and run.arm == "adadpo":
                fail(sweep, run, "diverged")
            else:
                make_up(sweep, run, hill(run.hyperparameters, run.arm, run.seed))
    high = [setting["learning_rate"] > 1e-3 for setting in settings(sweep)]
    endings = [trial.ending for trial in search_trials(sweep)]
    assert endings == ["diverged" if diverged else "complete" for diverged in high]
    assert sum(high[:8]) >= 2
    assert sum(high[8:]) <= 4  # of 16; a third of the space


def test_a_search_waits_for_a_run_that_was_taken_back(tmp_path: Path) -> None:
    """Cancelled in the first batch: no further settings, and status and plan say why; retried, it goes on."""
    sweep = advance(opened_search(tmp_path))
    first, *others = sweep.job.runs
    for run in others:
        make_up(sweep, run, 50.0)
    record(sweep)
    sweep.control.cancel(first.run_id)
    assert advance(sweep).asked == sweep.asked
    for verb in ("status", "plan"):
        said = adadpo(verb, sweep.origin.path, "--store", sweep.store.root).out
        assert "the search waits for 1 cancelled runs: adadpo retry small state:cancelled" in said
    sweep.control.allow(first.run_id)
    make_up(sweep, first, 50.0)
    assert len(advance(sweep).asked) == 4


def test_nothing_is_asked_for_while_all_fail(tmp_path: Path) -> None:
    """A bug hits every setting alike: the search stops after the batch; a retry goes on with it."""
    sweep = advance(opened_search(tmp_path))
    for run in sweep.job.runs:
        fail(sweep, run, "bug")
    assert advance(sweep).asked == sweep.asked
    for run in sweep.job.runs:
        sweep.store.run(run.run_id).clear_failure()
        make_up(sweep, run, 50.0)
    assert len(advance(sweep).asked) == 4


def test_a_finite_space_is_asked_for_to_its_end(tmp_path: Path) -> None:
    """Six settings, each once, although TPE would like the best again."""
    text = search_text("trials: 6, startup: 2", "{beta: [0.05, 0.1, 0.2], learning_rate: [1.0e-4, 1.0e-3]}")
    sweep = run_all(opened_search(tmp_path, text))
    assert len({json.dumps(setting) for setting in settings(sweep)}) == 6


@pytest.mark.parametrize("seed", range(2))
def test_killed_in_the_middle_nothing_is_lost_or_asked_for_twice(tmp_path: Path, seed: int) -> None:
    """SIGKILL before or after a write, again and again; the end equals an undisturbed search."""
    options = "trials: 8, startup: 3, parallel: 2, pruner: median"
    calm = run_all(opened_search(tmp_path / "calm", search_text(options)))
    sweep = opened_search(tmp_path / "killed", search_text(options))
    context, draw, killed = multiprocessing.get_context("forkserver"), random.Random(seed), 0
    for _ in range(5):
        arguments = (str(sweep.origin.path), str(sweep.store.root), draw.randrange(2, 60))
        process = context.Process(target=search_writer.write, args=arguments)
        process.start()
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL)
        killed += process.exitcode != 0
    assert killed >= 2
    sweep = run_all(open_sweep("small", sweep.store))
    assert sweep.asked == calm.asked
    assert sweep.counts() == calm.counts()


def test_two_launchers_ask_for_one_batch(tmp_path: Path) -> None:
    """Opened before either asked: the second finds the first's settings."""
    first, second = opened_search(tmp_path), opened_search(tmp_path)
    assert advance(first).asked == advance(second).asked
    assert len(advance(second).asked) == 2


def test_the_studies_equal_rebuilt_ones(tmp_path: Path) -> None:
    """Mirrored after every batch, against deleted and mirrored once: equal trials of runs and of settings."""
    options = "trials: 8, startup: 3, parallel: 2, pruner: median"
    sweep = opened_search(tmp_path, search_text(options))
    while (sweep := advance(sweep)) and sweep.select("waiting"):
        for run in sweep.select("waiting"):
            make_up(sweep, run, hill(run.hyperparameters, run.arm, run.seed))
        mirror(sweep)
    mirror(sweep)

    def contents() -> list[Counter[str]]:
        with storage_of(sweep) as storage:
            studies = [optuna.load_study(study_name=n, storage=storage) for n in ("small", "small (search)")]
            return [
                Counter(
                    repr((t.state, t.values, t.params, t.intermediate_values, t.user_attrs)) for t in s.trials
                )
                for s in studies
            ]

    live = contents()
    assert [counter.total() for counter in live] == [sweep.counts()["done"], 8]
    with storage_of(sweep) as storage:
        for name in ("small", "small (search)"):
            optuna.delete_study(study_name=name, storage=storage)
    mirror(sweep)
    assert contents() == live


def test_the_declared_search_is_declared(tmp_path: Path) -> None:
    """Unfinished it is exploratory; finished as declared it is not; with more trials than declared it is again."""
    sweep = advance(opened_search(tmp_path, search_text("trials: 6, startup: 2, parallel: 2")))
    record(sweep)
    for run in sweep.job.runs:
        make_up(sweep, run, 50 + hill(run.hyperparameters, run.arm, run.seed) / 9)
    assert build_results(sweep).declaration_changed == ["the search is not finished: 2 of 6 settings so far"]
    sweep = run_all(sweep)
    results = build_results(sweep)
    assert results.declaration_changed == []
    assert results.comparisons[0].confirmatory
    longer = run_all(opened_search(tmp_path, search_text("trials: 8, startup: 2, parallel: 2")))
    [change] = longer.declaration_changes()
    assert change.startswith("search: ")
    assert "'trials': 8" in change


def test_a_damaged_record_comes_back_from_the_plan(tmp_path: Path) -> None:
    """Reading does not need it; a launch names the file; fsck writes it again."""
    sweep = advance(opened_search(tmp_path))
    file = sweep.folder / "search.json"
    assert len(read_json(file)["asked"]) == 2
    file.write_text('{"asked": [{"setting": 3}]}')
    with pytest.raises(FailureError, match=r"search\.json is damaged"):
        resolve_sweep(sweep.origin.path, sweep.store)
    assert adadpo("status", sweep.origin.path, "--store", sweep.store.root).code == 0  # the plan knows
    answer = adadpo("launch", sweep.origin.path, "--store", sweep.store.root)
    assert answer.code == 1
    assert "search.json is damaged" in answer.err
    assert adadpo("fsck", "--repair", "--store", sweep.store.root).code == 0
    assert len(resolve_sweep("small", sweep.store).asked) == 2


@pytest.mark.parametrize("executor", ["inline", "local, workers: 2"])
def test_a_search_end_to_end(tmp_path: Path, executor: str) -> None:
    """TPE over the tiny model, trained for real, to the report; again: nothing."""
    trials, parallel = (2, 1) if "local" in executor else (3, 2)
    text = search_text(f"trials: {trials}, startup: 1, parallel: {parallel}", name="searched")
    text = text.replace("executor: inline", f"executor: {executor}").replace("seeds: [0, 1]", "seeds: [0]")
    file, store = tmp_path / "searched.yaml", tmp_path / "store"
    file.write_text(text.replace("primary: length_controlled_win_rate", "primary: reward_margin"))
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 0, answer.err
    results = by_kind(read_json(store / "sweeps" / "searched" / "results.json"))
    assert results["counts"] == {"done": 2 * trials}
    assert results["search"] | {"seed": 0} == {
        "sampler": "tpe", "pruner": "none", "seed": 0, "trials": trials, "asked": trials, "complete": trials,
        "pruned": 0, "without_value": 0,
    }  # fmt: skip
    page = (store / "sweeps" / "searched" / "report.html").read_text()
    assert "The settings were chosen by a search" in page
    before = (store / "sweeps" / "searched" / "search.json").read_bytes()
    again = adadpo("launch", file, "--store", store)
    assert f"{2 * trials} runs, {2 * trials} done, 0 to do" in again.out
    assert (store / "sweeps" / "searched" / "search.json").read_bytes() == before
    status = adadpo("status", file, "--store", store)
    assert f"{2 * trials} done" in status.out

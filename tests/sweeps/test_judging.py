"""An API judge in a sweep: real HTTP, real processes; what is paid, what is kept, what stops, what never counts."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adadpo.files import cache_folder
from analysis.prompts.bootstrap import bootstrap_estimate, prompt_bootstrap
from sweeps.search.study_storage import open_storage
from tests.sweeps.judging_examples import (
    KEY,
    PRICES,
    answers_kept,
    api,
    evaluations,
    files_with,
    read,
    results,
    with_judge,
)
from tests.sweeps.sweep_examples import TWO, adadpo, opened, start

PAIRS = 16  # 2 runs of 8 prompts


@pytest.fixture(autouse=True)
def own_cache(shared_models_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Answers of one test are not paid for by another."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "models").symlink_to(shared_models_cache / "models", target_is_directory=True)
    monkeypatch.setenv("ADADPO_CACHE", str(cache))
    return cache


def asked_pairs(file: Path, store: Path) -> int:
    """Pairs of unequal answers, each of them one question."""
    rows = [row for folder in evaluations(file, store) for row in read(folder / "annotations.json")]
    return len({(row["instruction"], row["output_2"]) for row in rows if row["output_1"] != row["output_2"]})


def judged_launch(store: Path, server: Any, tmp_path: Path, more: str = "", **how: Any) -> tuple[Path, Any]:
    file = with_judge(tmp_path / "two.yaml", api(server.url, more), **how)
    return file, adadpo("launch", file, "--store", store)


def untouched(file: Path, store: Path) -> bool:
    """The runs are as they were before judging: trained, generated, and not failed."""
    plan = adadpo("plan", file, "--store", store, "--json").json
    return (plan["new"], plan["failed"], plan["running"]) == (2, 0, 0) and not list(
        store.rglob("failure.json")
    )


def test_a_judged_launch(two_runs: Path, server: Any, tmp_path: Path, own_cache: Path) -> None:
    """Scores against the annotations; one set of draws for all runs; the key nowhere; nothing paid twice."""
    file, answer = judged_launch(two_runs, server, tmp_path, PRICES)
    assert answer.code == 0, answer.err
    folders = evaluations(file, two_runs)
    annotations = {str(n): read(folder / "annotations.json") for n, folder in enumerate(folders)}
    together = prompt_bootstrap(annotations, rng=np.random.default_rng(0), replicates=2000)
    found, trials = results(two_runs), opened(file, two_runs)
    page = (two_runs / "sweeps" / "two" / "report.html").read_text()
    import optuna

    study = optuna.load_study(study_name="two", storage=open_storage(trials)).get_trials()
    for number, folder in enumerate(folders):
        scores, rows = read(folder / "scores.json"), annotations[str(number)]
        # AlpacaEval's definition: WR = 100 mean(preference - 1)
        assert scores["win_rate"] == pytest.approx(100 * np.mean([row["preference"] - 1 for row in rows]))
        run = next(run for run in found.runs if run.run_id == folder.parents[2].name)
        trial = next(trial for trial in study if trial.user_attrs["run_id"] == run.run_id)
        for metric in ("win_rate", "length_controlled_win_rate", "lc_minus_wr"):
            error = bootstrap_estimate(together, str(number), metric).standard_error  # type: ignore[arg-type]
            assert scores[f"{metric}_se"] == error
            assert run.metrics[f"{metric}_se"] == trial.user_attrs[f"{metric}_se"] == error
            if error is not None:
                assert f"{run.metrics[metric]:.1f} ± {error:.1f}" in page
        # About the analytic one (sd / sqrt n with ddof = 1), of which it estimates sqrt((n - 1) / n).
        analytic = 100 * np.std([row["preference"] for row in rows], ddof=1) / np.sqrt(len(rows))
        assert scores["win_rate_se"] == pytest.approx(analytic * np.sqrt(7 / 8), rel=0.1)
        assert scores["lc_method"] == "no_difficulty"
    stats = server.stats()
    assert stats["requests"] == asked_pairs(file, two_runs) == answers_kept()
    assert stats["keys"] == [f"Bearer {KEY}"]
    assert "alpaca_eval weighted_alpaca_eval_gpt4_turbo" in page
    server.told()
    again = adadpo("launch", file, "--store", two_runs)
    for folder in folders:
        shutil.rmtree(folder)  # judged once more, from the cache
    once_more = adadpo("launch", file, "--store", two_runs)
    assert (again.code, once_more.code, server.stats()["requests"]) == (0, 0, 0)
    assert {str(n): read(folder / "annotations.json") for n, folder in enumerate(folders)} == annotations
    assert files_with(KEY, two_runs, own_cache, tmp_path) == []
    assert KEY not in "".join(each.out + each.err for each in (answer, again, once_more))


def test_the_cap_holds_over_workers_and_launches(two_runs: Path, server: Any, tmp_path: Path) -> None:
    """Two processes, then another launch, on one cap, against what the server charged; then a higher one goes on."""
    workers = TWO.replace("executor: inline", "executor: local, workers: 2")
    dear, spent = "prices: {input: 1000, output: 1000}, concurrency: 2", []
    for text in (workers, TWO):
        file, answer = judged_launch(two_runs, server, tmp_path, f"{dear}, max_cost: 3", text=text)
        assert answer.code == 1
        assert "the judge stopped at its cost cap" in answer.err
        assert answer.err.count("adadpo:") == 1
        assert "Traceback" not in answer.err + answer.out
        assert untouched(file, two_runs)
        stats = server.stats()
        spent.append(sum(stats["tokens"]) * 1000 / 1e6)
        assert stats["requests"] == answers_kept() < PAIRS
    assert 0 < spent[0] <= spent[1] <= 3
    plan = adadpo("plan", file, "--store", two_runs)
    assert "judging: at most 16 requests, about $" in plan.out
    assert "stopped before $3.00" in plan.out
    file, answer = judged_launch(two_runs, server, tmp_path, f"{dear}, max_cost: 600")
    assert answer.code == 0, answer.err
    stats = server.stats()
    assert stats["requests"] == asked_pairs(file, two_runs)
    assert max(stats["by_prompt"].values()) == 1
    assert files_with(KEY, two_runs, cache_folder(), tmp_path) == []  # jobs' pickles and logs too


def test_killed_while_judging(two_runs: Path, server: Any, tmp_path: Path) -> None:
    """SIGKILL: only what was under way is asked again, and the same command finishes."""
    file = with_judge(tmp_path / "two.yaml", api(server.url, "concurrency: 2"))
    server.told(delay=0.15)
    child = start(tmp_path / "log", "launch", file, "--store", two_runs)
    for _ in range(1200):
        if server.stats()["answered"] >= 5:
            break
        time.sleep(0.05)
    assert child.process.pid is not None
    os.kill(child.process.pid, signal.SIGKILL)
    assert child.wait().code == -signal.SIGKILL
    time.sleep(0.4)  # the server ends what it had begun
    kept, before = answers_kept(), server.stats()["requests"]
    assert before - kept <= 2
    answer = adadpo("launch", file, "--store", two_runs)
    assert answer.code == 0, answer.err
    assert server.stats()["requests"] == asked_pairs(file, two_runs) + before - kept
    assert sorted(row.state for row in results(two_runs).runs) == ["done", "done"]


@pytest.mark.parametrize("faults", [{"": ["503..."]}, {"m": ["drop..."]}])
def test_a_judge_that_is_down(two_runs: Path, server: Any, tmp_path: Path, faults: dict[str, Any]) -> None:
    """One message, exit code 1, the runs neither failed nor quarantined; up again, the same command goes on."""
    server.told(faults=faults)
    file, answer = judged_launch(two_runs, server, tmp_path)
    assert answer.code == 1
    assert answer.err.startswith("adadpo: the judge left ")
    assert len(answer.err.strip().splitlines()) == 1
    assert untouched(file, two_runs)
    assert "2 waiting" in adadpo("status", file, "--store", two_runs).out
    server.told()
    assert adadpo("launch", file, "--store", two_runs).code == 0
    assert results(two_runs).counts == {"done": 2}


def test_a_judge_that_goes_down_on_the_way(two_runs: Path, server: Any, tmp_path: Path) -> None:
    """Half of the answers came: no evaluation is made of them, none of them is asked for again."""
    file = with_judge(tmp_path / "two.yaml", api(server.url))
    texts = [prompt["instruction"][:60] for prompt in read_prompts_of(file, two_runs)[4:]]
    server.told(faults={text: ["500..."] for text in texts})
    answer = adadpo("launch", file, "--store", two_runs)
    assert "questions without an answer (HTTP 500)" in answer.err
    assert untouched(file, two_runs)
    server.told()
    assert adadpo("launch", file, "--store", two_runs).code == 0
    assert max(server.stats()["by_prompt"].values()) == 1
    assert server.stats()["requests"] < asked_pairs(file, two_runs)


def read_prompts_of(file: Path, store: Path) -> list[dict[str, Any]]:
    from sweeps.evaluation.judge_and_score import load_prompts

    return load_prompts(opened(file, store).job.evaluation)


@pytest.mark.parametrize(
    ("judge", "code", "message"),
    [
        ("max_cost: 1, base_url: null", 2, "API key is missing: set the environment variable OPENAI_API_KEY"),
        ("api_key_env: MY_KEY", 2, "API key is missing: set the environment variable MY_KEY"),
        ("model: served, max_cost: 1", 2, "max_cost needs the prices of 'served'"),
        ("config: ./nowhere", 2, "two.yaml:12:10: no annotators configuration"),
    ],
)
def test_what_a_judge_lacks_is_said_before_training(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge: str, code: int, message: str
) -> None:
    """Key, prices, configuration: one message, and no run has begun."""
    monkeypatch.delenv("OPENAI_API_KEY")
    given = api(server.url, judge)
    if "base_url: null" in judge:
        given = given.replace(f"base_url: '{server.url}', ", "")
    file = with_judge(tmp_path / "two.yaml", given)
    answer = adadpo("launch", file, "--store", tmp_path / "store")
    assert (answer.code, len(answer.err.strip().splitlines())) == (code, 1), answer.err
    assert message in answer.err
    assert not list((tmp_path / "store").glob("*/train"))
    assert server.stats()["requests"] == 0


def test_a_missing_package_is_named_at_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without alpaca_eval: `check` says what to install."""
    import analysis.judges.annotators as annotators

    monkeypatch.setattr(annotators, "find_spec", lambda name: None)
    file = with_judge(tmp_path / "two.yaml", "{kind: alpaca_eval, max_cost: 1}")
    answer = adadpo("check", file)
    assert answer.code == 2
    assert "two.yaml:12:10: the alpaca_eval judge needs packages" in answer.err
    assert "pip install 'adadpo[judge]'" in answer.err


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ("{kind: alpaca_eval, modle: x, max_cost: 1}", "12:30: unknown key 'modle' under evaluate.judge; did you mean"),
        ("{kind: alpaca_eval}", "12:10: max_cost (dollars) is needed where base_url is not given"),
        ("{config: x}", "12:10: missing key 'kind' under judge; choose from rubric, alpaca_eval, reward_model"),
        ("{kind: import}", "12:10: missing key 'path' under judge"),
        ("[rubric]", "12:10: ['rubric'] is no judge; choose from rubric, alpaca_eval"),
        ("{kind: rubrik}", "12:17: unknown judge 'rubrik'; did you mean 'rubric'?"),
        ("{kind: reward_model, model: nowhere}", "12:10: unknown model 'nowhere'"),
        ("{kind: import, path: nowhere.json}", "12:10: no annotations to import: there is no file"),
        ("{kind: alpaca_eval, max_cost: 1, prices: {input: 1, output: 1, inptu: 1}}", "12:73: unknown key 'inptu'"),
    ],
)  # fmt: skip
def test_wrong_judges(tmp_path: Path, judge: str, message: str) -> None:
    """File, line, column, choices."""
    answer = adadpo("check", with_judge(tmp_path / "two.yaml", judge))
    assert answer.code == 2
    assert f"two.yaml:{message}" in answer.err


@pytest.mark.parametrize("method", ["joint_difficulty", "no_difficulty"])
def test_a_calibration_that_nobody_reads(tmp_path: Path, method: str) -> None:
    """Given beside a formula without one: said at its place, not ignored."""
    more = f"  lc_method: {method}\n  calibration: df_gamed.csv\n"
    answer = adadpo("check", with_judge(tmp_path / "two.yaml", "rubric", more=more))
    assert answer.code == 2
    assert f"two.yaml:11:3: calibration is for lc_method length_controlled_v1, not {method}" in answer.err


def test_a_server_that_repeats_the_key(two_runs: Path, server: Any, tmp_path: Path, own_cache: Path) -> None:
    """The refusal names the key, and so does an answer: neither reaches a file, a log or the message."""
    server.told(faults={"": ["401..."]})
    file, answer = judged_launch(two_runs, server, tmp_path)
    assert answer.code == 1
    assert "the judge's endpoint refused the request: HTTP 401: not like this: Bearer [key]" in answer.err
    assert untouched(file, two_runs)
    server.told(faults={"": ["echo..."]})
    again = adadpo("launch", file, "--store", two_runs)
    assert again.code == 0, again.err
    assert files_with("I was called with Bearer [key]", two_runs, own_cache) != []
    assert files_with(KEY, two_runs, own_cache, tmp_path) == []
    assert KEY not in answer.err + answer.out + again.err + again.out


@pytest.mark.parametrize("given", ["api_key: sk-0123456789", "api_key_env: sk-0123456789"])
def test_a_key_in_the_file_is_not_repeated(tmp_path: Path, given: str) -> None:
    """A key where its variable's name belongs: refused, and not in the message."""
    file = with_judge(tmp_path / "two.yaml", f"{{kind: alpaca_eval, max_cost: 1, {given}}}")
    answer = adadpo("launch", file, "--store", tmp_path / "store")
    assert answer.code == 2
    assert "api_key_env" in answer.err
    assert "sk-0123456789" not in answer.err + answer.out
    assert not (tmp_path / "store").exists()

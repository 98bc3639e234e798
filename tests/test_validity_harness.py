"""The level of the verdict under shared seeds and prompts, by simulation (bench/validity)."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench.validity.report import markdown  # noqa: E402
from bench.validity.scenarios import NULL, SCENARIOS  # noqa: E402
from bench.validity.simulate import DRAWS, make_sweep, simulate  # noqa: E402

SIMULATIONS = 400
SEEDS = replace(NULL, name="seeds", seed_sd=1)
# Five standard errors above the nominal level, and far below the 40% of the signed-rank test alone.
MOST = SIMULATIONS * 0.05 + 5 * math.sqrt(SIMULATIONS * 0.05 * 0.95)


def test_shared_seeds() -> None:
    """At most nominal plus a wide margin; the same sweeps by the declared test alone reject several times as often."""
    found = simulate(SEEDS, SIMULATIONS, seed=1)
    assert found["verdict"] <= MOST
    assert found["signed_rank"] > 2 * MOST
    assert found["not_established"] >= found["signed_rank"] - found["verdict"]
    # Each interval for what it claims
    for name in ("signed_rank", "generalization"):
        assert found[f"has_{name}"] == SIMULATIONS
        assert found[f"covers_{name}"] > 0.91 * SIMULATIONS


def test_it_fails_without_the_generalization_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generalization test that always agrees, against a rate that this test would not let pass."""
    monkeypatch.setattr("analysis.verdict._agrees", lambda *_: True)
    assert simulate(SEEDS, 200, seed=1)["verdict"] > MOST


def test_shared_prompts() -> None:
    """Prompts that all runs share: their draws keep the level, which the table of runs alone cannot."""
    scenario = replace(NULL, name="prompts", prompt_sd=1, prompts=200)
    with_draws, without = (
        simulate(replace(scenario, prompt_data=known), 200, seed=2) for known in (True, False)
    )
    assert with_draws["verdict"] <= 200 * 0.05 + 5 * math.sqrt(200 * 0.05 * 0.95)
    assert without["verdict"] > 60


def test_a_difference_is_found() -> None:
    """A difference of two SDs of a run against "better", nearly always: the generalization test is no refusal."""
    assert simulate(replace(NULL, name="effect", effect=2), 100, seed=3)["better"] > 90


def test_simulated_draws_are_those_of_the_prompts() -> None:
    """Replicates of a simulated sweep against the variance that the scenario states; the truth at these prompts."""
    scenario = replace(NULL, name="prompts", prompt_sd=2, run_sd=0.1, prompts=400)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(400, np.full(400, 1 / 400), size=DRAWS).T / 400
    spreads, targets = [], []
    for _ in range(200):
        runs, boot, target = make_sweep(scenario, rng, draws)
        assert boot is not None
        values = {run.run_id: run.metrics["win_rate"] for run in runs}
        assert boot.n == 400
        ours = boot.replicates["win_rate"][[run.startswith("method") for run in boot.runs]]
        spreads.append(ours.mean(axis=0).var(ddof=1))
        targets.append(target)
        differences = [
            float(values[f"method 0 {k} {s}"] or 0) - float(values[f"dpo {k} {s}"] or 0)
            for k in range(9)
            for s in range(3)
        ]
        assert np.mean(differences) == pytest.approx(target, abs=0.15)
    assert np.mean(spreads) == pytest.approx(4, rel=0.1)
    assert np.var(targets) == pytest.approx(4, rel=0.35)


def test_the_committed_figures() -> None:
    """The table against the JSON file, its scenarios against the code's; no level is exceeded where one can be held."""
    file = ROOT / "bench" / "results" / "validity.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    assert file.with_suffix(".md").read_text(encoding="utf-8") == markdown(result)
    assert [each["name"] for each in result["scenarios"]] == [each.name for each in SCENARIOS]
    for each in result["scenarios"]:
        counts, n = each["counts"], each["counts"]["simulations"]
        most = n * 0.05 + 3 * math.sqrt(n * 0.05 * 0.95)
        if each["error"] == "level" and not each["impossible"]:
            assert counts.get("verdict", 0) <= most, each["name"]
        if each["error"] == "equivalence":
            assert counts.get("equivalent", 0) <= most, each["name"]

"""One scenario, many times: simulated runs through `analysis.analyse`, and what came of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.inference.missing_runs import analyse_missing_runs
from analysis.prompts.bootstrap import PromptBootstrap
from analysis.results.model import Comparison, Declared, Metric, RunRow
from analysis.study import make_study
from analysis.summary import Analysis, analyse
from bench.validity.scenarios import Scenario

Array = NDArray[np.float64]
WR = Metric(
    name="win_rate",
    label="Win rate",
    unit="points",
    decimals=1,
    higher_is_better=True,
    attainable=(0.0, 100.0),
)
DRAWS = 500  # of prompts; a sweep's own has 2000


def simulate(scenario: Scenario, simulations: int, seed: int) -> Counter[str]:
    """Counts of what the verdict and its parts said, over so many sweeps.

    `verdict`: better or worse (of any candidate); `signed_rank`, `generalization`, `crossed`: each alone, of the first
    candidate; `covers_*` of `has_*`: intervals that hold what they claim to.
    """
    rng = np.random.default_rng(seed)
    found: Counter[str] = Counter(simulations=simulations)
    # As in a sweep, whose draws come from one fixed seed: the same for all.
    share = rng.multinomial(scenario.prompts, np.full(scenario.prompts, 1 / scenario.prompts), size=DRAWS)
    draws = share.T / scenario.prompts
    for _ in range(simulations):
        found.update(_one(scenario, rng, draws))
    return found


def _one(scenario: Scenario, rng: np.random.Generator, draws: Array) -> Iterator[str]:
    runs, bootstrap, target = make_sweep(scenario, rng, draws)
    arms = ["dpo", *_candidates(scenario)]
    plan: dict[str, Any] = {
        "settings": [f"beta={k}" for k in range(scenario.settings)],
        "seeds": list(range(scenario.seeds)),
    }
    declared = Declared(
        baseline="dpo", candidate=arms[1], more_candidates=arms[2:], primary="win_rate", rope=scenario.rope
    )
    study = make_study(
        runs=runs,
        declared=declared,
        metrics=[WR],
        arms=arms,
        bootstrap=bootstrap,
        prompts=scenario.prompts,
        around=False,
        **plan,
    )
    yield from _said(analyse(study), scenario.effect, target)
    if scenario.diverged:
        rules = analyse_missing_runs(
            runs, metric=WR, baseline="dpo", candidate=arms[1], attainable=WR.attainable, **plan
        ).rules
        treated = rules[0].test
        if treated is not None and treated.p_value <= 0.05:
            yield "intention_to_treat"
            if treated.w_plus > treated.w_minus:
                yield "intention_to_treat_better"


def make_sweep(
    scenario: Scenario, rng: np.random.Generator, draws: Array
) -> tuple[list[RunRow], PromptBootstrap | None, float]:
    """The table of runs, their draws of prompts, and the true difference at these seeds and prompts."""
    k, s = scenario.settings, scenario.seeds
    shape = (scenario.candidates, k, s)
    of_setting = rng.standard_normal((scenario.candidates, k, 1))
    if scenario.skewed_settings:
        of_setting = rng.exponential(size=of_setting.shape) - 1
    of_seed = scenario.seed_sd * rng.standard_normal((scenario.candidates, 1, s))
    noise = {
        "normal": lambda: rng.standard_normal(shape),
        "t3": lambda: rng.standard_t(3, shape) / math.sqrt(3),
        "skew": lambda: rng.exponential(size=shape) - 1,
    }[scenario.noise]() * scenario.run_sd
    if scenario.candidates > 1:  # half of the variance is the baseline's, which they share
        noise = (noise + rng.standard_normal((1, k, s)) * scenario.run_sd) / math.sqrt(2)
    difference = scenario.effect + scenario.setting_sd * of_setting + of_seed + noise
    target = scenario.effect + float(of_seed[0].mean())
    replicates = None
    if scenario.prompt_sd:
        shared, answers = _prompts(scenario, rng)
        total = shared + answers  # [settings, seeds, prompts]
        moved = total.mean(axis=2) - (
            noise[0] * (1 - math.sqrt(0.5))
        )  # half of a run's variance is its answers'
        difference = difference + moved
        target += float(shared.mean())
        if scenario.prompt_data:
            replicates = total.reshape(k * s, -1) @ draws - total.mean(axis=2).reshape(-1, 1)
    values = 50 + difference
    base = 50 + (rng.standard_normal((k, s)) if scenario.candidates == 1 else np.zeros((k, s)))
    values = values + base - 50
    if scenario.halves:
        values, base = np.round(values * 2) / 2, np.round(base * 2) / 2
    bootstrap = None if replicates is None else _bootstrap(scenario, replicates, values, base)
    return _table(scenario, rng, values, base, noise), bootstrap, target


def _prompts(scenario: Scenario, rng: np.random.Generator) -> tuple[Array, Array]:
    """Differences by prompt: what all runs share [prompts], and each run's answers [settings, seeds, prompts]."""
    n = scenario.prompts
    share = scenario.prompt_share
    shared, of_one = {
        "normal": lambda: (rng.standard_normal(n), 1.0),
        "rare": lambda: (rng.choice([-1.0, 0.0, 1.0], size=n, p=[0.05, 0.9, 0.05]), math.sqrt(0.1)),
        "skew": lambda: ((rng.random(n) < share) - share, math.sqrt(share * (1 - share))),
    }[scenario.prompt_kind]()
    scale = scenario.prompt_sd * math.sqrt(n) / of_one
    spread = scenario.run_sd * math.sqrt(n / 2)
    answers = spread * rng.standard_normal((scenario.settings, scenario.seeds, n))
    return scale * shared, answers


def _candidates(scenario: Scenario) -> list[str]:
    return [f"method {number}" for number in range(scenario.candidates)]


def _run_id(arm: str, k: int, s: int) -> str:
    return f"{arm} {k} {s}"


def _table(
    scenario: Scenario, rng: np.random.Generator, values: Array, base: Array, noise: Array
) -> list[RunRow]:
    lost = rng.random((scenario.candidates + 1, *base.shape)) < scenario.missing
    diverged = np.zeros(base.shape, dtype=bool)
    if scenario.diverged:
        by = noise[0] if scenario.diverge_worst else rng.random(base.shape)
        diverged = by <= np.quantile(by, scenario.diverged)
    rows = []
    for number, (arm, of_arm) in enumerate(
        zip(["dpo", *_candidates(scenario)], [base, *values], strict=True)
    ):
        for k, s in np.ndindex(*base.shape):
            state = (
                "failed" if lost[number, k, s] else "diverged" if number == 1 and diverged[k, s] else "done"
            )
            rows.append(
                RunRow.model_construct(
                    run_id=_run_id(arm, k, s),
                    arm=arm,
                    setting=f"beta={k}",
                    hyperparameters={},
                    seed=s,
                    state=state,
                    metrics={"win_rate": float(of_arm[k, s]) if state == "done" else None},
                    wall_seconds=None,
                    flags=[],
                )
            )
    return rows


def _bootstrap(scenario: Scenario, replicates: Array, values: Array, base: Array) -> PromptBootstrap:
    """As `prompt_bootstrap` gives it: each run's win rate under the draws; all of the difference is the candidate's."""
    ids = [_run_id(arm, k, s) for arm in ("dpo", "method 0") for k, s in np.ndindex(*base.shape)]
    ours = values[0].reshape(-1, 1) + replicates
    theirs = np.repeat(base.reshape(-1, 1), replicates.shape[1], axis=1)
    both = np.vstack([theirs, ours])
    return PromptBootstrap(
        runs=tuple(ids),
        lc_method="no_difficulty",
        calibration=None,
        n=scenario.prompts,
        estimates={"win_rate": both.mean(axis=1)},
        replicates={"win_rate": both},
        reasons={},
    )


def _said(analysis: Analysis, effect: float, target: float) -> Iterator[str]:
    first = analysis.comparisons[0]
    kinds = [analysis.verdict_kind, *(arm.verdict_kind for arm in analysis.other_arms)]
    if any(kind in ("better", "worse") for kind in kinds):
        yield "verdict"
    if analysis.verdict_kind == "better":
        yield "better"
    if analysis.verdict_kind == "equivalent":
        yield "equivalent"
    if analysis.verdict.startswith("Not established"):
        yield "not_established"
    family = [first, *(arm.comparison for arm in analysis.other_arms)]
    if any(_headline(each) <= 0.05 for each in family):
        yield "signed_rank"
    if first.test is None or first.estimate is None or first.inference is None:
        return
    generalization, crossed = first.inference.generalization, first.inference.crossed
    assert generalization is not None
    if generalization.p_value is not None and generalization.p_value <= 0.05:
        yield "generalization"
    if crossed.p_value is not None and crossed.p_value <= 0.05:
        yield "crossed"
    for name, interval, truth in (
        ("signed_rank", first.estimate, target),
        ("generalization", generalization.interval, effect),
        ("crossed", crossed.interval, effect),
    ):
        if interval is not None and interval.low is not None and interval.high is not None:
            yield f"has_{name}"
            if interval.low <= truth <= interval.high:
                yield f"covers_{name}"


def _headline(comparison: Comparison) -> float:
    if comparison.test is None:
        return 1.0
    return comparison.test.p_value if comparison.adjusted_p is None else comparison.adjusted_p

"""Made-up but realistic results: 6 settings x 2 seeds x 2 arms, one failed run, five logged curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from statistics import mean, stdev
from typing import Any

from analysis.document import KINDS, Results
from analysis.results.blocks import Block
from analysis.results.model import (
    Cell,
    Comparison,
    Curve,
    Declared,
    Evaluation,
    Failure,
    Interval,
    Metric,
    RunRow,
    Sample,
    SeedValue,
    SettingDifference,
    SignedRank,
)
from tests.reports.audit_examples import make_audit
from tests.reports.evidence_samples import make_bests, make_claims, make_flips, make_prompt_level

_REASONS = {
    "next_steps_reason": "next_steps",
    "prompt_level_reason": "prompt_level",
    "flips_reason": "flips",
}


def changed(results: Results, changes: Mapping[str, Any]) -> Results:
    """A copy with other header fields and other blocks, by kind; None takes a block without a reason away."""
    header = {name: value for name, value in changes.items() if name in Results.model_fields}
    blocks: dict[str, Block[Any]] = {block.kind: block for block in results.blocks}
    for name, value in changes.items():
        kind = {"verdict_kind": "verdict", **_REASONS}.get(name, name)
        if name in header:
            continue
        before = blocks.get(kind) or KINDS[kind]()
        field = "reason" if name in _REASONS else "sentence" if name == "verdict" else "value"
        blocks[kind] = before.model_copy(update={field: value})
    kept = [each for each in blocks.values() if each.value is not None or each.reason]
    return results.model_copy(update={**header, "blocks": kept})


ARMS = {
    "dpo": {"loss": "dpo", "balance": "none"},
    "adadpo": {
        "loss": "dpo",
        "balance": "per_token",
        "clip": 10,
        "normalization": "geometric",
        "placement": "margin",
    },
}
METRICS = [
    Metric(
        name="length_controlled_win_rate",
        label="LC win rate",
        unit="points",
        decimals=2,
        higher_is_better=True,
    ),
    Metric(name="win_rate", label="Win rate", unit="points", decimals=2, higher_is_better=True),
    Metric(name="kl_divergence", label="KL to reference", unit="nats", decimals=3, higher_is_better=None),
    Metric(name="reward_margin", label="Reward margin", unit="nats", decimals=3, higher_is_better=True),
    Metric(
        name="average_length", label="Average length", unit="characters", decimals=0, higher_is_better=None
    ),
]
_START = {
    "length_controlled_win_rate": 51.0,
    "win_rate": 50.2,
    "kl_divergence": 1.9,
    "reward_margin": 0.61,
    "average_length": 412.0,
}
_GAIN = {
    "length_controlled_win_rate": 1.6,
    "win_rate": 0.9,
    "kl_divergence": -0.21,
    "reward_margin": -0.034,
    "average_length": -11.0,
}
_CURVES = ("loss", "reward_margin", "gradient_ratio", "chosen_logprob", "rejected_logprob")


def wobble(*keys: object) -> float:
    """A number in [-1, 1] that depends on its arguments alone."""
    return math.sin(sum((index + 1) * 7.13 * ord(char) for index, char in enumerate(repr(keys))))


def settings(count: int) -> list[dict[str, float]]:
    betas, rates = (0.01, 0.05, 0.1, 0.5), (5e-06, 1e-05, 2e-05, 4e-05, 8e-05, 1.6e-04)
    grid = [{"beta": beta, "learning_rate": rate} for rate, beta in product(rates, betas)]
    if count == 6:
        grid = [{"beta": beta, "learning_rate": rate} for beta, rate in product((0.05, 0.1), rates[:3])]
    return grid[:count]


def label(setting: dict[str, float]) -> str:
    return " ".join(f"{key}={value}" for key, value in setting.items())


def at_most(n: int) -> list[float]:
    """P(T <= t) of the signed-rank statistic, for t = 0, 1, ..."""
    subsets = [1] + [0] * (n * (n + 1) // 2)
    for rank in range(1, n + 1):
        for at in range(len(subsets) - 1, rank - 1, -1):
            subsets[at] += subsets[at - rank]
    return [sum(subsets[: t + 1]) / 2**n for t in range(len(subsets))]


def signed_rank(differences: list[float]) -> SignedRank:
    """Enough of the test for a page; exactness is tested where the test lives."""
    order = sorted(differences, key=abs)
    plus = sum(rank for rank, value in enumerate(order, 1) if value > 0)
    total = len(order) * (len(order) + 1) // 2
    p = min(1.0, 2 * at_most(len(order))[min(plus, total - plus)])
    return SignedRank(
        n=len(order),
        zeros=0,
        ties=0,
        w_plus=plus,
        w_minus=total - plus,
        p_value=p,
        smallest_p=min(1.0, 2 / 2 ** len(order)),
        alternative="two-sided",
        zero_method="pratt",
        method="exact (dynamic programming over mid-ranks)",
    )


def sign_test(differences: list[float]) -> float:
    wins, n = sum(value > 0 for value in differences), len(differences)
    tail = sum(math.comb(n, k) for k in range(min(wins, n - wins) + 1))
    return min(1.0, 2 * tail / 2**n)


def compare(name: str, runs: list[RunRow], labels: list[str], seeds: list[int]) -> Comparison:
    values = {(run.arm, run.setting, run.seed): run.metrics.get(name) for run in runs}
    differences, missing = [], []
    for setting in labels:
        pairs = []
        for seed in seeds:
            after, before = values.get(("adadpo", setting, seed)), values.get(("dpo", setting, seed))
            if after is None or before is None:
                lacking = "adadpo" if after is None else "dpo"
                missing.append(f"{setting}, seed {seed}: {lacking} has no value (failed)")
            pairs.append(
                SeedValue(seed=seed, value=None if after is None or before is None else after - before)
            )
        known = [pair.value for pair in pairs if pair.value is not None]
        differences.append(
            SettingDifference(
                setting=setting,
                values=pairs,
                n=len(known),
                mean=mean(known) if known else None,
                sd=stdev(known) if len(known) > 1 else None,
            )
        )
    means = [each.mean for each in differences if each.mean is not None]
    walsh = sorted((a + b) / 2 for index, a in enumerate(means) for b in means[index:])
    estimate = None
    if walsh:
        tails = at_most(len(means))
        # walsh[cut] and its mirror image are the interval's ends: P(T <= cut) <= 2.5%
        cut = max((at for at, tail in enumerate(tails) if tail <= 0.025), default=None)
        estimate = Interval(
            estimate=walsh[len(walsh) // 2],
            low=None if cut is None else walsh[cut],
            high=None if cut is None else walsh[-1 - cut],
            confidence=0.95,
            achieved=None if cut is None else 1 - 2 * tails[cut],
            method="Walsh averages, exact quantile of the signed-rank null",
            reason=f"with n = {len(means)} no interval reaches 95%: 6 settings are needed"
            if cut is None
            else None,
        )
    test = signed_rank(means) if means else None
    return Comparison(
        metric=name,
        differences=differences,
        test=test,
        test_reason=None if test else "no setting has a complete pair of runs",
        estimate=estimate,
        rank_biserial=(test.w_plus - test.w_minus) / (test.w_plus + test.w_minus) if test else None,
        won=sum(value > 0 for value in means),
        tied=0,
        lost=sum(value < 0 for value in means),
        sign_p_value=sign_test(means) if means else None,
        missing_pairs=missing,
        confirmatory=name == "length_controlled_win_rate",
    )


def make_results(
    n_settings: int = 6, seeds: tuple[int, ...] = (0, 1), steps: int = 8, *, missing: bool = False
) -> Results:
    """`missing`: no run has been started."""
    grid = settings(n_settings)
    labels = [label(setting) for setting in grid]
    runs, curves, failures = [], [], []
    for number, (setting, seed, arm) in enumerate(product(grid, seeds, ARMS)):
        where = label(setting)
        failed = not missing and where == labels[-1] and seed == seeds[-1] and arm == "dpo" and len(seeds) > 1
        state = "waiting" if missing else "failed" if failed else "done"
        metrics: dict[str, float | None] = {}
        for metric in METRICS:
            scale = abs(_GAIN[metric.name])
            value = (
                _START[metric.name]
                + 2 * scale * wobble(where, metric.name)
                + 0.5 * scale * wobble(number, "noise")
            )
            value += _GAIN[metric.name] * (1 + 0.8 * wobble(where, "effect")) if arm == "adadpo" else 0
            metrics[metric.name] = None if missing or failed else value
        run_id = f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}"
        reason = (
            "waiting: not launched" if missing else "CUDA error: out of memory <at step 3> & no checkpoint"
        )
        if failed or missing:
            failures.append(
                Failure(run_id=run_id, arm=arm, setting=where, seed=seed, state=state, reason=reason)
            )
        runs.append(
            RunRow(
                run_id=run_id,
                arm=arm,
                setting=where,
                hyperparameters=setting,
                seed=seed,
                state=state,
                metrics=metrics,
                wall_seconds=None if missing else 400 + 120 * wobble(number),
            )
        )
        if not missing:
            curves += [make_curve(name, arm, where, seed, steps, failed) for name in _CURVES]
    cells = [
        make_cell(arm, where, metric.name, runs, seeds)
        for metric, where, arm in product(METRICS, labels, ARMS)
    ]
    comparisons = [compare(metric.name, runs, labels, list(seeds)) for metric in METRICS]
    declared = Declared(baseline="dpo", candidate="adadpo", primary="length_controlled_win_rate")
    bests = make_bests(runs, labels, METRICS[:2])
    primary = comparisons[0]
    testable = primary.test is not None and primary.estimate is not None and primary.estimate.low is not None
    verdict = "Not testable: no setting has a complete pair of runs."
    if testable:
        found, p = primary.estimate, 1000 * primary.test.p_value
        verdict = (
            f"adadpo scores higher than dpo on LC win rate: {found.estimate:+.2f} points (95% CI "
            f"{found.low:+.2f} to {found.high:+.2f}), Wilcoxon signed-rank over {n_settings} settings "
            f"averaged over 1 to {len(seeds)} seeds, "
            f"p = .{p:03.0f}; 1 of {n_settings * len(seeds)} pairs is missing."
        )
    counts = {state: sum(run.state == state for run in runs) for state in ("done", "failed", "waiting")}
    made = Results(
        sweep="dpo-vs-adadpo",
        declared=declared,
        declaration_changed=[],
        evaluation=Evaluation(
            model="smollm2-135m-instruct",
            data="builtin:instructions",
            prompts="builtin:instructions (held out)",
            n_prompts=120,
            judge="rubric",
            baseline="reference",
            lc_method="no_difficulty",
            decoding={"temperature": 0.7, "max_new_tokens": 64},
        ),
        axes={
            axis: list(dict.fromkeys(setting[axis] for setting in grid)) for axis in ("beta", "learning_rate")
        },
        arms=ARMS,
        settings=labels,
        seeds=list(seeds),
        metrics=METRICS,
        counts={state: count for state, count in counts.items() if count},
        failures=failures,
        runs=runs,
        blocks=[],
        provenance={
            "adadpo": "0.1.0",
            "torch": "2.9.0",
            "git commit": "627d0ea5cbd0f4d5a3f9f5b1c5f0aa1b2c3d4e5f",
            "device": "NVIDIA H200",
            "data sha256": "97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d",
        },
    )
    return changed(
        made,
        {
            "verdict": verdict,
            "verdict_kind": "better" if testable else "untestable",
            "cells": cells,
            "comparisons": comparisons,
            "curves": curves,
            "samples": [] if missing else make_samples(labels[0]),
            "audit": None if missing else make_audit(),
            "prompt_level": make_prompt_level(primary),
            "prompt_level_reason": "no run that counts has a judged response" if missing else None,
            "best_of_grid": bests,
            "paper_claims": make_claims(comparisons, bests, declared),
            "flips": None if missing else make_flips(labels),
            "flips_reason": "no run that counts has a judged response" if missing else None,
        },
    )


def make_cell(arm: str, setting: str, metric: str, runs: list[RunRow], seeds: tuple[int, ...]) -> Cell:
    found = {run.seed: run.metrics[metric] for run in runs if run.arm == arm and run.setting == setting}
    values = [value for value in found.values() if value is not None]
    return Cell(
        arm=arm,
        setting=setting,
        metric=metric,
        values=[SeedValue(seed=seed, value=found.get(seed)) for seed in seeds],
        n=len(values),
        mean=mean(values) if values else None,
        sd=stdev(values) if len(values) > 1 else None,
    )


def make_curve(name: str, arm: str, setting: str, seed: int, steps: int, failed: bool) -> Curve:
    ada = arm == "adadpo"
    logged = steps // 3 if failed else steps
    values: list[float | None] = []
    for step in range(1, logged + 1):
        done, noise = step / steps, wobble(name, arm, setting, seed, step)
        values.append(
            {
                "loss": 0.69 - (0.22 if ada else 0.27) * done + 0.02 * noise,
                "reward_margin": (0.6 if ada else 0.75) * done**1.2 + 0.05 * noise,
                "gradient_ratio": math.exp(0.05 * noise if ada else -1.4 * done + 0.25 * noise),
                "chosen_logprob": -61 - (1 if ada else 4) * done + 0.6 * noise,
                "rejected_logprob": -64 - (6 if ada else 12) * done + 0.6 * noise,
            }[name]
        )
    return Curve(
        arm=arm, setting=setting, seed=seed, name=name, steps=list(range(1, logged + 1)), values=values
    )


def make_samples(setting: str) -> list[Sample]:
    prompts = [
        (
            "Name three fruits, in lower case, without commas.",
            "Apples, Bananas, and Pears!",
            "apples\nbananas\npears",
        ),
        (
            "Describe the sea in at most ten words.",
            "The sea is a vast body of salt water that covers most of the "
            "planet and is home to countless creatures, large and small.",
            "Blue, wide, restless; it breathes against every shore.",
        ),
        ("End your answer with the word 'done'. What is 2 + 2?", "4. done", "2 + 2 equals 4."),
    ]
    preferences = [2.0, 1.97, 1.0, None, 1.5]
    return [
        Sample(
            arm=arm,
            setting=setting,
            seed=0,
            instruction=prompts[index % 3][0],
            baseline_output=prompts[index % 3][1],
            output=prompts[index % 3][2],
            preference=preferences[index % 5],
        )
        for index, arm in enumerate(("adadpo", "adadpo", "adadpo", "dpo", "dpo", "dpo"))
    ]

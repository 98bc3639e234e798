"""The audit's distributions and sentences against numbers worked out by hand and by numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.audit import (
    findings,
    held,
    last_points,
    make_stage,
    quartiles,
    ratio_text,
    rounded_values,
    share,
)
from analysis.results.gradient_audit import AuditPoint, AuditRatio, AuditStage


def stage(
    name: str, trained: bool, ratios: dict[str, list[float]], promised: tuple[AuditRatio, ...] = ()
) -> AuditStage:
    label = "base loss" if name == "base" else "per-token ratio, clip 10"
    clipped = [False, False, False, True]
    return make_stage(
        name, label=label, trained=trained, promised=promised, clipped=clipped, log_ratios=ratios
    )  # type: ignore[arg-type]


def point(arm: str, step: int, stages: list[AuditStage], cosines: list[float]) -> AuditPoint:
    written = rounded_values(cosines)
    summary = quartiles(written)
    return AuditPoint(
        arm=arm,
        method={},
        run_id=None,
        step=step,
        parameters="p",
        stages=stages,
        cosines=written,
        cosine=summary,
    )


def balanced(step: int = 0, parameters: float = math.log(0.5), broken: bool = False) -> AuditPoint:
    good = [0.0, 0.001, -0.001, 0.7 if broken else 0.002]
    base = {"probability": [0.4] * 4, "logits": [0.3] * 4, "parameters": [0.2, 0.2]}
    ada = {"probability": good, "logits": [math.log(1.5)] * 4, "parameters": [parameters] * 2}
    stages = [stage("base", False, base), stage("per_token_clipped", True, ada, ("probability",))]
    return point("adadpo", step, stages, [-0.5, -0.3])


def test_quartiles_are_numpys_on_defined_values() -> None:
    values = [0.3, None, -1.2, 0.02, 5.0, None, 0.04]
    found = quartiles(values, 0.05)
    known = [value for value in values if value is not None]
    assert [found.low, found.median, found.high] == pytest.approx(np.quantile(known, [0.25, 0.5, 0.75]))
    assert (found.n, found.undefined, found.balanced) == (5, 2, pytest.approx(2 / 5))


def test_nothing_is_undefined_not_zero() -> None:
    found = quartiles([None, None], 0.05)
    assert (found.n, found.undefined) == (0, 2)
    assert found.median is found.low is found.high is found.balanced is None
    assert held(found) is None
    assert rounded_values([math.nan, math.inf, -0.0, 0.1234567]) == [None, None, 0.0, 0.12346]


def test_tolerance_is_a_factor_to_both_sides() -> None:
    """1.05 and 1 / 1.05 count as 1; 1.051 and 0.951 do not."""
    logs = [math.log(r) for r in (1.0499, 1 / 1.0499, 1.051, 0.951)]
    assert quartiles(logs, 0.05).balanced == 0.5


@pytest.mark.parametrize(
    ("log_ratio", "text"),
    [
        (0.0, "1.00"),
        (math.log(0.874), "0.87"),
        (math.log(1234), "1.2e3"),
        (-1000.0, "5.1e−435"),  # exp(-1000) = 5.0759588975e-435 (Wolfram Alpha)
        (900.0, "7.3e390"),  # exp(900) = 7.3288143e390 (Wolfram Alpha)
        (math.log(9.96e-5), "1.0e−4"),
    ],
)
def test_ratios_as_text(log_ratio: float, text: str) -> None:
    assert ratio_text(log_ratio) == text


def test_shares_are_never_rounded_to_all_or_nothing() -> None:
    assert [share(v) for v in (0.0, 0.001, 0.5, 0.999, 1.0)] == ["0%", "< 1%", "50%", "> 99%", "100%"]


def test_sentence_says_what_held_and_what_did_not() -> None:
    (found,) = findings([balanced()])
    assert found == (
        "adadpo, before training: with the per-token ratio, clip 10, the gradient ratio was 1 within 5% in probability "
        "space (100% of 4 pairs, median 1.00, base loss 1.49); it was not over logits (0% of 4 pairs, median 1.50 "
        "[1.50, 1.50], base loss 1.35) and in parameter space (0% of 2 pairs, median 0.50 [0.50, 0.50], base loss "
        "1.22, cosine −0.40). So equality in probability space did not carry over to the parameters."
    )


def test_carrying_over_is_said_only_when_it_did() -> None:
    assert "carried over to the parameters." in findings([balanced(parameters=0.01)])[0]
    last = balanced()
    mixed = stage(
        "per_token_clipped",
        True,
        {"probability": [0.0] * 4, "parameters": [-0.5, 0.0, 0.01, 0.5]},
        ("probability",),
    )
    text = findings([last.model_copy(update={"stages": [last.stages[0], mixed]})])[0]
    assert "reached the parameters in the median only" in text


def test_a_broken_promise_is_explained() -> None:
    """Three of four pairs balanced: not held, and the bound was active for one of four."""
    text = findings([balanced(broken=True)])[0]
    assert "was not 1 within 5%" in text
    assert (
        "By construction it is 1 in probability space where no bound is active; one was active for 25%"
        in text
    )
    assert "carry over" not in text


def test_training_is_told_from_first_to_last_step() -> None:
    base = stage("base", True, {"probability": [0.0] * 4})
    later = stage("base", True, {"probability": [math.log(2)] * 4})
    points = [
        point("dpo", 0, [base], []),
        point("dpo", 30, [base], []),
        point("dpo", 60, [later], []),
        balanced(),
    ]
    assert [last.step for last in last_points(points)] == [60, 0]
    told = findings(points)
    assert told[0].endswith("In parameter space nothing was measured.")
    assert (
        told[1]
        == "dpo, from step 0 to step 60: the median ratio went from 1.00 to 2.00 in probability space."
    )
    assert len(told) == 3


def test_no_defined_ratio() -> None:
    nothing = stage("base", True, {"probability": [math.nan] * 4, "parameters": []})
    assert findings([point("dpo", 0, [nothing], [])]) == [
        "dpo, before training: with the base loss, the gradient ratio was not defined for any pair. "
        "In parameter space nothing was measured."
    ]

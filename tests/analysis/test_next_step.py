import itertools
import math

import numpy as np
import pytest

from analysis.inference.crossed import VarianceComponents, crossed_test
from analysis.planning.next_step import Costs, Design, NextSteps, Spread, Step, rank_next_steps

COMPONENTS = VarianceComponents(setting=0.25, seed=0.09, run=1.96)
SPREAD = Spread(components=COMPONENTS, prompt=805 * 1.4**2, judging=0.5)
DESIGN = Design(settings=9, seeds=3, prompts=805)
COSTS = Costs(unit="GPU-hours", pair=4.0, prompt=0.0005, judging=0.05)


def by_action(result: NextSteps) -> dict[str, Step]:
    return {step.action: step for step in result.steps}


def test_errors_by_hand() -> None:
    """The standard error now and after each step by the crossed ANOVA's formula, term by term."""
    result = rank_next_steps(SPREAD, DESIGN, COSTS)
    now = 0.25 / 9 + 0.09 / 3 + 1.96 / 27 + 1.96
    assert result.standard_error == pytest.approx(math.sqrt(now))
    steps = by_action(result)
    assert steps["seed"].standard_error == pytest.approx(math.sqrt(0.25 / 9 + 0.09 / 4 + 1.96 / 36 + 1.96))
    assert steps["setting"].standard_error == pytest.approx(
        math.sqrt(0.25 / 10 + 0.09 / 3 + 1.96 / 30 + 1.96)
    )
    more = 805 * 1.96 / 905
    assert steps["prompts"].standard_error == pytest.approx(math.sqrt(now - 1.96 + more))
    assert steps["judging"].standard_error == pytest.approx(math.sqrt(now - 0.25 / 27))  # .5 / 1 to .5 / 2
    costs = {action: step.cost for action, step in steps.items()}
    assert costs == pytest.approx(
        {"seed": 36, "setting": 12, "prompts": 100 * 27 * 0.0005, "judging": 27 * 0.05}
    )
    for step in result.steps:
        assert step.reduction == pytest.approx(result.standard_error - (step.standard_error or 0))
        assert step.reduction_per_cost == pytest.approx((step.reduction or 0) / (step.cost or 0))
    assert [step.action for step in result.steps] == ["prompts", "judging", "setting", "seed"]
    assert (steps["setting"].smallest_p, steps["seed"].smallest_p) == (2 / 2**10, 2 / 2**9)
    assert NextSteps.model_validate_json(result.model_dump_json()) == result


def test_standard_error_is_that_of_the_crossed_test() -> None:
    """The error from the components of a table against the crossed test's own, where none is negative."""
    d = np.add.outer([0.0, 2, 1, 4, 3, 2], [0.0, 0.8, -0.9, 0.1]) + np.resize(
        [0.3, -0.1, 0.2, -0.4, 0.1], (6, 4)
    )
    test = crossed_test(d)
    assert test.components is not None
    assert min(test.components.model_dump().values()) > 0
    result = rank_next_steps(
        Spread(components=test.components), Design(settings=6, seeds=4), Costs(unit="dollars", pair=1)
    )
    assert result.standard_error == pytest.approx(test.standard_error)


def test_predicted_errors_by_simulation() -> None:
    """Predicted errors of the mean, now and with a seed or setting more, against their spread over simulated sweeps."""
    rng = np.random.default_rng(0)
    steps = by_action(rank_next_steps(Spread(components=COMPONENTS), DESIGN, COSTS))
    for (settings, seeds), predicted in (((9, 4), steps["seed"]), ((10, 3), steps["setting"])):
        shape = (8000, settings, seeds)
        d = 1.4 * rng.normal(size=shape) + 0.5 * rng.normal(size=(8000, settings, 1))
        d += 0.3 * rng.normal(size=(8000, 1, seeds))
        assert d.mean(axis=(1, 2)).std() == pytest.approx(predicted.standard_error, rel=4 / math.sqrt(16_000))


def test_unknown_is_said_and_comes_last() -> None:
    """Variances and costs that are not known against None with the reason, behind the steps that can be ranked."""
    result = rank_next_steps(
        Spread(components=COMPONENTS),
        Design(settings=9, seeds=3),
        Costs(unit="dollars", pair=None, judging=1),
    )
    reasons = {step.action: step.reason for step in result.steps}
    assert reasons == {
        "seed": "its cost is not known",
        "setting": "its cost is not known",
        "prompts": "the variance between prompts is not known: run the paired bootstrap",
        "judging": "the judge's noise is not known: judge some runs twice",
    }
    assert all(step.reduction_per_cost is None for step in result.steps)
    assert by_action(result)["seed"].reduction is not None
    some = rank_next_steps(SPREAD, DESIGN, COSTS.model_copy(update={"prompt": None}))
    assert [step.action for step in some.steps] == ["judging", "setting", "seed", "prompts"]


def test_a_design_that_cannot_be_significant() -> None:
    """Five settings against the warning that only settings help; six against none."""
    warning = rank_next_steps(SPREAD, Design(settings=5, seeds=3), COSTS).warning
    assert warning == "5 settings cannot reach alpha = 0.05 (smallest p 0.0625): only settings help there"
    assert rank_next_steps(SPREAD, Design(settings=6, seeds=3), COSTS).warning is None


def test_negative_components_count_as_zero() -> None:
    """Components below 0 against the same ranking with 0, and reductions that are never negative."""
    negative = Spread(components=VarianceComponents(setting=-1.0, seed=-0.1, run=2.0), judging=9.0)
    zero = Spread(components=VarianceComponents(setting=0.0, seed=0.0, run=2.0), judging=9.0)
    for settings, seeds in itertools.product((1, 9), (1, 3)):
        design = Design(settings=settings, seeds=seeds, judgings=2)
        result = rank_next_steps(negative, design, COSTS)
        assert result == rank_next_steps(zero, design, COSTS)
        assert all(step.reduction is None or step.reduction >= 0 for step in result.steps)


def test_unusable() -> None:
    """Counts, variances and costs out of range against ValueError."""
    for spread, design, costs in (
        (SPREAD, Design(settings=0, seeds=1), COSTS),
        (SPREAD, Design(settings=1, seeds=1, prompts=0), COSTS),
        (SPREAD.model_copy(update={"prompt": -1.0}), DESIGN, COSTS),
        (SPREAD.model_copy(update={"judging": math.nan}), DESIGN, COSTS),
        (SPREAD, DESIGN, Costs(unit="dollars", pair=0.0)),
    ):
        with pytest.raises(ValueError, match=r"at least|above 0"):
            rank_next_steps(spread, design, costs)

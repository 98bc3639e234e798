from typing import Any

import pytest

from analysis.planning.next_step import advise
from analysis.results.model import PromptPart
from tests.analysis.analysis_examples import DECLARED, LC, analyse, compare, drawn, sweep


def example(differences: list[list[float]], seconds: dict[str, float | None]) -> dict[str, Any]:
    """What `advise` is told of a sweep with these differences and wall times."""
    given = sweep(differences)
    runs = [run.model_copy(update={"wall_seconds": seconds[run.arm]}) for run in given["runs"]]
    (found,) = compare(**{**given, "runs": runs}, declared=DECLARED, metrics=[LC])
    assert found.inference is not None
    assert found.test is not None
    return {
        "crossed": found.inference.crossed,
        "settings": found.test.n,
        "runs": runs,
        "declared": DECLARED,
    }


# Between settings the variance is 1 and between seeds 8, nothing is left for the runs (by hand: rows 0 1 2 + 0 4).
ADDITIVE = [[0.0, 4.0], [1.0, 5.0], [2.0, 6.0]]


def test_the_dominating_component_leads() -> None:
    """Seeds differ most, so a seed comes first; errors and costs by hand."""
    told = example(ADDITIVE, {"dpo": 1800.0, "adadpo": 5400.0})
    steps, reason = advise(**told, prompts=100)
    assert reason is None
    assert steps is not None
    assert steps.standard_error == pytest.approx((1 / 3 + 8 / 2) ** 0.5)
    assert [step.action for step in steps.steps[:2]] == ["seed", "setting"]
    assert steps.steps[0].cost == pytest.approx(3 * (0.5 + 1.5))  # a pair at each of 3 settings
    assert steps.steps[0].standard_error == pytest.approx((1 / 3 + 8 / 3) ** 0.5)
    assert steps.warning is not None  # 3 settings cannot reach .05


def test_costs_that_are_not_known() -> None:
    """Runs without wall times against steps without a cost, with the reason."""
    told = example(ADDITIVE, {"dpo": None, "adadpo": 5400.0})
    steps, _ = advise(**told)
    assert steps is not None
    assert steps.steps[0].cost is None
    assert steps.steps[0].reason == "its cost is not known"


def test_one_seed_tells_nothing() -> None:
    """A single seed against no advice and the reason."""
    told = example([[1.0], [2.0]], {"dpo": 1.0, "adadpo": 1.0})
    steps, reason = advise(**told)
    assert steps is None
    assert reason == "needs 2 settings and 2 seeds without a missing pair, has 2 and 1"


def test_a_setting_with_a_gap_counts_as_the_test_counts_it() -> None:
    """6 settings of which one lacks a pair: its test can reach .05, so nothing is said to be out of reach."""
    rows: list[list[float | str]] = [
        [1.0, 1.5],
        [0.5, 1.0],
        [2.0, 1.0],
        [1.5, 2.5],
        [1.0, 0.5],
        [2.0, "failed"],
    ]
    told = example(rows, {"dpo": 1.0, "adadpo": 1.0})
    steps, _ = advise(**told)
    assert told["settings"] == 6
    assert steps is not None
    assert steps.warning is None


@pytest.mark.parametrize(("shared", "part"), [(0.5, 0.5), (-0.1, 0.0)])
def test_prompts_count_where_their_part_is_known(shared: float, part: float) -> None:
    """The part of 50 prompts, by hand: it is in the error now, and 100 more prompts leave a third of it."""
    told = example(ADDITIVE, {"dpo": 1800.0, "adadpo": 5400.0})
    prompts = PromptPart(prompts=50, shared=shared, total=2.0, draws=2000)
    steps, _ = advise(**told, part=prompts)
    assert steps is not None
    assert steps.standard_error == pytest.approx((1 / 3 + 8 / 2 + part) ** 0.5)
    (more,) = [step for step in steps.steps if step.action == "prompts"]
    assert more.amount == 100
    assert more.standard_error == pytest.approx((1 / 3 + 8 / 2 + part / 3) ** 0.5)


def test_a_report_knows_the_part_of_its_prompts() -> None:
    """`analyse` with draws of prompts against `advise` with the part that its test found; without, no such step."""
    given: dict[str, Any] = {
        **sweep([[0.2, 0.4], [1, 1], [2, 2], [2.5, 2], [3, 3], [4, 4]]),
        "declared": DECLARED,
        "metrics": [LC],
    }
    found = analyse(**given, bootstrap=drawn(2.0))
    inference = found.comparisons[0].inference
    assert inference is not None
    assert inference.generalization is not None
    assert (part := inference.generalization.prompt) is not None
    assert part.shared > 1
    told: dict[str, Any] = {"settings": 6, "runs": given["runs"], "declared": DECLARED}
    assert found.next_steps == advise(inference.crossed, **told, part=part)[0]
    alone = analyse(**given).next_steps
    assert alone == advise(inference.crossed, **told)[0]
    assert alone != found.next_steps

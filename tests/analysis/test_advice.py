import pytest
from analysis_examples import DECLARED, LC, sweep

from analysis.advice import advise
from analysis.comparison import compare
from analysis.evidence import PromptPart
from analysis.results import Comparison, RunRow


def example(
    differences: list[list[float]], seconds: dict[str, float | None]
) -> tuple[Comparison, list[RunRow]]:
    given = sweep(differences)
    runs = [run.model_copy(update={"wall_seconds": seconds[run.arm]}) for run in given["runs"]]
    (found,) = compare(**{**given, "runs": runs}, declared=DECLARED, metrics=[LC])
    return found, runs


# Between settings the variance is 1 and between seeds 8, nothing is left for the runs (by hand: rows 0 1 2 + 0 4).
ADDITIVE = [[0.0, 4.0], [1.0, 5.0], [2.0, 6.0]]


def test_the_dominating_component_leads() -> None:
    """Seeds differ most, so a seed comes first; errors and costs by hand."""
    found, runs = example(ADDITIVE, {"dpo": 1800.0, "adadpo": 5400.0})
    steps, reason = advise(found, runs=runs, declared=DECLARED, prompts=100)
    assert reason is None
    assert steps is not None
    assert steps.standard_error == pytest.approx((1 / 3 + 8 / 2) ** 0.5)
    assert [step.action for step in steps.steps[:2]] == ["seed", "setting"]
    assert steps.steps[0].cost == pytest.approx(3 * (0.5 + 1.5))  # a pair at each of 3 settings
    assert steps.steps[0].standard_error == pytest.approx((1 / 3 + 8 / 3) ** 0.5)
    assert steps.warning is not None  # 3 settings cannot reach .05


def test_costs_that_are_not_known() -> None:
    """Runs without wall times against steps without a cost, with the reason."""
    found, runs = example(ADDITIVE, {"dpo": None, "adadpo": 5400.0})
    steps, _ = advise(found, runs=runs, declared=DECLARED)
    assert steps is not None
    assert steps.steps[0].cost is None
    assert steps.steps[0].reason == "its cost is not known"


def test_one_seed_tells_nothing() -> None:
    """A single seed against no advice and the reason."""
    found, runs = example([[1.0], [2.0]], {"dpo": 1.0, "adadpo": 1.0})
    steps, reason = advise(found, runs=runs, declared=DECLARED)
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
    found, runs = example(rows, {"dpo": 1.0, "adadpo": 1.0})
    steps, _ = advise(found, runs=runs, declared=DECLARED)
    assert found.test is not None
    assert found.test.n == 6
    assert steps is not None
    assert steps.warning is None


@pytest.mark.parametrize(("shared", "part"), [(0.5, 0.5), (-0.1, 0.0)])
def test_prompts_count_where_their_part_is_known(shared: float, part: float) -> None:
    """The guard's part of 50 prompts, by hand: it is in the error now, and 100 more prompts leave a third of it."""
    found, runs = example(ADDITIVE, {"dpo": 1800.0, "adadpo": 5400.0})
    assert found.inference is not None
    assert found.inference.guard is not None
    prompts = PromptPart(prompts=50, shared=shared, total=2.0, draws=2000)
    guard = found.inference.guard.model_copy(update={"prompt": prompts})
    known = found.model_copy(update={"inference": found.inference.model_copy(update={"guard": guard})})
    steps, _ = advise(known, runs=runs, declared=DECLARED)
    assert steps is not None
    assert steps.standard_error == pytest.approx((1 / 3 + 8 / 2 + part) ** 0.5)
    (more,) = [step for step in steps.steps if step.action == "prompts"]
    assert more.amount == 100
    assert more.standard_error == pytest.approx((1 / 3 + 8 / 2 + part / 3) ** 0.5)

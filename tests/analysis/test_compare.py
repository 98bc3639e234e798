import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adadpo.errors import TableError
from analysis.inference.intervals import hodges_lehmann
from analysis.inference.signed_rank import signed_rank_test
from analysis.results.model import SeedValue
from tests.analysis.analysis_examples import DECLARED, KL, LC, LENGTH, analyse, compare, run, sweep


def test_the_unit_is_the_setting() -> None:
    """The test and the estimate against those of seed-averaged differences, computed by hand."""
    (comparison,) = compare(
        **sweep([[1, 3], [2, 2], [-1, 0], [4, 5], [0, 1], [3, 3]]), declared=DECLARED, metrics=[LC]
    )
    d = [2, 2, -0.5, 4.5, 0.5, 3]
    assert [k.mean for k in comparison.differences] == d
    assert [k.n for k in comparison.differences] == [2] * 6
    assert comparison.differences[0].sd == pytest.approx(2**0.5)
    assert comparison.test == signed_rank_test(d)
    assert comparison.estimate == hodges_lehmann(d)
    assert (comparison.won, comparison.tied, comparison.lost) == (5, 0, 1)
    assert comparison.sign_p_value == pytest.approx(14 / 64)  # 2 (C(6, 0) + C(6, 1)) / 2^6
    # Ranks of -.5 and .5 are 1.5 each, so W- = 1.5 of 21.
    assert comparison.rank_biserial == pytest.approx((19.5 - 1.5) / 21)
    assert comparison.missing_pairs == []
    assert comparison.confirmatory


def test_missing_runs() -> None:
    """Means over complete pairs only, a setting without any left out, and every missing pair listed."""
    (comparison,) = compare(
        **sweep([[1, "diverged"], ["failed", "running"], [2, 4]]), declared=DECLARED, metrics=[LC]
    )
    assert [(k.n, k.mean) for k in comparison.differences] == [(1, 1), (0, None), (2, 3)]
    assert comparison.differences[0].values == [SeedValue(seed=0, value=1), SeedValue(seed=1, value=None)]
    assert comparison.differences[0].sd is None
    assert comparison.test is not None
    assert comparison.test.n == 2
    assert comparison.missing_pairs == [
        "beta=0, seed 1: adadpo diverged",
        "beta=1, seed 0: adadpo failed",
        "beta=1, seed 1: adadpo is still running",
    ]


def test_a_metric_that_no_run_has() -> None:
    """A metric without values against a comparison without a test, with the reason."""
    primary, kl = compare(**sweep([[1, 2]]), declared=DECLARED, metrics=[KL, LC])
    assert primary.metric == LC.name  # the primary comes first
    assert (kl.test, kl.estimate, kl.rank_biserial, kl.sign_p_value) == (None, None, None, None)
    assert kl.test_reason == "no setting has a complete pair of KL values"
    assert kl.missing_pairs[0] == "beta=0, seed 0: dpo has no kl and adadpo has no kl"
    assert (kl.won, kl.tied, kl.lost, kl.confirmatory) == (0, 0, 0, False)


def test_wins_follow_the_better_direction() -> None:
    """Settings won on a metric that is better when lower, and on one without direction, against the signs."""
    declared = DECLARED.model_copy(update={"primary": "kl", "alternative": "less"})
    example = sweep([[-1.0], [-2.0], [3.0], [1e-12]], metric="kl")
    (comparison,) = compare(**example, declared=declared, metrics=[KL])
    assert (comparison.won, comparison.tied, comparison.lost) == (2, 1, 1)
    assert comparison.test is not None
    assert comparison.test.alternative == "less"
    assert comparison.test.zeros == 1  # 1e-12 is noise at 9 decimals
    length = compare(
        **sweep([[-1.0], [-2.0], [3.0]], metric="length"), declared=DECLARED, metrics=[LC, LENGTH]
    )[1]
    assert (length.won, length.lost) == (1, 2)


def test_direction_and_level_are_the_declared_ones() -> None:
    """alternative against the primary only, alpha against the level of every interval."""
    declared = DECLARED.model_copy(update={"alternative": "greater", "alpha": 0.1})
    example = sweep([[1.0], [2.0], [3.0], [4.0], [5.0]])
    for row in example["runs"]:
        row.metrics["kl"] = row.metrics[LC.name]
    lc, kl = compare(**example, declared=declared, metrics=[LC, KL])
    assert lc.test is not None
    assert kl.test is not None
    assert (lc.test.p_value, kl.test.p_value) == (1 / 32, 2 / 32)
    assert lc.estimate is not None
    assert (lc.estimate.confidence, lc.estimate.low, lc.estimate.high) == (0.9, 1, 5)


def test_a_changed_declaration_is_exploratory() -> None:
    """The primary of a declaration that changed against confirmatory = False."""
    (comparison,) = compare(
        **sweep([[1, 2]]), declared=DECLARED, metrics=[LC], declaration_changed=["rope: 1.0 -> 3.0"]
    )
    assert not comparison.confirmatory


def test_unusable_declarations() -> None:
    """Declared names that do not exist, and runs that are not planned, against errors that list the
    choices."""
    example = sweep([[1, 2]])
    for change, message in [
        ({"candidate": "simpo"}, "candidate 'simpo' is not an arm; arms: dpo, adadpo"),
        ({"baseline": "adadpo"}, "the same arm"),
        ({"primary": "x"}, "primary 'x' is not a metric; metrics: length_controlled_win_rate, kl"),
    ]:
        with pytest.raises(ValueError, match=message):
            compare(**example, declared=DECLARED.model_copy(update=change), metrics=[LC, KL])
    with pytest.raises(ValueError, match="two metrics have one name"):
        compare(**example, declared=DECLARED, metrics=[LC, LC])
    with pytest.raises(TableError, match="seed 7 is not planned"):
        compare(
            **example | {"runs": [*example["runs"], run("dpo", "beta=0", 7, {})]},
            declared=DECLARED,
            metrics=[LC],
        )


def test_analysis_is_complete_and_serialises() -> None:
    """Cells, comparisons and verdict of a sweep against its plan, and JSON against the value it came from."""
    result = analyse(**sweep([[1, 2], [3, "diverged"]]), declared=DECLARED, metrics=[LC, KL])
    assert len(result.cells) == 2 * 2 * 2
    assert [c.metric for c in result.comparisons] == [LC.name, "kl"]
    assert result.verdict_kind == "untestable"
    assert (
        "1 of 4 pairs is missing (1 adadpo run diverged; the result describes the runs that did not diverge)"
        in result.verdict
    )
    for block in result.blocks:
        assert type(block).model_validate_json(block.model_dump_json()) == block


@given(st.lists(st.lists(st.integers(-8, 8), min_size=2, max_size=2), min_size=1, max_size=8))
@settings(deadline=None, max_examples=60)
def test_swapping_the_arms(differences: list[list[float]]) -> None:
    """The comparison with baseline and candidate exchanged against the mirror image."""
    example = sweep(differences)
    (ours,) = compare(**example, declared=DECLARED, metrics=[LC])
    exchanged = DECLARED.model_copy(update={"baseline": "adadpo", "candidate": "dpo"})
    (theirs,) = compare(**example, declared=exchanged, metrics=[LC])
    assert ours.test is not None
    assert theirs.test is not None
    assert (ours.won, ours.tied, ours.lost) == (theirs.lost, theirs.tied, theirs.won)
    assert ours.test.p_value == theirs.test.p_value
    assert ours.estimate is not None
    assert theirs.estimate is not None
    assert ours.estimate.estimate == -theirs.estimate.estimate

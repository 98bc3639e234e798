"""The paper's claims beside a sweep's own, and the settings by the values of an axis."""

from __future__ import annotations

from itertools import product

import pytest
from scipy.stats import binomtest, wilcoxon

from analysis.grid.best_setting import grid_best
from analysis.grid.paper_claims import paper_claims
from analysis.results.model import Claim, Comparison, Metric, PaperClaims, RunRow
from analysis.statistics import groups as setting_groups
from analysis.statistics.groups import SettingGroup
from analysis.study import make_study
from tests.analysis.analysis_examples import DECLARED, LC, compare, run, sweep
from tests.analysis.judged_runs import SEEDS, judged

METRICS = [
    LC,
    LC.model_copy(update={"name": "win_rate", "label": "Win rate"}),
    LC.model_copy(update={"name": "lc_minus_wr", "label": "Margin"}),
]


def claims(
    comparisons: list[Comparison], rows: list[RunRow], names: list[str]
) -> dict[tuple[str, str | None], Claim]:
    bests = [
        grid_best(rows, metric=each, candidate="adadpo", baseline="dpo", settings=names, seeds=SEEDS)
        for each in METRICS[:2]
    ]
    found = paper_claims(
        comparisons, [best for best in bests if best is not None], declared=DECLARED, measured_for="a model"
    )
    assert PaperClaims.model_validate_json(found.model_dump_json()) == found
    assert "No share is evidence of a difference by itself" in found.warning
    return {(each.name, each.arm): each for each in found.claims}


def test_claims_of_a_sweep() -> None:
    """Shares against a count with scipy's exact interval, bests against the table, published ones against the paper."""
    _, rows, names = judged(settings=5)
    found = compare(
        runs=rows, declared=DECLARED, metrics=METRICS, settings=names, seeds=SEEDS, arms=["dpo", "adadpo"]
    )
    ours = claims(found, rows, names)
    for name, metric, published in (
        ("share_higher_lc", "length_controlled_win_rate", 81.0),
        ("share_larger_margin", "lc_minus_wr", 88.0),
    ):
        values = {(r.arm, r.setting, r.seed): r.metrics[metric] for r in rows}
        higher = sum(
            sum(values["adadpo", name, s] - values["dpo", name, s] for s in SEEDS) > 0 for name in names
        )
        interval = binomtest(higher, 5).proportion_ci(method="exact")
        claim = ours[name, None]
        assert (claim.count, claim.settings, claim.published, claim.unit) == (higher, 5, published, "%")
        assert claim.ours is not None
        assert (claim.ours.estimate, claim.ours.low, claim.ours.high) == pytest.approx(
            (20 * higher, 100 * interval.low, 100 * interval.high)
        )
    assert {key: each.published for key, each in ours.items() if each.arm} == {
        ("best_lc", "adadpo"): 48.3, ("best_lc", "dpo"): None, ("best_wr", "adadpo"): 46.1, ("best_wr", "dpo"): None,
    }  # fmt: skip
    # Without judgements of single prompts a best has no uncertainty, so it is no estimate.
    best = ours["best_lc", "adadpo"]
    assert best.ours is None
    assert best.reason == "there are no judgements of single prompts"
    assert best.naive is not None


def test_claims_without_results() -> None:
    """Nothing is done: every claim has a reason and no number of ours."""
    _, rows, names = judged(settings=2)
    waiting = [row.model_copy(update={"state": "waiting"}) for row in rows]
    found = compare(
        runs=waiting, declared=DECLARED, metrics=METRICS, settings=names, seeds=SEEDS, arms=["dpo", "adadpo"]
    )
    for claim in claims(found, waiting, names).values():
        assert (claim.ours, claim.naive, claim.count) == (None, None, None)
        assert claim.reason


def of_losses(gains: dict[str, list[float]]) -> tuple[list[RunRow], list[str]]:
    """One setting per loss and position in `gains`, two seeds, the candidate better by that much."""
    rows, names = [], []
    for loss, of_loss in gains.items():
        for k, gain in enumerate(of_loss):
            names.append(f"loss={loss} rate={k}")
            for arm, seed in product(("dpo", "adadpo"), (0, 1)):
                value = 50 + 3 * k + seed + (gain if arm == "adadpo" else 0)
                one = run(arm, names[-1], seed, {LC.name: value})
                rows.append(one.model_copy(update={"hyperparameters": {"loss": loss, "rate": k}}))
    return rows, names


def groups(
    rows: list[RunRow], names: list[str], axes: dict[str, list[str | int]], metric: Metric = LC
) -> list[SettingGroup]:
    declared = DECLARED.model_copy(update={"primary": metric.name})
    study = make_study(
        runs=rows,
        declared=declared,
        metrics=[metric],
        settings=names,
        seeds=[0, 1],
        arms=["dpo", "adadpo"],
        axes=axes,
    )
    return setting_groups.make(study).value or []


def test_groups_by_the_loss() -> None:
    """Means, tests and adjusted p of each loss against scipy and a calculation by hand; numbers make no groups."""
    gains = {
        "simpo": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
        "ipo": [-1.0, 2.0, 0.5, 3.0, -0.2, 1.5, 4.0],
        "cpo": [1.0, 2.0],
    }
    rows, names = of_losses(gains)
    found = groups(rows, names, {"loss": ["simpo", "ipo", "cpo"], "rate": [0, 1, 2, 3, 4, 5, 6]})
    assert [(each.axis, each.value, each.n) for each in found] == [
        ("loss", "simpo", 7),
        ("loss", "ipo", 7),
        ("loss", "cpo", 2),
    ]
    p = []
    for each in found:
        d = gains[str(each.value)]
        n = len(d)
        assert each.settings == [name for name in names if f"={each.value} " in name]
        assert each.mean == pytest.approx(sum(d) / n)
        assert each.baseline == pytest.approx(50.5 + 3 * (n - 1) / 2)
        assert each.candidate == pytest.approx(50.5 + 3 * (n - 1) / 2 + sum(d) / n)
        assert (each.won, each.lost) == (sum(x > 0 for x in d), sum(x < 0 for x in d))
        assert each.test is not None
        p.append(each.test.p_value)
        assert p[-1] == pytest.approx(wilcoxon(d, method="exact").pvalue)
    # Benjamini-Hochberg over three groups, the untestable one with a p of 1: 3 p / 1, then 3 p / 2.
    assert [each.adjusted for each in found] == [pytest.approx(3 * p[0]), pytest.approx(3 * p[1] / 2), None]
    assert [each.reason for each in found] == [
        None,
        None,
        "not testable: with 2 settings the smallest p is 0.5",
    ]


def test_groups_where_lower_is_better_and_where_nothing_is_paired() -> None:
    """A metric to be minimised counts its wins below 0; a group without a pair says so; one value makes no group."""
    rows, names = of_losses({"simpo": [1.0, -2.0], "ipo": [-1.0, -1.0]})
    lower = LC.model_copy(update={"higher_is_better": False})
    found = groups(rows, names, {"loss": ["simpo", "ipo"]}, lower)
    assert [(each.won, each.lost) for each in found] == [(1, 1), (2, 0)]
    failed = [row.model_copy(update={"state": "failed"}) if "ipo" in row.setting else row for row in rows]
    assert groups(failed, names, {"loss": ["simpo", "ipo"]})[1].reason == "no setting has a complete pair"
    assert groups(rows, names, {"loss": ["simpo"]}) == []
    plain = sweep([[1.0], [2.0]])
    assert groups(plain["runs"], plain["settings"], {"beta": [0.1, 0.2]}) == []

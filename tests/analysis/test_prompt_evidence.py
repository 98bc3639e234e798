"""Intervals over prompts, bests of the grid and flipped prompts of a sweep, against brute force and closed forms."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.alpaca_eval.length_control import fit_length_control, lc_data
from analysis.grid.best_setting import Drawn, grid_best, grid_scores
from analysis.prompts.bootstrap import draw_prompts, prompt_bootstrap, weighted_length_controlled
from analysis.prompts.flipped_prompts import flipped_prompts
from analysis.prompts.prompt_level import prompt_level
from analysis.results.model import FlippedPrompts, GridBest, Metric, PromptLevel, RunRow
from tests.analysis.judged_runs import DECLARED, SEEDS, judged

LC = Metric(
    name="length_controlled_win_rate",
    label="LC win rate",
    unit="points",
    decimals=1,
    higher_is_better=True,
    attainable=(0.0, 100.0),
)
WR = LC.model_copy(update={"name": "win_rate", "label": "Win rate"})


def intervals(runs: dict[str, Any], rows: list[RunRow], names: list[str], **changed: str) -> PromptLevel:
    draws = prompt_bootstrap(runs, rng=np.random.default_rng(0), replicates=2000)
    found, reason = prompt_level(
        draws, rows, declared=DECLARED.model_copy(update=changed), settings=names, seeds=SEEDS
    )
    assert found is not None, reason
    assert PromptLevel.model_validate_json(found.model_dump_json()) == found
    return found


def test_errors_of_win_rates_over_prompts() -> None:
    """Difference and standard error of WR against the mean and 100 sd / sqrt(n) of the paired differences."""
    runs, rows, names = judged()
    found = intervals(runs, rows, names, primary="win_rate")
    assert [each.setting for each in found.settings] == names
    assert [(each.setting, each.seed) for each in found.pairs] == list(product(names, SEEDS))
    assert (found.prompts, found.replicates, found.confidence) == (60, 2000, 0.95)
    for k, each in enumerate(found.settings):
        d = np.mean(
            [
                [
                    a["preference"] - b["preference"]
                    for a, b in zip(runs[f"adadpo-{k}-{s}"], runs[f"dpo-{k}-{s}"], strict=True)
                ]
                for s in SEEDS
            ],
            axis=0,
        )
        assert each.estimate == pytest.approx(100 * d.mean())
        assert each.standard_error == pytest.approx(100 * d.std() / 60**0.5, rel=0.06)
        assert each.low is not None
        assert each.high is not None
        assert each.low < each.estimate < each.high
        assert each.estimate == pytest.approx(
            np.mean([pair.estimate for pair in found.pairs if pair.setting == each.setting])
        )


def test_swapping_the_arms_negates_the_intervals() -> None:
    """LC intervals with candidate and baseline swapped against the negated ones, p unchanged."""
    runs, rows, names = judged()
    there = intervals(runs, rows, names)
    back = intervals(runs, rows, names, baseline="adadpo", candidate="dpo")
    for a, b in zip(there.settings + there.pairs, back.settings + back.pairs, strict=True):
        assert (a.estimate, a.low, a.high) == pytest.approx((-b.estimate, -b.high, -b.low))
        assert a.p_value == pytest.approx(b.p_value)


def test_runs_that_do_not_count() -> None:
    """A run without judgements: its pair is left out, its setting is over the other seed; then over none."""
    runs, rows, names = judged()
    without = {name: run for name, run in runs.items() if name != "dpo-1-0"}
    found = intervals(without, rows, names)
    assert [(each.setting, each.seed) for each in found.pairs if each.setting == names[1]] == [(names[1], 1)]
    of_setting = next(each for each in found.settings if each.setting == names[1])
    assert of_setting.estimate == next(each for each in found.pairs if each.setting == names[1]).estimate
    baselines = {name: run for name, run in runs.items() if name.startswith("dpo")}
    draws = prompt_bootstrap(baselines, rng=np.random.default_rng(0), replicates=10)
    assert prompt_level(draws, rows, declared=DECLARED, settings=names, seeds=SEEDS) == (
        None,
        "no setting has a complete pair of judged runs",
    )
    kl = DECLARED.model_copy(update={"primary": "kl"})
    assert (
        prompt_level(draws, rows, declared=kl, settings=names, seeds=SEEDS)[1]
        == "kl is not a mean over prompts"
    )


@pytest.mark.parametrize("metric", ["length_controlled_win_rate", "win_rate"])
def test_scores_under_weights(metric: Any) -> None:
    """Settings under drawn weights against the replicates of the prompt bootstrap with the same draws."""
    runs, _, _ = judged(settings=2)
    groups = [["dpo-0-0", "dpo-0-1"], ["adadpo-1-1"]]
    draws = np.random.default_rng(5).multinomial(60, np.full(60, 1 / 60), size=70).astype(float)
    boot = prompt_bootstrap(runs, rng=np.random.default_rng(5), replicates=70)
    expected = np.column_stack(
        [
            np.mean([boot.replicates[metric][boot.runs.index(name)] for name in names], axis=0)
            for names in groups
        ]
    )
    assert grid_scores(runs).score(groups, metric)(draws) == pytest.approx(expected, rel=1e-9)


def test_scores_out_of_bag() -> None:
    """LC on prompts of weight 0 or 1 against the scalar fit to those annotations alone."""
    runs, _, _ = judged(settings=1)
    weights = (np.random.default_rng(2).random((5, 60)) < 0.4).astype(float)
    found = grid_scores(runs).score([["adadpo-0-0"]], "length_controlled_win_rate")(weights)
    for row, value in zip(weights, found[:, 0], strict=True):
        kept = [one for one, weight in zip(runs["adadpo-0-0"], row, strict=True) if weight]
        assert value == pytest.approx(
            fit_length_control(lc_data(kept, None), None).length_controlled_win_rate
        )


def best(runs: Any, rows: list[RunRow], names: list[str], metric: Metric = LC, **options: Any) -> GridBest:
    scores = None if runs is None else grid_scores(runs)
    found = grid_best(
        rows, metric=metric, candidate="adadpo", baseline="dpo", settings=names, seeds=SEEDS, scores=scores, **options
    )  # fmt: skip
    assert found is not None
    assert GridBest.model_validate_json(found.model_dump_json()) == found
    return found


def test_draws_that_are_known_are_not_fitted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bootstrap of the same draws the values are the same and less is fitted; other draws are no use."""
    runs, _, _ = judged(settings=2)
    groups = [["dpo-0-0", "dpo-0-1"], ["adadpo-1-1"]]
    boot = prompt_bootstrap(runs, rng=np.random.default_rng(5), replicates=200)
    weights = draw_prompts(60, 150, np.random.default_rng(5))
    fitted: list[int] = []

    def counted(data: Any, counts: Any, *more: Any) -> Any:
        fitted.append(len(counts))
        return weighted_length_controlled(data, counts, *more)

    monkeypatch.setattr("analysis.grid.best_setting.weighted_length_controlled", counted)

    def scored(drawn: Drawn | None) -> tuple[Any, int]:
        fitted.clear()
        score = grid_scores(runs, drawn=drawn).score(groups, "length_controlled_win_rate")
        return score(weights).tolist(), sum(fitted)

    def same_draws(number: int) -> Drawn:
        return Drawn(draw_prompts(60, number, np.random.default_rng(5)), boot)

    plain, fits = scored(None)
    assert fits == 3 * 150
    values, fits = scored(same_draws(200))
    assert fits == 0
    np.testing.assert_allclose(values, plain, rtol=1e-9)
    values, fits = scored(same_draws(100))
    assert fits == 3 * 50
    np.testing.assert_allclose(values, plain, rtol=1e-9)
    assert scored(Drawn(draw_prompts(60, 200, np.random.default_rng(6)), boot)) == (plain, 3 * 150)


@pytest.mark.parametrize("is_drawn", [False, True])
def test_wanted_values_alone(is_drawn: bool) -> None:
    """What is wanted against the same places of everything, and NaN elsewhere; a run without LC has none."""
    runs, _, _ = judged(settings=2)
    runs["dpo-1-1"] = [{**one, "output_2": one["output_1"]} for one in runs["dpo-1-1"]]
    groups = [["dpo-0-0", "dpo-0-1"], ["adadpo-1-1"], ["adadpo-0-0", "dpo-1-1"]]
    boot = prompt_bootstrap(runs, rng=np.random.default_rng(5), replicates=30)
    drawn = Drawn(draw_prompts(60, 30, np.random.default_rng(5)), boot) if is_drawn else None
    weights = (draw_prompts(60, 40, np.random.default_rng(7)) == 0).astype(float)
    score = grid_scores(runs, drawn=drawn).score(groups, "length_controlled_win_rate")
    wanted = np.random.default_rng(0).random((40, 3)) < 0.4
    expected = np.where(wanted, score(weights), np.nan)
    assert np.isnan(expected[:, 2]).all()
    assert (~np.isnan(expected)).sum() > 20
    np.testing.assert_allclose(score(weights, wanted), expected, rtol=1e-9)


def test_the_naive_best_is_the_best_mean() -> None:
    """Naive bests against the largest mean over seeds in the table, with prompts and without them."""
    runs, rows, names = judged(settings=4, gains={"dpo": [0, 0.5, 0, 0], "adadpo": [0, 0, 1.5, 0]})
    for found in (best(runs, rows, names, draws=50), best(None, rows, names)):
        for arm, side in (("adadpo", found.bests.candidate), ("dpo", found.bests.baseline)):
            means = [
                np.mean([row.metrics[LC.name] for row in rows if (row.arm, row.setting) == (arm, name)])
                for name in names
            ]
            assert side.naive == pytest.approx(max(means), abs=1e-6)
            assert side.chosen == int(np.argmax(means))
            assert side.settings == 4
        assert found.candidate == found.baseline == names
        assert found.budgets is not None
        assert found.budgets.candidate[-1] < found.bests.candidate.naive
        assert not found.budgets.unequal
    assert best(None, rows, names).bests.corrected is None
    assert best(None, rows, names).bests.reason == "there are no judgements of single prompts"


def test_a_clear_best_needs_little_correction_and_equal_settings_need_much() -> None:
    """Corrected bests against the naive ones: below them, by more where settings differ by luck alone."""
    apart = {"dpo": [0.0] * 6, "adadpo": [0, 0, 0, 0, 0, 4.0]}
    runs, rows, names = judged(settings=6, gains=apart)
    found = best(runs, rows, names, metric=WR, draws=300).bests
    assert found.candidate.share_chosen[5] == 1
    assert found.candidate.corrected == pytest.approx(found.candidate.naive, abs=0.5)
    assert found.baseline.naive is not None
    assert found.baseline.corrected is not None
    assert found.baseline.naive - found.baseline.corrected > 0.5
    assert found.corrected == pytest.approx(found.candidate.corrected - found.baseline.corrected)


def test_diverged_settings_were_tried() -> None:
    """A setting of which every run diverged counts as 0 in the curve; one that has not run does not count."""
    _, rows, names = judged()
    lost = {("adadpo", names[0]): "diverged", ("dpo", names[2]): "waiting"}
    changed = [row.model_copy(update={"state": lost.get((row.arm, row.setting), "done")}) for row in rows]
    found = best(None, changed, names)
    assert found.worst_given == ["adadpo at beta=0"]
    assert (found.candidate, found.baseline) == (names[1:], names[:2])
    assert found.budgets is not None
    assert (len(found.budgets.candidate), len(found.budgets.baseline), found.budgets.unequal) == (3, 2, True)
    kept = [
        np.mean([row.metrics[LC.name] for row in rows if (row.arm, row.setting) == ("adadpo", name)])
        for name in names[1:]
    ]
    assert found.budgets.candidate[0] == pytest.approx(sum(kept) / 3)
    nothing = [row.model_copy(update={"state": "failed"}) for row in rows]
    assert (
        grid_best(nothing, metric=LC, candidate="adadpo", baseline="dpo", settings=names, seeds=SEEDS) is None
    )
    with pytest.raises(ValueError, match="neither direction"):
        best(None, rows, names, metric=LC.model_copy(update={"higher_is_better": None}))


def flips(preferences: dict[str, list[list[float | None]]], most: int = 5) -> FlippedPrompts | None:
    """Of preferences[arm][pair][prompt]; pairs are seeds of one setting."""
    pairs = range(len(preferences["dpo"]))
    runs = {
        f"{arm}{pair}": [
            {"instruction": f"prompt {k}", "output_1": "r", "output_2": f"{arm}{pair}", "preference": value}
            for k, value in enumerate(preferences[arm][pair])
        ]
        for arm, pair in product(preferences, pairs)
    }
    rows = [
        RunRow(
            run_id=f"{arm}{pair}",
            arm=arm,
            setting="s",
            hyperparameters={},
            seed=pair,
            state="done",
            metrics={},
        )
        for arm, pair in product(preferences, pairs)
    ]
    judged = {name: lc_data(run, None) for name, run in runs.items()}
    plan: dict[str, Any] = {"declared": DECLARED, "settings": ["s"], "seeds": list(pairs), "most": most}
    return flipped_prompts(judged, rows, lambda name: runs[name], **plan)


def test_flipped_prompts_by_hand() -> None:
    """Four prompts in two pairs, worked out by hand: order, counts, the pair shown and its outputs."""
    found = flips(
        {
            #            once to ada  twice to ada  twice to dpo  each way: no flip on balance
            "adadpo": [[2.0, 1.6, 1.0, 2.0], [2.0, 1.9, 1.2, 1.0]],
            "dpo": [[1.0, 1.4, 2.0, 1.0], [2.0, 1.0, 1.9, 2.0]],
        }
    )
    assert found is not None
    assert (found.prompts, found.pairs, found.n_to_candidate, found.n_to_baseline) == (4, 2, 2, 1)
    first, second = found.to_candidate
    assert (first.instruction, first.candidate_wins, first.baseline_wins, first.pairs) == (
        "prompt 1",
        2,
        0,
        2,
    )
    assert (first.seed, first.candidate_output, first.baseline_output) == (1, "adadpo1", "dpo1")
    assert (first.candidate_preference, first.baseline_preference, first.reference_output) == (1.9, 1.0, "r")
    assert first.mean_difference == pytest.approx((0.2 + 0.9) / 2)
    assert (second.instruction, second.candidate_wins, second.seed) == ("prompt 0", 1, 0)
    (other,) = found.to_baseline
    assert (other.instruction, other.baseline_wins, other.seed) == ("prompt 2", 2, 0)
    assert FlippedPrompts.model_validate_json(found.model_dump_json()) == found


def test_without_judgements_there_are_no_flips() -> None:
    """Preferences that are missing on one side of every pair, and no pair at all."""
    assert flips({"adadpo": [[None, 2.0]], "dpo": [[1.0, None]]}) is None
    assert flips({"adadpo": [], "dpo": []}) is None


PREFERENCE = st.sampled_from([1.0, 1.2, 1.5, 1.8, 2.0])


@given(st.data(), st.integers(1, 3), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_swapping_arms_swaps_the_flips(data: st.DataObject, pairs: int, prompts: int) -> None:
    """Both directions against each other with the arms swapped, and counts against a direct count."""
    table = st.lists(st.lists(PREFERENCE, min_size=prompts, max_size=prompts), min_size=pairs, max_size=pairs)
    ours, theirs = data.draw(table), data.draw(table)
    there, back = flips({"adadpo": ours, "dpo": theirs}), flips({"adadpo": theirs, "dpo": ours})
    assert there is not None
    assert back is not None
    assert [each.instruction for each in there.to_candidate] == [
        each.instruction for each in back.to_baseline
    ]
    assert [each.instruction for each in there.to_baseline] == [
        each.instruction for each in back.to_candidate
    ]
    net = [
        sum((ours[p][k] > 1.5 > theirs[p][k]) - (ours[p][k] < 1.5 < theirs[p][k]) for p in range(pairs))
        for k in range(prompts)
    ]
    assert (there.n_to_candidate, there.n_to_baseline) == (sum(n > 0 for n in net), sum(n < 0 for n in net))
    for each in there.to_candidate:
        assert each.candidate_wins - each.baseline_wins == net[int(each.instruction.split()[1])]

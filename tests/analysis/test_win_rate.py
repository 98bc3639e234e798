from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.alpaca_eval.win_rates import WinRate, win_rate

PREFERENCES = st.lists(
    st.one_of(st.floats(1, 2), st.sampled_from([0.0, 1.0, 1.5, 2.0])), min_size=2, max_size=30
)


def test_openhermes(alpaca_eval: Path) -> None:
    """OpenHermes-2.5-Mistral-7B's own file against the published leaderboard."""
    from analysis.alpaca_eval.annotations import read_annotations

    result = win_rate(read_annotations(alpaca_eval / "raw" / "OpenHermes-2.5-Mistral-7B.annotations.json.gz"))
    assert result.win_rate == pytest.approx(10.340415705751552, abs=1e-9)
    assert result.standard_error == pytest.approx(0.935655389929366, abs=1e-9)
    assert (result.n_wins, result.n_losses, result.n_draws, result.n_missing) == (75, 727, 3, 0)


def test_published_leaderboard(alpaca_eval: Path) -> None:
    """WR, SE and counts of 40 models against the published leaderboard."""
    published = pd.read_csv(alpaca_eval / "leaderboard.csv", index_col=0)
    annotations = pd.read_csv(alpaca_eval / "annotations.csv.gz")
    compared = 0
    for model, rows in annotations.groupby("model"):
        ours, theirs = win_rate(rows), published.loc[model]
        assert ours.win_rate == pytest.approx(theirs["win_rate"], abs=1e-9)
        assert ours.standard_error == pytest.approx(theirs["standard_error"], abs=1e-9)
        assert [ours.n_wins, ours.n_losses, ours.n_draws, ours.n] == [
            theirs[name] for name in ("n_wins", "n_wins_base", "n_draws", "n_total")
        ]
        compared += 1
    assert compared == 40


def test_every_input_gives_the_same() -> None:
    """Preferences, mappings, a DataFrame and an array against one another."""
    values = [1.0, 2.0, 1.75, 0.0]
    expected = win_rate(values)
    # By hand: (0 + 1 + .75 + .5) / 4.
    assert expected.win_rate == pytest.approx(56.25)
    assert win_rate([{"preference": v} for v in values]) == expected
    assert win_rate(pd.DataFrame({"preference": values})) == expected
    assert win_rate(np.array(values)) == expected


def test_undefined_is_none() -> None:
    """Too few preferences against None, which is never 0."""
    assert win_rate([]) == WinRate(
        win_rate=None, standard_error=None, n=0, n_wins=0, n_losses=0, n_draws=0, n_missing=0
    )
    one = win_rate([2.0, None, float("nan")])
    assert (one.win_rate, one.standard_error, one.n, one.n_missing) == (100.0, None, 1, 2)


@given(PREFERENCES)
@settings(deadline=None, max_examples=100)
def test_swapping_the_outputs_mirrors_the_win_rate(values: list[float]) -> None:
    """The win rate of swapped outputs against 100 minus the win rate, with the same standard error."""
    ours, swapped = win_rate(values), win_rate([3 - v if v else 0 for v in values])
    assert ours.win_rate is not None
    assert swapped.win_rate == pytest.approx(100 - ours.win_rate)
    assert swapped.standard_error == pytest.approx(ours.standard_error, abs=1e-9)
    assert ours.n_wins + ours.n_losses + ours.n_draws == ours.n == len(values)
    assert abs((swapped.n_wins - swapped.n_losses) + (ours.n_wins - ours.n_losses)) == 0

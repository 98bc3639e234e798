import math

import pandas as pd
import pytest

from adadpo.errors import TableError
from analysis.results.model import Cell, SeedValue
from analysis.results.table import (
    check_planned,
    index_runs,
    pair_by_setting,
    runs_from_frame,
    value_of,
)
from analysis.study import RunTable
from tests.analysis.analysis_examples import KL, LC, run

WHERE = {"metric": "lc", "baseline": "dpo", "candidate": "adadpo"}
SETTING = "beta=0.1 learning_rate=1e-05"


def test_pairs_are_joined_by_keys_not_by_position() -> None:
    """Pairs of shuffled runs against differences computed by hand."""
    runs = [
        run("adadpo", "b", 1, {"lc": 8}),
        run("dpo", "a", 0, {"lc": 1}),
        run("dpo", "b", 1, {"lc": 5}),
        run("adadpo", "a", 0, {"lc": 3}),
        run("dpo", "b", 0, {"lc": 2}),
        run("adadpo", "b", 0, {"lc": 1}),
        run("adadpo", "a", 1, {"lc": 2}),
        run("dpo", "a", 1, {"lc": 2}),
        run("simpo", "a", 1, {"lc": 99}),
    ]
    pairs = pair_by_setting(runs, settings=["a", "b"], seeds=[0, 1], **WHERE)
    assert [(p.setting, p.seed, p.difference) for p in pairs] == [
        ("a", 0, 2),
        ("a", 1, 0),
        ("b", 0, -1),
        ("b", 1, 3),
    ]
    assert {p.missing for p in pairs} == {None}


@pytest.mark.parametrize(
    ("state", "value", "text"),
    [
        ("diverged", None, "diverged"),
        ("diverged", 3.0, "diverged"),
        ("failed", None, "failed"),
        ("running", None, "is still running"),
        ("waiting", None, "has not run"),
        ("done", None, "has no lc"),
        ("done", math.nan, "has no lc"),
    ],
)
def test_missing_partners_are_named(state: str, value: float | None, text: str) -> None:
    """Every kind of missing partner against its description."""
    runs = [run("dpo", SETTING, 1, {"lc": 1}), run("adadpo", SETTING, 1, {"lc": value}, state)]
    (pair,) = pair_by_setting(runs, settings=[SETTING], seeds=[1], **WHERE)
    assert pair.missing == f"beta=0.1 learning_rate=1e-05, seed 1: adadpo {text}"
    assert (pair.baseline, pair.candidate, pair.difference) == (1, None, None)


def test_both_partners_missing() -> None:
    """A pair without any run against a description of both arms."""
    (pair,) = pair_by_setting([], settings=["a"], seeds=[0], **WHERE)
    assert pair.missing == "a, seed 0: dpo has no run and adadpo has no run"


def test_duplicate_and_unplanned_runs_are_errors() -> None:
    """Tables that would lose a run silently against TableError."""
    runs = [run("dpo", "a", 0, {"lc": 1})]
    with pytest.raises(TableError, match="two runs of dpo at a, seed 0: dpo-a-0 and dpo-a-0"):
        pair_by_setting(runs * 2, settings=["a"], seeds=[0], **WHERE)
    index = index_runs(runs)
    check_planned(index, ["dpo"], ["a"], [0])
    with pytest.raises(TableError, match="run dpo-a-0: seed 0 is not planned; seeds: 1, 2"):
        check_planned(index, ["dpo"], ["a"], [1, 2])
    with pytest.raises(TableError, match="arm 'dpo' is not planned; arms: x"):
        check_planned(index, ["x"], ["a"], [0])
    with pytest.raises(TableError, match="duplicate setting in the plan: a, a"):
        check_planned(index, ["dpo"], ["a", "a"], [0])


def test_cells() -> None:
    """Mean, SD and n of cells against values by hand; one seed has no SD, none has no mean."""
    values = {("dpo", 0): 1.0, ("dpo", 1): 2.0, ("dpo", 2): 6.0, ("adadpo", 1): 4.0}
    runs = [run(arm, "a", seed, {LC.name: value}) for (arm, seed), value in values.items()]
    cells = RunTable(runs, ["dpo", "adadpo"], ["a"], [0, 1, 2], [LC, KL]).cells()
    assert [(c.arm, c.metric, c.n, c.mean) for c in cells] == [
        ("dpo", LC.name, 3, 3),
        ("dpo", "kl", 0, None),
        ("adadpo", LC.name, 1, 4),
        ("adadpo", "kl", 0, None),
    ]
    assert cells[0].sd == pytest.approx(7**0.5)
    assert cells[2] == Cell(
        arm="adadpo",
        setting="a",
        metric=LC.name,
        values=[SeedValue(seed=0, value=None), SeedValue(seed=1, value=4), SeedValue(seed=2, value=None)],
        n=1,
        mean=4,
        sd=None,
    )


def test_frame() -> None:
    """Runs from a DataFrame against its rows; NaN is None."""
    frame = pd.DataFrame(
        {"arm": ["dpo", "adadpo"], "setting": ["a", "a"], "seed": [0, 0], "lc": [1.5, math.nan], "kl": [1, 2]}
    )
    dpo, adadpo = runs_from_frame(frame)
    assert (dpo.metrics, dpo.state, dpo.seed) == ({"lc": 1.5, "kl": 1}, "done", 0)
    assert (adadpo.metrics["lc"], adadpo.run_id) == (None, "adadpo | a | 0")
    (pair,) = pair_by_setting(frame, settings=["a"], seeds=[0], **WHERE | {"metric": "kl"})
    assert pair.difference == 1
    frame["state"], frame["run_id"] = ["diverged", "done"], ["x", "y"]
    assert value_of(runs_from_frame(frame)[0], "lc") is None
    assert runs_from_frame(frame)[1].run_id == "y"
    with pytest.raises(TableError, match="lacks seed; columns: arm, setting"):
        runs_from_frame(frame.drop(columns="seed"))
    with pytest.raises(TableError, match="dpo at a, seed 0: metrics must be numbers"):
        runs_from_frame(frame.assign(note="text"))

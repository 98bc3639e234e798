"""Words that select runs, against a plain filter over the runs' values: any words, for every verb the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adadpo.config import RunConfig, TrainSettings
from adadpo.errors import UserError
from adadpo.method.registry import make_method
from sweeps.config.filters import CAUSES, STATES, select_runs, value_of
from sweeps.state.run_table import find_runs
from sweeps.store.job import PlannedRun
from tests.sweeps.sweep_examples import adadpo, opened

BETAS = (0.01, 0.1, 1e-06, 5.0)
RATES = (1e-06, 5e-07, 0.001)


def planned(number: int, arm: str, beta: float, rate: float, seed: int) -> PlannedRun:
    config = RunConfig(
        model="m", data="d", heldout=None, method=make_method("dpo"), train=TrainSettings(), seed=seed
    )
    return PlannedRun(
        run_id=f"{number * 7919:016x}"[::-1],
        arm=arm,
        setting="",
        hyperparameters={"beta": beta, "learning_rate": rate, "gradient_checkpointing": seed == 0},
        config=config,
    )


RUNS = [
    planned(number, arm, beta, rate, seed)
    for number, (arm, beta, rate, seed) in enumerate(
        (arm, beta, rate, seed)
        for arm in ("dpo", "adadpo")
        for beta in BETAS
        for rate in RATES
        for seed in (0, 1, 2, 10)
    )
]


def state_of(run: PlannedRun) -> str:
    return STATES[int(run.run_id[:1], 16) % len(STATES)]


def cause_of(run: PlannedRun) -> str | None:
    return CAUSES[run.seed % len(CAUSES)] if state_of(run) == "failed" else None


def select(*words: str) -> list[PlannedRun]:
    return select_runs(RUNS, words, state=state_of, cause=cause_of, sweep="s")


def found(*words: str) -> list[PlannedRun]:
    """As `select`; nothing where no run fits."""
    try:
        return select(*words)
    except UserError as error:
        if not str(error).startswith("no run of s fits"):
            raise
        return []


numbers = st.sampled_from([*BETAS, *RATES, 0.5])
# The same number as people write it.
written = st.builds(
    lambda value, form: form(value),
    numbers,
    st.sampled_from([repr, "{:e}".format, "{:.9f}".format, "{:.3E}".format]),
)
words = st.one_of(
    st.builds("{}={}".format, st.sampled_from(["beta", "lr", "learning_rate"]), written),
    st.builds("{}={},{}".format, st.sampled_from(["beta", "lr"]), written, written),
    st.builds("seed={}..{}".format, st.integers(-1, 11), st.integers(-1, 11)),
    st.builds("beta={}..".format, written),
    st.builds("arm={}".format, st.sampled_from(["dpo", "adadpo", "adadpo,dpo", "ada"])),
    st.builds("state:{}".format, st.sampled_from(STATES)),
    st.builds("cause:{}".format, st.sampled_from([*CAUSES, "oom"])),
    st.builds("gradient_checkpointing={}".format, st.sampled_from(["true", "false"])),
    st.builds("{:x}".format, st.integers(0, 300)),
)


def holds(word: str, run: PlannedRun) -> bool:
    """The words' meaning, written a second time and plainly."""
    for prefix, mine in (("state:", state_of(run)), ("cause:", cause_of(run))):
        if word.startswith(prefix):
            return mine == word.removeprefix(prefix).replace("oom", "out of memory")
    if "=" not in word:
        return run.run_id.startswith(word)
    axis, text = word.split("=")
    value: Any = value_of(run, axis.replace("lr", "learning_rate"))
    if ".." in text:
        low, high = text.split("..")
        return (float(low) if low else -math.inf) <= value <= (float(high) if high else math.inf)
    if isinstance(value, bool):
        return value == (text == "true")
    return value in [part if isinstance(value, str) else float(part) for part in text.split(",")]


def means_nothing(word: str) -> bool:
    """A value, range or id that no run of the sweep has: such a word is refused, whatever stands beside it."""
    if ":" in word:
        return False
    axis, equal, texts = word.partition("=")
    return not all(any(holds(f"{axis}{equal}{text}", run) for run in RUNS) for text in texts.split(","))


@given(st.lists(words, max_size=4))
def test_every_word_must_hold(chosen: list[str]) -> None:
    """Against `holds`; also in another order, and the order of the plan stays."""
    assume(not any(map(means_nothing, chosen)))
    expected = [run for run in RUNS if all(holds(word, run) for word in chosen)]
    assert found(*chosen) == expected
    assert found(*reversed(chosen)) == expected


@given(words, st.lists(words, max_size=2))
def test_not_is_the_rest(word: str, more: list[str]) -> None:
    """A word and its negation share no run and leave none out; one that means nothing is refused either way."""
    assume(not any(map(means_nothing, more)))
    if means_nothing(word):
        for either in (word, f"!{word}"):
            with pytest.raises(UserError, match="no run of s fits"):
                select(either, *more)
        return
    yes, no = found(word, *more), found(f"!{word}", *more)
    assert sorted([*yes, *no], key=RUNS.index) == found(*more)
    assert not {run.run_id for run in yes} & {run.run_id for run in no}


@given(st.sampled_from(RUNS))
def test_a_run_is_found_by_what_it_is(run: PlannedRun) -> None:
    """All its values together are it alone, and so is its id."""
    values = (f"{axis}={value_of(run, axis)}" for axis in ("arm", "beta", "learning_rate", "seed"))
    assert select(*values) == [run]
    assert select(run.run_id) == [run]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("bta=0.1", "unknown axis 'bta' in 'bta=0.1'; did you mean 'beta'?"),
        ("zzz=0.1", "choose from arm, seed, beta, learning_rate, gradient_checkpointing, lr"),
        ("state:fail", "unknown state 'fail'; did you mean 'failed'?"),
        ("!cause:gremlins", "unknown cause 'gremlins'; choose from out of memory, node"),
        ("kind:bug", "unknown selector 'kind:bug': 'kind'; choose from state, cause, or axis=value"),
        ("seed=a..b", "'seed=a..b': a range is two numbers, e.g. seed=0..2"),
        ("!", "'!' selects nothing"),
        ("beta=7", "no run of s fits 'beta=7' (beta: 0.01, 0.1, 1e-06, 5.0)"),
        ("zzz", "no run of s fits 'zzz'; choose from "),
        ("!beta=7", "no run of s fits 'beta=7' (beta: "),
        ("lr=1e-6,7", "no run of s fits 'lr=7' (learning_rate: "),
        ("arm=dpo,nobody", "no run of s fits 'arm=nobody' (arm: "),
        ("!seed=77..88", "no run of s fits 'seed=77..88' (seed: "),
        ("!zzz", "no run of s fits 'zzz'; choose from "),
    ],
)
def test_words_that_mean_nothing_are_refused(word: str, message: str) -> None:
    """With the choices."""
    with pytest.raises(UserError) as caught:
        select(word)
    assert message in str(caught.value)


def test_every_verb_understands_them(finished: Path, small: Path) -> None:
    """The same unknown word is refused by each verb in the same words, and nothing is changed."""
    for verb in ("status", "logs", "why", "cancel", "retry", "judge", "audit"):
        answer = adadpo(verb, small, "betta=0.1", "--store", finished)
        assert (answer.code, answer.err.partition(";")[0]) == (
            2,
            "adadpo: unknown axis 'betta' in 'betta=0.1'",
        ), verb
    sweep = opened(small, finished)
    assert [run.seed for run in find_runs(sweep, ["beta=5e-2", "!arm=dpo", "state:done"])] == [0, 1]

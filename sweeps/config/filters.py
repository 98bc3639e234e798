"""Which runs a command means, in words that are the same for every verb.

`beta=0.01 '!lr=1e-6' arm=dpo,adadpo seed=0..2 state:failed cause:oom 3fa9`: every word must hold; a comma is "or", `!`
is "not", a word without `=` or `:` is the beginning of a run's id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

from adadpo.errors import UserError, suggest
from analysis.results.values import State
from sweeps.failures.causes import CAUSE_ALIASES, Cause
from sweeps.store.job import PlannedRun

AXIS_ALIASES = {"lr": "learning_rate"}
STATES = tuple(state.value for state in State)
CAUSES = get_args(Cause)
KEYS = ("state", "cause")

Value = float | int | str | bool | None
Test = Callable[[PlannedRun], bool]


def select_runs(
    runs: Sequence[PlannedRun],
    words: Sequence[str],
    *,
    state: Callable[[PlannedRun], str],
    cause: Callable[[PlannedRun], str | None],
    sweep: str,
) -> list[PlannedRun]:
    """The runs for which every word holds, in the order of the plan.

    Args:
        runs: of the sweep.
        words: see the head of this module.
        state: a run's state as `adadpo status` shows it; asked only where a word needs it.
        cause: of a run's failure; None where it has none.
        sweep: its name, for messages.

    Raises:
        UserError: an unknown axis, value, state, cause or id, a malformed range, or words that no run fits.
    """
    tests = [_test(word, runs, state, cause, sweep) for word in words]
    found = [run for run in runs if all(test(run) for test in tests)]
    if not found:
        raise UserError(f"no run of {sweep} fits {' '.join(words)!r}")
    return found


def _test(
    word: str,
    runs: Sequence[PlannedRun],
    state: Callable[[PlannedRun], str],
    cause: Callable[[PlannedRun], str | None],
    sweep: str,
) -> Test:
    body = word.removeprefix("!")
    if not body:
        raise UserError(f"{word!r} selects nothing: give axis=value, state:NAME, cause:NAME or a run's id")
    if "=" in body:
        holds = _axis_test(body, runs, sweep)
    elif ":" in body:
        key, _, names = body.partition(":")
        if key not in KEYS:
            raise UserError(f"unknown selector {word!r}: {key!r}{suggest(key, KEYS)}, or axis=value")
        known = {"state": STATES, "cause": CAUSES}[key]
        wanted = {_name(name, key, known) for name in names.split(",")}
        of: Callable[[PlannedRun], str | None] = state if key == "state" else cause

        def holds(run: PlannedRun) -> bool:
            return of(run) in wanted
    else:
        if not any(run.run_id.startswith(body) for run in runs):
            near = suggest(body, [run.run_id for run in runs][:5])
            raise UserError(f"no run of {sweep} fits {body!r}{near}")

        def holds(run: PlannedRun) -> bool:
            return run.run_id.startswith(body)

    return (lambda run: not holds(run)) if word.startswith("!") else holds


def _name(name: str, key: str, known: Sequence[str]) -> str:
    found = CAUSE_ALIASES.get(name, name) if key == "cause" else name
    if found not in known:
        shown = [*known, *CAUSE_ALIASES] if key == "cause" else known
        raise UserError(f"unknown {key} {name!r}{suggest(name, shown)}")
    return found


def _axis_test(body: str, runs: Sequence[PlannedRun], sweep: str) -> Test:
    named, _, given = body.partition("=")
    axis = AXIS_ALIASES.get(named, named)
    axes = _axes(runs)
    if axis not in axes:
        shown = [*axes, *(short for short, full in AXIS_ALIASES.items() if full in axes)]
        raise UserError(f"unknown axis {named!r} in {body!r}{suggest(named, shown)}")
    values = list(dict.fromkeys(value_of(run, axis) for run in runs))
    tests = []
    for text in given.split(","):
        test = _value_test(text, body)
        # A mistyped value in `beta=0.1,0.22` would silently be less, in `!beta=0.11` silently everything.
        if not any(test(value) for value in values):
            there = ", ".join(map(str, values))
            raise UserError(f"no run of {sweep} fits {f'{named}={text}'!r} ({axis}: {there})")
        tests.append(test)
    return lambda run: any(test(value_of(run, axis)) for test in tests)


def _axes(runs: Sequence[PlannedRun]) -> list[str]:
    return ["arm", "seed", *dict.fromkeys(axis for run in runs for axis in run.hyperparameters)]


def value_of(run: PlannedRun, axis: str) -> Value:
    """A run's value of an axis of the grid, its arm or its seed."""
    return {"arm": run.arm, "seed": run.seed, **run.hyperparameters}.get(axis)


def _value_test(text: str, word: str) -> Callable[[Value], bool]:
    low, dots, high = text.partition("..")
    if not dots:
        return lambda value: equals(value, text)
    try:
        first = float(low) if low else float("-inf")
        last = float(high) if high else float("inf")
    except ValueError as error:
        raise UserError(f"{word!r}: a range is two numbers, e.g. seed=0..2, got {text!r}") from error
    return lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and first <= value <= last
    )


def equals(value: Value, text: str) -> bool:
    """Whether a value is what a word says: numbers as numbers (`1e-06` is `0.000001`), the rest as written in YAML."""
    if value is None or isinstance(value, bool):
        return text.lower() == {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value == text
    try:
        return float(text) == float(value)
    except ValueError:
        return False

"""Which runs a command means, in words that are the same for every verb.

`beta=0.01 '!lr=1e-6' arm=dpo,adadpo seed=0..2 state:failed cause:oom 3fa9`: every word must hold; a comma is "or", `!`
is "not", a word without `=` or `:` is the beginning of a run's id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

from sweeps.errors import UserError, suggest
from sweeps.failures import CAUSE_ALIASES, Cause
from sweeps.resolve import PlannedRun
from sweeps.store import State

AXIS_ALIASES = {"lr": "learning_rate"}
STATES = (*get_args(State), "quarantined")
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
        UserError: an unknown axis, state or cause, a malformed value, or words that no run fits.
    """
    tests = [_test(word, runs, state, cause) for word in words]
    found = [run for run in runs if all(test(run) for test in tests)]
    if not found:
        raise UserError(f"no run of {sweep} fits {' '.join(words)!r}{_values(words, runs)}")
    return found


def _test(
    word: str,
    runs: Sequence[PlannedRun],
    state: Callable[[PlannedRun], str],
    cause: Callable[[PlannedRun], str | None],
) -> Test:
    body = word.removeprefix("!")
    if not body:
        raise UserError(f"{word!r} selects nothing: give axis=value, state:NAME, cause:NAME or a run's id")
    if "=" in body:
        holds = _axis_test(body, runs)
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

        def holds(run: PlannedRun) -> bool:
            return run.run_id.startswith(body)

    return (lambda run: not holds(run)) if word.startswith("!") else holds


def _name(name: str, key: str, known: Sequence[str]) -> str:
    found = CAUSE_ALIASES.get(name, name) if key == "cause" else name
    if found not in known:
        shown = [*known, *CAUSE_ALIASES] if key == "cause" else known
        raise UserError(f"unknown {key} {name!r}{suggest(name, shown)}")
    return found


def _axis_test(body: str, runs: Sequence[PlannedRun]) -> Test:
    named, _, given = body.partition("=")
    axis = AXIS_ALIASES.get(named, named)
    axes = _axes(runs)
    if axis not in axes:
        shown = [*axes, *(short for short, full in AXIS_ALIASES.items() if full in axes)]
        raise UserError(f"unknown axis {named!r} in {body!r}{suggest(named, shown)}")
    tests = [_value_test(text, body) for text in given.split(",")]
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


def _values(words: Sequence[str], runs: Sequence[PlannedRun]) -> str:
    """What the axes that were named do have, for a message; the first run ids where an id was named."""
    axes = [
        AXIS_ALIASES.get(axis, axis)
        for word in words
        if "=" in word
        for axis in [word.strip("!").split("=")[0]]
    ]
    said = [
        f"{axis}: {', '.join(dict.fromkeys(str(value_of(run, axis)) for run in runs))}"
        for axis in dict.fromkeys(axes)
    ]
    if said:
        return f" ({'; '.join(said)})"
    ids = [word.strip("!") for word in words if ":" not in word]
    return suggest(ids[0], [run.run_id for run in runs][:5]) if ids else ""

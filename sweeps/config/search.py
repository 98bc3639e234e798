"""`search:` of a sweep file: settings chosen one batch after another instead of a grid. Checked as it is written."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from adadpo.errors import suggest
from sweeps.config.grid import AXES, grid_problems, parse_seeds, value_problem
from sweeps.config.yaml_source import Location, Problem

SPACE: Location = ("search", "space")
BOUNDS = ("low", "high", "log")
JUDGED = ("length_controlled_win_rate", "win_rate", "lc_minus_wr")


class Range(BaseModel):
    """All numbers from low to high, both included."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float
    log: bool = False
    whole: bool = False  # whole numbers alone


Space = dict[str, Range | list[Any]]  # axis -> range, or its values


class Search(BaseModel):
    """How settings are chosen: by the mean of the primary metric over the compared arms and all seeds.

    Every arm is trained at every setting, and the arms' sum decides: exchanging two arms changes no choice. So each
    arm is tuned with the same budget, and where the arms do not differ the signs of their differences stay fair coins,
    whatever the search does: the test over settings keeps its level.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    space: Space
    sampler: Literal["tpe", "random"] = "tpe"
    trials: int = Field(gt=0)  # settings in all
    startup: int = Field(default=10, gt=0)  # settings before the sampler and the pruner learn from results
    # none; or after each seed a setting may be given up, compared with the settings before it
    pruner: Literal["none", "median", "successive_halving"] = "none"
    seed: int = Field(default=0, ge=0)
    parallel: int = Field(default=1, gt=0)  # settings asked at once; the next ones once these have ended


def search_problems(raw: dict[Any, Any]) -> Iterator[Problem]:
    """What is wrong with a sweep's `search:` beyond the types of its keys."""
    search = raw.get("search")
    if "grid" in raw:
        yield Problem(("search",), "a sweep has a grid or a search, not both", True)
    if not isinstance(search, dict):
        return  # told by its type
    space = search.get("space")
    if not isinstance(space, dict) or not space:
        yield Problem(
            SPACE, "search.space must map at least one axis to {low: ..., high: ...} or to its values"
        )
        return
    problems = [problem for axis, values in space.items() for problem in _axis_problems(axis, values)]
    yield from problems
    if not problems:
        yield from map(_moved, grid_problems(_corners(space), raw.get("arms")))
        size, trials = size_of(parse_space(space)), search.get("trials")
        if size is not None and isinstance(trials, int) and trials > size:
            yield Problem(
                ("search", "trials"), f"search.trials {trials} is more than the {size} settings of its space"
            )
    yield from _learning_problems(raw, search)


def _learning_problems(raw: dict[Any, Any], search: dict[Any, Any]) -> Iterator[Problem]:
    """What a search cannot learn from."""
    try:
        seeds = parse_seeds(raw.get("seeds"))
    except ValueError:
        seeds = [0, 1]  # told elsewhere
    if search.get("pruner", "none") != "none" and len(seeds) < 2:
        yield Problem(("search", "pruner"), "a setting is pruned between two seeds: give at least 2 seeds")
    compare, evaluate = raw.get("compare") or {}, raw.get("evaluate") or {}
    if not isinstance(compare, dict) or not isinstance(evaluate, dict):
        return
    primary = compare.get("primary", JUDGED[0])
    judge = evaluate.get("judge", "rubric")
    kind = judge.get("kind") if isinstance(judge, dict) else judge
    if primary in JUDGED and kind in ("none", "import"):
        said = f"a search needs compare.primary {primary} of every run as it ends; judge {kind} gives none"
        yield Problem(("evaluate", "judge"), said)
    if primary != "win_rate" and primary in JUDGED and evaluate.get("lc_method") == "joint_difficulty":
        said = "a search needs a value of each run alone; by joint_difficulty it depends on all runs"
        yield Problem(("evaluate", "lc_method"), said)


def _axis_problems(axis: Any, values: Any) -> Iterator[Problem]:
    at, name = (*SPACE, axis), f"search.space.{axis}"
    if axis not in AXES:
        yield Problem(at, f"unknown key {axis!r} under search.space{suggest(str(axis), list(AXES))}", True)
    elif isinstance(values, dict):
        for key in values:
            if key not in BOUNDS:
                yield Problem(
                    (*at, key), f"unknown key {key!r} under {name}{suggest(str(key), BOUNDS)}", True
                )
        for key in ("low", "high"):
            bound = values.get(key)
            if key not in values:
                yield Problem(at, f"missing key {key!r} under {name}")
            elif isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
                yield Problem((*at, key), f"{name}.{key} must be a number, got {bound!r}")
            elif message := value_problem(axis, bound, f"{name}.{key}"):
                yield Problem((*at, key), message)
        low, high, log = values.get("low"), values.get("high"), values.get("log", False)
        if not isinstance(log, bool):
            yield Problem((*at, "log"), f"{name}.log must be true or false, got {log!r}")
        if isinstance(low, int | float) and isinstance(high, int | float):
            if low >= high:
                yield Problem(at, f"{name}: low must be below high, got {low} and {high}")
            elif log is True and low <= 0:
                yield Problem((*at, "low"), f"{name}: low must be above 0 where log is true, got {low}")
    elif not isinstance(values, list):
        yield Problem(at, f"{name} must be {{low: ..., high: ...}} or a list of values, got {values!r}")


def parse_space(space: dict[str, Any]) -> Space:
    """The checked space."""
    return {
        axis: values
        if isinstance(values, list)
        else Range(**values, whole=value_problem(axis, values["low"] + 0.5) is not None)
        for axis, values in space.items()
    }


def size_of(space: Space) -> int | None:
    """How many settings there are; None: as many as numbers."""
    size = 1
    for values in space.values():
        if isinstance(values, list):
            size *= len(values)
        elif values.whole:
            size *= int(values.high) - int(values.low) + 1
        else:
            return None
    return size


def _corners(space: dict[str, Any]) -> dict[str, list[Any]]:
    """A grid of the space's extremes: what cannot be trained there is told before anything is spent."""
    return {
        axis: values if isinstance(values, list) else [values["low"], values["high"]]
        for axis, values in space.items()
    }


def _moved(problem: Problem) -> Problem:
    """A grid's problem at its place in the search."""
    where = SPACE + problem.location[1:]
    if len(where) > 3 and isinstance(where[3], int):
        return Problem(where, problem.message.replace("grid.", "search.space."), problem.at_key)
    return Problem(where[:3], problem.message.replace("grid", "search.space"), problem.at_key)

"""Arms, grid axes and seeds: checked value by value as they stand in the file, then combined."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from adadpo.config import TrainSettings
from adadpo.errors import suggest
from adadpo.method.registry import NOT_IMPLEMENTED, PRESETS, Method, make_method
from sweeps.config.yaml_source import Location, Problem

METHOD_AXES = dict(Method.model_fields)
TRAIN_AXES = dict(TrainSettings.model_fields)
AXES: dict[str, FieldInfo] = {**METHOD_AXES, **TRAIN_AXES}
RESERVED = ("zip", "exclude")
MOST_SEEDS = 10_000

Cell = dict[str, Any]  # axis -> value


def arm_problems(arms: Any) -> Iterator[Problem]:
    """What is wrong with `arms:` as written."""
    if not isinstance(arms, dict) or not arms:
        yield Problem(("arms",), "arms must name at least one method, e.g. 'dpo: {}'")
        return
    for name, options in arms.items():
        at: Location = ("arms", name)
        if not isinstance(name, str) or not re.fullmatch(r"[^\s/\\]{1,64}", name) or not name.isprintable():
            yield Problem(
                at, f"arm name {name!r} must be text without spaces or slashes, at most 64 long", True
            )
        if options is not None and not isinstance(options, dict):
            yield Problem(at, f"arm {name!r} must be a mapping of options, got {options!r}")
            continue
        options = options or {}
        preset = preset_of(name, options)
        if not isinstance(preset, str) or preset not in PRESETS:
            key = next((key for key in ("method", "loss") if key in options), None)
            if known := NOT_IMPLEMENTED.get(str(preset).lower()):
                reason = f"{known}, is not implemented: its formula is not verified"
            else:
                reason = f"unknown method {preset!r}{suggest(str(preset), [*PRESETS])}"
                reason += "" if key else " (or give it as 'method:')"
            yield Problem((*at, key) if key else at, f"arm {name!r}: {reason}", key is None)
            continue
        given = {key: value for key, value in options.items() if key != "method"}
        yield from _option_problems(preset, given, at)


def preset_of(arm: str, options: dict[str, Any]) -> Any:
    """What an arm starts from: `method: adasimpo`, else its own name where it is one, else `loss: simpo`."""
    return options.get("method", arm if arm in PRESETS else options.get("loss", arm))


def _option_problems(preset: str, given: dict[Any, Any], at: Location) -> Iterator[Problem]:
    unknown = [key for key in given if key not in AXES]
    for key in unknown:
        yield Problem((*at, key), f"unknown option {key!r} of an arm{suggest(str(key), list(AXES))}", True)
    for key, value in given.items():
        if key in AXES and (message := value_problem(key, value)):
            yield Problem((*at, key), message)
            return
    if not unknown:
        try:
            make_method(preset, **{key: value for key, value in given.items() if key in METHOD_AXES})
        except ValidationError as error:
            yield Problem(at, f"arm {at[1]!r}: {_reason(error)}")


def grid_problems(grid: Any, arms: Any) -> Iterator[Problem]:
    """What is wrong with `grid:` as written."""
    if not isinstance(grid, dict | list) or not grid:
        yield Problem(("grid",), "grid must map at least one axis to its values, e.g. 'beta: [0.05, 0.1]'")
        return
    many = isinstance(grid, list)
    axes_of_first: set[str] | None = None
    for number, part in enumerate(grid if many else [grid]):
        at: Location = ("grid", number) if many else ("grid",)
        if not isinstance(part, dict) or not part:
            yield Problem(at, "a grid must map at least one axis to its values")
            continue
        problems = list(_part_problems(part, at, arms))
        yield from problems
        if problems:
            continue
        axes = axes_of(part)
        if axes_of_first is not None and set(axes) != axes_of_first:
            yield Problem(
                at,
                f"the grids of a union must have the same axes: {sorted(axes_of_first)} and {sorted(axes)}",
            )
        axes_of_first = axes_of_first or set(axes)
        cells = cells_of(part)
        if not cells:
            yield Problem(at, "the grid is empty: every combination is excluded")
        yield from _cell_problems(cells, part.get("zip", {}), at, arms)


def _part_problems(part: dict[Any, Any], at: Location, arms: Any) -> Iterator[Problem]:
    axes = {key: value for key, value in part.items() if key not in RESERVED}
    zipped = part.get("zip", {})
    if not isinstance(zipped, dict):
        yield Problem((*at, "zip"), "zip must map axes to lists of equal length, which advance together")
        zipped = {}
    for where, group in ((at, axes), ((*at, "zip"), zipped)):
        for axis, values in group.items():
            yield from _axis_problems(axis, values, (*where, axis), arms)
    lengths = {axis: len(values) for axis, values in zipped.items() if isinstance(values, list)}
    if len(set(lengths.values())) > 1:
        yield Problem((*at, "zip"), f"zip needs lists of equal length, got {lengths}")
    for axis in set(axes) & set(zipped):
        yield Problem((*at, "zip", axis), f"axis {axis!r} is both in the grid and in its zip", True)
    if not axes and not zipped:
        yield Problem(at, "the grid has no axis")
    exclude = part.get("exclude", [])
    if not isinstance(exclude, list) or not all(isinstance(cell, dict) and cell for cell in exclude):
        yield Problem(
            (*at, "exclude"), "exclude must be a list of cells, e.g. [{beta: 0.05, learning_rate: 1e-5}]"
        )
        return
    for number, cell in enumerate(exclude):
        for axis, value in cell.items():
            place = (*at, "exclude", number, axis)
            values = {**axes, **zipped}.get(axis)
            if values is None:
                yield Problem(place, f"exclude names {axis!r}, which is not an axis of this grid", True)
            elif isinstance(values, list) and value not in values:
                yield Problem(place, f"exclude: {axis} is never {value!r}; its values are {values}")


def _axis_problems(axis: Any, values: Any, at: Location, arms: Any) -> Iterator[Problem]:
    if axis not in AXES:
        yield Problem(at, f"unknown key {axis!r} under grid{suggest(str(axis), [*AXES, *RESERVED])}", True)
        return
    if not isinstance(values, list) or not values:
        yield Problem(at, f"grid.{axis} must be a list of at least one value, got {values!r}")
        return
    for number, value in enumerate(values):
        if message := value_problem(axis, value, f"grid.{axis}[{number}]"):
            yield Problem((*at, number), message)
        elif isinstance(value, dict | list):
            yield Problem(
                (*at, number), f"grid.{axis}[{number}] must be one value; give {axis} to an arm instead"
            )
        elif value in values[:number]:
            yield Problem((*at, number), f"grid.{axis}[{number}]: {value!r} is there twice")
    for name, options in arms.items() if isinstance(arms, dict) else ():
        options = options if isinstance(options, dict) else {}
        if axis in options:
            yield Problem(at, f"axis {axis!r} is fixed by arm {name!r}: it cannot be both", True)


def _cell_problems(cells: list[Cell], zipped: dict[str, Any], at: Location, arms: Any) -> Iterator[Problem]:
    """Settings that an arm's loss cannot have; an axis that it does not use would make equal runs look different."""
    methods = list(
        {str(m): m for m in ({k: v for k, v in c.items() if k in METHOD_AXES} for c in cells)}.values()
    )
    for name, options in arms.items() if isinstance(arms, dict) else ():
        options = options if isinstance(options, dict) else {}
        own = {key: value for key, value in options.items() if key in METHOD_AXES}
        preset = str(preset_of(name, options))
        if preset not in PRESETS or _reason_against(preset, own):
            continue  # told of the arm itself
        for method in methods:
            if reason := _reason_against(preset, {**own, **method}):
                alone = [a for a, value in method.items() if _reason_against(preset, {**own, a: value})]
                if alone:
                    said = f"axis {alone[0]!r} cannot be used with arm {name!r}: {reason}"
                    place = (*at, "zip", alone[0]) if alone[0] in zipped else (*at, alone[0])
                    yield Problem(place, said, True)
                else:
                    cell = " ".join(f"{axis}={value}" for axis, value in method.items())
                    yield Problem(at, f"{cell} cannot be used with arm {name!r}: {reason}")
                break


def _reason_against(preset: str, options: dict[str, Any]) -> str | None:
    """Why there is no such method; None where there is one."""
    try:
        make_method(preset, **options)
    except ValidationError as error:
        return _reason(error)
    return None


def value_problem(axis: str, value: Any, label: str | None = None) -> str | None:
    """Why an axis cannot have a value; None when it can."""
    try:
        checked = _adapter(axis).validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"].replace("Input should be", "must be")
        return f"{label or axis} {message}, got {value!r}"
    # pydantic reads true as 1 and '0.1' as 0.1; a table of results would show what is written
    is_text = isinstance(value, str) and isinstance(checked, int | float)
    if is_text or isinstance(value, bool) is not isinstance(checked, bool):
        expected = "true or false" if isinstance(checked, bool) else "a number"
        return f"{label or axis} must be {expected}, got {value!r}"
    return None


@cache
def _adapter(axis: str) -> TypeAdapter[Any]:
    """Checks one value of an axis, with the bounds of its field."""
    info = AXES[axis]
    kind: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False))


def seed_problems(seeds: Any) -> Iterator[Problem]:
    """What is wrong with `seeds:` as written."""
    try:
        parse_seeds(seeds)
    except ValueError as error:
        yield Problem(("seeds",), str(error))


def parse_seeds(seeds: Any) -> list[int]:
    """`[0, 1, 2]`, `0..2` or a single number.

    Raises:
        ValueError: anything else, a negative or a repeated seed.
    """
    if isinstance(seeds, str) and (match := re.fullmatch(r"\s*(\d+)\s*\.\.\s*(\d+)\s*", seeds)):
        first, last = int(match[1]), int(match[2])
        if last - first >= MOST_SEEDS:
            raise ValueError(f"seeds {seeds!r} are more than {MOST_SEEDS}")
        if last < first:
            raise ValueError(f"seeds {seeds!r} is empty: the last is below the first")
        seeds = list(range(first, last + 1))
    found = [seeds] if isinstance(seeds, int) else seeds
    if (
        not isinstance(found, list)
        or not found
        or not all(isinstance(s, int) and not isinstance(s, bool) and 0 <= s < 2**32 for s in found)
    ):
        raise ValueError(f"seeds must be whole numbers from 0, as [0, 1, 2] or 0..2, got {seeds!r}")
    if repeated := sorted({seed for seed in found if found.count(seed) > 1}):
        raise ValueError(f"seeds {repeated} are there twice: a repeated seed is the same run")
    return found


def axes_of(part: dict[str, Any]) -> dict[str, list[Any]]:
    """Axis -> values of one grid, in the order of the file."""
    return {**{key: values for key, values in part.items() if key not in RESERVED}, **part.get("zip", {})}


def cells_of(part: dict[str, Any]) -> list[Cell]:
    """The combinations of one grid, in the order of the file; the last axis changes fastest."""
    axes = {key: values for key, values in part.items() if key not in RESERVED}
    zipped = part.get("zip", {})
    rows = (
        [dict(zip(zipped, row, strict=True)) for row in zip(*zipped.values(), strict=True)]
        if zipped
        else [{}]
    )
    cells = [
        {**dict(zip(axes, values, strict=True)), **row}
        for values in itertools.product(*axes.values())
        for row in rows
    ]
    excluded = part.get("exclude", [])
    return [cell for cell in cells if not any(drop.items() <= cell.items() for drop in excluded)]


def _reason(error: ValidationError) -> str:
    """The first of pydantic's messages, without its preamble."""
    return error.errors()[0]["msg"].removeprefix("Value error, ")

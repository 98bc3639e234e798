"""What was declared before the first run, written once, and how a later file differs from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from adadpo.errors import FailureError
from analysis.results.values import Value
from sweeps.store.ids import digest
from sweeps.store.layout import read_json, write_json


def declaration(
    compare: Mapping[str, Any],
    evaluation: Mapping[str, str],
    *,
    settings: list[str],
    arms: list[str],
    seeds: list[int],
) -> dict[str, Any]:
    """What a launch writes down: comparison, evaluation and planned grid, the comparison and the grid with digests."""
    grid = {"settings": settings, "arms": arms}
    return {
        "compare": dict(compare),
        "evaluation": dict(evaluation),
        "grid": grid,
        "seeds": seeds,
        "digest": digest(compare),
        "grid_digest": digest(grid | {"seeds": seeds}),
    }


def read_declaration(path: Path) -> dict[str, Any]:
    """The content of declared.json.

    Raises:
        FailureError: it is damaged; what it said may follow from the last report.
    """
    problem: object = "it holds no comparison with a digest"
    try:
        content = read_json(path)
        if (
            isinstance(content, dict)
            and isinstance(content.get("compare"), dict)
            and isinstance(content.get("digest"), str)
            and isinstance(content.get("seeds"), list)
        ):
            return content
    except FailureError as error:
        problem = str(error).removeprefix(f"{path} is damaged (").partition("); delete it")[0]
    raise FailureError(f"{path} is damaged ({problem}); adadpo fsck --repair restores it")


def declaration_line(content: Mapping[str, Any]) -> str:
    """What a report says of a declaration (the content of declared.json)."""
    grid = f", of the grid {content['grid_digest']}" if "grid_digest" in content else ""
    when = "after the first one was lost" if content.get("lost") else "before the first run"
    return f"digest {content['digest']}{grid}, written {when}"


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """How two `declaration`s differ, in words; empty: the comparison is the declared one.

    Seeds that were added are no change, since `extend` adds them to every cell alike. Settings that were added are
    one: they are the units of the test, and somebody chose them knowing results. An arm that was added is in no
    declared comparison.

    Args:
        then: at launch; a file of before grids were recorded has none, and its grid is not compared.
        now: of the sweep file as it is.
    """
    lost = ["the declaration made before the first run is lost; this one was written when there were results"]
    return [
        *(lost if then.get("lost") else []),
        *_compare_changes(then["compare"], now["compare"]),
        *_evaluation_changes(then.get("evaluation"), now["evaluation"]),
        *_grid_changes(then, now),
    ]


def _compare_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}: {then.get(key)!r} at launch, now {now.get(key)!r}"
        for key in {**then, **now}
        if then.get(key) != now.get(key)
    ]


def _evaluation_changes(then: Mapping[str, str] | None, now: Mapping[str, str]) -> list[str]:
    # Choosing the judge after its numbers are known is a choice of the result; without one none were known.
    if not then or then["judge"] == "none" or then == now:
        return []
    differing = [key for key in now if then.get(key) != now[key]]
    named = [key for key in differing if key != "id"] or differing  # an id also stands for files and versions
    return [f"evaluation's {key}: {then.get(key)!r} at launch, now {now[key]!r}" for key in named]


def _grid_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    if "grid" in then:
        before, after = then["grid"], now["grid"]
        for name in ("settings", "arms"):
            now_there = set(after[name])
            if removed := [each for each in before[name] if each not in now_there]:
                found.append(f"{name} removed after launch: {_listed(removed)} of {len(before[name])}")
        were_there = set(before["settings"])
        if added := [each for each in after["settings"] if each not in were_there]:
            found.append(f"settings added after launch: {_listed(added)} to {len(before['settings'])}")
    if removed := [seed for seed in then.get("seeds", []) if seed not in now["seeds"]]:
        found.append(f"seeds removed after launch: {_listed(removed)} of {len(then['seeds'])}")
    return found


def _listed(values: list[Any], most: int = 6) -> str:
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + more


# The settings that a search has asked for: a file of the sweep's folder, from which its runs are planned.

FILE = "search.json"


class SuggestedSetting(BaseModel):
    """One setting, in the order of asking."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    setting: dict[str, Value]
    seeds: int | None = None  # of the file's seeds, so many may run so far; None: all
    pruned: str | None = None  # why its further seeds do not run

    def not_yet(self, seeds: list[int]) -> list[int]:
        """Seeds that are not planned before the pruner has looked; those of a pruned setting are, as pruned."""
        return [] if self.seeds is None or self.pruned is not None else seeds[self.seeds :]


def read_asked(folder: Path) -> list[SuggestedSetting]:
    """What was asked so far; empty before the first launch.

    Raises:
        FailureError: the file is damaged; it is not derivable, so it is not made again.
    """
    path = folder / FILE
    if not path.exists():
        return []
    try:
        return [SuggestedSetting.model_validate(entry) for entry in read_json(path)["asked"]]
    except (ValidationError, KeyError, TypeError) as error:
        raise FailureError(f"{path} is damaged: {str(error).splitlines()[0]}") from error


def write_asked(folder: Path, asked: Sequence[SuggestedSetting]) -> None:
    """All of it at once: a batch of settings is asked for whole or not at all."""
    write_json(folder / FILE, {"asked": [entry.model_dump() for entry in asked]})

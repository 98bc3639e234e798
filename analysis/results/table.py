"""The tidy table of runs: cells of an arm at a setting, and pairs of arms joined by explicit keys."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from analysis.results.model import RunRow
from analysis.results.values import State

if TYPE_CHECKING:
    import pandas as pd

from adadpo.errors import TableError

# Mean and standard deviation of a few values, without numpy: `status` shows them of thousands of cells.


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean [unit of the values]; None of no values."""
    return math.fsum(values) / len(values) if values else None


def sd(values: Sequence[float]) -> float | None:
    """Standard deviation with ddof = 1 [unit of the values]; None of fewer than 2: undefined, not 0."""
    if len(values) < 2:
        return None
    centre = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - centre) * (value - centre) for value in values) / (len(values) - 1))


KEYS = ("arm", "setting", "seed")
STATE_IN_WORDS = {
    State.QUARANTINED: "is quarantined",
    State.DIVERGED: "diverged",
    State.FAILED: "failed",
    State.PRUNED: "was pruned by the search",
    State.CANCELLED: "was cancelled",
    State.RUNNING: "is still running",
    State.UNKNOWN: "has a silent worker",
    State.WAITING: "has not run",
}

Key: TypeAlias = tuple[str, str, int]
Index: TypeAlias = dict[Key, RunRow]


@dataclass(frozen=True, slots=True)
class Pair:
    """Both arms at one setting and seed; values in the metric's unit, None where a run has none."""

    setting: str
    seed: int
    baseline: float | None
    candidate: float | None
    missing: str | None  # which partner has no value and why; None when the pair is complete

    @property
    def difference(self) -> float | None:
        """Candidate minus baseline; None where a partner is missing."""
        if self.baseline is None or self.candidate is None:
            return None
        return self.candidate - self.baseline


def index_runs(runs: Iterable[RunRow]) -> Index:
    """Runs by (arm, setting, seed).

    Raises:
        TableError: two runs with the same key.
    """
    index: Index = {}
    for run in runs:
        key = (run.arm, run.setting, run.seed)
        if key in index:
            raise TableError(
                f"two runs of {run.arm} at {run.setting}, seed {run.seed}: "
                f"{index[key].run_id} and {run.run_id}"
            )
        index[key] = run
    return index


def check_planned(index: Index, arms: Sequence[str], settings: Sequence[str], seeds: Sequence[int]) -> None:
    """Refuse runs that the plan does not name: leaving them out would drop results silently.

    Raises:
        TableError: a run whose arm, setting or seed is not planned, or a planned one that is listed twice.
    """
    for name, planned in (("arm", arms), ("setting", settings), ("seed", seeds)):
        if len(set(planned)) < len(planned):
            raise TableError(f"duplicate {name} in the plan: {', '.join(map(str, planned))}")
    for run in index.values():
        for name, value, planned in (
            ("arm", run.arm, arms),
            ("setting", run.setting, settings),
            ("seed", run.seed, seeds),
        ):
            if value not in planned:
                raise TableError(
                    f"run {run.run_id}: {name} {value!r} is not planned; "
                    f"{name}s: {', '.join(map(str, planned))}"
                )


def value_of(run: RunRow | None, metric: str) -> float | None:
    """The metric of a run that is done; None for any other run, and for NaN and infinities."""
    if run is None or run.state != State.DONE:
        return None
    value = run.metrics.get(metric)
    return value if value is not None and math.isfinite(value) else None


def why_missing(run: RunRow | None, metric: str) -> str:
    """Why `value_of` is None, in words that follow the name of the arm."""
    if run is None:
        return "has no run"
    return STATE_IN_WORDS.get(run.state, f"has no {metric}")


def pair_by_setting(
    runs: Iterable[RunRow] | pd.DataFrame | Index,
    *,
    metric: str,
    baseline: str,
    candidate: str,
    settings: Sequence[str],
    seeds: Sequence[int],
) -> list[Pair]:
    """Join two arms on equal setting and seed.

    Args:
        runs: the tidy table: `RunRow`s, a DataFrame (see `runs_from_frame`) or `index_runs` of them.
        metric: column to compare.
        baseline: arm that is subtracted.
        candidate: arm it is subtracted from.
        settings: planned settings, in the order of the result.
        seeds: planned seeds, in the order of the result.

    Returns:
        One pair for every planned setting and seed, complete or not; a missing partner is named, e.g.
        "beta=0.1 learning_rate=1e-05, seed 1: adadpo diverged".

    Raises:
        TableError: two runs with the same arm, setting and seed.
    """
    index = runs if isinstance(runs, dict) else index_runs(as_runs(runs))
    pairs = []
    for setting in settings:
        for seed in seeds:
            values, gaps = [], []
            for arm in (baseline, candidate):
                run = index.get((arm, setting, seed))
                values.append(value_of(run, metric))
                if values[-1] is None:
                    gaps.append(f"{arm} {why_missing(run, metric)}")
            missing = f"{setting}, seed {seed}: {' and '.join(gaps)}" if gaps else None
            pairs.append(Pair(setting, seed, values[0], values[1], missing))
    return pairs


def as_runs(runs: Iterable[RunRow] | pd.DataFrame) -> list[RunRow]:
    """Runs as a list, from a DataFrame too."""
    if hasattr(runs, "columns"):  # a DataFrame, without importing pandas
        return runs_from_frame(cast("pd.DataFrame", runs))
    return list(runs)


def runs_from_frame(frame: pd.DataFrame) -> list[RunRow]:
    """Runs from a DataFrame with one row per run.

    Args:
        frame: columns `arm`, `setting`, `seed`, optionally `run_id` and `state` (default "done"); every other
            column is a metric, NaN where a run has none.

    Raises:
        TableError: a key column is missing or a metric is not a number.
    """
    if absent := [key for key in KEYS if key not in frame.columns]:
        raise TableError(
            f"the table of runs lacks {', '.join(absent)}; columns: {', '.join(map(str, frame.columns))}"
        )
    metrics = [str(c) for c in frame.columns if c not in (*KEYS, "run_id", "state")]
    runs = []
    rows: list[dict[Any, Any]] = frame.to_dict("records")
    for row in rows:
        arm, setting, seed = str(row["arm"]), str(row["setting"]), int(row["seed"])
        try:
            values = {m: None if row[m] is None or math.isnan(row[m]) else float(row[m]) for m in metrics}
        except TypeError as error:
            raise TableError(f"{arm} at {setting}, seed {seed}: metrics must be numbers: {row}") from error
        runs.append(
            RunRow(
                run_id=str(row.get("run_id", f"{arm} | {setting} | {seed}")),
                arm=arm,
                setting=setting,
                hyperparameters={},
                seed=seed,
                state=row.get("state", "done"),
                metrics=values,
            )
        )
    return runs

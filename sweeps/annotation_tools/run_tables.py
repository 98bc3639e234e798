"""CSV and TSV tables of runs as other people write them: read, checked cell by cell, turned into runs."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from adadpo.errors import UserError, suggest
from analysis.results.model import Metric, RunRow, State, Value
from sweeps.config.metrics import METRICS

DELIMITERS = {".csv": ",", ".tsv": "\t"}
NOT_NUMBERS = {"", "na", "n/a", "nan", "null", "none", "-"}  # how tables say that there is no value
# Columns of our own runs.csv that are no hyperparameter of anybody's
OWN = ("run_id", "state", "wall_seconds", "flags", "reason")
OWN_AXIS = "hyperparameter."  # before an axis that is called like another column of our own runs.csv
# Our own tables put an apostrophe before what a spreadsheet would run (and before apostrophes before that).
_ESCAPED = re.compile("'(?='*[=+\\-@\t\r\n＝＋－＠])")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column is what, as the user named them."""

    arm: str
    seed: str | None  # None: `seed` where there is such a column, else every row is seed 0
    metrics: tuple[str, ...]  # the primary first
    setting: tuple[str, ...]  # empty: see `read_runs`


@dataclass(frozen=True, slots=True)
class RunTable:
    """The runs, and how the table was read."""

    source: str
    sha256: str
    runs: list[RunRow]
    metrics: list[Metric]  # the primary first
    setting: tuple[str, ...]
    seed: str | None
    unused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    cells: dict[str, str]


def read_runs(path: Path, columns: Columns, *, lower_is_better: bool = False) -> RunTable:
    """Read a table with a header and one row per run.

    Without a named setting it is the column `setting` where there is one, else every column that is neither arm, seed,
    a metric, nor one that this project knows for a metric or for bookkeeping.

    Args:
        path: a `.csv` or `.tsv` file.
        columns: their names.
        lower_is_better: of the metrics that this project does not know.

    Raises:
        UserError: what is wrong, at its line and column.
    """
    header, rows, digest = _read(path)
    seed = columns.seed if columns.seed is not None else "seed" if "seed" in header else None
    for role, name in (
        ("arm", columns.arm),
        ("seed", seed),
        *(("metric", name) for name in columns.metrics),
        *(("setting", name) for name in columns.setting),
    ):
        if name is not None and name not in header:
            raise UserError(f"{path}: no column {name!r} for the {role}{_choices(name, header)}")
    taken = [columns.arm, *([] if seed is None else [seed]), *columns.metrics, *columns.setting]
    if twice := next((name for name in taken if taken.count(name) > 1), None):
        raise UserError(f"{path}: column {twice!r} is taken for two things")
    setting = columns.setting or _settings(header, taken)
    if not setting:
        raise UserError(
            f"{path}: no column is left for the setting; name one by --setting; columns: {', '.join(header)}"
        )
    axes = _axes(header, rows, columns) if list(setting) == ["setting"] else ()
    runs: list[RunRow] = []
    seen: dict[tuple[str, str, int], int] = {}
    for row in rows:
        run = _run(path, row, header, columns, setting, seed, axes)
        key = (run.arm, run.setting, run.seed)
        if key in seen:
            raise UserError(
                f"{path}:{row.line}: a second run of {run.arm} at {run.setting}, seed {run.seed}: the first is in line "
                f"{seen[key]}" + ("" if seed else "; name the column of the seeds by --seed-column")
            )
        seen[key] = row.line
        runs.append(run)
    return RunTable(
        source=str(path),
        sha256=digest,
        runs=runs,
        metrics=[_metric(name, runs, lower_is_better) for name in columns.metrics],
        setting=tuple(setting),
        seed=seed,
        unused=tuple(name for name in header if name not in (*taken, *setting, *axes, *OWN)),
    )


def _read(path: Path) -> tuple[list[str], list[_Row], str]:
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8 text") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS[path.suffix.lower()], strict=True)
    header: list[str] = []
    rows: list[_Row] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [_unescaped(cell.strip()) for cell in cells]
                continue
            if len(cells) != len(header):
                raise UserError(
                    f"{path}:{reader.line_num}: {len(cells)} cells, the header has {len(header)} columns"
                )
            stripped = [_unescaped(cell.strip()) for cell in cells]
            rows.append(_Row(reader.line_num, dict(zip(header, stripped, strict=True))))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}") from None
    if not rows:
        raise UserError(
            f"{path}: expected a header and one row per run, found {'no row' if header else 'nothing'}"
        )
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise UserError(f"{path}:1: two columns are called {twice!r}")
    return header, rows, hashlib.sha256(content).hexdigest()


def _unescaped(cell: str) -> str:
    return _ESCAPED.sub("", cell, count=1) if _ESCAPED.match(cell) else cell


def _choices(name: str, header: Sequence[str]) -> str:
    return suggest(name, header) if name else f"; choose from {', '.join(header)}"


def _settings(header: Sequence[str], taken: Sequence[str]) -> tuple[str, ...]:
    if "setting" in header and "setting" not in taken:
        return ("setting",)
    known = {key for metric in METRICS for key in (metric.name, metric.standard_error)}
    return tuple(name for name in header if name and name not in (*taken, *OWN) and name not in known)


def _axes(header: Sequence[str], rows: Sequence[_Row], columns: Columns) -> tuple[str, ...]:
    """Axes of the grid in our own runs.csv: between bookkeeping and metrics, one value for each setting."""
    if not {"setting", *OWN}.issubset(header):
        return ()
    measured = {*columns.metrics, *(metric.name for metric in METRICS)}
    between = itertools.takewhile(
        lambda name: name not in measured, header[header.index("wall_seconds") + 1 :]
    )
    of_setting: dict[tuple[str, str], str] = {}

    def depends_on_the_setting(name: str) -> bool:
        return all(
            of_setting.setdefault((name, row.cells["setting"]), row.cells[name]) == row.cells[name]
            for row in rows
        )

    return tuple(name for name in between if name not in OWN and depends_on_the_setting(name))


def _run(
    path: Path,
    row: _Row,
    header: Sequence[str],
    columns: Columns,
    setting: Sequence[str],
    seed: str | None,
    axes: Sequence[str],
) -> RunRow:
    def at(name: str) -> str:
        return f"{path}:{row.line}:{header.index(name) + 1}"

    arm = row.cells[columns.arm]
    if not arm:
        raise UserError(f"{at(columns.arm)}: no arm in column {columns.arm!r}")
    number = 0
    if seed is not None:
        value = _value(row.cells[seed])
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int):
            raise UserError(f"{at(seed)}: {seed} must be a whole number, got {row.cells[seed]!r}")
        number = value
    state = row.cells.get("state", "done") if "state" not in setting else "done"
    if state not in tuple(State):
        raise UserError(f"{at('state')}: state {state!r}{suggest(state, tuple(State))}")
    values = {name: _value(row.cells[name]) for name in setting}
    label = (
        row.cells["setting"]
        if list(setting) == ["setting"]
        else " ".join(f"{name}={'none' if value is None else value}" for name, value in values.items())
    )
    return RunRow(
        run_id=row.cells.get("run_id") or f"line {row.line}",
        arm=arm,
        setting=label or "none",
        hyperparameters={name.removeprefix(OWN_AXIS): _value(row.cells[name]) for name in axes}
        if list(setting) == ["setting"]
        else values,
        seed=number,
        state=cast("State", state),
        metrics={name: _measure(row.cells[name], name, at(name)) for name in columns.metrics},
        wall_seconds=_seconds(row.cells.get("wall_seconds", "")),
    )


def _value(cell: str) -> Value:
    """A number where it is one, so that 0.10 and 0.1 are one setting; None for an empty cell."""
    if not cell:
        return None
    try:
        return int(cell)
    except ValueError:
        pass
    try:
        number = float(cell)
    except ValueError:
        return cell
    return number if math.isfinite(number) else cell


def _measure(cell: str, name: str, place: str) -> float | None:
    if cell.lower() in NOT_NUMBERS:
        return None
    try:
        value = float(cell)
    except ValueError:
        raise UserError(f"{place}: {name} must be a number or empty, got {cell[:60]!r}") from None
    return value if math.isfinite(value) else None


def _seconds(cell: str) -> float | None:
    value: Any = _value(cell)
    return float(value) if isinstance(value, int | float) and value >= 0 else None


def _metric(name: str, runs: Sequence[RunRow], lower_is_better: bool) -> Metric:
    """One of this project's where name and scale are its own, else described by its name and its values."""
    values = [value for run in runs if (value := run.metrics[name]) is not None]
    known = next((metric for metric in METRICS if metric.name == name), None)
    # A win rate from 0 to 1 is another one than a percentage.
    if known is not None and (known.attainable != (0.0, 100.0) or any(value > 1 for value in values)):
        return known.model_copy(update={"standard_error": None})
    spread = max(values, default=0.0) - min(values, default=0.0)
    decimals = min(8, max(0, 2 - math.floor(math.log10(spread)))) if spread > 0 else 3
    return Metric(name=name, label=name, unit="", decimals=decimals, higher_is_better=not lower_is_better)

"""Tidy CSV files for a reader's own analysis: full precision, empty where a value is undefined.

A string that begins like a spreadsheet's formula gets an apostrophe in front, in every file alike, so that keys still
join; numbers never do. One that begins with apostrophes before such a sign gets one more, so that nothing is ambiguous.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice

from analysis.document import Results
from analysis.results.model import (
    Comparison,
    CrossedTest,
    Equivalence,
    Inference,
    Interval,
    SettingsWon,
    SignedRank,
    Value,
)
from reports.render.text import clean, shorten

# What a spreadsheet would run as a formula when a cell begins with it (OWASP, "CSV injection").
_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")
PIECE = 5000  # rows that are in memory as text at once
_TEST = ("alternative", "n", "zeros", "ties", "w_plus", "w_minus", "p_value", "smallest_p")
_COUNTS = ("rank_biserial", "won", "tied", "lost", "sign_p_value")
_KEY = ("metric", "candidate", "baseline", "confirmatory")
_INTERVAL = ("estimate", "low", "high", "confidence", "achieved")
_RUN_NOTES = ("flags", "reason")
_RUN_COLUMNS = ("run_id", "arm", "setting", "seed", "state", "wall_seconds")


def runs_csv(results: Results) -> Iterator[str]:
    """One row per run: identity, state, wall time in seconds, hyperparameters, every metric, notes."""
    axes = list(
        dict.fromkeys([*results.axes, *(axis for run in results.runs for axis in run.hyperparameters)])
    )
    recorded = (name for run in results.runs for name in run.metrics)
    metrics = list(dict.fromkeys([*(metric.name for metric in results.metrics), *recorded]))
    taken = {*_RUN_COLUMNS, *metrics, *_RUN_NOTES}
    reasons = {each.run_id: each.reason for each in results.failures}
    titles = [f"hyperparameter.{axis}" if axis in taken else axis for axis in axes]
    rows: list[list[Value]] = []
    for run in results.runs:
        row: list[Value] = [run.run_id, run.arm, run.setting, run.seed, run.state, run.wall_seconds]
        row += [run.hyperparameters.get(axis) for axis in axes]
        row += [run.metrics.get(metric) for metric in metrics]
        row += ["; ".join(run.flags), reasons.get(run.run_id)]
        rows.append(row)
    return _csv([*_RUN_COLUMNS, *titles, *metrics, *_RUN_NOTES], rows)


def cells_csv(results: Results) -> Iterator[str]:
    """One row per arm, setting and metric: number of runs, mean and SD over seeds (ddof = 1)."""
    rows = ([each.metric, each.setting, each.arm, each.n, each.mean, each.sd] for each in results.cells)
    return _csv(["metric", "setting", "arm", "n", "mean", "sd"], rows)


def differences_csv(results: Results) -> Iterator[str]:
    """One row per comparison, setting and seed: candidate minus baseline, beside the setting's n, mean and SD."""
    header = [*_KEY, "setting", "seed", "difference", "setting_n", "setting_mean", "setting_sd"]
    rows: Iterable[Sequence[Value]] = (
        [*_key(found, candidate, results), each.setting, pair.seed, pair.value, each.n, each.mean, each.sd]
        for candidate, found in _comparisons(results)
        for each in found.differences
        for pair in each.values
    )
    return _csv(header, rows)


def comparisons_csv(results: Results) -> Iterator[str]:
    """One row per comparison: the signed-rank test over settings, the estimate with its interval, counts."""
    header = [*_KEY, *_TEST, "adjusted_p", "family", *_INTERVAL, *_COUNTS, "missing_pairs", "reason"]
    rows: Iterable[Sequence[Value]] = (
        [
            *_key(found, candidate, results),
            *_fields(found.test, _TEST),
            found.adjusted_p,
            found.family,
            *_fields(found.estimate, _INTERVAL),
            *_fields(found, _COUNTS),
            len(found.missing_pairs),
            found.test_reason or (found.estimate.reason if found.estimate else None),
        ]
        for candidate, found in _comparisons(results)
    )
    return _csv(header, rows)


def sensitivity_csv(results: Results) -> Iterator[str]:
    """One row per other test of the same differences, and per rule for missing runs."""
    header = [*_KEY, "test", *_TEST, *_INTERVAL, "reason"]
    rows: Iterable[Sequence[Value]] = (
        [*_key(found, candidate, results), name, *_fields(test, _TEST), *_fields(estimate, _INTERVAL), reason]
        for candidate, found in _comparisons(results)
        if found.inference is not None
        for name, test, estimate, reason in _around(found.inference)
    )
    return _csv(header, rows)


def curves_csv(results: Results) -> Iterator[str]:
    """One row per logged value: quantity, run and step."""
    rows: Iterable[Sequence[Value]] = (
        [each.name, each.arm, each.setting, each.seed, step, value]
        for each in results.curves
        for step, value in zip(each.steps, each.values, strict=False)
    )
    return _csv(["name", "arm", "setting", "seed", "step", "value"], rows)


CSV_TABLES: dict[str, tuple[str, Callable[[Results], Iterator[str]]]] = {
    "runs.csv": ("Every run: hyperparameters, state, every metric", runs_csv),
    "cells.csv": ("Mean and SD per cell", cells_csv),
    "differences.csv": ("Paired differences per setting and seed", differences_csv),
    "comparisons.csv": ("Tests, estimates and intervals", comparisons_csv),
    "sensitivity.csv": ("The same differences by other tests and rules", sensitivity_csv),
    "curves.csv": ("Training curves", curves_csv),
}

_Test = SignedRank | CrossedTest | SettingsWon | Equivalence


def _comparisons(results: Results) -> Iterator[tuple[str, Comparison]]:
    """Every comparison with its candidate, the primary first."""
    yield from ((results.declared.candidate, each) for each in results.comparisons)
    yield from ((each.candidate, each.comparison) for each in results.other_arms)


def _key(found: Comparison, candidate: str, results: Results) -> list[Value]:
    return [found.metric, candidate, results.declared.baseline, found.confirmatory]


def _around(inference: Inference) -> Iterator[tuple[str, _Test | None, Interval | None, str | None]]:
    for name, test in inference.zero_methods.items():
        yield f"signed-rank over settings, zeros {name}", test, None, None
    crossed = inference.crossed
    yield "crossed settings and seeds, t", crossed, crossed.interval, crossed.reason
    if inference.settings_won is not None:
        yield "sign test over settings", inference.settings_won, None, inference.settings_won.reason
    if inference.pooled is not None:
        yield "all pairs pooled (descriptive)", inference.pooled.test, None, inference.pooled.warning
    if inference.equivalence is not None:
        found = inference.equivalence
        yield f"equivalence within {found.margin!r}", found, found.interval, found.reason
    for rule in inference.missing.rules if inference.missing else []:
        yield f"missing runs: {rule.rule}", rule.test, rule.estimate, rule.reason


def _fields(value: _Test | Interval | Comparison | None, names: Sequence[str]) -> list[Value]:
    return [getattr(value, name, None) for name in names]


def _csv(header: Sequence[str], rows: Iterable[Sequence[Value]]) -> Iterator[str]:
    """The text in pieces of a few thousand rows: curves of many runs are many megabytes."""
    everything = chain([header], rows)
    while piece := list(islice(everything, PIECE)):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(map(_fields_of, piece))
        yield text.getvalue()


def _fields_of(row: Sequence[Value]) -> list[str | float]:
    # Millions of them are numbers, which csv writes as `repr` does.
    return [
        value if type(value) is int or (type(value) is float and value == value) else _field(value)
        for value in row
    ]


def _field(value: Value) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "" if math.isnan(value) else repr(value)
        case str():
            return _text(value)


@lru_cache(maxsize=4096)  # the rows of a long table have their names from few
def _text(value: str) -> str:
    # Guarded before it is cleaned: cleaning would hide a leading carriage return from the guard.
    return ("'" if _FORMULA.match(value) else "") + clean(shorten(value))

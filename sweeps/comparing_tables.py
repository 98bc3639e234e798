"""A table of runs compared and reported: the work behind `adadpo compare runs.csv`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.results import Alternative, Declared, Results
from sweeps.errors import FailureError, UserError, suggest
from sweeps.provenance import versions
from sweeps.run_tables import Columns, RunTable, read_runs
from sweeps.store import write_whole


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked of a table."""

    columns: Columns
    arms: tuple[str, ...]  # candidates; empty: the one besides the baseline
    baseline: str | None
    lower_is_better: bool
    alternative: Alternative
    alpha: float
    rope: float
    decimals: int


def compare_table(path: Path, wanted: Wanted) -> tuple[Results, RunTable]:
    """Compare arms in a table of runs.

    Raises:
        UserError: the table or the request cannot be used; the message names the value, the choices and the place.
    """
    from analysis import analyse_runs

    table = read_runs(path, wanted.columns, lower_is_better=wanted.lower_is_better)
    present = list(dict.fromkeys(run.arm for run in table.runs))
    baseline, candidates = _arms(path, present, wanted)
    primary = table.metrics[0]
    if primary.higher_is_better is None:
        raise UserError(
            f"--metric {primary.name}: neither direction is better, so it cannot decide a comparison"
        )
    declared = Declared(
        baseline=baseline,
        candidate=candidates[0],
        more_candidates=candidates[1:],
        primary=primary.name,
        alternative=wanted.alternative,
        alpha=wanted.alpha,
        rope=wanted.rope,
        decimals=wanted.decimals,
    )
    packages = ("adadpo", "numpy", "scipy", "pandas")
    results = analyse_runs(
        table.runs,
        declared=declared,
        metrics=table.metrics,
        name=path.stem,
        provenance={
            "table": path.name,
            "sha256": table.sha256,
            "settings are": ", ".join(table.setting),
            "seeds are": table.seed or "not in the table: every row is taken as seed 0",
            "columns not used": ", ".join(table.unused) or "none",
            "packages now": ", ".join(
                f"{name} {version}" for name, version in versions().items() if name in packages
            ),
        },
    )
    return results, table


def write_table_report(results: Results, folder: Path) -> Path:
    """`results.json`, `report.html`, `tables/` and `figures/` in a folder; returns the page's path.

    Raises:
        FailureError: a file cannot be written.
    """
    from reports import ReportError, write_report

    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder}: is a file; a table's report is a folder")
    write_whole(
        folder / "results.json", json.dumps(results.model_dump(mode="python"), allow_nan=False) + "\n"
    )
    try:
        return write_report(results, folder)[0]
    except ReportError as error:
        raise FailureError(str(error)) from error


def table_lines(results: Results, table: RunTable, page: Path | None) -> list[str]:
    """What was taken for what, the verdict, and what is missing."""
    primary = results.comparisons[0]
    lines = [
        f"{table.source}: {len(table.runs)} runs of {', '.join(results.arms)} at {len(results.settings)} settings "
        f"with {len(results.seeds)} seeds",
        f"  settings are: {', '.join(table.setting)}; seeds: "
        + (table.seed or "not in the table, every row is taken as seed 0"),
    ]
    if table.unused:
        lines.append(f"  not used: {', '.join(table.unused)}")
    lines.append(results.verdict)
    lines += [arm.verdict for arm in results.other_arms if arm.verdict is not None]
    lines += [f"  missing: {pair}" for pair in primary.missing_pairs[:10]]
    if len(primary.missing_pairs) > 10:
        lines.append(f"  missing: {len(primary.missing_pairs) - 10} more pairs")
    if primary.test is None:
        lines.append(
            "  no arm shares a setting and a seed with the baseline: is every column of --setting a hyperparameter?"
        )
    return lines + ([] if page is None else [f"report: {page}"])


def plain(results: Results, table: RunTable, page: Path | None) -> dict[str, Any]:
    """For programs: how the table was read, then `results.json`."""
    read = {"source": table.source, "setting": table.setting, "seed": table.seed, "unused": table.unused}
    return {"read": read, "page": None if page is None else str(page)} | results.model_dump(mode="json")


def _arms(path: Path, present: list[str], wanted: Wanted) -> tuple[str, list[str]]:
    for option, names in (
        ("--arm", wanted.arms),
        ("--baseline", [wanted.baseline] if wanted.baseline else []),
    ):
        for name in names:
            if name not in present:
                raise UserError(
                    f"{path}: {option} {name!r} is not in column {wanted.columns.arm!r}{suggest(name, present)}"
                )
    if wanted.baseline is None:
        raise UserError(f"{path}: --baseline names the arm to compare with; arms: {', '.join(present)}")
    candidates = list(wanted.arms) or [arm for arm in present if arm != wanted.baseline]
    if wanted.baseline in candidates:
        raise UserError(f"--arm and --baseline are the same, {wanted.baseline!r}")
    if len(set(candidates)) < len(candidates):
        raise UserError(f"--arm names an arm twice: {', '.join(candidates)}")
    if not wanted.arms and len(candidates) != 1:
        raise UserError(
            f"{path}: --arm names the arm to compare with {wanted.baseline}; arms: {', '.join(present)}"
        )
    return wanted.baseline, candidates

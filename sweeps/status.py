"""Where a sweep stands, from its files."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from sweeps.evaluation import quarantine_reasons
from sweeps.metrics import METRICS
from sweeps.progress import label
from sweeps.rows import run_rows, run_scores
from sweeps.sweep import Sweep


def make_status(sweep: Sweep) -> dict[str, Any]:
    """Counts, failures and cells as plain data."""
    from analysis.intervals import mean, sd

    states = sweep.states()
    primary = sweep.spec.compare.primary
    working, failures, quarantined = [], [], []
    values: dict[tuple[str, str], list[float]] = {}
    scores = run_scores(sweep)
    rows = {row.run_id: row for row in run_rows(sweep, scores=scores)}
    for run in sweep.job.runs:
        folder, state = sweep.store.run(run.run_id), states[run.run_id]
        if state in ("running", "unknown"):
            owner = folder.lease.read() or {}
            working.append(
                {
                    "run": run.run_id,
                    "label": label(run),
                    "state": state,
                    "host": owner.get("host"),
                    "progress": owner.get("progress"),
                }
            )
        elif state in ("failed", "diverged"):
            failure = folder.failed(sweep.eval_id) or {}
            failures.append({"run": run.run_id, "label": label(run), "state": state, **failure})
        elif (row := rows[run.run_id]).state == "quarantined":
            reasons = quarantine_reasons(scores[run.run_id])
            quarantined.append({"run": run.run_id, "label": label(run), "reasons": reasons})
        elif (value := row.metrics[primary]) is not None:
            values.setdefault((run.setting, run.arm), []).append(value)
    counts: Counter[str] = Counter(states.values())
    counts["quarantined"] = len(quarantined)
    counts["done"] -= len(quarantined)
    cells = [
        {"setting": setting, "arm": arm, "n": len(found), "mean": mean(found), "sd": sd(found)}
        for (setting, arm), found in values.items()
    ]
    return {
        "sweep": sweep.spec.name,
        "folder": str(sweep.folder),
        "runs": len(states),
        "seeds": sweep.seeds,
        "counts": {state: count for state, count in counts.items() if count},
        "working": working,
        "failures": failures,
        "quarantined": quarantined,
        "metric": primary,
        "cells": cells,
    }


def show_status(status: dict[str, Any], console: Console) -> None:
    """The status for people."""
    counts = "  ".join(f"{count} {state}" for state, count in status["counts"].items())
    console.print(f"{status['sweep']}: {status['runs']} runs: {counts}", highlight=False, markup=False)
    for run in status["working"]:
        now = run["progress"] or {}
        at = f"{now['stage']} {now['done']}/{now['total']}" if now else "starting"
        console.print(
            f"  {run['state']} on {run['host']}: {run['label']}: {at}", highlight=False, markup=False
        )
    for run in status["failures"]:
        said = f"  {run['state']}: {run['run']} {run['label']}: {run['kind']} in {run['stage']}: {run['message']}"
        console.print(said, highlight=False, markup=False)
    if status["failures"]:
        again = f"  see: adadpo logs {status['sweep']} RUN; try again: adadpo retry {status['sweep']}"
        console.print(again, highlight=False, markup=False)
    for run in status["quarantined"]:
        said = f"  quarantined: {run['run']} {run['label']}: {'; '.join(run['reasons'])}"
        console.print(said, highlight=False, markup=False)
    if status["cells"]:
        metric = next(metric for metric in METRICS if metric.name == status["metric"])
        arms = list(dict.fromkeys(cell["arm"] for cell in status["cells"]))
        table = Table(
            title=f"{metric.label}: mean ± SD (n of {len(status['seeds'])} seeds)", title_justify="left"
        )
        table.add_column("setting")
        for arm in arms:
            table.add_column(arm, justify="right")
        for setting in dict.fromkeys(cell["setting"] for cell in status["cells"]):
            found = {cell["arm"]: cell for cell in status["cells"] if cell["setting"] == setting}
            table.add_row(setting, *(_cell(found.get(arm), metric.decimals) for arm in arms))
        console.print(table, markup=False)


def _cell(cell: dict[str, Any] | None, decimals: int) -> str:
    if cell is None:
        return "–"
    spread = f" ± {cell['sd']:.{decimals}f}" if cell["sd"] is not None else ""
    return f"{cell['mean']:.{decimals}f}{spread} ({cell['n']})"

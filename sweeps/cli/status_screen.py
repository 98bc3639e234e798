"""`adadpo status` for people: one screen. Text from users, files and libraries is never markup."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps.config.metrics import METRICS
from sweeps.execution.progress import minutes

COLOURS = {
    "done": "green",
    "running": "cyan",
    "waiting": "",
    "unknown": "yellow",
    "failed": "red",
    "diverged": "magenta",
    "cancelled": "yellow",
    "quarantined": "magenta",
}
SHOWN_RUNS = 8  # of each kind; the rest is counted
SHOWN_SETTINGS = 100  # a sweep of thousands of runs is read in its report
BAR_WIDTH = 40


def status_screen(status: dict[str, Any]) -> RenderableType:
    """Everything that `make_status` found."""
    return Group(*_parts(status))


def _parts(status: dict[str, Any]) -> Iterator[RenderableType]:
    yield _headline(status)
    yield _bar(status)
    yield from _used(status["used"])
    yield from _working(status)
    if stopped := status["stopped"]:
        yield Text.assemble("  ", ("launch stopped: ", "red"), f"{stopped['cause']}: {stopped['message']}")
    if status["stalled"]:
        yield Text.assemble(
            "  ", ("nothing runs: ", "yellow"), f"{status['counts']['waiting']} runs wait; go on: ",
            (f"adadpo launch {status['sweep']}", "bold"),
        )  # fmt: skip
        for said in status["ended"][:SHOWN_RUNS]:
            yield Text(f"    {said}")
        if (more := len(status["ended"]) - SHOWN_RUNS) > 0:
            yield Text(f"    and {more} more jobs")
    if status["report_missing"]:
        yield Text.assemble(
            "  ", ("the report is not written", "yellow"), ", and the job that was to do it is gone: ",
            (f"adadpo launch {status['sweep']}", "bold"),
        )  # fmt: skip
    for line in status["search"]:
        yield Text(line)
    if status["on_finish"]:
        yield Text.assemble("  ", ("on_finish: ", "yellow"), status["on_finish"])
    if status["queue_problem"]:
        yield Text.assemble("  ", ("queue: ", "yellow"), status["queue_problem"])
    for cause in status["causes"]:
        yield from _cause(cause, status)
    for run in status["quarantined"]:
        yield Text(f"  quarantined: {run['run']} {run['label']}: {'; '.join(run['reasons'])}")
    if status["cells"]:
        yield Text("")
        yield _table(status)


def _headline(status: dict[str, Any]) -> Text:
    said = Text.assemble((status["sweep"], "bold"), f": {status['runs']} runs: ")
    for place, (state, count) in enumerate(status["counts"].items()):
        said.append("  " if place else "")
        said.append(f"{count} {state}", style=COLOURS.get(state, ""))
    if status["queued"]:
        said.append(f"  ({status['queued']} queued)")
    return said


def _bar(status: dict[str, Any]) -> RenderableType:
    now = status["progress"]
    if now["seconds_left"] is None:
        left = f"time left {now['reason']}"
    elif now["seconds_left"] > 0:
        left = f"about {minutes(now['seconds_left'])} left at {now['at_a_time']} at a time"
    else:
        left = "nothing left to do"
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=1.0, completed=now["share"], width=BAR_WIDTH)
    grid.add_row(" ", bar, f"{100 * now['share']:3.0f}%", Text(left))
    return grid


def _used(used: dict[str, Any]) -> Iterator[Text]:
    if used["runs"]:
        lost = (
            f", {used['lost_hours']:.2f} of them in attempts that came to nothing"
            if used["lost_hours"]
            else ""
        )
        yield Text(f"  {used['hours']:.2f} {used['unit']} used by {used['runs']} runs{lost}")


def _working(status: dict[str, Any]) -> Iterator[Text]:
    for run in status["working"][:SHOWN_RUNS]:
        now = run["progress"] or {}
        at = f"{now['stage']} {now['done']}/{now['total']}" if now else "starting"
        since = f", for {minutes(time.time() - run['taken'])}" if run.get("taken") else ""
        job = f", job {run['slurm_job_id']}" if run.get("slurm_job_id") else ""
        colour = COLOURS[run["state"]]
        yield Text.assemble(
            "  ",
            (run["state"], colour),
            f" on {run['host']}{job}: {run['run'][:8]} {run['label']}: {at}{since}",
        )
        if run["state"] == "unknown":
            yield Text(
                f"    silent; if its machine is gone for good: adadpo retry {status['sweep']} {run['run'][:8]}"
            )
    if (more := len(status["working"]) - SHOWN_RUNS) > 0:
        yield Text(f"  and {more} more")


def _cause(cause: dict[str, Any], status: dict[str, Any]) -> Iterator[Text]:
    labels = {failure["run"]: failure["label"] for failure in status["failures"]}
    count = len(cause["runs"])
    colour = COLOURS["diverged" if cause["cause"] == "diverged" else "failed"]
    runs = f"{count} run{'s' if count > 1 else ''}"
    yield Text.assemble("  ", (runs, colour), f": {cause['cause']} in {cause['stage']}: {cause['message']}")
    for run in cause["runs"][:SHOWN_RUNS]:
        yield Text(f"    {run[:8]} {labels[run]}")
    if count > SHOWN_RUNS:
        yield Text(f"    and {count - SHOWN_RUNS} more")
    if cause["advice"]:
        yield Text(f"    {cause['meaning']}: {cause['advice']}")
    yield Text.assemble("    ", (cause["look"], "bold"), "   ", (cause["next"], "bold"))


def _table(status: dict[str, Any]) -> Table:
    metric = next(metric for metric in METRICS if metric.name == status["metric"])
    arms = list(dict.fromkeys(cell["arm"] for cell in status["cells"]))
    title = f"{metric.label}: mean ± SD (n of {len(status['seeds'])} seeds)"
    table = Table(title=title, title_justify="left")
    table.add_column("setting")
    for arm in arms:
        table.add_column(Text(arm), justify="right")
    cells: dict[str, dict[str, Any]] = {}
    for cell in status["cells"]:
        cells.setdefault(cell["setting"], {})[cell["arm"]] = cell
    for setting, found in itertools.islice(cells.items(), SHOWN_SETTINGS):
        table.add_row(Text(setting), *(_cell(found.get(arm), metric.decimals) for arm in arms))
    if (more := len(cells) - SHOWN_SETTINGS) > 0:
        table.add_row(Text(f"and {more} more: --json has all"))
    return table


def _cell(cell: dict[str, Any] | None, decimals: int) -> str:
    if cell is None:
        return "–"
    spread = f" ± {cell['sd']:.{decimals}f}" if cell["sd"] is not None else ""
    return f"{cell['mean']:.{decimals}f}{spread} ({cell['n']})"

"""Progress of a sweep with the time left: a bar on a terminal, a line per run elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape

from analysis.results.values import State
from sweeps.store.job import PlannedRun

if TYPE_CHECKING:
    from rich.progress import TaskID

# What the stages of a run cost, roughly, as shares; measured on the quickstart.
SHARES = {"baseline": (0.0, 0.0), "train": (0.0, 0.55), "generate": (0.55, 0.35), "KL": (0.9, 0.1)}


def run_fraction(stage: str, done: int, total: int) -> float:
    """How much of a run is behind it, from 0 to 1."""
    start, share = SHARES.get(stage, (0.0, 0.0))
    return start + share * (done / total if total else 0.0)


class SweepProgress:
    """Shows how far a sweep is; `finished` may start above 0 when earlier launches did some of the runs."""

    def __init__(self, console: Console, total: int, finished: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn  # `status` wants the names of runs alone

        self.console, self.total, self.finished = console, total, finished
        self.first = finished
        self.started = time.monotonic()
        self.fractions: dict[str, float] = {}
        self.labels: dict[str, str] = {}
        self.noted = ""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[said]}"),
        )
        self.bar = Progress(*columns, console=console, transient=True)
        self.task: TaskID = self.bar.add_task("sweep", total=total, completed=finished, said="")

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def update(self, run: PlannedRun, stage: str, done: int, total: int) -> None:
        """A stage went on."""
        self.fractions[run.run_id] = max(
            self.fractions.get(run.run_id, 0.0), run_fraction(stage, done, total)
        )
        self.labels[run.run_id] = f"{escape(label(run))}: {stage} {done}/{total}"
        self._show()

    def end(self, run: PlannedRun, state: str) -> None:
        """A run ended, or turned out to be somebody else's ("busy")."""
        self.fractions.pop(run.run_id, None)
        self.labels.pop(run.run_id, None)
        if state == "busy":
            self.console.print(f"{label(run)} is running elsewhere", markup=False, highlight=False)
            return
        self.finished += 1
        if state != State.DONE or not self.console.is_terminal:
            colour = "green" if state == State.DONE else "red"
            left = self.seconds_left()
            rest = f", about {minutes(left)} left" if left and self.finished < self.total else ""
            self.console.print(
                f"[{self.finished}/{self.total}] {escape(label(run))} [{colour}]{state}[/{colour}]{rest}",
                highlight=False,
            )
        self._show()

    def note(self, text: str) -> None:
        """Something beside the progress, such as how many runs are queued."""
        self.noted = text
        self._show()

    def seconds_left(self) -> float | None:
        """By the speed of this launch so far."""
        behind = self.finished - self.first + sum(self.fractions.values())
        ahead = self.total - self.finished - sum(self.fractions.values())
        return (time.monotonic() - self.started) / behind * ahead if behind > 0 else None

    def _show(self) -> None:
        left = self.seconds_left()
        now = next(iter(self.labels.values()), "")
        said = f"{self.finished}/{self.total} runs" + (f", {minutes(left)} left" if left else "")
        said += (f", {self.noted}" if self.noted else "") + f"  {now}"
        self.bar.update(self.task, completed=self.finished + sum(self.fractions.values()), said=said)


def label(run: PlannedRun) -> str:
    """A run in a word for people."""
    return f"{run.arm} {run.setting} seed={run.seed}"


def minutes(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"

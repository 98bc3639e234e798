"""What the verbs share: arguments and options, ways to print, opening a launched sweep."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sweeps.store.layout import open_store

if TYPE_CHECKING:
    from sweeps.state.sweep import Sweep

SweepArgument = Annotated[
    str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of a launched sweep.")
]
RunsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...",
        help="The beginning of a run's id, or words that must all hold: beta=0.01 '!lr=1e-6' arm=dpo,adadpo "
        "seed=0..2 state:failed cause:oom. Default: all.",
    ),
]
StoreOption = Annotated[
    Path | None, typer.Option("--store", help="Root of the store. Default: $ADADPO_STORE, else ./runs.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Plain data on standard output.")]
UntestableOption = Annotated[
    bool,
    typer.Option("--allow-untestable", help="Also when no outcome could reach alpha: too few settings."),
]

# emoji=False: sweep.yaml:100:7 is a place, and rich would print a picture for :100:
out = Console(soft_wrap=True, emoji=False)
err = Console(stderr=True, soft_wrap=True, emoji=False)


def say(*lines: str) -> None:
    """Print as it is: text from users and files is never markup."""
    for line in lines:
        out.print(line, markup=False, highlight=False)


def print_json(value: Any) -> None:
    """Plain data, for programs."""
    print(json.dumps(value, indent=1))


def open_launched(target: str, store: Path | None) -> Sweep:
    """A sweep as it was launched; says so where its file was changed since."""
    from sweeps.state.opening import open_sweep

    opened = open_sweep(target, open_store(store))
    file = Path(target).expanduser()
    if file.is_file() and file.read_text(encoding="utf-8") != opened.origin.text:
        said = f"{target} changed since launch; shown as launched. adadpo launch {target} applies the change"
        err.print(said, markup=False, highlight=False)
    return opened


def resolve(target: str, store: Path | None) -> Sweep:
    """A sweep by its file as it is now, for a launch; says what changed since the last one."""
    from sweeps.state.opening import drift, resolve_sweep

    resolved = resolve_sweep(target, open_store(store))
    say(*drift(resolved))
    return resolved


@contextmanager
def progress(first: str | None = None) -> Iterator[Callable[[str, float | None], None]]:
    """A bar on a terminal, on standard error; nothing elsewhere. Without a share the bar moves and no more.

    Args:
        first: what is done before the first call.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    time = TimeElapsedColumn() if first is None else TimeRemainingColumn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=30), time)
    console = Console(stderr=True, emoji=False)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = None if first is None else bar.add_task(first, total=100)

        def show(said: str, share: float | None) -> None:
            nonlocal task
            if task is None or share is None or first is None:  # a task of its own: its time starts at zero
                for old in bar.task_ids:
                    bar.remove_task(old)
                task = bar.add_task(
                    said, total=None if share is None else 100, completed=round(100 * (share or 0))
                )
            else:
                bar.update(task, description=said, completed=100 * share)

        yield show


def say_all(lines: Iterable[Any]) -> None:
    """Print lines and tables."""
    for line in lines:
        out.print(line, markup=False, highlight=False)

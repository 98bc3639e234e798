"""What a page shows: values that are ready to print, and the tables made of them.

Each piece renders itself through `__html__`, the protocol that jinja2 and markupsafe share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from markupsafe import Markup, escape

from analysis.results.model import State
from reports.render.text import clean, plural, shorten

TagKind = State | Literal["confirmatory", "exploratory"]
_TAG_SIGNS: dict[TagKind, str] = {
    State.DONE: "✓",
    State.QUARANTINED: "⊘",
    State.DIVERGED: "≁",
    State.FAILED: "✕",
    State.PRUNED: "✂",
    State.CANCELLED: "↩",
    State.RUNNING: "▸",
    State.UNKNOWN: "?",
    State.WAITING: "○",
    "confirmatory": "✓",
    "exploratory": "◇",
}


@dataclass(frozen=True)
class Missing:
    """A value that is not defined: a dash, with the reason as tooltip and for screen readers."""

    reason: str

    def __html__(self) -> str:
        reason = escape(clean(shorten(self.reason)))
        return Markup('<span class="missing" title="{}">–<span class="aside"> ({})</span></span>').format(
            reason, reason
        )


@dataclass(frozen=True)
class Tag:
    """A word with a sign, told apart by both and not by colour alone."""

    kind: TagKind
    text: str

    def __html__(self) -> str:
        return Markup('<span class="tag {}"><span aria-hidden="true">{}</span> {}</span>').format(
            self.kind, _TAG_SIGNS[self.kind], clean(shorten(self.text))
        )


@dataclass(frozen=True)
class ArmName:
    """An arm's name beside the mark it has in the figures."""

    name: str
    style: int  # class arm-0 (baseline), arm-1 (candidate), ...

    def __html__(self) -> str:
        return Markup('<span class="arm arm-{}">{}</span>').format(self.style, clean(shorten(self.name, 60)))


@dataclass(frozen=True)
class NoWrap:
    """A name that is easier to read in one line: a run id, a setting. Only a long one is wrapped."""

    name: str

    def __html__(self) -> str:
        name = clean(shorten(self.name, 400))
        return Markup('<span class="whole">{}</span>' if len(name) <= 60 else "{}").format(name)


@dataclass(frozen=True)
class Link:
    """A file that lies beside the page; its path holds ASCII letters, digits, `-`, `_`, `.` and `/` alone."""

    path: str

    def __html__(self) -> str:
        return Markup('<a href="{}">{}</a>').format(self.path, self.path)


Shown = str | Missing | Tag | ArmName | NoWrap | Link | tuple["Shown", ...]


def state_tag(state: State) -> Tag:
    """The state of a run as a tag."""
    return Tag(state, state)


def finalize(value: object) -> Markup | str:
    """What jinja2 prints for a value: text is cleaned, markup passes, anything else is a mistake of ours.

    Raises:
        TypeError: the value is not ready to print, e.g. `None` or an unformatted float.
    """
    match value:
        case Markup():
            return value
        case str():
            return clean(shorten(value))
        case Missing() | Tag() | ArmName() | NoWrap() | Link():
            return Markup(value.__html__())
        case tuple():
            return Markup("").join(escape(finalize(part)) for part in value)
        case int() if not isinstance(value, bool):
            return str(value)
    raise TypeError(f"not ready to print: {value!r}")


@dataclass(frozen=True)
class Column:
    """A column: its title, and whether it holds figures (aligned right, equally wide digits)."""

    title: Shown
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is the row's heading."""

    caption: str
    columns: list[Column]
    rows: list[list[Shown]]
    note: str = ""

    @property
    def reasons(self) -> list[str]:
        """Why values are missing: each reason once, in order of appearance."""
        found = (reason for row in self.rows for cell in row for reason in _reasons(cell))
        return list(dict.fromkeys(found))


def beginning(table: Table, most: int, where: str) -> Table:
    """A long table's first rows; a note says how many more there are, and where they stand."""
    left_out = len(table.rows) - most
    if left_out <= 0:
        return table
    said = f"{plural(left_out, 'more row')} in {where}."
    return replace(table, rows=table.rows[:most], note=f"{said} {table.note}".strip())


@dataclass(frozen=True)
class Fact:
    """A term, its value, and what it means where that is not plain."""

    term: str
    value: Shown
    note: str = ""

    @property
    def remark(self) -> str:
        """What stands beside the value: why there is none, or else what it means."""
        return self.value.reason if isinstance(self.value, Missing) else self.note


def _reasons(value: Shown) -> Iterator[str]:
    if isinstance(value, Missing):
        yield value.reason
    elif isinstance(value, tuple):
        for part in value:
            yield from _reasons(part)

"""What a user reads is plain English: a list of words that stopped readers stays out of it.

Read are README.md and docs/, comments of the sweep files, templates, `--help` of every command, every string of the
product that is no docstring (errors, hints, sentences of the report), and the words of an example report.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from sweeps.cli.main import app

ROOT = Path(__file__).parents[1]
PACKAGES = ("adadpo", "analysis", "reports", "sweeps")
# A word or phrase -> what to write instead.
BANNED = {
    r"anew": "again, or the verb with re-",
    r"mend(s|ed|ing)?": "repair, fix",
    r"besides?": "next to, with, also, as well as",
    r"whoever": "name the actor: the worker, another process",
    r"somebody|nobody": "name the actor: a worker, no worker",
    r"puts? off": "postpone, or switch off",
    r"can(not)? be had": "is (not) available",
    r"in the midst of": "during",
    r"(all|each|half|most|much|none|part) of it": "name the thing",
    r"makes? (it )?again|(is|are|be) made again|made again from": "restore, rewrite",
    r"begins? (anew|again)": "restart",
    r"(else all|all else)": "every other, the rest",
    r"for people": "say for what",
    r"for want of": "without",
    r"in work": "being worked on, running",
    r"(told|tell|tells) apart": "differ, are distinguished",
    r"speaks? of": "holds for, generalises to",
    r"says nothing of": "does not cover",
    r"of the draws\.": "seed of the draws",
    r"no excuse": "leave it out",
    r"twins?": "the same as PDF, as CSV",
    r"at hand": "available",
}
PATTERN = re.compile(rf"(?<![\w-])({'|'.join(BANNED)})(?![\w-])", flags=re.I)


def hits(text: str) -> list[str]:
    """Every banned word with its surroundings; line breaks of the text do not hide a phrase."""
    text = " ".join(text.split())
    return [text[max(0, found.start() - 40) : found.end() + 40] for found in PATTERN.finditer(text)]


def pages() -> list[Path]:
    """What is read as it lies: pages, sweep files, templates."""
    found = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *ROOT.glob("examples/*"),
    ]
    for package in PACKAGES:
        for ending in ("html", "j2", "tex", "yaml", "md"):
            found += (ROOT / package).rglob(f"*.{ending}")
    return found


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_pages(path: Path) -> None:
    assert hits(path.read_text(encoding="utf-8")) == []


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """The strings of a module that are no docstrings, parts of f-strings joined."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    apart: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            apart.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            apart.update(map(id, node.values))
            yield (
                node.lineno,
                "".join(
                    str(part.value) if isinstance(part, ast.Constant) else " {} " for part in node.values
                ),
            )
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in apart:
            yield node.lineno, node.value


def test_strings_of_the_product() -> None:
    """Errors, hints, logs and sentences of the report, wherever they are written."""
    read, found = 0, []
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for line, text in strings(path):
                read += 1
                found += [f"{path.relative_to(ROOT)}:{line}: ...{hit}..." for hit in hits(text)]
    assert read > 5000
    assert found == []


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A command and all below it."""
    yield name, command
    for word, below in getattr(command, "commands", {}).items():  # typer's own classes, not click's
        yield from commands(below, f"{name} {word}")


def test_help() -> None:
    """Every command's help and that of its options, as written, and no option without."""
    found, every = [], dict(commands(typer.main.get_command(app), "adadpo"))
    assert {"adadpo cancel", "adadpo assets", "adadpo compare"} <= {*every}
    for name, command in every.items():
        for text in (command.help, command.epilog, *(getattr(each, "help", None) for each in command.params)):
            found += [f"{name}: ...{hit}..." for hit in hits(text or "")]
    assert found == []


def test_an_example_report() -> None:
    """The words of the page, the methods paragraph and its LaTeX, as the golden text of the example has them."""
    text = (ROOT / "tests" / "reports" / "golden_report.txt").read_text(encoding="utf-8")
    assert len(text) > 40_000
    assert hits(text) == []


@pytest.mark.parametrize(
    "text",
    ["it is made anew", "Mend it", "a page beside it", "Whoever ran it", "all\nof it", "Speaks of prompts"],
)
def test_the_list_would_notice(text: str) -> None:
    assert len(hits(text)) == 1


@pytest.mark.parametrize("text", ["amend", "recommend", "what of its kind", "spread of items", "twinkle"])
def test_other_words_pass(text: str) -> None:
    assert hits(text) == []

"""A YAML file as plain data, with the line and column of everything in it."""

from __future__ import annotations

import difflib
import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError

from adadpo.errors import FailureError, UserError

Location = tuple[str | int, ...]  # path of keys and indices
MOST_VALUES = 100_000  # a few lines of aliases of aliases would expand to more than fits a memory


@dataclass(frozen=True)
class Problem:
    """Something wrong at a place in a file."""

    location: Location
    message: str
    at_key: bool = False  # the key itself is wrong, not its value


@dataclass
class YamlFile:
    """Plain data (dict, list, str, int, float, bool, None) and where it was written."""

    path: Path
    data: Any
    folder: Path  # where relative paths in it start
    keys: dict[Location, tuple[int, int]] = field(default_factory=dict)  # 1-based line and column
    values: dict[Location, tuple[int, int]] = field(default_factory=dict)
    text: str = ""

    def line_column(self, problem: Problem) -> tuple[int, int]:
        """Line and column of a problem, or of the nearest thing around it."""
        location = problem.location
        if problem.at_key and location in self.keys:
            return self.keys[location]
        while location:
            if location in self.values:
                return self.values[location]
            location = location[:-1]
        return (1, 1)

    def raise_if(self, problems: Iterable[Problem]) -> None:
        """Raises:
        UserError: all problems at once, in the order of the file.
        """
        lines = sorted({(*self.line_column(problem), problem.message) for problem in problems})
        if lines:
            raise UserError("\n".join(f"{self.path}:{line}:{column}: {text}" for line, column, text in lines))


def load_yaml(path: Path, folder: Path | None = None) -> YamlFile:
    """Read YAML 1.2, where `5e-7` is a number; duplicate keys and syntax errors are refused.

    Args:
        path: the file.
        folder: where relative paths in it start; None: beside it.

    Raises:
        UserError: unreadable or not YAML, with line and column.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise UserError(f"no such file: {path}{hint}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        place = _place(content[: error.start].decode("utf-8"))
        raise UserError(f"{path}:{place}: not UTF-8: byte 0x{content[error.start]:02x}") from error
    return read_yaml(text.replace("\r\n", "\n"), path, folder or path.absolute().parent)


def read_yaml(text: str, path: Path, folder: Path) -> YamlFile:
    """`load_yaml` of text; `path`: what messages call it.

    Raises:
        UserError: not YAML, with line and column.
    """
    if directive := re.search(r"^%YAML.*", text, re.MULTILINE):
        line = text[: directive.start()].count("\n") + 1
        raise UserError(f"{path}:{line}:1: {directive[0].strip()!r}: remove it, sweeps are read as YAML 1.2")
    file = YamlFile(path, None, folder, text=text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ruamel's, on how to write it otherwise
            tree = YAML(typ="rt").load(text)
        file.data = _plain(tree, (), file)
    except UserError:
        raise
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply, or an alias contains itself") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        # The first line says it; ruamel's further lines explain how to switch the check off.
        raise UserError(f"{place}: {str(error.problem or error.context).splitlines()[0]}") from error
    except ReaderError as error:
        character = text[error.position]
        raise UserError(
            f"{path}:{_place(text[: error.position])}: {character!r} (U+{ord(character):04X}) is no character of YAML"
        ) from error
    except (
        Exception
    ) as error:  # a scalar that does not fit its tag (!!bool abc) raises whatever ruamel trips over
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not YAML: {reason}") from error
    return file


def _place(before: str) -> str:
    """Line and column of what comes after some text."""
    line = before.count("\n") + 1
    return f"{line}:{len(before) - (before.rfind(chr(10)) + 1) + 1}"


def _plain(node: Any, location: Location, file: YamlFile) -> Any:
    """Plain data of a node; notes where its children are written."""
    if len(file.values) > MOST_VALUES:
        raise UserError(f"{file.path}: more than {MOST_VALUES} values (aliases count as what they stand for)")
    if isinstance(node, CommentedMap):
        places = node.lc.data or {}
        for key in node:
            if key in places:  # a key that came in through a merge has no place of its own
                key_line, key_column, line, column = places[key]
                file.keys[(*location, key)] = (key_line + 1, key_column + 1)
                file.values[(*location, key)] = (line + 1, column + 1)
        return {_scalar(key): _plain(value, (*location, key), file) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        for index, place in (node.lc.data or {}).items():
            file.values[(*location, index)] = (place[0] + 1, place[1] + 1)
        return [_plain(value, (*location, index), file) for index, value in enumerate(node)]
    return _scalar(node)


def _scalar(node: Any) -> Any:
    """A YAML scalar without ruamel's formatting subclasses."""
    if node is None or isinstance(node, bool):
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return str(node)  # a date or a tagged value: validation will say what was expected instead


def in_folder(name: str, folder: Path) -> str:
    """A relative path that exists beside the sweep file becomes absolute; every other name stays."""
    try:
        path = folder / Path(name).expanduser()
        looks_like_path = name.startswith((".", "~", "/")) or path.suffix in (".json", ".jsonl")
        return str(path) if looks_like_path or path.exists() else name
    except (OSError, RuntimeError):  # too long for a path, or ~somebody who is not a user here
        return name


# A database's URL as a sweep file writes it: `$NAMES` stand for what must not be written.

NAMES = re.compile(r"\$(\w+|\{\w+\})")


def fill(url: str) -> str:
    """`$NAMES` filled in from the environment.

    Raises:
        FailureError: a name is not set.
    """
    absent = [name for name in _names(url) if name not in os.environ]
    if absent:
        raise FailureError(f"study.storage names ${', $'.join(absent)}: not set in the environment")

    def value(match: re.Match[str]) -> str:
        return os.environ[match[1].strip("{}")]

    scheme, found, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    # A password may hold any character, those of a URL's grammar too.
    login = NAMES.sub(lambda match: quote(value(match), safe=""), login)
    return scheme + found + login + at + NAMES.sub(value, place)


def hide(url: str, text: str) -> str:
    """Text without anything that `fill` put into the URL, as it is or quoted."""
    for name in _names(url):
        value = os.environ.get(name, "")
        for secret in {value, quote(value, safe="")} - {""}:
            text = text.replace(secret, f"${name}")
    return text


def holds_password(url: str) -> bool:
    """A password is written out: everything that the store keeps of a sweep would repeat it."""
    login, at, _ = url.partition("://")[2].rpartition("@")
    query = re.search(r"[?&]password=([^&]*)", url)
    written = [login.partition(":")[2] if at else "", query[1] if query else ""]
    return any(text and NAMES.fullmatch(text) is None for text in written)


def _names(url: str) -> list[str]:
    return [match[1].strip("{}") for match in NAMES.finditer(url)]

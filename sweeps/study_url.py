"""A database's URL as a sweep file writes it: `$NAMES` stand for what must not be written."""

from __future__ import annotations

import os
import re
from urllib.parse import quote

from sweeps.errors import FailureError

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

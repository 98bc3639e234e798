"""Strings from outside (answers of models, names, error messages) made safe to print.

Markup is escaped elsewhere (jinja2's autoescape, `reports.figures.svg`). This module takes care of what escaping
leaves: lone surrogates, which no UTF-8 file can hold, and characters that hide or reorder text around them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# C0/C1 controls but tab and newline; bidi marks, embeddings and isolates; invisible operators; line
# separators; interlinear annotations; lone surrogates; noncharacters; tag characters. Joiners (U+200C,
# U+200D) stay: scripts and emoji need them.
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)
# No string of the page is longer than this, wherever it comes from.
LONGEST = 4000


def clean(text: str) -> str:
    """The text with every character that cannot be seen replaced by its code point, as in ⟨U+202E⟩."""
    unix = text.replace("\r\n", "\n")
    return _UNPRINTABLE.sub(lambda match: f"⟨U+{ord(match.group()):04X}⟩", unix)


def shorten(text: str, limit: int = LONGEST) -> str:
    """The text, at most `limit` characters of it; a cut shows as an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a long text, and a sentence on what was left out (empty when it is whole)."""

    text: str
    note: str


def excerpt(text: str, limit: int) -> Excerpt:
    """The first `limit` characters of a text."""
    if len(text) <= limit:
        return Excerpt(text, "")
    return Excerpt(text[:limit], f"Cut: the first {limit:,} of {len(text):,} characters are shown.")


def plural(count: int, noun: str, many: str | None = None) -> str:
    """A count with its noun, e.g. "1 seed", "3 seeds"."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def slugs(texts: Sequence[str], otherwise: str) -> list[str]:
    """Names for files: of each text its ASCII letters and digits, joined by hyphens, no two alike.

    Args:
        texts: what to name.
        otherwise: the name of a text that has neither.
    """
    found: list[str] = []
    for text in texts:
        stem = "-".join(re.findall(r"[a-z0-9]+", text[:200].lower()))[:60].strip("-") or otherwise
        name, number = stem, 1
        while name in found:
            number += 1
            name = f"{stem}-{number}"
        found.append(name)
    return found

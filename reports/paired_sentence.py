"""What a comparison of two annotation files shows, in one sentence and one word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analysis.scores import Difference, FileComparison, Score
from reports.formats import decimal, level, p_value
from reports.text import plural, shorten

ALPHA = 0.05


@dataclass(frozen=True)
class Finding:
    """The sentence names estimate, interval, p, unit and n; `kind` is about A."""

    sentence: str
    kind: Literal["better", "worse", "inconclusive", "untestable"]


def finding(compared: FileComparison) -> Finding:
    """Say what the headline metric shows; never "no difference" from a large p."""
    found = compared.headline
    a, b = name_of(compared.a, "A"), name_of(compared.b, "B")
    if stopped := [
        f"{name}: {reason}"
        for name, score in ((a, compared.a), (b, compared.b))
        for reason in score.integrity.reasons
    ]:
        return Finding(f"Quarantined, so this comparison must not count. {'; '.join(stopped)}.", "untestable")
    if found.estimate is None or found.p_value is None:
        return Finding(
            f"Not testable on {found.label}: {found.reason or 'no reason is known'}.", "untestable"
        )
    evidence = (
        f"{points(found)} ({level(found.confidence)} interval {span(found)}), paired prompt bootstrap over "
    )
    evidence += f"{plural(compared.counts.n, 'prompt')}, {p_value(found.p_value, ALPHA)}"
    if found.p_value <= ALPHA:
        word, kind = ("higher", "better") if found.estimate > 0 else ("lower", "worse")
        sentence = f"{a} scores {word} than {b} on {found.label}: {evidence}."
        return Finding(sentence, "better" if kind == "better" else "worse")
    sentence = f"These prompts do not decide whether {a} or {b} scores higher on {found.label}: {evidence}."
    return Finding(sentence, "inconclusive")


def name_of(score: Score, letter: str) -> str:
    """A model's name with its letter: two files may hold one name."""
    return f"{shorten(score.generator or score.source, 60)} ({letter})"


def points(found: Difference) -> str:
    """The difference with its unit; it must be defined."""
    assert found.estimate is not None
    return f"{decimal(found.estimate, 1, signed=True)} points"


def span(found: Difference) -> str:
    """The interval's two ends, e.g. "−8.1 to −3.5"."""
    if found.low is None or found.high is None:
        return "not defined"
    return f"{decimal(found.low, 1, signed=True)} to {decimal(found.high, 1, signed=True)}"

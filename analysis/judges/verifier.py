"""Constraints that a program can verify: "no commas", "at most 15 words", "exactly two sentences", ...

A constraint is a small dict such as `{"kind": "max_words", "value": 15}` or `{"kind": "no_commas"}`; `KINDS`
lists them. Everything here is a pure function of its arguments. The idea is that of IFEval (Zhou et al. 2023,
arXiv:2311.07911): instructions whose fulfilment needs no judgement.

What counts, decided once and tested:

- Text is compared after Unicode NFC, with typographic apostrophes read as `'`.
- A word is a run between white space that has a letter or a digit: "well-known", "don't" and "1,000" are one
  word each, a lone dash is none. Languages written without spaces are out of scope.
- A comma is a comma anywhere: "1,000" has one. Full-width, ideographic and Arabic commas count too.
- A sentence ends at `.`, `!`, `?` or `…` before white space, and at a line break. It does not end before a
  lower-case letter ("e.g. this", "etc. and"), after a title or an initial ("Dr. Who", "J. Smith"), or
  after the number of a list item ("1. Wash it"). A decimal point ends nothing.
- "The word I" is I or i as a word of its own, so also in "I'm" and "World War I", but not in "i.e." or "(i)".
- Words asked for or forbidden match as whole words in any case: "cats" does not contain "cat".
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from adadpo.errors import ConstraintError

Constraint: TypeAlias = Mapping[str, Any]
"""`{"kind": ...}` or `{"kind": ..., "value": ...}`, as `KINDS` says."""


@dataclass(frozen=True)
class Kind:
    """One kind of constraint.

    Attributes:
        takes: what `value` must be; None where the constraint has none.
        in_words: how an instruction states it, with `{value}` filled in.
        holds: whether a text, already normalised, meets it.
    """

    takes: Literal["count", "word", None]
    in_words: str
    holds: Callable[[str, Any], bool]


def words(text: str) -> list[str]:
    """Words of a text, in order, with the punctuation that touches them."""
    return [part for part in text.split() if any(character.isalnum() for character in part)]


_END = re.compile(r"[.!?…]+[\"'”’)\]*_]*(?=\s|$)")
_NO_END = re.compile(r"(?:^|[\s(\"“])(?:mr|mrs|ms|dr|prof|st|vs|[^\W\d_])\.$", re.IGNORECASE)
_LIST_NUMBER = re.compile(r"^\s*\(?(?:\d+|[a-z])[.)]$", re.IGNORECASE)


def sentences(text: str) -> list[str]:
    """Sentences of a text, in order; the rules and their limits are in the module's docstring."""
    found: list[str] = []
    for line in text.splitlines():
        start = 0
        for end in _END.finditer(line):
            piece, rest = line[start : end.end()], line[end.end() :].lstrip()
            if rest and (rest[0].islower() or _NO_END.search(piece) or _LIST_NUMBER.match(piece)):
                continue
            found.append(piece)
            start = end.end()
        found.append(line[start:])
    return [sentence.strip() for sentence in found if words(sentence)]


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(normalise(word))}(?!\w)", text, re.IGNORECASE) is not None


def _bare(word: str) -> str:
    """A word without the punctuation and markup around it, in lower case."""
    return re.sub(r"^\W+|\W+$", "", word).casefold()


def _starts_with(text: str, word: str) -> bool:
    return bool(words(text)) and _bare(words(text)[0]) == _bare(normalise(word))


def _ends_with(text: str, word: str) -> bool:
    return bool(words(text)) and _bare(words(text)[-1]) == _bare(normalise(word))


def _bullets(text: str) -> int:
    return sum(bool(re.match(r"\s*[-*•–]\s+\S", line)) for line in text.splitlines())


_COMMAS = re.compile("[,،、，﹐﹑]")
_EXCLAMATIONS = re.compile("[!¡！‼⁉❗❕]")
_FIRST_PERSON = re.compile(r"(?<!\w)(?:I|i(?![.)]))(?!\w)")

KINDS: dict[str, Kind] = {
    "max_words": Kind("count", "Use at most {value} words.", lambda text, n: len(words(text)) <= n),
    "min_words": Kind("count", "Use at least {value} words.", lambda text, n: len(words(text)) >= n),
    "sentences": Kind("count", "Write exactly {value} sentences.", lambda text, n: len(sentences(text)) == n),
    "max_sentences": Kind(
        "count", "Write at most {value} sentences.", lambda text, n: len(sentences(text)) <= n
    ),
    "bullets": Kind("count", "Write a list of {value} bullet points.", lambda text, n: _bullets(text) == n),
    "no_commas": Kind(None, "Use no commas.", lambda text, _: not _COMMAS.search(text)),
    "no_exclamation": Kind(None, "Use no exclamation mark.", lambda text, _: not _EXCLAMATIONS.search(text)),
    "no_first_person": Kind(None, "Never use the word I.", lambda text, _: not _FIRST_PERSON.search(text)),
    "no_digits": Kind(None, "Use no digits.", lambda text, _: not any(c.isnumeric() for c in text)),
    "no_question": Kind(None, "Ask no question.", lambda text, _: not re.search("[?？؟]", text)),
    "lower_case": Kind(None, "Write all in lower case.", lambda text, _: text == text.lower()),
    "includes": Kind("word", 'Use the word "{value}".', _has_word),
    "excludes": Kind("word", 'Do not use the word "{value}".', lambda text, word: not _has_word(text, word)),
    "starts_with": Kind("word", 'Start with the word "{value}".', _starts_with),
    "ends_with": Kind("word", 'End with the word "{value}".', _ends_with),
}


def validate(constraint: Constraint) -> None:
    """Check the form of a constraint.

    Raises:
        ConstraintError: not a mapping, an unknown kind, unknown keys, or a value of the wrong type.
    """
    if not isinstance(constraint, Mapping):
        raise ConstraintError(f"a constraint is a mapping with a kind, got {constraint!r}")
    name = constraint.get("kind")
    if not isinstance(name, str) or name not in KINDS:
        raise ConstraintError(f"unknown kind of constraint {name!r}; choose from {', '.join(KINDS)}")
    takes = KINDS[name].takes
    allowed = {"kind"} if takes is None else {"kind", "value"}
    if set(constraint) != allowed:
        raise ConstraintError(f"constraint {name} has the keys {sorted(allowed)}, got {sorted(constraint)}")
    value = constraint.get("value")
    if takes == "count" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConstraintError(f"constraint {name}: value must be a whole number >= 1, got {value!r}")
    if takes == "word" and (not isinstance(value, str) or len(value.split()) != 1 or not words(value)):
        raise ConstraintError(f"constraint {name}: value must be one word, got {value!r}")


def in_words(constraint: Constraint) -> str:
    """The sentence by which an instruction states a constraint, e.g. "Use at most 15 words."."""
    validate(constraint)
    stated = KINDS[constraint["kind"]].in_words.format(value=constraint.get("value"))
    return re.sub(r"\b1 (sentence|word|bullet point)s\b", r"1 \1", stated)


def normalise(text: str) -> str:
    """Text as constraints see it: NFC, `'` for typographic apostrophes, no white space around it."""
    return re.sub("[’‘ʼ＇]", "'", unicodedata.normalize("NFC", text)).strip()


def holds(text: str, constraint: Constraint) -> bool:
    """Whether a text meets one constraint (an empty text meets "no commas": see `score`).

    Raises:
        ConstraintError: see `validate`.
    """
    validate(constraint)
    return KINDS[constraint["kind"]].holds(normalise(text), constraint.get("value"))


def is_degenerate(text: str) -> bool:
    """Whether a text is empty, noise or a loop, so that meeting a constraint says nothing.

    True without any word; with more symbols than letters, digits and spaces; with one letter 10 times
    running; with one word 4 times running; with the same 4 words in a row 3 times; and when, of at least
    20 words, fewer than a third are different ones.
    """
    bare = [_bare(word) for word in words(text)]
    if not bare:
        return True
    symbols = sum(not (c.isalnum() or c.isspace()) for c in text)
    if 2 * symbols > len(text) or re.search(r"([^\W\d_])\1{9}", text):
        return True
    if any(len(set(bare[i : i + 4])) == 1 for i in range(len(bare) - 3)):
        return True
    runs = Counter(tuple(bare[i : i + 4]) for i in range(len(bare) - 3))
    if runs and max(runs.values()) >= 3:
        return True
    return len(bare) >= 20 and 3 * len(set(bare)) < len(bare)


def is_on_topic(text: str, keywords: Sequence[str]) -> bool:
    """Whether a keyword begins a word of the text: "rain" in "rainy", not in "train"; True without any."""
    text = normalise(text)
    return not keywords or any(
        re.search(rf"(?<!\w){re.escape(normalise(keyword))}", text, re.IGNORECASE) for keyword in keywords
    )


def score(text: str, constraints: Sequence[Constraint], keywords: Sequence[str] = ()) -> float:
    """Share of the constraints that a text meets.

    Args:
        text: an answer.
        constraints: at least one.
        keywords: of the instruction's topic; none means that any topic will do.

    Returns:
        In [0, 1]; 0 for a text that is degenerate or off the topic, whatever it meets: else the best
        answer to every instruction would be the same "Yes".

    Raises:
        ConstraintError: no constraint, or one that is not valid.
    """
    if not constraints:
        raise ConstraintError("a text is scored against at least one constraint, got none")
    met = [holds(text, constraint) for constraint in constraints]
    if is_degenerate(text) or not is_on_topic(text, keywords):
        return 0.0
    return sum(met) / len(met)

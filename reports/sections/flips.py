"""The prompts that one model wins and the other loses, with their answers side by side; the page's size is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import escape

from analysis.prompts.paired import PromptPair
from reports.render.cells import ArmName, Shown
from reports.render.formats import decimal
from reports.render.text import Excerpt, clean, excerpt, plural, shorten

ANSWER, PROMPT, BEGINNING = 1500, 800, 110  # characters shown
MOST = 75  # prompts shown per direction
MOST_BYTES = (
    700_000  # of texts per direction: with hostile or wide characters a page would grow past 2 MB before
)


@dataclass(frozen=True)
class Answer:
    """One answer, and what the judge made of it against the baseline's."""

    title: Shown
    excerpt: Excerpt
    preferred: bool
    result: str


@dataclass(frozen=True)
class Flip:
    """One prompt."""

    difference: str
    beginning: str
    prompt: Excerpt
    answers: tuple[Answer, Answer]
    baseline: Answer
    origin: str = ""  # of the answers, where there are several pairs of them


@dataclass(frozen=True)
class FlipGroup:
    """The prompts that flipped in one direction, the largest difference first."""

    title: str
    flips: list[Flip]
    note: str  # what is not shown


@dataclass(frozen=True)
class Flips:
    """Both directions."""

    groups: list[FlipGroup]
    note: str


def flips_of(pairs: Sequence[PromptPair], names: tuple[ArmName, ArmName], baseline: str) -> Flips:
    """Both directions of the flipped prompts, which come sorted.

    Args:
        pairs: what `analysis.prompts.paired.flipped` gives.
        names: of A and B.
        baseline: its name.
    """
    a, b = ("A", "B")
    return Flips(
        groups=[
            _group(f"{a} wins, {b} loses", [pair for pair in pairs if pair.flip == "a"], names, baseline),
            _group(f"{b} wins, {a} loses", [pair for pair in pairs if pair.flip == "b"], names, baseline),
        ],
        note="The judge prefers one model’s answer to the baseline’s and the baseline’s to the other’s. Before each "
        "prompt: A’s preference minus B’s, in points of win probability.",
    )


def _group(
    title: str, pairs: Sequence[PromptPair], names: tuple[ArmName, ArmName], baseline: str
) -> FlipGroup:
    flips: list[Flip] = []
    size = 0
    for pair in pairs[:MOST]:
        flip = flip_of(pair, names, baseline)
        size += _bytes(flip)
        if size > MOST_BYTES:
            break
        flips.append(flip)
    left_out = len(pairs) - len(flips)
    note = f"{plural(left_out, 'more prompt')} flipped this way with smaller or equal differences and are not shown."
    return FlipGroup(f"{title}: {plural(len(pairs), 'prompt')}", flips, note if left_out else "")


def flip_of(pair: PromptPair, names: tuple[ArmName, ArmName], baseline: str) -> Flip:
    """One prompt with the answers of A, B and the baseline, long ones cut."""
    sides = (
        (names[0], pair.output_a, pair.preference_a),
        (names[1], pair.output_b, pair.preference_b),
    )
    answers = [
        Answer(
            title=name,
            excerpt=excerpt(output, ANSWER),
            preferred=preference > 1.5,
            result=f"{'✓ wins' if preference > 1.5 else '✕ loses'}, {decimal(100 * (preference - 1), 1)}%",
        )
        for name, output, preference in sides
    ]
    return Flip(
        difference=decimal(100 * pair.difference, 0, signed=True),
        beginning=shorten(" ".join(pair.instruction.split()), BEGINNING),
        prompt=excerpt(pair.instruction, PROMPT),
        answers=(answers[0], answers[1]),
        baseline=Answer(shorten(baseline, 60), excerpt(pair.baseline_output, ANSWER), False, ""),
    )


def _bytes(flip: Flip) -> int:
    texts = [
        flip.beginning,
        flip.prompt.text,
        *(each.excerpt.text for each in (*flip.answers, flip.baseline)),
    ]
    return sum(len(escape(clean(text)).encode("utf-8")) for text in texts)

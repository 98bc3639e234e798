"""The page that compares two annotation files: one self-contained HTML file, no script, nothing from the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adadpo.files import atomic_write
from analysis.prompts.paired import SAME, Difference, FileComparison, Outcome, PromptPair, Score, flipped
from analysis.results.values import State
from reports.figures.forest import files_figure
from reports.page import environment
from reports.render.cells import ArmName, Column, Fact, Missing, Shown, Table, Tag
from reports.render.formats import decimal, exact_p, level, number, p_value
from reports.render.text import plural, shorten
from reports.sections.flips import flips_of

# What a comparison of two annotation files shows, in one sentence and one word.

ALPHA = 0.05


@dataclass(frozen=True)
class Finding:
    """The sentence names estimate, interval, p, unit and n; `kind` is about A."""

    sentence: str
    kind: Literal["better", "worse", "inconclusive", "untestable"]


def finding(compared: FileComparison) -> Finding:
    """What the headline metric shows; a large p is never "no difference"."""
    found = compared.headline
    a, b = name_of(compared.a, "A"), name_of(compared.b, "B")
    if stopped := [
        f"{name}: {reason}"
        for name, score in ((a, compared.a), (b, compared.b))
        for reason in score.integrity.reasons
    ]:
        return Finding(f"Quarantined: this comparison does not count. {'; '.join(stopped)}.", "untestable")
    if found.estimate is None or found.p_value is None:
        return Finding(
            f"Not testable on {found.label}: {found.reason or 'no reason was recorded'}.", "untestable"
        )
    evidence = (
        f"{points(found)} ({level(found.confidence)} interval {span(found)}), paired prompt bootstrap over "
    )
    evidence += f"{plural(compared.counts.n, 'prompt')}, {p_value(found.p_value, ALPHA)}"
    if found.p_value <= ALPHA:
        word, kind = ("higher", "better") if found.estimate > 0 else ("lower", "worse")
        sentence = f"{a} scores {word} than {b} on {found.label}: {evidence}."
        return Finding(sentence, "better" if kind == "better" else "worse")
    sentence = f"Undecided. {a} minus {b} on {found.label}: {evidence}."
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


_BADGES = {
    "better": ("▲", "A scores higher"),
    "worse": ("▼", "A scores lower"),
    "inconclusive": ("?", "Inconclusive"),
    "untestable": ("∅", "Does not count"),
}


def render_comparison(compared: FileComparison, pairs: Sequence[PromptPair]) -> str:
    """The comparison as one HTML page; equal arguments give equal bytes, and every string is escaped.

    Args:
        compared: the numbers.
        pairs: the compared prompts with their answers, in order.
    """
    names = (_mark(compared.a, "A", 0), _mark(compared.b, "B", 1))
    found = finding(compared)
    sign, badge = _BADGES[found.kind]
    return (
        environment()
        .get_template("compared.html")
        .render(
            title=f"{name_of(compared.a, 'A')} against {name_of(compared.b, 'B')}",
            names=names,
            verdict={
                "kind": found.kind,
                "sign": sign,
                "badge": badge,
                "sentence": found.sentence,
                "numbers": _numbers(compared),
            },
            setting=_setting(compared),
            left_out=_left_out(compared),
            rates=_rates(compared, names),
            figure=files_figure(compared),
            flags=_flags(compared, names),
            counts=_counts(compared),
            outcomes=_outcomes(compared),
            flips=flips_of(flipped(pairs), names, compared.a.baseline or ""),
            notes=_notes(compared),
            files=_files(compared, names),
        )
    )


def write_comparison(compared: FileComparison, pairs: Sequence[PromptPair], path: str | Path) -> Path:
    """Write the page, whole or not at all, and return where.

    Raises:
        FailureError: the file cannot be written.
    """
    path = Path(path)
    atomic_write(path, render_comparison(compared, pairs))
    return path


def _mark(score: Score, letter: str, style: int) -> ArmName:
    return ArmName(f"{letter}: {score.generator or score.source}", style)


def _numbers(compared: FileComparison) -> list[Fact]:
    facts = []
    counts = not (compared.a.integrity.quarantined or compared.b.integrity.quarantined)
    for each in compared.differences:
        value = number(each.estimate, 1, signed=True, reason=each.reason or "not defined")
        if not counts:  # the table below has it, beside the flags
            value = Missing("a quarantined file does not count")
        shown: Shown = value if isinstance(value, Missing) else (value, " points")
        facts.append(Fact(f"Difference in {each.label}", shown, f"{_p(each)}, A minus B"))
    facts.append(
        Fact(
            "Prompts",
            f"{compared.counts.n:,}",
            "the unit: each prompt was judged for both against one baseline",
        )
    )
    to_a, to_b = compared.counts.flips_to_a, compared.counts.flips_to_b
    return [*facts, Fact("Flipped", f"{to_a} : {to_b}", "A wins where B loses, and the reverse")]


def _setting(compared: FileComparison) -> str:
    return (
        f"{plural(compared.counts.n, 'prompt')}; baseline {shorten(compared.a.baseline or '–', 100)}; "
        f"judge {shorten(compared.a.judge or '–', 100)}."
    )


def _left_out(compared: FileComparison) -> list[str]:
    said = []
    if compared.only_a or compared.only_b:
        said.append(
            f"Compared on the prompts in both files, as requested: {plural(compared.only_a, 'prompt')} only in A and "
            f"{compared.only_b:,} only in B are left out."
        )
    if compared.unjudged:
        said.append(
            f"{plural(compared.unjudged, 'prompt')} without a preference on one side or both: left out."
        )
    return said


def _rates(compared: FileComparison, names: tuple[ArmName, ArmName]) -> Table:
    rows: list[list[Shown]] = []
    for each in compared.differences:
        ends: Shown = (
            f"[{decimal(each.low, 1, signed=True)}, {decimal(each.high, 1, signed=True)}]"
            if each.low is not None and each.high is not None
            else Missing(each.reason or "no interval")
        )
        rows.append(
            [
                f"{each.label} (%)",
                number(each.a, 1, reason=each.reason or "not defined"),
                number(each.b, 1, reason=each.reason or "not defined"),
                number(each.estimate, 1, signed=True, reason=each.reason or "not defined"),
                number(each.standard_error, 2, reason=each.reason or "no bootstrap"),
                ends,
                Missing(each.reason or "no p")
                if each.p_value is None
                else _p(each).removeprefix("p ").removeprefix("= "),
            ]
        )
    lengths = (compared.a.mean_length, compared.b.mean_length)
    gap = None if None in lengths else (lengths[0] or 0) - (lengths[1] or 0)
    none = Missing("not estimated for lengths")
    rows.append(
        [
            "Length (characters)",
            *(number(each, 0) for each in lengths),
            number(gap, 0, signed=True),
            none,
            none,
            none,
        ]
    )
    titles: list[Shown] = [
        *names,
        "A − B",
        "SE",
        f"{level(compared.differences[0].confidence)} interval",
        "p",
    ]
    columns = [Column("Metric"), *(Column(title, numeric=True) for title in titles)]
    method = compared.a.lc_method
    calibration = f", calibration {compared.a.calibration[:12]}" if compared.a.calibration else ""
    return Table(
        "On the same prompts; differences in points", columns, rows, f"LC method: {method}{calibration}."
    )


def _p(each: Difference) -> str:
    return "no p" if each.p_value is None else p_value(each.p_value, ALPHA)


def _flags(compared: FileComparison, names: tuple[ArmName, ArmName]) -> Table:
    rows: list[list[Shown]] = [
        [
            name,
            Tag(State.FAILED, "quarantine") if flag.severity == "quarantine" else Tag(State.WAITING, "note"),
            flag.message,
        ]
        for name, score in zip(names, (compared.a, compared.b), strict=True)
        for flag in score.integrity.flags
    ]
    return Table(
        "What the integrity gate found in the whole files",
        [Column("File"), Column("Severity"), Column("What")],
        rows,
    )


def _counts(compared: FileComparison) -> list[Fact]:
    counts = compared.counts
    return [
        Fact("A better, tied, B better", f"{counts.a_better}, {counts.ties}, {counts.b_better}", _tie()),
        Fact("Sign test", p_value(counts.sign_p_value), f"exact, two-sided: {exact_p(counts.sign_p_value)}"),
        Fact("A wins, B loses", str(counts.flips_to_a), "against the baseline"),
        Fact("B wins, A loses", str(counts.flips_to_b)),
        Fact(
            "McNemar’s test",
            p_value(counts.mcnemar_p_value),
            f"exact, two-sided, on the flipped prompts: {exact_p(counts.mcnemar_p_value)}",
        ),
    ]


def _tie() -> str:
    return f"tied: win probabilities within {100 * SAME:g} points"


def _outcomes(compared: FileComparison) -> Table:
    words: dict[Outcome, str] = {"win": "wins", "draw": "draws", "loss": "loses"}
    rows: list[list[Shown]] = [
        [f"A {words[mine]}", *(str(compared.counts.outcomes[mine][other]) for other in words)]
        for mine in words
    ]
    columns = [Column("Prompts"), *(Column(f"B {word}", numeric=True) for word in words.values())]
    return Table("Outcomes against the baseline", columns, rows)


def _notes(compared: FileComparison) -> list[Fact]:
    draws = f"{compared.replicates:,} draws, seed {compared.seed}"
    return [
        Fact(
            "Unit",
            "The prompt. Both files hold the same prompts, the same baseline’s answers and the same judge, so their "
            "preferences are paired. p and interval generalise to similar prompts, with these two sets of answers: not "
            "to another training run, other samples of the answers or another judge.",
        ),
        Fact(
            "Interval and p",
            f"Paired prompt bootstrap ({draws}): whole prompts are drawn with replacement, the same ones for A and B, "
            "and the length-controlled win rate is fitted again in each draw.",
        ),
        Fact(
            "Win rate and length-controlled win rate",
            "WR is the mean preference for the model over the baseline, in percent. LC is what a regression predicts "
            "at equal lengths. They are different measures: neither stands in for the other, and LC values of "
            "different methods or calibrations are never compared.",
        ),
        Fact(
            "Prompt by prompt",
            "Counts describe these answers. The sign test and McNemar’s test use directions only and are descriptive.",
        ),
    ]


def _files(compared: FileComparison, names: tuple[ArmName, ArmName]) -> Table:
    rows: list[list[Shown]] = [
        [name, score.source, score.sha256]
        for name, score in zip(names, (compared.a, compared.b), strict=True)
    ]
    return Table("What was compared", [Column("Model"), Column("File"), Column("sha256")], rows)

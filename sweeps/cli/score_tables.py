"""Scores and comparisons of annotation files as a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from analysis.prompts.paired import Difference, FileComparison, PairedPrompts, Score
from reports.render.formats import decimal, p_value
from reports.render.text import clean, plural, shorten
from reports.two_files import ALPHA, finding
from sweeps.annotation_tools.scoring import Options


def score_lines(scores: Sequence[Score], options: Options) -> Iterator[Table | str]:
    """One table per baseline and judge, since win rates against others mean other things; then every flag."""
    key = _judged
    for (baseline, judge), group in groupby(sorted(scores, key=key), key=key):
        yield _score_table(list(group), baseline, judge)
    first = scores[0]
    known = f", calibration {first.calibration[:12]}" if first.calibration else ""
    draws = f"{options.replicates} bootstrap draws of prompts, seed {options.seed}"
    yield f"LC by {first.lc_method}{known}; SE of LC: {draws}"
    for score in scores:
        name = safe(f"{score.generator or 'no model'} ({score.source})")
        if score.reason is not None:
            yield f"{name}: –: {safe(score.reason)}"
        for flag in score.integrity.flags:
            word = "QUARANTINED" if flag.severity == "quarantine" else "note"
            yield f"{name}: {word}: {safe(flag.message)}"


def comparison_lines(
    compared: FileComparison, paired: PairedPrompts, page: Path | None
) -> Iterator[Table | str]:
    """The sentence, the numbers behind it, and where to look on."""
    yield safe(finding(compared).sentence)
    table = Table(title="A minus B, in points", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric")
    for heading in ("A", "B", "A − B", "SE", "95% interval", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in compared.differences:
        table.add_row(*_difference_cells(each))
    yield table
    for letter, score in (("A", compared.a), ("B", compared.b)):
        yield safe(f"{letter}: {score.generator}, {score.source}")
    yield safe(f"against {compared.a.baseline}, judged by {compared.a.judge}; LC by {compared.a.lc_method}")
    for each in compared.differences:
        if each.reason is not None:
            yield f"{each.label}: –: {safe(each.reason)}"
    counts = compared.counts
    yield (
        f"{plural(counts.n, 'prompt')}: A better on {counts.a_better}, tied on {counts.ties}, B better on "
        f"{counts.b_better} (sign test {p_value(counts.sign_p_value)})"
    )
    yield (
        f"flipped: A wins where B loses {counts.flips_to_a}, the reverse {counts.flips_to_b} "
        f"(McNemar {p_value(counts.mcnemar_p_value)})"
    )
    if compared.only_a or compared.only_b:
        yield f"left out, as asked: {plural(compared.only_a, 'prompt')} only in A, {compared.only_b} only in B"
    if compared.unjudged:
        yield f"left out: {plural(compared.unjudged, 'prompt')} without a preference on one side or both"
    for letter, score in (("A", compared.a), ("B", compared.b)):
        for flag in score.integrity.flags:
            word = "QUARANTINED" if flag.severity == "quarantine" else "note"
            yield f"{letter}: {word}: {safe(flag.message)}"
    if page is not None:
        yield f"wrote {page}"
    elif counts.flips_to_a + counts.flips_to_b:
        yield "-o page.html writes a page with the answers to the prompts that flipped"


def safe(text: str) -> str:
    """Text from files without what a terminal would obey: control characters are shown as code points."""
    return clean(shorten(text, 500)).replace("\n", " ")


def _judged(score: Score) -> tuple[str, str]:
    return (score.baseline or "–", score.judge or "–")


def _score_table(scores: list[Score], baseline: str, judge: str) -> Table:
    title = Text(safe(f"against {baseline}, judged by {judge}"))
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", overflow="fold")
    for heading in ("WR ± SE", "LC ± SE", "n", "W/L/D", "length"):
        table.add_column(heading, justify="right", no_wrap=True)
    for score in scores:
        name = safe(score.generator or Path(score.source).name)
        table.add_row(
            Text(f"{name} (quarantined)" if score.integrity.quarantined else name),
            _with_error(score.win_rate, score.win_rate_se),
            _with_error(score.length_controlled_win_rate, score.length_controlled_win_rate_se),
            str(score.n),
            f"{score.wins}/{score.losses}/{score.draws}",
            "–" if score.mean_length is None else f"{score.mean_length:.0f}",
        )
    return table


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "–"
    return f"{decimal(value, 2)} ± {'–' if error is None else decimal(error, 2)}"


def _difference_cells(each: Difference) -> tuple[str, ...]:
    def shown(value: float | None, decimals: int, signed: bool = False) -> str:
        return "–" if value is None else decimal(value, decimals, signed=signed)

    interval = "–"
    if each.low is not None and each.high is not None:
        interval = f"[{shown(each.low, 2, True)}, {shown(each.high, 2, True)}]"
    return (
        each.label,
        shown(each.a, 2),
        shown(each.b, 2),
        shown(each.estimate, 2, True),
        shown(each.standard_error, 2),
        interval,
        "–" if each.p_value is None else p_value(each.p_value, ALPHA).removeprefix("p ").removeprefix("= "),
    )

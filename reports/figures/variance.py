"""Variance components of the primary difference: where its spread comes from, and what makes its error."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from analysis.document import Results
from analysis.results.model import CrossedTest, GeneralizationTest, Metric, VarianceComponents
from reports.figures import svg
from reports.render.cells import Column, Fact, Missing, Shown, Table
from reports.render.formats import metric_named, number, primary_comparison, with_unit

_SOURCES = {
    "setting": ("Settings", "the arms differ more at some settings than at others"),
    "seed": ("Seeds", "shared by all settings of one seed: data order, sampling"),
    "run": ("Runs", "the rest: training, decoding and judging of a single pair of runs"),
}
WIDTH, ROW, LEFT, BAR = 640.0, 46.0, 92.0, 14.0


@dataclass(frozen=True)
class Variance:
    """The section's parts; no figure where no component is above 0."""

    table: Table
    figure: Markup | None
    facts: list[Fact]
    notes: list[str]


def variance_of(results: Results) -> Variance | Missing | None:
    """The section; None where nothing was compared."""
    found = primary_comparison(results)
    if found is None or found.inference is None:
        return None
    crossed = found.inference.crossed
    if crossed.components is None:
        return Missing(f"Not defined: {crossed.reason or 'no reason was recorded'}.")
    metric = metric_named(results, found.metric)
    of_one = _positive(crossed.components, 1, 1)
    of_mean = _positive(crossed.components, crossed.settings, crossed.seeds)
    return Variance(
        table=_table(crossed.components, metric, of_one, of_mean),
        figure=_figure(of_one, of_mean) if sum(of_one.values()) > 0 else None,
        facts=_facts(crossed, metric) + _prompt_facts(found.inference.generalization, metric),
        notes=_notes(crossed.components),
    )


def _positive(components: VarianceComponents, settings: int, seeds: int) -> dict[str, float]:
    """What each source adds to the variance of a mean over so many; an estimate below 0 adds nothing."""
    over = {"setting": settings, "seed": seeds, "run": settings * seeds}
    return {name: max(0.0, getattr(components, name)) / n for name, n in over.items()}


def _share(parts: dict[str, float], name: str) -> Shown:
    total = sum(parts.values())
    return f"{100 * parts[name] / total:.0f}%" if total > 0 else Missing("no component is above 0")


def _table(
    components: VarianceComponents, metric: Metric, of_one: dict[str, float], of_mean: dict[str, float]
) -> Table:
    rows: list[list[Shown]] = []
    for name, (title, meaning) in _SOURCES.items():
        value = getattr(components, name)
        sd: Shown = (
            number(math.sqrt(value), metric.decimals + 1)
            if value >= 0
            else Missing("a negative estimate has no SD")
        )
        rows.append(
            [
                title,
                meaning,
                number(value, metric.decimals + 2, signed=True),
                sd,
                _share(of_one, name),
                _share(of_mean, name),
            ]
        )
    unit = f" ({metric.unit})" if metric.unit else ""
    columns = [Column("Source"), Column("What it is"), Column("Variance", numeric=True)]
    columns += [Column(f"SD{unit}", numeric=True), Column("Share, one pair", numeric=True)]
    columns.append(Column("Share, SE²", numeric=True))
    return Table(f"{metric.label}: candidate minus baseline, settings crossed with seeds", columns, rows)


def _facts(crossed: CrossedTest, metric: Metric) -> list[Fact]:
    reason = crossed.reason or "not defined"
    error = number(crossed.standard_error, metric.decimals + 1, reason=reason)
    freedom = number(crossed.degrees_of_freedom, 1, reason=reason)
    return [
        Fact(
            "SE of the mean difference", with_unit(error, metric), "over settings and seeds, both as samples"
        ),
        Fact("Degrees of freedom", freedom, "Satterthwaite"),
    ]


def _prompt_facts(generalization: GeneralizationTest | None, metric: Metric) -> list[Fact]:
    """What the prompts, which all runs share, add to the error of the mean difference."""
    if generalization is None:
        return []
    if generalization.prompt is None:
        reason = generalization.prompt_reason or "no prompt-level data"
        return [Fact("Prompts as a sample", Missing(reason), "the verdict holds for these prompts only")]
    part = generalization.prompt
    shared, total = (max(0.0, variance) ** 0.5 for variance in (part.shared, part.total))
    note = f"{metric.unit}; {total:.{metric.decimals + 1}f} including the run-by-prompt interaction"
    return [
        Fact(
            f"Standard error from {part.prompts:,} prompts",
            number(shared, metric.decimals + 1),
            f"{note.lstrip()}; {part.draws:,} draws",
        )
    ]


def _notes(components: VarianceComponents) -> list[str]:
    notes = [
        "Share, one pair: share of the variance of a single pair of runs. Share, SE²: share of the squared standard "
        "error of the mean, after averaging. Adding more of the source with the largest share helps most."
    ]
    below = [_SOURCES[name][0].lower() for name in _SOURCES if getattr(components, name) < 0]
    if below:
        notes.append(
            f"Negative estimates ({', '.join(below)}): the estimator is unbiased, so an estimate of a small or absent "
            "component can fall below 0. Its share counts as 0."
        )
    return notes


def _figure(of_one: dict[str, float], of_mean: dict[str, float]) -> Markup:
    """Two bars for each source: its share of one pair's variance, and of the mean's."""
    marks: list[Markup] = []
    full = WIDTH - LEFT - 56
    for index, (name, (title, _)) in enumerate(_SOURCES.items()):
        top = 34 + ROW * index
        marks.append(svg.label(0, top + 20, title, "strong"))
        for place, (parts, style) in enumerate(((of_one, "bar"), (of_mean, "bar mean"))):
            share = parts[name] / sum(parts.values())
            y = top + place * (BAR + 3)
            if share > 0:
                marks.append(svg.element("rect", x=LEFT, y=y, width=share * full, height=BAR, class_=style))
            marks.append(svg.label(LEFT + share * full + 8, y + 11.5, f"{100 * share:.0f}%", "small"))
    bottom = 34 + ROW * len(_SOURCES)
    marks.append(svg.line(LEFT, 28, LEFT, bottom - 6, "base"))
    marks.append(svg.element("rect", x=LEFT, y=4, width=BAR, height=BAR, class_="bar"))
    marks.append(svg.label(LEFT + 20, 15.5, "of one pair of runs", "small"))
    marks.append(svg.element("rect", x=LEFT + 180, y=4, width=BAR, height=BAR, class_="bar mean"))
    marks.append(svg.label(LEFT + 200, 15.5, "of the squared standard error of the mean", "small"))
    one, mean = (
        {name: part / sum(parts.values()) for name, part in parts.items()} for parts in (of_one, of_mean)
    )
    said = "; ".join(f"{title} {one[name]:.0%} and {mean[name]:.0%}" for name, (title, _) in _SOURCES.items())
    description = (
        f"Shares of one pair's variance and of the squared standard error: {said}. The table gives the "
        "numbers."
    )
    return svg.picture(
        "figure-variance", "Variance components", description, WIDTH, bottom, marks, natural=True
    )

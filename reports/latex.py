"""The report's tables and methods as LaTeX, ready to be input into a paper, with a document that shows them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from analysis.document import Results
from analysis.results.model import Comparison
from reports.outline import Section
from reports.render.cells import Column, Missing, NoWrap, Shown, Table
from reports.render.formats import (
    arm_name,
    count,
    exact_p,
    interval,
    level,
    measure,
    metric_named,
    p_value,
    primary_comparison,
    setting_value,
    titled,
)
from reports.render.tex import escape, latex_table, with_characters
from reports.sections.methods_paragraph import methods_sentences
from reports.sections.run_table import Cells

DOCUMENT = "report-tables.tex"
# Sections of the page whose tables a paper may want, and what their files hold.
_OF_SECTIONS = {
    "groups": "Differences by group of settings",
    "sensitivity": "Sensitivity: other tests, rules for missing runs, formulas",
    "arms": "Other arms",
    "others": "Other metrics",
    "best": "Best of the grid",
    "claims": "The paper's claims",
}
_HEAD = "% Made from results.json. Needs \\usepackage{booktabs,siunitx,longtable}.\n"
_SEEDS_SHOWN = 5  # single seeds stand in columns of their own up to here


def latex_files(
    results: Results, sections: Sequence[Section]
) -> Iterator[tuple[str, str, Callable[[], str]]]:
    """Name, what it holds, and how it is made, of each file; the document that inputs the others is the last."""
    tables = {name: each for name, each in _tables(results, sections).items() if each[1]}
    for name, (holds, shown) in tables.items():
        yield f"{name}.tex", holds, partial(_file, name, shown)
    yield "methods.tex", "The methods as a paragraph", partial(methods_tex, results)
    yield (
        DOCUMENT,
        "A document of these tables, to compile as it is",
        partial(_document, results, list(tables)),
    )


def methods_tex(results: Results) -> str:
    """The methods paragraph, a sentence on each line."""
    lines = [escape(sentence, 20_000) for sentence in methods_sentences(results)]
    return with_characters("% Made from results.json.\n" + "\n".join(lines) + "\n")


def _tables(results: Results, sections: Sequence[Section]) -> dict[str, tuple[str, list[Table]]]:
    found = {section.name: section.content for section in sections}
    cells = found.get("cells")
    axes = partial(_by_axes, results)
    tables = {
        "cells": (
            "Mean and SD per cell, primary metric",
            [axes(cells.primary)] if isinstance(cells, Cells) else [],
        ),
        "cells-others": (
            "Mean and SD per cell, other metrics",
            [axes(table) for _, table in cells.others] if isinstance(cells, Cells) else [],
        ),
        "primary-test": ("The primary test", [primary_table(results)] if primary_comparison(results) else []),
        "differences": ("Paired differences per setting", [axes(each) for each in _differences(results)]),
    }
    for name, holds in _OF_SECTIONS.items():
        tables[name] = (holds, [each for each in _inside(found.get(name)) if each.rows])
    return tables


def _inside(content: object) -> Iterator[Table]:
    if isinstance(content, Table):
        yield content
    elif isinstance(content, list | tuple):
        for each in content:
            yield from _inside(each)
    elif dataclasses.is_dataclass(content) and not isinstance(content, type):
        for field in dataclasses.fields(content):
            yield from _inside(getattr(content, field.name))


def _file(name: str, tables: Sequence[Table]) -> str:
    several = len(tables) > 1
    made = [latex_table(table, f"{name}-{at}" if several else name) for at, table in enumerate(tables, 1)]
    return with_characters(_HEAD + "\n".join(made))


def _document(results: Results, names: Sequence[str]) -> str:
    inputs = "".join(f"\\input{{{name}}}\n\\clearpage\n" for name in names)
    return with_characters(
        rf"""% Made from results.json. Compile in this folder: pdflatex, lualatex or xelatex.
\documentclass[10pt]{{article}}
\usepackage[a4paper,margin=2cm]{{geometry}}
\ifdefined\Umathchar\else\IfFileExists{{lmodern.sty}}{{\usepackage[T1]{{fontenc}}\usepackage{{lmodern}}}}{{}}\fi
\usepackage{{booktabs,siunitx,longtable}}
\emergencystretch=3em
\begin{{document}}
\section*{{{escape(results.sweep)}}}
{escape(results.verdict, 2000)}

\subsection*{{Methods}}
\input{{methods}}

\clearpage
{inputs}\end{{document}}
"""
    )


def _by_axes(results: Results, table: Table) -> Table:
    """A table whose first column is the setting, with a column for each hyperparameter in its place."""
    values = {run.setting: run.hyperparameters for run in results.runs}
    heads = [row[0].name if isinstance(row[0], NoWrap) else "" for row in table.rows]
    axes = list(results.axes)
    if not axes or any(set(values.get(head, {})) != set(axes) for head in heads):
        return table
    columns = [
        Column(axis.replace("_", " "), all(isinstance(values[head][axis], int | float) for head in heads))
        for axis in axes
    ]
    rows: list[list[Shown]] = [
        [*(setting_value(values[head][axis]) for axis in axes), *row[1:]]
        for head, row in zip(heads, table.rows, strict=True)
    ]
    return dataclasses.replace(table, columns=[*columns, *table.columns[1:]], rows=rows)


def primary_table(results: Results) -> Table:
    """The declared comparisons: estimate, interval, p and n, with what the test ranked."""
    declared = results.declared
    metric = metric_named(results, declared.primary)
    found = [(declared.candidate, primary_comparison(results))]
    found += [(each.candidate, each.comparison) for each in results.other_arms if each.declared]
    rows = [_test_row(results, arm, each) for arm, each in found if each is not None]
    titles = ["Estimate", "Interval", "Level", "p", "Adjusted p", "n", "W+", "W−", "Won / tied / lost"]
    first = found[0][1]
    status = (
        "confirmatory" if first and first.confirmatory and not results.declaration_changed else "exploratory"
    )
    caption = (
        f"{titled(metric)}, minus {declared.baseline}: Hodges–Lehmann estimate and Wilcoxon signed-rank test "
        f"over settings, averaged over seeds ({declared.alternative}, α = {exact_p(declared.alpha)}, {status})"
    )
    return Table(caption, [Column("Arm"), *(Column(title, True) for title in titles)], rows)


def _test_row(results: Results, arm: str, found: Comparison) -> list[Shown]:
    metric, alpha = metric_named(results, found.metric), results.declared.alpha
    estimate, test = found.estimate, found.test
    why = Missing(found.test_reason or "there is no test")
    achieved = None if estimate is None or estimate.low is None else estimate.achieved
    adjusted = found.adjusted_p
    return [
        arm_name(results, arm),
        measure(
            estimate.estimate if estimate else None, metric, signed=True, reason="no difference is defined"
        ),
        interval(estimate, metric.decimals),
        Missing("there is no interval") if achieved is None else level(achieved),
        why if test is None else _bare(test.p_value, alpha),
        Missing("a single comparison is not adjusted") if adjusted is None else _bare(adjusted, alpha),
        why if test is None else str(test.n),
        why if test is None else count(test.w_plus),
        why if test is None else count(test.w_minus),
        f"{found.won} / {found.tied} / {found.lost}",
    ]


def _bare(p: float, alpha: float) -> str:
    return p_value(p, alpha).removeprefix("p ").removeprefix("= ")


def _differences(results: Results) -> Iterator[Table]:
    """Per setting: mean, SD and number of pairs of the primary metric's differences, and few seeds one by one."""
    found = primary_comparison(results)
    if found is None:
        return
    metric = metric_named(results, found.metric)
    seeds = results.seeds if len(results.seeds) <= _SEEDS_SHOWN else []
    rows: list[list[Shown]] = []
    for each in found.differences:
        values = {pair.seed: pair.value for pair in each.values}
        lacking = "a run of the pair has no value"
        rows.append(
            [
                NoWrap(each.setting),
                *(measure(values.get(seed), metric, signed=True, reason=lacking) for seed in seeds),
                measure(each.mean, metric, signed=True, reason="no complete pair of runs"),
                measure(each.sd, metric, reason="SD needs at least 2 seeds"),
                str(each.n),
            ]
        )
    declared = results.declared
    columns = [Column("Setting"), *(Column(f"Seed {seed}", True) for seed in seeds)]
    columns += [Column(title, True) for title in ("Mean", "SD", "n")]
    yield Table(
        f"{titled(metric)}: {declared.candidate} minus {declared.baseline} per setting", columns, rows
    )

"""The page: the parts of a `Results`, each rendered by its own module, put into one template."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.results import Results
from reports import (
    around_the_test,
    audit,
    cells,
    comparisons,
    curves,
    declaration,
    design,
    figures,
    judgements,
    methods,
    runs,
    samples,
)
from reports.lookup import metric_named, primary_comparison
from reports.shown import finalize


@cache
def environment() -> Environment:
    """The templates: autoescaped, and what is not ready to print is an error."""
    return Environment(
        loader=PackageLoader("reports", "templates"),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_html(results: Results) -> str:
    """The report as one self-contained HTML page: no script, nothing from the network.

    Equal results give equal bytes. Every string is escaped; characters that hide or reorder text are shown as
    code points.
    """
    primary = primary_comparison(results)
    metric = metric_named(results, results.declared.primary)
    return (
        environment()
        .get_template("report.html")
        .render(
            sweep=results.sweep,
            verdict=declaration.verdict_of(results),
            declared=declaration.declared_facts(results),
            design=design.design_of(results),
            primary_label=metric.label,
            primary_cells=cells.primary_table(results),
            other_cells=[(each.label, table) for each, table in cells.other_tables(results)],
            test=comparisons.primary_test(results),
            differences=figures.differences_figure(results, primary, metric) if primary else None,
            around=around_the_test.around_the_test(results),
            other_comparisons=comparisons.other_comparisons(results),
            judgements=judgements.judgements_of(results),
            curves=curves.curve_figures(results),
            audit=audit.audit_of(results),
            samples=samples.samples_of(results),
            runs=runs.run_table(results),
            runs_open=len(results.runs) <= runs.OPEN_UP_TO,
            notes=methods.notes_of(results),
            evaluation=methods.evaluation_facts(results),
            provenance=methods.provenance_table(results),
        )
    )

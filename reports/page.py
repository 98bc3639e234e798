"""The page: the verdict, then every section, put into one template."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.results import Results
from reports import declaration
from reports.sections import Section, sections_of
from reports.shown import finalize
from reports.twins import files_section


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


def render_html(results: Results, sections: Sequence[Section] | None = None) -> str:
    """The report as one self-contained HTML page: no script, nothing from the network.

    Equal results give equal bytes. Every string is escaped; characters that hide or reorder text are shown as
    code points.

    Args:
        results: what it tells.
        sections: of these results, where they are made already.
    """
    sections = sections_of(results) if sections is None else sections
    return (
        environment()
        .get_template("report.html")
        .render(
            sweep=results.sweep,
            verdict=declaration.verdict_of(results),
            sections=[*sections, files_section(results, sections)],
        )
    )

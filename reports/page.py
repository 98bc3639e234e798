"""The page: the verdict, then every section, put into one template."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from adadpo.files import atomic_write
from analysis.document import Results
from analysis.results.gradient_audit import Audit
from reports.exports import files_section
from reports.figures.style import page_style
from reports.outline import Section, sections_of
from reports.render.cells import finalize
from reports.render.formats import ARM_STYLES
from reports.sections import verdict
from reports.sections.gradient_audit import audit_section


@cache
def environment() -> Environment:
    """The templates: autoescaped, and what is not ready to print is an error."""
    made = Environment(
        loader=PackageLoader("reports", "templates"),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["figure_style"] = Markup(page_style())
    return made


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
            verdict=verdict.verdict_of(results),
            sections=[*sections, files_section(results, sections)],
        )
    )


# A model's gradient audit as a page of its own; a sweep's is a section of its report.


def render_audit(audit: Audit) -> str:
    """The audit as one HTML page; equal arguments give equal bytes, and every string is escaped."""
    arms = list(dict.fromkeys(point.arm for point in audit.points))
    section = audit_section(audit, lambda arm: arms.index(arm) % ARM_STYLES)
    return environment().get_template("audit.html").render(target=audit.target, audit=section)


def write_audit_page(audit: Audit, path: str | Path) -> Path:
    """Write the page, whole or not at all, and return where.

    Raises:
        ReportError: the file cannot be written.
    """
    path = Path(path)
    atomic_write(path, render_audit(audit))
    return path

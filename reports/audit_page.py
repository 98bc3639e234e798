"""A model's gradient audit as a page of its own; a sweep's is a section of its report."""

from __future__ import annotations

from pathlib import Path

from analysis.results import Audit
from reports.audit import audit_section
from reports.files import write_whole
from reports.lookup import ARM_STYLES
from reports.page import environment


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
    write_whole(path, render_audit(audit))
    return path

"""The significance report: `results.json` to one self-contained page, and its exports: CSV, LaTeX, SVG, PDF.

Everything here is a pure function of `analysis.results.model.Results`: no clock, no random ids, no network.
"""

from adadpo.errors import ReportError
from reports.files import load_results, write_report
from reports.page import render_html

__all__ = ["ReportError", "load_results", "render_html", "write_report"]

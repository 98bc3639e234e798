"""The significance report: `results.json` to one self-contained page and tidy CSV files.

Everything here is a pure function of `analysis.results.Results`: no clock, no random ids, no network.
"""

from reports.errors import ReportError
from reports.files import load_results, write_report
from reports.page import render_html
from reports.tables import write_tables

__all__ = ["ReportError", "load_results", "render_html", "write_report", "write_tables"]

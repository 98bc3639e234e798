"""The one error of this package."""


class ReportError(Exception):
    """A results file that cannot be read, or a report that cannot be written; the message names the file."""

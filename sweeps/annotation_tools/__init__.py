"""Scores and comparisons without a sweep: `adadpo score` and `adadpo compare`."""

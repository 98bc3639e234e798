"""Judging and scoring the responses of one run."""

"""Tests and intervals over settings, seeds and prompts; each has its source."""

"""The significance report: `results.json` to one self-contained page, and its exports: CSV, LaTeX, SVG, PDF.

Everything here is a pure function of `analysis.results.model.Results`: no clock, no random ids, no network.
"""

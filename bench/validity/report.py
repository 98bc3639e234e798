"""The counts as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

HEAD = """\
# Level, coverage and power of the verdict

Written by `{command}` ({seconds} s with {cores} cores of {cpu}).

Each row: {simulations} simulated sweeps through `analysis.analyse`, as a real sweep is analysed. Unless said: 9
settings, 3 seeds, runs with an SD of 1 point and no true difference, so that the verdict "better" or "worse" is
an error, nominally 5% (standard error of the simulation {error} points). "Verdict" is the shipped one. Beside
it, what single tests would have said: the declared signed-rank test over settings; the guard, with settings,
seeds and, given prompt-level data, prompts as samples; the crossed test with Satterthwaite's degrees of
freedom. "Covers" is the share of 95% intervals that hold what they claim: the Hodges-Lehmann interval the mean
difference at these seeds and prompts, the guard's the mean over settings, seeds and prompts like these.
"""
NOTES = """\
## What it says

- The declared test alone rejects in up to half of the sweeps where seeds or prompts share an effect. The verdict
  needs the guard too, so it holds the level of whichever is valid.
- With one seed no verdict is "better" or "worse", by rule: nothing can tell the luck of the seed from an effect.
- Satterthwaite's degrees of freedom are too many where there are many settings and few seeds; the guard combines
  squared half-widths instead and holds its level there.
- The guard's interval covers more than 97% where little is shared: with 2 or 3 seeds their spread has 1 or 2 degrees of
  freedom, and an interval that allows for it must be wide. No exact interval is known there.
- The Hodges-Lehmann interval claims these seeds and prompts only, and covers that. It needs differences that are
  symmetric: skewed effects of settings move its centre, the median, away from the mean.
- Where a row says that no method can, the verdict's sentence says so too.
"""


def markdown(result: Mapping[str, Any]) -> str:
    """The table of one result, Markdown."""
    machine = result["machine"]
    head = HEAD.format(
        command=result["command"],
        seconds=result["seconds"],
        cores=machine["cores"],
        cpu=machine["cpu"],
        simulations=result["simulations"],
        error=f"{100 * result['standard_error_at_5_percent']:.1f}",
    )
    return "\n".join([head, *_errors(result), "", *_equivalence(result), "", *_power(result), "", NOTES])


def rate(count: float, of: float) -> str:
    """In percent."""
    return "–" if not of else f"{100 * count / of:.1f}"


def _errors(result: Mapping[str, Any]) -> list[str]:
    lines = [
        "| No true difference | verdict, % | signed-rank | guard | crossed | HL covers, % | guard covers | |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for each in result["scenarios"]:
        if each["error"] != "level":
            continue
        counts, n = each["counts"], each["counts"]["simulations"]
        note = f"no method can: {each['impossible']}" if each["impossible"] else ""
        if each["diverged"]:
            treated = counts.get("intention_to_treat", 0)
            better = counts.get("intention_to_treat_better", 0)
            said = f"signed-rank by intention to treat {rate(treated, n)}, of it for the candidate {rate(better, n)}"
            note = f"{note}; {said}" if note else said
        cells = [each["name"], rate(counts.get("verdict", 0), n)]
        cells += [rate(counts.get(name, 0), n) for name in ("signed_rank", "guard", "crossed")]
        cells += [
            rate(counts.get(f"covers_{name}", 0), counts.get(f"has_{name}", 0))
            for name in ("signed_rank", "guard")
        ]
        lines.append(f"| {' | '.join([*cells, note])} |")
    return lines


def _equivalence(result: Mapping[str, Any]) -> list[str]:
    lines = ['| Equivalence within 1 point, run SD 0.5 | "equivalent", % |', "|---|--:|"]
    for each in result["scenarios"]:
        if each["name"].startswith("equivalence"):
            counts = each["counts"]
            lines.append(f"| {each['name']} | {rate(counts.get('equivalent', 0), counts['simulations'])} |")
    return lines


def _power(result: Mapping[str, Any]) -> list[str]:
    lines = [
        '| True difference 1 point, run SD 1.4, setting SD .5 | verdict "better", % | signed-rank alone | ± |',
        "|---|--:|--:|--:|",
    ]
    for each in result["scenarios"]:
        if each["error"] is None and each["effect"]:
            counts, n = each["counts"], each["counts"]["simulations"]
            share = counts.get("better", 0) / n
            error = f"{100 * math.sqrt(share * (1 - share) / n):.1f}"
            cells = [
                each["name"],
                rate(counts.get("better", 0), n),
                rate(counts.get("signed_rank", 0), n),
                error,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines

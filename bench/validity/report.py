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
it, what single tests would have said: the declared signed-rank test over settings; the generalization test, with
settings, seeds and, given prompt-level data, prompts as samples; the crossed test with Satterthwaite's degrees of
freedom. "Covers" is the share of 95% intervals that hold what they claim: the Hodges-Lehmann interval the mean
difference at these seeds and prompts, the generalization test's the mean over settings, seeds and prompts like these.
"""
NOTES = """\
## What it says

- The declared test alone rejects in up to half of the sweeps where seeds or prompts share an effect. The verdict
  needs the generalization test too, so it holds the level of whichever is valid.
- With one seed no verdict is "better" or "worse", by rule: nothing can tell the luck of the seed from an effect.
- Satterthwaite's degrees of freedom are too many where there are many settings and few seeds; the generalization test
  combines squared half-widths instead and holds its level there.
- Prompts of which few differ, and all one way, can be all alike in a sample: then no spread warns of the rest. The
  generalization therefore allows for prompts of a kind that it has not seen, as far as a win rate reaches, and holds
  its level in all rows with prompt-level data. That costs power where prompts are few, and must: a test that keeps 5%
  for every distribution of differences between prompts finds a mean difference of d points in at most 5% (1 + d /
  100)^P of sweeps with P prompts (`analysis.inference.generalization.out_of_reach`), of 1 point 8% with 50 prompts, 14%
  with 100.
- "No method can" is said of two rows only. A table of runs with prompts that all runs share is the same table as one
  with an effect. And where a run's own value decides whether it is missing, the others do not tell what it would have
  been. Both rows are against the null of no difference had all been seen; of the runs that did not diverge the
  candidate's are truly better there. By intention to treat the arms differ in both rows with divergence, for one
  diverges: the rejections of that test are of a difference that is there, all against the candidate.

## Which interval covers what

- The headline's is the Hodges-Lehmann interval. Its parameter is the centre of the settings' mean differences at these
  seeds and prompts, and it says nothing of others. It is exact at the confidence that is printed beside it (96.1%
  with 9 settings, the step next to 95%) for symmetric differences; skewed effects of settings move its centre, the
  median, away from the mean.
- The generalization test's interval stands beside it in the same sentence. Its parameter is the mean over settings,
  seeds and prompts like these. It is not exact, and no exact interval is known for it: the spread of 2 or 3 seeds has 1
  or 2 degrees of freedom, and what allows for that is wide where seeds share little; what allows for unseen prompts is
  wide where they are few. It is never narrower than either part needs.
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
    return "\n".join(
        [
            head,
            *_errors(result),
            "",
            *_equivalence(result),
            "",
            *_power(result),
            "",
            NOTES + _coverage(result),
        ]
    )


def rate(count: float, of: float) -> str:
    """In percent."""
    return "–" if not of else f"{100 * count / of:.1f}"


def _errors(result: Mapping[str, Any]) -> list[str]:
    lines = [
        "| No true difference | verdict, % | signed-rank | generalization | crossed | HL covers, % | gen. covers | |",
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
            said = (
                "by intention to treat the arms do differ, since one diverges: signed-rank "
                f"{rate(treated, n)}, for the candidate {rate(better, n)}"
            )
            note = f"{note}; {said}" if note else said
        cells = [each["name"], rate(counts.get("verdict", 0), n)]
        cells += [rate(counts.get(name, 0), n) for name in ("signed_rank", "generalization", "crossed")]
        cells += [
            rate(counts.get(f"covers_{name}", 0), counts.get(f"has_{name}", 0))
            for name in ("signed_rank", "generalization")
        ]
        lines.append(f"| {' | '.join([*cells, note])} |")
    return lines


def _coverage(result: Mapping[str, Any]) -> str:
    """Which rows of the first table have intervals that cover 93 to 97%, and which do not."""
    lines = []
    for name, title in (("signed_rank", "Hodges-Lehmann"), ("generalization", "Generalization test")):
        found = [
            (100 * counts.get(f"covers_{name}", 0) / counts[f"has_{name}"], each)
            for each in result["scenarios"]
            if each["error"] == "level" and (counts := each["counts"]).get(f"has_{name}")
        ]
        good = [each for share, each in found if 93 <= round(share, 1) <= 97]
        above = [f"{each['name']} ({share:.1f})" for share, each in found if round(share, 1) > 97]
        below = [f"{each['name']} ({share:.1f})" for share, each in found if round(share, 1) < 93]
        lines.append(
            f"- {title}: 93 to 97% in {len(good)} of {len(found)} rows. Above: {', '.join(above) or 'none'}. "
            f"Below: {', '.join(below) or 'none'}."
        )
    return "\n".join(lines) + "\n"


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

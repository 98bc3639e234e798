"""The paper's own claims beside the same quantities of these results."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.findings import Claim
from analysis.results import Results
from reports.formats import decimal, level
from reports.lookup import arm_name
from reports.shown import Column, Missing, Shown, Table
from reports.text import shorten


@dataclass(frozen=True)
class Claims:
    """The section."""

    lead: str
    table: Table
    warning: str


def claims_of(results: Results) -> Claims | None:
    """None where the comparison is not the paper's, and for older files."""
    found = results.paper_claims
    if found is None:
        return None
    rows: list[list[Shown]] = [
        [
            claim.label,
            "" if claim.arm is None else arm_name(results, claim.arm),
            Missing("the paper's text gives no figure")
            if claim.published is None
            else _amount(claim.published, claim.unit),
            _ours(claim),
            _interval(claim),
            _naive(claim),
        ]
        for claim in found.claims
    ]
    confidence = next((level(each.ours.confidence) for each in found.claims if each.ours), "95%")
    columns = [
        Column("Claim"),
        Column("Arm"),
        Column("Published", numeric=True),
        Column("Here", numeric=True),
        Column(f"{confidence} interval", numeric=True),
        Column("Here, naive", numeric=True),
    ]
    caption = "Shares: Clopper–Pearson over settings. Bests: corrected for selection, interval over prompts"
    return Claims(
        lead=f"Published: {shorten(found.source, 80)}, {shorten(found.published_for, 200)}. Here: another model and "
        f"other data ({shorten(found.measured_for, 300)}). The figures are not comparable in "
        "size; the table shows whether the same pattern appears.",
        table=Table(caption, columns, rows),
        warning=found.warning,
    )


def _amount(value: float, unit: str) -> str:
    return decimal(value, 1) + ("%" if unit == "%" else "")


def _ours(claim: Claim) -> Shown:
    if claim.ours is None:
        return Missing(claim.reason or "no value")
    if claim.count is None:
        return _amount(claim.ours.estimate, claim.unit)
    return f"{_amount(claim.ours.estimate, claim.unit)} ({claim.count} of {claim.settings})"


def _interval(claim: Claim) -> Shown:
    if claim.ours is None or claim.ours.low is None or claim.ours.high is None:
        return Missing(claim.reason or "no interval")
    return f"[{', '.join(_amount(end, claim.unit) for end in (claim.ours.low, claim.ours.high))}]"


def _naive(claim: Claim) -> Shown:
    if claim.arm is None:
        return ""
    return Missing(claim.reason or "no value") if claim.naive is None else _amount(claim.naive, claim.unit)

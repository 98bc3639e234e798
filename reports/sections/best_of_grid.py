"""Best of the grid: as found, corrected for having been found, and against the number of settings tried."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.document import Results
from analysis.results.model import BestOfGrid, Claim, GridBest, Metric
from analysis.statistics.groups import SettingGroup
from reports.figures import svg
from reports.figures.panel import Figure, Panel
from reports.figures.scale import drawable
from reports.render.cells import Column, Missing, NoWrap, Shown, Table
from reports.render.formats import (
    arm_name,
    arm_style,
    decimal,
    interval,
    level,
    measure,
    metric_named,
    p_value,
    setting_value,
    titled,
)
from reports.render.text import plural, shorten

_CORRECTED = (
    "Corrected: prompts are drawn again and again, each time the setting is chosen on those drawn and scored on the "
    "others, so the estimate accounts for selection. "
)


@dataclass(frozen=True)
class Best:
    """The section."""

    lead: str
    table: Table
    curves: list[Figure]
    warnings: list[str]


def best_of(results: Results) -> Best | Missing | None:
    """Both arms' bests; None for a file of before they were kept."""
    found = results.best_of_grid
    if not found:
        older = results.prompt_level is None and results.prompt_level_reason is None
        return None if older else Missing("Not defined: an arm has no value at any setting.")
    warnings = [each.budgets.warning for each in found if each.budgets and each.budgets.warning]
    for each in found[:1]:
        if each.worst_given:
            named = shorten("; ".join(each.worst_given), 300)
            warnings.append(f"Tried and diverged in every run, counted as the worst value there is: {named}.")
    return Best(
        lead="The best of many settings is partly luck: even among settings that do not differ, one comes out best. "
        + (_CORRECTED if any(each.bests.corrected is not None for each in found) else "")
        + "Exploratory.",
        table=_table(results),
        curves=[
            curve
            for number, each in enumerate(found, 1)
            if (curve := _curve(results, each, f"figure-best-{number}")) is not None
        ],
        warnings=list(dict.fromkeys(warnings)),
    )


def _table(results: Results) -> Table:
    rows: list[list[Shown]] = []
    for each in results.best_of_grid:
        metric, bests = metric_named(results, each.metric), each.bests
        for arm, side, settings in (
            (results.declared.candidate, bests.candidate, each.candidate),
            (results.declared.baseline, bests.baseline, each.baseline),
        ):
            rows.append(
                [
                    titled(metric),
                    arm_name(results, arm),
                    Missing("no setting has a value")
                    if side.chosen is None
                    else NoWrap(settings[side.chosen]),
                    _chosen_again(side),
                    measure(side.naive, metric, reason="no setting has a value"),
                    measure(side.corrected, metric, reason=side.reason or "no value"),
                    _interval(side.low, side.high, metric, side.reason, signed=False),
                ]
            )
        rows.append(
            [
                titled(metric),
                "Difference of bests",
                "",
                "",
                measure(bests.naive, metric, signed=True, reason="an arm has no value"),
                measure(bests.corrected, metric, signed=True, reason=bests.reason or "no value"),
                _interval(bests.low, bests.high, metric, bests.reason, signed=True),
            ]
        )
    confidence = level(results.best_of_grid[0].bests.candidate.confidence)
    columns = [
        Column("Metric"),
        Column("Arm"),
        Column("Best setting"),
        Column("Chosen again", numeric=True),
        Column("Naive", numeric=True),
        Column("Corrected", numeric=True),
        Column(f"{confidence} over prompts", numeric=True),
    ]
    caption = (
        "Best setting of each arm by the mean over seeds; chosen again: in which share of draws of prompts"
    )
    return Table(caption, columns, rows)


def _chosen_again(side: BestOfGrid) -> Shown:
    if side.chosen is None or side.corrected is None or not side.share_chosen:
        return Missing(side.reason or "no draw of prompts")
    return f"{100 * side.share_chosen[side.chosen]:.0f}%"


def _interval(
    low: float | None, high: float | None, metric: Metric, reason: str | None, *, signed: bool
) -> Shown:
    if low is None or high is None:
        return Missing(reason or "no interval")
    return f"[{', '.join(decimal(end, metric.decimals, signed=signed) for end in (low, high))}]"


def _curve(results: Results, each: GridBest, identity: str) -> Figure | None:
    """Expected best of n settings drawn from those tried: one line per arm."""
    budgets = each.budgets
    if budgets is None or max(len(budgets.candidate), len(budgets.baseline)) < 2:
        return None
    lines = {results.declared.baseline: budgets.baseline, results.declared.candidate: budgets.candidate}
    values = [value for line in lines.values() for value in line if drawable(value)]
    if not values:
        return None
    metric = metric_named(results, each.metric)
    most = max(map(len, lines.values()))
    styles = {arm: arm_style(results, arm) for arm in lines}
    panel = Panel(list(styles.items()), height=300)
    x, y = panel.across([1.0, float(most)]), panel.up(values)
    marks = panel.frame(x, y, "settings tried")
    for arm, line in lines.items():
        points = [(x(n), y(value)) if drawable(value) else None for n, value in enumerate(line, 1)]
        marks.append(svg.element("path", d=svg.path(points), class_=f"average arm-{styles[arm]}"))
    title = f"Expected best {metric.label}"
    at = budgets.common
    shown = decimal(budgets.difference, metric.decimals, signed=True)
    note = f"With {plural(at, 'setting')} tried by each arm: difference {shown} {metric.unit}".rstrip() + "."
    description = f"{title} against the number of settings tried, both arms. {note}"
    return Figure(shorten(titled(metric), 60), panel.picture(identity, title, description, marks), [note])


# The primary comparison within each value of an axis of names, such as the loss.


@dataclass(frozen=True)
class Groups:
    """The section: a table per axis."""

    lead: str
    tables: list[Table]


def groups_of(results: Results) -> Groups | None:
    """None where no axis has names for values, and for older files."""
    if not results.groups:
        return None
    axes = dict.fromkeys(group.axis for group in results.groups)
    tables = [
        _group_table(results, axis, [group for group in results.groups if group.axis == axis])
        for axis in axes
    ]
    return Groups(
        lead="Each row is the primary comparison over the settings of that value alone. Exploratory: the declared "
        "test is over all settings.",
        tables=tables,
    )


def _group_table(results: Results, axis: str, groups: list[SettingGroup]) -> Table:
    metric = metric_named(results, results.declared.primary)
    rows = [_row(group, metric, results.declared.alpha) for group in groups]
    baseline, candidate = (
        arm_name(results, arm) for arm in (results.declared.baseline, results.declared.candidate)
    )
    columns = [
        Column(shorten(axis, 60)),
        Column("Settings", numeric=True),
        Column(baseline, numeric=True),
        Column(candidate, numeric=True),
        Column("Difference", numeric=True),
        Column("Won, lost", numeric=True),
        Column(f"{level(1 - results.declared.alpha)} interval", numeric=True),
        Column("p", numeric=True),
        Column("Adjusted", numeric=True),
    ]
    caption = f"{titled(metric)} by {shorten(axis, 60)}: means over settings and seeds of complete pairs"
    note = (
        "Interval: of the Hodges–Lehmann estimate. p: two-sided; adjusted: Benjamini–Hochberg over the rows. A row "
        "that no outcome could make significant has no p."
    )
    return Table(caption, columns, rows, note)


def _row(group: SettingGroup, metric: Metric, alpha: float) -> list[Shown]:
    nothing = group.reason or "no value"
    testable = group.test is not None and group.reason is None
    return [
        setting_value(group.value),
        f"{group.n} of {len(group.settings)}",
        measure(group.baseline, metric, reason=nothing),
        measure(group.candidate, metric, reason=nothing),
        measure(group.mean, metric, signed=True, reason=nothing),
        f"{group.won}, {group.lost}",
        interval(group.estimate, metric.decimals, reason=nothing),
        p_value(group.test.p_value, alpha) if testable and group.test else Missing(nothing),
        Missing(nothing) if group.adjusted is None else p_value(group.adjusted, alpha),
    ]


# The paper's own claims beside the same quantities of these results.


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
            _claim_interval(claim),
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


def _claim_interval(claim: Claim) -> Shown:
    if claim.ours is None or claim.ours.low is None or claim.ours.high is None:
        return Missing(claim.reason or "no interval")
    return f"[{', '.join(_amount(end, claim.unit) for end in (claim.ours.low, claim.ours.high))}]"


def _naive(claim: Claim) -> Shown:
    if claim.arm is None:
        return ""
    return Missing(claim.reason or "no value") if claim.naive is None else _amount(claim.naive, claim.unit)

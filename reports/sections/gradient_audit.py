"""The section on the gradient audit: sentences, which equalities held, distributions, what training changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from analysis.audit import HELD, held, last_points, ratio_text, share, trained_stage
from analysis.document import Results
from analysis.results.gradient_audit import Audit, AuditPoint, AuditRatio, AuditStage, Quartiles
from reports.figures.gradient_audit import TITLES, distribution_figure, logged_figure, training_figures
from reports.figures.panel import Figure
from reports.render.cells import ArmName, Column, Fact, Missing, NoWrap, Shown, Table
from reports.render.formats import arm_style, arms_in_order, decimal, duration
from reports.render.text import plural, shorten

RATIO_NAMES: dict[AuditRatio, str] = {
    "probability": "1 · probability space, |∂L/∂p|",
    "geometric_mean": "2 · geometric mean over tokens, |∂L/∂π(y_t)|",
    "arithmetic_mean": "2 · arithmetic mean over tokens, |∂L/∂π(y_t)|",
    "logits": "3 · logits, ‖∂L/∂logits‖",
    "parameters": "4 · parameters, ‖∂L/∂θ‖ of each term",
}
NOTES = [
    "Every ratio is the chosen over the rejected response's gradient of one pair, of the pairwise term of the loss (the"
    " NLL of CPO and ORPO is not in it). Above 1 the chosen response is lifted harder than the rejected one is "
    "pushed down. p is the typical token's probability, the geometric mean over a response.",
    "Stages are computed on one policy, so they differ by the coefficients alone. Per-token balance makes ratio 1 equal"
    " to 1 by construction, and so the geometric means for losses of sums (DPO, R-DPO, CPO); for losses of means (IPO, "
    "SimPO, ORPO) these have 1 over the response's length in them. Nothing is promised of the other ratios.",
    "The cosine is between the parameter gradients of the two terms. At −1 they cancel: what lifts the chosen response "
    "lifts the rejected one as well. Above 0 the terms pull together.",
]


@dataclass(frozen=True)
class AuditSection:
    """What the template shows; empty lists are left out."""

    findings: list[str]
    missing: list[str]
    equalities: list[Table]
    held_note: str
    distributions: list[Figure]
    training: list[Figure]
    stages: list[Table]
    course: Table | None
    facts: list[Fact]
    notes: list[str]


def audit_of(results: Results) -> AuditSection | Missing:
    """The section of a sweep's report."""
    if results.audit is None:
        return Missing(f"Not made yet; “adadpo audit {shorten(results.sweep, 100)}” makes it.")
    order = arms_in_order(results)
    points = sorted(results.audit.points, key=lambda p: order.index(p.arm) if p.arm in order else len(order))
    audit = results.audit.model_copy(update={"points": points})
    section = audit_section(audit, lambda arm: arm_style(results, arm))
    if any(0 < point.step < last.step for last in last_points(points) for point in points):
        return section
    logged = logged_figure(results, audit)
    return section if logged is None else _with_logged(section, logged)


def _with_logged(section: AuditSection, logged: Figure) -> AuditSection:
    return AuditSection(**{**vars(section), "training": [*section.training, logged]})


def audit_section(audit: Audit, style: Callable[[str], int]) -> AuditSection:
    """The section of an audit.

    Args:
        audit: its points in the order in which arms are shown.
        style: the number of an arm's style class.
    """
    last = last_points(audit.points)
    several = len({point.step for point in audit.points}) > 1
    return AuditSection(
        findings=audit.findings,
        missing=audit.missing,
        equalities=[_equalities(point, audit) for point in last],
        held_note=f"An equality held when it did for {HELD:.0%} of the pairs or more.",
        distributions=list(_distributions(last, style)),
        training=training_figures(audit.points, style) if several else [],
        stages=[_stages(point) for point in last],
        course=_course(audit.points, style) if several else None,
        facts=_facts(audit),
        notes=NOTES,
    )


def _distributions(last: Sequence[AuditPoint], style: Callable[[str], int]) -> Iterator[Figure]:
    """A figure per policy; arms of one loss that start from the same policy share theirs."""
    drawn: list[AuditPoint] = []
    for point in last:
        numbers = [stage.log_ratios for stage in point.stages]
        if all(numbers != [stage.log_ratios for stage in other.stages] for other in drawn):
            drawn.append(point)
            identity = f"figure-audit-{len(drawn)}"
            yield distribution_figure(point, style(point.arm), identity, _when(point))


def _when(point: AuditPoint) -> str:
    return "before training" if point.step == 0 else f"after step {point.step:,}"


def _equalities(point: AuditPoint, audit: Audit) -> Table:
    """The trained stage of one policy."""
    stage = trained_stage(point)
    rows: list[list[Shown]] = []
    for ratio, name in RATIO_NAMES.items():
        found = stage.summary.get(ratio)
        answer = None if found is None else held(found)
        if found is None or answer is None or found.balanced is None:
            rows.append([NoWrap(name), *(_undefined(found) for _ in range(6))])
            continue
        rows.append(
            [
                NoWrap(name),
                NoWrap("1 unless bounded") if ratio in stage.promised else "nothing",
                _median(found),
                _quartiles(found),
                str(found.n),
                share(found.balanced),
                NoWrap("✓ held" if answer else "✕ did not hold"),
            ]
        )
    columns = [Column("Ratio"), Column("Promised")]
    columns += [Column(title, True) for title in ("Median", "Quartiles", "Pairs")]
    columns += [Column(f"Within {audit.tolerance:.0%} of 1", True), Column("Equality")]
    caption = f"{shorten(point.arm, 60)}, {_when(point)}, {stage.label}: chosen over rejected gradient"
    return Table(caption, columns, rows)


def _stages(point: AuditPoint) -> Table:
    """All stages of one policy."""
    rows: list[list[Shown]] = []
    for stage in point.stages:
        name = f"{stage.label} (trained)" if stage.trained else stage.label
        clipped = Missing("no pair") if stage.clipped_share is None else share(stage.clipped_share)
        rows.append([NoWrap(name), clipped, *(_cell(stage, ratio) for ratio in RATIO_NAMES)])
    columns = [
        Column("Stage"),
        Column("Clipped", True),
        *(Column(name, True) for name in TITLES.values()),
    ]
    cosine = "not measured" if point.cosine.median is None else _cosine(point.cosine)
    return Table(
        f"{shorten(point.arm, 60)}, {_when(point)}: median [quartiles], share of pairs at 1",
        columns,
        rows,
        f"Cosine between the two terms' parameter gradients: {cosine}. Parameters: {point.parameters}. Without a clip, "
        "“clipped” counts ratios beyond e³⁰, where the coefficients end.",
    )


def _cell(stage: AuditStage, ratio: AuditRatio) -> Shown:
    found = stage.summary.get(ratio)
    if found is None or found.balanced is None:
        return _undefined(found)
    return (_median(found), " ", _quartiles(found), f" {share(found.balanced)}")


def _course(points: Sequence[AuditPoint], style: Callable[[str], int]) -> Table:
    """The trained stage of every policy."""
    rows: list[list[Shown]] = []
    for point in points:
        stage = trained_stage(point)
        row: list[Shown] = [ArmName(point.arm, style(point.arm)), f"{point.step:,}"]
        row += [
            Missing("no pair") if stage.clipped_share is None else share(stage.clipped_share),
            *(_cell(stage, ratio) for ratio in RATIO_NAMES),
        ]
        row.append(Missing("not measured") if point.cosine.median is None else _cosine(point.cosine))
        rows.append(row)
    columns = [Column("Arm"), Column("Step", True), Column("Clipped", True)]
    columns += [Column(name, True) for name in (*TITLES.values(), "Cosine")]
    return Table("Over training, as trained: median [quartiles], share of pairs at 1", columns, rows)


def _median(found: Quartiles) -> Shown:
    return _undefined(found) if found.median is None else ratio_text(found.median)


def _quartiles(found: Quartiles) -> Shown:
    if found.low is None or found.high is None:
        return _undefined(found)
    return f"[{ratio_text(found.low)}, {ratio_text(found.high)}]"


def _undefined(found: Quartiles | None) -> Missing:
    if found is None or not found.undefined:
        return Missing("not measured")
    return Missing(f"undefined for {plural(found.undefined, 'pair')}: an empty response, or no gradient")


def _cosine(found: Quartiles) -> str:
    ends = [decimal(value, 2) for value in (found.median, found.low, found.high) if value is not None]
    return f"{ends[0]} [{ends[1]}, {ends[2]}]"


def _facts(audit: Audit) -> list[Fact]:
    seconds = duration(audit.cost.seconds)
    pairs = f"{audit.pairs:,} held out, {audit.truncated:,} of them cut at {audit.max_length:,} tokens"
    facts = [
        Fact("Model", audit.model),
        Fact("Pairs", pairs, f"identity {shorten(audit.data, 90)}"),
        Fact(
            "Parameter gradients",
            f"{plural(len(audit.gradient_pairs), 'pair')}, drawn with seed {audit.gradient_seed}",
            "of " + ", of ".join(dict.fromkeys(point.parameters for point in audit.points)),
        ),
        Fact("Arithmetic", f"{audit.precision} on {audit.device}; ratios in float64"),
        Fact(
            "Cost of a policy",
            f"{decimal(audit.cost.passes, 2)} evaluation passes by tokens",
            "a backward pass counted as two forward passes",
        ),
        Fact("Time of all policies", seconds, "wall time of the passes"),
    ]
    if audit.setting is not None:
        facts.insert(0, Fact("Runs", f"{audit.setting}, seed {audit.seed}"))
    if audit.left_out:
        facts.append(
            Fact("Left out", plural(len(audit.left_out), "row"), shorten("; ".join(audit.left_out), 300))
        )
    return facts

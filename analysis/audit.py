"""The gradient audit's numbers: distributions over pairs, and sentences on which equalities held."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from analysis.results.gradient_audit import AuditPoint, AuditRatio, AuditStage, AuditStageName, Quartiles

TOLERANCE = 0.05  # a ratio counts as 1 from 1 / 1.05 to 1.05
HELD = 0.9  # an equality held when it did for so many of the pairs
DECIMALS = 5  # of nats: every summary is made of the numbers that are written
PLACES: dict[AuditRatio, str] = {
    "probability": "in probability space",
    "geometric_mean": "in geometric means over tokens",
    "arithmetic_mean": "in arithmetic means over tokens",
    "logits": "over logits",
    "parameters": "in parameter space",
}


def make_stage(
    name: AuditStageName,
    *,
    label: str,
    trained: bool,
    promised: Sequence[AuditRatio],
    clipped: Sequence[bool],
    log_ratios: Mapping[AuditRatio, Sequence[float]],
) -> AuditStage:
    """A stage with its summary.

    Args:
        name: which stage.
        label: its name for people.
        trained: the arm trains with it.
        promised: ratios that are 1 by construction.
        clipped: for each pair, whether a bound on the coefficients was active.
        log_ratios: natural logarithms, one per measured pair; NaN or infinite where undefined.
    """
    rounded = {ratio: rounded_values(values) for ratio, values in log_ratios.items()}
    return AuditStage(
        stage=name,
        label=label,
        trained=trained,
        promised=list(promised),
        clipped_share=sum(clipped) / len(clipped) if clipped else None,
        log_ratios=rounded,
        summary={ratio: quartiles(values, TOLERANCE) for ratio, values in rounded.items()},
    )


def rounded_values(values: Sequence[float]) -> list[float | None]:
    """As they are written: rounded, and `None` for what is not a finite number."""
    # + 0.0: a minus zero would be written as one
    return [round(value, DECIMALS) + 0.0 if math.isfinite(value) else None for value in values]


def quartiles(values: Sequence[float | None], tolerance: float | None = None) -> Quartiles:
    """First quartile, median and third quartile by linear interpolation (R's type 7), in the unit of the values.

    Args:
        values: `None` where undefined.
        tolerance: for log ratios: within which factor of 1 a ratio counts as 1.
    """
    known = [value for value in values if value is not None]
    undefined = len(values) - len(known)
    if not known:
        return Quartiles(n=0, undefined=undefined, low=None, median=None, high=None)
    low, median, high = (float(value) for value in np.quantile(known, [0.25, 0.5, 0.75]))
    balanced = None
    if tolerance is not None:
        bound = math.log1p(tolerance)
        balanced = sum(abs(value) <= bound for value in known) / len(known)
    return Quartiles(n=len(known), undefined=undefined, low=low, median=median, high=high, balanced=balanced)


def held(found: Quartiles) -> bool | None:
    """Whether an equality held; `None` when no pair says so or otherwise."""
    return None if found.balanced is None else found.balanced >= HELD


def last_points(points: Sequence[AuditPoint]) -> list[AuditPoint]:
    """The last policy of each arm, in order of the arms."""
    found: dict[str, AuditPoint] = {}
    for point in points:
        if point.arm not in found or point.step >= found[point.arm].step:
            found[point.arm] = point
    return list(found.values())


def trained_stage(point: AuditPoint) -> AuditStage:
    """The stage that the arm trains with."""
    return next(stage for stage in point.stages if stage.trained)


def findings(points: Sequence[AuditPoint]) -> list[str]:
    """Which equalities held and which did not: about the last policy of each arm, and what training changed."""
    found = []
    for last in last_points(points):
        found.append(" ".join(_about(last)))
        first = next(point for point in points if point.arm == last.arm)
        if first.step < last.step:
            found.append(_change(first, last))
    return found


def _about(point: AuditPoint) -> Iterator[str]:
    stage = trained_stage(point)
    base = None if stage.stage == "base" else next(each for each in point.stages if each.stage == "base")
    when = "before training" if point.step == 0 else f"after step {point.step}"
    measured = [ratio for ratio in PLACES if ratio in stage.summary and stage.summary[ratio].n]
    good = [ratio for ratio in measured if held(stage.summary[ratio])]
    bad = [ratio for ratio in measured if ratio not in good]
    start = f"{point.arm}, {when}: with the {stage.label}, the gradient ratio was"
    within = f"1 within {TOLERANCE:.0%}"
    if good:
        yield f"{start} {within} {_clauses(good, stage, base, point)}" + (
            f"; it was not {_clauses(bad, stage, base, point)}." if bad else "."
        )
    elif bad:
        yield f"{start} not {within} {_clauses(bad, stage, base, point)}."
    else:
        yield f"{start} not defined for any pair."
    broken = [ratio for ratio in stage.promised if ratio in bad]
    if broken:
        yield (
            f"By construction it is 1 {_listed([PLACES[ratio] for ratio in broken])} where no bound is active; "
            f"one was active for {share(stage.clipped_share or 0.0)} of the pairs."
        )
    if "parameters" not in measured:
        yield "In parameter space nothing was measured."
    elif base is not None and "probability" in good:
        yield f"So equality in probability space {_carried(stage.summary['parameters'])}."


def _carried(parameters: Quartiles) -> str:
    assert parameters.median is not None  # n > 0
    if held(parameters):
        return "carried over to the parameters"
    if abs(parameters.median) <= math.log1p(TOLERANCE):
        return "reached the parameters in the median only: single pairs are not balanced there"
    return "did not carry over to the parameters"


def _clauses(
    ratios: Sequence[AuditRatio], stage: AuditStage, base: AuditStage | None, point: AuditPoint
) -> str:
    """Where, with the numbers; places with the same numbers share them."""
    places: dict[str, list[str]] = {}
    for ratio in ratios:
        places.setdefault(_numbers(ratio, stage, base, point), []).append(PLACES[ratio])
    return _listed([f"{_listed(where)} ({numbers})" for numbers, where in places.items()])


def _numbers(ratio: AuditRatio, stage: AuditStage, base: AuditStage | None, point: AuditPoint) -> str:
    found = stage.summary[ratio]
    assert found.median is not None  # n > 0
    words = [f"{share(found.balanced or 0.0)} of {found.n} pairs", f"median {ratio_text(found.median)}"]
    if not held(found) and found.low is not None and found.high is not None:
        words[-1] += f" [{ratio_text(found.low)}, {ratio_text(found.high)}]"
    before = None if base is None else base.summary[ratio].median
    if before is not None:
        words.append(f"base loss {ratio_text(before)}")
    if ratio == "parameters" and point.cosine.median is not None:
        words.append(f"cosine {point.cosine.median:.2f}".replace("-", "\u2212"))
    return ", ".join(words)


def _change(first: AuditPoint, last: AuditPoint) -> str:
    ends = [trained_stage(point).summary for point in (first, last)]
    places: dict[str, list[str]] = {}
    for ratio, place in PLACES.items():
        medians = [end[ratio].median if ratio in end else None for end in ends]
        if medians[0] is not None and medians[1] is not None:
            course = f"from {ratio_text(medians[0])} to {ratio_text(medians[1])}"
            places.setdefault(course, []).append(place)
    when = f"{last.arm}, from step {first.step} to step {last.step}"
    if not places:
        return f"{when}: no ratio is defined."
    clauses = [f"{course} {_listed(where)}" for course, where in places.items()]
    return f"{when}: the median ratio went {'; '.join(clauses)}."


def _listed(clauses: Sequence[str]) -> str:
    return clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])} and {clauses[-1]}"


def ratio_text(log_ratio: float) -> str:
    """A ratio from its natural logarithm: two decimals, or a power of ten when it is far from 1."""
    if abs(log_ratio) < math.log(100):
        return f"{math.exp(log_ratio):.2f}"
    # By its logarithm: exp of hundreds of nats is no float.
    exponent = math.floor(log_ratio / math.log(10))
    mantissa = f"{10 ** (log_ratio / math.log(10) - exponent):.1f}"
    if mantissa == "10.0":
        mantissa, exponent = "1.0", exponent + 1
    return f"{mantissa}e{exponent}".replace("-", "\u2212")


def share(value: float) -> str:
    """A share in per cent; what is not all or nothing never reads so."""
    if 0 < value < 0.01:
        return "< 1%"
    if 0.99 < value < 1:
        return "> 99%"
    return f"{100 * value:.0f}%"

"""AlpacaEval's length-controlled win rate: what the win rate would be at equal lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from adadpo.errors import AnnotationError
from analysis.alpaca_eval.annotations import Records, preference_of, records
from analysis.alpaca_eval.calibration import GAMED_WEIGHT, Align, Calibration, difficulty_of
from analysis.alpaca_eval.logit import MAX_LOG_ODDS, Array, fit_fractional_logit, fit_weighted_logits, sigmoid
from analysis.results.model import Frozen

LcMethod = Literal["length_controlled_v1", "joint_difficulty", "no_difficulty"]

# tanh keeps the length column within [-1, 1], so beyond this (odds of 2e4 to 1) preferences are separated by
# length up to the judge's last digits, and x1 = 0 is an extrapolation. Over 40 leaderboard models without
# difficulty the largest is 4.4, but for the gamed one: 17.4, where LC would be 40 against the official 12.
# The rows of the gamed baselines tie the effect down, so length_controlled_v1 needs no such limit.
MAX_LENGTH_EFFECT = 10.0


class LengthControlled(Frozen):
    """Length-controlled win rate in percent; None with a reason when it is undefined."""

    length_controlled_win_rate: float | None
    lc_method: str  # unlike methods are never compared with one another
    calibration: str | None = None  # fingerprint of the calibration; nor are unlike calibrations
    reason: str | None
    n: int  # prompts with a preference
    # Log odds: "length" (per unit of tanh), "difficulty" (per log odds of difficulty; not for no_difficulty) and
    # "model"; empty when undefined.
    coefficients: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class LcData:
    """One run's annotations in their order, without the answers' texts: of those only the lengths count."""

    targets: Array  # [n], preference - 1 in [0, 1]; NaN where the judge gave none
    delta_length: Array  # [n], characters of output_1 (baseline) minus output_2
    difficulty: Array | None  # [n], log odds; None: the formula without difficulty
    instructions: tuple[str | None, ...] = ()  # [n]; None where the annotation has none
    annotators: frozenset[str] = frozenset()  # that judged them
    baselines: frozenset[str] = frozenset()  # `generator_1` of them

    def require_instructions(self) -> tuple[str, ...]:
        """The prompts.

        Raises:
            AnnotationError: an annotation without one.
        """
        for number, text in enumerate(self.instructions):
            if text is None:
                raise AnnotationError(f"annotation {number}: missing instruction")
        return self.instructions  # type: ignore[return-value]


def length_controlled_win_rate(
    annotations: Records,
    calibration: Calibration | None = None,
    *,
    align: Align = "instruction",
    method: LcMethod | None = None,
) -> LengthControlled:
    """Win rate of `output_2` with the judge's taste for length removed.

    Logistic regression without intercept or penalty of preference - 1 on x1 = tanh(dlen / sd(dlen)), x2 = difficulty
    of the instruction and x3 = 1; dlen = characters of `output_1` minus `output_2`, sd with ddof = 1 over every
    annotation. LC = 100 mean over every annotation of sigmoid(b2 x2 + b3): the prediction at x1 = 0. Annotations
    without a preference count for sd(dlen) and the mean, as in alpaca_eval, but not for the fit.

    - `length_controlled_v1`, AlpacaEval's own: difficulties from its calibration file, whose rows of two gamed
      baselines (weight 0.1, x3 = 0) hold the effects of length and difficulty near the usual. It was made for the
      official prompts, the judge `weighted_alpaca_eval_gpt4_turbo` and the baseline `gpt4_1106_preview`.
    - `joint_difficulty`: difficulties fitted from all runs of a sweep (`joint_difficulty`), without gamed rows.
    - `no_difficulty`: x2 is left out. It needs no calibration, so it works for any prompts and judge.

    The last two are not the figure of the AlpacaEval leaderboard. Where all length differences are equal,
    sd(dlen) = 0 and there is no LC. That includes answers that are all as long as the baseline's: there the win rate
    already is at equal lengths, and it is not reported a second time under another name.

    alpaca_eval 0.6.6 fits with scikit-learn's L1-penalised LogisticRegressionCV instead of the maximum of the
    likelihood; over 40 leaderboard models the two differ by at most 0.11 point. It also sets LC to 50 where both
    generators have the same name; here that is fitted like any other run.

    Args:
        annotations: AlpacaEval annotations with `output_1`, `output_2`, `preference` and, for alignment by
            instruction, `instruction` (mappings, `Annotation`s or a DataFrame).
        calibration: `read_calibration`'s, the official one or `joint_difficulty`'s; None: `no_difficulty`.
        align: how difficulties find their annotations, see `difficulty_of`; "row" reproduces alpaca_eval.
        method: which formula; None is the calibration's.

    Returns:
        The length-controlled win rate in percent, or None and why; never the raw win rate in its place.

    Raises:
        AnnotationError: a missing key, an output that is not text, a preference outside [1, 2] or an instruction
            that occurs twice.
        CalibrationError: prompts that the calibration does not know.
        ValueError: an unknown `method` or `align`, or a method that is not the calibration's.

    Source: Dubois et al. (2024), arXiv:2404.04475, and alpaca_eval `metrics/glm_winrate.py`.
    """
    check_method(method, calibration)
    return fit_length_control(lc_data(annotations, calibration, align), calibration)


def check_method(method: LcMethod | None, calibration: Calibration | None) -> None:
    """Refuse a method that is unknown or not the calibration's.

    Raises:
        ValueError: it is.
    """
    if method is None:
        return
    if method not in get_args(LcMethod):
        raise ValueError(f"method must be one of {', '.join(get_args(LcMethod))}, got {method!r}")
    if calibration is None and method != "no_difficulty":
        raise ValueError(f"method {method!r} needs a calibration")
    if calibration is not None and method != calibration.method:
        raise ValueError(f"method {method!r} does not go with a calibration for {calibration.method}")


def lc_data(
    annotations: Records | LcData, calibration: Calibration | None, align: Align = "instruction"
) -> LcData:
    """Preferences, length differences and difficulties of a run's annotations, or of what was made of them before.

    Raises:
        AnnotationError, CalibrationError, ValueError: as `length_controlled_win_rate`.
    """
    data = annotations if isinstance(annotations, LcData) else _without_difficulty(annotations)
    if calibration is None:
        return data if data.difficulty is None else replace(data, difficulty=None)
    if align == "instruction":
        data.require_instructions()
    return replace(data, difficulty=difficulty_of(data.instructions, calibration, align))


def _without_difficulty(annotations: Records) -> LcData:
    rows = records(annotations, required=("output_1", "output_2", "preference"))
    preferences = [preference_of(row["preference"], number) for number, row in enumerate(rows)]
    return LcData(
        targets=np.array([np.nan if p is None else p - 1 for p in preferences], dtype=np.float64),
        delta_length=np.array(
            [_length(row, "output_1", k) - _length(row, "output_2", k) for k, row in enumerate(rows)],
            dtype=np.float64,
        ),
        difficulty=None,
        instructions=tuple(row.get("instruction") for row in rows),
        annotators=frozenset(str(row["annotator"]) for row in rows if "annotator" in row),
        baselines=frozenset(str(row["generator_1"]) for row in rows if "generator_1" in row),
    )


def fit_length_control(
    data: LcData, calibration: Calibration | None, counts: Array | None = None
) -> LengthControlled:
    """Fit the regression of `length_controlled_win_rate` and predict at equal lengths.

    Args:
        data: one run's annotations.
        calibration: gives the gamed rows, the name of the method and the fingerprint.
        counts: how often each annotation counts [n], integers >= 0; None is once each. The result is that of a run
            in which it stands that often: replicates of a bootstrap.

    Returns:
        As `length_controlled_win_rate`.
    """
    repeats = np.ones(len(data.targets)) if counts is None else np.asarray(counts, dtype=np.float64)
    used = repeats > 0
    judged = used & ~np.isnan(data.targets)
    n = int(repeats[judged].sum())

    def result(lc: float | None, reason: str | None, coefficients: dict[str, float]) -> LengthControlled:
        return LengthControlled(
            length_controlled_win_rate=lc,
            lc_method="no_difficulty" if calibration is None else calibration.method,
            calibration=None if calibration is None else calibration.fingerprint,
            reason=reason,
            n=n,
            coefficients=coefficients,
        )

    names = ["length", "model"] if data.difficulty is None else ["length", "difficulty", "model"]
    if n <= len(names):
        return result(None, f"{n} preferences are too few for the {len(names)} coefficients of the model", {})
    y, delta = data.targets[judged], data.delta_length[used]
    if (delta == delta[0]).all():
        return result(
            None,
            f"all {int(repeats.sum())} length differences are {delta[0]:g} characters (sd 0): the effect of length "
            "cannot be separated from the model's",
            {},
        )
    if (y == y[0]).all() and y[0] in (0, 1):
        return result(None, f"every preference is {y[0] + 1:g}: the model effect is not finite", {})
    mean = np.average(delta, weights=repeats[used])
    sd = np.sqrt(repeats[used] @ (delta - mean) ** 2 / (repeats.sum() - 1))
    columns = [np.tanh(data.delta_length / sd), np.ones(len(used))]
    if data.difficulty is not None:
        columns.insert(1, data.difficulty)
    design = np.column_stack(columns)
    X, w = design[judged], repeats[judged]
    if calibration is not None and len(calibration.gamed_targets):
        X = np.vstack([X, calibration.gamed_design])
        y = np.concatenate([y, calibration.gamed_targets])
        w = np.concatenate([w, np.full(len(calibration.gamed_targets), GAMED_WEIGHT)])
    fit = fit_fractional_logit(X, y, w)
    if fit.coefficients is None:
        return result(None, f"the logistic fit failed: {fit.reason}", {})
    coefficients = dict(zip(names, map(float, fit.coefficients), strict=True))
    if is_limited(calibration) and abs(coefficients["length"]) > MAX_LENGTH_EFFECT:
        return result(
            None,
            f"preferences are all but separated by length: its effect is {coefficients['length']:.3g} log odds, "
            f"beyond {MAX_LENGTH_EFFECT:g}",
            {},
        )
    predicted = sigmoid(design[used, 1:] @ fit.coefficients[1:])
    return result(100 * float(np.average(predicted, weights=repeats[used])), None, coefficients)


def is_limited(calibration: Calibration | None) -> bool:
    """Whether `MAX_LENGTH_EFFECT` applies: it does where no gamed rows tie the effect of length down."""
    return calibration is None or not len(calibration.gamed_targets)


def _length(row: Mapping[str, Any], key: str, number: int) -> int:
    if not isinstance(row[key], str):
        raise AnnotationError(f"annotation {number}: {key} must be text, got {row[key]!r}")
    return len(row[key])


# Length-controlled win rates of many runs at once, each under weights of its own prompts.

# Numbers in one array of a stack of fits: few enough to stay in the processor's cache.
CELLS = 100_000


def length_controlled_of_each(
    data: Sequence[LcData], counts: Sequence[Array], calibration: Calibration | None
) -> Array:
    """What `fit_length_control` gives for each run and its counts, without the price of a call for each.

    Args:
        data: of each run; one may stand there many times.
        counts: how often each annotation of that run counts [n], integers >= 0.
        calibration: as for `fit_length_control`, the same for all.

    Returns:
        LC in percent [len(data)]; NaN: undefined.
    """
    values = np.full(len(data), np.nan)
    rows = max(1, CELLS // max((len(one.targets) for one in data), default=1))
    for at in range(0, len(data), rows):
        block = slice(at, at + rows)
        values[block] = _stack(data[block], counts[block], calibration)
    return values


def _stack(data: Sequence[LcData], counts: Sequence[Array], calibration: Calibration | None) -> Array:
    shape = (len(data), max(len(one.targets) for one in data))
    # Behind the end of a shorter run everything is 0, and weighs nothing.
    used, delta, targets = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    shared = np.ones((*shape, 1 if data[0].difficulty is None else 2))  # the model's column is the last
    for row, (one, count) in enumerate(zip(data, counts, strict=True)):
        n = len(count)
        used[row, :n], targets[row, :n] = count, one.targets
        delta[row, :n] = one.delta_length
        if one.difficulty is not None:
            shared[row, :n, 0], shared[row, n:, 0] = one.difficulty, 0.0
    judged = used * ~np.isnan(targets)
    total = used.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # of no prompt, or one
        mean = (used * delta).sum(axis=1, keepdims=True) / total[:, None]
        sd = np.sqrt((used * (delta - mean) ** 2).sum(axis=1) / (total - 1))
    k = 1 + shared.shape[2]
    # What varies by nothing but rounding is for the careful fit below; so is all that fails here.
    usual = (sd > 1e-9 * np.abs(delta).max(axis=1)) & (judged.sum(axis=1) > k)
    fixed = None
    if calibration is not None and len(calibration.gamed_targets):
        fixed = (calibration.gamed_design, calibration.gamed_targets, GAMED_WEIGHT)
    coefficients = np.full((len(data), k), np.nan)
    coefficients[usual] = fit_weighted_logits(
        np.tanh(delta[usual] / sd[usual, None]),
        shared[usual],
        np.nan_to_num(targets[usual]),
        judged[usual],
        np.zeros(k),
        fixed,
    )
    predicted = sigmoid(np.einsum("rk,rnk->rn", coefficients[:, 1:], shared))
    values = 100 * (used * predicted).sum(axis=1) / np.maximum(total, 1)
    if is_limited(calibration):
        values[np.abs(coefficients[:, 0]) > MAX_LENGTH_EFFECT] = np.nan
    reach = np.abs(coefficients[:, 0]) + np.einsum(
        "rk,rk->r", np.abs(coefficients[:, 1:]), np.abs(shared).max(axis=1)
    )
    for row in np.flatnonzero(~(reach <= MAX_LOG_ODDS)).tolist():
        careful = fit_length_control(data[row], calibration, counts[row]).length_controlled_win_rate
        values[row] = np.nan if careful is None else careful
    return np.asarray(values)

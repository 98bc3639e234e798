"""The generalization test: settings, seeds and prompts are samples. A verdict needs it and the test over settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.alpaca_eval.logit import Array
from analysis.inference.crossed import ROUNDING, check_table, complete_part, mean_squares
from analysis.results.model import GeneralizationTest, PromptPart
from analysis.results.values import Alternative, Interval

if TYPE_CHECKING:
    pass

METHOD = "mean over settings and seeds, half-widths of settings, seeds and prompts combined by their squares"

# As in the prompt bootstrap: draws without a value are not missing at random.
MAX_UNDEFINED = 0.05
NO_PROMPT_DATA = "no prompt-level data were given"
SMALLEST_TAIL = 1e-12  # p-values below are given as this


@dataclass(frozen=True, slots=True, eq=False)
class DifferenceDraws:
    """Differences between the arms under the same draws of prompts for every run."""

    values: Sequence[Array] | Array  # of each setting [seeds, replicates], the metric's unit; NaN: no value
    prompts: int  # drawn in each replicate


def generalization_test(
    differences: ArrayLike,
    draws: DifferenceDraws | None = None,
    *,
    prompts: int | None = None,
    draws_reason: str | None = None,
    max_prompt_effect: float | None = None,
    alternative: Alternative = "two-sided",
    confidence: float = 0.95,
    narrow: float = 0.9,
) -> GeneralizationTest:
    """Test that the mean difference is 0 when settings, seeds and, where draws are given, prompts are samples.

    d_ksp = mean + setting_k + seed_s + prompt_p + their interactions: every pair of runs at one setting, of one seed
    and on one prompt shares something. With the mean squares of `crossed_test`, t(df) the quantile of Student's
    distribution and C the variance that all pairs of runs share over prompts, the squared half-width of the interval is

        max(MS_K t(K-1)^2 + MS_S t(S-1)^2 - MS_E t((K-1)(S-1))^2, MS_K t(K-1)^2, MS_S t(S-1)^2) / (K S) + C t(P-1)^2,

    and no less than what the prompts alone give, plus, where the metric has bounds, U^2 for prompts of a kind that is
    not among these P: with tail probability none of a share 1 - tail^(1/P) is seen, and each could differ by the whole
    M the other way, U = (1 - tail^(1/P)) (M + |mean|). Without it, prompts of which few differ, and all one
    way, are too often all alike in a sample, with no spread to warn. C is the mean covariance, over draws of prompts,
    of pairs of runs that share neither setting nor seed: what else the prompts add is in the mean squares already. The
    p-value inverts the interval. Satterthwaite's degrees of freedom, estimated from the same mean squares, are too many
    just where the seeds happen to agree: with 2 or 3 seeds they reject up to twice as often as they should.

    Args:
        differences: candidate minus baseline [settings K, seeds S], in the metric's unit; NaN: no complete pair.
        draws: the same pairs under common draws of prompts; None: `draws_reason`, and p speaks of these prompts.
        prompts: their number, where it is known without draws.
        draws_reason: why there are none.
        max_prompt_effect: M, the most that the mean difference on one prompt can be, 100 points for win rates;
            None: no bounds.
        alternative: "greater": the mean is above 0.
        confidence: of the two-sided interval, in (0, 1).
        narrow: of the second interval, for equivalence.

    Returns:
        Estimate, test and intervals over the part without gaps (`crossed_test` says which). Without a second seed
        there is no test: one seed cannot tell what seeds share from an effect.

    Raises:
        ValueError: not a table, a value that is infinite, draws of another shape, an unknown alternative, a
            confidence outside (0, 1), a max_prompt_effect that is not above 0.

    Source: squares of half-widths as in Howe (1974), JASA 69:789, and Graybill & Wang (1980), JASA 75:869; components
    as in Searle, Casella & McCulloch (1992), Variance Components; U: Clopper & Pearson (1934), Biometrika 26:404, for
    0 seen. Level and coverage: bench/results/validity.md.
    """
    if alternative not in ("two-sided", "greater", "less"):
        raise ValueError(f"alternative must be one of two-sided, greater, less, got {alternative!r}")
    for level in (confidence, narrow):
        if not 0 < level < 1:
            raise ValueError(f"confidence must be between 0 and 1, got {level}")
    if max_prompt_effect is not None and not 0 < max_prompt_effect < math.inf:
        raise ValueError(f"max_prompt_effect must be above 0 and finite, got {max_prompt_effect}")
    everything = check_table(differences)
    table, without_settings, without_seeds = complete_part(everything)
    n_settings, n_seeds = table.shape
    prompt, reason = None, draws_reason
    if draws is not None:
        if (shape := (len(draws.values), len(draws.values[0]))) != everything.shape:
            raise ValueError(f"draws of {shape} for a table of {everything.shape}")
        prompt, reason = prompt_part(draws, max_prompt_effect, without_settings, without_seeds)
        prompts = draws.prompts
    common: dict[str, Any] = {
        "alternative": alternative,
        "settings": n_settings,
        "seeds": n_seeds,
        "prompts": prompts,
        "prompt": prompt,
        "prompt_reason": reason,
    }
    if n_settings < 2 or n_seeds < 2:
        known = everything[~np.isnan(everything)]
        why = f"needs 2 settings and 2 seeds without a missing pair, has {n_settings} and {n_seeds}"
        return GeneralizationTest(
            mean=float(known.mean()) if len(known) else None,
            interval=None,
            narrow=None,
            standard_error=None,
            p_value=None,
            reason=why,
            **common,
        )
    mean, squares = float(table.mean()), np.array(mean_squares(table))
    parts = (0.0, 0.0) if prompt is None else (prompt.shared, prompt.total)
    sampled = None if prompt is None else prompt.prompts

    unseen = 0.0 if max_prompt_effect is None else max_prompt_effect + abs(mean)

    def squared(tail: float, most: float) -> float:
        return float(squared_half_width(tail, squares, (n_settings, n_seeds), parts, sampled, most))

    def half_width(tail: float) -> float:
        return math.sqrt(squared(tail, unseen))

    if squared(0.025, 0.0) <= ROUNDING * float((table**2).max()):
        why = "no difference varies over settings, seeds or prompts: no standard error, nothing is rejected"
        return GeneralizationTest(
            mean=mean, interval=None, narrow=None, standard_error=None, p_value=None, reason=why, **common
        )
    tail = _tail(abs(mean), half_width)  # of Student's t in the direction of the mean
    upper = tail if mean >= 0 else 1 - tail
    p_value = {"two-sided": min(1.0, 2 * tail), "greater": upper, "less": 1 - upper}[alternative]
    crossed = max(squares[0] + squares[1] - squares[2], squares[0], squares[1]) / table.size

    def interval(level: float) -> Interval:
        half = half_width((1 - level) / 2)
        return Interval(
            estimate=mean, low=mean - half, high=mean + half, confidence=level, achieved=None, method=METHOD
        )

    return GeneralizationTest(
        mean=mean,
        interval=interval(confidence),
        narrow=interval(narrow),
        standard_error=math.sqrt(max(crossed + max(0.0, parts[0]), parts[1])),
        p_value=p_value,
        reason=None,
        **common,
    )


def prompt_part(
    draws: DifferenceDraws,
    max_prompt_effect: float | None = None,
    without_settings: Sequence[int] = (),
    without_seeds: Sequence[int] = (),
) -> tuple[PromptPart | None, str | None]:
    """Variances of the mean difference over prompts, from differences under common draws.

    Args:
        draws: of K settings and S seeds; those of one setting are in memory at a time.
        max_prompt_effect: as for `generalization_test`.
        without_settings: numbers of those that are left out.
        without_seeds: the same of seeds.

    Returns:
        The variances (with P / (P - 1), since draws are from the sample), or None and why there are none.

    Source: in a balanced design with as many replicates as one likes, `shared` is (MS_P - MS_KP - MS_SP + MS_KSP) /
    (K S P) of the three-way table, the estimate of the variance between prompts over P.
    """
    settings = np.delete(np.arange(len(draws.values)), without_settings).tolist()
    seeds = np.delete(np.arange(len(draws.values[0])), without_seeds).tolist()
    n_settings, n_seeds, prompts = len(settings), len(seeds), draws.prompts
    if min(n_settings, n_seeds) < 2:
        return None, "needs 2 settings and 2 seeds"
    if prompts < 2:
        return None, f"needs 2 prompts, has {prompts}"
    replicates = draws.values[0].shape[1]
    parts = _variances(draws.values, settings, seeds, np.ones(replicates, dtype=bool))
    # A draw in which some run has no value is left out of all: only then a second look is needed.
    defined = ~np.isnan(parts.sums)
    if (undefined := int((~defined).sum())) > MAX_UNDEFINED * replicates or replicates - undefined < 2:
        return None, f"{undefined} of {replicates} draws of prompts have no value for some run"
    if undefined:
        parts = _variances(draws.values, settings, seeds, defined)
    scale = prompts / (prompts - 1)
    everything = scale * float(parts.sums.var(ddof=1))
    apart = everything + scale * (parts.of_pairs - parts.of_settings - parts.of_seeds)
    pairs = n_settings * (n_settings - 1) * n_seeds * (n_seeds - 1)
    return PromptPart(
        prompts=prompts,
        shared=apart / pairs,
        total=everything / (n_settings * n_seeds) ** 2,
        draws=replicates,
        max_prompt_effect=max_prompt_effect,
    ), None


@dataclass(frozen=True, slots=True, eq=False)
class _Variances:
    """Variances over draws, added up, and the sum of all differences in each draw."""

    sums: Array
    of_settings: float  # of the sum over each setting's seeds
    of_seeds: float  # of the sum over each seed's settings
    of_pairs: float


def _variances(
    values: Sequence[Array] | Array, settings: Sequence[int], seeds: Sequence[int], draws: NDArray[np.bool_]
) -> _Variances:
    by_seed = np.zeros((len(seeds), int(draws.sum())))
    of_settings = of_pairs = 0.0
    for k in settings:
        of_setting = values[k][list(seeds)][:, draws]
        by_seed += of_setting
        of_settings += float(of_setting.sum(axis=0).var(ddof=1))
        of_pairs += float(of_setting.var(axis=1, ddof=1).sum())
    return _Variances(by_seed.sum(axis=0), of_settings, float(by_seed.var(axis=1, ddof=1).sum()), of_pairs)


def squared_half_width(
    tail: float,
    squares: Array,
    shape: tuple[int, int],
    prompt_parts: tuple[float, float] | tuple[Array, Array] = (0.0, 0.0),
    prompts: int | None = None,
    unseen: float = 0.0,
) -> Array:
    """Squared half-width of the generalization test's interval at 1 - 2 tail; of many tables at once.

    Args:
        tail: of Student's distribution, in (0, 0.5).
        squares: mean squares of settings, seeds and the rest [3, ...].
        shape: settings and seeds, at least 2 each.
        prompt_parts: shared and total variance over prompts, each a number or [...]; negative counts as 0.
        prompts: their number; None: no prompt part.
        unseen: how far the mean is from what a prompt of an unseen kind could bring.
    """
    from scipy.special import stdtrit  # slow to import

    n_settings, n_seeds = shape
    degrees = np.array([n_settings - 1, n_seeds - 1, (n_settings - 1) * (n_seeds - 1)])
    quantiles = stdtrit(degrees, tail) ** 2
    of_setting, of_seed, rest = (square * t for square, t in zip(squares, quantiles, strict=True))
    crossed = np.maximum(of_setting + of_seed - rest, np.maximum(of_setting, of_seed))
    crossed = crossed / (n_settings * n_seeds)
    if prompts is None:
        return np.asarray(crossed)
    shared, total = (np.maximum(0.0, part) for part in prompt_parts)
    t = float(stdtrit(prompts - 1, tail)) ** 2
    return np.asarray(
        np.maximum(crossed + shared * t, total * t) + (unseen_share(tail, prompts) * unseen) ** 2
    )


def unseen_share(tail: float, prompts: int) -> float:
    """The largest share of prompts of one kind of which a sample still has none with this probability."""
    return -math.expm1(math.log(tail) / prompts)


def out_of_reach(prompts: int, max_prompt_effect: float, alpha: float, power: float = 0.8) -> float:
    """The mean difference below which no test finds an effect with this power, if it keeps alpha for all prompts.

    Of any distribution of differences with mean m > 0, mix in a share e = m / (m + M) of prompts that differ by
    -M: the mean is 0, and with probability (1 - e)^P a sample is as without them. So a test of level alpha has a
    power of at most alpha (1 + m / M)^P, whatever it is. Exact for means over prompts, win rates; a
    length-controlled one is nearly one.

    Args:
        prompts: in the sample, P.
        max_prompt_effect: as for `generalization_test`.
        alpha: level.
        power: which it is to have.

    Source: the argument of Bahadur & Savage (1956), Ann. Math. Stat. 27:1115, for bounded differences.
    """
    return max_prompt_effect * math.expm1(math.log(power / alpha) / prompts)


def generalization_rejects(
    means: Array,
    squares: Array,
    shape: tuple[int, int],
    alpha: float,
    alternative: Alternative = "two-sided",
) -> NDArray[np.bool_]:
    """Whether the generalization test rejects, without a prompt part, for many tables at once.

    Args:
        means: of each table [...].
        squares: mean squares of settings, seeds and the rest [3, ...].
        shape: settings and seeds; with fewer than 2 of either nothing is rejected.
        alpha: level.
        alternative: as for `generalization_test`, whose decision this is.
    """
    if min(shape) < 2:
        return np.zeros(means.shape, dtype=bool)
    tail = alpha / 2 if alternative == "two-sided" else alpha
    towards = {"two-sided": np.abs(means), "greater": means, "less": -means}[alternative]
    return np.asarray(towards > np.sqrt(squared_half_width(tail, squares, shape)))


def _tail(distance: float, half_width: Any) -> float:
    """The tail at which the interval just reaches 0; the half-width falls as the tail grows."""
    if half_width(SMALLEST_TAIL) <= distance:
        return SMALLEST_TAIL
    low, high = math.log(SMALLEST_TAIL), math.log(0.5)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if half_width(math.exp(middle)) > distance else (low, middle)
    return math.exp(high)

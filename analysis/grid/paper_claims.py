"""What the AdaDPO paper reports, beside the same quantities of a sweep, each with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.inference.intervals import clopper_pearson
from analysis.results.model import Claim, Comparison, Declared, GridBest, PaperClaims
from analysis.results.values import Interval

SOURCE = "AdaDPO, arXiv 2605.28440"
PUBLISHED_FOR = "Llama-3-8B-Instruct on UltraFeedback, AlpacaEval 2, one seed per setting, no errors given"
HIGHER_LC, BEST_LC, BEST_WR, LARGER_MARGIN = 81.0, 48.3, 46.1, 88.0
WARNING = (
    "Shares count settings, which share seeds and prompts: the intervals take settings for independent and are too "
    "narrow, and luck in a seed or a prompt moves many settings together. No share is evidence of a difference by "
    "itself; the test over settings is."
)


def paper_claims(
    comparisons: Sequence[Comparison],
    bests: Sequence[GridBest],
    *,
    declared: Declared,
    measured_for: str,
    confidence: float = 0.95,
) -> PaperClaims:
    """The paper's four claims about AdaDPO and DPO.

    Args:
        comparisons: of candidate and baseline, by metric.
        bests: of the grid, by metric.
        declared: names of the arms.
        measured_for: model and data here.
        confidence: of the shares' Clopper-Pearson intervals.
    """
    lc, margin = "length_controlled_win_rate", "lc_minus_wr"
    claims = [
        _share(
            "share_higher_lc", "Settings with a higher LC win rate", HIGHER_LC, comparisons, lc, confidence
        ),
        *_bests("best_lc", "Best LC win rate of the grid", BEST_LC, bests, lc, declared),
        *_bests("best_wr", "Best win rate of the grid", BEST_WR, bests, "win_rate", declared),
        _share(
            "share_larger_margin",
            "Settings with a larger LC-over-WR margin",
            LARGER_MARGIN,
            comparisons,
            margin,
            confidence,
        ),
    ]
    return PaperClaims(
        source=SOURCE,
        published_for=PUBLISHED_FOR,
        measured_for=measured_for,
        claims=claims,
        warning=WARNING,
    )


def _share(
    name: str,
    label: str,
    published: float,
    comparisons: Sequence[Comparison],
    metric: str,
    confidence: float,
) -> Claim:
    found = next((each for each in comparisons if each.metric == metric), None)
    n = 0 if found is None else found.won + found.tied + found.lost
    ours = None
    if found is not None and n:
        share = clopper_pearson(found.won, n, confidence)
        percent = {
            key: None if value is None else 100 * value
            for key, value in (("low", share.low), ("high", share.high))
        }
        ours = share.model_copy(update={"estimate": 100 * share.estimate, **percent})
    return Claim(
        name=name,
        label=label,
        arm=None,
        published=published,
        unit="%",
        ours=ours,
        naive=None,
        count=None if ours is None or found is None else found.won,
        settings=n,
        reason=None if ours else "no setting has a complete pair of runs with a value",
    )


def _bests(
    name: str, label: str, published: float, bests: Sequence[GridBest], metric: str, declared: Declared
) -> list[Claim]:
    """The candidate's best beside the published one, and the baseline's, of which the paper's text gives none."""
    found = next((each.bests for each in bests if each.metric == metric), None)
    claims = []
    for arm, side, figure in (
        (declared.candidate, None if found is None else found.candidate, published),
        (declared.baseline, None if found is None else found.baseline, None),
    ):
        ours = None
        if side is not None and side.corrected is not None:
            ours = Interval(
                estimate=side.corrected,
                low=side.low,
                high=side.high,
                confidence=side.confidence,
                achieved=None,
                method="selected and scored on different prompts, percentiles of the bootstrap",
            )
        claims.append(
            Claim(
                name=name,
                label=label,
                arm=arm,
                published=figure,
                unit="points",
                ours=ours,
                naive=None if side is None else side.naive,
                count=None,
                settings=None if side is None else side.settings,
                reason=None if ours else "no run has a value" if side is None else side.reason,
            )
        )
    return claims

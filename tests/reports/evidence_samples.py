"""What judgements of single prompts tell, made up to go with the comparison of `sample_results`."""

from __future__ import annotations

from analysis.grid.best_setting import compare_search_budgets
from analysis.grid.paper_claims import paper_claims
from analysis.results.model import (
    BestDifference,
    BestOfGrid,
    Comparison,
    Declared,
    FlippedPrompt,
    FlippedPrompts,
    GridBest,
    Metric,
    PaperClaims,
    PromptInterval,
    PromptLevel,
    RunRow,
)


def make_prompt_level(comparison: Comparison) -> PromptLevel | None:
    """An interval of 3 points each way around every difference; the last setting has too few draws."""
    of_settings, of_pairs = [], []
    for k, each in enumerate(comparison.differences):
        last = k == len(comparison.differences) - 1
        for seed, value in [(None, each.mean), *((pair.seed, pair.value) for pair in each.values)]:
            if value is None:
                continue
            lacking = last and seed is None
            (of_settings if seed is None else of_pairs).append(
                PromptInterval(
                    setting=each.setting,
                    seed=seed,
                    estimate=value,
                    standard_error=None if lacking else 1.5,
                    low=None if lacking else value - 3,
                    high=None if lacking else value + 2.8,
                    p_value=None if lacking else 0.4,
                    undefined=300 if lacking else 2,
                    reason="300 of 2000 replicates have no value, more than 5%" if lacking else None,
                )
            )
    if not of_settings:
        return None
    return PromptLevel(
        metric=comparison.metric,
        confidence=0.95,
        prompts=120,
        replicates=2000,
        lc_method="no_difficulty",
        settings=of_settings,
        pairs=of_pairs,
    )


def make_bests(runs: list[RunRow], settings: list[str], metrics: list[Metric]) -> list[GridBest]:
    """Naive bests and budgets of the runs; corrected by 0.8 points."""
    found = []
    for metric in metrics:
        means = {}
        for arm in ("adadpo", "dpo"):
            of_arm = {
                name: [
                    value
                    for run in runs
                    if (run.arm, run.setting) == (arm, name)
                    and (value := run.metrics[metric.name]) is not None
                ]
                for name in settings
            }
            means[arm] = {name: sum(values) / len(values) for name, values in of_arm.items() if values}
        if not means["adadpo"] or not means["dpo"]:
            continue
        candidate, baseline = (_best(means[arm]) for arm in ("adadpo", "dpo"))
        assert candidate.naive is not None
        assert baseline.naive is not None
        found.append(
            GridBest(
                metric=metric.name,
                candidate=list(means["adadpo"]),
                baseline=list(means["dpo"]),
                bests=BestDifference(
                    candidate=candidate,
                    baseline=baseline,
                    naive=candidate.naive - baseline.naive,
                    corrected=candidate.naive - baseline.naive - 0.1,
                    low=-2.0,
                    high=5.5,
                    reason=None,
                ),
                budgets=compare_search_budgets(means["adadpo"].values(), means["dpo"].values()),
                worst_given=[],
            )
        )
    return found


def _best(means: dict[str, float]) -> BestOfGrid:
    values = list(means.values())
    naive = max(values)
    shares = [0.0] * len(values)
    shares[values.index(naive)] = 0.62
    return BestOfGrid(
        settings=len(values),
        chosen=values.index(naive),
        naive=naive,
        corrected=naive - 0.8,
        low=naive - 4,
        high=naive + 2.5,
        confidence=0.95,
        draws=1000,
        undefined=0,
        share_chosen=shares,
        reason=None,
    )


def make_claims(comparisons: list[Comparison], bests: list[GridBest], declared: Declared) -> PaperClaims:
    return paper_claims(
        comparisons, bests, declared=declared, measured_for="smollm2-135m-instruct on builtin:instructions"
    )


def make_flips(settings: list[str]) -> FlippedPrompts:
    def flip(number: int, wins: int, losses: int, ours: float, theirs: float) -> FlippedPrompt:
        return FlippedPrompt(
            instruction=f"Name {number + 2} colours of the sea, separated by semicolons.",
            pairs=11,
            candidate_wins=wins,
            baseline_wins=losses,
            mean_difference=(wins - losses) / 11,
            setting=settings[number % len(settings)],
            seed=number % 2,
            reference_output="Blue and green, and grey when it rains.",
            candidate_output="blue; green; grey" if ours > theirs else "The sea is blue.",
            baseline_output="blue, green" if ours > theirs else "blue; green; grey",
            candidate_preference=ours,
            baseline_preference=theirs,
        )

    return FlippedPrompts(
        prompts=120,
        pairs=11,
        n_to_candidate=9,
        n_to_baseline=1,
        to_candidate=[flip(0, 8, 0, 2.0, 1.0), flip(1, 6, 1, 1.93, 1.2)],
        to_baseline=[flip(2, 1, 4, 1.0, 2.0)],
    )

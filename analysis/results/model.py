"""What the blocks of `results.json` are made of: frozen values, read by the report.

Undefined is `None` beside a reason, never 0. Win rates and their differences are in percentage points.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from analysis.results.values import Alternative, Frozen, Interval, SignedRank, State, Value, ZeroMethod

# What the tests around a comparison return; they serialise to `results.json` as parts of it.

UnitName = Literal["setting", "setting and seed", "pair", "seed", "prompt"]
Rule = Literal["intention to treat", "complete pairs", "lowest difference", "highest difference"]
FlipUnit = Literal["setting", "seed", "pair"]
Action = Literal["seed", "setting", "prompts", "judging"]
VerdictKind = Literal["better", "worse", "inconclusive", "equivalent", "untestable"]


class Unit(Frozen):
    """The unit of a test. A p-value does not cover what the units share."""

    name: UnitName
    n: int
    shared: list[str]
    """What the units share."""
    population: str
    """The population that the p-value generalises to."""
    independent: bool
    """False: the p-value is descriptive, since units share what the test takes for independent."""


def unit_of_test(name: UnitName, *, settings: int, seeds: int, prompts: int | None = None) -> Unit:
    """Describe the unit of a test on a table of settings by seeds.

    Args:
        name: "setting": seed-averaged differences; "setting and seed": the crossed test; "pair": every difference as
            one; "seed": differences averaged over settings; "prompt": paired prompts of trained models.
        settings: in the test.
        seeds: in the test.
        prompts: in the evaluation; None: not known, which the unit "prompt" refuses.

    Raises:
        ValueError: a number of prompts that is needed and not given.

    Source: unit and population as in Hurlbert (1984), Ecol. Monogr. 54:187 (pseudoreplication).
    """
    if name == "prompt" and prompts is None:
        raise ValueError("a test over prompts needs their number")
    of_prompts = "the prompts and the judge" if prompts is None else f"the {prompts} prompts and the judge"
    their_seeds = "the seed" if seeds == 1 else f"the {seeds} seeds"
    their_settings = "the setting" if settings == 1 else f"the {settings} settings"
    n, shared, population = {
        "setting": (settings, [their_seeds, of_prompts], "similar settings, same seeds"),
        "setting and seed": (settings * seeds, [of_prompts], "similar settings and seeds"),
        "pair": (
            settings * seeds,
            [their_settings, their_seeds, of_prompts],
            "none: pairs of one setting, or of one seed, are not independent",
        ),
        "seed": (seeds, [their_settings, of_prompts], "similar seeds, same settings"),
        "prompt": (prompts or 0, ["the trained models", "the judge"], "similar prompts, same models"),
    }[name]
    return Unit(name=name, n=n, shared=shared, population=population, independent=name != "pair")


class VarianceComponents(Frozen):
    """Variances of d_ks = mean + setting_k + seed_s + run_ks, in the metric's unit squared.

    Unbiased, so that `setting` and `seed` may come out negative: a sign that they are small.
    """

    setting: float
    """Between settings: the arms differ more at some than at others."""
    seed: float
    """Between seeds, shared by all settings: data order, initialisation."""
    run: float
    """What is left: training, decoding and judging of one pair of runs."""


class CrossedTest(Frozen):
    """Mean difference over settings and seeds, with the error that both kinds of sharing leave."""

    interval: Interval | None
    """Of the mean; None where no pair is complete."""
    standard_error: float | None
    """Standard error."""
    degrees_of_freedom: float | None
    """Satterthwaite's."""
    t: float | None
    p_value: float | None
    """None does not reject."""
    alternative: Alternative
    """Direction that the test looks for."""
    settings: int
    """That the analysis uses."""
    seeds: int
    left_out_settings: list[int]
    """Positions; a gap in them."""
    left_out_seeds: list[int]
    """Positions of seeds with a gap."""
    components: VarianceComponents | None
    """Variance components."""
    reason: str | None
    """Why something is None."""


class PromptPart(Frozen):
    """Variance of the mean difference that comes from the prompts, which all runs answer; metric's unit squared."""

    prompts: int
    shared: float
    """By what all pairs of runs share of them; unbiased, so that it may come out below 0."""
    total: float
    """All that other prompts would change for these runs."""
    draws: int
    """Of prompts."""
    max_prompt_effect: float | None = None
    """The most that one prompt can differ by, for those unseen; None: no bounds are known."""


class GeneralizationTest(Frozen):
    """Mean difference with settings, seeds and, where `prompt` is known, prompts taken as samples.

    A verdict needs this as well as the test over settings, which takes the seeds and the prompts as they are.
    """

    mean: float | None
    """Over settings and seeds without a gap; None where no pair is complete."""
    interval: Interval | None
    narrow: Interval | None
    """At 1 - 2 alpha, for equivalence."""
    standard_error: float | None
    """Standard error."""
    p_value: float | None
    """None does not reject."""
    adjusted_p: float | None = None
    """Holm over the declared candidates."""
    alternative: Alternative
    """Direction that the test looks for."""
    settings: int
    """Without a gap."""
    seeds: int
    prompts: int | None
    """That were answered; None: not known."""
    prompt: PromptPart | None
    """Of the prompts."""
    prompt_reason: str | None
    """Why prompts are not taken as a sample: p holds for these alone."""
    reason: str | None
    """Why there is no p."""


class PooledTest(Frozen):
    """Wilcoxon over all setting x seed pairs, with the valid test over settings next to it."""

    test: SignedRank
    unit: Unit
    """Unit of the values."""
    over_settings: SignedRank
    """The test over settings."""
    over_settings_unit: Unit
    """Its unit."""
    warning: str
    """What must be kept in mind."""


class SettingTest(Frozen):
    """One setting by itself, over its seeds."""

    setting: str
    test: SignedRank | None
    """The signed-rank test; None: no complete pair."""
    adjusted: float | None
    """Benjamini-Hochberg over the settings; exploratory."""
    testable: bool
    """Whether any outcome could reach alpha."""
    reason: str | None
    """Why it is not testable."""


class SettingsWon(Frozen):
    """Signs of seed-averaged differences. The share won is never evidence by itself."""

    won: int
    tied: int
    lost: int
    share: Interval | None
    """Of won among won and lost, Clopper-Pearson; None when all are tied."""
    p_value: float
    """Exact sign test, two-sided."""
    reason: str | None
    """Why something is null."""


class ProbabilityOfImprovement(Frozen):
    """How often a run of the candidate beats a run of the baseline at the same setting."""

    estimate: float | None
    """Mean over settings, in [0, 1]; 0.5: neither."""
    by_setting: list[float | None]
    """Per setting."""
    settings: int
    """That have runs of both arms."""
    reason: str | None
    """Why something is null."""


class Equivalence(Frozen):
    """Whether a difference is within +-margin, in the unit of the differences."""

    margin: float
    """Declared before results existed."""
    alpha: float
    interval: Interval
    """At 1 - 2 alpha."""
    p_above: float | None
    """One-sided, null hypothesis: at or below -margin."""
    p_below: float | None
    """One-sided, null hypothesis: at or above +margin."""
    p_value: float | None
    """The larger of the two; None: see `reason`."""
    equivalent: bool | None
    """None: no outcome could have shown it, or there is no interval."""
    reason: str | None
    """Why something is null."""


class BayesianSignedRank(Frozen):
    """Posterior probabilities that a difference is most likely below, within and above +-rope; they add up to 1."""

    n: int
    """Differences."""
    rope: float
    """Half-width of practical equivalence, in the unit of the differences."""
    p_below: float
    """Probability that the difference is below."""
    p_within: float
    """That it is within."""
    p_above: float
    """That it is above."""
    prior_strength: float
    """Weight of the prior's pseudo-observation."""
    draws: int
    standard_error: float
    """Largest of the three, by the number of draws."""


class RuleResult(Frozen):
    """The comparison under one rule for missing runs; unit: the setting, averaged over seeds."""

    rule: Rule
    """The rule."""
    filled: list[str]
    """Runs that were given a value, and which."""
    left_out: int
    """Pairs without a value under this rule."""
    mean: float | None
    """Over settings, in the metric's unit."""
    estimate: Interval | None
    """Hodges-Lehmann."""
    test: SignedRank | None
    reason: str | None
    """Why there is none."""


class Failures(Frozen):
    """Failures per arm over pairs of which both runs ended; paired, so that McNemar's test applies."""

    states: list[State]
    """What counts as a failure."""
    pairs: int
    """Of which both runs ended."""
    candidate: int
    baseline: int
    only_candidate: int
    """Pairs of which the candidate's run alone failed."""
    only_baseline: int
    """Pairs of which the baseline's run alone failed."""
    p_value: float
    """Exact, two-sided; pairs of one setting often fail together, then it is too small."""


class MissingRuns(Frozen):
    """Whether the conclusion hangs on the runs that are missing."""

    rules: list[RuleResult]
    """Intention to treat, complete pairs, lowest and highest difference."""
    failures: Failures


class SelfCheck(Frozen):
    """How often a test rejects when, by construction, there is nothing to find."""

    unit: FlipUnit
    """Unit of the values."""
    units: int
    alpha: float
    """The nominal rate."""
    rate: float
    """The realised one."""
    interval: Interval | None
    """Of the rate, Clopper-Pearson at 95%; None when all sign patterns were taken."""
    rejected: int
    """Sign patterns that the test rejects."""
    flips: int
    """Sign patterns tried."""
    exhaustive: bool
    """All 2^units of them, so that the rate has no error."""


class Power(Frozen):
    """How often the signed-rank test over settings rejects, if the truth is as assumed."""

    settings: int
    seeds: int
    effect: float
    """True mean difference, in the metric's unit, as are the SDs."""
    run_sd: float
    """Of the difference of one pair of runs."""
    setting_sd: float
    """Of true differences between settings."""
    seed_sd: float
    """Of what all pairs of one seed share."""
    alpha: float
    alternative: Alternative
    """Direction that the test looks for."""
    power: float
    """Of the declared test alone."""
    standard_error: float
    """Of `power`, by the number of simulations."""
    verdict: float | None = None
    """How often the generalization test rejects too, so that the verdict is "better" or "worse"."""
    simulations: int
    """Simulated sweeps."""
    smallest_p: float
    """That this many settings can reach."""
    reason: str | None
    """Why no outcome can reach alpha; then power is exactly 0."""


class Step(Frozen):
    """What one step would bring."""

    action: Action
    """What would be added."""
    amount: int
    """Seeds, settings, prompts or judgings added."""
    standard_error: float | None
    """After it."""
    reduction: float | None
    """Of the standard error, in the metric's unit."""
    cost: float | None
    reduction_per_cost: float | None
    """Reduction of the standard error for one unit of cost."""
    smallest_p: float
    """That the test over settings can reach after it."""
    reason: str | None
    """Why something is None."""


class NextSteps(Frozen):
    """Steps by expected reduction of the standard error per cost, the best first; unknown ones last."""

    standard_error: float
    """Of the mean difference now, from the components."""
    unit: str
    """Of the costs."""
    steps: list[Step]
    warning: str | None
    """A design that cannot reach alpha, whatever its standard error is."""


class Inference(Frozen):
    """What stands around the headline test of one comparison: for each a value, or None and a line in `reasons`.

    Every metric has unit, crossed test, zero methods, settings won and improvement; the declared primary has the rest.
    """

    unit: Unit
    """Of the headline test."""
    crossed: CrossedTest
    """Settings and seeds both samples: variance components."""
    generalization: GeneralizationTest | None = None
    """What the verdict needs as well as the headline test; null: an older file."""
    zero_methods: dict[ZeroMethod, SignedRank]
    """The headline test under each treatment of zeros."""
    settings_won: SettingsWon | None = None
    """Signs of the settings' differences."""
    improvement: ProbabilityOfImprovement | None = None
    """How often a run of the candidate is the better one."""
    pooled: PooledTest | None = None
    """All pairs as if independent: descriptive."""
    equivalence: Equivalence | None = None
    """Two one-sided tests within the margin."""
    bayesian: BayesianSignedRank | None = None
    """Posterior probabilities of the signed-rank test."""
    missing: MissingRuns | None = None
    """The comparison under each rule for missing runs."""
    self_check: SelfCheck | None = None
    """False positives of the test within these data."""
    by_setting: list[SettingTest] = Field(default=[])
    """Exploratory."""
    rng_seed: int | None = None
    """Seed of the draws of `bayesian` and `self_check`."""
    reasons: dict[str, str] = Field(default={})
    """Field -> why it is None."""


class Declared(Frozen):
    """The comparison that was declared before results existed."""

    baseline: str
    candidate: str
    more_candidates: list[str] = Field(default=[])
    """The rest of the family, each compared with the baseline."""
    primary: str
    """Metric name."""
    alternative: Alternative = "two-sided"
    """Direction that the test looks for."""
    alpha: float = 0.05
    rope: float = 1.0
    """Half-width of practical equivalence, in the metric's unit."""
    decimals: int = 9
    """Differences are rounded to this before they are ranked."""
    preregistered: bool = True
    """False: of results that were there already, so that nothing is confirmatory."""


class Metric(Frozen):
    """How a metric is called and shown."""

    name: str
    """Column of the table of runs, e.g. "length_controlled_win_rate"."""
    label: str
    """E.g. "LC win rate"."""
    unit: str
    """E.g. "points", "nats", "characters", ""."""
    decimals: int
    """Digits shown; tests use unrounded values."""
    higher_is_better: bool | None
    """None: neither."""
    standard_error: str | None = None
    """Key of a run's metrics with the standard error of its value."""
    attainable: tuple[float, float] | None = None
    """Lowest and highest value it can take; None: it has none."""


class SeedValue(Frozen):
    """One run's value of one metric; `None` when the run has none."""

    seed: int
    value: float | None


class Cell(Frozen):
    """One arm at one setting: mean and SD over seeds."""

    arm: str
    setting: str
    """Label, e.g. "beta=0.1 learning_rate=1e-05"."""
    metric: str
    values: list[SeedValue]
    """Every planned seed, in order."""
    n: int
    """Runs that have a value."""
    mean: float | None
    """None when n == 0."""
    sd: float | None
    """Ddof = 1; None when n < 2."""


class SettingDifference(Frozen):
    """Candidate minus baseline at one setting."""

    setting: str
    values: list[SeedValue]
    """Per-seed differences; None where a partner is missing."""
    n: int
    """Complete pairs."""
    mean: float | None
    """Over complete pairs; None when there is none."""
    sd: float | None
    """Ddof = 1; None when n < 2."""


class Comparison(Frozen):
    """The paired comparison of two arms on one metric; unit: the setting, averaged over seeds."""

    metric: str
    differences: list[SettingDifference]
    """One per planned setting."""
    test: SignedRank | None
    test_reason: str | None
    """Why there is no test."""
    estimate: Interval | None
    """Hodges-Lehmann, None when no difference is defined."""
    rank_biserial: float | None
    """Matched rank-biserial correlation, from -1 to 1."""
    won: int
    tied: int
    lost: int
    sign_p_value: float | None
    """Exact two-sided sign test over settings."""
    missing_pairs: list[str]
    """"setting, seed: which arm has no value and why"."""
    confirmatory: bool
    """The declared primary, unchanged since launch."""
    adjusted_p: float | None = None
    """Holm over declared candidates, Benjamini-Hochberg over other arms."""
    family: int = 1
    """Comparisons that `adjusted_p` is over."""
    inference: Inference | None = None
    """The tests around this one; None: no test, or a file of before."""


class ArmComparison(Frozen):
    """Another arm than the first candidate against the baseline, on the primary metric."""

    candidate: str
    declared: bool
    """In the declared family; else exploratory."""
    comparison: Comparison
    verdict: str | None = None
    """Of the declared ones."""
    verdict_kind: VerdictKind | None = None
    """The verdict in one word."""


class Failure(Frozen):
    """A run that has no result."""

    run_id: str
    arm: str
    setting: str
    seed: int
    state: State
    reason: str
    """Why something is null."""


class Curve(Frozen):
    """One logged quantity over the steps of one run."""

    arm: str
    setting: str
    seed: int
    name: str
    """E.g. "reward_margin", "gradient_ratio"."""
    steps: list[int]
    values: list[float | None]


class RunRow(Frozen):
    """One run of the tidy table."""

    run_id: str
    arm: str
    setting: str
    hyperparameters: dict[str, Value]
    """The axes of the grid at this setting."""
    seed: int
    state: State
    metrics: dict[str, float | None]
    wall_seconds: float | None = None
    """Wall time of training and generation, in seconds."""
    flags: list[str] = Field(default=[])
    """What a check of the evaluation found, worst first."""


class Sample(Frozen):
    """One prompt with both answers, to be looked at."""

    arm: str
    setting: str
    seed: int
    instruction: str
    baseline_output: str
    """The baseline's answer."""
    output: str
    """The trained policy's answer."""
    preference: float | None
    """In [1, 2]; 2: the trained policy's answer wins."""


class Evaluation(Frozen):
    """How win rates were made: unlike evaluations are never pooled."""

    model: str
    data: str
    prompts: str
    n_prompts: int | None
    """Number of prompts."""
    judge: str
    baseline: str
    lc_method: str
    """Formula of the length-controlled win rate."""
    decoding: dict[str, Value]
    """How answers were generated."""


class Judgement(Frozen):
    """One judge's view of the sweep's responses; unlike judgements are shown side by side and never pooled."""

    eval_id: str
    """Identity of the evaluation."""
    judge: str
    lc_method: str
    """Formula of the length-controlled win rate."""
    declared: bool
    """The sweep file's own; any other was made afterwards."""
    counts: dict[State, int]
    means: dict[str, dict[str, float | None]]
    """Arm -> metric -> mean over runs that count."""
    comparison: Comparison | None
    """On the declared primary metric; exploratory unless `declared`."""
    judging: dict[str, Value]
    """Requests, cost in dollars, position bias, noise: what the judge reports."""
    reason: str | None = None
    """Why no run that counts has a value."""
    failures: list[Failure] = Field(default=[])
    """That do not count here; of the declared one: the results' own."""


class LcComparison(Frozen):
    """The comparison under one way of the win rate; unlike ways are shown side by side and never pooled."""

    method: str
    """Lc_method, or "win_rate": raw, not controlled for length."""
    own: bool
    """The sweep's own formula."""
    means: dict[str, float | None]
    """Baseline and candidate -> mean over runs that count."""
    runs: int
    """Of both arms that have a value."""
    comparison: Comparison | None
    reason: str | None
    """Why there is none."""


class Search(Frozen):
    """How the settings were chosen where they are no grid: by the mean of the primary over the compared arms."""

    sampler: str
    """Tpe or random."""
    pruner: str
    """None, median or successive_halving."""
    seed: int
    """Of the search."""
    trials: int
    """Settings that were declared."""
    asked: int
    """So far."""
    complete: int
    """With a value at every seed."""
    pruned: int
    """Given up after fewer seeds."""
    without_value: int
    """A run of a compared arm diverged, failed or does not count."""


# What a sweep holds beyond its tests: errors over prompts, bests of the grid, the paper's claims, flipped prompts.


class PromptInterval(Frozen):
    """Candidate minus baseline at one setting with its error over prompts: the same draws on both sides."""

    setting: str
    seed: int | None
    """Random seed of the run; None: the mean over the seeds of which both runs count."""
    estimate: float | None
    standard_error: float | None
    """Standard error."""
    low: float | None
    high: float | None
    p_value: float | None
    """Two-sided; of these prompts' luck alone."""
    undefined: int
    """Draws without a value."""
    reason: str | None
    """Why something is None."""


class PromptLevel(Frozen):
    """Differences of one metric over draws of prompts. The trained policies and their responses are as they are."""

    metric: str
    confidence: float
    prompts: int
    """Drawn in each replicate."""
    replicates: int
    """Draws of the bootstrap."""
    lc_method: str
    """Formula of the length-controlled win rate."""
    settings: list[PromptInterval]
    """That have a complete pair, in the order of the plan."""
    pairs: list[PromptInterval]
    """Of single runs, by setting and seed."""


class BestOfGrid(Frozen):
    """One arm's best setting by prompt-level scores, in the metric's unit."""

    settings: int
    chosen: int | None
    """Position of the best on all prompts."""
    naive: float | None
    """Its value on the same prompts: inflated."""
    corrected: float | None
    """Mean value on prompts that did not choose."""
    low: float | None
    """Percentile interval over draws; too wide rather than too narrow."""
    high: float | None
    confidence: float
    draws: int
    undefined: int
    """Draws without a value."""
    share_chosen: list[float]
    """Of defined draws in which each setting is the best."""
    reason: str | None
    """Why something is None."""


class BestDifference(Frozen):
    """Candidate's best minus baseline's best, both selected and scored under the same draws."""

    candidate: BestOfGrid
    baseline: BestOfGrid
    naive: float | None
    """Without correction for having been selected."""
    corrected: float | None
    """Corrected for having been selected."""
    low: float | None
    high: float | None
    reason: str | None
    """Why something is null."""


class SearchBudgets(Frozen):
    """Expected best of both arms against the number of settings tried, in the metric's unit."""

    candidate: list[float]
    """[n - 1]: of n settings tried."""
    baseline: list[float]
    common: int
    """The largest number that both arms have tried."""
    difference: float
    """Candidate's expected best minus the baseline's, with `common` settings each."""
    unequal: bool
    """Whether the arms tried different numbers of settings."""
    null_win_share: float
    """How often the candidate's best is the better one when no setting differs."""
    warning: str | None
    """Why the bests of unequal grids are not comparable."""


class GridBest(Frozen):
    """Best of the grid on one metric; a setting's value is the mean over its runs that count."""

    metric: str
    candidate: list[str]
    """Settings that have a value, which positions in `bests` refer to."""
    baseline: list[str]
    bests: BestDifference
    """Both arms' best settings."""
    budgets: SearchBudgets | None
    """None: an arm has no setting with a value."""
    worst_given: list[str]
    """"arm at setting": tried and diverged, counted as the worst value there is."""


class Claim(Frozen):
    """One claim of the AdaDPO paper and the same quantity here."""

    name: str
    """Share_higher_lc, best_lc, best_wr, share_larger_margin."""
    label: str
    arm: str | None
    """Whose best; None: of both."""
    published: float | None
    """In `unit`; None: the paper gives none."""
    unit: str
    """"%" of settings, or "points"."""
    ours: Interval | None
    """In `unit`."""
    naive: float | None
    """Of a best: before the correction for having been selected."""
    count: int | None
    """Of a share: settings with it."""
    settings: int | None
    """Of a share: settings with a complete pair."""
    reason: str | None
    """Why `ours` is None."""


class PaperClaims(Frozen):
    """The paper's own claims: another model, other data, single seeds and no errors there."""

    source: str
    published_for: str
    """Model and data there."""
    measured_for: str
    """Model and data here."""
    claims: list[Claim]
    warning: str
    """What must be kept in mind."""


class FlippedPrompt(Frozen):
    """A prompt on which the arms' runs come out differently against the evaluation's baseline."""

    instruction: str
    pairs: int
    """Of runs that were judged on it."""
    candidate_wins: int
    """Pairs of which the candidate wins and the baseline arm loses."""
    baseline_wins: int
    """Pairs of which the baseline arm wins and the candidate loses."""
    mean_difference: float
    """Of preferences, candidate minus baseline arm, in [-1, 1], over the pairs."""
    setting: str
    """Of the pair that is shown."""
    seed: int
    reference_output: str
    """The evaluation baseline's answer."""
    candidate_output: str
    """The candidate's answer."""
    baseline_output: str
    """The baseline's answer."""
    candidate_preference: float
    """In [1, 2]; above 1.5 it wins against the evaluation baseline's answer."""
    baseline_preference: float
    """The judge's preference for the baseline arm's answer, in [1, 2]."""


class FlippedPrompts(Frozen):
    """Prompts that one arm wins and the other loses, over all pairs of runs, the most consistent first."""

    prompts: int
    """Judged in at least one pair."""
    pairs: int
    """Of runs."""
    n_to_candidate: int
    """Prompts with more flips to the candidate than to the baseline arm."""
    n_to_baseline: int
    """Prompts with more flips to the baseline arm."""
    to_candidate: list[FlippedPrompt]
    """The first of them."""
    to_baseline: list[FlippedPrompt]
    """The first of those."""

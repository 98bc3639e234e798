"""What the tests around a comparison return; they serialise to `results.json` as parts of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from analysis.values import Alternative, Frozen, Interval, RunState, SignedRank, ZeroMethod

UnitName = Literal["setting", "setting and seed", "pair", "seed", "prompt"]
Rule = Literal["intention to treat", "complete pairs", "lowest difference", "highest difference"]
FlipUnit = Literal["setting", "seed", "pair"]
Action = Literal["seed", "setting", "prompts", "judging"]


class Unit(Frozen):
    """The unit of a test. What units share is not in the p-value: it speaks of that as it is."""

    name: UnitName
    n: int
    shared: list[str]
    population: str
    independent: (
        bool  # False: the p-value is descriptive, since units share what the test takes for independent
    )


class VarianceComponents(Frozen):
    """Variances of d_ks = mean + setting_k + seed_s + run_ks, in the metric's unit squared.

    Unbiased, so that `setting` and `seed` may come out negative: a sign that they are small.
    """

    setting: float  # between settings: the arms differ more at some than at others
    seed: float  # between seeds, shared by all settings: data order, initialisation
    run: float  # what is left: training, decoding and judging of one pair of runs


class CrossedTest(Frozen):
    """Mean difference over settings and seeds, with the error that both kinds of sharing leave."""

    interval: Interval | None  # of the mean; None where no pair is complete
    standard_error: float | None
    degrees_of_freedom: float | None
    t: float | None
    p_value: float | None  # None does not reject
    alternative: Alternative
    settings: int  # that the analysis uses
    seeds: int
    left_out_settings: list[int]  # positions; a gap in them
    left_out_seeds: list[int]
    components: VarianceComponents | None
    reason: str | None  # why something is None


class PromptPart(Frozen):
    """Variance of the mean difference that comes from the prompts, which all runs answer; metric's unit squared."""

    prompts: int
    shared: float  # by what all pairs of runs share of them; unbiased, so that it may come out below 0
    total: float  # all that other prompts would change for these runs
    draws: int  # of prompts
    reach: float | None = (
        None  # the most that one prompt can differ by, for those unseen; None: no bounds are known
    )


class Guard(Frozen):
    """Mean difference with settings, seeds and, where `prompt` is known, prompts taken as samples.

    A verdict needs this beside the test over settings, which takes the seeds and the prompts as they are.
    """

    mean: float | None  # over settings and seeds without a gap; None where no pair is complete
    interval: Interval | None
    narrow: Interval | None  # at 1 - 2 alpha, for equivalence
    standard_error: float | None
    p_value: float | None  # None does not reject
    adjusted_p: float | None = None  # Holm over the declared candidates
    alternative: Alternative
    settings: int  # without a gap
    seeds: int
    prompts: int | None  # that were answered; None: not known
    prompt: PromptPart | None
    prompt_reason: str | None  # why prompts are not taken as a sample: p speaks of these
    reason: str | None  # why there is no p


class PooledTest(Frozen):
    """Wilcoxon over all setting x seed pairs, with the test over settings that is valid beside it."""

    test: SignedRank
    unit: Unit
    over_settings: SignedRank
    over_settings_unit: Unit
    warning: str


class SettingTest(Frozen):
    """One setting by itself, over its seeds."""

    setting: str
    test: SignedRank | None  # None: no complete pair
    adjusted: float | None  # Benjamini-Hochberg over the settings; exploratory
    testable: bool
    reason: str | None  # why it is not testable


class SettingsWon(Frozen):
    """Signs of seed-averaged differences. The share won is never evidence by itself."""

    won: int
    tied: int
    lost: int
    share: Interval | None  # of won among won and lost, Clopper-Pearson; None when all are tied
    p_value: float  # exact sign test, two-sided
    reason: str | None


class ProbabilityOfImprovement(Frozen):
    """How often a run of the candidate beats a run of the baseline at the same setting."""

    estimate: float | None  # mean over settings, in [0, 1]; 0.5: neither
    by_setting: list[float | None]
    settings: int  # that have runs of both arms
    reason: str | None


class Equivalence(Frozen):
    """Whether a difference is within +-margin, in the unit of the differences."""

    margin: float  # declared before results existed
    alpha: float
    interval: Interval  # at 1 - 2 alpha
    p_above: float | None  # one-sided, null hypothesis: at or below -margin
    p_below: float | None  # one-sided, null hypothesis: at or above +margin
    p_value: float | None  # the larger of the two; None: see `reason`
    equivalent: bool | None  # None: no outcome could have shown it, or there is no interval
    reason: str | None


class BayesianSignedRank(Frozen):
    """Posterior probabilities that a difference is most likely below, within and above +-rope; they add up to 1."""

    n: int  # differences
    rope: float  # half-width of practical equivalence, in the unit of the differences
    p_below: float
    p_within: float
    p_above: float
    prior_strength: float
    draws: int
    standard_error: float  # largest of the three, by the number of draws


class RuleResult(Frozen):
    """The comparison under one rule for missing runs; unit: the setting, averaged over seeds."""

    rule: Rule
    filled: list[str]  # runs that were given a value, and which
    left_out: int  # pairs without a value under this rule
    mean: float | None  # over settings, in the metric's unit
    estimate: Interval | None  # Hodges-Lehmann
    test: SignedRank | None
    reason: str | None  # why there is none


class Failures(Frozen):
    """Failures per arm over pairs of which both runs ended; paired, so that McNemar's test applies."""

    states: list[RunState]  # what counts as a failure
    pairs: int  # of which both runs ended
    candidate: int
    baseline: int
    only_candidate: int
    only_baseline: int
    p_value: float  # exact, two-sided; pairs of one setting often fail together, then it is too small


class MissingRuns(Frozen):
    """Whether the conclusion hangs on the runs that are missing."""

    rules: list[RuleResult]  # intention to treat, complete pairs, lowest and highest difference
    failures: Failures


class SelfCheck(Frozen):
    """How often a test rejects when, by construction, there is nothing to find."""

    unit: FlipUnit
    units: int
    alpha: float  # the nominal rate
    rate: float  # the realised one
    interval: Interval | None  # of the rate, Clopper-Pearson at 95%; None when all sign patterns were taken
    rejected: int
    flips: int  # sign patterns tried
    exhaustive: bool  # all 2^units of them, so that the rate has no error


class Power(Frozen):
    """How often the signed-rank test over settings rejects, if the truth is as assumed."""

    settings: int
    seeds: int
    effect: float  # true mean difference, in the metric's unit, as are the SDs
    run_sd: float  # of the difference of one pair of runs
    setting_sd: float  # of true differences between settings
    seed_sd: float  # of what all pairs of one seed share
    alpha: float
    alternative: Alternative
    power: float  # of the declared test alone
    standard_error: float  # of `power`, by the number of simulations
    verdict: float | None = (
        None  # how often the guard rejects too, so that the verdict is "better" or "worse"
    )
    simulations: int
    smallest_p: float  # that this many settings can reach
    reason: str | None  # why no outcome can reach alpha; then power is exactly 0


class Step(Frozen):
    """What one step would bring."""

    action: Action
    amount: int  # seeds, settings, prompts or judgings added
    standard_error: float | None  # after it
    reduction: float | None  # of the standard error, in the metric's unit
    cost: float | None
    reduction_per_cost: float | None
    smallest_p: float  # that the test over settings can reach after it
    reason: str | None  # why something is None


class NextSteps(Frozen):
    """Steps by expected reduction of the standard error per cost, the best first; unknown ones last."""

    standard_error: float  # of the mean difference now, from the components
    unit: str  # of the costs
    steps: list[Step]
    warning: str | None  # a design that cannot reach alpha, whatever its standard error is


class AverageRanks(Frozen):
    """Three arms or more ranked at every setting; exploratory, whatever was declared."""

    ranks: dict[str, float]  # arm -> average rank, 1 the best; empty beside a reason
    settings: int  # at which every arm has a value
    left_out: int  # settings at which one has none
    statistic: float | None  # Friedman's chi-square, corrected for ties
    p_value: float | None
    f_statistic: float | None  # Iman and Davenport's; None too where it is infinite
    f_p_value: float | None
    critical_difference: float | None  # Nemenyi's: average ranks closer than this are not told apart
    alpha: float
    reason: str | None  # why there are none


class Inference(Frozen):
    """What stands around the headline test of one comparison: for each a value, or None and a line in `reasons`.

    Every metric has unit, crossed test, zero methods, settings won and improvement; the declared primary has the rest.
    """

    unit: Unit  # of the headline test
    crossed: CrossedTest  # settings and seeds both samples: variance components
    guard: Guard | None = None  # what the verdict needs beside the headline test; None: a file of before
    zero_methods: dict[ZeroMethod, SignedRank]  # the headline test under each treatment of zeros
    settings_won: SettingsWon | None = None
    improvement: ProbabilityOfImprovement | None = None
    pooled: PooledTest | None = None
    equivalence: Equivalence | None = None
    bayesian: BayesianSignedRank | None = None
    missing: MissingRuns | None = None
    self_check: SelfCheck | None = None
    by_setting: list[SettingTest] = Field(default=[])  # exploratory
    rng_seed: int | None = None  # of the draws of `bayesian` and `self_check`
    reasons: dict[str, str] = Field(default={})  # field -> why it is None

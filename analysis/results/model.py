"""What an analysis returns: frozen values that serialise to `results.json`, read by the report.

Undefined is `None` beside a reason, never 0. Win rates and their differences are in percentage points.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from analysis.results.values import Alternative as Alternative
from analysis.results.values import Frozen as Frozen
from analysis.results.values import Interval as Interval
from analysis.results.values import SignedRank as SignedRank
from analysis.results.values import State as State
from analysis.results.values import Value as Value
from analysis.results.values import ZeroMethod as ZeroMethod

# What the tests around a comparison return; they serialise to `results.json` as parts of it.

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
    max_prompt_effect: float | None = (
        None  # the most that one prompt can differ by, for those unseen; None: no bounds are known
    )


class GeneralizationTest(Frozen):
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

    states: list[State]  # what counts as a failure
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
        None  # how often the generalization test rejects too, so that the verdict is "better" or "worse"
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
    generalization: GeneralizationTest | None = (
        None  # what the verdict needs beside the headline test; None: a file of before
    )
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


SCHEMA_VERSION = 1


class Declared(Frozen):
    """The comparison that was declared before results existed."""

    baseline: str
    candidate: str
    more_candidates: list[str] = Field(default=[])  # the rest of the family, each compared with the baseline
    primary: str  # metric name
    alternative: Alternative = "two-sided"
    alpha: float = 0.05
    rope: float = 1.0  # half-width of practical equivalence, in the metric's unit
    decimals: int = 9  # differences are rounded to this before they are ranked
    preregistered: bool = True  # False: of results that were there already, so that nothing is confirmatory


class Metric(Frozen):
    """How a metric is called and shown."""

    name: str  # column of the table of runs, e.g. "length_controlled_win_rate"
    label: str  # e.g. "LC win rate"
    unit: str  # e.g. "points", "nats", "characters", ""
    decimals: int  # digits shown; tests use unrounded values
    higher_is_better: bool | None  # None: neither
    standard_error: str | None = None  # key of a run's metrics with the standard error of its value
    attainable: tuple[float, float] | None = None  # lowest and highest value it can take; None: it has none


class SeedValue(Frozen):
    """One run's value of one metric; `None` when the run has none."""

    seed: int
    value: float | None


class Cell(Frozen):
    """One arm at one setting: mean and SD over seeds."""

    arm: str
    setting: str  # label, e.g. "beta=0.1 learning_rate=1e-05"
    metric: str
    values: list[SeedValue]  # every planned seed, in order
    n: int  # runs that have a value
    mean: float | None  # None when n == 0
    sd: float | None  # ddof = 1; None when n < 2


class SettingDifference(Frozen):
    """Candidate minus baseline at one setting."""

    setting: str
    values: list[SeedValue]  # per-seed differences; None where a partner is missing
    n: int  # complete pairs
    mean: float | None  # over complete pairs; None when there is none
    sd: float | None  # ddof = 1; None when n < 2


class Comparison(Frozen):
    """The paired comparison of two arms on one metric; unit: the setting, averaged over seeds."""

    metric: str
    differences: list[SettingDifference]  # one per planned setting
    test: SignedRank | None
    test_reason: str | None  # why there is no test
    estimate: Interval | None  # Hodges-Lehmann, None when no difference is defined
    rank_biserial: float | None
    won: int
    tied: int
    lost: int
    sign_p_value: float | None
    missing_pairs: list[str]  # "setting, seed: which arm has no value and why"
    confirmatory: bool  # the declared primary, unchanged since launch
    adjusted_p: float | None = None  # Holm over declared candidates, Benjamini-Hochberg over other arms
    family: int = 1  # comparisons that `adjusted_p` is over
    inference: Inference | None = None  # the tests around this one; None: no test, or a file of before


class ArmComparison(Frozen):
    """Another arm than the first candidate against the baseline, on the primary metric."""

    candidate: str
    declared: bool  # in the declared family; else exploratory
    comparison: Comparison
    verdict: str | None = None  # of the declared ones
    verdict_kind: Literal["better", "worse", "inconclusive", "equivalent", "untestable"] | None = None


class Failure(Frozen):
    """A run that has no result."""

    run_id: str
    arm: str
    setting: str
    seed: int
    state: State
    reason: str


class Curve(Frozen):
    """One logged quantity over the steps of one run."""

    arm: str
    setting: str
    seed: int
    name: str  # e.g. "reward_margin", "gradient_ratio"
    steps: list[int]
    values: list[float | None]


class RunRow(Frozen):
    """One run of the tidy table."""

    run_id: str
    arm: str
    setting: str
    hyperparameters: dict[str, Value]  # the axes of the grid at this setting
    seed: int
    state: State
    metrics: dict[str, float | None]
    wall_seconds: float | None = None
    flags: list[str] = Field(default=[])  # what a check of the evaluation found, worst first


class Sample(Frozen):
    """One prompt with both answers, to be looked at."""

    arm: str
    setting: str
    seed: int
    instruction: str
    baseline_output: str
    output: str
    preference: float | None  # in [1, 2]; 2: the trained policy's answer wins


class Evaluation(Frozen):
    """How win rates were made: unlike evaluations are never pooled."""

    model: str
    data: str
    prompts: str
    n_prompts: int | None
    judge: str
    baseline: str
    lc_method: str
    decoding: dict[str, Value]


class Judgement(Frozen):
    """One judge's view of the sweep's responses; unlike judgements are shown side by side and never pooled."""

    eval_id: str
    judge: str
    lc_method: str
    declared: bool  # the sweep file's own; any other was made afterwards
    counts: dict[State, int]
    means: dict[str, dict[str, float | None]]  # arm -> metric -> mean over runs that count
    comparison: Comparison | None  # on the declared primary metric; exploratory unless `declared`
    judging: dict[str, Value]  # requests, cost in dollars, position bias, noise: what the judge reports
    reason: str | None = None  # why no run that counts has a value
    failures: list[Failure] = Field(
        default=[]
    )  # that do not count here; of the declared one: the results' own


class LcComparison(Frozen):
    """The comparison under one way of the win rate; unlike ways are shown side by side and never pooled."""

    method: str  # lc_method, or "win_rate": raw, not controlled for length
    own: bool  # the sweep's own formula
    means: dict[str, float | None]  # baseline and candidate -> mean over runs that count
    runs: int  # of both arms that have a value
    comparison: Comparison | None
    reason: str | None  # why there is none


# The gradient audit (docs/audit.md): ratios are of the chosen over the rejected response's gradient.
AuditStageName = Literal["base", "sequence", "per_token", "per_token_clipped", "as_trained"]
AuditRatio = Literal["probability", "geometric_mean", "arithmetic_mean", "logits", "parameters"]


class Quartiles(Frozen):
    """A distribution over pairs; `low`, `median`, `high` are `None` when no pair has a value."""

    n: int  # pairs that have a value
    undefined: int  # measured pairs that have none
    low: float | None  # first quartile
    median: float | None
    high: float | None  # third quartile
    balanced: float | None = None  # share of the n within the audit's tolerance of ratio 1; None: not a ratio


class AuditStage(Frozen):
    """One stage of stabilisation, applied to one policy."""

    stage: AuditStageName
    label: str  # e.g. "per-token ratio, clip 10"
    trained: bool  # the arm's own
    promised: list[AuditRatio]  # 1 by construction, where no bound on the coefficients is active
    clipped_share: float | None  # of all pairs; None without pairs
    log_ratios: dict[AuditRatio, list[float | None]]  # natural log, one per pair; None where undefined
    summary: dict[AuditRatio, Quartiles]  # of log_ratios, in nats


class AuditPoint(Frozen):
    """One policy under one arm's loss: before training (step 0), a snapshot, or the end."""

    arm: str
    method: dict[str, Value]
    run_id: str | None  # None: no run of a sweep
    step: int
    parameters: str  # which parameters the gradients are of
    stages: list[AuditStage]
    cosines: list[float | None]  # of the two terms' parameter gradients, per pair of `gradient_pairs`
    cosine: Quartiles


class AuditCost(Frozen):
    """Work for each policy, in tokens through the model."""

    evaluation_tokens: int  # of one evaluation pass over the pairs
    forward_tokens: int
    backward_tokens: int
    passes: float  # all of it in evaluation passes, a backward pass counted as two forward passes
    seconds: float  # wall time of all policies
    evaluation_seconds: float  # of these, the forward passes over all pairs: about one evaluation pass each


class Audit(Frozen):
    """A gradient audit: `audit.json` is this, serialised."""

    audit_version: int = 1
    target: str  # the sweep, or the model
    model: str  # identity
    data: str  # identity of the held-out pairs
    pairs: int
    truncated: int  # pairs of which a response is cut
    left_out: list[str]  # rows that are not used, and why
    gradient_pairs: list[int]  # positions of the pairs whose parameter gradients were measured
    gradient_seed: int  # of their draw
    precision: str  # of the passes: bfloat16 (autocast, as in training) or float32
    device: str
    max_length: int
    setting: str | None  # of the audited runs
    seed: int | None
    tolerance: float  # a ratio counts as 1 within this factor, e.g. 0.05: from 1 / 1.05 to 1.05
    points: list[AuditPoint]
    missing: list[str]  # policies that are not there, and why
    findings: list[str]  # which equalities held and which did not, in sentences
    cost: AuditCost
    versions: dict[str, str]


class Search(Frozen):
    """How the settings were chosen where they are no grid: by the mean of the primary over the compared arms."""

    sampler: str  # tpe or random
    pruner: str  # none, median or successive_halving
    seed: int  # of the search
    trials: int  # settings that were declared
    asked: int  # so far
    complete: int  # with a value at every seed
    pruned: int  # given up after fewer seeds
    without_value: int  # a run of a compared arm diverged, failed or does not count


# What a sweep holds beyond its tests: errors over prompts, bests of the grid, the paper's claims, flipped prompts.


class PromptInterval(Frozen):
    """Candidate minus baseline at one setting with its error over prompts: the same draws on both sides."""

    setting: str
    seed: int | None  # None: the mean over the seeds of which both runs count
    estimate: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    p_value: float | None  # two-sided; of these prompts' luck alone
    undefined: int  # draws without a value
    reason: str | None  # why something is None


class PromptLevel(Frozen):
    """Differences of one metric over draws of prompts. The trained policies and their responses are as they are."""

    metric: str
    confidence: float
    prompts: int  # drawn in each replicate
    replicates: int
    lc_method: str
    settings: list[PromptInterval]  # that have a complete pair, in the order of the plan
    pairs: list[PromptInterval]  # of single runs, by setting and seed


class BestOfGrid(Frozen):
    """One arm's best setting by prompt-level scores, in the metric's unit."""

    settings: int
    chosen: int | None  # position of the best on all prompts
    naive: float | None  # its value on the same prompts: inflated
    corrected: float | None  # mean value on prompts that did not choose
    low: float | None  # percentile interval over draws; too wide rather than too narrow
    high: float | None
    confidence: float
    draws: int
    undefined: int  # draws without a value
    share_chosen: list[float]  # of defined draws in which each setting is the best
    reason: str | None  # why something is None


class BestDifference(Frozen):
    """Candidate's best minus baseline's best, both selected and scored under the same draws."""

    candidate: BestOfGrid
    baseline: BestOfGrid
    naive: float | None
    corrected: float | None
    low: float | None
    high: float | None
    reason: str | None


class SearchBudgets(Frozen):
    """Expected best of both arms against the number of settings tried, in the metric's unit."""

    candidate: list[float]  # [n - 1]: of n settings tried
    baseline: list[float]
    common: int  # the largest number that both arms have tried
    difference: float  # candidate's expected best minus the baseline's, with `common` settings each
    unequal: bool
    null_win_share: float  # how often the candidate's best is the better one when no setting differs
    warning: str | None  # why the bests of unequal grids are not comparable


class GridBest(Frozen):
    """Best of the grid on one metric; a setting's value is the mean over its runs that count."""

    metric: str
    candidate: list[str]  # settings that have a value, which positions in `bests` refer to
    baseline: list[str]
    bests: BestDifference
    budgets: SearchBudgets | None  # None: an arm has no setting with a value
    worst_given: list[str]  # "arm at setting": tried and diverged, counted as the worst value there is


class Claim(Frozen):
    """One claim of the AdaDPO paper beside the same quantity here."""

    name: str  # share_higher_lc, best_lc, best_wr, share_larger_margin
    label: str
    arm: str | None  # whose best; None: of both
    published: float | None  # in `unit`; None: the paper gives none
    unit: str  # "%" of settings, or "points"
    ours: Interval | None  # in `unit`
    naive: float | None  # of a best: before the correction for having been selected
    count: int | None  # of a share: settings with it
    settings: int | None  # of a share: settings with a complete pair
    reason: str | None  # why `ours` is None


class PaperClaims(Frozen):
    """The paper's own claims: another model, other data, single seeds and no errors there."""

    source: str
    published_for: str
    measured_for: str
    claims: list[Claim]
    warning: str


class FlippedPrompt(Frozen):
    """A prompt on which the arms' runs come out differently against the evaluation's baseline."""

    instruction: str
    pairs: int  # of runs that were judged on it
    candidate_wins: int  # pairs of which the candidate wins and the baseline arm loses
    baseline_wins: int
    mean_difference: float  # of preferences, candidate minus baseline arm, in [-1, 1], over the pairs
    setting: str  # of the pair that is shown
    seed: int
    reference_output: str  # the evaluation baseline's answer
    candidate_output: str
    baseline_output: str
    candidate_preference: float  # in [1, 2]; above 1.5 it wins against the evaluation baseline's answer
    baseline_preference: float


class FlippedPrompts(Frozen):
    """Prompts that one arm wins and the other loses, over all pairs of runs, the most consistent first."""

    prompts: int  # judged in at least one pair
    pairs: int  # of runs
    n_to_candidate: int  # prompts with more flips to the candidate than to the baseline arm
    n_to_baseline: int
    to_candidate: list[FlippedPrompt]  # the first of them
    to_baseline: list[FlippedPrompt]


class SettingGroup(Frozen):
    """The settings that share one value of an axis; exploratory."""

    axis: str
    value: Value
    settings: list[str]
    n: int  # settings with a complete pair
    baseline: float | None  # mean over these settings of the mean over seeds of complete pairs
    candidate: float | None
    mean: float | None  # of the setting's differences
    estimate: Interval | None  # Hodges-Lehmann
    won: int
    lost: int
    test: SignedRank | None
    adjusted: float | None  # Benjamini-Hochberg over the groups of the axis
    reason: str | None  # why there is no test, or why none could reach alpha


# What a p-value counts: its unit, how many there are, what they share and which population it speaks of.


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
        "setting": (settings, [their_seeds, of_prompts], "settings like these, with these seeds"),
        "setting and seed": (settings * seeds, [of_prompts], "settings and seeds like these"),
        "pair": (
            settings * seeds,
            [their_settings, their_seeds, of_prompts],
            "none: pairs of one setting, or of one seed, are not independent",
        ),
        "seed": (seeds, [their_settings, of_prompts], "seeds like these, at these settings"),
        "prompt": (prompts or 0, ["the trained models", "the judge"], "prompts like these, for these models"),
    }[name]
    return Unit(name=name, n=n, shared=shared, population=population, independent=name != "pair")


class Results(Frozen):
    """Everything the report shows. `results.json` is this, serialised."""

    schema_version: int = SCHEMA_VERSION
    sweep: str
    declared: Declared
    declaration_changed: list[str]  # what changed since launch, in words; empty: confirmatory
    verdict: str  # one sentence: estimate, interval, p, unit, n
    verdict_kind: Literal["better", "worse", "inconclusive", "equivalent", "untestable"]
    evaluation: Evaluation | None  # None: a table of runs, of which nothing else is known
    axes: dict[str, list[Value]]  # grid axis -> its values
    arms: dict[str, dict[str, Value]]  # arm -> its method's hyperparameters
    settings: list[str]
    seeds: list[int]
    metrics: list[Metric]
    counts: dict[State, int]
    failures: list[Failure]
    runs: list[RunRow]
    cells: list[Cell]
    comparisons: list[Comparison]  # the primary first
    other_arms: list[ArmComparison] = Field(default=[])  # every arm besides baseline and first candidate
    average_ranks: AverageRanks | None = None  # exploratory; None: fewer than three arms, or an older file
    curves: list[Curve]
    samples: list[Sample]
    judgements: list[Judgement] = Field(
        default=[]
    )  # the declared one first; empty in files older than judging again
    lc_sensitivity: list[LcComparison] = Field(default=[])  # empty: nothing judged, or an older file
    search: Search | None = None  # None: the settings are a grid
    audit: Audit | None = None  # None: not made; absent in older files
    next_steps: NextSteps | None = None  # the cheapest first; None: `next_steps_reason`, or an older file
    next_steps_reason: str | None = None
    power: list[Power] = Field(default=[])  # of a new sweep like this one; empty: unknown, or an older file
    prompt_level: PromptLevel | None = None  # None: `prompt_level_reason`; both None: an older file
    prompt_level_reason: str | None = None
    best_of_grid: list[GridBest] = Field(default=[])  # the primary metric first; empty in older files
    paper_claims: PaperClaims | None = (
        None  # None: this is no comparison of AdaDPO with DPO, or an older file
    )
    flips: FlippedPrompts | None = None  # None: `flips_reason`; both None: an older file
    flips_reason: str | None = None
    groups: list[SettingGroup] = Field(default=[])  # by each axis that is not numeric, such as the loss
    provenance: dict[str, str]

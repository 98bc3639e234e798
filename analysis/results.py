"""What an analysis returns: frozen values that serialise to `results.json`, read by the report.

Undefined is `None` beside a reason, never 0. Win rates and their differences are in percentage points.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from analysis.evidence import AverageRanks, NextSteps, Power
from analysis.evidence import Inference as Inference
from analysis.findings import FlippedPrompts, GridBest, PaperClaims, PromptLevel, SettingGroup
from analysis.values import Alternative as Alternative
from analysis.values import Frozen as Frozen
from analysis.values import Interval as Interval
from analysis.values import RunState as RunState
from analysis.values import SignedRank as SignedRank
from analysis.values import Value as Value
from analysis.values import ZeroMethod as ZeroMethod

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
    state: RunState
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
    state: RunState
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
    counts: dict[RunState, int]
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


# The gradient audit, method.md section 5; ratios are of the chosen over the rejected response's gradient.
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
    counts: dict[RunState, int]
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

"""What a sweep holds beyond its tests: errors over prompts, bests of the grid, the paper's claims, flipped prompts.

They serialise to `results.json` as parts of it. Win rates, differences and errors are in percentage points.
"""

from __future__ import annotations

from analysis.values import Frozen, Interval, SignedRank, Value


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

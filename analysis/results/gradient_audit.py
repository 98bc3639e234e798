"""The gradient audit (docs/audit.md): ratios are of the chosen over the rejected response's gradient."""

from __future__ import annotations

from typing import Literal

from analysis.results.values import Frozen, Value

AuditStageName = Literal["base", "sequence", "per_token", "per_token_clipped", "as_trained"]
AuditRatio = Literal["probability", "geometric_mean", "arithmetic_mean", "logits", "parameters"]


class Quartiles(Frozen):
    """A distribution over pairs; `low`, `median`, `high` are `None` when no pair has a value."""

    n: int
    """Pairs that have a value."""
    undefined: int
    """Measured pairs that have none."""
    low: float | None
    """First quartile."""
    median: float | None
    high: float | None
    """Third quartile."""
    balanced: float | None = None
    """Share of the n within the audit's tolerance of ratio 1; None: not a ratio."""


class AuditStage(Frozen):
    """One stage of stabilisation, applied to one policy."""

    stage: AuditStageName
    label: str
    """E.g. "per-token ratio, clip 10"."""
    trained: bool
    """The arm's own."""
    promised: list[AuditRatio]
    """1 by construction, where no bound on the coefficients is active."""
    clipped_share: float | None
    """Of all pairs; None without pairs."""
    log_ratios: dict[AuditRatio, list[float | None]]
    """Natural log, one per pair; None where undefined."""
    summary: dict[AuditRatio, Quartiles]
    """Of log_ratios, in nats."""


class AuditPoint(Frozen):
    """One policy under one arm's loss: before training (step 0), a snapshot, or the end."""

    arm: str
    method: dict[str, Value]
    """How it was computed."""
    run_id: str | None
    """Identity of the run; None: no run of a sweep."""
    step: int
    parameters: str
    """Which parameters the gradients are of."""
    stages: list[AuditStage]
    cosines: list[float | None]
    """Of the two terms' parameter gradients, per pair of `gradient_pairs`."""
    cosine: Quartiles


class AuditCost(Frozen):
    """Work for each policy, in tokens through the model."""

    evaluation_tokens: int
    """Of one evaluation pass over the pairs."""
    forward_tokens: int
    """Tokens of forward passes."""
    backward_tokens: int
    """Tokens of backward passes."""
    passes: float
    """The whole in evaluation passes, a backward pass counted as two forward passes."""
    seconds: float
    """Wall time of all policies."""
    evaluation_seconds: float
    """Of these, the forward passes over all pairs: about one evaluation pass each."""


class Audit(Frozen):
    """A gradient audit: `audit.json` is this, serialised."""

    audit_version: int = 1
    """Version of the audit's format."""
    target: str
    """The sweep, or the model."""
    model: str
    """Identity."""
    data: str
    """Identity of the held-out pairs."""
    pairs: int
    truncated: int
    """Pairs of which a response is cut."""
    left_out: list[str]
    """Rows that are not used, and why."""
    gradient_pairs: list[int]
    """Positions of the pairs whose parameter gradients were measured."""
    gradient_seed: int
    """Of their draw."""
    precision: str
    """Of the passes: bfloat16 (autocast, as in training) or float32."""
    device: str
    max_length: int
    setting: str | None
    """Of the audited runs."""
    seed: int | None
    tolerance: float
    """A ratio counts as 1 within this factor, e.g. 0.05: from 1 / 1.05 to 1.05."""
    points: list[AuditPoint]
    missing: list[str]
    """Policies that are not there, and why."""
    findings: list[str]
    """Which equalities held and which did not, in sentences."""
    cost: AuditCost
    versions: dict[str, str]

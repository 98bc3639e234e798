"""The columns of the table of runs: how each is shown."""

from __future__ import annotations

from analysis.results.model import Metric

METRICS = (
    Metric(
        name="length_controlled_win_rate",
        label="LC win rate",
        unit="points",
        decimals=1,
        higher_is_better=True,
        standard_error="length_controlled_win_rate_se",
        attainable=(0.0, 100.0),
    ),
    Metric(
        name="win_rate",
        label="Win rate",
        unit="points",
        decimals=1,
        higher_is_better=True,
        standard_error="win_rate_se",
        attainable=(0.0, 100.0),
    ),
    Metric(
        name="lc_minus_wr",
        label="LC over WR margin",
        unit="points",
        decimals=1,
        higher_is_better=True,
        standard_error="lc_minus_wr_se",
        attainable=(-100.0, 100.0),
    ),
    Metric(
        name="reward_accuracy", label="Reward accuracy (held-out)", unit="", decimals=3, higher_is_better=True
    ),
    Metric(
        name="reward_margin", label="Reward margin (held-out)", unit="nats", decimals=3, higher_is_better=True
    ),
    Metric(
        name="chosen_logps",
        label="Chosen log-probability (held-out)",
        unit="nats",
        decimals=2,
        higher_is_better=None,
    ),
    Metric(
        name="rejected_logps",
        label="Rejected log-probability (held-out)",
        unit="nats",
        decimals=2,
        higher_is_better=None,
    ),
    Metric(
        name="kl",
        label="KL to the reference (k1)",
        unit="nats",
        decimals=2,
        higher_is_better=None,
        standard_error="kl_se",
    ),
    Metric(
        name="kl_k3",
        label="KL to the reference (k3)",
        unit="nats",
        decimals=2,
        higher_is_better=None,
        standard_error="kl_k3_se",
    ),
    Metric(
        name="kl_per_token",
        label="KL per token (k1)",
        unit="nats",
        decimals=4,
        higher_is_better=None,
        standard_error="kl_per_token_se",
    ),
    Metric(
        name="kl_k3_per_token",
        label="KL per token (k3)",
        unit="nats",
        decimals=4,
        higher_is_better=None,
        standard_error="kl_k3_per_token_se",
    ),
    Metric(name="mean_length", label="Response length", unit="characters", decimals=0, higher_is_better=None),
    Metric(
        name="log_gradient_ratio",
        label="Log gradient ratio (training)",
        unit="nats",
        decimals=3,
        higher_is_better=None,
    ),
)

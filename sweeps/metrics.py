"""The columns of the table of runs: where each comes from and how it is shown."""

from __future__ import annotations

from analysis.results import Metric

METRICS = (
    Metric(
        name="length_controlled_win_rate",
        label="LC win rate",
        unit="points",
        decimals=1,
        higher_is_better=True,
    ),
    Metric(name="win_rate", label="Win rate", unit="points", decimals=1, higher_is_better=True),
    Metric(name="lc_minus_wr", label="LC over WR margin", unit="points", decimals=1, higher_is_better=True),
    Metric(
        name="reward_accuracy", label="Reward accuracy (held-out)", unit="", decimals=3, higher_is_better=True
    ),
    Metric(
        name="reward_margin", label="Reward margin (held-out)", unit="nats", decimals=3, higher_is_better=True
    ),
    Metric(name="kl", label="KL to the reference", unit="nats", decimals=2, higher_is_better=None),
    Metric(name="mean_length", label="Response length", unit="characters", decimals=0, higher_is_better=None),
    Metric(
        name="log_gradient_ratio",
        label="Log gradient ratio (training)",
        unit="nats",
        decimals=3,
        higher_is_better=None,
    ),
)

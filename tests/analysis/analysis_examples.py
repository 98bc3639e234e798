"""Small sweeps made of given differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis import comparison, summary
from analysis.prompts.bootstrap import PromptBootstrap
from analysis.results.model import Comparison, Declared, Metric, RunRow
from analysis.study import make_study

LC = Metric(
    name="length_controlled_win_rate", label="LC win rate", unit="points", decimals=1, higher_is_better=True
)
LENGTH = Metric(name="length", label="length", unit="characters", decimals=0, higher_is_better=None)
KL = Metric(name="kl", label="KL", unit="nats", decimals=2, higher_is_better=False)
DECLARED = Declared(baseline="dpo", candidate="adadpo", primary=LC.name)


def compare(**given: Any) -> list[Comparison]:
    """`analysis.compare` of a study of these."""
    return comparison.compare(make_study(**given))


def analyse(**given: Any) -> summary.Analysis:
    """`analysis.analyse` of a study of these."""
    return summary.analyse(make_study(**given))


def run(
    arm: str, setting: str, seed: int, metrics: Mapping[str, float | None], state: str = "done"
) -> RunRow:
    return RunRow.model_validate(
        {
            "run_id": f"{arm}-{setting}-{seed}",
            "arm": arm,
            "setting": setting,
            "hyperparameters": {"beta": 0.1},
            "seed": seed,
            "state": state,
            "metrics": dict(metrics),
        }
    )


def sweep(differences: Sequence[Sequence[float | str]], metric: str = LC.name) -> dict[str, Any]:
    """Runs of two arms with these differences, settings x seeds; a word instead is the candidate's state."""
    runs = []
    for k, of_setting in enumerate(differences):
        for seed, difference in enumerate(of_setting):
            base = 20.0 + 2 * k + seed
            runs.append(run("dpo", f"beta={k}", seed, {metric: base}))
            if isinstance(difference, str):
                runs.append(run("adadpo", f"beta={k}", seed, {metric: base}, difference))
            else:
                runs.append(run("adadpo", f"beta={k}", seed, {metric: base + difference}))
    return {
        "runs": runs,
        "settings": [f"beta={k}" for k in range(len(differences))],
        "seeds": list(range(len(differences[0]))),
        "arms": ["dpo", "adadpo"],
    }


def drawn(spread: float, prompts: int = 400) -> PromptBootstrap:
    """Draws in which the prompts move all of adadpo's runs of `sweep` alike, by this much."""
    rng = np.random.default_rng(0)
    ids = [f"{arm}-beta={k}-{seed}" for arm in ("dpo", "adadpo") for k in range(6) for seed in range(2)]
    moved = spread * rng.standard_normal(2000)
    values = np.array([moved if run.startswith("adadpo") else np.zeros(2000) for run in ids])
    return PromptBootstrap(
        runs=tuple(ids),
        lc_method="no_difficulty",
        calibration=None,
        n=prompts,
        estimates={LC.name: values.mean(axis=1)},
        replicates={LC.name: values},
        reasons={},
    )

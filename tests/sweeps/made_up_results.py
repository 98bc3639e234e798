"""Results of runs without training: the files that a finished run leaves, with values of the test's choice."""

from __future__ import annotations

from adadpo.files import atomic_write
from sweeps.state.sweep import Sweep
from sweeps.store.job import PlannedRun
from sweeps.store.layout import write_json


def make_up(sweep: Sweep, run: PlannedRun, value: float) -> None:
    """The run is done, with this win rate, length-controlled too."""
    folder = sweep.store.run(run.run_id)
    target, generated = folder.evaluation(sweep.eval_id), folder.generation(sweep.eval_id)
    atomic_write(folder.history, "")
    trained = {"steps": 0, "wall_seconds": 1.0, "train_pairs": 16, "left_out": [], "truncated_pairs": 0}
    write_json(folder.metrics, trained | {"heldout_reward_margin": value / 100})
    write_json(generated / "generation.json", {"wall_seconds": 1.0})
    pairs = [
        {
            "instruction": f"{n}",
            "output_1": "One",
            "output_2": f"Two {n}",
            "preference": 1 + n % 3 / 2,
            "annotator": "-",
        }
        for n in range(4)
    ]
    write_json(generated / "outputs.json", [])
    write_json(target / "judging.json", {})
    write_json(target / "annotations.json", pairs)
    scores = {"annotator": "made up", "prompts": 8, "mean_length": 10.0, "reason": None}
    scores |= {"win_rate": value, "length_controlled_win_rate": value, "lc_method": "no_difficulty"}
    write_json(target / "scores.json", scores)


def fail(sweep: Sweep, run: PlannedRun, kind: str) -> None:
    """The run ended without a result."""
    failure = {"kind": kind, "stage": "train", "message": f"{kind} at step 2", "time": 0.0}
    write_json(sweep.store.run(run.run_id).failure, failure)

"""The diagnostics of every run (KL, margins, lengths), followed from the run's files to the trial and the report."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from adadpo.method.registry import LOSSES, PRESETS
from sweeps.state.run_table import run_rows
from tests.sweeps.sweep_examples import SMALL, adadpo, opened, write_sweep

EVALUATED = {
    *(f"heldout_{name}" for name in ("reward_margin", "reward_accuracy", "chosen_logps", "rejected_logps")),
    *("kl", "kl_se", "kl_k3", "kl_k3_se", "kl_per_token", "kl_per_token_se", "kl_k3_per_token"),
    *("win_rate", "length_controlled_win_rate", "lc_minus_wr", "mean_length"),
}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Every preset as an arm, one run each, measured on the way."""
    folder = tmp_path_factory.mktemp("family")
    start, end = SMALL.index("arms:"), SMALL.index("evaluate:")
    text = (
        SMALL[:start]
        + "arms: {"
        + ", ".join(f"{name}: {{}}" for name in PRESETS)
        + "}\n"
        + "grid: {learning_rate: [1.0e-3]}\nseeds: [0]\n"
        + "train: {batch_size: 4, max_steps: 3, max_length: 128, warmup: 0, precision: float32, eval_steps: 1}\n"
        + SMALL[end:]
    )
    file = write_sweep(folder / "family.yaml", text)
    answer = adadpo("launch", file, "--store", folder / "store")
    assert answer.code == 0, answer.err
    return file, folder / "store"


def test_every_preset_is_an_arm_that_trains_and_is_evaluated(family: tuple[Path, Path]) -> None:
    """Against the presets: 14 arms, all done; those without a reference asked for none."""
    sweep = opened(*family)
    assert set(sweep.states().values()) == {"done"}
    assert [run.arm for run in sweep.job.runs] == list(PRESETS)
    rows = run_rows(sweep)
    for run, row in zip(sweep.job.runs, rows, strict=True):
        # LC may be undefined: the tiny model's answers can all be equally good
        values = [value for name, value in row.metrics.items() if not name.startswith(("length", "lc_"))]
        assert all(value is not None and math.isfinite(value) for value in values), row
        balanced = run.arm.startswith("ada")
        ratio = row.metrics["log_gradient_ratio"]
        assert ratio is not None
        assert (abs(ratio) < 1e-6) == balanced, (run.arm, ratio)
    assert len({row.metrics["chosen_logps"] for row in rows}) > len(LOSSES)


def test_history_trial_and_report_hold_the_diagnostics(family: tuple[Path, Path]) -> None:
    """One number on its way: the history's evaluation line, metrics.json, the row, the trial, results.json."""
    import optuna

    from reports.files import load_results
    from sweeps.search.study_storage import open_storage

    sweep = opened(*family)
    results = load_results(sweep.folder / "results.json")
    trials = optuna.load_study(study_name=sweep.spec.name, storage=open_storage(sweep)).trials
    by_run = {trial.user_attrs["run_id"]: trial.user_attrs for trial in trials}
    rows = {row.run_id: row for row in results.runs}
    page = (sweep.folder / "report.html").read_text()
    for run in sweep.job.runs:
        folder = sweep.store.run(run.run_id)
        *steps, evaluated = map(json.loads, folder.history.read_text().splitlines())
        assert [step["step"] for step in steps] == [1, 2, 3]
        assert [step for step in steps if "heldout_reward_margin" in step] == steps[
            :2
        ]  # the end is the line below
        for step in steps:
            assert {"chosen_logps", "rejected_logps", "reward_margin", "log_gradient_ratio"} <= step.keys()
        assert evaluated["step"] == 3
        assert evaluated["evaluation"] == sweep.eval_id
        assert evaluated.keys() >= EVALUATED - {"length_controlled_win_rate", "lc_minus_wr"}
        for name in EVALUATED - {"length_controlled_win_rate", "lc_minus_wr"}:
            value = evaluated[name]
            key = name.removeprefix("heldout_")
            assert rows[run.run_id].metrics[key] == value
            assert by_run[run.run_id][key] == value
        assert f"{abs(evaluated['kl']):.2f} ± {evaluated['kl_se']:.2f}" in page
    curves = {(curve.arm, curve.name): curve.steps for curve in results.curves}
    for arm in PRESETS:
        assert curves[arm, "chosen_logps"] == curves[arm, "heldout_chosen_logps"] == [1, 2, 3]


def test_a_method_without_reference_makes_no_reference_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a cache that stays empty."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("ADADPO_CACHE", str(cache))
    start, end = SMALL.index("arms:"), SMALL.index("evaluate:")
    text = (
        SMALL[:start]
        + "arms: {simpo: {}, adasimpo: {}}\ngrid: {learning_rate: [1.0e-3]}\nseeds: [0]\n"
        + "train: {batch_size: 4, max_steps: 1, max_length: 128, precision: float32}\n"
        + SMALL[end:]
        .replace("baseline: dpo", "baseline: simpo")
        .replace("candidate: adadpo", "candidate: adasimpo")
    )
    file = write_sweep(tmp_path / "simpo.yaml", text)
    answer = adadpo("launch", file, "--store", tmp_path / "store")
    assert answer.code == 0, answer.err
    assert not list(cache.glob("reference/*"))

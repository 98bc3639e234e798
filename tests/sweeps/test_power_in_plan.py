"""What a sweep can show, before and after it is run."""

import json
import random
from pathlib import Path

import pytest

from analysis.planning.design import measured_spreads
from sweeps.operations.plan import check_sweep
from sweeps.operations.report import build_results
from sweeps.state.opening import record
from sweeps.store.ids import digest
from tests.sweeps.made_up_results import make_up
from tests.sweeps.sweep_examples import SMALL, adadpo, command, opened, spec_errors, write_sweep

NINE = SMALL.replace("[0.05, 0.1]", "[0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09]").replace(
    "[0, 1]", "0..2"
)
STATED = NINE.replace(
    "length_controlled_win_rate}", "length_controlled_win_rate, effect: 1, run_sd: 1.4, setting_sd: 0.5}"
)


@pytest.mark.parametrize("words", [["launch"], ["extend", "--seeds", "+1"]])
def test_a_design_that_cannot_reach_alpha_is_refused(small: Path, tmp_path: Path, words: list[str]) -> None:
    """Two settings against exit 2, the smallest p (2 / 2^2), what would do, the way round; nothing is written."""
    answer = command(words[0], small, *words[1:], "--store", tmp_path / "store")
    assert answer.code == 2
    assert answer.err == (
        "adadpo: small cannot reach alpha = 0.05: over 2 settings the smallest p is 0.5; 6 settings can. "
        "--allow-untestable runs it all the same\n"
    )
    assert not (tmp_path / "store").exists()


def test_retry_is_refused_before_a_failure_is_forgotten(store: Path, small: Path) -> None:
    """A failed run of two settings against exit 2 with its failure kept."""
    run = opened(small, store).job.runs[0]
    folder = opened(small, store).store.run(run.run_id)
    (folder.path / "failed.json").write_text('{"kind": "diverged", "stage": "train", "message": "NaN"}')
    before = folder.state(opened(small, store).eval_id)
    answer = command("retry", small, "--store", store)
    assert answer.code == 2
    assert folder.state(opened(small, store).eval_id) == before


def test_a_finished_sweep_is_reported_without_the_flag(store: Path, small: Path) -> None:
    """Launching what is done spends nothing, so that it is not refused; what to do next is said."""
    answer = command("launch", small, "--store", store)
    assert answer.code == 0, answer.err


def test_power_of_stated_sds(tmp_path: Path) -> None:
    """Against a simulation written separately: 9 settings x 3 seeds have .74 for 1 point at SDs 1.4 and .5."""
    file = write_sweep(tmp_path / "nine.yaml", STATED)
    plan = adadpo("plan", file, "--store", tmp_path, "--json").json
    assert plan["testable"]
    assert plan["design"]["power"]["power"] == pytest.approx(0.74, abs=0.03)
    # bench/results/validity.md: 9 settings about .38, 24 about .8
    assert plan["design"]["power"]["verdict"] == pytest.approx(0.38, abs=0.04)
    assert plan["design"]["enough_settings"] in range(18, 29)
    said = adadpo("plan", file, "--store", tmp_path).out
    assert "power for a true difference of 1 points: 0.3" in said
    assert "the signed-rank test alone 0.7" in said
    assert "(stated in the file)" in said


def test_what_is_assumed_is_not_declared(tmp_path: Path) -> None:
    """The declaration, which is hashed, of a file with and without assumptions for the plan."""
    plain = opened(write_sweep(tmp_path / "plain.yaml", NINE), tmp_path).declared()
    assert opened(write_sweep(tmp_path / "stated.yaml", STATED), tmp_path).declared() == plain


def test_sds_of_finished_runs(finished: Path, small: Path, tmp_path: Path) -> None:
    """A new sweep with the SDs of a finished one against their source in words; no runs, no SDs, a reason."""
    file = write_sweep(tmp_path / "nine.yaml", NINE.replace("name: small", "name: nine"))
    unknown = adadpo("plan", file, "--store", finished, "--json").json["design"]
    assert unknown["spreads"] is None
    assert "compare.run_sd" in unknown["reasons"]["power"]
    missing = adadpo("plan", small, "--sds-from", file, "--store", finished)
    assert missing.code == 2
    assert "--sds-from nine" in missing.err


def test_plan_and_report_say_the_same(tmp_path: Path) -> None:
    """SDs and next steps of finished runs, one of which is missing, against those of the whole analysis."""
    sweep = opened(write_sweep(tmp_path / "nine.yaml", NINE.replace("name: small", "name: nine")), tmp_path)
    draw = random.Random(1)
    for run in sweep.job.runs[:-1]:
        make_up(sweep, run, round(50 + draw.gauss(0, 5), 2))
    check, steps = check_sweep(sweep)
    found = build_results(sweep)
    inference = found.comparisons[0].inference
    assert inference is not None
    assert inference.crossed.left_out_settings == [8]
    assert check.spreads == measured_spreads(inference.crossed, "the finished runs of nine")
    assert steps is not None
    assert steps == found.next_steps


def test_runs_that_do_not_differ(tmp_path: Path) -> None:
    """Every difference 0: that they are finished and give no SDs is said, not that runs have to finish."""
    file = write_sweep(tmp_path / "nine.yaml", NINE.replace("name: small", "name: nine"))
    sweep = opened(file, tmp_path)
    for run in sweep.job.runs:
        make_up(sweep, run, 50.0)
    why = (
        "the differences of the finished runs of nine are the same at every setting: SDs of 0 say nothing about "
        "further runs"
    )
    said = adadpo("plan", file, "--store", tmp_path).out
    assert f"  power: not known: {why}; state compare.run_sd and compare.setting_sd\n" in said
    other = write_sweep(tmp_path / "other.yaml", NINE.replace("name: small", "name: other"))
    answer = adadpo("plan", other, "--sds-from", file, "--store", tmp_path)
    assert (answer.code, answer.err) == (2, f"adadpo: --sds-from nine: {why}\n")


def test_sds_are_stated_together(tmp_path: Path) -> None:
    """One SD of the two against a problem of the file."""
    text = NINE.replace("length_controlled_win_rate}", "length_controlled_win_rate, run_sd: 1.4}")
    assert spec_errors(tmp_path, text) == ["13:10: compare.run_sd and compare.setting_sd are stated together"]


def three_arms(candidate: str, settings: str = "[0.05, 0.1]") -> str:
    return (
        SMALL.replace("  adadpo: {}\n", "  adadpo: {}\n  simpo: {method: simpo}\n")
        .replace("candidate: adadpo", f"candidate: {candidate}")
        .replace("[0.05, 0.1]", settings)
    )


def test_a_declared_family(tmp_path: Path) -> None:
    """A list of candidates against the family, and a design whose alpha is shared: 2 / 2^6 > .05 / 2, 7 would do."""
    six = "[0.01, 0.02, 0.03, 0.04, 0.05, 0.06]"
    file = write_sweep(tmp_path / "three.yaml", three_arms("[adadpo, simpo]", six))
    declared = opened(file, tmp_path).declared()
    assert (declared.candidate, declared.more_candidates) == ("adadpo", ["simpo"])
    answer = command("launch", file, "--store", tmp_path / "store")
    assert answer.code == 2
    assert (
        "alpha = 0.05 / 2 candidates: over 6 settings the smallest p is 0.03125; 7 settings can" in answer.err
    )
    assert adadpo("plan", file, "--store", tmp_path, "--json").json["testable"] is False


@pytest.mark.parametrize("candidate", ["adadpo", "[adadpo]"])
def test_the_hash_of_a_single_candidate(tmp_path: Path, candidate: str) -> None:
    """What is declared, against the keys and the digest that sweeps launched before families have on their disks."""
    sweep = opened(write_sweep(tmp_path / "small.yaml", three_arms(candidate)), tmp_path / "store")
    record(sweep)
    content = json.loads((sweep.folder / "declared.json").read_text())
    before = {
        "baseline": "dpo",
        "candidate": "adadpo",
        "primary": "length_controlled_win_rate",
        "alternative": "two-sided",
        "alpha": 0.05,
        "rope": 1.0,
        "decimals": 9,
    }
    assert content["compare"] == before
    assert content["digest"] == digest(before)
    assert sweep.declaration_changes() == []


def test_a_family_that_changes_after_launch(tmp_path: Path) -> None:
    """A candidate added after the launch against the change in words, whichever way."""
    one = opened(write_sweep(tmp_path / "one.yaml", three_arms("adadpo")), tmp_path / "store")
    two = opened(write_sweep(tmp_path / "two.yaml", three_arms("[adadpo, simpo]")), tmp_path / "store")
    record(one)
    assert two.declaration_changes() == ["more_candidates: None at launch, now ['simpo']"]


@pytest.mark.parametrize(
    ("candidate", "problem"),
    [
        ("[adadpo, simp]", "14:37: compare.candidate 'simp' is not an arm; did you mean 'simpo'?"),
        ("[adadpo, dpo]", "14:10: compare.baseline and compare.candidate are the same arm"),
        ("[simpo, simpo]", "14:37: compare.candidate names an arm twice"),
    ],
)
def test_problems_of_a_family(tmp_path: Path, candidate: str, problem: str) -> None:
    """A member that is no arm, is the baseline or comes twice against its place and the choices."""
    assert spec_errors(tmp_path, three_arms(candidate)) == [problem]

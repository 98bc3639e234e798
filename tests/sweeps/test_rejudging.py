"""`adadpo judge`: the same responses under another judge or formula; nothing is trained, both judgements stay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.alpaca_eval.difficulty import joint_difficulty
from analysis.alpaca_eval.length_control import length_controlled_win_rate
from analysis.prompts.bootstrap import bootstrap_estimate, prompt_bootstrap
from sweeps.evaluation.judge_and_score import BOOTSTRAP_SEED
from sweeps.state.judgements import other_evaluations
from sweeps.state.run_table import run_rows
from tests.sweeps.judging_examples import KEY, api, files_with, read, results, write_annotations
from tests.sweeps.sweep_examples import LAST_FILES, TWO, adadpo, files_of, opened, run_files, write_sweep


@pytest.fixture(autouse=True)
def own_cache(shared_models_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Answers of one test are not paid for by another."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "models").symlink_to(shared_models_cache / "models", target_is_directory=True)
    monkeypatch.setenv("ADADPO_CACHE", str(cache))
    return cache


@pytest.fixture
def rubric(two: Path, two_runs: Path) -> Path:
    """The sweep of two runs, launched with the judge of its file."""
    assert adadpo("launch", two, "--store", two_runs).code == 0
    return two_runs


def page(store: Path) -> str:
    return (store / "sweeps" / "two" / "report.html").read_text()


JOINT = TWO.replace(
    "  limit: 8\n", "  limit: 8\n  lc_method: joint_difficulty\n  judge: {kind: import, path: found}\n"
)


def test_two_judgements_side_by_side(rubric: Path, two: Path, server: Any, own_cache: Path) -> None:
    """By name and by inline YAML; the first one's files keep their times, the verdict its number."""
    before, verdict = run_files(rubric, LAST_FILES), results(rubric).verdict
    answer = adadpo("judge", "two", "--judge", api(server.url), "--store", rubric)
    assert answer.code == 0, answer.err
    assert (
        "2 of 2 runs have responses, 2 to judge by alpaca_eval weighted_alpaca_eval_gpt4_turbo" in answer.out
    )
    assert "  judging: at most 16 requests" in answer.out
    after = run_files(rubric, LAST_FILES)
    assert {path: after[path] for path in before} == before
    assert len(after) - len(before) == 4  # annotations.json and scores.json of two runs
    found = results(rubric)
    assert found.verdict == verdict
    declared, other = found.judgements
    assert (declared.judge, declared.declared) == ("rubric", True)
    assert (other.judge, other.declared) == ("alpaca_eval weighted_alpaca_eval_gpt4_turbo", False)
    assert declared.means != other.means
    assert other.comparison is not None
    assert not other.comparison.confirmatory
    evaluation = other_evaluations(opened(two, rubric))[-1]
    for arm in ("dpo", "adadpo"):
        rows = [row for row in run_rows(opened(two, rubric), evaluation) if row.arm == arm]
        assert other.means[arm]["win_rate"] == rows[0].metrics["win_rate"]
    for text in ("not declared", "declared", "alpaca_eval weighted_alpaca_eval_gpt4_turbo"):
        assert text in page(rubric)
    assert files_with(KEY, rubric, own_cache) == []


def test_twice_with_the_same_judge(rubric: Path, server: Any) -> None:
    """No question, no file changed."""
    for judge in (
        api(server.url),
        api(server.url),
        api(server.url, "concurrency: 3, max_cost: 9, prices: {input: 1, output: 1}"),
    ):
        answer = adadpo("judge", "two", "--judge", judge, "--store", rubric)
        assert answer.code == 0, answer.err
        if judge == api(server.url) and "0 to judge" not in answer.out:
            server.told()
            before = run_files(rubric, LAST_FILES)
    assert "2 runs have responses, 0 to judge" in answer.out
    assert server.stats()["requests"] == 0
    assert run_files(rubric, LAST_FILES) == before
    assert len(results(rubric).judgements) == 2


def test_joint_difficulty_on_the_same_judge(rubric: Path, two: Path, tmp_path: Path) -> None:
    """LC of the formula on both runs' annotations, in rows, status, study, results and verdict alike."""
    found_in = f"{{kind: import, path: {write_annotations(rubric, tmp_path / 'found', two)}}}"
    for method in ("auto", "joint_difficulty"):
        answer = adadpo("judge", "two", "--judge", found_in, "--lc-method", method, "--store", rubric)
        assert answer.code == 0, answer.err
    _, plain, joint = results(rubric).judgements
    assert (plain.lc_method, joint.lc_method) == ("no_difficulty", "joint_difficulty")
    file = write_sweep(tmp_path / "joint.yaml", JOINT)
    sweep = opened(file, rubric)
    assert adadpo("launch", file, "--store", rubric).code == 0  # judged already: nothing is launched
    runs = [rubric / run.run_id / "eval" / sweep.eval_id / "annotations.json" for run in sweep.job.runs]
    annotations = [read(path) for path in runs]
    calibration = joint_difficulty(annotations)
    expected = [
        length_controlled_win_rate(rows, calibration).length_controlled_win_rate for rows in annotations
    ]
    assert None not in expected
    found = results(rubric)
    assert [row.metrics["length_controlled_win_rate"] for row in found.runs] == expected
    # With 8 prompts the share of draws without a value may exceed what a standard error allows: then both have none.
    errors = [
        bootstrap_estimate(
            prompt_bootstrap(
                {"run": rows}, rng=np.random.default_rng(BOOTSTRAP_SEED), calibration=calibration
            ),
            "run",
            "length_controlled_win_rate",
        ).standard_error
        for rows in annotations
    ]
    assert any(errors)
    assert [row.metrics["length_controlled_win_rate_se"] for row in found.runs] == errors
    assert [joint.means[arm]["length_controlled_win_rate"] for arm in ("dpo", "adadpo")] == expected
    assert [plain.means[arm]["length_controlled_win_rate"] for arm in ("dpo", "adadpo")] != expected
    assert (found.evaluation.lc_method, found.judgements[0].lc_method) == (
        "joint_difficulty",
        "joint_difficulty",
    )
    cells = adadpo("status", file, "--store", rubric, "--json").json["cells"]
    assert [cell["mean"] for cell in cells] == expected
    import optuna

    from sweeps.search.study_storage import open_storage

    trials = optuna.load_study(study_name="two", storage=open_storage(sweep)).get_trials()
    assert [trial.value for trial in trials] == expected
    difference = found.comparisons[0].differences[0].mean
    assert difference == pytest.approx(expected[1] - expected[0])
    assert f"{difference:+.1f}".replace("-", "−") in found.verdict.replace("-", "−")


def test_joint_difficulty_keeps_what_the_gate_saw(rubric: Path, two: Path, tmp_path: Path) -> None:
    """Flags of the run's own scores beside those of its LC; one run alone has none, with the reason."""
    write_annotations(rubric, tmp_path / "found", two)
    file = write_sweep(tmp_path / "joint.yaml", JOINT)
    sweep = opened(file, rubric)
    assert adadpo("launch", file, "--store", rubric).code == 0
    first = rubric / sweep.job.runs[0].run_id / "eval" / sweep.eval_id / "scores.json"
    note = {"name": "seen_before", "severity": "note", "message": "seen when it was scored", "values": {}}
    scores = read(first)
    scores["integrity"]["flags"].append(note)
    first.write_text(json.dumps(scores))
    row = run_rows(sweep)[0]
    assert "seen when it was scored" in row.flags
    assert row.metrics["length_controlled_win_rate"] is not None
    scores["integrity"]["flags"] = [note | {"severity": "quarantine"}]
    first.write_text(json.dumps(scores))
    one, other = run_rows(sweep)
    assert (one.state, other.state) == ("quarantined", "done")
    assert other.metrics["length_controlled_win_rate"] is None
    assert adadpo("report", file, "--store", rubric).code == 0
    failures = {failure.run_id: failure.reason for failure in results(rubric).failures}
    assert failures[one.run_id] == "quarantined: seen when it was scored"
    reason = "joint difficulty needs the annotations of at least 2 runs, got 1"
    assert failures[other.run_id] == f"no length_controlled_win_rate: {reason}"
    assert results(rubric).judgements[0].reason == reason
    assert adadpo("status", file, "--store", rubric).code == 0


def test_another_judge_in_the_sweep_file(rubric: Path, two: Path, server: Any) -> None:
    """Chosen after results exist: exploratory, with the change in words; the earlier judgement stays shown."""
    file = write_sweep(two, TWO.replace("  limit: 8\n", f"  limit: 8\n  judge: {api(server.url)}\n"))
    assert adadpo("launch", file, "--store", rubric).code == 0
    found = results(rubric)
    official = "alpaca_eval weighted_alpaca_eval_gpt4_turbo"
    assert found.declaration_changed == [f"evaluation's judge: 'rubric' at launch, now '{official}'"]
    assert not found.comparisons[0].confirmatory
    assert [(each.judge, each.counts) for each in found.judgements] == [
        (official, {"done": 2}),
        ("rubric", {"done": 2}),
    ]
    assert "evaluation's judge: 'rubric' at launch" in adadpo("plan", file, "--store", rubric).out


def test_a_first_judge_is_no_change(two_runs: Path, two: Path) -> None:
    """Launched without a judge, nothing was known: the first one is the declared one."""
    file = write_sweep(two, TWO.replace("  limit: 8\n", "  limit: 8\n  judge: none\n"))
    assert adadpo("launch", file, "--store", two_runs).code == 0
    assert results(two_runs).evaluation.lc_method == "not computed"
    file = write_sweep(two, TWO)
    assert adadpo("launch", file, "--store", two_runs).code == 0
    found = results(two_runs)
    assert (found.declaration_changed, found.counts) == ([], {"done": 2})
    assert [each.judge for each in found.judgements] == ["rubric"]


def test_while_runs_are_missing(two_runs: Path, two: Path, server: Any) -> None:
    """One of two runs has responses: it is judged; the other one follows when the same command comes again."""
    sweep = opened(two, two_runs)
    missing = two_runs / sweep.job.runs[1].run_id
    aside = shutil.move(missing, missing.with_name("aside"))
    assert adadpo("judge", two, "--judge", api(server.url), "--store", two_runs).code == 0
    found = results(two_runs)
    assert [judgement.counts for judgement in found.judgements] == [{"waiting": 2}, {"done": 1, "waiting": 1}]
    assert not missing.exists()  # nothing is trained for a judgement
    shutil.move(aside, missing)
    answer = adadpo("judge", two, "--judge", api(server.url), "--store", two_runs)
    assert "2 of 2 runs have responses, 1 to judge" in answer.out
    assert results(two_runs).judgements[1].counts == {"done": 2}


def test_nothing_to_judge(two: Path, tmp_path: Path) -> None:
    """A sweep that was never launched: bad input, nothing written."""
    answer = adadpo("judge", two, "--judge", "rubric", "--store", tmp_path / "empty")
    assert answer.code == 2
    assert "two has no responses yet: adadpo launch two" in answer.err


def test_a_failed_judgement_does_not_stand_in_the_way(
    rubric: Path, two: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the judge: named with code 1 after the report; the declared judgement stays; asked again, it goes on."""
    import sweeps.execution.stages as stages

    judge = stages.judge_outputs
    monkeypatch.setattr(stages, "judge_outputs", lambda *_, **__: 1 / 0)
    answer = adadpo("judge", two, "--judge", api(server.url), "--store", rubric)
    assert answer.code == 1
    assert "2 runs could not be judged by alpaca_eval" in answer.err
    assert adadpo("status", two, "--store", rubric).out.startswith("two: 2 runs: 2 done\n")
    assert [judgement.judge for judgement in results(rubric).judgements] == ["rubric"]
    monkeypatch.setattr(stages, "judge_outputs", judge)
    assert adadpo("judge", two, "--judge", api(server.url), "--store", rubric).code == 0
    assert results(rubric).judgements[1].counts == {"done": 2}
    assert not list(rubric.rglob("failure.json"))


def test_a_failed_declared_judge_can_be_replaced(
    two_runs: Path, two: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that failed in the declared judge have responses, which another judge judges; the failure stays told."""
    import sweeps.execution.stages as stages

    judge = stages.judge_outputs
    monkeypatch.setattr(stages, "judge_outputs", lambda *_, **__: 1 / 0)
    assert adadpo("launch", two, "--store", two_runs).code == 1
    monkeypatch.setattr(stages, "judge_outputs", judge)
    assert adadpo("judge", two, "--judge", api(server.url), "--store", two_runs).code == 0
    found = results(two_runs)
    assert [judgement.counts for judgement in found.judgements] == [{"failed": 2}, {"done": 2}]
    assert "bug in judge: ZeroDivisionError" in found.failures[0].reason
    assert adadpo("retry", two, "--store", two_runs).code == 0
    assert [judgement.counts for judgement in results(two_runs).judgements] == [{"done": 2}, {"done": 2}]


def test_a_yaml_file_names_paths_from_its_own_folder(
    rubric: Path, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Annotations that the sweep itself wrote, imported by a folder beside the YAML file, from another folder."""
    sweep = opened(two, rubric)
    (tmp_path / "mine" / "found").mkdir(parents=True)
    for number, run in enumerate(sweep.job.runs):
        source = rubric / run.run_id / "eval" / sweep.eval_id / "annotations.json"
        shutil.copy(source, tmp_path / "mine" / "found" / f"{number}.json")
    (tmp_path / "mine" / "judge.yaml").write_text("kind: import\npath: found\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    answer = adadpo("judge", "two", "--judge", "../mine/judge.yaml", "--store", rubric)
    assert answer.code == 0, answer.err
    declared, imported = results(rubric).judgements
    assert imported.judge == "import found"
    assert imported.means == declared.means
    # Of other answers: refused as a whole, nothing half-done.
    for file in (tmp_path / "mine" / "found").iterdir():
        file.write_text(json.dumps([row | {"output_2": "Another."} for row in read(file)]))
    answer = adadpo("judge", "two", "--judge", "../mine/judge.yaml", "--store", rubric)
    assert answer.code == 1
    assert "no annotations of these answers" in answer.err
    assert len(results(rubric).judgements) == 2


def test_imported_annotations_of_several_judges(rubric: Path, two: Path, tmp_path: Path) -> None:
    """One run by one judge, the other by another: neither counts, and there is no comparison of them."""
    sweep = opened(two, rubric)
    (tmp_path / "found").mkdir()
    for number, run in enumerate(sweep.job.runs):
        rows = read(rubric / run.run_id / "eval" / sweep.eval_id / "annotations.json")
        file = tmp_path / "found" / f"{number}.json"
        file.write_text(json.dumps([row | {"annotator": f"judge {number}"} for row in rows]))
    for method in ("auto", "joint_difficulty"):
        words = ("--judge", f"{{kind: import, path: {tmp_path}/found}}", "--lc-method", method)
        assert adadpo("judge", "two", *words, "--store", rubric).code == 0
    for judgement in results(rubric).judgements[1:]:
        assert judgement.counts == {"quarantined": 2}
        assert judgement.comparison is not None
        assert judgement.comparison.estimate is None
        assert set(judgement.means["dpo"].values()) == {None}


def test_a_reward_model(rubric: Path, two: Path, tmp_path: Path) -> None:
    """A classifier with one output in a folder; preferences by Bradley-Terry of the scores that it wrote down."""
    import math

    from transformers import AutoTokenizer, LlamaForSequenceClassification

    from adadpo.models.built_in import build_tiny

    (tmp_path / "base").mkdir()
    build_tiny(tmp_path / "base")
    LlamaForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1).save_pretrained(
        tmp_path / "rm"
    )
    AutoTokenizer.from_pretrained(tmp_path / "base").save_pretrained(tmp_path / "rm")
    answer = adadpo(
        "judge", two, "--judge", f"{{kind: reward_model, model: {tmp_path}/rm}}", "--store", rubric
    )
    assert answer.code == 0, answer.err
    judgement = results(rubric).judgements[1]
    assert (judgement.judge, judgement.counts) == ("reward_model rm", {"done": 2})
    evaluation = other_evaluations(opened(two, rubric))[-1]
    for file in rubric.glob(f"*/eval/{evaluation.eval_id}/annotations.json"):
        for row in read(file):
            gain = row["raw_completion"]["reward_2"] - row["raw_completion"]["reward_1"]
            assert row["preference"] == pytest.approx(1 + 1 / (1 + math.exp(-gain)))


HOSTILE = {
    "": "--judge: None is no judge; choose from rubric",
    "none": "--judge none judges nothing",
    "rubrik": "--judge: unknown judge 'rubrik'; did you mean 'rubric'?",
    "[rubric]": "--judge: ['rubric'] is no judge",
    "5": "--judge: 5 is no judge",
    "{kind: alpaca_eval, modle: x, max_cost: 1}": "--judge: unknown key 'modle' under judge; did you mean 'model'?",
    "{kind: alpaca_eval, max_cost: 1, api_key: sk-0123456789}": "--judge: unknown key 'api_key' under judge",
    "{kind: alpaca_eval, max_cost: 1, api_key_env: sk-0123456789}": "--judge: api_key_env is the name of an",
    "{kind: alpaca_eval, base_url: 'http://me:sk-0123456789@h/v1'}": "--judge: base_url must hold no user, password",
    "{kind: import, path: ../../nowhere}": "--judge: no annotations to import: there is no file",
    "{kind: reward_model, model: '<b>'}": "--judge: unknown model '<b>'",
    "nowhere.yaml": "no such file: ",
    "{kind: rubric": "--judge:1:",
    "!!python/object/apply:os.system [ls]": "--judge: ",
    "{kind: alpaca_eval, config: ../../nowhere, max_cost: 1}": "--judge: no annotators configuration '",
}  # fmt: skip


@pytest.mark.parametrize("judge", HOSTILE)
def test_judges_that_are_none(undisturbed: Path, judge: str) -> None:
    """Exit code 2, one message, no secret repeated, nothing written."""
    before = files_of(undisturbed)
    answer = adadpo("judge", "two", "--judge", judge, "--store", undisturbed)
    assert answer.code == 2, answer
    assert HOSTILE[judge] in answer.err
    assert "Traceback" not in answer.err
    if "sk-" in judge:
        assert "sk-0123456789" not in answer.err + answer.out
    assert files_of(undisturbed) == before


def test_names_that_are_markup(rubric: Path, two: Path, tmp_path: Path) -> None:
    """A path and an annotator that would be a script in a page: text, nothing else."""
    evil = "<script>alert(1)</script>"
    sweep = opened(two, rubric)
    folder = tmp_path / evil.replace("/", "")
    folder.mkdir()
    for number, run in enumerate(sweep.job.runs):
        rows = read(rubric / run.run_id / "eval" / sweep.eval_id / "annotations.json")
        (folder / f"{number}.json").write_text(json.dumps([row | {"annotator": evil} for row in rows]))
    answer = adadpo("judge", "two", "--judge", f'{{kind: import, path: "{folder}"}}', "--store", rubric)
    assert answer.code == 0, answer.err
    assert "<script>" not in page(rubric)
    assert "&lt;script&gt;alert(1)" in page(rubric)
    assert adadpo("judge", "two", "--lc-method", "[red]x[/red]", "--store", rubric).code == 2

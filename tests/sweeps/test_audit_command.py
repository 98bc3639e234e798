"""`adadpo audit` on sweeps and models: what is measured, what the files say, what is refused."""

from __future__ import annotations

import json
import math
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from analysis.results.gradient_audit import Audit
from reports.files import load_results
from sweeps.state.opening import record
from tests.sweeps.sweep_examples import SMALL, TWO, adadpo, opened, write_sweep

# Two arms with snapshots at steps 1 and 2 of 3.
SNAPS = TWO.replace("name: two", "name: snaps").replace(
    "train: {batch_size: 8,", "train: {batch_size: 4, max_steps: 3, snapshot_steps: 1,"
)


@pytest.fixture(scope="module")
def snaps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A launched sweep with snapshots, audited: its file and its store."""
    folder = tmp_path_factory.mktemp("snaps")
    file = write_sweep(folder / "snaps.yaml", SNAPS)
    for words in (("launch",), ("audit", "--pairs", "3")):
        answer = adadpo(words[0], file, *words[1:], "--store", folder / "store")
        assert answer.code == 0, answer.err
    return file, folder / "store"


def audit_of(store: Path, name: str) -> Audit:
    text = (store / "sweeps" / name / "audit.json").read_text()
    assert "NaN" not in text
    return Audit.model_validate_json(text)


class TestSweep:
    def test_every_policy_is_measured(self, snaps: tuple[Path, Path]) -> None:
        """Before training, at each snapshot and at the end, for both arms; the runs' ids and what they depend on."""
        sweep = opened(*snaps)
        audit = audit_of(snaps[1], "snaps")
        assert [(p.arm, p.step) for p in audit.points] == [
            (a, s) for a in ("dpo", "adadpo") for s in range(4)
        ]
        assert {p.run_id for p in audit.points} == {run.run_id for run in sweep.job.runs}
        assert (audit.setting, audit.seed, audit.missing) == ("beta=0.1", 0, [])
        first = sweep.job.runs[0].config
        assert (audit.model, audit.data, audit.precision) == (first.model, first.heldout, "float32")
        assert audit.pairs == 8
        assert len(audit.gradient_pairs) == 3
        assert {"torch", "trl"} <= audit.versions.keys()
        assert audit.points[0].method == first.method.identity()

    def test_arms_start_alike_and_drift(self, snaps: tuple[Path, Path]) -> None:
        audit = audit_of(snaps[1], "snaps")
        dpo, ada = ([p for p in audit.points if p.arm == arm] for arm in ("dpo", "adadpo"))
        assert [s.log_ratios for s in dpo[0].stages] == [s.log_ratios for s in ada[0].stages]
        assert dpo[0].cosines == ada[0].cosines
        for points in (dpo, ada):
            logits = [p.stages[0].log_ratios["logits"] for p in points]
            assert all(a != b for a, b in pairwise(logits))
        assert [s.stage for s in dpo[0].stages if s.trained] == ["base"]
        assert [s.stage for s in ada[0].stages if s.trained] == ["per_token_clipped"]
        for point in audit.points:
            balanced = point.stages[-1]
            assert balanced.summary["probability"].balanced == 1.0
            assert all(len(v) == (3 if r == "parameters" else 8) for r, v in balanced.log_ratios.items())

    def test_ratio_one_is_what_training_measured_on_the_same_pairs(self, snaps: tuple[Path, Path]) -> None:
        """The end's mean log ratio of the trained stage, against metrics.json's held-out number."""
        sweep = opened(*snaps)
        ends = {p.run_id: p for p in audit_of(snaps[1], "snaps").points if p.step == 3}
        for run in sweep.job.runs:
            metrics = json.loads(sweep.store.run(run.run_id).metrics.read_text())
            (stage,) = [stage for stage in ends[run.run_id].stages if stage.trained]
            values = [v for v in stage.log_ratios["probability"] if v is not None]
            assert sum(values) / len(values) == pytest.approx(metrics["heldout_log_gradient_ratio"], abs=2e-5)

    def test_results_and_report_have_it(self, snaps: tuple[Path, Path]) -> None:
        folder = snaps[1] / "sweeps" / "snaps"
        audit = audit_of(snaps[1], "snaps")
        assert load_results(folder / "results.json").audit == audit
        page = (folder / "report.html").read_text()
        assert "Over training" in page
        assert "equality in probability space" in page

    def test_same_command_same_numbers(self, snaps: tuple[Path, Path], tmp_path: Path) -> None:
        """Everything but the wall time."""
        store = Path(shutil.copytree(snaps[1], tmp_path / "store"))
        answer = adadpo("audit", "snaps", "--pairs", "3", "--store", store, "--json")
        assert answer.code == 0, answer.err
        assert answer.err == ""
        again = {k: v for k, v in answer.json.items() if k != "written"}
        before = audit_of(snaps[1], "snaps").model_dump(mode="json")
        for one in (again, before):
            one["cost"] |= {"seconds": 0, "evaluation_seconds": 0}
        assert again == before

    def test_words_choose_runs_and_limit_pairs(self, store: Path, small: Path) -> None:
        """The first setting and seed that fit; another sweep's default cost stays below three passes."""
        words = ("arm=adadpo", "beta=0.05", "seed=1", "--limit", "6", "--precision", "bfloat16")
        answer = adadpo("audit", small, *words, "--store", store, "--json")
        assert answer.code == 0, answer.err
        found = answer.json
        assert {p["arm"] for p in found["points"]} == {"adadpo"}
        assert [p["step"] for p in found["points"]] == [0, 2]
        assert (found["setting"], found["seed"], found["pairs"]) == ("beta=0.05", 1, 6)
        assert found["precision"] == "bfloat16"
        assert found["data"].endswith("[:6]")
        assert found["cost"]["passes"] <= 3
        assert found["missing"] == ["adadpo: no snapshots on the way (train.snapshot_steps keeps them)"]

    def test_without_snapshots_the_report_draws_the_log(self, store: Path) -> None:
        answer = adadpo("audit", "small", "--pairs", "1", "--store", store)
        assert answer.code == 0, answer.err
        assert "1 of them with parameter gradients" in answer.out
        assert "as logged" in (store / "sweeps" / "small" / "report.html").read_text()

    def test_before_launch(self, two: Path, tmp_path: Path) -> None:
        """Only what there is: before training; audit.json and no report."""
        answer = adadpo("audit", two, "--pairs", "0", "--store", tmp_path / "store")
        assert answer.code == 0, answer.err
        audit = audit_of(tmp_path / "store", "two")
        assert [p.step for p in audit.points] == [0, 0]
        assert "dpo: the run is not trained to its end" in audit.missing
        assert "nothing was measured" in audit.findings[0]
        assert audit.points[0].stages[0].log_ratios["parameters"] == []
        assert sorted(p.name for p in (tmp_path / "store" / "sweeps" / "two").iterdir()) == ["audit.json"]

    def test_an_audit_of_other_runs_is_not_shown(self, snaps: tuple[Path, Path], tmp_path: Path) -> None:
        store = Path(shutil.copytree(snaps[1], tmp_path / "store"))
        file = write_sweep(tmp_path / "snaps.yaml", SNAPS.replace("1.0e-3", "2.0e-3"))
        record(opened(file, store))  # as a launch does
        assert adadpo("report", "snaps", "--store", store).code == 0
        results = load_results(store / "sweeps" / "snaps" / "results.json")
        assert results.audit is None
        assert "audit again" in results.provenance["gradient audit"]

    def test_a_damaged_audit_is_named(self, snaps: tuple[Path, Path], tmp_path: Path) -> None:
        store = Path(shutil.copytree(snaps[1], tmp_path / "store"))
        (store / "sweeps" / "snaps" / "audit.json").write_text('{"target": 1}')
        answer = adadpo("report", "snaps", "--store", store)
        assert answer.code == 1
        assert "audit.json" in answer.err
        assert "adadpo audit snaps" in answer.err

    def test_a_damaged_snapshot_is_a_message(self, snaps: tuple[Path, Path], tmp_path: Path) -> None:
        store = Path(shutil.copytree(snaps[1], tmp_path / "store"))
        run = opened(snaps[0], store).job.runs[0]
        for file in (store / run.run_id / "train" / "snapshots" / "step-2").glob("*.safetensors"):
            file.write_bytes(b"broken")
        answer = adadpo("audit", "snaps", "--store", store)
        assert answer.code == 1
        assert "step-2" in answer.err
        assert "Traceback" not in answer.err

    def test_lora_and_other_losses(self, tmp_path: Path) -> None:
        """Adapters, a loss without reference, a clipped sequence ratio and a loss that cannot be balanced."""
        start, end = SMALL.index("arms:"), SMALL.index("seeds:")
        text = (
            SMALL[:start]
            + "arms: {sppo: {}, adasimpo: {}, sequence: {method: dpo, balance: sequence, clip: 2.0}}\n"
            + "grid: {learning_rate: [1.0e-3]}\n"
            + SMALL[end:]
            .replace("[0, 1]", "[0]")
            .replace("train: {", "train: {lora: {r: 2}, ")
            .replace("baseline: dpo", "baseline: sppo")
            .replace("candidate: adadpo", "candidate: adasimpo")
            .replace("learning_rate: 1.0e-3}", "snapshot_steps: 1}")
        )
        file = write_sweep(tmp_path / "family.yaml", text)
        assert adadpo("launch", file, "--store", tmp_path / "store").code == 0
        answer = adadpo("audit", file, "--pairs", "2", "--store", tmp_path / "store", "--json")
        assert answer.code == 0, answer.err
        points = [Audit.model_validate({k: v for k, v in answer.json.items() if k != "written"}).points][0]
        assert [p.step for p in points] == [0, 1, 2] * 3
        stages = {p.arm: [s.stage for s in p.stages] for p in points}
        assert stages["sppo"] == ["base"]
        assert stages["sequence"][-1] == "as_trained"
        assert stages["adasimpo"] == ["base", "sequence", "per_token", "per_token_clipped"]
        assert all("LoRA adapters of rank 2" in p.parameters for p in points)
        (simpo,) = [s for p in points if p.arm == "adasimpo" and p.step == 2 for s in p.stages if s.trained]
        assert simpo.promised == ["probability"]
        assert simpo.summary["probability"].balanced == 1.0


class TestModel:
    def test_files_and_page(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Before training by two methods, on the built-in held-out pairs; the default place is the folder one is in."""
        monkeypatch.chdir(tmp_path)
        answer = adadpo(
            "audit", "tiny-random-llama", "--method", "dpo", "--method", "adaipo", "--limit", "12"
        )
        assert answer.code == 0, answer.err
        audit = Audit.model_validate_json((tmp_path / "audit.json").read_text())
        assert [p.arm for p in audit.points] == ["dpo", "adaipo"]
        assert audit.target == "tiny-random-llama"
        assert audit.model == "tiny-random-llama-v1"
        assert audit.precision == "bfloat16"
        assert audit.cost.passes <= 3
        assert math.isclose(
            audit.points[1].stages[-1].summary["probability"].median or 0.0, 0.0, abs_tol=1e-5
        )
        for finding in audit.findings:
            assert finding in answer.out
        assert "<h1>tiny-random-llama</h1>" in (tmp_path / "audit.html").read_text()

    def test_own_pairs_and_adapters(self, tmp_path: Path) -> None:
        rows = [{"prompt": f"Say {i}.", "chosen": f" {i}", "rejected": " No, I do not."} for i in range(5)]
        data = tmp_path / "pairs.json"
        data.write_text(json.dumps(rows))
        words = ("--data", data, "--lora", "2", "--precision", "float32", "-o", tmp_path / "out.json")
        answer = adadpo("audit", "tiny-random-llama", *words, "--pairs", "5", "--json")
        assert answer.code == 0, answer.err
        assert answer.json["pairs"] == 5
        assert "LoRA adapters of rank 2" in answer.json["points"][0]["parameters"]
        assert answer.json["written"] == [str(tmp_path / "out.json"), str(tmp_path / "out.html")]

    def test_too_few_pairs_for_the_cost(self, tmp_path: Path) -> None:
        """One pair's parameter gradients would cost more than the bound: not measured, and said."""
        answer = adadpo("audit", "tiny-random-llama", "--limit", "1", "-o", tmp_path / "a.json")
        assert answer.code == 0, answer.err
        assert "0 of them with parameter gradients; 1.0 evaluation passes" in answer.out
        assert "In parameter space nothing was measured." in answer.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "unknown model 'nowhere'"),
        (["tiny-random-llama", "seed=0"], "tiny-random-llama is no sweep"),
        (["tiny-random-llama", "--method", "adadop"], "unknown method 'adadop'"),
        (["tiny-random-llama", "--precision", "float16"], "--precision 'float16'"),
        (["tiny-random-llama", "-o", "audit.txt"], "ends in .json"),
        (["{two}", "--method", "dpo", "--lora", "4"], "--method, --lora has no effect on a sweep"),
        (["{two}", "seed=7"], "no run of two fits 'seed=7'"),
        (["no-such.yaml"], "no-such.yaml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input(words: list[str], message: str, two: Path, tmp_path: Path) -> None:
    """Exit code 2, one message, nothing written."""
    answer = adadpo("audit", *(word.format(two=two) for word in words), "--store", tmp_path / "store")
    assert answer.code == 2
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert not list((tmp_path / "store").rglob("audit.json"))


def test_a_sweep_without_heldout_pairs(tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {i}.", "chosen": f" {i}", "rejected": " No."} for i in range(8)]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    text = TWO.replace(
        'data: {source: "builtin:instructions", limit: 16, heldout_limit: 8}', "data: ./pairs.json"
    )
    answer = adadpo("audit", write_sweep(tmp_path / "two.yaml", text), "--store", tmp_path / "store")
    assert answer.code == 2
    assert "holds no pairs out" in answer.err


def test_a_sweep_named_but_unknown_lists_those_there_are(store: Path) -> None:
    answer = adadpo("audit", "smal", "--store", store)
    assert answer.code == 2
    assert "small" in answer.err

"""A launched sweep is opened by its plan.json: whatever became of its file, data, model and judge's package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from adadpo.files import cache_folder
from sweeps.config.expand import builtin_instructions_path
from sweeps.state.opening import open_sweep, record
from sweeps.state.plan_file import plan_path, read_plan
from sweeps.store.layout import Store
from tests.sweeps.judging_examples import api, with_judge
from tests.sweeps.sweep_examples import CONFIGS, SMALL, TWO, adadpo, opened, write_sweep


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep of its own model folder and data file, launched into `store`."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(cache_folder() / "models" / "tiny-random-llama-v1", folder / "model")
    lines = builtin_instructions_path("train").read_text().splitlines(keepends=True)
    (folder / "pairs.jsonl").write_text("".join(lines[:16]))
    (folder / "heldout.jsonl").write_text("".join(lines[16:24]))
    text = TWO.replace("model: tiny-random-llama", "model: ./model").replace(
        'data: {source: "builtin:instructions", limit: 16, heldout_limit: 8}',
        "data: {source: pairs.jsonl, heldout: heldout.jsonl}",
    )
    assert adadpo("launch", write_sweep(folder / "two.yaml", text), "--store", folder / "store").code == 0
    return folder


@pytest.fixture
def places(own: Path, tmp_path: Path) -> Path:
    """A copy of it. The plan still names the files of the original, which stay where they are."""
    shutil.copytree(own, tmp_path / "own")
    return tmp_path / "own"


READING = [
    ("status", "two", "--json"),
    ("status", "two", "state:done"),
    ("logs", "two", "arm=dpo"),
    ("why", "two", "arm=dpo"),
    ("report", "two"),
    ("export", "two", "-o", "exported"),
    ("judge", "two", "--lc-method", "joint_difficulty"),
    ("gc", "two", "--weights"),
    ("gc",),
    ("fsck", "two"),
    ("fsck",),
]


def test_reading_needs_the_plan_alone(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweep file, data file and model folder moved away: every reading verb answers, by name and by the lost file."""
    monkeypatch.chdir(tmp_path)
    moved = tmp_path / "moved"
    own.rename(moved)
    try:
        shutil.copytree(moved / "store", tmp_path / "store")
        for words in READING:
            answer = adadpo(*words, "--store", tmp_path / "store")
            assert answer.code == 0, (words, answer.err)
        assert adadpo("status", "two", "--store", tmp_path / "store", "--json").json["counts"] == {"done": 2}
        lost = own / "two.yaml"
        assert adadpo("status", lost, "--store", tmp_path / "store", "--json").json["counts"] == {"done": 2}
        # Nothing to cancel or to retry is said without the data, too.
        assert "nothing to cancel" in adadpo("cancel", "two", "--store", tmp_path / "store").err
        assert "nothing to retry" in adadpo("retry", "two", "--store", tmp_path / "store").err
        for verb in ("check", "plan", "launch"):
            answer = adadpo(verb, "two", "--store", tmp_path / "store")
            assert (answer.code, "pairs.jsonl" in answer.err) == (2, True), answer.err
    finally:
        moved.rename(own)


def add_a_pair(folder: Path) -> None:
    with (folder / "pairs.jsonl").open("a") as stream:
        stream.write(builtin_instructions_path("train").read_text().splitlines(keepends=True)[30])


def change_the_model(folder: Path) -> None:
    config = json.loads((folder / "model" / "config.json").read_text())
    (folder / "model" / "config.json").write_text(json.dumps(config | {"note": "another"}))


def add_a_setting(folder: Path) -> None:
    file = folder / "two.yaml"
    file.write_text(file.read_text().replace("[0.1]", "[0.1, 0.3]"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (add_a_pair, ["data file {}/pairs.jsonl changed since launch: 2 runs would be new; 2 launched runs"]),
        (
            change_the_model,
            ["model {}/model changed since launch: 2 runs would be new; 2 launched runs are"],
        ),
        (add_a_setting, ["sweep file {}/two.yaml changed since launch: 2 runs would be new"]),
        (lambda folder: None, []),
    ],
    ids=["data", "model", "file", "nothing"],
)  # fmt: skip
def test_what_drifted(own: Path, change: Any, expected: list[str]) -> None:
    """Check, plan and launch say what is no longer as it was launched, and what that would do; reading does not ask."""
    file, store = own / "two.yaml", own / "store"
    kept = own.with_name("kept")
    shutil.copytree(own, kept)
    try:
        change(own)
        told = [each.format(own) for each in expected]
        check = adadpo("check", file, "--store", store)
        plan = adadpo("plan", file, "--store", store)
        for number, said in enumerate(told):
            assert adadpo("check", file, "--store", store, "--json").json["drift"][number].startswith(said)
            assert f"  {said}" in check.out
            assert f"  {said}" in plan.out
        assert adadpo("plan", file, "--store", store, "--json").json["drift"] == check_drift(file, store)
        assert ("changed since launch" in check.out + plan.out) == bool(expected)
        assert adadpo("status", file, "--store", store, "--json").json["counts"] == {"done": 2}
        if change is add_a_setting:
            assert "adadpo launch" in adadpo("status", file, "--store", store).err
            assert told[0] in adadpo("launch", file, "--store", store).out
            assert adadpo("status", file, "--store", store, "--json").json["counts"] == {"done": 4}
            assert check_drift(file, store) == []
    finally:
        shutil.rmtree(own)
        kept.rename(own)


def check_drift(file: Path, store: Path) -> list[str]:
    found: list[str] = adadpo("check", file, "--store", store, "--json").json["drift"]
    return found


def test_another_version_of_the_judges_package(
    two_runs: Path, tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Judged runs keep their names; a launch says which versions differ."""
    file = with_judge(tmp_path / "two.yaml", api(server.url))
    assert adadpo("launch", file, "--store", two_runs).code == 0
    version = str(
        json.loads(plan_path(Store(two_runs), "two").read_text())["plan"]["identities"]["judge_package"]
    )
    assert version.startswith("alpaca_eval ")
    before = adadpo("status", file, "--store", two_runs, "--json").json["cells"]
    monkeypatch.setattr("analysis.judges.annotators.package_version", lambda: "9.9.9")
    now = adadpo("status", file, "--store", two_runs, "--json").json
    assert (now["counts"], now["cells"]) == ({"done": 2}, before)
    for words in (("report", "two"), ("gc",), ("why", "two", "arm=dpo")):
        assert adadpo(*words, "--store", two_runs).code == 0
    [said] = check_drift(file, two_runs)
    assert (
        said
        == f"judge's package: {version} at launch, alpaca_eval 9.9.9 now: every run would be judged again"
    )


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_plan_is_read_as_it_was_written(tmp_path: Path, config: Path) -> None:
    """Every sweep file of the package, and one on Slurm with submitit's own keys: the same values again."""
    text = config.read_text()
    if "smollm2" in text:
        text = text.replace("smollm2-135m-instruct", "tiny-random-llama")
    sweep = opened(write_sweep(tmp_path / "sweep.yaml", text), tmp_path / "store")
    assert_read_as_written(sweep)


def assert_read_as_written(sweep: Any) -> None:
    record(sweep)
    again = open_sweep(sweep.spec.name, sweep.store)
    assert again == sweep
    assert [run.run_id for run in again.job.runs] == [run.run_id for run in sweep.job.runs]


def test_a_plan_with_slurm_search_and_many_runs(tmp_path: Path) -> None:
    """Sections that take any key, ranges of a search, and a plan that stays small: 60 bytes a run."""
    slurm = SMALL.replace("{executor: inline}", "{executor: slurm, timeout_min: 5, partition: gpu, nodes: 1}")
    assert_read_as_written(opened(write_sweep(tmp_path / "a.yaml", slurm), tmp_path / "a"))
    many = SMALL.replace("seeds: [0, 1]", "seeds: 0..499")
    sweep = opened(write_sweep(tmp_path / "b.yaml", many), tmp_path / "b")
    assert_read_as_written(sweep)
    assert len(sweep.job.runs) == 2000
    assert plan_path(sweep.store, "small").stat().st_size < 60 * 2000 + 20_000


def test_only_a_launch_writes_a_plan(small: Path, tmp_path: Path) -> None:
    """Looking at a sweep that was not launched leaves nothing in the store."""
    for words in (("check",), ("plan",), ("status",), ("why", "arm=dpo", "seed=0", "beta=0.1")):
        answer = adadpo(words[0], small, *words[1:], "--store", tmp_path / "store")
        assert answer.code == 0, answer.err
    assert not (tmp_path / "store").exists()
    assert read_plan(Store(tmp_path / "store"), "small") is None

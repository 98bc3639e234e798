"""Real files of a finished sweep damaged in many ways: fsck names each, and a launch brings the same bytes back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.maintenance.fsck import _temporary
from sweeps.maintenance.gc_scan import size_of
from sweeps.operations.disk import safetensors_shapes
from sweeps.store.layout import Store, read_json
from sweeps.store.lease import Lease, held
from tests.sweeps.sweep_examples import adadpo, contents, opened

# file -> the stage that is done again; None: rebuilt from other files, or not needed
FILES = {
    "train/model/model.safetensors": "train",
    "train/metrics.json": "train",
    "train/history.jsonl": "train",
    "G/outputs.json": "generate",
    "G/generation.json": "generate",
    "G/config.json": None,
    "E/annotations.json": "judge",
    "E/judging.json": "judge",
    "E/scores.json": None,
    "E/config.json": None,
    "config.json": None,
    "provenance.json": None,
    "train/train.manifest.json": None,
    "E/score.manifest.json": None,
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One digit or letter of the middle becomes another: the file still parses, mostly."""
    content = bytearray(path.read_bytes())
    place = next(
        i
        for i in range(len(content) // 2, len(content))
        if chr(content[i]).isdigit() or i == len(content) - 1
    )
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "cut": cut,
    "flipped": flip,
    "empty": lambda path: path.write_bytes(b""),
    "deleted": Path.unlink,
}
# What does not parse is treated alike, whatever the file: one of each kind.
UNREADABLE = (
    "train/model/model.safetensors",
    "train/history.jsonl",
    "G/outputs.json",
    "E/scores.json",
    "E/config.json",
)
CASES = [
    (file, damage)
    for file in FILES
    for damage in DAMAGES
    if (file, damage) != ("config.json", "deleted") and (damage not in ("cut", "empty") or file in UNREADABLE)
]


@pytest.fixture
def places(undisturbed: Path, tmp_path: Path, two: Path) -> tuple[Path, dict[str, Path]]:
    """A copy of the store of two runs, and where the files of the first one are."""
    store = Path(shutil.copytree(undisturbed, tmp_path / "store"))
    sweep = opened(two, store)
    folder = sweep.store.run(sweep.job.runs[0].run_id)
    homes = {"G": folder.generation(sweep.eval_id), "E": folder.evaluation(sweep.eval_id)}
    found = {}
    for name in FILES:
        first, _, rest = name.partition("/")
        found[name] = homes[first] / rest if first in homes else folder.path / name
    return store, found


def healed(store: Path) -> dict[str, str]:
    """The runs' results, without what was moved aside."""
    return {path: what for path, what in contents(store).items() if not path.startswith("quarantine/")}


def fsck(store: Path, *words: str) -> tuple[int, dict[str, str], dict[str, str | None]]:
    """Exit code, path -> problem, path -> what was done."""
    answer = adadpo("fsck", *words, "--store", store, "--json")
    found = answer.json["findings"]
    return (
        answer.code,
        {each["path"]: each["problem"] for each in found},
        {each["path"]: each["repaired"] for each in found},
    )


def test_an_intact_store(finished: Path) -> None:
    """Nothing is found, nothing is written, and every stage has hashes."""
    answer = adadpo("fsck", "--store", finished)
    assert answer.code == 0, answer.out
    assert "8 runs, 32 stages" in answer.out
    assert "no corruption found" in answer.out
    assert "before hashes" not in answer.out
    assert not (finished / "quarantine").exists()


@pytest.mark.parametrize(("file", "damage"), CASES, ids=lambda each: str(each).rpartition("/")[2])
def test_damage_is_named_and_mended(
    places: tuple[Path, dict[str, Path]], two: Path, undisturbed: Path, file: str, damage: str
) -> None:
    """Named with code 1 and left as it is; repaired with code 0; after a launch equal bytes and nothing to find."""
    store, paths = places
    path = paths[file]
    DAMAGES[damage](path)
    if damage == "deleted" and ".manifest." in file:
        assert fsck(store)[:2] == (0, {})  # as a store from before there were hashes
        return
    before = path.read_bytes() if path.exists() else None
    code, problems, _ = fsck(store)
    assert code == 1
    assert str(path.relative_to(store)) in problems, problems
    assert (path.read_bytes() if path.exists() else None) == before
    code, _, repaired = fsck(store, "--repair")
    assert (code, None in repaired.values()) == (0, False), repaired
    # The middle of a history is a line of an evaluation, which follows from that.
    stage = None if (file, damage) == ("train/history.jsonl", "flipped") else FILES[file]
    states = adadpo("status", two, "--store", store, "--json").json["counts"]
    assert states == ({"done": 2} if stage is None else {"done": 1, "waiting": 1})
    # The heavy stages are launched once for each kind of file; the others come back by the same way.
    if stage is None or damage == "flipped":
        answer = adadpo("launch", two, "--store", store)
        assert answer.code == 0, answer.err
        assert healed(store) == contents(undisturbed)
        assert fsck(store)[0] == 0
    if before is not None and file not in ("E/scores.json", "train/history.jsonl"):
        assert any(each.read_bytes() == before for each in (store / "quarantine").rglob(path.name))


def test_files_swapped_between_runs(
    places: tuple[Path, dict[str, Path]], two: Path, undisturbed: Path
) -> None:
    """Each is whole, and neither belongs where it is: found by hash, and without hashes by what they say."""
    store, paths = places
    sweep = opened(two, store)
    other = sweep.store.run(sweep.job.runs[1].run_id)
    mine, theirs = paths["train/model/model.safetensors"], other.train / "model" / "model.safetensors"
    content = mine.read_bytes()
    mine.write_bytes(theirs.read_bytes())
    theirs.write_bytes(content)
    code, problems, _ = fsck(store)
    assert code == 1
    assert {str(path.relative_to(store)) for path in (mine, theirs)} <= problems.keys()
    assert fsck(store, "--repair")[0] == 0
    assert adadpo("launch", two, "--store", store).code == 0
    assert healed(store) == contents(undisturbed)


def test_without_hashes_the_files_are_held_against_one_another(two_runs: Path, two: Path) -> None:
    """An older store: steps, responses and scores that contradict one another are found all the same."""
    assert adadpo("launch", two, "--store", two_runs).code == 0
    for seal in two_runs.rglob("*.manifest.json"):
        seal.unlink()
    answer = adadpo("fsck", two, "--store", two_runs)
    assert (answer.code, "from before hashes were recorded" in answer.out) == (0, True)
    sweep = opened(two, two_runs)
    first, second = (sweep.store.run(run.run_id) for run in sweep.job.runs)
    rows = read_json(first.evaluation(sweep.eval_id) / "annotations.json")
    rows[0]["output_2"] = "another answer"
    (first.evaluation(sweep.eval_id) / "annotations.json").write_text(json.dumps(rows))
    scores = read_json(second.evaluation(sweep.eval_id) / "scores.json")
    (second.evaluation(sweep.eval_id) / "scores.json").write_text(json.dumps(scores | {"win_rate": 99.0}))
    second.history.write_text("\n".join(second.history.read_text().splitlines()[1:]) + "\n")
    said = " ".join(fsck(two_runs, str(two))[1].values())
    assert "annotation 1 is not of this run's response" in said
    assert "win rate 99.0, the annotations give" in said
    assert "metrics.json says 2" in said


def test_what_the_sweep_holds(places: tuple[Path, dict[str, Path]], two: Path) -> None:
    """Derived files come back; a declaration that was changed is told and never repaired."""
    store, _ = places
    folder = store / "sweeps" / "two"
    cut(folder / "results.json")
    assert list(fsck(store)[1]) == ["sweeps/two/results.json"]
    assert fsck(store, "--repair")[0] == 0
    assert read_json(folder / "results.json")["sweep"] == "two"
    declared = read_json(folder / "declared.json")
    declared["compare"]["alpha"] = 0.5
    (folder / "declared.json").write_text(json.dumps(declared))
    code, problems, repaired = fsck(store, "--repair")
    assert code == 1
    assert "changed after launch" in problems["sweeps/two/declared.json"]
    assert repaired["sweeps/two/declared.json"] is None


def test_a_folder_in_place_of_the_study(places: tuple[Path, dict[str, Path]], two: Path) -> None:
    """The report is written, then what is in the way is named, and by fsck; moved aside, the study is made again."""
    store, _ = places
    folder = store / "sweeps" / "two"
    (folder / "study.journal").unlink()
    (folder / "study.journal").mkdir()
    (folder / "report.html").unlink()
    answer = adadpo("report", two, "--store", store)
    assert answer.code == 1
    assert answer.err == (
        f"adadpo: the study is not written: {folder / 'study.journal'} cannot be replaced (Is a directory); "
        "adadpo fsck two --repair moves it aside\n"
    )
    assert (folder / "report.html").exists()
    assert fsck(store)[:2] == (1, {"sweeps/two/study.journal": "is a folder"})
    assert fsck(store, "--repair")[0] == 0
    assert adadpo("report", two, "--store", store).code == 0
    assert (folder / "study.journal").is_file()


def confirmatory(store: Path) -> list[str]:
    """What stands against it, by the report."""
    return list(read_json(store / "sweeps" / "two" / "results.json")["declaration_changed"])


@pytest.mark.parametrize("damage", [cut, Path.unlink], ids=["cut", "deleted"])
def test_a_declaration_that_the_last_report_vouches_for(
    places: tuple[Path, dict[str, Path]], damage: Callable[[Path], object]
) -> None:
    """Made again to the same digests; the comparison stays confirmatory."""
    store, _ = places
    path = store / "sweeps" / "two" / "declared.json"
    before = read_json(path)
    damage(path)
    assert "declared before the first run" in fsck(store)[1]["sweeps/two/declared.json"]
    code, _, repaired = fsck(store, "--repair")
    assert (code, "same digests" in str(repaired["sweeps/two/declared.json"])) == (0, True)
    assert read_json(path) == before | {"time": None}
    assert (fsck(store)[0], confirmatory(store)) == (0, [])


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"compare": {}}', "[" * 100_000])
def test_a_declaration_of_another_shape(
    places: tuple[Path, dict[str, Path]], two: Path, content: str
) -> None:
    """Reading verbs name it with code 1, without a traceback; --repair has it again from the last report."""
    store, _ = places
    declared = store / "sweeps" / "two" / "declared.json"
    whole = read_json(declared)
    declared.write_text(content)
    for verb in ("plan", "report"):
        answer = adadpo(verb, two, "--store", store)
        assert (answer.code, f"{declared} is damaged" in answer.err) == (1, True), answer
        assert "adadpo fsck --repair" in answer.err
    assert fsck(store)[0] == 1
    assert fsck(store, "--repair")[0] == 0
    assert {**read_json(declared), "time": None} == {**whole, "time": None}
    assert adadpo("report", two, "--store", store).code == 0


@pytest.mark.parametrize(
    "content", [b"\xff\xfe" * 99, b"null\nnull\n", b"7\n7\n"], ids=["bytes", "null", "7"]
)
def test_a_history_that_is_no_history(
    places: tuple[Path, dict[str, Path]], two: Path, content: bytes
) -> None:
    """Bytes that are no text, or lines that are no steps: reading verbs name it with code 1; --repair mends it."""
    store, paths = places
    paths["train/history.jsonl"].write_bytes(content)
    for verb in ("status", "report"):
        answer = adadpo(verb, two, "--store", store)
        assert (answer.code, f"{paths['train/history.jsonl']} is damaged" in answer.err) == (1, True), answer
    assert fsck(store)[0] == 1
    code, _, repaired = fsck(store, "--repair")
    assert (code, None in repaired.values()) == (0, False), repaired


@pytest.mark.parametrize(
    ("pattern", "verb"),
    [
        ("*/train/metrics.json", "status"),
        ("*/eval/*/generation.json", "status"),
        ("*/eval/*/*/scores.json", "status"),
        ("*/provenance.json", "report"),
    ],
)
def test_an_object_without_its_keys(
    places: tuple[Path, dict[str, Path]], two: Path, pattern: str, verb: str
) -> None:
    """Reading verbs name an empty object with code 1, without a traceback."""
    store, _ = places
    file = min(store.glob(pattern))
    file.write_text("{}")
    answer = adadpo(verb, two, "--store", store)
    assert (answer.code, f"{file} is damaged (has no " in answer.err.replace("\n", " ")) == (1, True), answer


@pytest.mark.parametrize("content", ['["a", 1]', "[{}]", "[null]"])
def test_judgements_of_another_shape(places: tuple[Path, dict[str, Path]], two: Path, content: str) -> None:
    """What keeps a report from being written is found, and moved aside."""
    store, _ = places
    path = store / "sweeps" / "two" / "judgements.json"
    path.write_text(content)
    assert list(fsck(store)[1]) == ["sweeps/two/judgements.json"]
    assert fsck(store, "--repair")[0] == 0
    assert adadpo("report", two, "--store", store).code == 0


@pytest.mark.parametrize("name", ["", ".", "..", "/", "twoo"])
def test_names_of_no_sweep(undisturbed: Path, name: str) -> None:
    """Code 2 and the choices; a folder that is above the sweeps is not taken for one."""
    answer = adadpo("fsck", name, "--store", undisturbed)
    assert (answer.code, "no sweep" in answer.err) == (2, True), answer


@pytest.mark.parametrize("verb", ["fsck", "gc"])
def test_a_mistyped_store_is_not_called_whole(tmp_path: Path, two: Path, verb: str) -> None:
    """Neither a folder that is not there nor a file: code 2."""
    for place in (tmp_path / "nowhere", two):
        answer = adadpo(verb, "--store", place)
        assert (answer.code, f"no store at {place}" in answer.err) == (2, True), answer


def test_a_lost_declaration_makes_the_comparison_exploratory(
    places: tuple[Path, dict[str, Path]], two: Path
) -> None:
    """No report vouches for it, or a launch writes it while there are results: said, and nothing is confirmatory."""
    store, _ = places
    folder = store / "sweeps" / "two"
    cut(folder / "declared.json")
    (folder / "results.json").unlink()
    code, _, repaired = fsck(store, "--repair")
    assert (code, "the comparison is exploratory" in str(repaired["sweeps/two/declared.json"])) == (0, True)
    assert [said[:54] for said in confirmatory(store)] == [
        "the declaration made before the first run is lost; thi"
    ]
    (folder / "declared.json").unlink()
    assert adadpo("launch", two, "--store", store).code == 0
    assert len(confirmatory(store)) == 1


@pytest.mark.parametrize("damage", [cut, Path.unlink], ids=["cut", "deleted"])
def test_the_copy_of_the_sweep_file_comes_back_from_the_plan(
    places: tuple[Path, dict[str, Path]], damage: Callable[[Path], object]
) -> None:
    """Nothing needs it while there is a plan; the same text again."""
    store, _ = places
    path = store / "sweeps" / "two" / "spec.yaml"
    whole = path.read_text()
    damage(path)
    assert adadpo("status", "two", "--store", store, "--json").json["counts"] == {"done": 2}
    assert list(fsck(store)[1]) == ["sweeps/two/spec.yaml"]
    assert fsck(store, "--repair")[2] == {"sweeps/two/spec.yaml": "written again from the plan"}
    assert (fsck(store)[0], path.read_text()) == (0, whole)


def cut_plan(path: Path) -> None:
    cut(path)


def flip_an_id(path: Path) -> None:
    """Of a run, in a plan that parses."""
    content = json.loads(path.read_text())
    content["plan"]["job"]["runs"]["runs"][0][0] = "0" * 16
    path.write_text(json.dumps(content))


def make_newer(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))


def make_foreign(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sweep": "other"}))


def empty_object(path: Path) -> None:
    path.write_text("{}")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut_plan, "is damaged"),
        (flip_an_id, "another hash"),
        (empty_object, "holds no plan"),
        (make_newer, "is of version 2, this adadpo reads version 1"),
        (make_foreign, "is the plan of another sweep, 'other'"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_damaged_plan(
    places: tuple[Path, dict[str, Path]], two: Path, damage: Callable[[Path], None], said: str
) -> None:
    """One message with the file and what to do, code 2; rebuilt from the sweep file, the old one kept aside."""
    store, _ = places
    path = store / "sweeps" / "two" / "plan.json"
    whole = path.read_text()
    damage(path)
    for verb in ("status", "why", "report", "launch", "check"):
        answer = adadpo(verb, two, "--store", store)
        assert (answer.code, len(answer.err.splitlines())) == (2, 1), answer.err
        assert f"{path} " in answer.err
        assert said in answer.err
        assert "adadpo fsck two --repair" in answer.err
    code, problems, repaired = fsck(store)
    assert (code, list(problems)) == (1, ["sweeps/two/plan.json"])
    assert said in problems["sweeps/two/plan.json"]
    code, _, repaired = fsck(store, "two", "--repair")
    assert code == 0
    assert "rebuilt from" in str(repaired["sweeps/two/plan.json"])
    again = json.loads(path.read_text())["plan"]
    expected = json.loads(whole)["plan"]
    for content in (again, expected):
        del content["job"]["command"], content["job"]["store"]
        content["origin"].pop("path")
    assert again == expected
    assert len(list((store / "quarantine").rglob("plan.json"))) == 1
    assert fsck(store)[:2] == (0, {})


def test_a_lost_plan_with_added_seeds(places: tuple[Path, dict[str, Path]], two: Path) -> None:
    """The seeds that extend added are in the plan that is made again; where the runs are others, it is not made."""
    store, _ = places
    assert adadpo("extend", two, "--seeds", "7", "--store", store).code == 0
    path = store / "sweeps" / "two" / "plan.json"
    path.unlink()
    assert fsck(store)[1] == {"sweeps/two/plan.json": "is missing"}
    assert fsck(store, "two", "--repair")[0] == 0
    assert opened(two, store).seeds == [0, 7]
    assert adadpo("status", "two", "--store", store, "--json").json["counts"] == {"done": 4}
    path.unlink()
    copy = path.with_name("spec.yaml")
    for file in (copy, two):
        file.write_text(file.read_text().replace("[0.1]", "[0.7]"))
    code, problems, _ = fsck(store, "two", "--repair")
    assert code == 1
    assert "gives other runs than were launched" in problems["sweeps/two/plan.json"]
    assert not path.exists()


def test_baseline_leases_and_leftovers(places: tuple[Path, dict[str, Path]]) -> None:
    """A flipped baseline, a dead process's lease, a temporary file; a run that somebody works on is left alone."""
    store, paths = places
    [baseline] = store.glob("baselines/*/outputs.json")
    flip(baseline)
    run = paths["config.json"].parent
    Lease(run / "lease.json").take()
    owner = read_json(run / "lease.json")
    (run / "lease.json").write_text(json.dumps(owner | {"process_started": "1"}))
    part = run / ".scores.json.x.part"
    part.write_text("half")
    os.utime(part, (time.time() - 3600,) * 2)
    code, problems, _ = fsck(store)
    assert code == 1
    assert {Path(path).name for path in problems} == {"outputs.json", "lease.json", part.name}
    assert fsck(store, "--repair")[0] == 0
    assert fsck(store)[:2] == (0, {})
    assert not baseline.exists()
    paths["E/scores.json"].write_text("")
    with held(Lease(run / "lease.json")):
        answer = adadpo("fsck", "--store", store, "--json")
        assert (answer.code, answer.json["in_work"]) == (0, [run.name])


CHURN = """
import os, pathlib, shutil, sys
run = pathlib.Path(sys.argv[1])
print(flush=True)
while True:
    (run / "train" / "checkpoints" / "checkpoint-1" / "sub").mkdir(parents=True)
    (run / ".failure.part").write_text('{"kind": "bug"}')
    os.utime(run / ".failure.part", (1, 1))
    (run / ".failure.part").replace(run / "failure.json")
    (run / "failure.json").unlink()
    shutil.rmtree(run / "train" / "checkpoints")
"""


def test_files_that_come_and_go_meanwhile(places: tuple[Path, dict[str, Path]]) -> None:
    """Looked at while a worker renames and deletes: nobody stumbles over what was there a moment ago."""
    store, paths = places
    run = paths["config.json"].parent
    shutil.rmtree(run / "eval")
    worker = subprocess.Popen([sys.executable, "-c", CHURN, run], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    worker.stdout.readline()
    try:
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            assert Store(store).run(run.name).state("-/-") in ("waiting", "failed")
            list(_temporary(Store(store), []))
            size_of(run)
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()


def test_safetensors_are_read_by_their_header_alone(
    places: tuple[Path, dict[str, Path]], tmp_path: Path
) -> None:
    """Shapes against the library's; anything cut or foreign is refused."""
    from safetensors import safe_open

    path = places[1]["train/model/model.safetensors"]
    with safe_open(path, framework="pt") as file:
        expected = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert safetensors_shapes(path) == expected
    for content in (b"", b"x" * 40, path.read_bytes()[:-1], path.read_bytes() + b"x"):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(ValueError, match="bad"):
            safetensors_shapes(tmp_path / "bad")

"""A store that adadpo 0.1.0 made (before there was a plan.json), as it is: launched, extended, judged again, freed."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from reports.files import load_results
from sweeps.store.layout import Store, read_json
from tests.sweeps.sweep_examples import adadpo, files_of

ARCHIVE = Path(__file__).parent / "stores" / "before_plans.tar.xz"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder of its sweep file old.yaml, with the store beside it; the sweep knows that it lies there now."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    origin = tmp_path / "store" / "sweeps" / "old" / "origin.json"
    origin.write_text(json.dumps({"folder": str(tmp_path)}))
    return tmp_path


def results_of(store: Path) -> dict[str, tuple[int, str]]:
    """Path -> time and digest of everything that is not the sweep's own folder."""
    return {path: what for path, what in files_of(store).items() if not path.startswith("sweeps/")}


def test_it_is_read_as_before(old: Path) -> None:
    """Status, report, why, fsck and gc, without writing a plan: the same numbers that the old code said."""
    store, expected = old / "store", read_json(old / "status.json")
    folder, before = store / "sweeps" / "old", results_of(store)
    said = read_json(folder / "results.json")
    for target in ("old", old / "old.yaml"):
        found = adadpo("status", target, "--store", store, "--json").json
        assert {key: found[key] for key in expected} == expected
    for words in (("fsck",), ("report", "old"), ("why", "old", "arm=dpo", "seed=5"), ("fsck",), ("gc",)):
        answer = adadpo(*words, "--store", store)
        assert answer.code == 0, (words, answer.out + answer.err)
    assert len(said["runs"]) == 4
    assert read_json(folder / "results.json")["runs"] == said["runs"]
    assert len(load_results(folder / "results.json").judgements) == len(said["judgements"]) == 2
    assert not (folder / "plan.json").exists()
    assert results_of(store) == before


@pytest.mark.parametrize("target", ["old", "old.yaml"])
def test_the_next_launch_upgrades_it(old: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """Nothing runs again, no result changes, the added seed stays; from then on the plan is all that it needs."""
    monkeypatch.chdir(old)
    store = old / "store"
    folder, before, expected = store / "sweeps" / "old", results_of(store), read_json(old / "status.json")
    declared = (folder / "declared.json").read_bytes()
    answer = adadpo("launch", target, "--store", store)
    assert answer.code == 0, answer.err
    assert "old: 4 runs, 4 done, 0 to do" in answer.out
    assert results_of(store) == before
    assert (folder / "declared.json").read_bytes() == declared
    assert (folder / "plan.json").exists()
    assert not (folder / "origin.json").exists()
    assert not (folder / "seeds.json").exists()
    for name in ("old.yaml", "pairs.jsonl", "prompts.json"):
        (old / name).rename(old / f"moved-{name}")
    found = adadpo("status", "old", "--store", store, "--json").json
    assert {key: found[key] for key in expected} == expected
    assert adadpo("report", "old", "--store", store).code == 0
    assert adadpo("fsck", "--store", store).code == 0
    assert Store(store).sweeps() == ["old"]


def test_a_damaged_file_of_it(old: Path) -> None:
    """Named, with what to do; the list of added seeds is not guessed."""
    store = old / "store"
    seeds = store / "sweeps" / "old" / "seeds.json"
    seeds.write_text('{"a": 1}')
    answer = adadpo("status", "old", "--store", store)
    assert (answer.code, f"{seeds} is damaged" in answer.err) == (1, True)
    code, findings = (found := adadpo("fsck", "--store", store, "--json")).code, found.json["findings"]
    assert (code, [each["path"] for each in findings]) == (1, ["sweeps/old"])
    assert "seeds.json is damaged" in findings[0]["problem"]

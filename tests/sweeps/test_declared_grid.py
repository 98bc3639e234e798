"""The planned grid is part of what was declared: what was taken out of it, or put in, after launch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reports.files import load_results
from sweeps.state.opening import extend_seeds, record
from tests.sweeps.sweep_examples import SMALL, adadpo, opened, write_sweep

WIDE = SMALL.replace("[0.05, 0.1]", "[0.05, 0.1, 0.2]").replace(
    "  adadpo: {}\n", "  adadpo: {}\n  simpo: {method: simpo}\n"
)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[0.05, 0.1, 0.2]", "[0.05]", ["settings removed after launch: beta=0.1, beta=0.2 of 3"]),
        ("[0.05, 0.1, 0.2]", "[0.05, 0.1, 0.2, 0.4]", ["settings added after launch: beta=0.4 to 3"]),
        (
            "[0.05, 0.1, 0.2]",
            "[0.05, 0.1, 0.3]",
            ["settings removed after launch: beta=0.2 of 3", "settings added after launch: beta=0.3 to 3"],
        ),
        ("  simpo: {method: simpo}\n", "", ["arms removed after launch: simpo of 3"]),
        ("seeds: [0, 1]", "seeds: [1]", ["seeds removed after launch: 0 of 2"]),
        ("seeds: [0, 1]", "seeds: [0, 1, 2]", []),
        ("  simpo: {method: simpo}\n", "  simpo: {method: simpo}\n  ipo: {method: ipo}\n", []),
        ("[0.05, 0.1, 0.2]", "[0.2, 0.1, 0.05]", []),
    ],
)
def test_changes_of_the_grid(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    """A file changed after launch against the difference in words; order, added seeds and added arms are none."""
    record(opened(write_sweep(tmp_path / "then.yaml", WIDE), tmp_path / "store"))
    assert old in WIDE
    now = opened(write_sweep(tmp_path / "now.yaml", WIDE.replace(old, new)), tmp_path / "store")
    assert now.declaration_changes() == expected


def test_seeds_that_extend_added_are_no_change(tmp_path: Path) -> None:
    """`extend` after a launch against the rule that only removing seeds changes the declaration."""
    sweep = opened(write_sweep(tmp_path / "small.yaml", WIDE), tmp_path / "store")
    record(sweep)
    assert extend_seeds(sweep, "+2")[1] == [2, 3]
    again = opened(write_sweep(tmp_path / "small.yaml", WIDE), tmp_path / "store")
    assert again.seeds == [0, 1, 2, 3]
    assert again.declaration_changes() == []


def test_a_declaration_of_before_grids_were_recorded(tmp_path: Path) -> None:
    """An older declared.json, which has no grid: what it has is compared, the rest is not held against the file."""
    sweep = opened(write_sweep(tmp_path / "small.yaml", WIDE), tmp_path / "store")
    record(sweep)
    path = sweep.folder / "declared.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: content[key] for key in content if not key.startswith("grid")}))
    narrow = opened(write_sweep(tmp_path / "now.yaml", WIDE.replace(", 0.2]", "]")), tmp_path / "store")
    assert narrow.declaration_changes() == []


def test_a_setting_dropped_after_launch_makes_the_report_exploratory(store: Path, tmp_path: Path) -> None:
    """The setting that was left out, of a finished sweep, against the results, the verdict and the page."""
    file = write_sweep(tmp_path / "small.yaml", SMALL.replace("[0.05, 0.1]", "[0.1]"))
    assert adadpo("launch", file, "--store", store).code == 0
    folder = store / "sweeps" / "small"
    results = load_results(folder / "results.json")
    assert results.declaration_changed == ["settings removed after launch: beta=0.05 of 2"]
    assert "Exploratory: the declaration changed after launch" in results.verdict
    assert not results.comparisons[0].confirmatory
    assert "settings removed after launch: beta=0.05 of 2" in (folder / "report.html").read_text()

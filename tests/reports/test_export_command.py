"""`adadpo export`: report and exports in another folder, from results.json alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sweeps
from adadpo.errors import ResultsError, UserError
from analysis.document import Results
from reports.files import load_results, write_report
from sweeps.cli.main import app

SMOKE = Path(sweeps.__file__).with_name("configs") / "smoke.yaml"


def export(*words: object) -> str:
    done = CliRunner().invoke(app, ["export", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def store_with(results: Results, root: Path) -> Path:
    folder = root / "store" / "sweeps" / "smoke"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results.model_dump()), encoding="utf-8")
    return root / "store"


def test_export_writes_everything_from_the_results(results: Results, tmp_path: Path) -> None:
    """Checks the exported files against those that the report's own function writes, byte by byte."""
    store = store_with(results, tmp_path)
    said = export(SMOKE, "-o", tmp_path / "out", "--store", store)
    own = tmp_path / "own"
    wanted = {str(path.relative_to(own)): path.read_bytes() for path in write_report(results, own)}
    wanted["results.json"] = (store / "sweeps" / "smoke" / "results.json").read_bytes()
    found = {
        str(path.relative_to(tmp_path / "out")): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == wanted
    assert f"{len(wanted)} files" in said
    assert load_results(tmp_path / "out" / "results.json") == results


def test_a_results_file_needs_no_store(results: Results, tmp_path: Path) -> None:
    """Checks a results.json by its path, and that exporting onto itself keeps it."""
    source = store_with(results, tmp_path) / "sweeps" / "smoke" / "results.json"
    before = source.read_bytes()
    export(source, "-o", source.parent)
    assert source.read_bytes() == before
    assert (source.parent / "tables" / "report-tables.tex").exists()


def test_what_cannot_be_exported_is_said(results: Results, tmp_path: Path) -> None:
    """Checks the errors: no results yet, a file for a folder, a file that holds no results."""
    with pytest.raises(UserError, match="smoke has no results yet"):
        export(SMOKE, "-o", tmp_path / "out", "--store", tmp_path / "empty")
    store = store_with(results, tmp_path)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match="is a file"):
        export(SMOKE, "-o", tmp_path / "file", "--store", store)
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ResultsError, match="not a results file"):
        export(tmp_path / "other.json", "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()

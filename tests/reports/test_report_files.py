"""Reading results.json and writing the page and its tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adadpo.errors import FailureError, ReportError
from analysis.document import Results
from reports.files import load_results, write_report
from reports.page import render_html


def test_results_survive_the_file(results: Results, tmp_path: Path) -> None:
    """Checks results read from the file against those written."""
    path = tmp_path / "results.json"
    path.write_text(results.model_dump_json(), encoding="utf-8")
    assert load_results(path) == results


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "1:1: not JSON"),
        (b'{"sweep": \n nope}', "2:2: not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "not usable JSON"),
        (b"[]", "no schema_version"),
        (b"{}", "no schema_version"),
        (b'{"schema_version": 99}', "schema_version is 99, this version reads 2"),
        (b'{"schema_version": 2, "sweep": 3}', "sweep: Input should be a valid string"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    """Checks the error of each kind of bad file: it names the file and what is wrong."""
    path = tmp_path / "results.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ReportError, match=r"results\.json") as error:
        load_results(path)
    assert message in str(error.value)


def test_folder_is_not_a_file(tmp_path: Path) -> None:
    """Checks that reading a folder and writing onto one are errors of this package."""
    with pytest.raises(ReportError, match="cannot be read"):
        load_results(tmp_path)


def test_report_replaces_the_old_one_whole(results: Results, tmp_path: Path) -> None:
    """Checks that writing makes folders, replaces a file, and leaves nothing else behind."""
    folder = tmp_path / "deep"
    for _ in range(2):
        written = write_report(results, folder)
    assert written[0] == folder / "report.html"
    assert {path for path in folder.rglob("*") if path.is_file()} == set(written)
    assert written[0].read_text(encoding="utf-8").startswith("<!doctype html>")


def test_failed_write_leaves_the_old_report(results: Results, tmp_path: Path) -> None:
    """Checks that a report that cannot be put in place is an error and leaves no temporary file."""
    (tmp_path / "report.html").mkdir()
    with pytest.raises(FailureError, match="cannot write"):
        write_report(results, tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["figures", "report.html", "tables"]


def test_results_json_of_other_writers(results: Results, tmp_path: Path) -> None:
    """Checks that NaN, which Python's json writes, is read and shown as undefined."""
    content = json.loads(results.model_dump_json())
    next(each for each in content["blocks"] if each["kind"] == "cells")["value"][0]["mean"] = float("nan")
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert "not a finite number" in render_html(load_results(path))

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from adadpo.errors import AnnotationError
from analysis.alpaca_eval.annotations import preferences_of, read_annotations


def record(number: int = 0, preference: object = 2.0, **changes: object) -> dict[str, Any]:
    return {
        "instruction": f"Say {number}.",
        "output_1": "one",
        "generator_1": "baseline",
        "output_2": "two",
        "generator_2": "candidate",
        "annotator": "judge",
        "preference": preference,
        **changes,
    }


def test_files_and_records_read_the_same(tmp_path: Path) -> None:
    """.json, .json.gz and a DataFrame against the records they were written from."""
    data = [record(0, 1.25, dataset="extra keys are ignored"), record(1, 0), record(2, None)]
    (tmp_path / "a.json").write_text(json.dumps(data))
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps(data).encode()))
    expected = read_annotations(data)
    assert [a.preference for a in expected] == [1.25, 1.5, None]
    assert (expected[0].instruction, expected[0].output_2) == ("Say 0.", "two")
    assert read_annotations(tmp_path / "a.json") == expected
    assert read_annotations(str(tmp_path / "a.json.gz")) == expected
    assert read_annotations(pd.DataFrame(data)) == expected
    assert read_annotations(expected) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([record(0), {"instruction": "x"}], "annotation 1: missing output_1, generator_1"),
        ([record(0, 2.5)], r"annotation 0: preference must be in \[1, 2\] .*got 2.5"),
        ([record(0, 0.5)], r"preference must be in \[1, 2\]"),
        ([record(0, float("inf"))], r"preference must be in \[1, 2\]"),
        ([record(0, "2")], "preference must be a number"),
        ([record(0, True)], "preference must be a number"),
        ([record(0), record(1), record(0)], "annotation 2: same instruction as annotation 0: 'Say 0.'"),
        ([record(0), record(1, annotator="other")], "several annotators cannot be pooled: judge, other"),
        ([record(0), record(1, generator_2="b")], "several generator_2s cannot be pooled"),
        ([record(0, output_2=None)], "annotation 0: output_2 must be text, got None"),
        ([3], "annotation 0: expected a mapping, got int"),
        (record(0), "expected a sequence of annotations, got dict"),
    ],
)
def test_unusable_annotations_are_named(data: Any, message: str) -> None:
    """Malformed records against the error that should name the record and the value."""
    with pytest.raises(AnnotationError, match=message):
        read_annotations(data)


def test_files_that_hold_no_annotations(tmp_path: Path) -> None:
    """Files that are not a JSON list against the error that should name the file."""
    for name, content in {"a.json": b"{", "b.json": b"{}", "c.json.gz": b"[]", "d.json": b"\xff"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AnnotationError, match=name):
            read_annotations(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_annotations(tmp_path / "absent.json")


def test_preferences_alone() -> None:
    """Bare preferences against their meaning in AlpacaEval: 0 and 1.5 draw, None and NaN missing."""
    assert preferences_of([1, 2.0, 0, 1.5, None, float("nan")]) == [1.0, 2.0, 1.5, 1.5, None, None]


def test_real_files(alpaca_eval: Path) -> None:
    """alpaca_eval's own annotation files against their known length, 805 prompts."""
    for path in sorted((alpaca_eval / "raw").glob("*.json.gz")):
        assert len(read_annotations(path)) == 805

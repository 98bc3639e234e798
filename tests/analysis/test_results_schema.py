"""docs/results.md and docs/results.schema.json against the models, and results against the schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adadpo.errors import ReportError
from analysis.document import KINDS, SCHEMA_VERSION, Results
from analysis.results.values import Interval
from analysis.summary import analyse_runs
from reports.files import load_results
from tests.analysis.analysis_examples import DECLARED, LC, sweep
from tools.describe_results import page, schema_text

DOCS = Path(__file__).parents[2] / "docs"
HOW = "written by: python -m tools.describe_results docs"


def test_the_schema_is_current() -> None:
    """The committed JSON schema against pydantic's of now."""
    assert (DOCS / "results.schema.json").read_text(encoding="utf-8") == schema_text(), HOW


def test_the_page_is_current() -> None:
    """The committed page against the models of now."""
    assert (DOCS / "results.md").read_text(encoding="utf-8") == page(), HOW


def test_every_block_says_what_it_is() -> None:
    """Each kind is one word that a template can be named by, and has words for a reader."""
    for kind, block in KINDS.items():
        assert kind.isidentifier()
        assert block().what, kind
        assert block.__doc__, kind


def test_words_stand_beside_the_field() -> None:
    """The docstring under a field against its description in the schema."""
    fields = json.loads(schema_text())["properties"]
    assert fields["axes"]["description"] == "Grid axis -> its values."


def test_results_fit_the_schema() -> None:
    """The keys of real results against the schema's, and results read back from JSON against themselves."""
    plan = sweep([[1.0, 2.0], [0.5, 1.5]])
    made = analyse_runs(plan["runs"], declared=DECLARED, metrics=[LC])
    content = made.model_dump(mode="json")
    schema = json.loads(schema_text())
    assert set(content) == set(schema["properties"])
    assert set(schema["required"]) <= set(content)
    assert [each["kind"] for each in content["blocks"]][:3] == ["verdict", "cells", "comparisons"]
    assert Results.model_validate(json.loads(json.dumps(content, allow_nan=False))) == made


def test_a_changed_copy_leaves_the_others_as_they_are() -> None:
    """Values share the set of the fields that they were given: a copy with one more has a set of its own."""
    one, other = (
        Interval(estimate=each, low=0, high=2, confidence=0.9, achieved=None, method="m") for each in (1, 1.5)
    )
    assert one.model_fields_set is other.model_fields_set
    copy = one.model_copy(update={"reason": "why"})
    assert copy.model_fields_set == other.model_fields_set | {"reason"}
    assert "reason" not in other.model_fields_set


@pytest.mark.parametrize("version", [1, SCHEMA_VERSION + 1, "2", None])
def test_another_version_is_refused(tmp_path: Path, version: object) -> None:
    """A file of another version against the message: which it is, which is read, what to do."""
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"schema_version": version}))
    with pytest.raises(ReportError) as caught:
        load_results(path)
    for words in (
        str(path),
        f"schema_version is {version!r}",
        f"reads {SCHEMA_VERSION}",
        "adadpo report",
        "again",
    ):
        assert words in str(caught.value)

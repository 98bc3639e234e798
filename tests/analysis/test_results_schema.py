"""docs/results.md and docs/results.schema.json against the models: neither can be left behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from adadpo.errors import ReportError
from analysis.results.model import SCHEMA_VERSION, Results
from analysis.results.schema import described, models_of, results_page, results_schema
from analysis.results.values import Interval
from analysis.summary import analyse_runs
from reports.files import load_results
from tests.analysis.analysis_examples import DECLARED, LC, sweep

DOCS = Path(__file__).parents[2] / "docs"
HOW = "made anew by: python -m analysis.results.schema docs"


def test_the_schema_is_current() -> None:
    """The committed JSON schema against pydantic's of now."""
    assert (DOCS / "results.schema.json").read_text(encoding="utf-8") == results_schema(), HOW


def test_the_page_is_current_and_whole() -> None:
    """The committed page against the models of now: a table for each, a row with words for each field."""
    page = (DOCS / "results.md").read_text(encoding="utf-8")
    assert page == results_page(), HOW
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, flags=re.DOTALL | re.MULTILINE))
    assert list(sections) == [model.__name__ for model in models_of(Results)]
    for model in models_of(Results):
        rows = re.findall(r"^\| `(\w+)` \| `.+` \| (.*) \|$", sections[model.__name__], flags=re.MULTILINE)
        assert [name for name, _ in rows] == list(model.model_fields)
        assert [name for name, words in rows if not words.strip()] == [], model.__name__
        assert model.__doc__, model.__name__


def test_models_are_those_of_the_schema() -> None:
    """The walk through the models against the definitions that pydantic finds."""
    schema = json.loads(results_schema())
    models = {name for name, each in schema["$defs"].items() if "enum" not in each}
    assert {model.__name__ for model in models_of(Results)} == {"Results", *models}


def test_words_stand_beside_the_field() -> None:
    """Comments on one line, behind a wrapped field, and a name that means the same everywhere."""
    words = described(Results)
    assert words["axes"] == "grid axis -> its values"
    assert words["judgements"] == "the declared one first; empty in files older than judging again"
    assert words["seeds"] == "seeds, or their number"


def test_results_fit_the_schema() -> None:
    """The keys of real results against the schema's: all required ones, and no others."""
    plan = sweep([[1.0, 2.0], [0.5, 1.5]])
    content = analyse_runs(plan["runs"], declared=DECLARED, metrics=[LC]).model_dump(mode="json")
    schema = json.loads(results_schema())
    assert set(content) == set(schema["properties"])
    assert set(schema["required"]) <= set(content)
    assert (
        Results.model_validate(json.loads(json.dumps(content, allow_nan=False))).schema_version
        == SCHEMA_VERSION
    )


def test_a_changed_copy_leaves_the_others_as_they_are() -> None:
    """Values share the set of the fields that they were given: a copy with one more has a set of its own."""
    one, other = (
        Interval(estimate=each, low=0, high=2, confidence=0.9, achieved=None, method="m") for each in (1, 1.5)
    )
    assert one.model_fields_set is other.model_fields_set
    copy = one.model_copy(update={"reason": "why"})
    assert copy.model_fields_set == other.model_fields_set | {"reason"}
    assert "reason" not in other.model_fields_set


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, "1", None])
def test_another_version_is_refused(tmp_path: Path, version: object) -> None:
    """A file of another version against the message: which it is, which is read, what to do."""
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"schema_version": version}))
    with pytest.raises(ReportError) as caught:
        load_results(path)
    for words in (str(path), f"schema_version is {version!r}", f"reads {SCHEMA_VERSION}", "analyse again"):
        assert words in str(caught.value)

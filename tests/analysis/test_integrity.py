"""The gate against evaluations with one thing wrong each, and against AlpacaEval's own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.alpaca_eval.integrity_gate import (
    CALIBRATED,
    OFFICIAL,
    Expected,
    Integrity,
    Thresholds,
    baseline_differences,
    check_integrity,
)
from analysis.alpaca_eval.length_control import length_controlled_win_rate
from analysis.alpaca_eval.win_rates import win_rate


def rows(n: int = 100, **changes: object) -> list[dict[str, Any]]:
    """A fine evaluation of n prompts."""
    return [
        {
            "instruction": f"Say {i}.",
            "output_1": f"one {i}",
            "generator_1": "baseline",
            "output_2": f"two {i}",
            "generator_2": "policy",
            "annotator": "judge",
            "preference": 1 + (i * 7 % 11) / 10,
            **changes,
        }
        for i in range(n)
    ]


EXPECTED = Expected(
    instructions=[f"Say {i}." for i in range(100)],
    baseline="baseline",
    judge="judge",
    generator="policy",
    baseline_outputs={f"Say {i}.": f"one {i}" for i in range(100)},
    versions={"vllm": "0.9"},
)


def check(annotations: list[Any], **more: Any) -> Integrity:
    return check_integrity(annotations, expected=EXPECTED, versions={"vllm": "0.9"}, **more)


def changed(number: int, **values: object) -> list[dict[str, Any]]:
    annotations = rows()
    for row in annotations[:number]:
        row.update(values)
    return annotations


def test_a_fine_evaluation_has_no_flags() -> None:
    """Records exactly as expected, and the same without expectations: nothing to say."""
    for found in (check(rows(), lc=50.0, wr=40.0, lc_method="no_difficulty"), check_integrity(rows())):
        assert found == Integrity(n=100, flags=[])
        assert not found.quarantined


@pytest.mark.parametrize(
    ("annotations", "name", "message"),
    [
        ([], "no_annotations", "there is no annotation"),
        (rows(98), "missing_prompts", "2 of 100 prompts are missing, the first: 'Say 98.'"),
        (changed(2, preference=None), "missing_preferences", "2 of 100 prompts have no preference (2.0%)"),
        (changed(2, preference=float("nan")), "missing_preferences", "2 of 100 prompts have no preference"),
        (rows() + rows()[:1], "duplicated_prompts", "1 prompt judged more than once, the first: 'Say 0.'"),
        (rows(101), "unknown_prompts", "1 prompt not in the prompt set, the first: 'Say 100.'"),
        (rows(generator_1="gpt-3"), "wrong_baseline", "the baseline is 'gpt-3', expected 'baseline'"),
        (rows(annotator="mine"), "wrong_judge", "the judge is 'mine', expected 'judge'"),
        (rows(generator_2="v2"), "wrong_generator", "the generator is 'v2', expected 'policy'"),
        (changed(1, annotator="b"), "several_judges", "several judges in one file: 'b', 'judge'"),
        (changed(3, output_1="other"), "changed_baseline_outputs", "on 3 prompts, the first: 'Say 0.'"),
        (changed(6, output_2=" \n"), "empty_outputs", "6 of 100 outputs are empty (6.0%)"),
        (rows(output_2="As an AI"), "repeated_outputs", "100 of 100 outputs are given to more than one"),
        (changed(11, output_2="No."), "repeated_outputs", "one of them 11 times"),
        (
            changed(1, preference=2.5),
            "invalid_preferences",
            "1 record whose preference is not in [1, 2]: 2.5",
        ),
        (changed(1, preference="2"), "invalid_preferences", "not in [1, 2]: '2'"),
        (changed(1, output_2=None), "not_text", "1 record whose instruction or output is not text"),
        (["x", {"a": 1}, *rows()], "malformed_records", "2 records without instruction, output_1"),
    ],
)
def test_each_fault_is_quarantined(annotations: list[Any], name: str, message: str) -> None:
    """One fault each against the flag that tells it: it quarantines, and its sentence has the numbers."""
    found = check(annotations)
    assert found.quarantined
    by_name = {flag.name: flag for flag in found.flags}
    assert by_name[name].severity == "quarantine"
    assert message in by_name[name].message
    assert by_name[name].message in found.reasons


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        (rows(99), "missing_prompts"),  # the threshold is passed beyond 1%, not at it
        (changed(1, preference=None), "missing_preferences"),
        (changed(5, output_2=""), "empty_outputs"),
        (changed(10, output_2="No."), "repeated_outputs"),
        (rows(preference=1.5), "constant_preferences"),
    ],
)
def test_little_is_noted_only(annotations: list[Any], name: str) -> None:
    """The same faults within their thresholds: told, and the evaluation counts."""
    found = check(annotations)
    assert [(flag.name, flag.severity) for flag in found.flags] == [(name, "note")]
    assert not found.quarantined
    assert found.reasons == []


def test_missing_and_unjudged_add_up() -> None:
    """One absent prompt and one without a preference: together beyond 1%."""
    annotations = rows(99)
    annotations[0]["preference"] = None
    assert [(flag.name, flag.severity) for flag in check(annotations).flags] == [
        ("missing_prompts", "quarantine"),
        ("missing_preferences", "quarantine"),
    ]


def test_thresholds_are_arguments() -> None:
    """Stricter and looser thresholds against the same records."""
    assert check(rows(99), thresholds=Thresholds(missing_share=0)).quarantined
    assert not check(rows(90), thresholds=Thresholds(missing_share=0.1)).quarantined


@pytest.mark.parametrize(
    ("lc", "wr", "method", "fails"),
    [
        (41.9, 22.9, CALIBRATED, False),  # gpt4_1106_preview_concise, the leaderboard's widest
        (27.2, 46.2, CALIBRATED, False),  # internlm2-chat-20b-ExPO, the widest in the other direction
        (43.2, 9.4, "no_difficulty", False),  # gpt4_0613_concise by the formula without difficulty
        (43.2, 9.4, CALIBRATED, True),
        (60.0, 10.0, "no_difficulty", True),
        (None, 10.0, CALIBRATED, False),
        (60.0, None, CALIBRATED, False),
    ],
)
def test_extreme_gaps(lc: float | None, wr: float | None, method: str, fails: bool) -> None:
    """LC and WR of known models against the limits; an undefined LC is no gap."""
    found = check_integrity(rows(**OFFICIAL), lc=lc, wr=wr, lc_method=method)
    assert [flag.name for flag in found.flags] == (["extreme_lc_gap"] if fails else [])


def test_calibration_of_others() -> None:
    """AlpacaEval's calibration with another judge and baseline: told, and the evaluation counts."""
    found = check_integrity(rows(), lc=50.0, wr=40.0, lc_method=CALIBRATED)
    assert [(flag.name, flag.severity) for flag in found.flags] == [
        ("other_baseline_than_calibrated", "note"),
        ("other_judge_than_calibrated", "note"),
    ]


def test_versions() -> None:
    """Another version, and one that was not recorded, against the expected one."""
    for versions, message in (({"vllm": "0.8"}, "is '0.8', expected '0.9'"), ({}, "is not recorded")):
        found = check_integrity(rows(), expected=EXPECTED, versions=versions)
        assert [flag.name for flag in found.flags] == ["changed_version"]
        assert message in found.flags[0].message


def test_it_survives_a_scores_file() -> None:
    """What the gate found, written as JSON and read again; the worst stand first."""
    annotations = rows(99)
    annotations[3]["preference"] = "?"
    found = check(annotations)
    assert [flag.severity for flag in found.flags] == ["quarantine", "note"]
    assert Integrity.model_validate_json(json.dumps(found.model_dump(), allow_nan=False)) == found


def test_baseline_differences() -> None:
    """Prompts of both whose text differs; those of one side are no difference."""
    assert baseline_differences({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "x", "d": "4"}) == ["b"]


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(json_values | st.fixed_dictionaries(dict.fromkeys(rows(1)[0], json_values)), max_size=5))
def test_it_never_raises(annotations: list[Any]) -> None:
    """Whatever a JSON file can hold: an answer, never an error."""
    found = check(annotations)
    assert found.n == len(annotations)
    assert found.quarantined


def test_real_files(alpaca_eval: Path) -> None:
    """AlpacaEval's own files: the three models pass without a flag, the constant output does not."""
    for path in sorted((alpaca_eval / "raw").glob("*.json.gz")):
        annotations = json.loads(gzip.decompress(path.read_bytes()))
        instructions = [row["instruction"] for row in annotations]
        expected = Expected(instructions, "gpt4_1106_preview", "weighted_alpaca_eval_gpt4_turbo")
        found = check_integrity(
            annotations,
            expected=expected,
            lc=length_controlled_win_rate(annotations).length_controlled_win_rate,
            wr=win_rate(annotations).win_rate,
        )
        flags = [flag.name for flag in found.flags]
        assert flags == (["repeated_outputs"] if path.name.startswith("NullModel") else [])
        without_three = check_integrity(annotations[3:], expected=expected)
        assert [flag.name for flag in without_three.flags if flag.name != "repeated_outputs"] == [
            "missing_prompts"
        ]
        assert without_three.quarantined == path.name.startswith("NullModel")

"""The rubric judge is checked against the contract of judges and against preferences worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adadpo.errors import JudgeError
from analysis.judges import Judge
from analysis.judges.config import judge_config
from analysis.judges.factory import make_judge
from analysis.judges.rubric import ANNOTATOR, rubric
from tests.judges.contract import BAD, GOOD, PROMPTS, JudgeContract

TEXTS = st.lists(st.text(max_size=60) | st.sampled_from(GOOD + BAD), min_size=2, max_size=2)


class TestRubricContract(JudgeContract):
    @pytest.fixture
    def judge(self, tmp_path: Path) -> Judge:
        return make_judge(judge_config("rubric"), cache=tmp_path)


class TestRubric:
    @pytest.mark.parametrize(
        ("first", "second", "preference"),
        [  # scores of 0, 1/2, 1 on PROMPTS[0]: at most 5 words, no commas, about an apple or a pear
            ("An apple.", "A pear.", 1.5),
            ("An apple, a pear.", "A pear.", 1.75),
            ("A pear.", "An apple, a pear.", 1.25),
            ("So, my answer to this is a pear.", "A pear.", 2.0),
            ("A pear.", "", 1.0),
            ("A pear.", "Yes.", 1.0),  # meets both constraints, but is about nothing
        ],
    )
    def test_preference(self, first: str, second: str, preference: float) -> None:
        (row,) = rubric(PROMPTS[:1], [first], [second], baseline_name="b", candidate_name="c")
        assert row["preference"] == preference
        assert row["annotator"] == ANNOTATOR == "rubric-v1"
        assert row["price_per_example"] == row["time_per_example"] == 0
        assert row["raw_completion"] is None

    @given(TEXTS, TEXTS)
    def test_swapping_the_sides_mirrors_the_preference(self, first: list[str], second: list[str]) -> None:
        there = rubric(PROMPTS, first, second, baseline_name="b", candidate_name="c")
        back = rubric(PROMPTS, second, first, baseline_name="b", candidate_name="c")
        for one, other in zip(there, back, strict=True):
            assert 1 <= one["preference"] <= 2
            assert one["preference"] + other["preference"] == 3

    def test_prompts_without_constraints_are_named(self) -> None:
        with pytest.raises(JudgeError, match="prompt 0 has no constraints"):
            rubric([{"instruction": "Hi"}], ["a"], ["b"], baseline_name="b", candidate_name="c")

    def test_importing_judges_imports_nothing_heavy(self) -> None:
        modules = "analysis.judges.factory, analysis.judges.rubric, analysis.judges.costs"
        code = (
            f"import sys, {modules}; print({{'torch', 'numpy', 'alpaca_eval', 'openai'}} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "set()"

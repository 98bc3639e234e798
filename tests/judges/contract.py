"""What every judge must satisfy: subclass `JudgeContract`, give the judge, and pytest checks the rest."""

from __future__ import annotations

import json

import pytest

from adadpo.errors import JudgeError
from analysis.alpaca_eval.annotations import KEYS, read_annotations
from analysis.judges import Judge

PROMPTS = [
    {
        "instruction": "Name a fruit. Use at most 5 words. Use no commas.",
        "dataset": "contract",
        "constraints": [{"kind": "max_words", "value": 5}, {"kind": "no_commas"}],
        "keywords": ["apple", "pear"],
    },
    {
        "instruction": "Describe tea. Use at most 4 words. Use no commas.",
        "dataset": "contract",
        "constraints": [{"kind": "max_words", "value": 4}, {"kind": "no_commas"}],
        "keywords": ["tea"],
    },
]
GOOD = ["An apple.", "Tea is hot."]
BAD = ["Well, there are many, for example the apple.", "I, for one, would like to say that tea is a drink."]


class JudgeContract:
    """Subclass it as `Test...` and give `judge`; GOOD answers must beat BAD ones."""

    @pytest.fixture
    def judge(self) -> Judge:
        raise NotImplementedError

    def annotate(self, judge: Judge, baseline: list[str], candidate: list[str]) -> list[dict[str, object]]:
        return judge(PROMPTS, baseline, candidate, baseline_name="base", candidate_name="cand").annotations

    def test_annotations_are_alpaca_eval_s(self, judge: Judge) -> None:
        found = self.annotate(judge, BAD, GOOD)
        assert [row["instruction"] for row in found] == [prompt["instruction"] for prompt in PROMPTS]
        assert [row["output_1"] for row in found] == BAD
        assert [row["output_2"] for row in found] == GOOD
        assert {(row["generator_1"], row["generator_2"], row["dataset"]) for row in found} == {
            ("base", "cand", "contract")
        }
        extra = {"dataset", "price_per_example", "time_per_example", "raw_completion"}
        assert all(set(row) == set(KEYS) | extra for row in found)

    def test_the_project_s_reader_accepts_them_after_json(self, judge: Judge) -> None:
        assert len(read_annotations(json.loads(json.dumps(self.annotate(judge, BAD, GOOD))))) == len(PROMPTS)

    def test_preferences_point_to_the_better_answer(self, judge: Judge) -> None:
        for row in self.annotate(judge, BAD, GOOD):
            assert 1.5 < row["preference"] <= 2  # type: ignore[operator]
        for row in self.annotate(judge, GOOD, BAD):
            assert 1 <= row["preference"] < 1.5  # type: ignore[operator]

    def test_the_annotator_has_a_name(self, judge: Judge) -> None:
        (annotator,) = {str(row["annotator"]) for row in self.annotate(judge, BAD, GOOD)}
        assert annotator

    def test_judging_again_gives_the_same_annotations(self, judge: Judge) -> None:
        assert self.annotate(judge, BAD, GOOD) == self.annotate(judge, BAD, GOOD)

    def test_the_summary_counts_and_is_json(self, judge: Judge) -> None:
        found = judge(PROMPTS, BAD, GOOD, baseline_name="base", candidate_name="cand").summary
        assert (found["pairs"], found["missing"]) == (2, 0)
        assert json.loads(json.dumps(found, allow_nan=False)) == found

    def test_progress_is_told_and_ends(self, judge: Judge) -> None:
        told: list[tuple[int, int]] = []
        judge(
            PROMPTS,
            BAD,
            GOOD,
            baseline_name="base",
            candidate_name="cand",
            on_progress=lambda done, total: told.append((done, total)),
        )
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert told[-1][0] == told[-1][1] >= 2

    def test_a_missing_answer_is_an_error_not_a_loss(self, judge: Judge) -> None:
        with pytest.raises(JudgeError, match=r"2 prompts but 1 candidate"):
            self.annotate(judge, GOOD, GOOD[:1])
        with pytest.raises(JudgeError, match=r"answer 1 must be text"):
            self.annotate(judge, GOOD, [GOOD[0], None])  # type: ignore[list-item]

    def test_no_prompts_no_annotations(self, judge: Judge) -> None:
        assert judge([], [], [], baseline_name="base", candidate_name="cand").annotations == []

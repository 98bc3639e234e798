"""The shipped data are checked against the script that makes them, the verifier and their README."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from analysis.judges.rubric import rubric
from analysis.judges.verifier import in_words, is_degenerate, score, validate
from sweeps.data import (
    BUILTIN_INSTRUCTIONS,
    Split,
    builtin_instructions_path,
    load_evaluation,
    load_preferences,
)
from tools.make_instructions import (
    COMBINATIONS,
    SYSTEM,
    Instruction,
    instructions,
    make_pairs,
    pass_rates,
)

SPLITS: list[Split] = ["train", "heldout", "evaluation"]
PAIRS: list[Literal["train", "heldout"]] = ["train", "heldout"]
FOLDER = builtin_instructions_path("train").parent


def asked(split: Split) -> list[str]:
    """The instructions that the shipped file of a split really has."""
    if split == "evaluation":
        return [row["instruction"] for row in load_evaluation()]
    return [row["prompt"][-1]["content"] for row in load_preferences(split)]


@pytest.fixture(scope="module")
def by_text() -> dict[str, tuple[Split, Instruction]]:
    return {one.text: (split, one) for split, some in instructions().items() for one in some}


class TestSplits:
    def test_there_is_enough(self) -> None:
        assert len(load_preferences("train")) >= 96
        assert len(load_preferences("heldout")) >= 32
        assert len(load_evaluation()) == 64

    def test_files_hold_what_the_script_would_ask(
        self, by_text: dict[str, tuple[Split, Instruction]]
    ) -> None:
        for split in SPLITS:
            assert all(by_text[text][0] == split for text in asked(split))

    def test_no_instruction_is_in_two_splits_or_twice_in_one(self) -> None:
        everything = [text for split in SPLITS for text in asked(split)]
        assert len(set(everything)) == len(everything)

    def test_no_topic_is_in_two_splits(self, by_text: dict[str, tuple[Split, Instruction]]) -> None:
        topics = [{by_text[text][1].topic for text in asked(split)} for split in SPLITS]
        assert sum(map(len, topics)) == len(set.union(*topics)) >= 130

    def test_topics_are_told_apart_by_their_words_too(self) -> None:
        lines = [line for line in (FOLDER / "topics.txt").read_text("utf-8").splitlines() if line[0] != "#"]
        names = [line.split("|")[1].strip() for line in lines]
        assert len(set(names)) == len(names)

    def test_every_combination_is_in_every_split(self, by_text: dict[str, tuple[Split, Instruction]]) -> None:
        for split in SPLITS:
            found = [by_text[text][1].constraints for text in asked(split)]
            assert all(combination in found for combination in COMBINATIONS)


class TestInstructions:
    def test_constraints_are_valid_and_stated_in_words(self) -> None:
        for some in instructions().values():
            for one in some:
                assert len(one.constraints) == 2
                for constraint in one.constraints:
                    validate(constraint)
                    assert in_words(constraint) in one.text
                assert one.topic in one.text

    def test_they_are_the_same_every_time(self) -> None:
        assert instructions() == instructions()


class TestPreferences:
    @pytest.mark.parametrize("split", PAIRS)
    def test_rows_are_trl_s_conversational_format(self, split: Literal["train", "heldout"]) -> None:
        for row in load_preferences(split):
            assert set(row) == {"prompt", "chosen", "rejected"}
            assert [message["role"] for message in row["prompt"]] == ["system", "user"]
            assert row["prompt"][0] == SYSTEM
            for side in ("chosen", "rejected"):
                (message,) = row[side]
                assert set(message) == {"role", "content"}
                assert message["role"] == "assistant"
                assert message["content"] == message["content"].strip() != ""
                assert "<|" not in message["content"]

    @pytest.mark.parametrize("split", PAIRS)
    def test_chosen_scores_higher(
        self, split: Literal["train", "heldout"], by_text: dict[str, tuple[Split, Instruction]]
    ) -> None:
        for row in load_preferences(split):
            one = by_text[row["prompt"][-1]["content"]][1]
            chosen, rejected = (row[side][0]["content"] for side in ("chosen", "rejected"))
            assert score(chosen, one.constraints, one.keywords) > score(
                rejected, one.constraints, one.keywords
            )
            assert not is_degenerate(rejected)


class TestEvaluation:
    def test_rows_are_what_judges_take(self) -> None:
        rows = load_evaluation()
        for row in rows:
            assert set(row) == {"instruction", "prompt", "dataset", "constraints", "keywords"}
            assert row["prompt"] == [SYSTEM, {"role": "user", "content": row["instruction"]}]
            assert row["dataset"] == BUILTIN_INSTRUCTIONS
        answers = ["Yes."] * len(rows)
        judged = rubric(rows, answers, answers, baseline_name="b", candidate_name="c")
        assert {row["preference"] for row in judged} == {1.5}


class TestMaking:
    WANTED = Instruction(
        "tea", "Describe tea.", ({"kind": "max_words", "value": 3}, {"kind": "no_commas"}), ("tea",)
    )

    @staticmethod
    def answer(text: str, *, tokens: int = 9, complete: bool = True) -> dict[str, Any]:
        return {"text": text, "tokens": tokens, "complete": complete, "prompt_tokens": 20}

    def test_best_and_worst_complete_answers_make_the_pair(self) -> None:
        answers = [
            self.answer("Tea is warm and good."),  # 1/2
            self.answer("Tea is hot.", complete=False),  # would be the best
            self.answer("Hot tea."),  # 1
            self.answer("Well, tea is hot."),  # 0
            self.answer("tea tea tea tea tea,"),  # a loop
        ]
        (pair,) = make_pairs([self.WANTED], [answers])
        assert (pair["chosen"]["text"], pair["rejected"]["text"]) == ("Hot tea.", "Well, tea is hot.")
        assert (pair["chosen"]["score"], pair["rejected"]["score"]) == (1.0, 0.0)

    def test_no_difference_no_pair(self) -> None:
        assert make_pairs([self.WANTED] * 2, [[self.answer("Hot tea.")] * 3, []]) == []

    def test_pass_rates_count_every_answer_asked(self) -> None:
        answers = [self.answer("Hot tea."), self.answer("Tea, tea, tea", complete=False)]
        assert pass_rates([self.WANTED], [answers]) == {
            "Use at most 3 words.": (2, 1.0),
            "Use no commas.": (2, 0.5),
        }


class TestReadme:
    def test_hashes_are_those_of_the_files(self) -> None:
        text = (FOLDER / "README.md").read_text("utf-8")
        for split in SPLITS:
            path = builtin_instructions_path(split)
            found = re.search(rf"^\| `{path.name}` \| (\d+) \|.*\| ([0-9a-f]{{64}}) \|$", text, re.MULTILINE)
            assert found, path.name
            assert int(found[1]) == len(asked(split))
            assert found[2] == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_says_the_licence(self) -> None:
        assert "Apache-2.0" in (FOLDER / "README.md").read_text("utf-8")

    def test_pass_rates_leave_room_both_ways(self) -> None:
        text = (FOLDER / "README.md").read_text("utf-8")
        rates = [int(rate) for rate in re.findall(r"^\| .+\. \| \d+ \| (\d+)% \|$", text, re.MULTILINE)]
        assert len(rates) == 5
        # field notes: pairs need constraints that are met between about 15% and 85% of the time
        assert all(15 <= rate <= 87 for rate in rates)


class TestLoading:
    def test_unknown_splits_are_named(self) -> None:
        with pytest.raises(ValueError, match=r"no split 'test'; choose from train, heldout, evaluation"):
            builtin_instructions_path("test")  # type: ignore[arg-type]

    def test_files_are_plain_json(self) -> None:
        for line in builtin_instructions_path("train").read_text("utf-8").splitlines():
            json.loads(line)

    def test_importing_it_imports_no_torch(self) -> None:
        code = "import sys, sweeps.data as d; d.load_evaluation(); sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_no_machine_s_path_is_in_any_file(self) -> None:
        for path in FOLDER.glob("*.[jmt]*"):
            assert str(Path.home()) not in path.read_text("utf-8")

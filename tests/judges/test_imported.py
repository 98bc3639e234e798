"""Imported annotations: only of exactly these answers, aligned by instruction."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from adadpo.errors import JudgeError
from analysis.judges import Judge
from analysis.judges.config import Import
from analysis.judges.factory import judge_identity, make_judge
from tests.judges.contract import BAD, GOOD, PROMPTS, JudgeContract


def written(folder: Path, name: str, first: list[str], second: list[str], preferences: list[Any]) -> Path:
    """A file as alpaca_eval leaves it; rows in another order than the prompts."""
    rows = [
        {
            "instruction": prompt["instruction"],
            "output_1": one,
            "generator_1": "gpt4_1106_preview",
            "dataset": "theirs",
            "output_2": two,
            "generator_2": "my-model",
            "annotator": "weighted_alpaca_eval_gpt4_turbo",
            "preference": preference,
            "price_per_example": 0.005,
            "time_per_example": 0.1,
            "raw_completion": {"text": "m"},
        }
        for prompt, one, two, preference in zip(PROMPTS, first, second, preferences, strict=False)
    ][::-1]
    file = folder / name
    text = json.dumps(rows)
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return file


def import_of(path: Path) -> Judge:
    return make_judge(Import(kind="import", path=str(path)), cache=path)


class TestImportContract(JudgeContract):
    @pytest.fixture
    def judge(self, tmp_path: Path) -> Judge:
        """A folder with a file for each direction: the one that holds the answers is taken."""
        written(tmp_path, "one.json", BAD, GOOD, [1.9, 1.8])
        written(tmp_path, "other.json.gz", GOOD, BAD, [1.1, 1.2])
        return import_of(tmp_path)


class TestImport:
    def test_what_the_file_says_is_kept(self, tmp_path: Path) -> None:
        file = written(tmp_path, "a.json", BAD, GOOD, [0, None])
        found = import_of(file)(PROMPTS, BAD, GOOD, baseline_name="b", candidate_name="c")
        first, second = found.annotations
        assert (first["preference"], second["preference"]) == (1.5, None)  # 0 is a draw in older files
        assert first["annotator"] == "weighted_alpaca_eval_gpt4_turbo"
        assert (first["price_per_example"], first["raw_completion"]) == (0.005, {"text": "m"})
        assert found.summary == {"judge": "import", "pairs": 2, "missing": 1, "file": "a.json", "absent": 0}

    def test_prompts_that_the_file_lacks_are_missing(self, tmp_path: Path) -> None:
        file = written(tmp_path, "a.json", BAD[:1], GOOD[:1], [2.0])
        found = import_of(file)(PROMPTS, BAD, GOOD, baseline_name="b", candidate_name="c")
        assert [row["preference"] for row in found.annotations] == [2.0, None]
        assert (found.summary["missing"], found.summary["absent"]) == (1, 1)

    def test_other_answers_are_refused_with_their_number(self, tmp_path: Path) -> None:
        file = written(tmp_path, "a.json", BAD, GOOD, [2.0, 2.0])
        with pytest.raises(
            JudgeError, match=r"of the 2 annotated pairs 1 have another candidate's answer, 0"
        ):
            import_of(file)(PROMPTS, BAD, [GOOD[0], "Else."], baseline_name="b", candidate_name="c")
        with pytest.raises(JudgeError, match=r"0 have another candidate's answer, 2 another baseline's"):
            import_of(file)(PROMPTS, ["x", "y"], GOOD, baseline_name="b", candidate_name="c")

    def test_no_instruction_in_common(self, tmp_path: Path) -> None:
        file = written(tmp_path, "a.json", BAD, GOOD, [2.0, 2.0])
        with pytest.raises(JudgeError, match="none of the 1 instructions"):
            import_of(file)([{"instruction": "Else?"}], ["a"], ["b"], baseline_name="b", candidate_name="c")

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"{", "not AlpacaEval's annotations"),
            (b"[{}]", "missing instruction"),
            (b"\x1f", "not AlpacaEval"),
        ],
    )
    def test_files_that_are_none(self, content: bytes, says: str, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(JudgeError, match=says):
            import_of(tmp_path / "a.json")(PROMPTS, BAD, GOOD, baseline_name="b", candidate_name="c")

    def test_files_that_are_not_there(self, tmp_path: Path) -> None:
        for path, says in ((tmp_path / "no.json", "there is no file"), (tmp_path, "no annotations")):
            with pytest.raises(JudgeError, match=says):
                import_of(path)(PROMPTS, BAD, GOOD, baseline_name="b", candidate_name="c")

    def test_the_identity_is_the_content(self, tmp_path: Path) -> None:
        def identity(path: Path) -> dict[str, Any]:
            return judge_identity(Import(kind="import", path=str(path)))

        one = written(tmp_path, "a.json", BAD, GOOD, [2.0, 2.0])
        same = written(tmp_path, "b.json", BAD, GOOD, [2.0, 2.0])
        other = written(tmp_path, "c.json", BAD, GOOD, [2.0, 1.0])
        assert identity(one) == identity(same) != identity(other)
        assert str(tmp_path) not in json.dumps(identity(one))

"""The reward_model judge: preferences by Bradley-Terry, scores against transformers' own forward pass.

The model is a tiny random Llama whose output layer is solved so that good answers of the contract score higher.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaForSequenceClassification,
)

from adadpo.errors import ModelError
from adadpo.models.built_in import build_tiny
from adadpo.models.load import resolve_model
from adadpo.models.reward_model import RewardScorer, load_reward_model
from analysis.judges import Judge
from analysis.judges.config import RewardModel
from analysis.judges.factory import judge_identity, make_judge
from analysis.judges.rewards import bradley_terry, reward_model_judge
from tests.judges.contract import BAD, GOOD, PROMPTS, JudgeContract

MESSAGES = [[{"role": "user", "content": prompt["instruction"]}] for prompt in PROMPTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reward")
    (root / "base").mkdir()
    build_tiny(root / "base")
    model = LlamaForSequenceClassification.from_pretrained(root / "base", num_labels=1)
    tokenizer = AutoTokenizer.from_pretrained(root / "base")
    with torch.inference_mode():
        states = []
        for messages, answer in zip([*MESSAGES, *MESSAGES], [*GOOD, *BAD], strict=True):
            text = tokenizer.apply_chat_template(
                [*messages, {"role": "assistant", "content": answer}], tokenize=False
            )
            ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
            states.append(model.model(ids).last_hidden_state[0, -1])
        wanted = torch.tensor([1.0, 2.0, -1.0, 0.0])
        model.score.weight.copy_(torch.linalg.lstsq(torch.stack(states), wanted).solution[None])
    model.save_pretrained(root / "reward")
    tokenizer.save_pretrained(root / "reward")
    return root / "reward"


def loaded(folder: Path, **how: Any) -> RewardScorer:
    return load_reward_model(resolve_model(str(folder)), **how)


@pytest.fixture(scope="module")
def scorer(folder: Path) -> RewardScorer:
    return loaded(folder)


class TestRewardModelContract(JudgeContract):
    @pytest.fixture
    def judge(self, folder: Path, tmp_path: Path) -> Judge:
        config = RewardModel(kind="reward_model", model=str(folder))
        return make_judge(config, cache=tmp_path, load_reward_model=lambda given: loaded(Path(given.model)))


class TestPreferences:
    def test_bradley_terry_of_the_rewards(self, scorer: RewardScorer) -> None:
        found = reward_model_judge(lambda: scorer)(PROMPTS, BAD, GOOD, baseline_name="b", candidate_name="c")
        # The output layer was solved for rewards of 1 and 2 (good) and -1 and 0 (bad).
        for row, (bad, good) in zip(found.annotations, [(-1.0, 1.0), (0.0, 2.0)], strict=True):
            assert row["raw_completion"]["reward_1"] == pytest.approx(bad, abs=1e-4)
            assert row["raw_completion"]["reward_2"] == pytest.approx(good, abs=1e-4)
            assert row["preference"] == pytest.approx(1 + 1 / (1 + math.exp(-2.0)), abs=1e-4)

    def test_the_baseline_is_scored_once_for_all_runs(self, scorer: RewardScorer) -> None:
        calls: list[list[str]] = []

        class Counting:
            name = "counting"

            def __call__(self, prompts: Any, answers: Any, on_progress: Any) -> Any:
                calls.append(list(answers))
                return scorer(prompts, answers, on_progress)

        judge = reward_model_judge(Counting)
        one = judge(PROMPTS, BAD, GOOD, baseline_name="b", candidate_name="c")
        again = judge(PROMPTS, BAD, GOOD, baseline_name="b", candidate_name="c")
        assert calls == [BAD, GOOD, GOOD]
        assert one.annotations == again.annotations
        judge(PROMPTS, GOOD, GOOD, baseline_name="b", candidate_name="c")
        assert calls[3:] == [GOOD, GOOD]

    def test_a_reward_that_is_no_number_is_missing(self) -> None:
        class Broken:
            name = "broken"

            def __call__(self, prompts: Any, answers: Any, on_progress: Any) -> Any:
                return [math.nan, 1.0], [False, False]

        found = reward_model_judge(Broken)(PROMPTS, BAD, GOOD, baseline_name="b", candidate_name="c")
        assert [row["preference"] for row in found.annotations] == [None, 1.5]

    def test_no_overflow(self) -> None:
        assert (bradley_terry(1e4), bradley_terry(-1e4), bradley_terry(0)) == (1.0, 0.0, 0.5)


class TestScoring:
    def test_equals_transformers_one_text_at_a_time(self, folder: Path, scorer: RewardScorer) -> None:
        """Batches of different lengths, padded, in the callers' order."""
        answers = [
            "Yes.",
            "Tea is hot and it is good to drink in the morning.",
            "A pear",
            "",
            "I think so " * 9,
        ]
        prompts = [MESSAGES[i % 2] for i in range(5)]
        rewards, truncated = loaded(folder, batch_size=3)(prompts, answers)
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for prompt, answer, reward in zip(prompts, answers, rewards, strict=True):
            text = tokenizer.apply_chat_template(
                [*prompt, {"role": "assistant", "content": answer}], tokenize=False
            )
            ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
            with torch.inference_mode():
                assert reward == pytest.approx(model(**ids).logits.item(), abs=1e-5)
        assert truncated == [False] * 5
        assert scorer(prompts, answers)[0] == scorer(prompts, answers)[0]

    def test_a_model_without_pad_token_is_scored_row_by_row(self, folder: Path, scorer: RewardScorer) -> None:
        other = loaded(folder)
        other.model.config.pad_token_id = None
        assert other(MESSAGES, GOOD)[0] == pytest.approx(scorer(MESSAGES, GOOD)[0], abs=1e-5)

    def test_without_a_chat_template_prompt_and_answer_are_a_pair(self, folder: Path) -> None:
        plain = loaded(folder)
        plain.tokenizer.chat_template = None
        rewards, _ = plain(MESSAGES, GOOD)
        ids = plain.tokenizer(PROMPTS[0]["instruction"], GOOD[0], return_tensors="pt")
        with torch.inference_mode():
            assert rewards[0] == pytest.approx(plain.model(**ids).logits.item(), abs=1e-5)

    def test_long_texts_are_cut_at_their_beginning_and_counted(self, folder: Path) -> None:
        short = loaded(folder, max_length=24)
        assert short.max_length == 24
        prompts = [[{"role": "user", "content": "Tell me about tea. " * 20}], MESSAGES[1][:0]]
        prompts[1] = [{"role": "user", "content": "Tea?"}]
        (cut, whole), truncated = short(prompts, ["It is hot.", "Hot."])
        assert truncated == [True, False]
        other = [[{"role": "user", "content": "Speak about tea. " * 20}], prompts[1]]
        assert short(other, ["It is hot.", "Hot."])[0] == pytest.approx([cut, whole])
        found = reward_model_judge(lambda: short)(
            PROMPTS, BAD, ["An apple. " * 20, GOOD[1]], baseline_name="b", candidate_name="c"
        )
        assert found.summary["truncated_pairs"] == 2


class TestRefusals:
    def test_a_language_model_is_no_reward_model(self, folder: Path) -> None:
        with pytest.raises(ModelError, match=r"gives 2 outputs for a text, a reward model gives one"):
            loaded(folder.parent / "base")

    def test_nor_one_whose_output_layer_was_never_trained(self, folder: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(folder.parent / "base", tmp_path / "copy"))
        config = json.loads((copy / "config.json").read_text())
        config |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
        (copy / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match=r"its weights lack score\.weight"):
            loaded(copy)

    def test_the_hub_out_of_reach_is_said_in_plain_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*_: Any, **__: Any) -> None:
            raise OSError("We couldn't connect to the hub")

        monkeypatch.setattr(AutoConfig, "from_pretrained", refused)
        with pytest.raises(ModelError, match=r"model 'no-org/no-model' at revision 'v1' could not be loaded"):
            load_reward_model(resolve_model("no-org/no-model@v1"))

    def test_the_identity_is_the_content_of_the_folder(self, folder: Path) -> None:
        config = RewardModel(kind="reward_model", model=str(folder))
        found = judge_identity(config, lambda name: resolve_model(name).identity)
        assert found["model"].startswith("folder:sha256:")
        assert str(folder) not in str(found)

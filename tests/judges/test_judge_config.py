"""Configurations of judges: what is accepted, what is refused in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adadpo.errors import JudgeError
from analysis.judges.config import KINDS, AlpacaEval, judge_config
from analysis.judges.factory import judge_identity, make_judge

LOCAL = {"kind": "alpaca_eval", "base_url": "http://localhost:8000/v1"}


class TestConfig:
    @pytest.mark.parametrize(
        "given",
        [
            "rubric",
            {"kind": "rubric"},
            LOCAL,
            {"kind": "alpaca_eval", "max_cost": 12.5, "both_orders": True, "repeats": 3},
            {"kind": "reward_model", "model": "org/name@v1", "max_length": 512},
            {"kind": "import", "path": "results/annotations.json.gz"},
        ],
    )
    def test_accepted_and_the_same_after_json(self, given: Any) -> None:
        config = judge_config(given)
        assert judge_config(config.model_dump(mode="json")) == judge_config(config) == config
        assert config.kind in KINDS

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ("gpt", "'rubric', 'alpaca_eval', 'reward_model', 'import'"),
            ({"kind": "rubric", "model": "x"}, "Extra inputs"),
            ({"kind": "alpaca_eval"}, r"max_cost \(dollars\) is needed"),
            ({"kind": "alpaca_eval", "max_cost": -1}, "greater than or equal to 0"),
            (LOCAL | {"repeats": 0}, "greater than or equal to 1"),
            (LOCAL | {"base_url": "localhost:8000"}, "must look like http"),
            (LOCAL | {"api_key": "sk"}, "Extra inputs"),
            ({"kind": "reward_model"}, "Field required"),
        ],
    )
    def test_refused(self, given: Any, says: str) -> None:
        with pytest.raises(ValidationError, match=says):
            judge_config(given)

    @pytest.mark.parametrize(
        "url", ["http://user:hidden@host/v1", "https://hidden@host/v1", "http://host/v1?key=hidden"]
    )
    def test_a_secret_in_the_address_is_refused(self, url: str) -> None:
        with pytest.raises(ValidationError, match="keys come from the environment") as error:
            judge_config(LOCAL | {"base_url": url})
        assert "hidden" not in str(error.value.errors(include_input=False)[0]["msg"])

    def test_defaults(self) -> None:
        config = judge_config(LOCAL)
        assert isinstance(config, AlpacaEval)
        assert config.config == "weighted_alpaca_eval_gpt4_turbo"
        assert (config.both_orders, config.repeats, config.concurrency) == (False, 1, 8)


class TestFactory:
    def test_a_reward_model_needs_its_loader(self, tmp_path: Path) -> None:
        config = judge_config({"kind": "reward_model", "model": "org/name"})
        with pytest.raises(JudgeError, match=r"pip install 'adadpo\[train\]'"):
            make_judge(config, cache=tmp_path)

    def test_identities_are_pinned(self) -> None:
        assert judge_identity(judge_config("rubric")) == {"kind": "rubric", "version": "rubric-v1"}
        reward = judge_config({"kind": "reward_model", "model": "org/name", "batch_size": 3})
        assert judge_identity(reward, lambda name: f"hub:{name}@main") == {
            "kind": "reward_model",
            "model": "hub:org/name@main",
            "max_length": None,
            "precision": "float32",
        }

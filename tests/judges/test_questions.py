"""Requests made from annotators' settings, for every configuration that alpaca_eval ships."""

from __future__ import annotations

import email.utils
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adadpo.errors import JudgeError, QuestionError
from analysis.judges.annotators import kwargs_of, parameters, question, read_annotators
from analysis.judges.costs import estimate
from analysis.judges.endpoint import _retry_after
from tests.judges.api_examples import api_config, api_judge, judge_pairs, prompts_of
from tests.judges.judge_client import JudgeServer

FOLDER = Path(read_annotators("alpaca_eval_gpt4").file).parents[1]
SHIPPED = sorted(file.parent.name for file in FOLDER.glob("*/configs.yaml"))


class TestShippedConfigurations:
    @pytest.mark.parametrize("config", SHIPPED)
    def test_is_read_asked_and_estimated(self, config: str) -> None:
        annotators = read_annotators(config)
        for settings in annotators.settings.values():
            kwargs = {k: v for k, v in kwargs_of(settings).items() if not k.startswith("tokens_to")}
            asked = parameters(kwargs, "other")
            assert asked["model"] == "other"
            assert asked["max_tokens"] > 0
            assert not {"client_kwargs", "requires_chatml", "price_per_token", "max_new_tokens"} & set(asked)
        found = estimate(api_config("http://a/v1", config=config), prompts_of(3), runs=2, answer_tokens=50)
        assert found.requests == 6

    def test_digests_differ_exactly_where_the_content_does(self) -> None:
        digests = {config: read_annotators(config).digest for config in SHIPPED}
        assert len(set(digests.values())) == len(SHIPPED)

    def test_a_pool_in_batches_is_judged_by_each(self, server: JudgeServer, tmp_path: Path) -> None:
        """alpaca_farm draws one of 13 annotators for a prompt; some show several pairs at once."""
        told: list[tuple[int, int]] = []
        folder = tmp_path / "pool"
        folder.mkdir()
        (folder / "t.txt").write_text(
            "<|im_start|>user\n" + "{instruction}{output_1}{output_2}\n" * 2 + "<|im_end|>"
        )
        kwargs = "completions_kwargs: {model_name: m, max_tokens: 5}, completion_parser_kwargs"
        (folder / "configs.yaml").write_text(
            f"one: {{prompt_template: pool/t.txt, batch_size: 2, {kwargs}: {{outputs_to_match: {{1: 'a. O'}}}}}}\n"
            f"two: {{prompt_template: pool/t.txt, batch_size: 2, {kwargs}: {{outputs_to_match: {{2: 'true'}}}}}}\n"
        )
        server.told(content="(a) Output (a) Output true true")
        judge = api_judge(server.url, tmp_path, config=str(folder))
        found = judge(
            prompts_of(9),
            [f"a{i}" for i in range(9)],
            [f"b{i}" for i in range(9)],
            baseline_name="b",
            candidate_name="c",
            on_progress=lambda done, total: told.append((done, total)),
        )
        assert {row["annotator"] for row in found.annotations} == {"pool"}
        assert told == sorted(told)
        assert told[-1] == (9, 9)
        assert server.stats()["requests"] < 9


class TestParameters:
    def test_defaults_are_the_package_s_and_nothing_is_none(self) -> None:
        assert parameters({"model_name": "m", "top_p": None}, None) == {
            "model": "m",
            "max_tokens": 2048,
            "temperature": 0.7,
        }

    def test_newer_limits_replace_the_older(self) -> None:
        asked = parameters({"model_name": "m", "max_completion_tokens": 9}, None)
        assert "max_tokens" not in asked
        with pytest.raises(JudgeError, match="names no model"):
            parameters({}, None)

    def test_token_biases(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import tiktoken

        ids = {"Both": [7], "Neither nor": [8, 9], "Output": [3, 4]}
        monkeypatch.setattr(tiktoken, "encoding_for_model", lambda _: SimpleNamespace(encode=ids.__getitem__))
        kwargs = {
            "model_name": "m",
            "tokens_to_avoid": ["Both", "Neither nor"],
            "tokens_to_favor": ["Output"],
        }
        assert parameters(kwargs, None)["logit_bias"] == {"7": -100, "3": 7, "4": 7}

        def unreachable(_: str) -> None:
            raise OSError

        monkeypatch.setattr(tiktoken, "encoding_for_model", unreachable)
        with pytest.raises(JudgeError, match="vocabulary of 'm'"):
            parameters(kwargs, None)

    def test_later_repeats_of_a_sampling_judge_have_seeds(self) -> None:
        def chatml(text: str) -> list[dict[str, str]]:
            return [{"role": "user", "content": text}]

        sampling, greedy = {"model": "m", "temperature": 1}, {"model": "m", "temperature": 0}
        assert [question("<|im_start|>", sampling, k, chatml).get("seed") for k in range(3)] == [None, 1, 2]
        assert "seed" not in question("<|im_start|>", greedy, 1, chatml)
        assert question(" plain ", greedy, 0, chatml) == greedy | {"prompt": "plain"}

    def test_foreign_roles_are_no_question(self) -> None:
        with pytest.raises(QuestionError, match="marks"):
            question("<|im_start|>", {"model": "m"}, 0, lambda _: [{"role": "villain", "content": ""}])


class TestEndpointDetails:
    @pytest.mark.parametrize(
        ("given", "seconds"), [("3", 3.0), ("0.5", 0.5), ("-2", 0.0), ("", None), ("soon", None)]
    )
    def test_retry_after_in_seconds(self, given: str, seconds: float | None) -> None:
        assert _retry_after({"retry-after": given}) == seconds

    def test_retry_after_as_a_date(self) -> None:
        found = _retry_after({"retry-after": email.utils.formatdate(time.time() + 30, usegmt=True)})
        assert found == pytest.approx(30, abs=2)

    def test_a_configuration_s_own_address_is_used_unless_the_judge_names_one(
        self, server: JudgeServer, tmp_path: Path
    ) -> None:
        folder = tmp_path / "own"
        folder.mkdir()
        (folder / "t.txt").write_text(
            '<|im_start|>user\n{instruction} "output": """{output_1}""" "output": """{output_2}"""\n<|im_end|>'
        )
        (folder / "configs.yaml").write_text(
            "own:\n  prompt_template: own/t.txt\n  fn_completion_parser: ranking_parser\n"
            f"  completions_kwargs: {{model_name: m, client_kwargs: {{base_url: '{server.url}'}}}}\n"
        )
        config = {"config": str(folder), "base_url": None, "max_cost": 1, "prices": {"input": 1, "output": 1}}
        found: Any = judge_pairs(api_judge("", tmp_path, **config), 4)
        assert found.summary["missing"] == 0
        assert server.stats()["requests"] == 4 - found.summary["equal_answers"]

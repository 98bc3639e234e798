"""The alpaca_eval judge against alpaca_eval itself, run as its users run it, on the same server."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adadpo.errors import JudgeError
from analysis.judges import Judge
from analysis.judges.factory import judge_identity
from tests.judges.api_examples import OFFICIAL, answers_of, api_config, api_judge, judge_pairs, prompts_of
from tests.judges.contract import BAD, GOOD, PROMPTS, JudgeContract
from tests.judges.judge_client import KEY, ROOT, JudgeServer

CONFIGS = [OFFICIAL, "alpaca_eval_gpt4", "alpaca_eval_gpt4_turbo_fn", "text_davinci_003"]
PAIRS = 12


class TestAlpacaEvalContract(JudgeContract):
    @pytest.fixture
    def judge(self, server: JudgeServer, tmp_path: Path) -> Judge:
        return api_judge(server.url, tmp_path)


@pytest.fixture(scope="module")
def by_the_package(running_server: JudgeServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    rows = [
        {"instruction": prompt["instruction"], "output_1": one, "output_2": two}
        for prompt, one, two in zip(
            prompts_of(PAIRS), answers_of(PAIRS, 5), answers_of(PAIRS, 3), strict=True
        )
    ]
    file = tmp_path_factory.mktemp("pairs") / "pairs.json"
    file.write_text(json.dumps(rows))
    done = subprocess.run(
        [sys.executable, "-m", "tests.judges.the_package", running_server.root, str(file), *CONFIGS],
        cwd=ROOT,
        env={**os.environ, "OPENAI_API_BASE": running_server.url, "OPENAI_API_KEY": KEY, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class TestAgainstThePackage:
    @pytest.mark.parametrize("config", CONFIGS)
    def test_same_requests_and_same_annotations(
        self, config: str, by_the_package: dict[str, Any], server: JudgeServer, tmp_path: Path
    ) -> None:
        theirs = by_the_package[config]
        ours = judge_pairs(api_judge(server.url, tmp_path, config=config), PAIRS).annotations
        stats = server.stats()
        assert stats["by_prompt"] == theirs["stats"]["by_prompt"]
        # alpaca_eval sends prompts of its oldest configurations ten at a time.
        bodies = theirs["stats"]["bodies"]
        assert all(body in bodies for body in stats["bodies"])
        assert all(body in stats["bodies"] for body in bodies)
        for mine, other in zip(ours, theirs["rows"], strict=True):
            assert mine["instruction"] == other["instruction"]
            assert mine["preference"] == other["preference"]
            if mine["output_1"] != mine["output_2"]:
                assert mine["raw_completion"] == other["preference_raw_completion"]
        assert len({row["preference"] for row in ours}) > 1

    def test_equal_answers_are_a_draw_and_cost_nothing(self, server: JudgeServer, tmp_path: Path) -> None:
        same = [GOOD[0], "Tea."]
        found = api_judge(server.url, tmp_path)(
            PROMPTS, same, GOOD, baseline_name="base", candidate_name="cand"
        )
        assert found.annotations[0]["preference"] == 1.5
        assert found.annotations[0]["price_per_example"] == 0.0
        assert server.stats()["requests"] == 1
        assert found.summary["equal_answers"] == 1

    def test_draws_of_a_parser_that_calls_them_0(self, server: JudgeServer, tmp_path: Path) -> None:
        """lmsys_parser returns 0 for a draw; alpaca_eval 0.6.6 then fails its own check of preferences."""
        folder = tmp_path / "draws"
        folder.mkdir()
        (folder / "template.txt").write_text(
            "<|im_start|>user\n{instruction} {output_1} {output_2}\n<|im_end|>"
        )
        (folder / "configs.yaml").write_text(
            "draws:\n  prompt_template: draws/template.txt\n  fn_completions: openai_completions\n"
            "  completions_kwargs: {model_name: m, max_tokens: 5}\n  fn_completion_parser: eval_parser\n"
        )
        judge = api_judge(server.url, tmp_path, config=str(folder))
        server.told(content="0")
        assert {row["preference"] for row in judge_pairs(judge, 4).annotations} == {1.5}
        # What is no preference at all is missing, and shown.
        judge = api_judge(server.url, tmp_path, config=str(folder), model="another")
        server.told(content="7")
        found = judge_pairs(judge, 4)
        assert (
            found.summary["missing"]
            == found.summary["answers_unreadable"]
            == 4 - found.summary["equal_answers"]
        )
        assert found.summary["unreadable_examples"] == ["7"]

    def test_a_folder_is_its_content(self, server: JudgeServer, tmp_path: Path) -> None:
        import alpaca_eval.constants

        source = alpaca_eval.constants.EVALUATORS_CONFIG_DIR
        identities = []
        for name in ("one", "two", "three"):
            folder = tmp_path / name / "mine"
            folder.mkdir(parents=True)
            template = (source / "alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt").read_text()
            if name == "three":
                template = template.replace("highly efficient", "careful")
            (folder / "template.txt").write_text(template)
            content = (source / OFFICIAL / "configs.yaml").read_text()
            content = content.replace("alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt", "mine/template.txt")
            (folder / "configs.yaml").write_text(content)
            identities.append(judge_identity(api_config(server.url, config=str(folder))))
        official = judge_identity(api_config(server.url))
        assert identities[0] == identities[1] == official
        assert identities[2] != official
        found = judge_pairs(api_judge(server.url, tmp_path, config=str(tmp_path / "one/mine")), 4)
        assert [row["annotator"] for row in found.annotations] == ["mine"] * 4
        assert sum(row["preference"] is None for row in found.annotations) == 0


class TestIdentity:
    def test_what_does_not_change_preferences_is_not_in_it(self) -> None:
        one = judge_identity(api_config("http://a:1/v1", concurrency=1, max_cost=3, api_key_env="A"))
        two = judge_identity(api_config("http://b:2/v1", attempts=9, timeout=1))
        assert one == two
        assert not any(word in json.dumps(one) for word in ("http", "max_cost", "key"))

    @pytest.mark.parametrize("change", [{"both_orders": True}, {"repeats": 2}, {"model": "other"}])
    def test_what_does_is(self, change: dict[str, Any]) -> None:
        assert judge_identity(api_config("http://a:1/v1", **change)) != judge_identity(
            api_config("http://a:1/v1")
        )

    def test_the_official_judge_s_is_pinned(self) -> None:
        found = judge_identity(api_config("http://a:1/v1"))
        assert found["annotators"] == "394696d2e45e11d842cb9a191488613c6b8ca5a61897f7dbc802b2db6e622dfb"
        assert found["models"] == ["gpt-4-1106-preview"]


class TestOrdersAndRepeats:
    def test_both_orders_cancel_the_lean_to_the_first(self, server: JudgeServer, tmp_path: Path) -> None:
        """The server leans to the answer shown first: by its formula, each order is known exactly."""
        from math import exp

        from tests.judges.judge_server import LEAN

        found = api_judge(server.url, tmp_path, both_orders=True)(
            PROMPTS, BAD, GOOD, baseline_name="base", candidate_name="cand"
        )
        bias = found.summary["position_bias"]
        expected, leanings = [], []
        for bad, good in zip(BAD, GOOD, strict=True):
            score = (len(bad) - len(good)) / 20
            first, second = (1 / (1 + exp(-(score + lean))) for lean in (LEAN, -LEAN))
            expected.append(1 + (first + second) / 2)
            leanings.append((first - second) / 2)
        assert [row["preference"] for row in found.annotations] == pytest.approx(expected, abs=1e-9)
        assert bias["estimate"] == pytest.approx(sum(leanings) / 2, abs=1e-9)
        assert (bias["pairs"], bias["orders"], bias["consistency"]) == (2, 2, 1.0)
        assert found.summary["noise"]["reason"] == "one judgement per pair and order"
        assert [one["order"] for one in found.annotations[0]["raw_completion"]] == [0, 1]
        assert len(server.stats()["by_prompt"]) == 4

    def test_repeats_show_the_judge_s_noise(self, server: JudgeServer, tmp_path: Path) -> None:
        server.told(noise=0.4)  # the server adds and subtracts it in turn
        found = judge_pairs(api_judge(server.url, tmp_path, repeats=2), 6)
        stats = server.stats()
        asked = 6 - found.summary["equal_answers"]
        assert sorted(stats["by_prompt"].values()) == [2] * asked
        assert sorted(body.get("seed", 0) for body in stats["bodies"]) == [0] * asked + [1] * asked
        noise = found.summary["noise"]
        assert 0.05 < noise["within_pair_sd"] < 0.2
        assert noise["win_rate_variance"] == pytest.approx(
            (100 / 6) ** 2 * noise["within_pair_sd"] ** 2 * asked / 2
        )
        # The first judgement is in the cache under the same key as without repeats.
        judge_pairs(api_judge(server.url, tmp_path), 6)
        assert server.stats()["requests"] == stats["requests"]

    def test_another_model_is_another_judge(self, server: JudgeServer, tmp_path: Path) -> None:
        found = judge_pairs(api_judge(server.url, tmp_path, model="org/Some-Instruct"), 3)
        assert {row["annotator"] for row in found.annotations} == {f"{OFFICIAL} (org/Some-Instruct)"}
        assert {body["model"] for body in server.stats()["bodies"]} == {"org/Some-Instruct"}
        assert found.annotations[1]["price_per_example"] is None  # no price is known


class TestAGuest:
    def test_the_process_is_as_it_was(
        self,
        server: JudgeServer,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import sklearn

        (tmp_path / ".env").write_text("FROM_DOTENV=1\n")
        monkeypatch.chdir(tmp_path)
        root = logging.getLogger()
        before = (root.level, list(root.handlers), list(root.filters), dict(os.environ), sklearn.get_config())
        judge_pairs(api_judge(server.url, tmp_path / "cache"), 4)
        assert before == (root.level, root.handlers, root.filters, dict(os.environ), sklearn.get_config())
        assert capfd.readouterr() == ("", "")

    def test_nothing_is_written_into_the_package(self, server: JudgeServer, tmp_path: Path) -> None:
        import alpaca_eval.constants

        folder = alpaca_eval.constants.EVALUATORS_CONFIG_DIR / OFFICIAL
        before = sorted(folder.iterdir())
        judge_pairs(api_judge(server.url, tmp_path), 3)
        assert sorted(folder.iterdir()) == before


class TestRefusals:
    def test_without_the_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("analysis.judges.annotators.find_spec", lambda name: None)
        with pytest.raises(JudgeError, match=r"pip install 'adadpo\[judge\]'"):
            judge_identity(api_config("http://a:1/v1"))
        with pytest.raises(JudgeError, match=r"pip install 'adadpo\[judge\]'"):
            judge_pairs(api_judge("http://a:1/v1", tmp_path), 2)

    def test_an_unknown_configuration(self) -> None:
        with pytest.raises(
            JudgeError, match=r"no annotators configuration 'weigted'.*weighted_alpaca_eval_gpt4_t"
        ):
            judge_identity(api_config("http://a:1/v1", config="weigted"))

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("- a\n", "expected annotators by name"),
            ("a: {}\n", "no prompt_template"),
            ("a: {prompt_template: none.txt}\n", "no prompt template"),
            ("a: {prompt_template: 'x{output_1}{output_2}', completions_kwargs: 3}\n", "must be a mapping"),
            (
                "a: {prompt_template: 'x{output_1}{output_2}', completions_kwargs: {client_kwargs: {api_key: k}}}",
                "holds an API key",
            ),
            (":\n\t- ][", "cannot read"),
        ],
    )
    def test_a_folder_that_is_no_configuration(self, content: str, says: str, tmp_path: Path) -> None:
        (tmp_path / "configs.yaml").write_text(content)
        with pytest.raises(JudgeError, match=says):
            judge_identity(api_config("http://a:1/v1", config=str(tmp_path)))

    def test_prices_that_a_cap_needs(self, server: JudgeServer, tmp_path: Path) -> None:
        with pytest.raises(JudgeError, match="max_cost needs the prices of 'mine'"):
            judge_pairs(api_judge(server.url, tmp_path, model="mine", max_cost=1), 2)
        assert server.stats()["requests"] == 0

    def test_a_missing_key(
        self, server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(JudgeError, match="set the environment variable MY_KEY"):
            judge_pairs(api_judge(server.url, tmp_path, api_key_env="MY_KEY"), 2)
        monkeypatch.delenv("OPENAI_API_KEY")  # a server of one's own needs none
        assert judge_pairs(api_judge(server.url, tmp_path), 2).summary["missing"] == 0

    def test_answers_with_chatml_s_marks_have_no_preference(
        self, server: JudgeServer, tmp_path: Path
    ) -> None:
        found = api_judge(server.url, tmp_path)(
            PROMPTS, ["<|im_start|>", "Fine."], GOOD, baseline_name="base", candidate_name="cand"
        )
        assert [row["preference"] is None for row in found.annotations] == [True, False]
        assert found.summary["failures"] == {"the prompt is no valid ChatML: an answer contains its marks": 1}

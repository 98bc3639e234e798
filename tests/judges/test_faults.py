"""An endpoint that fails in every way, over real HTTP: what is asked again, what is given up, what is paid."""

from __future__ import annotations

import json
import logging
import os
import random
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adadpo.errors import JudgeError
from analysis.judges.answers import AnswerStore, CachedCompletions, Setup
from analysis.judges.endpoint import Waits
from analysis.judges.factory import make_judge
from tests.judges.api_examples import WAITS, answers_of, api_config, api_judge, prompts_of
from tests.judges.judge_client import KEY, JudgeServer

TRANSIENT = {  # fault -> what the summary calls it
    "429": "HTTP 429",
    "500": "HTTP 500",
    "503": "HTTP 503",
    "hang": "timeout",
    "drop": "connection lost",
    "malformed": "an answer that is not a completion",
    "html": "an answer that is not a completion",
    "no choices": "an answer that is not a completion",
    "no logprobs": "an answer without log-probabilities",
}


def judged(url: str, cache: Path, number: int, **changes: Any) -> Any:
    """Pairs without equal answers, so that each one is asked about."""
    judge = api_judge(url, cache, **changes)
    return judge(
        prompts_of(number),
        [f"{text}!" for text in answers_of(number, 5)],
        answers_of(number, 3),
        baseline_name="base",
        candidate_name="cand",
    )


class TestTransientFaults:
    def test_each_is_asked_again_and_the_preferences_are_those_of_a_calm_server(
        self, server: JudgeServer, tmp_path: Path
    ) -> None:
        number = len(TRANSIENT)
        calm = judged(server.url, tmp_path / "calm", number)
        server.told(faults={f"number {i}?": [fault] for i, fault in enumerate(TRANSIENT)})
        stormy = judged(server.url, tmp_path / "stormy", number, timeout=1.5)
        assert [row["preference"] for row in stormy.annotations] == [
            row["preference"] for row in calm.annotations
        ]
        assert stormy.summary["requests"] == server.stats()["requests"] == 2 * number
        for reason in TRANSIENT.values():
            assert stormy.summary["faults"][reason] == list(TRANSIENT.values()).count(reason)
        assert stormy.summary["missing"] == 0

    def test_an_empty_answer_is_asked_for_again(self, server: JudgeServer, tmp_path: Path) -> None:
        server.told(faults={"number 0?": ["empty"]})
        found = judged(server.url, tmp_path, 2, config="alpaca_eval_gpt4")
        assert found.summary["faults"] == {"an empty answer": 1}
        assert found.summary["missing"] == 0

    def test_retry_after_is_waited_for(self, server: JudgeServer, tmp_path: Path) -> None:
        server.told(faults={"number 0?": ["429 0.4"]})
        start = time.monotonic()
        judged(server.url, tmp_path, 1)
        assert time.monotonic() - start > 0.4

    def test_waits_grow_are_bounded_and_repeat(self) -> None:
        waits = Waits(first=1, longest=8)
        seconds = [waits.seconds(attempt, None, random.Random(0)) for attempt in range(6)]
        for wait, bound in zip(seconds, (1, 2, 4, 8, 8, 8), strict=True):
            assert bound / 2 <= wait <= bound
        assert waits.seconds(0, 5.0, random.Random(0)) == 5.0
        assert (
            waits.seconds(0, 3600.0, random.Random(0)) == 8.0
        )  # a server may not stop everything for an hour


class TestLastingFaults:
    @pytest.mark.parametrize(
        ("fault", "reason", "requests"),
        [
            ("503", "HTTP 503", 4),
            ("drop", "connection lost", 4),
            ("no logprobs", "an answer without log-probabilities", 4),
            ("400", "HTTP 400: not like this", 1),  # trying again brings nothing
        ],
    )
    def test_a_pair_without_an_answer_is_missing_and_named(
        self, fault: str, reason: str, requests: int, server: JudgeServer, tmp_path: Path
    ) -> None:
        server.told(faults={"number 1?": [f"{fault}..."]})
        found = judged(server.url, tmp_path, 3)
        assert [row["preference"] is None for row in found.annotations] == [False, True, False]
        assert found.summary["missing"] == found.summary["answers_failed"] == 1
        (said,) = found.summary["failures"]
        assert reason in said
        assert server.stats()["requests"] == 2 + requests
        # A failure is not kept: judging again asks for it, and for nothing else.
        server.told()
        again = judged(server.url, tmp_path, 3)
        assert again.summary["missing"] == 0
        assert server.stats()["requests"] == 1

    def test_all_pairs_may_be_missing(self, server: JudgeServer, tmp_path: Path) -> None:
        server.told(faults={"number": ["503..."]})
        found = judged(server.url, tmp_path, 3, attempts=1)
        assert [row["preference"] for row in found.annotations] == [None, None, None]
        assert found.summary["position_bias"]["estimate"] is None

    def test_an_answer_that_names_neither_is_paid_for_once(self, server: JudgeServer, tmp_path: Path) -> None:
        server.told(faults={"number 1?": ["wrong tokens..."]})
        found = judged(server.url, tmp_path, 3)
        assert found.annotations[1]["preference"] is None
        assert found.summary["answers_unreadable"] == 1
        assert found.summary["unreadable_examples"] == ["Both"]
        assert judged(server.url, tmp_path, 3).annotations == found.annotations
        assert server.stats()["requests"] == 3

    @pytest.mark.parametrize(
        ("fault", "says"), [("401", "HTTP 401"), ("404", "HTTP 404"), ("quota", "no money")]
    )
    def test_what_hits_every_pair_ends_the_judging(
        self, fault: str, says: str, server: JudgeServer, tmp_path: Path
    ) -> None:
        server.told(faults={"number": [f"{fault}..."]})
        with pytest.raises(JudgeError, match=f"the judge's endpoint refused the request: .*{says}"):
            judged(server.url, tmp_path, 30, concurrency=2)
        assert server.stats()["requests"] <= 4

    def test_the_same_failure_ten_times_ends_the_judging(self, server: JudgeServer, tmp_path: Path) -> None:
        server.told(faults={"number": ["400..."]})
        with pytest.raises(
            JudgeError, match="10 requests failed with the same error and none succeeded: HTTP 400"
        ):
            judged(server.url, tmp_path, 40, concurrency=2)
        assert server.stats()["requests"] < 20

    def test_nobody_listens(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        found = judged("http://127.0.0.1:9/v1", tmp_path, 2, attempts=2, prices={"input": 1, "output": 1})
        assert found.summary["failures"] == {"no connection": 2}
        assert found.summary["account_unknown"] == 0  # nothing was sent


class TestCache:
    def test_judging_again_asks_nothing_and_gives_the_same(self, server: JudgeServer, tmp_path: Path) -> None:
        first = judged(server.url, tmp_path, 6)
        again = judged(server.url, tmp_path, 6)
        assert again.annotations == first.annotations
        assert again.summary["answers_cached"] == 6
        assert server.stats()["requests"] == 6

    def test_it_does_not_depend_on_the_address(self, server: JudgeServer, tmp_path: Path) -> None:
        judged(server.url, tmp_path, 3)
        elsewhere = judged("http://127.0.0.1:9/v1", tmp_path, 3)
        assert elsewhere.summary["requests"] == 0
        assert elsewhere.summary["missing"] == 0

    def test_damaged_answers_are_asked_for_again(self, server: JudgeServer, tmp_path: Path) -> None:
        first = judged(server.url, tmp_path, 4)
        files = sorted((tmp_path / "judges" / "answers").glob("??/*.json"))
        files[0].write_text(files[0].read_text()[:100])
        files[1].write_text(files[1].read_text().replace('"logprob": -', '"logprob": -1'))
        files[2].write_bytes(b"\xff\xfe")
        server.told()
        assert [row["preference"] for row in judged(server.url, tmp_path, 4).annotations] == [
            row["preference"] for row in first.annotations
        ]
        assert server.stats()["requests"] == 3

    def test_what_was_answered_before_an_error_is_kept(self, server: JudgeServer, tmp_path: Path) -> None:
        server.told(faults={"number 7?": ["401"]})
        with pytest.raises(JudgeError):
            judged(server.url, tmp_path, 8, concurrency=1)
        assert judged(server.url, tmp_path, 8).summary["missing"] == 0
        assert server.stats()["answered"] == 8

    def test_two_that_ask_the_same_pay_once(self, server: JudgeServer, tmp_path: Path) -> None:
        server.told(delay=0.2)
        setup = Setup(api_config(server.url), tmp_path, "a", os.environ, WAITS)
        prompt = '<|im_start|>user\n"output": """a""" "output": """bc"""\n<|im_end|>'

        def one(_: int) -> Any:
            completions = CachedCompletions(
                setup, lambda text: [{"role": "user", "content": text}], lambda done: None
            )
            try:
                return completions([prompt], repeat=0, model_name="m", logprobs=True)["completions"]
            finally:
                completions.close()

        with ThreadPoolExecutor(4) as pool:
            assert len({str(found) for found in pool.map(one, range(4))}) == 1
        assert server.stats()["requests"] == 1
        assert not list((tmp_path / "answers" / "locks").iterdir())

    def test_an_answer_is_whole_or_absent(self, tmp_path: Path) -> None:
        store = AnswerStore(tmp_path)
        with pytest.raises(TypeError):
            store.put("ab" * 32, {"not": {"json"}})  # type: ignore[dict-item]
        assert store.get("ab" * 32) is None
        assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


class TestConcurrency:
    def test_as_many_requests_at_once_as_asked_for(self, server: JudgeServer, tmp_path: Path) -> None:
        server.told(delay=0.15)
        judged(server.url, tmp_path, 24, concurrency=8)
        assert 4 <= server.stats()["most_under_way"] <= 8


class TestTheKey:
    def test_is_in_no_file_log_output_or_error(
        self,
        server: JudgeServer,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Even when an endpoint repeats it, in a refusal and in an answer, and everything is logged."""
        caplog.set_level(logging.DEBUG)
        server.told(faults={"number 0?": ["echo"], "number 1?": ["400"], "number 2?": ["401"]})
        seen = []
        for _ in range(2):
            try:
                found = judged(server.url, tmp_path, 5, concurrency=1)
                seen.append(json.dumps([found.annotations, found.summary]))
            except JudgeError as error:
                seen += ["".join(traceback.format_exception(error)), repr(error), repr(error.__cause__)]
        judge = make_judge(api_config(server.url), cache=tmp_path, waits=WAITS)
        seen += [repr(judge), *capfd.readouterr(), caplog.text]
        seen += [file.read_text(errors="replace") for file in tmp_path.rglob("*") if file.is_file()]
        assert server.stats()["keys"] == [f"Bearer {KEY}"]
        assert any("[key]" in text for text in seen)
        assert "I was called with" in "".join(seen)
        assert [text for text in seen if KEY in text] == []

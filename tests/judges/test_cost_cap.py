"""The cost cap, against the tokens that the server itself counted; the ledger under many processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from adadpo.errors import JudgeError
from analysis.judges.config import Prices
from analysis.judges.costs import Ledger, estimate, highest_price, price, prices_of
from tests.judges.api_examples import api_config, api_judge, judge_pairs, prompts_of
from tests.judges.judge_client import JudgeServer

PRICES = {"input": 10.0, "output": 30.0}  # gpt-4-1106-preview's
PAIRS = 30


def charged(server: JudgeServer) -> float:
    """Dollars for all tokens that the server counted since it was last told something."""
    return price(Prices(**PRICES), *server.stats()["tokens"])


class TestCapOverHttp:
    @pytest.mark.parametrize("concurrency", [1, 8])
    def test_it_is_never_exceeded_and_reached_to_within_one_request(
        self, concurrency: int, server: JudgeServer, tmp_path: Path
    ) -> None:
        cap = 0.05
        with pytest.raises(JudgeError, match=r"cost cap: \$0\.0\d+ spent of max_cost \$0\.05.*up to \$0\.0"):
            judge_pairs(api_judge(server.url, tmp_path, max_cost=cap, concurrency=concurrency), PAIRS)
        spent = charged(server)
        ledger = Ledger(tmp_path / "judges" / "spending" / "judge.json", cap).spent()
        assert ledger.charged == pytest.approx(spent, abs=1e-12)
        assert ledger.open == 0
        assert cap - 0.02 < spent <= cap  # one request may cost 0.016 at most
        # All that was paid for is kept; with a higher cap the rest alone is asked for.
        before = server.stats()["requests"]
        found = judge_pairs(api_judge(server.url, tmp_path, max_cost=1.0), PAIRS)
        assert found.summary["missing"] == 0
        assert found.summary["answers_cached"] == before
        assert max(server.stats()["by_prompt"].values()) == 1
        assert found.summary["account_charged"] == pytest.approx(charged(server), abs=1e-12)

    def test_it_holds_over_launches_and_not_over_accounts(self, server: JudgeServer, tmp_path: Path) -> None:
        def launch(account: str) -> None:
            judge_pairs(api_judge(server.url, tmp_path, account=account, max_cost=0.05), PAIRS)

        with pytest.raises(JudgeError):
            launch("one")
        requests = server.stats()["requests"]
        with pytest.raises(JudgeError):
            launch("one")
        assert server.stats()["requests"] == requests
        with pytest.raises(JudgeError):
            launch("two")
        assert server.stats()["requests"] > requests

    def test_a_cap_of_nothing_asks_nothing(self, server: JudgeServer, tmp_path: Path) -> None:
        with pytest.raises(JudgeError, match="spent of max_cost"):
            judge_pairs(api_judge(server.url, tmp_path, max_cost=0), 3)
        assert server.stats()["requests"] == 0

    def test_attempts_of_unknown_end_count_as_highest(self, server: JudgeServer, tmp_path: Path) -> None:
        server.told(faults={"number 1?": ["hang", "malformed"]})
        found = judge_pairs(api_judge(server.url, tmp_path, max_cost=1.0, timeout=1.5), 3)
        assert found.summary["account_charged"] == pytest.approx(charged(server), abs=1e-12)
        assert 0.02 < found.summary["account_unknown"] < 0.04  # two requests at 0.016 or less

    def test_refused_attempts_cost_nothing(self, server: JudgeServer, tmp_path: Path) -> None:
        server.told(faults={"number 1?": ["429", "500"], "number 2?": ["400"]})
        found = judge_pairs(api_judge(server.url, tmp_path, max_cost=1.0), 4)
        assert found.summary["account_unknown"] == 0
        assert found.summary["account_charged"] == pytest.approx(charged(server), abs=1e-12)

    def test_useless_answers_cost_what_they_cost(self, server: JudgeServer, tmp_path: Path) -> None:
        server.told(faults={"number 1?": ["no logprobs", "no choices"]})
        found = judge_pairs(api_judge(server.url, tmp_path, max_cost=1.0), 3)
        assert found.summary["account_unknown"] == 0
        assert found.summary["account_charged"] == pytest.approx(charged(server), abs=1e-12)

    def test_a_judge_of_one_s_own_has_no_ledger(self, server: JudgeServer, tmp_path: Path) -> None:
        free = {"input": 0, "output": 0}
        found = judge_pairs(api_judge(server.url, tmp_path, model="mine", prices=free, max_cost=0), 3)
        assert found.annotations[1]["price_per_example"] == 0.0
        assert not (tmp_path / "judges" / "spending").exists()


class TestLedger:
    def test_many_processes_share_one_cap(self, tmp_path: Path) -> None:
        """Each tries 40 requests of 0.01 dollars under a common cap of 1 dollar."""
        code = (
            "import sys; from pathlib import Path; from analysis.judges.costs import Ledger\n"
            "from analysis.judges import JudgeError\n"
            "ledger = Ledger(Path(sys.argv[1]), 1.0); done = 0\n"
            "try:\n"
            "    for _ in range(40): ledger.settle(ledger.reserve(0.01), 0.01); done += 1\n"
            "except JudgeError: pass\n"
            "print(done)"
        )
        file = tmp_path / "ledger.json"
        running = [
            subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        done = sum(int(process.communicate(timeout=60)[0]) for process in running)
        assert 97 <= done <= 100  # a process near the cap does not wait for what others have open
        assert Ledger(file, 1.0).spent().charged == pytest.approx(done * 0.01)

    def test_threads_wait_for_what_may_become_free(self, tmp_path: Path) -> None:
        ledger = Ledger(tmp_path / "ledger.json", 1.0)
        first = ledger.reserve(0.9)
        entries: list[str] = []
        waiting = threading.Thread(target=lambda: entries.append(ledger.reserve(0.5)), daemon=True)
        waiting.start()
        waiting.join(0.2)
        assert not entries
        ledger.settle(first, 0.1)
        waiting.join(5)
        assert len(entries) == 1
        assert ledger.spent().charged == pytest.approx(0.1)

    def test_what_a_killed_process_left_open_stays_counted(self, tmp_path: Path) -> None:
        Ledger(tmp_path / "ledger.json", 1.0).reserve(0.6)
        with pytest.raises(JudgeError, match=r"at most \$0\.6000 for requests without a known end"):
            Ledger(tmp_path / "ledger.json", 1.0).reserve(0.5)

    def test_a_damaged_ledger_is_not_zero(self, tmp_path: Path) -> None:
        (tmp_path / "ledger.json").write_text("{")
        with pytest.raises(JudgeError, match="cannot be read"):
            Ledger(tmp_path / "ledger.json", 1.0).reserve(0.1)


class TestPrices:
    def test_of_known_given_and_unknown_models(self) -> None:
        assert prices_of("gpt-4-1106-preview", None, {}) == Prices(**PRICES)
        per_token = prices_of("x", None, {"price_per_token": "9e-7"})  # YAML 1.1 reads it as text
        assert per_token is not None
        assert (per_token.input, per_token.output) == pytest.approx((0.9, 0.9))
        given = Prices(input=1, output=2)
        assert prices_of("gpt-4", given, {"price_per_token": 1}) == given
        assert prices_of("gpt-5", None, {}) is None

    def test_the_highest_price_bounds_any_vocabulary(self) -> None:
        """A token has a byte at least: emoji and rare words may be a token per byte."""
        request = {"messages": [{"role": "user", "content": "🙂" * 100}], "max_tokens": 7}
        bound = highest_price(request, Prices(input=1e6, output=1e6))
        assert bound >= len(("🙂" * 100).encode()) + 7
        assert highest_price({"prompt": "abc", "max_tokens": 10, "n": 2}, Prices(input=0, output=1e6)) == 20


class TestEstimate:
    def test_of_the_official_judge_before_anything_runs(self) -> None:
        """805 prompts of AlpacaEval 2 cost about 10 dollars with this judge (alpaca_eval's own README)."""
        prompts = [{"instruction": "x" * 165}] * 805
        found = estimate(
            api_config("http://a/v1"), prompts, runs=1, answer_tokens=430, baseline=["y" * 2000] * 805
        )
        assert found.requests == 805
        assert found.dollars is not None
        assert 8 < found.dollars < 13
        assert found.output_tokens == 805

    def test_orders_repeats_and_runs_multiply(self) -> None:
        once = estimate(api_config("http://a/v1"), prompts_of(10), runs=1, answer_tokens=100)
        more = estimate(
            api_config("http://a/v1", both_orders=True, repeats=3), prompts_of(10), runs=4, answer_tokens=100
        )
        assert more.requests == 24 * once.requests
        assert more.dollars == pytest.approx(24 * (once.dollars or 0))

    def test_it_is_near_what_is_charged(self, server: JudgeServer, tmp_path: Path) -> None:
        found = judge_pairs(api_judge(server.url, tmp_path), 20)
        answers = [row["output_2"] for row in found.annotations]
        mean = round(sum(map(len, answers)) / len(answers) / 4)
        known = [row["output_1"] for row in found.annotations]
        config = api_config(server.url)
        expected = estimate(config, prompts_of(20), runs=1, answer_tokens=mean, baseline=known)
        asked = 20 - found.summary["equal_answers"]
        assert (expected.dollars or 0) * asked / 20 == pytest.approx(charged(server), rel=0.1)

    def test_without_a_price_it_says_so(self) -> None:
        found = estimate(api_config("http://a/v1", model="mine"), prompts_of(2), runs=1, answer_tokens=9)
        assert found.dollars is None
        assert "cost unknown: no price for mine; set judge.prices" in found.reason
        assert json.loads(json.dumps(found.as_dict()))["requests"] == 2

"""A judging process killed on the way (SIGKILL): what it had been answered is never asked for again."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.judges.api_examples import api_judge, judge_pairs
from tests.judges.judge_client import ROOT, JudgeServer

PAIRS, CONCURRENCY = 40, 3


def test_a_killed_judging_goes_on_without_paying_twice(server: JudgeServer, tmp_path: Path) -> None:
    server.told(delay=0.1)
    command = [sys.executable, "-m", "tests.judges.judge_once", server.url, str(tmp_path), str(PAIRS)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        for _ in range(3000):
            if server.stats()["answered"] >= 12:
                break
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    time.sleep(0.3)  # the server ends what it had begun
    kept = list((tmp_path / "judges" / "answers").glob("??/*.json"))
    before = server.stats()
    assert 12 - CONCURRENCY <= len(kept) < PAIRS
    assert before["requests"] - len(kept) <= CONCURRENCY
    found = judge_pairs(api_judge(server.url, tmp_path, max_cost=5.0, timeout=5), PAIRS)
    after = server.stats()
    equal = found.summary["equal_answers"]
    assert found.summary["missing"] == 0
    assert found.summary["answers_cached"] == len(kept)
    assert after["requests"] - before["requests"] == PAIRS - equal - len(kept)
    asked_twice = sum(times - 1 for times in after["by_prompt"].values())
    assert asked_twice == before["requests"] - len(kept)  # under way when it was killed
    # Their price is not known: it stays counted against the cap.
    assert (found.summary["account_unknown"] > 0) == (asked_twice > 0)


def test_temporary_files_of_a_killed_writer_are_no_answers(server: JudgeServer, tmp_path: Path) -> None:
    judge_pairs(api_judge(server.url, tmp_path), 3)
    (file, *_) = (tmp_path / "judges" / "answers").glob("??/*.json")
    file.rename(file.with_name(f".{file.name}.killed"))
    requests = server.stats()["requests"]
    assert judge_pairs(api_judge(server.url, tmp_path), 3).summary["missing"] == 0
    assert server.stats()["requests"] == requests + 1

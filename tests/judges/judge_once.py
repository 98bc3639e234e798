"""Judges some pairs, to be killed on the way: `python -m tests.judges.judge_once URL CACHE NUMBER`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.judges.api_examples import api_judge, judge_pairs

if __name__ == "__main__":
    judge = api_judge(sys.argv[1], Path(sys.argv[2]), concurrency=3, max_cost=5.0, timeout=5)
    judge_pairs(judge, int(sys.argv[3]))

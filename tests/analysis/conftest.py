"""Real AlpacaEval 2 data, which lies beside the project and is not part of it."""

from pathlib import Path

import pytest

ALPACA_EVAL = Path(__file__).parents[2].parent / "shared" / "alpaca_eval"


@pytest.fixture(scope="session")
def alpaca_eval() -> Path:
    if not ALPACA_EVAL.is_dir():
        pytest.skip("no AlpacaEval data beside the project: ../shared/alpaca_eval is absent")
    return ALPACA_EVAL

"""alpaca_eval as a guest: imported and run without what it does to the process around it.

alpaca_eval 0.6.6 reads a `.env` file into the environment, sets the root logger to INFO, gives it a handler on
stderr, draws progress bars and logs whole completions; its import of pkg_resources warns.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from adadpo.errors import JudgeError
from analysis.judges.annotators import NEEDS_PACKAGE


class _NoBars:
    """In the place of the tqdm module."""

    @staticmethod
    def tqdm(iterable: Iterable[Any], **_: Any) -> Iterable[Any]:
        return iterable


@contextmanager
def alpaca_eval_as_guest() -> Iterator[Any]:
    """The `alpaca_eval` package, contained while the context lasts.

    Raises:
        JudgeError: it is not installed, or cannot be imported.
    """
    root, http = logging.getLogger(), logging.getLogger("httpx2")
    levels = root.level, http.level
    silent = logging.NullHandler()  # where the root logger has a handler, logging.info() adds none
    root.addHandler(silent)
    with ExitStack() as stack:
        stack.callback(root.removeHandler, silent)
        stack.callback(root.setLevel, levels[0])
        stack.callback(http.setLevel, levels[1])
        http.setLevel(logging.WARNING)  # a line per request otherwise
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
        package = _imported()
        root.setLevel(levels[0])
        folder = str(Path(package.__file__).parent) + os.sep

        def foreign(record: logging.LogRecord) -> bool:
            return not record.pathname.startswith(folder)

        root.addFilter(foreign)  # it logs through the root logger itself
        stack.callback(root.removeFilter, foreign)
        stack.enter_context(patch.object(package.utils, "tqdm", _NoBars))
        yield package


def _imported() -> Any:
    with patch.dict(os.environ, {"PYTHON_DOTENV_DISABLED": "1"}):
        try:
            import alpaca_eval.annotators
        except ImportError as error:
            if error.name in ("alpaca_eval", "openai"):
                raise JudgeError(NEEDS_PACKAGE) from None
            raise JudgeError(f"alpaca_eval cannot be imported: {error} ({NEEDS_PACKAGE})") from error
    return alpaca_eval

"""The libraries' progress bars and known warnings, off: a run reports its own progress."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' and datasets' bars, and the deprecations that TRL and transformers cause in each other."""
    import datasets
    from transformers.utils import logging

    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    with warnings.catch_warnings():
        # TRL uses transformers' old names for activation checkpointing, as its DPOConfig does by default.
        warnings.filterwarnings(
            "ignore", message=r".*`\w*gradient_checkpointing\w*` is deprecated.*", category=FutureWarning
        )
        yield

"""Built-in models come from the user's own cache; everything else that tests cache stays in temporary folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adadpo.models import cache_folder

# Before torch loads, and for every process that a test starts: on tiny models a second thread only costs, and the
# threads of two processes wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_models_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of its own whose models are the user's: converting one takes up to half a minute."""
    models = cache_folder() / "models"
    models.mkdir(parents=True, exist_ok=True)
    cache = tmp_path_factory.mktemp("cache")
    (cache / "models").symlink_to(models, target_is_directory=True)
    return cache

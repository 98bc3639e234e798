"""Built-in models come from the user's own cache; everything else that tests cache stays in temporary folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from adadpo.models import cache_folder


@pytest.fixture(scope="session")
def shared_models_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of its own whose models are the user's: converting one takes up to half a minute."""
    models = cache_folder() / "models"
    models.mkdir(parents=True, exist_ok=True)
    cache = tmp_path_factory.mktemp("cache")
    (cache / "models").symlink_to(models, target_is_directory=True)
    return cache

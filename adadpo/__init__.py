"""The method: losses, trainer, reference log-probabilities, generation. Torch loads when it is first needed."""

from importlib import import_module
from typing import Any

_HOME = {
    "AdaDPOConfig": "adadpo.trainer",
    "AdaDPOTrainer": "adadpo.trainer",
    "Method": "adadpo.methods",
    "PreferenceLoss": "adadpo.losses",
    "make_method": "adadpo.methods",
    "preference_loss": "adadpo.losses",
}

__all__ = ["AdaDPOConfig", "AdaDPOTrainer", "Method", "PreferenceLoss", "make_method", "preference_loss"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'adadpo' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

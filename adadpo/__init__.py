"""The method: losses, trainer, reference log-probabilities, generation. Torch loads when it is first needed."""

from importlib import import_module
from typing import Any

_HOME = {
    "AdaDPOConfig": "adadpo.training.trainer",
    "AdaDPOTrainer": "adadpo.training.trainer",
    "Method": "adadpo.method.registry",
    "PreferenceLoss": "adadpo.method.losses",
    "make_method": "adadpo.method.registry",
    "preference_loss": "adadpo.method.losses",
}

__all__ = ["AdaDPOConfig", "AdaDPOTrainer", "Method", "PreferenceLoss", "make_method", "preference_loss"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'adadpo' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

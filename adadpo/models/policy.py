"""Models of a run: the shared base, a fresh policy to train, a trained policy to evaluate."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from adadpo.caches import Memory
from adadpo.config import TrainSettings
from adadpo.errors import ModelError
from adadpo.models.load import ModelSource, load_model, load_tokenizer
from adadpo.quiet import quiet

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Base:
    """An untrained model, loaded once for all runs of a process; it is the reference and is never changed."""

    source: ModelSource
    model: Any
    tokenizer: Any
    logps: Memory = field(default_factory=dict, compare=False)  # of pairs, as runs asked for them


def load_base(source: ModelSource, train: TrainSettings) -> Base:
    """Load the untrained model in the run's precision, on the GPU if there is one.

    Raises:
        ModelError: see `models.load_model`.
    """
    model = load_model(source, DTYPES[train.precision]).to(device())
    model.requires_grad_(False)
    return Base(source, model, load_tokenizer(source))


def device() -> torch.device:
    """The GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def twin(base: Base) -> Any:
    """The base's modules once more, on its own weights: what adapters are put on, and leaves those as they are.

    A copy of the weights takes as much memory as the model, and of SmolLM2-135M 0.2 s twice in a run.
    """
    return copy.deepcopy(base.model, {id(weight): weight for weight in base.model.parameters()})


def fresh_policy(base: Base, train: TrainSettings, seed: int, *, own_weights: bool = False) -> Any:
    """A trainable copy of the base: adapters on its frozen weights, or every weight in float32.

    Args:
        base: the loaded model.
        train: its `lora` decides which.
        seed: of the adapters' initial weights.
        own_weights: copy the frozen weights too: what shares a model out among processes changes them.
    """
    if train.lora is None:
        # Master weights: bfloat16 cannot represent the small steps of preference optimisation.
        return copy.deepcopy(base.model).float().requires_grad_(True)
    policy = copy.deepcopy(base.model) if own_weights else twin(base)
    from peft import LoraConfig, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers import set_seed

    set_seed(seed)
    modules = train.lora.target_modules
    config = LoraConfig(
        r=train.lora.r,
        lora_alpha=train.lora.alpha,
        lora_dropout=train.lora.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
    )
    try:
        with quiet():
            adapted = get_peft_model(policy, config)
    except ValueError as error:  # no such module in this model
        raise ModelError(f"train.lora.target_modules {modules!r}: {str(error).splitlines()[0]}") from error
    if train.precision == "bfloat16":
        # peft would turn every input into float32 for its float32 weights, and autocast back: the same numbers, twice
        # copied.
        for layer in adapted.modules():
            if isinstance(layer, BaseTunerLayer):
                layer.cast_input_dtype_enabled = False
    return adapted


def save_policy(policy: Any, folder: Path, weights: dict[str, Any] | None = None) -> None:
    """Save a trained policy (its adapter alone, when it has one) as safetensors.

    Args:
        policy: as `fresh_policy` made it.
        folder: where to.
        weights: all of them, where the policy itself holds a share; None: its own.
    """
    policy.save_pretrained(folder, safe_serialization=True, state_dict=weights)


def load_policy(base: Base, folder: Path, train: TrainSettings) -> Any:
    """A trained policy in evaluation mode, in the run's precision.

    Raises:
        ModelError: the folder does not hold what the run's settings say.
    """
    try:
        if train.lora is None:
            from transformers import AutoModelForCausalLM

            policy = AutoModelForCausalLM.from_pretrained(
                folder, dtype=DTYPES[train.precision], attn_implementation="sdpa", local_files_only=True
            )
        else:
            from peft import PeftModel

            with quiet():
                policy = PeftModel.from_pretrained(twin(base), str(folder), autocast_adapter_dtype=False)
            # One dtype throughout: float32 adapters on bfloat16 weights would convert at every layer.
            policy = policy.to(DTYPES[train.precision])
    except (OSError, ValueError) as error:
        raise ModelError(
            f"trained model in {folder} could not be loaded: {str(error).splitlines()[0]}"
        ) from error
    return policy.to(device()).eval()

"""What a training run and a generation depend on, resolved and validated. No torch here."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from adadpo.method.registry import Method


class Settings(BaseModel):
    """Immutable; an unknown key, an infinity or a NaN is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Lora(Settings):
    """Low-rank adapters instead of full fine-tuning (peft)."""

    r: int = Field(default=16, gt=0)
    alpha: int = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = "all-linear"


class TrainSettings(Settings):
    """One run's training, as TRL and transformers understand it."""

    learning_rate: float = Field(default=1e-6, gt=0)
    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, gt=0)  # optimiser steps; overrides epochs
    batch_size: int = Field(default=8, gt=0)  # pairs per optimiser step, over all processes
    micro_batch_size: int | None = Field(
        default=None, gt=0
    )  # pairs per forward pass; None: batch_size per process
    max_length: int = Field(default=1024, gt=1)  # tokens of prompt + response
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup: float = Field(default=0.1, ge=0, lt=1)  # share of the steps
    optimizer: Literal["adamw_torch", "adamw_torch_fused", "adafactor", "rmsprop", "sgd"] = "adamw_torch"
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    # bfloat16: frozen weights in bfloat16, trained weights in float32, matrix products in bfloat16
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    gradient_checkpointing: bool = False
    # shared_prompt: a pair's prompt is computed once; trl: TRL's own pass, bit for bit
    forward: Literal["shared_prompt", "trl"] = "shared_prompt"
    # random: TRL's order; by_length: at random too, with pairs of like length in a step, so that less is padding
    batching: Literal["random", "by_length"] = "random"
    # Token ids and reference log-probabilities of other runs serve this one; False: none do.
    caches: bool = True
    checkpoint_steps: int | None = Field(default=None, gt=0)  # resume point every so many steps
    checkpoint_minutes: float | None = Field(
        default=15.0, gt=0
    )  # and at least every so many minutes of training
    eval_steps: int | None = Field(default=None, gt=0)  # held-out pairs are scored every so many steps
    snapshot_steps: int | None = Field(
        default=None, gt=0
    )  # the policy is kept every so many steps, for `audit`
    lora: Lora | None = None

    @model_validator(mode="after")
    def _micro_batch_divides(self) -> TrainSettings:
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs that use nothing of what was added later are what they were before that was possible."""
        unsaid = {
            "eval_steps": None,
            "snapshot_steps": None,
            "checkpoint_minutes": 15.0,
            "batching": "random",
            "caches": True,
        }
        return {key: v for key, v in serialize(self).items() if key not in unsaid or v != unsaid[key]}

    def accumulation_steps(self, processes: int = 1) -> int:
        """Forward passes per optimiser step in each process.

        Raises:
            ValueError: `batch_size` cannot be split evenly.
        """
        micro = self.micro_batch_size or max(1, self.batch_size // processes)
        unit = micro * processes
        if self.batch_size % unit:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {micro} x {processes} "
                f"processes = {unit}; possible: {self._near(unit, processes)}"
            )
        return self.batch_size // unit

    def _near(self, unit: int, processes: int) -> str:
        """What could be changed instead."""
        below = self.batch_size // unit * unit
        found = f"batch_size {f'{below} or ' if below else ''}{below + unit}"

        def divisors(number: int) -> str:
            return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)

        if self.batch_size % processes == 0:
            return f"{found}; or micro_batch_size {divisors(self.batch_size // processes)}"
        micro = self.micro_batch_size or 1
        return (
            f"{found}; or {divisors(self.batch_size // micro)} processes"
            if self.batch_size % micro == 0
            else found
        )


class Decoding(Settings):
    """How responses are generated; part of an evaluation's identity."""

    temperature: float = Field(default=0.7, ge=0)  # 0: greedy
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_new_tokens: int = Field(default=256, gt=0)
    seed: int = Field(default=0, ge=0)
    # Prompts at a time. It decides no random number, but the rounding of bfloat16; hundreds keep vllm busy.
    batch_size: int = Field(default=32, gt=0)
    engine: Literal["transformers", "vllm"] = "transformers"

    @model_validator(mode="after")
    def _vllm_takes_the_temperature(self) -> Decoding:
        """VLLM raises a temperature below 0.01 to 0.01 with no more than a warning, and refuses one above 2."""
        if self.engine == "vllm" and self.temperature != 0 and not 0.01 <= self.temperature <= 2:
            raise ValueError(f"temperature {self.temperature:g}: engine vllm takes 0 or from 0.01 to 2")
        return self

    @model_serializer(mode="wrap")
    def _without_default_engine(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Evaluations by transformers are what they were before there was a choice."""
        return {key: v for key, v in serialize(self).items() if key != "engine" or v != "transformers"}


# How a batch is split, what is computed once and when resume points are written change no result: tested to 1e-6 (the
# first) and bit for bit.
HOW_NOT_WHAT = ("micro_batch_size", "caches", "checkpoint_steps", "checkpoint_minutes")


class RunConfig(Settings):
    """What a run's result comes from. Content, never paths."""

    model: str  # identity of the model, see models.resolve_model
    data: str  # identity of the training pairs
    heldout: str | None  # identity of the held-out pairs
    method: Method
    train: TrainSettings
    seed: int = Field(ge=0)

    def identity(self) -> dict[str, Any]:
        """Exactly what changes the result, as JSON; its hash is the run's id."""
        # Left out by being set to their defaults of old, so that ids stay what they were before they were left out.
        plain = self.train.model_copy(
            update={name: TrainSettings.model_fields[name].default for name in HOW_NOT_WHAT}
        )
        content = self.model_copy(update={"train": plain}).model_dump(mode="json")
        return {**content, "method": self.method.identity()}

    def fingerprint(self) -> str:
        """Sha256 over the identity, for what is kept between two attempts at a run."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()

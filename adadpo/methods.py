"""The methods: a loss with its hyperparameters, validated. No torch, so that a sweep is checked in milliseconds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Balance = Literal["none", "sequence", "per_token"]
Normalization = Literal["geometric", "chosen", "rejected", "mean"]
Placement = Literal["margin", "gradient"]

# Options that only act when the gradient is balanced.
BALANCE_OPTIONS = ("balance_reference", "clip", "normalization", "placement")


class Method(BaseModel):
    """DPO (Rafailov et al. 2023, arXiv 2305.18290), or AdaDPO (arXiv 2605.28440) when `balance` is not "none".

    `clip`, `normalization` and `placement` are this project's own choices: the paper's listing was not available.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    loss: Literal["dpo"] = "dpo"
    beta: float = Field(default=0.1, gt=0)
    balance: Balance = "none"
    balance_reference: bool = False
    clip: float | None = Field(default=10.0, gt=1)
    normalization: Normalization = "geometric"
    placement: Placement = "margin"

    @model_validator(mode="after")
    def _refuse_unused(self) -> Method:
        unused = [name for name in BALANCE_OPTIONS if name in self.model_fields_set]
        if self.balance == "none" and unused:
            raise ValueError(
                f"{', '.join(unused)} has no effect with balance: none; remove it or choose a balance"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """An unbalanced loss has no balance options: what is written can be read back."""
        unused = BALANCE_OPTIONS if self.balance == "none" else ()
        return {name: value for name, value in serialize(self).items() if name not in unused}

    def identity(self) -> dict[str, Any]:
        """The hyperparameters that change a result."""
        return self.model_dump()


# Name -> hyperparameters. AdaDPO's default is the paper's "Stable" variant: per-token balance.
PRESETS: dict[str, dict[str, Any]] = {
    "dpo": {"loss": "dpo", "balance": "none"},
    "adadpo": {"loss": "dpo", "balance": "per_token"},
}


def make_method(name: str, **hyperparameters: Any) -> Method:
    """The preset `name` with `hyperparameters` on top.

    Raises:
        ValueError: the name is not a preset, or a hyperparameter is unknown or impossible (pydantic's).
    """
    if name not in PRESETS:
        raise ValueError(f"unknown method {name!r}; choose one of {', '.join(PRESETS)}")
    return Method(**{**PRESETS[name], **hyperparameters})

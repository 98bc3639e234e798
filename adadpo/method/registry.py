"""The methods: a loss with its hyperparameters, validated. No torch, so that a sweep is checked in milliseconds.

A new loss is a row of `LOSSES` here and its function in `losses.FORMULAS`.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

LossName = Literal["dpo", "rdpo", "ipo", "cpo", "simpo", "orpo", "dpop", "sppo"]
Balance = Literal["none", "sequence", "per_token"]
Normalization = Literal["geometric", "chosen", "rejected", "mean"]
Placement = Literal["margin", "gradient"]

# Options that only act when the gradient is balanced.
BALANCE_OPTIONS = ("balance_reference", "clip", "normalization", "placement")


class Loss(NamedTuple):
    """What a loss needs to know about itself before any tensor exists."""

    title: str
    source: str
    beta: float  # the default of its main hyperparameter, which is always called beta, as in TRL
    default_from: str
    hyperparameters: tuple[str, ...] = ()  # in addition to beta; their defaults are the fields' of `Method`
    needs_reference: bool = True
    can_balance: bool = True


LOSSES: dict[LossName, Loss] = {
    "dpo": Loss(
        title="DPO",
        source="Rafailov et al. 2023, arXiv 2305.18290",
        beta=0.1,
        default_from="the paper",
    ),
    "rdpo": Loss(
        title="R-DPO",
        source="Park et al. 2024, arXiv 2403.19159",
        beta=0.1,
        default_from="beta as DPO; rdpo_alpha the smallest value searched by Meng et al. 2024",
        hyperparameters=("rdpo_alpha",),
    ),
    "ipo": Loss(
        title="IPO",
        source="Azar et al. 2023, arXiv 2310.12036",
        beta=0.1,  # tau of the paper
        default_from="TRL",
    ),
    "cpo": Loss(
        title="CPO",
        source="Xu et al. 2024, arXiv 2401.08417",
        beta=0.1,
        default_from="the paper; cpo_alpha 1 as in its objective and TRL",
        hyperparameters=("cpo_alpha",),
        needs_reference=False,
    ),
    "simpo": Loss(
        title="SimPO",
        source="Meng et al. 2024, arXiv 2405.14734",
        beta=2.0,
        default_from="the authors' repository: beta 2.0, gamma / beta 0.5 as a starting point",
        hyperparameters=("simpo_gamma",),
        needs_reference=False,
    ),
    "orpo": Loss(
        title="ORPO",
        source="Hong et al. 2024, arXiv 2403.07691",
        beta=0.1,  # lambda of the paper
        default_from="the paper's Mistral models and TRL",
        needs_reference=False,
    ),
    "dpop": Loss(
        title="DPOP (Smaug)",
        source="Pal et al. 2024, arXiv 2402.13228",
        beta=0.3,
        default_from="the paper: beta 0.3, lambda 50",
        hyperparameters=("dpop_lambda",),
        can_balance=False,
    ),
    "sppo": Loss(
        title="SPPO",
        source="Wu et al. 2024, arXiv 2405.00675",
        beta=0.001,  # 1 / eta of the paper
        default_from="the paper: eta 1000",
        can_balance=False,
    ),
}
# The AdaDPO paper cites them; we could read no primary source of their formulas, so they are left out.
NOT_IMPLEMENTED = {"balanced-dpo": "Balanced-DPO, arXiv 2502.20847", "sgdpo": "SGDPO, ACL Findings 2025"}

# Hyperparameters that belong to some losses only.
LOSS_OPTIONS = tuple(name for loss in LOSSES.values() for name in loss.hyperparameters)


class Method(BaseModel):
    """A loss of `LOSSES`; its Ada form (arXiv 2605.28440) when `balance` is not "none".

    `clip`, `normalization` and `placement` are this project's own choices: the paper's listing was not available.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    loss: LossName = "dpo"
    beta: float = Field(default=0.1, gt=0)  # its default depends on the loss; see `LOSSES`
    rdpo_alpha: float = Field(default=0.05, ge=0)  # R-DPO: nats of margin per token of length difference
    cpo_alpha: float = Field(default=1.0, ge=0)  # CPO: weight of the chosen response's NLL per token
    simpo_gamma: float = Field(default=1.0, ge=0)  # SimPO: target margin (gamma itself, not gamma / beta)
    dpop_lambda: float = Field(default=50.0, ge=0)  # DPOP: weight of the penalty
    balance: Balance = "none"
    balance_reference: bool = False
    clip: float | None = Field(default=10.0, gt=1)
    normalization: Normalization = "geometric"
    placement: Placement = "margin"

    @model_validator(mode="before")
    @classmethod
    def _default_beta(cls, given: Any) -> Any:
        """The default beta: its meaning and a good value differ from loss to loss."""
        if isinstance(given, dict) and "beta" not in given:
            loss = given.get("loss")
            if isinstance(loss, str) and loss in LOSSES:  # not every value of a file can be looked up
                return {**given, "beta": LOSSES[loss].beta}
        return given

    @model_validator(mode="after")
    def _refuse_unused(self) -> Method:
        loss, given = LOSSES[self.loss], self._unused() & self.model_fields_set
        foreign = [name for name in LOSS_OPTIONS if name in given]
        if foreign:
            users = [name for name, row in LOSSES.items() if foreign[0] in row.hyperparameters]
            raise ValueError(
                f"{', '.join(foreign)} has no effect on loss {self.loss}; {foreign[0]} belongs to {', '.join(users)}"
            )
        if self.balance != "none" and not loss.can_balance:
            able = [name for name, row in LOSSES.items() if row.can_balance]
            raise ValueError(
                f"balance {self.balance} is not defined for loss {self.loss}, a baseline only; "
                f"it is for {', '.join(able)}"
            )
        unused = [name for name in BALANCE_OPTIONS if name in given]
        if self.balance == "none" and unused:
            raise ValueError(
                f"{', '.join(unused)} has no effect with balance: none; remove it or choose a balance"
            )
        if unused:
            raise ValueError(
                f"{unused[0]} has no effect on loss {self.loss}, which has no reference model; remove it"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only what acts: what is written can be read back, and equal methods are written alike."""
        unused = self._unused()
        return {name: value for name, value in serialize(self).items() if name not in unused}

    def _unused(self) -> set[str]:
        """Options that this loss, balanced like this, does not look at."""
        loss = LOSSES[self.loss]
        unused = {name for name in LOSS_OPTIONS if name not in loss.hyperparameters}
        if self.balance == "none":
            unused |= set(BALANCE_OPTIONS)
        elif not loss.needs_reference:
            unused.add("balance_reference")
        return unused

    @property
    def needs_reference(self) -> bool:
        """Whether the loss compares with a reference model."""
        return LOSSES[self.loss].needs_reference

    def identity(self) -> dict[str, Any]:
        """The hyperparameters that change a result."""
        return self.model_dump()


# Name -> hyperparameters: every loss by its name, and `ada...` for its Ada form with the paper's "Stable" variant.
PRESETS: dict[str, dict[str, Any]] = {
    preset: {"loss": name, "balance": balance}
    for name in get_args(LossName)
    for preset, balance in ((name, "none"), (f"ada{name}", "per_token"))
    if balance == "none" or LOSSES[name].can_balance
}


def make_method(name: str, **hyperparameters: Any) -> Method:
    """The preset `name` with `hyperparameters` on top.

    Raises:
        ValueError: the name is not a preset, or a hyperparameter is unknown or impossible (pydantic's).
    """
    if name.lower() in NOT_IMPLEMENTED:
        raise ValueError(f"{NOT_IMPLEMENTED[name.lower()]}, is not implemented: its formula is not verified")
    if name not in PRESETS:
        raise ValueError(f"unknown method {name!r}; choose one of {', '.join(PRESETS)}")
    return Method(**{**PRESETS[name], **hyperparameters})

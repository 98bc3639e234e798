"""AdaDPOTrainer: TRL's DPOTrainer with one method of this family as its loss."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from trl import DPOConfig, DPOTrainer

from adadpo.logprobs import PairLogps, packed_pair_logps
from adadpo.losses import PreferenceLoss, preference_loss
from adadpo.methods import Method, make_method

# TRL's options of its own loss, at their defaults: they do nothing here, so nothing else is accepted.
TRL_LOSS = {
    "loss_type": ["sigmoid"],
    "loss_weights": None,
    "ld_alpha": None,
    "f_divergence_type": "reverse_kl",
    "label_smoothing": 0.0,
    "use_weighting": False,
}


@dataclass
class AdaDPOConfig(DPOConfig):
    """TRL's DPOConfig plus the method; `beta` is the method's own default unless it is given.

    A method without reference (CPO, SimPO, ORPO) loads none.

    Raises:
        ValueError: `forward` or a method option is not one of its choices, or an option of TRL's own loss is set.
    """

    _VALID_DICT_FIELDS = DPOConfig._VALID_DICT_FIELDS + ["method_options"]  # noqa: RUF005 -- as TRL's

    method: str = field(
        default="adadpo", metadata={"help": "Preset of adadpo.methods: dpo, adadpo, simpo, adasimpo, ..."}
    )
    beta: float | None = field(
        default=None, metadata={"help": "The loss's beta; None: the method's default."}
    )
    method_options: dict[str, Any] | str | None = field(  # str: JSON on a command line
        default=None,
        metadata={"help": "Options on top of the preset: balance, clip, normalization, ..."},
    )
    forward: str = field(
        default="trl",
        metadata={
            "help": "trl: TRL's own forward pass; shared_prompt: the prompt computed once per pair (one process)."
        },
    )

    def __post_init__(self) -> None:
        method = self.resolve_method()
        self.beta = method.beta
        if not method.needs_reference:
            if self.sync_ref_model:
                raise ValueError(
                    f"sync_ref_model has no effect: method={self.method!r} uses no reference; remove it"
                )
            # Else TRL would load one; there is nothing to compute (see AdaDPOTrainer._precompute_ref_logps).
            self.precompute_ref_log_probs = True
        super().__post_init__()
        if self.forward not in ("trl", "shared_prompt"):
            raise ValueError(f"forward must be 'trl' or 'shared_prompt', got {self.forward!r}")
        unused = [name for name, default in TRL_LOSS.items() if getattr(self, name) != default]
        if unused:
            raise ValueError(
                f"{', '.join(unused)} has no effect: the loss is method={self.method!r}; remove it"
            )

    def resolve_method(self) -> Method:
        """The preset with its options and this configuration's beta."""
        options: Any = self.method_options or {}
        if isinstance(options, str):
            try:
                options = json.loads(options)
            except ValueError:
                options = None
        if not isinstance(options, dict):
            raise ValueError(f"method_options must be a JSON object, got {self.method_options!r}")
        if self.beta is not None:
            options = {**options, "beta": self.beta}
        return make_method(self.method, **options)


class AdaDPOTrainer(DPOTrainer):
    """Drop-in for DPOTrainer: give it an AdaDPOConfig.

    At every step it logs, beside DPOTrainer's reward metrics, the coefficients `balance/chosen` (c_w) and
    `balance/rejected` (c_l), the share of pairs whose ratio was clipped `balance/clipped`, and
    `balance/log_gradient_ratio`: the mean over pairs of the log of the ratio of the two sides' gradients in a
    typical token's probability (see `PreferenceLoss`), 0 when balanced.
    """

    _tag_names = ["trl", "dpo", "adadpo"]  # noqa: RUF012 -- TRL's name and type

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        config = kwargs.get("args") or next((a for a in args if isinstance(a, DPOConfig)), None)
        if not isinstance(config, AdaDPOConfig):
            raise TypeError(f"AdaDPOTrainer needs args=AdaDPOConfig(...), got {type(config).__name__}")
        self.method = config.resolve_method()
        if (args[:1] or (kwargs.get("ref_model"),))[0] is not None and not self.method.needs_reference:
            raise ValueError(f"{config.method} uses no reference model; remove ref_model")
        adapters = set(getattr(model, "peft_config", ()))
        super().__init__(model, *args, **kwargs)
        if not self.method.needs_reference:
            # Pairs that are given to `evaluate` after training need no reference either.
            self.precompute_ref_logps = False
            if "ref" in set(getattr(self.model, "peft_config", ())) - adapters:
                self.model.delete_adapter("ref")  # TRL's copy of an adapter that was there before
        if config.forward == "shared_prompt":
            if self.accelerator.num_processes > 1:
                raise ValueError("forward='shared_prompt' runs in one process; use forward='trl' for several")
            if config.truncation_mode != "keep_start":
                raise ValueError("forward='shared_prompt' needs truncation_mode='keep_start'")

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Rows that carry token ids are ready; everything else is TRL's."""
        if "prompt_ids" in (dataset.column_names or ()):
            return dataset
        return super()._prepare_dataset(dataset, *args, **kwargs)

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Rows that carry reference log-probabilities, or need none, are ready; everything else is TRL's."""
        if not self.method.needs_reference or "ref_chosen_logps" in (dataset.column_names or ()):
            return dataset
        return super()._precompute_ref_logps(dataset, *args, **kwargs)

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        if return_outputs:
            raise ValueError("AdaDPOTrainer computes no logits: set prediction_loss_only=True")
        policy = self._pair_logps(model, inputs)
        reference = self._reference_logps(model, inputs) if self.method.needs_reference else (None, None)
        result = preference_loss(
            self.method,
            chosen_logps=policy.chosen,
            rejected_logps=policy.rejected,
            chosen_lengths=policy.chosen_lengths,
            rejected_lengths=policy.rejected_lengths,
            reference_chosen_logps=reference[0],
            reference_rejected_logps=reference[1],
        )
        self._record(inputs, policy, result)
        return result.loss.mean()

    def _pair_logps(self, model: Any, inputs: dict[str, Tensor]) -> PairLogps:
        """The policy's log-probabilities, by the configured forward pass."""
        if self.args.forward == "shared_prompt":
            # Accelerate puts its autocast around model.forward, which this path goes past.
            with self.accelerator.autocast():
                return packed_pair_logps(self.accelerator.unwrap_model(model), inputs)
        completion = inputs["completion_mask"]
        labels = inputs["input_ids"].masked_fill(completion == 0, -100)
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
            labels=labels,
            fused_lm_head=True,
        )
        scored = completion[:, 1:]
        sums = outputs.log_probs[:, -scored.shape[1] :].sum(dim=1)
        return PairLogps(*sums.chunk(2), *scored.sum(dim=1).chunk(2))

    def _reference_logps(self, model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """From the batch's columns when they were computed before, else from the reference model."""
        if "ref_chosen_logps" in inputs:
            return inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        chosen, rejected = self.compute_ref_log_probs(self.ref_model or model, inputs)
        return chosen, rejected

    def _record(self, inputs: dict[str, Tensor], policy: PairLogps, result: PreferenceLoss) -> None:
        """Adds the batch's means to the metrics that TRL averages and logs."""
        mode = "train" if self.model.training else "eval"
        if mode == "train":
            tokens = self.accelerator.gather_for_metrics(inputs["attention_mask"].sum()).sum().item()
            self._total_train_tokens += tokens // self._tp_size
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
        values = {
            "rewards/chosen": result.chosen_rewards,
            "rewards/rejected": result.rejected_rewards,
            "rewards/accuracies": (result.chosen_rewards > result.rejected_rewards).float(),
            "rewards/margins": result.chosen_rewards - result.rejected_rewards,
            "logps/chosen": policy.chosen.detach(),
            "logps/rejected": policy.rejected.detach(),
            "balance/chosen": result.chosen_coefficient,
            "balance/rejected": result.rejected_coefficient,
            "balance/clipped": result.clipped.float(),
            "balance/log_gradient_ratio": result.log_gradient_ratio,
        }
        for name, value in values.items():
            self._metrics[mode][name].append(self.accelerator.gather(value).mean().item())

"""AdaDPOTrainer: TRL's DPOTrainer with one method of this family as its loss."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from transformers.trainer_utils import has_length
from trl import DPOConfig, DPOTrainer

from adadpo.data.batching import LengthSampler, Share, micro_batch_shares, pair_lengths
from adadpo.logprobs import PairLogps, packed_pair_logps
from adadpo.method.losses import PreferenceLoss, preference_loss
from adadpo.method.registry import Method, make_method

# TRL's options of its own loss, at their defaults: they do nothing here, so nothing else is accepted.
TRL_LOSS = {
    "loss_type": ["sigmoid"],
    "loss_weights": None,
    "ld_alpha": None,
    "f_divergence_type": "reverse_kl",
    "label_smoothing": 0.0,
    "use_weighting": False,
}


CHOICES = {
    "forward": ("trl", "shared_prompt"),
    "batching": ("random", "by_length"),
    "mean_over": ("micro_batch", "step"),
}


@dataclass
class AdaDPOConfig(DPOConfig):
    """TRL's DPOConfig plus the method; `beta` is the method's own default unless it is given.

    A method without reference (CPO, SimPO, ORPO) loads none.

    Raises:
        ValueError: `forward`, `batching`, `mean_over` or a method option is not one of its choices, or an option of
            TRL's own loss is set.
    """

    _VALID_DICT_FIELDS = DPOConfig._VALID_DICT_FIELDS + ["method_options"]  # noqa: RUF005 -- as TRL's

    method: str = field(
        default="adadpo",
        metadata={"help": "Preset of adadpo.method.registry: dpo, adadpo, simpo, adasimpo, ..."},
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
        metadata={"help": "trl: TRL's own forward pass; shared_prompt: the prompt computed once per pair."},
    )
    batching: str = field(
        default="random",
        metadata={
            "help": "random: transformers' order; by_length: at random too, with pairs of like length in a step of all "
            "processes, so that less is padding."
        },
    )
    mean_over: str = field(
        default="micro_batch",
        metadata={
            "help": "micro_batch: the mean of the micro-batches' means, as TRL; step: over the pairs of a step, "
            "however it is split: an incomplete micro-batch weighs by its pairs, duplicates that fill up the last "
            "batch of several processes weigh nothing."
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
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be {choices[0]!r} or {choices[1]!r}, got {getattr(self, name)!r}"
                )
        if self.batching == "by_length" and self.train_sampling_strategy != "random":
            raise ValueError(
                f"batching='by_length' and train_sampling_strategy={self.train_sampling_strategy!r} are two orders; "
                "remove one"
            )
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

    At every step it logs, in addition to DPOTrainer's reward metrics, the coefficients `balance/chosen` (c_w) and
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
        self._shares: Iterator[Share] = iter(())  # of the step's micro-batches that are still to come
        if config.forward == "shared_prompt":
            if config.truncation_mode != "keep_start":
                raise ValueError("forward='shared_prompt' needs truncation_mode='keep_start'")
            accept_packed_pairs(self.model)

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

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Pairs of like length in a step of all processes, where it is configured; else transformers' order."""
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if self.args.batching == "random" or not has_length(dataset):
            return super()._get_train_sampler(train_dataset)
        per_step = self._train_batch_size * self.args.gradient_accumulation_steps
        return LengthSampler(
            pair_lengths(dataset, self.args.max_length),
            batch_size=per_step * self.accelerator.num_processes,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
        )

    def get_train_dataloader(self) -> Any:
        """Transformers', whose sampler is told the epoch in mid-epoch too: accelerate looks at the outer one alone."""
        loader = super().get_train_dataloader()
        dealt_out = getattr(loader.batch_sampler, "batch_sampler", None)  # by several processes
        if isinstance(sampler := getattr(dealt_out, "sampler", None), LengthSampler):
            loader.set_sampler(sampler)
        return loader

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """A step's micro-batches; what each of them weighs is noted."""
        samples, items = super().get_batch_samples(*args, **kwargs)
        if self.args.mean_over == "micro_batch":
            return samples, items
        self._shares = iter(
            micro_batch_shares(
                pairs=len(self.train_dataset),
                per_batch=self._train_batch_size,
                accumulation=self.args.gradient_accumulation_steps,
                processes=self.accelerator.num_processes,
                rank=self.accelerator.process_index,
                step=self.state.global_step,
                batches=len(samples),
            )
        )
        return samples, items

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
        share = self._share(len(result.loss))
        self._record(inputs, policy, result, share)
        # A batch of duplicates alone takes part, as the other processes wait for its gradients, which are 0.
        mean = result.loss[: share.pairs].mean() if share.pairs else 0 * result.loss.sum()
        return mean * share.weight

    def _share(self, pairs: int) -> Share:
        """The weight of a batch in the loss: 1 where the mean is TRL's, and in evaluation."""
        if self.args.mean_over == "micro_batch" or not self.model.training:
            return Share(pairs, 1.0)
        share = next(self._shares)
        if share.pairs > pairs:
            raise RuntimeError(f"a micro-batch has {pairs} pairs where {share.pairs} are due")
        return share

    def _pair_logps(self, model: Any, inputs: dict[str, Tensor]) -> PairLogps:
        """The policy's log-probabilities, by the configured forward pass."""
        if self.args.forward == "shared_prompt":
            with self.accelerator.autocast():
                return PairLogps(*model(packed_pairs=inputs))
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

    def _record(
        self, inputs: dict[str, Tensor], policy: PairLogps, result: PreferenceLoss, share: Share
    ) -> None:
        """Adds the batch's means over all processes to the metrics that TRL averages and logs."""
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
        if self.args.mean_over == "micro_batch":
            means = [self.accelerator.gather(value).mean() for value in values.values()]
        else:
            # Of several processes every one has a share of the whole, which is the mean of what they give.
            sums = [value[: share.pairs].double().sum() for value in values.values()]
            means = list(self.accelerator.reduce(torch.stack(sums) * share.scale, "mean"))
        for name, mean in zip(values, means, strict=True):
            self._metrics[mode][name].append(mean.item())


def accept_packed_pairs(model: Any) -> None:
    """Let `model(packed_pairs=batch)` give `packed_pair_logps(model, batch)`.

    Through the model's own forward, because that is where wrappers for several processes gather parameters and
    gradients.
    """
    plain = model.forward

    @wraps(plain)  # transformers reads its signature
    def forward(*args: Any, packed_pairs: dict[str, Tensor] | None = None, **kwargs: Any) -> Any:
        if packed_pairs is not None:
            return tuple(packed_pair_logps(model, packed_pairs))
        return plain(*args, **kwargs)

    model.forward = forward

"""Reward models: sequence classifiers with one output, from the hub or a folder, that score single answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adadpo.errors import ModelError
from adadpo.models.load import ModelSource, _from, _plain_errors, prepare_model
from adadpo.models.policy import DTYPES, device
from adadpo.quiet import quiet

_NO_LIMIT = 10**6  # tokenizers without a limit of their own declare an astronomic one


@dataclass(frozen=True)
class RewardScorer:
    """A loaded reward model; calling it scores answers.

    Attributes:
        name: the model's name and where its content is fixed, for annotations.
        model: a sequence classifier with one output, in evaluation mode.
        tokenizer: its tokenizer.
        max_length: tokens that it reads.
        batch_size: answers scored at once.
    """

    name: str
    model: Any
    tokenizer: Any
    max_length: int
    batch_size: int

    def __call__(
        self,
        prompts: Sequence[Sequence[Mapping[str, str]]],
        answers: Sequence[str],
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> tuple[list[float], list[bool]]:
        """Score answers, batched by length; the same texts in the same call give the same scores.

        Args:
            prompts: the messages that each answer answers.
            answers: one per prompt.
            on_progress: called with answers scored and answers in all.

        Returns:
            Rewards (raw outputs, float32 on the way out) and whether each text was cut to `max_length`, in order.

        Raises:
            ModelError: the chat template refuses the messages.
        """
        encoded = [self._encode(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        order = sorted(range(len(encoded)), key=lambda i: -len(encoded[i][0]["input_ids"]))
        # Without a pad token the model pools the last position of a row: one row at a time is then exact.
        padded = self.model.config.get_text_config().pad_token_id is not None
        size = self.batch_size if padded else 1
        rewards = [0.0] * len(encoded)
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            batch = self._batch([encoded[i][0] for i in rows])
            with torch.inference_mode():
                scores = self.model(**batch).logits.float().reshape(len(rows)).tolist()
            for i, score in zip(rows, scores, strict=True):
                rewards[i] = score
            on_progress(min(start + size, len(order)), len(order))
        return rewards, [cut for _, cut in encoded]

    def _encode(self, prompt: Sequence[Mapping[str, str]], answer: str) -> tuple[dict[str, list[int]], bool]:
        """Token ids and whether they were cut: the prompt loses its beginning, the answer is kept longest."""
        if not self.tokenizer.chat_template:
            text = "\n\n".join(message["content"] for message in prompt)
            whole = self.tokenizer(text, answer)
            if len(whole["input_ids"]) <= self.max_length:
                return dict(whole), False
            return dict(self.tokenizer(text, answer, truncation=True, max_length=self.max_length)), True
        from jinja2 import TemplateError

        messages = [*prompt, {"role": "assistant", "content": answer}]
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        except TemplateError as error:
            raise ModelError(f"{self.name}: its chat template refuses a conversation: {error}") from error
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        cut = len(ids) > self.max_length
        if cut:
            head = 1 if ids[0] == self.tokenizer.bos_token_id else 0
            ids = ids[:head] + ids[head - self.max_length :]
        return {"input_ids": ids, "attention_mask": [1] * len(ids)}, cut

    def _batch(self, rows: Sequence[Mapping[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Int[rows, L], padding behind."""
        width = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": self.model.config.get_text_config().pad_token_id or 0}
        return {
            key: torch.tensor([row[key] + [fill.get(key, 0)] * (width - len(row[key])) for row in rows]).to(
                self.model.device
            )
            for key in rows[0]
        }


def load_reward_model(
    source: ModelSource, *, precision: str = "float32", batch_size: int = 16, max_length: int | None = None
) -> RewardScorer:
    """Load a reward model, on the GPU if there is one.

    Args:
        source: from `models.resolve_model`; a folder or a hub id. Code from its repository is never run, weights
            are read from safetensors only.
        precision: "bfloat16" or "float32".
        batch_size: answers scored at once.
        max_length: tokens; None: what model and tokenizer can read.

    Raises:
        ModelError: it cannot be fetched or read, has not exactly one output, or its output layer is not in its
            weights (a language model that was never trained to give rewards).
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    with _plain_errors(source), quiet():
        where = prepare_model(source)
        config = AutoConfig.from_pretrained(where, **_from(source))
        if config.num_labels != 1:
            raise ModelError(
                f"model {source.name!r} is no reward model: it gives {config.num_labels} outputs for a text, "
                "a reward model gives one (num_labels: 1 in its config.json)"
            )
        model, info = AutoModelForSequenceClassification.from_pretrained(
            where, dtype=DTYPES[precision], use_safetensors=True, output_loading_info=True, **_from(source)
        )
        if missing := sorted(info["missing_keys"]):
            raise ModelError(
                f"model {source.name!r} is no reward model: its weights lack {', '.join(missing)}"
            )
        tokenizer = AutoTokenizer.from_pretrained(where, **_from(source))
    limits = [max_length, tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
    known = [limit for limit in limits if limit is not None and limit < _NO_LIMIT]
    name = source.name if source.revision is None else f"{source.name}@{source.revision}"
    return RewardScorer(name, model.to(device()).eval(), tokenizer, min(known, default=_NO_LIMIT), batch_size)

"""From an annotator's settings and a filled-in prompt to the request that an OpenAI-compatible endpoint gets.

It follows alpaca_eval's `decoders/openai.py`: the same defaults, ChatML read by its own function. One thing differs:
the chat endpoint is chosen by the template (ChatML or not), not by the model's name, so that a served model with
"instruct" in its name gets messages. Settings of other decoders are read as OpenAI's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from adadpo.errors import JudgeError, QuestionError
from analysis.judges.annotators import OPERATIONAL

Messages = list[dict[str, str]]
_DEFAULTS = {"max_tokens": 2048, "temperature": 0.7, "top_p": 1.0}  # decoders/openai.py of alpaca_eval 0.6.6
_ROLES = ("system", "user", "assistant")
_RENAMED = {"max_new_tokens": "max_tokens", "max_tokens_to_sample": "max_tokens"}
_TOKEN_BIAS = (("tokens_to_avoid", -100), ("tokens_to_favor", 7))  # ibid.


def parameters(kwargs: Mapping[str, Any], override: str | None) -> dict[str, Any]:
    """What every request of an annotator has: model and sampling parameters.

    Args:
        kwargs: the annotator's `completions_kwargs`.
        override: a model to ask instead of the configuration's.

    Raises:
        JudgeError: no model is named, or token biases need a vocabulary that cannot be had.
    """
    asked: dict[str, Any] = dict(_DEFAULTS)
    if "max_completion_tokens" in kwargs:  # newer models refuse the older name
        del asked["max_tokens"]
    bias_keys = {key for key, _ in _TOKEN_BIAS}
    for key, value in kwargs.items():
        if key not in OPERATIONAL | bias_keys | {"model_name"}:
            asked[_RENAMED.get(key, key)] = value
    model = override or kwargs.get("model_name")
    if not model:
        raise JudgeError("the annotators configuration names no model: give the judge's `model`")
    asked = {"model": str(model)} | {key: value for key, value in asked.items() if value is not None}
    if any(kwargs.get(key) for key in bias_keys):
        asked["logit_bias"] = _logit_bias(str(model), kwargs) | dict(asked.get("logit_bias") or {})
    return asked


def question(
    prompt: str, asked: Mapping[str, Any], repeat: int, prompt_to_chatml: Callable[[str], Messages]
) -> dict[str, Any]:
    """The request for one prompt.

    Args:
        prompt: the filled-in template.
        asked: from `parameters`.
        repeat: 0 is asked exactly as alpaca_eval asks; later ones give a sampling judge a seed of their own.
        prompt_to_chatml: alpaca_eval's.

    Raises:
        QuestionError: an answer contains ChatML's own marks, so that the prompt falls apart.
    """
    text = prompt.strip()
    request = dict(asked)
    if repeat and request.get("temperature", 0) > 0:
        request["seed"] = repeat
    if not text.startswith("<|im_start|>"):
        return request | {"prompt": text}
    try:
        messages = prompt_to_chatml(text)
        broken = any(message["role"] not in _ROLES for message in messages)
    except (AssertionError, IndexError):
        broken = True
    if broken:
        raise QuestionError("the prompt is no valid ChatML: an answer contains its marks")
    return request | {"messages": messages}


def _logit_bias(model: str, kwargs: Mapping[str, Any]) -> dict[str, int]:
    import tiktoken

    try:
        encoding = tiktoken.encoding_for_model(model)
    except Exception as error:  # an unknown model, or any failure of its download
        raise JudgeError(
            f"tokens_to_avoid and tokens_to_favor need the vocabulary of {model!r}, which tiktoken cannot give: "
            f"{type(error).__name__}"
        ) from None
    bias: dict[str, int] = {}
    for key, value in _TOKEN_BIAS:
        for text in kwargs.get(key) or ():
            tokens = encoding.encode(text)
            if key == "tokens_to_favor" or len(tokens) == 1:
                bias |= {str(token): value for token in tokens}
    return bias

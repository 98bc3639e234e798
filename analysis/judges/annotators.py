"""alpaca_eval's annotators configurations, read without importing it, and the requests that follow from them.

Requests follow alpaca_eval's `decoders/openai.py`: the same defaults, ChatML read by its own function. One thing
differs: the template (ChatML or not) chooses the chat endpoint, not the model's name, so that a served model with
"instruct" in its name gets messages. Settings of other decoders are read as OpenAI's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from adadpo.errors import JudgeError, QuestionError

NEEDS_PACKAGE = "the alpaca_eval judge needs packages that are not installed: pip install 'adadpo[judge]'"

# Settings of a decoder that say how it is run, not what is asked.
OPERATIONAL = frozenset(
    (
        *("batch_size", "client_config_path", "client_function_name", "client_kwargs", "is_chat"),
        *(
            "is_chatml_prompt",
            "is_fast_tokenizer",
            "is_skip_multi_tokens_to_avoid",
            "is_strip",
            "model_kwargs",
        ),
        *("n_retries", "num_procs", "openai_api_base", "openai_api_keys", "openai_organization_ids"),
        *("price_per_token", "requires_chatml", "sleep_time"),
    )
)
_IN_WORDS_ONLY = ("pretty_name", "link", "prompt_template", "completions_kwargs")


@dataclass(frozen=True)
class Annotators:
    """One annotators configuration.

    Attributes:
        name: of its folder.
        file: its configs.yaml.
        settings: of each annotator, as the file has them.
        templates: the text of each annotator's prompt template.
        digest: sha256 over everything that decides a preference; neither paths nor how requests are sent.
    """

    name: str
    file: Path
    settings: dict[str, dict[str, Any]]
    templates: dict[str, str]
    digest: str

    def models(self, override: str | None) -> list[str]:
        """The models that are asked, each once."""
        if override is not None:
            return [override]
        named = [kwargs_of(settings).get("model_name") for settings in self.settings.values()]
        return sorted({str(name) for name in named if name})


def kwargs_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """An annotator's settings of its decoder."""
    return dict(settings.get("completions_kwargs") or {})


def read_annotators(config: str) -> Annotators:
    """Read a configuration by its name in alpaca_eval, or from a folder with a configs.yaml.

    Raises:
        JudgeError: alpaca_eval is not installed, there is no such configuration, or it is not one.
    """
    base = _package_folder() / "evaluators_configs"
    file = (
        base / config / "configs.yaml"
    )  # a name first: alpaca_eval calls folders of results like this as well
    if not file.is_file():
        own = Path(config).expanduser().absolute()
        file = own / "configs.yaml" if own.is_dir() else own
    if not file.is_file():
        known = ", ".join(sorted(folder.parent.name for folder in base.glob("weighted_*/configs.yaml")))
        raise JudgeError(
            f"no annotators configuration {config!r}: neither a folder with configs.yaml nor one of alpaca_eval's "
            f"(among them {known})"
        )
    settings = _read_yaml(file)
    templates = {name: _template(one, file, name) for name, one in settings.items()}
    return Annotators(file.parent.name, file, settings, templates, _digest(settings, templates))


def package_version() -> str:
    """The version of alpaca_eval: its parsers decide preferences too."""
    _package_folder()
    return version("alpaca_eval")


def _package_folder() -> Path:
    spec = find_spec("alpaca_eval")
    if spec is None or not spec.submodule_search_locations or find_spec("openai") is None:
        raise JudgeError(NEEDS_PACKAGE)
    return Path(spec.submodule_search_locations[0])


def _read_yaml(file: Path) -> dict[str, dict[str, Any]]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise JudgeError(f"cannot read {file}: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or not content:
        raise JudgeError(f"{file}: expected annotators by name")
    for name, settings in content.items():
        if not isinstance(settings, dict) or not isinstance(settings.get("prompt_template"), str):
            raise JudgeError(f"{file}: annotator {name!r} has no prompt_template")
        kwargs = settings.get("completions_kwargs") or {}
        if not isinstance(kwargs, dict):
            raise JudgeError(f"{file}: annotator {name!r}: completions_kwargs must be a mapping")
        if "openai_api_keys" in kwargs or "api_key" in (kwargs.get("client_kwargs") or {}):
            raise JudgeError(
                f"{file}: annotator {name!r} holds an API key; keys come from the environment only"
            )
    return content


def _template(settings: Mapping[str, Any], file: Path, name: str) -> str:
    """A template's text; as in alpaca_eval its path is relative to the parent of the configuration's folder."""
    given: str = settings["prompt_template"]
    path = file.parents[1] / given
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise JudgeError(f"{file}: annotator {name!r}: no prompt template {path}") from error
    if "{output_1}" not in text or "{output_2}" not in text:
        raise JudgeError(f"{path}: a prompt template needs {{output_1}} and {{output_2}}")
    return text


def _digest(settings: Mapping[str, Mapping[str, Any]], templates: Mapping[str, str]) -> str:
    content = {
        name: {
            **{key: value for key, value in one.items() if key not in _IN_WORDS_ONLY},
            "template": templates[name],
            "asked": {key: value for key, value in kwargs_of(one).items() if key not in OPERATIONAL},
        }
        for name, one in settings.items()
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


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
        JudgeError: no model is named, or token biases need a vocabulary that tiktoken cannot give.
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
        raise JudgeError("the annotators configuration names no model: set judge.model")
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


def canonical_json(value: Any) -> str:
    """The one JSON text of a value, for digests and sizes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


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

"""Annotators configurations of alpaca_eval, read without importing it: what they ask, of which model, their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from adadpo.errors import JudgeError

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

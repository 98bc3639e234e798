"""The judges' configurations: validated, immutable, no heavy imports. An API key is never part of one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

DEFAULT_KEY = "OPENAI_API_KEY"


class JudgeSection(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Rubric(JudgeSection):
    """Counts the constraints that an answer meets; free, no network, no model."""

    kind: Literal["rubric"]


class Prices(JudgeSection):
    """What an API charges, in dollars per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class AlpacaEval(JudgeSection):
    """An annotators configuration of alpaca_eval, asked through any endpoint that speaks OpenAI's protocol."""

    kind: Literal["alpaca_eval"]
    config: str = "weighted_alpaca_eval_gpt4_turbo"  # a name in alpaca_eval, or a folder with configs.yaml
    model: str | None = None  # asked instead of the configuration's own, e.g. what a vLLM server serves
    base_url: str | None = None  # None: OpenAI's, or OPENAI_BASE_URL
    api_key_env: str = DEFAULT_KEY  # name of the environment variable; with base_url it may be unset
    both_orders: bool = False  # each pair in both orders of presentation, the preference is their mean
    repeats: int = Field(default=1, ge=1)  # judgements of a pair in one order
    concurrency: int = Field(default=8, ge=1)  # requests under way at once
    max_cost: float | None = Field(default=None, ge=0)  # dollars, over all processes and launches
    prices: Prices | None = None  # None: known for OpenAI's judges
    timeout: float = Field(default=60.0, gt=0)  # seconds for one answer
    attempts: int = Field(default=6, ge=1)  # for one answer

    @field_validator("api_key_env")
    @classmethod
    def _name_of_a_variable(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            # Not repeated: it may be the key itself.
            raise ValueError(
                "api_key_env is the name of an environment variable (letters, digits, _), never a key"
            )
        return value

    @field_validator("base_url")
    @classmethod
    def _no_secret_in_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("base_url must look like http://host:port/v1")
        if url.username or url.password or url.query or url.fragment:
            # Not repeated: it would end up in logs and reports.
            raise ValueError("base_url must hold no user, password or query; keys come from the environment")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _costs_are_capped(self) -> AlpacaEval:
        if self.base_url is None and self.max_cost is None:
            raise ValueError(
                "max_cost (dollars) is needed where base_url is not given: OpenAI's API costs money"
            )
        return self


class RewardModel(JudgeSection):
    """A sequence-classification model with one output; preference = 1 + sigmoid(difference of the scores)."""

    kind: Literal["reward_model"]
    model: str  # a folder, or a hub id with optional @revision
    batch_size: int = Field(default=16, ge=1)
    max_length: int | None = Field(default=None, ge=8)  # tokens; None: what the model can read
    precision: Literal["bfloat16", "float32"] = "float32"


class Import(JudgeSection):
    """Annotations that alpaca_eval has already written."""

    kind: Literal["import"]
    path: str  # .json or .json.gz, or a folder of them: each run takes the file that holds its answers


JudgeConfig = Annotated[Rubric | AlpacaEval | RewardModel | Import, Field(discriminator="kind")]
KINDS = ("rubric", "alpaca_eval", "reward_model", "import")

_ADAPTER: TypeAdapter[Rubric | AlpacaEval | RewardModel | Import] = TypeAdapter(JudgeConfig)


def judge_config(value: str | Mapping[str, Any] | JudgeSection) -> Rubric | AlpacaEval | RewardModel | Import:
    """The validated configuration; a bare name such as "rubric" stands for `{kind: rubric}`.

    Raises:
        pydantic.ValidationError: unknown kind or key, or a value that cannot be.
    """
    if isinstance(value, str):
        value = {"kind": value}
    return _ADAPTER.validate_python(value)

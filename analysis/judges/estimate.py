"""What judging would cost, said before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from analysis.judges.annotators import kwargs_of, read_annotators
from analysis.judges.config import AlpacaEval, Import, RewardModel, Rubric
from analysis.judges.questions import parameters
from analysis.judges.spending import price, prices_of

CHARACTERS_PER_TOKEN = (
    4  # of English under the vocabularies of today's judges; no vocabulary is fetched for a plan
)


@dataclass(frozen=True)
class Estimate:
    """Requests and cost of judging `runs` candidates; None is not known, `reason` says why.

    Attributes:
        requests: at most, with an empty cache.
        input_tokens: about.
        output_tokens: at most.
        dollars: about; 0 for a judge that asks no API.
        max_cost: the cap, None without one.
        reason: what the estimate rests on, or why it is missing.
    """

    requests: int
    input_tokens: int
    output_tokens: int
    dollars: float | None
    max_cost: float | None
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def estimate(
    config: Rubric | AlpacaEval | RewardModel | Import,
    prompts: Sequence[Mapping[str, Any]],
    *,
    runs: int,
    answer_tokens: int,
    baseline: Sequence[str] | None = None,
) -> Estimate:
    """Estimate the cost of judging.

    Args:
        config: the judge.
        prompts: of the evaluation.
        runs: candidates to be judged.
        answer_tokens: the longest answer that a candidate may give, `max_new_tokens`.
        baseline: the baseline's answers, where known; else they count as the candidates'.

    Raises:
        JudgeError: an alpaca_eval configuration that cannot be read.
    """
    if not isinstance(config, AlpacaEval):
        return Estimate(0, 0, 0, 0.0, None, "asks no API")
    annotators = read_annotators(config.config)
    passes = config.repeats * (2 if config.both_orders else 1)
    instructions = sum(len(prompt["instruction"]) for prompt in prompts) / CHARACTERS_PER_TOKEN
    answers = float(len(prompts) * answer_tokens)
    first = answers if baseline is None else sum(map(len, baseline)) / CHARACTERS_PER_TOKEN
    # Annotators of a pool share the prompts at random: their mean is what a prompt costs.
    pool = [
        _of_one(config, annotators.settings[name], annotators.templates[name]) for name in annotators.settings
    ]
    requests = len(prompts) * passes * runs
    template = fmean(one[0] for one in pool)
    output = fmean(one[1] for one in pool)
    input_tokens = (instructions + first + answers + len(prompts) * template) * passes * runs
    output_tokens = output * requests
    prices = [one[2] for one in pool]
    reason = f"{CHARACTERS_PER_TOKEN} characters a token, answers of {answer_tokens} tokens, nothing cached"
    dollars = None
    if None in prices:
        reason = (
            f"no price is known for {', '.join(annotators.models(config.model))}: give the judge's prices"
        )
    else:
        known = [one for one in prices if one is not None]
        dollars = fmean(price(one, input_tokens, output_tokens) for one in known)
    return Estimate(requests, round(input_tokens), round(output_tokens), dollars, config.max_cost, reason)


def _of_one(config: AlpacaEval, settings: Mapping[str, Any], template: str) -> tuple[float, float, Any]:
    """Tokens of the template, tokens of the answer and prices, per pair."""
    kwargs = kwargs_of(settings)
    batch = int(settings.get("batch_size", 1))
    limit = (
        kwargs.get("max_completion_tokens") or parameters(_without_bias(kwargs), config.model)["max_tokens"]
    )
    prices = prices_of(config.model or str(kwargs.get("model_name")), config.prices, kwargs)
    return len(template) / CHARACTERS_PER_TOKEN / batch, float(limit) / batch, prices


def _without_bias(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Token biases cost nothing, and working them out fetches a vocabulary."""
    return {key: value for key, value in kwargs.items() if not key.startswith("tokens_to_")}

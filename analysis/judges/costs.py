"""What an API judge costs: prices, an estimate before judging, and a ledger on disk that enforces the cap.

Before a request is sent, the ledger enters its highest possible price as open; the answer's usage then replaces that
by the real price. The sum of both never exceeds the cap, over all threads, processes and launches that share the
ledger. A request without a known end (a timeout, a broken connection, a killed process) may have been charged: it
stays at its highest price.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock

from adadpo.errors import JudgeError
from adadpo.files import atomic_write
from analysis.judges.annotators import canonical_json, kwargs_of, parameters, read_annotators
from analysis.judges.config import AlpacaEval, Import, Prices, RewardModel, Rubric

# Dollars per million tokens, OpenAI's list for the models that alpaca_eval's configurations name. Anything else is
# given in the judge's `prices`: a guess would make the cap a guess.
_KNOWN = {
    "gpt-4": Prices(input=30, output=60),
    "gpt-4-0314": Prices(input=30, output=60),
    "gpt-4-0613": Prices(input=30, output=60),
    "gpt-4-1106-preview": Prices(input=10, output=30),
    "gpt-4-turbo": Prices(input=10, output=30),
    "gpt-4o-mini-2024-07-18": Prices(input=0.15, output=0.6),
    "gpt-3.5-turbo-1106": Prices(input=1, output=2),
    "gpt-3.5-turbo-instruct": Prices(input=1.5, output=2),
}
# What a chat template may add to the texts: a default system prompt, the marks around each message.
_TEMPLATE_TOKENS, _MESSAGE_TOKENS = 64, 16
_ROUNDING = 1e-9  # dollars: sums of floats may miss the cap by less


def prices_of(model: str, given: Prices | None, kwargs: Mapping[str, Any]) -> Prices | None:
    """Dollars per million tokens: given ones, a configuration's `price_per_token`, known ones, or None."""
    if given is not None:
        return given
    if kwargs.get("price_per_token") is not None:
        each = float(kwargs["price_per_token"]) * 1e6
        return Prices(input=each, output=each)
    return _KNOWN.get(model)


def price(prices: Prices, input_tokens: float, output_tokens: float) -> float:
    """Dollars for so many tokens."""
    return (prices.input * input_tokens + prices.output * output_tokens) / 1e6


def highest_price(request: Mapping[str, Any], prices: Prices) -> float:
    """Dollars that one attempt cannot exceed: a token has at least one byte, an answer at most its limit."""
    asked = {key: request[key] for key in ("messages", "prompt", "tools", "functions") if key in request}
    tokens = len(canonical_json(asked).encode()) + _TEMPLATE_TOKENS
    tokens += _MESSAGE_TOKENS * len(request.get("messages", ()))
    answer = request.get("max_completion_tokens") or request.get("max_tokens") or 0
    return price(prices, tokens, float(answer) * int(request.get("n") or 1))


@dataclass(frozen=True)
class Spent:
    """Dollars so far: charged, and at most charged for requests whose end is not known (yet)."""

    charged: float
    open: float


class Ledger:
    """The ledger of one account; threads share the object, processes the file."""

    def __init__(self, file: Path, cap: float | None) -> None:
        self.file, self.cap = file, cap
        self._lock = FileLock(file.with_suffix(".lock"), poll_interval=0.02)
        self._changed = threading.Condition()
        self._mine: set[str] = set()

    def spent(self) -> Spent:
        """The state of the ledger."""
        ledger = self._read()
        return Spent(ledger["charged"], float(sum(ledger["open"].values())))

    def reserve(self, highest: float) -> str:
        """Enter a request's highest price; waits for this process's other requests when it may fit after them.

        Returns:
            The entry, for `settle`.

        Raises:
            JudgeError: it could exceed the cap.
        """
        with self._changed:
            while True:
                entry = self._try(highest)
                if entry is not None:
                    self._mine.add(entry)
                    return entry
                if not self._mine:
                    raise JudgeError(self._cap_message(highest))
                self._changed.wait()

    def settle(self, entry: str, charged: float | None) -> None:
        """Replace an entry by what was charged; None: unknown, it stays at its highest price."""
        with self._changed:
            self._mine.discard(entry)
            if charged is not None:
                with self._lock:
                    ledger = self._read()
                    ledger["open"].pop(entry, None)
                    ledger["charged"] += charged
                    atomic_write(self.file, json.dumps(ledger))
            self._changed.notify_all()

    def _try(self, highest: float) -> str | None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            ledger = self._read()
            total = ledger["charged"] + sum(ledger["open"].values()) + highest
            if self.cap is not None and total > self.cap + _ROUNDING:
                return None
            entry = uuid.uuid4().hex
            ledger["open"][entry] = highest
            atomic_write(self.file, json.dumps(ledger))
            return entry

    def _read(self) -> dict[str, Any]:
        if not self.file.exists():
            return {"charged": 0.0, "open": {}}
        try:
            ledger = json.loads(self.file.read_text(encoding="utf-8"))
            return {"charged": float(ledger["charged"]), "open": dict(ledger["open"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            # Starting at 0 again would break the cap.
            raise JudgeError(
                f"{self.file}: the record of the costs cannot be read; restore or delete it"
            ) from error

    def _cap_message(self, highest: float) -> str:
        spent = self.spent()
        unknown = f" (at most ${spent.open:.4f} for requests without a known end)" if spent.open else ""
        return (
            f"the judge stopped at its cost cap: ${spent.charged + spent.open:.4f} spent of max_cost ${self.cap:g}"
            f"{unknown}, and the next request may cost up to ${highest:.4f}. Every paid answer is kept: raise "
            "max_cost and run the same command again"
        )


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
        reason = f"cost unknown: no price for {', '.join(annotators.models(config.model))}; set judge.prices"
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

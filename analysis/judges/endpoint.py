"""One question to an OpenAI-compatible endpoint: attempts, backoff, what was charged. No secret leaves this module.

The client's own retries are off: here one loop retries what the client would (429, 408, 409, 5xx, timeouts, broken
connections) and also what it cannot see, answers that cannot be used.
"""

from __future__ import annotations

import email.utils
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adadpo.errors import (
    FailedRequestError,
    JudgeError,
    JudgingStoppedError,
    UnavailableError,
    UnusableAnswerError,
)
from analysis.judges.annotators import NEEDS_PACKAGE
from analysis.judges.config import DEFAULT_KEY, AlpacaEval, Prices
from analysis.judges.costs import Ledger, highest_price, price

_RETRIED = (408, 409, 429)
_SHORTEST_SECRET = 8  # what is shorter is a placeholder such as EMPTY, and would blot out ordinary words


@dataclass(frozen=True)
class Waits:
    """Seconds between attempts: `first` doubles up to `longest`, half of it random; Retry-After comes first."""

    first: float = 1.0
    longest: float = 60.0

    def seconds(self, attempt: int, retry_after: float | None, rng: random.Random) -> float:
        """Seconds to wait after attempt 0, 1, ..."""
        backoff = min(self.longest, self.first * 2.0**attempt)
        return max(backoff * rng.uniform(0.5, 1.0), min(retry_after or 0.0, self.longest))


@dataclass(frozen=True)
class _Fault:
    reason: str
    retry: bool
    charge_unknown: bool = False
    retry_after: float | None = None
    hits_all: bool = False  # no other question could do better


class Endpoint:
    """An API and its key. Threads share it."""

    def __init__(
        self, config: AlpacaEval, base_url: str | None, environment: Mapping[str, str], waits: Waits
    ) -> None:
        """Connect to nothing yet.

        Raises:
            JudgeError: the client's package or the key is missing.
        """
        try:
            import openai
        except ImportError:
            raise JudgeError(NEEDS_PACKAGE) from None
        key = environment.get(config.api_key_env)
        if not key and (base_url is None or config.api_key_env != DEFAULT_KEY):
            raise JudgeError(
                f"the judge's API key is missing: set the environment variable {config.api_key_env}"
            )
        self._secret = key if key and len(key) >= _SHORTEST_SECRET else None
        self._client = openai.OpenAI(
            api_key=key or "EMPTY", base_url=base_url, timeout=config.timeout, max_retries=0
        )
        self._attempts, self._waits = config.attempts, waits
        self.faults: Counter[str] = Counter()  # reasons of failed attempts
        self.attempts = 0
        self._counting = threading.Lock()

    def close(self) -> None:
        """End its connections."""
        self._client.close()

    def ask(
        self,
        request: Mapping[str, Any],
        *,
        ledger: Ledger | None,
        prices: Prices | None,
        stop: threading.Event,
        seed: str,
    ) -> dict[str, Any]:
        """An answer that can be used.

        Args:
            request: from `questions.question`.
            ledger: the ledger, where prices are known.
            prices: dollars per million tokens.
            stop: ends the waiting between attempts.
            seed: of the waits' random part.

        Returns:
            `choice` (as alpaca_eval keeps it, with `text` and `total_tokens`), `usage`, `seconds`, `served_by`.

        Raises:
            FailedRequestError: this question has no answer; `UnavailableError`: it has none now.
            JudgingStoppedError: `stop` was set.
            JudgeError: no question can have one (key refused, no such model, quota), or the cost cap is reached.
        """
        rng = random.Random(seed)
        for attempt in range(self._attempts):
            if stop.is_set():
                raise JudgingStoppedError
            highest = highest_price(request, prices) if prices is not None else 0.0
            entry = ledger.reserve(highest) if ledger is not None and highest else None
            charged: float | None = None  # unknown, should anything unforeseen happen
            try:
                with self._counting:
                    self.attempts += 1
                answer = self._once(request)
                charged = _charged(answer["usage"], prices)
                return answer
            except UnusableAnswerError as error:
                fault = _Fault(error.reason, True, error.usage is None)
                charged = _charged(error.usage, prices)
            except Exception as error:
                fault = self._fault(error)
                charged = None if fault.charge_unknown else 0.0
            finally:
                if entry is not None and ledger is not None:
                    ledger.settle(entry, charged)
            with self._counting:
                self.faults[fault.reason] += 1
            if fault.hits_all:
                raise JudgeError(f"the judge's endpoint refused the request: {fault.reason}")
            if not fault.retry:
                raise FailedRequestError(fault.reason)
            if attempt + 1 < self._attempts:
                stop.wait(self._waits.seconds(attempt, fault.retry_after, rng))
        raise UnavailableError(fault.reason)

    def _once(self, request: Mapping[str, Any]) -> dict[str, Any]:
        start = time.monotonic()
        api = self._client.chat.completions if "messages" in request else self._client.completions
        completion: Any = api.create(**request)
        try:
            usage = _usage(completion)
            choice = completion.choices[0].model_dump(mode="json", warnings=False)
        except (AttributeError, TypeError, ValueError, IndexError):
            raise UnusableAnswerError("an answer that is not a completion", _usage(completion)) from None
        answer = {
            "choice": _usable(choice, bool(request.get("logprobs")) and "messages" in request, usage),
            "usage": usage,
            "seconds": time.monotonic() - start,
            "served_by": getattr(completion, "model", None),
        }
        redacted: dict[str, Any] = self._redact(answer)
        return redacted

    def _fault(self, error: Exception) -> _Fault:
        """What went wrong, in words without a secret."""
        import openai

        if isinstance(error, openai.APIStatusError):
            status, code = error.status_code, getattr(error, "code", None)
            said = self._redact(f"HTTP {status}: {_first_line(error.message)}")
            if status in (401, 403, 404) or code == "insufficient_quota":
                return _Fault(said, False, hits_all=True)
            if status not in _RETRIED and status < 500:
                return _Fault(said, False)
            return _Fault(f"HTTP {status}", True, retry_after=_retry_after(error.response.headers))
        if isinstance(error, openai.APITimeoutError):
            return _Fault("timeout", True, charge_unknown=True)
        if isinstance(error, openai.APIConnectionError):
            # Refused before anything was sent: nothing can have been charged.
            unsent = type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout")
            return _Fault("no connection" if unsent else "connection lost", True, charge_unknown=not unsent)
        if isinstance(error, openai.OpenAIError | ValueError | TypeError | AttributeError):
            return _Fault("an answer that is not a completion", True, charge_unknown=True)
        raise error

    def _redact(self, value: Any) -> Any:
        """The value without the key, should an endpoint echo it."""
        if isinstance(value, str):
            return value.replace(self._secret, "[key]") if self._secret else value
        if isinstance(value, dict):
            return {self._redact(key): self._redact(item) for key, item in value.items()}
        return [self._redact(item) for item in value] if isinstance(value, list) else value


def _usage(completion: Any) -> dict[str, int] | None:
    usage = getattr(completion, "usage", None)
    counts = (getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None))
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return None
    return {"prompt_tokens": counts[0], "completion_tokens": counts[1]}  # type: ignore[dict-item]


def _charged(usage: Mapping[str, int] | None, prices: Prices | None) -> float | None:
    if usage is None or prices is None:
        return None
    return price(prices, usage["prompt_tokens"], usage["completion_tokens"])


def _usable(choice: dict[str, Any], wants_logprobs: bool, usage: dict[str, int] | None) -> dict[str, Any]:
    """A choice as alpaca_eval's decoder returns it.

    Raises:
        UnusableAnswerError: it is empty, or has no log-probabilities although they were asked for.
    """
    message = choice.get("message") or {}
    text = choice.get("text") or message.get("content") or ""
    if call := message.get("function_call"):
        text = call.get("arguments") or ""
    if calls := message.get("tool_calls"):
        text = (calls[0].get("function") or {}).get("arguments") or ""
    if wants_logprobs:
        content = (choice.get("logprobs") or {}).get("content")
        if not content or not all(token.get("top_logprobs") for token in content):
            raise UnusableAnswerError("an answer without log-probabilities", usage)
    elif not text.strip():
        raise UnusableAnswerError("an empty answer", usage)
    tokens = sum(usage.values()) if usage else 0
    return choice | {"text": text or " ", "total_tokens": float(tokens)}  # " ": as alpaca_eval's decoder


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, given as a number or as a date."""
    given = headers.get("retry-after", "")
    try:
        return max(0.0, float(given))
    except ValueError:
        date = email.utils.parsedate_tz(given)
        return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())


def _first_line(text: str) -> str:
    said = re.sub(r"^Error code: \d+ - ", "", text.strip())  # the client's own prefix
    return (said.splitlines() or ["no reason given"])[0][:200]

"""What an API judge may cost: prices, and a ledger on disk that no request is sent past.

Before a request is sent its highest possible price is entered as open; its answer's usage replaces that by the
real one. The sum of both never exceeds the cap, over all threads, processes and launches that share the ledger.
A request whose end is unknown (a timeout, a broken connection, a killed process) may have been charged: it stays
at its highest price.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from adadpo.errors import JudgeError
from adadpo.files import atomic_write
from analysis.judges.answers import canonical
from analysis.judges.config import Prices

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
    tokens = len(canonical(asked).encode()) + _TEMPLATE_TOKENS
    tokens += _MESSAGE_TOKENS * len(request.get("messages", ()))
    answer = request.get("max_completion_tokens") or request.get("max_tokens") or 0
    return price(prices, tokens, float(answer) * int(request.get("n") or 1))


@dataclass(frozen=True)
class Spent:
    """Dollars so far: charged, and at most charged for requests whose end is not known (yet)."""

    charged: float
    open: float


class Spending:
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
                    raise JudgeError(self._says(highest))
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
                f"{self.file}: the record of what was spent cannot be read; restore or delete it"
            ) from error

    def _says(self, highest: float) -> str:
        spent = self.spent()
        unknown = f" (at most ${spent.open:.4f} for requests without a known end)" if spent.open else ""
        return (
            f"the judge stopped at its cost cap: ${spent.charged + spent.open:.4f} spent of max_cost ${self.cap:g}"
            f"{unknown}, and the next request may cost up to ${highest:.4f}. Every answer paid for is kept: raise "
            "max_cost and go on"
        )

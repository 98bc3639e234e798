"""A judge's answers: from the cache on disk or from the endpoint, many at once.

One small file per answer, keyed by its request, complete or absent (temporary name, fsync, rename): no answer is paid
for twice, a killed process leaves nothing half-written, and any number of processes share the folder. A file with
the wrong checksum counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from adadpo.errors import FailedRequestError, JudgeError, JudgingStoppedError, QuestionError, UnavailableError
from adadpo.files import atomic_write
from analysis.judges.annotators import canonical_json, parameters, question
from analysis.judges.config import AlpacaEval, Prices
from analysis.judges.costs import Ledger, price, prices_of
from analysis.judges.endpoint import Endpoint, Waits


def answer_key(request: Mapping[str, Any], repeat: int) -> str:
    """Sha256 of a request (model, messages, sampling parameters; no endpoint, no key) and its repeat number."""
    return hashlib.sha256(canonical_json({"request": request, "repeat": repeat}).encode()).hexdigest()


class AnswerStore:
    """A folder of answers; any number of threads and processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer, or None when there is none that can be trusted."""
        try:
            stored = json.loads(self._file(key).read_text(encoding="utf-8"))
            answer = stored["answer"]
            return answer if stored["sha256"] == _sha256(answer) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, answer: dict[str, Any]) -> None:
        """Store an answer."""
        content = {"answer": answer, "sha256": _sha256(answer)}
        atomic_write(self._file(key), json.dumps(content))

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Held during a request: an equal request waits, then finds the answer in the store."""
        lock = self.folder / "locks" / f"{key}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, poll_interval=0.02):
            try:
                yield
            finally:
                # A thread that still waits on the unlinked file looks into the store first, as every other does.
                with suppress(OSError):
                    lock.unlink()

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def _sha256(answer: Any) -> str:
    return hashlib.sha256(canonical_json(answer).encode()).hexdigest()


SAME_FAILURES = 10  # so many equal failures without an answer end the judging


@dataclass(frozen=True)
class Setup:
    """An alpaca_eval judge's configuration and where it keeps what it paid for."""

    config: AlpacaEval
    folder: Path
    account: str
    environment: Mapping[str, str] = field(repr=False)  # holds secrets
    waits: Waits

    def ledger(self) -> Ledger:
        """The ledger."""
        return Ledger(self.folder / "spending" / f"{self.account}.json", self.config.max_cost)


def annotator_prices(config: AlpacaEval, model: str, kwargs: Mapping[str, Any]) -> Prices | None:
    """What an annotator's model costs; None where it is not known and nothing is capped.

    Raises:
        JudgeError: it is not known, but the cost is capped.
    """
    prices = prices_of(model, config.prices, kwargs)
    if prices is None and config.max_cost is not None:
        raise JudgeError(
            f"max_cost needs the prices of {model!r}: set judge.prices to {{input: ..., output: ...}} in "
            "dollars per million tokens"
        )
    return prices


def annotator_url(config: AlpacaEval, kwargs: Mapping[str, Any]) -> str | None:
    """Where an annotator is asked: the configuration's own address, unless the judge names another."""
    url: str | None = config.base_url or (kwargs.get("client_kwargs") or {}).get("base_url")
    return url


@dataclass
class CachedCompletions:
    """The `fn_completions` of every annotator: prompts in, answers out, in threads, from the cache where they are."""

    setup: Setup
    prompt_to_chatml: Callable[[str], list[dict[str, str]]]
    progress: Callable[[int], None]
    finished: int = 0  # in this pass over the pairs, by all annotators of a pool
    cached: int = 0
    asked: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    unavailable: int = 0  # of the failures: those of questions that may be answered later
    _endpoints: dict[str | None, Endpoint] = field(default_factory=dict)
    _opening: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, prompts: Sequence[str], *, repeat: int, **kwargs: Any) -> dict[str, Any]:
        """What alpaca_eval expects of a decoder, for one annotator.

        Raises:
            JudgeError: see `Endpoint.ask`; every answer that arrived before is in the cache.
        """
        config = self.setup.config
        asked = parameters(kwargs, config.model)
        prices = annotator_prices(config, asked["model"], kwargs)
        ledger = self.setup.ledger() if prices is not None else None
        store = AnswerStore(self.setup.folder / "answers")
        stop = threading.Event()

        def one(prompt: str) -> tuple[dict[str, Any] | None, Exception | None]:
            """An answer and whether it was `cached`, or the reason that there is none."""
            try:
                request = question(prompt, asked, repeat, self.prompt_to_chatml)
            except QuestionError as error:
                return None, error
            key = answer_key(request, repeat)
            if (answer := store.get(key)) is not None:
                return answer | {"cached": True}, None
            if stop.is_set():
                return None, None
            with store.lock(key):
                if (answer := store.get(key)) is not None:  # another thread or process has asked meanwhile
                    return answer | {"cached": True}, None
                try:
                    answer = self._endpoint(kwargs).ask(
                        request, ledger=ledger, prices=prices, stop=stop, seed=key
                    )
                except FailedRequestError as error:
                    return None, error
                except JudgingStoppedError:
                    return None, None
                store.put(key, answer)
            return answer | {"cached": False}, None

        answers = self._in_threads(one, prompts, stop)
        return _as_decoder(answers, prices)

    def _in_threads(
        self, one: Callable[[str], Any], prompts: Sequence[str], stop: threading.Event
    ) -> list[dict[str, Any] | None]:
        """All answers in order; the first error ends the rest, after the requests under way."""
        found: list[dict[str, Any] | None] = [None] * len(prompts)
        with ThreadPoolExecutor(self.setup.config.concurrency, thread_name_prefix="judge") as pool:
            places: dict[Future[Any], int] = {pool.submit(one, prompt): i for i, prompt in enumerate(prompts)}
            try:
                for future in as_completed(places):
                    answer, reason = future.result()
                    found[places[future]] = answer
                    self._count(answer, reason)
                    self._stop_if_hopeless()
                    self.finished += 1
                    self.progress(self.finished)
            except BaseException:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return found

    def _count(self, answer: dict[str, Any] | None, reason: Exception | None) -> None:
        if reason is not None:
            self.failures[str(reason)] += 1
            self.unavailable += isinstance(reason, UnavailableError)
        elif answer is not None and answer.pop("cached"):
            self.cached += 1
        else:
            self.asked += 1

    def _stop_if_hopeless(self) -> None:
        if self.asked or self.cached or len(self.failures) != 1:
            return
        ((reason, times),) = self.failures.items()
        if times >= SAME_FAILURES:
            raise JudgeError(
                f"the judge stopped: {times} requests failed with the same error and none succeeded: {reason}"
            )

    def _endpoint(self, kwargs: Mapping[str, Any]) -> Endpoint:
        """One connection pool per address."""
        base_url = annotator_url(self.setup.config, kwargs)
        with self._opening:
            if base_url not in self._endpoints:
                setup = self.setup
                self._endpoints[base_url] = Endpoint(setup.config, base_url, setup.environment, setup.waits)
            return self._endpoints[base_url]

    def counts(self) -> dict[str, Any]:
        """What went over the wire, and what it costs so far on this account."""
        faults: Counter[str] = Counter()
        for endpoint in self._endpoints.values():
            faults += endpoint.faults
        ledger = self.setup.ledger().spent()
        return {
            "answers_asked": self.asked,
            "answers_cached": self.cached,
            "answers_failed": sum(self.failures.values()),
            "answers_unavailable": self.unavailable,
            "failures": dict(sorted(self.failures.items())),
            "requests": sum(endpoint.attempts for endpoint in self._endpoints.values()),
            "faults": dict(sorted(faults.items())),
            "account_charged": ledger.charged,
            "account_unknown": ledger.open,
            "max_cost": self.setup.config.max_cost,
        }

    def close(self) -> None:
        """End all connections."""
        for endpoint in self._endpoints.values():
            endpoint.close()


def _as_decoder(answers: Sequence[Mapping[str, Any] | None], prices: Prices | None) -> dict[str, Any]:
    """Answers as `openai_completions` returns them; a missing one is empty, which every parser refuses."""
    prices_each = [
        math.nan
        if answer is None or answer["usage"] is None or prices is None
        else price(prices, answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"])
        for answer in answers
    ]
    return {
        "completions": ["" if answer is None else answer["choice"]["text"] for answer in answers],
        "completions_all": ["" if answer is None else answer["choice"] for answer in answers],
        "price_per_example": prices_each,
        "time_per_example": [math.nan if answer is None else answer["seconds"] for answer in answers],
    }

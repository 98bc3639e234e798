"""The `alpaca_eval` judge: the package's own annotators, prompts, order switching and parsers; our requests.

alpaca_eval's `PairwiseAnnotator` runs unchanged, with seed 0 as in its leaderboards. Its `fn_completions` is ours and
adds concurrency, retries, a cache and a cost cap; its own caches (it writes into site-packages) are off. The second
order of `both_orders` is the same call with the outputs exchanged: the switch depends on the instruction alone, so
every pair is then shown the other way round.

alpaca_eval 0.6.6 changes the process that imports it: it reads a `.env` file into the environment, sets the root
logger to INFO, gives it a handler on stderr, draws progress bars and logs whole completions, and its import of
pkg_resources warns. `isolated_alpaca_eval` prevents all of that.

A pair is judged in one or two orders of presentation and `repeats` times in each. Preferences within a `Pass` are the
candidate's share of a win, in [0, 1]; a missing one is None.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, variance
from typing import Any
from unittest.mock import patch

from adadpo.errors import JudgeError
from analysis.judges import (
    Judge,
    Judgement,
    Progress,
    annotation,
    check_answers,
    no_progress,
    summary_of,
)
from analysis.judges.annotators import NEEDS_PACKAGE, Annotators, kwargs_of, parameters, read_annotators
from analysis.judges.answers import CachedCompletions, Setup, annotator_prices, annotator_url
from analysis.judges.config import AlpacaEval
from analysis.judges.endpoint import Endpoint, Waits

SEED = 0  # alpaca_eval's default, with which its leaderboards were made
_log = logging.getLogger(__name__)


def alpaca_eval_judge(
    config: AlpacaEval,
    *,
    folder: Path,
    account: str = "judge",
    environment: Mapping[str, str] | None = None,
    waits: Waits | None = None,
) -> Judge:
    """The judge of a configuration.

    Args:
        config: what is asked, where and for how much.
        folder: of the answers (`answers/`, shared by all judges and runs) and the ledgers (`spending/`).
        account: name of the ledger that `max_cost` caps; a sweep's name, say.
        environment: where the key is; None: the process's.
        waits: between attempts.
    """
    return partial(
        _judge,
        Setup(config, folder, account, os.environ if environment is None else environment, waits or Waits()),
    )


def require_ready(config: AlpacaEval, environment: Mapping[str, str]) -> None:
    """Fail where the judge could not start, with nothing asked and nothing paid.

    Raises:
        JudgeError: the package, the key or the prices under a cap are missing.
    """
    for settings in read_annotators(config.config).settings.values():
        kwargs = kwargs_of(settings)
        annotator_prices(config, parameters(kwargs, config.model)["model"], kwargs)
        Endpoint(config, annotator_url(config, kwargs), environment, Waits()).close()
    with isolated_alpaca_eval():
        pass  # its import is what may fail


def _judge(
    setup: Setup,
    prompts: Sequence[Mapping[str, Any]],
    baseline: Sequence[str],
    candidate: Sequence[str],
    *,
    baseline_name: str,
    candidate_name: str,
    on_progress: Progress = no_progress,
) -> Judgement:
    check_answers(prompts, baseline, candidate)
    config = setup.config
    annotators = read_annotators(config.config)
    name = annotators.name if config.model is None else f"{annotators.name} ({config.model})"
    if not prompts:
        return Judgement([], summary_of("alpaca_eval", [], annotator=name))
    total = len(prompts) * config.repeats * (2 if config.both_orders else 1)

    def progress(done: int) -> None:
        on_progress(len(passes) * len(prompts) + done, total)

    passes: list[Pass] = []
    unreadable: list[str] = []
    details: list[list[dict[str, Any]]] = []
    with isolated_alpaca_eval() as package:
        asking = CachedCompletions(setup, package.utils.prompt_to_chatml, progress)
        try:
            for order in range(2 if config.both_orders else 1):
                for repeat in range(config.repeats):
                    texts = (baseline, candidate) if order == 0 else (candidate, baseline)
                    rows = [
                        {"instruction": prompt["instruction"], "output_1": first, "output_2": second}
                        for prompt, first, second in zip(prompts, *texts, strict=True)
                    ]
                    asking.finished = 0
                    complete = partial(asking, repeat=repeat)
                    annotated, first_shown = _one_pass(package, annotators, rows, complete, unreadable)
                    passes.append(_as_pass(order, annotated, first_shown))
                    details.append(annotated)
                    progress(0)
        finally:
            asking.close()
    annotations = [
        annotation(
            prompt,
            (baseline[pair], candidate[pair]),
            (baseline_name, candidate_name),
            name,
            None if mean is None else 1 + mean,
            **_costs([rows[pair] for rows in details]),
            raw_completion=_raw(pair, passes, details),
        )
        for pair, (prompt, mean) in enumerate(zip(prompts, mean_preferences(passes), strict=True))
    ]
    summary = summary_of(
        "alpaca_eval",
        annotations,
        annotator=name,
        models=annotators.models(config.model),
        equal_answers=sum(first == second for first, second in zip(baseline, candidate, strict=True)),
        **asking.counts(),
        answers_unreadable=len(unreadable),
        unreadable_examples=sorted(set(unreadable))[:3],
        position_bias=position_bias(passes),
        noise=judge_noise(passes),
    )
    _log.info(
        "judged %d pairs by %s: %d answers asked for, %d from the cache, %d failed %s",
        *(
            len(annotations),
            name,
            asking.asked,
            asking.cached,
            summary["answers_failed"],
            summary["failures"],
        ),
    )
    return Judgement(annotations, summary)


def _one_pass(
    package: Any,
    annotators: Annotators,
    rows: list[dict[str, Any]],
    complete: Callable[..., dict[str, Any]],
    unreadable: list[str],
) -> tuple[list[dict[str, Any]], list[bool]]:
    """Every pair judged once by alpaca_eval, and whether `output_1` was shown first; both in the rows' order."""
    import pandas as pd

    evaluator = package.annotators.pairwise_evaluator

    class Annotator(evaluator.PairwiseAnnotator):  # type: ignore[misc, name-defined]
        @property
        def SingleAnnotator(self) -> Callable[..., Any]:
            def build(**settings: Any) -> Any:
                single = evaluator.SinglePairwiseAnnotator(**{**settings, "fn_completions": complete})
                single.fn_completion_parser = partial(_parsed, single.fn_completion_parser, unreadable)
                return single

            return build

    annotator = Annotator(
        annotators_config=annotators.file, seed=SEED, caching_path=None, is_avoid_reannotations=False
    )
    found = {row["instruction"]: row for row in annotator(rows, chunksize=None)}
    switched: Sequence[bool] = [False] * len(rows)
    for processor in next(iter(annotator.annotators.values())).processors:
        if type(processor).__name__ == "RandomSwitchTwoColumnsProcessor":
            switched = processor.preprocess(pd.DataFrame(rows))["is_switched_outputs"].tolist()
    return [found[row["instruction"]] for row in rows], [not flag for flag in switched]


def _parsed(parse: Callable[[Any], Sequence[Any]], unreadable: list[str], completion: Any) -> list[Any]:
    """What the configuration's parser makes of an answer; an answer it cannot read is noted, a missing one is not."""
    try:
        found = [_preference(value) for value in parse(completion)]
    except Exception:  # parsers of any kind, on answers of any kind
        found = []
    if completion and (not found or math.nan in found):
        unreadable.append(str(completion["text"] if isinstance(completion, dict) else completion)[:200])
    return found


def _preference(value: Any) -> float:
    """In [1, 2], or NaN. A draw is 0 to some parsers, which the switch of orders would turn into 3."""
    number = 1.5 if value == 0 else float(value)
    return number if 1 <= number <= 2 else math.nan


def _as_pass(order: int, annotated: Sequence[Mapping[str, Any]], first_shown: Sequence[bool]) -> Pass:
    """The candidate's view: it is `output_2` in the first order, `output_1` in the second."""
    preferences = [_number(row.get("preference")) for row in annotated]
    return Pass(
        order,
        [None if p is None else p - 1 if order == 0 else 2 - p for p in preferences],
        [
            None if row["output_1"] == row["output_2"] else first == (order == 1)
            for row, first in zip(annotated, first_shown, strict=True)
        ],
    )


def _number(value: Any) -> float | None:
    """A number of alpaca_eval's data frame; None and NaN alike are nothing."""
    return None if value is None or value != value else float(value)


def _costs(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Dollars and seconds of a pair, over all its judgements; pairs of equal answers cost nothing."""
    if rows[0]["output_1"] == rows[0]["output_2"]:
        return {"price": 0.0, "seconds": 0.0}
    sums: dict[str, float | None] = {}
    for key, column in (("price", "price_per_example"), ("seconds", "time_per_example")):
        values = [_number(row.get(f"preference_{column}")) for row in rows]
        known = [value for value in values if value is not None]
        sums[key] = sum(known) if len(known) == len(values) else None
    return sums


def _raw(pair: int, passes: Sequence[Pass], details: Sequence[Sequence[Mapping[str, Any]]]) -> Any:
    """The judge's own words: as alpaca_eval keeps them for one judgement, a list for several."""
    raws = [rows[pair].get("preference_raw_completion") for rows in details]
    raws = [None if raw != raw else raw for raw in raws]
    if len(raws) == 1:
        return raws[0]
    return [
        {"order": one.order, "candidate_preferred": one.preferences[pair], "raw_completion": raw}
        for one, raw in zip(passes, raws, strict=True)
    ]


class _NoBars:
    """In the place of the tqdm module."""

    @staticmethod
    def tqdm(iterable: Iterable[Any], **_: Any) -> Iterable[Any]:
        return iterable


@contextmanager
def isolated_alpaca_eval() -> Iterator[Any]:
    """The `alpaca_eval` package, contained while the context lasts.

    Raises:
        JudgeError: it is not installed, or cannot be imported.
    """
    root, http = logging.getLogger(), logging.getLogger("httpx2")
    levels = root.level, http.level
    silent = logging.NullHandler()  # where the root logger has a handler, logging.info() adds none
    root.addHandler(silent)
    with ExitStack() as stack:
        stack.callback(root.removeHandler, silent)
        stack.callback(root.setLevel, levels[0])
        stack.callback(http.setLevel, levels[1])
        http.setLevel(logging.WARNING)  # a line per request otherwise
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
        package = _imported()
        root.setLevel(levels[0])
        folder = str(Path(package.__file__).parent) + os.sep

        def foreign(record: logging.LogRecord) -> bool:
            return not record.pathname.startswith(folder)

        root.addFilter(foreign)  # it logs through the root logger itself
        stack.callback(root.removeFilter, foreign)
        stack.enter_context(patch.object(package.utils, "tqdm", _NoBars))
        yield package


def _imported() -> Any:
    with patch.dict(os.environ, {"PYTHON_DOTENV_DISABLED": "1"}):
        try:
            import alpaca_eval.annotators
        except ImportError as error:
            if error.name in ("alpaca_eval", "openai"):
                raise JudgeError(NEEDS_PACKAGE) from None
            raise JudgeError(f"alpaca_eval cannot be imported: {error} ({NEEDS_PACKAGE})") from error
    return alpaca_eval


@dataclass(frozen=True)
class Pass:
    """One judgement of every pair.

    Attributes:
        order: 0 or 1; the second shows every pair the other way round.
        preferences: one per pair, the candidate's.
        candidate_first: one per pair, whether the candidate was shown first; None where nothing was shown
            (equal answers).
    """

    order: int
    preferences: Sequence[float | None]
    candidate_first: Sequence[bool | None]


def mean_preferences(passes: Sequence[Pass]) -> list[float | None]:
    """One preference per pair: the mean over its orders of the mean over its repeats.

    None where an order has no judgement at all: the mean of the rest would favour the answer shown first.
    """
    orders = _by_order(passes)
    found: list[float | None] = []
    for pair in range(len(passes[0].preferences)):
        means = [_mean([one.preferences[pair] for one in order]) for order in orders]
        present = [mean for mean in means if mean is not None]
        found.append(fmean(present) if len(present) == len(orders) else None)
    return found


def position_bias(passes: Sequence[Pass]) -> dict[str, Any]:
    """How far the judge leans to the answer shown first.

    Returns:
        `estimate`: mean preference for the answer shown first, minus 0.5; `standard_error` over pairs;
        `pairs`: those that were shown; `orders`: 1 or 2; `consistency`: share of the pairs, judged in both
        orders, on which both prefer the same answer. With one order the estimate is unbiased only because the
        order is random; `reason` says why something is None.
    """
    orders = _by_order(passes)
    leanings: list[float] = []
    same: list[bool] = []
    for pair in range(len(passes[0].preferences)):
        means = [_mean([one.preferences[pair] for one in order]) for order in orders]
        first = [order[0].candidate_first[pair] for order in orders]
        shown = [
            (mean, is_first)
            for mean, is_first in zip(means, first, strict=True)
            if mean is not None and is_first is not None
        ]
        if len(shown) < len(orders):
            continue
        leanings.append(fmean(mean if is_first else 1 - mean for mean, is_first in shown) - 0.5)
        if len(shown) == 2:
            same.append(_sign(shown[0][0] - 0.5) == _sign(shown[1][0] - 0.5))
    reasons = []
    if not leanings:
        reasons.append("no pair was shown to the judge")
    elif len(leanings) < 2:
        reasons.append("a standard error needs two pairs")
    if len(orders) < 2:
        reasons.append("consistency needs both orders")
    return {
        "estimate": fmean(leanings) if leanings else None,
        "standard_error": math.sqrt(variance(leanings) / len(leanings)) if len(leanings) > 1 else None,
        "pairs": len(leanings),
        "orders": len(orders),
        "consistency": fmean(same) if same else None,
        "reason": "; ".join(reasons) or None,
    }


def judge_noise(passes: Sequence[Pass]) -> dict[str, Any]:
    """How much the same judge differs from itself on the same pair shown in the same order.

    Returns:
        `within_pair_sd`: root of the mean variance (ddof 1) over pairs and orders, on the scale of preferences;
        `win_rate_variance`, points squared, and its root `win_rate_sd`: what that noise adds to the win rate
        after averaging, (100/n)^2 x that mean variance x the sum over pairs and orders of 1/(k orders^2), since
        the win rate is a mean of its judgements; `repeats` and `pairs`; `reason` where undefined. Pairs of equal
        answers are never shown to a judge and have no noise.
    """
    orders = _by_order(passes)
    repeats = len(orders[0])
    variances: list[float] = []
    averaged = 0.0  # sum over pairs and orders of 1 / (judgements x orders^2)
    preferences = mean_preferences(passes)
    pairs = sum(preference is not None for preference in preferences)
    for pair, preference in enumerate(preferences):
        if preference is None or orders[0][0].candidate_first[pair] is None:
            continue
        for order in orders:
            values = [value for one in order if (value := one.preferences[pair]) is not None]
            averaged += 1 / len(values) / len(orders) ** 2
            if len(values) > 1:
                variances.append(variance(values))
    if not variances:
        reason = "one judgement per pair and order" if repeats < 2 else "no pair was judged twice"
        unknown = {"within_pair_sd": None, "win_rate_variance": None, "win_rate_sd": None}
        return unknown | {"repeats": repeats, "pairs": pairs, "reason": reason}
    win_rate_variance = (100 / pairs) ** 2 * fmean(variances) * averaged
    return {
        "within_pair_sd": math.sqrt(fmean(variances)),
        "win_rate_variance": win_rate_variance,
        "win_rate_sd": math.sqrt(win_rate_variance),
        "repeats": repeats,
        "pairs": pairs,
        "reason": None,
    }


def _by_order(passes: Sequence[Pass]) -> list[list[Pass]]:
    return [[one for one in passes if one.order == order] for order in sorted({p.order for p in passes})]


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return fmean(present) if present else None


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)

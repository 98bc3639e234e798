"""The `alpaca_eval` judge: the package's own annotators, prompts, order switching and parsers; our requests.

alpaca_eval's `PairwiseAnnotator` runs as it is, with seed 0 as in its leaderboards; its `fn_completions` is ours, so
that concurrency, retries, cache and cost cap are. Its own caches (it writes into site-packages) are off. The second
order of `both_orders` is the same call with the outputs exchanged: the switch depends on the instruction alone, so
every pair is then shown the other way round.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from analysis.judges import (
    Judge,
    Judgement,
    Progress,
    annotation,
    check_answers,
    no_progress,
    summary_of,
)
from analysis.judges.annotators import Annotators, kwargs_of, read_annotators
from analysis.judges.asking import Asking, Setup, asked_prices, asked_url
from analysis.judges.config import AlpacaEval
from analysis.judges.endpoint import Endpoint, Waits
from analysis.judges.guest import alpaca_eval_as_guest
from analysis.judges.orders import Pass, judge_noise, mean_preferences, position_bias
from analysis.judges.questions import parameters

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
        asked_prices(config, parameters(kwargs, config.model)["model"], kwargs)
        Endpoint(config, asked_url(config, kwargs), environment, Waits()).close()
    with alpaca_eval_as_guest():
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
    with alpaca_eval_as_guest() as package:
        asking = Asking(setup, package.utils.prompt_to_chatml, progress)
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
    """What the configuration's parser makes of an answer; an answer it cannot read is noted, one never had is not."""
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

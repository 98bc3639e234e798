"""A search goes on: what came of the settings so far, which go on to further seeds, which ones are next.

Nothing has to live on between two batches: `search.json` says what was asked for, the runs' files what came of it.
Whoever finds that everything asked for has ended (the launcher, the last job on Slurm, the next launch) asks for more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from filelock import FileLock

from analysis.results.model import RunRow
from analysis.results.model import Search as SearchSoFar
from analysis.results.values import State
from sweeps.config.expand import setting_label
from sweeps.config.metrics import METRICS
from sweeps.config.search import Search
from sweeps.search.sampler import SearchTrial, is_hopeless, next_setting
from sweeps.state.opening import record, replan
from sweeps.state.run_table import run_rows
from sweeps.state.sweep import Sweep
from sweeps.store.declaration import SuggestedSetting, read_asked, write_asked


def advance(sweep: Sweep) -> Sweep:
    """The sweep with the settings and seeds that are next, where all runs so far have ended; else as it is.

    Several may call it at once, and any of them may be killed: a batch is asked for whole, once.

    Raises:
        FailureError: the record of what was asked for is damaged.
    """
    search = sweep.spec.search
    if search is None:
        return sweep
    sweep.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep.folder / "search.lock"):
        before = sweep.asked
        if list(before) != (known := read_asked(sweep.folder)):
            sweep = replan(sweep, asked=known)  # another process asked since this one was opened
        while _all_ended(rows := run_rows(sweep)):
            asked = _next(sweep, search, rows)
            if asked == list(sweep.asked):
                break
            write_asked(sweep.folder, asked)
            sweep = replan(sweep, asked=asked)
        return sweep if sweep.asked == before else record(sweep)


def search_trials(sweep: Sweep, rows: Iterable[RunRow] | None = None) -> list[SearchTrial]:
    """What came of every setting that was asked for, in that order; `rows`: of `run_rows`, where there are some."""
    index = {(row.setting, row.seed, row.arm): row for row in (run_rows(sweep) if rows is None else rows)}
    return [_trial(sweep, one, index) for one in sweep.asked]


def search_so_far(sweep: Sweep, rows: Iterable[RunRow]) -> SearchSoFar | None:
    """For the report; None where the settings are a grid."""
    search = sweep.spec.search
    if search is None:
        return None
    endings = [trial.ending for trial in search_trials(sweep, rows)]
    return SearchSoFar(
        sampler=search.sampler,
        pruner=search.pruner,
        seed=search.seed,
        trials=search.trials,
        asked=len(endings),
        complete=endings.count("complete"),
        pruned=len(sweep.pruned),
        without_value=endings.count("diverged") + endings.count("failed"),
    )


def search_lines(sweep: Sweep) -> list[str]:
    """For people; nothing where the settings are a grid."""
    search = sweep.spec.search
    if search is None:
        return []
    asked, pruned = len(sweep.asked), len(sweep.pruned)
    most = search.trials * len(sweep.spec.arms) * len(sweep.seeds)
    lines = [
        f"  search ({search.sampler}, pruner {search.pruner}): {asked} of {search.trials} settings asked for"
        + (f", {pruned} pruned" if pruned else "")
        + f"; {search.parallel} at a time, at most {most} runs in all"
    ]
    if cancelled := len(sweep.select(State.CANCELLED)):
        again = f"adadpo retry {sweep.spec.name} state:cancelled"
        lines.append(f"  the search waits for {cancelled} cancelled runs: {again}")
    return lines + [f"  pruned: {setting}: {why}" for setting, why in sweep.pruned.items()]


def _all_ended(rows: Iterable[RunRow]) -> bool:
    # Whoever took a run back wants no further ones in its place: the search waits until it is retried.
    return not any(row.state in (State.RUNNING, State.WAITING, State.CANCELLED) for row in rows)


def _next(sweep: Sweep, search: Search, rows: list[RunRow]) -> list[SuggestedSetting]:
    """What is asked for after everything so far has ended; the same where there is nothing more to ask."""
    trials, asked = search_trials(sweep, rows), list(sweep.asked)
    maximize = _maximize(sweep)
    for number, (one, trial) in enumerate(zip(asked, trials, strict=True)):
        if one.seeds is None or one.pruned is not None:
            continue
        others = [other for place, other in enumerate(trials) if place != number]
        if trial.ending == "diverged":
            why: str | None = "a run of a compared arm has no value"
        elif is_hopeless(search, others, trial, maximize=maximize):
            why = f"{search.pruner}: {trial.steps[-1]:.4g} over {_seeds(len(trial.steps))}"
        else:
            why = None
        more = None if one.seeds + 1 >= len(sweep.spec.seeds) else one.seeds + 1
        asked[number] = one.model_copy(update={"pruned": why} if why else {"seeds": more})
    if asked != list(sweep.asked):
        return asked  # settings go on to their next seed; the next batch waits for them
    latest = [trial.ending for trial in trials[-search.parallel :]]
    if latest and all(ending == "failed" for ending in latest):
        return asked  # something is wrong that another setting will not mend: see the failures, retry
    first = None if search.pruner == "none" or len(sweep.spec.seeds) < 2 else 1
    while len(asked) < search.trials and len(asked) < len(sweep.asked) + search.parallel:
        setting = next_setting(search, trials, maximize=maximize)
        if setting is None:
            break
        asked.append(SuggestedSetting(setting=setting, seeds=first))
        trials.append(SearchTrial(setting, "running"))
    return asked


def _trial(sweep: Sweep, one: SuggestedSetting, index: Mapping[tuple[str, int, str], RunRow]) -> SearchTrial:
    """One setting: the mean of the primary metric over the compared arms and the first 1, 2, ... seeds."""
    compare, label = sweep.spec.compare, setting_label(one.setting)
    arms, seeds = [compare.baseline, *compare.candidates], sweep.spec.seeds
    steps: list[float] = []
    total, states, whole = 0.0, [], True
    for seed in seeds[: one.seeds]:
        rows = [row for arm in arms if (row := index.get((label, seed, arm))) is not None]
        values = [row.metrics[compare.primary] if row.state == State.DONE else None for row in rows]
        states += [
            "diverged" if row.state == State.DONE and value is None else row.state
            for row, value in zip(rows, values, strict=True)
        ]
        known = [value for value in values if value is not None]
        whole = whole and len(known) == len(arms)
        if whole:  # behind a gap, nothing is known of the first k seeds
            total += sum(known) / len(arms)
            steps.append(total / (len(steps) + 1))
    setting: dict[str, Any] = dict(one.setting)
    if one.pruned is not None:
        return SearchTrial(setting, "pruned", steps=tuple(steps))
    if any(state in (State.DIVERGED, State.QUARANTINED) for state in states):
        return SearchTrial(setting, "diverged", steps=tuple(steps))
    if "failed" in states:
        return SearchTrial(setting, "failed", steps=tuple(steps))
    if len(steps) == len(seeds):
        return SearchTrial(setting, "complete", steps[-1], tuple(steps))
    return SearchTrial(setting, "running", steps=tuple(steps))


def _maximize(sweep: Sweep) -> bool:
    return next(m for m in METRICS if m.name == sweep.spec.compare.primary).higher_is_better is not False


def _seeds(count: int) -> str:
    return f"{count} seed" + ("s" if count > 1 else "")

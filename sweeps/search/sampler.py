"""The next setting of a search, and whether one is given up: from what was asked and what came of it alone.

Optuna's samplers and pruners work on a study in memory that is made anew from the trials each time. So nothing has to
live on between two batches, and the same trials under the same seed give the same setting, on whatever machine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sweeps.config.search import Range, Search, Space, size_of

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

DIGITS = 4  # significant digits of a suggestion: it is read, copied and compared
ATTEMPTS = 20  # at a setting that was not asked before
MOST_LISTED = 100_000

Setting = dict[str, Any]
# diverged: no value, and worse than every one; failed: nothing is known of the setting
Ending = Literal["running", "complete", "pruned", "diverged", "failed"]


@dataclass(frozen=True)
class SearchTrial:
    """A setting that was asked for, and what came of it."""

    setting: Setting
    ending: Ending
    value: float | None = None  # over all seeds, of a complete one
    steps: tuple[float, ...] = ()  # over the first 1, 2, ... seeds


def next_setting(search: Search, trials: Sequence[SearchTrial], *, maximize: bool) -> Setting | None:
    """The setting to try next; None where every setting of the space was asked.

    Args:
        search: the declared search.
        trials: all that were asked, in order.
        maximize: whether larger values are better.
    """
    import numpy as np
    from optuna.samplers import RandomSampler, TPESampler

    asked = {_key(trial.setting) for trial in trials}
    for attempt in range(ATTEMPTS):
        seed = int(np.random.SeedSequence([search.seed, len(trials), attempt]).generate_state(1)[0])
        if search.sampler == "tpe" and attempt < ATTEMPTS // 2:
            sampler: Any = TPESampler(seed=seed, n_startup_trials=search.startup)
        else:
            sampler = RandomSampler(seed=seed)
        study = make_study(search, trials, maximize=maximize, sampler=sampler)
        setting = _rounded(study.ask(distributions(search.space)).params, search.space)
        if _key(setting) not in asked:
            return setting
    size = size_of(search.space)
    left = [
        setting
        for setting in (_listed(search.space) if size is not None and size <= MOST_LISTED else ())
        if _key(setting) not in asked
    ]
    rng = np.random.default_rng([search.seed, len(trials)])
    return left[int(rng.integers(len(left)))] if left else None


def is_hopeless(search: Search, trials: Sequence[SearchTrial], this: SearchTrial, *, maximize: bool) -> bool:
    """Whether the pruner gives a setting up after its latest seed.

    Args:
        search: the declared search.
        trials: the others, in order of asking.
        this: the setting, with a step for every seed so far.
        maximize: whether larger values are better.
    """
    import optuna
    from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner

    pruners: dict[str, BasePruner] = {
        "none": NopPruner(),
        "median": MedianPruner(n_startup_trials=search.startup),
        "successive_halving": SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    }
    if sum(trial.ending == "complete" for trial in trials) < search.startup:
        return False
    study = make_study(search, [], maximize=maximize, sampler=optuna.samplers.RandomSampler(seed=0),
                       pruner=pruners[search.pruner])  # fmt: skip
    # Successive halving notes in the study which rungs a trial has reached: it is told everything again.
    for trial in trials:
        told = study.ask()
        for step, value in enumerate(trial.steps, 1):
            told.report(value, step)
            told.should_prune()
        if trial.ending == "complete":
            study.tell(told, trial.value)
        elif trial.ending != "running":
            study.tell(told, state=optuna.trial.TrialState.PRUNED)
    asked, hopeless = study.ask(), False
    for step, value in enumerate(this.steps, 1):
        asked.report(value, step)
        hopeless = asked.should_prune()
    return hopeless


def make_study(
    search: Search,
    trials: Sequence[SearchTrial],
    *,
    maximize: bool,
    sampler: Any = None,
    pruner: BasePruner | None = None,
) -> Study:
    """A study in memory that holds these trials; what the space does not hold any more is left out."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize" if maximize else "minimize", sampler=sampler, pruner=pruner
    )
    study.add_trials(found for trial in trials if (found := frozen(search, trial)) is not None)
    return study


def frozen(search: Search, trial: SearchTrial, **attributes: Any) -> FrozenTrial | None:
    """A trial as Optuna knows it; None where the space does not hold its setting."""
    from optuna.trial import TrialState, create_trial

    states = {
        "running": TrialState.RUNNING,
        "complete": TrialState.COMPLETE,
        "pruned": TrialState.PRUNED,
        "diverged": TrialState.PRUNED,  # without steps: a sampler takes it for worse than all others
        "failed": TrialState.FAIL,
    }
    shapes = distributions(search.space)
    setting = trial.setting
    if set(setting) != set(shapes) or not all(_holds(search.space[axis], v) for axis, v in setting.items()):
        return None
    return create_trial(
        state=states[trial.ending],
        value=trial.value if trial.ending == "complete" else None,
        params=dict(setting),
        distributions=shapes,
        intermediate_values={} if trial.ending == "diverged" else dict(enumerate(trial.steps, 1)),
        user_attrs=attributes,
    )


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The space as Optuna knows it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for axis, values in space.items():
        if isinstance(values, list):
            found[axis] = CategoricalDistribution(values)
        elif values.whole:
            found[axis] = IntDistribution(int(values.low), int(values.high), log=values.log)
        else:
            found[axis] = FloatDistribution(values.low, values.high, log=values.log)
    return found


def _holds(values: Range | list[Any], value: Any) -> bool:
    if isinstance(values, list):
        return any(value == each and type(value) is type(each) for each in values)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and values.low <= value <= values.high and (not values.whole or value == int(value))


def _rounded(setting: Setting, space: Space) -> Setting:
    def rounded(axis: str, value: Any) -> Any:
        values = space[axis]
        if isinstance(values, list) or values.whole or value == 0:
            return value
        digits = DIGITS - 1 - math.floor(math.log10(abs(value)))
        return min(max(round(float(value), digits), values.low), values.high)

    return {axis: rounded(axis, setting[axis]) for axis in space}


def _listed(space: Space) -> list[Setting]:
    """Every setting of a finite space."""
    choices = [
        values if isinstance(values, list) else range(int(values.low), int(values.high) + 1)
        for values in space.values()
    ]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*choices)]


def _key(setting: Setting) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((axis, repr(value)) for axis, value in setting.items()))

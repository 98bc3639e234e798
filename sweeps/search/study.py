"""The Optuna study: every finished run is a trial, mirrored from the store; it can be deleted and made again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from adadpo.errors import FailureError
from analysis.results.model import RunRow
from analysis.results.values import State
from sweeps.config.expand import setting_label
from sweeps.config.search import Search
from sweeps.search.loop import search_trials
from sweeps.search.sampler import distributions as shapes_of
from sweeps.search.sampler import frozen
from sweeps.search.study_storage import in_journal, journal, reason, storage_of
from sweeps.state.run_table import run_rows
from sweeps.state.sweep import Sweep

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

ENDED = (State.DONE, State.QUARANTINED, State.DIVERGED, State.FAILED)
STORE = "store"  # attribute of a study: whose mirror it is


def mirror(sweep: Sweep) -> int:
    """Add a trial for every ended run that has none yet; returns how many were added.

    A study that holds anything else (a failure that was retried, an earlier evaluation, arms that are gone, what a
    killed writer left) is made again: trials cannot be changed, and it must equal one that is built from the files now.

    Raises:
        FailureError: the database failed, or its study of this name is somebody else's.
    """
    # What optuna cannot import it remembers, with the frames of its first import and all in them: here, nothing large.
    import optuna  # noqa: F401

    sweep.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep.folder / "study.lock"):  # launchers that end together must not both add a trial
        try:
            return _mirror(sweep)
        except FailureError:
            raise
        except Exception as error:
            if not in_journal(sweep):
                raise FailureError(f"study.storage failed: {reason(sweep, error)}") from None
            try:
                journal(sweep).unlink(missing_ok=True)  # damaged; it is only a mirror
            except OSError as kept:
                raise FailureError(
                    f"the study is not written: {journal(sweep)} cannot be replaced ({kept.strerror}); "
                    f"adadpo fsck {sweep.spec.name} --repair moves it aside"
                ) from error
            return _mirror(sweep)


def _mirror(sweep: Sweep) -> int:
    distributions = _distributions(sweep)
    rows = run_rows(sweep)
    wanted = [_trial(sweep, row, distributions) for row in rows if row.state in ENDED]
    with storage_of(sweep) as storage:
        added = _reconcile(sweep, storage, sweep.spec.name, wanted)
        if sweep.spec.search is not None:
            _reconcile(
                sweep, storage, f"{sweep.spec.name} (search)", _settings(sweep, sweep.spec.search, rows)
            )
    return added


def _settings(sweep: Sweep, search: Search, rows: Sequence[RunRow]) -> list[FrozenTrial]:
    """A trial for every setting of a search that has ended: what its sampler was told."""
    found = []
    for number, (one, trial) in enumerate(zip(sweep.asked, search_trials(sweep, rows), strict=True)):
        attributes = {"number": number, "setting": setting_label(one.setting), "ending": trial.ending}
        attributes |= {"pruned": one.pruned} if one.pruned else {}
        if trial.ending != "running" and (made := frozen(search, trial, **attributes)) is not None:
            found.append(made)
    return found


def _reconcile(sweep: Sweep, storage: BaseStorage, name: str, wanted: Sequence[FrozenTrial]) -> int:
    """Have a study hold exactly these trials, in whatever order they came; returns how many were added."""
    import optuna

    study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
    found = study.get_trials(deepcopy=False)
    _require_own(sweep, study, name)
    known = Counter(_content(trial) for trial in found)
    contents = [_content(trial) for trial in wanted]
    if known - Counter(contents):
        optuna.delete_study(study_name=name, storage=storage)
        study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
        known = Counter()
        _require_own(sweep, study, name)
    added = 0
    for trial, content in zip(wanted, contents, strict=True):
        if known[content]:
            known[content] -= 1
            continue
        study.add_trial(trial)
        added += 1
    return added


def _require_own(sweep: Sweep, study: Any, name: str) -> None:
    """Two sweeps of one name in one database would delete each other's trials for ever."""
    root = str(sweep.store.root)
    owner = study.user_attrs.get(STORE)
    if owner is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(STORE, root)
    elif owner != root and not in_journal(sweep):
        whose = f"of the store {owner}" if owner else "that no sweep made"
        raise FailureError(
            f"study.storage holds a study {name!r} {whose}; give this sweep another name, or delete that study"
        )


def _content(trial: FrozenTrial) -> str:
    """All of a trial but its number and times, as text that can be counted."""
    from optuna.distributions import distribution_to_json

    shapes = {name: distribution_to_json(shape) for name, shape in trial.distributions.items()}
    content: list[Any] = [int(trial.state), trial.values, trial.params, shapes, trial.user_attrs]
    content += [[step, trial.intermediate_values[step]] for step in sorted(trial.intermediate_values)]
    return json.dumps(content, sort_keys=True)


def _trial(sweep: Sweep, row: RunRow, distributions: dict[str, BaseDistribution]) -> FrozenTrial:
    from optuna.distributions import FloatDistribution
    from optuna.trial import TrialState, create_trial

    value = row.metrics[sweep.spec.compare.primary] if row.state == State.DONE else None
    params: dict[str, Any] = {"arm": row.arm, "seed": row.seed, **row.hyperparameters}
    for axis, shape in distributions.items():
        if isinstance(shape, FloatDistribution):
            params[axis] = float(params[axis])
    return create_trial(
        state=TrialState.COMPLETE if value is not None else TrialState.FAIL,
        value=value,
        params=params,
        distributions=distributions,
        user_attrs={
            "run_id": row.run_id,
            "eval_id": sweep.eval_id,
            "arm": row.arm,
            "seed": row.seed,
            "setting": row.setting,
            "state": row.state,
            **row.metrics,
        },
    )


def _distributions(sweep: Sweep) -> dict[str, BaseDistribution]:
    """What each parameter of a run may be."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {
        "arm": CategoricalDistribution(sorted(sweep.spec.arms)),
        "seed": IntDistribution(0, max(sweep.seeds)),
    }
    if sweep.spec.search is not None:
        return found | shapes_of(sweep.spec.search.space)  # not of the settings so far: they change
    for axis in dict.fromkeys(axis for run in sweep.job.runs for axis in run.hyperparameters):
        values = list(dict.fromkeys(run.hyperparameters[axis] for run in sweep.job.runs))
        numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(numbers) == len(values):
            found[axis] = FloatDistribution(min(numbers), max(numbers))
        else:
            found[axis] = CategoricalDistribution(values)
    return found

"""The Optuna study: every finished run is a trial, mirrored from the store; it can be deleted and made again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from filelock import FileLock

from analysis.results import RunRow
from sweeps.errors import FailureError
from sweeps.rows import run_rows
from sweeps.sweep import Sweep

ENDED = ("done", "quarantined", "diverged", "failed")


def storage_url(sweep: Sweep) -> str | None:
    """The database's URL with `$NAMES` from the environment filled in; None for a journal file."""
    storage = sweep.spec.study.storage
    return None if storage == "journal" else os.path.expandvars(storage)


def journal(sweep: Sweep) -> Path:
    """The journal's file."""
    return sweep.folder / "study.journal"


def open_storage(sweep: Sweep) -> Any:
    """The study's storage.

    Raises:
        FailureError: the database cannot be reached; its URL is not repeated, it may hold a password.
    """
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = storage_url(sweep)
    if url is None:
        sweep.folder.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(journal(sweep))))
    try:
        return RDBStorage(url)
    except Exception as error:
        scheme = url.partition(":")[0]
        raise FailureError(f"study.storage ({scheme}) cannot be opened: {type(error).__name__}") from error


def mirror(sweep: Sweep) -> int:
    """Add a trial for every ended run that has none yet; returns how many were added.

    A study that holds anything else (a failure that was retried, an earlier evaluation, arms that are gone) is made
    again: trials cannot be changed, and it must equal one that is built from the files now.

    Raises:
        FailureError: the database failed.
    """
    sweep.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep.folder / "study.lock"):  # launchers that end together must not both add a trial
        try:
            return _mirror(sweep)
        except FailureError:
            raise
        except Exception as error:
            if storage_url(sweep) is not None:
                raise FailureError(f"study.storage failed: {type(error).__name__}") from error
            journal(sweep).unlink(missing_ok=True)  # damaged; it is only a mirror
            return _mirror(sweep)


def _mirror(sweep: Sweep) -> int:
    import optuna

    storage, name = open_storage(sweep), sweep.spec.name
    rows = run_rows(sweep)
    wanted = [_trial(sweep, row) for row in rows if row.state in ENDED]
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
    known = [_content(trial) for trial in study.get_trials(deepcopy=False)]
    contents = [_content(trial) for trial in wanted]
    if any(content not in contents for content in known):
        optuna.delete_study(study_name=name, storage=storage)
        study, known = optuna.create_study(study_name=name, storage=storage, direction="maximize"), []
    new = [trial for trial, content in zip(wanted, contents, strict=True) if content not in known]
    for trial in new:
        study.add_trial(trial)
    return len(new)


def _content(trial: Any) -> tuple[Any, ...]:
    return trial.state, trial.values, trial.params, trial.distributions, trial.user_attrs


def _trial(sweep: Sweep, row: RunRow) -> Any:
    from optuna.trial import TrialState, create_trial

    value = row.metrics[sweep.spec.compare.primary] if row.state == "done" else None
    params, distributions = _parameters(sweep, row)
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


def _parameters(sweep: Sweep, row: RunRow) -> tuple[dict[str, Any], dict[str, Any]]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    params: dict[str, Any] = {"arm": row.arm, "seed": row.seed}
    distributions: dict[str, Any] = {
        "arm": CategoricalDistribution(sorted(sweep.spec.arms)),
        "seed": IntDistribution(0, max(sweep.seeds)),
    }
    for axis, value in row.hyperparameters.items():
        values = [run.hyperparameters.get(axis) for run in sweep.job.runs]
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            numbers = [float(v) for v in values if isinstance(v, int | float)]
            params[axis] = float(value or 0)
            distributions[axis] = FloatDistribution(min(numbers), max(numbers))
        else:
            params[axis] = value
            distributions[axis] = CategoricalDistribution(list(dict.fromkeys(values)))
    return params, distributions

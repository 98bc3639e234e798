"""The Optuna study: every finished run is a trial, mirrored from the store; it can be deleted and made again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from analysis.results import RunRow
from sweeps.collect import run_row
from sweeps.errors import FailureError
from sweeps.sweep import Sweep


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
    """Add a trial for every ended run that has none yet; returns how many were added."""
    import optuna
    from optuna.trial import TrialState, create_trial

    storage = open_storage(sweep)
    name = sweep.spec.name
    try:
        study = optuna.create_study(
            study_name=name, storage=storage, direction="maximize", load_if_exists=True
        )
        known = {
            (trial.user_attrs["run_id"], trial.user_attrs["eval_id"], trial.user_attrs["state"])
            for trial in study.get_trials(deepcopy=False)
        }
        added = 0
        for run in sweep.job.runs:
            row = run_row(sweep, run)
            if (
                row.state not in ("done", "diverged", "failed")
                or (row.run_id, sweep.eval_id, row.state) in known
            ):
                continue
            value = row.metrics[sweep.spec.compare.primary]
            params, distributions = _parameters(sweep, row)
            study.add_trial(
                create_trial(
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
            )
            added += 1
        return added
    except ValueError:
        # An arm or a non-numeric axis got new choices, which a study cannot take: it is only a mirror, make it again.
        optuna.delete_study(study_name=name, storage=storage)
        return mirror(sweep)


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

"""The gradient audit of a sweep's runs or of a model: finds the policies, has them measured, keeps audit.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from adadpo.config import Lora, TrainSettings
from adadpo.data import DataError, DataSource
from adadpo.methods import make_method
from adadpo.models import ModelError, resolve_model
from analysis.results import Audit
from sweeps.audit_passes import OnProgress, Options, Plan, Policy, Subject, measure
from sweeps.errors import FailureError, UserError
from sweeps.resolve import PlannedRun
from sweeps.store import RunFolder, read_json, write_json
from sweeps.sweep import Sweep

FILE = "audit.json"


def audit_sweep(sweep: Sweep, words: Sequence[str], options: Options, on_progress: OnProgress) -> Audit:
    """Measure one run of each arm: before training, at its snapshots, at its end.

    Args:
        sweep: its runs need not be finished: what is there is measured, what is not is named in the audit.
        words: narrow the runs, as in `Sweep.find`. Of those that are left, the first setting and seed is audited.
        options: how.
        on_progress: called with what is measured, and with the work done and in all.

    Raises:
        UserError: no run fits, or the sweep holds no pairs out.
        FailureError: a policy, the model or the data cannot be read, or is not what the runs were planned with.
    """
    if sweep.job.heldout is None:
        raise UserError(f"{sweep.spec.name} holds no pairs out to measure on: set data.heldout")
    fitting = sweep.find(words) if words else sweep.job.runs
    first = fitting[0]
    runs = [run for run in fitting if (run.setting, run.seed) == (first.setting, first.seed)]
    subjects, missing = [], []
    for run in runs:
        policies = list(_policies(sweep.store.run(run.run_id), run))
        subjects.append(Subject(run.arm, run.config.method, run.config.train, run.seed, run.run_id, policies))
        if not sweep.store.run(run.run_id).metrics.exists():
            missing.append(f"{run.arm}: the run is not trained to its end")
        if sweep.store.run(run.run_id).weights_freed:
            missing.append(f"{run.arm}: its trained weights were freed by adadpo gc")
        if run.config.train.snapshot_steps is None:
            missing.append(f"{run.arm}: no snapshots on the way (train.snapshot_steps keeps them)")
    source = sweep.job.heldout
    data = source.open()
    if data.identity != first.config.heldout or resolve_model(sweep.job.model).identity != first.config.model:
        raise FailureError(
            "the model or the held-out pairs changed since the runs were planned: launch again"
        )
    plan = Plan(
        target=sweep.spec.name,
        source=resolve_model(sweep.job.model),
        data=_limited(data, options.limit),
        bad_rows=sweep.job.bad_rows,
        subjects=subjects,
        missing=missing,
        setting=first.setting,
        seed=first.seed,
    )
    return _audit(plan, options, on_progress)


def audit_model(
    name: str,
    methods: Sequence[str],
    data: Path | None,
    lora: int | None,
    options: Options,
    on_progress: OnProgress,
) -> Audit:
    """Measure a model as it is: before training by one or more methods.

    Args:
        name: alias, folder or hub id.
        methods: presets, e.g. "dpo", "adadpo".
        data: a JSON or JSONL file of pairs; None: the built-in held-out pairs.
        lora: rank of the adapters whose parameters gradients are taken in; None: every weight.
        options: how.
        on_progress: as in `audit_sweep`.

    Raises:
        UserError: there is no such model, method or file.
        FailureError: the model or the data cannot be read.
    """
    from sweeps.data import builtin_instructions_path

    try:
        source = resolve_model(name)
        losses = [make_method(method) for method in methods]
    except ValueError as error:  # ModelError is one
        raise UserError(str(error)) from error
    file = builtin_instructions_path("heldout") if data is None else data
    shown = "builtin:instructions (held out)" if data is None else str(data)
    train = TrainSettings(lora=None if lora is None else Lora(r=lora, alpha=2 * lora))
    if options.precision is not None:
        train = train.model_copy(update={"precision": options.precision})
    plan = Plan(
        target=source.name,
        source=source,
        data=_limited(DataSource(shown, "file", str(file)), options.limit),
        bad_rows="refuse",
        subjects=[
            Subject(method, loss, train, 0, None, [Policy(0, None)])
            for method, loss in zip(methods, losses, strict=True)
        ],
        missing=[],
    )
    return _audit(plan, options, on_progress)


def _limited(data: DataSource, limit: int | None) -> DataSource:
    if limit is None:
        return data
    fewer = limit if data.limit is None else min(limit, data.limit)
    return DataSource(data.name, data.kind, data.location, data.split, data.revision, fewer)


def _policies(folder: RunFolder, run: PlannedRun) -> Sequence[Policy]:
    """Before training, the snapshots in order, the end."""
    snapshots = [
        Policy(int(path.name.removeprefix("step-")), path)
        for path in folder.train.glob("snapshots/step-*")
        if path.name.removeprefix("step-").isdecimal()
    ]
    found = [Policy(0, None), *sorted(snapshots, key=lambda policy: policy.step)]
    if folder.metrics.exists() and not folder.weights_freed:
        saved = folder.train / ("adapter" if run.config.train.lora else "model")
        found.append(Policy(int(read_json(folder.metrics)["steps"]), saved))
    return found


def _audit(plan: Plan, options: Options, on_progress: OnProgress) -> Audit:
    from adadpo.quiet import quiet

    try:
        with quiet():
            return measure(plan, options, on_progress)
    except (ModelError, DataError) as error:
        raise FailureError(str(error)) from error


def write_audit(audit: Audit, path: Path) -> None:
    """Write `audit.json`, whole or not at all.

    Raises:
        FailureError: it cannot be written.
    """
    write_json(path, audit.model_dump(mode="json"))


def read_audit(sweep: Sweep) -> tuple[Audit | None, str | None]:
    """The sweep's audit, or why it is not shown: its runs are no longer the sweep's.

    Raises:
        FailureError: the file is damaged.
    """
    path = sweep.folder / FILE
    if not path.exists():
        return None, None
    try:
        audit = Audit.model_validate(read_json(path))
    except ValidationError as error:
        raise FailureError(
            f"{path} is damaged or of another version: adadpo audit {sweep.spec.name}"
        ) from error
    gone = {point.run_id for point in audit.points} - {run.run_id for run in sweep.job.runs}
    if gone:
        return None, f"not shown: made of runs that the sweep no longer has ({len(gone)}); audit again"
    return audit, None

"""The passes of a gradient audit: every policy of a plan measured once, before training once for all arms alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ValidationError

from adadpo.config import Lora, TrainSettings
from adadpo.data.pairs import DataSource, load_pairs
from adadpo.errors import DataError, FailureError, ModelError, UserError
from adadpo.method.registry import Method, make_method
from adadpo.models.load import ModelSource, resolve_model
from analysis.audit import TOLERANCE, findings, make_stage, quartiles, rounded_values
from analysis.results.gradient_audit import Audit, AuditCost, AuditPoint, AuditStageName
from sweeps.state.run_table import find_runs
from sweeps.state.sweep import Sweep
from sweeps.store.host import versions
from sweeps.store.job import PlannedRun
from sweeps.store.layout import RunFolder, read_json, write_json

if TYPE_CHECKING:
    from adadpo.data.tokens import TokenPairs
    from adadpo.gradient_audit.gradients import Measurement, ParameterGradients
    from adadpo.models.policy import Base

Precision = Literal["bfloat16", "float32"]
OnProgress = Callable[[str, float], None]  # what is measured, the share of all work that is behind


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    pairs: int | None = None  # of which parameter gradients are measured; None: what the cost allows
    limit: int | None = None  # held-out pairs
    precision: Precision | None = None  # None: the run's
    seed: int = 0  # of the draw of `pairs`


@dataclass(frozen=True)
class AuditedPolicy:
    """A policy to measure."""

    step: int
    folder: Path | None  # None: before training


@dataclass(frozen=True)
class Subject:
    """An arm: its loss, its training, and the policies that there are of it, in order of their steps."""

    arm: str
    method: Method
    train: TrainSettings
    seed: int
    run_id: str | None
    policies: list[AuditedPolicy]


@dataclass(frozen=True)
class Plan:
    """What is audited on which pairs."""

    target: str
    source: ModelSource
    data: DataSource
    bad_rows: Literal["refuse", "skip"]
    subjects: list[Subject]
    missing: list[str]
    setting: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Measured:
    """One policy's numbers."""

    measurement: Measurement
    gradients: ParameterGradients
    parameters: str  # which they are


class Bench:
    """What all policies are measured on: token ids, the pairs of the parameter gradients, the base models."""

    def __init__(self, plan: Plan, options: Options) -> None:
        self.plan, self.options = plan, options
        lengths = {subject.train.max_length for subject in plan.subjects}
        if len(lengths) > 1:
            raise UserError(
                f"the arms differ in train.max_length ({', '.join(map(str, sorted(lengths)))}): "
                "audit them one by one (arm=NAME)"
            )
        (self.max_length,) = lengths
        self.seconds = self.forward_seconds = 0.0
        self.costs: list[AuditCost] = []
        self.chosen: list[int] | None = None
        self._bases: dict[str, Base] = {}
        self._pairs: TokenPairs | None = None
        self._left_out: list[str] = []

    def base(self, train: TrainSettings) -> Base:
        """The untrained model in the precision of the passes."""
        from adadpo.models.policy import load_base

        if train.precision not in self._bases:
            self._bases[train.precision] = load_base(self.plan.source, train)
        return self._bases[train.precision]

    def pairs(self, base: Base) -> TokenPairs:
        """Token ids of the held-out pairs."""
        from adadpo.data.tokens import tokenize_pairs

        if self._pairs is None:
            read = load_pairs(self.plan.data, self.plan.bad_rows)
            self._pairs = tokenize_pairs(read.pairs, base.tokenizer, self.max_length)
            self._left_out = [f"row {row.number}: {row.reason}" for row in read.bad_rows]
            self._left_out += [f"usable pair {row.number}: {row.reason}" for row in self._pairs.dropped]
        return self._pairs

    def measure(
        self,
        subject: Subject,
        policy: AuditedPolicy,
        train: TrainSettings,
        on_progress: Callable[[float], None],
    ) -> Measured:
        """Both measurements of a policy, in the arithmetic of its training."""
        import torch

        from adadpo.gradient_audit.gradients import (
            gradient_pairs,
            measure_gradients,
            measure_pairs,
            policy_in_training,
            trained_share,
            work_of,
        )

        base = self.base(train)
        pairs = self.pairs(base)
        model = policy_in_training(base, train, subject.seed, policy.folder)
        trained = trained_share(model)
        if self.chosen is None:
            rng = np.random.default_rng(self.options.seed)
            if self.options.pairs is None:
                self.chosen = gradient_pairs(pairs, self.max_length, rng, trained_share=trained)
            else:
                self.chosen = rng.permutation(len(pairs))[: self.options.pairs].tolist()
        count = len(pairs) + len(self.chosen)
        given = {"pad_token_id": base.tokenizer.pad_token_id, "max_length": self.max_length}

        def autocast() -> Any:
            on = train.precision == "bfloat16"
            return torch.autocast(base.model.device.type, torch.bfloat16, enabled=on)

        start = time.monotonic()
        # One context each: casts of weights that were cached without a graph would lose their gradients.
        with autocast():
            measurement = measure_pairs(
                model, pairs, **given, on_progress=lambda done, total: on_progress(done / count)
            )
        self.forward_seconds += time.monotonic() - start
        with autocast():
            gradients = measure_gradients(
                model,
                pairs,
                self.chosen,
                **given,
                on_progress=lambda done, total: on_progress((len(pairs) + done) / count),
            )
        self.seconds += time.monotonic() - start
        work = work_of(pairs, self.max_length, self.chosen, trained)
        self.costs.append(
            AuditCost(
                evaluation_tokens=work.evaluation,
                forward_tokens=work.forward,
                backward_tokens=work.backward,
                passes=work.passes,
                seconds=0.0,
                evaluation_seconds=0.0,
            )
        )
        return Measured(measurement, gradients, _parameters(model, train))

    def audit(self, points: list[AuditPoint], precision: str) -> Audit:
        """All of it, as it is written."""
        import torch

        plan, pairs = self.plan, self._pairs
        assert pairs is not None  # every subject has a policy before training
        costliest = max(self.costs, key=lambda cost: cost.passes)
        return Audit(
            target=plan.target,
            model=plan.source.identity,
            data=plan.data.identity,
            pairs=len(pairs),
            truncated=pairs.truncated,
            left_out=self._left_out,
            gradient_pairs=self.chosen or [],
            gradient_seed=self.options.seed,
            precision=precision,
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
            max_length=self.max_length,
            setting=plan.setting,
            seed=plan.seed,
            tolerance=TOLERANCE,
            points=points,
            missing=plan.missing,
            findings=findings(points),
            cost=costliest.model_copy(
                update={"seconds": self.seconds, "evaluation_seconds": self.forward_seconds}
            ),
            versions=versions(),
        )


def measure(plan: Plan, options: Options, on_progress: OnProgress) -> Audit:
    """Measure every policy of a plan.

    Raises:
        UserError: the arms cannot be measured on the same token ids.
        ModelError, DataError: a model, a policy or the pairs cannot be read.
    """
    bench = Bench(plan, options)
    total = sum(len(subject.policies) for subject in plan.subjects)
    untrained: dict[str, Measured] = {}
    points: list[AuditPoint] = []
    precisions: list[str] = []
    for subject in plan.subjects:
        train = subject.train
        if options.precision is not None:
            train = train.model_copy(update={"precision": options.precision})
        precisions.append(train.precision)
        # Arms that start from equal weights share what is measured before training.
        start = f"{train.precision} {train.lora} {subject.seed if train.lora else ''}"
        for policy in subject.policies:
            label = f"{subject.arm}, " + (f"step {policy.step}" if policy.folder else "before training")

            def progress(share: float, label: str = label, behind: int = len(points)) -> None:
                on_progress(label, (behind + share) / total)

            if policy.folder is None and start in untrained:
                measured = untrained[start]
            else:
                measured = bench.measure(subject, policy, train, progress)
            if policy.folder is None:
                untrained[start] = measured
            points.append(_point(subject, policy.step, measured, untrained[start], bench.chosen or []))
            progress(1.0)
    return bench.audit(points, ", ".join(dict.fromkeys(precisions)))


def _point(
    subject: Subject, step: int, measured: Measured, untrained: Measured, chosen: list[int]
) -> AuditPoint:
    import torch

    from adadpo.gradient_audit.ratios import cosine_of_terms, promised, stage_ratios, stages_of, trained_stage

    method = subject.method
    indices = torch.tensor(chosen, dtype=torch.long)
    reference = untrained.measurement if method.needs_reference else None
    own = trained_stage(method)
    stages = []
    for name, stage in stages_of(method).items():
        found = stage_ratios(stage, measured.measurement, reference, measured.gradients, indices)
        stages.append(
            make_stage(
                name,
                label=_label(name, stage),
                trained=name == own,
                promised=promised(stage),
                clipped=found.clipped.tolist(),
                log_ratios={ratio: values.tolist() for ratio, values in found.log_ratios.items()},
            )
        )
    cosines = cosine_of_terms(method, measured.measurement, reference, measured.gradients, indices)
    written = rounded_values(cosines.tolist())
    return AuditPoint(
        arm=subject.arm,
        method=method.identity(),
        run_id=subject.run_id,
        step=step,
        parameters=measured.parameters,
        stages=stages,
        cosines=written,
        cosine=quartiles(written),
    )


def _label(name: AuditStageName, method: Method) -> str:
    if name == "base":
        return "base loss"
    kind = "sequence ratio" if method.balance == "sequence" else "per-token ratio"
    return f"{kind}, no clip" if method.clip is None else f"{kind}, clip {method.clip:g}"


def _parameters(policy: Any, train: TrainSettings) -> str:
    count = sum(parameter.numel() for parameter in policy.parameters() if parameter.requires_grad)
    what = "every weight" if train.lora is None else f"the LoRA adapters of rank {train.lora.r}"
    return f"{what} ({count:,} numbers)"


# The gradient audit of a sweep's runs or of a model: finds the policies, has them measured, keeps audit.json.

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
    fitting = find_runs(sweep, words) if words else sweep.job.runs
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
            Subject(method, loss, train, 0, None, [AuditedPolicy(0, None)])
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


def _policies(folder: RunFolder, run: PlannedRun) -> Sequence[AuditedPolicy]:
    """Before training, the snapshots in order, the end."""
    snapshots = [
        AuditedPolicy(int(path.name.removeprefix("step-")), path)
        for path in folder.train.glob("snapshots/step-*")
        if path.name.removeprefix("step-").isdecimal()
    ]
    found = [AuditedPolicy(0, None), *sorted(snapshots, key=lambda policy: policy.step)]
    if folder.metrics.exists() and not folder.weights_freed:
        saved = folder.train / ("adapter" if run.config.train.lora else "model")
        found.append(AuditedPolicy(int(read_json(folder.metrics)["steps"]), saved))
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

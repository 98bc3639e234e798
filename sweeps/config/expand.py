"""From a checked sweep to its runs: what each trains on, how it is evaluated, what it is called."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adadpo.config import RunConfig, TrainSettings
from adadpo.data.pairs import Pairs, load_pairs
from adadpo.errors import DataError, FailureError, JudgeError, ModelError, UserError
from adadpo.method.registry import make_method
from adadpo.models.load import ModelSource, resolve_model
from sweeps.config.evaluation import (
    baseline_outputs,
    judged_by,
    prompts_identity,
    read_prompts,
    require_constraints,
)
from sweeps.config.grid import METHOD_AXES, axes_of, cells_of, preset_of
from sweeps.config.schema import SweepSpec
from sweeps.config.yaml_source import Problem, YamlFile, in_folder
from sweeps.data import builtin_instructions_path
from sweeps.store.ids import digest, file_digest, run_ids
from sweeps.store.job import ALPACA_EVAL_BASELINE, Evaluation, Identities, Job, PlannedRun, Source

BUILTIN = "builtin:instructions"


def expand(
    spec: SweepSpec, file: YamlFile, store: Path, extra_seeds: Sequence[int] = ()
) -> tuple[Job, Identities]:
    """The whole sweep as one job, and what its model, data and judge are now.

    Args:
        spec: checked.
        file: where it was written, for messages; relative paths in it start at its folder.
        store: root of the store.
        extra_seeds: seeds added by `extend`.

    Raises:
        UserError: the model, a data file or the prompts are missing or unusable, each at its place in the file.
    """
    folder, problems = file.folder, []
    try:
        model: ModelSource | None = resolve_model(in_folder(spec.model, folder))
    except (ModelError, OSError, RuntimeError) as error:  # not a path: too long, or ~somebody unknown here
        model = None
        problems.append(Problem(("model",), str(error)))
    train = heldout = None
    contents: dict[str, str | None] = {}
    try:
        train, heldout = _train_source(spec, folder), _heldout_source(spec, folder)
        for name, source in (("train", train), ("heldout", heldout)):
            contents[name] = source.open().identity if source else None
            if source and source.kind == "file":
                load_pairs(source.open(), spec.data.bad_rows)
    except (ValueError, OSError) as error:  # DataError, or a name that no file can have
        problems.append(Problem(("data",), str(error)))
    try:
        prompts = _prompts(spec, folder)
    except (UserError, ValueError, OSError) as error:
        problems.append(Problem(("evaluate", "prompts"), str(error)))
        prompts = None
    try:
        baseline, baseline_identity = _baseline(spec, folder, prompts)
    except (FailureError, ValueError, OSError) as error:
        problems.append(Problem(("evaluate", "baseline"), str(error)))
    file.raise_if(problems)
    assert model is not None  # raise_if
    assert train is not None
    try:
        evaluation = _evaluation(spec, folder, model, prompts, baseline, baseline_identity)
    except (JudgeError, ModelError, OSError) as error:
        file.raise_if([Problem(("evaluate", "judge"), str(error))])
        raise
    except UserError as error:
        file.raise_if([Problem(("evaluate", "calibration"), str(error))])
        raise
    identities = Identities(
        model=model.identity,
        train=contents["train"] or "",
        heldout=contents["heldout"],
        judge_package=_judge_package(spec),
    )
    runs = planned_runs(spec, identities, extra_seeds)
    file.raise_if(batch_problems(spec, runs))
    job = Job(
        sweep=spec.name,
        store=str(store),
        model=in_folder(spec.model, folder),
        train=train,
        heldout=heldout,
        bad_rows=spec.data.bad_rows,
        evaluation=evaluation,
        runs=runs,
        processes=spec.processes,
        strategy=spec.strategy,
        retries=spec.launch.retries,
        command=sys.argv,
    )
    return job, identities


def batch_problems(spec: SweepSpec, runs: Sequence[PlannedRun]) -> Iterator[Problem]:
    """Batches of arms or of the grid that the processes of a run cannot share."""
    told: set[str] = set()
    for run in runs:
        try:
            run.config.train.accumulation_steps(spec.processes)
        except ValueError as error:
            place = ("arms", run.arm) if "batch" in str(spec.arms[run.arm]) else ("grid",)
            if str(error) not in told:
                told.add(str(error))
                yield Problem(place, str(error))


def cells(spec: SweepSpec) -> list[dict[str, Any]]:
    """Every combination of the grid once, in the order of the file."""
    found: dict[str, dict[str, Any]] = {}
    for part in spec.grid:
        for cell in cells_of(part):
            found.setdefault(setting_label(cell), cell)
    return list(found.values())


def axes(spec: SweepSpec) -> dict[str, list[Any]]:
    """Axis -> values, over the union of the grids."""
    merged: dict[str, list[Any]] = {}
    for part in spec.grid:
        for axis, values in axes_of(part).items():
            merged.setdefault(axis, []).extend(v for v in values if v not in merged.get(axis, []))
    return merged


def setting_label(cell: dict[str, Any]) -> str:
    """`beta=0.1 learning_rate=1e-05`: unique for unequal cells."""
    return " ".join(
        f"{axis}={value if isinstance(value, str) else json.dumps(value)}" for axis, value in cell.items()
    )


def check_pairs(job: Job) -> dict[str, Pairs]:
    """Reads the local preference data once more, for `check` to count."""
    sources = {"train": job.train, "heldout": job.heldout}
    return {
        name: load_pairs(source.open(), job.bad_rows)
        for name, source in sources.items()
        if source is not None and source.kind == "file"
    }


def planned_runs(
    spec: SweepSpec, identities: Identities, extra_seeds: Sequence[int] = ()
) -> list[PlannedRun]:
    """Settings, seeds, arms: the last changes fastest. Seeds share a configuration, which is validated once."""
    seeds = [*spec.seeds, *(seed for seed in extra_seeds if seed not in spec.seeds)]
    found = []
    for cell in cells(spec):
        label = setting_label(cell)
        configs = {arm: _config(spec, arm, cell, seeds[0], identities) for arm in spec.arms}
        named = {arm: run_ids(config, seeds) for arm, config in configs.items()}
        for number, seed in enumerate(seeds):
            for arm, config in configs.items():
                run = PlannedRun(
                    run_id=named[arm][number],
                    arm=arm,
                    setting=label,
                    hyperparameters=cell,
                    config=config.model_copy(update={"seed": seed}),
                )
                found.append(run)
    return found


def _judge_package(spec: SweepSpec) -> str | None:
    if spec.evaluate.judge.kind != "alpaca_eval":
        return None
    from analysis.judges.annotators import package_version

    return f"alpaca_eval {package_version()}"


def _config(spec: SweepSpec, arm: str, cell: dict[str, Any], seed: int, identities: Identities) -> RunConfig:
    options = {**spec.arms[arm], **cell}
    method = make_method(
        options.pop("method", preset_of(arm, spec.arms[arm])),
        **{key: value for key, value in options.items() if key in METHOD_AXES},
    )
    train = TrainSettings(
        **{**spec.train, **{key: value for key, value in options.items() if key not in METHOD_AXES}}
    )
    return RunConfig(
        model=identities.model,
        data=identities.train,
        heldout=identities.heldout,
        method=method,
        train=train,
        seed=seed,
    )


def _train_source(spec: SweepSpec, folder: Path) -> Source:
    data = spec.data
    if data.source == BUILTIN:
        return Source(
            name=BUILTIN, kind="file", location=str(builtin_instructions_path("train")), limit=data.limit
        )
    return _source(data.source, data.split, data.revision, data.limit, folder)


def _heldout_source(spec: SweepSpec, folder: Path) -> Source | None:
    data, limit = spec.data, spec.data.heldout_limit
    if (data.heldout or data.source) == BUILTIN:
        path = builtin_instructions_path("heldout")
        return Source(name=f"{BUILTIN} (held out)", kind="file", location=str(path), limit=limit)
    if data.heldout is not None:
        return _source(data.heldout, data.heldout_split or "test", data.revision, limit, folder)
    found = _source(data.source, data.heldout_split or "", data.revision, limit, folder)
    # A file has no splits: nothing is held out unless `heldout` names another file.
    return found if found.kind == "hub" and data.heldout_split else None


def _source(name: str, split: str, revision: str, limit: int | None, folder: Path) -> Source:
    location = in_folder(name, folder)
    if Path(location).suffix in (".json", ".jsonl"):
        return Source(name=name, kind="file", location=location, limit=limit)
    if name.startswith("builtin:"):
        raise DataError(f"unknown built-in data {name!r}; there is {BUILTIN!r}")
    if name.count("/") != 1 or name.startswith("."):
        raise DataError(
            f"{name!r} is neither {BUILTIN!r}, nor a .json or .jsonl file, nor a hub id 'org/name'"
        )
    return Source(name=name, kind="hub", location=name, split=split, revision=revision, limit=limit)


def _prompts_path(spec: SweepSpec, folder: Path) -> Path | None:
    """None: on the hub."""
    prompts = spec.evaluate.prompts
    if prompts == "alpaca_eval":
        return None
    return builtin_instructions_path("evaluation") if prompts == BUILTIN else Path(in_folder(prompts, folder))


def _prompts(spec: SweepSpec, folder: Path) -> list[dict[str, Any]] | None:
    """The prompts, if they are here; the rubric judge's constraints are checked."""
    path, evaluate = _prompts_path(spec, folder), spec.evaluate
    if path is None:
        return None
    prompts = read_prompts(path, evaluate.limit)
    if evaluate.judge.kind == "rubric":
        require_constraints(prompts, evaluate.prompts)
    return prompts


def _baseline(spec: SweepSpec, folder: Path, prompts: list[dict[str, Any]] | None) -> tuple[str, str]:
    """Where the baseline's responses are, and their identity."""
    baseline = spec.evaluate.baseline
    if baseline == "reference":
        return baseline, baseline
    if baseline == ALPACA_EVAL_BASELINE:
        from analysis.alpaca_eval.assets import BASELINE

        return baseline, _official(BASELINE)
    path = Path(in_folder(baseline, folder))
    baseline_outputs(path, prompts or [])
    return str(path), f"sha256:{file_digest(path)}"


def _evaluation(
    spec: SweepSpec,
    folder: Path,
    model: ModelSource,
    prompts: list[dict[str, Any]] | None,
    baseline: str,
    baseline_identity: str,
) -> Evaluation:
    from analysis.alpaca_eval.assets import PROMPTS

    evaluate, path = spec.evaluate, _prompts_path(spec, folder)
    identity = _official(PROMPTS) if prompts is None else prompts_identity(prompts)
    generation = {
        "prompts": identity,
        "limit": evaluate.limit if prompts is None else None,  # else the hash covers exactly the prompts used
        "decoding": evaluate.decoding.model_dump(mode="json"),
        "kl_prompts": evaluate.kl_prompts,
        "model": model.identity,
    }
    generated = Evaluation(
        prompts=evaluate.prompts,
        prompts_path=None if path is None else str(path),
        prompts_identity=identity,
        limit=evaluate.limit,
        baseline=baseline,
        baseline_identity=baseline_identity,
        judge=None,
        lc_method="no_difficulty",
        calibration=None,
        decoding=evaluate.decoding,
        kl_prompts=evaluate.kl_prompts,
        generation_id=digest(generation),
        judgement_id="",
    )
    return judged_by(generated, evaluate, folder)


def _official(name: str) -> str:
    from analysis.alpaca_eval.assets import REPOSITORY, REVISION

    return f"hub:{REPOSITORY}@{REVISION}/{name}"

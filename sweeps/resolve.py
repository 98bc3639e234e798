"""From a checked sweep to its runs: what each trains on, how it is evaluated, what it is called."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from adadpo.config import Decoding, RunConfig, TrainSettings
from adadpo.data import DataError, DataSource, Pairs, load_pairs
from adadpo.methods import make_method
from adadpo.models import ModelError, ModelSource, resolve_model
from analysis.judges import JudgeError
from sweeps.axes import METHOD_AXES, axes_of, cells_of, preset_of
from sweeps.data import builtin_instructions_path
from sweeps.errors import FailureError, UserError
from sweeps.identity import digest, run_id
from sweeps.prompts import baseline_outputs, prompts_identity, read_prompts
from sweeps.spec import Judging, SweepSpec
from sweeps.yamlfile import Problem, YamlFile

BUILTIN = "builtin:instructions"
ALPACA_EVAL_BASELINE = "gpt4_1106_preview"
OFFICIAL_JUDGE = "weighted_alpaca_eval_gpt4_turbo"


class Fixed(BaseModel):
    """A value that travels to jobs as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Fixed):
    """A `DataSource` as JSON."""

    name: str
    kind: Literal["file", "hub"]
    location: str
    split: str = "train"
    revision: str = "main"
    limit: int | None = None

    def open(self) -> DataSource:
        """For reading."""
        return DataSource(**self.model_dump())


class Evaluation(Fixed):
    """How every run of the sweep is evaluated."""

    prompts: str  # as the user wrote it
    prompts_path: str | None  # None: AlpacaEval's, in the cache
    prompts_identity: str
    limit: int | None
    baseline: str
    baseline_identity: str
    judge: dict[str, Any] | None  # a `JudgeConfig`; None: the responses are not judged
    lc_method: Literal["length_controlled_v1", "joint_difficulty", "no_difficulty"]
    calibration: str | None  # a file; None: AlpacaEval's, in the cache
    decoding: Decoding
    kl_prompts: int | None
    generation_id: str  # of what decides the responses
    judgement_id: str  # of what decides their scores

    @property
    def eval_id(self) -> str:
        """Where a run's results of this evaluation are, below `eval/`."""
        return f"{self.generation_id}/{self.judgement_id}"

    @property
    def judge_name(self) -> str:
        """For people."""
        return judge_name(self.judge)

    @property
    def needs_assets(self) -> list[str]:
        """AlpacaEval's files that have to be in the cache."""
        from analysis.alpaca_eval_assets import BASELINE, CALIBRATION, PROMPTS

        needed = []
        if self.prompts_path is None:
            needed.append(PROMPTS)
        if self.baseline == ALPACA_EVAL_BASELINE:
            needed.append(BASELINE)
        if self.lc_method == "length_controlled_v1" and not self.calibration:
            needed += [PROMPTS, CALIBRATION]
        return list(dict.fromkeys(needed))


class PlannedRun(Fixed):
    """One arm at one setting with one seed."""

    run_id: str
    arm: str
    setting: str
    hyperparameters: dict[str, float | int | str | bool | None]
    config: RunConfig

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.config.seed


class Job(Fixed):
    """What a worker needs to know, and nothing else: it is all JSON."""

    sweep: str
    store: str
    model: str
    train: Source
    heldout: Source | None
    bad_rows: Literal["refuse", "skip"]
    evaluation: Evaluation
    runs: list[PlannedRun]
    command: list[str]  # of the process that planned it


def resolve(spec: SweepSpec, file: YamlFile, store: Path, extra_seeds: Sequence[int] = ()) -> Job:
    """The whole sweep as one job.

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
        model: ModelSource | None = resolve_model(_in_folder(spec.model, folder))
    except (ModelError, OSError, RuntimeError) as error:  # not a path: too long, or ~somebody unknown here
        model = None
        problems.append(Problem(("model",), str(error)))
    train = heldout = None
    identities: dict[str, str | None] = {}
    try:
        train, heldout = _train_source(spec, folder), _heldout_source(spec, folder)
        for name, source in (("train", train), ("heldout", heldout)):
            identities[name] = source.open().identity if source else None
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
    seeds = [*spec.seeds, *(seed for seed in extra_seeds if seed not in spec.seeds)]
    runs = [
        _run(spec, arm, cell, seed, model.identity, identities)
        for cell in cells(spec)
        for seed in seeds
        for arm in spec.arms
    ]
    return Job(
        sweep=spec.name,
        store=str(store),
        model=_in_folder(spec.model, folder),
        train=train,
        heldout=heldout,
        bad_rows=spec.data.bad_rows,
        evaluation=evaluation,
        runs=runs,
        command=sys.argv,
    )


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


def _run(
    spec: SweepSpec, arm: str, cell: dict[str, Any], seed: int, model: str, identities: dict[str, str | None]
) -> PlannedRun:
    options = {**spec.arms[arm], **cell}
    method = make_method(
        options.pop("method", preset_of(arm, spec.arms[arm])),
        **{key: value for key, value in options.items() if key in METHOD_AXES},
    )
    train = TrainSettings(
        **{**spec.train, **{key: value for key, value in options.items() if key not in METHOD_AXES}}
    )
    config = RunConfig(
        model=model,
        data=identities["train"] or "",
        heldout=identities["heldout"],
        method=method,
        train=train,
        seed=seed,
    )
    return PlannedRun(
        run_id=run_id(config), arm=arm, setting=setting_label(cell), hyperparameters=cell, config=config
    )


def _in_folder(name: str, folder: Path) -> str:
    """A relative path that exists beside the sweep file becomes absolute; every other name stays."""
    try:
        path = folder / Path(name).expanduser()
        looks_like_path = name.startswith((".", "~", "/")) or path.suffix in (".json", ".jsonl")
        return str(path) if looks_like_path or path.exists() else name
    except (OSError, RuntimeError):  # too long for a path, or ~somebody who is not a user here
        return name


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
    location = _in_folder(name, folder)
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
    return (
        builtin_instructions_path("evaluation") if prompts == BUILTIN else Path(_in_folder(prompts, folder))
    )


def _prompts(spec: SweepSpec, folder: Path) -> list[dict[str, Any]] | None:
    """The prompts, if they are here; the rubric judge's constraints are checked."""
    from analysis.judges.verifier import validate

    path, evaluate = _prompts_path(spec, folder), spec.evaluate
    if path is None:
        return None
    prompts = read_prompts(path, evaluate.limit)
    for number, prompt in enumerate(prompts if evaluate.judge.kind == "rubric" else (), start=1):
        constraints = prompt.get("constraints")
        if not isinstance(constraints, list) or not constraints:
            raise UserError(
                f"{evaluate.prompts}: the rubric judge needs 'constraints' in every prompt; prompt {number} has none"
            )
        for constraint in constraints:
            try:
                validate(constraint)
            except ValueError as error:
                raise UserError(f"{evaluate.prompts}: prompt {number}: {error}") from error
    return prompts


def _baseline(spec: SweepSpec, folder: Path, prompts: list[dict[str, Any]] | None) -> tuple[str, str]:
    """Where the baseline's responses are, and their identity."""
    baseline = spec.evaluate.baseline
    if baseline == "reference":
        return baseline, baseline
    if baseline == ALPACA_EVAL_BASELINE:
        from analysis.alpaca_eval_assets import BASELINE

        return baseline, _official(BASELINE)
    path = Path(_in_folder(baseline, folder))
    baseline_outputs(path, prompts or [])
    return str(path), f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def _evaluation(
    spec: SweepSpec,
    folder: Path,
    model: ModelSource,
    prompts: list[dict[str, Any]] | None,
    baseline: str,
    baseline_identity: str,
) -> Evaluation:
    from analysis.alpaca_eval_assets import PROMPTS

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
    from analysis.alpaca_eval_assets import REPOSITORY, REVISION

    return f"hub:{REPOSITORY}@{REVISION}/{name}"


def judged_by(evaluation: Evaluation, evaluate: Judging, folder: Path) -> Evaluation:
    """The same responses under another judge or another formula for LC.

    Raises:
        JudgeError, ModelError, OSError: the judge or the calibration cannot be used; the message says why.
    """
    from analysis.judges.factory import judge_identity

    config = None if evaluate.judge.kind == "none" else evaluate.judge
    if config is not None:
        located = {
            key: _in_folder(value, folder)
            for key in ("config", "model", "path")
            if isinstance(value := getattr(config, key, None), str)
        }
        config = config.model_copy(update=located)
    calibration = None if evaluate.calibration is None else Path(_in_folder(evaluate.calibration, folder))
    method = evaluate.lc_method
    if method == "auto":
        official = evaluation.prompts_path is None and evaluation.baseline == ALPACA_EVAL_BASELINE
        official = official and getattr(config, "config", None) == OFFICIAL_JUDGE
        method = "length_controlled_v1" if official or calibration else "no_difficulty"
    described = {
        "baseline": evaluation.baseline_identity,
        "judge": None
        if config is None
        else judge_identity(config, lambda name: resolve_model(name).identity),
        "lc_method": method,
        "calibration": None if calibration is None else hashlib.sha256(calibration.read_bytes()).hexdigest(),
    }
    return evaluation.model_copy(
        update={
            "judge": None if config is None else config.model_dump(mode="json"),
            "lc_method": method,
            "calibration": None if calibration is None else str(calibration),
            "judgement_id": digest(described),
        }
    )


def judge_name(judge: dict[str, Any] | None) -> str:
    """`rubric`, `alpaca_eval weighted_alpaca_eval_gpt4_turbo`, ..."""
    if judge is None:
        return "none"
    details = [str(judge[key]) for key in ("config", "model", "path") if judge.get(key)]
    options = [key for key in ("both_orders",) if judge.get(key)]
    if judge.get("repeats", 1) > 1:
        options.append(f"{judge['repeats']} judgements each")
    return " ".join([judge["kind"], *details]) + (f" ({', '.join(options)})" if options else "")

"""Opening a sweep: a launched one by its plan; `check`, `plan`, `launch` and `extend` by its file.

`resolve_sweep` reads the sweep file and everything it refers to: data, model, prompts, the judge's package. What it
finds becomes the plan by `record`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from adadpo.errors import FailureError, SweepError, UserError, suggest
from adadpo.files import atomic_write
from sweeps.config.expand import expand, planned_runs, setting_label
from sweeps.config.grid import parse_seeds
from sweeps.config.schema import SweepSpec, spec_of
from sweeps.config.yaml_source import YamlFile, load_yaml
from sweeps.state.plan_file import Origin, Plan, read_plan, write_plan
from sweeps.state.sweep import Sweep
from sweeps.store.declaration import SuggestedSetting, read_asked
from sweeps.store.job import PlannedRun
from sweeps.store.layout import Store, read_json_or_none, write_json

BEFORE_PLANS = ("origin.json", "seeds.json")  # of sweeps launched before there were plans


def open_sweep(target: str, store: Store) -> Sweep:
    """A launched sweep by its plan; one that was never launched, or by an older version, by its file.

    Args:
        target: a sweep file, or the name of a launched sweep.
        store: where it was launched.

    Raises:
        UserError: neither, or the plan or the file has problems.
    """
    name = launched_name(target, store)
    plan = None if name is None else read_plan(store, name)
    return resolve_sweep(target, store) if plan is None else _opened(plan, store)


def launched_name(target: str, store: Store) -> str | None:
    """The name of the sweep that a target of `open_sweep` means; None: its file names none.

    Raises:
        UserError: it is neither a sweep nor a file that can be read.
    """
    path, name = file_of(target, store), None
    if path is None:
        return target
    if os.path.exists(path):  # noqa: PTH110 -- False where the name is too long
        data = load_yaml(path).data
        name = str(data.get("name")) if isinstance(data, dict) else ""
        return name if _is_name(name) else None
    return _launched_from(path, store)


def resolve_sweep(target: str, store: Store) -> Sweep:
    """A sweep by its file and what that refers to, as they are now, with the seeds and settings added since.

    Args:
        target: a sweep file; or the name of a launched sweep, which stands for the file as it was launched.
        store: where it was launched, if it was.

    Raises:
        UserError: the file or something it refers to has problems.
    """
    path = file_of(target, store)
    if path is not None:
        file = load_yaml(path)
        spec = spec_of(file)
        plan = read_plan(store, spec.name)
        origin = Origin(path=str(path.absolute()), folder=str(file.folder), text=file.text)
    else:
        path, plan = store.sweep(target) / "spec.yaml", read_plan(store, target)
        started = Path(plan.origin.folder if plan else planned_from(store.sweep(target))["folder"])
        file = load_yaml(path, started)
        spec = spec_of(file)
        launched = plan.origin.path if plan else str(path)
        origin = Origin(path=launched, folder=str(started), text=file.text)
    seeds = plan.extra_seeds if plan else planned_from(store.sweep(spec.name))["seeds"]
    return _resolved(spec, file, origin, store, seeds)


def _resolved(
    spec: SweepSpec, file: YamlFile, origin: Origin, store: Store, extra_seeds: Iterable[int]
) -> Sweep:
    asked = () if spec.search is None else tuple(read_asked(store.sweep(spec.name)))
    spec, extra = _with_settings(spec, asked), tuple(extra_seeds)
    job, identities = expand(spec, file, store.root, extra)
    job = job.model_copy(update={"runs": _so_far(spec, job.runs, asked)})
    return Sweep(spec, origin, store, job, identities, extra, asked)


def rebuild(store: Store, name: str) -> Sweep:
    """A launched sweep whose plan is lost: resolved by its file, if that still gives the launched runs.

    Raises:
        SweepError: it does not; the message says why.
    """
    folder = store.sweep(name)
    known, problem = planned_from(folder), "nothing says from which file it was launched"
    launched = {str(run_id) for run_id in known.get("runs", ())}
    for path in dict.fromkeys((str(folder / "spec.yaml"), known.get("file"))):
        if path is None or not Path(path).is_file():
            continue
        try:
            file = load_yaml(Path(path), Path(known["folder"]))
            spec = spec_of(file)
            origin = Origin(path=known.get("file", path), folder=known["folder"], text=file.text)
            sweep = _resolved(spec, file, origin, store, known["seeds"])
        except SweepError as error:
            problem = str(error).splitlines()[0]
            continue
        if spec.name == name and launched <= {run.run_id for run in sweep.job.runs}:
            return sweep
        problem = f"{path} gives other runs than were launched: it, the data or the model changed since"
    raise FailureError(problem)


def replan(
    sweep: Sweep, *, extra_seeds: Iterable[int] | None = None, asked: Iterable[SuggestedSetting] | None = None
) -> Sweep:
    """The sweep with further seeds or settings, on the model, data and judge that it was planned with."""
    extra = sweep.extra_seeds if extra_seeds is None else tuple(extra_seeds)
    settings = sweep.asked if asked is None else tuple(asked)
    spec = _with_settings(sweep.spec, settings)
    runs = _so_far(spec, planned_runs(spec, sweep.identities, extra), settings)
    job = sweep.job.model_copy(update={"runs": runs})
    return replace(sweep, spec=spec, job=job, extra_seeds=extra, asked=settings)


def _with_settings(spec: SweepSpec, asked: Sequence[SuggestedSetting]) -> SweepSpec:
    """Of a search, the settings that were asked for are the grid."""
    if spec.search is None:
        return spec
    grid = [{axis: [value] for axis, value in one.setting.items()} for one in asked]
    return spec.model_copy(update={"grid": grid})


def _so_far(spec: SweepSpec, runs: list[PlannedRun], asked: Sequence[SuggestedSetting]) -> list[PlannedRun]:
    """Without the seeds that wait for the search's pruner."""
    later = {(setting_label(one.setting), seed) for one in asked for seed in one.not_yet(spec.seeds)}
    return [run for run in runs if (run.setting, run.seed) not in later] if later else runs


def _opened(plan: Plan, store: Store) -> Sweep:
    return Sweep(
        plan.spec, plan.origin, store, plan.job, plan.identities, tuple(plan.extra_seeds), tuple(plan.asked)
    )


def record(sweep: Sweep, add_seeds: Sequence[int] = ()) -> Sweep:
    """Make a sweep's plan the launched one, and write down what it declares, the first time.

    Args:
        sweep: as it was opened or resolved.
        add_seeds: further seeds.

    Returns:
        The sweep, with seeds and settings that other processes added meanwhile.
    """
    sweep.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep.folder / "plan.lock"):
        return _record(sweep, add_seeds)


def _record(sweep: Sweep, add_seeds: Sequence[int]) -> Sweep:
    store, folder = sweep.store, sweep.folder
    plan = read_plan(store, sweep.spec.name)
    seeds = dict.fromkeys([*(plan.extra_seeds if plan else ()), *sweep.extra_seeds, *add_seeds])
    asked = sweep.asked if sweep.spec.search is None else tuple(read_asked(folder))
    if tuple(seeds) != sweep.extra_seeds or asked != sweep.asked:
        sweep = replan(sweep, extra_seeds=seeds, asked=asked)
    atomic_write(folder / "spec.yaml", sweep.origin.text)
    new = Plan(
        origin=sweep.origin,
        spec=sweep.spec,
        identities=sweep.identities,
        extra_seeds=sweep.extra_seeds,
        asked=sweep.asked,
        job=sweep.job,
    )
    if plan is None or new.model_copy(update={"job": plan.job}) != plan or new.job.runs != plan.job.runs:
        write_plan(store, new)
    if not (folder / "declared.json").exists():
        # Launched before, it had one; who writes it now may know results.
        lost = {"lost": True} if (folder / "launched.json").exists() else {}
        write_json(folder / "declared.json", sweep.declares(sweep.seeds) | {"time": time.time()} | lost)
    for name in BEFORE_PLANS:
        (folder / name).unlink(missing_ok=True)
    return sweep


def extend_seeds(sweep: Sweep, wanted: str) -> tuple[Sweep, list[int]]:
    """Add seeds: `+3` (the next three), `5`, `3..5` or `3,4`.

    Returns:
        The sweep with them, and the seeds that are new.

    Raises:
        UserError: not one of these forms, or nothing new.
    """
    sweep.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep.folder / "plan.lock"):
        plan = read_plan(sweep.store, sweep.spec.name)  # other processes may have added some since
        have = list(dict.fromkeys([*sweep.seeds, *(plan.extra_seeds if plan else ())]))
        new = [seed for seed in _seeds(wanted, max(have)) if seed not in have]
        if not new:
            raise UserError(f"--seeds {wanted!r} adds nothing: the sweep has seeds {have}")
        return _record(sweep, new), new


def _seeds(wanted: str, last: int) -> list[int]:
    try:
        if wanted.startswith("+"):
            return parse_seeds(f"{last + 1}..{last + _whole(wanted[1:])}")
        if ".." in wanted:
            return parse_seeds(wanted)
        return parse_seeds([_whole(word) for word in wanted.split(",")])
    except ValueError as error:
        raise UserError(
            f"--seeds {wanted!r}: give +N, a list such as 3,4 or a range such as 3..5 ({error})"
        ) from error


def _whole(word: str) -> int:
    if not re.fullmatch(r"\s*[0-9]{1,10}\s*", word):
        raise ValueError(f"{word!r} is no whole number below 2^32")
    return int(word)


def planned_from(folder: Path) -> dict[str, Any]:
    """From what a sweep without a plan was planned, by its folder: `folder` and `seeds`; `file` and `runs` if known.

    Raises:
        FailureError: one of the files is damaged, or none names the folder of a launched sweep.
    """
    found: dict[str, Any] = {"seeds": [], "folder": str(folder)}
    if not folder.is_dir():
        return found
    launched = read_json_or_none(folder / "launched.json")
    if isinstance(launched, dict):
        found |= {key: launched[key] for key in ("folder", "seeds", "file", "runs") if key in launched}
    origin, seeds = (read_json_or_none(folder / name) for name in BEFORE_PLANS)
    if origin is not None:
        if not isinstance(origin, dict) or not isinstance(origin.get("folder"), str):
            raise FailureError(f"{folder / BEFORE_PLANS[0]} is damaged: it names no folder")
        found["folder"] = origin["folder"]
    if seeds is not None:
        if not isinstance(seeds, list) or any(type(seed) is not int for seed in seeds):
            raise FailureError(f"{folder / BEFORE_PLANS[1]} is damaged: it is no list of seeds")
        found["seeds"] = seeds
    return found


def drift(sweep: Sweep) -> list[str]:
    """What of a resolved sweep is no longer as it was launched, in words; empty: nothing, or it was not launched."""
    plan = read_plan(sweep.store, sweep.spec.name)
    if plan is None:
        return []
    had, have = {run.run_id for run in plan.job.runs}, {run.run_id for run in sweep.job.runs}
    effects = []
    if new := len(have - had):
        effects.append(f"{new} runs would be new")
    if gone := len(had - have):
        effects.append(f"{gone} launched runs are no longer in the sweep")
    then, now = plan.job.evaluation, sweep.job.evaluation
    if then.generation_id != now.generation_id:
        effects.append("every run would answer again and be judged again")
    elif then.judgement_id != now.judgement_id:
        effects.append("every run would be judged again")
    said = "; ".join(effects) or "the runs stay the same"
    return [f"{what}: {said}" for what in _changed(plan, sweep)]


def _changed(plan: Plan, sweep: Sweep) -> Iterator[str]:
    """What is called as it was at launch and is something else."""
    then, now, job = plan.identities, sweep.identities, sweep.job
    if sweep.origin.text != plan.origin.text:
        yield f"sweep file {sweep.origin.path} changed since launch"
    if plan.job.model == job.model and then.model != now.model:
        yield f"model {job.model} changed since launch"
    if plan.job.train == job.train and then.train != now.train:
        yield f"data file {job.train.location} changed since launch"
    if job.heldout is not None and plan.job.heldout == job.heldout and then.heldout != now.heldout:
        yield f"held-out data file {job.heldout.location} changed since launch"
    before, after = plan.job.evaluation, job.evaluation
    if before.prompts_path == after.prompts_path and before.prompts_identity != after.prompts_identity:
        yield f"prompts {after.prompts} changed since launch"
    if before.baseline == after.baseline and before.baseline_identity != after.baseline_identity:
        yield f"baseline {after.baseline} changed since launch"
    if then.judge_package and now.judge_package and then.judge_package != now.judge_package:
        yield f"judge's package: {then.judge_package} at launch, {now.judge_package} now"
    elif before.judgement_id != after.judgement_id and all(
        getattr(before, name) == getattr(after, name)
        for name in ("judge", "lc_method", "calibration", "baseline_identity")
    ):
        yield f"judge {after.judge_name}: its files or the calibration's changed since launch"


def file_of(target: str, store: Store) -> Path | None:
    """The file that a target means; None: it is the name of a launched sweep.

    Raises:
        UserError: neither.
    """
    try:
        path = Path(target).expanduser()
        if path.suffix in (".yaml", ".yml") or path.is_file():
            return path
        if _is_name(target) and target in store.sweeps():
            return None
    except (OSError, RuntimeError) as error:  # too long for a path, or ~somebody who is not a user here
        said = getattr(error, "strerror", None) or error
        raise UserError(f"no sweep {target!r}: {said}") from error
    known = store.sweeps()
    hint = suggest(target, known) if known else ""
    raise UserError(f"no sweep {target!r}: neither a .yaml file nor a sweep in {store.root}{hint}")


def _is_name(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text) is not None


def _launched_from(path: Path, store: Store) -> str | None:
    """The sweep that was launched from a file that is gone; None: none was."""
    for name in store.sweeps():
        try:
            plan = read_plan(store, name)
        except SweepError:
            continue
        if plan is not None and Path(plan.origin.path) == path.absolute():
            return name
    return None

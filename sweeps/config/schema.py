"""A sweep as the user writes it. Every problem of a file is found and told at once, with its line and column."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from adadpo.config import Decoding, TrainSettings
from adadpo.errors import UserError, suggest
from analysis.judges.config import KINDS, AlpacaEval, Import, Prices, RewardModel, Rubric
from sweeps.config.grid import arm_problems, grid_problems, parse_seeds, seed_problems
from sweeps.config.launch import (
    Inline,
    Launch,
    Local,
    Section,
    Slurm,
    Strategy,
    launch_problems,
    sharing_problems,
)
from sweeps.config.metrics import METRICS
from sweeps.config.search import Search, parse_space, search_problems
from sweeps.config.yaml_source import Location, Problem, YamlFile, holds_password, load_yaml

JUDGES = (*KINDS, "none")
NO_JUDGE = ("union_tag_invalid", "union_tag_not_found", "model_attributes_type")  # pydantic's words


class Data(Section):
    """Preference pairs: `builtin:instructions`, a JSON/JSONL file, or a hub data set id."""

    source: str
    split: str = "train"
    revision: str = "main"
    limit: int | None = Field(default=None, gt=0)
    heldout: str | None = None  # another source; None: the split `heldout_split` of the same one
    heldout_split: str | None = "test"  # None: nothing is held out
    heldout_limit: int | None = Field(default=None, gt=0)
    bad_rows: Literal["refuse", "skip"] = "refuse"


class NoJudge(Section):
    """The responses are generated and not judged."""

    kind: Literal["none"]


AnyJudge = Annotated[NoJudge | Rubric | AlpacaEval | RewardModel | Import, Field(discriminator="kind")]


class Judging(Section):
    """How responses become scores."""

    judge: AnyJudge = Rubric(kind="rubric")  # a bare name stands for {kind: name}
    # auto: length_controlled_v1 where it is AlpacaEval's own setting or a calibration is given, else no_difficulty
    lc_method: Literal["auto", "length_controlled_v1", "joint_difficulty", "no_difficulty"] = "auto"
    calibration: str | None = (
        None  # AlpacaEval's df_gamed.csv as a file; None: from the hub, when it is needed
    )

    @model_validator(mode="after")
    def _calibration_is_used(self) -> Judging:
        if self.calibration is not None and self.lc_method not in ("auto", "length_controlled_v1"):
            raise ValueError(f"calibration is for lc_method length_controlled_v1, not {self.lc_method}")
        return self

    @field_validator("judge", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value


class Evaluate(Judging):
    """How trained policies are compared with a baseline, by default the untrained one."""

    prompts: str = "builtin:instructions"  # or alpaca_eval, or a JSON file
    limit: int | None = Field(default=None, gt=0)
    baseline: str = "reference"  # or gpt4_1106_preview (AlpacaEval's), or a JSON file of model outputs
    decoding: Decoding = Decoding()
    kl_prompts: int | None = Field(default=None, ge=0)  # responses on which KL is estimated; None: all


class Compare(Section):
    """The comparison declared before results exist."""

    baseline: str = "dpo"
    candidate: str | Annotated[list[str], Field(min_length=1)] = "adadpo"  # a list is a family: Holm
    primary: str = "length_controlled_win_rate"
    alternative: Literal["two-sided", "greater", "less"] = "two-sided"
    alpha: float = Field(default=0.05, gt=0, lt=1)
    rope: float = Field(default=1.0, ge=0)
    # What adadpo plan assumes, in the primary metric's unit; the analysis does not depend on it.
    effect: float | None = None  # true mean difference to find
    run_sd: float | None = Field(default=None, gt=0)  # of the difference of one pair of runs
    setting_sd: float | None = Field(default=None, ge=0)  # of true differences between settings
    seed_sd: float = Field(default=0.0, ge=0)  # of what all pairs of one seed share

    @property
    def candidates(self) -> list[str]:
        """The arms that are compared with the baseline."""
        return [self.candidate] if isinstance(self.candidate, str) else self.candidate


class Study(Section):
    """The Optuna study: `journal` (a file in the sweep's folder), or a database URL (`$NAMES` are expanded)."""

    storage: str = "journal"


class Invariant(Section):
    """What stays the same on whatever machines the sweep is launched."""

    effective_batch: int = Field(gt=0)  # pairs per optimiser step over all processes: train.batch_size


class SweepSpec(Section):
    """One sweep file."""

    name: str
    model: str
    data: Data = Data(source="builtin:instructions")
    arms: dict[str, dict[str, Any]]
    grid: list[dict[str, Any]]  # of a search: empty here; `open_sweep` puts the settings that were asked for
    search: Search | None = None
    seeds: list[int]
    train: dict[str, Any] = Field(
        default={}
    )  # TrainSettings, checked as such; the grid may give learning_rate
    evaluate: Evaluate = Evaluate()
    compare: Compare = Compare()
    invariant: Invariant | None = None
    launch: Launch = Inline()
    study: Study = Study()

    @property
    def processes(self) -> int:
        """Processes that train one run together."""
        if isinstance(self.launch, Slurm):
            return self.launch.nodes * self.launch.tasks_per_node
        return self.launch.tasks_per_node if isinstance(self.launch, Local) else 1

    @property
    def strategy(self) -> Strategy:
        """How they share it."""
        return "ddp" if isinstance(self.launch, Inline) else self.launch.strategy


def load_spec(path: Path) -> SweepSpec:
    """Read and check a sweep file.

    Raises:
        UserError: every problem of the file, one per line, as `file:line:column: message`.
    """
    return spec_of(load_yaml(path))


def spec_of(file: YamlFile) -> SweepSpec:
    """The checked sweep of a file that was read.

    Raises:
        UserError: as `load_spec`.
    """
    raw = file.data
    if not isinstance(raw, dict):
        raise UserError(f"{file.path}:1:1: expected a sweep (keys: {', '.join(SweepSpec.model_fields)})")
    raw = _short_forms(raw)
    problems = [*arm_problems(raw.get("arms")), *(search_problems(raw) if "search" in raw else ())]
    if "grid" in raw or "search" not in raw:
        problems += grid_problems(raw.get("grid"), raw.get("arms"))
    problems += [*seed_problems(raw.get("seeds")), *_semantic_problems(raw)]
    # These five are checked in depth on their own; pydantic sees placeholders that pass.
    shape = {**raw, "arms": {"arm": {}}, "grid": [{}], "seeds": [0], "train": {}}
    if isinstance(raw.get("search"), dict):
        shape["search"] = {**raw["search"], "space": {}}
    checked = None
    try:
        checked = SweepSpec.model_validate_json(json.dumps(shape), strict=True)  # else true is 1, '8' is 8
    except ValidationError as error:
        problems += pydantic_problems(error, raw, SweepSpec)
    train = raw["train"] if isinstance(raw.get("train"), dict) else {}
    if checked is not None and checked.invariant is not None:
        batch = checked.invariant.effective_batch
        problems += _invariant_problems(batch, raw)
        train = {"batch_size": batch, **train}
    try:
        settings = TrainSettings.model_validate_json(json.dumps(train), strict=True)
        if checked is not None:
            problems += _process_problems(settings, checked, raw.get("train") or {})
    except ValidationError as error:
        problems += [
            Problem(("train", *p.location), p.message, p.at_key)
            for p in pydantic_problems(error, train, TrainSettings)
        ]
    if "train" in raw and not isinstance(raw["train"], dict):
        problems.append(Problem(("train",), "train must be a mapping of settings"))
    file.raise_if(problems)
    assert checked is not None  # pydantic raised otherwise, and raise_if with it
    real: dict[str, Any] = {"arms": {k: v or {} for k, v in raw["arms"].items()}}
    real["grid"] = _grids(raw["grid"]) if "grid" in raw else []
    if checked.search is not None:
        real["search"] = checked.search.model_copy(update={"space": parse_space(raw["search"]["space"])})
    return checked.model_copy(update=real | {"seeds": parse_seeds(raw["seeds"]), "train": train})


def pydantic_problems(error: ValidationError, raw: Any, model: type[BaseModel]) -> Iterator[Problem]:
    """Pydantic's errors as problems, with the choices and a suggestion."""
    for item in error.errors():
        location = _in_file(item["loc"], raw)
        if location[-1:] == ("judge",) and item["type"] in NO_JUDGE:
            continue  # told with the choices by judge_problems
        if item["type"] == "extra_forbidden":
            key = item["loc"][-1]
            above = location[:-1] if location and str(location[-1]) == key else location
            under = f" under {'.'.join(map(str, above))}" if above else ""
            said = f"unknown key {key!r}{under}{suggest(str(key), _fields_at(model, above, item['loc']))}"
            yield Problem(location, said, True)
        elif item["type"] == "missing":
            missing = item["loc"][-1]
            yield Problem(location, f"missing key {missing!r}{f' under {location[-1]}' if location else ''}")
        elif item["type"] == "value_error":
            yield Problem(location, str(item["ctx"]["error"]))
        else:
            message = item["msg"][0].lower() + item["msg"][1:]
            name = ".".join(map(str, location))
            given = f", got {item['input']!r}" if not isinstance(item["input"], dict | list) else ""
            yield Problem(location, f"{name}: {message}{given}")


def _short_forms(raw: dict[Any, Any]) -> dict[Any, Any]:
    """`data: NAME` means `data: {source: NAME}`; an empty section means its defaults."""
    full = {key: value for key, value in raw.items() if value is not None or key in ("name", "model")}
    if isinstance(full.get("data"), str):
        full["data"] = {"source": full["data"]}
    if isinstance(full.get("launch"), dict) and "executor" not in full["launch"]:
        full["launch"] = {"executor": "inline", **full["launch"]}
    return full


def _grids(raw: Any) -> list[dict[str, Any]]:
    return raw if isinstance(raw, list) else [raw]


def _semantic_problems(raw: dict[Any, Any]) -> Iterator[Problem]:
    """What a type cannot say."""
    name = raw.get("name")
    if isinstance(name, str) and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        yield Problem(("name",), f"name {name!r}: use letters, digits, '.', '_' and '-' (it names a folder)")
    compare, arms = raw.get("compare", {}), raw.get("arms")
    if isinstance(compare, dict) and isinstance(arms, dict):
        for role, default in (("baseline", "dpo"), ("candidate", "adadpo")):
            named = compare.get(role, default)
            where = ("compare", role) if role in compare else ("compare",) if "compare" in raw else ("arms",)
            for arm in named if isinstance(named, list) and role == "candidate" else [named]:
                if isinstance(arm, str) and arm not in arms:
                    hint = suggest(str(arm), list(map(str, arms)))
                    yield Problem(where, f"compare.{role} {arm!r} is not an arm{hint}")
        candidate = compare.get("candidate", "adadpo")
        candidates = candidate if isinstance(candidate, list) else [candidate]
        if compare.get("baseline", "dpo") in candidates:
            yield Problem(("compare",), "compare.baseline and compare.candidate are the same arm")
        if any(candidates.count(arm) > 1 for arm in candidates):
            yield Problem(("compare", "candidate"), "compare.candidate names an arm twice")
        directed = [metric.name for metric in METRICS if metric.higher_is_better is not None]
        primary = compare.get("primary", directed[0])
        if isinstance(primary, str) and primary not in directed:
            yield Problem(
                ("compare", "primary"), f"unknown metric {primary!r}{suggest(str(primary), directed)}"
            )
        if len({"run_sd", "setting_sd"} & compare.keys()) == 1:
            yield Problem(("compare",), "compare.run_sd and compare.setting_sd are stated together")
    evaluate = raw.get("evaluate")
    if isinstance(evaluate, dict):
        judge = evaluate.get("judge", "rubric")
        kind = judge.get("kind") if isinstance(judge, dict) else judge
        yield from judge_problems(judge, ("evaluate", "judge"))
        if kind == "rubric" and evaluate.get("prompts", "builtin:instructions") == "alpaca_eval":
            yield Problem(
                ("evaluate", "judge"), "the rubric judge needs prompts with constraints; alpaca_eval has none"
            )
    study = raw.get("study")
    storage = study.get("storage") if isinstance(study, dict) else None
    if isinstance(storage, str) and storage != "journal" and "://" not in storage:
        # Not repeated: a mistyped URL may hold a password.
        yield Problem(("study", "storage"), "study.storage must be journal or a database URL with '://'")
    elif isinstance(storage, str) and holds_password(storage):
        # The file is copied into the store, which many can read.
        said = "a password stands in study.storage; name a variable (user:$PGPASSWORD@host) or use ~/.pgpass"
        yield Problem(("study", "storage"), said)
    yield from launch_problems(raw.get("launch"))
    yield from sharing_problems(raw)


def judge_problems(judge: Any, at: Location = ("judge",)) -> Iterator[Problem]:
    """A judge that is none of those there are."""
    named = {"kind": judge} if isinstance(judge, str) else judge
    if not isinstance(named, dict):
        yield Problem(
            at,
            f"{named!r} is no judge; choose from {', '.join(JUDGES)}, or give a mapping with a kind",
        )
    elif "kind" not in named:
        yield Problem(at, f"missing key 'kind' under judge; choose from {', '.join(JUDGES)}")
    elif named["kind"] not in JUDGES:
        where = (*at, "kind") if isinstance(judge, dict) else at
        yield Problem(where, f"unknown judge {named['kind']!r}{suggest(str(named['kind']), JUDGES)}")


def _invariant_problems(batch: int, raw: dict[Any, Any]) -> Iterator[Problem]:
    """Batches elsewhere in the file that are not the invariant one."""
    sections: list[tuple[Location, Any]] = [(("train",), raw.get("train"))]
    sections += [(("arms", arm), options) for arm, options in _items(raw.get("arms"))]
    for number, grid in enumerate(_grids(raw.get("grid"))):
        place: Location = ("grid", number) if isinstance(raw.get("grid"), list) else ("grid",)
        sections += [(place, grid), ((*place, "zip"), grid.get("zip") if isinstance(grid, dict) else None)]
    for place, section in sections:
        given = section.get("batch_size", batch) if isinstance(section, dict) else batch
        if any(value != batch for value in (given if isinstance(given, list) else [given])):
            said = f"batch_size {given} is not invariant.effective_batch {batch}: leave it out, it is {batch} there"
            yield Problem((*place, "batch_size"), said)


def _items(raw: Any) -> list[tuple[Any, Any]]:
    return list(raw.items()) if isinstance(raw, dict) else []


def _process_problems(
    settings: TrainSettings, spec: SweepSpec, raw_train: dict[str, Any]
) -> Iterator[Problem]:
    """A batch that the processes of a run cannot share."""
    try:
        settings.accumulation_steps(spec.processes)
    except ValueError as error:
        invariant = spec.invariant is not None and "batch_size" not in raw_train
        yield Problem(("invariant", "effective_batch") if invariant else ("train", "batch_size"), str(error))
    if spec.evaluate.decoding.engine == "vllm" and settings.lora and settings.precision == "float32":
        place = ("evaluate", "decoding", "engine")
        yield Problem(place, "vllm answers through adapters in bfloat16 only: train.precision is float32")


def _in_file(location: tuple[int | str, ...], raw: Any) -> Location:
    """Pydantic's location without the union tags that are not in the file."""
    found: list[int | str] = []
    for part in location:
        inside = raw if isinstance(raw, dict) else dict(enumerate(raw)) if isinstance(raw, list) else {}
        written = {str(key): key for key in inside}  # JSON's keys are text
        if str(part) in written:
            found.append(written[str(part)])
            raw = inside[found[-1]]
        # else: a union tag, or the key that is missing
    return tuple(found)


def _fields_at(model: type[BaseModel], location: Location, tagged: tuple[int | str, ...]) -> list[str]:
    """The keys that a section takes."""
    fields = model.model_fields
    sections: dict[str, type[BaseModel]] = {
        "data": Data, "evaluate": Evaluate, "compare": Compare, "search": Search, "study": Study,
        "invariant": Invariant, "decoding": Decoding, "prices": Prices,
        "launch": Local if "local" in tagged else Inline,
    }  # fmt: skip
    if location and str(location[-1]) in sections:
        fields = sections[str(location[-1])].model_fields
    elif location and location[-1] == "judge":
        kinds: dict[str, type[BaseModel]] = {
            "rubric": Rubric, "alpaca_eval": AlpacaEval, "reward_model": RewardModel, "import": Import,
        }  # fmt: skip
        fields = next((kinds[str(tag)].model_fields for tag in tagged if str(tag) in kinds), {})
    elif location and location[-1] == "lora":
        from adadpo.config import Lora

        fields = Lora.model_fields
    return list(fields)

"""What a launched sweep consists of, as values: its runs, their data, their evaluation. All of it is JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_serializer, field_validator

from adadpo.config import Decoding, RunConfig
from adadpo.data.pairs import DataSource
from sweeps.store.layout import STAGES

ALPACA_EVAL_BASELINE = "gpt4_1106_preview"


class Evaluation(BaseModel):
    """How every run of the sweep is evaluated; it travels to jobs as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
        from analysis.alpaca_eval.assets import BASELINE, CALIBRATION, PROMPTS

        needed = []
        if self.prompts_path is None:
            needed.append(PROMPTS)
        if self.baseline == ALPACA_EVAL_BASELINE:
            needed.append(BASELINE)
        if self.lc_method == "length_controlled_v1" and not self.calibration:
            needed += [PROMPTS, CALIBRATION]
        return list(dict.fromkeys(needed))


def judge_name(judge: dict[str, Any] | None) -> str:
    """`rubric`, `alpaca_eval weighted_alpaca_eval_gpt4_turbo`, ...; of a path only its last part."""
    if judge is None:
        return "none"
    details = [str(judge[key]) for key in ("config", "model", "path") if judge.get(key)]
    details = [Path(each).name if Path(each).is_absolute() else each for each in details]
    options = ["both orders"] if judge.get("both_orders") else []
    if judge.get("repeats", 1) > 1:
        options.append(f"{judge['repeats']} judgements each")
    return " ".join([judge["kind"], *details]) + (f" ({', '.join(options)})" if options else "")


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


def _with_seed(run: PlannedRun, run_id: str, seed: int) -> PlannedRun:
    """Of a sweep of thousands: `model_copy` takes ten times as long."""
    config = RunConfig.model_construct(**vars(run.config) | {"seed": seed})
    return PlannedRun.model_construct(**vars(run) | {"run_id": run_id, "config": config})


class Identities(Fixed):
    """What decides the ids of a sweep's runs in addition to its file: content, not names."""

    model: str
    train: str
    heldout: str | None
    judge_package: str | None = None  # `alpaca_eval 0.6.6`; None: the judge needs no package of its own


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
    stages: list[str] = list(STAGES)  # what this job does of them
    processes: int = 1  # that train one run together
    strategy: Literal["ddp", "fsdp", "zero3"] = "ddp"
    retries: dict[str, int] = {}  # `launch.retries`: cause of a failure -> automatic tries after the first
    command: list[str]  # of the process that planned it

    @field_serializer("runs")
    def _by_configuration(self, runs: Sequence[PlannedRun]) -> dict[str, Any]:
        """The runs of a configuration differ in seed and id alone: the rest is written once."""
        configurations: list[dict[str, Any]] = []
        known: dict[tuple[str, str], tuple[int, RunConfig]] = {}
        table: list[tuple[str, int, int]] = []
        for run in runs:
            place, config = known.get((run.arm, run.setting), (-1, run.config))
            if place < 0 or config.model_copy(update={"seed": run.seed}) != run.config:
                place = len(configurations)
                known[run.arm, run.setting] = (place, run.config)
                configurations.append(run.model_dump(mode="json", exclude={"run_id"}))
            table.append((run.run_id, place, run.seed))
        return {"configurations": configurations, "runs": table}

    @field_validator("runs", mode="before")
    @classmethod
    def _of_configurations(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value  # a list of runs; older versions wrote it, too
        try:
            first = [PlannedRun(run_id="", **each) for each in value["configurations"]]
            return [_with_seed(first[place], str(run_id), seed) for run_id, place, seed in value["runs"]]
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"not a list of runs: {error!r}") from error

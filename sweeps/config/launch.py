"""The `launch:` section: where runs run, and what each executor takes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from adadpo.errors import suggest
from sweeps.config.yaml_source import Problem
from sweeps.failures.causes import CAUSE_ALIASES, POLICIES


class Section(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# Cause of a failure -> automatic tries after the first one; what is not named is as in `failures.POLICIES`.
Retries = dict[str, Annotated[int, Field(ge=0)]]

# A shell command for when the sweep has ended or stalled, see `sweeps.operations.on_finish`.
OnFinish = Annotated[str, Field(min_length=1)] | None


class Inline(Section):
    """Runs in this process, one after another."""

    executor: Literal["inline"] = "inline"
    retries: Retries = {}
    on_finish: OnFinish = None


# How several processes share a run: each with the whole model, or with a share of it (torch's FSDP2; DeepSpeed).
Strategy = Literal["ddp", "fsdp", "zero3"]


class Local(Section):
    """Runs in worker processes of this machine (submitit's LocalExecutor)."""

    executor: Literal["local"]
    workers: int = Field(default=1, gt=0)
    # Where there are GPUs: as many workers on each of them, if they fit; None: `workers` in all, one GPU after another.
    runs_per_gpu: int | None = Field(default=None, gt=0)
    runs_per_job: int | None = Field(default=None, gt=0)  # None: an equal share for each worker
    timeout_min: int = Field(default=24 * 60, gt=0)
    huge_pages: bool = True  # of workers on a CPU, see `sweeps.store.allocator`
    tasks_per_node: int = Field(default=1, gt=0)  # processes that train one run together, one per GPU
    strategy: Strategy = "ddp"
    retries: Retries = {}
    on_finish: OnFinish = None


class Slurm(BaseModel):
    """Runs as Slurm jobs; every further key goes to submitit's SlurmExecutor as it is."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    executor: Literal["slurm"]
    runs_per_job: int | None = Field(default=None, gt=0)  # None: runs_per_gpu
    runs_per_gpu: int = Field(default=1, gt=0)  # runs of a job at a time, on each of its GPUs, if they fit
    nodes: int = Field(default=1, gt=0)
    tasks_per_node: int = Field(default=1, gt=0)  # processes of a run on each node, one per GPU
    strategy: Strategy = "ddp"
    # What runs Python in a job, such as "apptainer exec --nv image.sif python"; None: the Python that launches.
    python: str | None = None
    retries: Retries = {}
    on_finish: OnFinish = None
    # Judging in jobs of its own, without GPUs: their parameters, where they differ from those above.
    judge: dict[str, Any] | None = None

    @property
    def runs_of_a_job(self) -> int:
        """Runs that share a job, at a time or one after another."""
        return self.runs_per_job or self.runs_per_gpu

    @field_validator("python")
    @classmethod
    def _is_a_command(cls, value: str | None) -> str | None:
        try:
            words = shlex.split(value) if value is not None else ["python"]
        except ValueError as error:
            raise ValueError(f"launch.python {value!r} is no command: {str(error).lower()}") from error
        if not words:
            raise ValueError("launch.python is empty; leave it out for the Python that launches")
        return value

    @property
    def python_command(self) -> list[str]:
        """The words before `-m` in a job."""
        return [sys.executable] if self.python is None else shlex.split(self.python)

    def parameters(self) -> dict[str, Any]:
        """What submitit gets."""
        own = {
            "executor",
            "runs_per_job",
            "runs_per_gpu",
            "strategy",
            "python",
            "judge",
            "retries",
            "on_finish",
        }
        return {key: value for key, value in self.model_dump().items() if key not in own}


Launch = Annotated[Inline | Local | Slurm, Field(discriminator="executor")]


def launch_problems(launch: Any) -> Iterator[Problem]:
    """What a type cannot say of the section."""
    if isinstance(launch, dict) and launch.get("executor") == "slurm":
        yield from _slurm_problems(launch)
    retries = launch.get("retries") if isinstance(launch, dict) else None
    causes = [*POLICIES, *CAUSE_ALIASES]
    for cause in retries if isinstance(retries, dict) else ():
        if cause not in causes:
            said = f"unknown cause {cause!r} under launch.retries{suggest(str(cause), causes)}"
            yield Problem(("launch", "retries", cause), said, True)


def sharing_problems(raw: dict[Any, Any]) -> Iterator[Problem]:
    """What cannot share a GPU with other runs, in the whole file as it is written."""
    launch, evaluate = raw.get("launch"), raw.get("evaluate")
    each = launch.get("runs_per_gpu") if isinstance(launch, dict) else None
    if not isinstance(launch, dict) or not isinstance(each, int) or each < 2:
        return
    place, said = ("launch", "runs_per_gpu"), f"launch.runs_per_gpu is {each}, but "
    for key in ("nodes", "tasks_per_node"):
        if isinstance(launch.get(key), int) and launch[key] > 1:
            yield Problem(
                place, said + f"launch.{key} is {launch[key]}: a run on several GPUs has them alone"
            )
    packed = launch.get("runs_per_job")
    if launch.get("executor") == "slurm" and isinstance(packed, int) and packed < each:
        yield Problem(place, said + f"a job has no more runs than launch.runs_per_job, {packed}")
    decoding = evaluate.get("decoding") if isinstance(evaluate, dict) else None
    if isinstance(decoding, dict) and decoding.get("engine") == "vllm":
        yield Problem(
            place, said + "evaluate.decoding.engine is vllm, which takes all memory that a GPU has left"
        )


def _slurm_problems(launch: dict[str, Any]) -> Iterator[Problem]:
    """Keys that submitit's SlurmExecutor does not know."""
    from submitit import SlurmExecutor

    allowed = sorted(
        {*SlurmExecutor._valid_parameters(), *SlurmExecutor._equivalence_dict(), *Slurm.model_fields}
        - {"ntasks_per_node"}  # tasks_per_node says it, and is what divides a batch
    )
    judge = launch.get("judge")
    own = sorted({*SlurmExecutor._valid_parameters(), *SlurmExecutor._equivalence_dict()})
    for section, place, known in ((launch, ("launch",), allowed), (judge, ("launch", "judge"), own)):
        for key in section if isinstance(section, dict) else ():
            if key not in known:
                said = f"unknown key {key!r} under {'.'.join(place)}{suggest(str(key), known)}"
                yield Problem((*place, key), said, True)

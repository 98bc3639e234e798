"""The `launch:` section: where runs run, and what each executor takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sweeps.errors import suggest
from sweeps.failures import CAUSE_ALIASES, POLICIES
from sweeps.yamlfile import Problem


class Section(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# Cause of a failure -> automatic tries after the first one; what is not named is as in `failures.POLICIES`.
Retries = dict[str, Annotated[int, Field(ge=0)]]

# A shell command for when the sweep has ended or stalled, see `sweeps.on_finish`.
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
    runs_per_job: int | None = Field(default=None, gt=0)  # None: an equal share for each worker
    timeout_min: int = Field(default=24 * 60, gt=0)
    tasks_per_node: int = Field(default=1, gt=0)  # processes that train one run together, one per GPU
    strategy: Strategy = "ddp"
    retries: Retries = {}
    on_finish: OnFinish = None


class Slurm(BaseModel):
    """Runs as Slurm jobs; every further key goes to submitit's SlurmExecutor as it is."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    executor: Literal["slurm"]
    runs_per_job: int = Field(default=1, gt=0)
    nodes: int = Field(default=1, gt=0)
    tasks_per_node: int = Field(default=1, gt=0)  # processes of a run on each node, one per GPU
    strategy: Strategy = "ddp"
    retries: Retries = {}
    on_finish: OnFinish = None
    # Judging in jobs of its own, without GPUs: their parameters, where they differ from those above.
    judge: dict[str, Any] | None = None

    def parameters(self) -> dict[str, Any]:
        """What submitit gets."""
        own = {"executor", "runs_per_job", "strategy", "judge", "retries", "on_finish"}
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

"""Which GPU a process gets, and which processes there are. No GPU is needed to check what they are told to see."""

from __future__ import annotations

import os

import pytest

from adadpo.errors import UserError
from sweeps.execution.distributed import VARIABLES, gpu_of, ranks, use_one_gpu


@pytest.mark.parametrize(
    ("visible", "one"), [(None, "0"), ("", ""), ("3", "3"), ("2,3", "2"), ("GPU-ab,GPU-cd", "GPU-ab")]
)
def test_the_first_visible_gpu_is_used(
    visible: str | None, one: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against CUDA's rule for the variable: a list in order of preference, empty for none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is put back afterwards
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    use_one_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == one


@pytest.mark.parametrize(
    ("visible", "rank", "size", "gpu"), [(0, 3, 4, None), (4, 3, 4, 3), (8, 1, 2, 1), (1, 3, 4, 0), (1, 0, 1, 0)]
)  # fmt: skip
def test_a_process_has_a_gpu_of_its_own(visible: int, rank: int, size: int, gpu: int | None) -> None:
    """Against Slurm's two ways: all of a node's GPUs for all tasks, or one for each; none on a CPU's node."""
    assert gpu_of(visible, rank, size) == gpu


def test_fewer_gpus_than_processes() -> None:
    """Against both numbers and both remedies."""
    with pytest.raises(UserError) as caught:
        gpu_of(2, 3, 4)
    assert str(caught.value) == (
        "4 processes of a run on this machine, but 2 GPUs: each needs its own; "
        "set launch.gpus_per_node to 4, or launch.tasks_per_node to 2"
    )


def test_torchruns_variables_are_taken_as_they_are() -> None:
    """Against the environment; another number of processes than planned is told with both."""
    environ = dict(zip(VARIABLES, ["1", "4", "1", "4", "h", "5"], strict=True))
    assert ranks(4, environ | {"HOME": "/"}) == environ
    with pytest.raises(
        UserError, match=r"this job has 4 processes, its runs are planned for 8 \(launch.nodes x"
    ):
        ranks(8, environ)


def test_no_processes_at_all() -> None:
    """Called by hand, outside of any job: against the ways to start one."""
    with pytest.raises(UserError, match="trained by 2 processes each: launch them on Slurm"):
        ranks(2, {})

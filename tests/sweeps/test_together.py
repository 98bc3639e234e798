"""Runs trained by several processes of a job, on this machine: what they give, and what happens when one ends.

Slurm's processes are those of tests/cluster.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from adadpo.stopping import forget_stop, request_stop
from tests.sweeps.sweep_examples import TWO, Child, adadpo, start, write_sweep

# SGD: AdamW's first step is the gradient's sign, which rounding decides where a gradient is almost 0.
ONE = TWO.replace("learning_rate: 1.0e-3", "learning_rate: 0.1, optimizer: sgd")
FOUR = ONE.replace("{executor: inline}", "{executor: local, tasks_per_node: 4}")
# Two: of more, DDP adds up gradients in another order in its first step, so that going on is equal to rounding alone.
LONGER = (
    FOUR.replace("tasks_per_node: 4", "tasks_per_node: 2")
    .replace("warmup: 0", "warmup: 0, epochs: 12, checkpoint_steps: 1")
    .replace("name: two", "name: long")
)


def histories(store: Path) -> dict[str, list[dict[str, float]]]:
    """Run id -> its steps."""
    return {
        file.parent.parent.name: [
            line for text in file.read_text().splitlines() if "evaluation" not in (line := json.loads(text))
        ]
        for file in store.glob("*/train/history.jsonl")
    }


def test_four_processes_are_the_same_run(tmp_path: Path) -> None:
    """Against one process: the same ids, weights to 1e-6, the history's numbers to 1e-6; provenance says the split.

    The other stages are the first process's; nothing is left behind.
    """
    alone, store = tmp_path / "alone", tmp_path / "store"
    assert adadpo("launch", write_sweep(tmp_path / "two.yaml", ONE), "--store", alone).code == 0
    file = write_sweep(tmp_path / "two.yaml", FOUR)
    plan = adadpo("plan", file, "--store", store)
    assert "a step: 8 pairs = 2 in a pass x 4 processes (ddp) x 1 passes" in plan.out
    answer = start(tmp_path / "log", "launch", file, "--store", store).wait()
    assert answer.code == 0, answer.out
    expected, found = histories(alone), histories(store)
    assert expected.keys() == found.keys()
    for run_id, lines in expected.items():
        weights = [
            load_file(root / run_id / "train" / "model" / "model.safetensors") for root in (alone, store)
        ]
        assert all((weights[0][name] - weights[1][name]).abs().max() < 1e-6 for name in weights[0])
        for one, four in zip(lines, found[run_id], strict=True):
            assert four == pytest.approx(one, rel=1e-5, abs=2e-6)
        said = json.loads((store / run_id / "provenance.json").read_text())["batch"]
        assert said == {"pairs": 8, "per_pass": 2, "processes": 4, "passes": 1, "strategy": "ddp"}
    assert not list(store.rglob("lease.json"))
    assert adadpo("plan", file, "--store", store, "--json").json["done"] == 2


def ranks_of(child: Child, store: Path) -> dict[int, int]:
    """Rank -> pid of the running job's processes."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        if any(file.read_bytes() for file in store.glob("*/train/history.jsonl")):
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"no step was made: {child.log.read_text()}")
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environ = dict(
                part.split("=", 1) for part in (folder / "environ").read_text().split("\0") if "=" in part
            )
            words = (folder / "cmdline").read_text()
        except OSError:
            continue
        if str(store) in words and "_submit" in words and "SUBMITIT_LOCAL_GLOBALID" in environ:
            found[int(environ["SUBMITIT_LOCAL_GLOBALID"])] = int(folder.name)
    return found


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The longer sweep by two processes, left alone."""
    folder = tmp_path_factory.mktemp("calm")
    answer = start(
        folder / "log", "launch", write_sweep(folder / "long.yaml", LONGER), "--store", folder / "store"
    ).wait()
    assert answer.code == 0, answer.out
    return folder / "store"


@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_is_killed_ends_all_and_the_next_launch_goes_on(
    tmp_path: Path, calm: Path, rank: int
) -> None:
    """kill -9 of the first or the last process in training: all are gone within seconds, none hangs.

    Against an undisturbed launch by as many processes: the same command ends in the same bytes.
    """
    store, file = tmp_path / "store", write_sweep(tmp_path / "long.yaml", LONGER)
    child = start(tmp_path / "log", "launch", file, "--store", store)
    processes = ranks_of(child, store)
    assert sorted(processes) == [0, 1]
    os.kill(processes[rank], signal.SIGKILL)
    began = time.monotonic()
    answer = child.wait()
    assert time.monotonic() - began < 30
    assert answer.code == 1, answer.out
    assert "Traceback" not in answer.out
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes.values())
    assert not list(store.rglob("failure.json"))
    again = start(tmp_path / "log", "launch", file, "--store", store).wait()
    assert again.code == 0, again.out
    for run_id, lines in histories(calm).items():
        assert histories(store)[run_id] == lines


def test_cancelled_while_two_processes_train_it(tmp_path: Path, calm: Path) -> None:
    """The run in training is taken back: all its processes end, it is no failure; retried, it ends as the calm one."""
    store, file = tmp_path / "store", write_sweep(tmp_path / "long.yaml", LONGER)
    child = start(tmp_path / "log", "launch", file, "--store", store)
    processes = ranks_of(child, store)
    assert sorted(processes) == [0, 1]
    [lease] = store.glob("*/lease.json")
    run = lease.parent.name
    answer = adadpo("cancel", file, run, "--store", store)
    assert answer.code == 0, answer.err
    child.wait()
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes.values())
    counts = adadpo("status", file, "--store", store, "--json").json["counts"]
    assert counts["cancelled"] == 1
    assert set(counts) <= {"cancelled", "done", "waiting"}, child.log.read_text()
    assert not list(store.rglob("failure.json"))
    assert not list(store.rglob("lease.json"))
    again = start(tmp_path / "again", "retry", file, run, "--store", store).wait()
    assert again.code == 0, again.out
    assert histories(store)[run] == histories(calm)[run]


def test_more_processes_than_a_batch_has_pairs(tmp_path: Path) -> None:
    """Against what could be chosen instead, at check."""
    file = write_sweep(tmp_path / "two.yaml", FOUR.replace("tasks_per_node: 4", "tasks_per_node: 3"))
    answer = adadpo("check", file)
    assert answer.code == 2
    assert (
        "batch_size 8 is not a multiple of micro_batch_size 2 x 3 processes = 6; "
        "possible: batch_size 6 or 12; or 1, 2, 4, 8 processes"
    ) in answer.err


def test_no_deepspeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """zero3 where it is missing: said at launch, before anything starts."""
    from sweeps.evaluation import preflight as readiness

    find = readiness.find_spec
    monkeypatch.setattr(readiness, "find_spec", lambda name: None if name == "deepspeed" else find(name))
    file = write_sweep(tmp_path / "two.yaml", FOUR.replace("node: 4", "node: 4, strategy: zero3"))
    answer = adadpo("launch", file, "--store", tmp_path / "store")
    assert answer.code == 2
    assert (
        "launch.strategy zero3 needs DeepSpeed: pip install deepspeed; or choose fsdp (torch's own) or ddp"
        in answer.err
    )


def test_asked_to_stop_while_nothing_is_trained() -> None:
    """The word for the others: `leading` says STOPPED, and raises on."""
    from adadpo.errors import StoppedError
    from adadpo.stopping import raise_if_stopped
    from sweeps.execution.distributed import STOPPED, leading

    words: list[str] = []

    class Heard:
        def from_first(self, word: str) -> str:
            words.append(word)
            return word

    request_stop()
    try:
        with pytest.raises(StoppedError), leading(Heard()):  # type: ignore[arg-type]
            raise_if_stopped()
    finally:
        forget_stop()
    assert words == [STOPPED]

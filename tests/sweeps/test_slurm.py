"""Slurm: the batch script in the plan, every parameter of submitit passed through, and no run submitted twice.

There is no Slurm here: `sbatch` and `squeue` are scripts that answer as Slurm 22.05 does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from submitit import SlurmExecutor
from sweep_examples import CONFIGS, TWO, adadpo, contents, opened, write_sweep

from sweeps.dispatch.jobs import slurm_executor, work
from sweeps.errors import UserError
from sweeps.spec import Slurm

# Every parameter that submitit's SlurmExecutor takes, with a value of its kind.
PARAMETERS = {
    "account": "acc", "additional_parameters": {"licenses": "foo:4"}, "array_parallelism": 3, "comment": "hi",
    "constraint": "a100", "cpus_per_gpu": 2, "cpus_per_task": 4, "dependency": "afterok:1", "exclude": "node1",
    "exclusive": True, "gpus_per_node": 1, "gpus_per_task": 1, "gres": "gpu:1", "job_name": "mine", "mail_type": "END",
    "mail_user": "me@example.org", "mem": "8GB", "mem_per_cpu": "1GB", "mem_per_gpu": "8GB", "nodelist": "node2",
    "nodes": 1, "tasks_per_node": 1, "num_gpus": 1, "partition": "gpu", "qos": "high", "setup": ["module load cuda"],
    "signal_delay_s": 60, "srun_args": ["-vv"],
    "teardown": ["date"], "stderr_to_stdout": True, "time": 30, "use_srun": True, "wckey": "w",
}  # fmt: skip


def launch(**keys: object) -> str:
    return TWO.replace("launch: {executor: inline}", "launch: " + json.dumps({"executor": "slurm", **keys}))


def test_the_plan_prints_the_batch_script(tmp_path: Path) -> None:
    """Keys of the file against the lines of the script; submitit's own names for minutes and memory included."""
    text = launch(
        partition="gpu",
        timeout_min=480,
        mem_gb=16,
        gpus_per_node=2,
        array_parallelism=4,
        setup=["module load cuda"],
    )
    answer = adadpo("plan", write_sweep(tmp_path / "two.yaml", text), "--store", tmp_path / "store")
    assert answer.code == 0, answer.err
    for line in (
        "#!/bin/bash", "#SBATCH --partition=gpu", "#SBATCH --time=480", "#SBATCH --mem=16GB",
        "#SBATCH --gpus-per-node=2",
        "#SBATCH --array=0-1%2", "#SBATCH --job-name=adadpo-two", "module load cuda",
    ):  # fmt: skip
        assert f"  {line}\n" in answer.out
    assert "submitit.core._submit" in answer.out
    assert not (tmp_path / "store").exists()


@pytest.mark.filterwarnings("ignore:.num_gpus. is deprecated", "ignore:.cpus_per_gpu. requires")
@pytest.mark.parametrize("name", sorted(SlurmExecutor._valid_parameters() - {"ntasks_per_node"}))
def test_every_parameter_of_submitit_is_passed_through(tmp_path: Path, name: str) -> None:
    """Each one alone reaches the executor as it was written (a parameter that submitit adds needs a value here)."""
    if name not in PARAMETERS:
        pytest.skip(f"submitit has a new parameter {name!r}: give it a value in PARAMETERS")
    sweep = opened(write_sweep(tmp_path / "two.yaml", launch(**{name: PARAMETERS[name]})), tmp_path / "store")
    assert isinstance(sweep.spec.launch, Slurm)
    executor = slurm_executor(sweep, sweep.spec.launch, tmp_path / "logs", on_cluster=False)
    assert executor.parameters[name] == PARAMETERS[name]


def test_the_published_setting_is_an_array_of_24_runs_on_8_gpus(tmp_path: Path) -> None:
    """configs/llama3: 2 arms x 12 settings x 3 seeds = 72 jobs, 4 at a time, 8 tasks and GPUs each."""
    script = adadpo("plan", CONFIGS / "llama3_8b_ultrafeedback.yaml", "--store", tmp_path, "--json").json[
        "script"
    ]
    for line in ("--array=0-71%4", "--ntasks-per-node=8", "--gpus-per-node=8", "--time=720", "--mem=800GB"):
        assert f"#SBATCH {line}\n" in script


@pytest.mark.parametrize(
    "keys",
    [{"additional_parameters": 5}, {"mem_gb": [1]}, {"srun_args": 5}, {"setup": 5}, {"timeout_min": {}}],
)
def test_parameters_that_submitit_cannot_use(tmp_path: Path, keys: dict[str, object]) -> None:
    """A message with code 2, or a script; never a traceback."""
    answer = adadpo("plan", write_sweep(tmp_path / "two.yaml", launch(**keys)), "--store", tmp_path)
    assert answer.code in (0, 2)
    assert "Traceback" not in answer.err
    if answer.code:
        assert "submitit" in answer.err


def test_runs_of_several_processes_are_planned_but_not_launched(tmp_path: Path, slurm: Path) -> None:
    """Said at launch with code 2, and nothing is submitted."""
    text = launch(tasks_per_node=2).replace("warmup: 0", "warmup: 0, forward: trl")
    file = write_sweep(tmp_path / "two.yaml", text)
    assert adadpo("plan", file, "--store", tmp_path / "store").code == 0
    answer = adadpo("launch", file, "--store", tmp_path / "store")
    assert answer.code == UserError.exit_code
    assert "runs trained by several processes" in answer.err
    assert not (slurm / "scripts").exists()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `sbatch`, which keeps the scripts, and `squeue`, which knows the jobs in the file `queue`."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    (folder / "queue").write_text("")
    sbatch = f'#!/bin/sh\nmkdir -p {folder}/scripts; cp "$1" {folder}/scripts/; echo Submitted batch job 17\n'
    squeue = f"#!/bin/sh\ncat {folder}/queue\n"
    for name, text in (
        ("sbatch", sbatch),
        ("squeue", squeue),
        ("srun", "#!/bin/sh\n"),
        ("sacct", "#!/bin/sh\n"),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def test_a_launch_submits_what_is_not_queued(tmp_path: Path, slurm: Path, undisturbed: Path) -> None:
    """First launch: one array of two jobs. Second, while Slurm has them: none. Workers run their files."""
    store, file = tmp_path / "store", write_sweep(tmp_path / "two.yaml", launch(partition="gpu"))
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 0, answer.err
    assert "submitted 2 jobs (17_0 ...)" in answer.out
    [script] = (slurm / "scripts").iterdir()
    assert "#SBATCH --partition=gpu\n" in script.read_text()
    assert "#SBATCH --array=0-1%" in script.read_text()

    (slurm / "queue").write_text("17_0 17_0\n17_1 17_1\n")
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 0, answer.err
    assert "every run is queued already" in answer.out
    assert len(list((slurm / "scripts").iterdir())) == 1

    jobs = sorted((store / "sweeps" / "two" / "jobs").glob("*/job.json"))
    assert [state for job in jobs for state in work(str(job)).values()] == ["done", "done"]
    assert contents(store) == contents(undisturbed)
    (slurm / "queue").write_text("")
    answer = adadpo("report", "two", "--store", store)
    assert answer.code == 0, answer.err


def test_jobs_that_slurm_lost_are_submitted_again(tmp_path: Path, slurm: Path) -> None:
    """Cancelled before they started: no lease, no failure, not in the queue."""
    store, file = tmp_path / "store", write_sweep(tmp_path / "two.yaml", launch())
    assert adadpo("launch", file, "--store", store).code == 0
    (slurm / "queue").write_text("17_1 17_1\n")
    assert "submitted 1 jobs" in adadpo("launch", file, "--store", store).out


def test_without_slurm_a_launch_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sbatch on this machine: code 1, nothing is left to be taken for a submitted job."""
    monkeypatch.setenv("PATH", str(tmp_path))
    store, file = tmp_path / "store", write_sweep(tmp_path / "two.yaml", launch())
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 1
    assert "Slurm did not take the jobs" in answer.err
    assert "Traceback" not in answer.err
    assert not list(store.rglob("submitted.json"))


def test_a_silent_squeue_is_not_an_empty_one(tmp_path: Path, slurm: Path) -> None:
    """squeue fails: nobody knows what is queued, so nothing is submitted a second time."""
    store, file = tmp_path / "store", write_sweep(tmp_path / "two.yaml", launch())
    assert adadpo("launch", file, "--store", store).code == 0
    (slurm / "squeue").write_text("#!/bin/sh\nexit 1\n")
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 1
    assert "squeue does not answer" in answer.err
    assert len(list((slurm / "scripts").iterdir())) == 1

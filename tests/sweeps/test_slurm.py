"""Launching on Slurm: what is submitted, by the scripts themselves and by what a real Slurm says of its queue.

Jobs that only have to be counted are held, so that none of them runs.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from submitit import SlurmExecutor

from reports.files import load_results
from sweeps.dispatch.slurm import slurm_executor
from sweeps.dispatch.submission import queue_of
from sweeps.dispatch.worker import gives_up, progress_marks
from sweeps.state.sweep import Sweep
from sweeps.store import slurm_queue
from tests.cluster.slurm_cluster import Cluster, running
from tests.sweeps.sweep_examples import CONFIGS, SMALL, TWO, adadpo, contents, opened, start, write_sweep

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
HELD = {"additional_parameters": {"hold": True}}
JUDGE = {"judge": {"partition": "main", "array_parallelism": 1}}


def launch(text: str = TWO, **keys: object) -> str:
    return text.replace("launch: {executor: inline}", "launch: " + json.dumps({"executor": "slurm", **keys}))


def queued_stages(sweep: Sweep) -> Counter[tuple[str, str]]:
    """How often a stage of a run is queued."""
    return Counter(
        (run, stage)
        for queued in queue_of(sweep, shared=False)
        for run in queued.runs
        for stage in queued.stages
    )


def every_stage_once(sweep: Sweep) -> dict[tuple[str, str], int]:
    return {(run.run_id, s): 1 for run in sweep.job.runs for s in ("train", "generate", "judge", "score")}


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
        "#SBATCH --gpus-per-node=2", "#SBATCH --requeue",
        "#SBATCH --array=0-1%2", "#SBATCH --job-name=adadpo-two", "module load cuda",
    ):  # fmt: skip
        assert f"  {line}\n" in answer.out
    assert "sweeps.dispatch.worker" in answer.out
    assert not (tmp_path / "store").exists()


@pytest.mark.filterwarnings("ignore:.num_gpus. is deprecated", "ignore:.cpus_per_gpu. requires")
@pytest.mark.parametrize("name", sorted(SlurmExecutor._valid_parameters() - {"ntasks_per_node"}))
def test_every_parameter_of_submitit_is_passed_through(tmp_path: Path, name: str) -> None:
    """Each one alone reaches the executor as it was written (a parameter that submitit adds needs a value here)."""
    if name not in PARAMETERS:
        pytest.skip(f"submitit has a new parameter {name!r}: give it a value in PARAMETERS")
    sweep = opened(write_sweep(tmp_path / "two.yaml", launch(**{name: PARAMETERS[name]})), tmp_path / "store")
    executor = slurm_executor(sweep.spec.launch.parameters(), tmp_path / "logs")
    assert executor.parameters[name] == PARAMETERS[name]


def test_without_a_time_limit_the_partitions_own_holds(tmp_path: Path) -> None:
    """Submitit's default would end every run after 5 minutes."""
    file = write_sweep(tmp_path / "two.yaml", launch(partition="gpu", **JUDGE))
    script = adadpo("plan", file, "--store", tmp_path, "--json").json["script"]
    assert "#SBATCH --partition=gpu" in script
    assert "--time" not in script


def test_the_published_setting_is_an_array_of_24_runs_on_8_gpus(tmp_path: Path) -> None:
    """configs/llama3: 2 arms x 12 settings x 3 seeds = 72 jobs, 4 at a time, 8 tasks and GPUs each."""
    file = CONFIGS / "llama3_8b_ultrafeedback.yaml"
    script = adadpo("plan", file, "--store", tmp_path, "--json").json["script"]
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


def test_a_judge_block_takes_the_same_keys(tmp_path: Path) -> None:
    """A mistyped one is named with its place and the one that was meant."""
    answer = adadpo("check", write_sweep(tmp_path / "two.yaml", launch(judge={"partitoin": "cpu"})))
    assert answer.code == 2
    assert re.search(
        r"two.yaml:14:\d+: unknown key 'partitoin' under launch.judge; did you mean 'partition'", answer.err
    )


def test_without_slurm_a_launch_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sbatch on this machine: code 1, nothing is left to be taken for a submitted job."""
    monkeypatch.setenv("PATH", str(tmp_path))
    store, file = tmp_path / "store", write_sweep(tmp_path / "two.yaml", launch())
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 1
    assert "there is no scontrol on this machine" in answer.err
    assert "Traceback" not in answer.err
    assert not list(store.rglob("work.json"))


def test_a_dry_run_says_what_a_launch_then_does(tmp_path: Path, slurm: Cluster) -> None:
    """Every script byte for byte, every command but for the ids that Slurm gives; nothing is written before."""
    store = tmp_path / "store"
    file = write_sweep(tmp_path / "two.yaml", launch(gpus_per_node=1, **HELD, **JUDGE))
    said = adadpo("launch", file, "--dry-run", "--store", store)
    assert said.code == 0, said.err
    assert not store.exists()
    assert adadpo("launch", file, "--store", store).code == 0
    folder = store / "sweeps" / "two" / "jobs" / "slurm-001"
    scripts = sorted(folder.glob("*.sh"))
    assert [script.stem for script in scripts] == ["finish", "judge-0", "train-0"]
    for script in scripts:
        assert f"# {script}\n{script.read_text().strip()}\n" in said.out
    assert "--gpus-per-node=1" in (folder / "train-0.sh").read_text()
    assert "gpus" not in (folder / "judge-0.sh").read_text()
    ids = json.loads((folder / "submitted.json").read_text())
    commands = [line for line in said.out.splitlines() if line.startswith("$ sbatch")]
    assert f"--dependency=aftercorr:<train-0>' --kill-on-invalid-dep=yes {folder}/judge-0.sh" in commands[1]
    show = slurm.command("scontrol", "show", "job", "--oneliner", f"{ids['judge-0']}_0")
    assert f"Dependency=aftercorr:{ids['train-0']}_*(unfulfilled)" in show
    assert "KillOInInvalidDependent=Yes" in show
    assert adadpo("launch", file, "--dry-run", "--store", store).out.startswith("nothing to submit")


def test_a_sweep_ends_with_a_report_and_nobody_logged_in(
    tmp_path: Path, slurm: Cluster, undisturbed: Path
) -> None:
    """Train on GPUs, then judge job by job, then the report: against the same sweep in one process."""
    store = tmp_path / "store"
    file = write_sweep(tmp_path / "two.yaml", launch(gpus_per_node=1, array_parallelism=1, **JUDGE))
    started = time.monotonic()
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 0, answer.err
    assert time.monotonic() - started < 5
    assert "submitted 3 jobs" in answer.out
    sweep = opened(file, store)
    assert queued_stages(sweep) == every_stage_once(sweep)
    again = adadpo("launch", file, "--store", store)
    assert "every run is queued already" in again.out, again
    # The first run is judged while the second one still trains.
    ids = json.loads((sweep.folder / "jobs" / "slurm-001" / "submitted.json").read_text())
    train, judge = f"{ids['train-0']}_1", f"{ids['judge-0']}_0"
    slurm.wait(
        lambda: (now := slurm.queue()).get(judge) == "RUNNING" and train in now, 120, "judging meanwhile"
    )
    report = store / "sweeps" / "two" / "report.html"
    slurm.wait(report.exists, 240, "the report")
    slurm.wait_until_empty()
    assert contents(store) == contents(undisturbed)
    assert load_results(report.with_name("results.json")).counts == {"done": 2}
    assert adadpo("launch", file, "--store", store).code == 0
    assert slurm.queue() == {}


def test_arrays_are_split_where_slurm_does_not_take_longer_ones(tmp_path: Path) -> None:
    """MaxArraySize 3, 8 jobs, at most 2 at once: arrays of 3, 3 and 2; two side by side and one that follows."""
    file = write_sweep(tmp_path / "small.yaml", launch(SMALL, array_parallelism=2, **HELD, **JUDGE))
    with running(nodes=1, options=("MaxArraySize=3",)) as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(cluster.conf))
        answer = adadpo("launch", file, "--store", tmp_path / "store")
        assert answer.code == 0, answer.err
        sweep = opened(file, tmp_path / "store")
        assert queued_stages(sweep) == every_stage_once(sweep)
        ids = json.loads((sweep.folder / "jobs" / "slurm-001" / "submitted.json").read_text())
        shown = {
            name: cluster.command("scontrol", "show", "job", "--oneliner", job) for name, job in ids.items()
        }
    assert list(ids) == ["train-0", "train-3", "train-6", "judge-0", "judge-3", "judge-6", "finish"]
    tasks = [re.search(r"ArrayTaskId=(\S+) ArrayTaskThrottle=(\d+)", shown[f"train-{n}"]) for n in (0, 3, 6)]
    assert [found and found.groups() for found in tasks] == [
        ("0-2%1", "1"),
        ("0-2%1", "1"),
        ("0-1%1", "1"),
    ]
    assert f"Dependency=afterany:{ids['train-0']}_*(unfulfilled)" in shown["train-6"]
    assert f"aftercorr:{ids['train-3']}_*" in shown["judge-3"]
    # The judge's throttle is 1: its arrays follow one another.
    assert f"afterany:{ids['judge-0']}_*" in shown["judge-3"]
    assert all(f"afterany:{job}_*" in shown["finish"] for name, job in ids.items() if name != "finish")


def test_a_thousand_runs_are_submitted_within_seconds(tmp_path: Path, slurm: Cluster) -> None:
    """2 arms x 500 seeds; the queue knows each of them once."""
    text = launch(TWO.replace("seeds: [0]", "seeds: 0..499"), **HELD)
    file, store = write_sweep(tmp_path / "two.yaml", text), tmp_path / "store"
    started = time.monotonic()
    answer = adadpo("launch", file, "--store", store)
    took = time.monotonic() - started
    assert answer.code == 0, answer.err
    assert took < 15, took  # 3 s on an idle machine
    sweep = opened(file, store)
    assert len(sweep.job.runs) == 1000
    assert queued_stages(sweep) == every_stage_once(sweep)
    assert "every run is queued already" in adadpo("launch", file, "--store", store).out


@pytest.mark.parametrize("moment", range(1, 12))
def test_a_launcher_killed_at_any_moment_leaves_no_orphan_and_no_double(
    tmp_path: Path, slurm: Cluster, moment: int
) -> None:
    """kill -9 at each of its renames: before, between and after its calls of sbatch. The next one completes it."""
    file, store = write_sweep(tmp_path / "two.yaml", launch(**HELD, **JUDGE)), tmp_path / "store"
    child = start(tmp_path / "log", "launch", file, "--store", store, interruption=("rename", moment, 9))
    assert child.wait().code in (0, -signal.SIGKILL)
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 0, answer.err
    sweep = opened(file, store)
    assert queued_stages(sweep) == every_stage_once(sweep)
    finishing = [queued for queued in queue_of(sweep) if not queued.stages]
    assert len(finishing) in (1, 2)  # writing the report twice is harmless; never is not
    # Everything that Slurm has belongs to the sweep: nothing waits for files that never come.
    assert len(queue_of(sweep)) == len(slurm.queue())


def test_following_ends_with_the_jobs_or_by_ctrl_c(tmp_path: Path, slurm: Cluster) -> None:
    """Ctrl-C detaches: code 0, the jobs are still there. Another follower ends when they do."""
    file, store = write_sweep(tmp_path / "two.yaml", launch(**HELD)), tmp_path / "store"
    followers = []
    for name in ("one", "two"):
        followers.append(start(tmp_path / name, "launch", file, "--follow", "--store", store))
        log = followers[-1].log
        slurm.wait(lambda log=log: log.exists() and "; follow:" in log.read_text(), 60, "a follower")
    assert followers[0].process.pid is not None
    os.kill(followers[0].process.pid, signal.SIGINT)
    answer = followers[0].wait()
    assert answer.code == 0, answer
    assert "detached; the jobs go on" in answer.out
    assert queued_stages(opened(file, store)) == every_stage_once(opened(file, store))
    assert followers[1].process.is_alive()
    slurm.reset()
    answer = followers[1].wait()
    assert answer.code == 0, answer
    assert "detached" not in answer.out


def test_two_launchers_submit_each_run_once(tmp_path: Path, slurm: Cluster) -> None:
    """Started together on an empty store."""
    file, store = write_sweep(tmp_path / "small.yaml", launch(SMALL, **HELD)), tmp_path / "store"
    launchers = [start(tmp_path / f"{n}.log", "launch", file, "--store", store) for n in range(3)]
    answers = [launcher.wait() for launcher in launchers]
    assert [answer.code for answer in answers] == [0, 0, 0], answers
    sweep = opened(file, store)
    assert queued_stages(sweep) == every_stage_once(sweep)
    assert sum("queued already" in answer.out for answer in answers) == 2


def test_what_was_cancelled_is_submitted_again_and_nothing_pends_for_ever(
    tmp_path: Path, slurm: Cluster
) -> None:
    """scancel of one training: exactly that run is submitted again. Of all: their judging goes by itself."""
    file, store = write_sweep(tmp_path / "two.yaml", launch(**HELD, **JUDGE)), tmp_path / "store"
    assert adadpo("launch", file, "--store", store).code == 0
    sweep = opened(file, store)
    first, second = (sweep.folder / "jobs" / f"slurm-00{number}" for number in (1, 2))
    ids = json.loads((first / "submitted.json").read_text())
    slurm.command("scancel", f"{ids['train-0']}_1")
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 0, answer.err
    parts = json.loads((second / "work.json").read_text())["parts"]
    assert parts["train"]["elements"] == [[sweep.job.runs[1].run_id]]
    assert {queued_stages(sweep)[run.run_id, "train"] for run in sweep.job.runs} == {1}

    for folder in (first, second):
        ids = json.loads((folder / "submitted.json").read_text())
        slurm.command("scancel", ids["train-0"])
        slurm.command("scontrol", "release", ids["judge-0"])  # a held job is not looked at
        slurm.wait(lambda ids=ids: not any(job.startswith(ids["judge-0"]) for job in slurm.queue()), 20)
    assert queued_stages(sweep) == {}
    assert len(slurm.queue()) == 1  # the later one of two jobs that write the report
    assert adadpo("launch", file, "--store", store).code == 0
    assert queued_stages(sweep) == every_stage_once(sweep)


def test_a_silent_squeue_is_not_an_empty_one(
    tmp_path: Path, slurm: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller is out of reach: nobody knows what is queued, so nothing is submitted a second time."""
    store, file = tmp_path / "store", write_sweep(tmp_path / "two.yaml", launch(**HELD))
    assert adadpo("launch", file, "--store", store).code == 0
    conf = tmp_path / "slurm.conf"
    port = re.search(r"SlurmctldPort=(\d+)", slurm.conf.read_text())
    assert port is not None
    conf.write_text(slurm.conf.read_text().replace(port[0], "SlurmctldPort=9") + "MessageTimeout=2\n")
    monkeypatch.setenv("SLURM_CONF", str(conf))
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 1
    assert "squeue does not answer" in answer.err
    assert not (store / "sweeps" / "two" / "jobs" / "slurm-002").exists()


def test_the_accounts_limit_is_said_in_words(tmp_path: Path, slurm_accounting: Cluster) -> None:
    """A real MaxSubmitJobs of 3 for 8 jobs: code 1, what to do, and the same command works with packed jobs."""
    slurm_accounting.command("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=3")
    store = tmp_path / "store"
    answer = adadpo("launch", write_sweep(tmp_path / "small.yaml", launch(SMALL, **HELD)), "--store", store)
    assert answer.code == 1
    assert "limit on queued jobs of your account" in answer.err
    assert "launch.runs_per_job" in answer.err
    file = write_sweep(tmp_path / "small.yaml", launch(SMALL, runs_per_job=4, **HELD))
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 0, answer.err
    assert len(slurm_accounting.queue()) == 3


def test_a_job_that_gets_nowhere_within_its_time_is_not_started_for_ever(tmp_path: Path, two: Path) -> None:
    """No step before the warning: a failure that says what to do. A checkpoint, or judging left: it goes on."""
    sweep = opened(two, tmp_path / "store")
    folder = sweep.store.run(sweep.job.runs[0].run_id)
    before = progress_marks(sweep.job)
    (folder.train / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    assert not gives_up(sweep.job, before)
    assert sweep.counts() == {"waiting": 2}
    assert not gives_up(
        sweep.job.model_copy(update={"stages": ["judge", "score"]}), progress_marks(sweep.job)
    )
    assert gives_up(sweep.job, progress_marks(sweep.job))
    assert sweep.counts() == {"failed": 1, "waiting": 1}
    assert "raise launch.timeout_min" in adadpo("status", two, "--store", tmp_path / "store").out


def test_one_squeue_serves_all_who_ask_within_seconds(
    slurm: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second answer comes from memory; whoever needs it fresh asks anew."""
    monkeypatch.setattr(slurm_queue, "_last", None)
    assert slurm_queue.slurm_jobs() == []
    slurm.command("sbatch", "--hold", "--output=/dev/null", "--wrap", "true")
    assert slurm_queue.slurm_jobs() == []
    [job] = slurm_queue.slurm_jobs(shared=False)
    assert (job.state, job.index, job.reason) == ("PENDING", None, "JobHeldUser")

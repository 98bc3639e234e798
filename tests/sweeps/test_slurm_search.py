"""A search on a real Slurm: each last job asks for the next batch, whatever is killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path

import optuna

from sweeps.failures.attempts import attempts
from sweeps.search.study import mirror
from sweeps.search.study_storage import journal, storage_of
from sweeps.state.sweep import Sweep
from sweeps.store.layout import STAGES, read_json
from tests.cluster.slurm_cluster import Cluster
from tests.sweeps.results_content import by_kind
from tests.sweeps.search_examples import search_text
from tests.sweeps.sweep_examples import adadpo, contents, opened, write_sweep

# 3 settings x 2 arms, seed by seed: 4 batches at most; 8 steps a run, a checkpoint at each.
SEARCH = (
    search_text("trials: 3, startup: 1, parallel: 2, pruner: median", name="searched")
    .replace("primary: length_controlled_win_rate", "primary: reward_margin")
    .replace("warmup: 0", "warmup: 0, epochs: 4, checkpoint_steps: 1")
)
LAUNCH = {"executor": "slurm", "runs_per_job": 4, "cpus_per_task": 4}


def trials(sweep: Sweep) -> Counter[str]:
    """Everything of the study's trials but numbers and times."""
    with storage_of(sweep) as storage:
        names = [summary.study_name for summary in optuna.get_all_study_summaries(storage)]
        assert sorted(names) == ["searched", "searched (search)"]
        return Counter(
            json.dumps(
                [
                    name,
                    trial.state.name,
                    trial.values,
                    trial.params,
                    trial.user_attrs,
                    trial.intermediate_values,
                ],
                sort_keys=True,
            )
            for name in names
            for trial in optuna.load_study(study_name=name, storage=storage).get_trials()
        )


def test_a_search_goes_on_by_itself_through_a_killed_worker_and_a_lost_node(
    tmp_path: Path, slurm: Cluster
) -> None:
    """One launch. Against the same search in one process: settings, bytes, trials; each stage was done once."""
    calm = tmp_path / "calm"
    assert adadpo("launch", write_sweep(calm / "searched.yaml", SEARCH), "--store", calm / "store").code == 0
    store = tmp_path / "store"
    text = SEARCH.replace("launch: {executor: inline}", f"launch: {json.dumps(LAUNCH)}")
    file = write_sweep(tmp_path / "searched.yaml", text)
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 0, answer.err

    def training(seed: int) -> list[Path]:
        runs = [run for run in opened(file, store).job.runs if run.seed == seed]
        return [found for run in runs for found in store.glob(f"{run.run_id}/train/checkpoints/checkpoint-*")]

    def owner() -> dict[str, object]:
        return read_json(next(store.glob("*/lease.json")))

    slurm.wait(lambda: training(0), 120, "a checkpoint of the first batch")
    killed = owner()["pid"]
    assert isinstance(killed, int)
    os.kill(killed, signal.SIGKILL)
    # Nobody launches again: the last job sees that the run was lost.
    slurm.wait(lambda: training(1), 240, "a checkpoint of the second batch")
    node = str(owner()["host"])
    slurm.kill_node(node)
    slurm.command("scontrol", "update", f"nodename={node}", "state=down", "reason=power")
    slurm.wait_until_empty(400)

    said = "\n".join(path.read_text()[-1500:] for path in store.glob("sweeps/*/jobs/*/logs/*"))
    sweep, expected = opened(file, store), opened(calm / "searched.yaml", calm / "store")
    assert sweep.asked == expected.asked, said
    assert len(sweep.asked) == 3
    assert sweep.counts() == expected.counts(), said
    assert contents(store) == contents(calm / "store")
    for run in sweep.select("done"):
        log = sweep.store.run(run.run_id).log.read_text()
        assert [log.count(f"sweeps: {stage} done") for stage in STAGES] == [1, 1, 1, 1], log
    causes = [line["cause"] for run in sweep.job.runs for line in attempts(sweep.store.run(run.run_id))]
    assert causes == ["node", "node"]
    assert not list(store.rglob("lease.json"))
    live = trials(sweep)
    assert sum(live.values()) == len(sweep.select("done")) + 3
    journal(sweep).unlink()
    mirror(sweep)
    assert trials(sweep) == live
    assert by_kind(read_json(sweep.folder / "results.json"))["search"]["asked"] == 3

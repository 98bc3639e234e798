"""How the conductor grows with the number of runs, on stores of made-up finished runs.

    python bench/conductor.py 100 1000 10000 --unrun 100000 --out bench/results/conductor.json    # and a plot beside it
    python bench/conductor.py 1000 --parts            # the parts of a report, in this process

Every verb is timed as a whole process, by the clock and in CPU seconds, with its peak memory: plan, status and report
twice, since each keeps what the next may use. Of the runs only the numbers are made up: their files are those of the
stages, each with its manifest, and their scores come from the project's own code, from 64 different sets of 16 judged
responses. Submission is everything that `launch` does on Slurm after the model is there; sbatch, squeue and scontrol
are stand-ins that answer at once, so what a real controller takes is not in it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conductor_plot import growth
from machine import machine

from sweeps.evaluation.judge_and_score import score_annotations
from sweeps.evaluation.replicates import replicates_file
from sweeps.state.opening import open_sweep, record
from sweeps.state.sweep import Sweep
from sweeps.store.ids import digest
from sweeps.store.job import PlannedRun
from sweeps.store.layout import Store
from sweeps.store.manifests import REPLICATES_FILE

TEXT = """\
name: many
model: tiny-random-llama
data: {{source: "builtin:instructions", limit: 16, heldout_limit: 8}}
arms: {{dpo: {{}}, adadpo: {{}}}}
grid: {{beta: [0.01, 0.05, 0.1, 0.2, 0.5], learning_rate: {rates}}}
seeds: 0..4
train: {{batch_size: 8, max_length: 256}}
evaluate: {{limit: 16, decoding: {{max_new_tokens: 32}}}}
launch: {launch}
"""
RUNS_OF_A_RATE = 5 * 5 * 2  # betas, seeds, arms
PROMPTS, SETS, STEPS = 16, 64, 20
VERSIONS = {"torch": "2.0.0", "transformers": "5.0.0"}
INLINE = "{executor: inline}"


def many(folder: Path, size: int, launch: str = INLINE) -> Sweep:
    """A sweep of `size` runs, none of which has begun."""
    rates = [round(1e-7 * number, 12) for number in range(1, max(1, size // RUNS_OF_A_RATE) + 1)]
    file = folder / "many.yaml"
    file.write_text(TEXT.format(rates=rates, launch=launch))
    return open_sweep(str(file), Store(folder / "store"))


def make_runs(sweep: Sweep) -> None:
    """Every run finished, as the stages leave it."""
    record(sweep)
    sets = [_judged(sweep, number) for number in range(SETS)]
    for number, run in enumerate(sweep.job.runs):
        _make_run(sweep, run, number, *sets[number % SETS])


Judged = tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any], bytes]


def _judged(sweep: Sweep, number: int) -> Judged:
    """Responses, annotations, scores and their replicates, in which longer responses win more often."""
    draw = random.Random(number)
    # Each begins in its own way: one response to several prompts would quarantine the run.
    words = [f"answer {place}: " + "word " * draw.randint(5, 40) for place in range(PROMPTS)]
    names = [f"Prompt {place}: describe it in a few words." for place in range(PROMPTS)]
    baseline = [
        {"instruction": name, "output": "other " * (8 + place % 9), "generator": "untrained"}
        for place, name in enumerate(names)
    ]
    outputs = [
        {"instruction": name, "output": text, "generator": "trained", "dataset": "made up"}
        for name, text in zip(names, words, strict=True)
    ]
    annotations = [
        {
            "instruction": name,
            "output_1": other["output"],
            "generator_1": "untrained",
            "dataset": "made up",
            "output_2": text,
            "generator_2": "trained",
            "annotator": "rubric-v1",
            "preference": draw.choice([1.0, 1.5, 2.0, 2.0])
            if len(text) > 110
            else draw.choice([1.0, 1.5, 2.0]),
            "price_per_example": 0.0,
            "time_per_example": 0.0,
            "raw_completion": None,
        }
        for name, text, other in zip(names, words, baseline, strict=True)
    ]
    scores, drawn = score_annotations(
        sweep.job.evaluation, annotations, outputs, baseline=baseline, versions=(VERSIONS, VERSIONS)
    )
    assert drawn is not None
    replicates, scores["replicates"] = replicates_file(annotations, drawn)
    return outputs, annotations, scores, replicates


def _make_run(
    sweep: Sweep,
    run: PlannedRun,
    number: int,
    outputs: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    scores: dict[str, Any],
    replicates: bytes,
) -> None:
    draw, folder, eval_id = random.Random(f"run {number}"), sweep.store.run(run.run_id), sweep.eval_id
    train, generated, judged = folder.train, folder.generation(eval_id), folder.evaluation(eval_id)
    for each in (train, judged):
        each.mkdir(parents=True, exist_ok=True)
    steps = [
        {
            "step": step,
            "loss": 0.69 * math.exp(-0.01 * step) + 0.01 * draw.random(),
            "grad_norm": 1 + draw.random(),
            "learning_rate": run.config.train.learning_rate,
            **{
                name: draw.gauss(0.1, 0.02)
                for name in ("reward_margin", "reward_accuracy", "log_gradient_ratio")
            },
            **{name: draw.gauss(-300, 5) for name in ("chosen_logps", "rejected_logps")},
        }
        for step in range(1, STEPS + 1)
    ]
    metrics = {
        "steps": STEPS,
        "train_pairs": 16,
        "truncated_pairs": 0,
        "left_out": [],
        "heldout_reward_margin": draw.gauss(0.1, 0.02),
        "heldout_reward_accuracy": draw.random(),
        "heldout_chosen_logps": draw.gauss(-260, 5),
        "heldout_rejected_logps": draw.gauss(-420, 5),
        "heldout_pairs": 8,
        "wall_seconds": 10 + draw.random(),
    }
    kinds = [f"{name}{unit}" for name in ("kl", "kl_k3") for unit in ("", "_per_token")]
    kl = {f"{name}{error}": draw.random() for name in kinds for error in ("", "_se")}
    lines = [*steps, {"step": STEPS, "evaluation": eval_id, "win_rate": scores["win_rate"], **kl}]
    (judged / REPLICATES_FILE).write_bytes(replicates)
    (train / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path, value in (
        (folder.path / "config.json", run.config.model_dump(mode="json")),
        (
            folder.path / "provenance.json",
            {
                "started": "2026-01-01T00:00:00Z",
                "host": "node",
                "device": "CPU (made up)",
                "python": "3.11",
                "packages": VERSIONS,
                "git": {"commit": "0" * 40, "diff": ""},
                "command": [],
                "model": {"name": sweep.job.model, "identity": run.config.model},
                "data": {"name": sweep.job.train.name, "identity": run.config.data},
            },
        ),
        (folder.metrics, metrics),
        (generated / "config.json", sweep.job.evaluation.model_dump(mode="json")),
        (generated / "generation.json", {**kl, "versions": VERSIONS, "wall_seconds": 5.0}),
        (generated / "outputs.json", outputs),
        (judged / "config.json", sweep.job.evaluation.model_dump(mode="json")),
        (judged / "judging.json", {"judge": "rubric", "pairs": PROMPTS, "missing": 0}),
        (judged / "annotations.json", annotations),
        (judged / "scores.json", scores),
    ):
        path.write_text(json.dumps(value, indent=1) + "\n")
    for home, stage in ((train, "train"), (generated, "generate"), (judged, "judge"), (judged, "score")):
        said = {
            "stage": stage,
            "started": 1.7e9,
            "seconds": 5 + draw.random(),
            "host": "node",
            "gpus": 0,
            "files": {},
        }
        (home / f"{stage}.manifest.json").write_text(
            json.dumps(said | {"digest": digest(said)}, indent=1) + "\n"
        )


SUBMIT = """\
import sys
from pathlib import Path
from sweeps.dispatch.slurm import launch_slurm
from sweeps.store.layout import Store
from sweeps.state.opening import open_sweep, record
sweep = open_sweep(sys.argv[1], Store(Path(sys.argv[2])))
record(sweep)
sweep.control.begin([run.run_id for run in sweep.job.runs])
launch_slurm(sweep, sweep.spec.launch)
"""
STAND_INS = {
    "sbatch": 'echo >> "$0.calls"; wc -l < "$0.calls"',
    "squeue": "true",
    "scontrol": 'echo "MaxArraySize = 1001"',
}


def timed(*words: str | Path) -> dict[str, float]:
    """What a command takes as a whole process."""
    return timed_process(["-m", "sweeps.cli.main", *map(str, words)])


def timed_process(words: list[str], **environment: str) -> dict[str, float]:
    """Seconds by the clock and of the processor, and peak memory."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    assert child.stderr is not None
    said = child.stderr.read()
    _, code, used = os.wait4(child.pid, 0)
    if code:
        raise SystemExit(f"{' '.join(words)} failed: {said.decode()[-2000:]}")
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": round(used.ru_maxrss / 1024),
    }


def submitted(size: int) -> dict[str, float]:
    """What submitting a sweep of runs that have not begun takes its client."""
    with tempfile.TemporaryDirectory(prefix="conductor-") as name:
        folder = Path(name)
        many(folder, size, "{executor: slurm, partition: any}")
        for tool, does in STAND_INS.items():
            (folder / tool).write_text(f"#!/bin/sh\n{does}\n")
            (folder / tool).chmod(0o755)
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        found = timed_process(["-c", SUBMIT, str(folder / "many.yaml"), str(folder / "store")], PATH=path)
        calls = len((folder / "sbatch.calls").read_text().splitlines())
        return found | {"calls of sbatch": calls}


def measure(size: int, *, verbs: list[str]) -> dict[str, Any]:
    """The verbs at one size."""
    with tempfile.TemporaryDirectory(prefix="conductor-") as name:
        folder = Path(name)
        sweep = many(folder, size)
        file, root = folder / "many.yaml", folder / "store"
        at = ("--store", root)
        found: dict[str, Any] = {"runs": len(sweep.job.runs)}
        for verb in ("check", "plan"):
            found[f"{verb}, nothing run"] = timed(verb, file, *at)
        found["submission"] = submitted(size)
        if not verbs:
            return found
        start = time.perf_counter()
        make_runs(sweep)
        found["making the runs"] = {"seconds": round(time.perf_counter() - start, 2)}
        found["files"] = sum(len(files) for _, _, files in os.walk(root))
        for verb in verbs:
            for again in ("", ", again"):
                found[verb + again] = timed(verb, file, *at)
                print(size, verb + again, found[verb + again], flush=True)
        if "report" in verbs:
            pages = ("report.html", "results.json", "study.journal")
            found["bytes"] = {page: (sweep.folder / page).stat().st_size for page in pages}
        return found


def parts(size: int) -> None:
    """The steps of a report, one by one, in this process."""
    from reports.files import write_report
    from sweeps.operations import report
    from sweeps.search import study
    from sweeps.state.prompt_draws import prompt_draws
    from sweeps.state.run_table import run_rows, run_scores

    with tempfile.TemporaryDirectory(prefix="conductor-") as name:
        folder = Path(name)
        make_runs(many(folder, size))

        def step(label: str, work: Callable[[], Any]) -> Any:
            start = time.perf_counter()
            found = work()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(f"{label:12} {time.perf_counter() - start:8.2f} s   peak {peak} MB", flush=True)
            return found

        sweep = step("resolve", lambda: open_sweep(str(folder / "many.yaml"), Store(folder / "store")))
        step("states", sweep.states)
        scores = step("scores", lambda: run_scores(sweep))
        step("rows", lambda: run_rows(sweep, scores=scores))
        step("draws", lambda: prompt_draws(sweep, sweep.job.evaluation, scores))
        step("study", lambda: study.mirror(sweep))
        results = step("collect", lambda: report.build_results(sweep))
        step("report", lambda: write_report(results, sweep.folder))


def main() -> None:
    """Measure each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument(
        "--parts", action="store_true", help="the parts of a report instead of whole commands"
    )
    parser.add_argument("--verbs", nargs="+", default=["plan", "status", "report"])
    parser.add_argument(
        "--unrun", type=int, nargs="+", default=[], help="sizes at which no run is made up: what goes before"
    )
    parser.add_argument(
        "--out", type=Path, help="a JSON file; sizes that it has and that are not asked for stay"
    )
    options = parser.parse_args()
    if options.parts:
        for size in options.sizes:
            parts(size)
        return
    known = json.loads(options.out.read_text())["sizes"] if options.out and options.out.exists() else {}
    for size in (*options.sizes, *options.unrun):
        known[str(size)] = measure(size, verbs=options.verbs if size in options.sizes else [])
        if options.out:
            content = {"machine": machine("numpy", "pydantic", "optuna"), "sizes": known}
            options.out.write_text(json.dumps(content, indent=1) + "\n")
            options.out.with_suffix(".svg").write_text(growth(known))
        print(json.dumps(known[str(size)]), flush=True)


if __name__ == "__main__":
    main()

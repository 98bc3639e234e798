"""What the tests of judging in sweeps share: sweeps with a judge behind HTTP, and what they look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adadpo.files import cache_folder
from analysis.document import Results
from reports.files import load_results
from tests.sweeps.sweep_examples import TWO, opened, write_sweep

KEY = "sk-secret-0123456789abcdef"  # what the server's fixture puts into the environment
PRICES = "prices: {input: 10, output: 30}"


def api(url: str, more: str = "") -> str:
    """The official judge behind the test's server; one attempt, so that no test waits."""
    return f"{{kind: alpaca_eval, base_url: '{url}', attempts: 1, timeout: 20{', ' if more else ''}{more}}}"


def with_judge(path: Path, judge: str, text: str = TWO, more: str = "") -> Path:
    return write_sweep(path, text.replace("  limit: 8\n", f"  limit: 8\n  judge: {judge}\n{more}"))


def evaluations(file: Path, store: Path) -> list[Path]:
    """The folders of the runs' judgements, in the order of the plan."""
    sweep = opened(file, store)
    return [sweep.store.run(run.run_id).evaluation(sweep.eval_id) for run in sweep.job.runs]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def results(store: Path, name: str = "two") -> Results:
    return load_results(store / "sweeps" / name / "results.json")


def files_with(text: str, *folders: Path) -> list[Path]:
    """Every file below the folders that holds a text, whatever it is."""
    found = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert found
    return [file for file in found if text.encode() in file.read_bytes()]


def answers_kept() -> int:
    return len(list((cache_folder() / "judges" / "answers").glob("??/*.json")))


def write_annotations(store: Path, folder: Path, two: Path) -> Path:
    """A file per run as if somebody's alpaca_eval had judged the responses, with preferences that vary."""
    folder.mkdir()
    [baseline] = store.glob("baselines/*/outputs.json")
    sweep = opened(two, store)
    for number, run in enumerate(sweep.job.runs):
        outputs = read(store / run.run_id / "eval" / sweep.job.evaluation.generation_id / "outputs.json")
        rows = [
            {
                "instruction": mine["instruction"],
                "output_1": base["output"],
                "output_2": mine["output"],
                "generator_1": base["generator"],
                "generator_2": mine["generator"],
                "annotator": "somebody",
                "preference": 1 + (7 * place + 3 * number) % 10 / 10,
            }
            for place, (mine, base) in enumerate(zip(outputs, read(baseline), strict=True))
        ]
        (folder / f"{number}.json").write_text(json.dumps(rows))
    return folder

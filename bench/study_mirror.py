"""How long mirroring takes: N trials into a study that is not there, then looking for new ones.

    python bench/study_mirror.py 1000 10000            # a journal file
    STUDY_URL=postgresql://... python bench/study_mirror.py 1000

The trials are made up; reading the runs' files is timed apart, in the report of any sweep.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import optuna

from analysis.results.model import RunRow
from sweeps.search import study
from sweeps.state.opening import open_sweep
from sweeps.store.layout import Store

TEXT = """\
name: many
model: tiny-random-llama
data: {{source: "builtin:instructions", limit: 16}}
arms: {{dpo: {{}}, adadpo: {{}}}}
grid: {{learning_rate: {rates}}}
seeds: 0..9
study: {{storage: '{storage}'}}
"""


def main() -> None:
    """Time each size."""
    for size in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            rates = [round(1e-6 * n, 12) for n in range(1, size // 20 + 1)]
            storage = "$STUDY_URL" if "STUDY_URL" in os.environ else "journal"
            scheme, _, rest = os.environ.get("STUDY_URL", "").partition("://")
            os.environ["STUDY_REST"] = rest
            file = Path(folder) / "many.yaml"
            storage = f"{scheme}://$STUDY_REST" if scheme else "journal"
            file.write_text(TEXT.format(rates=rates, storage=storage))
            sweep = open_sweep(str(file), Store(Path(folder) / "store"))
            rows = [
                RunRow(
                    run_id=run.run_id,
                    arm=run.arm,
                    setting=run.setting,
                    hyperparameters=run.hyperparameters,
                    seed=run.seed,
                    state="done",
                    metrics={
                        **{f"metric_{n}": n / 7 for n in range(25)},
                        "length_controlled_win_rate": 50.0 + number % 13,
                    },
                )
                for number, run in enumerate(sweep.job.runs)
            ]
            study.run_rows = lambda sweep, rows=rows: rows
            for what in ("all of them new", "none new"):
                start = time.perf_counter()
                added = study.mirror(sweep)
                print(f"{storage.partition(':')[0]}: {size} trials, {what}: {added} added in "
                      f"{time.perf_counter() - start:.1f} s", flush=True)  # fmt: skip
            if scheme:
                with study.storage_of(sweep) as opened:
                    optuna.delete_study(study_name="many", storage=opened)


if __name__ == "__main__":
    main()

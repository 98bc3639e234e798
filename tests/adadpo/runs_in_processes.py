"""Runs as a sweep trains them, in processes of torchrun: `-m tests.adadpo.runs_in_processes FOLDER CASES.json`.

Each case: {"name", "config" (RunConfig), "strategy"}; under FOLDER/NAME what `train_run` leaves and `metrics.json`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path

from adadpo.config import RunConfig
from adadpo.errors import StoppedError
from adadpo.models.load import resolve_model
from adadpo.models.policy import load_base
from adadpo.stopping import stopping_on
from adadpo.training.processes import joined
from adadpo.training.train import train_run
from tests.adadpo.run_examples import training_data


def main(root: Path, cases: list[dict[str, object]]) -> None:
    logging.basicConfig(stream=sys.stdout)
    logging.getLogger("adadpo.caches").setLevel(logging.INFO)

    def lost(reason: str) -> None:
        print(f"lost: {reason}", file=sys.stderr, flush=True)

    with joined("ddp", lost) as processes:
        for case in cases:
            config = RunConfig.model_validate_json(json.dumps(case["config"]))
            processes.strategy = case["strategy"]  # type: ignore[assignment]
            if processes.strategy == "zero3":
                import deepspeed

                # Sums in shared memory, which it would compile here by g++; on a GPU there is no such thing.
                deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
            base = load_base(resolve_model("tiny-random-llama"), config.train)
            folder = root / str(case["name"])
            first: list[int] = []

            def progress(done: int, total: int, first: list[int] = first) -> None:
                first.append(done)
                if processes.rank == 1 and os.environ.get("STOP_RANK_1_AT") == str(done):
                    os.kill(os.getpid(), signal.SIGUSR2)

            try:
                with stopping_on(signal.SIGUSR2):
                    metrics = train_run(
                        base, config, training_data(base), folder, on_progress=progress, processes=processes
                    )
            except StoppedError as error:
                print(f"stopped: {error}", flush=True)
                continue
            print(f"{case['name']} goes on from {first[0]}", flush=True)
            if processes.rank == 0:
                (folder / "metrics.json").write_text(json.dumps(metrics))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))

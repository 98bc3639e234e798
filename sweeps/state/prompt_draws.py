"""One prompt bootstrap of a whole sweep: every run under the same draws of prompts.

Differences between runs, arms and settings share their prompts, so their errors must come from one set of draws. Where
every run was judged on the same prompts they are those of its own standard errors, and lie beside its scores; else they
are made here and kept in the sweep's folder: runs that lack prompts, LC that takes all runs, and older stores.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adadpo.errors import FailureError
from adadpo.files import atomic_write
from analysis.results.blocks import BestOfGridBlock, Block, FlipsBlock, PromptLevelBlock
from analysis.results.model import Declared, GridBest, RunRow
from sweeps.config.metrics import METRICS
from sweeps.evaluation.judge_and_score import BOOTSTRAP_SEED, REPLICATES
from sweeps.evaluation.replicates import read_replicates, same_draws
from sweeps.state.judged_runs import (
    JudgedRuns,
    Scores,
    annotations_file,
    annotations_of,
    counting,
    judged_runs,
)
from sweeps.state.sweep import Sweep
from sweeps.store.ids import digest, file_digest
from sweeps.store.job import Evaluation

if TYPE_CHECKING:
    from analysis.prompts.bootstrap import PromptBootstrap

VERSION = 2  # of the file and of how replicates are computed; raise it when either changes


def prompt_draws(
    sweep: Sweep, evaluation: Evaluation, scores: Scores
) -> tuple[PromptBootstrap | None, str | None]:
    """Replicates of WR, LC and LC - WR of every run that counts, under the same draws of prompts.

    What is made here takes seconds for each run at AlpacaEval's size, and is read back until a judgement, the
    calibration or the set of runs changes.

    Args:
        sweep: whose runs.
        evaluation: of the scores.
        scores: of `run_scores` under it, so that LC by joint difficulty and its quarantines are in them.

    Returns:
        The bootstrap, or None and why there is none.

    Raises:
        FailureError: a file that the scores come from cannot be read any more.
    """
    judged = counting(scores)
    if not judged:
        return None, "no run that counts has a judged response"
    known = _of_runs(sweep, evaluation, judged)
    if known is not None:
        return known, None
    path = sweep.folder / "prompt_draws" / f"{evaluation.judgement_id}.npz"
    made_by = digest(
        {
            "version": VERSION,
            "bootstrap": [BOOTSTRAP_SEED, REPLICATES],
            "lc_method": evaluation.lc_method,
            "runs": {
                run_id: [file_digest(annotations_file(sweep, evaluation, run_id)), one.get("calibration")]
                for run_id, one in judged.items()
            },
        }
    )
    known = _read(path, made_by)
    if known is not None:
        return known, None
    found = _draw(judged_runs(sweep, evaluation, scores))
    with suppress(FailureError):  # a reader without write access computes it each time
        _write(path, made_by, found)
    return found, None


def _of_runs(sweep: Sweep, evaluation: Evaluation, scores: Scores) -> PromptBootstrap | None:
    """From what lies beside the scores of the runs that count; None: of other prompts, or not of all of them."""
    if not same_draws(scores):
        return None
    from analysis.prompts.bootstrap import PromptBootstrap

    homes = [sweep.store.run(run_id).evaluation(evaluation.eval_id) for run_id in scores]
    kept = read_replicates(homes, [one["replicates"] for one in scores.values()])
    if kept is None:
        return None
    estimates, replicates = kept
    wr, lc = estimates["win_rate"], estimates["length_controlled_win_rate"]
    first = next(iter(scores.values()))
    return PromptBootstrap(
        runs=tuple(scores),
        lc_method=first["lc_method"],
        calibration=first["calibration"],
        n=first["replicates"]["prompts"],
        estimates={
            "win_rate": wr,
            "length_controlled_win_rate": lc,
            "lc_minus_wr": lc - wr,
        },
        replicates=replicates,
        reasons={
            run_id: one["reason"]
            for run_id, one in scores.items()
            if one["length_controlled_win_rate"] is None
        },
    )


def _draw(judged: JudgedRuns) -> PromptBootstrap:
    from dataclasses import replace

    import numpy as np

    from analysis.prompts.bootstrap import prompt_bootstrap

    rng = np.random.default_rng(BOOTSTRAP_SEED)
    found = prompt_bootstrap(judged.data, rng=rng, calibration=judged.calibration, replicates=REPLICATES)
    if judged.reason is None:
        return found

    def without_lc(values: Mapping[Any, Any]) -> dict[Any, Any]:
        nothing = np.full_like(values["win_rate"], np.nan)
        return {name: value if name == "win_rate" else nothing for name, value in values.items()}

    return replace(
        found,
        estimates=without_lc(found.estimates),
        replicates=without_lc(found.replicates),
        reasons=dict.fromkeys(found.runs, judged.reason),
    )


def _write(path: Path, made_by: str, found: PromptBootstrap) -> None:
    import numpy as np

    told = {
        "made_by": made_by,
        "runs": found.runs,
        "lc_method": found.lc_method,
        "calibration": found.calibration,
        "n": found.n,
        "reasons": dict(found.reasons),
    }
    stream = io.BytesIO()
    arrays = {f"replicates_{name}": found.drawn(name, range(len(found.runs))) for name in found.replicates}
    arrays |= {f"estimates_{name}": values for name, values in found.estimates.items()}
    np.savez(stream, allow_pickle=False, told=np.array(json.dumps(told)), **arrays)
    atomic_write(path, stream.getvalue())


def _read(path: Path, made_by: str) -> PromptBootstrap | None:
    """What was kept; None when there is nothing, or of something else."""
    import numpy as np

    from analysis.prompts.bootstrap import PromptBootstrap

    if not path.exists():
        return None
    # Damaged is as good as absent: it can be computed again.
    with suppress(OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            told = json.loads(str(content["told"]))
            if told["made_by"] != made_by:
                return None
            parts = {
                part: {
                    name.removeprefix(f"{part}_"): content[name] for name in content if name.startswith(part)
                }
                for part in ("estimates", "replicates")
            }
        runs = tuple(told["runs"])
        if {values.shape for values in parts["replicates"].values()} != {(len(runs), REPLICATES)}:
            return None
        return PromptBootstrap(
            runs=runs,
            lc_method=told["lc_method"],
            calibration=told["calibration"],
            n=told["n"],
            reasons=told["reasons"],
            **parts,
        )
    return None


# What a sweep's judgements of single prompts tell beside its tests: intervals, bests of the grid, flipped prompts.

BESTS = ("length_controlled_win_rate", "win_rate")


def prompt_evidence(
    sweep: Sweep,
    rows: Sequence[RunRow],
    judged: JudgedRuns,
    declared: Declared,
    draws: tuple[PromptBootstrap | None, str | None],
) -> list[Block[Any]]:
    """Of the runs that count, under the sweep's own evaluation.

    Args:
        sweep: whose runs.
        rows: of `run_rows`.
        judged: of `judged_runs`.
        declared: the comparison.
        draws: of `prompt_draws`.

    Raises:
        FailureError: annotations cannot be read any more.
    """
    from analysis.prompts.flipped_prompts import flipped_prompts
    from analysis.prompts.prompt_level import prompt_level

    plan: dict[str, Any] = {"declared": declared, "settings": sweep.settings, "seeds": sweep.seeds}
    boot, reason = draws
    if boot is None:
        return [
            PromptLevelBlock(reason=reason),
            BestOfGridBlock(value=_bests(sweep, rows, declared, None, None)),
            FlipsBlock(reason=reason),
        ]
    level, reason = prompt_level(boot, rows, **plan)
    flips = flipped_prompts(
        judged.data, rows, lambda run_id: annotations_of(sweep, sweep.job.evaluation, run_id), **plan
    )
    return [
        PromptLevelBlock(value=level, reason=reason),
        BestOfGridBlock(value=_bests(sweep, rows, declared, judged, boot)),
        FlipsBlock(value=flips, reason=None if flips else "no prompt has a judgement in both runs of a pair"),
    ]


def _bests(
    sweep: Sweep,
    rows: Sequence[RunRow],
    declared: Declared,
    judged: JudgedRuns | None,
    boot: PromptBootstrap | None,
) -> list[GridBest]:
    """On both win rates, and first on the primary metric where that is another one of which a direction is better."""
    import numpy as np

    from analysis.grid.best_setting import Drawn, grid_best, grid_scores
    from analysis.prompts.bootstrap import draw_prompts

    scores = None
    if judged is not None and boot is not None:
        # The same draws: what each run came to under them is known.
        drawn = Drawn(draw_prompts(boot.n, REPLICATES, np.random.default_rng(BOOTSTRAP_SEED)), boot)
        scores = grid_scores(judged.data, judged.calibration, drawn)
    names = sorted(dict.fromkeys([declared.primary, *BESTS]), key=lambda name: name != declared.primary)
    by_name = {metric.name: metric for metric in METRICS}
    found = []
    for name in names:
        if by_name[name].higher_is_better is None:
            continue
        best = grid_best(
            rows,
            metric=by_name[name],
            candidate=declared.candidate,
            baseline=declared.baseline,
            settings=sweep.settings,
            seeds=sweep.seeds,
            scores=scores if name in BESTS else None,
            rng_seed=BOOTSTRAP_SEED,
        )
        found += [] if best is None else [best]
    return found

"""From the store's files to one tidy table, and with the analysis to `results.json`, the report and the tables."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from adadpo.files import atomic_write, cache_folder
from analysis.document import Results
from analysis.results.blocks import (
    AuditBlock,
    BestOfGridBlock,
    Block,
    Curves,
    Judgements,
    LcSensitivity,
    PaperClaimsBlock,
    Samples,
    SearchBlock,
)
from analysis.results.model import Comparison, Curve, Evaluation, LcComparison, RunRow, Sample
from analysis.results.values import State
from sweeps.config.expand import axes
from sweeps.config.metrics import METRICS
from sweeps.operations.gradient_audit import read_audit
from sweeps.operations.rejudge import judgements_of
from sweeps.search.loop import search_so_far
from sweeps.state.judged_runs import judged_runs
from sweeps.state.prompt_draws import prompt_draws, prompt_evidence
from sweeps.state.run_table import failures_of, run_rows, run_scores
from sweeps.state.snapshot import HELDOUT, Snapshot, take_snapshot
from sweeps.state.sweep import Sweep
from sweeps.store.declaration import declaration_line, read_declaration
from sweeps.store.host import git_state, versions
from sweeps.store.job import PlannedRun
from sweeps.store.layout import read_json
from sweeps.store.manifests import load_history

if TYPE_CHECKING:
    from analysis.alpaca_eval.calibration import Calibration
    from analysis.alpaca_eval.length_control import LcData
    from analysis.study import Study


# The comparison under the other formulas of length control that this sweep's judgement allows.


def lc_sensitivity_of(sweep: Sweep, study: Study, data: Mapping[str, LcData]) -> list[LcComparison]:
    """Of the data of `judged_runs`, by the sweep's own evaluation; empty where nothing was judged."""
    from analysis.lc_sensitivity import lc_sensitivity

    own = sweep.job.evaluation.lc_method
    formulas: dict[Any, Calibration | str | None] = {
        "length_controlled_v1": _official(),
        "joint_difficulty": _joint(data),
        "no_difficulty": None,
    }
    by_name = {metric.name: metric for metric in METRICS}
    return lc_sensitivity(
        study,
        data,
        {method: calibration for method, calibration in formulas.items() if method != own},
        lc=by_name["length_controlled_win_rate"],
        wr=by_name["win_rate"],
        lc_method=own,
    )


def _official() -> Calibration | str:
    """AlpacaEval's calibration where it is already here: a report asks no network."""
    from adadpo.errors import AssetError
    from analysis.alpaca_eval.assets import CALIBRATION, PROMPTS, list_assets, official_calibration

    absent = [
        each.name for each in list_assets(cache_folder(), [CALIBRATION, PROMPTS]) if each.status != "present"
    ]
    if absent:
        return f"{' and '.join(absent)} of AlpacaEval not in the cache (adadpo assets fetches them)"
    try:
        return official_calibration(cache_folder())
    except AssetError as error:
        return str(error)


def _joint(data: Mapping[str, LcData]) -> Calibration | str:
    from analysis.alpaca_eval.difficulty import joint_difficulty

    try:
        found: Calibration = joint_difficulty(data.values())
    except ValueError as error:  # fewer than two runs, several judges, no convergence
        return str(error)
    return found


CURVES = ("reward_margin", "gradient_ratio", "loss", "chosen_logps", "rejected_logps")
HELDOUT_CURVES = tuple(f"heldout_{name}" for name in HELDOUT)
SAMPLES_PER_ARM = 6
PIECE = 1000  # values of a list that are written at once
# What the report says of every run's provenance and of its pairs.
TRAINED = ("started", "host", "device", "python", "git", "model", "data")
USED = ("train_pairs", "truncated_pairs", "left_out")


def build_results(sweep: Sweep) -> Results:
    """Everything the report shows, from the files as they are now."""
    from analysis.study import make_study
    from analysis.summary import analyse

    snapshot = take_snapshot(sweep)
    scores = run_scores(sweep, snapshot=snapshot)
    rows = run_rows(sweep, scores=scores, snapshot=snapshot)
    search = search_so_far(sweep, rows)
    changes = sweep.declaration_changes()
    if search is not None and search.asked < search.trials:
        # A search that may stop when the numbers please has no declared end.
        changes.append(f"the search is not finished: {search.asked} of {search.trials} settings so far")
    declared = sweep.declared()
    evaluation = _evaluation(sweep, snapshot)
    draws = prompt_draws(sweep, sweep.job.evaluation, scores)
    study = make_study(
        runs=rows,
        declared=declared,
        metrics=METRICS,
        settings=sweep.settings,
        seeds=sweep.seeds,
        arms=list(sweep.spec.arms),
        declaration_changed=changes,
        bootstrap=draws[0],
        prompts=evaluation.n_prompts,
        axes=axes(sweep.spec),
    )
    found = analyse(study)
    audit, not_shown = read_audit(sweep)
    judged = judged_runs(sweep, sweep.job.evaluation, scores)
    of_prompts = prompt_evidence(sweep, rows, judged, declared, draws)
    return Results(
        sweep=sweep.spec.name,
        declared=declared,
        declaration_changed=changes,
        evaluation=evaluation,
        axes=axes(sweep.spec),
        arms={arm: _method(sweep, arm) for arm in sweep.spec.arms},
        settings=sweep.settings,
        seeds=sweep.seeds,
        metrics=list(METRICS),
        counts=dict(Counter(row.state for row in rows)),
        failures=failures_of(sweep, rows, scores),
        runs=rows,
        blocks=[
            *found.blocks,
            Curves(value=[curve for run in sweep.job.runs for curve in _curves(sweep, run)]),
            Samples(value=[sample for arm in sweep.spec.arms for sample in _samples(sweep, arm, rows)]),
            Judgements(value=judgements_of(sweep, rows, scores, found.comparisons[0])),
            LcSensitivity(value=lc_sensitivity_of(sweep, study, judged.data)),
            *([SearchBlock(value=search)] if search else []),
            *([AuditBlock(value=audit)] if audit else []),
            *of_prompts,
            *_paper_claims(sweep, found.comparisons, of_prompts),
        ],
        provenance=_provenance(sweep) | ({"gradient audit": not_shown} if not_shown else {}),
    )


def write_results(sweep: Sweep) -> tuple[Results, Path]:
    """`results.json`, `report.html`, `tables/` and `figures/` in the sweep's folder, and the page's path."""
    from reports.files import write_report

    results = build_results(sweep)
    atomic_write(sweep.folder / "results.json", results_json(results))
    return results, write_report(results, sweep.folder)[0]


def results_json(results: Results) -> Iterator[str]:
    """Results as they are kept, in pieces: as dictionaries and text they take more memory than they do."""
    yield from _json(results)
    yield "\n"


def _json(value: Any) -> Iterator[str]:
    """JSON of a value; lists in pieces, of blocks each by itself."""
    if isinstance(value, Results | Block):
        for place, name in enumerate(type(value).model_fields):
            yield f"{', ' if place else '{'}{json.dumps(name)}: "
            yield from _json(getattr(value, name))
        yield "}"
    elif isinstance(value, list):
        yield "["
        size = 1 if value and isinstance(value[0], Block) else PIECE
        for begin in range(0, len(value), size):
            yield ", " if begin else ""
            if size == 1:
                yield from _json(value[begin])
            else:
                yield _text(value[begin : begin + size])[1:-1]
        yield "]"
    else:
        yield _text(value)


def _text(value: Any) -> str:
    # json.dumps escapes lone surrogates, which a model's output may contain and UTF-8 cannot
    return json.dumps(value, allow_nan=False, default=BaseModel.model_dump)


def _curves(sweep: Sweep, run: PlannedRun) -> Iterable[Curve]:
    folder = sweep.store.run(run.run_id)
    history = load_history(folder)
    if any(name in step for step in history for name in HELDOUT_CURVES) and folder.metrics.exists():
        metrics = read_json(folder.metrics)  # the end is measured there
        history.append({"step": metrics["steps"]} | {name: metrics[name] for name in HELDOUT_CURVES})
    for name in (*CURVES, *HELDOUT_CURVES):
        logged = "log_gradient_ratio" if name == "gradient_ratio" else name
        steps = [step for step in history if logged in step]
        values = [math.exp(step[logged]) if name == "gradient_ratio" else step[logged] for step in steps]
        if steps:
            yield Curve(
                arm=run.arm,
                setting=run.setting,
                seed=run.seed,
                name=name,
                steps=[step["step"] for step in steps],
                values=[value if math.isfinite(value) else None for value in values],
            )


def _samples(sweep: Sweep, arm: str, rows: list[RunRow]) -> Iterable[Sample]:
    """Prompts of an arm's first run that counts on which the responses differ; draws only when there is no other."""
    run = next((row for row in rows if row.arm == arm and row.state == State.DONE), None)
    if run is None:
        return
    annotations = read_json(sweep.store.run(run.run_id).evaluation(sweep.eval_id) / "annotations.json", list)
    decided = [a for a in annotations if a["preference"] != 1.5]
    for annotation in (decided or annotations)[:SAMPLES_PER_ARM]:
        yield Sample(
            arm=arm,
            setting=run.setting,
            seed=run.seed,
            instruction=annotation["instruction"],
            baseline_output=annotation["output_1"],
            output=annotation["output_2"],
            preference=annotation["preference"],
        )


def _method(sweep: Sweep, arm: str) -> dict[str, Any]:
    """An arm's hyperparameters, without the grid's axes; what follows an axis (beta by loss) with all its values."""
    runs = [run for run in sweep.job.runs if run.arm == arm]
    found: dict[str, list[Any]] = {}
    for run in runs:
        for key, value in run.config.method.identity().items():
            if key not in run.hyperparameters and value not in found.setdefault(key, []):
                found[key].append(value)
    return {
        key: values[0] if len(values) == 1 else "varies: " + ", ".join(map(str, values))
        for key, values in found.items()
    }


def _paper_claims(
    sweep: Sweep, comparisons: list[Comparison], blocks: Sequence[Block[Any]]
) -> Iterator[PaperClaimsBlock]:
    """Only of AdaDPO against DPO: the paper says nothing of other pairs."""
    from analysis.grid.paper_claims import paper_claims

    declared = sweep.declared()
    methods = [_method(sweep, arm) for arm in (declared.baseline, declared.candidate)]
    if [(one.get("loss"), one.get("balance")) for one in methods] != [("dpo", "none"), ("dpo", "per_token")]:
        return
    bests = next((each.value for each in blocks if isinstance(each, BestOfGridBlock)), None)
    claims = paper_claims(
        comparisons,
        bests or [],
        declared=declared,
        measured_for=f"{sweep.job.model} on {sweep.job.train.name}, prompts {sweep.job.evaluation.prompts}, "
        f"judge {sweep.job.evaluation.judge_name}, means over {len(sweep.seeds)} seeds",
    )
    yield PaperClaimsBlock(value=claims)


def _evaluation(sweep: Sweep, snapshot: Snapshot) -> Evaluation:
    job, evaluation = sweep.job, sweep.job.evaluation
    first = next((run.run_id for run in job.runs if run.run_id in snapshot.finished), None)
    scores = {} if first is None else snapshot.finished[first]["scores"]
    return Evaluation(
        model=job.model,
        data=job.train.name,
        prompts=evaluation.prompts,
        n_prompts=scores.get("prompts"),
        judge=evaluation.judge_name,
        baseline="the untrained model"
        if evaluation.baseline == "reference"
        else sweep.spec.evaluate.baseline,
        lc_method=scores.get("lc_method") or "not computed",
        decoding=evaluation.decoding.model_dump(),
    )


def _provenance(sweep: Sweep) -> dict[str, str]:
    """What the numbers come from, in words."""
    found = {
        "store": "runs are identified by content: the same configuration is the same run",
        "evaluation id": sweep.eval_id,
        "packages now": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }
    git = git_state()
    if git:
        found["commit now"] = git["commit"] + (" with uncommitted changes" if git["diff"] else "")
    declared = sweep.folder / "declared.json"
    if declared.exists():
        content = read_declaration(declared)
        found["declaration"] = declaration_line(content)
        added = [seed for seed in sweep.seeds if seed not in content["seeds"]]
        if added:
            found["seeds added after launch"] = ", ".join(map(str, added))
    return found | _trained(sweep)


def _trained(sweep: Sweep) -> dict[str, str]:
    """What the runs say of how they were trained; read one after the other, since all of them take 3 kB a run."""
    found: dict[str, str] = {}
    first: dict[str, Any] | None = None
    different: dict[str, set[str]] = {key: set() for key in ("started", "host", "device", "python", "commit")}
    for run in sweep.job.runs:
        path = sweep.store.run(run.run_id).path / "provenance.json"
        if not path.exists():
            continue
        said = read_json(path, dict, TRAINED)
        first = first or said
        for key in ("started", "host", "device", "python"):
            different[key].add(str(said[key]))
        if said["git"]:
            different["commit"].add(said["git"]["commit"][:12] + ("+changes" if said["git"]["diff"] else ""))
    for key in ("host", "device", "python"):
        if different[key]:
            found[f"trained on ({key})"] = ", ".join(sorted(different[key]))
    metrics = (sweep.store.run(run.run_id).metrics for run in sweep.job.runs)
    used = next((read_json(path, dict, USED) for path in metrics if path.exists()), None)
    if used is not None:
        found["pairs"] = (
            f"{used['train_pairs']} for training, {used.get('heldout_pairs', 0)} held out; "
            f"{len(used['left_out'])} left out (named in each run's metrics.json), "
            f"{used['truncated_pairs']} cut at max_length"
        )
    if first is not None:
        found["trained from"] = f"{min(different['started'])} to {max(different['started'])}"
        found["trained at commit"] = ", ".join(sorted(different["commit"])) or "not a git checkout"
        found["model"] = first["model"]["identity"]
        found["training data"] = first["data"]["identity"]
    return found

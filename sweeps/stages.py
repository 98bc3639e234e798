"""The stages of a run: train, generate, judge, score. Each writes its last file last, so a stage is done or not.

Torch is imported inside functions: planning and reporting never load it.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adadpo.data import DataError
from adadpo.models import ModelError
from adadpo.stopping import StoppedError, raise_if_stopped
from analysis.judges import JudgeError
from sweeps.errors import FailureError, SweepError
from sweeps.evaluation import judge_outputs, score_annotations
from sweeps.history import note_evaluations
from sweeps.lease import held
from sweeps.prompts import prompt_messages
from sweeps.provenance import provenance
from sweeps.resolve import Job, PlannedRun
from sweeps.run_log import logging_to
from sweeps.store import STAGES, RunFolder, Store, flush_folder, read_json, write_json
from sweeps.workshop import PARTIAL, Workshop

if TYPE_CHECKING:
    pass

OnProgress = Callable[[PlannedRun, str, int, int], None]  # run, stage, done, total
SAME_FAILURES = 3  # the same failure this many times in a row stops the job: it would hit every run


def execute(job: Job, on_progress: OnProgress, on_end: Callable[[PlannedRun, str], None]) -> None:
    """Bring every run of a job to its end; one that somebody else works on is left alone.

    Args:
        job: the runs.
        on_progress: called while a stage goes on.
        on_end: called with each run and how it ended: a state, or "busy" when another process has it.

    Raises:
        SweepError: something that concerns every run: model, data or disk; or the same failure thrice in a row.
        StoppedError: see `adadpo.stopping`; the run goes on where it was with the next call.
    """
    use_one_gpu()
    workshop = Workshop(job)
    store = Store(Path(job.store))
    recent: list[str] = []
    for run in job.runs:
        raise_if_stopped()
        folder = store.run(run.run_id)
        with held(folder.lease) as lease:
            if lease is None:
                on_end(run, "busy")
                continue
            # Another process may have finished it between planning and now.
            if folder.state(job.evaluation.eval_id) != "done" and not folder.failed(job.evaluation.eval_id):

                def report(
                    stage: str, done: int, total: int, run: PlannedRun = run, lease: Any = lease
                ) -> None:
                    lease.report(stage, done, total)
                    if stage != "train":  # which looks by itself, and saves
                        raise_if_stopped()
                    on_progress(run, stage, done, total)

                _run_stages(workshop, run, folder, report)
            state = _state_without_lease(folder, job.evaluation.eval_id)
        on_end(run, state)
        recent = [*recent, read_json(folder.failure)["message"]] if state == "failed" else []
        if len(recent) == SAME_FAILURES and len(set(recent)) == 1:
            raise FailureError(
                f"stopped: {SAME_FAILURES} runs in a row failed alike: {recent[0]} (log: {folder.log})"
            )


def use_one_gpu() -> None:
    """A run is one process: where several GPUs are visible, TRL would refuse to train. Before CUDA starts."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.partition(",")[0]


def _state_without_lease(folder: RunFolder, eval_id: str) -> str:
    """A run's state while this process still holds it."""
    if folder.done(eval_id):
        return "done"
    return "diverged" if read_json(folder.failure)["kind"] == "diverged" else "failed"


def _run_stages(
    workshop: Workshop, run: PlannedRun, folder: RunFolder, report: Callable[[str, int, int], None]
) -> None:
    """The stages that are not done, in order; a failure is written down, a shared cause is raised."""
    from adadpo.train import DivergedError

    eval_id = workshop.job.evaluation.eval_id
    work = {"train": _train, "generate": _generate, "judge": _judge, "score": _score}
    stage = "train"
    with logging_to(folder.log):
        log = logging.getLogger("sweeps")
        try:
            write_json(folder.path / "config.json", run.config.model_dump(mode="json"))
            for stage in STAGES:
                if folder.has(stage, eval_id):
                    continue
                folder.last_file(stage, eval_id).unlink(missing_ok=True)  # another of its files was deleted
                raise_if_stopped()
                start = time.monotonic()
                log.info("%s starts", stage)
                work[stage](workshop, run, folder, report)
                log.info("%s done in %.1f s", stage, time.monotonic() - start)
        except StoppedError as error:
            log.info("%s: %s; the next attempt goes on here", stage, error)
            raise
        except DivergedError as error:
            log.warning("%s", error)
            _write_failure(folder, "diverged", stage, str(error), step=error.step, quantity=error.quantity)
        except (SweepError, ModelError, DataError, JudgeError) as error:
            log.error("%s: %s", stage, error)
            raise error if isinstance(error, SweepError) else FailureError(str(error)) from error
        except OSError as error:
            log.error("%s: %s", stage, error)
            raise FailureError(
                f"{stage}: {error.strerror or error}: {error.filename or folder.path}"
            ) from error
        except Exception as error:  # this run's failure; the others go on
            log.error("%s", traceback.format_exc())
            if _disk_is_full(error, folder.path):
                raise FailureError(f"{stage}: no space left on the disk of {folder.path}") from error
            first_line = (str(error).splitlines() or [""])[0]
            of = {"train": None, "generate": workshop.job.evaluation.generation_id}.get(stage, eval_id)
            message = f"{type(error).__name__}: {first_line}"
            _write_failure(folder, _kind(error), stage, message, evaluation=of)


def _disk_is_full(error: Exception, folder: Path) -> bool:
    # safetensors and torch wrap the system's error in their own
    return "no space left" in str(error).lower() or shutil.disk_usage(folder).free < 2**20


def _kind(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}".lower()
    return "out of memory" if "out of memory" in text or isinstance(error, MemoryError) else "bug"


def _write_failure(folder: RunFolder, kind: str, stage: str, message: str, **more: Any) -> None:
    write_json(
        folder.failure, {"kind": kind, "stage": stage, "message": message, "time": time.time(), **more}
    )


def _train(
    workshop: Workshop, run: PlannedRun, folder: RunFolder, report: Callable[[str, int, int], None]
) -> None:
    from adadpo.train import train_run

    start = time.time()
    base, data = workshop.base(run), workshop.data(run)
    for line in data.left_out:
        logging.getLogger("sweeps").warning("left out: %s", line)
    write_json(folder.path / "provenance.json", provenance(workshop.job, run))
    for stale in folder.path.glob(f"eval/*/{PARTIAL}"):
        stale.unlink()  # another training's responses
    metrics = train_run(
        base,
        run.config,
        data,
        folder.train,
        on_progress=lambda done, total: report("train", done, total),
    )
    shutil.rmtree(folder.train / "checkpoints", ignore_errors=True)  # resume points of a finished run
    flush_folder(folder.train)
    note_evaluations(folder, metrics, {})  # of a run whose training had to be done again
    write_json(folder.metrics, {**metrics, "wall_seconds": time.time() - start})


def _generate(
    workshop: Workshop, run: PlannedRun, folder: RunFolder, report: Callable[[str, int, int], None]
) -> None:
    from adadpo.divergence import kl_estimates
    from adadpo.generate import token_log_ratios
    from adadpo.policy import load_policy
    from adadpo.quiet import quiet

    start, job, base, settings = time.time(), workshop.job, workshop.base(run), run.config.train
    workshop.baseline(run, lambda done, total: report("baseline", done, total))
    trained = folder.train / ("adapter" if settings.lora else "model")
    target = folder.generation(job.evaluation.eval_id)

    @cache
    def policy() -> Any:
        with quiet():
            return load_policy(base, trained, settings)

    outputs, responses = workshop.generate(
        base,
        policy,
        trained,
        f"{run.arm} {run.setting} seed={run.seed}",
        target / PARTIAL,
        lambda done, total: report("generate", done, total),
    )
    some = slice(None, job.evaluation.kl_prompts)
    ratios = token_log_ratios(
        policy(),
        base.model,
        base.tokenizer,
        [prompt_messages(prompt) for prompt in workshop.prompts[some]],
        responses[some],
        on_progress=lambda done, total: report("KL", done, total),
    )
    write_json(target / "config.json", job.evaluation.model_dump(mode="json"))
    described = {
        **kl_estimates(ratios),
        "versions": workshop.versions(),
        "mean_tokens": sum(len(response.token_ids) for response in responses) / len(responses),
        "finished_share": sum(response.finished for response in responses) / len(responses),
        "wall_seconds": time.time() - start,
    }
    write_json(target / "generation.json", described)
    write_json(target / "outputs.json", outputs)
    (target / PARTIAL).unlink(missing_ok=True)


def _judge(
    workshop: Workshop, run: PlannedRun, folder: RunFolder, report: Callable[[str, int, int], None]
) -> None:
    evaluation = workshop.job.evaluation
    target = folder.evaluation(evaluation.eval_id)
    baseline = workshop.baseline(run, lambda done, total: report("baseline", done, total))
    outputs = read_json(folder.generation(evaluation.eval_id) / "outputs.json")
    annotations, summary = judge_outputs(
        workshop.judge,
        workshop.prompts,
        baseline,
        outputs,
        on_progress=lambda done, total: report("judge", done, total),
    )
    write_json(target / "config.json", evaluation.model_dump(mode="json"))
    write_json(target / "judging.json", summary)
    write_json(target / "annotations.json", annotations)


def _score(
    workshop: Workshop, run: PlannedRun, folder: RunFolder, report: Callable[[str, int, int], None]
) -> None:
    evaluation = workshop.job.evaluation
    target, generated = folder.evaluation(evaluation.eval_id), folder.generation(evaluation.eval_id)
    scores = score_annotations(
        evaluation,
        read_json(target / "annotations.json"),
        read_json(generated / "outputs.json"),
        baseline=workshop.baseline(run, lambda done, total: report("baseline", done, total)),
        versions=(read_json(generated / "generation.json")["versions"], workshop.baseline_versions(run)),
    )
    note_evaluations(folder, read_json(folder.metrics), {evaluation.eval_id: scores})
    write_json(target / "scores.json", scores)

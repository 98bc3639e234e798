"""The stages of a run: train, generate, judge, score. Each writes its last file last, so a stage is done or not.

Torch is imported inside functions: planning and reporting never load it.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from adadpo.errors import FailureError, ProcessGroupError
from adadpo.files import atomic_write
from adadpo.stopping import raise_if_stopped
from sweeps.config.evaluation import prompt_messages
from sweeps.evaluation.judge_and_score import judge_outputs, score_annotations
from sweeps.evaluation.replicates import replicates_file
from sweeps.execution.distributed import follow, leading, train_together, work_together
from sweeps.execution.provenance import provenance
from sweeps.execution.retraining import take_over
from sweeps.execution.run_context import PARTIAL, RunContext
from sweeps.failures.attempts import note_loss, waits_to_be_alone
from sweeps.failures.handling import record_failures, stop_on_repeated_failure
from sweeps.store.control_files import ControlFiles
from sweeps.store.job import Job, PlannedRun
from sweeps.store.layout import STAGES, RunFolder, flush_folder, read_json, write_json
from sweeps.store.lease import held
from sweeps.store.manifests import REPLICATES_FILE, note_evaluations, record_stage

# A run's own log.


class _RunLog(logging.FileHandler):
    """A full disk must not end a run for its log's sake, nor show a traceback: the stages say it themselves."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Leave the line out."""

    def close(self) -> None:
        """Lines that could not be written are given up."""
        with suppress(OSError):
            super().close()


@contextmanager
def logging_to(file: Path) -> Iterator[None]:
    """Everything that the libraries log goes to the run's own log."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = _RunLog(file, encoding="utf-8", errors="replace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(before)
        handler.close()


OnProgress = Callable[[PlannedRun, str, int, int], None]  # run, stage, done, total


def execute(
    job: Job,
    on_progress: OnProgress,
    on_end: Callable[[PlannedRun, str], None],
    more: Callable[[], list[PlannedRun]] = list,
) -> None:
    """Bring every run of a job to its end; one that somebody else works on, or that was cancelled, is left alone.

    Called by each of the processes that train its runs together; the callbacks in the first one.

    Args:
        job: the runs.
        on_progress: called while a stage goes on.
        on_end: called with each run and how it ended: a state, or "busy" when another process has it.
        more: called when all have ended: runs to go through again, as long as there are some.

    Raises:
        ProcessGroupError: of several processes one is gone, or could not finish what the others do.
        SweepError: something that concerns every run: model, data, disk, judge; or too many runs that failed alike.
        StoppedError: see `adadpo.stopping`; the run goes on where it was with the next call.
    """
    with work_together(job) as processes:
        if processes.rank:
            follow(job, processes)
            return
        context = RunContext(job, processes)
        control = ControlFiles(context.store.sweep(job.sweep))
        with leading(processes):
            runs = job.runs
            while runs:
                for run in runs:
                    raise_if_stopped()
                    if said := control.stopped():
                        raise FailureError(f"stopped: {said['message']}")
                    ended = _bring_to_end(context, run, control, on_progress)
                    on_end(run, ended)
                    stop_on_repeated_failure(context.store, control, context.store.run(run.run_id))
                    if context.parted:
                        raise ProcessGroupError(
                            f"the job ends with run {run.run_id}, which is {ended}: its processes cannot go on together"
                        )
                runs = more()


def _bring_to_end(
    context: RunContext, run: PlannedRun, control: ControlFiles, on_progress: OnProgress
) -> str:
    """A run's stages under its lease; again where its failure's policy says so."""
    job, folder = context.job, context.store.run(run.run_id)
    eval_id, lease = job.evaluation.eval_id, None

    def cancelled() -> bool:
        return control.cancelled(run.run_id)

    def report(stage: str, done: int, total: int) -> None:
        if lease is not None:
            lease.report(stage, done, total)
        if stage != "train":  # which looks by itself, and saves
            raise_if_stopped()
        on_progress(run, stage, done, total)

    try:
        with held(folder.lease, {"sweep": job.sweep}, cancelled) as lease:
            if lease is None:
                return "busy"
            # Another process may have finished it between planning and now.
            if lease.previous and not folder.done(eval_id):
                note_loss(folder, lease.previous, job.retries)
            while _has_work(job, folder) and not folder.failed(eval_id) and not context.parted:
                if cancelled():
                    return "cancelled"
                if waits_to_be_alone(folder):
                    break
                run_stages(context, run, folder, report)
            return folder.outcome(eval_id)
    except KeyboardInterrupt:
        if lease is None or not lease.left:
            raise  # Ctrl-C ends all of it; a cancelled run ends alone
        lease.release()  # again: the interruption may have come in the middle of it
        return "cancelled"


def _has_work(job: Job, folder: RunFolder) -> bool:
    """The next stage of the run is one of this job's; an earlier or a later one may be another job's."""
    missing = [stage for stage in STAGES if not folder.has(stage, job.evaluation.eval_id)]
    return bool(missing) and missing[0] in job.stages


def run_stages(
    context: RunContext, run: PlannedRun, folder: RunFolder, report: Callable[[str, int, int], None]
) -> None:
    """The stages that are not done, in order.

    Raises:
        SweepError: a cause that concerns every run; the run's own failure is written down instead.
    """
    eval_id = context.job.evaluation.eval_id
    work = {"train": _train, "generate": _generate, "judge": _judge, "score": _score}
    with logging_to(folder.log):
        log = logging.getLogger("sweeps")
        for stage in STAGES:
            if folder.has(stage, eval_id):
                continue
            if stage not in context.job.stages:
                return
            with record_failures(context.job, folder, stage):
                write_json(folder.path / "config.json", run.config.model_dump(mode="json"))
                if not folder.has_files(stage, eval_id):  # another of its files was deleted
                    folder.last_file(stage, eval_id).unlink(missing_ok=True)
                raise_if_stopped()
                start = time.time()
                log.info("%s starts", stage)
                work[stage](context, run, folder, report)
                record_stage(folder, stage, eval_id, start)
                log.info("%s done in %.1f s", stage, time.time() - start)
            if not folder.has(stage, eval_id):
                return  # its failure is noted


def _train(
    context: RunContext, run: PlannedRun, folder: RunFolder, report: Callable[[str, int, int], None]
) -> None:
    start = time.time()
    data = context.data(run)
    for line in data.left_out:
        logging.getLogger("sweeps").warning("left out: %s", line)
    target, again = folder.training, folder.weights_freed
    described = provenance(context.job, run)
    if again:
        logging.getLogger("sweeps").info("retrained: adadpo gc freed the weights, and responses need them")
    else:
        folder.freed.unlink(missing_ok=True)
        write_json(folder.path / "provenance.json", described)
    for stale in folder.path.glob(f"eval/*/{PARTIAL}"):
        stale.unlink()  # another training's responses
    metrics = train_together(context, run, target, lambda done, total: report("train", done, total))
    shutil.rmtree(target / "checkpoints", ignore_errors=True)  # resume points of a finished run
    flush_folder(target)
    if again:
        take_over(folder, {**metrics, "wall_seconds": time.time() - start}, described)
        return
    note_evaluations(folder, metrics, {})  # of a run whose training had to be done again
    write_json(folder.metrics, {**metrics, "wall_seconds": time.time() - start})


def _generate(
    context: RunContext, run: PlannedRun, folder: RunFolder, report: Callable[[str, int, int], None]
) -> None:
    from adadpo.generation.divergence import kl_estimates
    from adadpo.generation.generate import token_log_ratios
    from adadpo.models.policy import load_policy
    from adadpo.quiet import quiet

    start, job, base, settings = time.time(), context.job, context.base(run), run.config.train
    context.baseline(run, lambda done, total: report("baseline", done, total))
    trained = folder.train / ("adapter" if settings.lora else "model")
    target = folder.generation(job.evaluation.eval_id)

    @cache
    def policy() -> Any:
        with quiet():
            return load_policy(base, trained, settings)

    outputs, responses = context.generate(
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
        [prompt_messages(prompt) for prompt in context.prompts[some]],
        responses[some],
        on_progress=lambda done, total: report("KL", done, total),
    )
    write_json(target / "config.json", job.evaluation.model_dump(mode="json"))
    described = {
        **kl_estimates(ratios),
        "engine": job.evaluation.decoding.engine,
        "versions": context.versions(),
        "mean_tokens": sum(len(response.token_ids) for response in responses) / len(responses),
        "finished_share": sum(response.finished for response in responses) / len(responses),
        "wall_seconds": time.time() - start,
    }
    write_json(target / "generation.json", described)
    write_json(target / "outputs.json", outputs)
    (target / PARTIAL).unlink(missing_ok=True)


def _judge(
    context: RunContext, run: PlannedRun, folder: RunFolder, report: Callable[[str, int, int], None]
) -> None:
    evaluation = context.job.evaluation
    target = folder.evaluation(evaluation.eval_id)
    baseline = context.baseline(run, lambda done, total: report("baseline", done, total))
    outputs = read_json(folder.generation(evaluation.eval_id) / "outputs.json")
    annotations, summary = judge_outputs(
        context.judge,
        context.prompts,
        baseline,
        outputs,
        on_progress=lambda done, total: report("judge", done, total),
    )
    write_json(target / "config.json", evaluation.model_dump(mode="json"))
    write_json(target / "judging.json", summary)
    write_json(target / "annotations.json", annotations)


def _score(
    context: RunContext, run: PlannedRun, folder: RunFolder, report: Callable[[str, int, int], None]
) -> None:
    evaluation = context.job.evaluation
    target, generated = folder.evaluation(evaluation.eval_id), folder.generation(evaluation.eval_id)
    annotations = read_json(target / "annotations.json", list)
    scores, drawn = score_annotations(
        evaluation,
        annotations,
        read_json(generated / "outputs.json"),
        baseline=context.baseline(run, lambda done, total: report("baseline", done, total)),
        versions=(read_json(generated / "generation.json")["versions"], context.baseline_versions(run)),
    )
    if drawn is not None:
        content, scores["replicates"] = replicates_file(annotations, drawn)
        atomic_write(target / REPLICATES_FILE, content)
    note_evaluations(folder, read_json(folder.metrics), {evaluation.eval_id: scores})
    write_json(target / "scores.json", scores)

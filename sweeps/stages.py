"""The stages of a run: train, generate, judge, score. Each writes its last file last, so a stage is done or not.

Torch is imported inside functions: planning and reporting never load it.
"""

from __future__ import annotations

import gc
import itertools
import json
import logging
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from adadpo.data import DataError, load_pairs
from adadpo.models import ModelError, resolve_model
from analysis.judges import JudgeError
from sweeps.errors import FailureError, SweepError
from sweeps.evaluation import (
    judge_outputs,
    load_baseline,
    load_prompts,
    open_judge,
    score_annotations,
)
from sweeps.identity import digest
from sweeps.lease import held
from sweeps.prompts import prompt_messages
from sweeps.provenance import generator_versions, provenance
from sweeps.resolve import Job, PlannedRun, Source
from sweeps.store import STAGES, RunFolder, Store, flush_folder, read_json, write_json, write_whole

if TYPE_CHECKING:
    from adadpo.policy import Base
    from adadpo.tokens import TokenPairs
    from adadpo.train import TrainingData
    from analysis.judges import Judge

OnProgress = Callable[[PlannedRun, str, int, int], None]  # run, stage, done, total
PARTIAL = "partial.jsonl"  # batches of responses that are done, of a generation that is not
SAME_FAILURES = 3  # the same failure this many times in a row stops the job: it would hit every run


class Workshop:
    """What the runs of a job share, loaded when first needed: model, token ids, prompts, baseline responses."""

    def __init__(self, job: Job) -> None:
        self.job, self.store = job, Store(Path(job.store))
        self._bases: dict[str, Base] = {}
        self._data: dict[int, TrainingData] = {}

    def base(self, run: PlannedRun) -> Base:
        """The untrained model in the run's precision."""
        from adadpo.policy import load_base
        from adadpo.quiet import quiet

        precision = run.config.train.precision
        if precision not in self._bases:
            source = resolve_model(self.job.model)
            _require_same("model", self.job.model, source.identity, run.config.model)
            with quiet():
                self._bases[precision] = load_base(source, run.config.train)
            # What is loaded now stays: without this, the collection after each run walks all of it (0.5 s).
            gc.freeze()
        return self._bases[precision]

    def data(self, run: PlannedRun) -> TrainingData:
        """Token ids of the pairs."""
        from adadpo.tokens import tokenize_pairs
        from adadpo.train import TrainingData

        length = run.config.train.max_length
        if length not in self._data:
            tokenizer = self.base(run).tokenizer
            left_out: list[str] = []

            def tokens(source: Source, planned: str | None) -> TokenPairs:
                _require_same("data", source.name, source.open().identity, planned)
                pairs = load_pairs(source.open(), self.job.bad_rows)
                found = tokenize_pairs(pairs.pairs, tokenizer, length)
                left_out.extend(f"{source.name}: row {row.number}: {row.reason}" for row in pairs.bad_rows)
                left_out.extend(
                    f"{source.name}: usable pair {row.number}: {row.reason}" for row in found.dropped
                )
                return found

            heldout = self.job.heldout
            self._data[length] = TrainingData(
                tokens(self.job.train, run.config.data),
                None if heldout is None else tokens(heldout, run.config.heldout),
                left_out,
            )
        return self._data[length]

    @cached_property
    def prompts(self) -> list[dict[str, Any]]:
        """The evaluation prompts."""
        return load_prompts(self.job.evaluation)

    @cached_property
    def judge(self) -> Judge | None:
        """Who compares the responses with the baseline's."""
        return open_judge(self.job.evaluation, self.job.sweep)

    def baseline(self, run: PlannedRun, on_progress: Callable[[int, int], None]) -> list[dict[str, Any]]:
        """The baseline's responses: a file's, or the untrained model's, generated once for all runs."""
        evaluation = self.job.evaluation
        if evaluation.baseline != "reference":
            return load_baseline(evaluation, self.prompts)
        folder = self._baseline_folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "outputs.json"
        with FileLock(folder / "lock"):  # workers that start together wait for the first one
            if not file.exists():
                base = self.base(run)
                partial = folder / PARTIAL
                outputs, _ = self.generate(
                    base, lambda: base.model, None, f"{self.job.model} (untrained)", partial, on_progress
                )
                write_json(folder / "generation.json", {"versions": self.versions()})
                write_json(file, outputs)
                partial.unlink(missing_ok=True)
        return list(read_json(file))

    def versions(self) -> dict[str, str]:
        """Of what generates responses here."""
        return generator_versions(self.job.evaluation.decoding.engine)

    def baseline_versions(self, run: PlannedRun) -> dict[str, str]:
        """Versions of what generated the baseline's responses; empty for a file's."""
        if self.job.evaluation.baseline != "reference":
            return {}
        return dict(read_json(self._baseline_folder(run) / "generation.json")["versions"])

    def _baseline_folder(self, run: PlannedRun) -> Path:
        generation_id = self.job.evaluation.generation_id
        return self.store.baseline(digest([generation_id, run.config.model, run.config.train.precision]))

    def generate(
        self,
        base: Base,
        load: Callable[[], Any],
        trained: Path | None,
        generator: str,
        partial: Path,
        on_progress: Callable[[int, int], None],
    ) -> tuple[list[dict[str, Any]], list[Any]]:
        """A model's responses in AlpacaEval's format, and as token ids.

        Args:
            base: the untrained model.
            load: gives the model that answers; vLLM reads it by itself, and wants the memory.
            trained: folder of the run's adapter or model; None: the untrained model answers.
            generator: what the responses' model is called.
            partial: file of the batches that are done, for the next attempt; the caller deletes it.
            on_progress: called with prompts done, and in all.
        """
        messages = [prompt_messages(prompt) for prompt in self.prompts]
        decoding = self.job.evaluation.decoding
        partial.parent.mkdir(parents=True, exist_ok=True)
        if decoding.engine == "vllm":
            from adadpo.generate_vllm import generate_vllm

            responses = generate_vllm(base, trained, messages, decoding, on_progress, partial)
        else:
            from adadpo.generate import generate

            responses = generate(load(), base.tokenizer, messages, decoding, on_progress, partial)
        outputs = [
            {
                "instruction": prompt["instruction"],
                "output": response.text,
                "generator": generator,
                "dataset": prompt.get("dataset", self.job.evaluation.prompts),
            }
            for prompt, response in zip(self.prompts, responses, strict=True)
        ]
        return outputs, responses


def _require_same(what: str, name: str, now: str, planned: str | None) -> None:
    """A queued job may start long after it was planned: its run's id must stay true."""
    if now != planned:
        raise FailureError(
            f"{what} {name} changed since the runs were planned; launch again for runs with the new one"
        )


def execute(job: Job, on_progress: OnProgress, on_end: Callable[[PlannedRun, str], None]) -> None:
    """Bring every run of a job to its end; one that somebody else works on is left alone.

    Args:
        job: the runs.
        on_progress: called while a stage goes on.
        on_end: called with each run and how it ended: a state, or "busy" when another process has it.

    Raises:
        SweepError: something that concerns every run: model, data or disk; or the same failure thrice in a row.
    """
    use_one_gpu()
    workshop = Workshop(job)
    store = Store(Path(job.store))
    recent: list[str] = []
    for run in job.runs:
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
    with _logging_to(folder.log):
        log = logging.getLogger("sweeps")
        try:
            write_json(folder.path / "config.json", run.config.model_dump(mode="json"))
            for stage in STAGES:
                if folder.has(stage, eval_id):
                    continue
                folder.last_file(stage, eval_id).unlink(missing_ok=True)  # another of its files was deleted
                start = time.monotonic()
                log.info("%s starts", stage)
                work[stage](workshop, run, folder, report)
                log.info("%s done in %.1f s", stage, time.monotonic() - start)
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
    _note_evaluations(folder, metrics, {})  # of a run whose training had to be done again
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
    _note_evaluations(folder, read_json(folder.metrics), {evaluation.eval_id: scores})
    write_json(target / "scores.json", scores)


def _note_evaluations(folder: RunFolder, metrics: dict[str, Any], new: dict[str, Any]) -> None:
    """A line of the history for every evaluation: what it came to."""
    finished = folder.path.glob("eval/*/*/scores.json")
    scored = {f"{path.parent.parent.name}/{path.parent.name}": read_json(path) for path in finished} | new
    lines = [json.dumps(step) for step in load_history(folder)]
    for eval_id, scores in sorted(scored.items()):
        generation = read_json(folder.generation(eval_id) / "generation.json")
        line = {"step": metrics["steps"], "evaluation": eval_id}
        line |= {name: value for name, value in metrics.items() if name.startswith("heldout_")}
        line |= {name: v for name, v in generation.items() if name not in ("wall_seconds", "versions")}
        line |= {name: value for name, value in scores.items() if isinstance(value, int | float)}
        lines.append(json.dumps(line))
    write_whole(folder.history, "".join(line + "\n" for line in lines))


class _RunLog(logging.FileHandler):
    """A full disk must not end a run for its log's sake, nor show a traceback: the stages say it themselves."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Leave the line out."""

    def close(self) -> None:
        """Lines that could not be written are given up."""
        with suppress(OSError):
            super().close()


@contextmanager
def _logging_to(file: Path) -> Iterator[None]:
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


def load_history(folder: RunFolder) -> list[dict[str, Any]]:
    """The logged steps of a run's training, without those behind a line that was cut short by a kill."""
    lines = itertools.takewhile(lambda line: line is not None, history_lines(folder))
    return [line for line in lines if line is not None and "evaluation" not in line]


def history_lines(folder: RunFolder) -> list[dict[str, Any] | None]:
    """Steps and evaluations; None for a line that is damaged."""
    lines: list[dict[str, Any] | None] = []
    for text in folder.history.read_text().splitlines() if folder.history.exists() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            lines.append(None)
    return lines

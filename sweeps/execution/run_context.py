"""What the runs of a job share, loaded once. Torch is imported inside functions."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from adadpo.data.pairs import load_pairs
from adadpo.errors import FailureError
from adadpo.models.load import resolve_model
from sweeps.config.evaluation import prompt_messages
from sweeps.evaluation.judge_and_score import load_baseline, load_prompts, open_judge
from sweeps.store.host import generator_versions
from sweeps.store.ids import digest
from sweeps.store.job import Job, PlannedRun, Source
from sweeps.store.layout import Store, read_json, write_json
from sweeps.store.manifests import BASELINE_SEAL, seal_files

if TYPE_CHECKING:
    from adadpo.data.tokens import TokenPairs
    from adadpo.models.policy import Base
    from adadpo.training.processes import Processes
    from adadpo.training.train import TrainingData
    from analysis.judges import Judge

PARTIAL = "partial.jsonl"  # batches of responses that are done, of a generation that is not


class RunContext:
    """What the runs of a job share, loaded when first needed: model, token ids, prompts, baseline responses."""

    def __init__(self, job: Job, processes: Processes | None = None) -> None:
        """`processes`: those that train a run together; None: this one alone."""
        from adadpo.training.processes import ALONE

        self.job, self.store = job, Store(Path(job.store))
        self.processes = processes or ALONE
        self.parted = False  # one of them failed, so that they cannot go on together
        self._bases: dict[str, Base] = {}
        self._data: dict[tuple[int, bool], TrainingData] = {}  # by max_length and caches

    def base(self, run: PlannedRun) -> Base:
        """The untrained model in the run's precision."""
        from adadpo.models.policy import load_base
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
        from adadpo.caches import cached_token_pairs
        from adadpo.data.tokens import tokenize_pairs
        from adadpo.training.train import TrainingData

        length, caches = run.config.train.max_length, run.config.train.caches
        if (length, caches) not in self._data:
            tokenizer = self.base(run).tokenizer
            left_out: list[str] = []

            def tokens(source: Source, planned: str | None) -> TokenPairs:
                _require_same("data", source.name, source.open().identity, planned)
                pairs = load_pairs(source.open(), self.job.bad_rows)
                if caches:
                    identity = run.config.model
                    found = cached_token_pairs(pairs.pairs, tokenizer, length, model_identity=identity)
                else:
                    found = tokenize_pairs(pairs.pairs, tokenizer, length)
                left_out.extend(f"{source.name}: row {row.number}: {row.reason}" for row in pairs.bad_rows)
                left_out.extend(
                    f"{source.name}: usable pair {row.number}: {row.reason}" for row in found.dropped
                )
                return found

            heldout = self.job.heldout
            self._data[length, caches] = TrainingData(
                tokens(self.job.train, run.config.data),
                None if heldout is None else tokens(heldout, run.config.heldout),
                left_out,
            )
        return self._data[length, caches]

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
                seal_files(folder / BASELINE_SEAL, ["generation.json", "outputs.json"])
                partial.unlink(missing_ok=True)
        return list(read_json(file))

    def has_baseline(self, run: PlannedRun) -> bool:
        """The baseline's responses are there: nothing has to be generated for them."""
        if self.job.evaluation.baseline != "reference":
            return True
        return (self._baseline_folder(run) / "outputs.json").exists()

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
            from adadpo.generation.vllm import generate_vllm

            responses = generate_vllm(base, trained, messages, decoding, on_progress, partial)
        else:
            from adadpo.generation.generate import generate

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

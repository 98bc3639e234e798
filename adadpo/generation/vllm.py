"""Responses by vLLM, much faster than transformers on a GPU.

Written after vLLM's documentation (0.22 and later) and tested only against a stand-in that checks the arguments: no
vLLM and no GPU were at hand. vLLM is not a dependency: it is imported when it is asked for.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from adadpo.config import Decoding
from adadpo.data.pairs import Text
from adadpo.data.tokens import encode
from adadpo.errors import ModelError
from adadpo.generation.generate import end_tokens
from adadpo.generation.responses import Progress, Response, cut_response, derived_seed, in_batches
from adadpo.models.load import prepare_model
from adadpo.models.policy import Base

# The only values that vLLM takes for max_lora_rank.
_MAX_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


def generate_vllm(
    base: Base,
    folder: Path | None,
    prompts: Sequence[Text],
    decoding: Decoding,
    on_progress: Progress = lambda done, total: None,
    partial: Path | None = None,
) -> list[Response]:
    """Responses of vLLM in the order of the prompts.

    vLLM is given token ids, never text: it would put a second BOS before what a chat template wrote. Each prompt has a
    seed of its own, made of the decoding's seed and the prompt's place, so that its random numbers do not depend on
    what it is batched with. Its probabilities still do, in the last bits: runs are equal bit for bit only with vLLM's
    own VLLM_BATCH_INVARIANT=1. The engine starts for this call alone and its GPU memory is free afterwards.

    Args:
        base: the untrained model, for its source, precision, tokenizer and end tokens. While it is on the GPU, vLLM
            gets 9/10 of the memory that is left.
        folder: a trained policy, as `save_policy` writes it: an adapter, or a whole model. None: the base itself.
        prompts: text or messages.
        decoding: temperature 0 is greedy; no top-k or penalty is ever applied, whatever the model declares.
        on_progress: called with prompts done and prompts in all.
        partial: file that keeps finished batches, see `in_batches`; None: nothing is kept. Of one model only.

    Returns:
        One response per prompt.

    Raises:
        ModelError: vLLM is not installed, or cannot run this model.
        DataError: a prompt cannot be tokenised as the model needs it, see `encode`.
        OSError: the partial file cannot be read or written.
        ValueError: the decoding is another engine's.
    """
    if decoding.engine != "vllm":
        raise ValueError(f"decoding.engine is {decoding.engine!r}: not for vLLM to answer")
    vllm = _import_vllm()
    ids = [encode(base.tokenizer, prompt, generation_prompt=True) for prompt in prompts]
    ends = end_tokens(base.model, base.tokenizer)
    longest = max(map(len, ids), default=0) + decoding.max_new_tokens

    with ExitStack() as stack:

        @cache  # not before a batch needs it: starting takes a minute
        def engine() -> tuple[Any, Any]:
            return stack.enter_context(_engine(vllm, base, folder, longest))

        def answer(number: int, places: list[int]) -> list[Response]:
            llm, adapter = engine()
            outputs = llm.generate(
                [{"prompt_token_ids": ids[i]} for i in places],
                [_sampling(vllm, decoding, ends, i) for i in places],
                use_tqdm=False,
                lora_request=adapter,
            )
            for output in outputs:
                if output.outputs[0].finish_reason not in ("stop", "length"):
                    raise RuntimeError(f"vLLM gave up on a prompt: {output.outputs[0].finish_reason}")
            return [cut_response(output.outputs[0].token_ids, ends, base.tokenizer) for output in outputs]

        made_by = [vllm.__version__, torch.__version__, str(base.model.dtype), ends]
        return in_batches(ids, decoding, answer, made_by, on_progress=on_progress, partial=partial)


def require_vllm() -> None:
    """Say early, without the seconds that importing it takes, that vLLM is missing.

    Raises:
        ModelError: it is not installed.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ModelError(
            "decoding.engine is vllm, which is not installed: pip install vllm, or choose engine: transformers"
        )


def _import_vllm() -> Any:
    require_vllm()
    # Nothing of this project reports to anybody unless its user says so.
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        return importlib.import_module("vllm")
    except (ImportError, OSError) as error:  # built for another torch or CUDA
        raise ModelError(f"vllm is installed but cannot be imported: {error}") from error


def _sampling(vllm: Any, decoding: Decoding, ends: list[int], place: int) -> Any:
    return vllm.SamplingParams(
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        top_k=-1,  # all tokens
        min_p=0.0,
        repetition_penalty=1.0,
        max_tokens=decoding.max_new_tokens,
        seed=derived_seed(decoding.seed, place),
        stop_token_ids=ends,
        detokenize=False,  # the text is the base's tokenizer's, as with transformers
    )


@contextmanager
def _engine(vllm: Any, base: Base, folder: Path | None, longest: int) -> Iterator[tuple[Any, Any]]:
    """A running engine and the adapter's request (None without one); shut down at the end.

    Args:
        vllm: the module.
        base: the untrained model.
        folder: a trained policy, or None.
        longest: tokens of the longest prompt with its response.
    """
    source, dtype = base.source, str(base.model.dtype).removeprefix("torch.")
    home = str(prepare_model(source))
    rank = None if folder is None else _adapter_rank(folder)
    if rank is not None and dtype == "float32":
        raise ModelError(
            "vLLM computes adapters in 16 bits only: train.precision bfloat16, or engine: transformers"
        )
    whole = folder is not None and rank is None
    lora = {} if rank is None else {"enable_lora": True, "max_loras": 1, "max_lora_rank": _max_rank(rank)}
    try:
        llm = vllm.LLM(
            model=str(folder) if whole else home,
            revision=None if whole else source.revision,
            tokenizer=home,  # a trained policy's folder has none
            tokenizer_revision=source.revision,
            dtype=dtype,
            load_format="safetensors",  # never a pickle
            trust_remote_code=False,
            generation_config="vllm",  # the model's own sampling settings stay out
            max_model_len=longest,  # the cache of a model's whole context may not fit
            enable_prefix_caching=False,  # what one prompt gets must not depend on those before it
            **_memory_share(),
            **lora,
        )
    except (OSError, ValueError, RuntimeError) as error:
        # In one line, but not the first alone: of pydantic's errors that one says only that there is an error.
        cause = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"vLLM could not start with {source.name}: {cause}") from error
    try:
        request = importlib.import_module("vllm.lora.request").LoRARequest if lora else None
        yield llm, None if request is None else request("policy", 1, str(folder))
    finally:
        # Deleting the object is not enough: the engine is a process of its own, which holds the memory.
        llm.llm_engine.engine_core.shutdown()


def _memory_share() -> dict[str, float]:
    """9/10 of what is free: vLLM counts in shares of the whole GPU and does not start when its share is not free."""
    if not torch.cuda.is_available():
        return {}
    gc.collect()
    torch.cuda.empty_cache()  # what training left in the cache is not free for another process
    free, total = torch.cuda.mem_get_info()
    return {"gpu_memory_utilization": math.floor(90 * free / total) / 100}


def _adapter_rank(folder: Path) -> int | None:
    """The largest rank of the adapter in a folder; None for a whole model."""
    file = folder / "adapter_config.json"
    if not file.is_file():
        if (folder / "config.json").is_file():
            return None
        raise ModelError(f"{folder} holds neither an adapter nor a whole model")
    try:
        config = json.loads(file.read_bytes())
        return max([config["r"], *(config.get("rank_pattern") or {}).values()])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} is not an adapter's configuration") from error


def _max_rank(rank: int) -> int:
    fitting = [each for each in _MAX_LORA_RANKS if each >= rank]
    if not fitting:
        raise ModelError(f"vLLM takes adapters of rank {_MAX_LORA_RANKS[-1]} at most, this one has {rank}")
    return fitting[0]

"""Models and their tokenizers: two built-in ones, local folders, and the Hugging Face hub.

Importing this module, naming a model (`resolve_model`) and asking for its identity need neither torch nor a
network; `prepare_model` fetches and converts, `load_tokenizer` and `load_model` read. Code from a model's
repository is never run (`trust_remote_code=False`); weights are read from safetensors, never from pickles.

Built-in models are converted once into `cache_folder()/models/<alias>-v<version>`, under a lock and by
renaming a complete folder: two processes started at once do the work once, a killed one leaves nothing
half-written.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

from adadpo.errors import ModelError
from adadpo.files import cache_folder
from adadpo.models.built_in import EMBEDDED, TINY, build_embedded, build_tiny, sha256

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

__all__ = [
    "BUILT_IN",
    "ModelError",
    "ModelSource",
    "cache_folder",
    "fetch_model",
    "load_model",
    "load_tokenizer",
    "prepare_model",
    "resolve_model",
]

Kind = Literal["embedded", "tiny", "folder", "hub"]

BUILT_IN: dict[str, tuple[Kind, int]] = {EMBEDDED: ("embedded", 1), TINY: ("tiny", 1)}
"""Alias -> kind and version of its content: raise it when a conversion would give other weights or tokens."""

_HUB_ID = re.compile(r"(?P<id>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?")
# What decides how a model reads and writes; optimizer states, logs and model cards in the same folder do not.
_IDENTITY_PATTERNS = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
)


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from and what it is.

    Attributes:
        name: alias, hub id without revision, or the folder as the user gave it.
        kind: how it is obtained.
        revision: branch, tag or commit on the hub; None elsewhere.
        identity: what a result depends on, without any path: the same content, the same identity everywhere.
        location: absolute folder of a local model; None elsewhere.
    """

    name: str
    kind: Kind
    revision: str | None
    identity: str
    location: Path | None = None


def resolve_model(name: str) -> ModelSource:
    """Say what `name` means, without torch and without a network.

    Args:
        name: an alias of `BUILT_IN`, an existing folder, or a hub id, `org/name` or `org/name@revision`.

    Returns:
        The source. For a folder its config, tokenizer and weights are read once, to hash them.

    Raises:
        ModelError: none of the three, or a folder that holds no model.
    """
    if name in BUILT_IN:
        kind, version = BUILT_IN[name]
        return ModelSource(name, kind, None, f"{name}-v{version}")
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return ModelSource(name, "folder", None, _folder_identity(folder), folder.absolute())
    alias = name.partition("@")[0]
    if alias in BUILT_IN:
        raise ModelError(f"model {name!r}: the built-in {alias} has no revisions; write {alias!r}")
    if match := _HUB_ID.fullmatch(name):
        revision = match["revision"] or "main"
        return ModelSource(match["id"], "hub", revision, f"hub:{match['id']}@{revision}")
    close = difflib.get_close_matches(name, BUILT_IN, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ModelError(
        f"unknown model {name!r}: neither a built-in ({', '.join(BUILT_IN)}), nor an existing folder, "
        f"nor a hub id such as 'org/name' or 'org/name@revision'{hint}"
    )


def prepare_model(source: ModelSource) -> Path | str:
    """Make the model ready to load: convert a built-in one into the cache if it is not there yet.

    Returns:
        The folder to load from, or the hub id (transformers fetches and caches that itself).

    Raises:
        ModelError: the model cannot be fetched, or what was fetched is not what was expected.
    """
    if source.kind == "hub":
        return source.name
    if source.kind == "folder":
        if source.location is None or not source.location.is_dir():
            raise ModelError(f"model folder {source.name!r} does not exist any more")
        return source.location
    build = build_embedded if source.kind == "embedded" else build_tiny
    return _once(cache_folder() / "models" / source.identity, build)


def fetch_model(source: ModelSource) -> None:
    """Have all of the model on this machine's disks; of one on the hub its files, in the hub's cache (HF_HOME).

    Raises:
        ModelError: see `prepare_model`.
    """
    if source.kind != "hub":
        prepare_model(source)
        return
    from huggingface_hub import snapshot_download

    patterns = [*_IDENTITY_PATTERNS, "*.json", "*.jinja"]
    with _plain_errors(source):
        snapshot_download(source.name, revision=source.revision, allow_patterns=patterns)


def load_tokenizer(
    source: ModelSource, *, padding_side: Literal["left", "right"] = "right"
) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a model.

    Args:
        source: from `resolve_model`.
        padding_side: "right" for training and scoring; generation needs "left", so that every answer starts
            at the end of its row.

    Returns:
        A tokenizer that has a pad token (the end-of-text token where the model declares none).

    Raises:
        ModelError: it cannot be fetched or read, or has no token that ends a text.
    """
    from transformers import AutoTokenizer

    with _plain_errors(source):
        tokenizer = AutoTokenizer.from_pretrained(prepare_model(source), **_from(source))
    if tokenizer.eos_token is None:
        raise ModelError(f"the tokenizer of {source.name!r} declares no eos token: answers could never end")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = padding_side
    return tokenizer


def load_model(source: ModelSource, dtype: torch.dtype | str = "float32") -> PreTrainedModel:
    """Load a causal language model on the CPU, in evaluation mode, with PyTorch's own fused attention (SDPA).

    Args:
        source: from `resolve_model`.
        dtype: of the weights, e.g. `torch.bfloat16` or "bfloat16".

    Raises:
        ModelError: it cannot be fetched or read.
    """
    from transformers import AutoModelForCausalLM

    with _plain_errors(source):
        model = AutoModelForCausalLM.from_pretrained(
            prepare_model(source),
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            **_from(source),
        )
    if model.generation_config.pad_token_id is None:
        eos = model.generation_config.eos_token_id
        model.generation_config.pad_token_id = eos[0] if isinstance(eos, list) else eos
    return model.eval()


def _from(source: ModelSource) -> dict[str, Any]:
    """Keywords of every `from_pretrained`: folders never ask the network, nothing runs foreign code."""
    where: dict[str, Any] = {"trust_remote_code": False}
    if source.kind == "hub":
        return where | {"revision": source.revision}
    return where | {"local_files_only": True}


@contextmanager
def _plain_errors(source: ModelSource) -> Iterator[None]:
    """Turn what the libraries raise for a missing or broken model into one `ModelError` in plain words."""
    import safetensors

    try:
        yield
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        if source.kind == "hub":
            where = f"model {source.name!r} at revision {source.revision!r} could not be loaded from the hub"
            hint = (
                "is the name right, the network up, the licence accepted (HF_TOKEN)? "
                "On an offline node fetch it before, or name a local folder"
            )
        else:
            where = f"model {source.name!r} could not be loaded"
            hint = "is its folder complete?"
        raise ModelError(f"{where}: {first_line} ({hint})") from error


def _folder_identity(folder: Path) -> str:
    """Sha256 over names and contents of the files that make a model what it is."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"model folder {str(folder)!r} has no config.json: not a saved transformers model")
    files = sorted(
        {f for p in _IDENTITY_PATTERNS for f in folder.glob(p) if f.is_file()}, key=lambda f: f.name
    )
    if not any(f.suffix == ".safetensors" for f in files):
        raise ModelError(
            f"model folder {str(folder)!r} has no *.safetensors weights (pickled ones are not read)"
        )
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.name}\0{sha256(file)}\n".encode())
    return f"folder:sha256:{whole.hexdigest()}"


def _once(target: Path, build: Callable[[Path], None]) -> Path:
    """Fill `target` by `build` unless it exists; safe under several processes, never half-written."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / f".{target.name}.lock"):
        if target.is_dir():  # another process built it while this one waited
            return target
        # On the same file system as the target: os.replace is atomic only there.
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            build(temporary)
            for file in temporary.iterdir():
                file.chmod(0o644)  # safetensors gives 0o600; a shared cache is read by colleagues
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
            temporary.chmod(0o755)
            os.replace(temporary, target)  # noqa: PTH105 - named in the design: the rename is the commit
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target

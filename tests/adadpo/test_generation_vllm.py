"""vLLM is not installed where this is tested: a stand-in checks what it is asked and answers like RequestOutput.

Names and types of the arguments are those of vLLM's LLM, EngineArgs, SamplingParams and LoRARequest (0.22 and later).
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from pydantic import ValidationError

from adadpo.config import Decoding, Lora, TrainSettings
from adadpo.data.tokens import encode
from adadpo.errors import ModelError
from adadpo.generation.responses import derived_seed
from adadpo.generation.vllm import generate_vllm, require_vllm
from adadpo.models.load import ModelSource, prepare_model, resolve_model
from adadpo.models.policy import Base, fresh_policy, load_base, save_policy
from tests.adadpo.test_generation import PROMPTS

SAMPLED = Decoding(engine="vllm", temperature=0.9, top_p=0.8, max_new_tokens=6, seed=5, batch_size=2)
END = 2  # <|im_end|> of the tiny model


@dataclass
class SamplingParams:
    """Those of vLLM's fields that matter here, with its defaults and checks."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop_token_ids: list[int] = field(default_factory=list)
    max_tokens: int | None = 16
    min_tokens: int = 0
    ignore_eos: bool = False
    detokenize: bool = True
    skip_special_tokens: bool = True

    def __post_init__(self) -> None:
        assert self.temperature == 0 or 0.01 <= self.temperature <= 2
        assert 0 < self.top_p <= 1
        assert self.top_k >= -1
        assert all(type(token) is int for token in self.stop_token_ids)


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str

    def __post_init__(self) -> None:
        assert self.lora_int_id > 0
        assert (Path(self.lora_path) / "adapter_model.safetensors").is_file()


class LLM:
    """Answers are drawn from a hash of all that they may depend on."""

    made: ClassVar[list[LLM]] = []
    fail_at: ClassVar[int | None] = None
    reason: ClassVar[str | None] = None

    def __init__(
        self, model: str, *, tokenizer: str, tokenizer_revision: str | None, revision: str | None, dtype: str,
        trust_remote_code: bool = False, load_format: str = "auto", generation_config: str = "auto",
        max_model_len: int, enable_prefix_caching: bool = True, gpu_memory_utilization: float = 0.92,
        enable_lora: bool = False, max_loras: int = 1, max_lora_rank: int = 16,
    ) -> None:  # fmt: skip
        self.settings = {name: value for name, value in locals().items() if name != "self"}
        assert max_lora_rank in (1, 8, 16, 32, 64, 128, 256, 320, 512)
        assert 0 < gpu_memory_utilization <= 1
        self.open, self.calls = True, list[list[Any]]()
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=self._shutdown))
        LLM.made.append(self)

    def _shutdown(self) -> None:
        assert self.open
        self.open = False

    def generate(
        self, prompts: list[dict[str, list[int]]], sampling_params: list[SamplingParams], *, use_tqdm: bool,
        lora_request: LoRARequest | None,
    ) -> list[Any]:  # fmt: skip
        assert self.open
        if len(self.calls) == LLM.fail_at:
            raise RuntimeError("CUDA error")
        assert not use_tqdm
        assert (lora_request is not None) == self.settings["enable_lora"]
        self.calls.append([prompts, sampling_params, lora_request])
        return [self._answer(*each) for each in zip(prompts, sampling_params, strict=True)]

    def _answer(self, prompt: dict[str, list[int]], params: SamplingParams) -> Any:
        assert prompt.keys() == {"prompt_token_ids"}
        ids = prompt["prompt_token_ids"]
        assert len(ids) + (params.max_tokens or 0) <= self.settings["max_model_len"]
        draws = hashlib.sha256(json.dumps([ids, params.seed]).encode()).digest()
        tokens = [
            END if draw % 5 == 0 else 100 + draw for draw in draws[: params.max_tokens]
        ]  # 1 in 5 ends it
        end = next((place for place, token in enumerate(tokens) if token in params.stop_token_ids), None)
        tokens = tokens if end is None else tokens[: end + 1]
        reason = LLM.reason or ("length" if end is None else "stop")
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=tokens, finish_reason=reason, text="")])


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[LLM]]:
    module, lora = ModuleType("vllm"), ModuleType("vllm.lora.request")
    module.__dict__.update(LLM=LLM, SamplingParams=SamplingParams, __version__="0.22.0")
    lora.__dict__.update(LoRARequest=LoRARequest)
    for each in (module, lora):
        each.__spec__ = importlib.machinery.ModuleSpec(each.__name__, None)
        monkeypatch.setitem(sys.modules, each.__name__, each)
    monkeypatch.setenv("VLLM_NO_USAGE_STATS", "1")
    for name, value in (("made", []), ("fail_at", None), ("reason", None)):
        monkeypatch.setattr(LLM, name, value)
    yield LLM
    assert not any(llm.open for llm in LLM.made)  # whatever happened, nothing holds the GPU


@pytest.fixture(autouse=True)
def cache(cache_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADADPO_CACHE", str(cache_root))


@pytest.fixture
def half(base: Base) -> Base:
    """The base in bfloat16, as adapters need it."""
    return load_base(base.source, TrainSettings(precision="bfloat16"))


@pytest.fixture
def adapter(half: Base, tmp_path: Path) -> Callable[[int], Path]:
    def save(rank: int) -> Path:
        folder = tmp_path / f"adapter{rank}"
        save_policy(fresh_policy(half, TrainSettings(lora=Lora(r=rank)), seed=1), folder)
        return folder

    return save


class TestWhatIsAsked:
    def test_the_base(self, vllm: type[LLM], base: Base) -> None:
        """Against every argument of the engine: nothing is run or sampled by the model's own settings."""
        generate_vllm(base, None, PROMPTS, SAMPLED)
        (llm,) = vllm.made
        home = str(prepare_model(base.source))
        longest = max(len(encode(base.tokenizer, prompt, generation_prompt=True)) for prompt in PROMPTS)
        assert llm.settings == {
            "model": home, "revision": None, "tokenizer": home, "tokenizer_revision": None, "dtype": "float32",
            "trust_remote_code": False, "load_format": "safetensors", "generation_config": "vllm",
            "max_model_len": longest + 6, "enable_prefix_caching": False, "gpu_memory_utilization": 0.92,
            "enable_lora": False, "max_loras": 1, "max_lora_rank": 16,
        }  # fmt: skip

    def test_prompts_and_sampling(self, vllm: type[LLM], base: Base) -> None:
        """Against encode's ids, batched by length, and settings by hand: text would get a second BOS."""
        generate_vllm(base, None, PROMPTS, SAMPLED)
        ids = [encode(base.tokenizer, prompt, generation_prompt=True) for prompt in PROMPTS]
        order = sorted(range(5), key=lambda place: -len(ids[place]))
        asked = [
            (prompt["prompt_token_ids"], params)
            for prompts, sampling, _ in vllm.made[0].calls
            for prompt, params in zip(prompts, sampling, strict=True)
        ]
        assert [len(prompts) for prompts, _, _ in vllm.made[0].calls] == [2, 2, 1]
        assert asked == [
            (
                ids[place],
                SamplingParams(
                    temperature=0.9, top_p=0.8, top_k=-1, max_tokens=6, seed=derived_seed(5, place),
                    stop_token_ids=[END], detokenize=False,
                ),
            )
            for place in order
        ]  # fmt: skip
        assert len({params.seed for _, params in asked}) == 5

    def test_every_end_token(self, vllm: type[LLM], fresh_model: Any, base: Base) -> None:
        """Against Llama 3's two: the tokenizer's and that of the model's generation settings."""
        model = fresh_model()
        model.generation_config.eos_token_id = [7, END]
        generate_vllm(Base(base.source, model, base.tokenizer), None, PROMPTS[:1], SAMPLED)
        assert vllm.made[0].calls[0][1][0].stop_token_ids == [END, 7]

    @pytest.mark.parametrize(("rank", "most"), [(2, 8), (16, 16), (17, 32), (300, 320)])
    def test_an_adapter(
        self, vllm: type[LLM], half: Base, adapter: Callable[[int], Path], rank: int, most: int
    ) -> None:
        """Against the base with a request of the adapter's folder, in the smallest size that vLLM takes."""
        folder = adapter(rank)
        generate_vllm(half, folder, PROMPTS, SAMPLED)
        settings = vllm.made[0].settings
        assert (settings["model"], settings["dtype"]) == (str(prepare_model(half.source)), "bfloat16")
        assert (settings["enable_lora"], settings["max_loras"], settings["max_lora_rank"]) == (True, 1, most)
        assert vllm.made[0].calls[0][2] == LoRARequest("policy", 1, str(folder))

    def test_a_whole_model(self, vllm: type[LLM], base: Base, tmp_path: Path) -> None:
        """Against the policy's folder, which has no tokenizer: the base's is used."""
        settings = TrainSettings(precision="float32")
        save_policy(fresh_policy(base, settings, seed=1), tmp_path / "model")
        generate_vllm(base, tmp_path / "model", PROMPTS, SAMPLED)
        found = vllm.made[0].settings
        assert found["model"] == str(tmp_path / "model")
        assert found["tokenizer"] == str(prepare_model(base.source))
        assert not found["enable_lora"]

    @pytest.mark.parametrize("whole", [False, True])
    def test_the_hub(self, vllm: type[LLM], base: Base, tmp_path: Path, whole: bool) -> None:
        """Against the revision: of the base, not of a trained policy on the disk; always of the tokenizer."""
        source = resolve_model("org/name@abc")
        assert isinstance(source, ModelSource)
        if whole:
            (tmp_path / "config.json").write_text("{}")
        generate_vllm(
            Base(source, base.model, base.tokenizer), tmp_path if whole else None, PROMPTS[:1], SAMPLED
        )
        found = vllm.made[0].settings
        assert (found["tokenizer"], found["tokenizer_revision"]) == ("org/name", "abc")
        expected = (str(tmp_path), None) if whole else ("org/name", "abc")
        assert (found["model"], found["revision"]) == expected

    def test_a_share_of_what_is_free(
        self, vllm: type[LLM], base: Base, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Against 9/10 of 60 of 80 GB, rounded down: more than is free would be refused."""
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (60 * 10**9, 80 * 10**9))
        generate_vllm(base, None, PROMPTS[:1], SAMPLED)
        assert vllm.made[0].settings["gpu_memory_utilization"] == 0.67


class TestResponses:
    def test_order_ends_and_text(self, vllm: type[LLM], base: Base) -> None:
        """Against the stand-in's answer to each prompt, and the tokenizer's text of it without the end token."""
        found = generate_vllm(base, None, PROMPTS, SAMPLED)
        llm = vllm.made[0]
        for place, (prompt, response) in enumerate(zip(PROMPTS, found, strict=True)):
            params = SamplingParams(seed=derived_seed(5, place), stop_token_ids=[END], max_tokens=6)
            ids = {"prompt_token_ids": encode(base.tokenizer, prompt, generation_prompt=True)}
            assert response.token_ids == llm._answer(ids, params).outputs[0].token_ids
            assert response.finished == (response.token_ids[-1] == END)
            text = base.tokenizer.decode([token for token in response.token_ids if token != END])
            assert response.text == text.strip()
        assert {response.finished for response in found} == {True, False}

    def test_batches_do_not_matter(self, vllm: type[LLM], base: Base) -> None:
        """Against one batch, two, and one prompt at a time; another seed gives others."""
        found = [
            generate_vllm(base, None, PROMPTS, SAMPLED.model_copy(update={"batch_size": size}))
            for size in (1, 2, 5, 32)
        ]
        assert all(each == found[0] for each in found)
        assert generate_vllm(base, None, PROMPTS, SAMPLED.model_copy(update={"seed": 6})) != found[0]
        same = generate_vllm(base, None, ["a"] * 4, SAMPLED)
        assert len({tuple(response.token_ids) for response in same}) > 1

    def test_resumed(self, vllm: type[LLM], base: Base, tmp_path: Path, monkeypatch: Any) -> None:
        """Against an uninterrupted call; with nothing left to do no engine starts."""
        expected = generate_vllm(base, None, PROMPTS, SAMPLED)
        monkeypatch.setattr(LLM, "fail_at", 2)
        seen: list[tuple[int, int]] = []
        with pytest.raises(RuntimeError, match="CUDA error"):
            generate_vllm(base, None, PROMPTS, SAMPLED, lambda *p: seen.append(p), tmp_path / "partial")
        assert seen == [(2, 5), (4, 5)]
        monkeypatch.setattr(LLM, "fail_at", None)
        for calls in (1, 0):
            vllm.made.clear()
            found = generate_vllm(base, None, PROMPTS, SAMPLED, partial=tmp_path / "partial")
            assert found == expected
            assert [len(llm.calls) for llm in vllm.made] == [calls][:calls]

    def test_nothing_to_do(self, vllm: type[LLM], base: Base) -> None:
        """Against an empty list: no engine."""
        assert generate_vllm(base, None, [], SAMPLED) == []
        assert vllm.made == []

    def test_a_prompt_that_was_given_up(self, vllm: type[LLM], base: Base, monkeypatch: Any) -> None:
        """Against a response that looks as if it had been cut at max_new_tokens."""
        monkeypatch.setattr(LLM, "reason", "abort")
        with pytest.raises(RuntimeError, match="vLLM gave up on a prompt: abort"):
            generate_vllm(base, None, PROMPTS, SAMPLED)


class TestErrors:
    def test_not_installed(self, base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
        """Against the package's name and both ways out."""
        monkeypatch.setitem(sys.modules, "vllm", None)
        match = "pip install vllm, or choose engine: transformers"
        with pytest.raises(ModelError, match=match):
            require_vllm()
        with pytest.raises(ModelError, match=match):
            generate_vllm(base, None, PROMPTS, SAMPLED)

    def test_installed_but_broken(self, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Against a package built for another CUDA: its own words, not a traceback."""
        (tmp_path / "vllm").mkdir()
        (tmp_path / "vllm" / "__init__.py").write_text("raise ImportError('libcudart.so.13: no such file')")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("VLLM_NO_USAGE_STATS", "1")
        require_vllm()
        with pytest.raises(ModelError, match=r"installed but cannot be imported: libcudart\.so\.13"):
            generate_vllm(base, None, PROMPTS, SAMPLED)

    def test_the_engine_does_not_start(self, vllm: type[LLM], base: Base, monkeypatch: Any) -> None:
        """Against an error of pydantic's, whose first line says nothing."""

        def refuse(self: LLM, **settings: Any) -> None:
            raise ValueError("1 validation error for ModelConfig\n  max_model_len (9000) is too long")

        monkeypatch.setattr(LLM, "__init__", refuse)
        with pytest.raises(ModelError, match=r"vLLM could not start with tiny.*: 1 vali.* \(9000\) is too"):
            generate_vllm(base, None, PROMPTS, SAMPLED)

    def test_an_adapter_in_float32(self, vllm: type[LLM], base: Base, adapter: Callable[[int], Path]) -> None:
        """Against vLLM's kernels, which assert 16 bits in the middle of a generation."""
        with pytest.raises(ModelError, match=r"16 bits only: train\.precision bfloat16, or engine"):
            generate_vllm(base, adapter(2), PROMPTS, SAMPLED)

    def test_a_rank_too_large(self, vllm: type[LLM], half: Base, tmp_path: Path) -> None:
        """Against vLLM's largest, also where one module alone has more."""
        config = {"r": 8, "rank_pattern": {"q_proj": 600}}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match="rank 512 at most, this one has 600"):
            generate_vllm(half, tmp_path, PROMPTS, SAMPLED)

    @pytest.mark.parametrize(
        ("content", "match"),
        [(None, "holds neither an adapter nor a whole model"), ("{", "not an adapter's configuration"),
         ("[]", "not an adapter's configuration"), ("{}", "not an adapter's configuration")],
    )  # fmt: skip
    def test_a_folder_without_a_policy(
        self, vllm: type[LLM], half: Base, tmp_path: Path, content: str | None, match: str
    ) -> None:
        """Against the folder's name and what is wrong with it."""
        if content is not None:
            (tmp_path / "adapter_config.json").write_text(content)
        with pytest.raises(ModelError, match=match):
            generate_vllm(half, tmp_path, PROMPTS, SAMPLED)

    def test_another_engine_s_decoding(self, vllm: type[LLM], base: Base) -> None:
        """Against responses that would carry the other engine's name."""
        with pytest.raises(ValueError, match="engine is 'transformers'"):
            generate_vllm(base, None, PROMPTS, Decoding())


class TestDecoding:
    def test_the_identity_of_what_was_there(self) -> None:
        """Against the fields before there was a choice: the default leaves no trace, vllm does, both come back."""
        before = {"temperature": 0.7, "top_p": 1.0, "max_new_tokens": 256, "seed": 0, "batch_size": 32}
        assert Decoding().model_dump(mode="json") == Decoding(engine="transformers").model_dump() == before
        assert json.loads(Decoding().model_dump_json()) == before
        chosen = Decoding(engine="vllm")
        assert chosen.model_dump(mode="json") == {**before, "engine": "vllm"}
        for each in (chosen, Decoding()):
            assert Decoding(**each.model_dump()) == each

    @pytest.mark.parametrize("temperature", [1e-3, 0.0099, 2.01])
    def test_temperatures_that_vllm_changes(self, temperature: float) -> None:
        """Against SamplingParams.__post_init__: it takes 0.01 for less, and refuses more than 2."""
        assert Decoding(temperature=temperature).temperature == temperature
        with pytest.raises(ValidationError, match=r"engine vllm takes 0 or from 0\.01 to 2"):
            Decoding(temperature=temperature, engine="vllm")

    @pytest.mark.parametrize("temperature", [0, 0.01, 2])
    def test_temperatures_that_it_takes(self, temperature: float) -> None:
        """Against the bounds themselves."""
        assert Decoding(temperature=temperature, engine="vllm").temperature == temperature

    def test_an_unknown_engine(self) -> None:
        """Against the two that there are."""
        with pytest.raises(ValidationError, match="'transformers' or 'vllm'"):
            Decoding(engine="sglang")

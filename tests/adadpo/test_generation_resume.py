"""A generation that was ended at any point and is called again is checked against one that was not."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adadpo.config import Decoding
from adadpo.generation.generate import generate
from adadpo.generation.responses import Response, in_batches
from adadpo.models.policy import Base
from tests.adadpo.test_generation import PROMPTS, SAMPLED, loud

PAIRS = SAMPLED.model_copy(update={"batch_size": 2})  # five prompts: three batches


class Ended(Exception):
    """What ends a generation in these tests."""


class Model:
    """The tiny model; counts its batches and fails at one of them."""

    def __init__(self, model: Any, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self._model, self.calls, self._fail_at, self._error = model, 0, fail_at, error or Ended()

    def __getattr__(self, name: str) -> Any:
        if name == self._model.base_model_prefix:  # asked for once a batch
            if self.calls == self._fail_at:
                raise self._error
            self.calls += 1
        return getattr(self._model, name)


@pytest.fixture
def lively(fresh_model: Callable[[], Any]) -> Any:
    return loud(fresh_model())


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("error", [Ended(), KeyboardInterrupt()], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_an_exception_in_a_batch(
    lively: Any, base: Base, tmp_path: Path, batch: int, error: BaseException
) -> None:
    """Against an uninterrupted call: responses, progress and the file; finished batches are not generated again."""
    whole: list[tuple[int, int]] = []
    expected = generate(
        lively, base.tokenizer, PROMPTS, PAIRS, lambda *p: whole.append(p), tmp_path / "whole"
    )
    assert expected == generate(lively, base.tokenizer, PROMPTS, PAIRS)
    with pytest.raises(type(error)):
        generate(
            Model(lively, batch, error), base.tokenizer, PROMPTS, PAIRS, partial=tmp_path / "new" / "partial"
        )
    again, seen = Model(lively), list[tuple[int, int]]()
    found = generate(
        again, base.tokenizer, PROMPTS, PAIRS, lambda *p: seen.append(p), tmp_path / "new" / "partial"
    )
    assert found == expected
    assert again.calls == 3 - batch
    assert seen == whole == [(2, 5), (4, 5), (5, 5)]
    assert (tmp_path / "new" / "partial").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("batch", [0, 1, 2])
def test_an_exception_after_a_batch(lively: Any, base: Base, tmp_path: Path, batch: int) -> None:
    """Against the batch that was just finished: it is in the file before anybody hears of it."""

    def on_progress(done: int, total: int) -> None:
        if done == (2, 4, 5)[batch]:
            raise Ended

    with pytest.raises(Ended):
        generate(lively, base.tokenizer, PROMPTS, PAIRS, on_progress, tmp_path / "partial")
    assert [line["batch"] for line in lines(tmp_path / "partial")] == [*range(batch + 1)]
    again = Model(lively)
    found = generate(again, base.tokenizer, PROMPTS, PAIRS, partial=tmp_path / "partial")
    assert found == generate(lively, base.tokenizer, PROMPTS, PAIRS)
    assert again.calls == 2 - batch


KILLED = """
import sys, time
from pathlib import Path
from tests.adadpo.test_generation import PROMPTS, loud
from tests.adadpo.test_generation_resume import PAIRS
from adadpo.config import TrainSettings
from adadpo.generation.generate import generate
from adadpo.models.load import resolve_model
from adadpo.models.policy import load_base

base = load_base(resolve_model("tiny-random-llama"), TrainSettings(precision="float32"))

def on_progress(done, total):
    if done == 4:
        print("two batches", flush=True)
        time.sleep(600)

generate(loud(base.model), base.tokenizer, PROMPTS, PAIRS, on_progress, Path(sys.argv[1]))
"""


def test_a_killed_process(lively: Any, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against an uninterrupted call: SIGKILL after two of three batches, and half of the third one's line."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    file = tmp_path / "partial"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(file)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"two batches\n"
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert [line["batch"] for line in lines(file)] == [0, 1]
    with file.open("ab") as stream:
        stream.write(b'{"batch": 2, "check": "12')
    again = Model(lively)
    assert generate(again, base.tokenizer, PROMPTS, PAIRS, partial=file) == generate(
        lively, base.tokenizer, PROMPTS, PAIRS
    )
    assert again.calls == 1


def echo(ids: list[list[int]], asked: list[int]) -> Callable[[int, list[int]], list[Response]]:
    """Answers at once with the prompt itself; notes the batches."""

    def answer(number: int, places: list[int]) -> list[Response]:
        asked.append(number)
        return [Response(f"é\n{ids[place]}", ids[place], len(ids[place]) % 2 == 0) for place in places]

    return answer


IDS = [[1], [2, 2], [3, 3, 3], [4]]


def run(
    file: Path, ids: list[list[int]] = IDS, decoding: Decoding = PAIRS, made_by: tuple[str, ...] = ("v1",)
) -> tuple[list[Response], list[int]]:
    """Responses, and the batches that were asked for."""
    asked: list[int] = []
    found = in_batches(
        ids, decoding, echo(ids, asked), made_by, on_progress=lambda done, total: None, partial=file
    )
    assert found == echo(ids, [])(0, [*range(len(ids))])
    return found, asked


def test_torn_at_every_byte(tmp_path: Path) -> None:
    """Against the file's whole lines: only they are taken, and the next call finds everything."""
    file = tmp_path / "partial"
    assert run(file)[1] == [0, 1]
    content = file.read_bytes()
    first, second = (len(line) for line in content.splitlines())
    for size in range(len(content) + 1):
        file.write_bytes(content[:size])
        # A line that lacks nothing but its end is whole.
        left = [number for number, whole in enumerate((first, first + 1 + second)) if size < whole]
        assert run(file)[1] == left
        assert run(file)[1] == []


@pytest.mark.parametrize(
    "foreign",
    [b"\xff\xfe\x00", b"[" * 100_000, b"1" * 10_000, b'["batch"]', b'{"batch": "0"}', b'{"batch": 0}',
     b'{"batch": 0, "check": null, "responses": null}', b"\n\n", b"NaN",
     b'{"batch": 0, "check": "", "responses": [{}]}'],
)  # fmt: skip
def test_foreign_lines(tmp_path: Path, foreign: bytes) -> None:
    """Against the lines around them."""
    file = tmp_path / "partial"
    file.write_bytes(foreign)
    assert run(file)[1] == [0, 1]
    assert run(file)[1] == []
    file.write_bytes(foreign + b"\n" + file.read_bytes().splitlines()[-1])
    assert run(file)[1] == [0]


@pytest.mark.parametrize(
    ("old", "new"), [('"token_ids": [3', '"token_ids": [5'), ("true", "false"), ("[3, 3", "[3, 8")]
)
def test_a_changed_line(tmp_path: Path, old: str, new: str) -> None:
    """Against one changed token, text or mark: the check is over the responses too."""
    file = tmp_path / "partial"
    run(file)
    text = file.read_text()
    assert old in text.splitlines()[0]
    file.write_text(text.replace(old, new, 1))
    assert run(file)[1] == [0]


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({"decoding": PAIRS.model_copy(update={"seed": 6})}, [0, 1]),
        ({"decoding": PAIRS.model_copy(update={"temperature": 0.9})}, [0, 1]),
        ({"decoding": PAIRS.model_copy(update={"max_new_tokens": 11})}, [0, 1]),
        ({"decoding": PAIRS.model_copy(update={"batch_size": 3})}, [0, 1]),
        ({"decoding": PAIRS.model_copy(update={"engine": "vllm"})}, [0, 1]),
        ({"made_by": ("v2",)}, [0, 1]),
        ({"ids": [[1], [2, 2], [3, 3, 9], [4]]}, [0]),
        ({"ids": [[1], [2, 2], [3, 3, 3], [4], [5]]}, [2]),
        ({"ids": [[4], [2, 2], [3, 3, 3], [1]]}, [1]),
    ],
)
def test_other_settings(tmp_path: Path, change: dict[str, Any], asked: list[int]) -> None:
    """Against the batches that they concern; what was there before stays and counts again."""
    file = tmp_path / "partial"
    run(file)
    assert run(file, **change)[1] == asked
    assert run(file)[1] == []
    assert run(file, **change)[1] == []


def test_a_policy_in_another_precision(fresh_model: Any, base: Base, tmp_path: Path) -> None:
    """Against responses of float32 that would pass for bfloat16's."""
    generate(fresh_model(), base.tokenizer, PROMPTS, PAIRS, partial=tmp_path / "partial")
    again = Model(fresh_model(torch.bfloat16))
    generate(again, base.tokenizer, PROMPTS, PAIRS, partial=tmp_path / "partial")
    assert again.calls == 3


def test_a_batch_is_on_the_disk_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the order of events: each batch is followed by its own flush, of a file that holds it."""
    events: list[Any] = []
    file = tmp_path / "partial"
    monkeypatch.setattr(os, "fsync", lambda number: events.append(file.read_bytes().count(b"\n")))
    in_batches(IDS, PAIRS, echo(IDS, events), [], on_progress=lambda *p: events.append(p), partial=file)
    assert events == [0, 1, (2, 4), 1, 2, (4, 4)]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against silence: the error is the caller's to report, and the next call takes what was written."""

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path / "partial")
    assert run(tmp_path / "partial")[1] == [1]

"""Files are there whole or not at all; a run's state follows from its files alone."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adadpo.errors import FailureError, UserError
from adadpo.files import atomic_write
from sweeps.store.layout import (
    FILES,
    STAGES,
    RunFolder,
    Store,
    open_store,
    parse_json,
    read_json,
    write_json,
)
from tests.sweeps.sweep_examples import tiny_disk

EVAL = "0123456789abcdef"


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    """Content, permissions (readable by colleagues), and nothing beside it."""
    file = tmp_path / "new" / "folder" / "file.json"
    write_json(file, {"a": [1, None, "é"]})
    assert json.loads(file.read_text()) == {"a": [1, None, "é"]}
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [path.name for path in file.parent.iterdir()] == ["file.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_the_old_file_stays_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Ended just before the rename: the old content, no temporary file; a full disk is told by name."""
    file = tmp_path / "file.json"
    atomic_write(file, "old")

    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(os, "replace", fail)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else FailureError
    with pytest.raises(expected) as caught:
        atomic_write(file, "new")
    monkeypatch.undo()
    if expected is FailureError:
        assert str(caught.value) == f"cannot write {file}: No space left on device"
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


def test_killed_before_the_rename(tmp_path: Path) -> None:
    """kill -9 in a real process between the write and the rename leaves the old file."""
    file = tmp_path / "file.json"
    atomic_write(file, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from adadpo.files import atomic_write\n"
        "os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "atomic_write(Path(sys.argv[1]), 'new' * 100000)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(file)], check=False).returncode == -9
    assert file.read_text() == "old"


def test_a_full_disk(tmp_path: Path) -> None:
    """A real file system of 64 KB: the message names the file, the old content stays."""
    with tiny_disk(tmp_path / "disk", "64k") as disk:
        atomic_write(disk / "file", "old")
        with pytest.raises(FailureError, match=r"cannot write .*file: No space left on device"):
            atomic_write(disk / "file", "x" * 200_000)
        assert (disk / "file").read_text() == "old"
        assert [path.name for path in disk.iterdir()] == ["file"]


def test_json_never_holds_nan(tmp_path: Path) -> None:
    """NaN is no JSON: refused before anything is written."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_half_a_surrogate_is_written_as_a_mark(tmp_path: Path) -> None:
    """A model may produce half of a surrogate pair, which UTF-8 cannot hold."""
    atomic_write(tmp_path / "file", "a\ud800b")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "a?b"


def test_pieces_are_one_file(tmp_path: Path) -> None:
    """Pieces against the whole; one that cannot be made leaves the old file and nothing beside it."""
    file = tmp_path / "file"
    atomic_write(file, iter(["é", "\ud800", "b"]))
    assert file.read_text(encoding="utf-8") == "é?b"

    def pieces() -> Iterator[str]:
        yield "new"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        atomic_write(file, pieces())
    assert file.read_text(encoding="utf-8") == "é?b"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("content", ["", '{"a": 1', "\x00\x00", "[" * 100_000, "[]", "null"])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    """The message says which file and what to do; also of JSON too deep to read, or of another kind."""
    file = tmp_path / "scores.json"
    file.write_text(content)
    with pytest.raises(FailureError, match=r"scores\.json is damaged .* delete it"):
        read_json(file, dict)


def write_stage(folder: RunFolder, stage: str) -> None:
    for name in FILES[stage]:
        atomic_write(folder.last_file(stage, EVAL).with_name(name), "{}")


@pytest.mark.parametrize(
    ("stages", "failure", "expected"),
    [
        ((), None, "waiting"),
        (("train",), None, "waiting"),
        (("train", "generate", "judge"), None, "waiting"),
        (STAGES, None, "done"),
        (("train", "generate", "score"), None, "waiting"),  # annotations.json was deleted: judged again
        ((), "diverged", "diverged"),
        ((), "bug", "failed"),
        (("train",), "out of memory", "failed"),
        (STAGES, "bug", "done"),  # the failure of another evaluation
    ],
)
def test_state_follows_from_the_files(
    tmp_path: Path, stages: tuple[str, ...], failure: str | None, expected: str
) -> None:
    """Every state without a lease; with one, a run that is not done is running."""
    folder = RunFolder(tmp_path / "run")
    for stage in stages:
        write_stage(folder, stage)
    if failure:
        write_json(folder.failure, {"kind": failure, "stage": "train", "message": ""})
    assert folder.state(EVAL) == expected
    assert folder.stages_done(EVAL) == list(stages)
    holding = folder.lease.take()
    assert holding is not None
    assert folder.state(EVAL) == ("done" if expected == "done" else "running")
    holding.release()
    assert folder.state(EVAL) == expected


@pytest.mark.parametrize("stage", STAGES)
def test_a_deleted_file_brings_its_stage_back(tmp_path: Path, stage: str) -> None:
    """What the message about a damaged file advises must help, for every file that is read later."""
    folder = RunFolder(tmp_path / "run")
    for name in FILES[stage]:
        for each in STAGES:
            write_stage(folder, each)
        assert folder.state(EVAL) == "done"
        folder.last_file(stage, EVAL).with_name(name).unlink()
        assert folder.state(EVAL) == "waiting"
        assert stage not in folder.stages_done(EVAL)


def test_retrying_keeps_finished_training(tmp_path: Path) -> None:
    """A failure after training forgets the failure alone; one in training also what it left half-done."""
    trained, torn = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    write_stage(trained, "train")
    atomic_write(torn.train / "history.jsonl", '{"step": 1}\n')
    for folder in (trained, torn):
        write_json(folder.failure, {"kind": "bug"})
        folder.clear_failure()
        assert not folder.failure.exists()
    assert trained.has("train", EVAL)
    assert not torn.train.exists()


def test_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """README.md: `--store`, else ADADPO_STORE, else ./runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADADPO_STORE", raising=False)
    assert open_store(None).root == tmp_path / "runs"
    monkeypatch.setenv("ADADPO_STORE", str(tmp_path / "elsewhere"))
    assert open_store(None).root == tmp_path / "elsewhere"
    assert open_store(tmp_path / "chosen").root == tmp_path / "chosen"


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    """Refused before any work, with another way out."""
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"cannot be written: .*; choose another by --store"):
            Store(root).require_writable()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON_VALUES, st.booleans(), st.integers(0, 400), st.binary(max_size=3))
@settings(max_examples=400)
def test_parse_json_is_json_loads(value: Any, escaped: bool, place: int, damage: bytes) -> None:
    """Against the standard library, on JSON as it is and with bytes written over it."""
    whole = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    for content in (whole, whole[:place] + damage + whole[place + len(damage) :]):
        try:
            expected = json.loads(content.decode("utf-8"))
        except ValueError:
            with pytest.raises(ValueError):  # noqa: PT011 -- of whatever kind: readers catch all
                parse_json(content)
        else:
            assert repr(parse_json(content)) == repr(expected)  # NaN is itself, and -0.0 not 0.0


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": 1, "a": 2}',
        b'"\\ud800"',
        b'"\\ud83d\\ude00"',
        b"[" * 500 + b"]" * 500,
        b"\xef\xbb\xbf1",
        b"1e999",
        b"123456789012345678901234567890",
        b"-NaN",
        b"+1",
        b"01",
        b"1.",
        b"nul",
        b'"\t"',
        b"",
        b" 1 ",
        b"1 2",
        b"[1,]",
    ],
)
def test_parse_json_at_the_edges(content: bytes) -> None:
    """What parsers differ about."""
    try:
        expected = repr(json.loads(content.decode("utf-8")))
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011
            parse_json(content)
    else:
        assert repr(parse_json(content)) == expected


def test_a_heap_of_brackets() -> None:
    """As json.loads: beyond what Python can nest."""
    with pytest.raises(RecursionError):
        parse_json(b"[" * 100_000)

"""Training that ends anywhere, by a kill, a signal or a full disk, goes on bit for bit; damage is told."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from adadpo.config import RunConfig
from adadpo.errors import StoppedError
from adadpo.models.policy import Base
from adadpo.stopping import forget_stop, request_stop, stop_requested, stopping_on
from adadpo.training.checkpoints import saving
from adadpo.training.resume_points import KEPT, MANIFEST, checkpoint_problem, resume_point, seal
from adadpo.training.train import TrainingData, train_run
from tests.adadpo.run_examples import STEPS, Stop, config_of, history, identical, run, weights


@pytest.fixture(autouse=True)
def _cache(cache_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ADADPO_CACHE", str(cache_root))
    yield
    forget_stop()


def checkpoints(folder: Path) -> list[str]:
    """Names of those that are whole, by step."""
    whole = [path.parent for path in (folder / "checkpoints").glob(f"checkpoint-*/{MANIFEST}")]
    return [path.name for path in sorted(whole, key=lambda path: int(path.name.partition("-")[2]))]


def resumed(base: Base, config: RunConfig, data: TrainingData, folder: Path) -> tuple[int, dict[str, Any]]:
    """The step that a run goes on from, and its metrics."""
    reports: list[int] = []
    metrics = train_run(base, config, data, folder, on_progress=lambda done, total: reports.append(done))
    return reports[0], metrics


class TestResume:
    @pytest.mark.parametrize(
        ("lora", "every", "stop_at", "found", "batching"),
        [(False, 2, 5, 4, "random"), (False, 4, 3, 0, "random"), (False, 3, 6, 3, "random"), (True, 1, 3, 2, "random"),
         (True, 2, 5, 4, "by_length"), (False, 1, 3, 2, "by_length")],
    )  # fmt: skip
    def test_bit_identical(
        self, base: Base, data: TrainingData, tmp_path: Path, whole: Any,
        lora: bool, every: int, stop_at: int, found: int, batching: str,
    ) -> None:  # fmt: skip
        """Against the uninterrupted run without checkpoints: weights, history and metrics.

        Stopped mid-epoch, at an epoch's end, in the last step, and before the first checkpoint.
        """
        expected, metrics = whole(config_of(lora=lora, batching=batching))
        config = config_of(lora=lora, checkpoint_steps=every, batching=batching)
        with pytest.raises(Stop):
            run(base, config, data, tmp_path, stop_at=stop_at)
        assert resumed(base, config, data, tmp_path) == (found, metrics)
        assert identical(weights(expected, lora), weights(tmp_path, lora))
        assert history(expected) == history(tmp_path)

    def test_two_checkpoints_are_kept(
        self, base: Base, data: TrainingData, tmp_path: Path, whole: Any
    ) -> None:
        """Against a run without: same weights; on disk the last two, each whole."""
        config = config_of(checkpoint_steps=1)
        run(base, config, data, tmp_path)
        assert identical(weights(whole(config_of())[0]), weights(tmp_path))
        kept = sorted((tmp_path / "checkpoints").glob("checkpoint-*"))
        assert [f.name for f in kept] == ["checkpoint-5", "checkpoint-6"]
        assert [checkpoint_problem(f, config.fingerprint()) for f in kept] == [None] * KEPT

    def test_by_the_clock(self, base: Base, data: TrainingData, tmp_path: Path, whole: Any) -> None:
        """Against the step that was killed: with next to no minutes a checkpoint follows every step, two are kept."""
        config = config_of(checkpoint_minutes=1e-9)
        with pytest.raises(Stop):
            run(base, config, data, tmp_path, stop_at=5)
        assert checkpoints(tmp_path) == ["checkpoint-3", "checkpoint-4"]
        expected, metrics = whole(config_of())
        assert resumed(base, config, data, tmp_path) == (4, metrics)
        assert identical(weights(expected), weights(tmp_path))
        assert not checkpoints(whole(config_of())[0])  # 15 minutes are longer

    def test_killed_between_the_last_step_and_saving(
        self, base: Base, data: TrainingData, tmp_path: Path, whole: Any
    ) -> None:
        """Against the whole run: all steps are in the checkpoint, none is left to do."""
        expected, metrics = whole(config_of())
        config = config_of(checkpoint_steps=3)
        run(base, config, data, tmp_path)
        (tmp_path / "model" / "model.safetensors").unlink()
        assert run(base, config, data, tmp_path) == metrics
        assert identical(weights(tmp_path), weights(expected))
        assert history(tmp_path) == history(expected)

    def test_an_earlier_attempt_without_checkpoint_leaves_no_lines(
        self, base: Base, data: TrainingData, tmp_path: Path
    ) -> None:
        """Against two lines: the one of the stopped attempt is gone."""
        with pytest.raises(Stop):
            run(base, config_of(max_steps=2), data, tmp_path, stop_at=1)
        run(base, config_of(max_steps=2), data, tmp_path)
        assert [line["step"] for line in history(tmp_path)] == [1, 2]


def change_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit": (lambda f: change_a_byte(f / "model.safetensors"), "model.safetensors is damaged"),
    "truncated": (lambda f: os.truncate(f / "optimizer.pt", 1000), "optimizer.pt is damaged"),
    "zero length": (lambda f: os.truncate(f / "rng_state.pth", 0), "rng_state.pth is damaged"),
    "a missing file": (lambda f: (f / "scheduler.pt").unlink(), "scheduler.pt is missing"),
    "half-written": (lambda f: (f / MANIFEST).unlink(), "it is incomplete"),
    "an empty folder": (lambda f: [shutil.rmtree(f), f.mkdir()], "it is incomplete"),  # type: ignore[func-returns-value]
    "a torn manifest": (lambda f: os.truncate(f / MANIFEST, 40), "manifest cannot be read"),
    "no manifest at all": (lambda f: (f / MANIFEST).write_text("[1]"), "manifest cannot be read"),
    "the wrong step": (lambda f: f.rename(f.with_name("checkpoint-5")), "it is of step 4"),
}


class TestDamage:
    @pytest.mark.parametrize("kind", DAMAGE)
    def test_the_one_before_it_serves(
        self, base: Base, data: TrainingData, tmp_path: Path, whole: Any, caplog: pytest.LogCaptureFixture, kind: str
    ) -> None:  # fmt: skip
        """Against the uninterrupted run, bit for bit, from step 2; the damaged one is named and gone.

        The history lost its end as well, as a power cut leaves it: a checkpoint brings its own.
        """
        expected, metrics = whole(config_of())
        config = config_of(checkpoint_steps=2)
        with pytest.raises(Stop):
            run(base, config, data, tmp_path, stop_at=5)
        assert checkpoints(tmp_path) == ["checkpoint-2", "checkpoint-4"]
        damage, reason = DAMAGE[kind]
        damage(tmp_path / "checkpoints" / "checkpoint-4")
        os.truncate(tmp_path / "history.jsonl", 100)
        assert resumed(base, config, data, tmp_path) == (2, metrics)
        assert reason in caplog.text
        assert identical(weights(expected), weights(tmp_path))
        assert history(expected) == history(tmp_path)
        assert checkpoints(tmp_path) == ["checkpoint-4", "checkpoint-6"]

    def test_none_serves(self, base: Base, data: TrainingData, tmp_path: Path, whole: Any) -> None:
        """Against the uninterrupted run: both are damaged, so training starts anew."""
        expected, metrics = whole(config_of())
        config = config_of(checkpoint_steps=2)
        with pytest.raises(Stop):
            run(base, config, data, tmp_path, stop_at=5)
        for step in (2, 4):
            change_a_byte(tmp_path / "checkpoints" / f"checkpoint-{step}" / "model.safetensors")
        assert resumed(base, config, data, tmp_path) == (0, metrics)
        assert identical(weights(expected), weights(tmp_path))
        assert history(expected) == history(tmp_path)

    def test_another_runs(self, base: Base, data: TrainingData, tmp_path: Path, whole: Any) -> None:
        """Against the uninterrupted run: checkpoints of another seed lie there, whole and with the right names."""
        with pytest.raises(Stop):
            run(base, config_of(seed=2, checkpoint_steps=2), data, tmp_path, stop_at=5)
        expected, metrics = whole(config_of())
        assert resumed(base, config_of(checkpoint_steps=2), data, tmp_path) == (0, metrics)
        assert identical(weights(expected), weights(tmp_path))

    def test_how_a_batch_is_split_is_not_another_run(
        self, base: Base, data: TrainingData, tmp_path: Path
    ) -> None:
        """Against the fingerprint: micro-batches and checkpoints may change between two attempts, the rate may not."""
        config = config_of(checkpoint_steps=2)
        with pytest.raises(Stop):
            run(base, config, data, tmp_path, stop_at=3)
        other = config_of(micro_batch_size=1, checkpoint_steps=3, checkpoint_minutes=1)
        assert other.fingerprint() == config.fingerprint()
        assert config_of(learning_rate=2e-3).fingerprint() != config.fingerprint()
        assert resumed(base, other, data, tmp_path)[0] == 2

    def test_the_newest_is_by_number(self, tmp_path: Path) -> None:
        """Against names that sort otherwise, and things that are none; an empty or absent folder has none."""
        assert resume_point(tmp_path / "absent", "me") is None
        assert resume_point(tmp_path, "me") is None
        for step in (5, 40, 100, 200):
            (tmp_path / f"checkpoint-{step}").mkdir()
            (tmp_path / f"checkpoint-{step}" / "weights").write_text("w")
            if step != 200:
                seal(tmp_path / f"checkpoint-{step}", step, "me")
        (tmp_path / "checkpoint-best").mkdir()
        assert resume_point(tmp_path, "me") == tmp_path / "checkpoint-100"
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "checkpoint-100", "checkpoint-40", "checkpoint-5", "checkpoint-best",
        ]  # fmt: skip
        assert resume_point(tmp_path, "somebody else") is None


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
    @pytest.mark.parametrize("at", [1, 4])
    def test_a_signal(
        self, base: Base, data: TrainingData, tmp_path: Path, whole: Any, number: signal.Signals, at: int
    ) -> None:
        """Against the uninterrupted run: signalled in step 2 or 5 it ends after that step, and goes on from there."""
        expected, metrics = whole(config_of())
        config = config_of()

        def progress(done: int, total: int) -> None:
            if done == at:
                os.kill(os.getpid(), number)

        before = signal.getsignal(number)
        with stopping_on(number), pytest.raises(StoppedError, match=rf"after step {at + 1} of {STEPS}"):
            # The report of step `at` is made while step `at` ends: the flag is looked at after the next one.
            train_run(base, config, data, tmp_path, on_progress=progress)
        assert signal.getsignal(number) == before
        assert not stop_requested()
        assert checkpoints(tmp_path) == [f"checkpoint-{at + 1}"]
        assert not (tmp_path / "model").exists()
        assert resumed(base, config, data, tmp_path) == (at + 1, metrics)
        assert identical(weights(expected), weights(tmp_path))
        assert history(expected) == history(tmp_path)

    def test_in_every_step(self, base: Base, data: TrainingData, tmp_path: Path, whole: Any) -> None:
        """Against the uninterrupted run: asked before it begins, each attempt makes one step, the last one too."""
        expected, metrics = whole(config_of())
        for step in range(1, STEPS + 1):
            request_stop()
            with pytest.raises(StoppedError, match=f"after step {step} of"):
                run(base, config_of(), data, tmp_path)
            forget_stop()
        assert resumed(base, config_of(), data, tmp_path) == (STEPS, metrics)
        assert identical(weights(expected), weights(tmp_path))
        assert history(expected) == history(tmp_path)


@contextmanager
def disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of its own of some bytes; skips where this user may not mount one."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode != 0:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no file system can be mounted here: {done.stderr.strip()}")
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # weights that were read stay mapped


class TestFullDisk:
    @pytest.mark.parametrize("lacking", [0.8, 0.4, 0.1])
    def test_a_checkpoint_that_does_not_fit(
        self, base: Base, data: TrainingData, tmp_path: Path, whole: Any, lacking: float
    ) -> None:
        """Against the uninterrupted run: the third checkpoint finds the disk full while one of its files is written.

        An OSError with the system's number names it, the two before it are whole, nothing of it is left; with room
        the same call goes on from the second.
        """
        expected, metrics = whole(config_of())
        config = config_of(checkpoint_steps=1)
        with pytest.raises(Stop):
            run(base, config, data, tmp_path / "measured", stop_at=2)
        [one] = (tmp_path / "measured" / "checkpoints").glob("checkpoint-*")
        pages = sum(-(-file.stat().st_size // 4096) for file in one.iterdir())
        with disk(tmp_path / "disk", int((3 - lacking) * pages) * 4096):
            folder = tmp_path / "disk" / "train"
            with pytest.raises(OSError, match="No space left on device") as caught:
                run(base, config, data, folder)
            assert caught.value.errno == errno.ENOSPC
            assert Path(caught.value.filename).name == "checkpoint-3"
            left = sorted(path.name for path in (folder / "checkpoints").glob("checkpoint-*"))
            assert left == ["checkpoint-1", "checkpoint-2"]
            subprocess.run(["mount", "-o", "remount,size=200m", str(tmp_path / "disk")], check=True)
            assert resumed(base, config, data, folder) == (2, metrics)
            assert identical(weights(expected), weights(folder))
            assert history(expected) == history(folder)

    @pytest.mark.parametrize(
        ("error", "number"),
        [
            (OSError(errno.EDQUOT, "Disk quota exceeded"), errno.EDQUOT),
            # both by safetensors 0.8.0 and torch 2.13.0 with RLIMIT_FSIZE of 1 MB
            (SafetensorError("Error while serializing: I/O error: File too large (os error 27)"), errno.EFBIG),
            (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), errno.ENOSPC),
        ],
        ids=["system", "safetensors", "torch"],
    )  # fmt: skip
    def test_what_the_libraries_make_of_it(self, tmp_path: Path, error: Exception, number: int) -> None:
        """Against the number that the system gave; other errors stay what they are. The folder is gone either way."""
        for raised in (error, RuntimeError("CUDA out of memory")):
            (tmp_path / "checkpoint-1").mkdir()
            with pytest.raises(Exception, match=r".") as caught, saving(tmp_path / "checkpoint-1"):
                raise raised
            assert not list(tmp_path.iterdir())
            if raised is error:
                assert isinstance(caught.value, OSError)
                assert caught.value.errno == number
            else:
                assert caught.value is raised


def test_the_manifest_lists_every_file(base: Base, data: TrainingData, tmp_path: Path) -> None:
    """Against hashlib and the folder: what is needed to resume is in it, history included."""
    import hashlib

    with pytest.raises(Stop):
        run(base, config_of(checkpoint_steps=1), data, tmp_path, stop_at=2)
    folder = tmp_path / "checkpoints" / "checkpoint-1"
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["step"] == 1
    assert set(manifest["files"]) == {f.name for f in folder.iterdir()} - {MANIFEST}
    assert set(manifest["files"]) >= {
        "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "history.jsonl",
    }  # fmt: skip
    for name, entry in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert entry == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert torch.load(folder / "scheduler.pt", weights_only=True)["last_epoch"] == 1

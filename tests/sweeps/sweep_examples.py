"""Small sweeps, and ways to run the command line on them: in this process, or in a child that may be killed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from sweeps.config.schema import load_spec
from sweeps.state.opening import resolve_sweep
from sweeps.state.sweep import Sweep
from sweeps.store.layout import Store
from sweeps.store.signals import interrupt

CONFIGS = Path(__file__).parents[2] / "sweeps" / "configs"

# sweeps/configs/smoke.yaml with fewer cells: 2 arms x 2 settings x 2 seeds, 2 optimiser steps a run.
SMALL = """\
name: small
model: tiny-random-llama
data: {source: "builtin:instructions", limit: 16, heldout_limit: 8}
arms:
  dpo: {}
  adadpo: {}
grid: {beta: [0.05, 0.1]}
seeds: [0, 1]
train: {batch_size: 8, max_length: 256, warmup: 0, precision: float32, learning_rate: 1.0e-3}
evaluate:
  limit: 8
  decoding: {temperature: 1.0, max_new_tokens: 8, batch_size: 8}
compare: {baseline: dpo, candidate: adadpo, primary: length_controlled_win_rate}
launch: {executor: inline}
"""
# The smallest that is a comparison: 2 runs.
TWO = SMALL.replace("name: small", "name: two").replace("[0.05, 0.1]", "[0.1]").replace("[0, 1]", "[0]")


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def with_flag(*words: str | Path) -> list[str]:
    """Words of a command. These sweeps are far too small for a p-value, and say so where runs are spent."""
    spends = words and words[0] in ("launch", "retry", "extend")
    return [*map(str, words), *(["--allow-untestable"] if spends else [])]


def adadpo(*words: str | Path) -> Answer:
    """The command line in this process, on small sweeps (`with_flag`)."""
    return command(*with_flag(*words))


def command(*words: str | Path) -> Answer:
    """The command line in this process, as the installed program runs it."""
    from sweeps.cli.main import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["adadpo", *map(str, words)])
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Answer(code, out.getvalue(), err.getvalue())


def write_sweep(path: Path, text: str = SMALL) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def opened(file: Path, store: Path) -> Sweep:
    """By its file as it is now."""
    return resolve_sweep(str(file), Store(store))


def spec_errors(tmp_path: Path, text: str) -> list[str]:
    """The problems of a sweep file, without the file's name."""
    from adadpo.errors import UserError

    file = write_sweep(tmp_path / "sweep.yaml", text)
    with pytest.raises(UserError) as caught:
        load_spec(file)
    return str(caught.value).replace(f"{file}:", "").splitlines()


def files_of(folder: Path) -> dict[str, tuple[int, str]]:
    """Path -> time of the last change and digest, of all files that hold results."""
    return {
        str(file.relative_to(folder)): (
            file.stat().st_mtime_ns,
            hashlib.sha256(file.read_bytes()).hexdigest(),
        )
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.endswith(".lock") and "jobs" not in file.relative_to(folder).parts
    }


LAST_FILES = ("metrics.json", "outputs.json", "annotations.json", "scores.json")
# What a run is: equal bytes whatever happened on the way. metrics.json and generation.json hold wall times.
RESULT_FILES = ("history.jsonl", "outputs.json", "annotations.json", "scores.json", "model.safetensors")


def run_files(store: Path, names: tuple[str, ...]) -> dict[str, tuple[int, str]]:
    """As `files_of`, of the runs' files with one of some names."""
    return {
        path: what
        for path, what in files_of(store).items()
        if Path(path).name in names and not path.startswith("sweeps/")
    }


def contents(store: Path) -> dict[str, str]:
    """Path -> digest of the runs' results."""
    return {path: what[1] for path, what in run_files(store, RESULT_FILES).items()}


# Children come from a server that has imported torch once; it never computes, so that forking it is safe.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(
    [
        "sweeps.cli.main",
        "sweeps.operations.launch",
        "sweeps.operations.report",
        "sweeps.search.study",
        "adadpo.training.train",
        "optuna.storages",
    ]
)

# Place ("progress", "rename" for os.replace, "move" for os.rename, or another function of os), how often it is passed,
# signal.
Interruption = tuple[str, int, int]


@dataclass
class Child:
    """A running command."""

    process: BaseProcess
    log: Path

    def wait(self) -> Answer:
        self.process.join(120)
        assert self.process.exitcode is not None, f"still running: {self.log.read_text()}"
        return Answer(self.process.exitcode, self.log.read_text(), "")


def start(log: Path, *words: str | Path, interruption: Interruption | None = None) -> Child:
    """The command line in a child process of its own group; it may be set to interrupt itself."""
    process = CHILDREN.Process(
        target=_child, args=(str(log), with_flag(*words), interruption, dict(os.environ))
    )
    process.start()
    return Child(process, log)


def _child(log: str, words: list[str], interruption: Interruption | None, environ: dict[str, str]) -> None:
    os.setsid()
    os.environ.update(environ)  # the server has that of the test which started it
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    signal.signal(signal.SIGINT, interrupt)  # as `sweeps.cli.entry` does
    sys.argv = ["adadpo", *words]
    if interruption is not None:
        _arrange(*interruption)
    from sweeps.cli.main import main

    code = 70  # not one of ours: an exception that nobody turned into a message
    try:
        main()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _arrange(place: str, times: int, number: int) -> None:
    """Send this process a signal when it passes a place for the n-th time."""
    left = iter(range(times - 1, -1, -1))

    def passing(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if next(left, None) == 0:
                os.kill(os.getpid(), number)
            return original(*args, **kwargs)

        return wrapped

    if place == "progress":
        from sweeps.store.lease import Holding

        Holding.report = passing(Holding.report)  # type: ignore[method-assign]
    elif place == "worker":
        from submitit.local.local import LocalJob

        LocalJob.__init__ = passing(LocalJob.__init__)  # type: ignore[method-assign]
    else:
        name = {"rename": "replace", "move": "rename"}.get(place, place)
        setattr(os, name, passing(getattr(os, name)))


@contextlib.contextmanager
def tiny_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, of a given size; skips where this user may not mount one."""
    import subprocess

    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)

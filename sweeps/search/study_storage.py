"""Where a study is kept: a journal file in the sweep's folder, or a database. No message holds a password."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from adadpo.errors import FailureError
from sweeps.config.yaml_source import fill, hide
from sweeps.state.sweep import Sweep

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

CONNECT_SECONDS = 10  # a host that does not answer would be waited for by minutes
BLOCK = 2**16


def in_journal(sweep: Sweep) -> bool:
    """The study is a file of the sweep's own."""
    return sweep.spec.study.storage == "journal"


def journal(sweep: Sweep) -> Path:
    """The journal's file."""
    return sweep.folder / "study.journal"


def open_storage(sweep: Sweep) -> BaseStorage:
    """The study's storage.

    Raises:
        FailureError: the database cannot be reached; its URL is not repeated, it may hold a password.
    """
    import optuna
    from optuna.storages import RDBStorage

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if in_journal(sweep):
        sweep.folder.mkdir(parents=True, exist_ok=True)
        return _open_journal(journal(sweep))
    url = fill(sweep.spec.study.storage)
    scheme = url.partition(":")[0]
    options: dict[str, Any] = {}
    if scheme.startswith("postgresql"):
        options["connect_args"] = {"connect_timeout": CONNECT_SECONDS}
    try:
        return RDBStorage(url, engine_kwargs=options)
    except ImportError:
        hint = ": pip install 'adadpo[postgres]'" if scheme.startswith("postgresql") else ""
        raise FailureError(
            f"study.storage ({scheme}) cannot be opened: no driver is installed{hint}"
        ) from None
    except Exception as error:
        raise FailureError(f"study.storage ({scheme}) cannot be opened: {reason(sweep, error)}") from None


@contextmanager
def storage_of(sweep: Sweep) -> Iterator[BaseStorage]:
    """`open_storage` for the length of a block; a database's connections are closed after it."""
    from optuna.storages import RDBStorage

    storage = open_storage(sweep)
    try:
        yield storage
    finally:
        if isinstance(storage, RDBStorage):
            storage.engine.dispose()


def reason(sweep: Sweep, error: BaseException) -> str:
    """What a database's error says, in one line, without anything that the environment filled in.

    Callers raise their own error `from None`: a worker's traceback would repeat this one.
    """
    cause: BaseException | None = error
    while cause is not None and getattr(cause, "orig", None) is None:
        cause = cause.__cause__
    driver = getattr(cause, "orig", None)
    if driver is None:  # SQLAlchemy's and optuna's own may quote the URL or a statement
        return type(error).__name__
    text = (str(driver).strip().splitlines() or [""])[0].strip()
    return f"{type(driver).__name__}: {hide(sweep.spec.study.storage, text)}"


def _open_journal(path: Path) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    class KernelLock(JournalFileOpenLock):
        """Optuna's own locks are files that a killed writer leaves; the kernel releases this one with its owner."""

        def __init__(self) -> None:
            super().__init__(str(path))
            self._lock = FileLock(path.with_name("journal.lock"))

        def acquire(self) -> bool:
            self._lock.acquire()
            return True

        def release(self) -> None:
            self._lock.release()

    lock = KernelLock()
    lock.acquire()
    try:
        _cut_torn_line(path)
    finally:
        lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _cut_torn_line(path: Path) -> None:
    """A writer that was killed leaves half a line; the next one would be written behind it, and both be lost."""
    if not path.exists():
        return
    with path.open("rb+") as stream:
        size = end = stream.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - BLOCK)
            stream.seek(start)
            newline = stream.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            stream.truncate(end)

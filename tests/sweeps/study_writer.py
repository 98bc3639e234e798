"""A process that mirrors a sweep and may kill itself while it writes; light, since many are started."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from optuna.storages.journal import JournalFileBackend
from sqlalchemy import event
from sqlalchemy.engine import Engine

from sweeps.search.study import mirror
from sweeps.state.opening import open_sweep
from sweeps.store.layout import Store


def write(file: str, store: str, password: str, dies_at: int | None) -> None:
    os.environ["STUDY_PASSWORD"] = password
    if dies_at is not None:
        _arrange_death(dies_at)
    mirror(open_sweep(file, Store(Path(store))))


def _arrange_death(dies_at: int) -> None:
    left = iter(range(dies_at, -1, -1))

    def append(self: JournalFileBackend, logs: list[dict[str, object]]) -> None:
        if next(left) == 0:  # half a line, the lock held
            self._lock.acquire()
            with Path(self._file_path).open("ab") as stream:
                stream.write(repr(logs[0]).encode()[: 5 + dies_at])
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, logs)

    def statement(*_: object) -> None:
        if next(left) == 0:  # in the middle of a transaction, the study's row locked
            os.kill(os.getpid(), signal.SIGKILL)

    original = JournalFileBackend.append_logs
    JournalFileBackend.append_logs = append  # type: ignore[method-assign]
    event.listen(Engine, "after_cursor_execute", statement)

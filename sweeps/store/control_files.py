"""What people and processes tell a sweep's workers, as files in the sweep's folder.

launched.json          when the last launch began, its runs, and from what they were planned
stopped.json           why no worker is to begin another run
cancelled/<run_id>     a run that a person took back
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adadpo.files import atomic_write
from sweeps.store.layout import RunFolder, Store, read_json_or_none, write_json


@dataclass(frozen=True)
class ControlFiles:
    """The control files of one sweep, by its folder."""

    folder: Path

    def begin(self, run_ids: Sequence[str], **planned_from: Any) -> None:
        """A launch begins: what stopped the last one is over.

        Args:
            run_ids: its runs.
            planned_from: the sweep file, its folder and the added seeds: a lost plan is rebuilt from them.
        """
        (self.folder / "stopped.json").unlink(missing_ok=True)
        content = {"time": time.time(), "runs": list(run_ids), **planned_from}
        write_json(self.folder / "launched.json", content)

    def launched(self) -> dict[str, Any]:
        """When the last launch began, and its runs' ids; empty before the first."""
        return dict(read_json_or_none(self.folder / "launched.json") or {})

    def stop(self, cause: str, message: str) -> None:
        """No worker is to begin another run."""
        write_json(self.folder / "stopped.json", {"time": time.time(), "cause": cause, "message": message})

    def stopped(self) -> dict[str, Any] | None:
        """Why, since when; None when the launch was not stopped."""
        said = read_json_or_none(self.folder / "stopped.json")
        return None if said is None else dict(said)

    def cancel(self, run_id: str) -> None:
        """Take a run back: a worker that has it leaves it at its next step, none begins it."""
        atomic_write(self.marker(run_id), f"{time.time()}\n")

    def cancelled(self, run_id: str) -> bool:
        """A person took the run back."""
        return self.marker(run_id).exists()

    def cancelled_ids(self) -> set[str]:
        """The runs that a person took back, of this sweep or earlier forms of it."""
        return {path.name for path in self.marker("x").parent.glob("*")}

    def allow(self, run_id: str) -> None:
        """The run may be worked on again."""
        self.marker(run_id).unlink(missing_ok=True)

    def same_failure(self, store: Store, signature: str) -> list[str]:
        """Runs of the last launch that failed with the same signature since it began."""
        launched = self.launched()
        found = []
        for run_id in launched.get("runs", []):
            folder: RunFolder = store.run(run_id)
            failure = read_json_or_none(folder.failure) or {}
            if failure.get("signature") == signature and failure.get("time", 0) >= launched["time"]:
                found.append(run_id)
        return found

    def marker(self, run_id: str) -> Path:
        """The file that says that a run was cancelled."""
        return self.folder / "cancelled" / run_id

"""Checkpoints while training: written whole or not at all, by the clock too, and when training is asked to stop."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from adadpo.stopping import stop_requested
from adadpo.training.processes import Processes
from adadpo.training.resume_points import seal

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Around the writing of a checkpoint: when it fails, the incomplete checkpoint is removed.

    Raises:
        OSError: the disk would not take it, whatever the libraries made of that error.
    """
    try:
        yield
    except Exception as error:
        number = _disk_error(error)
        shutil.rmtree(folder, ignore_errors=True)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(folder)) from error


class Checkpoints(TrainerCallback):
    """Saves by the clock too, seals what was saved, and ends training that was asked to stop."""

    def __init__(self, belongs_to: str, minutes: float | None, processes: Processes) -> None:
        self.belongs_to, self.minutes, self.processes = belongs_to, minutes, processes
        self.stopped = False  # training ended because it was asked to
        self._saved = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The clock starts."""
        self._saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Whether to save, and whether to stop: all processes alike, since saving is done together."""
        due = self.minutes is not None and time.monotonic() - self._saved >= 60 * self.minutes
        due, self.stopped = self.processes.any(due, stop_requested())
        if self.stopped:
            control.should_training_stop = True
        if due or self.stopped:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Seal it when every process has written its part."""
        self.processes.barrier()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            with saving(folder):
                seal(folder, state.global_step, self.belongs_to)
        self._saved = time.monotonic()


def _disk_error(error: BaseException) -> int | None:
    """The system's error number, also out of the text that safetensors makes of it; torch tells none."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return error.errno
    if (match := re.search(r"\(os error (\d+)\)", str(error))) and int(match[1]) in DISK_ERRORS:
        return int(match[1])
    # torch's zip writer: fewer bytes arrived than it wrote
    return errno.ENOSPC if "inline_container.cc" in str(error) else None

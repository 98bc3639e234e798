"""Following a run's log until the run ends."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator

from sweeps.lease import holder_state
from sweeps.resolve import PlannedRun
from sweeps.sweep import Sweep

POLL_SECONDS = 0.3
OVER = ("done", "diverged", "failed", "cancelled", "pruned")


def follow_log(sweep: Sweep, run: PlannedRun) -> Iterator[str]:
    """Pieces of the log as they are written, from the beginning; ends when the run has, whatever it ended in.

    A log that was deleted and begun again is followed from its new beginning.
    """
    file, place = sweep.store.run(run.run_id).log, 0
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a piece may end within a character
    while True:
        # Before reading: what is written until then is read below. The last lines come after the last file.
        over = sweep.state(run) in OVER and holder_state(sweep.store.run(run.run_id).lease) != "alive"
        if file.exists():
            if file.stat().st_size < place:
                place = 0
            with file.open("rb") as stream:
                stream.seek(place)
                content = stream.read()
            place += len(content)
            if text := decoder.decode(content):
                yield text
        if over:
            return
        time.sleep(POLL_SECONDS)

"""The processes that train one run together: who this one is, and what they agree on.

They find one another by torch's variables (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), as torchrun sets
them; without a port, by a file in which the first one says on which it listens. Torch is imported where there are
several.
One that fails leaves a word for the others, and none waits for ever for one that is gone: see `_Watch`.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

from adadpo.errors import PeerError
from adadpo.files import atomic_write

Strategy = Literal["ddp", "fsdp", "zero3"]
T = TypeVar("T")

FAILURE = "adadpo/failure"  # key of the word that is left
WORD = "adadpo/word"  # key of a text that the file holds too: it identifies the right store
WATCH_SECONDS = 1.0
GRACE_SECONDS = 10.0  # for a process to end by the error that a lost peer causes in what it is doing
# Waiting for one another's gradients includes the time in which the first one writes a checkpoint.
COMPUTE_TIMEOUT = timedelta(hours=2)
MEET_TIMEOUT = timedelta(minutes=15)  # until all are there: some may load their libraries from a slow disk
# One process alone judges, for days with a slow judge; that a peer is gone is noticed otherwise.
WAIT_TIMEOUT = timedelta(days=30)


class Processes:
    """A group of processes; without a torch group it is one process alone.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
        strategy: what each of them holds: the whole model (ddp), or a share of it.
    """

    def __init__(self, group: Any = None, strategy: Strategy = "ddp", store: Any = None) -> None:
        """`group`: a torch process group on the CPU (gloo), apart from the one that gradients go through."""
        self._group, self._store = group, store
        self.rank: int = 0 if group is None else group.rank()
        self.size: int = 1 if group is None else group.size()
        self.strategy = strategy

    @property
    def sharded(self) -> bool:
        """No process holds the whole model."""
        return self.size > 1 and self.strategy != "ddp"

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether some process says yes: all get the same answer."""
        if self.size == 1:
            return list(flags)
        import torch
        import torch.distributed as dist

        votes = torch.tensor([int(flag) for flag in flags])
        dist.all_reduce(votes, dist.ReduceOp.MAX, group=self._group)
        return [bool(vote) for vote in votes.tolist()]

    def barrier(self) -> None:
        """Wait for all."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier(group=self._group)

    def from_first(self, value: T) -> T:
        """The first process's value."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        held = [value]
        dist.broadcast_object_list(held, src=0, group=self._group)
        return held[0]

    def gathered(self, value: T) -> list[T]:
        """Everybody's values, by rank."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self._group)
        return found

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part of some work; all have the same number, so some of it may be done twice."""
        mine = list(items[self.rank :: self.size])
        return mine if len(mine) == -(-len(items) // self.size) else [*mine, items[0]]

    def fail(self, message: str) -> None:
        """Leave a word for the others before this process ends."""
        if self._store is not None:
            with suppress(RuntimeError):  # the first process, which keeps the words, is gone
                self._store.compare_set(FAILURE, "", f"rank {self.rank}: {message}")  # the first word stays

    def failure(self, patience: float = 2.0) -> str | None:
        """The first word that was left; None when there is none within `patience` seconds."""
        deadline = time.monotonic() + patience
        while self._store is not None:
            if self._store.check([FAILURE]):
                return str(self._store.get(FAILURE).decode())
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return None


ALONE = Processes()


@contextmanager
def joined(
    strategy: Strategy,
    on_lost: Callable[[str], None],
    local_rank: int | None = None,
    meeting: Path | None = None,
) -> Iterator[Processes]:
    """The processes that torch's variables name, for the length of a block.

    Args:
        strategy: how they share a model.
        on_lost: called with the reason in a process that cannot end by itself before it is ended.
        local_rank: the GPU of this process among those that it sees; None: it computes on the CPU.
        meeting: file that all see, of this start of the job alone, by which they agree on a free port; None: the port
            is MASTER_PORT.

    Raises:
        PeerError: the others do not come.
    """
    import torch
    import torch.distributed as dist

    if local_rank is not None:
        torch.cuda.set_device(local_rank)
    host, backend = os.environ["MASTER_ADDR"], "gloo" if local_rank is None else "cuda:nccl,cpu:gloo"
    try:
        if meeting is None:
            if os.environ["RANK"] != "0" or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
                # Torch's own would wait for ever.
                _connected(host, int(os.environ["MASTER_PORT"]), MEET_TIMEOUT)
            dist.init_process_group(backend, timeout=COMPUTE_TIMEOUT)
        else:
            rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            first = _met(meeting, host, rank, size)
            dist.init_process_group(backend, store=first, rank=rank, world_size=size, timeout=COMPUTE_TIMEOUT)
        group = dist.new_group(backend="gloo", timeout=WAIT_TIMEOUT)
        # A connection of its own: the group's may be blocked when it is needed.
        store = _connected(host, int(os.environ["MASTER_PORT"]), timedelta(minutes=1))
    except (RuntimeError, ValueError) as error:
        where = meeting or f"{host}:{os.environ['MASTER_PORT']}"
        raise PeerError(f"the processes of the run do not find one another by {where}: {error}") from error
    finally:
        if meeting is not None and os.environ["RANK"] == "0":
            meeting.unlink(missing_ok=True)
    processes = Processes(group, strategy, store)
    watch = _Watch(processes, store, on_lost)
    watch.start()
    try:
        yield processes
        processes.barrier()  # the first to leave would close the others' connections
    except BaseException as error:
        processes.fail(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
        raise
    else:
        dist.destroy_process_group()
    finally:
        watch.ended.set()


def _met(meeting: Path, host: str, rank: int, size: int) -> Any:
    """The store of the first process, when all are connected to it. Sets MASTER_PORT.

    Raises:
        RuntimeError: not all come.
    """
    import torch.distributed as dist

    if rank == 0:
        store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=MEET_TIMEOUT)
        word = uuid.uuid4().hex
        store.set(WORD, word)
        _publish(meeting, {"port": store.port, "word": word})
    else:
        store = _found(meeting, host)
    os.environ["MASTER_PORT"] = str(store.port)
    store.set(f"adadpo/here/{rank}", "yes")
    store.wait([f"adadpo/here/{other}" for other in range(size)], MEET_TIMEOUT)
    return store


def _publish(meeting: Path, content: dict[str, Any]) -> None:
    atomic_write(meeting, json.dumps(content))


def _found(meeting: Path, host: str) -> Any:
    """A connection to who wrote the file; what an earlier process left there leads nowhere, or to another one."""
    deadline = time.monotonic() + MEET_TIMEOUT.total_seconds()
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError, RuntimeError):
            said = json.loads(meeting.read_text(encoding="utf-8"))
            store = _connected(host, int(said["port"]), timedelta(seconds=5))
            if store.check([WORD]) and store.get(WORD).decode() == said["word"]:
                store.set_timeout(MEET_TIMEOUT)
                return store
        time.sleep(0.2)
    raise RuntimeError(f"the first one has not come within {MEET_TIMEOUT}")


def _connected(host: str, port: int, patience: timedelta) -> Any:
    """A connection to the first process's store.

    Raises:
        RuntimeError: no process answers, or another program holds the port.
    """
    import torch.distributed as dist

    found: list[Any] = []

    def connect() -> None:
        try:
            found.append(dist.TCPStore(host, port, is_master=False, timeout=patience))
        except RuntimeError as error:
            found.append(error)

    # Torch's patience ends when it is connected: it waits for ever for the answer of a program that is no store.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(patience.total_seconds() + 1)
    if not found:
        raise RuntimeError(f"what listens on {host}:{port} is another program")
    if isinstance(found[0], RuntimeError):
        raise found[0]
    return found[0]


class _Watch(threading.Thread):
    """Ends this process when another one failed: it may be waiting for it in the depths of a library."""

    def __init__(self, processes: Processes, store: Any, on_lost: Callable[[str], None]) -> None:
        super().__init__(name="watch", daemon=True)
        self.processes, self.store, self.on_lost = processes, store, on_lost
        self.ended = threading.Event()

    def run(self) -> None:
        """Look, until the work has ended."""
        while not self.ended.wait(WATCH_SECONDS):
            try:
                if not self.store.check([FAILURE]):
                    continue
                reason = self.store.get(FAILURE).decode()
            except RuntimeError:
                reason = "rank 0: its process is gone"
            if self.ended.wait(GRACE_SECONDS):
                return
            self.on_lost(reason)
            os._exit(1)

"""How a process that trains on a CPU keeps its memory: what a step frees, the next one uses again, in huge pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "GLIBC_TUNABLES"  # read by the C library when a process starts, and by no other library
GIB = 2**30
# Training takes and frees the same hundreds of megabytes at every step. As it comes the library gives large pieces back
# to the system at once, which zeroes them anew, in pages of 4 KiB: a sixth of a step of SmolLM2-135M goes there.
TUNABLES = {
    "hugetlb": 1,  # ask for transparent huge pages
    "mmap_threshold": 4 * GIB,  # pieces up to here come from the heap
    "trim_threshold": 8 * GIB,  # which is not given back below this
    "top_pad": 2**26,
    "arena_max": 1,  # the backward pass's thread has the same heap
}


@contextmanager
def kept_memory(*, huge_pages: bool) -> Iterator[None]:
    """Processes that are started in here keep their memory; what the user sets stays.

    Args:
        huge_pages: False: they do not.
    """
    if not huge_pages or VARIABLE in os.environ:
        yield
        return
    os.environ[VARIABLE] = ":".join(f"glibc.malloc.{name}={value}" for name, value in TUNABLES.items())
    try:
        yield
    finally:
        del os.environ[VARIABLE]


def allocator() -> str:
    """What this process was told of keeping memory, for the record."""
    return os.environ.get(VARIABLE) or "as it comes"

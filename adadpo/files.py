"""Writing a file so that it is there whole or not at all, even when the process is killed or the disk is full."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adadpo.errors import FailureError


def atomic_write(path: Path, content: str | bytes | Iterable[str]) -> None:
    """Write a file under a temporary name, flush it to the disk, then rename it; folders are made.

    Args:
        path: of the file.
        content: or its pieces, of which one at a time is in memory. Text becomes UTF-8.

    Raises:
        FailureError: the disk is full or the folder cannot be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as stream:
        for piece in [content] if isinstance(content, str | bytes) else content:
            # surrogatepass would write broken UTF-8; a replaced character shows that something was wrong
            stream.write(piece.encode("utf-8", errors="replace") if isinstance(piece, str) else piece)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file that takes a path's place when the block ends; an error leaves the old file.

    Raises:
        FailureError: the disk is full or the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        temporary = Path(name)
        os.close(handle)
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)  # mkstemp gives 0o600; colleagues read a shared store
        temporary.replace(path)  # the rename is the commit
    except BaseException as error:  # Ctrl-C too leaves nothing half-written
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise FailureError(f"cannot write {path}: {error.strerror}") from error
        raise


def cache_folder() -> Path:
    """Folder of caches: `ADADPO_CACHE`, else `adadpo` in the user's cache folder of this platform."""
    if chosen := os.environ.get("ADADPO_CACHE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "adadpo"

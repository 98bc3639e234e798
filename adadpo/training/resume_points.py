"""Checkpoints on the disk: sealed when whole, checked before training resumes from one. No torch here.

transformers writes a checkpoint file by file and takes the newest unchecked. Here the last file of a checkpoint is a
manifest with size and SHA-256 of every other one, the step, and the run it belongs to. Before resuming, the newest
checkpoint that agrees with its manifest is taken; newer ones that do not agree are deleted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
KEPT = 2  # on the disk: the newest, and the one before it should the newest turn out damaged
HASHES_AT_ONCE = 4  # files; hashing is as fast as one core, a disk often faster


def seal(folder: Path, step: int, belongs_to: str) -> None:
    """Flush a checkpoint to the disk and mark it as complete: the manifest is its last file.

    Args:
        folder: with every file written.
        step: optimiser steps done.
        belongs_to: identifies the run and its settings; must be equal when training resumes.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    for path in files:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    with ThreadPoolExecutor(HASHES_AT_ONCE) as pool:
        entries = dict(
            zip((str(path.relative_to(folder)) for path in files), pool.map(_entry, files), strict=True)
        )
    content = json.dumps({"step": step, "belongs_to": belongs_to, "files": entries}, indent=1)
    # Not atomic_write: a full disk must stay an OSError, which `checkpoints.saving` recognises.
    part = folder / f".{MANIFEST}.part"
    with part.open("w", encoding="utf-8") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(folder / MANIFEST)


def checkpoint_problem(folder: Path, belongs_to: str) -> str | None:
    """Why a checkpoint cannot be resumed from; None when it can."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        step, owner, files = manifest["step"], manifest["belongs_to"], dict(manifest["files"])
    except FileNotFoundError:
        return "it is incomplete"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its manifest cannot be read ({error!r})"
    if owner != belongs_to:
        return "it belongs to another run or other settings"
    if folder.name != f"checkpoint-{step}":
        return f"it is of step {step}"
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        return f"{missing[0]} is missing"
    with ThreadPoolExecutor(HASHES_AT_ONCE) as pool:
        try:
            found = pool.map(_entry, [folder / name for name in files])
            changed = [name for name, entry in zip(files, found, strict=True) if entry != files[name]]
        except OSError as error:
            return f"it cannot be read ({error})"
    return f"{changed[0]} is damaged" if changed else None


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints in a folder by their step, whole or not."""
    steps = {
        path: int(match[1])
        for path in folder.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
    }
    return sorted(steps, key=steps.__getitem__, reverse=True)


def resume_point(folder: Path, belongs_to: str) -> Path | None:
    """The newest checkpoint that is whole and this run's; None: start from the beginning.

    Newer unusable checkpoints are deleted, so that they neither count among those kept nor mix with new files.
    """
    found: Path | None = None
    for path in newest_first(folder):
        if found is not None:
            continue  # older ones are checked when they are needed
        if (reason := checkpoint_problem(path, belongs_to)) is None:
            found = path
        else:
            logging.getLogger(__name__).warning("skipping %s: %s", path.name, reason)
            shutil.rmtree(path)
    return found


def _entry(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"size": stream.tell(), "sha256": digest}

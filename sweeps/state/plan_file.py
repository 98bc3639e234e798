"""`sweeps/<name>/plan.json`: everything that a command or a worker needs to know of a launched sweep.

Launching and extending a sweep write it. Everything that reads a sweep opens it and nothing else: the sweep file, the
data, the model and the judge's package may have changed since, or be gone.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adadpo.errors import FailureError, UserError
from adadpo.files import atomic_write
from sweeps.config.schema import SweepSpec
from sweeps.store.declaration import SuggestedSetting
from sweeps.store.ids import canonical_json
from sweeps.store.job import Fixed, Identities, Job
from sweeps.store.layout import Store, parse_json

VERSION = 1  # of the file; raise it with every change of what it holds


class Origin(Fixed):
    """The sweep file as it was launched."""

    path: str
    folder: str  # where relative paths in it start
    text: str


class Plan(Fixed):
    """A launched sweep as plain data."""

    origin: Origin
    spec: SweepSpec  # of a search: its grid is the settings so far
    identities: Identities
    extra_seeds: tuple[int, ...]  # added by `adadpo extend`
    asked: tuple[SuggestedSetting, ...]  # of a search: the settings so far
    job: Job


def plan_path(store: Store, name: str) -> Path:
    """Where a sweep's plan is."""
    return store.sweep(name) / "plan.json"


def write_plan(store: Store, plan: Plan) -> None:
    """Write a sweep's plan, whole or not at all."""
    name, content = plan.spec.name, plan.model_dump(mode="json")
    whole = {"version": VERSION, "sweep": name, "sha256": _sha256(content), "plan": content}
    atomic_write(plan_path(store, name), json.dumps(whole, separators=(",", ":"), allow_nan=False) + "\n")


def read_plan(store: Store, name: str) -> Plan | None:
    """A sweep's plan; None where there is none: it was never launched, or by an older version.

    Raises:
        UserError: it is damaged, of another sweep or of a newer version.
    """
    path = plan_path(store, name)
    again = f"adadpo fsck {name} --repair rebuilds it from the sweep file"
    try:
        whole = parse_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FailureError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}); {again}") from error
    version = whole.get("version") if isinstance(whole, dict) else None
    if not isinstance(version, int) or "plan" not in whole:
        raise UserError(f"{path} is damaged (it holds no plan); {again}")
    if version > VERSION:
        raise UserError(
            f"{path} is of version {version}, this adadpo reads version {VERSION}: update adadpo; or {again}"
        )
    if whole.get("sweep") != name:
        raise UserError(f"{path} is the plan of another sweep, {whole.get('sweep')!r}; {again}")
    if whole.get("sha256") != _sha256(whole["plan"]):
        raise UserError(f"{path} is damaged (it is not as it was written: another hash); {again}")
    try:
        plan = Plan.model_validate(whole["plan"])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path} is damaged ({place}: {first['msg']}); {again}") from error
    here = {"store": str(store.root), "command": sys.argv}
    return plan.model_copy(update={"job": plan.job.model_copy(update=here)})


def _sha256(content: Any) -> str:
    try:
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()
    except ValueError:  # a number that JSON does not know, or text that UTF-8 does not: never written
        return ""

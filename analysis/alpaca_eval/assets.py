"""AlpacaEval's files on the hub, fetched once, verified, kept under their final name only when complete.

The files' data are CC BY-NC 4.0: the user fetches them; they are not part of this project.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adadpo.errors import AssetError
from analysis.results.model import Frozen

if TYPE_CHECKING:
    from analysis.alpaca_eval.calibration import Calibration

REPOSITORY = "tatsu-lab/alpaca_eval"
REVISION = "2edc6fad8be6b14ea7230aabfd08188da6b8b814"

CALIBRATION = "df_gamed.csv"
PROMPTS = "alpaca_eval.json"
BASELINE = "alpaca_eval_gpt4_baseline.json"
# Name -> what the sha256 must be. None: not known when this was written; what the first fetch saw is recorded beside
# the file and must stay.
FILES: dict[str, str | None] = {
    CALIBRATION: "97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d",
    PROMPTS: None,
    BASELINE: None,
}
# sha256 of json.dumps of the 805 instructions, in the order of every complete official annotation file: difficulties
# go by that order, so a list of prompts in another one would give each prompt the difficulty of another.
OFFICIAL_ORDER = "c5770d532bf3f697768ed9a57a05d8b58b2617321ca65070620f059676e7c99a"


class Asset(Frozen):
    """One file of AlpacaEval and its state in the cache."""

    name: str
    path: str  # where it is, or will be
    sha256: str | None  # of the file there; None when there is none
    expected_sha256: str | None  # pinned, or recorded at its first fetch; None: neither
    status: Literal["present", "missing", "changed"]  # changed: there, but not with the expected hash


def asset_folder(cache: Path) -> Path:
    """Folder of the files below a cache folder; another revision is another folder."""
    return cache / "alpaca_eval" / REVISION


def list_assets(cache: Path, names: Sequence[str] | None = None) -> list[Asset]:
    """Say which of AlpacaEval's files are there and whole; nothing is fetched or written.

    Args:
        cache: the project's cache folder; it need not exist.
        names: keys of `FILES`; None is all.

    Raises:
        ValueError: an unknown name.
    """
    if unknown := [name for name in names or [] if name not in FILES]:
        raise ValueError(f"assets are {', '.join(FILES)}, got {', '.join(unknown)}")
    return [_asset(asset_folder(cache) / name) for name in (FILES if names is None else names)]


def fetch_assets(
    cache: Path, names: Sequence[str] | None = None, *, endpoint: str | None = None
) -> list[Asset]:
    """Fetch what is missing or changed from the hub, verify it and put it into the cache.

    What is present is not asked for again, so this works offline once it has worked. A file appears under its name
    complete and verified, or not at all.

    Args:
        cache: the project's cache folder; made if need be.
        names: keys of `FILES`; None is all.
        endpoint: address of the hub; None is `HF_ENDPOINT`, else huggingface_hub's own.

    Returns:
        The assets, all of them present.

    Raises:
        AssetError: the hub cannot be reached, does not have the file or sent another one, or huggingface_hub is not
            installed. Files fetched before stay.
        ValueError: an unknown name.
    """
    for asset in list_assets(cache, names):
        if asset.status != "present":
            _fetch(asset, endpoint)
    return list_assets(cache, names)


def official_calibration(cache: Path) -> Calibration:
    """The calibration of `length_controlled_v1` with the official prompts, from files in the cache.

    Raises:
        AssetError: a file is missing or changed, or the prompts are not in the official order.
    """
    # It imports numpy, which listing names does not need.
    from analysis.alpaca_eval.calibration import read_calibration

    assets = list_assets(cache, [CALIBRATION, PROMPTS])
    if absent := [f"{asset.path} is {asset.status}" for asset in assets if asset.status != "present"]:
        raise AssetError(f"{'; '.join(absent)}: fetch AlpacaEval's files first")
    rows, prompts = (Path(asset.path) for asset in assets)
    instructions = read_instructions(prompts)
    if hashlib.sha256(json.dumps(instructions).encode()).hexdigest() != OFFICIAL_ORDER:
        raise AssetError(f"{prompts}: not AlpacaEval's 805 prompts in their official order")
    return read_calibration(rows, instructions=instructions, sha256=FILES[CALIBRATION])


def read_instructions(path: Path) -> list[str]:
    """Instructions of a JSON list of records that have one, in order.

    Raises:
        AssetError: the file is no such list.
        FileNotFoundError: there is no such file.
    """
    try:
        records = json.loads(path.read_bytes())
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise AssetError(f"{path}: not JSON: {error}") from error
    if not isinstance(records, list) or not all(
        isinstance(record, dict) and isinstance(record.get("instruction"), str) for record in records
    ):
        raise AssetError(f"{path}: expected a list of records with an instruction")
    return [record["instruction"] for record in records]


def _asset(path: Path) -> Asset:
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    expected = FILES[path.name]
    record = _record_of(path)
    if expected is None and record.is_file():
        expected = record.read_text(encoding="ascii", errors="replace").strip()
    changed = found is not None and found != expected  # a file without a record did not come from here
    return Asset(
        name=path.name,
        path=str(path),
        sha256=found,
        expected_sha256=expected,
        status="missing" if found is None else "changed" if changed else "present",
    )


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _fetch(asset: Asset, endpoint: str | None) -> None:
    path = Path(asset.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as folder:
        fetched = _download(asset, Path(folder), endpoint)
        found = hashlib.sha256(fetched.read_bytes()).hexdigest()
        if asset.expected_sha256 not in (None, found):
            raise AssetError(
                f"{asset.name}: what the hub sent has sha256 {found}, expected {asset.expected_sha256}; "
                "it was not kept"
            )
        if FILES[asset.name] is None:
            # Before the file itself: stopped in between, the file is missing, never present without a record.
            record = Path(folder) / "record"
            record.write_text(found + "\n", encoding="ascii")
            _move(record, _record_of(path))
        _move(fetched, path)


def _move(source: Path, target: Path) -> None:
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)


def _download(asset: Asset, folder: Path, endpoint: str | None) -> Path:
    try:
        from huggingface_hub import constants, hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    except ImportError as error:
        raise AssetError("fetching needs huggingface_hub: pip install huggingface_hub") from error
    try:
        return Path(
            hf_hub_download(
                REPOSITORY,
                asset.name,
                repo_type="dataset",
                revision=REVISION,
                local_dir=folder,
                endpoint=endpoint,
                force_download=True,  # into an empty folder; otherwise an absent hub is retried for a minute
            )
        )
    except Exception as error:  # the hub client raises a dozen unrelated types, some as a ValueError's cause
        what = f"{asset.name} of {REPOSITORY} at {REVISION[:12]}"
        address = endpoint or constants.ENDPOINT
        causes = _causes(error)
        if any(isinstance(cause, OfflineModeIsEnabled) for cause in causes):
            reason = "the hub client is offline (HF_HUB_OFFLINE)"
        elif refused := next((cause for cause in causes if isinstance(cause, HfHubHTTPError)), None):
            reason = f"{address} answered {refused.response.status_code}"
        else:
            reason = f"the connection to {address} failed ({type(causes[-1]).__name__}: {causes[-1]})"
        raise AssetError(
            f"{what} cannot be fetched: {reason}; on a machine without a network copy the folder {folder.parent} "
            "from one that has it"
        ) from error


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what it was raised from, outermost first."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    return chain

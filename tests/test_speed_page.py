"""docs/speed.md against the code: its switches exist, with their defaults, and none that is recorded is missing."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel

from adadpo.config import Decoding, TrainSettings
from sweeps.config.launch import Local, Slurm
from sweeps.execution.provenance import SPEED

PAGE = (Path(__file__).parents[1] / "docs" / "speed.md").read_text(encoding="utf-8")
ROWS = [line.split("|") for line in PAGE.splitlines() if line.startswith("| ")][1:]
SECTIONS: dict[str, tuple[type[BaseModel], ...]] = {
    "train": (TrainSettings,),
    "launch": (Slurm, Local),
    "evaluate.decoding": (Decoding,),
}


def test_switches() -> None:
    """Against the models of the sweep file; a default that the page does not say in so many words is None."""
    named = set()
    for _, _, key, *_ in ROWS:
        found = re.fullmatch(r"\s*`([\w.]+)\.(\w+)(?:: (\w+))?`.*", key)
        assert found is not None, key
        section, name, default = found.groups()
        fields = [model.model_fields[name] for model in SECTIONS[section] if name in model.model_fields]
        expected = fields[0].default
        assert default == (None if expected is None else str(expected).lower()), key
        named.add(name)
    assert set(SPEED) <= named

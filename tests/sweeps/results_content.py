"""The content of a results.json, by kind of block."""

from __future__ import annotations

from typing import Any


def by_kind(content: dict[str, Any]) -> dict[str, Any]:
    """The header, and each block's value under its kind; the verdict's sentence, its word as `verdict_kind`."""
    values = {block["kind"]: block["value"] for block in content["blocks"]}
    (verdict,) = (block for block in content["blocks"] if block["kind"] == "verdict")
    return content | values | {"verdict": verdict["sentence"], "verdict_kind": verdict["value"]}

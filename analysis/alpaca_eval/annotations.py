"""AlpacaEval annotations: one judged prompt per record, read and validated.

`preference` is in [1, 2]: 2 says that `output_2` (the candidate) wins, 1 that `output_1` (the baseline) does.
1.5, and 0 in older files, are draws; None and NaN are judgements that failed.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from adadpo.errors import AnnotationError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

DRAW = 1.5
KEYS = ("instruction", "output_1", "generator_1", "output_2", "generator_2", "annotator", "preference")
CONSTANT_KEYS = ("generator_1", "generator_2", "annotator")  # one file compares one pair under one judge


@dataclass(frozen=True, slots=True)
class Annotation:
    """One prompt, both answers and the judge's preference in [1, 2]; None when the judge gave none."""

    instruction: str
    output_1: str
    generator_1: str
    output_2: str
    generator_2: str
    annotator: str
    preference: float | None


Records: TypeAlias = "Iterable[Mapping[str, Any]] | Iterable[Annotation] | pd.DataFrame"
Preferences: TypeAlias = "Iterable[float | None] | NDArray[np.floating]"


def read_annotations(source: Path | str | Records) -> list[Annotation]:
    """Read and validate the annotations of one model against one baseline by one judge.

    Args:
        source: a `.json` or `.json.gz` file in AlpacaEval's format, or the records themselves (a sequence of
            mappings or a DataFrame). Keys beyond those of `Annotation` are ignored.

    Returns:
        One `Annotation` per record, in order; draws are 1.5, missing preferences None.

    Raises:
        AnnotationError: not a list of records, a missing key, a preference outside [1, 2], an instruction
            that occurs twice, or several judges or generators in one file.
        FileNotFoundError: there is no such file.
    """
    if isinstance(source, Path | str):
        source = _load(Path(source))
    rows = records(source, required=KEYS)
    for key in CONSTANT_KEYS:
        found = sorted({str(row[key]) for row in rows})
        if len(found) > 1:
            raise AnnotationError(f"annotations of several {key}s cannot be pooled: {', '.join(found)}")
    preferences = preferences_of(rows)
    for number, row in enumerate(rows):
        for key in KEYS[:-1]:
            if not isinstance(row[key], str):
                raise AnnotationError(f"annotation {number}: {key} must be text, got {row[key]!r}")
    return [
        Annotation(**{key: row[key] for key in KEYS[:-1]}, preference=preference)
        for row, preference in zip(rows, preferences, strict=True)
    ]


def records(source: Records, *, required: Sequence[str]) -> list[Mapping[str, Any]]:
    """Turn records of any accepted kind into mappings that have the `required` keys.

    Raises:
        AnnotationError: a record that is no mapping, a missing key, or an instruction that occurs twice.
    """
    needed = set(required)
    rows: list[Mapping[str, Any]] = []
    first_seen: dict[str, int] = {}
    for number, item in enumerate(_iterate(source)):
        row: Mapping[str, Any]
        if isinstance(item, Annotation):
            row = {key: getattr(item, key) for key in KEYS}
        elif isinstance(item, Mapping):
            row = item
        else:
            raise AnnotationError(f"annotation {number}: expected a mapping, got {type(item).__name__}")
        if not needed <= row.keys():
            missing = [key for key in required if key not in row]
            raise AnnotationError(f"annotation {number}: missing {', '.join(missing)} (has {', '.join(row)})")
        instruction = row.get("instruction")
        if instruction is not None:
            if instruction in first_seen:
                raise AnnotationError(
                    f"annotation {number}: same instruction as annotation {first_seen[instruction]}: "
                    f"{str(instruction)[:60]!r}"
                )
            first_seen[instruction] = number
        rows.append(row)
    return rows


def preferences_of(annotations: Records | Preferences) -> list[float | None]:
    """Preferences in [1, 2], one per annotation, in order; draws are 1.5 and missing ones None.

    Raises:
        AnnotationError: a value that is not a number in [1, 2] (or 0, a draw), or what `records` raises.
    """
    items = list(_iterate(annotations))
    if any(isinstance(item, Mapping | Annotation) for item in items):
        items = [row["preference"] for row in records(items, required=("preference",))]
    return [preference_of(value, number) for number, value in enumerate(items)]


def preference_of(value: object, number: int) -> float | None:
    """Preference in [1, 2] of annotation `number`; a draw is 1.5 and a missing one None.

    Raises:
        AnnotationError: a value that is not a number in [1, 2] or 0, which is a draw.
    """
    if type(value) is float and 1 <= value <= 2:  # nearly always; the other checks cost more than a fit
        return value
    if value is None:
        return None
    if not isinstance(value, Real) or isinstance(value, bool):
        raise AnnotationError(f"annotation {number}: preference must be a number in [1, 2], got {value!r}")
    preference = float(value)
    if math.isnan(preference):
        return None
    if preference == 0:  # older alpaca_eval wrote draws as 0
        return DRAW
    if not 1 <= preference <= 2:
        raise AnnotationError(
            f"annotation {number}: preference must be in [1, 2] (0 or 1.5: draw), got {preference!r}"
        )
    return preference


def _iterate(source: Records | Preferences) -> Iterable[Any]:
    if isinstance(source, Mapping | str):
        raise AnnotationError(f"expected a sequence of annotations, got {type(source).__name__}")
    if hasattr(source, "iloc") and hasattr(source, "columns"):  # a DataFrame, without importing pandas
        frame: Any = source
        # Several times as quick as to_dict("records").
        columns = [values.tolist() for _, values in frame.items()]
        return [dict(zip(frame.columns, row, strict=True)) for row in zip(*columns, strict=True)]
    return source


def _load(path: Path) -> list[Any]:
    content = path.read_bytes()
    try:
        loaded = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    except (json.JSONDecodeError, UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise AnnotationError(f"{path}: not JSON: {error}") from error
    if not isinstance(loaded, list):
        raise AnnotationError(f"{path}: expected a list of annotations, got {type(loaded).__name__}")
    return loaded

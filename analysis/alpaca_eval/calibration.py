"""What a length-controlled win rate needs in addition to a run's annotations: instruction difficulties and more.

A `Calibration` comes from AlpacaEval's file (`read_calibration`, see `alpaca_eval_assets` for the official one) or is
fitted from a sweep's own annotations (`joint_difficulty`); it knows the formula that it belongs to.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from adadpo.errors import CalibrationError
from analysis.alpaca_eval.logit import Array

if TYPE_CHECKING:
    import pandas as pd

CalibratedMethod = Literal["length_controlled_v1", "joint_difficulty"]
Align = Literal["instruction", "row"]

# alpaca_eval's regularize_to_baseline_lambda = 0.2, halved because there are two gamed baselines.
GAMED_WEIGHT = 0.1
COLUMNS = ("preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline")


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Difficulties of a prompt set and, for `length_controlled_v1`, the rows of the gamed baselines."""

    method: CalibratedMethod  # the formula it belongs to
    difficulty: Array  # [prompts], log odds; how it acts on a run is a coefficient of its own
    instructions: tuple[str, ...] | None  # [prompts], in the same order; None: alignment by row only
    gamed_design: Array  # [rows, 3]: tanh of the standardised length difference, difficulty, 0
    gamed_targets: Array  # [rows], preference - 1 in [0, 1]
    fingerprint: str  # sha256 of the file, or of the fitted values: unlike calibrations are never compared


def read_calibration(
    source: Path | str | pd.DataFrame,
    *,
    instructions: Sequence[str] | None = None,
    sha256: str | None = None,
) -> Calibration:
    """Read and check a calibration file of `length_controlled_v1`, AlpacaEval's `df_gamed.csv`.

    Args:
        source: the CSV file, or its rows as a DataFrame: `preference` in [0, 1] (NaN is left out, as in alpaca_eval),
            `index`, `std_delta_len` (in its own standard deviations), `instruction_difficulty` (log odds) and
            `not_gamed_baseline` (False). The first row of every `index` must come before any second one: as in
            alpaca_eval the position of that row, not the value of `index`, is the prompt's position.
        instructions: the prompts' texts, in the order of those rows; needed for alignment by instruction.
        sha256: what the file's hash must be; None accepts any file.

    Returns:
        The calibration.

    Raises:
        CalibrationError: another hash, missing columns, values that cannot be used, or prompts that do not match.
        FileNotFoundError: there is no such file.

    Source: alpaca_eval 0.6.6, `metrics/glm_winrate.py::_get_featurized_data`.
    """
    import pandas as pd

    if isinstance(source, Path | str):
        name, content = str(source), Path(source).read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if sha256 is not None and found != sha256:
            raise CalibrationError(f"{name}: sha256 is {found}, expected {sha256}")
        try:
            frame = pd.read_csv(io.BytesIO(content))
        except (ValueError, UnicodeDecodeError) as error:  # pandas' parser errors are ValueErrors
            raise CalibrationError(f"{name}: not a CSV table: {error}") from error
    else:
        name, frame = "calibration", source
        found = hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()
    if missing := [column for column in COLUMNS if column not in frame.columns]:
        raise CalibrationError(
            f"{name}: missing columns {', '.join(missing)} (has {', '.join(frame.columns)})"
        )
    if not len(frame):
        raise CalibrationError(f"{name}: no rows")
    if frame["not_gamed_baseline"].astype(bool).any():
        raise CalibrationError(f"{name}: not_gamed_baseline must be False in every row")

    def numbers(column: str) -> Array:
        try:
            return frame[column].to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise CalibrationError(f"{name}: {column} must be numbers: {error}") from error

    lengths, difficulties, targets = map(numbers, ("std_delta_len", "instruction_difficulty", "preference"))
    if not (np.isfinite(lengths).all() and np.isfinite(difficulties).all()):
        raise CalibrationError(f"{name}: std_delta_len and instruction_difficulty must be finite")
    judged = ~np.isnan(targets)
    if not ((targets[judged] >= 0) & (targets[judged] <= 1)).all():
        raise CalibrationError(f"{name}: preference must be in [0, 1]")
    is_first = ~frame["index"].duplicated().to_numpy()
    n = int(is_first.sum())
    if not is_first[:n].all():
        raise CalibrationError(f"{name}: the first {n} rows must be the {n} prompts, each once")
    if instructions is not None and len(set(instructions)) != n:
        raise CalibrationError(f"{name}: {n} prompts, but {len(set(instructions))} different instructions")
    design = np.column_stack([np.tanh(lengths), difficulties, np.zeros(len(frame))])[judged]
    return Calibration(
        method="length_controlled_v1",
        difficulty=frozen(difficulties[:n]),
        instructions=None if instructions is None else tuple(instructions),
        gamed_design=frozen(design),
        gamed_targets=frozen(targets[judged]),
        fingerprint=found,
    )


def difficulty_of(
    instructions: Sequence[str | None], calibration: Calibration, align: Align = "instruction"
) -> Array:
    """Difficulty of each annotation's prompt, in log odds [n].

    Args:
        instructions: prompts of the annotations, in their order [n].
        calibration: where the difficulties come from.
        align: "instruction" looks up the text. "row" takes the calibration's rows in order whatever the prompts are,
            as alpaca_eval does: right for complete annotations in the official order, silently wrong for others. It
            is there to reproduce published numbers.

    Raises:
        CalibrationError: a prompt that the calibration does not know, or more annotations than it has rows.
    """
    if align == "row":
        if calibration.method != "length_controlled_v1":
            raise CalibrationError(f"align='row' is for length_controlled_v1, not {calibration.method}")
        if len(instructions) > len(calibration.difficulty):
            raise CalibrationError(
                f"{len(instructions)} annotations for {len(calibration.difficulty)} rows of the calibration"
            )
        return calibration.difficulty[: len(instructions)]
    if align != "instruction":
        raise ValueError(f"align must be one of instruction, row, got {align!r}")
    if calibration.instructions is None:
        raise CalibrationError("alignment by instruction needs a calibration with its prompts' texts")
    position = {text: number for number, text in enumerate(calibration.instructions)}
    try:
        return calibration.difficulty[[position[text] for text in instructions]]  # type: ignore[index]
    except KeyError:
        unknown = [(k, text) for k, text in enumerate(instructions) if text not in position]
        raise CalibrationError(
            f"{len(unknown)} of {len(instructions)} prompts are not among the calibration's {len(position)}; "
            f"first: annotation {unknown[0][0]}: {str(unknown[0][1])[:60]!r}"
        ) from None


def frozen(values: Array) -> Array:
    """A copy that cannot be written to: calibrations are values."""
    copy = np.array(values, dtype=np.float64)
    copy.flags.writeable = False
    return copy

"""Annotation files scored without a sweep: the work behind `adadpo score`."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from adadpo.errors import AnnotationError, AssetError, CalibrationError, UserError, suggest
from analysis.alpaca_eval.annotations import Annotation, read_annotations
from analysis.alpaca_eval.assets import official_calibration
from analysis.alpaca_eval.calibration import Align, Calibration, read_calibration
from analysis.alpaca_eval.difficulty import joint_difficulty
from analysis.alpaca_eval.integrity_gate import Expected, check_integrity
from analysis.alpaca_eval.length_control import LcMethod, LengthControlled, length_controlled_win_rate
from analysis.alpaca_eval.win_rates import win_rate
from analysis.prompts.bootstrap import (
    BootstrapEstimate,
    PromptBootstrap,
    bootstrap_estimate,
    prompt_bootstrap,
)
from analysis.prompts.paired import Score

# Annotation files as a user names them: found, read whole, still unchecked.

ENDINGS = ("annotations.json", "annotations.json.gz")


@dataclass(frozen=True, slots=True)
class AnnotationFile:
    """A file's records as they are: what is wrong with them is for the integrity gate to say."""

    source: str
    sha256: str
    records: list[Any]


def find_files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and for a folder every `*annotations.json` and `*annotations.json.gz` below it, each once.

    Raises:
        UserError: a path that is not there, or a folder without such a file.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            below = sorted(each for each in path.rglob("*") if each.is_file() and each.name.endswith(ENDINGS))
            if not below:
                raise UserError(f"{path}: no {' or '.join(ENDINGS)} below this folder")
            found.update(dict.fromkeys(below))
        elif path.exists():
            found[path] = None
        else:
            raise UserError(f"{path}: no such file or folder")
    return list(found)


def read_file(path: Path) -> AnnotationFile:
    """Read a `.json` or `.json.gz` file that holds a list.

    Raises:
        UserError: it cannot be read, is not JSON, or is no list.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        records = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    except (ValueError, EOFError, zlib.error, OSError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    if not isinstance(records, list):
        raise UserError(
            f"{path}: expected a list of annotations in AlpacaEval's format, got {type(records).__name__}"
        )
    return AnnotationFile(str(path), hashlib.sha256(content).hexdigest(), records)


def read_prompt_order(path: Path) -> list[str]:
    """Instructions of a JSON list of records, in order: AlpacaEval's prompts, or a complete annotation file.

    Raises:
        UserError: unreadable, a record without a text `instruction`, or one that occurs twice.
    """
    instructions = instructions_of(read_file(path).records)
    if instructions is None:
        raise UserError(f"{path}: every record needs a text 'instruction', each one once")
    return instructions


def instructions_of(records: Sequence[Any]) -> list[str] | None:
    """The records' instructions in order; None when one has none, or one occurs twice."""
    found = [record.get("instruction") if isinstance(record, dict) else None for record in records]
    texts = [text for text in found if isinstance(text, str)]
    return texts if len(set(texts)) == len(found) else None


# The official prompts in their order: sha256 of json.dumps of the 805 instructions. AlpacaEval's calibration file knows
# prompts by position alone, so that order must come from a file that is known to have it.
OFFICIAL_ORDER = "c5770d532bf3f697768ed9a57a05d8b58b2617321ca65070620f059676e7c99a"

Progress = Callable[[str, float | None], None]
"""Told what is done now and which share of it, in [0, 1], is behind; None: not known."""


@dataclass(frozen=True, slots=True)
class Options:
    """How files are scored."""

    calibration: Path | None = None
    prompts: Path | None = None
    method: str | None = None
    align: str = "instruction"
    replicates: int = 2000
    seed: int = 0
    baseline: str | None = None  # what generator_1 should be
    judge: str | None = None  # what annotator should be


@dataclass(frozen=True, slots=True)
class Way:
    """How LC is computed, for all files alike, and what every file should be."""

    calibration: Calibration | None
    align: Align
    expected: Expected

    @property
    def lc_method(self) -> LcMethod:
        """Unlike methods are never compared, so there is one."""
        return "no_difficulty" if self.calibration is None else self.calibration.method


@dataclass(frozen=True, slots=True)
class Opened:
    """A file with its annotations, or why they cannot be used."""

    file: AnnotationFile
    annotations: list[Annotation]
    problem: str | None


def score_files(paths: Sequence[Path], options: Options, on_progress: Progress) -> list[Score]:
    """Score files, those that share prompts under the same bootstrap draws.

    Raises:
        UserError: a file or an option that cannot be used. What is wrong with the annotations is said in the result.
    """
    opened = []
    for number, path in enumerate(paths):
        on_progress(f"reading {path.name}", number / len(paths))
        opened.append(open_file(path))
    way = make_way(opened, options)
    fits = {str(number): fit(each, way) for number, each in enumerate(opened)}
    groups = _sharing_prompts(
        {
            name: each.annotations
            for name, each in zip(fits, opened, strict=True)
            if fits[name].length_controlled_win_rate is not None
        }
    )
    estimates: dict[str, BootstrapEstimate] = {}
    for group in groups:
        on_progress(f"{options.replicates} bootstrap draws of {len(group)} files", None)
        boot = bootstrap(group, way, options)
        estimates |= {name: bootstrap_estimate(boot, name, "length_controlled_win_rate") for name in group}
    return [
        make_score(each, fits[name], estimates.get(name), way)
        for name, each in zip(fits, opened, strict=True)
    ]


def open_file(path: Path) -> Opened:
    """Read a file; annotations that cannot be used are a problem of the result, not an error.

    Raises:
        UserError: what `read_file` raises.
    """
    file = read_file(path)
    try:
        return Opened(file, read_annotations(file.records), None)
    except AnnotationError as error:
        return Opened(file, [], str(error))


def make_way(opened: Sequence[Opened], options: Options) -> Way:
    """Settle method and calibration for these files.

    Raises:
        UserError: options that contradict one another, or a calibration that cannot be had.
    """
    align = _choice(options.align, get_args(Align), "--align")
    default = "no_difficulty" if options.calibration is None else "length_controlled_v1"
    method = _choice(options.method or default, get_args(LcMethod), "--method")
    if options.calibration is not None and method != "length_controlled_v1":
        raise UserError(f"--calibration is for --method length_controlled_v1, not {method}")
    prompts = None if options.prompts is None else read_prompt_order(options.prompts)
    calibration = None
    try:
        if options.calibration is not None:
            if prompts is None and align == "instruction":
                prompts = _official_order(opened)
            calibration = read_calibration(options.calibration, instructions=prompts)
        elif method == "length_controlled_v1":
            from adadpo.files import cache_folder

            calibration = official_calibration(cache_folder())
            prompts = prompts or list(calibration.instructions or ())
        elif method == "joint_difficulty":
            # A quarantined file must not shape the difficulties that the others are judged with.
            calibration = joint_difficulty(
                each.annotations for each in opened if not check_integrity(each.file.records).quarantined
            )
    except FileNotFoundError as error:
        raise UserError(f"--calibration: no such file: {options.calibration}") from error
    except (AnnotationError, CalibrationError, AssetError) as error:
        raise UserError(f"{error}; --method no_difficulty needs no calibration") from error
    expected = Expected(instructions=prompts, baseline=options.baseline, judge=options.judge)
    return Way(calibration, "row" if align == "row" else "instruction", expected)


def fit(opened: Opened, way: Way) -> LengthControlled:
    """LC of a file; where the calibration does not know its prompts, None with the reason."""
    try:
        if opened.problem is None:
            return length_controlled_win_rate(opened.annotations, way.calibration, align=way.align)
        reason = opened.problem
    except CalibrationError as error:
        reason = str(error)
    return LengthControlled(
        length_controlled_win_rate=None,
        lc_method=way.lc_method,
        calibration=None if way.calibration is None else way.calibration.fingerprint,
        reason=reason,
        n=0,
        coefficients={},
    )


def bootstrap(runs: Mapping[str, Sequence[Annotation]], way: Way, options: Options) -> PromptBootstrap:
    """Draws for all runs alike; one seed gives the same draws every time."""
    return prompt_bootstrap(
        runs,
        rng=np.random.default_rng(options.seed),
        calibration=way.calibration,
        align=way.align,
        replicates=options.replicates,
    )


def make_score(
    opened: Opened, controlled: LengthControlled, estimate: BootstrapEstimate | None, way: Way
) -> Score:
    """One file in numbers, past the gate."""
    raw = win_rate(opened.annotations)
    lc = controlled.length_controlled_win_rate
    first = opened.annotations[0] if opened.annotations else None
    lengths = [(len(row.output_2), len(row.output_1)) for row in opened.annotations]
    mean, baseline_mean = (
        (sum(side) / len(lengths) for side in zip(*lengths, strict=True)) if lengths else (None, None)
    )
    interval = None
    if estimate is not None and estimate.low is not None and estimate.high is not None:
        interval = (estimate.low, estimate.high)
    reasons = [opened.problem or controlled.reason, estimate.reason if estimate else None]
    return Score(
        source=opened.file.source,
        sha256=opened.file.sha256,
        generator=first.generator_2 if first else None,
        baseline=first.generator_1 if first else None,
        judge=first.annotator if first else None,
        n=raw.n,
        n_missing=raw.n_missing,
        wins=raw.n_wins,
        losses=raw.n_losses,
        draws=raw.n_draws,
        win_rate=raw.win_rate,
        win_rate_se=raw.standard_error,
        length_controlled_win_rate=lc,
        length_controlled_win_rate_se=estimate.standard_error if estimate else None,
        length_controlled_win_rate_interval=interval,
        lc_method=way.lc_method,
        calibration=None if way.calibration is None else way.calibration.fingerprint,
        reason=next((reason for reason in reasons if reason), None),
        mean_length=mean,
        baseline_mean_length=baseline_mean,
        integrity=check_integrity(
            opened.file.records, expected=way.expected, lc=lc, wr=raw.win_rate, lc_method=way.lc_method
        ),
    )


def _official_order(opened: Sequence[Opened]) -> list[str]:
    for each in opened:
        instructions = instructions_of(each.file.records)
        if instructions and hashlib.sha256(json.dumps(instructions).encode()).hexdigest() == OFFICIAL_ORDER:
            return instructions
    raise UserError(
        "--calibration knows prompts by their position, and none of these files has AlpacaEval's 805 prompts in the "
        "official order: give the prompts with --prompts (alpaca_eval.json or another list of records with an "
        "'instruction'), or --align row if the files are complete and in that order"
    )


def _choice(given: str, allowed: Sequence[str], option: str) -> str:
    if given not in allowed:
        raise UserError(f"{option} is {given!r}{suggest(given, allowed)}")
    return given


def _sharing_prompts(runs: Mapping[str, list[Annotation]]) -> list[dict[str, list[Annotation]]]:
    """Runs in groups without a prompt in common: draws over unrelated prompts would be of no common number."""
    groups: list[tuple[set[str], dict[str, list[Annotation]]]] = []
    for name, rows in runs.items():
        prompts, together = {row.instruction for row in rows}, {name: rows}
        for group in [group for group in groups if group[0] & prompts]:
            groups.remove(group)
            prompts, together = prompts | group[0], group[1] | together
        groups.append((prompts, together))
    return [together for _, together in groups]

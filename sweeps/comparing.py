"""Two annotation files compared over their prompts: the work behind `adadpo compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from analysis import LengthControlled, bootstrap_difference, bootstrap_estimate
from analysis.paired_prompts import (
    PairedPrompts,
    UnlikeError,
    UnlikePromptsError,
    count_prompts,
    pair_prompts,
)
from analysis.prompt_bootstrap import PromptBootstrap
from analysis.scores import Difference, FileComparison
from sweeps.errors import UserError
from sweeps.metrics import METRICS
from sweeps.scoring import Opened, Options, Progress, Way, bootstrap, fit, make_score, make_way, open_file


def compare_files(
    a: Path, b: Path, options: Options, *, common_prompts: bool, on_progress: Progress
) -> tuple[FileComparison, PairedPrompts]:
    """Compare two files over the prompts judged in both: A minus B.

    Raises:
        UserError: a file or an option that cannot be used, or files that are not alike enough to be compared.
    """
    opened = []
    for number, path in enumerate((a, b)):
        on_progress(f"reading {path.name}", number / 2)
        each = open_file(path)
        if each.problem is not None:
            raise UserError(f"{path}: {each.problem}")
        opened.append(each)
    way = make_way(opened, options)
    try:
        paired = pair_prompts(opened[0].annotations, opened[1].annotations, common_prompts=common_prompts)
    except UnlikeError as error:
        hint = "; --common-prompts leaves those out" if isinstance(error, UnlikePromptsError) else ""
        raise UserError(f"A is {a}, B is {b}: {error}{hint}") from error
    if not paired.pairs:
        raise UserError(f"A is {a}, B is {b}: no prompt has a preference in both")
    sides = _restricted(opened, paired, way)
    fits = [_fit(side, way) for side in sides]
    on_progress(f"{options.replicates} bootstrap draws of both files", None)
    boot = bootstrap({name: side.annotations for name, side in zip("AB", sides, strict=True)}, way, options)
    scores = [
        make_score(side, found, bootstrap_estimate(boot, name, "length_controlled_win_rate"), way)
        for side, found, name in zip(sides, fits, "AB", strict=True)
    ]
    compared = FileComparison(
        a=scores[0],
        b=scores[1],
        differences=[_difference(boot, "length_controlled_win_rate"), _difference(boot, "win_rate")],
        counts=count_prompts(paired.pairs),
        only_a=paired.only_a,
        only_b=paired.only_b,
        unjudged=paired.unjudged,
        replicates=options.replicates,
        seed=options.seed,
    )
    return compared, paired


def _restricted(opened: list[Opened], paired: PairedPrompts, way: Way) -> list[Opened]:
    """The files' annotations of the compared prompts, in their own order."""
    kept = {pair.instruction for pair in paired.pairs}
    if way.align == "row" and any(len(kept) < len(each.annotations) for each in opened):
        raise UserError(
            "--align row: prompts must be left out here, and that would shift the rows of the others"
        )
    return [
        Opened(each.file, [row for row in each.annotations if row.instruction in kept], None)
        for each in opened
    ]


def _fit(side: Opened, way: Way) -> LengthControlled:
    found = fit(side, way)
    if found.length_controlled_win_rate is None and way.calibration is not None and found.n == 0:
        raise UserError(f"{side.file.source}: {found.reason}")
    return found


def _difference(
    boot: PromptBootstrap, metric: Literal["length_controlled_win_rate", "win_rate"]
) -> Difference:
    found = bootstrap_difference(boot, "A", "B", metric)
    a, b = (bootstrap_estimate(boot, name, metric).estimate for name in "AB")
    return Difference(
        metric=metric,
        label=next(each.label for each in METRICS if each.name == metric),
        a=a,
        b=b,
        estimate=found.estimate,
        standard_error=found.standard_error,
        low=found.low,
        high=found.high,
        confidence=found.confidence,
        p_value=found.p_value,
        undefined=found.undefined,
        reason=found.reason,
    )

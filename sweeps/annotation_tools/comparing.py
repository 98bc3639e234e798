"""Two annotation files compared over their prompts: the work behind `adadpo compare`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adadpo.errors import UnlikeError, UnlikePromptsError, UserError, suggest
from adadpo.files import atomic_write
from analysis.alpaca_eval.length_control import LengthControlled
from analysis.document import Results
from analysis.prompts.bootstrap import PromptBootstrap, bootstrap_difference, bootstrap_estimate
from analysis.prompts.paired import Difference, FileComparison, PairedPrompts, count_prompts, pair_prompts
from analysis.results.model import Alternative, Declared
from sweeps.annotation_tools.run_tables import Columns, RunTable, read_runs
from sweeps.annotation_tools.scoring import (
    Opened,
    Options,
    Progress,
    Way,
    bootstrap,
    fit,
    make_score,
    make_way,
    open_file,
)
from sweeps.config.metrics import METRICS
from sweeps.store.host import versions


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


# A table of runs compared and reported: the work behind `adadpo compare runs.csv`.


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked of a table."""

    columns: Columns
    arms: tuple[str, ...]  # candidates; empty: the one besides the baseline
    baseline: str | None
    lower_is_better: bool
    alternative: Alternative
    alpha: float
    rope: float
    decimals: int


def compare_table(path: Path, wanted: Wanted) -> tuple[Results, RunTable]:
    """Compare arms in a table of runs.

    Raises:
        UserError: the table or the request cannot be used; the message names the value, the choices and the place.
    """
    from analysis.summary import analyse_runs

    table = read_runs(path, wanted.columns, lower_is_better=wanted.lower_is_better)
    present = list(dict.fromkeys(run.arm for run in table.runs))
    baseline, candidates = _arms(path, present, wanted)
    primary = table.metrics[0]
    if primary.higher_is_better is None:
        raise UserError(
            f"--metric {primary.name}: neither direction is better, so it cannot decide a comparison"
        )
    declared = Declared(
        baseline=baseline,
        candidate=candidates[0],
        more_candidates=candidates[1:],
        primary=primary.name,
        alternative=wanted.alternative,
        alpha=wanted.alpha,
        rope=wanted.rope,
        decimals=wanted.decimals,
    )
    packages = ("adadpo", "numpy", "scipy", "pandas")
    results = analyse_runs(
        table.runs,
        declared=declared,
        metrics=table.metrics,
        name=path.stem,
        provenance={
            "table": path.name,
            "sha256": table.sha256,
            "settings are": ", ".join(table.setting),
            "seeds are": table.seed or "not in the table: every row is taken as seed 0",
            "columns not used": ", ".join(table.unused) or "none",
            "packages now": ", ".join(
                f"{name} {version}" for name, version in versions().items() if name in packages
            ),
        },
    )
    return results, table


def write_table_report(results: Results, folder: Path) -> Path:
    """`results.json`, `report.html`, `tables/` and `figures/` in a folder; returns the page's path.

    Raises:
        FailureError: a file cannot be written.
        ReportError: a figure cannot be drawn.
    """
    from reports.files import write_report

    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder}: is a file; a table's report is a folder")
    atomic_write(
        folder / "results.json", json.dumps(results.model_dump(mode="python"), allow_nan=False) + "\n"
    )
    return write_report(results, folder)[0]


def table_lines(results: Results, table: RunTable, page: Path | None) -> list[str]:
    """What was taken for what, the verdict, and what is missing."""
    primary = results.comparisons[0]
    lines = [
        f"{table.source}: {len(table.runs)} runs of {', '.join(results.arms)} at {len(results.settings)} settings "
        f"with {len(results.seeds)} seeds",
        f"  settings are: {', '.join(table.setting)}; seeds: "
        + (table.seed or "not in the table, every row is taken as seed 0"),
    ]
    if table.unused:
        lines.append(f"  not used: {', '.join(table.unused)}")
    lines.append(results.verdict)
    lines += [arm.verdict for arm in results.other_arms if arm.verdict is not None]
    lines += [f"  missing: {pair}" for pair in primary.missing_pairs[:10]]
    if len(primary.missing_pairs) > 10:
        lines.append(f"  missing: {len(primary.missing_pairs) - 10} more pairs")
    if primary.test is None:
        lines.append(
            "  no arm shares a setting and a seed with the baseline: is every column of --setting a hyperparameter?"
        )
    return lines + ([] if page is None else [f"report: {page}"])


def plain(results: Results, table: RunTable, page: Path | None) -> dict[str, Any]:
    """For programs: how the table was read, then `results.json`."""
    read = {"source": table.source, "setting": table.setting, "seed": table.seed, "unused": table.unused}
    return {"read": read, "page": None if page is None else str(page)} | results.model_dump(mode="json")


def _arms(path: Path, present: list[str], wanted: Wanted) -> tuple[str, list[str]]:
    for option, names in (
        ("--arm", wanted.arms),
        ("--baseline", [wanted.baseline] if wanted.baseline else []),
    ):
        for name in names:
            if name not in present:
                raise UserError(
                    f"{path}: {option} {name!r} is not in column {wanted.columns.arm!r}{suggest(name, present)}"
                )
    if wanted.baseline is None:
        raise UserError(f"{path}: --baseline names the arm to compare with; arms: {', '.join(present)}")
    candidates = list(wanted.arms) or [arm for arm in present if arm != wanted.baseline]
    if wanted.baseline in candidates:
        raise UserError(f"--arm and --baseline are the same, {wanted.baseline!r}")
    if len(set(candidates)) < len(candidates):
        raise UserError(f"--arm names an arm twice: {', '.join(candidates)}")
    if not wanted.arms and len(candidates) != 1:
        raise UserError(
            f"{path}: --arm names the arm to compare with {wanted.baseline}; arms: {', '.join(present)}"
        )
    return wanted.baseline, candidates

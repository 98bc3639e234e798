"""`adadpo score` and `adadpo compare`: annotation files and tables of runs, without a sweep and without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from adadpo.errors import UserError
from sweeps.cli.shared import JsonOption, print_json, progress, say_all

if TYPE_CHECKING:
    from sweeps.annotation_tools.comparing import Wanted
    from sweeps.annotation_tools.scoring import Options

CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration", metavar="FILE", help="AlpacaEval's df_gamed.csv: LC is then length_controlled_v1."
    ),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option(
        "--prompts", metavar="FILE", help="The whole prompt set in its order: what should be there."
    ),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method", help="length_controlled_v1, joint_difficulty (from these files) or no_difficulty."
    ),
]
AlignOption = Annotated[
    str,
    typer.Option(
        "--align", help="How difficulties find their prompts: instruction, or row as alpaca_eval does."
    ),
]
BootstrapOption = Annotated[int, typer.Option("--bootstrap", metavar="N", min=2, help="Draws of prompts.")]
TABLES = "Tables of runs"
OF_TABLES = (
    *("metric", "arm", "baseline", "setting", "arm_column", "seed_column"),
    *("alternative", "alpha", "rope", "decimals", "lower_is_better"),
)
OF_FILES = ("common_prompts", "calibration", "prompts", "method", "align", "bootstrap", "seed")
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the bootstrap draws.")]


def score(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE_OR_FOLDER...", help="Annotation files (.json, .json.gz), or folders of them."
        ),
    ],
    calibration: CalibrationOption = None,
    prompts: PromptsOption = None,
    method: MethodOption = None,
    align: AlignOption = "instruction",
    baseline: Annotated[str | None, typer.Option(help="What the baseline's name must be.")] = None,
    judge: Annotated[str | None, typer.Option(help="What the judge's name must be.")] = None,
    bootstrap: BootstrapOption = 2000,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Win rates of AlpacaEval annotation files, with standard errors and what is wrong with them."""
    from sweeps.annotation_tools.scoring import Options, find_files, score_files
    from sweeps.cli.score_tables import score_lines

    options = Options(calibration, prompts, method, align, bootstrap, seed, baseline, judge)
    with progress() as show:
        scores = score_files(find_files(paths), options, show)
    if as_json:
        print_json(_how(options) | {"files": [_plain(each) for each in scores]})
        return
    say_all(score_lines(scores, options))


def compare(
    context: typer.Context,
    a: Annotated[
        Path, typer.Argument(metavar="A", help="An annotation file, or a table of runs (.csv, .tsv).")
    ],
    b: Annotated[
        Path | None, typer.Argument(metavar="[B]", help="Another model's annotations of the same prompts.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="Write a page to browse; of a table, a folder."),
    ] = None,
    common_prompts: Annotated[
        bool, typer.Option("--common-prompts", help="Leave out the prompts that only one file has.")
    ] = False,
    calibration: CalibrationOption = None,
    prompts: PromptsOption = None,
    method: MethodOption = None,
    align: AlignOption = "instruction",
    bootstrap: BootstrapOption = 2000,
    seed: SeedOption = 0,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Column to compare; again for further ones.", rich_help_panel=TABLES),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(help="The arm that is compared; again: a family (Holm).", rich_help_panel=TABLES),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The arm it is compared with.", rich_help_panel=TABLES)
    ] = None,
    setting: Annotated[
        str | None,
        typer.Option(
            metavar="COL[,COL]",
            help="Columns that make a setting. Default: 'setting', or every column without another role.",
            rich_help_panel=TABLES,
        ),
    ] = None,
    arm_column: Annotated[str, typer.Option(help="Column of the arms.", rich_help_panel=TABLES)] = "arm",
    seed_column: Annotated[
        str | None, typer.Option(help="Column of the seeds. Default: 'seed'.", rich_help_panel=TABLES)
    ] = None,
    alternative: Annotated[
        Literal["two-sided", "greater", "less"], typer.Option(rich_help_panel=TABLES)
    ] = "two-sided",
    alpha: Annotated[float, typer.Option(min=1e-9, max=1 - 1e-9, rich_help_panel=TABLES)] = 0.05,
    rope: Annotated[
        float,
        typer.Option(
            min=0, help="Half-width of practical equivalence; 0: not asked.", rich_help_panel=TABLES
        ),
    ] = 0.0,
    decimals: Annotated[
        int,
        typer.Option(min=0, max=15, help="Differences are rounded to this first.", rich_help_panel=TABLES),
    ] = 9,
    lower_is_better: Annotated[
        bool, typer.Option("--lower-is-better", help="Of the metrics.", rich_help_panel=TABLES)
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Paired comparison of two annotation files, or of two arms in a table of runs.

    Two files: difference, interval, p and the prompts that flipped. A table with a column each for arm, seed,
    hyperparameters and metrics: the test over settings with everything around it, and the report.
    """
    is_table = a.suffix.lower() in (".csv", ".tsv")
    _refuse_others(context, is_table)
    if is_table:
        if b is not None:
            raise UserError(f"{a} is a table of runs: it stands alone, and {b} is one file too many")
        if not metric:
            raise UserError(f"{a}: --metric names the column to compare")
        from sweeps.annotation_tools.comparing import Wanted
        from sweeps.annotation_tools.run_tables import Columns

        names = [name.strip() for name in (setting or "").split(",") if name.strip()]
        columns = Columns(arm_column, seed_column, tuple(metric), tuple(names))
        wanted = Wanted(
            columns, tuple(arm or ()), baseline, lower_is_better, alternative, alpha, rope, decimals
        )
        _compare_table(a, wanted, output, as_json)
        return
    if b is None:
        raise UserError(f"{a}: a second annotation file is needed; a table of runs is named .csv or .tsv")
    from sweeps.annotation_tools.comparing import compare_files
    from sweeps.annotation_tools.scoring import Options

    options = Options(calibration, prompts, method, align, bootstrap, seed)
    with progress() as show:
        compared, paired = compare_files(
            _one_file(a), _one_file(b), options, common_prompts=common_prompts, on_progress=show
        )
    if output is not None:
        from reports.two_files import write_comparison

        write_comparison(compared, paired.pairs, output)
    if as_json:
        from reports.two_files import finding

        said = vars(finding(compared)) | {"page": None if output is None else str(output)}
        print_json(_how(options) | said | compared.model_dump(mode="json"))
        return
    from sweeps.cli.score_tables import comparison_lines

    say_all(comparison_lines(compared, paired, output))


def _compare_table(path: Path, wanted: Wanted, output: Path | None, as_json: bool) -> None:
    from sweeps.annotation_tools.comparing import compare_table, plain, table_lines, write_table_report

    results, table = compare_table(path, wanted)
    page = None if output is None else write_table_report(results, output)
    if as_json:
        print_json(plain(results, table, page))
        return
    say_all(table_lines(results, table, page))


def _refuse_others(context: typer.Context, is_table: bool) -> None:
    """An option of the other kind of comparison would be ignored in silence."""
    others = OF_FILES if is_table else OF_TABLES
    for name in others:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            kind = "annotation files" if is_table else "tables of runs (.csv, .tsv)"
            raise UserError(f"--{name.replace('_', '-')} is for {kind}")


def _one_file(path: Path) -> Path:
    from sweeps.annotation_tools.scoring import find_files

    found = find_files([path])
    if len(found) > 1:
        raise UserError(
            f"{path}: {len(found)} annotation files, one is needed: {', '.join(map(str, found[:3]))}, ..."
        )
    return found[0]


def _how(options: Options) -> dict[str, Any]:
    return {"bootstrap": options.replicates, "seed": options.seed, "align": options.align}


def _plain(score: Any) -> dict[str, Any]:
    plain: dict[str, Any] = score.model_dump(mode="json")
    return plain | {"quarantined": score.integrity.quarantined}

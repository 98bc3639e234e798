"""`adadpo score` and `adadpo compare`: AlpacaEval annotation files without a sweep, and without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sweeps.errors import FailureError, UserError

if TYPE_CHECKING:
    from sweeps.scoring import Options, Progress

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
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Of the draws.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Plain data on standard output.")]


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
    from sweeps.annotation_files import find_files
    from sweeps.score_tables import score_lines
    from sweeps.scoring import Options, score_files

    options = Options(calibration, prompts, method, align, bootstrap, seed, baseline, judge)
    with _progress() as show:
        scores = score_files(find_files(paths), options, show)
    if as_json:
        _print_json(_how(options) | {"files": [_plain(each) for each in scores]})
        return
    for line in score_lines(scores, options):
        _console().print(line, markup=False, highlight=False)


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="An annotation file.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another model's, on the same prompts.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PAGE.html", help="Write a page to browse.")
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
    as_json: JsonOption = False,
) -> None:
    """Paired comparison of two annotation files: difference, interval, p and the prompts that flipped."""
    from sweeps.comparing import compare_files
    from sweeps.score_tables import comparison_lines
    from sweeps.scoring import Options

    options = Options(calibration, prompts, method, align, bootstrap, seed)
    with _progress() as show:
        compared, paired = compare_files(
            _one_file(a), _one_file(b), options, common_prompts=common_prompts, on_progress=show
        )
    if output is not None:
        from reports import ReportError
        from reports.compared import write_comparison

        try:
            write_comparison(compared, paired.pairs, output)
        except ReportError as error:
            raise FailureError(str(error)) from error
    if as_json:
        from reports.paired_sentence import finding

        said = vars(finding(compared)) | {"page": None if output is None else str(output)}
        _print_json(_how(options) | said | compared.model_dump(mode="json"))
        return
    for line in comparison_lines(compared, paired, output):
        _console().print(line, markup=False, highlight=False)


def _one_file(path: Path) -> Path:
    from sweeps.annotation_files import find_files

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


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def _console() -> Console:
    return Console(soft_wrap=True, emoji=False)


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on a terminal, on standard error; nothing elsewhere."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=30), TimeElapsedColumn())
    console = Console(stderr=True, emoji=False)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:

        def show(said: str, share: float | None) -> None:
            for old in bar.task_ids:
                bar.remove_task(old)
            # Without a total the bar moves and says only that work goes on.
            bar.add_task(said, total=None if share is None else 100, completed=round(100 * (share or 0)))

        yield show

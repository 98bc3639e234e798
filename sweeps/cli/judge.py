"""`adadpo judge` and `adadpo assets`: judging again, and AlpacaEval's files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adadpo.errors import UserError
from sweeps.cli.shared import (
    JsonOption,
    RunsArgument,
    StoreOption,
    SweepArgument,
    open_launched,
    out,
    print_json,
    say,
)

if TYPE_CHECKING:
    from sweeps.config.schema import Judging


def judge(
    sweep: SweepArgument,
    run: RunsArgument = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="rubric; or keys as in a sweep file: '{kind: alpaca_eval, base_url: ...}'; or a YAML file of them.",
        ),
    ] = None,
    lc_method: Annotated[
        str, typer.Option(help="auto, length_controlled_v1, joint_difficulty or no_difficulty.")
    ] = "auto",
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="AlpacaEval's df_gamed.csv.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Judge a sweep's responses again, without training; both judgements stay, the report shows both."""
    from sweeps.operations.launch import write_everything
    from sweeps.operations.rejudge import judge_again, require_judged

    opened = open_launched(sweep, store)
    if judge is None:
        given, folder = opened.spec.evaluate.judge.model_dump(), Path(opened.origin.folder)
    else:
        given, folder = _given(judge)
    raw: dict[str, Any] = {"judge": given, "lc_method": lc_method}
    if calibration is not None:
        raw["calibration"] = str(calibration.expanduser().absolute())
    elif judge is None and lc_method in ("auto", "length_controlled_v1"):  # the sweep's own, as its judge is
        raw["calibration"] = opened.spec.evaluate.calibration
    evaluation = judge_again(opened, _judging(raw), folder, out, run or [])
    write_everything(opened, out)
    require_judged(opened, evaluation)


def assets(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="df_gamed.csv, alpaca_eval.json, ...")
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch/--list", help="Fetch what is missing, or only say what is there.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Fetch AlpacaEval's prompts, baseline and calibration from the hub into the cache, each checked by sha256."""
    from adadpo.files import cache_folder
    from analysis.alpaca_eval.assets import fetch_assets, list_assets

    try:
        found = (fetch_assets if fetch else list_assets)(cache_folder(), names or None)
    except ValueError as error:  # an unknown name
        raise UserError(str(error)) from error
    if as_json:
        print_json([asset.model_dump() for asset in found])
        return
    for asset in found:
        digest = f"sha256 {asset.sha256}" if asset.sha256 else "not fetched"
        say(f"{asset.status:8} {asset.name}  {digest}\n         {asset.path}")


def _given(text: str) -> tuple[Any, Path]:
    """A judge from the command line (a name, YAML, or a file of YAML), and where relative paths in it start."""
    from sweeps.config.yaml_source import load_yaml, read_yaml

    if not text.lstrip().startswith("{") and Path(text).suffix in (".yaml", ".yml", ".json"):
        file = load_yaml(Path(text).expanduser().absolute())
    else:
        file = read_yaml(text, Path("--judge"), Path.cwd())
    return file.data, file.folder


def _judging(raw: dict[str, Any]) -> Judging:
    """The judge and its options.

    Raises:
        UserError: every problem of them.
    """
    from pydantic import ValidationError

    from sweeps.config.schema import Judging, judge_problems, pydantic_problems

    problems = list(judge_problems(raw["judge"]))
    try:
        if not problems:
            return Judging.model_validate(raw)
    except ValidationError as error:
        problems = list(pydantic_problems(error, raw, Judging))
    options = [str(problem.location[0]) if problem.location else "lc_method" for problem in problems]
    said = [
        f"--{option.replace('_', '-')}: {problem.message}"
        for option, problem in zip(options, problems, strict=True)
    ]
    raise UserError("; ".join(said))

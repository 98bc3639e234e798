"""`adadpo audit`: the gradients of chosen and rejected responses, measured on held-out pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from adadpo.errors import UserError, suggest
from sweeps.cli.shared import JsonOption, StoreOption, print_json, progress, say
from sweeps.store.layout import Store, open_store

if TYPE_CHECKING:
    from analysis.results.gradient_audit import Audit
    from sweeps.operations.gradient_audit import Options


def audit(
    target: Annotated[
        str,
        typer.Argument(
            metavar="SWEEP_OR_MODEL", help="A sweep file or name; or a model: alias, folder or hub id."
        ),
    ],
    run: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Of a sweep: words such as arm=dpo beta=0.1 seed=0. Default: first setting and seed, every arm.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Of a model: the loss, e.g. adasimpo; may be repeated. Default: adadpo."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of a model: JSON or JSONL pairs. Default: the built-in ones."),
    ] = None,
    lora: Annotated[
        int | None,
        typer.Option(
            metavar="RANK", min=1, help="Of a model: gradients in LoRA adapters. Default: every weight."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.json",
            help="Of a MODEL: the results, with a page next to them. [./audit.json]",
        ),
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Pairs with parameter gradients. Default: what keeps the cost below 3 evaluation passes.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many held-out pairs.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="bfloat16 or float32. Default: the run's, for a model bfloat16.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of --pairs.")] = 0,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure by how much the gradients of chosen and rejected responses differ, at every stage of the balance."""
    from sweeps.operations.gradient_audit import Options, Precision

    allowed = get_args(Precision)
    if precision is not None and precision not in allowed:
        raise UserError(f"--precision {precision!r}{suggest(precision, allowed)}")
    options = Options(pairs=pairs, limit=limit, precision=precision, seed=seed)  # type: ignore[arg-type]
    opened = open_store(store)
    only_models = {"--method": method, "--data": data, "--lora": lora, "--output": output}
    if _is_sweep(target, opened):
        unused = [name for name, value in only_models.items() if value is not None]
        if unused:
            raise UserError(f"{', '.join(unused)} has no effect on a sweep, which says its own; remove it")
        found, places = _of_sweep(target, run or [], opened, options)
    else:
        if run:
            raise UserError(f"{target} is no sweep{_known(opened)}; runs ({' '.join(run)}) belong to a sweep")
        found, places = _of_model(target, opened, method or ["adadpo"], data, lora, output, options)
    if as_json:
        print_json(found.model_dump(mode="json") | {"written": list(map(str, places))})
        return
    cost = (
        f"{found.pairs} pairs, {len(found.gradient_pairs)} of them with parameter gradients; "
        f"{found.cost.passes:.1f} evaluation passes by tokens for each policy, {found.cost.seconds:.0f} s in all"
    )
    say(*found.findings, *found.missing, cost, *map(str, places))


def _is_sweep(target: str, store: Store) -> bool:
    from sweeps.state.opening import file_of

    try:
        file_of(target, store)
    except UserError:
        return False
    return True


def _known(store: Store) -> str:
    names = store.sweeps()
    return f" (there are: {', '.join(names[:10])})" if names else ""


def _of_sweep(target: str, words: list[str], store: Store, options: Options) -> tuple[Audit, list[Path]]:
    from sweeps.operations.gradient_audit import FILE, audit_sweep, write_audit
    from sweeps.operations.report import write_results
    from sweeps.state.opening import open_sweep

    sweep = open_sweep(target, store)
    store.require_writable()
    with progress("loading the model") as show:
        found = audit_sweep(sweep, words, options, show)
    write_audit(found, sweep.folder / FILE)
    places = [sweep.folder / FILE]
    if (sweep.folder / "declared.json").exists():  # else nothing was launched: there is no report yet
        places.append(write_results(sweep)[1])
    return found, places


def _of_model(
    target: str,
    store: Store,
    methods: list[str],
    data: Path | None,
    lora: int | None,
    output: Path | None,
    options: Options,
) -> tuple[Audit, list[Path]]:
    from reports.page import write_audit_page
    from sweeps.operations.gradient_audit import FILE, audit_model, write_audit

    path = output or Path(FILE)
    if path.suffix != ".json":
        raise UserError(f"--output {path}: give a name that ends in .json")
    try:
        with progress("loading the model") as show:
            found = audit_model(target, methods, data, lora, options, show)
    except UserError as error:
        raise UserError(f"{error}{_known(store)}") from error
    write_audit(found, path)
    return found, [path, write_audit_page(found, path.with_suffix(".html"))]

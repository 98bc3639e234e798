"""docs/methods.md against the tables of the code: a new loss or default must not leave the page behind."""

from __future__ import annotations

import re
from pathlib import Path

from ruamel.yaml import YAML

from adadpo.method.registry import BALANCE_OPTIONS, LOSSES, NOT_IMPLEMENTED, PRESETS, Method, make_method

PAGE = (Path(__file__).parents[1] / "docs" / "methods.md").read_text(encoding="utf-8")


def test_every_loss_has_its_row() -> None:
    """Names, presets, source and reference model, row by row."""
    rows = {
        row.split("|")[1].strip(" `"): row
        for row in PAGE.split("## Balance")[0].splitlines()
        if re.match(r"\| `\w+` \| `\w+`", row)
    }
    assert list(rows) == list(LOSSES)
    for name, loss in LOSSES.items():
        cells = [cell.strip() for cell in rows[name].split("|")]
        mine = [preset for preset, options in PRESETS.items() if options["loss"] == name]
        assert cells[2] == ", ".join(f"`{preset}`" for preset in mine)
        assert cells[6] == ("yes" if loss.needs_reference else "no")
        assert cells[7] == loss.source
        assert (cells[5] == "baseline only") is not loss.can_balance
        assert all(option in cells[4] for option in loss.hyperparameters)
    for described in NOT_IMPLEMENTED.values():
        assert described.split(", ")[0] in PAGE
        assert described.split(", ")[1] in PAGE


def test_defaults_are_the_codes() -> None:
    """The paragraph's numbers are those of the models of the code."""
    text = " ".join(PAGE.split())
    assert {name: loss.beta for name, loss in LOSSES.items()} == {
        **dict.fromkeys(["dpo", "rdpo", "ipo", "cpo", "orpo"], 0.1), "simpo": 2.0, "dpop": 0.3, "sppo": 0.001,
    }  # fmt: skip
    for said in ("beta 0.1 for DPO", "2.0 for SimPO with simpo_gamma 1.0", "0.3 for DPOP with dpop_lambda 50",
                 "0.001 for SPPO", "cpo_alpha is 1.0", "rdpo_alpha 0.05"):  # fmt: skip
        assert said in text
    options = {name: field.default for name, field in Method.model_fields.items()}
    assert (options["simpo_gamma"], options["dpop_lambda"], options["cpo_alpha"], options["rdpo_alpha"]) == (
        1, 50, 1, 0.05,
    )  # fmt: skip
    assert all(f"`{option}`" in PAGE for option in BALANCE_OPTIONS)
    assert make_method("adadpo").clip == 10


def test_the_ablation_is_a_sweep() -> None:
    """The page's arms are methods, each another one."""
    block = PAGE.split("```yaml")[1].split("```")[0]
    arms = YAML(typ="safe", pure=True).load(block)["arms"]
    methods = [
        make_method((options or {}).pop("method", name), **(options or {})) for name, options in arms.items()
    ]
    assert len({method.model_dump_json() for method in methods}) == len(arms) == 4

"""What a sweep file may say: every problem is told at once, at its place, and nothing in a file can do harm."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from adadpo.errors import UserError
from adadpo.method.registry import Method
from sweeps.config.expand import cells
from sweeps.config.grid import AXES, parse_seeds, value_problem
from sweeps.config.schema import load_spec
from sweeps.config.yaml_source import MOST_VALUES, load_yaml
from sweeps.state.opening import open_sweep
from sweeps.store.layout import Store
from tests.sweeps.sweep_examples import CONFIGS, SMALL, adadpo, opened, spec_errors, write_sweep

# Lines 1 to 5 of the files below; what is under test comes after or in place of something.
PLAIN = """\
name: plain
model: tiny-random-llama
arms: {dpo: {}, adadpo: {}}
grid: {beta: [0.1]}
seeds: [0]
"""


def grid(text: str) -> str:
    return PLAIN.replace("grid: {beta: [0.1]}", text)


def loaded(tmp_path: Path, text: str) -> Any:
    return load_spec(write_sweep(tmp_path / "sweep.yaml", text))


def test_numbers_are_numbers(tmp_path: Path) -> None:
    """YAML 1.2's core schema: 1e-5 is a float. PyYAML (YAML 1.1) reads it as text, a known trap (trl#1450)."""
    spec = loaded(
        tmp_path,
        grid("grid: {learning_rate: [1e-5, 5e-7, 1.0e-6, 2E-6, 1e-05, .5, 1]}").replace("1e-05, ", ""),
    )
    [values] = spec.grid[0].values()
    assert values == [1e-5, 5e-7, 1e-6, 2e-6, 0.5, 1]
    assert [type(value) for value in values] == [float] * 5 + [int]


def test_words_of_yaml_1_1_stay_words(tmp_path: Path) -> None:
    """An arm may be called `no` or `on`: YAML 1.2 has only true and false."""
    spec = loaded(
        tmp_path,
        PLAIN.replace("{dpo: {}, adadpo: {}}", "{no: {method: dpo}, on: {method: adadpo}}")
        + "compare: {baseline: no, candidate: on}\n",
    )
    assert list(spec.arms) == ["no", "on"]


# text of the file -> its problems, as they must be told; lines and columns counted by hand, from 1
PROBLEMS: dict[str, tuple[str, list[str]]] = {
    "unknown key": (PLAIN + "trian: {}\n", ["6:1: unknown key 'trian'; did you mean 'train'?"]),
    "unknown axis": (
        grid("grid: {betta: [0.1]}"),
        ["4:8: unknown key 'betta' under grid; did you mean 'beta'?"],
    ),
    "unknown under train": (
        PLAIN + "train:\n  batchsize: 8\n",
        ["7:3: unknown key 'batchsize'; did you mean 'batch_size'?"],
    ),
    "unknown under lora": (
        PLAIN + "train: {lora: {rank: 8}}\n",
        ["6:16: unknown key 'rank' under lora; choose from r, alpha, dropout, target_modules"],
    ),
    "unknown under decoding": (
        PLAIN + "evaluate:\n  decoding: {temprature: 1}\n",
        ["7:14: unknown key 'temprature' under evaluate.decoding; did you mean 'temperature'?"],
    ),
    "unknown under launch": (
        PLAIN + "launch: {executor: local, worker: 2}\n",
        ["6:27: unknown key 'worker' under launch; did you mean 'workers'?"],
    ),
    "unknown for slurm": (
        PLAIN + "launch:\n  executor: slurm\n  partitoin: gpu\n",
        ["8:3: unknown key 'partitoin' under launch; did you mean 'partition'?"],
    ),
    "unknown preset": (
        PLAIN.replace("adadpo: {}", "adadpoo: {}"),
        [
            "3:7: compare.candidate 'adadpo' is not an arm; did you mean 'adadpoo'?",
            "3:17: arm 'adadpoo': unknown method 'adadpoo'; did you mean 'adadpo'? (or give it as 'method:')",
        ],
    ),
    "beta of 0": (
        grid("grid: {beta: [0.1, 0, -0.1]}"),
        [
            "4:20: grid.beta[1] must be greater than 0, got 0",
            "4:23: grid.beta[2] must be greater than 0, got -0.1",
        ],
    ),
    "nan": (grid("grid: {beta: [.nan]}"), ["4:15: grid.beta[0] must be a finite number, got nan"]),
    "inf": (grid("grid: {beta: [.inf]}"), ["4:15: grid.beta[0] must be a finite number, got inf"]),
    "inf learning rate": (
        grid("grid: {learning_rate: [.inf]}"),
        ["4:24: grid.learning_rate[0] must be a finite number, got inf"],
    ),
    "bool in the grid": (grid("grid: {beta: [true]}"), ["4:15: grid.beta[0] must be a number, got True"]),
    "text in the grid": (grid("grid: {beta: ['0.1']}"), ["4:15: grid.beta[0] must be a number, got '0.1'"]),
    "number for a switch": (
        grid("grid: {gradient_checkpointing: [1]}"),
        ["4:33: grid.gradient_checkpointing[0] must be true or false, got 1"],
    ),
    "bool for a number": (
        PLAIN + "train: {batch_size: true}\ncompare: {alpha: true}\n",
        [
            "6:21: batch_size: input should be a valid integer, got True",
            "7:18: compare.alpha: input should be a valid number, got True",
        ],
    ),
    "mapping in the grid": (
        grid("grid: {lora: [{r: 8}]}"),
        ["4:15: grid.lora[0] must be one value; give lora to an arm instead"],
    ),
    "empty grid": (
        grid("grid: {}"),
        ["4:7: grid must map at least one axis to its values, e.g. 'beta: [0.05, 0.1]'"],
    ),
    "empty axis": (
        grid("grid: {beta: []}"),
        ["4:14: grid.beta must be a list of at least one value, got []"],
    ),
    "one value": (
        grid("grid: {beta: 0.1}"),
        ["4:14: grid.beta must be a list of at least one value, got 0.1"],
    ),
    "a value twice": (grid("grid: {beta: [0.1, 1.0e-1]}"), ["4:20: grid.beta[1]: 0.1 is there twice"]),
    "all excluded": (
        grid("grid: {beta: [0.1], exclude: [{beta: 0.1}]}"),
        ["4:7: the grid is empty: every combination is excluded"],
    ),
    "excluding what is not there": (
        grid("grid: {beta: [0.1, 0.2], exclude: [{beta: 0.3}, {bta: 0.1}]}"),
        [
            "4:43: exclude: beta is never 0.3; its values are [0.1, 0.2]",
            "4:50: exclude names 'bta', which is not an axis of this grid",
        ],
    ),
    "zip of unequal lengths": (
        grid("grid: {zip: {beta: [0.1], learning_rate: [1e-5, 2e-5]}}"),
        ["4:13: zip needs lists of equal length, got {'beta': 1, 'learning_rate': 2}"],
    ),
    "zip and grid": (
        grid("grid: {beta: [0.1], zip: {beta: [0.1]}}"),
        ["4:27: axis 'beta' is both in the grid and in its zip"],
    ),
    "a union of unlike grids": (
        grid("grid: [{beta: [0.1]}, {learning_rate: [1e-5]}]"),
        ["4:23: the grids of a union must have the same axes: ['beta'] and ['learning_rate']"],
    ),
    "axis fixed by an arm": (
        PLAIN.replace("adadpo: {}", "adadpo: {beta: 0.1}"),
        ["4:8: axis 'beta' is fixed by arm 'adadpo': it cannot be both"],
    ),
    "axis that an arm does not use": (
        grid("grid: {clip: [3, 5]}"),
        [
            "4:8: axis 'clip' cannot be used with arm 'dpo': clip has no effect with balance: none; "
            "remove it or choose a balance"
        ],
    ),
    "option that a loss does not use": (
        PLAIN.replace("dpo: {},", "dpo: {clip: 3},"),
        [
            "3:13: arm 'dpo': clip has no effect with balance: none; remove it or choose a balance",
        ],
    ),
    "arm option out of range": (
        PLAIN.replace("adadpo: {}", "adadpo: {clip: 1}"),
        ["3:32: clip must be greater than 1, got 1"],
    ),
    "compare: no such arm": (
        PLAIN + "compare: {candidate: adpo}\n",
        ["6:22: compare.candidate 'adpo' is not an arm; did you mean 'dpo'?"],
    ),
    "compare: one arm": (
        PLAIN + "compare: {candidate: dpo}\n",
        ["6:10: compare.baseline and compare.candidate are the same arm"],
    ),
    "compare: no such metric": (
        PLAIN + "compare: {primary: win_rat}\n",
        ["6:20: unknown metric 'win_rat'; did you mean 'win_rate'?"],
    ),
    "compare: a metric without a direction": (
        PLAIN + "compare: {primary: kl}\n",
        [
            "6:20: unknown metric 'kl'; choose from length_controlled_win_rate, win_rate, lc_minus_wr, "
            "reward_accuracy, reward_margin"
        ],
    ),
    "lists where names belong": (
        PLAIN.replace("dpo: {},", "dpo: {method: [dpo]},")
        + "compare: {baseline: [dpo], primary: [win_rate]}\n",
        [
            "3:22: arm 'dpo': unknown method ['dpo']; did you mean 'dpo'?",
            "6:21: compare.baseline: input should be a valid string",
            "6:37: compare.primary: input should be a valid string",
        ],
    ),
    "judge": (
        PLAIN + "evaluate: {judge: rubrik}\n",
        ["6:19: unknown judge 'rubrik'; did you mean 'rubric'?"],
    ),
    "judge without constraints": (
        PLAIN + "evaluate: {prompts: alpaca_eval}\n",
        ["6:11: the rubric judge needs prompts with constraints; alpaca_eval has none"],
    ),
    "batch": (
        PLAIN + "train: {batch_size: 8, micro_batch_size: 3}\n",
        ["6:8: batch_size 8 is not a multiple of micro_batch_size 3"],
    ),
    "batch and processes": (
        PLAIN + "train: {batch_size: 8, forward: trl}\nlaunch: {executor: slurm, tasks_per_node: 3}\n",
        [
            "6:21: batch_size 8 is not a multiple of micro_batch_size 2 x 3 processes = 6; "
            "possible: batch_size 6 or 12; or 1, 2, 4, 8 processes"
        ],
    ),
    "invariant": (
        PLAIN + "train: {micro_batch_size: 3}\ninvariant: {effective_batch: 128}\n",
        ["6:8: batch_size 128 is not a multiple of micro_batch_size 3"],
    ),
    "invariant and processes": (
        PLAIN + "train: {micro_batch_size: 8}\ninvariant: {effective_batch: 128}\n"
        "launch: {executor: local, tasks_per_node: 6}\n",
        [
            "7:30: batch_size 128 is not a multiple of micro_batch_size 8 x 6 processes = 48; "
            "possible: batch_size 96 or 144; or 1, 2, 4, 8, 16 processes"
        ],
    ),
    "invariant and another batch": (
        PLAIN + "train: {batch_size: 64}\ninvariant: {effective_batch: 128}\n",
        ["6:21: batch_size 64 is not invariant.effective_batch 128: leave it out, it is 128 there"],
    ),
    "strategy": (
        PLAIN + "launch: {executor: local, strategy: zero2}\n",
        ["6:37: launch.strategy: input should be 'ddp', 'fsdp' or 'zero3', got 'zero2'"],
    ),
    "storage": (
        PLAIN + "study: {storage: secret@host}\n",
        ["6:18: study.storage must be journal or a database URL with '://'"],
    ),
    "storage with a password": (
        PLAIN + "study: {storage: 'postgresql://me:secret@host/db'}\n",
        [
            "6:18: a password stands in study.storage; name a variable (user:$PGPASSWORD@host) or use ~/.pgpass"
        ],
    ),
    "storage with a password as an option": (
        PLAIN + "study: {storage: 'postgresql://host/db?user=me&password=secret'}\n",
        [
            "6:18: a password stands in study.storage; name a variable (user:$PGPASSWORD@host) or use ~/.pgpass"
        ],
    ),
    "seeds twice": (
        PLAIN.replace("seeds: [0]", "seeds: [0, 1, 0]"),
        ["5:8: seeds [0] are there twice: a repeated seed is the same run"],
    ),
    "no seeds": (
        PLAIN.replace("seeds: [0]\n", ""),
        ["1:1: seeds must be whole numbers from 0, as [0, 1, 2] or 0..2, got None"],
    ),
    "name": (
        PLAIN.replace("name: plain", "name: ../plain"),
        ["1:7: name '../plain': use letters, digits, '.', '_' and '-' (it names a folder)"],
    ),
    "keys that are no text": (
        PLAIN + "train: {1: 2, null: 3}\n? [a]\n: b\n",
        [],
    ),
    "many": (
        PLAIN.replace("0.1", "-1").replace("[0]", "[0, 0]")
        + "trian: {}\nlaunch: {executor: inline, workers: 2}\n",
        [
            "4:15: grid.beta[0] must be greater than 0, got -1",
            "5:8: seeds [0] are there twice: a repeated seed is the same run",
            "6:1: unknown key 'trian'; did you mean 'train'?",
            "7:28: unknown key 'workers' under launch; choose from executor",
        ],
    ),
    # Files that are no YAML, or not what it seems.
    "empty": ("", ["1:1: expected a sweep (keys: "]),
    "a list": ("- a\n", ["1:1: expected a sweep (keys: "]),
    "duplicate": (PLAIN + "name: again\n", ['6:1: found duplicate key "name" with value "again"']),
    "duplicate axis": (
        grid("grid:\n  beta: [0.1]\n  beta: [0.2]"),
        ['6:3: found duplicate key "beta"'],
    ),
    "tab": ("name: x\n\tmodel: y\n", ["2:1: found character '\\t' that cannot start any token"]),
    "bracket": ("name: [a\nmodel: b\n", ["2:6: expected ',' or ']', but got ':'"]),
    "two documents": (PLAIN + "---\n" + PLAIN, ["6:1: but found another document"]),
    "undefined alias": ("name: *nowhere\n", ["1:7: found undefined alias 'nowhere'"]),
    "YAML 1.1": (
        "# old\n%YAML 1.1\n---\n" + PLAIN,
        ["2:1: '%YAML 1.1': remove it, sweeps are read as YAML 1.2"],
    ),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_problems_are_told_at_their_place(tmp_path: Path, case: str) -> None:
    """All problems of a file, in its order, against messages written by hand."""
    text, expected = PROBLEMS[case]
    found = spec_errors(tmp_path, text)
    if not expected:
        return  # told somehow; where is not known for such keys
    assert len(found) == len(expected), found
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    """Bytes, a missing file, a folder: each a message."""
    file = tmp_path / "sweep.yaml"
    for content, said in (
        (b"name: \xff\xfe\n", "1:7: not UTF-8: byte 0xff"),
        ("a: é\r\nbé: ".encode() + b"\xe9\n", "2:5: not UTF-8: byte 0xe9"),
        ("a: é\nbé: x\0y\n".encode(), r"2:6: '\x00' (U+0000) is no character of YAML"),
        (b"a: b\r\nc: d\r\n\x07: 1", r"3:1: '\x07' (U+0007) is no character of YAML"),
    ):
        file.write_bytes(content)
        with pytest.raises(UserError) as caught:
            load_yaml(file)
        assert str(caught.value) == f"{file}:{said}"
    with pytest.raises(UserError, match=r"no such file: .*swep\.yaml; did you mean .*sweep\.yaml\?"):
        load_yaml(tmp_path / "swep.yaml")
    with pytest.raises(UserError, match="Is a directory"):
        load_yaml(tmp_path)


@pytest.mark.parametrize(
    "tag",
    [
        "python/object/apply:os.system ['touch {}']",
        "python/name:os.system",
        "python/object/new:os.system ['touch {}']",
    ],
)
def test_tags_never_run_anything(tmp_path: Path, tag: str) -> None:
    """PyYAML's notorious tags: an unknown key or a wrong value, and no file appears."""
    mark = tmp_path / "ran"
    for text in (
        PLAIN + f"x: !!{tag.format(mark)}\n",
        f"!!{tag.format(mark)}\n",
        grid(f"grid: !!{tag.format(mark)}"),
    ):
        assert spec_errors(tmp_path, text)
    assert not mark.exists()


def test_aliases_cannot_fill_the_memory(tmp_path: Path) -> None:
    """Billion laughs (9^9 values in 10 lines), an alias of itself, deep nesting: a message, at once."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    assert spec_errors(tmp_path, "\n".join(lines)) == [
        f"{tmp_path / 'sweep.yaml'}: more than {MOST_VALUES} values (aliases count as what they stand for)".replace(
            f"{tmp_path / 'sweep.yaml'}:", ""
        )
    ]
    for text in ("a: &a [*a]\n", "a: &a {b: *a}\n", "[" * 3000, "{a: " * 3000):
        assert spec_errors(tmp_path, text)


def test_aliases_and_merges_are_read(tmp_path: Path) -> None:
    """What YAML is good for still works."""
    spec = loaded(
        tmp_path, PLAIN.replace("adadpo: {}", "adadpo: &o {clip: 5}, more: {<<: *o, method: adadpo}")
    )
    assert spec.arms["more"] == {"clip": 5, "method": "adadpo"}


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [([0, 1, 2], [0, 1, 2]), ("0..2", [0, 1, 2]), (" 3 .. 3 ", [3]), (7, [7]), ([4294967295], [4294967295])],
)
def test_forms_of_seeds(seeds: Any, expected: list[int]) -> None:
    """A list, a range, and a single one."""
    assert parse_seeds(seeds) == expected


@pytest.mark.parametrize(
    "seeds",
    [None, [], "", "0-2", "2..0", [0.5], [True], [-1], [2**32], "0..4294967295", ["0"], {}, "1..1e9", True],
)
def test_what_is_no_seed(seeds: Any) -> None:
    """numpy takes seeds below 2^32; more than 10,000 of them are a slip."""
    with pytest.raises(ValueError, match="seeds"):
        parse_seeds(seeds)


def method_sweep(arms: str, grid: str) -> str:
    """A sweep that compares its first two arms."""
    first, second = re.findall(r"(\w+): \{", arms)[:2]
    return (
        PLAIN.replace("{dpo: {}, adadpo: {}}", arms).replace("{beta: [0.1]}", grid)
        + f"compare: {{baseline: {first}, candidate: {second}}}\n"
    )


# hyperparameter -> a value of it, and the losses that use it
HYPERPARAMETERS = {
    "rdpo_alpha": ("0.1", ["rdpo"]),
    "cpo_alpha": ("0.5", ["cpo"]),
    "simpo_gamma": ("0.5", ["simpo"]),
    "dpop_lambda": ("5", ["dpop"]),
}
EVERY_LOSS = ["dpo", "rdpo", "ipo", "cpo", "simpo", "orpo", "dpop", "sppo"]


@pytest.mark.parametrize("loss", EVERY_LOSS)
@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_a_hyperparameter_of_another_loss(tmp_path: Path, name: str, loss: str) -> None:
    """Against the papers: each is in one loss only. Refused at its place in an arm and as an axis, else fine."""
    value, users = HYPERPARAMETERS[name]
    arm = method_sweep(
        f"{{{loss}: {{{name}: {value}}}, other: {{method: {loss}}}}}", "{learning_rate: [1e-5]}"
    )
    axis = method_sweep(
        f"{{{loss}: {{}}, other: {{loss: {loss}, balance: none}}}}",
        f"{{learning_rate: [1e-5], {name}: [{value}]}}",
    )
    if loss in users:
        loaded(tmp_path, arm)
        loaded(tmp_path, axis)
        return
    reason = f"{name} has no effect on loss {loss}; {name} belongs to {users[0]}"
    column = 10 + len(loss)  # of the options in "arms: {LOSS: {NAME: ..."
    assert spec_errors(tmp_path, arm) == [f"3:{column}: arm '{loss}': {reason}"]
    found = spec_errors(tmp_path, axis)
    assert sorted(found) == sorted(
        f"4:31: axis '{name}' cannot be used with arm '{arm}': {reason}" for arm in (loss, "other")
    )


@pytest.mark.parametrize("loss", EVERY_LOSS)
def test_options_of_balance(tmp_path: Path, loss: str) -> None:
    """Against docs/methods.md: nothing to balance without a balance, none for baselines, no reference for some."""
    for option in (
        "clip: 5",
        "clip: null",
        "normalization: mean",
        "placement: gradient",
        "balance_reference: true",
    ):
        name = option.partition(":")[0]
        text = method_sweep(
            f"{{a: {{loss: {loss}, {option}}}, b: {{loss: {loss}}}}}", "{learning_rate: [1e-5]}"
        )
        [message] = spec_errors(tmp_path, text)
        assert message.startswith("3:")
        assert f"arm 'a': {name} has no effect with balance: none" in message
    balanced = f"{{a: {{loss: {loss}, balance: per_token}}, b: {{loss: {loss}}}}}"
    if loss in ("dpop", "sppo"):
        [message] = spec_errors(tmp_path, method_sweep(balanced, "{learning_rate: [1e-5]}"))
        assert message.startswith("3:")
        assert (
            f"balance per_token is not defined for loss {loss}, a baseline only; it is for dpo, rdpo"
            in message
        )
        return
    loaded(tmp_path, method_sweep(balanced, "{learning_rate: [1e-5]}"))
    both = balanced.replace(f"b: {{loss: {loss}", f"b: {{method: ada{loss}, clip: null")
    text = method_sweep(both, "{balance_reference: [true, false]}")
    if loss in ("dpo", "rdpo", "ipo"):
        loaded(tmp_path, text)
    else:
        assert spec_errors(tmp_path, text) == [
            f"4:8: axis 'balance_reference' cannot be used with arm '{arm}': balance_reference has no effect on loss "
            f"{loss}, which has no reference model; remove it"
            for arm in "ab"
        ]


def methods_of(tmp_path: Path, text: str) -> dict[tuple[str, str], Any]:
    """Arm and setting -> the method that is trained."""
    sweep = opened(write_sweep(tmp_path / "sweep.yaml", text), tmp_path / "store")
    return {(run.arm, run.setting): run.config.method for run in sweep.job.runs}


def test_loss_as_an_axis(tmp_path: Path) -> None:
    """Against methods made by hand: every arm with every loss, beta the loss's own."""
    text = method_sweep("{base: {method: dpo}, ada: {method: adadpo, clip: 3}}", "{loss: [dpo, simpo, orpo]}")
    found = methods_of(tmp_path, text)
    expected = {}
    for loss, beta in (("dpo", 0.1), ("simpo", 2.0), ("orpo", 0.1)):
        expected["base", f"loss={loss}"] = Method(loss=loss, beta=beta, balance="none")
        expected["ada", f"loss={loss}"] = Method(loss=loss, beta=beta, balance="per_token", clip=3)
    assert found == expected


def test_what_an_arm_starts_from(tmp_path: Path) -> None:
    """Against the presets: `method`, else `loss` (a base loss), else the arm's name; options go on top."""
    arms = (
        "{adasimpo: {}, b: {method: adasimpo}, c: {loss: simpo}, d: {loss: simpo, balance: per_token, clip: 2}, "
        "e: {method: adadpo, loss: ipo}}"
    )
    found = methods_of(tmp_path, method_sweep(arms, "{beta: [1.5]}"))
    simpo = Method(loss="simpo", beta=1.5)
    assert {arm: method for (arm, _), method in found.items()} == {
        "adasimpo": Method(loss="simpo", beta=1.5, balance="per_token"),
        "b": Method(loss="simpo", beta=1.5, balance="per_token"),
        "c": simpo,
        "d": Method(loss="simpo", beta=1.5, balance="per_token", clip=2),
        "e": Method(loss="ipo", beta=1.5, balance="per_token"),
    }


ABLATION = (
    "{base: {method: dpo}, sequence: {method: dpo, balance: sequence, clip: null}, "
    "per_token: {method: adadpo, clip: null}, clipped: {method: adadpo}}"
)


def test_an_ablation_of_the_balance(tmp_path: Path) -> None:
    """Against the four stages of docs/audit.md, for three losses at two settings: 24 different runs."""
    text = method_sweep(ABLATION, "{loss: [dpo, ipo, simpo], learning_rate: [1e-5, 2e-5]}")
    found = methods_of(tmp_path, text)
    assert len(found) == 24
    assert len(set(map(repr, found.values()))) == 12
    assert [
        (
            found[arm, "loss=simpo learning_rate=1e-05"].balance,
            found[arm, "loss=simpo learning_rate=1e-05"].clip,
        )
        for arm in ("sequence", "per_token", "clipped")
    ] == [("sequence", None), ("per_token", None), ("per_token", 10.0)]
    checked = adadpo("check", tmp_path / "sweep.yaml", "--store", tmp_path / "store")
    assert checked.code == 0, checked.err


# arms, grid -> the problems
COMBINATIONS: dict[str, tuple[str, str, list[str]]] = {
    "a loss that cannot be balanced": (
        "{base: {method: dpo}, ada: {method: adadpo}}",
        "{loss: [dpo, dpop]}",
        [
            "4:8: axis 'loss' cannot be used with arm 'ada': balance per_token is not defined for loss dpop, a "
            "baseline only; it is for dpo, rdpo, ipo, cpo, simpo, orpo"
        ],
    ),
    "two axes that are possible alone": (
        "{a: {method: adadpo}, b: {method: adadpo, clip: null}}",
        "{loss: [dpo, simpo], balance_reference: [false, true]}",
        [
            f"4:7: loss=simpo balance_reference=False cannot be used with arm '{arm}': balance_reference has no "
            "effect on loss simpo, which has no reference model; remove it"
            for arm in "ab"
        ],
    ),
    "the same without that combination": (
        "{a: {method: adadpo}, b: {method: adadpo, clip: null}}",
        "{loss: [dpo, ipo], balance_reference: [false, true]}",
        [],
    ),
    "excluded": (
        "{a: {method: simpo}, b: {method: adasimpo}}",
        "{loss: [simpo, dpo], simpo_gamma: [0.5], exclude: [{loss: dpo}]}",
        [],
    ),
    "not excluded": (
        "{a: {method: simpo}, b: {method: adasimpo}}",
        "{loss: [simpo, dpo], simpo_gamma: [0.5]}",
        [
            f"4:7: loss=dpo simpo_gamma=0.5 cannot be used with arm '{arm}': simpo_gamma has no effect on loss dpo; "
            "simpo_gamma belongs to simpo"
            for arm in "ab"
        ],
    ),
    "in the second grid of a union": (
        "{a: {method: simpo}, b: {method: adasimpo}}",
        "[{loss: [simpo], simpo_gamma: [0.5]}, {loss: [dpo], simpo_gamma: [1.0]}]",
        [
            f"4:45: loss=dpo simpo_gamma=1.0 cannot be used with arm '{arm}': simpo_gamma has no effect on loss dpo; "
            "simpo_gamma belongs to simpo"
            for arm in "ab"
        ],
    ),
    "an axis that another axis makes possible": (
        "{a: {method: dpo, normalization: mean, balance: sequence}, b: {method: dpo}}",
        "{balance: [sequence, per_token], clip: [5, 10]}",
        ["4:8: axis 'balance' is fixed by arm 'a': it cannot be both"],
    ),
    "options of one loss beside the loss itself": (
        "{a: {method: dpo}, b: {method: adadpo}}",
        "{loss: [simpo], simpo_gamma: [0.5, 1.0]}",
        [],
    ),
    "a useless axis in a zip": (
        "{a: {method: dpo}, b: {method: adadpo}}",
        "{zip: {beta: [0.1, 0.2], clip: [5, 10]}}",
        ["4:32: axis 'clip' cannot be used with arm 'a': clip has no effect with balance: none"],
    ),
    "a loss with its own beta": (
        "{a: {method: dpo}, b: {method: adadpo}}",
        "{zip: {loss: [dpo, simpo], beta: [0.1, 2.0]}}",
        [],
    ),
    "an arm's own loss": (
        "{a: {loss: simpo}, b: {method: dpo}}",
        "{loss: [dpo, simpo]}",
        ["4:8: axis 'loss' is fixed by arm 'a': it cannot be both"],
    ),
    "methods whose formulas nobody could verify": (
        "{a: {method: SGDPO}, b: {loss: balanced-dpo}}",
        "{beta: [0.1]}",
        [
            "3:20: arm 'a': SGDPO, ACL Findings 2025, is not implemented: its formula is not verified",
            "3:38: arm 'b': Balanced-DPO, arXiv 2502.20847, is not implemented: its formula is not verified",
        ],
    ),
    "no loss of ours": (
        "{a: {loss: smpo}, b: {loss: adasimpo}}",
        "{loss: [[dpo], 1, smpo]}",
        [
            "3:18: arm 'a': unknown method 'smpo'; did you mean 'simpo'?",
            "3:35: loss must be 'dpo', 'rdpo'",
            "4:8: axis 'loss' is fixed by arm 'a': it cannot be both",
            "4:8: axis 'loss' is fixed by arm 'b': it cannot be both",
            "4:15: grid.loss[0] must be 'dpo', 'rdpo'",
            "4:22: grid.loss[1] must be 'dpo', 'rdpo'",
            "4:25: grid.loss[2] must be 'dpo', 'rdpo'",
        ],
    ),
}


@pytest.mark.parametrize("case", COMBINATIONS)
def test_combinations_of_methods(tmp_path: Path, case: str) -> None:
    """Against messages and places written by hand: what no arm can train is told, what all can is fine."""
    arms, axes, expected = COMBINATIONS[case]
    text = method_sweep(arms, axes)
    if not expected:
        loaded(tmp_path, text)
        return
    found = spec_errors(tmp_path, text)
    assert len(found) == len(expected), found
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


def labels(tmp_path: Path, text: str) -> list[str]:
    return [" ".join(map(str, cell.values())) for cell in cells(loaded(tmp_path, text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grid: {beta: [1, 2], learning_rate: [3, 4]}", ["1 3", "1 4", "2 3", "2 4"]),
        ("grid: {zip: {beta: [1, 2], learning_rate: [3, 4]}}", ["1 3", "2 4"]),
        ("grid: {epochs: [5, 9], zip: {beta: [1, 2], learning_rate: [3, 4]}}", ["5 1 3", "5 2 4", "9 1 3", "9 2 4"]),
        ("grid: {beta: [1, 2], learning_rate: [3, 4], exclude: [{beta: 1, learning_rate: 4}]}", ["1 3", "2 3", "2 4"]),
        ("grid: {beta: [1, 2], learning_rate: [3, 4], exclude: [{beta: 1}]}", ["2 3", "2 4"]),
        ("grid: [{beta: [1], learning_rate: [3]}, {beta: [1, 2], learning_rate: [3]}]", ["1 3", "2 3"]),
    ],
)  # fmt: skip
def test_combinations(tmp_path: Path, text: str, expected: list[str]) -> None:
    """Products, zips, exclusions and unions, written out by hand; no cell twice."""
    assert labels(tmp_path, grid(text)) == expected


VALUES = [None, True, 0, 1, 2, -1, 0.5, 1e400, "x", "0.5", "cosine", "mean", "trl", [], [1], {}, {"r": 8}]


@pytest.mark.parametrize("axis", AXES)
def test_every_axis_answers_to_every_value(axis: str) -> None:
    """A reason or None, never an exception: some field's type is in no other test."""
    for value in VALUES:
        assert isinstance(value_problem(axis, value), str | None)


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_are_fine(config: Path, tmp_path: Path) -> None:
    """Each passes check and plan, without a network (HF_HUB_OFFLINE is set, and nothing is fetched)."""
    checked = adadpo("check", config, "--store", tmp_path / "store")
    assert checked.code == 0, checked.err
    assert ": fine." in checked.out
    planned = adadpo("plan", config, "--store", tmp_path / "store", "--json")
    assert planned.code == 0, planned.err
    assert planned.json["testable"]
    assert not (tmp_path / "store").exists()


def test_init_writes_a_sweep_that_is_fine(tmp_path: Path) -> None:
    """What the template says is what check accepts; an existing file is not overwritten."""
    file = tmp_path / "mine.yaml"
    assert adadpo("init", file).code == 0
    assert adadpo("check", file).code == 0
    answer = adadpo("init", file)
    assert (answer.code, "exists already" in answer.err) == (2, True)


# Anything at all, and sweeps with anything at all in some place.
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["dpo", "adadpo", "beta", "0..2", "builtin:instructions", "slurm", "rubric", "method", "zip"]),
    st.sampled_from(["~x/y", "\0.json", "a/b"]),
)  # fmt: skip
KEYS = st.one_of(
    st.sampled_from(
        [
            *AXES,
            "method",
            "zip",
            "exclude",
            "source",
            "executor",
            "baseline",
            "primary",
            "judge",
            "storage",
            "lora",
        ]
    ),
    st.text(max_size=5),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
SECTIONS = [
    "name",
    "model",
    "data",
    "arms",
    "grid",
    "seeds",
    "train",
    "evaluate",
    "compare",
    "launch",
    "study",
]
ANY = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def survives(tmp_path: Path, text: str) -> None:
    """Resolved to runs, or a UserError with a message; nothing else."""
    file = tmp_path / "any.yaml"
    file.write_text(text, encoding="utf-8", errors="replace")
    try:
        sweep = open_sweep(str(file), Store(tmp_path / "store"))
    except UserError:
        return
    assert sweep.job.runs


@ANY
@given(section=st.sampled_from(SECTIONS), tree=TREES)
def test_no_value_crashes_a_check(tmp_path: Path, section: str, tree: Any) -> None:
    """A plain sweep with one section replaced: fine, or a UserError."""
    plain = YAML(typ="safe").load(PLAIN) | {section: tree}
    survives(tmp_path, json.dumps(plain))  # JSON is YAML 1.2


@ANY
@given(section=st.sampled_from(SECTIONS), key=KEYS, tree=TREES)
def test_no_option_crashes_a_check(tmp_path: Path, section: str, key: str, tree: Any) -> None:
    """A plain sweep with one option added: fine, or a UserError."""
    plain = YAML(typ="safe").load(PLAIN)
    inside = plain.get(section)
    if section == "arms":
        plain["arms"]["adadpo"] = {key: tree}
    elif isinstance(inside, dict) or inside is None:
        plain[section] = {**(inside or {}), key: tree}
    survives(tmp_path, json.dumps(plain))


@ANY
@given(text=st.text(alphabet=st.sampled_from(list(":-{}[],&*!|>'\"%@`#? \n\tab01.~<=")), max_size=40))
def test_no_text_crashes_a_check(tmp_path: Path, text: str) -> None:
    """Text of YAML's own signs, alone and after a plain sweep."""
    survives(tmp_path, text)
    survives(tmp_path, PLAIN + text)


HOSTILE = [
    "<script>alert(1)</script>",
    "[red]:100:",
    "a\u202eb",
    "'; DROP TABLE studies; --",
    "${HOME}",
    "%s{0}",
    "\x1b[31m",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_arm_names_are_shown_as_they_are(tmp_path: Path, name: str) -> None:
    """Names with markup, control signs or code: refused, or repeated without acting on them."""
    arms = {name: {"method": "dpo"}, "adadpo": {}}
    text = (
        PLAIN.replace("{dpo: {}, adadpo: {}}", json.dumps(arms))
        + f"compare: {{baseline: {json.dumps(name)}}}\n"
    )
    answer = adadpo("check", write_sweep(tmp_path / "sweep.yaml", text))
    assert "Traceback" not in answer.err
    if answer.code == 0:
        assert name in answer.out
    else:
        assert answer.code == 2
        assert "must be text without spaces" in answer.err
    assert "\x1b" not in answer.out + answer.err


def test_line_100_is_not_a_picture(tmp_path: Path) -> None:
    """rich would print the emoji :100: in place of the line."""
    answer = adadpo("check", write_sweep(tmp_path / "s.yaml", "\n" * 99 + "name: [\n"))
    assert re.search(r"s\.yaml:10\d:\d+: ", answer.err)
    file = write_sweep(tmp_path / "s.yaml", "\n" * 94 + PLAIN + "trian: {}\n")
    assert "s.yaml:100:1: unknown key 'trian'" in adadpo("check", file).err


def test_relative_paths_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data, prompts and baseline beside the sweep file, from another working folder."""
    folder = tmp_path / "sweep"
    row = {"prompt": "Say hello.", "chosen": "Hello.", "rejected": "No."}
    prompt = {"instruction": "Say hello.", "constraints": [{"kind": "no_commas"}]}
    output = {"instruction": "Say hello.", "output": "Hi", "generator": "someone"}
    text = SMALL.replace('{source: "builtin:instructions", limit: 16, heldout_limit: 8}', "pairs.jsonl")
    text = text.replace("  limit: 8\n", "  prompts: prompts.json\n  baseline: baseline.json\n")
    file = write_sweep(folder / "sweep.yaml", text)
    (folder / "pairs.jsonl").write_text(json.dumps(row))
    (folder / "prompts.json").write_text(json.dumps([prompt]))
    (folder / "baseline.json").write_text(json.dumps([output]))
    monkeypatch.chdir("/")
    sweep = opened(file, tmp_path / "store")
    assert sweep.job.train.location == str(folder / "pairs.jsonl")
    assert sweep.job.evaluation.prompts_path == str(folder / "prompts.json")
    assert sweep.job.evaluation.baseline == str(folder / "baseline.json")
    # Other responses of the baseline, other evaluation.
    (folder / "baseline.json").write_text(json.dumps([output | {"output": "Ho"}]))
    assert opened(file, tmp_path / "store").eval_id != sweep.eval_id


def test_a_preset_keeps_its_balance_under_another_loss(tmp_path: Path) -> None:
    """An arm that is called adadpo is balanced, whatever its loss; any other name stands for nothing."""
    text = PLAIN.replace("adadpo: {}", "adadpo: {loss: simpo}").replace("dpo: {}", "dpo: {loss: simpo}", 1)
    methods = {
        run.arm: run.config.method
        for run in opened(write_sweep(tmp_path / "s.yaml", text), tmp_path).job.runs
    }
    assert {arm: (m.loss, m.balance) for arm, m in methods.items()} == {
        "dpo": ("simpo", "none"),
        "adadpo": ("simpo", "per_token"),
    }

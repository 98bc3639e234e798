"""`adadpo compare runs.csv`: other people's tables, against scipy and against the analysis of the same runs."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import wilcoxon

from reports.files import load_results
from reports.page import render_html
from tests.sweeps.results_content import by_kind
from tests.sweeps.sweep_examples import adadpo

BETAS, SEEDS = ("0.01", "0.05", "0.1", "0.2", "0.5", "1"), ("0", "1", "2")


def rows_of(arms: dict[str, float], seed: int = 3) -> list[dict[str, str]]:
    """A row per arm, beta and seed; scores around 60 plus the arm's gain."""
    draw = random.Random(seed)
    return [
        {"arm": arm, "beta": beta, "seed": number, "score": f"{60 + gain + draw.gauss(0, 1):.4f}"}
        for beta in BETAS
        for number in SEEDS
        for arm, gain in arms.items()
    ]


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def one(rows: list[dict[str, str]], name: str = "runs.csv") -> Path:
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if name.endswith(".tsv") else ",")
            writer.writeheader()
            writer.writerows(rows)
        return path

    return one


ASK = ("--arm", "new", "--baseline", "old", "--metric", "score")


def compared(path: Path, *words: str | Path) -> dict[str, Any]:
    answer = adadpo("compare", path, *(words or ASK), "--json")
    assert answer.code == 0, answer.err
    return by_kind(answer.json)


def refused(*words: str | Path) -> str:
    answer = adadpo("compare", *words)
    assert answer.code == 2, answer.out + answer.err
    assert answer.err.startswith("adadpo: ")
    assert answer.err.count("\n") == 1
    return answer.err


def test_against_scipy(write: Write) -> None:
    """p and the differences per setting against scipy's exact test on seed means computed here."""
    rows = rows_of({"old": 0.0, "new": 0.7})
    found = compared(write(rows))
    value = {(row["arm"], row["beta"], row["seed"]): float(row["score"]) for row in rows}
    d = [sum(value["new", b, s] - value["old", b, s] for s in SEEDS) / 3 for b in BETAS]
    primary = found["comparisons"][0]
    assert primary["test"]["p_value"] == pytest.approx(wilcoxon(d, method="exact").pvalue)
    assert [each["mean"] for each in primary["differences"]] == pytest.approx(d)
    assert found["settings"] == [f"beta={float(b):g}" if b != "1" else "beta=1" for b in BETAS]
    assert found["read"] == {
        "source": found["read"]["source"], "setting": ["beta"], "seed": "seed", "unused": [],
    }  # fmt: skip


def test_it_is_exploratory_and_asks_for_no_margin(write: Write) -> None:
    """Whatever the table shows, the sentence and the results say that nothing was declared; no margin is made up."""
    path = write(rows_of({"old": 0.0, "new": 3.0}))
    found = compared(path)
    assert found["verdict_kind"] == "better"
    assert found["verdict"].endswith("Exploratory: nothing was declared before these results.")
    assert not any(each["confirmatory"] for each in found["comparisons"])
    assert found["declared"]["rope"] == 0
    none = compared(write(rows_of({"old": 0.0, "new": 0.05})))
    assert "equivalen" not in none["verdict"]
    with_margin = compared(path, *ASK, "--rope", "5", "--alternative", "greater", "--alpha", "0.1")
    declared = with_margin["declared"]
    assert (declared["rope"], declared["alternative"], declared["alpha"]) == (5, "greater", 0.1)
    assert "practically equivalent" in with_margin["verdict"]


def test_the_report_of_a_table(write: Write, tmp_path: Path) -> None:
    """The folder's files, the results read back, and a page without a section that a table cannot fill."""
    path = write(rows_of({"old": 0.0, "new": 0.7}))
    folder = tmp_path / "out"
    answer = adadpo("compare", path, *ASK, "-o", folder)
    assert answer.code == 0, answer.err
    results = load_results(folder / "results.json")
    assert results.verdict in answer.out
    assert f"report: {folder / 'report.html'}" in answer.out.replace("\n", "")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page == render_html(results)
    assert (folder / "tables" / "runs.csv").exists()
    titles = re.findall(r"<h2[^>]*>([^<]*)</h2>", page)
    for absent in (
        "Gradient audit",
        "Training dynamics",
        "Sample outputs",
        "The paper",
        "Prompts that flipped",
    ):
        assert not any(title.startswith(absent) for title in titles), absent
    assert "Best of the grid" in titles
    assert "this comparison was chosen for results that were there already" in page
    assert "a table of runs holds no judgements of single prompts" in page
    assert results.provenance["table"] == "runs.csv"
    assert results.evaluation is None
    assert results.prompt_level_reason == results.flips_reason == results.best_of_grid[0].bests.reason


def test_missing_values_are_named(write: Write) -> None:
    """NaN, an empty cell, a failed run and a row that is not there: each pair is named, none is 0."""
    rows = rows_of({"old": 0.0, "new": 0.7})
    for row in rows:
        row["state"] = "done"
    rows[0]["score"], rows[3]["score"] = "NaN", ""
    rows[7]["state"] = "diverged"
    del rows[-1]
    found = compared(write(rows))
    assert found["comparisons"][0]["missing_pairs"] == [
        "beta=0.01, seed 0: old has no score",
        "beta=0.01, seed 1: new has no score",
        "beta=0.05, seed 0: new diverged",
        "beta=1, seed 2: new has no run",
    ]
    assert [each["reason"] for each in found["failures"]] == ["has no score", "has no score", "diverged"]
    assert found["counts"] == {"done": 34, "diverged": 1}


def test_settings_of_several_columns(write: Write) -> None:
    """Columns that are nothing else make the setting; numbers written in two ways are one; names make groups."""
    rows = []
    for loss in ("dpo", "ipo"):
        for row in rows_of({"old": 0.0, "new": 0.7}):
            beta = "0.10" if (row["beta"], row["arm"]) == ("0.1", "new") else row["beta"]
            rows.append({"loss": loss} | row | {"beta": beta, "win_rate": "50", "note": "x"})
    path = write(rows, "runs.tsv")
    found = compared(path, *ASK, "--setting", "loss, beta")
    assert (len(found["settings"]), found["comparisons"][0]["missing_pairs"]) == (12, [])
    assert found["read"]["unused"] == ["win_rate", "note"]
    assert [(each["value"], each["n"]) for each in found["groups"]] == [("dpo", 6), ("ipo", 6)]
    assert compared(path)["read"]["setting"] == ["loss", "beta", "note"]
    answer = adadpo("compare", path, *ASK, "--setting", "loss,beta")
    assert "settings are: loss, beta; seeds: seed" in answer.out
    assert "not used: win_rate, note" in answer.out


def test_a_family_of_arms_and_an_arm_that_goes_without_saying(write: Write) -> None:
    """Two candidates share alpha by Holm; with two arms in the table the other one is the candidate."""
    two = compared(write(rows_of({"old": 0.0, "new": 1.5, "newer": 2.0})), *ASK, "--arm", "newer")
    assert two["declared"]["more_candidates"] == ["newer"]
    assert "Holm over 2 candidates" in two["verdict"]
    assert two["other_arms"][0]["verdict"].endswith("nothing was declared before these results.")
    alone = compared(write(rows_of({"old": 0.0, "new": 1.5})), "--baseline", "old", "--metric", "score")
    assert alone["declared"]["candidate"] == "new"


def test_metrics_that_this_project_knows(write: Write) -> None:
    """A win rate in percent has points and direction; as a fraction it has neither its unit nor its bounds."""
    percent = [row | {"win_rate": row["score"]} for row in rows_of({"old": 0.0, "new": 0.7})]
    words = ("--arm", "new", "--baseline", "old", "--metric", "win_rate", "--metric", "score")
    found = compared(write(percent), *words)
    assert [(each["name"], each["unit"]) for each in found["metrics"]] == [
        ("win_rate", "points"),
        ("score", ""),
    ]
    assert [each["metric"] for each in found["comparisons"]] == ["win_rate", "score"]
    fraction = [row | {"win_rate": str(float(row["score"]) / 100)} for row in percent]
    metric = compared(write(fraction), *words)["metrics"][0]
    assert (metric["unit"], metric["attainable"], metric["decimals"]) == ("", None, 4)
    lower = compared(write(percent), *ASK, "--lower-is-better")
    assert lower["metrics"][0]["higher_is_better"] is False
    assert lower["verdict_kind"] != "better"


def test_without_a_column_of_seeds(write: Write) -> None:
    """One run per cell is seed 0, and said; a second one is named by line, with what may be meant."""
    rows = [row for row in rows_of({"old": 0.0, "new": 0.7}) if row["seed"] == "0"]
    plain = [{key: row[key] for key in ("arm", "beta", "score")} for row in rows]
    found = compared(write(plain))
    assert (found["seeds"], found["read"]["seed"]) == ([0], None)
    message = refused(write([*plain, plain[1]]), *ASK)
    assert "runs.csv:14: a second run of new at beta=0.01, seed 0: the first is in line 3" in message
    assert "--seed-column" in message


def test_our_own_table_of_runs(finished: Path) -> None:
    """runs.csv of a finished sweep against the sweep's own comparison."""
    folder = finished / "sweeps" / "small"
    ours = load_results(folder / "results.json").comparisons[0]
    words = ("--arm", "adadpo", "--baseline", "dpo", "--metric", "length_controlled_win_rate")
    found = compared(folder / "tables" / "runs.csv", *words)
    assert found["comparisons"][0]["test"] == json.loads(ours.model_dump_json())["test"]
    assert [each["mean"] for each in found["comparisons"][0]["differences"]] == [
        each.mean for each in ours.differences
    ]
    assert found["settings"] == [each.setting for each in ours.differences]


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ({}, ("--metric", "scor", "--baseline", "old"), "no column 'scor' for the metric; did you mean 'score'?"),
        ({}, ("--metric", "score", "--baseline", "odl"), "'odl' is not in column 'arm'; did you mean 'old'?"),
        ({}, ("--metric", "score", "--arm", "new"), "--baseline names the arm to compare with; arms: old, new"),
        ({}, ("--baseline", "old"), "--metric names the column to compare"),
        ({}, (*ASK, "--setting", "gamma"), "no column 'gamma' for the setting; choose from arm, beta, seed, score"),
        ({}, (*ASK, "--setting", "seed"), "column 'seed' is taken for two things"),
        ({}, (*ASK, "--arm-column", "method"), "no column 'method' for the arm"),
        ({}, (*ASK, "--arm", "old"), "--arm and --baseline are the same, 'old'"),
        ({}, (*ASK, "--arm", "new"), "--arm names an arm twice: new, new"),
        ({"score": "good"}, ASK, "runs.csv:3:4: score must be a number or empty, got 'good'"),
        ({"seed": "1.5"}, ASK, "runs.csv:3:3: seed must be a whole number, got '1.5'"),
        ({"seed": ""}, ASK, "runs.csv:3:3: seed must be a whole number, got ''"),
        ({"arm": ""}, ASK, "runs.csv:3:1: no arm in column 'arm'"),
        ({"arm": "old"}, ASK, "runs.csv:3: a second run of old at beta=0.01, seed 0: the first is in line 2"),
        ({}, (*ASK, "--bootstrap", "50"), "--bootstrap is for annotation files"),
    ],
)  # fmt: skip
def test_refusals(write: Write, change: dict[str, str], words: tuple[str, ...], message: str) -> None:
    """One message with value, choices and place, and exit code 2."""
    rows = rows_of({"old": 0.0, "new": 0.7})
    rows[1] |= change
    assert message in refused(write(rows), *words)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a header and one row per run, found nothing"),
        (b"arm,seed,beta,score\n", "expected a header and one row per run, found no row"),
        (b"arm,seed,beta,score\nold,0,1\n", "runs.csv:2: 3 cells, the header has 4 columns"),
        (b"arm,seed,beta,beta\nold,0,1,2\n", "runs.csv:1: two columns are called 'beta'"),
        (b"arm,seed,score\nold,0,1\nnew,0,2\n", "no column is left for the setting"),
        (b"arm,seed,beta,score\nold,0,1,\xff\n", "runs.csv:2: not UTF-8 text"),
        (b'arm,seed,beta,score\nold,0,1,"2\n', "runs.csv:2: unexpected end of data"),
        (b"arm,seed,beta,score,state\nold,0,1,2,don\n", "runs.csv:2:5: state 'don'; did you mean 'done'?"),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, content: bytes, message: str) -> None:
    """Damaged, empty and ragged files against the line that is wrong."""
    path = tmp_path / "runs.csv"
    path.write_bytes(content)
    assert message in refused(path, *ASK)


def test_the_two_kinds_of_comparison_are_not_mixed(write: Write, tmp_path: Path) -> None:
    """A table beside another file, a single annotation file, and options of a table for annotation files."""
    table = write(rows_of({"old": 0.0, "new": 0.7}))
    assert "stands alone" in refused(table, tmp_path / "b.json", *ASK)
    assert "no such file" in refused(tmp_path / "absent.csv", *ASK)
    assert "a second annotation file is needed" in refused(tmp_path / "a.json")
    assert "--metric is for tables of runs" in refused(
        tmp_path / "a.json", tmp_path / "b.json", "--metric", "x"
    )
    (tmp_path / "taken").write_text("")
    assert "a table's report is a folder" in refused(table, *ASK, "-o", tmp_path / "taken")


def test_nothing_is_paired(write: Write) -> None:
    """Arms at different settings: not testable, said with what may be the cause."""
    rows = [
        row | {"beta": f"9{row['beta']}"} if row["arm"] == "new" else row
        for row in rows_of({"old": 0.0, "new": 0.7})
    ]
    answer = adadpo("compare", write(rows), *ASK)
    assert answer.code == 0, answer.err
    assert "Not testable: no setting has a complete pair of new and old on score" in answer.out
    assert "is every column of --setting a hyperparameter?" in answer.out
    assert "missing: 26 more pairs" in answer.out


def test_the_report_s_own_table_comes_back(write: Write, tmp_path: Path) -> None:
    """Tables of a report against the results they were written from: test, estimate, cells, axes, names that a
    spreadsheet would run."""
    ask = ("--arm", "=new()", "--baseline", "'-old", "--metric", "score")
    table = write(rows_of({"'-old": 0.0, "=new()": 0.5}))
    # What we write escapes names, so the first table, as somebody else writes it, must escape its apostrophe too.
    table.write_text(table.read_text().replace("'-old", "''-old"))
    assert adadpo("compare", table, *ask, "-o", tmp_path / "first").code == 0
    again = tmp_path / "first" / "tables" / "runs.csv"
    assert "'=new()" in again.read_text()
    answer = adadpo("compare", again, *ask, "-o", tmp_path / "second")
    assert answer.code == 0, answer.err
    first, second = (load_results(tmp_path / name / "results.json") for name in ("first", "second"))
    assert first.comparisons[0].test is not None
    assert second.comparisons[0].test == first.comparisons[0].test
    assert second.comparisons[0].estimate == first.comparisons[0].estimate
    assert second.comparisons[0].differences == first.comparisons[0].differences
    assert second.cells == first.cells
    assert [run.hyperparameters for run in second.runs] == [run.hyperparameters for run in first.runs]
    assert {run.arm for run in second.runs} == {"=new()", "'-old"}

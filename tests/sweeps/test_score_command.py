"""`adadpo score` and `adadpo compare` on annotation files, against the analysis called directly."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.alpaca_eval.calibration import read_calibration
from analysis.alpaca_eval.length_control import length_controlled_win_rate
from analysis.alpaca_eval.win_rates import win_rate
from analysis.prompts.bootstrap import bootstrap_difference, bootstrap_estimate, prompt_bootstrap
from tests.sweeps.sweep_examples import adadpo

N = 40
ALPACA_EVAL = Path(__file__).parents[2].parent / "shared" / "alpaca_eval"
ESCAPE = "\x1b[31m"


def annotations(model: str = "mine", seed: int = 0, n: int = N, **changes: object) -> list[dict[str, Any]]:  # type: ignore[no-redef]
    """One model's annotations of n prompts."""
    rng = np.random.default_rng(seed)
    return [
        {
            "instruction": f"Question {i}",
            "output_1": "The baseline says " + "so " * (i % 5),
            "output_2": f"{model} {i} says " + "this " * int(rng.integers(1, 8)),
            "generator_1": "baseline",
            "generator_2": model,
            "annotator": "judge",
            "preference": float(rng.choice([1.02, 1.3, 1.5, 1.8, 1.97])),
            **changes,
        }
        for i in range(n)
    ]


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def one(name: str, rows: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps(rows).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path

    return one


def scored(*words: str | Path) -> list[dict[str, Any]]:
    answer = adadpo("score", *words, "--json", "--bootstrap", "200")
    assert answer.code == 0, answer.err
    files: list[dict[str, Any]] = answer.json["files"]
    return files


def refused(*words: str | Path) -> str:
    """The one message of a command that ends with 2."""
    answer = adadpo(*words)
    assert answer.code == 2, answer.out + answer.err
    assert answer.err.startswith("adadpo: ")
    assert answer.err.count("\n") == 1
    return answer.err


def test_scores_are_the_analysis_own(write: Write) -> None:
    """Two files against win_rate, length_controlled_win_rate and the bootstrap of both under one seed."""
    rows = {"mine": annotations(), "theirs": annotations("theirs", 1)}
    files = scored(*[write(f"{name}.json", of) for name, of in rows.items()], "--seed", "7")
    boot = prompt_bootstrap(rows, rng=np.random.default_rng(7), replicates=200)
    for name, file in zip(rows, files, strict=True):
        raw, lc = win_rate(rows[name]), length_controlled_win_rate(rows[name])
        error = bootstrap_estimate(boot, name, "length_controlled_win_rate")
        assert (file["generator"], file["baseline"], file["judge"]) == (name, "baseline", "judge")
        assert (file["win_rate"], file["win_rate_se"]) == (raw.win_rate, raw.standard_error)
        assert file["length_controlled_win_rate"] == lc.length_controlled_win_rate
        assert file["length_controlled_win_rate_se"] == error.standard_error
        assert file["length_controlled_win_rate_interval"] == [error.low, error.high]
        assert file["lc_method"] == "no_difficulty"
        assert (file["n"], file["n_missing"], file["reason"]) == (N, 0, None)
        assert file["integrity"] == {"n": N, "flags": []}
        assert file["quarantined"] is False


def test_draws_do_not_depend_on_the_other_files(write: Write) -> None:
    """One file alone, beside another of the same prompts and beside one of other prompts: the same error."""
    mine, theirs = write("a.json", annotations()), write("b.json", annotations("theirs", 1))
    strange = write(
        "c.json", [row | {"instruction": f"Other {i}"} for i, row in enumerate(annotations("other", 2))]
    )
    errors = {
        scored(*files)[0]["length_controlled_win_rate_se"]
        for files in ([mine], [mine, theirs], [mine, strange])
    }
    assert len(errors) == 1


def test_folders_and_gz(write: Write, tmp_path: Path) -> None:
    """A folder: every annotation file below it, each once; other files are left alone."""
    write("runs/a/annotations.json", annotations())
    write("runs/b/eval/annotations.json.gz", annotations("theirs", 1))
    write("runs/x.annotations.json", annotations("third", 2))
    write("runs/a/outputs.json", [])
    files = scored(tmp_path / "runs", tmp_path / "runs" / "a" / "annotations.json")
    assert [file["generator"] for file in files] == ["mine", "theirs", "third"]


def test_the_table_says_what_json_says(write: Write) -> None:
    """Numbers and flags of the printed table, and the method's name."""
    rows = annotations()
    rows[0]["preference"] = None
    answer = adadpo("score", write("a.json", rows), "--bootstrap", "50")
    wr, lc = win_rate(rows), length_controlled_win_rate(rows)
    assert f"{wr.win_rate:.2f} ± {wr.standard_error:.2f}" in answer.out
    assert f"{lc.length_controlled_win_rate:.2f} ± " in answer.out
    assert "against baseline, judged by judge" in answer.out
    assert "mine (quarantined)" in answer.out  # 1 of 40 is more than 1%
    assert "QUARANTINED: 1 of 40 prompts have no preference (2.5%)" in answer.out
    assert "LC by no_difficulty" in answer.out


def test_unlike_files_are_in_tables_of_their_own(write: Write) -> None:
    """Files against other baselines or under other judges never share a table."""
    files = [
        write("a.json", annotations()),
        write("b.json", annotations(annotator="other")),
        write("c.json", annotations(generator_1="another")),
    ]
    answer = adadpo("score", *files, "--bootstrap", "50")
    for title in ("baseline, judged by judge", "baseline, judged by other", "another, judged by judge"):
        assert answer.out.count(f"against {title}") == 1


def test_undefined_lc_is_not_the_win_rate(write: Write) -> None:
    """Equal lengths throughout: WR is there, LC is none, with the reason."""
    rows = [row | {"output_1": f"{i:04}", "output_2": f"{i + 1:04}"} for i, row in enumerate(annotations())]
    path = write("a.json", rows)
    (file,) = scored(path)
    assert file["win_rate"] is not None
    assert (file["length_controlled_win_rate"], file["length_controlled_win_rate_se"]) == (None, None)
    assert "sd 0" in file["reason"]
    said = adadpo("score", path, "--bootstrap", "50").out
    assert "–" in said
    assert "sd 0" in said


@pytest.mark.parametrize(
    ("rows", "flag"),
    [
        (annotations() + annotations()[:1], "duplicated_prompts"),
        (annotations(preference=7), "invalid_preferences"),
        ([], "no_annotations"),
        ([1, "two", {"three": 3}], "malformed_records"),
        (annotations(output_2="always this"), "repeated_outputs"),
        (annotations()[:20] + annotations("other", n=N)[20:], "several_generators"),
    ],
)
def test_broken_annotations_are_quarantined(write: Write, rows: list[Any], flag: str) -> None:
    """Content that no number can be made of: no crash, no number, the reason; others are scored all the same."""
    broken, fine = scored(write("broken.json", rows), write("fine.json", annotations("fine", 3)))
    assert broken["quarantined"] is True
    assert flag in [each["name"] for each in broken["integrity"]["flags"]]
    if flag != "repeated_outputs":
        assert broken["win_rate"] is None
        assert broken["length_controlled_win_rate"] is None
        assert broken["reason"] or flag == "no_annotations"
    assert fine["win_rate"] is not None
    assert fine["quarantined"] is False


def test_expectations(write: Write) -> None:
    """--prompts, --baseline and --judge against files that are not so."""
    path = write("a.json", annotations())
    prompts = write("prompts.json", [{"instruction": f"Question {i}"} for i in range(N + 1)])
    (file,) = scored(path, "--prompts", prompts, "--baseline", "gpt", "--judge", "gpt")
    names = {each["name"] for each in file["integrity"]["flags"]}
    assert names == {"missing_prompts", "wrong_baseline", "wrong_judge"}


def calibration_file(path: Path, n: int = N) -> Path:
    """A made-up calibration in AlpacaEval's format."""
    rng = np.random.default_rng(5)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline", "model"]
        )
        difficulty = rng.normal(size=n)
        for model in ("verbose", "concise"):
            for i in range(n):
                writer.writerow([rng.random(), i, rng.normal(), difficulty[i], False, model])
    return path


def test_calibration(write: Write, tmp_path: Path) -> None:
    """--calibration against length_controlled_win_rate with it; by row the same for complete files, else not."""
    rows = annotations()
    calibration = calibration_file(tmp_path / "gamed.csv")
    instructions = [row["instruction"] for row in rows]
    prompts = write("prompts.json", [{"instruction": text} for text in instructions])
    known = read_calibration(calibration, instructions=instructions)
    expected = length_controlled_win_rate(rows, known).length_controlled_win_rate
    path, short = write("a.json", rows), write("b.json", rows[1:])
    (file,) = scored(path, "--calibration", calibration, "--prompts", prompts)
    assert file["length_controlled_win_rate"] == expected
    assert (file["lc_method"], file["calibration"]) == ("length_controlled_v1", known.fingerprint)
    (by_row,) = scored(path, "--calibration", calibration, "--align", "row")
    assert by_row["length_controlled_win_rate"] == expected
    (shifted,) = scored(short, "--calibration", calibration, "--align", "row")
    (right,) = scored(short, "--calibration", calibration, "--prompts", prompts)
    assert shifted["length_controlled_win_rate"] != right["length_controlled_win_rate"]
    assert "position" in refused("score", path, "--calibration", calibration)
    other = write("c.json", [row | {"instruction": "New " + row["instruction"]} for row in rows])
    (unknown,) = scored(other, "--calibration", calibration, "--prompts", prompts)
    assert unknown["length_controlled_win_rate"] is None
    assert "not among the calibration's" in unknown["reason"]
    assert unknown["quarantined"] is True


def test_joint_difficulty_leaves_quarantined_files_out(write: Write) -> None:
    """Three files, one with a constant output: difficulties come from the other two alone."""
    fine = [write("a.json", annotations()), write("b.json", annotations("theirs", 1))]
    constant = write("c.json", annotations("constant", 2, output_2="always this"))
    alone = scored(*fine, "--method", "joint_difficulty")
    beside = scored(*fine, constant, "--method", "joint_difficulty")
    assert {file["calibration"] for file in [*alone, *beside]} == {alone[0]["calibration"]}
    assert alone[0]["lc_method"] == "joint_difficulty"
    assert "at least 2 runs" in refused("score", fine[0], constant, "--method", "joint_difficulty")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["score", "{tmp}/absent.json"], "absent.json: no such file or folder"),
        (["score", "{tmp}/empty"], "empty: no annotations.json or annotations.json.gz below this folder"),
        (["score", "{tmp}/broken.json"], "broken.json: not JSON: "),
        (["score", "{tmp}/broken.json.gz"], "broken.json.gz: not JSON: "),
        (["score", "{tmp}/deep.json"], "deep.json: not JSON: "),
        (["score", "{tmp}/dict.json"], "expected a list of annotations in AlpacaEval's format, got dict"),
        (["score", "{tmp}/a.json", "--method", "no_dificulty"], "did you mean 'no_difficulty'?"),
        (["score", "{tmp}/a.json", "--align", "column"], "--align is 'column'; choose from instruction, row"),
        (["score", "{tmp}/a.json", "--calibration", "{tmp}/no.csv", "--align", "row"], "no such file: "),
        (["score", "{tmp}/a.json", "--calibration", "{tmp}/dict.json", "--align", "row"], "missing columns"),
        (
            ["score", "{tmp}/a.json", "--calibration", "{tmp}/dict.json", "--method", "no_difficulty"],
            "--calibration is for --method length_controlled_v1, not no_difficulty",
        ),
        (
            ["score", "{tmp}/a.json", "--prompts", "{tmp}/numbers.json"],
            "every record needs a text 'instruction'",
        ),
        (["compare", "{tmp}/a.json", "{tmp}/absent.json"], "absent.json: no such file or folder"),
        (["compare", "{tmp}/a.json", "{tmp}/many"], "2 annotation files, one is needed"),
        (["compare", "{tmp}/a.json", "{tmp}/twice.json"], "same instruction as annotation 0"),
    ],
)
def test_bad_input_is_one_message(write: Write, tmp_path: Path, words: Sequence[str], message: str) -> None:
    """Each mistake against the message that names the value; exit code 2, no traceback."""
    write("a.json", annotations())
    write("dict.json", {"a": 1})
    write("numbers.json", [1, 2])
    write("twice.json", annotations() + annotations()[:1])
    write("many/annotations.json", annotations())
    write("many/b.annotations.json", annotations())
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken.json.gz").write_bytes(b"no gzip")
    (tmp_path / "deep.json").write_bytes(b"[" * 100_000)
    assert message in refused(*[word.format(tmp=tmp_path) for word in words])


def test_official_calibration_that_is_not_there(write: Write, tmp_path: Path, monkeypatch: Any) -> None:
    """--method length_controlled_v1 without a file, and none in the cache: says which files are missing."""
    monkeypatch.setenv("ADADPO_CACHE", str(tmp_path / "cache"))
    message = refused("score", write("a.json", annotations()), "--method", "length_controlled_v1")
    assert "df_gamed.csv" in message
    assert "--method no_difficulty needs no calibration" in message


def test_comparison_is_the_analysis_own(write: Write) -> None:
    """Differences, intervals and p of A minus B against the paired bootstrap under the same seed."""
    rows = {"A": annotations(), "B": annotations("theirs", 1)}
    paths = [write(f"{name}.json", of) for name, of in rows.items()]
    answer = adadpo("compare", *paths, "--json", "--bootstrap", "300", "--seed", "3")
    assert answer.code == 0, answer.err
    boot = prompt_bootstrap(rows, rng=np.random.default_rng(3), replicates=300)
    assert [each["metric"] for each in answer.json["differences"]] == [
        "length_controlled_win_rate",
        "win_rate",
    ]
    for found in answer.json["differences"]:
        expected = bootstrap_difference(boot, "A", "B", found["metric"])
        for key in ("estimate", "standard_error", "low", "high", "p_value", "confidence"):
            assert found[key] == getattr(expected, key)
    wr = [win_rate(of).win_rate for of in rows.values()]
    assert answer.json["differences"][1]["estimate"] == pytest.approx((wr[0] or 0) - (wr[1] or 0))
    counts = answer.json["counts"]
    gains = [a["preference"] - b["preference"] for a, b in zip(*rows.values(), strict=True)]
    assert counts["a_better"] == sum(gain > 0.001 for gain in gains)
    assert counts["ties"] == gains.count(0)
    flips = [
        a["preference"] > 1.5 > b["preference"] for a, b in zip(rows["A"], rows["B"], strict=True)
    ].count(True)
    assert counts["flips_to_a"] == flips
    assert (answer.json["bootstrap"], answer.json["seed"], answer.json["page"]) == (300, 3, None)
    assert answer.json["kind"] in ("better", "worse", "inconclusive")
    assert "mine (A)" in answer.json["sentence"]


def test_comparison_in_words(write: Write, tmp_path: Path) -> None:
    """A clear winner: the sentence, and a page where asked for."""
    better = write("a.json", annotations(preference=1.9))
    for i, row in enumerate(rows := annotations("worse", 1)):
        row["preference"] = 1.1 + 0.01 * (i % 7)
    worse = write("b.json", rows)
    page = tmp_path / "new" / "page.html"
    answer = adadpo("compare", better, worse, "--bootstrap", "200", "-o", page)
    assert answer.code == 0, answer.err
    assert "mine (A) scores higher than worse (B) on LC win rate: +" in answer.out
    assert "paired prompt bootstrap over 40 prompts, p = .01" in answer.out
    assert "flipped: A wins where B loses 40, the reverse 0" in answer.out
    assert f"wrote {page}" in answer.out
    assert "A wins, B loses: 40 prompts" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (annotations("b", annotator="other"), "different judges: A 'judge', B 'other'"),
        (annotations("b", generator_1="other"), "different baselines: A 'baseline', B 'other'"),
        (annotations("b", output_1="?"), "gives different answers in A and B to 40 of 40 prompts"),
        (annotations("b")[2:], "different prompt sets: only in A 2 prompts, only in B 0, in both 38"),
        (annotations("b", preference=None), "no prompt has a preference in both"),
    ],
)
def test_unlike_files_are_not_compared(write: Write, rows: list[Any], message: str) -> None:
    """Another judge, baseline or prompt set: refused with the values that differ."""
    assert message in refused("compare", write("a.json", annotations()), write("b.json", rows))


def test_common_prompts_are_said(write: Write) -> None:
    """Leaving prompts out is asked for and told; by row it is refused, as rows would shift."""
    rows = annotations("b", 1)[2:]
    rows[0]["preference"] = None
    words = ["compare", write("a.json", annotations()), write("b.json", rows), "--common-prompts"]
    answer = adadpo(*words, "--bootstrap", "100")
    assert "left out, as asked: 2 prompts only in A, 0 only in B" in answer.out
    assert "left out: 1 prompt without a preference on one side or both" in answer.out
    assert "over 37 prompts" in answer.out or "37 prompts: A better" in answer.out
    json_answer = adadpo(*words, "--bootstrap", "100", "--json").json
    assert [json_answer[key] for key in ("only_a", "only_b", "unjudged")] == [2, 0, 1]
    assert json_answer["a"]["n"] == json_answer["b"]["n"] == json_answer["counts"]["n"] == 37


def test_row_alignment_needs_complete_files(write: Write, tmp_path: Path) -> None:
    """--align row together with prompts that must be left out."""
    files = [write("a.json", annotations()), write("b.json", annotations("b", 1)[2:])]
    calibration = calibration_file(tmp_path / "gamed.csv")
    words = ["compare", *files, "--common-prompts", "--calibration", calibration, "--align", "row"]
    assert "--align row" in refused(*words)


def test_a_quarantined_file_decides_nothing(write: Write) -> None:
    """A constant output wins every prompt: the sentence says that it does not count."""
    constant = write("a.json", annotations("null", output_2="}}}", preference=1.99))
    answer = adadpo("compare", constant, write("b.json", annotations()), "--bootstrap", "100")
    assert answer.out.startswith("Quarantined: this comparison does not count.")
    assert "scores higher" not in answer.out


def test_lc_undefined_for_one_side(write: Write) -> None:
    """LC of B undefined: the win rates decide, named as such, and LC says why there is none."""
    sides = [
        [row | {"output_1": f"{i:04}"} for i, row in enumerate(annotations(model, seed))]
        for seed, model in enumerate("ab")
    ]
    for i, row in enumerate(sides[1]):
        row["output_2"] = f"{i:05}"
    answer = adadpo("compare", write("a.json", sides[0]), write("b.json", sides[1]), "--bootstrap", "100")
    assert "on Win rate:" in answer.out
    assert "LC win rate: –: B: all 40 length differences are -1 characters" in answer.out


def test_a_page_that_cannot_be_written(write: Write, tmp_path: Path) -> None:
    """The page's path is a folder: exit code 1, one message."""
    files = [write("a.json", annotations()), write("b.json", annotations("b", 1))]
    answer = adadpo("compare", *files, "--bootstrap", "50", "-o", tmp_path)
    assert answer.code == 1
    assert "cannot write" in answer.err


def test_names_cannot_command_the_terminal(write: Write) -> None:
    """Escape sequences and markup in names from a file are shown, not obeyed."""
    name = f"{ESCAPE}[bold]evil[/]\u202e"
    mine = write("a.json", annotations(name, generator_1=ESCAPE + "base", annotator=ESCAPE + "judge"))
    theirs = write("b.json", annotations(name, 1, generator_1=ESCAPE + "base", annotator=ESCAPE + "judge"))
    for words in (["score", mine], ["compare", mine, theirs]):
        answer = adadpo(*words, "--bootstrap", "50")
        assert answer.code == 0, answer.err
        assert "\x1b" not in answer.out
        assert "\u202e" not in answer.out
        assert "[bold]evil" in "".join(answer.out.split())


def test_no_training_package_is_loaded(write: Write) -> None:
    """sys.modules of a fresh process after scoring: no torch, nothing of the training stack."""
    path = write("a.json", annotations())
    code = (
        "import sys; from sweeps.cli.main import main\ntry:\n    main()\nfinally:\n"
        "    print(sorted({'torch', 'transformers', 'trl', 'datasets', 'optuna'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "score", str(path), "--bootstrap", "50"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_real_files_against_the_leaderboard() -> None:
    """AlpacaEval's own files with the reconstructed calibration against the published figures."""
    if not ALPACA_EVAL.is_dir():
        pytest.skip("no AlpacaEval data beside the project: ../shared/alpaca_eval is absent")
    with (ALPACA_EVAL / "leaderboard.csv").open() as file:
        published = {row[""]: row for row in csv.DictReader(file)}
    files = scored(ALPACA_EVAL / "raw", "--calibration", ALPACA_EVAL / "df_gamed_reconstructed.csv")
    assert len(files) == 4
    for each in files:
        model = Path(each["source"]).name.removesuffix(".annotations.json.gz")
        row = published[model]
        assert each["win_rate"] == pytest.approx(float(row["win_rate"]), abs=1e-9)
        assert each["win_rate_se"] == pytest.approx(float(row["standard_error"]), abs=1e-9)
        assert (each["wins"], each["losses"], each["draws"]) == tuple(
            int(row[key]) for key in ("n_wins", "n_wins_base", "n_draws")
        )
        lc = float(row["length_controlled_winrate"])
        assert each["length_controlled_win_rate"] == pytest.approx(lc, abs=0.11)
        assert each["quarantined"] == (model == "NullModel")


def test_real_comparison(tmp_path: Path) -> None:
    """gemma-7b-it against OpenHermes: the published difference, a paired error below the unpaired one, a page."""
    if not ALPACA_EVAL.is_dir():
        pytest.skip("no AlpacaEval data beside the project: ../shared/alpaca_eval is absent")
    files = [
        ALPACA_EVAL / "raw" / f"{model}.annotations.json.gz"
        for model in ("gemma-7b-it", "OpenHermes-2.5-Mistral-7B")
    ]
    page = tmp_path / "page.html"
    answer = adadpo("compare", *files, "--json", "--bootstrap", "500", "-o", page)
    _, wr = answer.json["differences"]
    assert wr["estimate"] == pytest.approx(6.937294379677018 - 10.340415705751552, abs=1e-9)
    assert wr["standard_error"] < (0.787**2 + 0.936**2) ** 0.5
    won = [
        {
            row["instruction"]
            for row in json.loads(gzip.decompress(file.read_bytes()))
            if row["preference"] > 1.5
        }
        for file in files
    ]
    drawn = {
        row["instruction"]
        for file in files
        for row in json.loads(gzip.decompress(file.read_bytes()))
        if row["preference"] in (0, 1.5)
    }
    flips = [len(won[0] - won[1] - drawn), len(won[1] - won[0] - drawn)]
    assert [answer.json["counts"][key] for key in ("flips_to_a", "flips_to_b")] == flips
    assert page.stat().st_size < 2_000_000

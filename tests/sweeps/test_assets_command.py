"""`adadpo assets`, and AlpacaEval's own setting in a sweep, against a stand-in of the hub on this machine.

The stand-in's files cannot have the official content, so the pins (sha256 of the calibration, order of the prompts)
are replaced by the stand-in's own; that the real pins refuse other content is tested here and in
`tests/analysis/test_alpaca_eval_assets.py`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from adadpo.files import cache_folder
from analysis.alpaca_eval import assets as alpaca_eval_assets
from analysis.alpaca_eval.assets import BASELINE, CALIBRATION, FILES, PROMPTS, REVISION, asset_folder
from analysis.alpaca_eval.calibration import read_calibration
from analysis.alpaca_eval.length_control import length_controlled_win_rate
from tests.sweeps.judging_examples import api, evaluations, read, results
from tests.sweeps.sweep_examples import CONFIGS, TWO, adadpo, opened, write_sweep

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")

INSTRUCTIONS = [f"What is the number {i} good for?" for i in range(12)]


def calibration_csv() -> bytes:
    """Two gamed models on every prompt, as in AlpacaEval's file."""
    text = io.StringIO()
    columns = (
        "preference",
        "index",
        "std_delta_len",
        "instruction_difficulty",
        "not_gamed_baseline",
        "model",
    )
    table = csv.writer(text)
    table.writerow(columns)
    for model, sign in (("verbose", 1), ("concise", -1)):
        for i in range(len(INSTRUCTIONS)):
            table.writerow((0.5 + sign * (i % 3) / 10, i, sign * (1 + i / 10), (i - 6) / 5, False, model))
    return text.getvalue().encode()


CONTENT = {
    CALIBRATION: calibration_csv(),
    PROMPTS: json.dumps([{"instruction": text, "dataset": "stand-in"} for text in INSTRUCTIONS]).encode(),
    BASELINE: json.dumps(
        [
            {
                "instruction": text,
                "output": f"Answer{' of some length' * (i % 4)}.",
                "generator": "gpt4_1106_preview",
            }
            for i, text in enumerate(INSTRUCTIONS)
        ]
    ).encode(),
}


class Hub(BaseHTTPRequestHandler):
    """Files of the data set at its revision; `content` and `asked` are the server's."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        name = self.path.removeprefix(f"/datasets/tatsu-lab/alpaca_eval/resolve/{REVISION}/")
        server: Any = self.server
        server.asked.append(name)
        content = server.content.get(name)
        self.send_response(404 if content is None else 200)
        self.send_header("X-Repo-Commit", REVISION)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if self.command == "GET" and content is not None:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def own_cache(shared_models_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "models").symlink_to(shared_models_cache / "models", target_is_directory=True)
    monkeypatch.setenv("ADADPO_CACHE", str(cache))
    return cache


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.content, server.asked = dict(CONTENT), []
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    address = f"http://127.0.0.1:{server.server_port}"  # HF_ENDPOINT is read when the client is imported
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def own_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in's hashes in the place of the official ones."""
    monkeypatch.setitem(FILES, CALIBRATION, hashlib.sha256(CONTENT[CALIBRATION]).hexdigest())
    order = hashlib.sha256(json.dumps(INSTRUCTIONS).encode()).hexdigest()
    monkeypatch.setattr(alpaca_eval_assets, "OFFICIAL_ORDER", order)


def in_cache() -> list[str]:
    folder = asset_folder(cache_folder())
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_fetched_once(hub: Any, own_pins: None) -> None:
    """Listed, fetched, listed: states and hashes against the stand-in's content; the second time nothing is asked."""
    listed = adadpo("assets", "--list", "--json").json
    assert [(each["name"], each["status"], each["sha256"]) for each in listed] == [
        (name, "missing", None) for name in FILES
    ]
    assert "missing  df_gamed.csv  not fetched" in adadpo("assets", "--list").out
    assert hub.asked == []
    assert not asset_folder(cache_folder()).exists()
    answer = adadpo("assets", "--json")
    assert answer.code == 0, answer.err
    for each in answer.json:
        assert (each["status"], Path(each["path"]).read_bytes()) == ("present", CONTENT[each["name"]])
        assert each["sha256"] == hashlib.sha256(CONTENT[each["name"]]).hexdigest()
    hub.asked.clear()
    assert adadpo("assets", "--json").json == answer.json == adadpo("assets", "--list", "--json").json
    assert f"present  {PROMPTS}  sha256 {answer.json[1]['sha256']}" in adadpo("assets", PROMPTS).out
    assert hub.asked == []


def test_another_file_than_the_official_one(hub: Any) -> None:
    """The real pin against the stand-in's calibration: one message, code 1, not kept."""
    answer = adadpo("assets", "--json", CALIBRATION)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"adadpo: {CALIBRATION}: the hub sent a file with sha256 ")
    assert "expected 97aeec3f1c7d" in answer.err
    assert "it was not kept" in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert in_cache() == []


def test_no_network(hub: Any, own_pins: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, nobody there, no such file: one message each with what to do, code 1, nothing half-written."""
    hub.content.pop(BASELINE)
    answer = adadpo("assets", BASELINE)
    assert "answered 404" in answer.err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offline = adadpo("assets")
    assert "the hub client is offline (HF_HUB_OFFLINE)" in offline.err
    for each in (answer, offline):
        assert (each.code, each.out, len(each.err.strip().splitlines())) == (1, "", 1)
        assert f"copy the folder {asset_folder(cache_folder())} from one that has it" in each.err
    assert in_cache() == []


def test_unknown_names() -> None:
    """Bad input: the names that there are."""
    answer = adadpo("assets", "df_gamed.cvs")
    assert answer.code == 2
    assert answer.err.startswith("adadpo: assets are df_gamed.csv, alpaca_eval.json")


def official(path: Path, judge: str, more: str = "") -> Path:
    evaluate = f"  prompts: alpaca_eval\n  baseline: gpt4_1106_preview\n  judge: {judge}\n{more}"
    return write_sweep(path, TWO.replace("  limit: 8\n", evaluate))


def test_the_official_setting(
    hub: Any, own_pins: None, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts and baseline from the hub, the official judge: LC by `length_controlled_v1` with the calibration file."""
    file, store = official(tmp_path / "two.yaml", api(server.url)), tmp_path / "store"
    assert adadpo("check", file).code == 0
    plan = adadpo("plan", file, "--store", store)
    assert (
        "AlpacaEval's alpaca_eval.json and alpaca_eval_gpt4_baseline.json not here yet: adadpo assets"
        in plan.out
    )
    assert hub.asked == []  # a plan fetches nothing
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 0, answer.err
    assert "judging: at most 0 requests" in adadpo("plan", file, "--store", store).out
    (tmp_path / "df_gamed.csv").write_bytes(CONTENT[CALIBRATION])
    calibration = read_calibration(tmp_path / "df_gamed.csv", instructions=INSTRUCTIONS)
    for folder in evaluations(file, store):
        rows, scores = read(folder / "annotations.json"), read(folder / "scores.json")
        assert [row["instruction"] for row in rows] == INSTRUCTIONS
        assert {row["generator_1"] for row in rows} == {"gpt4_1106_preview"}
        expected = length_controlled_win_rate(rows, calibration)
        assert expected.length_controlled_win_rate is not None
        assert scores["length_controlled_win_rate"] == expected.length_controlled_win_rate
        assert (scores["lc_method"], scores["calibration"]) == ("length_controlled_v1", FILES[CALIBRATION])
        assert scores["length_controlled_win_rate_se"] > 0
        assert [flag["name"] for flag in scores["integrity"]["flags"] if "calibrated" in flag["name"]] == []
    assert results(store).evaluation.lc_method == "length_controlled_v1"
    # Another model behind the same prompt is another judge: its LC is not the leaderboard's.
    other = official(tmp_path / "other.yaml", api(server.url, "model: served"))
    assert opened(other, store).job.evaluation.lc_method == "no_difficulty"
    # The same as files, without a hub: the same responses, the same number.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in (PROMPTS, BASELINE):
        (tmp_path / name).write_bytes(CONTENT[name])
    text = file.read_text().replace(
        "prompts: alpaca_eval", f"prompts: {PROMPTS}\n  calibration: df_gamed.csv"
    )
    files = write_sweep(
        tmp_path / "files.yaml", text.replace("baseline: gpt4_1106_preview", f"baseline: {BASELINE}")
    )
    assert opened(files, store).job.evaluation.lc_method == "length_controlled_v1"
    assert adadpo("launch", files, "--store", store).code == 0
    for by_hub, by_file in zip(evaluations(file, store), evaluations(files, store), strict=True):
        name = "length_controlled_win_rate"
        assert read(by_hub / "scores.json")[name] == read(by_file / "scores.json")[name]


@pytest.mark.parametrize("more", ["", "  lc_method: no_difficulty\n"])
def test_an_offline_node_without_the_files(server: Any, tmp_path: Path, more: str) -> None:
    """Said before any training, with what to do; plan still plans."""
    file, store = official(tmp_path / "two.yaml", api(server.url), more), tmp_path / "store"
    answer = adadpo("launch", file, "--store", store)
    assert answer.code == 1
    assert answer.err.startswith(
        "adadpo: alpaca_eval.json of tatsu-lab/alpaca_eval at 2edc6fad8be6 cannot be fetched"
    )
    assert (
        "where there is a network: adadpo assets. Prompts, baseline and calibration can be files too"
        in answer.err
    )
    assert not list(store.glob("*/train"))
    assert adadpo("plan", file, "--store", store).code == 0


def test_a_calibration_that_does_not_fit(server: Any, tmp_path: Path) -> None:
    """A calibration of 12 prompts for a sweep of other ones: refused before training."""
    (tmp_path / "df_gamed.csv").write_bytes(CONTENT[CALIBRATION])
    more = f"  limit: 8\n  judge: {api(server.url)}\n  calibration: df_gamed.csv\n"
    file = write_sweep(tmp_path / "two.yaml", TWO.replace("  limit: 8\n", more))
    answer = adadpo("launch", file, "--store", tmp_path / "store")
    assert answer.code == 1
    assert "adadpo: calibration: " in answer.err
    assert "12 prompts, but" in answer.err
    assert not list((tmp_path / "store").glob("*/train"))


def test_prompts_that_the_calibration_does_not_know(
    hub: Any, own_pins: None, server: Any, two_runs: Path, tmp_path: Path
) -> None:
    """The official formula on other prompts: no LC, with the reason, and never WR in its place."""
    more = f"  limit: 8\n  judge: {api(server.url)}\n  lc_method: length_controlled_v1\n"
    file = write_sweep(tmp_path / "two.yaml", TWO.replace("  limit: 8\n", more))
    answer = adadpo("launch", file, "--store", two_runs)
    assert answer.code == 0, answer.err
    found = results(two_runs)
    for run, failure in zip(found.runs, found.failures, strict=True):
        assert run.state == "done"
        assert run.metrics["win_rate"] is not None
        assert run.metrics["length_controlled_win_rate"] is None
        assert run.metrics["lc_minus_wr"] is None
        assert failure.reason.startswith("no length_controlled_win_rate: 8 of 8 prompts are not among")
    assert found.verdict_kind == "untestable"


def test_the_published_setting_is_checked_offline(tmp_path: Path) -> None:
    """configs/llama3: the official prompts, baseline and judge, without a hub, a key or AlpacaEval's files."""
    file = CONFIGS / "llama3_8b_ultrafeedback.yaml"
    assert adadpo("check", file).code == 0
    evaluation = opened(file, tmp_path).job.evaluation
    assert evaluation.lc_method == "length_controlled_v1"
    assert (evaluation.prompts, evaluation.baseline) == ("alpaca_eval", "gpt4_1106_preview")
    assert evaluation.judge_name == "alpaca_eval weighted_alpaca_eval_gpt4_turbo"
    plan = adadpo("plan", file, "--store", tmp_path, "--json").json
    assert plan["judging"]["max_cost"] > 0

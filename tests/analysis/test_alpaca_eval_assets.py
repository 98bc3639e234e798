"""Fetching AlpacaEval's files from a stand-in of the hub on this machine."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from adadpo.errors import AssetError
from analysis.alpaca_eval import assets as alpaca_eval_assets
from analysis.alpaca_eval.assets import (
    BASELINE,
    CALIBRATION,
    FILES,
    OFFICIAL_ORDER,
    PROMPTS,
    REVISION,
    asset_folder,
    fetch_assets,
    list_assets,
    official_calibration,
    read_instructions,
)

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")

CONTENT = {
    CALIBRATION: b"preference,index,std_delta_len,instruction_difficulty,not_gamed_baseline,model\n"
    b"0.5,0,0.1,-0.3,False,verbose\n0.4,1,0.2,0.4,False,verbose\n0.6,0,0.3,-0.3,False,concise\n",
    PROMPTS: json.dumps([{"instruction": "One?"}, {"instruction": "Two?"}]).encode(),
    BASELINE: json.dumps([{"instruction": "One?", "output": "1"}]).encode(),
}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Hub(ThreadingHTTPServer):
    """Answers as the hub does for files of a data set at one revision; keeps a list of what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files = dict(CONTENT)
        self.asked: list[tuple[str, str]] = []
        self.cut_after: int | None = None  # bytes after which the connection breaks

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        prefix = f"/datasets/tatsu-lab/alpaca_eval/resolve/{REVISION}/"
        name = self.path.removeprefix(prefix)
        self.server.asked.append((self.command, name))
        content = self.server.files.get(name)
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("ETag", f'"{sha256(content)}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if with_body and content is not None:
            self.wfile.write(content[: self.server.cut_after])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    # The stand-in cannot have the official content, so its own hash stands in for the official one.
    monkeypatch.setitem(FILES, CALIBRATION, sha256(CONTENT[CALIBRATION]))
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in asset_folder(cache).rglob("*") if path.is_file())


def test_pinned() -> None:
    """The official calibration's hash and revision against those of the hub data set tatsu-lab/alpaca_eval."""
    assert FILES[CALIBRATION] == "97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d"
    assert REVISION == "2edc6fad8be6b14ea7230aabfd08188da6b8b814"


def test_official_order(alpaca_eval: Path) -> None:
    """The pinned order of the prompts against the complete annotation files."""
    for path in (alpaca_eval / "raw").glob("*.json.gz"):
        instructions = [row["instruction"] for row in json.loads(gzip.decompress(path.read_bytes()))]
        assert sha256(json.dumps(instructions).encode()) == OFFICIAL_ORDER


def test_fetch_then_offline(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing files before, whole ones with their hashes after; the second time nothing is asked for."""
    assert [(asset.name, asset.status, asset.sha256) for asset in list_assets(tmp_path)] == [
        (name, "missing", None) for name in FILES
    ]
    assert not asset_folder(tmp_path).exists()
    fetched = fetch_assets(tmp_path, endpoint=hub.address)
    for asset in fetched:
        assert asset.status == "present"
        assert Path(asset.path).read_bytes() == CONTENT[asset.name]
        assert asset.sha256 == asset.expected_sha256 == sha256(CONTENT[asset.name])
    # Nothing else is left, but the recorded hashes of the files whose hash was not known before.
    assert left_in(tmp_path) == sorted([*FILES, f"{PROMPTS}.sha256", f"{BASELINE}.sha256"])
    hub.asked.clear()
    assert fetch_assets(tmp_path, endpoint="http://127.0.0.1:9") == fetched == list_assets(tmp_path)
    assert hub.asked == []
    with pytest.raises(AssetError, match="not AlpacaEval's 805 prompts in their official order"):
        official_calibration(tmp_path)
    order = sha256(json.dumps(read_instructions(Path(fetched[1].path))).encode())
    monkeypatch.setattr(alpaca_eval_assets, "OFFICIAL_ORDER", order)
    calibration = official_calibration(tmp_path)
    assert calibration.instructions == ("One?", "Two?")
    assert calibration.fingerprint == FILES[CALIBRATION]


def test_changed_file_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    """A damaged file: said to be changed, refused as a calibration, replaced by the next fetch."""
    first = fetch_assets(tmp_path, endpoint=hub.address)
    for name in (CALIBRATION, PROMPTS):
        (asset_folder(tmp_path) / name).write_bytes(b"[]")
    assert [asset.status for asset in list_assets(tmp_path)] == ["changed", "changed", "present"]
    with pytest.raises(AssetError, match=r"df_gamed.csv is changed; .*alpaca_eval.json is changed"):
        official_calibration(tmp_path)
    assert fetch_assets(tmp_path, endpoint=hub.address) == first


def test_wrong_content(hub: Hub, tmp_path: Path) -> None:
    """Another file than the pinned one, or than the recorded one, against the error; nothing of it is kept."""
    hub.files[CALIBRATION] = b"something else"
    with pytest.raises(AssetError, match=r"df_gamed.csv: the hub sent a file with sha256 \w{64}, expected"):
        fetch_assets(tmp_path, [CALIBRATION], endpoint=hub.address)
    assert left_in(tmp_path) == []
    fetch_assets(tmp_path, [PROMPTS], endpoint=hub.address)
    (asset_folder(tmp_path) / PROMPTS).unlink()
    hub.files[PROMPTS] = b"[]"
    with pytest.raises(AssetError, match=f"alpaca_eval.json: .* expected {sha256(CONTENT[PROMPTS])}"):
        fetch_assets(tmp_path, [PROMPTS], endpoint=hub.address)
    assert left_in(tmp_path) == [f"{PROMPTS}.sha256"]


def test_absent_file(hub: Hub, tmp_path: Path) -> None:
    """A file that the hub does not have against the error; files fetched before stay."""
    del hub.files[BASELINE]
    with pytest.raises(AssetError, match=rf"alpaca_eval_gpt4_baseline.json of .* {hub.address} answered 404"):
        fetch_assets(tmp_path, endpoint=hub.address)
    assert [asset.status for asset in list_assets(tmp_path)] == ["present", "present", "missing"]


def test_connection_lost_in_the_middle(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that breaks off against the error; nothing is left."""
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client waits a second before each of 5 more tries
    hub.cut_after = 10
    with pytest.raises(AssetError, match=r"df_gamed.csv of .*: the connection to http"):
        fetch_assets(tmp_path, endpoint=hub.address)
    assert left_in(tmp_path) == []


def test_connection_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub, and a client told to be offline, against one clear error each."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with Hub() as unused:
        address = unused.address
    with pytest.raises(AssetError, match=rf"to {address} failed \(ConnectError.*copy the folder {tmp_path}"):
        fetch_assets(tmp_path, endpoint=address)
    assert left_in(tmp_path) == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AssetError, match="the hub client is offline"):
        fetch_assets(tmp_path, endpoint=address)


def test_client_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An install without huggingface_hub against the error that names it."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(AssetError, match="needs huggingface_hub"):
        fetch_assets(tmp_path)


def test_endpoint_from_the_environment(hub: Hub, tmp_path: Path) -> None:
    """HF_ENDPOINT, read when a process starts, against what the stand-in was asked."""
    code = "import sys, pathlib, adadpo; adadpo.fetch_assets(pathlib.Path(sys.argv[1]), [sys.argv[2]])"
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "hf"),
    }
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), PROMPTS], check=True, env=environment, capture_output=True
    )
    assert ("GET", PROMPTS) in hub.asked
    assert list_assets(tmp_path, [PROMPTS])[0].status == "present"


def test_unusable_arguments(tmp_path: Path) -> None:
    """Unknown names and files that hold no prompts against the error."""
    with pytest.raises(ValueError, match=r"assets are df_gamed.csv, .* got weights.bin"):
        list_assets(tmp_path, ["weights.bin"])
    with pytest.raises(AssetError, match=r"df_gamed.csv is missing; .*: fetch AlpacaEval's files first"):
        official_calibration(tmp_path)
    for content, message in (
        (b"{", "not JSON"),
        (b"{}", "expected a list"),
        (b'[{"a": 1}]', "expected a list"),
    ):
        (tmp_path / "p.json").write_bytes(content)
        with pytest.raises(AssetError, match=message):
            read_instructions(tmp_path / "p.json")

"""`bab export --push`, against a stand-in of the hub on this machine."""

from __future__ import annotations

import hashlib
import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from made_models import made

from bab.cli import main
from bab.core.errors import BabError
from bab.exporting.export import export
from bab.exporting.push import push


class Hub:
    """What was asked of it, and what it was given."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.private: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.status = 200
        self.token = ""

    def post(self, path: str, body: bytes, address: str) -> Any:
        if path == "/api/repos/create":
            told = json.loads(body)
            name = f"{told['organization']}/{told['name']}"
            # Newer clients say it by a word.
            self.private[name] = told.get("private", told.get("visibility") == "private")
            return {"url": f"{address}/{name}", "name": name, "id": "1"}
        if path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            return {"files": [self._mode(one["path"]) for one in files]}
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for one in objects:
                href = f"{address}/blob/{one['oid']}"
                one["actions"] = {"upload": {"href": href}}
            return {"transfer": "basic", "objects": objects}
        if path.endswith("/commit/main"):
            for line in body.splitlines():
                self._commit(json.loads(line))
            oid = "c" * 40
            repo = path.removeprefix("/api/models/").removesuffix("/commit/main")
            place = f"{address}/{repo}/commit/{oid}"
            return {"commitUrl": place, "commitOid": oid, "hookOutput": ""}
        return {}

    def _mode(self, path: str) -> dict[str, Any]:
        large = path.endswith((".safetensors", ".onnx"))
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}

    def _commit(self, line: dict[str, Any]) -> None:
        value = line["value"]
        if line["key"] == "file":
            self.files[value["path"]] = b64decode(value["content"])
        elif line["key"] == "lfsFile":
            self.files[value["path"]] = self.blobs[value["oid"]]


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for who hasn't exported HF_HUB_OFFLINE, which the library reads when it is imported."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that takes what it is given; `status` makes it refuse."""
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def reply(self, value: Any, status: int = 200) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def do_POST(self) -> None:
            body = self.body()
            state.asked.append(self.path)
            state.token = self.headers.get("Authorization", "")
            if state.status != 200:
                return self.reply({"error": "You may not"}, state.status)
            address = f"http://127.0.0.1:{self.server.server_port}"
            return self.reply(state.post(self.path.split("?")[0], body, address))

        def do_PUT(self) -> None:
            content = self.body()
            name = self.path.rpartition("/")[2]
            assert hashlib.sha256(content).hexdigest() == name
            state.blobs[name] = content
            self.reply({})

        def do_GET(self) -> None:
            self.reply({"id": "anna/voices", "siblings": [], "sha": "0" * 40}, state.status)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_made")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("push") / "run", "gender")


def test_a_folder_goes_up_whole_and_private(hub, run, tmp_path, capsys):
    done = main(["export", str(run), str(tmp_path / "out"), "--push", "anna/voices", "--quiet"])
    assert done == 0
    assert hub.private == {"anna/voices": True} and hub.token == "Bearer hf_made"
    own = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {name: hub.files.get(name) for name in own} == own
    assert b'NAME = "anna/voices"' in own["README.md"]
    assert "pushed: http://127.0.0.1" in capsys.readouterr().out
    export(run, "hf", tmp_path / "out", push_to="anna/more", public=True)
    assert hub.private["anna/more"] is False


def test_nothing_goes_up_unasked(hub, run, tmp_path):
    export(run, "hf", tmp_path / "out")
    assert hub.asked == []


@pytest.mark.parametrize(("status", "says"), [(403, "HTTP 403"), (401, "HTTP 401"), (500, "500")])
def test_a_refusal_is_one_line(hub, tmp_path, status, says, monkeypatch):
    hub.status = status
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(BabError, match=says) as caught:
        push(tmp_path, "anna/voices", False)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_no_token_no_network_no_name(hub, run, tmp_path, monkeypatch, capsys):
    for name, says in (("voices", "OWNER/NAME"), ("a/b/c", "--push a/b/c"), ("a/b?", "--push a/b")):
        with pytest.raises(BabError, match=says):
            export(run, "hf", tmp_path / "out", push_to=name)
    assert not (tmp_path / "out").exists()  # refused before anything was done
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BabError, match=r"can.t reach http://127\.0\.0\.1:9") as caught:
        push(tmp_path, "anna/voices", False)
    assert "\n" not in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(BabError, match="needs an access token"):
        push(tmp_path, "anna/voices", False)
    assert main(["export", str(run), str(tmp_path / "x"), "--public"]) == 2
    assert main(["export", str(run), str(tmp_path / "x"), "--push", "a/b", "--offline"]) == 2
    assert capsys.readouterr().err.count("bab: error: ") == 2

"""Weights by name: the grammar, the hub and its refusals."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from bab.core.weights import WeightsError
from bab.hub.weights import (
    Located,
    fetch,
    locate,
)

SHA = "0123456789abcdef0123456789abcdef01234567"


def find(weights: str, offline: bool = True) -> Located:
    hub = {"base": "owner/base"}
    return locate(weights, encoder="x", hub=hub, known=["base", "random"], offline=offline)


def test_locate_takes_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    want = (tmp_path / "owner" / "name").resolve()
    for text in ("owner/name", "./owner/name", str(want), "owner/../owner/name"):
        assert find(text) == Located(want, str(want))


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ("./gone", "gone does not exist"),
        ("/no/such/dir", "/no/such/dir does not exist"),
        ("bas", "did you mean 'base'"),
        ("a//b", "knows no weights 'a//b'"),
        ("~nobody-here/x", "can't be a path"),
        ("~nobody\0/x", "can't be a path: embedded null byte"),
        ("a\0b", "knows no weights"),
        ("x" * 5000, "can't be a path: .*too long"),
        ("owner/name", "not on this machine and --offline"),
        ("base", "owner/base is not on this machine"),
    ],
)
def test_locate_refuses(weights: str, says: str, cache: Path) -> None:
    with pytest.raises(WeightsError, match=says) as caught:
        find(weights)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------ the hub


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for the hub's client, and no token."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path / "hub"


class Hub:
    """The answers of a hub: model id -> files, or the refusal that the real one would send."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.broken: dict[str, int] = {}
        self.asked: list[str] = []
        self.revisions = {SHA, "main"}

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(path)
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repo = "/".join(parts[2:4] if api else parts[:2])
        if repo in self.broken:
            return self.broken[repo], {}, b""
        if repo not in self.models:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if api and len(parts) > 4 and parts[5] not in self.revisions:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        files = self.models[repo]
        if api:
            listing = {"id": repo, "sha": SHA, "siblings": [{"rfilename": f} for f in files]}
            return 200, {"Content-Type": "application/json"}, json.dumps(listing).encode()
        if repo in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        body = files["/".join(parts[4:])]
        return 200, {"X-Repo-Commit": SHA, "ETag": f'"{hash(body) & 0xFFFFFF:x}"'}, body


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """A hub on this machine, that speaks as the real one does."""
    answers = Hub()

    class Handler(BaseHTTPRequestHandler):
        def reply(self, body: bool) -> None:
            status, headers, content = answers.answer(unquote(self.path.split("?")[0]))
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def do_GET(self) -> None:
            self.reply(True)

        def do_HEAD(self) -> None:
            self.reply(False)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield answers
    server.shutdown()
    server.server_close()


def test_fetch_takes_only_what_a_model_needs(hub: Hub, cache: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"s", "pytorch_model.bin": b"b"}
    hub.models["owner/name"] = {**files, "README.md": b"r", "tf_model.h5": b"h"}
    found = fetch("owner/name")
    assert found.name == f"owner/name@{SHA}"
    assert sorted(path.name for path in found.path.iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert (found.path / "model.safetensors").read_bytes() == b"s"
    # The same copy again: offline, by the name that it was resolved to, and when the hub is down.
    assert fetch("owner/name", offline=True) == found
    assert fetch(found.name, offline=True) == found
    hub.broken["owner/name"] = 503
    with pytest.raises(WeightsError, match="HTTP 503"):
        fetch("owner/name")


def test_a_revision_is_asked_for_by_its_name_and_then_by_its_commit(hub: Hub) -> None:
    """The first file says which commit it is; nobody can move the others away from it."""
    hub.models["owner/name"] = {"config.json": b"{}", "model.safetensors": b"s"}
    hub.revisions.add("v2")
    made = fetch("owner/name@v2")
    assert made.name == f"owner/name@{SHA}" and made == fetch("owner/name@v2", offline=True)
    assert hub.asked[0] == "/api/models/owner/name/revision/v2"
    files = [path for path in dict.fromkeys(hub.asked) if "/resolve/" in path]
    assert files[0] == "/owner/name/resolve/v2/config.json"
    assert files[-1] == f"/owner/name/resolve/{SHA}/model.safetensors"


def test_fetch_uses_the_copy_when_the_hub_is_unreachable(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.models["owner/name"] = {"config.json": b"{}", "pytorch_model.bin": b"b"}
    found = fetch("owner/name")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch("owner/name") == found
    with pytest.raises(
        WeightsError, match=r"can't reach http://127\.0\.0\.1:9 to fetch owner/other"
    ):
        fetch("owner/other")


def test_fetch_takes_shards(hub: Hub) -> None:
    shards = {"model-1-of-2.safetensors": b"1", "model-2-of-2.safetensors": b"2"}
    index = {"config.json": b"{}", "model.safetensors.index.json": b"{}"}
    hub.models["owner/name"] = {**shards, **index, "other.txt": b""}
    names = {path.name for path in fetch("owner/name").path.iterdir()}
    assert names == {*shards, *index}


def test_fetch_takes_a_checkpoint(hub: Hub) -> None:
    hub.models["owner/name"] = {"README.md": b"", "epoch=4.ckpt": b"c"}
    found = fetch("owner/name")
    assert (found.path.name, found.path.read_bytes()) == ("epoch=4.ckpt", b"c")
    assert fetch("owner/name", offline=True) == found
    hub.models["owner/two"] = {"a.ckpt": b"a", "sub/b.ckpt": b"b"}
    with pytest.raises(WeightsError, match=r"several checkpoints: name one, owner/two/FILE \(a.c"):
        fetch("owner/two")
    named = fetch("owner/two/sub/b.ckpt")
    assert named.path.read_bytes() == b"b" and named.name == f"owner/two/sub/b.ckpt@{SHA}"
    assert fetch(named.name, offline=True) == named
    with pytest.raises(WeightsError, match=r"owner/two has no file c\.ckpt: did you mean"):
        fetch("owner/two/c.ckpt")
    hub.models["owner/none"] = {"README.md": b""}
    with pytest.raises(WeightsError, match="owner/none holds no weights: looked for config"):
        fetch("owner/none")


def test_gated(hub: Hub) -> None:
    hub.models["coml/BabyHuBERT"] = {"a.ckpt": b"a"}
    hub.gated.add("coml/BabyHuBERT")
    with pytest.raises(WeightsError) as caught:
        fetch("coml/BabyHuBERT")
    message = str(caught.value)
    for part in ("is gated", "/coml/BabyHuBERT, accept the licence of its owner (coml)"):
        assert part in message
    assert "`hf auth login`" in message and "HF_TOKEN" in message and "\n" not in message


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("owner/unknown", "the hub shows no model owner/unknown.*HF_TOKEN"),
        ("owner/name@gone", "owner/name has no revision 'gone'"),
        ("owner/refused", r"refused the access token for owner/refused \(HTTP 403\).*HF_TOKEN"),
        ("owner/broken", "HTTP 500: try later"),
        ("owner/na--me", "can't be a hub id"),
    ],
)
def test_refusals(hub: Hub, spec: str, says: str) -> None:
    hub.models["owner/name"] = {"config.json": b"{}", "model.safetensors": b""}
    hub.broken = {"owner/broken": 500, "owner/refused": 403}
    with pytest.raises(WeightsError, match=says) as caught:
        fetch(spec)
    assert "\n" not in str(caught.value)


def test_offline_asks_nobody(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    hub.models["owner/name"] = {"config.json": b"{}", "model.safetensors": b""}
    with pytest.raises(WeightsError, match="--offline"):
        fetch("owner/name", offline=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
        fetch("owner/name")
    assert hub.asked == []


def test_a_closed_port_fails_at_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(WeightsError, match="can't reach http://127") as caught:
        find("base", offline=False)
    assert time.monotonic() - start < 10
    assert "\n" not in str(caught.value)

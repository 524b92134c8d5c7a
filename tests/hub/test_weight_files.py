"""Weights in files and by name: what is read and fetched, and what is said where it can't be."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import save_file

from bab.core.sealed import write_tensors
from bab.core.weights import WeightsError
from bab.hub import files, weights
from bab.hub.weights import Located, locate


def said(call: Any, *given: Any, **more: Any) -> str:
    with pytest.raises(WeightsError) as caught:
        call(*given, **more)
    return str(caught.value)


NONE = (
    "holds no weights: looked for config.json with model.safetensors or "
    "model.safetensors.index.json or pytorch_model.bin or pytorch_model.bin.index.json, or one "
    ".ckpt / .pt / .pth file"
)


def test_the_one_checkpoint_of_a_folder(tmp_path: Path) -> None:
    assert said(files.checkpoint, tmp_path) == f"{tmp_path} {NONE}"
    (tmp_path / "readme.txt").touch()
    (tmp_path / "b.pt").touch()
    assert files.checkpoint(tmp_path) == tmp_path / "b.pt" == files.checkpoint(tmp_path / "b.pt")
    (tmp_path / "a.ckpt").touch()
    told = f"{tmp_path} holds several checkpoints: name one, {tmp_path}/FILE (a.ckpt, b.pt)"
    assert said(files.checkpoint, tmp_path) == told
    many = [f"{i}.pt" for i in range(9, -1, -1)]
    listed = ", ".join(f"{i}.pt" for i in range(8))
    assert said(files.one_checkpoint, many, "x").endswith(f"x/FILE ({listed})")
    (tmp_path / "config.json").touch()
    assert files.checkpoint(tmp_path) is None
    assert files.one_checkpoint(["a"], "x") == "a"


def test_tensors_of_every_kind_of_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.int64)}
    save_file(given, tmp_path / "x.safetensors")
    torch.save({"state_dict": {**given, "step": 3}, "epoch": 1}, tmp_path / "x.ckpt")
    torch.save(given, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(tmp_path / "x.pt") and zipfile.is_zipfile(tmp_path / "x.ckpt")
    mapped: list[bool] = []
    real = files._mapped
    monkeypatch.setattr(
        files, "_mapped", lambda path, checked=True: mapped.append(checked) or real(path, checked)
    )
    for portion, maps in ((64 * 2**20, 2), (24, 3), (10**12, 2)):
        monkeypatch.setattr(files, "_PORTION", portion)
        for name in ("x.safetensors", "x.ckpt", "x.pt"):
            mapped.clear()
            made = files.read_tensors(tmp_path / name)
            assert list(made) == ["a", "b"]
            assert all(torch.equal(made[key], given[key]) for key in given)
            assert len(mapped) == (1 if name == "x.pt" else maps)
            assert mapped[0] and not any(mapped[1:])


def test_what_is_said_of_files_without_tensors(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    for content in ({"state_dict": {"a": 1}}, {}, [1], {"state_dict": [1]}, 3):
        torch.save(content, path)
        assert said(files.read_tensors, path) == (
            f"{path} holds no tensors by name: it should hold a state_dict"
        )
    torch.save({"a": Path("x")}, path)
    assert said(files.read_tensors, path) == (
        f"{path} is damaged or holds more than tensors, and loading that could run code: re-save "
        "its state_dict alone, where you trust it"
    )
    gone = tmp_path / "gone.ckpt"
    told = said(files.read_tensors, gone)
    assert told.startswith(f"can't read {gone}: [Errno 2]") and told.endswith("; copy it again")
    path.write_bytes(b"")
    assert said(files.read_tensors, path).startswith(f"can't read {path}: ")
    bad = tmp_path / "x.safetensors"
    bad.write_bytes(b"nothing")
    told = said(files.read_tensors, bad)
    assert told.startswith(f"can't read {bad}: {bad} is damaged (") and "copy it again" in told
    write_tensors(bad, {"a": torch.arange(64.0)}, "k")
    data = bytearray(bad.read_bytes())
    data[-5] ^= 1
    bad.write_bytes(data)
    told = f"can't read {bad}: {bad} is damaged (its checksum doesn't hold): copy it again"
    assert said(files.read_tensors, bad) == told


def test_shards_of_a_folder(tmp_path: Path) -> None:
    assert said(files.read_folder, tmp_path) == (
        f"{tmp_path} has no weights: looked for model.safetensors, model.safetensors.index.json, "
        "pytorch_model.bin, pytorch_model.bin.index.json"
    )
    for name in "ab":
        save_file({name: torch.ones(1)}, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {"b": "b.safetensors", "a": "a.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert list(files.read_folder(tmp_path)) == ["a", "b"]
    save_file({"c": torch.ones(1)}, tmp_path / "model.safetensors")  # one file comes first
    assert list(files.read_folder(tmp_path)) == ["c"]


# ------------------------------------------------------------------------------- by name


@pytest.mark.parametrize(
    ("names", "inner", "needed"),
    [
        (["README.md", "model.safetensors", "config.json", "vocab.json", "pytorch_model.bin"], "",
         ["config.json", "vocab.json", "model.safetensors"]),
        (["pytorch_model.bin", "config.json", "preprocessor_config.json", "tokenizer_config.json"],
         "", ["config.json", "preprocessor_config.json", "tokenizer_config.json",
              "pytorch_model.bin"]),
        (["config.json", "pytorch_model-2.bin", "pytorch_model-1.bin", "model-1.bin",
          "pytorch_model.bin.index.json"], "",
         ["config.json", "pytorch_model-1.bin", "pytorch_model-2.bin",
          "pytorch_model.bin.index.json"]),
        (["config.json", "model.safetensors", "model-extra.txt"], "",
         ["config.json", "model.safetensors"]),
        (["config.json", "a.ckpt"], "", ["a.ckpt"]),
        (["model.safetensors", "a.pth"], "", ["a.pth"]),
        (["x/a.pt", "x/b.pt"], "x/b.pt", ["x/b.pt"]),
        (["config.json", "model.safetensors"], "config.json", ["config.json"]),
    ],
)  # fmt: skip
def test_which_files_a_model_needs(names: list[str], inner: str, needed: list[str]) -> None:
    assert weights._needed(names, "o/n", inner) == needed


def test_what_is_said_of_a_repository_without_weights() -> None:
    assert said(weights._needed, ["model.safetensors"], "o/n", "") == f"o/n {NONE}"
    assert said(weights._needed, ["a.pt"], "o/n", "b.pt") == (
        "o/n has no file b.pt: did you mean 'a.pt'?"
    )


def find(name: str) -> Located:
    return locate(name, encoder="e", hub={"base": "o/base"}, known=["base"], offline=True)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("./gone", "gone does not exist: 'e:./gone' names a local path"),
        ("../gone/x", "../gone/x does not exist: 'e:../gone/x' names a local path"),
        ("/gone", "/gone does not exist: 'e:/gone' names a local path"),
        ("bas", "'e' knows no weights 'bas', and there is no such path: did you mean 'base'? (or "
         "owner/name on the hub, or a folder)"),
        ("a b/c", "'e' knows no weights 'a b/c', and there is no such path: known: base (or "
         "owner/name on the hub, or a folder)"),
        ("o/n/x y", "'e' knows no weights 'o/n/x y', and there is no such path: known: base (or "
         "owner/name on the hub, or a folder)"),
    ],
)  # fmt: skip
def test_names_that_are_nothing(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said(find, name) == told


@pytest.mark.parametrize("name", ["o/n", "o/n/x/y.pt", "o.p/n_m-1", "o/n@main", "o/n/a.pt@r/1"])
def test_names_that_are_the_hubs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[Any] = []
    answer = Located(tmp_path, "x")
    monkeypatch.setattr(
        weights, "fetch", lambda spec, offline: asked.append((spec, offline)) or answer
    )
    assert find(name) is answer and find("base") is answer
    assert asked == [(name, True), ("o/base", True)]


def test_the_current_folder_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    assert find(".") == Located(tmp_path.resolve(), str(tmp_path.resolve()))
    assert find("~/m").path == (tmp_path / "m").resolve()
    (tmp_path / "base").mkdir()  # a name that the encoder knows comes first
    assert "o/base is not on this machine" in said(find, "base")


class Response:
    """What an error of the hub's client carries."""

    def __init__(self, status: int) -> None:
        self.status_code, self.headers, self.request = status, {}, None


def http(kind: type[Exception], status: int = 404) -> Exception:
    error = kind.__new__(kind)
    Exception.__init__(error, "no")
    error.response = Response(status)  # type: ignore[attr-defined]
    return error


TOKEN = "make a token at https://h/settings/tokens and store it with `hf auth login` or in HF_TOKEN"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (http(errors.GatedRepoError),
         f"o/n is gated: log in at https://h/o/n, accept the licence of its owner (o), {TOKEN}"),
        (http(errors.RevisionNotFoundError), "o/n has no revision 'r': see https://h/o/n/commits/main"),
        (http(errors.RepositoryNotFoundError), "the hub shows no model o/n: is https://h/o/n spelt "
         f"right? If it is private, {TOKEN}"),
        *((http(errors.HfHubHTTPError, status),
           f"the hub refused the access token for o/n (HTTP {status}): {TOKEN}")
          for status in (401, 403)),
        (http(errors.HfHubHTTPError, 503),
         "the hub answered for https://h/o/n with HTTP 503: try later, or --offline with a copy"),
        (errors.HFValidationError("bad\nname"), "o/n can't be a hub id: bad"),
        (ConnectionError("x"), "can't reach https://h to fetch o/n, and no copy of it is on this "
         "machine: check the connection or proxy, or copy the model's files here and name their "
         "folder"),
        (OSError("disk\nfull"), "can't store o/n in the hub's cache: disk"),
    ],
)  # fmt: skip
def test_what_the_hub_refuses(error: Exception, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://h/")
    assert weights._remedy(error, "o/n", "r") == told
    with pytest.raises(WeightsError) as caught, weights._explained("o/n", "r"):
        raise error
    assert str(caught.value) == told and caught.value.__cause__ is error


def caused(error: BaseException, cause: BaseException | None = None, by: str = "cause") -> Any:
    setattr(error, f"__{by}__", cause)
    return error


@pytest.mark.parametrize(
    ("error", "unreachable"),
    [
        (ConnectionError(), True),
        (TimeoutError(), True),
        (errors.OfflineModeIsEnabled(), True),
        (ValueError(), False),
        (caused(ValueError(), TimeoutError()), True),
        (caused(ValueError(), caused(KeyError(), ConnectionError(), "context")), True),
        (caused(ValueError(), KeyError(), "context"), False),
        (http(errors.HfHubHTTPError), False),
        (caused(ValueError(), http(errors.HfHubHTTPError)), False),
        (type("Cut", (Exception,), {"__module__": "httpx.exceptions"})(), True),
        (type("Cut", (Exception,), {"__module__": "http.client"})(), False),
    ],
)
def test_what_means_that_nobody_answered(error: BaseException, unreachable: bool) -> None:
    assert weights._unreachable(error) == unreachable


def test_errors_that_are_nobodys_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    own = WeightsError("said already")
    with pytest.raises(WeightsError) as caught, weights._explained("o/n", ""):
        raise own
    assert caught.value is own
    with pytest.raises(KeyError), weights._explained("o/n", ""):
        raise KeyError("a fault of bab's")
    cut = type("Cut", (Exception,), {"__module__": "httpx"})()
    with pytest.raises(WeightsError, match="can't reach"), weights._explained("o/n", ""):
        raise cut


# ------------------------------------------------------------------------------- the hub's cache


def test_a_copy_of_the_hubs_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "snapshots" / "abc"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.pt").touch()
    asked: list[Any] = []
    answer: list[Any] = [str(folder)]

    def snapshot(repo: str, revision: str | None, local_files_only: bool) -> str:
        asked.append((repo, revision, local_files_only))
        if isinstance(answer[0], Exception):
            raise answer[0]
        return str(answer[0])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    one = Located(folder / "sub" / "a.pt", "o/n@abc")
    assert weights._cached("o/n", "", None) == one and asked == [("o/n", None, True)]
    assert weights._cached("o/n", "sub/a.pt", "r") == Located(one.path, "o/n/sub/a.pt@abc")
    assert asked[1] == ("o/n", "r", True) and weights._cached("o/n", "b.pt", None) is None
    (folder / "config.json").touch()
    (folder / "model.safetensors").touch()
    assert weights._cached("o/n", "", None) == Located(folder, "o/n@abc")
    missing = errors.LocalEntryNotFoundError("incomplete")
    answer[0] = missing
    assert weights._cached("o/n", "", None) is None
    missing.snapshot_path = str(folder)  # newer clients say where it is all the same
    assert weights._cached("o/n", "", None) == Located(folder, "o/n@abc")
    answer[0] = errors.HFValidationError("bad name")
    assert said(weights._cached, "o/n", "", None) == "o/n can't be a hub id: bad name"
    answer[0] = missing
    del missing.snapshot_path
    assert said(weights.fetch, "o/n@r", offline=True) == (
        "o/n is not on this machine and --offline (or HF_HUB_OFFLINE) forbids fetching it: run "
        "once without it, or `hf download o/n`, or name a local folder"
    )

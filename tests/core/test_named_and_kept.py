"""Spellings, components, checkpoints, files: what is made of each, and what is said of a fault."""

from __future__ import annotations

import json
import math
import os
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from train_worker import Small

import bab
from bab.core import atomic, checkpoint, components, record, registry, sealed
from bab.core.caches import cache_root
from bab.core.checkpoint import State
from bab.core.errors import BabError, ConfigError, DiskFullError, PluginError, warn
from bab.core.names import Member, file_name, fitted, members, short, spelling
from bab.core.observers import Watchers
from bab.core.registry import Entry
from bab.core.seeds import derive


@pytest.fixture(autouse=True)
def nobody_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is claimed here is forgotten after the test."""
    monkeypatch.setattr(registry, "_loaded", {})


@pytest.mark.parametrize(
    ("section", "text", "keys"),
    [
        ("encoder", "hubert", {"name": "hubert"}),
        ("encoder", " hubert:base ", {"name": "hubert", "weights": "base"}),
        ("encoder", "hubert:C:/x", {"name": "hubert", "weights": "C:/x"}),
        ("encoder", "fbank + hubert:tiny", {"name": "fbank + hubert:tiny"}),
        ("encoder", "bab/hubert:base", {"name": "hubert", "weights": "base"}),
        ("corpus", "rttm:/data:x", {"name": "rttm", "root": "/data:x"}),
        ("test_corpus", "rttm", {"name": "rttm"}),
        ("task", "vtc", {"name": "vtc"}),
        ("corpus", "a+b", {"name": "a+b"}),
        ("encoder", "hubert:", "encoder 'hubert:' is not spelled NAME or NAME:WEIGHTS"),
        ("corpus", ":/data", "corpus ':/data' is not spelled NAME or NAME:ROOT"),
        ("head", "pooled:x", "head 'pooled:x' is not spelled NAME"),
        ("task", "", "task '' is not spelled NAME"),
    ],
)
def test_how_a_component_is_spelt(section: str, text: str, keys: dict[str, str] | str) -> None:
    if isinstance(keys, str):
        with pytest.raises(ConfigError) as error:
            spelling(section, text)
        assert str(error.value) == keys
    else:
        assert spelling(section, text) == keys


def test_members_and_how_each_is_typed() -> None:
    assert members("ast + bab/wav2vec2:base+clap") == (
        Member("ast", ""), Member("wav2vec2", "base"), Member("clap", ""),
    )  # fmt: skip
    assert members("hubert:a+b+fbank") == (Member("hubert", "a+b"), Member("fbank", ""))
    assert members("none+fbank") == (Member("none", ""), Member("fbank", ""))
    assert [m.spec for m in members("ast+clap:tiny")] == ["ast", "clap:tiny"]


@pytest.mark.parametrize(
    ("resolved", "name"),
    [
        ("hubert:base", "hubert-base"),
        ("fbank", "fbank"),
        ("hubert:org/name", "hubert-name"),
        ("hubert:/data/mine", "hubert-mine-12345678"),
        ("hubert:/runs/pretrain/0123456789ab/model", "hubert-pretrain-12345678"),
        ("hubert:/data/hubert-large", "hubert-large-12345678"),
        ("hubert:/model", "hubert-model-12345678"),
        ("fbank+hubert:/data/mine", "fbank+hubert-mine-12345678"),
        ("hubert:org/hubert-large", "hubert-hubert-large"),
    ],
)
def test_what_an_encoders_folder_is_called(resolved: str, name: str) -> None:
    assert short(resolved, "123456789abc") == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a b/c:d", "a-b-c-d"), ("..x--", "x"), ("", "x"), ("///", "x"), ("a+b_1.5", "a+b_1.5"),
        ("ä", "x"), ("x" * 200, "x" * 200),
    ],
)  # fmt: skip
def test_a_text_as_part_of_a_path(text: str, name: str) -> None:
    assert file_name(text) == name
    assert len(fitted("x" * 201)) == 200 and fitted("x" * 201)[-9] == "-"


# ------------------------------------------------------------------------------- components


def entry(
    name: str, distribution: str = "mine", value: str = "m:C", kind: str = "encoders"
) -> Entry:
    return Entry(name, kind, value, distribution, "1.2")


def built(monkeypatch: pytest.MonkeyPatch, name: str, given: Any, owner: Entry) -> Any:
    class Loads(Small):
        default = "standard"
        asked: list[Any] = []  # noqa: RUF012

        @classmethod
        def load(cls, weights: str, options: Any, **more: Any) -> Any:
            cls.asked.append((weights, more))
            return given

    monkeypatch.setattr(registry, "find", lambda kind, called: owner)
    monkeypatch.setattr(registry, "load", lambda kind, called: Loads)
    made = components.build_encoder(name, "", {}, True, False)
    components.build_encoder(name, "base", {}, False, True)
    assert Loads.asked == [
        ("standard", {"offline": True, "trust_code": False}),
        ("base", {"offline": False, "trust_code": True}),
    ]
    return made


def test_an_encoder_is_built_held_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Small().train()
    encoder.resolved = "hubert:base"
    made = built(monkeypatch, "hubert", encoder, entry("hubert"))
    assert made is encoder and not made.training and made.resolved == "hubert:base"
    assert registry.owner(made) == entry("hubert")
    other = Small()
    other.resolved = "hubert:base:x"
    assert (
        built(monkeypatch, "mine/hubert", other, entry("hubert")).resolved == "mine/hubert:base:x"
    )
    plain = Small()
    plain.resolved = "whatever"
    assert built(monkeypatch, "mine/hubert", plain, entry("hubert")).resolved == "mine/hubert"


def test_what_is_no_encoder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError) as error:
        built(monkeypatch, "x", ["no encoder"] * 9, entry("x"))
    said = "the encoder 'x' of mine 1.2 (m:C) breaks its contract: load gives ['no encoder', 'no"
    assert str(error.value).startswith(said) and len(str(error.value)) <= 140


def test_a_strangers_output_is_found_by_its_distribution_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = Small()
    assert components.identity(encoder) == "small"
    monkeypatch.setattr(registry, "origin", lambda one: "mine 1.2 m:C")
    assert components.identity(encoder) == "small mine 1.2 m:C"


def test_entries_say_whose_they_are() -> None:
    own, file = entry("x", "bab"), Entry("x", "tasks", "m:C", "mine.py", "0123456789abcdef")
    assert (own.built_in, file.built_in) == (True, False)
    assert (own.owner, file.owner) == ("bab 1.2", "mine.py 0123456789ab")
    assert entry("x", "My_Plugin.x").full == "my-plugin-x/x"
    assert entry("x").described == "the encoder 'x' of mine 1.2 (m:C)"
    assert Entry("x", "datasets", "m:C", "mine", "").described == "the corpus 'x' of mine (m:C)"


@pytest.mark.parametrize("kind", [*registry.KINDS])
def test_kinds_have_a_singular(kind: str) -> None:
    assert registry.kind_of(registry.KINDS[kind][0]) == registry.kind_of(kind) == kind
    assert registry.kind_of("corpora") == registry.kind_of("dataset") == "datasets"


def test_who_a_class_an_object_and_a_module_belong_to() -> None:
    cls = type("Strange", (), {"__qualname__": "Strange"})
    below = type("Below", (cls,), {})
    own = entry("own", value="strange.mod:Strange")
    registry.claim(cls, own)
    assert registry.owner(cls) == registry.owner(cls()) == registry.owner(below) == own
    one, other = cls(), entry("other", "bab", "bab.x:Y")
    registry.claim(one, other)
    assert registry.owner(one) == other and registry.owner(cls()) == own
    assert registry.owner(object()) is None and registry.origin(object()) == ""
    assert registry.origin(cls) == "mine 1.2 strange.mod:Strange" and registry.origin(one) == ""
    assert registry.called("Strange") == own and registry.called("None") is None
    assert registry.of_module("strange.other") == own and registry.of_module("bab.x") is None
    assert registry.of_module("strangers") is None
    metadata = SimpleNamespace(read_text=lambda name: "Name: a: b\nX: y\nVersion:  2\n\nName: c")
    assert registry._named(metadata) == ("a: b", "2")  # type: ignore[arg-type]
    assert registry.origin(type("A", (cls,), {})()) == "mine 1.2 strange.mod:Strange"


# ------------------------------------------------------------------------------- checkpoints


def test_what_training_changes_is_kept() -> None:
    module = torch.nn.BatchNorm1d(2)
    module.bias.requires_grad_(False)
    kept = checkpoint.trainable(module)
    assert set(kept) == {"weight", "running_mean", "running_var", "num_batches_tracked"}
    assert not any(value.requires_grad for value in kept.values())


def test_best_weights_that_are_gone_say_what_helps(tmp_path: Path) -> None:
    with pytest.raises(BabError) as error:
        checkpoint.restore_best(tmp_path, torch.nn.Linear(1, 1), 7, "r/0")
    assert str(error.value) == (
        f"{tmp_path / 'best-000000007.safetensors'} is gone: give the same command again, which "
        "goes back to one that is sound"
    )


@pytest.mark.parametrize("state", [None, "{", '{"other": 1}'])
def test_a_checkpoint_without_its_state_is_damaged(tmp_path: Path, state: str | None) -> None:
    path = tmp_path / "step-000000001.safetensors"
    about = {} if state is None else {"state": state}
    save_file({"model/weight": torch.ones(1, 1), "model/bias": torch.ones(1)}, path, about)
    module = torch.nn.Linear(1, 1)
    with pytest.raises(sealed.DamagedError) as error:
        checkpoint.restore(path, module, torch.optim.AdamW(module.parameters()))
    assert str(error.value).startswith(f"{path} is damaged (")
    assert str(error.value).endswith("): repeat the run with --force")
    said = checkpoint.newest(tmp_path, "r/0")[1]
    assert said[-1] == "no checkpoint is left: training begins anew" and len(said) == 2
    assert checkpoint.newest(tmp_path, "r/0") == (None, []) and checkpoint.latest(tmp_path) is None


def test_a_state_and_its_optimizer_come_back_as_they_were(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    for _ in range(3):
        module(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    state = State(3, 2, 0.5, {"f1": 0.5}, 1, 10.0, 2.0, {"scale": 4.0})
    path = checkpoint.save(tmp_path, module, optimizer, state, "r/0")
    assert path == tmp_path / "step-000000003.safetensors" == checkpoint.latest(tmp_path)
    other = torch.nn.Linear(2, 1)
    again = torch.optim.AdamW(other.parameters(), lr=0.1)
    assert checkpoint.restore(path, other, again) == state
    assert torch.equal(other.weight, module.weight)
    for mine, theirs in zip(other.parameters(), module.parameters(), strict=True):
        assert all(torch.equal(again.state[mine][k], v) for k, v in optimizer.state[theirs].items())


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    """The library writes metadata in an order that changes from one process to the next."""
    about = {letter * 9: "voix d'été, 声" * 3 for letter in "zéaqwm"}
    sealed.write_tensors(tmp_path / "a", {"w": torch.ones(2)}, "clé", **about)
    with (tmp_path / "a").open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        held = json.loads(file.read(size))["__metadata__"]
    assert list(held) == sorted(held) and held == {**about, sealed.KEY: "clé", sealed.SUM: (
        held[sealed.SUM])}  # fmt: skip
    assert sealed.read(tmp_path / "a", "clé")[0]["w"].tolist() == [1, 1]


def test_of_checkpoints_the_newest_two_stay_with_their_best(tmp_path: Path) -> None:
    names = ["step-000000002", "step-000000004", "step-000000006", "best-000000001",
             "best-000000002", "best-000000004", "best-000000005", "best-000000006"]  # fmt: skip
    for name in names:
        (tmp_path / f"{name}.safetensors").touch()
    (tmp_path / "other.json").touch()
    checkpoint.prune(tmp_path, State(step=6, best_step=5))
    left = sorted(p.stem for p in tmp_path.iterdir())
    assert left == ["best-000000004", "best-000000005", "other", "step-000000004", "step-000000006"]


# ------------------------------------------------------------------------------- files


def test_numbers_that_json_lacks_are_null(tmp_path: Path) -> None:
    value = {"a": math.nan, "b": [math.inf, (1, -math.inf)], "c": {"d": 0.5}, "e": True}
    assert atomic.finite(value) == {"a": None, "b": [None, [1, None]], "c": {"d": 0.5}, "e": True}
    atomic.write_json(tmp_path / "x.json", {"b": "ä", "a": 1}, sorted=True)
    assert (tmp_path / "x.json").read_text() == '{\n  "a": 1,\n  "b": "ä"\n}\n'
    atomic.write_json(tmp_path / "x.json", {"b": 1, "a": 1}, indent=None)
    assert (tmp_path / "x.json").read_text() == '{"b": 1, "a": 1}\n'
    with pytest.raises(TypeError):
        atomic.write_json(tmp_path / "x.json", {"a": object()})
    assert json.loads((tmp_path / "x.json").read_text()) == {"b": 1, "a": 1}


@pytest.mark.parametrize(("size", "asked"), [(0, "more than 0.01 MB"), (2_345_678, "2.35 MB")])
def test_want_of_space_names_the_file_and_how_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, asked: str
) -> None:
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    target = tmp_path / "new" / "x.bin"
    with pytest.raises(DiskFullError) as error, atomic.atomic_path(target, size) as temporary:
        temporary.write_bytes(bytes(10_000))
        raise OSError(28, "No space left on device")
    free = f"{(1_000_000 + 10_000) / 1e6:,.2f}"
    assert str(error.value) == (
        f"{target}: can't be written (No space left on device): it takes {asked}, {free} MB are "
        "free. Make room, and give the same command again"
    )
    assert not list(target.parent.iterdir())
    with pytest.raises(OSError, match="Input/output"), atomic.atomic_path(target):
        raise OSError(5, "Input/output error")


def test_a_folder_that_cant_be_synced_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}") or not folders_alone:  # noqa: PTH112
            raise OSError(22, "Invalid argument")

    folders_alone = True
    monkeypatch.setattr(atomic.os, "fsync", refuse)
    atomic.write_text(tmp_path / "a.txt", "a")
    assert (tmp_path / "a.txt").read_text() == "a"
    folders_alone = False
    with pytest.raises(OSError, match="Invalid argument"):
        atomic.write_text(tmp_path / "a.txt", "b")
    assert (tmp_path / "a.txt").read_text() == "a"


def test_what_is_written_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    monkeypatch.setattr(atomic.os, "fsync", note)
    (tmp_path / "folder").mkdir()
    atomic.write_text(tmp_path / "folder" / "a.txt", "a")
    assert [name[:5] for name in synced] == [".tmp-", "folde"]
    synced.clear()
    with atomic.atomic_folder(tmp_path / "folder" / "b") as made:
        (made / "x").write_text("x")
        (made / "sub").mkdir()
        (made / "sub" / "y").write_text("y")
    assert [n[:5] for n in synced] == ["sub", "y", "x", ".tmp-", "folde"]
    assert (tmp_path / "folder" / "b" / "sub" / "y").read_text() == "y"


def test_checksums_see_every_page_and_the_rest() -> None:
    plain = np.random.default_rng(0).integers(0, 256, 3 * 4096 + 100, dtype=np.uint8)
    sums = {sealed.checksum(plain)}
    for place in (0, 4095, 4096, 3 * 4096, len(plain) - 1):
        other = plain.copy()
        other[place] ^= 1
        sums.add(sealed.checksum(other))
    swapped = np.concatenate([plain[4096:8192], plain[:4096], plain[8192:]])
    sums.add(sealed.checksum(swapped))
    assert len(sums) == 7
    assert sealed.checksum(torch.from_numpy(plain)) == sealed.checksum(plain.tobytes())
    for empty in (np.empty(0, np.int64), np.empty((0, 3), np.uint16), np.empty((4, 0))):
        assert sealed.checksum(torch.from_numpy(empty)) == sealed.checksum(b"")
    assert len(sealed.digest(("a", 1))) == 16 and sealed.digest(1) != sealed.digest(2)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/data/me")
    for name in ("BAB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_root() == Path("/data/me/.cache/bab")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/shared")
    assert cache_root() == Path("/data/me/shared/bab")
    monkeypatch.setenv("BAB_CACHE", "~/own")
    assert cache_root() == Path("/data/me/own")


def test_versions_are_those_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    told = record.versions()
    assert torch.__version__.startswith(told["torch"]) and set(told) > {
        "python",
        "bab",
        "pyannote.metrics",
    }
    told["torch"] = "changed"
    assert record.versions()["torch"] != "changed"

    def gone(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(record, "version", gone)
    assert set(record._versions.__wrapped__().values()) >= {"not installed"}
    assert len(record.now()) == 25 and record.now().endswith("+00:00")


def test_a_warning_is_given_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        warn("a line of this test")
    assert capsys.readouterr().err == "bab: warning: a line of this test\n"


def test_seeds_are_of_what_they_are_for() -> None:
    seeds = {derive(1, "a"), derive(1, "b"), derive(2, "a"), derive("1", "a"), derive((1, "a"))}
    assert len(seeds) == 5 and all(0 <= seed < 2**63 for seed in seeds)
    assert derive(1, "a") == derive(1, "a") and derive(0.0) >> 40


def test_how_many_watch() -> None:
    watchers = Watchers()
    assert len(watchers) == 0
    watchers.join(cast(Any, type("One", (), {})()))
    assert len(watchers) == 1 and isinstance(bab.hookimpl, object)

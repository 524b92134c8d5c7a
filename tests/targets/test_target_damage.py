"""Bits that flip in a target store: the same labels, or an error that names the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from damaged import flipped
from target_files import RATE, corpus_of, run_make

from bab.core.errors import BabError
from bab.targets.store import RASTER, TargetStore

FILES = ("targets.json", "centroids.safetensors", "index.safetensors", "labels-00000.safetensors")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))


def labels(folder: Path, clips: list) -> list[list[int]]:
    store = TargetStore(folder)
    assert store.clusters == 8
    return [store.labels(c, RASTER.frames(round(c.duration * RATE))).tolist() for c in clips]


@pytest.mark.parametrize("name", FILES)
def test_no_bit_gives_other_labels_and_the_same_command_mends_it(tmp_path: Path, name: str) -> None:
    clips, out = corpus_of(tmp_path, 2), tmp_path / "out"
    fingerprint = run_make(clips, out).fingerprint
    expected = labels(out, clips)
    path = out / name
    data, refused = path.read_bytes(), 0
    bits = range(0, len(data) * 8, max(7, len(data) // 12))
    for bit in bits:
        path.write_bytes(flipped(data, bit))
        try:
            assert labels(out, clips) == expected
        except BabError as error:
            refused += 1
            assert name in str(error)
    assert refused > len(bits) / 2
    path.write_bytes(flipped(data, len(data) * 8 - 20))
    assert run_make(clips, out).fingerprint == fingerprint
    assert labels(out, clips) == expected


def test_another_stores_labels_are_refused(tmp_path: Path) -> None:
    clips = corpus_of(tmp_path, 2)
    run_make(clips, tmp_path / "out")
    run_make(clips, tmp_path / "other", seed=3)
    shutil.copy(tmp_path / "other" / FILES[3], tmp_path / "out")
    with pytest.raises(BabError, match=r"labels-00000.*another's"):
        labels(tmp_path / "out", clips)


@pytest.mark.parametrize("key", ["clusters", "fingerprint", "plan"])
def test_what_a_store_lacks_is_told(tmp_path: Path, key: str) -> None:
    meta = {"format": 1, "clusters": 3, "fingerprint": "x", "plan": "p"}
    del meta[key]
    (tmp_path / "targets.json").write_text(json.dumps(meta))
    with pytest.raises(BabError, match=rf"targets\.json: damaged \(it lacks '{key}'\)"):
        TargetStore(tmp_path)


def test_too_few_clusters_are_told(tmp_path: Path) -> None:
    clips = corpus_of(tmp_path, 2)
    run_make(clips, tmp_path / "out")
    path = tmp_path / "out" / "targets.json"
    meta = json.loads(path.read_text())
    del meta["checksum"]
    path.write_text(json.dumps(meta | {"clusters": 3}))
    with pytest.raises(BabError, match=r"targets\.json: 3 clusters, and 8 centroids"):
        TargetStore(tmp_path / "out")


def test_what_is_no_target_store(tmp_path: Path) -> None:
    with pytest.raises(BabError, match=r"^there is no clip to make targets of"):
        run_make([], tmp_path / "out")
    with pytest.raises(BabError, match=r": no targets there; `bab targets` makes them$"):
        TargetStore(tmp_path / "none")
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "labels-00000.safetensors").touch()
    with pytest.raises(BabError, match=r"unfinished targets; finish them with the command that"):
        TargetStore(begun)
    clips, out = corpus_of(tmp_path, 2), tmp_path / "out"
    run_make(clips, out)
    meta = json.loads((out / "targets.json").read_text())
    del meta["checksum"]
    for change, said in (
        ({"format": meta["format"] + 1}, f"not targets of format {meta['format']}; make them"),
        ({"clusters": 0}, r"damaged \(0 clusters\)"),
        ({"clusters": True}, r"damaged \(True clusters\)"),
    ):
        (out / "targets.json").write_text(json.dumps(meta | change))
        with pytest.raises(BabError, match=rf"targets\.json: {said}"):
            TargetStore(out)
    (out / "targets.json").write_text(json.dumps(meta))
    assert TargetStore(out).clusters == 8
    (out / "index.safetensors").unlink()
    with pytest.raises(BabError, match=r"index\.safetensors: not there; "):
        TargetStore(out)

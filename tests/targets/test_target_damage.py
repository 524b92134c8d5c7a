"""Bits that flip in a target store: the same labels, or an error that names the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from damaged import flipped
from target_files import RATE, corpus_of, run_make

from bab.core import sealed
from bab.core.errors import BabError
from bab.core.types import Clip
from bab.targets.store import RASTER, TargetStore, key_of

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


def test_a_file_of_a_store_that_lacks_what_it_is_for(tmp_path: Path) -> None:
    clips, out = corpus_of(tmp_path, 1, 1.0), tmp_path / "out"
    run_make(clips, out)
    plan = json.loads((out / "targets.json").read_text())["plan"]
    path = out / "index.safetensors"
    tensors, _ = sealed.read(path, key_of(path, plan))
    for name in ("ids", "shard", "offset", "first", "frames"):
        rest = {key: value for key, value in tensors.items() if key != name}
        sealed.write_tensors(path, rest, key_of(path, plan))
        with pytest.raises(BabError) as caught:
            TargetStore(out)
        assert str(caught.value) == (
            f"{path}: damaged (it lacks '{name}'); the `bab targets` command that made it "
            "repairs it"
        )
    (out / "targets.json").unlink()
    (out / "targets.json").mkdir()
    with pytest.raises(BabError) as caught:
        TargetStore(out)
    assert str(caught.value) == (
        f"{out / 'targets.json'}: can't be read (Is a directory); the `bab targets` command that "
        "made it repairs it"
    )


def test_a_store_of_nothing_is_not_made(tmp_path: Path) -> None:
    """The centroids are given, and no clip can be read: six are unreadable, five are named."""
    run_make(corpus_of(tmp_path, 1, 1.0), tmp_path / "good")
    clips = []
    for i in range(6):
        path = tmp_path / f"bad{i}.wav"
        soundfile.write(path, np.full(16000, np.nan), 16000, subtype="FLOAT")
        clips.append(Clip(str(i), str(path), 0.0, 1.0, "g"))
    with pytest.raises(BabError) as caught:
        run_make(clips, tmp_path / "out", skip_bad=True, given=tmp_path / "good")
    told = str(caught.value)
    assert told.startswith(f"no clip could be read: {clips[0].path}: a sample is NaN or infinite")
    assert [f"bad{i}.wav" in told for i in range(6)] == [True] * 5 + [False]
    assert told.count("; get it again") == 5 and not (tmp_path / "out" / "targets.json").exists()


@pytest.mark.parametrize("key", ["clusters", "fingerprint", "plan"])
def test_what_a_store_lacks_is_told(tmp_path: Path, key: str) -> None:
    whole = {"format": 1, "clusters": 3, "fingerprint": "x", "plan": "p"}
    for meta in ({k: v for k, v in whole.items() if k != key}, whole | {key: None}):
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

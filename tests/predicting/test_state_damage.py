"""Bits that flip in what predict, embed and audit keep between calls: never believed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from damaged import flipped

from bab.auditing import audit
from bab.core.errors import BabError
from bab.data.sealed import seal, unsealed
from bab.predicting.kept import Kept, Results
from bab.predicting.recordings import Recording
from bab.predicting.spool import Spool
from bab.predicting.walking import Rows


def bits(data: bytes, count: int = 60) -> range:
    return range(3, 8 * len(data), max(1, 8 * len(data) // count))


def test_sealed_bytes() -> None:
    for data in (b"", b"one", bytes(range(256))):
        assert unsealed(seal(data)) == data
        assert all(unsealed(flipped(seal(data), bit)) is None for bit in range(8 * len(seal(data))))
    assert unsealed(b"") is None and unsealed(b"no checksum") is None


def test_no_bit_of_a_spool_gives_other_rows(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    first = Spool(tmp_path)
    for part in np.split(values, 2):
        first.add(Rows(1, part, 1.0))
        first.flush()
    one, two = sorted(tmp_path.glob("rows-*.npy"))
    good, other = one.read_bytes(), two.read_bytes()
    for bit in bits(good):
        one.write_bytes(flipped(good, bit))
        two.write_bytes(other)
        spool = Spool(tmp_path)
        assert spool.done == 0 and not list(spool.read())  # made again from the beginning
    one.write_bytes(good)
    two.write_bytes(flipped(other, 400))
    spool = Spool(tmp_path)
    assert spool.done == 20
    assert np.array_equal(np.concatenate(list(spool.read())), values[:20])
    one.write_bytes(flipped(good, 300))  # after it was looked at
    with pytest.raises(BabError, match=r"rows-0+\.npy is damaged"):
        list(spool.read())


def test_a_damaged_result_is_not_done(tmp_path: Path) -> None:
    results = Results(tmp_path, Kept)
    done = Kept(key="k", made_by="m", name="home", path="/a.wav", digest="d", seconds=12.5)
    results.keep(done)
    place = results.place("home")
    good = place.read_bytes()
    assert Results(tmp_path, Kept).find("home") == done
    for bit in bits(good):
        place.write_bytes(flipped(good, bit))
        assert Results(tmp_path, Kept).find("home") in (None, done)
        assert not any(one != done for one in Results(tmp_path, Kept).all("m"))
    earlier = json.loads(good)
    del earlier["checksum"]
    place.write_text(json.dumps(earlier))  # an earlier version's
    assert Results(tmp_path, Kept).find("home") == done


def test_a_damaged_beginning_names_nobody(tmp_path: Path) -> None:
    results = Results(tmp_path, Kept)
    results.begin("k", Recording("home", "/a.wav", 0.0, None), "d")
    (path,) = results.folder.rglob("recording.json")
    good = path.read_bytes()
    (named,) = results.names()
    assert named.name == "home"
    for bit in bits(good):
        path.write_bytes(flipped(good, bit))
        assert Results(tmp_path, Kept).names() in ([], [named])


def test_damaged_traits_are_measured_again(tmp_path: Path) -> None:
    held = io.BytesIO()
    np.savez(held, keys=np.array(["a"]), rows=np.array([[1.0, 2.0]]))
    file, good = tmp_path / "x.npz", seal(held.getvalue())
    file.write_bytes(good)
    assert audit._recalled(file) == {"a": [1.0, 2.0]}
    for bit in bits(good):
        file.write_bytes(flipped(good, bit))
        assert audit._recalled(file) == {}

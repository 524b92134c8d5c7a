"""Frame targets by hand: pieces and passes, samples, shards, and what is told on the way."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from target_files import RATE, corpus_of, noise, run_make
from torch import Tensor

from bab.core import sealed
from bab.core.errors import AudioError, BabError, ConfigError
from bab.core.types import Segment
from bab.targets import job as jobs
from bab.targets import kmeans, make, store
from bab.targets.features import Mfcc, Piece, passes, pieces
from bab.targets.job import TargetJob, TargetOptions
from bab.targets.store import RASTER, Stretch


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))


class Ramp:
    """Features of one number: the frame's place in its stretch; over 10 frames it is cut."""

    identity, described, dim = "ramp 1", "a ramp", 1
    whole, longest, seconds = 10, 8, 64.0

    def extract(self, asked: Sequence[Piece]) -> list[Tensor]:
        for piece in asked:
            if "bad" in piece.stretch.path:
                raise AudioError(f"{piece.stretch.path}: broken")
        return [torch.arange(float(p.begin), float(p.end))[:, None] for p in asked]


def stretch(frames: int, path: str = "a") -> Stretch:
    return Stretch(path, 0, RASTER.samples(frames))


def job(
    folder: Path,
    spans: Sequence[Stretch] = (),
    features: Any = None,
    told: list[Any] | None = None,
    **options: Any,
) -> TargetJob:
    asked = TargetOptions(**{"clusters": 2, **options})
    tell = (lambda *now: None) if told is None else (lambda *now: told.append(now))
    return TargetJob(folder, features or Ramp(), asked, list(spans), {}, [], "plan", tell)


@pytest.mark.parametrize(
    ("frames", "edges"),
    [(1, [0, 1]), (10, [0, 10]), (11, [0, 5, 11]), (16, [0, 8, 16]), (17, [0, 5, 11, 17]),
     (25, [0, 6, 12, 18, 25])],
)  # fmt: skip
def test_pieces_of_a_stretch(frames: int, edges: list[int]) -> None:
    made = pieces(stretch(frames), Ramp())
    assert [(p.begin, p.end) for p in made] == list(pairwise(edges))


def test_pieces_that_are_computed_together() -> None:
    listed = [Piece(stretch(n), 0, n) for n in (50, 50, 25, 100, 5)]  # 1, 1, .5, 2, .1 s
    for most, sizes in ((2.0, [2, 1, 1, 1]), (2.5, [3, 2]), (0.1, [1] * 5), (99.0, [5]),
                        (2.6, [3, 2])):  # fmt: skip
        made = list(passes(listed, most))
        assert [len(part) for part in made] == sizes and [
            p for part in made for p in part
        ] == listed
    assert list(passes([], 1.0)) == []


def test_what_can_t_be_read_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    wanted = [Piece(stretch(3, path), 0, 3) for path in ("a", "bad 1", "b", "bad 2")]
    failed: list[str] = []
    with pytest.raises(AudioError, match="bad 1: broken"):
        list(jobs.extracted(job(tmp_path), wanted, failed))
    made = list(jobs.extracted(job(tmp_path, skip_bad=True), wanted, failed))
    assert [piece.stretch.path for piece, _ in made] == ["a", "b"]
    assert failed == ["bad 1: broken", "bad 2: broken"]


def test_files_of_a_store_have_their_identity(tmp_path: Path) -> None:
    one = job(tmp_path)
    path = jobs.shard_path(one, 7)
    assert path == tmp_path / "labels-00007.safetensors" and not jobs.has(path, "x")
    jobs.write(path, {"a": np.arange(3)[::-1]}, one, "x", {"more": "y"})
    tensors, about = sealed.read(path, "x/labels-00007")
    assert tensors["a"].tolist() == [2, 1, 0]
    wanted = {"identity": "x", "features": "ramp 1", "described": "a ramp", "more": "y"}
    assert wanted.items() <= about.items()
    assert jobs.has(path, "x") and not jobs.has(path, "y")
    path.write_bytes(path.read_bytes()[:-1])
    assert not jobs.has(path, "x")
    assert store.key_of(path, "") == "" and store.key_of(path, "x") == "x/labels-00007"
    folder = tmp_path / "none" / "centroids.safetensors"
    with pytest.raises(BabError) as caught:
        jobs.file_digest(folder)
    assert str(caught.value) == (
        f"{folder}: can't be read (No such file or directory); --centroids names a folder that "
        "`bab targets` wrote"
    )
    assert len(jobs.file_digest(path)) == 32 and len(jobs.digest(1, "a")) == 32
    assert jobs.digest(1, "a") != jobs.digest("1", "a")


def test_waiting_for_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    one = job(tmp_path, told=told)
    paths = [jobs.shard_path(one, i) for i in range(3)]
    left = list(paths)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        jobs.write(left.pop(0), {"a": np.zeros(1)}, one, "x")

    monkeypatch.setattr(jobs.time, "sleep", sleep)
    jobs.wait(one, paths, "x", "labelling")
    assert told == [("labelling (all processes)", done, 3, "files") for done in (0, 1, 2)]
    assert slept == [0.2] * 3
    told.clear()
    jobs.wait(one, paths, "x", "")
    left[:], paths[0:1] = [tmp_path / "z.safetensors"], [tmp_path / "z.safetensors"]
    jobs.wait(one, paths, "x", "")
    assert told == [] and len(slept) == 4
    answers = iter([None, None, {"clusters": 3}])
    monkeypatch.setattr(make, "_finished", lambda job: next(answers))
    monkeypatch.setattr(make.time, "sleep", slept.append)
    assert make._await_meta(one) == {"clusters": 3} and slept[4:] == [0.2, 0.2]


# ------------------------------------------------------------------------------- the sample


def test_the_sample_is_of_enough_hours_and_few_enough_frames(tmp_path: Path) -> None:
    spans = [stretch(10, str(i)) for i in range(20)]  # .2 s each

    def picked(**options: Any) -> list[Any]:
        return kmeans._picked(job(tmp_path, spans, **options))

    for hours, count in ((0.2 / 3600, 1), (0.21 / 3600, 2), (1.0 / 3600, 5), (9.0, 20)):
        (block,) = picked(sample_hours=hours)
        assert len(block) == count
        assert all(rows.tolist() == list(range(10)) for _, rows in block)
        order = [int(piece.stretch.path) for piece, _ in block]
        assert order == sorted(order)
    drawn = {
        tuple(p.stretch.path for p, _ in picked(seed=s, sample_hours=1 / 3600)[0]) for s in range(9)
    }
    assert len(drawn) > 5
    for frames in (1, 57, 199, 200, 500):
        (block,) = picked(sample_frames=frames)
        rows = [row for _, rows in block for row in rows.tolist()]
        assert len(rows) == min(frames, 200) and set(rows) <= set(range(10))
        assert all((np.diff(rows) > 0).all() for _, rows in block)
    many = [stretch(1, str(i)) for i in range(130)]
    blocks = kmeans._picked(job(tmp_path, many))
    assert [len(block) for block in blocks] == [64, 64, 2]
    assert [p.stretch.path for block in blocks for p, _ in block] == [str(i) for i in range(130)]


def test_a_share_of_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "_BLOCK", 2)
    spans = [stretch(n, str(n)) for n in (3, 4, 5, 6, 7)]
    told: list[Any] = []
    files = kmeans.sample(job(tmp_path, spans, told=told, rank=1, world=2))
    assert [path.name for path in files] == [f"0000{i}.safetensors" for i in range(3)]
    assert [path.exists() for path in files] == [False, True, False]
    assert told == [("sampling", 0, 1, "blocks"), ("sampling", 1, 1, "blocks")]
    told.clear()
    kmeans.sample(job(tmp_path, spans, told=told))
    assert told == [("sampling", i, 3, "blocks") for i in (0, 1, 2, 3)]
    frames = kmeans._gather(files)
    assert frames[:, 0].tolist() == [i for n in (3, 4, 5, 6, 7) for i in range(n)]
    assert frames.dtype == np.float32
    assert kmeans.sample(job(tmp_path, spans, given=tmp_path)) == []
    bad = [stretch(2, "a"), stretch(2, "bad"), stretch(3, "c")]
    skipped = kmeans.sample(job(tmp_path / "skip", bad, skip_bad=True))
    assert kmeans._gather(skipped)[:, 0].tolist() == [0, 1, 0, 1, 2]


def test_the_nearest_centroid() -> None:
    frames, centres = (
        torch.tensor([[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]]),
        torch.tensor([[3.0, 4.0], [0.0, 1.0]]),
    )
    best, apart = kmeans.assign(frames, centres)
    assert best.tolist() == [1, 0, 0] and apart == pytest.approx(1 + 0 + 61)
    with pytest.raises(ConfigError) as caught:
        kmeans.fit(np.zeros((3, 2), np.float32), 4, 0)
    assert str(caught.value) == (
        "--clusters 4: there are 3 frames to fit them on; ask for fewer clusters, or raise "
        "--sample-frames and --sample-hours"
    )
    assert len(kmeans.fit(np.arange(4, dtype=np.float32)[:, None], 4, 2**32 + 1)) == 4


# ------------------------------------------------------------------------------- labels


def test_what_is_told_while_labels_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "_SHARD", 100)
    clips, out = corpus_of(tmp_path, 3, 1.0), tmp_path / "out"
    told: list[tuple[Any, ...]] = []
    meta = make.make(
        clips, Mfcc(), out, TargetOptions(4), {"corpora": ["x"]}, lambda *now: told.append(now)
    )
    lengths = [len(soundfile.read(c.path)[0]) for c in clips]
    total = sum(lengths) / RATE
    frames = [RASTER.frames(n) for n in lengths]
    labelling = [now for now in told if now[0] == "labelling"]
    # Two shards: two files of 49 and 67 frames, and one of 86; each pass, and each shard.
    done = sum(lengths[:2]) / RATE
    expected = [
        frames[0] * 0.02,
        (frames[0] + frames[1]) * 0.02,
        done,
        done + frames[2] * 0.02,
        total,
    ]
    assert [now[1] for now in labelling] == pytest.approx(expected)
    assert all(now[2] == pytest.approx(total) and now[3] == "s" for now in labelling)
    assert [now for now in told if now[0] == "k-means"] == [
        ("k-means", 0, 1, "fits"), ("k-means", 1, 1, "fits"),
    ]  # fmt: skip
    assert meta["corpora"] == ["x"] and sorted(p.name for p in out.glob("labels-*")) == [
        "labels-00000.safetensors", "labels-00001.safetensors",
    ]  # fmt: skip
    one = {k: meta[k] for k in ("format", "features", "clusters", "rate", "hop", "field", "seed")}
    assert one == {
        "format": 1, "features": Mfcc.described, "clusters": 4, "rate": 16000, "hop": 320,
        "field": 400, "seed": 0,
    }  # fmt: skip
    assert meta["recordings"] == meta["stretches"] == 3 and meta["frames"] == sum(frames)
    assert meta["hours"] == round(sum(frames) * 0.02 / 3600, 4) and meta["purity"] is None
    assert meta["sample"] == {"frames": 500_000, "hours": 20.0} and meta["left_out"] == []
    assert meta["features_identity"] == Mfcc.identity and len(meta["fingerprint"]) == 32
    told.clear()
    make.make(clips, Mfcc(), out, TargetOptions(4), {}, lambda *now: told.append(now))
    assert told == []
    given = make.make(
        clips[:1], Mfcc(), tmp_path / "g", TargetOptions(4, given=out), {}, lambda *n: None
    )
    assert given["sample"] is None and given["clusters"] == 4


def test_labels_and_counts_of_a_shard(tmp_path: Path) -> None:
    """Two centres, at 2 and at 7: of a ramp of ten frames five are nearest to each."""
    path = noise(tmp_path / "a.wav", 1.0)
    bad = tmp_path / "bad.wav"
    bad.write_bytes(path.read_bytes())
    spans = [Stretch(str(path), 160, RASTER.samples(10)), Stretch(str(bad), 0, 800),
             Stretch(str(path), 8000, RASTER.samples(12))]  # fmt: skip
    one = job(tmp_path, spans, skip_bad=True)
    one.classes = ["x", "y"]
    # Centres of the first stretch's frames: .0225 s, .0425 s ...
    one.segments = {str(path): [Segment(0.0, 0.0625, "x"), Segment(0.1, 0.15, "y"),
                                Segment(0.12, 0.13, "x"), Segment(0.13, 0.15, "y")]}  # fmt: skip
    told: list[float] = []
    tensors, failed = make._shard(one, spans, torch.tensor([[2.0], [7.0]]), told.append)
    assert failed == [f"{bad}: broken"]
    assert tensors["labels"].tolist() == [0] * 5 + [1] * 5 + [0] * 5 + [1] * 7
    assert tensors["labels"].dtype == np.uint16 and tensors["counts"].tolist() == [10, 12]
    squares = [sum((min(abs(i - 2), abs(i - 7))) ** 2 for i in range(n)) for n in (10, 12)]
    assert tensors["inertia"].tolist() == [sum(squares)]
    assert tensors["first"].tolist() == [160, 8000] and tensors["frames"].tolist() == [10, 12]
    assert tensors["ids"].shape == (2, 16)
    assert (tensors["ids"][0] == tensors["ids"][1]).all()
    assert told == pytest.approx([0.2, 0.32, 0.44])
    # Labelled frames: .0225 and .0425 x; .1025 y, .1225 both (none), .1425 y.
    reference = make._reference(one, spans[0]).tolist()
    assert reference == [0, 0, -1, -1, 1, -1, 1, -1, -1, -1]
    assert tensors["joint"].tolist() == [[2, 0], [1, 1]]
    empty, failed = make._shard(one, spans[1:2], torch.tensor([[2.0]]), told.append)
    assert empty["labels"].tolist() == [] and empty["ids"].shape == (0, 16) and len(failed) == 1

    class Broken(Ramp):
        def extract(self, asked: Sequence[Piece]) -> list[Tensor]:
            return [torch.full((p.end - p.begin, 1), math.nan) for p in asked]

    with pytest.raises(BabError) as caught:
        make._shard(job(tmp_path, spans, Broken()), spans[:1], torch.tensor([[2.0]]), told.append)
    assert str(caught.value) == f"{path}: its features aren't finite"


def test_a_folder_is_claimed_for_a_plan(tmp_path: Path) -> None:
    one, path = job(tmp_path), tmp_path / "plan.json"
    make._refuse_other(job(tmp_path, rank=1))
    assert not path.exists()  # the first process does it for all
    for text in ("", "no JSON", "{}", "[1]", "null"):
        path.write_text(text)
        make._refuse_other(one)
        assert json.loads(path.read_text()) == {"plan": "plan", "features": "a ramp"}
    path.write_text('{"plan": "plan", "mine": 1}')
    make._refuse_other(one)
    assert path.read_text() == '{"plan": "plan", "mine": 1}'
    path.write_text('{"plan": "another"}')
    with pytest.raises(ConfigError, match="holds targets of other clips or options"):
        make._refuse_other(one)


def test_stages_stop_where_they_are_told_to(tmp_path: Path) -> None:
    clips, out = corpus_of(tmp_path, 2, 1.0), tmp_path / "out"

    def go(stage: str) -> tuple[Any, set[str]]:
        said = make.make(clips, Mfcc(), out, TargetOptions(4, stage=stage), {}, lambda *n: None)  # type: ignore[arg-type]
        return said, {p.name for p in out.iterdir() if not p.name.startswith(".")}

    begun = {"plan.json", "sample"}
    assert go("sample") == ({}, begun)
    assert json.loads((out / "plan.json").read_text())["features"] == Mfcc.described
    assert go("fit") == ({}, begun | {"centroids.safetensors"})
    made = begun | {"centroids.safetensors", "labels-00000.safetensors"}
    assert go("label") == ({}, made)
    done, names = go("")
    assert done["clusters"] == 4
    assert names == (made - {"sample"}) | {"index.safetensors", "targets.json"}


def test_what_else_stops_it(tmp_path: Path) -> None:
    clips = corpus_of(tmp_path, 2, 1.0)
    with pytest.raises(BabError) as caught:
        make.make([], Mfcc(), tmp_path / "o", TargetOptions(2), {}, lambda *n: None)
    assert str(caught.value) == (
        "there is no clip to make targets of: name another --corpus or --split"
    )
    run_make(clips, tmp_path / "out")
    with pytest.raises(ConfigError) as other:
        run_make(clips, tmp_path / "out", sample_hours=1.0)
    assert str(other.value) == (
        f"{tmp_path / 'out'} holds targets of other clips or options (features, clusters, seed, "
        "sample): name another --out, or delete that folder"
    )
    for name in ("sample_frames", "seed", "clusters"):
        with pytest.raises(ConfigError, match="holds targets of other"):
            run_make(clips, tmp_path / "out", **{name: 7})

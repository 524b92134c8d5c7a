"""Frame targets: made, gone on with, labelled, and what crops read from them."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import forks
import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from target_files import RATE, clip_of, corpus_of, mfcc_reference, noise, run_make

from bab.audio import reading
from bab.cli.targets import targets_command
from bab.core.errors import BabError, BusyError, ConfigError
from bab.core.types import Segment
from bab.plugins.datasets.kaldi import Kaldi
from bab.starting.folders import locked
from bab.targets import features as frame_features
from bab.targets import kmeans
from bab.targets import make as making
from bab.targets.features import Mfcc, Piece
from bab.targets.store import RASTER, TargetStore, centroids, stretches


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))


def test_labels_are_the_nearest_centroids(tmp_path):
    clips = corpus_of(tmp_path)
    store = run_make(clips, tmp_path / "out")
    codebook = centroids(tmp_path / "out")[0].double()
    counts, inertia = np.zeros(8, int), 0.0
    for clip in clips:
        x = mfcc_reference(torch.from_numpy(reading.read(clip.path)))[::2].double()
        frames = RASTER.frames(round(clip.duration * RATE))
        x = x[:frames]
        apart = (x[:, None] - codebook[None]).square().sum(-1)
        got = store.labels(clip, frames)
        assert got.dtype == torch.int64 and len(got) == frames
        best = apart.min(1)
        own = apart[torch.arange(frames), got]
        torch.testing.assert_close(own, best.values, rtol=1e-4, atol=1e-3)
        counts += np.bincount(got, minlength=8)
        inertia += float(best.values.sum())
    share = counts[counts > 0] / counts.sum()
    assert store.meta["use"]["used"] == (counts > 0).sum()
    expected = np.exp(-(share * np.log(share)).sum())
    assert store.meta["use"]["perplexity"] == pytest.approx(expected, abs=0.01)
    assert store.meta["inertia"] == pytest.approx(inertia / counts.sum(), rel=1e-4)
    assert store.meta["frames"] == counts.sum()


def test_purity_counts_frames_of_one_label_by_their_centres(tmp_path):
    path = noise(tmp_path / "a.wav", 6.0)
    segments = [Segment(0.5, 2.0, "a"), Segment(1.5, 3.0, "b"), Segment(4.0, 4.5, "a")]
    store = run_make([clip_of(path, 0.25, 6.0, segments)], tmp_path / "out")
    frames = RASTER.frames(round(5.75 * RATE))
    centres = 0.25 + RASTER.centres(frames)
    inside = sum(sum(s.start <= c < s.end for s in segments) == 1 for c in centres.tolist())
    assert store.meta["purity"]["frames"] == inside
    assert store.meta["purity"]["labels"] == ["a", "b"]
    assert run_make([clip_of(path, 0, 6.0)], tmp_path / "no").meta["purity"] is None


def test_stretches_are_the_union_of_the_clips(tmp_path):
    path = noise(tmp_path / "a.wav", 10.0)
    spans = [(5.0, 6.0), (1.0, 2.0), (1.5, 3.0), (3.0, 3.5), (9.5, 12.0)]
    found = stretches([clip_of(path, *span) for span in spans])
    seconds = [(s.first / RATE, (s.first + s.samples) / RATE) for s in found]
    assert seconds == [(1.0, 3.5), (5.0, 6.0), (9.5, 10.0)]


def test_crops_on_any_sample_get_the_label_of_the_nearest_centre(tmp_path):
    path = noise(tmp_path / "a.wav", 9.0)
    clips = [clip_of(path, 0.4, 4.0), clip_of(path, 5.01, 8.7)]
    store = run_make(clips, tmp_path / "out")
    draw = np.random.default_rng(2)
    for clip in clips:
        frames = RASTER.frames(round(clip.duration * RATE))
        base = round(clip.start * RATE)
        full = store.labels(clip, frames).numpy()
        middles = base + 320 * np.arange(frames) + 200
        for _ in range(300):
            first = base + int(draw.integers(0, round(clip.duration * RATE) - 400))
            length = int(draw.integers(400, base + round(clip.duration * RATE) - first + 1))
            crop = clip_of(path, first / RATE, (first + length) / RATE)
            count = RASTER.frames(length)
            got = store.labels(crop, count).numpy()
            for t in range(count):
                apart = np.abs(middles - (first + 320 * t + 200))
                nearest = np.flatnonzero(apart == apart.min())[-1]  # of two, the later
                assert got[t] == full[nearest]
    on_raster = clip_of(path, 0.4 + 10 * 0.02, 4.0)
    frames = RASTER.frames(round(on_raster.duration * RATE))
    full = store.labels(clips[0], RASTER.frames(round(3.6 * RATE)))
    assert store.labels(on_raster, frames).equal(full[10 : 10 + frames])


def test_labels_go_by_content_and_missing_ones_are_named(tmp_path):
    clips = corpus_of(tmp_path, 2)
    store = run_make([clips[0]], tmp_path / "out")
    moved = tmp_path / "elsewhere.wav"
    moved.write_bytes(Path(clips[0].path).read_bytes())
    assert store.labels(clip_of(moved, 0.5, 1.5), 49).equal(
        store.labels(clip_of(Path(clips[0].path), 0.5, 1.5), 49)
    )
    with pytest.raises(BabError, match=r"n1\.wav.*none of this file's content.*bab targets"):
        store.labels(clips[1], 10)
    part = run_make([clip_of(moved, 1.0, 2.0)], tmp_path / "part")
    with pytest.raises(BabError, match=r"0\.500 to 1\.500 s.*covers 1\.000 to 1\.980 s"):
        part.labels(clip_of(moved, 0.5, 1.5), 49)
    with pytest.raises(BabError, match=r"no targets there"):
        TargetStore(tmp_path)
    again = pickle.loads(pickle.dumps(store))
    assert again.labels(clips[0], 49).equal(store.labels(clips[0], 49))


class Counting(Mfcc):
    """MFCCs that note the pieces they compute, and stop after some."""

    def __init__(self, limit: int = 10**9) -> None:
        self.seen: list[Piece] = []
        self.limit = limit

    def extract(self, pieces):
        if len(self.seen) + len(pieces) > self.limit:
            raise KeyboardInterrupt
        self.seen += pieces
        return super().extract(pieces)


def small_shards(monkeypatch) -> None:
    monkeypatch.setattr(making, "_SHARD", 1)
    monkeypatch.setattr(kmeans, "_BLOCK", 2)
    monkeypatch.setattr(frame_features, "_SECONDS_PER_PASS", 0.1)


def test_killed_between_shards_it_goes_on(tmp_path, monkeypatch):
    small_shards(monkeypatch)
    clips = corpus_of(tmp_path, 6)
    expected = run_make(clips, tmp_path / "once")
    features = Counting(6 + 3)  # the sample, and three shards
    with pytest.raises(KeyboardInterrupt):
        run_make(clips, tmp_path / "out", features)
    with pytest.raises(BabError, match="unfinished"):
        TargetStore(tmp_path / "out")
    later = Counting()
    store = run_make(clips, tmp_path / "out", later)
    assert [Path(p.stretch.path).stem for p in later.seen] == ["n3", "n4", "n5"]
    assert store.fingerprint == expected.fingerprint
    finished = Counting()
    run_make(clips, tmp_path / "out", finished)
    assert finished.seen == []


def test_killed_in_the_sample_it_goes_on(tmp_path, monkeypatch):
    small_shards(monkeypatch)
    clips = corpus_of(tmp_path, 6)
    expected = run_make(clips, tmp_path / "once")
    with pytest.raises(KeyboardInterrupt):
        run_make(clips, tmp_path / "out", Counting(3))
    later = Counting()
    store = run_make(clips, tmp_path / "out", later)
    assert len(later.seen) == 4 + 6  # one block of two was there
    assert store.fingerprint == expected.fingerprint
    assert not (tmp_path / "out" / "sample").exists()


def test_two_commands_don_t_make_one_folder(tmp_path):
    clips = corpus_of(tmp_path, 2)
    with (
        locked(tmp_path / "out" / ".busy", True),
        pytest.raises(BusyError, match=r"at work in .*out"),
    ):
        run_make(clips, tmp_path / "out")
    assert not (tmp_path / "out" / "plan.json").exists()  # the other one's claim
    made = run_make(clips, tmp_path / "out").fingerprint
    with locked(tmp_path / "out" / ".busy", True):  # a finished one is read, whoever holds it
        assert run_make(clips, tmp_path / "out").fingerprint == made


def test_a_damaged_shard_is_made_again(tmp_path, monkeypatch):
    small_shards(monkeypatch)
    clips = corpus_of(tmp_path, 3)
    expected = run_make(clips, tmp_path / "out").fingerprint
    shard = tmp_path / "out" / "labels-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(BabError, match=r"labels-00001.*is damaged.*bab targets"):
        TargetStore(tmp_path / "out").labels(clips[1], 10)
    features = Counting()
    assert run_make(clips, tmp_path / "out", features).fingerprint == expected
    assert len(features.seen) == 1
    (tmp_path / "out" / "targets.json").unlink()
    shard.write_bytes(shard.read_bytes()[:100])
    assert run_make(clips, tmp_path / "out", features).fingerprint == expected
    assert len(features.seen) == 2


def test_another_plan_needs_another_folder(tmp_path):
    clips = corpus_of(tmp_path, 2)
    run_make(clips, tmp_path / "out")
    for other in ({"clusters": 9}, {"seed": 1}):
        with pytest.raises(ConfigError, match="name another --out"):
            run_make(clips, tmp_path / "out", **other)
    with pytest.raises(ConfigError, match="name another --out"):
        run_make(clips[:1], tmp_path / "out")


def test_a_fitted_kmeans_labels_other_clips(tmp_path):
    clips = corpus_of(tmp_path, 4)
    fitted = run_make(clips, tmp_path / "fit")
    part = run_make(clips[1:2], tmp_path / "part", given=tmp_path / "fit")
    assert part.labels(clips[1], 100).equal(fitted.labels(clips[1], 100))
    other = Mfcc()
    other.identity = "something else"
    with pytest.raises(ConfigError, match="these centroids are of mfcc"):
        run_make(clips[:1], tmp_path / "no", other, given=tmp_path / "fit")
    with pytest.raises(BabError, match="--centroids names a folder"):
        run_make(clips[:1], tmp_path / "no", given=tmp_path)


def test_too_few_frames_for_the_clusters(tmp_path):
    clips = corpus_of(tmp_path, 1)
    with pytest.raises(ConfigError, match="--clusters 900: there are 149 frames"):
        run_make(clips, tmp_path / "out", clusters=900)


def test_the_sample_is_bounded_and_depends_on_the_seed_alone(tmp_path, monkeypatch):
    """No more than the frames asked for are kept, from no more pieces than hours ask for."""
    small_shards(monkeypatch)
    clips = corpus_of(tmp_path, 6)
    seen = {}
    for name, more in {"a": {}, "b": {}, "c": {"seed": 5}}.items():

        def fit(frames, clusters, seed, name=name):
            seen[name] = frames
            return torch.from_numpy(frames[:clusters].copy())

        monkeypatch.setattr(kmeans, "fit", fit)
        features = Counting()
        run_make(clips, tmp_path / name, features, sample_frames=50, sample_hours=9 / 3600, **more)
        sampled = len(features.seen) - 6
        assert 2 <= sampled <= 4  # clips of 3 to 5 s
    assert all(frames.shape == (50, 39) for frames in seen.values())
    assert (seen["a"] == seen["b"]).all() and (seen["a"] != seen["c"]).any()


def test_several_processes_share_the_work_and_agree_with_one(tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    corpus_of(clips, 5)
    (clips / "manifest.csv").write_text(
        "path,split,group\n" + "".join(f"n{i}.wav,train,g{i}\n" for i in range(5))
    )
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import sys\n"
        "from bab.targets import kmeans, make\n"
        "make._SHARD, kmeans._BLOCK = 1, 1\n"
        "from bab.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    asked = ["targets", "--corpus", f"manifest:{clips}", "--clusters", "8", "--out"]
    for count, out in enumerate(("one", "two"), start=1):
        command = [sys.executable, str(worker), *asked, str(tmp_path / out)]
        done = forks.run(command) if count == 1 else forks.ranks(count, command)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Targets: ") == 1
    one, two = TargetStore(tmp_path / "one"), TargetStore(tmp_path / "two")
    assert one.fingerprint == two.fingerprint
    assert one.meta == two.meta
    assert one.meta["recordings"] == 5


def test_the_command(tmp_path):
    runner = CliRunner()
    out = tmp_path / "out"
    asked = ["--corpus", "kaldi", "--encoder", "hubert:random-tiny", "--layer", "1", "--split"]
    done = runner.invoke(targets_command, [*asked, "train", "--clusters", "5", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "5 clusters, 5 used" in done.output and "no purity" in done.output
    meta = json.loads((out / "targets.json").read_text())
    assert meta["features"] == "hubert:random-tiny layer 1" and meta["corpora"] == ["kaldi"]
    train = Kaldi(Kaldi.sample, Kaldi.Options()).clips("train")
    assert meta["recordings"] == len({clip.path for clip in train}) < 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "mfcc", "--layer", "3"], "no layers"),
        (["--encoder", "hubert:random-tiny"], "which layer"),
        (["--set", "train.lr=1"], "train.lr=1"),
        (["--centroids", "x", "--clusters", "5"], "one of the two"),
    ],
)
def test_what_makes_no_sense_together(tmp_path, arguments, message):
    asked = ["--corpus", "kaldi", "--out", str(tmp_path / "o"), *arguments]
    done = CliRunner().invoke(targets_command, asked)
    assert isinstance(done.exception, ConfigError) and message in str(done.exception)


def test_unreadable_files(tmp_path):
    corpus_of(tmp_path, 2)
    (tmp_path / "bad.wav").write_bytes(b"RIFF nothing")
    rows = "".join(f"{n}.wav,0,2\n" for n in ("n0", "bad", "n1"))
    (tmp_path / "manifest.csv").write_text("path,start,end\n" + rows)
    asked = ["--corpus", f"manifest:{tmp_path}", "--clusters", "4", "--out", str(tmp_path / "o")]
    done = CliRunner().invoke(targets_command, asked)
    assert isinstance(done.exception, BabError) and "bad.wav" in str(done.exception)
    done = CliRunner().invoke(targets_command, [*asked, "--skip-bad"])
    assert done.exit_code == 0 and "1 left out as unreadable" in done.output


def test_damage_that_only_reading_finds(tmp_path):
    """Samples that aren't finite in the middle of a file: named, or left out and counted."""
    clips = corpus_of(tmp_path, 2)
    wave = np.full(3 * RATE, 0.1, np.float32)
    wave[RATE] = np.nan
    soundfile.write(tmp_path / "nan.wav", wave, RATE, "FLOAT")
    clips.insert(1, clip_of(tmp_path / "nan.wav", 0, 3))
    with pytest.raises(BabError, match=r"nan\.wav"):
        run_make(clips, tmp_path / "out")
    store = run_make(clips, tmp_path / "skip", skip_bad=True)
    assert store.meta["recordings"] == 2 and "nan.wav" in store.meta["left_out"][0]
    assert len(store.labels(clips[2], 50)) == 50

"""Frame targets: MFCCs, layers, k-means, the store and what crops read from it."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from click.testing import CliRunner
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import normalized_mutual_info_score

from bab.cli.targets import targets_command
from bab.core import audio, cluster, codebook, framefeatures, maketargets
from bab.core.errors import BabError, ConfigError
from bab.core.framefeatures import LayerFeatures, Mfcc, Piece, pieces
from bab.core.maketargets import make
from bab.core.records import Clip, Segment, Waves
from bab.core.targetjob import Settings
from bab.core.targets import RASTER, Stretch, TargetStore, centroids, stretches
from bab.plugins.datasets.kaldi import Kaldi

RATE = 16000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))


def noise(path: Path, seconds: float, seed: int = 0, rate: int = RATE) -> Path:
    """Noise whose colour and loudness change every 0.2 s, so that there is something to cluster."""
    draw = np.random.default_rng(seed)
    parts = []
    for i in range(int(np.ceil(seconds * 5))):
        part = draw.normal(size=rate // 5) * draw.uniform(0.01, 0.2)
        parts.append(np.cumsum(part) * 0.1 if i % 2 else part)
    wave = np.concatenate(parts)[: round(seconds * rate)]
    soundfile.write(path, np.clip(wave, -0.99, 0.99).astype(np.float32), rate, "PCM_16")
    return path


def clip_of(path: Path, start: float, end: float, segments=()) -> Clip:
    return Clip(f"{path.stem}-{start}", str(path), start, end, path.stem, segments=tuple(segments))


def silent(*_args, **_keys):
    return None


def mfcc_reference(wave: torch.Tensor) -> torch.Tensor:
    """fairseq's simple_kmeans/dump_mfcc_feature.py, written with torchaudio alone."""
    base = torchaudio.compliance.kaldi.mfcc(
        wave[None], sample_frequency=16000, use_energy=False
    ).transpose(0, 1)
    delta = torchaudio.functional.compute_deltas(base)
    return torch.cat([base, delta, torchaudio.functional.compute_deltas(delta)]).T


def whole(features, stretch: Stretch) -> torch.Tensor:
    return torch.cat(features.extract(pieces(stretch, features)))


def corpus_of(tmp_path: Path, count: int = 4, seconds: float = 3.0) -> list[Clip]:
    paths = [noise(tmp_path / f"n{i}.wav", seconds + 0.37 * i, i) for i in range(count)]
    return [clip_of(p, 0.0, audio.duration(p)) for p in paths]


def run_make(clips, out: Path, features=None, **settings) -> TargetStore:
    make(clips, features or Mfcc(), out, Settings(**{"clusters": 8, **settings}), {}, silent)
    return TargetStore(out)


@pytest.mark.parametrize("first", [0, 4321])
def test_mfcc_of_a_stretch_in_pieces_is_that_of_the_whole(tmp_path, monkeypatch, first):
    path = noise(tmp_path / "a.wav", 5.3)
    monkeypatch.setattr(Mfcc, "whole", 37)
    monkeypatch.setattr(Mfcc, "longest", 37)
    stretch = Stretch(str(path), first, 5 * RATE + 137 - first)
    wave, _ = soundfile.read(path, dtype="float32")
    wave = torch.from_numpy(wave[first : first + stretch.samples])
    expected = mfcc_reference(wave)[::2][: stretch.frames]
    assert len(pieces(stretch, Mfcc())) > 5
    torch.testing.assert_close(whole(Mfcc(), stretch), expected, rtol=0, atol=1e-5)


def test_a_raster_frame_takes_the_mfcc_frame_that_sees_its_samples():
    window, shift = 400, 160  # Kaldi's 25 ms every 10 ms
    for t in (0, 1, 7, 100):
        start, end = RASTER.span(t)
        assert (round(start * RATE), round(end * RATE)) == (2 * t * shift, 2 * t * shift + window)


def test_mfcc_of_what_is_shorter_than_a_frame(tmp_path):
    path = noise(tmp_path / "a.wav", 1.0)
    got = whole(Mfcc(), Stretch(str(path), 100, 250))
    wave, _ = soundfile.read(path, dtype="float32", start=100, stop=350)
    padded = torch.nn.functional.pad(torch.from_numpy(wave), (0, 150))
    torch.testing.assert_close(got, mfcc_reference(padded))


def test_labels_are_the_nearest_centroids(tmp_path):
    clips = corpus_of(tmp_path)
    store = run_make(clips, tmp_path / "out")
    codebook = centroids(tmp_path / "out")[0].double()
    counts, inertia = np.zeros(8, int), 0.0
    for clip in clips:
        x = mfcc_reference(torch.from_numpy(audio.read(clip.path)))[::2].double()
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


def test_the_fit_is_sklearns_with_the_published_settings():
    frames = np.random.default_rng(0).normal(size=(3000, 5)).astype(np.float32)
    frames[:1000] += 8
    expected = MiniBatchKMeans(
        7, init="k-means++", batch_size=10000, max_iter=100, tol=0, n_init=20,
        max_no_improvement=100, reassignment_ratio=0, random_state=3,
    ).fit(frames)  # fmt: skip
    got = cluster.fit(frames, 7, 3)
    torch.testing.assert_close(got, torch.from_numpy(expected.cluster_centers_))
    labels, inertia = cluster.assign(torch.from_numpy(frames), got)
    assert (labels.numpy() == expected.predict(frames)).all()
    assert inertia == pytest.approx(-expected.score(frames), rel=1e-4)


def test_purity_against_a_brute_force():
    draw = np.random.default_rng(1)
    z = draw.integers(0, 6, 4000)
    y = np.where(draw.random(4000) < 0.6, z // 2, draw.integers(0, 3, 4000))
    joint = np.zeros((3, 6), np.int64)
    np.add.at(joint, (y, z), 1)
    got = cluster.purity(joint)
    best = [np.bincount(y[z == k]).max() for k in range(6)]
    assert got["phone_purity"] == pytest.approx(sum(best) / 4000, abs=1e-4)
    best = [np.bincount(z[y == c]).max() for c in range(3)]
    assert got["cluster_purity"] == pytest.approx(sum(best) / 4000, abs=1e-4)
    p = np.bincount(y) / 4000
    q = np.bincount(z) / 4000
    hy, hz = -(p * np.log(p)).sum(), -(q * np.log(q)).sum()
    mutual = normalized_mutual_info_score(y, z, average_method="arithmetic") * (hy + hz) / 2
    assert got["pnmi"] == pytest.approx(mutual / hy, abs=1e-4)


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
    monkeypatch.setattr(maketargets, "_SHARD", 1)
    monkeypatch.setattr(codebook, "_BLOCK", 2)
    monkeypatch.setattr(framefeatures, "_SECONDS_PER_PASS", 0.1)


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


def test_a_damaged_shard_is_made_again(tmp_path, monkeypatch):
    small_shards(monkeypatch)
    clips = corpus_of(tmp_path, 3)
    expected = run_make(clips, tmp_path / "out").fingerprint
    shard = tmp_path / "out" / "labels-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(BabError, match=r"labels-00001.*delete it and make it again"):
        TargetStore(tmp_path / "out").labels(clips[1], 10)
    shard.unlink()
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

        monkeypatch.setattr(cluster, "fit", fit)
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
        "from bab.core import codebook, maketargets\n"
        "maketargets._SHARD, codebook._BLOCK = 1, 1\n"
        "from bab.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    asked = ["targets", "--corpus", f"manifest:{clips}", "--clusters", "8", "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for head, out in (([], "one"), (launch, "two")):
        command = [sys.executable, *head, str(worker), *asked, str(tmp_path / out)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Targets: ") == 1
    one, two = TargetStore(tmp_path / "one"), TargetStore(tmp_path / "two")
    assert one.fingerprint == two.fingerprint
    assert one.meta == two.meta
    assert one.meta["recordings"] == 5


@pytest.fixture(scope="module")
def encoder():
    from bab.plugins.encoders.hubert import Hubert

    return Hubert.load("random-tiny", Hubert.Options()).eval()


def test_a_layer_over_a_short_stretch_is_the_encoders_own(tmp_path, encoder):
    path = noise(tmp_path / "a.wav", 4.0)
    stretch = Stretch(str(path), 777, 50_000)
    for layer in (0, 2, encoder.depth - 1):
        features = LayerFeatures(encoder, layer, torch.device("cpu"))
        wave, _ = soundfile.read(path, dtype="float32", start=777, stop=50_777)
        with torch.no_grad():
            out = encoder(Waves(torch.from_numpy(wave)[None], torch.tensor([50_000])))
        got = whole(features, stretch)
        assert len(got) == stretch.frames
        torch.testing.assert_close(got, out.layers[layer][0], rtol=1e-4, atol=1e-4)


def test_windows_of_a_long_stretch_are_in_time(tmp_path, monkeypatch):
    """A click is where it is, whatever window it falls into: window, context and raster agree."""
    from bab.plugins.encoders.fbank import Fbank

    monkeypatch.setattr(framefeatures, "_WINDOW", 2.0)
    encoder = Fbank.load("", Fbank.Options()).eval()
    features = LayerFeatures(encoder, encoder.depth - 1, torch.device("cpu"))
    assert features.context > 0
    wave = np.zeros(9 * RATE, np.float32)
    clicks = np.arange(3000, 9 * RATE, 11_111)
    wave[clicks] = 0.9
    path = tmp_path / "clicks.wav"
    soundfile.write(path, wave, RATE)
    stretch = Stretch(str(path), 160, 9 * RATE - 160)
    got = whole(features, stretch)
    assert len(pieces(stretch, features)) > 4 and len(got) == stretch.frames
    loud = got.float().mean(1)
    for click in clicks:
        t = (click - 160 - 200) / 320
        near = loud[max(0, round(t) - 3) : round(t) + 4]
        assert abs(int(near.argmax()) - min(3, round(t))) <= 1


def test_layers_that_are_not_there(encoder):
    with pytest.raises(ConfigError, match=r"--layer 99: .* has layers 0"):
        LayerFeatures(encoder, 99, torch.device("cpu"))


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

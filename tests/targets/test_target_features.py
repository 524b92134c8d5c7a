"""What frame targets are made of: MFCCs, layers of encoders, and k-means over them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import soundfile
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import normalized_mutual_info_score
from target_files import RATE, mfcc_reference, noise, whole

from bab.core.errors import ConfigError
from bab.core.types import Waves
from bab.targets import features as frame_features
from bab.targets import kmeans
from bab.targets.features import LayerFeatures, Mfcc, pieces
from bab.targets.store import RASTER, Stretch


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


def test_the_fit_is_sklearns_with_the_published_settings():
    frames = np.random.default_rng(0).normal(size=(3000, 5)).astype(np.float32)
    frames[:1000] += 8
    expected = MiniBatchKMeans(
        7, init="k-means++", batch_size=10000, max_iter=100, tol=0, n_init=20,
        max_no_improvement=100, reassignment_ratio=0, random_state=3,
    ).fit(frames)  # fmt: skip
    got = kmeans.fit(frames, 7, 3)
    torch.testing.assert_close(got, torch.from_numpy(expected.cluster_centers_))
    labels, inertia = kmeans.assign(torch.from_numpy(frames), got)
    assert (labels.numpy() == expected.predict(frames)).all()
    assert inertia == pytest.approx(-expected.score(frames), rel=1e-4)


def test_purity_against_a_brute_force():
    draw = np.random.default_rng(1)
    z = draw.integers(0, 6, 4000)
    y = np.where(draw.random(4000) < 0.6, z // 2, draw.integers(0, 3, 4000))
    joint = np.zeros((3, 6), np.int64)
    np.add.at(joint, (y, z), 1)
    got = kmeans.purity(joint)
    best = [np.bincount(y[z == k]).max() for k in range(6)]
    assert got["phone_purity"] == pytest.approx(sum(best) / 4000, abs=1e-4)
    best = [np.bincount(z[y == c]).max() for c in range(3)]
    assert got["cluster_purity"] == pytest.approx(sum(best) / 4000, abs=1e-4)
    p = np.bincount(y) / 4000
    q = np.bincount(z) / 4000
    hy, hz = -(p * np.log(p)).sum(), -(q * np.log(q)).sum()
    mutual = normalized_mutual_info_score(y, z, average_method="arithmetic") * (hy + hz) / 2
    assert got["pnmi"] == pytest.approx(mutual / hy, abs=1e-4)


@pytest.fixture(scope="module")
def encoder():
    from bab.plugins.encoders.hubert import Hubert

    return Hubert.load("random-tiny", Hubert.Options()).eval()


def test_a_layer_over_a_short_stretch_is_the_encoders_own(tmp_path, encoder):
    path = noise(tmp_path / "a.wav", 4.0)
    stretch = Stretch(str(path), 777, 50_000)
    for layer in (0, 2, encoder.depth - 1):
        features = LayerFeatures(copy.deepcopy(encoder), layer, torch.device("cpu"))
        assert len(features.encoder.model.encoder.layers) == layer  # what is above isn't computed
        wave, _ = soundfile.read(path, dtype="float32", start=777, stop=50_777)
        with torch.no_grad():
            out = encoder(Waves(torch.from_numpy(wave)[None], torch.tensor([50_000])))
        got = whole(features, stretch)
        assert len(got) == stretch.frames
        assert torch.equal(got, out.layers[layer][0])


def test_windows_of_a_long_stretch_are_in_time(tmp_path, monkeypatch):
    """A click is where it is, whatever window it falls into: window, context and raster agree."""
    from bab.plugins.encoders.fbank import Fbank

    monkeypatch.setattr(frame_features, "_WINDOW", 2.0)
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


def test_how_clusters_are_used_and_what_they_say_of_labels() -> None:
    assert kmeans.use(np.array([2, 0, 2])) == {"used": 2, "perplexity": 2.0, "largest_share": 0.5}
    assert kmeans.use(np.array([0, 0])) == {"used": 0, "perplexity": 1.0, "largest_share": 0.0}
    assert kmeans.use(np.array([3, 1])) == {"used": 2, "perplexity": 1.75, "largest_share": 0.75}
    joint = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])  # a label, and a cluster, without a frame
    p = np.array([[0.5, 1 / 6], [0, 1 / 3]])
    inside = p[p > 0]
    outer = np.outer(p.sum(1), p.sum(0))[p > 0]
    mutual = (inside * np.log(inside / outer)).sum()
    entropy = -(p.sum(1) * np.log(p.sum(1))).sum()
    assert kmeans.purity(joint) == {
        "phone_purity": round(5 / 6, 4), "cluster_purity": round(5 / 6, 4),
        "pnmi": round(mutual / entropy, 4),
    }  # fmt: skip
    alone = kmeans.purity(np.array([[1, 3]]))
    assert alone["phone_purity"] == 1.0 and alone["cluster_purity"] == 0.75
    assert np.isnan(alone["pnmi"])

"""The numbers of a recording one by one, and small trees on them, worked out another way."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import soundfile

from bab.auditing import traits, trees
from bab.core.types import Clip

RATE = 8000
Array = np.ndarray[Any, Any]


def measured(
    path: Path, x: Array, start: float = 0.0, end: float | None = None, **kinds: Any
) -> dict[str, float]:
    rate = kinds.pop("rate", RATE)
    kinds = {"subtype": "DOUBLE", **kinds}
    soundfile.write(path, x, rate, **kinds)
    clip = Clip("a", str(path), start, len(x) / rate if end is None else end, "g")
    row = traits.measure([clip], {}, {"a": "k"}, lambda done, total: None)[0]
    return dict(zip(traits.TRAITS, row.tolist(), strict=True))


def test_samples_are_counted(tmp_path: Path) -> None:
    x = np.array([0.5, -1.0, 0.999, 0.9989, 0.0, 0.0, 0.25, 0.5, 0.75, 0.0] * 100)
    told = measured(tmp_path / "a.wav", x)
    values = x[:10].astype(np.float32).astype(np.float64)
    assert told["zeros"] == 0.3 and told["clipping"] == 0.2
    assert told["offset"] == pytest.approx(values.mean())
    assert told["loudness"] == pytest.approx(10 * math.log10((values**2).mean()))
    assert told["peak"] == 0.0
    assert told["steps"] == pytest.approx(-math.log2(np.diff(np.unique(values)).min()), abs=5e-4)
    two = measured(tmp_path / "a.wav", np.array([0.25, 0.5] * 500))
    assert two["steps"] == 2.0
    flat = measured(tmp_path / "a.wav", np.full(1000, 0.5))
    assert flat["steps"] == 0.0 and flat["roll-off"] > 0
    nothing = measured(tmp_path / "a.wav", np.zeros(1000))
    keys = ("roll-off", "band limit", "hum", "silence", "range", "steps")
    assert [nothing[key] for key in keys] == [0.0] * 6
    assert nothing["peak"] == nothing["noise floor"] == nothing["loudness"] == -100.0
    fine = np.array([0.0, 2.0**-40, 0.5] * 100)
    assert measured(tmp_path / "a.wav", fine)["steps"] == 32.0


def test_levels_are_of_frames_of_25_ms(tmp_path: Path) -> None:
    """Twenty frames of 200 samples, and a rest that is no frame: their levels are known."""
    levels = np.linspace(-60, -3, 20)
    x = np.concatenate([np.full(200, 10 ** (level / 20)) for level in levels] + [np.ones(199)])
    x[1::2] *= -1
    told = measured(tmp_path / "a.wav", x)
    low, high = np.percentile(levels, [10, 95])
    assert told["noise floor"] == pytest.approx(low, abs=1e-4)
    assert told["range"] == pytest.approx(high - low, abs=1e-4)
    assert told["silence"] == pytest.approx((levels < high - 30).mean())
    # At 44.1 kHz a frame is 1,102 samples; what is shorter is one frame as it is.
    assert measured(tmp_path / "a.wav", np.full(1101, 0.5), rate=44100)["noise floor"] == (
        pytest.approx(20 * math.log10(0.5))
    )
    two = np.concatenate([np.full(1102, 0.5), np.full(1102, 0.25)])
    told = measured(tmp_path / "a.wav", two, rate=44100)
    assert told["range"] == pytest.approx(0.85 * 20 * math.log10(2), abs=1e-6)


def spectrum(x: Array, rate: int) -> tuple[Array, Array]:
    """Mean power at each frequency, by scipy: both sides, no detrending, windows of 4,096."""
    hertz, power = scipy.signal.welch(
        x, rate, np.hanning(4096), noverlap=0, detrend=False, scaling="spectrum"
    )
    power[1:-1] /= 2
    power *= np.hanning(4096).sum() ** 2
    power[0] = 0
    return hertz, power


def test_the_band_is_that_of_the_spectrum(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(0, 0.1, 3 * 4096 + 500)
    x = scipy.signal.sosfilt(scipy.signal.butter(6, 1500, fs=RATE, output="sos"), x) + 0.1
    x += 0.05 * np.sin(2 * np.pi * 60 * np.arange(len(x)) / RATE)
    x = x.astype(np.float32).astype(np.float64)
    told = measured(tmp_path / "a.wav", x)
    hertz, power = spectrum(x[: 3 * 4096], RATE)
    share = np.cumsum(power) / power.sum()
    assert told["roll-off"] == hertz[np.argmax(share >= 0.99)] < 2000
    assert told["band limit"] == hertz[np.max(np.nonzero(power >= power.max() / 1e7))]
    step, floor = RATE / 4096, 1e-10
    hums = []
    for mains in (50, 60):
        far = np.abs(hertz - mains)
        beside = (far > 2 * step) & (far < 6 * step) & (hertz > 0)
        own = (power + floor)[far <= step].max()
        hums.append(10 * math.log10(own / (power + floor)[beside].mean()))
    assert told["hum"] == pytest.approx(max(hums)) and max(hums) == hums[1] > 3
    # What is shorter than a window is filled up with nothing.
    brief = measured(tmp_path / "a.wav", x[:3000])
    hertz, power = spectrum(np.pad(x[:3000], (0, 1096)), RATE)
    assert brief["roll-off"] == hertz[np.argmax(np.cumsum(power) / power.sum() >= 0.99)]


@pytest.mark.parametrize("mains", [50.0, 60.0])
def test_a_faint_hum_is_counted_from_the_floor(tmp_path: Path, mains: float) -> None:
    """Beside it there is less than -100 dB, which is taken for that."""
    x = 1e-7 * np.sin(2 * np.pi * mains * np.arange(4096) / RATE)
    told = measured(tmp_path / "a.wav", x)["hum"]
    _, power = spectrum(x, RATE)
    assert told == pytest.approx(10 * math.log10(power.max() / 1e-10 + 1), abs=0.1) and told > 15


def test_of_a_long_clip_six_pieces_are_heard(tmp_path: Path) -> None:
    """70 s from 5 s on: ten seconds each from 5, 17, 29, 41, 53 and 65 s; the rest is silence."""
    x = np.zeros(80 * 1000)
    for start in range(5, 66, 12):
        x[start * 1000 : (start + 10) * 1000] = 0.5
    told = measured(tmp_path / "a.wav", x, 5.0, 75.0, rate=1000)
    assert told["zeros"] == 0.0 and told["loudness"] == pytest.approx(20 * math.log10(0.5))
    assert (told["duration"], told["start"], told["file length"]) == (70, 5, 80)
    whole = measured(tmp_path / "a.wav", x, 5.0, 65.0, rate=1000)
    assert whole["zeros"] == pytest.approx(10 / 60)  # a minute is heard whole


@pytest.mark.parametrize(
    ("name", "subtype", "bits"),
    [("a.wav", "PCM_U8", 8), ("a.wav", "PCM_24", 24), ("a.wav", "ULAW", 8), ("a.wav", "ALAW", 8),
     ("a.wav", "FLOAT", 32), ("a.wav", "DOUBLE", 64), ("a.ogg", "VORBIS", 0),
     ("a.flac", "PCM_S8", 8)],
)  # fmt: skip
def test_bits_of_a_sample(tmp_path: Path, name: str, subtype: str, bits: int) -> None:
    path = tmp_path / name
    told = measured(path, np.full(2 * RATE, 0.25), subtype=subtype)
    assert told["bit depth"] == bits and told["bit rate"] == path.stat().st_size / 2


def test_files_are_told_by_their_names_and_places(tmp_path: Path) -> None:
    names = ["x/Ab12-C7.wav", "x/aa.wav", "y/deep/q9999999999999.wav", "x/zz.flac"]
    clips = []
    for i, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(400 * (i + 1), 0.1), RATE)
        clips.append(Clip(str(i), str(path), 0.0, 0.05, "g"))
    heard, seen = [], dict.fromkeys(("k0", "k1", "k2", "k3"))
    known: dict[str, list[float]] = {"k1": [1.0] * 12}
    rows = traits.measure(
        [*clips, clips[0]], known, {str(i): f"k{i}" for i in range(4)},
        lambda done, total: heard.append((done, total)),
    )  # fmt: skip
    assert heard == [(i, 5) for i in range(1, 6)] and known.keys() == seen.keys()
    first = list(traits.TRAITS).index
    assert rows[:, first("codec")].tolist() == [1, 1, 1, 0, 1]  # FLAC before WAV
    assert rows[1, first("loudness") : first("hum") + 1].tolist() == [1.0] * 12
    assert rows[:, first("name length") :].tolist() == [
        [7, 3, 2, 7, 0, 0],
        [2, 0, 0, -1, 1, 0],
        [14, 13, 0, 999999999999, 0, 1],
        [2, 0, 0, -1, 2, 0],
        [7, 3, 2, 7, 0, 0],
    ]
    none = traits.measure([], {}, {}, lambda done, total: None)
    assert none.shape == (0, 26) == (0, len(traits.TRAITS))


# --- trees --------------------------------------------------------------------------------------


def test_the_most_frequent_class() -> None:
    y = np.array([[0, -1], [0, 1], [1, -1], [0, -1]])
    row = trees.majority(y, [3, 2])
    expected = [0.75, 0.25, 1e-6, 1e-6, 1.0]
    assert np.exp(row) == pytest.approx(expected)
    assert np.exp(trees.majority(np.array([[-1]]), [2])) == pytest.approx([1e-6, 1e-6])


@pytest.mark.parametrize(
    ("counts", "leaf"),
    [((4, 4), 2), ((3, 400), 2), ((10, 400), 5), ((100, 100), 10), ((41, 1000), 20),
     ((39, 1000), 19), ((300, 300), 20)],
)  # fmt: skip
def test_how_few_clips_a_leaf_may_hold(counts: tuple[int, ...], leaf: int) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    for weight in ("balanced", None):
        one, many = trees.single(weight)(y), trees.boosted(weight)(y)
        assert one.min_samples_leaf == many.min_samples_leaf == leaf
        assert one.class_weight == many.class_weight == weight
        assert (one.max_leaf_nodes, many.max_leaf_nodes, many.max_iter) == (8, 8, 100)
        assert (one.random_state, many.random_state) == (0, 0)
        assert many.early_stopping is False and many.l2_regularization == 1.0


def test_logits_of_all_kinds_side_by_side() -> None:
    """Two kinds of three and two classes, one of which no training clip has; one clip has no label
    of the second kind."""
    x = np.array([[0.0], [0.0], [0.0], [1.0], [1.0], [1.0], [0.0]])
    y = np.array([[0, 1], [0, 1], [0, 1], [2, 0], [2, 0], [2, 0], [0, -1]])
    labels = {"a": ("p", "q", "r"), "b": ("s", "t")}
    made = trees.Trees(labels, trees.single(None)).fit(x, y)
    shares = np.exp(made.logits(np.array([[0.0], [1.0]])))
    low = 1e-6
    assert shares == pytest.approx(np.array([[1, low, low, low, 1], [low, low, 1, 1, low]]))
    again = made.fit(x[:6], y[:6])
    assert len(again.fitted) == 2  # and nothing of the first time

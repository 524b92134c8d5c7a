"""The shipped samples: what they hold, that labels fit the sound, that the script makes them."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from places import ROOT

from bab.core import registry
from bab.plugins.datasets.commonvoice import CommonVoice
from bab.plugins.datasets.rttm import Rttm

SAMPLES = ROOT / "bab" / "plugins" / "datasets" / "samples"
AUDIO = {".ogg", ".opus", ".flac", ".wav", ".mp3"}
MADE = (
    *("rttm", "childproject", "hindibabynet", "recanvo", "donateacry", "esc50"),
    *("kaldi", "manifest", "librispeech", "voxceleb", "commonvoice"),
)


def files(folder: Path) -> list[Path]:
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


def test_small_enough_to_ship():
    size = {
        name: sum((SAMPLES / name / p).stat().st_size for p in files(SAMPLES / name))
        for name in MADE
    }
    assert size.pop("rttm") <= 4e6 and size.pop("childproject") <= 1e6
    assert sum(size.values()) <= 1.5e6


@pytest.fixture(scope="module")
def corpus() -> Rttm:
    return Rttm(Rttm.sample, Rttm.Options())


def test_every_split_hears_every_kind_and_no_voice_twice(corpus):
    voices: set[str] = set()
    for split in ("train", "dev", "test"):
        assert corpus.clips(split)
        for clip in corpus.clips(split):
            assert clip.voices and not voices & set(clip.voices)
            voices |= set(clip.voices)
            assert {s.label for s in clip.segments} == {"KCHI", "OCH", "MAL", "FEM"}


@pytest.mark.parametrize("name", sorted(registry.names("corpora")))
def test_a_folder_named_from_where_one_stands_is_the_same(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths of clips are absolute: a run may go on in another folder."""
    cls = registry.load("corpora", name)
    if cls.sample is None:
        pytest.skip("has no sample")
    absolute = cls(cls.sample, cls.Options())
    monkeypatch.chdir(cls.sample.parent)
    here = cls(Path(cls.sample.name), cls.Options())
    assert here.root == absolute.root == cls.sample
    assert list(here.clips()) == list(absolute.clips())
    assert all(Path(clip.path).is_absolute() for clip in here.clips())
    assert [list(map(str, here.clips(s))) for s in here.splits()] == [
        list(map(str, absolute.clips(s))) for s in absolute.splits()
    ]


class Scanned:
    """What os.scandir gives, in another order."""

    def __init__(self, entries) -> None:
        self.entries = iter(entries)

    def __iter__(self):
        return self.entries

    def __next__(self):
        return next(self.entries)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        pass


@pytest.mark.parametrize("name", sorted(registry.names("corpora")))
def test_the_order_of_a_file_system_is_nobodys_business(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = registry.load("corpora", name)
    if cls.sample is None:
        pytest.skip("has no sample")
    list_folder, scan = os.listdir, os.scandir

    def told(backwards: bool) -> object:
        def listed(path="."):
            return sorted(list_folder(path), reverse=backwards)

        def scanned(path="."):
            with scan(path) as entries:
                return Scanned(sorted(entries, key=lambda e: e.name, reverse=backwards))

        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", listed)
            patch.setattr(os, "scandir", scanned)
            corpus = cls(cls.sample, cls.Options())
            parts = {split: list(corpus.clips(split)) for split in corpus.splits()}
            trials = {split: corpus.trials(split) for split in parts}
            return list(corpus.clips()), parts, trials, corpus.notices, corpus.provides

    assert told(False) == told(True)


def active(clip, step: float = 0.01) -> np.ndarray:
    """i64[frames]: how many voices speak in each hundredth of a second."""
    count = np.zeros(round(clip.end / step), int)
    for segment in clip.segments:
        count[round(segment.start / step) : round(segment.end / step)] += 1
    return count


def test_half_is_silence_and_voices_overlap(corpus):
    count = np.concatenate([active(clip) for clip in corpus.clips()])
    assert 0.45 < np.mean(count == 0) < 0.65
    assert 0.05 < np.sum(count > 1) / np.sum(count > 0) < 0.3


def test_formats_differ(corpus):
    found = {soundfile.info(clip.path).format for clip in corpus.clips()}
    assert found == {"OGG", "FLAC", "WAV"}
    assert {soundfile.info(clip.path).samplerate for clip in corpus.clips()} == {8000, 16000, 44100}
    assert {soundfile.info(clip.path).channels for clip in corpus.clips()} == {1, 2}


def test_labels_fit_the_sound(corpus):
    """In every recording it is louder where somebody speaks, and onsets are where they are said.

    The energy, in hundredths of a second, correlates with the labels best without any shift.
    """
    assert len(corpus.clips()) == 10
    for clip in corpus.clips():
        sound, rate = soundfile.read(clip.path, always_2d=True)
        assert np.isfinite(sound).all() and 0.3 < np.abs(sound).max() < 1
        step = rate // 100
        power = np.mean(sound[: len(sound) // step * step, 0].reshape(-1, step) ** 2, axis=1)
        level, said = np.log(power + 1e-8), active(clip)[: len(power)] > 0
        assert level[said].mean() - level[~said].mean() > 1.0  # nepers of power: 4 dB
        fit = {lag: np.corrcoef(np.roll(said, lag), level)[0, 1] for lag in range(-50, 51, 10)}
        assert max(fit, key=fit.get) in (0, 10)  # echoes come after the voice


def test_kinds_differ_enough_to_be_learnt(corpus):
    """A linear probe on log spectra finds each kind in the test homes far better than chance.

    Chance is the F1 of calling everything that kind.
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.preprocessing import StandardScaler

    def examples(split):
        pairs = [spectra(clip) for clip in corpus.clips(split)]
        return tuple(np.concatenate(part) for part in zip(*pairs, strict=True))

    train, labels = examples("train")
    test, truth = examples("test")
    scale = StandardScaler().fit(train)
    for column in range(4):
        model = RidgeClassifier(alpha=1e3, class_weight="balanced")
        model.fit(scale.transform(train), labels[:, column])
        guess, real = model.predict(scale.transform(test)), truth[:, column]
        f1 = 2 * np.sum(guess & real) / (guess.sum() + real.sum())
        chance = 2 * real.mean() / (1 + real.mean())
        assert f1 > chance + 0.2, (column, f1, chance)


def spectra(clip) -> tuple[np.ndarray, np.ndarray]:
    """log power in 64 bands over five moments around each 50 ms, and who speaks then."""
    import soxr

    sound, rate = soundfile.read(clip.path, always_2d=True)
    sound = soxr.resample(sound[:, 0], rate, 8000)
    frames = sound[: len(sound) // 400 * 400].reshape(-1, 400)
    power = np.abs(np.fft.rfft(frames * np.hanning(400), 512))[:, 1:] ** 2
    bands = np.log(power.reshape(len(frames), 64, 4).mean(-1) + 1e-7)
    bands -= bands.mean(0)
    around = np.concatenate([np.roll(bands, lag, axis=0) for lag in (-4, -2, 0, 2, 4)], axis=1)
    middle = (np.arange(len(frames)) + 0.5) * 0.05
    kinds = ("KCHI", "OCH", "MAL", "FEM")
    said = np.zeros((len(frames), 4), bool)
    for s in clip.segments:
        said[(middle >= s.start) & (middle < s.end), kinds.index(s.label)] = True
    return around, said


def test_every_accent_and_gender_is_in_every_split():
    sample = CommonVoice(CommonVoice.sample, CommonVoice.Options())
    everything = {clip.labels["accent"] for clip in sample.clips()}
    assert len(everything) == 5
    for split in sample.splits():
        assert {clip.labels["accent"] for clip in sample.clips(split)} == everything
        assert {clip.labels["gender"] for clip in sample.clips(split)} == {"male", "female"}
    assert any("l·l" in clip.text and "ó" in clip.text for clip in sample.clips())


def espeak() -> str:
    """The installed espeak-ng's version, or nothing."""
    if shutil.which("espeak-ng") is None:
        return ""
    return subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True).stdout


@pytest.mark.skipif("1.51 " not in espeak() + " ", reason="the samples need espeak-ng 1.51")
def test_the_script_makes_the_samples(tmp_path):
    """Texts byte for byte; sound sample for sample, to the rounding of another processor."""
    script = ROOT / "scripts" / "make_samples.py"
    subprocess.run([sys.executable, str(script), "--out", str(tmp_path)], check=True)
    for name in MADE:
        assert files(tmp_path / name) == files(SAMPLES / name)
        for path in files(SAMPLES / name):
            made, shipped = tmp_path / name / path, SAMPLES / name / path
            if path.suffix.lower() not in AUDIO:
                assert filecmp.cmp(made, shipped, shallow=False), path
                continue
            one, two = soundfile.read(made)[0], soundfile.read(shipped)[0]
            assert one.shape == two.shape
            assert np.abs(one - two).max() < 1e-2, path

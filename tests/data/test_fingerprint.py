"""Re-encoded copies are recognised by sound, and different sounds aren't taken for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from bab.audio.reading import read
from bab.cli import main
from bab.data.fingerprint import SAME, alike, correlation, fingerprint

SAMPLES = Path(__file__).parents[2] / "bab/plugins/datasets/samples"


@pytest.fixture
def original(tmp_path: Path) -> Path:
    wave = read(SAMPLES / "rttm" / "wav" / "home05.flac", 0.0, 8.0, 16000)
    soundfile.write(tmp_path / "a.wav", wave, 16000)
    return tmp_path / "a.wav"


@pytest.mark.parametrize("how", ["ogg", "mp3", "rate", "gain", "both", "stereo"])
def test_a_copy_in_another_form_is_recognised(original: Path, how: str) -> None:
    wave, other = read(original), original.with_name("b.wav")
    if how in ("ogg", "mp3", "both"):
        other = other.with_suffix(".mp3" if how == "mp3" else ".ogg")
    if how == "both":
        soundfile.write(other, soxr.resample(wave, 16000, 22050) * 0.2, 22050)
    elif how == "rate":
        soundfile.write(other, soxr.resample(wave, 16000, 8000), 8000)
    elif how == "stereo":
        soundfile.write(other, np.stack([wave, wave], 1), 16000)
    else:
        soundfile.write(other, wave * (0.1 if how == "gain" else 1.0), 16000)
    [pair] = alike([str(original), str(other)])
    assert pair.correlation > SAME and {pair.path, pair.other} == {str(original), str(other)}


def test_other_sounds_of_the_same_length_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [str(path) for path in sorted((SAMPLES / "rttm" / "wav").iterdir())]
    for i in range(6):  # noise, a tone, silence, a click: little is to be told of them
        soundfile.write(tmp_path / f"n{i}.wav", rng.normal(0, 0.1, 16000), 16000)
    soundfile.write(tmp_path / "s1.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "s2.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "short.wav", rng.normal(0, 0.1, 800), 16000)
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    paths += [str(path) for path in sorted(tmp_path.iterdir())]
    told: list[tuple[int, int]] = []
    assert list(alike(paths, lambda done, total: told.append((done, total)))) == []
    assert told[-1] == (len(paths), len(paths))
    assert correlation(fingerprint(paths[0]), fingerprint(paths[1])) < 0.5


def test_data_check_deep_warns(
    original: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    soundfile.write(tmp_path / "b.ogg", read(original) * 0.5, 16000)
    shutil.copy(original, tmp_path / "a2.wav")  # of a copy to the byte others tell
    soundfile.write(tmp_path / "c.wav", read(original, 0.0, 3.0)[::-1], 16000)
    rows = ["path,split", "a.wav,train", "a2.wav,train", "b.ogg,test", "c.wav,dev"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    corpus = f"manifest:{tmp_path}"
    assert main(["data", "check", corpus]) == 0
    silent = capsys.readouterr().out
    assert "near-identical" not in silent and "compared by sound" not in silent
    assert main(["data", "check", corpus, "--deep"]) == 0
    out = capsys.readouterr().out
    assert "warning: near-identical (2)" in out and out.count("b.ogg sound the same") == 2
    assert "compared by sound" not in out
    soundfile.write(tmp_path / "d.wav", read(original, 0.0, 2.0), 16000)
    (tmp_path / "manifest.csv").write_text("path,split\na.wav,train\nc.wav,dev\nd.wav,test\n")
    assert main(["data", "check", corpus, "--deep"]) == 0
    assert "\nnote: 3 files compared by sound: no two sound the same.\n" in capsys.readouterr().out

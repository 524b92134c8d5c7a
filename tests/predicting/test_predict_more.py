"""`bab predict` where something stands in its way: odd names, old files, guessed lengths."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pyarrow import parquet

from bab.audio.reading import read
from bab.cli import main
from bab.config.resolve import run_config
from bab.core.errors import BabError
from bab.data.annotations import open_format
from bab.plugins.datasets.rttm import Rttm
from bab.predicting import spool
from bab.predicting.maker import PredictOptions
from bab.predicting.predict import predict
from bab.predicting.recordings import recordings
from bab.running.runner import run


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A recording of 20 s."""
    assert Rttm.sample is not None
    audio = read(str(min((Rttm.sample / "wav").iterdir())), 0.0, 20.0, 16000)
    path = tmp_path / "in" / "home.wav"
    path.parent.mkdir()
    soundfile.write(path, audio, 16000)
    return path


def test_times_of_probabilities_go_on_from_stretch_to_stretch(
    model: Path, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, pieces = sound.parent / "whole", sound.parent / "pieces"
    predict(model, [sound], whole, PredictOptions(probabilities="npy"))
    monkeypatch.setattr(spool, "_SECONDS", 4.0)
    predict(model, [sound], pieces, PredictOptions(probabilities="npy"))
    table = np.load(pieces / "home.probabilities.npy")
    assert np.array_equal(table, np.load(whole / "home.probabilities.npy"))
    assert np.array_equal(table[1:, 0], table[:-1, 1])
    assert (table[0, 0], table[-1, 1]) == (0.0, 20.0)
    predict(model, [sound], pieces, PredictOptions(probabilities="parquet"))
    written = parquet.read_table(pieces / "home.probabilities.parquet")
    assert written.column_names == ["start", "end", "KCHI", "OCH", "MAL", "FEM"]
    assert np.array_equal(np.stack([c.to_numpy() for c in written.columns], 1), table)


def test_what_another_model_left_is_written_again(model: Path, sound: Path) -> None:
    out = sound.parent / "found"
    everything = PredictOptions(formats=["eaf"], probabilities="npy", thresholds={"KCHI": 0.0})
    predict(model, [sound], out, everything)
    assert any(mark.label == "KCHI" for mark in open_format("eaf").read(out / "home.eaf")[0].marks)
    other = {"KCHI": 1.0, "OCH": 1.0, "MAL": 1.0, "FEM": 1.0}
    predict(model, [sound], out, PredictOptions(thresholds=other))
    predict(model, [sound], out, PredictOptions(formats=["eaf"], thresholds=other))
    assert not open_format("eaf").read(out / "home.eaf")[0].marks
    (out / "home.eaf").write_text("corrected by hand")
    assert predict(model, [sound], out, PredictOptions(formats=["eaf"], thresholds=other)).again
    assert (out / "home.eaf").read_text() == "corrected by hand"


def test_nobodys_annotations_are_replaced(model: Path, sound: Path) -> None:
    gold = sound.with_suffix(".rttm")
    gold.write_text("SPEAKER home 1 0.000 1.000 <NA> <NA> KCHI <NA> <NA>\n")
    before = gold.read_text()
    with pytest.raises(BabError, match=r"home\.rttm is there, and no prediction"):
        predict(model, [sound], sound.parent)
    assert gold.read_text() == before
    gold.unlink()
    predict(model, [sound], sound.parent)
    assert predict(model, [sound], sound.parent, PredictOptions(formats=["rttm"])).again == 1


def test_names_that_file_systems_or_tables_do_not_take(model: Path, sound: Path) -> None:
    long = "ä" * 120
    for name in (long, "summary", "vtc", "a\nb"):
        shutil.copy(sound, sound.parent / f"{name}.wav")
    asked = PredictOptions(formats=["csv"], probabilities="parquet")
    result = predict(model, [sound.parent], sound.parent / "out", asked)
    assert not result.left
    assert {"home", "a_b", "in/summary", "in/vtc"} < set(result.files)
    rows = list(csv.DictReader((sound.parent / "out" / "summary.csv").open(encoding="utf-8")))
    assert {row["recording"] for row in rows} == set(result.files)
    with pytest.raises(BabError) as error:
        predict(model, [sound], sound.parent / "o", PredictOptions(formats=["csv", "childproject"]))
    assert str(error.value) == (
        "--format csv,childproject: both write .csv files: take one of them, and make the other of "
        "it with `bab convert`"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes")
def test_a_name_that_is_no_text_is_told(model: Path, sound: Path) -> None:
    Path(os.fsdecode(os.fsencode(sound.parent) + b"/\xff.wav")).write_bytes(sound.read_bytes())
    result = predict(model, [sound.parent], sound.parent / "out")
    assert list(result.files) == ["home"]
    assert result.left == {
        f"{sound.parent}/\\udcff.wav": "its name isn't UTF-8: rename the file or folder"
    }
    json.loads((sound.parent / "out" / "prediction.json").read_text(encoding="utf-8"))


def test_links_to_folders_are_followed_and_lead_in_no_circle(sound: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    shutil.copy(sound, far / "other.wav")
    for name, target in {"linked": far, "again": far, "loop": sound.parent}.items():
        try:
            (sound.parent / name).symlink_to(target, target_is_directory=True)
        except OSError:
            pytest.skip("no links here")
    assert [r.name for r in recordings([sound.parent])[0]] == ["again/other", "home"]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")
def test_seconds_are_those_that_were_heard(model: Path, sound: Path) -> None:
    guessed = sound.with_suffix(".aac")  # without a header: ffprobe guesses from the bit rate
    subprocess.run(["ffmpeg", "-v", "error", "-i", sound, guessed], check=True)
    cut = sound.with_name("cut.mkv")
    subprocess.run(["ffmpeg", "-v", "error", "-i", sound, "-c:a", "aac", cut], check=True)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    result = predict(model, [guessed, cut], sound.parent / "out")
    assert result.files["home"] == pytest.approx(20.0, abs=0.1)
    assert 5 < result.files["cut"] < 15
    assert any("s that its header promises" in line for line in result.notices), result.notices


def test_options_that_cannot_be(
    model: Path, sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = sound.parent / "file"
    taken.write_text("")
    assert main(["predict", str(model), str(sound), "--out", str(taken)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_scores_are_of_the_enrolment_that_was_asked_for(sound: Path, tmp_path: Path) -> None:
    asked = {"encoder": "fbank", "task": "sv", "observers": [], "runs": str(tmp_path / "runs")}
    sets = ["train.steps=2", f"cache.dir={tmp_path / 'cache'}"]
    verifier = run(run_config(None, asked, sets))[1]
    for speaker in ("ann", "bob"):
        (tmp_path / speaker).mkdir()
        shutil.copy(sound, tmp_path / speaker / f"{speaker}.wav")
    (sound.parent / "enrolled").mkdir()
    sound.rename(sound.parent / "enrolled" / "home.wav")
    shutil.copy(sound.parent / "enrolled" / "home.wav", sound)

    def scores(enrol: Path | None) -> list[str]:
        predict(verifier, [sound.parent], tmp_path / "out", PredictOptions(enrol=enrol))
        return (tmp_path / "out" / "scores.csv").read_text().splitlines()

    assert [line[:4] for line in scores(tmp_path / "ann")] == ["enro", "ann,", "ann,"]
    assert [line[:4] for line in scores(tmp_path / "bob")] == ["enro", "bob,", "bob,"]
    assert scores(None) == ["first,second,score", "enrolled/home,home,1.0000"]

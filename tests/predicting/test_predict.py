"""`bab predict` as people use it: folders with broken files, stopped, gone on with, looked at."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pyarrow import parquet

from bab.audio.reading import read
from bab.cli import main
from bab.core.errors import BabError, InterruptedRunError
from bab.plugins.datasets.childproject import ChildProject
from bab.plugins.datasets.rttm import Rttm
from bab.predicting import maker as module
from bab.predicting.maker import PredictOptions
from bab.predicting.predict import predict
from bab.predicting.predictor import Predictor
from bab.predicting.recordings import recordings

VOICES = ("KCHI", "OCH", "MAL", "FEM")


@pytest.fixture
def homes(tmp_path: Path) -> Path:
    """Two recordings of one name in two folders, others in other forms, and three broken ones."""
    assert Rttm.sample is not None
    sounds = sorted((Rttm.sample / "wav").iterdir())
    root = tmp_path / "homes"
    for child, sound in zip(("child1", "child2"), sounds, strict=False):
        (root / child).mkdir(parents=True)
        shutil.copy(sound, root / child / f"rec{sound.suffix}")
    audio = read(str(sounds[2]), 0.0, 20.0, 16000)
    soundfile.write(root / "stereo.flac", np.stack([audio, audio], 1), 44100)
    soundfile.write(root / "phone.wav", audio[::2], 8000, subtype="PCM_16")
    (root / "bad").mkdir()
    (root / "bad" / "empty.mp3").write_bytes(b"")
    (root / "bad" / "noise.wav").write_bytes(random.Random(0).randbytes(3000))
    (root / "bad" / "cut.flac").write_bytes((root / "stereo.flac").read_bytes()[:4000])
    (root / "notes.txt").write_text("no audio")
    return root


def contents(folder: Path) -> dict[str, bytes]:
    """What a call wrote, less when."""
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".bab" not in path.parts and path.name != "prediction.json"
    }
    origin = json.loads((folder / "prediction.json").read_text())
    del origin["date"]
    return found | {"prediction.json": json.dumps(origin).encode()}


def test_what_is_broken_is_named_and_the_rest_goes_on(
    model: Path, homes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = homes.parent / "found"
    assert main(["predict", str(model), str(homes), "--out", str(out)]) == 1
    said = capsys.readouterr()
    for name in ("empty.mp3", "noise.wav", "cut.flac"):
        assert f"bad/{name}" in said.err
    assert "--skip-bad" not in said.err and "notes.txt" not in said.err
    assert "4 recordings" in said.out and "[7/7]" in said.err
    assert (out / "child1" / "rec.rttm").read_text() != (out / "child2" / "rec.rttm").read_text()
    origin = json.loads((out / "prediction.json").read_text())
    assert {one["name"] for one in origin["files"]} == {
        "child1/rec", "child2/rec", "phone", "stereo",
    }  # fmt: skip
    assert len(origin["left_out"]) == 3 and origin["waiting"] == []
    assert origin["preset"] == "f1" and origin["task"] == "vtc" and origin["versions"]["torch"]
    assert set(origin["tuned"]["thresholds"]) == set(VOICES)
    uids = {row["uid"] for row in csv.DictReader((out / "vtc.csv").open())}
    assert uids <= {"child1/rec", "child2/rec", "phone", "stereo"} and "child1/rec" in uids


def test_the_same_again_is_not_done_again(
    model: Path, homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = homes.parent / "found"
    predict(model, [homes], out)
    before = contents(out)

    def never(*_: object) -> None:
        raise AssertionError("done again")

    with monkeypatch.context() as patch:
        patch.setattr(module.Spool, "add", never)
        again = predict(model, [homes], out)
        assert again.again == 4 and contents(out) == before
        (out / "phone.rttm").unlink()  # what is gone is written from what was found
        predict(model, [homes], out, PredictOptions(formats=["rttm", "csv"]))
        assert (out / "phone.rttm").read_bytes() == before["phone.rttm"]
        assert (out / "child1" / "rec.csv").exists()
        with pytest.raises(AssertionError, match="done again"):
            predict(model, [homes], out, PredictOptions(thresholds={"KCHI": 0.9}))
    audio, rate = soundfile.read(homes / "phone.wav")
    soundfile.write(homes / "phone.wav", audio[: len(audio) // 2], rate)  # another recording
    changed = predict(model, [homes], out)
    assert changed.again == 3 and changed.files["phone"] == pytest.approx(10.0)


@pytest.mark.parametrize("stop_at", [1, 3])
def test_ctrl_c_leaves_what_the_same_command_goes_on_with(
    model: Path, homes: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    whole, out = homes.parent / "whole", homes.parent / "found"
    predict(model, [homes], whole)
    count = 0
    keep = module.Spool.add

    def add(self: object, rows: object) -> None:
        nonlocal count
        keep(self, rows)  # type: ignore[arg-type]
        count += 1
        if count == stop_at:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(module.Spool, "add", add)
        with pytest.raises(InterruptedRunError, match="the same command goes on"):
            predict(model, [homes], out)
    origin = json.loads((out / "prediction.json").read_text())
    assert origin["waiting"]
    assert list((out / ".bab" / "begun").rglob("rows-*.npy"))
    predict(model, [homes], out)
    assert contents(out) == contents(whole)
    assert not list((out / ".bab" / "begun").rglob("rows-*.npy"))


@pytest.mark.slow
def test_killed_twenty_times(model: Path, homes: Path) -> None:
    whole, out = homes.parent / "whole", homes.parent / "found"
    predict(model, [homes], whole)
    command = [sys.executable, "-m", "bab", "predict", str(model), str(homes), "--out", str(out)]
    draw = random.Random(0)
    for _ in range(20):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
        )
        time.sleep(draw.uniform(1.0, 6.0))
        process.kill()
        process.wait()
    predict(model, [homes], out)
    assert contents(out) == contents(whole)


def test_formats_probabilities_pictures_and_the_summary(model: Path, homes: Path) -> None:
    out = homes.parent / "found"
    asked = PredictOptions(formats=["eaf", "textgrid"], probabilities="parquet", timeline=["png"])
    predict(model, [homes / "child1"], out, asked)
    names = {path.name for path in out.iterdir() if path.is_file()}
    assert names == {
        "prediction.json", "rec.TextGrid", "rec.eaf", "rec.png", "rec.probabilities.parquet",
        "summary.csv", "vtc.csv",
    }  # fmt: skip
    table = parquet.read_table(out / "rec.probabilities.parquet").to_pydict()
    assert list(table) == ["start", "end", *VOICES]
    assert all(0 <= p <= 1 for voice in VOICES for p in table[voice])
    assert table["end"][:-1] == table["start"][1:]
    rows = list(csv.DictReader((out / "summary.csv").open()))
    segments = list(csv.DictReader((out / "vtc.csv").open()))
    counted = [s for s in segments if s["label"] == "KCHI"]
    assert int(rows[0]["KCHI_count"]) == len(counted)
    told = sum(float(s["duration_s"]) for s in counted)
    assert float(rows[0]["KCHI_seconds"]) == pytest.approx(told, abs=0.002 * len(counted))


def test_a_threshold_decides_which_frames_count(model: Path, homes: Path) -> None:
    low = predict(
        model, [homes / "phone.wav"], homes / "a", PredictOptions(thresholds={"KCHI": 0.0})
    )
    (said,) = low.predictions()
    child = [s for s in said.segments if s.label == "KCHI"]
    assert len(child) == 1 and child[0].end - child[0].start == pytest.approx(20.0, abs=0.1)
    high = predict(
        model, [homes / "phone.wav"], homes / "b", PredictOptions(thresholds={"KCHI": 1.0})
    )
    assert not [s for p in high.predictions() for s in p.segments if s.label == "KCHI"]


def test_no_voice_for_longer_than_anybody_speaks_without_a_notice(
    model: Path, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "hum.wav", np.zeros(16000 * 60, np.float32), 16000)
    done = predict(
        model, [tmp_path / "hum.wav"], tmp_path / "out", PredictOptions(thresholds={"FEM": 0.0})
    )
    assert any("hum: 1 segment over 30 s" in line for line in done.notices)
    assert "over 30 s" in (tmp_path / "out" / "prediction.json").read_text()


def test_windows_that_overlap(model: Path, homes: Path) -> None:
    sound = homes / "phone.wav"
    tiled = Predictor(model)(sound)
    assert Predictor(model, overlap=0.0)(sound).segments == tiled.segments
    predict(model, [sound], homes / "o", PredictOptions(overlap=0.75, probabilities="npy"))
    predict(model, [sound], homes / "t", PredictOptions(probabilities="npy"))
    over, tile = (np.load(homes / x / "phone.probabilities.npy") for x in "ot")
    assert over.shape == tile.shape and np.abs(over - tile).max() > 1e-4
    assert json.loads((homes / "o" / "prediction.json").read_text())["step"] == pytest.approx(1.0)


def test_arrays_say_what_files_say(model: Path, homes: Path) -> None:
    predictor = Predictor(str(model))
    audio, rate = soundfile.read(homes / "stereo.flac")
    from_file = predictor(homes / "stereo.flac").segments
    assert from_file and predictor(audio.T, sampling_rate=rate).segments == from_file
    with pytest.raises(ValueError, match="sampling_rate is required"):
        predictor(audio.T)
    with pytest.raises(ValueError, match="int16"):
        predictor((audio.T * 32767).astype(np.int16), rate)
    with pytest.raises(ValueError, match="channels come first"):
        predictor(audio, rate)
    with pytest.raises(ValueError, match="finite"):
        predictor(np.array([0.0, np.nan]), 16000)


def test_lists_and_corpora(model: Path, homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (homes / "files.txt").write_text("# two\nphone.wav\n\nchild1/rec.flac\nnot there.wav\n")
    monkeypatch.chdir(homes.parent)
    sound = next((homes / "child1").iterdir())
    (homes / "files.txt").write_text(f"# two\nphone.wav\n\n{sound}\nnot there.wav\n")
    done = predict(model, [f"@{homes / 'files.txt'}"], homes / "out")
    assert set(done.files) == {"phone", "rec"}
    assert any("not there.wav" in path for path in done.left)
    assert Rttm.sample is not None
    found = recordings([f"rttm:{Rttm.sample}"])[0]
    assert {r.name for r in found} == {p.stem for p in (Rttm.sample / "wav").iterdir()}


def test_two_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for name in ("a/x.wav", "b/x.wav", "b/x.flac", "c/X.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    paths = [tmp_path / name for name in ("a/x.wav", "b/x.wav", "b/x.flac", "c/X.wav")]
    names = [r.name for r in recordings(paths)[0]]
    assert len({name.casefold() for name in names}) == 4
    assert [r.name for r in recordings([paths[0], paths[0]])[0]] == ["x"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (PredictOptions(preset="f2"), "preset 'f2'"),
        (PredictOptions(thresholds={"KCH": 0.5}), "did you mean 'KCHI'"),
        (PredictOptions(thresholds={"KCHI": 1.5}), "a probability, 0 to 1"),
        (PredictOptions(formats=["its"]), "only read"),
        (PredictOptions(formats=["elan"]), "elan"),
        (PredictOptions(overlap=1.0), "below 1"),
        (PredictOptions(timeline=["pdf"]), "png or svg"),
        (PredictOptions(enrol=Path("x")), "compares no recordings"),
        (PredictOptions(precision="fp16"), "fp16"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    model: Path, homes: Path, asked: PredictOptions, message: str
) -> None:
    with pytest.raises(BabError, match=message):
        predict(model, [homes], homes / "out", asked)
    assert not list((homes / "out").rglob("*.rttm"))


def test_nothing_to_predict_is_said(model: Path, tmp_path: Path) -> None:
    with pytest.raises(BabError, match="holds no audio file"):
        predict(model, [tmp_path], tmp_path / "out")
    with pytest.raises(BabError, match="can't be read as a list"):
        predict(model, ["@nothing.txt"], tmp_path / "out")


@pytest.mark.usefixtures("forked_workers")
def test_several_at_once_give_the_same(
    model: Path, homes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = homes.parent / "one", homes.parent / "two"
    predict(model, [homes], one)
    assert main(["predict", str(model), str(homes), "--out", str(two), "--jobs", "2"]) == 1
    said = capsys.readouterr().err
    assert "[7/7]" in said and "bad/noise.wav" in said
    assert contents(one) == contents(two)
    again = predict(model, [homes], two, PredictOptions(jobs=2))
    assert again.again == 4 and len(again.left) == 3


def test_the_start_that_a_corpus_tells_is_used(model: Path, homes: Path) -> None:
    """ChildProject's date_iso and start_time."""
    out = homes.parent / "found"
    predict(model, ["childproject"], out)
    rows = list(csv.DictReader((out / "summary.csv").open()))
    sample = ChildProject.sample
    assert sample is not None
    told = csv.DictReader((sample / "metadata" / "recordings.csv").open())
    starts = {r["recording_filename"]: f"{r['date_iso']}T{r['start_time']}:00" for r in told}
    assert rows and {row["start"] for row in rows} <= set(starts.values())
    assert {row["hour"] for row in rows if row["scope"] == "clock"} == {"9"}


def test_another_version_of_a_plugin_is_asked_anew(
    model: Path, homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, out = homes / "phone.wav", homes.parent / "out"
    for version, again in (("", 0), ("", 1), ("plugin 1", 0), ("plugin 1", 1), ("plugin 2", 0)):
        monkeypatch.setattr(module, "origin", lambda one, version=version: version)
        assert predict(model, [sound], out).again == again

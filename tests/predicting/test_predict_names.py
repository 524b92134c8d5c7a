"""`bab predict` into one folder again and again: names stay, nothing stale is left unsaid."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bab.audio.reading import read
from bab.core.errors import AudioError
from bab.plugins.datasets.rttm import Rttm
from bab.predicting import maker as module
from bab.predicting.maker import Maker, PredictOptions
from bab.predicting.predict import predict
from bab.predicting.predictor import Predictor
from bab.predicting.recordings import Named, Recording
from bab.predicting.spool import Spool
from bab.predicting.walking import Rows

LOUD = {"KCHI": 0.0}
QUIET = {"KCHI": 1.0, "OCH": 1.0, "MAL": 1.0, "FEM": 1.0}


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """a/day1.wav and b/day1.wav, of 6 s each."""
    assert Rttm.sample is not None
    source = str(min((Rttm.sample / "wav").iterdir()))
    for place, start in (("a", 0.0), ("b", 6.0)):
        (tmp_path / "in" / place).mkdir(parents=True)
        audio = read(source, start, start + 6.0, 16000)
        soundfile.write(tmp_path / "in" / place / "day1.wav", audio, 16000)
    return tmp_path / "in"


def written(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*.rttm")}


def test_a_name_once_given_stays(model: Path, days: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(model, [days / "a" / "day1.wav"], out)
    before = (out / "day1.rttm").read_bytes()
    both = [days / "a" / "day1.wav", days / "b" / "day1.wav"]
    done = predict(model, both, out)
    assert done.again == 1 and set(done.files) == {"day1", "b/day1"}
    assert written(out) == {"day1.rttm", "b/day1.rttm"}
    assert (out / "day1.rttm").read_bytes() == before
    assert predict(model, [days], out).again == 2  # by folder they would be a/day1 and b/day1
    alone = predict(model, [days / "b" / "day1.wav"], out)
    assert alone.again == 1 and set(alone.files) == {"b/day1"}
    assert written(out) == {"day1.rttm", "b/day1.rttm"}


def test_another_file_of_that_name_replaces_nothing(
    model: Path, days: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict(model, [days / "a" / "day1.wav"], out)
    other = predict(model, [days / "b" / "day1.wav"], out)
    assert set(other.files) == {"b/day1"} and not other.again
    assert written(out) == {"day1.rttm", "b/day1.rttm"}
    assert {row["uid"] for row in csv.DictReader((out / "vtc.csv").open())} <= {"day1", "b/day1"}


def test_a_file_that_was_moved_is_known(model: Path, days: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(model, [days / "a" / "day1.wav", days / "b" / "day1.wav"], out)
    names = written(out)
    moved = tmp_path / "elsewhere"
    days.rename(moved)
    assert predict(model, [moved / "b" / "day1.wav", moved / "a" / "day1.wav"], out).again == 2
    assert written(out) == names


def test_killed_before_it_was_noted_a_name_stays(
    model: Path, days: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def killed(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(module.Results, "keep", killed)
        with pytest.raises(RuntimeError):
            predict(model, [days / "a" / "day1.wav"], out)
    assert written(out) == {"day1.rttm"}
    predict(model, [days / "a" / "day1.wav", days / "b" / "day1.wav"], out)
    assert written(out) == {"day1.rttm", "b/day1.rttm"}


def test_what_an_earlier_model_left_is_removed_or_said(
    model: Path, days: Path, tmp_path: Path
) -> None:
    out, sound = tmp_path / "out", days / "a" / "day1.wav"
    asked = PredictOptions(
        formats=["rttm", "eaf", "textgrid"], probabilities="npy", thresholds=LOUD
    )
    predict(model, [sound], out, asked)
    kept = predict(model, [sound], out, PredictOptions(formats=["rttm"], thresholds=LOUD))
    assert kept.again == 1 and (out / "day1.eaf").exists()  # the same result: nothing is stale
    (out / "day1.eaf").write_text("corrected by hand")
    (out / "asr.csv").write_text("of nobody here")
    done = predict(model, [sound], out, PredictOptions(thresholds=QUIET))
    assert not (out / "day1.TextGrid").exists()
    assert not (out / "day1.probabilities.npy").exists()
    assert (out / "day1.eaf").read_text() == "corrected by hand"
    assert [line for line in done.notices if "day1.eaf is of an earlier model" in line]
    assert (out / "day1.rttm").exists() and not any("asr.csv" in line for line in done.notices)


def test_times_of_a_day_are_exact() -> None:
    """Windows of 16 h: in single precision they would be off by up to 2 ms."""
    spool_rows = np.array([[57_599.0 * 16000 + 1, 16000.0, 49.0, 0.5]])
    assert float(np.float32(spool_rows[0, 0] / 16000)) != spool_rows[0, 0] / 16000
    assert module.outputs._times(spool_rows, 16000).tolist() == [
        [(57_599 * 16000 + 1) / 16000, (57_600 * 16000 + 1) / 16000]
    ]


def test_rows_of_windows_keep_their_precision(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s")
    rows = np.array([[921_584_001.0, 16000.0, 49.0, 0.5]])
    spool.add(Rows(0, rows, 57_600.0))
    spool.flush()
    (read_again,) = Spool(tmp_path / "s").read()
    assert read_again.dtype == np.float64 and np.array_equal(read_again, rows)


def test_a_file_of_one_sample_has_no_segment_of_no_length(model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "dot.wav", np.full(1, 0.5, np.float32), 16000)
    assert Predictor(model, thresholds=LOUD)(tmp_path / "dot.wav").segments == ()
    done = predict(model, [tmp_path / "dot.wav"], tmp_path / "out", PredictOptions(thresholds=LOUD))
    assert list(done.files) == ["dot"]
    assert (tmp_path / "out" / "vtc.csv").read_text().splitlines() == [
        "uid,start_time_s,duration_s,label"
    ]
    assert not (tmp_path / "out" / "dot.rttm").read_text()


def test_a_recording_of_less_than_a_sample_holds_no_sound(model: Path, tmp_path: Path) -> None:
    """One sample at 48 kHz is a third of one at the encoder's rate."""
    path = tmp_path / "click.wav"
    soundfile.write(path, np.full(1, 0.5), 48000)
    told = f"{path}: it holds no sound"
    done = predict(model, [path], tmp_path / "out")
    assert done.files == {} and done.left == {str(path): told}
    with pytest.raises(AudioError) as caught:
        Predictor(model)(path)
    assert str(caught.value) == told


def test_neither_another_format_nor_a_models_new_place_makes_anew(
    model: Path, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, 16000)
    moved, out = shutil.copytree(model, tmp_path / "moved"), tmp_path / "out"
    made = {predict(model, [tmp_path / "a.wav"], out, PredictOptions(formats=["rttm"])).made_by}
    for where, formats in ((model, ["eaf"]), (moved, ["rttm"])):
        done = predict(where, [tmp_path / "a.wav"], out, PredictOptions(formats=formats))
        assert done.again == 1 and not done.notices
        made.add(done.made_by)
    assert len(made) == 1 and {"a.rttm", "a.eaf"} <= {path.name for path in out.iterdir()}
    other = predict(model, [tmp_path / "a.wav"], out, PredictOptions(thresholds=LOUD))
    assert other.again == 0 and other.made_by not in made


def test_of_a_stretch_it_is_kept_where_it_begins_and_ends(model: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    path = str(tmp_path / "a.wav")
    soundfile.write(path, noise, 16000)
    maker = Maker(model, PredictOptions(), tmp_path / "out")
    stretch = Recording("part", path, 0.25, 0.75, began="07:08:09")
    told: list[float] = []
    made = maker.finish(maker.hear(stretch, told.append, lambda: False))
    done = made.done
    assert (done.start, done.end, done.seconds, done.began) == (0.25, 0.75, 0.5, "07:08:09")
    assert not made.again and told[-1] == 0.5
    assert maker.results.names() == [Named("part", path, 0.25, 0.75, done.digest)]

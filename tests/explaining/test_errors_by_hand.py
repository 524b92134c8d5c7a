"""The worst errors, found by hand in what a made-up run wrote: each kind of task, and the files."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_records
import numpy as np
import pytest
import soundfile

from bab.core.components import build_task
from bab.core.errors import AudioError, BabError, NotApplicableError
from bab.core.types import Clip, Segment
from bab.explaining import errors
from bab.explaining.errors import Wrong, worst_errors, write_errors
from bab.results.record import save

VTC = {"name": "vtc", "options": {"classes": ["KCHI", "FEM"], "min_segment": 0, "fill_gaps": 0}}


def clip(name: str, end: float, *segments: Segment, **more: Any) -> Clip:
    return Clip(name, "a.wav", more.pop("start", 0.0), end, "g", segments=segments, **more)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A finished run of a task: what it wrote, and its corpus's clips by split."""

    def made(
        task: dict[str, Any], files: dict[str, str], clips: Sequence[Clip], **more: Any
    ) -> Path:
        names = {"encoder": "fbank", "head": "x", "objective": "x", "corpus": "rttm"}
        config = {key: {"name": name} for key, name in names.items()}
        config |= {"task": task, "runs": "r", "protocol": more.pop("protocol", "given")}
        built = build_task(task["name"], task.get("options", {}))
        record = made_records.make(config=config, task=task["name"], **more)
        save(record, tmp_path)
        place = tmp_path / "predictions" / built.presets[0]
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name).write_text(text)
        asked: list[Any] = []
        corpus = SimpleNamespace(
            provides=built.needs, splits=lambda: ("dev", "test"), root="/corpus",
            clips=lambda split: (asked.append(split), list(clips))[1],
        )  # fmt: skip
        monkeypatch.setattr(errors, "open_corpus", lambda config, may: corpus)
        made.asked = asked  # type: ignore[attr-defined]
        return tmp_path

    return made


TABLE = "uid,start_time_s,duration_s,label\n"


def test_stretches_of_ten_seconds(run: Any) -> None:
    clips = [
        clip("a", 25.0, Segment(1, 3, "KCHI"), Segment(9, 12, "FEM"), Segment(21, 22, "KCHI")),
        clip("b", 4.0, Segment(0, 1, "FEM"), scored=((0.0, 2.0), (3.0, 4.0))),
        clip("c", 10.005, start=0.0),
    ]
    rows = "a,1,1.5,KCHI\na,9.5,1,FEM\na,15,0.25,KCHI\nb,3.5,5,KCHI\n"
    folder = run(VTC, {"vtc.csv": TABLE + rows, "other.csv": "x,y\n1,2\n"}, clips)
    wrong = worst_errors(folder, 99)
    told = [(w.clip.id, w.start, round(w.end, 3), round(w.error, 6)) for w in wrong]
    assert told == [
        ("a", 10.0, 20.0, 1.75),  # of FEM 1.5 s missed, .25 s of KCHI marked
        ("a", 0.0, 10.0, 1.0),
        ("a", 20.0, 25.0, 1.0),
        ("b", 0.0, 2.0, 1.0),
        ("b", 3.0, 4.0, 0.5),
        ("c", 0.0, 10.0, 0.0),  # what is left of it is too short to be one
    ]
    first = wrong[0]
    assert (first.unit, first.reference) == ("wrong seconds", "FEM[10.00-12.00]")
    assert first.said == "FEM[10.00-10.50] KCHI[15.00-15.25]"
    assert first.heard == (Segment(9.5, 10.5, "FEM"), Segment(15, 15.25, "KCHI"))
    assert wrong[3].said == "" and wrong[4].said == "KCHI[3.50-4.00]"
    assert worst_errors(folder, 2) == wrong[:2]


def test_without_a_table_rttm_files_say_it(run: Any) -> None:
    line = "SPEAKER {} 1 {} 1.5 <NA> <NA> KCHI <NA> <NA>\n"
    files = {"x.rttm": line.format("a", 1) + line.format("b", 0), "y.rttm": line.format("a", 5)}
    clips = [clip("a", 9.0), clip("b", 9.0, Segment(0, 1.5, "KCHI")), clip("d", 9.0)]
    folder = run(VTC, files, clips)
    assert [(w.clip.id, w.error, w.said) for w in worst_errors(folder, 9)] == [
        ("a", 3.0, "KCHI[1.00-2.50] KCHI[5.00-6.50]"), ("b", 0.0, "KCHI[0.00-1.50]"),
        ("d", 0.0, ""),
    ]  # fmt: skip
    nothing = run(VTC, {}, clips)
    for path in (nothing / "predictions" / "f1").iterdir():
        path.unlink()
    with pytest.raises(BabError, match=r"f1 holds no prediction of the clips of /corpus$"):
        worst_errors(nothing, 9)


def test_the_clips_are_those_of_the_split(run: Any) -> None:
    folder = run(VTC, {"v.csv": TABLE}, [clip("a", 1.0)])
    worst_errors(folder, 1)
    assert run.asked == ["test"]
    worst_errors(run(VTC, {}, [clip("a", 1.0)], protocol="kfold"), 1)
    worst_errors(run(VTC, {}, [clip("a", 1.0)], split="more"), 1)
    assert run.asked == [None]


CLIPS = [
    clip("a", 1.0, labels={"gender": "male"}), clip("b", 2.0, labels={"gender": "female"}),
    clip("c", 3.0, labels={"gender": "robot"}), clip("d", 4.0, labels={"gender": "male"}),
]  # fmt: skip
GENDER = {"labels": {"gender": ["female", "male"]}, "metrics": {}, "primary": "uar"}


def test_losses_of_clips(run: Any) -> None:
    rows = "a,female,0.875,0.125\nb,female,1.0,0.0\nc,male,0,1\n'=x,male,0,1\n,male,0,1\n"
    head = "id,gender,gender=female,gender=male\n"
    folder = run({"name": "gender"}, {"predictions.csv": head + rows}, CLIPS, **GENDER)
    one, two = worst_errors(folder, 9)
    assert (one.clip.id, one.error, one.unit) == ("a", pytest.approx(math.log(8)), "loss (nats)")
    assert (one.start, one.end, one.reference, one.said) == (0.0, 1.0, "male", "female (0.88)")
    assert (two.clip.id, two.error, two.said) == ("b", 0.0, "female (1.00)")
    sure = head + "a,female,1,0\n"
    folder = run({"name": "gender"}, {"predictions.csv": sure}, CLIPS, **GENDER)
    assert worst_errors(folder, 1)[0].error == pytest.approx(12 * math.log(10))
    folder = run({"name": "gender"}, {"predictions.csv": head + "a,female,x,\n"}, CLIPS, **GENDER)
    with pytest.raises(BabError, match=r"^predictions.csv has no probability of gender=male$"):
        worst_errors(folder, 1)
    (folder / "predictions" / "default" / "predictions.csv").unlink()
    with pytest.raises(
        BabError, match=r"predictions.csv: No such file or directory: run again wit"
    ):
        worst_errors(folder, 1)


def test_errors_of_texts(run: Any) -> None:
    clips = [clip("a", 1.0, text="one two three four"), clip("b", 2.0, text="five"), clip("c", 3.0),
             clip("e", 5.0, text="six")]  # fmt: skip
    rows = "id,hypothesis\na,one too three four\nb,\nc,six\n"
    more = {"labels": {"char": ["_", "a"]}, "metrics": {}, "primary": "wer"}
    folder = run({"name": "asr"}, {"predictions.csv": rows}, clips, **more)
    told = [(w.clip.id, w.error, w.unit, w.reference, w.said) for w in worst_errors(folder, 9)]
    assert told == [
        ("b", 100.0, "wer %", "five", ""),
        ("a", 25.0, "wer %", "one two three four", "one too three four"),
    ]


def test_what_has_no_errors(run: Any) -> None:
    folder = run(VTC, {}, [], status="failed", reason="no disk")
    with pytest.raises(BabError, match=r"^run r1 has no predictions \(failed\): no disk$"):
        worst_errors(folder, 1)
    save(made_records.make(config={"encoder": 3}), folder)
    with pytest.raises(
        BabError, match=r"^the record of run r1 is another version's: repeat the run"
    ):
        worst_errors(folder, 1)
    folder = run({"name": "sv"}, {}, [])
    with pytest.raises(NotApplicableError, match=r"^task 'sv' compares clips: scores are in trial"):
        worst_errors(folder, 1)
    folder = run(VTC, {}, [])
    (folder / "predictions" / "f1").rename(folder / "predictions" / "gone")
    with pytest.raises(
        BabError, match=r"f1: the run's predictions aren't there: run again with --f"
    ):
        worst_errors(folder, 1)


def test_errors_are_written_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = tmp_path / "s.wav"
    soundfile.write(sound, np.zeros(16000 * 2), 16000)
    one = Clip("=a/b", str(sound), 0.0, 2.0, "g", segments=(Segment(0.5, 1.0, "KCHI"),))
    two = Clip("c", "nowhere.wav", 0.0, 1.0, "g")
    wrong = [
        Wrong(one, 0.25, 2.0, 1.23456, "wrong seconds", "KCHI", "", (Segment(0, 1, "FEM"),)),
        Wrong(two, 0.0, 1.0, 0.5, "loss (nats)", "x", "y"),
        Wrong(one, 1.5, 2.0, 0.1, "wrong seconds", "", ""),  # nobody speaks, nobody was heard
    ]
    asked: list[Any] = []
    monkeypatch.setattr(errors, "worst_errors", lambda *given: asked.append(given) or wrong)
    said: list[str] = []
    paths = write_errors("R", tmp_path / "out", 7, ("svg", "svg"), said.append)
    assert asked == [("R", 7)] and [path.suffix for path in paths] == [".csv", ".svg", ".svg"]
    assert paths[1].name.startswith("error-01-") and "/" not in paths[1].name
    assert len(said) == 1 and said[0].startswith("no picture of c: nowhere.wav")
    rows = list(csv.reader(paths[0].open(newline="")))
    assert rows == [
        ["rank", "clip", "path", "start", "end", "error", "unit", "reference", "prediction"],
        ["1", "'=a/b", str(sound), "0.250", "2.000", "1.235", "wrong seconds", "KCHI", ""],
        ["2", "c", "nowhere.wav", "0.000", "1.000", "0.500", "loss (nats)", "x", "y"],
        ["3", "'=a/b", str(sound), "1.500", "2.000", "0.100", "wrong seconds", "", ""],
    ]
    svg = paths[1].read_text()
    assert "=a/b: 1.23 wrong seconds" in svg and "KCHI" in svg and "FEM" in svg
    assert paths[2].name.startswith("error-03-") and "KCHI" not in paths[2].read_text()

    heard: list[Any] = []
    real = errors.streaming.blocks
    monkeypatch.setattr(
        errors.streaming, "blocks", lambda *given: heard.append(given[1:]) or real(*given)
    )
    long = Wrong(one, 0.5, 99.0, 3.0, "wrong seconds", "", "")
    errors._draw(long, [tmp_path / "long.svg"])
    assert heard == [(16000, 0.5, 30.5)]  # the first thirty seconds of it

    def broken(*given: Any) -> Any:
        raise AudioError("x")

    monkeypatch.setattr(errors, "_draw", broken)
    assert [path.name for path in write_errors("R", tmp_path / "o2", 7, ("svg",))] == ["errors.csv"]


def test_names_of_bars_stand_where_they_are_seen() -> None:
    names: list[tuple[float, str]] = []
    panel = SimpleNamespace(
        get_xlim=lambda: (10.0, 20.0),
        barh=lambda *given, **more: None,
        text=lambda x, y, name, **more: names.append((x, name)),
    )
    beside = [Segment(12, 13, "FEM"), Segment(19, 25, "KCHI"), Segment(5, 10.2, "OCH")]
    errors._bars(panel, 0, beside)
    assert names == [(12.5, "FEM"), (19.5, "KCHI")]  # of KCHI a second is seen, of OCH .2 s

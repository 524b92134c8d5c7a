"""What a prediction leaves in its folder, to the line: files, tables, and what made them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from made_models import made

from bab.data import rolling
from bab.data.shards import Shard
from bab.predicting import maker as making
from bab.predicting import predict as module
from bab.predicting.jobs import Answer
from bab.predicting.maker import Made, Maker, PredictOptions
from bab.predicting.predict import Predicted, predict
from bab.predicting.recordings import Recording
from bab.running.saved import load_saved


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("predicted")
    return {
        task: made(top / task, task, encoder="fbank") for task in ("vtc", "gender", "sv", "asr")
    }


def sound(path: Path, seconds: float, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * 16000))
    soundfile.write(path, noise.astype(np.float32), 16000)
    return path


def written(out: Path) -> list[str]:
    return sorted(
        p.relative_to(out).as_posix()
        for p in out.rglob("*")
        if p.is_file() and ".bab" not in p.parts
    )


def origin(out: Path) -> Any:
    return json.loads((out / "prediction.json").read_text())


def test_each_recording_is_told_and_where_all_comes_from(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    one, two = sound(tmp_path / "in/one.wav", 2.0), sound(tmp_path / "in/b/two.wav", 3.0, 1)
    bad = tmp_path / "in/bad.wav"
    bad.write_bytes(b"RIFF")
    said: list[str] = []
    told: list[tuple[str, float, float, str]] = []
    out = tmp_path / "out"
    tell = lambda *given: told.append(given)  # noqa: E731
    done = predict(folders["vtc"], [tmp_path / "in"], out, tell=tell, say=said.append)
    assert done.files == {"b/two": 3.0, "one": 2.0} and done.again == 0 and done.out == out
    assert list(done.left) == [str(bad)]
    assert written(out) == ["b/two.rttm", "one.rttm", "prediction.json", "summary.csv", "vtc.csv"]
    assert not list((out / ".bab" / "begun").iterdir())
    counts = {name: len([*csv.reader((out / f"{name}.rttm").open())]) for name in ("b/two", "one")}
    first, second, third = said
    speed = r"\d+\.\d x real time"
    assert re.fullmatch(rf"\[1/3\] b/two: {counts['b/two']} segments, 0\.05 min, {speed}", first)
    assert second == f"[2/3] bad: left out: {done.left[str(bad)]}"
    assert third.startswith(f"[3/3] one: {counts['one']} segments, 0.03 min, ")
    assert told[:3] == [("looking", n, 3, "files") for n in (1, 2, 3)]
    assert all(one[0] == "predicting" and one[2:] == (5.0, "s") for one in told[3:])
    assert told[-1][1] == 5.0
    about = origin(out)
    saved = load_saved(folders["vtc"])
    assert about["files"] == [
        {"name": "b/two", "path": str(two), "digest": about["files"][0]["digest"], "seconds": 3.0},
        {"name": "one", "path": str(one), "digest": about["files"][1]["digest"], "seconds": 2.0},
    ]
    assert about["left_out"] == [{"path": str(bad), "why": done.left[str(bad)]}]
    assert (about["waiting"], about["notices"]) == ([], [])
    assert about["tables"] == dict.fromkeys(("vtc.csv", "summary.csv"), done.made_by)
    assert (about["format"], about["weights"], about["run"]) == (1, saved.digest, "made")
    assert (about["task"], about["preset"], about["device"]) == ("vtc", "f1", "cpu")
    assert (about["model"], about["formats"]) == (str(folders["vtc"] / "model"), ["rttm"])
    assert (about["encoder"], about["precision"]) == ("fbank", "fp32")
    assert about["window"] == 4.0 and 3.9 < about["step"] < 4.0
    assert about["labels"] == {"voice": ["KCHI", "OCH", "MAL", "FEM"]}
    assert about["tuned"]["thresholds"] == pytest.approx(
        {"KCHI": 0.3, "OCH": 0.4, "MAL": 0.5, "FEM": 0.6}
    )
    assert {p.id for p in done.predictions()} == {"b/two", "one"}
    said.clear()
    again = predict(folders["vtc"], [one], out, say=said.append)
    assert said == ["[1/1] one: done before"] and again.again == 1
    assert [p.id for p in again.predictions()] == ["one"]
    assert [f["name"] for f in origin(out)["files"]] == ["b/two", "one"]  # of all here
    odd = predict(folders["vtc"], [sound(tmp_path / "odd.wav", 1.23456)], out)
    assert odd.files == {"odd": 19753 / 16000}
    assert [f["seconds"] for f in origin(out)["files"]] == [3.0, 1.235, 2.0]  # to the millisecond


def test_windows_of_a_clip_task_are_listed_where_there_are_several(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling, "LONGEST", 3.0)  # in place of five minutes
    sound(tmp_path / "in/short.wav", 2.0)
    sound(tmp_path / "in/long.wav", 4.0, 1)
    said: list[str] = []
    out = tmp_path / "out"
    asked = PredictOptions(probabilities="npy")
    done = predict(folders["gender"], [tmp_path / "in"], out, asked, say=said.append)
    assert said[0].startswith("[1/2] long: done, 0.07 min, ")  # segments are not what it gives
    assert written(out) == [
        "long.probabilities.npy", "long.windows.csv", "prediction.json", "predictions.csv",
        "short.probabilities.npy",
    ]  # fmt: skip
    rows = [*csv.DictReader((out / "long.windows.csv").open())]
    assert [(r["start"], r["end"]) for r in rows] == [("0.000", "3.000"), ("1.000", "4.000")]
    assert np.load(out / "long.probabilities.npy").shape == (2, 4) and not done.notices
    assert origin(out)["formats"] == []
    # A result that lacks what is asked for now is made again; one that has it is not.
    with_parquet = predict(
        folders["gender"], [tmp_path / "in/short.wav"], out, PredictOptions(probabilities="parquet")
    )
    assert with_parquet.again == 0 and (out / "short.probabilities.parquet").exists()
    assert not (out / "short.probabilities.npy").exists()  # of the result before
    assert predict(folders["gender"], [tmp_path / "in/short.wav"], out).again == 1


def test_a_header_that_promises_more_is_told(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sound(tmp_path / "home.wav", 2.0)
    for promised, told in ((2.99, False), (3.01, True)):
        monkeypatch.setattr(making, "seconds_of", lambda recording, s=promised: s)
        out = tmp_path / f"out{promised}"
        done = predict(folders["vtc"], [path], out)
        line = (
            f"home: 2.0 s could be read of the {promised:.1f} s that its header promises: compare "
            "it with the original"
        )
        assert done.notices == ([line] if told else []), promised
        assert origin(out)["notices"] == done.notices


def test_results_of_other_options_are_told_and_in_no_table(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        sound(tmp_path / f"{name}.wav", 1.0, len(name))
    out, both = tmp_path / "out", [tmp_path / "one.wav", tmp_path / "two.wav"]
    first = predict(folders["vtc"], both, out, PredictOptions(thresholds={"KCHI": 0.0}))
    assert first.notices == []
    (out / "mine.csv").write_text("x")
    second = predict(folders["vtc"], both[:1], out, PredictOptions(thresholds={"KCHI": 1.0}))
    assert second.made_by != first.made_by and second.notices == [
        f"1 recording in {out}: of another model or other options, and in none of its tables"
    ]
    uids = {row["recording"] for row in csv.DictReader((out / "summary.csv").open())}
    assert uids == {"one"}
    about = json.loads((out / "prediction.json").read_text())
    about["tables"] |= {"scores.csv": "another", "gone.csv": "another"}
    (out / "prediction.json").write_text(json.dumps(about))
    (out / "scores.csv").write_text("old")
    third = predict(folders["vtc"], both[:1], out, PredictOptions(thresholds={"KCHI": 1.0}))
    assert third.notices[1:] == [
        f"scores.csv in {out}: of an earlier model or other options, and left as it was"
    ]
    assert origin(out)["tables"] == {
        "vtc.csv": second.made_by, "summary.csv": second.made_by, "scores.csv": "another",
    }  # fmt: skip


def test_a_corpus_that_says_anew_when_it_began_draws_its_tables_anew(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    path = str(sound(tmp_path / "home.wav", 1.0))
    asked = PredictOptions(formats=["eaf"], probabilities="npy", timeline=["svg"])
    maker = Maker(folders["vtc"], asked, tmp_path / "out")
    (tmp_path / "out").mkdir()

    def result(began: str) -> Made:
        recording = Recording("home", path, began=began)
        return maker.finish(maker.hear(recording, lambda seconds: None, lambda: False))

    first = result("2024-05-06T07:00:00")
    assert not first.again and first.done.written == ("eaf", "npy", "svg")
    assert set(first.done.files) == {"home.eaf", "home.probabilities.npy", "home.svg"}
    assert (first.done.began, first.done.start, first.done.end) == (
        "2024-05-06T07:00:00",
        0.0,
        None,
    )
    place = maker.results.place("home")
    before = place.stat().st_mtime_ns
    assert result("2024-05-06T07:00:00").again and place.stat().st_mtime_ns == before
    (tmp_path / "out/home.svg").unlink()
    (tmp_path / "out/home.eaf").write_text("by hand")
    later = result("2024-05-06T09:30:00")
    assert later.again and later.done.began == "2024-05-06T09:30:00"
    assert (tmp_path / "out/home.svg").exists()  # both say when it began: they are written anew
    assert (tmp_path / "out/home.eaf").read_text() != "by hand"
    assert later.done.written == ("eaf", "npy", "svg")
    kept = maker.results.find("home")
    assert kept == later.done


def test_one_part_of_the_recordings_writes_no_table(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    for i in range(3):
        sound(tmp_path / f"in/{i}.wav", 1.0, i)
    out = tmp_path / "out"
    one = predict(folders["vtc"], [tmp_path / "in"], out, shard=Shard(1, 2))
    assert 0 < len(one.files) < 3
    assert written(out) == sorted(f"{name}.rttm" for name in one.files)
    assert (out / ".bab/shards/1-of-2").is_dir()
    rest = predict(folders["vtc"], [tmp_path / "in"], out)
    assert rest.again == len(one.files) and len(rest.files) == 3 and (out / "vtc.csv").exists()


def test_texts_have_a_table_of_times(folders: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(folders["asr"], [sound(tmp_path / "a.wav", 1.0)], out)
    assert "asr.times.csv" in written(out) and not (out / "summary.csv").exists()


def test_enrolments_are_no_recordings(folders: dict[str, Path], tmp_path: Path) -> None:
    sound(tmp_path / "in/x.wav", 1.0, 1)
    sound(tmp_path / "voices/ann/1.wav", 1.0, 2)
    sound(tmp_path / "voices/bob.wav", 1.0, 3)
    out = tmp_path / "out"
    asked = PredictOptions(enrol=tmp_path / "voices")
    done = predict(folders["sv"], [tmp_path / "in"], out, asked)
    assert done.files == {"x": 1.0}
    rows = [*csv.reader((out / "scores.csv").open())]
    assert rows[0] == ["enrolled", "recording", "score"]
    assert [row[:2] for row in rows[1:]] == [["ann", "x"], ["bob", "x"]]
    assert [f["name"] for f in origin(out)["files"]] == [".enrolled/ann/1", ".enrolled/bob", "x"]
    again = predict(folders["sv"], [tmp_path / "in"], out, asked)
    assert again.again == 3  # enrolled ones have names of their own, which stay
    (tmp_path / "voices/bob.wav").write_bytes(b"RIFF")
    left = predict(folders["sv"], [tmp_path / "in"], out, asked).left
    assert list(left) == [str(tmp_path / "voices/bob.wav")]


def test_tables_are_written_now_and_then(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty seconds after the last time, or twenty times what that took."""
    work: Any = module._Work(
        Maker(folders["vtc"], PredictOptions(), tmp_path), "x",
        [Recording(name, f"/{name}.wav") for name in "abcd"],
        lambda *told: None, lambda line: None, lambda: False,
    )  # fmt: skip
    clock, count = [1000.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    work._written, work._pause = 1000.0, 20.0
    work.lengths = dict.fromkeys("abcd", 1.0)
    write = work._write_tables

    def slow() -> None:
        count.append(clock[0])
        monkeypatch.setattr(work, "_write_origin", lambda: clock.__setitem__(0, clock[0] + 3.0))
        write()

    work._write_tables = slow
    for name, at in (("a", 1020.0), ("b", 1020.1), ("c", 1083.1), ("d", 1083.2)):
        clock[0] = max(clock[0], at)
        work._take(Recording(name), Answer(None, "why"))
    assert count == [1020.1, 1083.2]
    assert work.done == 4.0 and work.result.left == dict.fromkeys("abcd", "why")
    work.whole = False
    clock[0] += 1e6
    work._take(Recording("a"), Answer(None, "why"))
    assert len(count) == 2


def test_what_auto_rounds_is_told_once(folders: dict[str, Path], tmp_path: Path) -> None:
    maker: Any = SimpleNamespace(asked=PredictOptions(), precision="bf16")
    work: Any = SimpleNamespace(maker=maker, result=Predicted(tmp_path))
    work._notice = lambda line: module._Work._notice(work, line)
    for _ in range(2):
        module._Work._tell_rounded(work)
    assert work.result.notices == [
        "computed in bf16: faster, and shown to leave scores of this encoder and task within .002; "
        "--precision fp32 rounds nothing"
    ]
    for asked, precision in (
        (PredictOptions(), "fp32"),
        (PredictOptions(precision="bf16"), "bf16"),
    ):
        work.maker, work.result = (
            SimpleNamespace(asked=asked, precision=precision),
            Predicted(tmp_path),
        )
        module._Work._tell_rounded(work)
        assert work.result.notices == []
    module._Work._notice(work, "")
    assert work.result.notices == []


def test_which_files_may_be_a_recordings(tmp_path: Path) -> None:
    work: Any = SimpleNamespace(lengths={"home.1": 1.0, "a": 1.0})
    of = {
        f: module._Work._of_one(work, f)
        for f in ("home.1.rttm", "home.rttm", "a.x.y.npy", "a", "b.a")
    }
    assert of == {
        "home.1.rttm": True,
        "home.rttm": False,
        "a.x.y.npy": True,
        "a": False,
        "b.a": False,
    }
    (tmp_path / "x.csv").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "folder").mkdir()
    files = module._files(tmp_path)
    assert list(files) == ["x.csv"]
    (tmp_path / "x.csv").unlink()
    (tmp_path / "x.csv").write_text("y")
    assert module._files(tmp_path) != files


def test_an_earlier_folder_goes_on_in_its_precision(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    saved = load_saved(folders["vtc"])
    given = {"weights": saved.digest, "device": "cpu", "precision": "bf16"}
    for changes, before in (({}, "bf16"), ({"weights": "x"}, ""), ({"device": "cuda"}, "")):
        (tmp_path / "prediction.json").write_text(json.dumps(given | changes))
        assert making._before(tmp_path, saved, "cpu") == before
    for text in ("{", "[]", "{}"):
        (tmp_path / "prediction.json").write_text(text)
        assert making._before(tmp_path, saved, "cpu") == ""
    assert making._before(tmp_path / "none", saved, "cpu") == ""


def test_results_are_found_by_model_and_options_wherever_they_lie(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    def made_by(task: str = "vtc", **asked: Any) -> str:
        return Maker(folders[task], PredictOptions(**asked), tmp_path).made_by

    plain = made_by()
    assert plain == made_by(formats=["eaf"]) == made_by(probabilities="npy") and len(plain) == 24
    others = {
        made_by(preset="high-precision"),
        made_by(thresholds={"KCHI": 0.31}),
        made_by(overlap=0.5),
    }
    assert len({plain, *others, made_by("gender")}) == 5
    maker = Maker(folders["vtc"], PredictOptions(), tmp_path)
    keys = {
        maker._key(Recording("a", "/a", start, end), digest)
        for start, end, digest in (
            (0.0, None, "x"),
            (1.0, None, "x"),
            (0.0, 1.0, "x"),
            (0.0, None, "y"),
        )
    }
    assert len(keys) == 4
    assert maker._key(Recording("a", "/a"), "x") == maker._key(Recording("b", "/b"), "x")

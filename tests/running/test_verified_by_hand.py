"""Written predictions read again, and how a difference is told: table by table, word by word."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from bab.core.errors import BabError
from bab.core.types import Clip, Prediction, Segment
from bab.running import verify as module
from bab.running.verify import Verdict, verify


def clip(name: str) -> Clip:
    return Clip(name, f"{name}.wav", 0.0, 9.0, "g")


def task(level: str, **more: Any) -> Any:
    return SimpleNamespace(level=level, **more)


@pytest.mark.parametrize(
    ("said", "now", "lines"),
    [
        ({"a": 0.5}, {"a": 0.5 + 4e-7}, []),
        ({"a": 0.5}, {"a": 0.5 + 2e-6}, ["a is 0.5 in the record, its predictions give 0.500002"]),
        ({"a": 1e6}, {"a": 1e6 + 0.9}, []),
        ({"a": math.nan}, {}, []), ({"a": math.nan}, {"a": math.nan}, []),
        ({"a": 1.0}, {}, ["a is 1 in the record, its predictions give nan"]),
        ({"b": 0.25}, {"a": 1.0, "b": 0.5},
         ["b is 0.25 in the record, its predictions give 0.5",
          "a is nan in the record, its predictions give 1"]),
        ({"a": 0.0}, {"a": 9e-7}, []), ({"a": 0.0}, {"a": 2e-6}, [
            "a is 0 in the record, its predictions give 2e-06"]),
    ],
)  # fmt: skip
def test_how_scores_differ(said: Any, now: Any, lines: list[str]) -> None:
    assert list(module._differing(said, now, "f1")) == [f"f1: {line}" for line in lines]


def test_scores_of_any_depth_have_one_name_each() -> None:
    deep = {"home": {"f1": 0.5, "by": {"x": 1.0}}, "all": 2.0}
    assert module._flat(deep) == {"home, f1": 0.5, "home, by, x": 1.0, "all": 2.0}
    assert module._numbered([0.5, 0.6]) == {"group 1": 0.5, "group 2": 0.6}
    assert module._ends({"f1": (0.1, 0.2), "g": (1.0, 2.0)}) == {
        "f1's interval from": 0.1, "f1's interval to": 0.2, "g's interval from": 1.0,
        "g's interval to": 2.0,
    }  # fmt: skip


def test_predictions_as_they_were_written(tmp_path: Path) -> None:
    clips = [clip("a"), clip("b")]
    (tmp_path / "vtc.csv").write_text(
        "uid,start_time_s,duration_s,label\na,0.100,0.200,X\nz,1.000,0.500,Y\na,2.000,1.000,Y\n"
    )
    assert module._predictions(task("frame"), tmp_path, clips) == [
        Prediction("a", (Segment(0.1, 0.3, "X"), Segment(2.0, 3.0, "Y"))), Prediction("b"),
        Prediction("z", (Segment(1.0, 1.5, "Y"),)),
    ]  # fmt: skip
    (tmp_path / "vtc.csv").write_text("id,hypothesis\na,'=one\nb,two three\n")
    assert module._predictions(task("sequence"), tmp_path, clips) == [
        Prediction("a", text="=one"), Prediction("b", text="two three"),
    ]  # fmt: skip
    (tmp_path / "vtc.csv").write_text(
        "id,age,age=x,age=y,mood,mood=z,notice\na,x,0.75,0.25,z,1,n\nb,y,0,1,z,1,n\n"
    )
    first, second = module._predictions(task("clip"), tmp_path, clips)
    assert first.labels == {"age": "x", "mood": "z"} and second.labels["age"] == "y"
    assert first.scores == {"age=x": 0.75, "age=y": 0.25, "mood=z": 1.0} and first.id == "a"
    for level in ("clip", "sequence"):
        with pytest.raises(BabError) as error:
            module._predictions(task(level), tmp_path, [*clips, clip("c"), clip("d")])
        assert str(error.value) == f"{tmp_path} holds no prediction of 'c'"
    (tmp_path / "more.csv").write_text("id,age,age=x\nc,x,1\n")
    assert len(module._predictions(task("clip"), tmp_path, [*clips, clip("c")])) == 3
    (tmp_path / "more.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(BabError, match=r"more\.csv: can't be read as a table \("):
        module._predictions(task("clip"), tmp_path, clips)
    with pytest.raises(BabError) as error:
        module._predictions(task("clip"), tmp_path / "none", clips)
    told = "holds no predictions: run again with --force"
    assert str(error.value) == f"{tmp_path / 'none'} {told}"


def test_trials_are_rated_as_they_were_written(tmp_path: Path) -> None:
    rated: list[Any] = []

    def rate(same: Any, scores: Any) -> dict[str, float]:
        rated.append((same.tolist(), scores.tolist()))
        assert same.dtype == bool and isinstance(scores, np.ndarray)
        return {"eer": 5.0}

    path = tmp_path / "trials.tsv"
    path.write_text("same\tenrol\ttest\tscore\n1\ta\tb\t0.5\n0\ta\tc\t-0.25\n")
    assert module._of_trials(task("pair", rate=rate), tmp_path) == {"eer": 5.0}
    assert rated == [([True, False], [0.5, -0.25])]
    for text in ("same\n1\ta\tb\n", "same\n1\ta\tb\tx\n"):
        path.write_text(text)
        with pytest.raises(BabError, match=r"trials\.tsv: can't be read as scored trials \("):
            module._of_trials(task("pair", rate=rate), tmp_path)


def tested(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Any:
    clips = [clip(name) for name in "abcd"]
    suited: list[Any] = []
    asked: list[Any] = []
    corpus = SimpleNamespace(
        clips=lambda split: asked.append(split) or clips,
        provides="p",
        testable=lambda c: c.id != "d",
    )
    opened: list[Any] = []
    monkeypatch.setattr(module, "open_corpus", lambda *given: opened.append(given) or corpus)
    values = {"data": {"skipped": {"b.wav": "cut"}}, "split": "test"} | changes
    config = SimpleNamespace(
        test_corpus=values.get("other"),
        corpus=SimpleNamespace(name="one", root=values.get("root")),
        protocol=values.get("protocol", "given"), offline=True,
    )  # fmt: skip
    kind: Any = SimpleNamespace(suit=suited.append, refuses=lambda c: "no" if c.id == "c" else "")
    held: Any = SimpleNamespace(**{k: values[k] for k in ("data", "split")})
    listed = module._tested(held, cast(Any, config), kind)
    ((named, allowed),) = opened
    assert suited == ["p"] and (allowed.offline, allowed.leakage) == (True, True)
    return [c.id for c in listed], asked, named


def test_the_clips_that_a_run_was_tested_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, asked, named = tested(monkeypatch)
    assert (ids, asked, named.name) == (["a", "d"], ["test"], "one")
    assert tested(monkeypatch, protocol="kfold")[:2] == (["a"], [None])
    assert tested(monkeypatch, other="another")[2] == "another"
    none = {"skipped": None, "test": {"clips": 3}}
    assert tested(monkeypatch, data=none)[0] == ["a", "b", "d"]
    for root, where in ((None, "the sample"), ("/x", "/x")):
        with pytest.raises(BabError) as error:
            tested(monkeypatch, data={"test": {"clips": 5}}, root=root)
        assert str(error.value) == (
            f"its corpus one ({where}) has 3 clips to test on, and had 5 when the run was made"
        )


def test_files_beside_a_table_say_what_it_does(tmp_path: Path) -> None:
    def write(predictions: Any, folder: Path) -> None:
        for one in predictions:
            (folder / f"{one}.rttm").write_text(f"of {one}")
        (folder / "vtc.csv").write_text("no concern")

    for name, text in (("b", "of b"), ("c", "changed")):
        (tmp_path / f"{name}.rttm").write_text(text)
    frames: Any = task("frame", write=write)
    assert list(module._unlike(frames, ["c", "a", "b"], tmp_path)) == [  # type: ignore[list-item]
        f"predictions: {tmp_path / 'a.rttm'} is gone",
        f"predictions: {tmp_path / 'c.rttm'} isn't what the table beside it says",
    ]
    assert list(module._unlike(task("clip", write=write), ["a"], tmp_path)) == []  # type: ignore[list-item]


def test_a_verdict_on_each_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [
        (tmp_path / "a", True),
        (tmp_path / "b", False),
        (tmp_path / "c", True),
        (tmp_path / "d", True),
    ]
    monkeypatch.setattr(module.records, "runs", lambda root: iter(runs))
    verdicts = {"a": Verdict(tmp_path / "a"), "c": None, "d": Verdict(tmp_path / "d", ("x",))}
    monkeypatch.setattr(module, "_verdict", lambda path: verdicts[path.name])
    told: list[Any] = []
    made = verify(tmp_path, lambda done, total: told.append((done, total)))
    assert made == [verdicts["a"], verdicts["d"]] and told == [(1, 3), (2, 3), (3, 3)]
    assert [v.holds for v in made] == [True, False]
    assert not Verdict(tmp_path, untold="why").holds
    runs[:] = [(tmp_path / "b", False)]
    with pytest.raises(BabError) as error:
        verify(tmp_path)
    assert str(error.value) == f"{tmp_path}: no finished run"


@pytest.mark.parametrize(
    ("status", "sound", "raises", "wrong", "untold"),
    [
        ("done", True, None, ("w",), ""), ("failed", True, None, None, ""),
        ("failed", False, None, (module._UNSOUND,), ""),
        ("done", False, None, (module._UNSOUND, "w"), ""),
        ("done", True, BabError("the corpus"), (), "the corpus"),
        ("done", False, OSError("the disk"), (module._UNSOUND,), "the disk"),
        ("done", True, KeyError("x"), (),
         "it, or a prediction, is damaged, or of another version (KeyError: 'x')"),
    ],
)  # fmt: skip
def test_what_is_said_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, sound: bool, raises: Any,
    wrong: Any, untold: str,
) -> None:  # fmt: skip
    held = SimpleNamespace(status=status)
    asked: list[str] = []
    monkeypatch.setattr(module.records, "look", lambda path: asked.append(path) or (held, sound))

    def compare(folder: Path, record: Any) -> list[str]:
        assert folder == tmp_path and record is held
        if raises is not None:
            raise raises
        return ["w"]

    monkeypatch.setattr(module, "_wrong", compare)
    verdict = module._verdict(tmp_path)
    assert asked == [str(tmp_path / "record.json")]
    assert verdict == (None if wrong is None else Verdict(tmp_path, wrong, untold))

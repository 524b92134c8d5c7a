"""The check of a corpus finds what is wrong, all of it, before a run."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audio_files import cut, sound, write

from bab.core.errors import CorpusError, LeakageError
from bab.core.interfaces import Corpus
from bab.core.types import Clip, Segment, Trial
from bab.data import check
from bab.data.check import Problem, Report, SplitSummary, bad_files, check_corpus, render


class Made(Corpus):
    """A corpus of clips that a test made up."""

    name = "made"

    def __init__(self, root: Path, parts: Mapping[str, list[Clip]]) -> None:
        super().__init__(root, None)
        self.parts = parts
        self.notices = ["2 labels were left out"]

    def splits(self) -> tuple[str, ...]:
        return tuple(self.parts)

    def clips(self, split: str | None = None) -> Iterable[Clip]:
        if split is None:
            return [clip for part in self.parts.values() for clip in part]
        return self.parts[split]


def clip(path: Path, end: float = 2.0, start: float = 0.0, **more: Any) -> Clip:
    name = f"{path.stem}-{start:g}"
    return Clip(name, str(path), start, end, more.pop("group", path.stem), **more)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Good and bad files of 2 s."""
    found = {
        name: write(tmp_path / f"{name}.wav", sound(8000, 2.0, seed=i), 8000)
        for i, name in enumerate(("a", "b", "c", "truncated"))
    }
    cut(found["truncated"], 0.5)
    found["empty"] = tmp_path / "empty.wav"
    found["empty"].touch()
    found["text"] = tmp_path / "text.wav"
    found["text"].write_text("no audio " * 20)
    found["missing"] = tmp_path / "missing.wav"
    found["flac"] = cut(write(tmp_path / "f.flac", sound(8000, 9.0), 8000, "flac"), 0.7)
    bad = sound(8000, 2.0)
    bad[5000] = np.nan
    found["nan"] = write(tmp_path / "nan.wav", bad, 8000, "wav-float")
    found["silent"] = write(tmp_path / "silent.wav", np.zeros((16000, 1)), 8000)
    return found


def kinds(report: Report, fatal: bool) -> list[tuple[str, str]]:
    return [(Path(p.path).stem, p.kind) for p in report.problems if p.fatal == fatal]


def test_every_bad_file_is_found_once(tmp_path: Path, files: dict[str, Path]) -> None:
    everything = [clip(p) for p in files.values()] + [clip(files["text"], 1.5, 0.5)]
    told: list[tuple[int, int]] = []
    corpus = Made(tmp_path, {"train": everything})
    report = check_corpus(corpus, jobs=3, progress=lambda done, total: told.append((done, total)))
    assert report.fatal and report.files == 10
    assert kinds(report, True) == [
        ("truncated", "truncated"),
        ("empty", "empty"),
        ("text", "unsupported"),
        ("missing", "missing"),
        ("f", "truncated"),
        ("nan", "not-finite"),
    ]
    # The truncated file's clip ends after what is left of it.
    assert kinds(report, False) == [("silent", "silent"), ("truncated", "beyond")]
    assert told == [(i, 10) for i in range(1, 11)]
    assert check_corpus(corpus, jobs=1).problems == report.problems


def test_the_quick_look_finds_all_but_what_only_decoding_shows(files: dict[str, Path]) -> None:
    told: list[tuple[int, int]] = []
    clips = [clip(p) for p in files.values()] * 2
    bad = bad_files(clips, lambda done, total: told.append((done, total)))
    names = {"truncated", "empty", "text", "missing", "flac"}
    assert set(bad) == {str(files[name]) for name in names}
    assert all(message.startswith(path) for path, message in bad.items())
    assert told[-1] == (10, 10)


def test_summary_of_each_split(tmp_path: Path, files: dict[str, Path]) -> None:
    segments = (Segment(0.0, 0.5, "KCHI"), Segment(0.25, 1.0, "FEM"), Segment(1.0, 1.5, "KCHI"))
    train = [
        clip(files["a"], segments=segments, scored=((0.0, 0.5), (1.0, 1.5)), voices=("x", "y")),
        clip(files["b"], 1.0, speaker="s1", labels={"gender": "f"}, group="home"),
        clip(files["b"], 2.0, 1.0, speaker="s2", labels={"gender": "f"}, group="home"),
    ]
    report = check_corpus(Made(tmp_path, {"train": train, "test": [clip(files["c"])]}))
    found = report.splits["train"]
    assert (found.recordings, found.clips, found.groups) == (2, 3, 2)
    assert (found.speakers, found.voices) == (2, 2)
    assert found.hours == pytest.approx(4 / 3600)
    assert found.annotated == pytest.approx(3 / 3600)
    assert found.seconds == {"FEM": 0.75, "KCHI": 1.0}
    assert found.counts == {"gender=f": 2}
    assert not report.fatal and report.problems == []
    text = render(report)
    assert "train: FEM 0.8 s, KCHI 1.0 s, gender=f x2" in text
    assert "note: 2 labels were left out" in text
    assert text.endswith("0 errors, 0 warnings: ready to run")
    assert json.loads(json.dumps(report.to_dict()))["splits"]["test"]["clips"] == 1


def test_times_after_the_end_of_the_file(tmp_path: Path, files: dict[str, Path]) -> None:
    late = (Segment(1.0, 1.9, "FEM"), Segment(2.5, 3.25, "KCHI"))
    clips = [
        clip(files["a"], 9.0),  # cut: a warning
        clip(files["b"], 4.0, 3.0),  # nothing to read: fatal
        clip(files["c"], 2.0, segments=late),
        clip(files["silent"], 2.04),  # rounding
    ]
    report = check_corpus(Made(tmp_path, {"train": clips}))
    assert kinds(report, True) == [("b", "beyond")]
    assert kinds(report, False) == [("silent", "silent"), ("a", "beyond"), ("c", "beyond")]
    text = render(report)
    assert "'KCHI' at 2.500 to 3.250 s" in text and "ends at 2.000 s" in text
    assert text.endswith("1 error, 3 warnings: a run would stop")


def test_what_stands_in_two_splits(tmp_path: Path, files: dict[str, Path]) -> None:
    parts = {
        "train": [clip(files["a"], voices=("ann", "bob"))],
        "dev": [clip(files["b"], voices=("bob",))],
        "test": [clip(files["c"], group="a"), clip(files["a"], 2.0, 1.0, group="z")],
    }
    report = check_corpus(Made(tmp_path, parts))
    messages = [p.message for p in report.problems if p.kind == "overlap"]
    assert report.fatal and len(messages) == 3
    assert f"recording '{files['a']}'" in messages[0]
    assert "group 'a'" in messages[1] and "'test'" in messages[1]
    assert "voice 'bob' stands in two splits: 'train'" in messages[2] and "'dev'" in messages[2]


def test_a_corpus_that_refuses_its_own_splits_is_still_checked(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    class Refusing(Made):
        def clips(self, split: str | None = None) -> Iterable[Clip]:
            if split is not None:
                raise LeakageError("voice 'bob' stands in two splits")
            return super().clips(None)

    report = check_corpus(Refusing(tmp_path, {"train": [clip(files["text"])], "dev": []}))
    assert [p.kind for p in report.problems] == ["split", "unsupported"]
    assert report.files == 1 and report.fatal


def test_a_trial_list_that_cannot_be_read_is_a_warning(files: dict[str, Path]) -> None:
    class Spoken(Made):
        provides = frozenset({"speaker"})

        def trials(self, split: str) -> list[Trial]:
            raise CorpusError("trials:8: no audio for 'x'")

    parts = {"train": [clip(files["a"])], "test": []}
    report = check_corpus(Spoken(files["a"].parent, parts))
    (found,) = [p for p in report.problems if p.kind == "trials"]
    assert not found.fatal and "speaker verification would stop: trials:8" in found.message


def test_many_problems_of_a_kind_are_counted_not_listed(tmp_path: Path) -> None:
    clips = [clip(tmp_path / f"{i}.wav") for i in range(50)]
    text = render(check_corpus(Made(tmp_path, {"train": clips})))
    assert "error: missing (50)" in text and "and 30 more" in text
    assert text.count("there is no such file") == 20


@pytest.mark.parametrize(("jobs", "threads"), [(0, 1), (1, 1), (3, 3)])
def test_so_many_files_are_read_at_once(
    tmp_path: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, jobs: int, threads: int
) -> None:
    asked: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, count: int) -> None:
            asked.append(count)
            super().__init__(count)

    monkeypatch.setattr(check, "ThreadPoolExecutor", Pool)
    corpus = Made(tmp_path, {"train": [clip(files["a"]), clip(files["b"])]})
    assert check_corpus(corpus, jobs).problems == [] and asked == [threads]


def test_an_open_sized_wav_is_fine(tmp_path: Path, files: dict[str, Path]) -> None:
    data = bytearray(files["a"].read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 0)
    files["a"].write_bytes(data)
    assert not check_corpus(Made(tmp_path, {"train": [clip(files["a"])]})).fatal


def test_a_label_with_many_values_is_counted_not_listed():
    def part(sessions: range) -> SplitSummary:
        counts = {f"session=s{n:03d}": 2 for n in sessions} | {"sex=f": 300, "sex=m": 100}
        return SplitSummary(400, 400, 1.0, 1.0, 8, 8, 0, {}, counts)

    parts = {"train": part(range(70)), "test": part(range(70, 75))}
    text = render(Report("recanvo", "/r", 400, parts, [], []))
    assert "train: sex=f x300, sex=m x100, session: 70 values" in text
    assert "test: sex=f x300, sex=m x100, session: 5 values" in text


def test_what_is_shown_to_the_letter() -> None:
    one = SplitSummary(2, 13, 1.234, 0.5, 3, 4, 5, {"KCHI": 119.96, "FEM": 120.0}, {"a=x": 2})
    splits = {"train": one, "dev": SplitSummary(1, 1, 100.0, 0.0, 1, 0, 0)}
    problems = [Problem("a.wav", "files", f"file {i}", True) for i in range(30)]
    problems += [Problem("b.wav", "late", f"late {i}", False) for i in range(21)]
    report = Report("made", "there", 3, splits, problems, ["a note"])
    lines = render(report).splitlines()
    assert lines[:2] == ["made: 3 audio files in there", ""]
    at = next(i for i, line in enumerate(lines) if line.startswith("split"))
    assert lines[at : at + 4] == [
        "split  files  clips   hours  annotated h  groups  speakers  voices",
        "train      2     13    1.23         0.50       3         4       5",
        "dev        1      1  100.00         0.00       1         0       0",
        "train: KCHI 120.0 s, FEM 2.0 min, a=x x2",
    ]
    assert "note: a note" in lines and "error: files (30)" in lines and "  file 29" in lines
    assert "warning: late (21)" in lines
    assert lines[-1] == "30 errors, 21 warnings: a run would stop"
    late = [line for line in lines if line.startswith("  late")]
    assert lines[lines.index(late[-1]) + 1] == "  and 1 more"
    fine = Report("made", "there", 3, splits, [Problem("", "late", "late", False)], [])
    assert render(fine).splitlines()[-1] == "0 errors, 1 warning: ready to run"
    shown = [Problem("", "late", f"late {i}", False) for i in range(20)]
    assert "more" not in render(Report("made", "there", 3, splits, shown, []))


def test_ids_are_looked_at_where_there_are_no_splits(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    path = next(iter(files.values()))
    twice = [clip(path), clip(path)]

    class Unsplit(Made):
        def splits(self) -> tuple[str, ...]:
            return ()

    def told(corpus: Corpus) -> list[str]:
        return [p.message for p in check_corpus(corpus).problems if p.kind == "id"]

    one = replace(twice[1], end=1.0)
    (said,) = told(Unsplit(tmp_path, {"": [twice[0], one]}))
    assert "two clips of all have the id" in said and said.endswith(": a run would stop")
    (said,) = told(Made(tmp_path, {"train": [twice[0], one], "dev": []}))
    assert "two clips of train have the id" in said
    assert not told(Made(tmp_path, {"train": twice[:1], "dev": []}))

"""Intervals, frames and split lists of the kit, counted by hand at their borders."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from bab.core.errors import CorpusError, LeakageError
from bab.core.grid import Grid
from bab.core.types import Clip, Output, Segment
from bab.kit import recordings as kit
from bab.kit import segments as times
from bab.kit.faults import Faults

GRID = Grid(1000, 100, 200)  # a frame each 100 ms; cells end at 150, 250, 350 ms ...


def spans(*pairs: tuple[float, float]) -> np.ndarray:
    return np.array(pairs, dtype=float).reshape(-1, 2)


def logits(*shares: float) -> np.ndarray:
    return np.log(np.array(shares) / (1 - np.array(shares))).astype(np.float32)[:, None]


def said(*columns: np.ndarray, clip: Clip | None = None, first: int = 0) -> Output:
    return Output(
        clip or Clip("a", "a.wav", 0.0, 0.65, "g"), np.concatenate(columns, axis=1), first
    )


def test_unions_join_what_touches() -> None:
    assert times.union([(3, 4), (0, 1), (1, 2), (5, 5), (7, 6)]).tolist() == [[0, 2], [3, 4]]
    assert times.union([(0, 9), (1, 2), (3, 4)]).tolist() == [[0, 9]]
    assert times.union([]).shape == (0, 2)


def test_running_measure_and_what_is_covered() -> None:
    two, at = spans((1, 2), (4, 6)), np.array([0, 1, 1.5, 2, 3, 4, 5, 6, 9])
    assert times.inside(two, at).tolist() == [0, 0, 0.5, 1, 1, 1, 2, 3, 3]
    assert times.covers(two, at).tolist() == [0, 1, 1, 0, 0, 1, 1, 0, 0]
    assert times.inside(spans(), at).tolist() == [0] * 9 and not times.covers(spans(), at).any()
    assert times.intersect(two, spans((0, 1.25), (1.5, 5))).tolist() == [
        *([1, 1.25], [1.5, 2], [4, 5])
    ]
    assert times.intersect(two, spans()).shape == times.intersect(spans(), two).shape == (0, 2)


def test_what_is_scored_and_heard() -> None:
    turns = (Segment(0.0, 1.0, "A"), Segment(3.0, 4.0, "B"), Segment(1.0, 2.0, "C"))
    clip = Clip("a", "a.wav", 0.0, 5.0, "g", segments=turns, scored=((1.0, 2.0), (3.5, 9.0)))
    assert times.scored(clip).tolist() == [[1, 2], [3.5, 5]]
    assert times.scored(Clip("a", "a.wav", 1.0, 2.0, "g")).tolist() == [[1, 2]]
    assert [times.heard(clip, name) for name in "ABCD"] == [False, True, True, False]
    assert times.spoken(turns, "B").tolist() == [[3, 4]]


def test_targets_at_the_borders_of_segments() -> None:
    turns = [Segment(0.1, 0.3, "A"), Segment(0.3, 0.4, "B"), Segment(0.2, 0.3, "A")]
    hot = times.multi_hot(turns, np.array([0.0, 0.1, 0.2, 0.3, 0.4]), ("B", "A"))
    assert hot.tolist() == [[0, 0], [0, 1], [0, 1], [1, 0], [0, 0]] and hot.dtype == np.float32
    assert times.multi_hot(turns, np.array([0.1]), ("C",)).tolist() == [[0]]


def test_probabilities_are_exact_at_both_ends() -> None:
    assert times.probabilities(np.array([-1000, 0, 1000])).tolist() == [0, 0.5, 1]
    assert times.probabilities(np.log(np.array([3.0]))) == pytest.approx(0.75)


def turned_on(*shares: float, fill: int = 0, shortest: int = 0, first: int = 0, start: float = 0.0):
    clip = Clip("a", "a.wav", start, start + 0.65, "g")
    marked = times.marked(
        said(logits(*shares), clip=clip, first=first), GRID, {"A": 0.5}, fill, shortest
    )
    return [(s.start, s.end) for s in marked]


def test_frames_become_segments_in_milliseconds() -> None:
    assert turned_on(0.9, 0.1, 0.9, 0.9, 0.1) == [(0.0, 0.15), (0.25, 0.45)]
    assert turned_on(0.1, 0.5, 0.1, 0.1, 0.9) == [(0.15, 0.25), (0.45, 0.65)]
    assert turned_on(0.9, 0.1, 0.9, 0.1, 0.1, start=2.0) == [(2.0, 2.15), (2.25, 2.35)]
    assert turned_on(0.9, 0.1, 0.9, fill=100) == [(0.0, 0.15), (0.25, 0.65)]
    assert turned_on(0.9, 0.1, 0.9, fill=101) == [(0.0, 0.65)]
    assert turned_on(0.1, 0.9, 0.1, shortest=100) == [(0.15, 0.25)]
    assert turned_on(0.1, 0.9, 0.1, shortest=101) == [] == turned_on(0.1, 0.1)
    assert turned_on(0.9, 0.1, 0.9, 0.1, first=1) == [(0.15, 0.25), (0.35, 0.45)]
    both = said(logits(0.9, 0.1), logits(0.1, 0.9))
    told = times.marked(both, GRID, {"A": 0.5, "B": 0.95}, 0, 0)
    assert [(s.start, s.label) for s in told] == [(0.0, "A")]


def test_two_outputs_are_never_joined() -> None:
    parts = [said(logits(0.1, 0.9)), said(logits(0.9, 0.1), clip=Clip("b", "b", 0.65, 1.3, "g"))]
    row = times.Timeline.of(parts, GRID)
    assert row.first.tolist() == [0, 3] and row.frame.tolist() == [1, 1, 0, 1, 1, 0]
    assert row.edges.tolist() == [0, 150, 650, 650, 800, 1300]
    shares = row.row([times.probabilities(p.values[:, 0]) for p in parts])
    assert shares == pytest.approx([0.1, 0.9, -1, 0.9, 0.1, -1])
    begin, end = times.join(row, shares >= 0.5, 1000, 0)
    assert row.edges[begin].tolist() == [150, 650] and row.edges[end].tolist() == [650, 800]


def test_the_last_pause_is_cut_in_its_middle() -> None:
    def cut(*shares: float, frames: int) -> int:
        return times.last_pause(said(logits(*shares)), [0.5], frames)

    assert cut(0.9, 0.1, 0.1, 0.1, 0.9, frames=3) == 2  # frames 1 to 3
    assert cut(0.9, 0.1, 0.1, 0.1, 0.9, frames=4) == 0
    assert cut(0.9, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, frames=2) == 5
    assert cut(0.1, 0.1, 0.1, 0.9, frames=2) == 1 and cut(0.1, 0.1, frames=1) == 1
    assert cut(0.9, 0.5, 0.5, 0.5, 0.9, frames=2) == 0  # the threshold itself is on
    two = said(logits(0.9, 0.1, 0.1), logits(0.1, 0.9, 0.1))
    assert times.last_pause(two, [0.5, 0.95], 1) == 2 and times.last_pause(two, [0.5, 0.5], 2) == 0
    assert times.thresholds_of(("A", "B"), {"thresholds": {"A": 0.3}}) == {"A": 0.3, "B": 0.5}
    assert times.thresholds_of(("A",), {}) == {"A": 0.5}


def test_spans_are_merged_and_cut() -> None:
    merged = kit.merge([(5, 6), (-1, 1), (1, 2), (1.5, 1.7), (9, 12), (12, 13), (3, 3)], 10)
    assert merged == ((0.0, 2), (5, 6), (9, 10))
    turns = [Segment(0, 1, "A"), Segment(1, 2.04, "A"), Segment(1.5, 2.06, "B"), Segment(2, 3, "C")]
    cut, late = kit.cut_to_file(turns, 2.0)
    assert [(s.start, s.end) for s in cut] == [(0, 1), (1, 2), (1.5, 2)] and late == 2
    assert kit.cut_to_file(turns, 3.0) == (tuple(turns), 0) and kit.cut_to_file([], 1) == ((), 0)


def test_names_of_recordings() -> None:
    names = ("raw/a.b.WAV", "c\\d e.mp3", "f.txt", "g", ".wav")
    assert [kit.uri_of(name) for name in names] == ["a.b", "d_e", "f.txt", "g", ""]
    paths = [Path("x/a 1.wav"), Path("y/a_1.FLAC"), Path("z/b.txt")]
    assert kit.audio_by_uri(paths) == {"a_1": paths[:2]}


def test_files_below_a_folder(tmp_path: Path) -> None:
    for name in ("b/2.wav", "a.wav", ".h/x.wav", "b/.y.wav", "b/1.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "b" / "pipe")
    (tmp_path / "b" / "gone").symlink_to(tmp_path / "none")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    files = list(kit.walk(tmp_path))
    names = [path.relative_to(tmp_path).as_posix() for path in files]
    assert names == ["a.wav", "b/1.wav", "b/2.wav", "b/gone"]
    assert kit.under(files, tmp_path, "") == files
    assert kit.under(files, tmp_path, "b") == files[1:]
    for call, said in ((lambda: kit.under(files, tmp_path, "c"), "c: no such folder"),
                       (lambda: list(kit.walk(tmp_path / "d")), "d: no such folder")):  # fmt: skip
        with pytest.raises(CorpusError, match=said):
            call()


def test_split_lists(tmp_path: Path) -> None:
    assert kit.read_split_lists(tmp_path) is None
    (tmp_path / "lists").mkdir()
    (tmp_path / "train.txt").write_text("# homes\n\nraw/a.wav\n  b \n")
    (tmp_path / "lists" / "Val.lst").write_text("c\n")
    (tmp_path / "lists" / "test.csv").write_text("d\n")
    train, dev = tmp_path / "train.txt", tmp_path / "lists" / "Val.lst"
    assert kit.read_split_lists(tmp_path) == {
        "train": {"a": f"{train}:3", "b": f"{train}:4"},
        "dev": {"c": f"{dev}:1"},
    }
    dev.write_text("c\na\n")
    with pytest.raises(LeakageError) as caught:
        kit.read_split_lists(tmp_path)
    where = f"{train}:3 (train) and {dev}:2 (dev)"
    assert str(caught.value) == f"recording 'a' stands in two splits: {where}. Keep it in one."
    faults = Faults()
    assert set(kit.read_split_lists(tmp_path, faults=faults) or {}) == {"train", "dev"}
    with pytest.raises(LeakageError):
        faults.refuse()
    dev.write_text("c\nc\n")
    with pytest.raises(CorpusError, match=r"Val\.lst:2: 'c' is listed already, at .*Val\.lst:1"):
        kit.read_split_lists(tmp_path)
    dev.write_text("# nobody\n")
    with pytest.raises(CorpusError, match=r"Val\.lst: the list is empty"):
        kit.read_split_lists(tmp_path)
    (tmp_path / "dev.txt").write_text("c\n")
    with pytest.raises(CorpusError, match="both list 'dev': keep one"):
        kit.read_split_lists(tmp_path)


def test_lines_and_the_collector(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\ntwo".encode())
    assert list(kit.lines(path)) == [(1, "one\n"), (2, "two")]
    path.write_bytes(b"\xff")
    with pytest.raises(CorpusError, match="can't be read as UTF-8 text"):
        list(kit.lines(path))
    with pytest.raises(CorpusError, match=r"none: can't be read \(No such file"):
        list(kit.lines(tmp_path / "none"))
    assert gc.isenabled()
    with kit.uncollected():
        assert not gc.isenabled()
        with kit.uncollected():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()

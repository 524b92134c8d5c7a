"""Rows of audio by hand: where each stands, what it weighs, when it is told; and where they go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bab.core.grid import Grid
from bab.core.sealed import DamagedError
from bab.core.types import View
from bab.data.rolling import RollingWindow, raster_of
from bab.data.sealed import seal
from bab.predicting import spool as module
from bab.predicting.recordings import Recording
from bab.predicting.spool import Spool, spooling
from bab.predicting.walking import Held, Joined, Rows, Walk, listen

GRID = Grid(100, 10, 20)  # ten frames a second


class Told(Walk):
    """Says of a frame its own number in its window, of a window how many samples it has."""

    def __init__(self, view: View, whole: bool, by_frame: bool, seconds: float = 0.0) -> None:
        super().__init__(raster_of(view, GRID, None, whole), by_frame, seconds, self._said)
        self.passes: list[list[int]] = []  # samples of the windows of each pass

    def _said(self, windows: Sequence[RollingWindow]) -> list[NDArray[np.float32]]:
        self.passes.append([len(one.samples) for one in windows])
        said = []
        for one in windows:
            frames = np.arange(GRID.frames(len(one.samples)), dtype=np.float32)
            kept = frames[slice(*one.keep)] if one.keep else frames
            said.append(kept[:, None] if self.by_frame else np.float32([len(one.samples), 7]))
        return said


def blocks(samples: int, size: int = 55) -> Any:
    def of(skip: int) -> Iterator[NDArray[np.float32]]:
        audio = np.arange(samples, dtype=np.float32)[skip:]
        return iter([audio[i : i + size] for i in range(0, len(audio), size)])

    return of


@pytest.mark.parametrize(
    ("seconds", "batch"), [(0.0, 1), (0.9, 1), (1.0, 1), (1.99, 1), (2.0, 2), (5.5, 5)]
)
def test_a_pass_takes_the_windows_that_fit_into_its_seconds(seconds: float, batch: int) -> None:
    assert Told(View(window=1.0), True, False, seconds).batch == batch


@pytest.mark.parametrize("by_frame", [True, False])
def test_a_model_that_says_nothing_of_a_window_is_no_model(by_frame: bool) -> None:
    walk = Told(View(window=1.0), True, by_frame, seconds=2.0)
    say = walk.say
    walk.say = lambda heard: say(heard)[1:]
    with pytest.raises(ValueError, match="shorter"):
        list(walk.rows(blocks(250)))


def test_rows_of_windows_say_where_they_are_and_for_how_many_frames() -> None:
    walk = Told(View(window=1.0), whole=True, by_frame=False)
    told = list(walk.rows(blocks(250)))
    # Nine frames fit a window: the next begins 90 samples on; the last is moved back to the end.
    places = [(0, 100, 9), (90, 100, 9), (150, 100, 6)]
    assert [tuple(r.values[0, :3]) for r in told] == places
    assert [r.values[0, 3:].tolist() for r in told] == [[100, 7]] * 3
    assert [(r.first, r.seconds) for r in told] == [(0, 1.0), (1, 1.9), (2, 2.5)]
    assert all(r.values.dtype == np.float64 for r in told)
    later = [r for r in walk.rows(blocks(250), 2) if len(r.values)]
    assert [(r.first, r.seconds, tuple(r.values[0, :3])) for r in later] == [(2, 2.5, places[2])]
    together = Told(View(window=1.0), True, False, seconds=2.0)
    assert [(r.first, len(r.values), r.seconds) for r in together.rows(blocks(250))] == [
        (0, 2, 1.9), (2, 1, 2.5),
    ]  # fmt: skip
    again = list(together.rows(blocks(250), 1))
    assert [(r.first, len(r.values), r.seconds) for r in again] == [(1, 1, 1.9), (2, 1, 2.5)]


def test_windows_of_another_length_are_a_pass_of_their_own() -> None:
    walk = Told(View(window=1.0, hop=1.0, tail="short"), True, False, seconds=8.0)
    rows = list(walk.rows(blocks(350)))
    assert walk.passes == [[100, 100, 100], [80]]  # their frames tile: a step is 90 samples
    assert [(r.first, len(r.values), r.seconds) for r in rows] == [(0, 3, 2.8), (3, 1, 3.5)]
    assert rows[1].values[0, :3].tolist() == [270, 80, 7]  # 80 samples hold seven frames


def test_frames_are_said_in_order_and_final_before_the_end() -> None:
    walk = Told(View(window=1.0), whole=True, by_frame=True)
    told = list(walk.rows(blocks(250)))
    values = np.concatenate([r.values for r in told if len(r.values)])[:, 0].tolist()
    assert values == [*range(9), *range(9), 3, 4, 5, 6, 7, 8]
    assert [(r.first, len(r.values), r.seconds) for r in told] == [
        (0, 9, 1.0), (9, 9, 1.9), (18, 6, 2.5), (24, 0, 2.5),
    ]  # fmt: skip


def test_frames_of_overlapping_windows_wait_for_those_that_speak_of_them_too() -> None:
    walk = Told(View(window=1.0, hop=0.5), whole=False, by_frame=True)
    told = list(walk.rows(blocks(250)))
    values = np.concatenate([r.values for r in told if len(r.values)])[:, 0]
    # Window w says k of frame 5 w + k: the mean of what each of them says.
    said: list[list[int]] = [[] for _ in range(24)]
    for begin in (0, 5, 10, 15):
        for k in range(9):
            said[begin + k].append(k)
    assert values.tolist() == pytest.approx([np.mean(one) for one in said])
    assert told[-1].first == 24 and told[-1].seconds == 2.5 and not len(told[-1].values)
    # What the last window, moved back to the audio's end as far as it is known, may speak of waits.
    assert [(r.first, len(r.values), r.seconds) for r in told] == [
        (0, 1, 1.0), (1, 5, 1.5), (6, 6, 2.0), (12, 3, 2.5), (15, 9, 2.5), (24, 0, 2.5),
    ]  # fmt: skip


def test_of_nothing_there_is_no_row() -> None:
    walk = Told(View(window=1.0), whole=True, by_frame=True)
    (only,) = walk.rows(blocks(0))
    assert (only.first, len(only.values), only.seconds) == (0, 0, 0.0)
    assert list(Told(View(window=1.0), True, False).rows(blocks(0))) == []


def test_each_walk_is_told_as_its_share_and_goes_on_from_its_sink() -> None:
    sound = Recording("a", array=np.zeros(250, np.float32), rate=100)
    walks = [Told(View(window=1.0), True, False), Told(View(window=1.0), True, False)]
    sinks, told = [Held(), Held()], list[float]()
    assert listen(walks, sound, sinks, told.append) == 2.5
    assert told == [0.5, 0.95, 1.25, 1.25 + 0.5, 1.25 + 0.95, 2.5]
    assert [sink.done for sink in sinks] == [3, 3]
    (rows,) = sinks[1].read()
    assert rows[:, 0].tolist() == [0, 90, 150]
    told.clear()
    assert listen(walks[:1], sound, sinks[:1], told.append) == 2.5 and sinks[0].done == 3
    frames = Held()
    assert listen([Told(View(window=1.0), True, True)], sound, [frames], told.append) == 2.5
    assert frames.done == 24 and list(Held().read()) == [] and Held().done == 0


def test_what_is_final_isnt_changed_by_what_comes() -> None:
    joined = Joined(3)
    joined.add(1, np.array([[1.0], [2.0], [3.0], [4.0]], np.float32))  # frames 1 and 2 are final
    assert [r.values.tolist() for r in joined.final(4, 0.5)] == [[[3.0]]]
    joined.add(0, np.array([[9.0]] * 4, np.float32))  # all of them are
    joined.add(6, np.array([[8.0]], np.float32))
    joined.add(5, np.array([[5.0], [6.0]], np.float32))
    assert list(joined.final(4, 1.0)) == [] and list(joined.final(0, 1.0)) == []
    (rest,) = joined.final(99, 1.5)
    assert (rest.first, rest.values.tolist(), rest.seconds) == (4, [[4.0], [5.0], [7.0]], 1.5)
    assert rest.values.dtype == np.float32 and joined.first == 7


def rows(low: int, high: int, seconds: float) -> Rows:
    return Rows(low, np.arange(low, high, dtype=np.float32)[:, None], seconds)


def files(spool: Spool) -> list[str]:
    return sorted(path.name for path in spool.folder.glob("*"))


def test_a_stretch_is_written_after_ten_minutes_of_audio(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a")
    spool.add(rows(0, 10, 599.9))
    assert files(spool) == [] and spool.on_disk == 0 and spool.done == 10
    spool.add(rows(10, 12, 600.0))
    assert files(spool) == ["rows-000000000000.npy"] and spool.on_disk == spool.done == 12
    spool.add(rows(12, 13, 1199.9))  # the next is due ten minutes after
    assert spool.on_disk == 12
    spool.add(rows(13, 14, 1200.0))
    assert files(spool)[1:] == ["rows-000000000012.npy"] and spool.on_disk == 14
    assert [part[:, 0].tolist() for part in spool.read()] == [list(range(12)), [12, 13]]


def test_a_stretch_is_written_where_it_is_large_or_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BYTES", 100)
    large = Spool(tmp_path / "large")
    large.add(rows(0, 24, 1.0))
    assert large.on_disk == 0  # 96 bytes
    large.add(rows(24, 25, 2.0))
    assert large.on_disk == 25
    large.add(rows(25, 49, 2.0))
    assert large.on_disk == 25  # it is counted from nothing again
    monkeypatch.setattr(module, "_BYTES", 10**9)
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    late = Spool(tmp_path / "late")
    now[0] = 109.9
    late.add(rows(0, 1, 1.0))
    assert late.on_disk == 0
    now[0] = 110.0
    late.add(rows(1, 2, 1.0))
    assert late.on_disk == 2
    now[0] = 119.0
    late.add(rows(2, 3, 1.0))
    assert late.on_disk == 2
    late.flush()
    late.flush()  # nothing waits
    assert files(late) == ["rows-000000000000.npy", "rows-000000000002.npy"]


@pytest.mark.parametrize(
    "held",
    [np.zeros(3, np.float32), np.zeros((3, 1), np.float16), np.zeros((3, 1), np.int64), b"junk"],
)
def test_a_stretch_that_holds_no_rows_is_made_again(tmp_path: Path, held: Any) -> None:
    path = tmp_path / "rows-000000000000.npy"
    if isinstance(held, bytes):
        path.write_bytes(seal(held))
    else:
        with path.open("wb") as file:
            np.save(file, held)
        path.write_bytes(seal(path.read_bytes()))
    assert Spool(tmp_path).done == 0 and not path.exists()


def test_a_stretch_that_is_damaged_while_it_is_read_is_named(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.add(rows(0, 3, 1.0))
    spool.flush()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError) as error:
        list(spool.read())
    assert str(error.value) == f"{path} is damaged: the same command makes it again"


def test_what_came_is_kept_whatever_stops_it(tmp_path: Path) -> None:
    spools = [Spool(tmp_path / "a"), Spool(tmp_path / "b")]
    with spooling(spools):
        spools[0].add(rows(0, 1, 1.0))
    assert spools[0].on_disk == 0  # all went well: nothing needs to be kept
    with pytest.raises(KeyboardInterrupt), spooling(spools):
        spools[1].add(rows(0, 2, 1.0))
        raise KeyboardInterrupt
    assert [spool.on_disk for spool in spools] == [1, 2]

"""Windows and crops: they cover, they tile, they carry the right segments."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from bab.core.grid import Grid
from bab.core.types import Clip, Segment, View
from bab.data.windows import Cutter, Examples, raster, regions, samples_of

GRID = Grid(16000, 320, 400)


def clip(start: float, end: float, segments: tuple[Segment, ...] = (), scored=None) -> Clip:
    return Clip("home", "home.wav", start, end, "home", segments=segments, scored=scored)


def covered(region: Clip, view: View, max_seconds: float | None = None) -> list[int]:
    """How many windows speak of each frame of the region's raster."""
    first = samples_of(region, GRID.sample_rate)[0]
    counts: dict[int, int] = {}
    for window in raster(region, view, GRID, max_seconds):
        at, length = samples_of(window, GRID.sample_rate)
        assert (at - first) % GRID.hop == 0
        for frame in range(GRID.frames(length)):
            index = (at - first) // GRID.hop + frame
            counts[index] = counts.get(index, 0) + 1
    return [counts.get(i, 0) for i in range(max(counts) + 1)]


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 50), st.floats(0.03, 60), st.floats(0.5, 12))
def test_every_frame_of_a_region_is_spoken_of(start: float, duration: float, window: float) -> None:
    region = clip(start, start + duration)
    counts = covered(region, View(window=window))
    assert min(counts) >= 1
    total = samples_of(region, GRID.sample_rate)[1]
    # The windows reach to within one hop of the end of the region.
    assert GRID.frames(total) - len(counts) <= 1


def test_windows_tile_as_babyhubert_does() -> None:
    windows = raster(clip(0, 40 * 3.98 + 0.02), View(window=4.0), GRID, None)
    starts = [samples_of(w, 16000)[0] for w in windows]
    assert starts == [i * 63680 for i in range(40)]  # 3.98 s, 199 frames of 20 ms
    assert {samples_of(w, 16000)[1] for w in windows} == {64000}


def test_hop_gives_overlap_and_never_a_gap() -> None:
    region = clip(0, 60)
    assert min(covered(region, View(window=4.0, hop=0.98))[150:-150]) == 4  # 199 frames, every 49
    assert min(covered(region, View(window=4.0, hop=9.0))) >= 1


def test_a_short_region_is_one_window_and_an_encoder_limit_cuts() -> None:
    assert raster(clip(1, 2.5), View(window=4.0), GRID, None) == [clip(1, 2.5)]
    assert len(raster(clip(0, 90), View(), GRID, 30.0)) == 4
    assert raster(clip(5, 5), View(), GRID, None) == []


def test_regions_are_the_annotated_spans_with_their_segments() -> None:
    segments = (Segment(0, 100, "FEM"), Segment(12, 13, "KCHI"), Segment(50, 60, "MAL"))
    found = regions([clip(0, 100, segments, ((10.0, 20.0), (55.0, 70.0)))])
    assert [(r.start, r.end) for r in found] == [(10, 20), (55, 70)]
    assert [[s.label for s in r.segments] for r in found] == [["FEM", "KCHI"], ["FEM", "MAL"]]
    assert all(r.id == "home" and r.scored is None for r in found)
    none = clip(0, 100, segments, ((10.0, 10.0), (20.0, 21.0)))  # a span of no length is none
    assert [(r.start, r.end) for r in regions([none])] == [(20, 21)]
    some = [clip(0, 5), clip(0, 9, (), ((1.0, 2.0), (3.0, 3.0), (4.0, 6.0))), clip(2, 5)]
    spans = [(0, 5), (1, 2), (4, 6), (2, 5)]  # in the order of the clips; none without length
    assert [(r.start, r.end) for r in regions(some)] == spans


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 30)), max_size=30),
    st.floats(0, 100),
    st.floats(0.01, 20),
)
def test_cutting_finds_what_a_full_search_finds(spans, start: float, length: float) -> None:
    segments = tuple(Segment(s, s + d, str(i)) for i, (s, d) in enumerate(sorted(spans)))
    found = Cutter(clip(0, 200, segments)).cut(start, start + length).segments
    expected = {s for s in segments if s.start < start + length and s.end > start}
    assert set(found) == expected


def test_crops_stay_inside_on_the_raster_and_depend_on_the_seed_alone() -> None:
    region = clip(3.0, 63.0)
    examples = Examples([region], View(window=4.0, crop=True), GRID, None)
    seen = set()
    for epoch in range(200):
        crop = examples.moved(2, (0, "crop", epoch)).clip
        at, length = samples_of(crop, 16000)
        assert length == 64000 and (at - 48000) % 320 == 0
        assert region.start <= crop.start and crop.end <= region.end + 1e-9
        seen.add(at)
    assert len(seen) > 150
    again = Examples([region], View(window=4.0, crop=True), GRID, None)
    assert again.moved(2, (0, "crop", 7)) == examples.moved(2, (0, "crop", 7))
    assert examples.moved(2, (1, "crop", 7)) != examples.moved(2, (0, "crop", 7))


def whole(region: Clip, view: View, max_seconds: float | None = None) -> Examples:
    return Examples([region], view, GRID, max_seconds, whole=True)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.03, 100), st.floats(1, 30), st.one_of(st.none(), st.floats(0.2, 5)))
def test_a_whole_clip_has_each_frame_once(duration: float, limit: float, hop: float | None) -> None:
    (item,) = whole(clip(0, duration), View(hop=hop), limit).items
    indices = []
    for window in item.windows:
        at, length = samples_of(window.clip, 16000)
        first, last = window.keep or (0, GRID.frames(length))
        indices += [at // GRID.hop + i for i in range(first, last)]
    assert indices == list(range(len(indices)))
    assert len(indices) == whole(clip(0, duration), View(), limit).frames(item)


def test_windows_that_are_averaged_keep_all_their_frames() -> None:
    (item,) = whole(clip(0, 5), View(window=2.0, hop=1.0, pool="mean")).items
    assert [w.clip.start for w in item.windows] == [0, 1, 2, 3]
    assert all(w.keep is None for w in item.windows)


def test_context_is_heard_as_far_as_the_file_goes_and_only_the_clip_is_kept(tmp_path) -> None:
    path = tmp_path / "home.wav"
    soundfile.write(path, np.zeros(30 * 16000, dtype=np.float32), 16000)
    region = Clip("u", str(path), 3.0, 5.0, "home")
    (item,) = whole(region, View(context=10.0)).items
    (window,) = item.windows
    assert (window.clip.start, window.clip.end) == (0.0, 15.0)
    first, last = window.keep
    centres = GRID.centres(10**4)
    assert centres[first - 1] < 3.0 <= centres[first] and centres[last - 1] < 5.0 <= centres[last]
    (limited,) = whole(region, View(context=10.0), 6.0).items
    assert limited.windows[0].clip.duration == 6.0
    (late,) = whole(Clip("v", str(path), 28.0, 30.0, "home"), View(context=10.0)).items
    assert (late.windows[0].clip.start, late.windows[0].clip.end) == (18.0, 30.0)


def test_training_cuts_long_clips_at_random_and_leaves_short_ones() -> None:
    long, short = clip(10, 40), clip(0, 5)
    examples = Examples([long, short], View(train_seconds=8.0), GRID, 20.0, whole=True)
    seen = set()
    for epoch in range(50):
        cropped = examples.cropped(0, (epoch,))
        assert cropped.crop[1] - cropped.crop[0] == GRID.frames(8 * 16000)
        assert cropped.crop[0] >= 0 and cropped.crop[1] <= examples.frames(examples.items[0])
        trimmed = examples.trimmed(0, (epoch,))
        assert samples_of(trimmed.clip, 16000)[1] == 8 * 16000
        assert trimmed.clip.start >= 10 and trimmed.clip.end <= 40
        assert len(trimmed.windows) == 1
        seen.add((cropped.crop, trimmed.clip.start))
    assert len(seen) == 50
    assert examples.cropped(1, (0,)) == examples.trimmed(1, (0,)) == examples.items[1]
    unlimited = Examples([long], View(), GRID, 20.0, whole=True)
    assert (
        samples_of(unlimited.trimmed(0, (0,)).clip, 16000)[1] == 320000
    )  # what the encoder takes in
    assert unlimited.cropped(0, (0,)) == unlimited.items[0]  # features have no such limit


def test_every_place_of_a_crop_is_drawn_the_last_one_too() -> None:
    """Three places where there is room for two hops, or two samples; no fourth."""
    rate, hop = GRID.sample_rate, GRID.hop
    seconds = 1.0 + 2 * hop / rate
    frames = Examples([clip(5, 5 + seconds)], View(window=1.0, crop=True), GRID, None)
    moved = {samples_of(frames.moved(0, (i,)).clip, rate) for i in range(60)}
    assert moved == {(5 * rate + place * hop, rate) for place in range(3)}
    view = View(train_seconds=1.0)
    cached = Examples([clip(5, 5 + seconds)], view, GRID, None, whole=True)
    wanted = GRID.frames(rate)
    crops = {cached.cropped(0, (i,)).crop for i in range(60)}
    assert crops == {(place, place + wanted) for place in range(3)}
    heard = Examples([clip(5, 6 + 2 / rate)], view, GRID, None, whole=True)
    trimmed = {samples_of(heard.trimmed(0, (i,)).clip, rate) for i in range(60)}
    assert trimmed == {(5 * rate + place, rate) for place in range(3)}


def test_a_frame_tasks_long_windows_are_cropped_with_their_targets() -> None:
    segments = (Segment(12.0, 40.0, "FEM"),)
    examples = Examples([clip(10, 100, segments)], View(window=30.0, train_seconds=8.0), GRID, None)
    assert examples.rounds().count(0) == 4 and set(examples.rounds()) == set(range(len(examples)))
    item = examples.cropped(0, (3,))
    first, last = item.crop
    assert last - first == GRID.frames(8 * 16000)
    centre = examples.items[0].clip.start + GRID.centre(first)
    assert item.clip.start + GRID.centre(0) == pytest.approx(centre, abs=1e-9)
    assert GRID.frames(samples_of(item.clip, 16000)[1]) == last - first
    assert samples_of(examples.moved(0, (3,)).clip, 16000)[1] == 8 * 16000
    assert item.clip.segments == segments


TEN = Grid(10, 2, 5)  # 10 samples a second: everything can be counted by hand


def cut(total: int, grid: Grid = TEN, begin: int = 0, **view) -> list[tuple[int, int]]:
    """Where windows begin and end, in samples from the start of the file."""
    region = clip(begin / 10, (begin + total) / 10)
    spans = (samples_of(w, 10) for w in raster(region, View(**view), grid, None))
    return [(first, first + length) for first, length in spans]


def test_windows_counted_by_hand() -> None:
    assert cut(20, window=1.0) == [(0, 10), (6, 16), (10, 20)]  # 3 frames: a step of 6
    assert cut(20, begin=3, window=1.0) == [(3, 13), (9, 19), (13, 23)]
    assert cut(16, window=1.0) == [(0, 10), (6, 16)]
    assert cut(17, window=1.0) == [(0, 10), (6, 16)]  # half a hop can't be reached
    assert cut(11, window=1.0) == [(0, 10)] and cut(12, window=1.0) == [(0, 10), (2, 12)]
    assert cut(10, window=1.0) == [(0, 10)] and cut(0, window=1.0) == []
    assert cut(9, window=1.0) == [(0, 9)] and cut(9) == [(0, 9)] and cut(0) == []
    short = {"window": 1.0, "tail": "short"}
    assert cut(20, **short) == [(0, 10), (6, 16), (12, 20)]
    assert cut(17, **short) == [(0, 10), (6, 16), (12, 17)]  # a field: one frame
    assert cut(16, **short) == [(0, 10), (6, 16)]
    assert cut(4, window=0.01) == [(0, 1), (2, 3)]  # at least a sample
    assert cut(14, window=1.0, hop=0.01) == [(0, 10), (2, 12), (4, 14)]  # at least a hop
    assert cut(14, window=1.0, hop=0.4) == [(0, 10), (4, 14)]
    assert cut(20, window=1.0, hop=9.0) == cut(20, window=1.0)
    whole = Grid(10, 0, 5)  # one vector for a window
    assert cut(25, whole, window=1.0) == [(0, 10), (10, 20), (15, 25)]
    assert cut(12, whole, window=1.0, hop=0.04) == [(0, 10), (1, 11), (2, 12)]
    assert cut(14, whole, window=1.0, hop=0.3) == [(0, 10), (3, 13), (4, 14)]


def test_an_encoders_limit_is_the_longest_window() -> None:
    region = clip(0, 2.0)

    def lengths(longest: float | None, **view) -> list[int]:
        return [samples_of(w, 10)[1] for w in raster(region, View(**view), TEN, longest)]

    assert lengths(1.0) == [10, 10, 10] == lengths(1.0, window=1.5)
    assert lengths(1.5, window=1.0) == [10, 10, 10] and lengths(2.0) == [20] == lengths(None)
    assert lengths(1.9) == [19] and lengths(1.8) == [18, 18]


def examples(*totals: int, grid: Grid = TEN, whole: bool = False, longest=None, **view) -> Examples:
    return Examples([clip(0, n / 10) for n in totals], View(**view), grid, longest, whole)


def test_rounds_have_each_window_as_often_as_a_crop_goes_into_it() -> None:
    made = examples(20, 9, 5, window=2.0, train_seconds=0.7)  # of 2 frames
    assert [made.frames(item) for item in made.items] == [8, 3, 1]
    assert made.rounds() == [0, 0, 0, 0, 1, 1, 2]
    assert examples(20, 9, window=2.0).rounds() == [0, 1]
    assert examples(20, 9, whole=True, train_seconds=0.7).rounds() == [0, 1]
    assert examples(20, 9, grid=Grid(10, 0, 5), train_seconds=0.7).rounds() == [0, 1]


def test_crops_counted_by_hand() -> None:
    made = examples(20, 7, window=2.0, train_seconds=0.7)
    crops = [made.cropped(0, (seed,)) for seed in range(60)]
    assert {crop.crop for crop in crops} == {(i, i + 2) for i in range(7)}
    for crop in crops:
        assert samples_of(crop.clip, 10) == (2 * crop.crop[0], 7)
    assert made.cropped(1, (0,)) is made.items[1]  # as many frames as are wanted
    moved = [samples_of(made.moved(0, (seed,)).clip, 10) for seed in range(60)]
    assert set(moved) == {(2 * i, 7) for i in range(7)}
    assert made.moved(1, (0,)) is made.items[1]
    clips = examples(20, whole=True, train_seconds=0.7)
    whole = [clips.cropped(0, (seed,)) for seed in range(60)]
    assert {crop.crop for crop in whole} == {(i, i + 2) for i in range(7)}
    assert all(crop.clip is clips.items[0].clip for crop in whole)
    assert examples(20, whole=True).cropped(0, (0,)).crop is None


def test_long_clips_are_trimmed_to_what_is_taken_in() -> None:
    made = examples(12, 10, whole=True, window=0.8, longest=1.0, train_seconds=2.0)
    starts = {samples_of(made.trimmed(0, (seed,)).clip, 10) for seed in range(60)}
    assert starts == {(0, 10), (1, 10), (2, 10)}
    assert len(made.trimmed(0, (0,)).windows) == 1
    assert samples_of(made.trimmed(1, (0,)).clip, 10) == (0, 10)
    one = examples(10, whole=True, longest=1.0)
    assert one.trimmed(0, (0,)) is one.items[0]
    free = examples(20, whole=True, window=1.0)  # of several windows, and no limit: heard whole
    assert samples_of(free.trimmed(0, (0,)).clip, 10) == (0, 20)


def test_frames_that_two_windows_have_count_once() -> None:
    kept = [w.keep for w in examples(20, whole=True, window=1.0).windows]
    assert kept == [None, None, (1, 3)]  # frames 0-2, 3-5, 5-7
    several = examples(14, whole=True, window=1.0, hop=0.2).windows
    assert [w.keep for w in several] == [None, (2, 3), (2, 3)]
    averaged = examples(14, whole=True, window=1.0, hop=0.2, pool="mean").windows
    assert [w.keep for w in averaged] == [None, None, None]
    assert [w.keep for w in examples(20, window=1.0).windows] == [None, None, None]


def test_context_counted_by_hand(tmp_path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(3000), 1000)

    def heard(start: int, end: int, context: float, longest: float | None = None):
        region = Clip("a", str(path), start / 10, end / 10, "g")
        (item,) = Examples([region], View(context=context), TEN, longest, True).items
        (window,) = item.windows
        first, length = samples_of(window.clip, 10)
        return first, first + length, window.keep

    # Centres of frames: 0.25 s, 0.45 s ... from the start of what is heard.
    assert heard(10, 20, 0.4) == (6, 24, (1, 6))
    assert heard(10, 20, 2.0) == (0, 30, (4, 9))
    assert heard(10, 20, 2.0, longest=1.4) == (8, 22, (0, 5))
    assert heard(10, 20, 2.0, longest=0.9) == (10, 20, (0, 3))
    assert heard(0, 30, 1.0) == (0, 30, (0, 13))
    assert heard(20, 21, 0.5)[2] == (2, 3)  # at least one frame
    assert not Examples([clip(1, 1)], View(context=1.0), TEN, None, True).items

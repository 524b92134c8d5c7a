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

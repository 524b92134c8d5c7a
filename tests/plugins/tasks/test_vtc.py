"""Voice types: targets, decoding and scoring, against brute force and pyannote."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
import pytest
from pyannote.core import Annotation
from pyannote.core import Segment as Span
from pyannote.core import Timeline as Spans
from pyannote.metrics.detection import DetectionPrecisionRecallFMeasure
from pydantic import ValidationError
from vtc_scenes import FBANK, LABELS, SLOW, TASK, W2V, frames_of, noisy, random_segments, recording

from bab.core.errors import CorpusError
from bab.core.grid import Grid
from bab.core.types import Output, Prediction, Segment
from bab.kit.segments import inside, intersect, probabilities, union
from bab.plugins.tasks.vtc import VOICES, VoiceType, VoiceTypeOptions

# --- interval arithmetic ------------------------------------------------------------------------


def test_interval_arithmetic_against_a_fine_raster() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        points = rng.integers(0, 60, (2, 8, 2))
        a, b = (union([(float(x), float(x + d % 9)) for x, d in rows]) for rows in points)
        raster = np.arange(0, 80) + 0.5
        in_a, in_b = (
            np.array([any(s <= t < e for s, e in rows) for t in raster]) for rows in (a, b)
        )
        both = intersect(a, b)
        assert (np.diff(both) > 0).all() and (both[1:, 0] > both[:-1, 1]).all()
        assert np.diff(both).sum() == (in_a & in_b).sum()
        times = np.arange(0, 80, dtype=np.float64)
        wanted = [in_a[: int(t)].sum() for t in times]
        np.testing.assert_allclose(inside(a, times), wanted, atol=1e-12)
    nothing = union([(2.0, 2.0)])
    assert nothing.shape == (0, 2)
    assert intersect(nothing, a).shape == (0, 2)
    assert intersect(a, nothing).shape == (0, 2)
    assert (inside(nothing, times) == 0).all()


# --- labels and targets -------------------------------------------------------------------------


def test_classes_come_in_the_published_order_whatever_the_corpus_says() -> None:
    names = ("FEM", "MAL", "KCHI", "OCH", "SPEECH")
    clips = [recording(tuple(Segment(i, i + 0.5, n) for i, n in enumerate(names)), 9.0)]
    assert TASK.fit(clips) == {"voice": ("KCHI", "OCH", "MAL", "FEM")}
    some = VoiceType(VoiceTypeOptions(classes=("FEM", "KCHI")))
    assert some.fit(clips) == {"voice": ("KCHI", "FEM")}


def test_a_class_without_training_data_is_named() -> None:
    clips = [recording((Segment(0, 1, "FEM"), Segment(1, 2, "KCHI"), Segment(7, 8, "MAL")), 6.0)]
    with pytest.raises(CorpusError, match=r"OCH or MAL .*found: FEM, KCHI, MAL.*\[KCHI, FEM\]"):
        TASK.fit(clips)
    spans = ((0.0, 1.0),)  # KCHI stands outside of the annotated time
    outside = VoiceType(VoiceTypeOptions(classes=("KCHI",)))
    with pytest.raises(CorpusError, match="KCHI"):
        outside.fit([recording(clips[0].segments, 6.0, scored=spans)])


def test_unknown_voices_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ValidationError, match="did you mean 'KCHI'"):
        VoiceTypeOptions(classes=("CHI",))
    with pytest.raises(ValidationError, match="at least one"):
        VoiceTypeOptions(classes=())


@pytest.mark.parametrize("grid", [W2V, FBANK, SLOW], ids=["20ms", "10ms", "100ms"])
@pytest.mark.parametrize("start", [0.0, 1234.5671])
def test_targets_against_brute_force(grid: Grid, start: float) -> None:
    rng = np.random.default_rng(1)
    clip = recording(random_segments(rng, 30, start + 25, start - 2), start + 20.0, start)
    frames = frames_of(grid, clip)
    wanted = np.zeros((frames, 4))
    for t in range(frames):
        centre = start + grid.centre(t)
        for s in clip.segments:
            if s.start <= centre < s.end:
                wanted[t, VOICES.index(s.label)] = 1
    found = TASK.targets(clip, grid, frames, LABELS)
    assert found.dtype.is_floating_point and tuple(found.shape) == (frames, 4)
    np.testing.assert_array_equal(found.numpy(), wanted)
    assert 0 < wanted.mean() < 1


def test_a_segment_that_starts_on_a_centre_counts_and_one_that_ends_there_does_not() -> None:
    centres = W2V.centres(3)
    exact = recording((Segment(centres[1], centres[2], "OCH"), Segment(0.0, 1.0, "NOISE")), 1.0)
    assert TASK.targets(exact, W2V, 3, LABELS)[:, 1].tolist() == [0.0, 1.0, 0.0]
    assert TASK.targets(exact, W2V, 3, LABELS).sum() == 1


# --- decoding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [W2V, FBANK, SLOW], ids=["20ms", "10ms", "100ms"])
@pytest.mark.parametrize("start", [0.0, 3600.1234])
def test_decoded_targets_are_the_reference_within_half_a_frame(grid: Grid, start: float) -> None:
    hop = grid.seconds_per_frame
    rng = np.random.default_rng(2)
    segments = []
    for name in VOICES:
        at = start
        while True:
            at += rng.uniform(0.1 + 2 * hop, 3)
            length = rng.uniform(0.1 + 2 * hop, 3)
            if at + length > start + 60:
                break
            segments.append(Segment(at, at + length, name))
            at += length
    clip = recording(tuple(sorted(segments, key=lambda s: s.start)), start + 60, start)
    truth = TASK.targets(clip, grid, frames_of(grid, clip), LABELS).numpy()
    found = TASK.decode(Output(clip, 20 * truth - 10), grid, LABELS, {})
    assert found.id == "rec"
    for name in VOICES:
        wanted = [s for s in clip.segments if s.label == name]
        got = [s for s in found.segments if s.label == name]
        assert len(got) == len(wanted)
        for a, b in zip(got, wanted, strict=True):
            assert abs(a.start - b.start) <= hop / 2 + 0.0011
            assert abs(a.end - b.end) <= hop / 2 + 0.0011
    assert list(found.segments) == sorted(found.segments, key=lambda s: (s.start, s.end))


def decode_by_hand(
    scores: np.ndarray, threshold: float, edges: np.ndarray, fill: float, least: float
) -> list[tuple[float, float]]:
    """The rules of the page, one frame at a time, in whole milliseconds."""
    ms = [round(float(e) * 1000) for e in edges]
    found: list[list[int]] = []
    for t, score in enumerate(scores):
        if score < threshold:
            continue
        if found and found[-1][1] == ms[t]:
            found[-1][1] = ms[t + 1]
        else:
            found.append([ms[t], ms[t + 1]])
    joined: list[list[int]] = []
    for begin, end in found:
        if joined and begin - joined[-1][1] < round(fill * 1000):
            joined[-1][1] = end
        else:
            joined.append([begin, end])
    return [(b / 1000, e / 1000) for b, e in joined if e - b >= round(least * 1000)]


@pytest.mark.parametrize(("fill", "least"), [(0.1, 0.1), (0.0, 0.0), (0.25, 0.04)])
def test_decoding_against_the_rules_one_frame_at_a_time(fill: float, least: float) -> None:
    rng = np.random.default_rng(3)
    task = VoiceType(VoiceTypeOptions(fill_gaps=fill, min_segment=least))
    for start in (0.0, 77.7777):
        clip = recording((), start + 20.0, start)
        frames = frames_of(W2V, clip)
        slow = np.repeat(rng.standard_normal((frames // 6 + 1, 4)), 6, axis=0)[:frames]
        values = (slow + 0.7 * rng.standard_normal((frames, 4))).astype(np.float32)
        thresholds = dict(zip(VOICES, (0.3, 0.5, 0.6, 0.8), strict=True))
        found = task.decode(Output(clip, values), W2V, LABELS, {"thresholds": thresholds})
        for column, name in enumerate(VOICES):
            wanted = decode_by_hand(
                1 / (1 + np.exp(-values[:, column].astype(np.float64))),
                thresholds[name],
                start + W2V.edges(frames, 20.0),
                fill,
                least,
            )
            got = [(s.start, s.end) for s in found.segments if s.label == name]
            assert got == wanted
            assert wanted


def test_gaps_and_segments_of_exactly_a_tenth_of_a_second_are_kept() -> None:
    """Five frames of 20 ms are .1 s whatever floating point says, at any place in a file."""
    for start in (0.0, 0.1, 12345.678):
        clip = recording((), start + 2.0, start)
        values = np.full((frames_of(W2V, clip), 4), -9.0, dtype=np.float32)
        values[10:15, 0] = values[20:30, 0] = 9.0  # .1 s, a gap of .1 s, .2 s
        values[10:14, 1] = 9.0  # .08 s: dropped
        values[10:20, 2] = values[24:30, 2] = 9.0  # a gap of .08 s: closed
        values[40:43, 3] = values[46:48, 3] = 9.0  # closed first, so long enough: kept
        found = TASK.decode(Output(clip, values), W2V, LABELS, {}).segments
        count = {name: sum(s.label == name for s in found) for name in VOICES}
        assert count == {"KCHI": 2, "OCH": 0, "MAL": 1, "FEM": 1}


def test_probabilities_are_exact_and_never_overflow() -> None:
    x = np.array([-800.0, -40.0, -1.5, 0.0, 1.5, 800.0], dtype=np.float32)
    with np.errstate(all="raise", under="ignore"):
        found = probabilities(x)
    assert found.tolist()[0] == 0.0 and found.tolist()[-1] == 1.0
    np.testing.assert_allclose(found[1:5], 1 / (1 + np.exp(-x[1:5].astype(float))), rtol=1e-14)


# --- scoring ------------------------------------------------------------------------------------


def annotation(segments: tuple[Segment, ...], name: str) -> Annotation:
    rows = Annotation()
    for i, s in enumerate(segments):
        if s.label == name:
            rows[Span(s.start, s.end), i] = name
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_pyannote_on_random_timelines(seed: int) -> None:
    """pyannote gets whole recordings, overlapping segments and the UEM; we give it blocks."""
    rng = np.random.default_rng(seed)
    metrics = {v: DetectionPrecisionRecallFMeasure(collar=0.0, skip_overlap=False) for v in VOICES}
    clips, predictions = [], {}
    for i, spans in enumerate([None, ((3.0, 90.0), (100.0, 333.3)), ((0.0, 400.0),)]):
        start = 10.0 * i
        clip = recording(random_segments(rng, 250, 430, -5.0), 400.0, start, spans, name=f"home{i}")
        guess = random_segments(rng, 250, 430, -5.0)
        clips.append(clip)
        predictions[clip.id] = Prediction(clip.id, guess)
        uem = Spans([Span(max(a, start), b) for a, b in spans or ((start, 400.0),)])
        for v in VOICES:
            metrics[v](annotation(clip.segments, v), annotation(guess, v), uem=uem)
    found = TASK.score(clips, predictions)
    for v in VOICES:
        precision, recall, f1 = metrics[v].compute_metrics()
        assert found[f"precision/{v}"] == pytest.approx(precision, abs=1e-9)
        assert found[f"recall/{v}"] == pytest.approx(recall, abs=1e-9)
        assert found[f"f1/{v}"] == pytest.approx(f1, abs=1e-9)
        assert 0.05 < f1 < 0.95
    assert found["f1"] == pytest.approx(np.mean([abs(m) for m in metrics.values()]), abs=1e-9)


def test_a_recording_without_prediction_is_all_missed() -> None:
    segments = (Segment(1, 3, "KCHI"), Segment(2, 4, "KCHI"), Segment(5, 6, "FEM"))
    a, b = recording(segments, 10.0, name="a"), recording(segments, 10.0, name="b")
    sums = TASK.statistics(a, None)
    assert sums["KCHI/fn"] == pytest.approx(3) and sums["KCHI/tp"] == sums["KCHI/fp"] == 0
    score = TASK.score([a, b], {"a": Prediction("a", segments)})
    assert score["recall/KCHI"] == pytest.approx(0.5)
    assert score["precision/KCHI"] == 1
    assert score["f1"] == pytest.approx(2 / 3)


def test_the_mean_is_over_classes_that_occur() -> None:
    reference = recording((Segment(1, 3, "KCHI"), Segment(5, 6, "FEM")), 10.0)
    guess = Prediction("rec", (Segment(1, 3, "KCHI"), Segment(7, 8, "MAL")))
    score = TASK.score([reference], {"rec": guess})
    assert score["f1/KCHI"] == 1 and score["f1/FEM"] == 0 and score["f1/MAL"] == 0
    assert not any(key.endswith("OCH") for key in score)
    assert score["f1"] == pytest.approx(1 / 2)  # of the voices that are spoken
    assert score["precision"] == pytest.approx((1 + 1) / 2)  # pyannote: 1 where none was said
    silent = recording((), 10.0)
    assert TASK.score([silent], {}) == {}


# --- files --------------------------------------------------------------------------------------


def test_files_say_what_was_scored(tmp_path: Path) -> None:
    clip = recording(random_segments(np.random.default_rng(9), 40, 60.0), 60.0, name="home 1/a")
    found = TASK.decode(noisy(np.random.default_rng(9), W2V, clip), W2V, LABELS, {})
    TASK.write([found, Prediction("empty")], tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.rttm", "home_1_a.rttm", "vtc.csv"]
    assert (tmp_path / "empty.rttm").read_text() == ""
    lines = [line.split(" ") for line in (tmp_path / "home_1_a.rttm").read_text().splitlines()]
    assert all(len(line) == 10 and line[:3] == ["SPEAKER", "home_1/a", "1"] for line in lines)
    assert all(line[5:7] == line[8:] == ["<NA>", "<NA>"] for line in lines)
    read = [Segment(float(row[3]), float(row[3]) + float(row[4]), row[7]) for row in lines]
    again = TASK.score([clip], {clip.id: Prediction(clip.id, tuple(read))})
    assert again == pytest.approx(TASK.score([clip], {clip.id: found}), abs=1e-9)
    with (tmp_path / "vtc.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["uid", "start_time_s", "duration_s", "label"]
    assert [
        Segment(
            float(r["start_time_s"]), float(r["start_time_s"]) + float(r["duration_s"]), r["label"]
        )
        for r in rows
    ] == read
    assert {r["uid"] for r in rows} == {"home 1/a"}


def test_two_recordings_never_share_a_file(tmp_path: Path) -> None:
    TASK.write([Prediction("a/b"), Prediction("a b")], tmp_path / "both")
    names = sorted(p.name for p in (tmp_path / "both").glob("*.rttm"))
    assert len(names) == 2 and "a_b.rttm" in names
    assert all(name.startswith("a_b") for name in names)
    TASK.write([Prediction("../up"), Prediction("..")], tmp_path / "in")
    assert sorted(p.name for p in (tmp_path / "in").iterdir()) == ["_.rttm", "_up.rttm", "vtc.csv"]


# --- size ---------------------------------------------------------------------------------------


def test_three_hours_with_nine_thousand_segments_take_seconds() -> None:
    rng = np.random.default_rng(10)
    clip = recording(random_segments(rng, 9000, 10_800.0, longest=2.0), 10_800.0)
    clock = time.process_time()
    truth = TASK.targets(clip, W2V, frames_of(W2V, clip), LABELS).numpy()
    starts = np.array([s.start for s in clip.segments])
    for k in range(2700):  # windows, each with what touches it
        a, b = 4.0 * k, 4.0 * k + 4
        low, high = np.searchsorted(starts, [a - 2, b])
        TASK.targets(clip.within(a, b, clip.segments[low:high]), W2V, 199, LABELS)
    targets = time.process_time() - clock
    values = (3 * truth - 1.5 + rng.standard_normal(truth.shape)).astype(np.float32)
    clock = time.process_time()
    found = TASK.decode(Output(clip, values), W2V, LABELS, {})
    decoding = time.process_time() - clock
    clock = time.process_time()
    score = TASK.score([clip], {clip.id: found})
    scoring = time.process_time() - clock
    print(f"targets {targets:.1f} s, decoding {decoding:.1f} s, scoring {scoring:.1f} s")
    assert len(found.segments) > 6000 and score["f1"] > 0.7
    assert targets < 3 and decoding < 3 and scoring < 9

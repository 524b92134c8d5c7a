"""Where there is speech: detectors, and BabyHuBERT's rules for segments."""

from __future__ import annotations

import functools
from itertools import pairwise

import numpy as np
import pytest
import silero_vad
import soundfile
import torch
from audio_files import tone
from hypothesis import given, settings
from hypothesis import strategies as st

from bab.audio import reading
from bab.data import prepare, vad
from bab.data.segments import segments
from bab.plugins.datasets.rttm import Rttm

RATE = 16000


def rules(speech: list[tuple[float, float]], total: float) -> list[tuple[float, float]]:
    """The rules in milliseconds, given and told in seconds."""
    found = segments(
        [(round(a * 1000), round(b * 1000)) for a, b in speech], round(total * 1000), 1000
    )
    return [(a / 1000, b / 1000) for a, b in found]


def same(got, expected, within: float) -> None:
    """Lists of spans, to so many seconds."""
    assert len(got) == len(expected), got
    np.testing.assert_allclose(np.reshape(got, -1), np.reshape(expected, -1), atol=within)


@pytest.mark.parametrize(
    ("speech", "total", "expected"),
    [
        ([], 60, []),
        # Gaps under 2 s are filled, one of 2 s is not.
        ([(5, 8), (9.9, 12)], 60, [(5, 12)]),
        ([(5, 8), (10, 13)], 60, [(5, 8), (10, 13)]),
        # Short ones are widened alike on both sides, and at the ends to the other side.
        ([(10, 11)], 60, [(9.5, 11.5)]),
        ([(0.2, 0.6)], 60, [(0, 2)]),
        ([(59.5, 59.9)], 60, [(58, 60)]),
        ([(0.3, 0.6)], 1.5, [(0, 1.5)]),
        ([(5, 7)], 60, [(5, 7)]),
        # Widened at the beginning, it reaches the next one: they become one.
        ([(0, 0.1), (2.2, 2.4)], 60, [(0, 3.3)]),
        # Longer than 30 s: in the middle of the longest pause, and again.
        ([(0, 12), (12.5, 20), (21, 40)], 60, [(0, 20.5), (20.5, 40)]),
        (
            [(0, 10), (10.4, 25), (26.8, 50), (51, 70)],
            80,
            [(0, 25.9), (25.9, 50.5), (50.5, 70)],
        ),
        # The longest pause would leave less than 2 s on its left: the next longest.
        ([(0, 0.5), (2.3, 20), (20.2, 40)], 60, [(0, 20.1), (20.1, 40)]),
        # No pause: equal parts.
        ([(10, 80)], 90, [(10, 33.333), (33.333, 56.666), (56.666, 80)]),
        ([(10, 40)], 90, [(10, 40)]),
    ],
)  # fmt: skip
def test_the_rules_on_timelines_made_by_hand(speech, total, expected):
    same(rules(speech, total), expected, 1e-6)


@st.composite
def timelines(draw):
    """Speech in 10 ms units, in order and apart, and the recording's length."""
    at, spans = draw(st.integers(0, 300)), []
    for _ in range(draw(st.integers(0, 25))):
        length = draw(st.one_of(st.integers(1, 250), st.integers(1, 9000)))
        spans.append((at, at + length))
        at += length + draw(st.one_of(st.integers(1, 260), st.integers(1, 3000)))
    return spans, max([b for _, b in spans], default=0) + draw(st.integers(0, 500))


@settings(max_examples=150, deadline=None)
@given(timelines())
def test_no_speech_is_lost_and_no_length_is_wrong(timeline):
    speech, total = timeline
    found = segments(speech, total, 100)
    heard = np.zeros(total, bool)
    kept = np.zeros(total, int)
    for a, b in speech:
        heard[a:b] = True
    for a, b in found:
        assert 0 <= a < b <= total
        assert min(200, total) <= b - a <= 3000
        assert heard[a:b].any()
        kept[a:b] += 1
    assert kept.max(initial=0) <= 1
    assert kept[heard].all()
    assert found == sorted(found)
    # What is kept besides speech: pauses under 2 s, and what widens a segment to 2 s.
    for (_, end), (start, _) in pairwise(found):
        assert start == end or not heard[end:start].any()
    assert (kept.sum() - heard.sum()) <= 200 * (len(speech) + 1)


@functools.cache
def silero_reference(path: str, start: float = 0.0, end: float | None = None) -> list:
    wave = torch.from_numpy(reading.read(path, start, end, RATE))
    model = silero_vad.load_silero_vad()
    found = silero_vad.get_speech_timestamps(wave, model, sampling_rate=RATE)
    return [(one["start"], one["end"]) for one in found]


@pytest.fixture(scope="module")
def homes() -> list:
    return Rttm(Rttm.sample, Rttm.Options()).clips()


@pytest.mark.parametrize("piece", [vad._PIECE, 7 * vad.STEP])
def test_silero_in_pieces_is_its_own_on_the_whole(homes, monkeypatch, piece):
    monkeypatch.setattr(vad, "_PIECE", piece)
    assert len(homes[4:6]) == 2
    for clip in homes[4:6]:
        expected = silero_reference(clip.path)
        assert expected
        seconds = len(reading.read(clip.path, rate=RATE)) / RATE
        got = vad.detect(clip.path, 0.0, seconds, "silero")[0]
        # Files of another rate are resampled piece by piece: scores differ in the last digits.
        assert got == expected


def test_speech_of_a_part_counts_from_its_start(homes):
    clip = homes[0]
    got = vad.detect(clip.path, 3.0, 21.5, "silero")[0]
    assert got == silero_reference(clip.path, 3.0, 21.5)


def coverage(clip, found: prepare.Speech, labels: set[str]) -> tuple[float, float]:
    """The share of the annotated span's speech by these voices, and of its rest, in segments."""
    first, last = (round(100 * t) for t in clip.scored[0])
    speech, heard, kept = (np.zeros(round(clip.end * 100) + 1, bool) for _ in range(3))
    for s in clip.segments:
        heard[round(s.start * 100) : round(s.end * 100)] = True
        if s.label in labels:
            speech[round(s.start * 100) : round(s.end * 100)] = True
    for a, b in found.segments:
        kept[round(a * 100) : round(b * 100)] = True
    inside = np.zeros_like(kept)
    inside[first:last] = True
    return float(kept[speech & inside].mean()), float(kept[~heard & inside].mean())


@pytest.mark.parametrize("name", ["silero", "energy"])
def test_most_of_the_annotated_speech_is_found(homes, name):
    """Of adults by silero: the samples' children are synthetic, it misses some of them."""
    labels = {"MAL", "FEM"} if name == "silero" else {"MAL", "FEM", "KCHI", "OCH"}
    shares = [coverage(clip, prepare.find(clip, name), labels) for clip in homes[:6]]
    hit, rest = np.mean(shares, axis=0)
    assert hit > 0.85 and rest < 0.5


def test_energy_finds_what_rises_above_the_room(tmp_path):
    spans = [(2.0, 4.0), (70.0, 71.5), (130.0, 131.0)]
    path = tone(tmp_path / "a.wav", spans, 140)
    got, bursts, _ = vad.detect(str(path), 0, 140, "energy")
    assert bursts == 0
    same([(a / RATE, b / RATE) for a, b in got], spans, 0.07)


def test_energy_follows_a_room_that_grows_louder(tmp_path):
    """What is loud in a quiet hour is the room itself in a loud one."""
    draw = np.random.default_rng(1)
    wave = np.concatenate([draw.normal(size=240 * RATE) * level for level in (0.002, 0.02)])
    wave[100 * RATE : 102 * RATE] *= 10
    wave[400 * RATE : 402 * RATE] *= 10
    path = tmp_path / "a.wav"
    soundfile.write(path, wave.astype(np.float32).clip(-0.99, 0.99), RATE)
    got = [(a / RATE, b / RATE) for a, b in vad.detect(str(path), 0, 480, "energy")[0]]
    calm = [span for span in got if not 180 < span[0] < 300]  # the change itself may be heard
    same(calm, [(100, 102), (400, 402)], 0.07)


def test_bursts_are_counted_and_silence_is_silent(tmp_path):
    path = tone(tmp_path / "a.wav", [(2.0, 2.1), (5.0, 6.0)], 10)
    got, bursts, lost = vad.detect(str(path), 0, 10, "energy")
    assert len(got) == 1 and bursts == 1 and 0.09 < lost / RATE < 0.2
    soundfile.write(tmp_path / "zero.wav", np.zeros(5 * RATE, np.float32), RATE)
    for name in ("energy", "silero"):
        assert vad.detect(str(tmp_path / "zero.wav"), 0, 5, name)[0] == []


def test_spans_are_widened_within_the_recording_and_never_meet() -> None:
    more = vad._PAD
    assert vad.padded([], 9000) == []
    assert vad.padded([(0, 2000), (8000, 8999)], 9000) == [(0, 2000 + more), (8000 - more, 9000)]
    assert vad.padded([(1000, 2000), (2100, 3000)], 9000)[0][1] == 2050
    assert vad.padded([(1000, 2000), (2100, 3000)], 9000)[1][0] == 2050

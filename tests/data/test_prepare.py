"""Speech detection, BabyHuBERT's rules, `bab prepare`, and the manifest that it writes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import silero_vad
import soundfile
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from bab.audio import reading
from bab.cli.prepare import prepare_command
from bab.core.errors import AudioError, BabError, ConfigError, CorpusError
from bab.data import prepare, vad
from bab.data.segments import segments
from bab.data.splits import check_disjoint
from bab.plugins.datasets.hindibabynet import HindiBabyNet
from bab.plugins.datasets.manifest import Manifest
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


@settings(max_examples=400, deadline=None)
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


def silero_reference(wave: np.ndarray) -> list[tuple[int, int]]:
    model = silero_vad.load_silero_vad()
    found = silero_vad.get_speech_timestamps(torch.from_numpy(wave), model, sampling_rate=RATE)
    return [(one["start"], one["end"]) for one in found]


@pytest.fixture(scope="module")
def homes() -> list:
    return Rttm(Rttm.sample, Rttm.Options()).clips()


@pytest.mark.parametrize("piece", [vad._PIECE, 7 * vad.STEP])
def test_silero_in_pieces_is_its_own_on_the_whole(homes, monkeypatch, piece):
    monkeypatch.setattr(vad, "_PIECE", piece)
    for clip in homes[4:6]:
        wave = reading.read(clip.path, rate=RATE)
        expected = silero_reference(wave)
        assert expected
        got = vad.detect(clip.path, 0.0, len(wave) / RATE, "silero")[0]
        # Files of another rate are resampled piece by piece: scores differ in the last digits.
        assert got == expected


def test_speech_of_a_part_counts_from_its_start(homes):
    clip = homes[0]
    wave = reading.read(clip.path, 3.0, 21.5, RATE)
    got = vad.detect(clip.path, 3.0, 21.5, "silero")[0]
    assert got == silero_reference(wave)


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


def tone(path: Path, spans, seconds: float, floor: float = 0.001, rate: int = RATE) -> Path:
    """Loud noise in `spans`, faint noise elsewhere."""
    draw = np.random.default_rng(0)
    wave = draw.normal(size=round(seconds * rate)) * floor
    for a, b in spans:
        wave[round(a * rate) : round(b * rate)] += (
            draw.normal(size=round(b * rate) - round(a * rate)) * 0.1
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(wave, -0.99, 0.99).astype(np.float32), rate)
    return path


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


def homes_of(root: Path, children=("AMIT", "BELA", "CHAI", "DEV"), seconds: float = 20) -> Path:
    for i, child in enumerate(children):
        spans = [(2 + i, 5 + i), (9, 9.5)]
        tone(root / "RawAudioData" / child / "20240101" / "1.wav", spans, seconds)
    return root


def run(root: Path, out: Path, *more: str):
    asked = [
        "--corpus",
        f"hindibabynet:{root}",
        "--vad",
        "energy",
        "--jobs",
        "1",
        "--out",
        str(out),
    ]
    return CliRunner().invoke(prepare_command, [*asked, *more])


def test_the_manifest_is_a_corpus_with_the_same_splits_and_groups(tmp_path):
    root = homes_of(tmp_path / "homes")
    out = tmp_path / "segments.parquet"
    done = run(root, out)
    assert done.exit_code == 0, done.output
    assert "4 recordings, 0.02 h" in done.output and "% of the audio is kept" in done.output
    source = HindiBabyNet(root, HindiBabyNet.Options())
    corpus = Manifest(out, Manifest.Options())
    for split in ("train", "dev", "test"):
        before, after = list(source.clips(split)), corpus.clips(split)
        assert {c.group for c in before} == {c.group for c in after}
        assert {c.path for c in before} == {c.path for c in after}
        assert {c.labels["recording"] for c in after} == {c.id for c in before}
    check_disjoint({name: corpus.clips(name) for name in corpus.splits()})
    first = corpus.clips()[0]
    assert (first.start, first.end) == pytest.approx((2, 5), abs=0.1)
    # 5 to 9 s is no gap under 2 s; the half second at 9 s is widened to 2 s.
    assert corpus.clips()[1].duration == pytest.approx(2.0)
    assert not (tmp_path / "segments.parquet.parts").exists()


def test_several_corpora_and_processes_keep_groups_apart(tmp_path):
    one, two = homes_of(tmp_path / "a"), homes_of(tmp_path / "b", seconds=21)
    out = tmp_path / "both.parquet"
    asked = ["--corpus", f"hindibabynet:{one}", "--corpus", f"hindibabynet:{two}"]
    more = ["--vad", "energy", "--jobs", "2", "--out", str(out)]
    done = CliRunner().invoke(prepare_command, [*asked, *more])
    assert done.exit_code == 0, done.output
    alone = ["--vad", "energy", "--jobs", "1", "--out", str(tmp_path / "alone.parquet")]
    assert CliRunner().invoke(prepare_command, [*asked, *alone]).exit_code == 0
    assert parquet.read_table(out).equals(parquet.read_table(tmp_path / "alone.parquet"))
    clips = Manifest(out, Manifest.Options()).clips()
    groups = {c.group for c in clips}
    assert groups == {
        f"hindibabynet{n}:{g}" for n in (1, 2) for g in ("AMIT", "BELA", "CHAI", "DEV")
    }
    assert len({c.id for c in clips}) == len(clips)


def test_one_child_is_all_train(tmp_path):
    root = homes_of(tmp_path / "homes", ("ONLY",))
    done = run(root, tmp_path / "s.parquet")
    assert done.exit_code == 0, done.output
    assert "all of it is train" in done.output
    table = parquet.read_table(tmp_path / "s.parquet").to_pydict()
    assert set(table["split"]) == {"train"}


def test_finished_is_not_done_again_and_others_are_refused(tmp_path, monkeypatch):
    root, out = homes_of(tmp_path / "homes"), tmp_path / "s.parquet"
    first = run(root, out)
    monkeypatch.setattr(prepare, "find", None)  # would fail if it were called
    assert run(root, out).output == first.output
    done = run(root, out, "--vad", "silero")
    assert isinstance(done.exception, BabError) and "name another --out" in str(done.exception)


def test_interrupted_it_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    root, out = homes_of(tmp_path / "homes"), tmp_path / "s.parquet"
    run(root, tmp_path / "once.parquet")
    seen, real = [], prepare.find

    def some(clip, name, limit=2):
        if len(seen) == limit:
            raise KeyboardInterrupt
        seen.append(clip.id)
        return real(clip, name)

    monkeypatch.setattr(prepare, "find", some)
    stopped = run(root, out)
    assert isinstance(stopped.exception, BabError) and stopped.exception.exit_code == 130
    assert not out.exists()
    monkeypatch.setattr(prepare, "find", lambda clip, name: some(clip, name, 99))
    assert run(root, out).exit_code == 0
    assert len(seen) == len(set(seen)) == 4
    once = parquet.read_table(tmp_path / "once.parquet")
    assert parquet.read_table(out).equals(once)


def test_killed_it_leaves_what_it_had_found(tmp_path):
    children = [f"C{i:02}" for i in range(8)]
    root, out = homes_of(tmp_path / "homes", children), tmp_path / "s.parquet"
    assert run(root, tmp_path / "once.parquet").exit_code == 0
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import sys, time\n"
        "from bab.data import prepare\n"
        "real = prepare.find\n"
        "prepare.find = lambda clip, name: time.sleep(0.5) or real(clip, name)\n"
        "from bab.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    asked = ["--corpus", f"hindibabynet:{root}", "--vad", "energy", "--jobs", "1"]
    command = [sys.executable, str(slow), "prepare", *asked, "--out", str(out)]
    parts = tmp_path / "s.parquet.parts"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 60
        while len(list(parts.glob("*/[0-9a-f]*.json"))) < 2:
            assert process.poll() is None and time.monotonic() < limit
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = len(list(parts.glob("*/[0-9a-f]*.json")))
    assert not out.exists() and 2 <= before < 8
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        real = prepare.find
        patch.setattr(prepare, "find", lambda clip, name: seen.append(clip.id) or real(clip, name))
        assert run(root, out).exit_code == 0
    assert len(seen) == 8 - before
    assert parquet.read_table(out).equals(parquet.read_table(tmp_path / "once.parquet"))


def test_broken_silent_and_short_files(tmp_path):
    root, out = homes_of(tmp_path / "homes"), tmp_path / "s.parquet"
    folder = root / "RawAudioData" / "EVA" / "20240101"
    folder.mkdir(parents=True)
    (folder / "broken.wav").write_bytes(b"RIFF nothing of the kind")
    soundfile.write(folder / "silent.wav", np.zeros(4 * RATE, np.float32), RATE)
    tone(folder / "short.wav", [(0.3, 0.8)], 1.1)
    wave = np.full(3 * RATE, 0.1, np.float32)
    wave[2 * RATE] = np.nan
    soundfile.write(folder / "nan.wav", wave, RATE, "FLOAT")
    done = run(root, out)
    assert isinstance(done.exception, AudioError) and "broken.wav" in str(done.exception)
    (folder / "broken.wav").unlink()
    done = run(root, out)
    assert isinstance(done.exception, AudioError) and "nan.wav" in str(done.exception)
    assert not out.exists()
    done = run(root, out, "--skip-bad")
    assert done.exit_code == 0, done.output
    assert "1 without speech: EVA_20240101_silent" in done.output
    assert "1 unreadable, left out" in done.output and "nan.wav" in done.output
    clips = Manifest(out, Manifest.Options()).clips()
    short = [c for c in clips if c.path.endswith("short.wav")]
    assert [(c.start, c.end) for c in short] == [(0.0, pytest.approx(1.1))]


def test_what_cannot_be_asked_for(tmp_path, monkeypatch):
    root = homes_of(tmp_path / "homes")
    done = run(root, tmp_path / "s.csv")
    assert isinstance(done.exception, BabError) and "name it .parquet" in str(done.exception)
    done = run(root, tmp_path / "s.parquet", "--set", "train.lr=1")
    assert isinstance(done.exception, ConfigError)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = run(root, tmp_path / "s.parquet")
    assert "pip install 'bab[prepare]'" in str(done.exception)


def test_a_manifest_in_parquet_says_what_the_same_in_csv_does(tmp_path):
    for i in range(3):
        tone(tmp_path / f"{i}.wav", [], 5)
    rows = {
        "path": ["0.wav", "1.wav", str(tmp_path / "2.wav")],
        "start": [0.0, 0.125, None],
        "end": [1.5, 3, None],
        "split": ["train", "dev", "test"],
        "group": ["a", "b", "c"],
        "speaker": ["a", None, "c"],
        "age": [3, 4, 5],
        "cries": [True, False, None],
    }
    parquet.write_table(pyarrow.table(rows), tmp_path / "m.parquet")
    text = ["path,start,end,split,group,speaker,age,cries"]
    text += ["0.wav,0.0,1.5,train,a,a,3,true", "1.wav,0.125,3.0,dev,b,,4,false"]
    text += [f"{tmp_path / '2.wav'},,,test,c,c,5,"]
    (tmp_path / "m.csv").write_text("\n".join(text))
    one = Manifest(tmp_path / "m.parquet", Manifest.Options())
    two = Manifest(tmp_path / "m.csv", Manifest.Options())
    for split in ("train", "dev", "test"):
        assert one.clips(split) == two.clips(split)
    assert one.provides == two.provides


def test_parquet_that_is_none(tmp_path, monkeypatch):
    (tmp_path / "m.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(CorpusError, match=r"m\.parquet: can't be read as a Parquet table"):
        Manifest(tmp_path / "m.parquet", Manifest.Options())
    table = pyarrow.table({"path": [["a"], ["b"]]})
    parquet.write_table(table, tmp_path / "m.parquet")
    with pytest.raises(CorpusError, match=r"m\.parquet:2: 'path' must be text"):
        Manifest(tmp_path / "m.parquet", Manifest.Options())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BabError, match=r"pip install 'bab\[prepare\]'"):
        Manifest(tmp_path / "m.parquet", Manifest.Options())

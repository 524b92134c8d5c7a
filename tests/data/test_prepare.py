"""`bab prepare`, and the manifest that it writes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import soundfile
from audio_files import tone
from click.testing import CliRunner
from pyarrow import parquet

from bab.cli.prepare import prepare_command
from bab.core.errors import AudioError, BabError, ConfigError, CorpusError
from bab.data import prepare
from bab.data.splits import check_disjoint
from bab.plugins.datasets.hindibabynet import HindiBabyNet
from bab.plugins.datasets.manifest import Manifest

RATE = 16000


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


@pytest.mark.usefixtures("forked_workers")
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


def test_a_file_that_changed_is_listened_to_again(tmp_path, monkeypatch):
    """Also where its size is the same: what was found belongs to what was there."""
    root, out = homes_of(tmp_path / "homes"), tmp_path / "s.parquet"
    seen, real = [], prepare.find

    def stopped(clip, name):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(clip)
        return real(clip, name)

    monkeypatch.setattr(prepare, "find", stopped)
    assert run(root, out).exit_code != 0
    changed = Path(seen[0].path)
    size = changed.stat().st_size
    tone(changed, [(12, 16)], 20)
    assert changed.stat().st_size == size
    again = []
    monkeypatch.setattr(prepare, "find", lambda c, name: again.append(c.path) or real(c, name))
    assert run(root, out).exit_code == 0
    assert len(again) == 2 and str(changed) in again
    rows = parquet.read_table(out).to_pydict()
    starts = [s for s, p in zip(rows["start"], rows["path"], strict=True) if p == str(changed)]
    assert starts == [pytest.approx(12, abs=0.1)]
    tone(changed, [(3, 7)], 20)
    done = run(root, out)
    assert isinstance(done.exception, BabError) and "other recordings" in str(done.exception)


def test_a_recording_that_failed_is_tried_again(tmp_path, monkeypatch):
    """What couldn't be read today may be there tomorrow."""
    root, out = homes_of(tmp_path / "homes"), tmp_path / "s.parquet"
    real, tried = prepare.find, []

    def failing(clip, name):
        tried.append(clip.path)
        return (
            prepare.Speech(why=f"{clip.path}: disk asleep") if len(tried) == 2 else real(clip, name)
        )

    monkeypatch.setattr(prepare, "find", failing)
    done = run(root, out)
    assert isinstance(done.exception, AudioError) and "disk asleep" in str(done.exception)
    assert run(root, out).exit_code == 0
    assert len(tried) == 5 and tried[4] == tried[1]
    assert len(set(parquet.read_table(out).to_pydict()["recording"])) == 4


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

"""What an embedding leaves, to the cell: rows, times, tables; how an encoder hears a recording."""

from __future__ import annotations

import builtins
import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from pyarrow import parquet
from safetensors.numpy import load_file
from train_worker import Small

import bab
from bab.audio import decoding
from bab.core.errors import BabError, ConfigError, InterruptedRunError, NotApplicableError
from bab.core.grid import Grid
from bab.core.types import Encoded, Waves
from bab.predicting import embed as module
from bab.predicting.embed import EmbedOptions, embed
from bab.predicting.hearing import Hearing, Table, mean_of
from bab.predicting.recordings import of_array
from bab.predicting.vectors import Few, paths_of, write
from bab.predicting.walking import Held, listen

RATE = 16000


def noise(path: Path, seconds: float, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    soundfile.write(path, samples.astype(np.float32), RATE, subtype="FLOAT")
    return path


def index(out: Path) -> list[dict[str, str]]:
    with (out / "index.csv").open(newline="") as file:
        return [*csv.DictReader(file)]


def test_each_recording_has_a_file_and_a_line(tmp_path: Path) -> None:
    one, two = noise(tmp_path / "in/one.wav", 1.5), noise(tmp_path / "in/b/two.wav", 2.0, 1)
    bad = tmp_path / "in/cut.flac"
    soundfile.write(bad, soundfile.read(two)[0], RATE)
    bad.write_bytes(bad.read_bytes()[:9000])
    said: list[str] = []
    told: list[Any] = []
    out = tmp_path / "out"
    asked = EmbedOptions(layer="0", sets=["encoder.mels=10", "encoder.cmvn=none"])
    done = embed(
        "fbank", [tmp_path / "in"], out, asked, lambda *given: told.append(given), said.append
    )
    assert done.files == {"b/two": 2.0, "one": 1.5} and (done.again, done.dim, done.out) == (
        0,
        30,
        out,
    )
    rows = {name: len(np.load(out / f"{name}.npy")) for name in done.files}
    why = done.left[str(bad)]
    assert list(done.left) == [str(bad)] and why.endswith("get it again")
    assert said == [
        f"[1/3] b/two: {rows['b/two']} x 30, 2.0 s", f"[2/3] cut: left out: {why}",
        f"[3/3] one: {rows['one']} x 30, 1.5 s",
    ]  # fmt: skip
    assert told[:3] == [("looking", n, 3, "files") for n in (1, 2, 3)]
    assert {(stage, total, unit) for stage, _, total, unit in told[3:]} == {("embedding", 5.5, "s")}
    assert told[-1][1] == 5.5 and any(at == 2.0 for _, at, _, _ in told[3:])
    assert index(out) == [
        {"name": name, "file": f"{name}.npy", "row": "0", "rows": str(rows[name]), "start": "0.0",
         "seconds": seconds, "label": "", "path": str(path)}
        for name, seconds, path in (("b/two", "2.0", two), ("one", "1.5", one))
    ]  # fmt: skip
    about = json.loads((out / "embedding.json").read_text())
    assert [f["name"] for f in about["files"]] == ["b/two", "one"]
    assert about["files"][1] == {
        "name": "one", "path": str(one), "digest": about["files"][1]["digest"], "start": 0.0,
        "seconds": 1.5, "rows": rows["one"],
    }  # fmt: skip
    assert about["left_out"] == [{"path": str(bad), "why": why}] and about["waiting"] == []
    expected = {"format_version": 1, "layer": "0", "per": "frame", "format": "npy", "dim": 30,
                "device": "cpu", "precision": "fp32", "encoder": "fbank"}  # fmt: skip
    assert {key: about[key] for key in expected} == expected
    (how,) = about["windows"]
    assert how["window"] == 30.0 and 29.9 < how["step"] <= 30.0 and how["hop"] == 0.01
    assert how["encoder"] == about["fingerprint"]
    assert not list((out / ".bab/embed/frame-npy/begun").iterdir())
    said.clear()
    again = embed("fbank", [one], out, asked, say=said.append)
    assert said == ["[1/1] one: done before"] and again.again == 1
    assert [row["name"] for row in index(out)] == ["one"]  # of this call
    (out / "one.times.npy").unlink()
    assert embed("fbank", [one], out, asked).again == 0  # one of its files was gone


def test_one_vector_a_clip_stands_in_one_table(tmp_path: Path) -> None:
    noise(tmp_path / "in/b.wav", 1.0)
    noise(tmp_path / "in/a.wav", 2.0, 1)
    (tmp_path / "in/c.wav").write_bytes(b"RIFF\0\0")
    out = tmp_path / "out"
    said: list[str] = []
    for kind in ("npy", "safetensors", "parquet"):
        asked = EmbedOptions(per="clip", format=kind)
        done = embed("fbank", [tmp_path / "in"], out, asked, say=said.append)
        assert list(done.files) == ["a", "b"]
        rows = index(out)
        assert [(r["name"], r["file"], r["row"], r["rows"]) for r in rows] == [
            ("a", f"embeddings.{kind}", "0", "1"), ("b", f"embeddings.{kind}", "1", "1"),
        ]  # fmt: skip
    assert said[0] == f"[1/3] a: 1 x {done.dim}, 2.0 s"
    index_of = f"note: {out / 'index.csv'} was of --per clip --format"
    assert [line for line in said if line.startswith("note")] == [
        f"{index_of} {kind}: it is replaced, their files stay" for kind in ("npy", "safetensors")
    ]
    table, times = np.load(out / "embeddings.npy"), np.load(out / "embeddings.times.npy")
    assert table.dtype == np.float32 and times.tolist() == [[0.0, 2.0], [0.0, 1.0]]
    held = load_file(out / "embeddings.safetensors")
    assert np.array_equal(held["embeddings"], table) and np.array_equal(held["times"], times)
    rows = parquet.read_table(out / "embeddings.parquet").to_pydict()
    assert rows["start"] == [0.0, 0.0] and rows["duration"] == [2.0, 1.0]
    assert np.array_equal(np.array(rows["embedding"], "f4"), table)
    alone = tmp_path / "alone"
    with pytest.raises(BabError, match=r"c\.wav"):
        raise BabError(next(iter(embed("fbank", [tmp_path / "in/c.wav"], alone, asked).left)))
    assert not (alone / "embeddings.parquet").exists() and index(alone) == []


def test_a_recording_of_less_than_a_sample_holds_no_sound(tmp_path: Path) -> None:
    """One sample at 48 kHz is a third of one at the encoder's rate."""
    soundfile.write(tmp_path / "click.wav", np.full(1, 0.5), 48000)
    done = embed("fbank", [tmp_path / "click.wav"], tmp_path / "out", EmbedOptions(layer="0"))
    path = str(tmp_path / "click.wav")
    assert done.files == {} and done.left == {path: f"{path}: it holds no sound"}


def test_stopped_it_says_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        noise(tmp_path / f"in/{i}.wav", 1.0, i)
    out = tmp_path / "out"
    own = module._Work._embedded

    def stopping(self: Any, recording: Any, key: str) -> Any:
        if recording.name == "1":
            monkeypatch.setattr(self, "stop", lambda: True)
        return own(self, recording, key)

    with monkeypatch.context() as patch:
        patch.setattr(module._Work, "_embedded", stopping)
        with pytest.raises(InterruptedRunError) as error:
            embed("fbank", [tmp_path / "in"], out)
    assert str(error.value) == f"stopped; what is done is in {out}, and the same command goes on"
    about = json.loads((out / "embedding.json").read_text())
    assert [f["name"] for f in about["files"]] == ["0"] and about["waiting"] == ["1", "2"]
    assert [row["name"] for row in index(out)] == ["0"]


def test_nobodys_files_are_replaced(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.wav", 1.0)
    out = tmp_path / "out"
    out.mkdir()
    for name, asked in (
        ("a.times.npy", EmbedOptions()), ("a.parquet", EmbedOptions(format="parquet")),
    ):  # fmt: skip
        (out / name).write_text("mine")
        with pytest.raises(BabError) as error:
            embed("fbank", [path], out, asked)
        assert str(error.value) == (
            f"{out / name} is there already and wasn't written by `bab embed`: name another folder "
            "with --out"
        )
    embed("fbank", [path], out, EmbedOptions(per="clip"))  # writes no file of that name
    assert (out / "a.parquet").read_text() == "mine"


def test_what_is_missing_is_told_before_anything_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = builtins.__import__

    def without(name: str, *given: Any, **more: Any) -> Any:
        if name == "pyarrow":
            raise ImportError(name)
        return load(name, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        with pytest.raises(BabError) as error:
            embed("fbank", [tmp_path], tmp_path / "out", EmbedOptions(format="parquet"))
    assert str(error.value) == "--format parquet needs pyarrow: pip install 'bab[prepare]'"
    clips = [bab.Clip("x", "/x.wav", 1.0, 9.0, "g")]
    corpus = SimpleNamespace(clips=lambda: clips, provides=frozenset({"segments"}), name="mine")
    allowed: list[Any] = []
    monkeypatch.setattr(
        module, "open_corpus", lambda config, permissions: allowed.append(permissions) or corpus
    )
    asked = EmbedOptions(segments=True)
    with pytest.raises(BabError) as error:
        embed("fbank", ["rttm:/a", "rttm:/b"], tmp_path / "out", asked)
    assert str(error.value) == "--segments: nothing is annotated in rttm:/a, rttm:/b"
    parts = (bab.Segment(2.0, 3.5, "a"), bab.Segment(3.0, 4.0, "b"))
    clips.append(bab.Clip("y", "/y.wav", 1.0, 9.0, "g", segments=parts))
    listed, labels, left = module._listed(["rttm:/a"], asked, [])
    assert [(r.name, r.path, r.start, r.end) for r in listed] == [
        ("y/00000", "/y.wav", 2.0, 3.5), ("y/00001", "/y.wav", 3.0, 4.0),
    ]  # fmt: skip
    assert labels == {"y/00000": "a", "y/00001": "b"} and left == {}
    module._listed(["rttm:/a"], EmbedOptions(segments=True, offline=True), [])
    assert [(one.offline, one.leakage) for one in allowed[2:]] == [(False, True), (True, True)]


# ------------------------------------------------------------------------------- hearing


@pytest.fixture(autouse=True)
def slow_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_SLOWEST", 1)


class Counting(Small):
    """Ten samples a frame; says of a frame its first sample, and twice that in the second layer."""

    def __init__(self, hop: int = 10) -> None:
        super().__init__()
        self.dim, self.grid = 1, Grid(100, hop, 10)

    def forward(self, waves: Waves, mask: Any = None, layers: str = "all") -> Encoded:
        counts = [self.grid.frames(n) for n in waves.lengths.tolist()]
        places = torch.arange(max(counts)) * self.grid.hop
        x = waves.samples[:, places][..., None]
        states = (x, 2 * x)
        return Encoded(states if layers == "all" else states[1:], torch.tensor(counts))


def heard(per: str, layer: str = "0", window: float | None = 1.0, samples: int = 250) -> Any:
    encoder = Counting()
    ear = Hearing(encoder, layer, per, window, torch.device("cpu"))
    sink = Held()
    sound = of_array(np.arange(samples, dtype=np.float32), 100)
    seconds = listen([ear.walk], sound, [sink], lambda seconds: None)
    return Table(ear, sink, seconds), sink


@pytest.mark.parametrize(("layer", "times"), [("0", 1), ("1", 2), ("last", 2), ("mean", 1.5)])
def test_frames_of_windows_that_tile(layer: str, times: float) -> None:
    table, _ = heard("frame", layer)
    (rows,), (spans,) = [*table.rows()], [*table.times()]
    assert rows[:, 0].tolist() == [times * 10 * i for i in range(25)] and table.count == 25
    edges = [0.0, *(0.1 * i for i in range(1, 25)), 2.5]
    np.testing.assert_allclose(spans[:, 0], edges[:-1], atol=1e-9)
    np.testing.assert_allclose(spans[:, 1], np.diff(edges), atol=1e-9)


def test_times_go_on_from_portion_to_portion() -> None:
    table, sink = heard("frame")
    whole = np.concatenate([*table.times()])
    (rows,) = sink.read()
    parts = SimpleNamespace(done=25, read=lambda: iter([rows[:7], rows[7:24], rows[24:]]))
    cut = Table(table._hearing, parts, 2.5)  # type: ignore[arg-type]
    assert [len(part) for part in cut.times()] == [7, 17, 1]
    np.testing.assert_allclose(np.concatenate([*cut.times()]), whole, atol=1e-12)


def test_windows_have_the_mean_of_all_their_frames() -> None:
    table, _ = heard("window")
    rows, spans = np.concatenate([*table.rows()]), np.concatenate([*table.times()])
    assert rows[:, 0].tolist() == [45.0, 145.0, 195.0] and rows.dtype == np.float32
    assert spans.tolist() == [[0.0, 1.0], [1.0, 1.0], [1.5, 1.0]]


def test_a_clip_has_the_mean_over_its_frames_each_once() -> None:
    _, sink = heard("clip")
    assert mean_of(sink).tolist() == [np.mean(np.arange(25) * 10)]
    (rows,) = [np.concatenate([*sink.read()])]
    assert rows[:, 2].tolist() == [10, 10, 5]


@pytest.mark.parametrize(
    ("longest", "window", "seconds"),
    [(None, None, 30.0), (4.0, None, 4.0), (40.0, None, 30.0), (4.0, 4.0, 4.0), (4.0, 2.0, 2.0)],
)
def test_how_long_a_window_is(longest: float | None, window: float | None, seconds: float) -> None:
    encoder = Counting()
    encoder.max_seconds = longest
    ear = Hearing(encoder.train(), "last", "frame", window, torch.device("cpu"))
    assert ear.described() == {
        "encoder": "small", "window": seconds, "step": seconds, "hop": 0.1,
    }  # fmt: skip
    assert not encoder.training and ear.walk.batch == 1


def test_what_an_encoder_cant_give_is_told() -> None:
    encoder = Counting()
    encoder.max_seconds = 4.0

    def said(error: type[Exception], layer: str, per: str = "frame", window: Any = None) -> str:
        with pytest.raises(error) as caught:
            Hearing(encoder, layer, per, window, torch.device("cpu"))
        return str(caught.value)

    for layer in ("2", "-1", "x", ""):
        assert said(ConfigError, layer) == (
            f"--layer {layer}: 'small' has last, mean, and 0 (the input embedding) to 1"
        )
    assert said(ConfigError, "1", window=4.5) == "--window 4.5: 'small' takes in 4 s at most"
    encoder.grid = Grid(100, 0, 10)
    assert said(NotApplicableError, "1") == (
        "--per frame: 'small' gives one vector for each window: --per window, or clip (`bab info "
        "ENCODER` lists its options)"
    )
    Hearing(encoder, "1", "window", None, torch.device("cpu"))


# ------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", ["npy", "safetensors", "parquet"])
def test_portions_are_written_as_one(tmp_path: Path, kind: str) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 3)).astype("f4")
    times = np.arange(10.0).reshape(5, 2)

    class Parts(Few):
        def rows(self) -> Any:
            return iter([rows[:2], rows[2:]])

        def times(self) -> Any:
            return iter([times[:2], times[2:]])

    base = tmp_path / "new" / "a.b"
    write(Parts(rows, times), base, kind)
    assert [p.name for p in paths_of(base, kind)] == (
        ["a.b.npy", "a.b.times.npy"] if kind == "npy" else [f"a.b.{kind}"]
    )
    assert sorted(p.name for p in base.parent.iterdir()) == [p.name for p in paths_of(base, kind)]
    if kind == "npy":
        values = np.load(base.parent / "a.b.npy"), np.load(base.parent / "a.b.times.npy")
    elif kind == "safetensors":
        held = load_file(base.parent / "a.b.safetensors")
        values = held["embeddings"], held["times"]
        head = int.from_bytes((base.parent / "a.b.safetensors").read_bytes()[:8], "little")
        assert head % 8 == 0
    else:
        table = parquet.read_table(base.parent / "a.b.parquet")
        assert table.column_names == ["start", "duration", "embedding"]
        flat = np.array(table["embedding"].to_pylist(), "f4")
        values = flat, np.stack([table["start"].to_numpy(), table["duration"].to_numpy()], 1)
    assert np.array_equal(values[0], rows) and np.array_equal(values[1], times)
    assert (values[0].dtype, values[1].dtype) == (np.float32, np.float64)

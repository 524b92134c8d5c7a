"""bab embed: equal to a plain forward pass, in every format, resumed, and what it refuses."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers
from safetensors.numpy import load_file

import bab
from bab.cli import main
from bab.core.errors import BabError
from bab.plugins.encoders.wav2vec2 import Wav2Vec2
from bab.predicting import embed as module
from bab.predicting.embed import EmbedOptions, embed

RATE = 16000


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small wav2vec2 with a layer-norm front, as transformers writes it: no input normalising."""
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48,
        conv_dim=[16] * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("encoder") / "mine"
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"do_normalize": false}')
    return folder


def noise(path: Path, seconds: float, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return soundfile.read(path, dtype="float32")[0]


def plain(folder: Path, samples: np.ndarray) -> list[np.ndarray]:
    """transformers' own hidden states of a stretch of audio, in one pass."""
    model = transformers.Wav2Vec2Model.from_pretrained(folder).eval()
    with torch.no_grad():
        out = model(torch.from_numpy(samples)[None], output_hidden_states=True)
    return [state[0].numpy() for state in (*out.hidden_states[:-1], out.last_hidden_state)]


@pytest.mark.parametrize("layer", ["last", "mean", "1"])
def test_frames_equal_a_plain_pass_over_the_same_windows(
    checkpoint: Path, tmp_path: Path, layer: str
) -> None:
    samples = noise(tmp_path / "a.wav", 5.0)
    asked = EmbedOptions(layer=layer, window=2.0)
    embed(f"wav2vec2:{checkpoint}", [tmp_path / "a.wav"], tmp_path / "out", asked)
    rows, times = np.load(tmp_path / "out/a.npy"), np.load(tmp_path / "out/a.times.npy")
    # 2 s are 99 frames: windows begin every 1.98 s, the last is moved back to end with the audio.
    expected = []
    for first in (0, 99 * 320, 150 * 320):
        states = plain(checkpoint, samples[first : first + 2 * RATE])
        chosen = {"last": states[-1], "mean": np.mean(states, axis=0), "1": states[1]}[layer]
        expected.append(chosen if first < 150 * 320 else chosen[48:])
    np.testing.assert_allclose(rows, np.concatenate(expected), atol=2e-5)
    assert len(rows) == len(times) == 249
    assert times[0, 0] == 0 and times[-1].sum() == pytest.approx(5.0)
    np.testing.assert_allclose(times[1:, 0], times[:-1].sum(1))  # they tile
    centres = 0.0125 + 0.02 * np.arange(249)
    assert np.all((times[:, 0] <= centres) & (centres < times.sum(1)))


def test_windows_clips_and_formats_hold_the_same(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    noise(tmp_path / "in/child/a.wav", 5.0)
    noise(tmp_path / "in/b.wav", 1.0, 1)
    name, kinds = f"wav2vec2:{checkpoint}", ("npy", "safetensors", "parquet")
    frames = {}
    for kind in kinds:
        asked = EmbedOptions(window=2.0, format=kind)
        embed(name, [tmp_path / "in"], tmp_path / kind, asked)
    frames["npy"] = np.load(tmp_path / "npy/child/a.npy")
    held = load_file(tmp_path / "safetensors/child/a.safetensors")
    frames["safetensors"] = held["embeddings"]
    table = parquet.read_table(tmp_path / "parquet/child/a.parquet")
    frames["parquet"] = np.array(table["embedding"].to_pylist(), "f4")
    assert all(np.array_equal(frames["npy"], frames[kind]) for kind in kinds)
    times = np.load(tmp_path / "npy/child/a.times.npy")
    assert np.array_equal(held["times"], times)
    assert np.array_equal(table["start"].to_numpy(), times[:, 0])
    for per in ("window", "clip"):
        asked = EmbedOptions(window=2.0, per=per)
        embed(name, [tmp_path / "in"], tmp_path / per, asked)
    windows = np.load(tmp_path / "window/child/a.npy")
    np.testing.assert_allclose(windows[0], frames["npy"][:99].mean(0), atol=1e-6)
    assert np.load(tmp_path / "window/child/a.times.npy").tolist() == [[0, 2], [1.98, 2], [3, 2]]
    clips = np.load(tmp_path / "clip/embeddings.npy")
    index = list(csv.DictReader((tmp_path / "clip/index.csv").open()))
    assert [row["name"] for row in index] == ["b", "child/a"] and index[1]["row"] == "1"
    np.testing.assert_allclose(clips[1], frames["npy"].mean(0), atol=1e-6)


def test_it_goes_on_where_it_stopped_and_names_what_is_broken(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    for i in range(3):
        noise(tmp_path / f"in/{i}.wav", 1.0, i)
    (tmp_path / "in/bad.wav").write_bytes(b"RIFF\0\0")
    command = ["embed", f"wav2vec2:{checkpoint}", str(tmp_path / "in"), "--out"]
    heard: list[str] = []
    stopped: list[bool] = []
    own = module._Work._embedded

    def counting(self, recording, key):
        if recording.name == "2" and not stopped:
            stopped.append(True)
            raise KeyboardInterrupt  # as a kill would: nothing of it is written
        heard.append(recording.name)
        return own(self, recording, key)

    monkeypatch.setattr(module._Work, "_embedded", counting)
    out = [str(tmp_path / "out"), "--quiet"]
    assert main([*command, *out]) == 130
    before = (tmp_path / "out/0.npy").stat().st_mtime_ns
    assert main([*command, *out]) == 1
    assert heard == ["0", "1", "2", "bad"]
    assert (tmp_path / "out/0.npy").stat().st_mtime_ns == before
    said = capsys.readouterr()
    assert "bad.wav" in said.err and "3 embedded" in said.out and "(2 done before)" in said.out
    origin = json.loads((tmp_path / "out/embedding.json").read_text())
    assert len(origin["files"]) == 3 and len(origin["left_out"]) == 1 and not origin["waiting"]
    assert origin["layer"] == "last" and origin["files"][0]["digest"]
    heard.clear()
    noise(tmp_path / "in/1.wav", 1.0, 9)  # other audio under the old name
    assert main([*command, *out]) == 1 and set(heard) == {"1", "bad"}
    heard.clear()
    assert main([*command, *out, "--layer", "0"]) == 1 and set(heard) == {"0", "1", "2", "bad"}


def test_segments_ensembles_and_mistakes(checkpoint: Path, tmp_path: Path, capsys) -> None:
    name = f"wav2vec2:{checkpoint}"
    corpus = bab.load("datasets", "rttm")
    clip = next(iter(corpus(corpus.sample, corpus.Options()).clips()))
    (tmp_path / "rttm").mkdir()
    (tmp_path / "wav").mkdir()
    (tmp_path / f"wav/{Path(clip.path).name}").symlink_to(clip.path)
    lines = [
        f"SPEAKER {clip.id} 1 {s.start:.3f} {s.end - s.start:.3f} <NA> <NA> {s.label} <NA> <NA>"
        for s in clip.segments[:3]
    ]
    (tmp_path / f"rttm/{clip.id}.rttm").write_text("\n".join(lines) + "\n")
    asked = EmbedOptions(per="clip", segments=True)
    embed(f"{name}+fbank", [f"rttm:{tmp_path}"], tmp_path / "out", asked)
    index = list(csv.DictReader((tmp_path / "out/index.csv").open()))
    assert [row["label"] for row in index] == [s.label for s in clip.segments[:3]]
    both = np.load(tmp_path / "out/embeddings.npy")
    for each, part in (("fbank", both[:, 32:]), (name, both[:, :32])):
        embed(each, [f"rttm:{tmp_path}"], tmp_path / each[:5], asked)
        np.testing.assert_allclose(part, np.load(tmp_path / each[:5] / "embeddings.npy"), atol=1e-6)
    noise(tmp_path / "a.wav", 1.0)
    for words, part in (
        ((f"{name}+fbank",), "--per clip"), ((name, "--layer", "9"), "0 (the input"),
        ((name, "--window", "31"), "30 s at most"), ((name, "--segments"), "a.wav"),
        (("nothing",), "nothing"), ((name, "--set", "corpus.x=1"), "encoder.KEY"),
    ):  # fmt: skip
        call = ["embed", *words[:1], str(tmp_path / "a.wav"), "--out", str(tmp_path / "x")]
        assert main([*call, *words[1:]]) == 2, words
        assert part in capsys.readouterr().err, words
    (tmp_path / "y").mkdir()
    (tmp_path / "y/a.npy").write_bytes(b"mine")
    with pytest.raises(BabError, match="wasn't written by"):
        embed(name, [tmp_path / "a.wav"], tmp_path / "y")


def test_features_are_those_of_a_run(checkpoint: Path, tmp_path: Path) -> None:
    """The mean of a clip is what a probe with pooled features sees of it."""
    from bab.core.types import Clip, View
    from bab.data.windows import Examples
    from bab.features.source import FeatureSource
    from bab.features.store import Store

    noise(tmp_path / "a.wav", 35.0)
    embed(
        f"wav2vec2:{checkpoint}",
        [tmp_path / "a.wav"],
        tmp_path / "out",
        EmbedOptions(per="clip"),
    )
    encoder = Wav2Vec2.load(str(checkpoint), Wav2Vec2.Options())
    clip = Clip("a", str(tmp_path / "a.wav"), 0.0, 35.0, "g")
    examples = Examples([clip], View(), encoder.grid, encoder.max_seconds, True)
    store = Store(tmp_path / "cache", budget=0)
    cpu = torch.device("cpu")
    source = FeatureSource(encoder, "last", store, tmp_path / "memo", cpu, pool=True)
    expected = source.inputs(examples.items).states[0, 0, 0].numpy()
    np.testing.assert_allclose(np.load(tmp_path / "out/embeddings.npy")[0], expected, atol=1e-5)


def test_killed_between_a_file_and_its_note_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise(tmp_path / "a.wav", 1.0)
    out = tmp_path / "out"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.Results, "keep", killed)
        with pytest.raises((KeyboardInterrupt, BabError)):
            embed("fbank", [tmp_path / "a.wav"], out)
    assert (out / "a.npy").exists()
    done = embed("fbank", [tmp_path / "a.wav"], out)
    assert list(done.files) == ["a"] and done.again == 0
    noise(tmp_path / "b.wav", 1.0)
    (out / "b.npy").write_bytes(b"somebody's")
    with pytest.raises(BabError, match="wasn't written by"):
        embed("fbank", [tmp_path / "b.wav"], out)


@pytest.mark.parametrize(("encoder", "per"), [("fbank", "frame"), ("fbank+hubert", "clip")])
def test_stopped_inside_a_recording_it_goes_on_there(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, per: str
) -> None:
    noise(tmp_path / "long.wav", 95.0)
    name = encoder.replace("hubert", "hubert:random-tiny")
    asked = EmbedOptions(per=per)
    whole = embed(name, [tmp_path / "long.wav"], tmp_path / "whole", asked)
    add, rows = module.Spool.add, []

    def stopping(spool: object, new: object) -> None:
        add(spool, new)
        rows.append(new)
        if len(rows) == (6 if "+" in name else 3):  # of an ensemble in the second encoder
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(module.Spool, "add", stopping)
        with pytest.raises(bab.BabError, match="goes on"):
            embed(name, [tmp_path / "long.wav"], tmp_path / "out", asked)
    before = len(rows)
    assert list((tmp_path / "out" / ".bab").rglob("rows-*.npy"))

    def counting(spool: object, new: object) -> None:
        add(spool, new)
        rows.append(new)

    with monkeypatch.context() as patch:
        patch.setattr(module.Spool, "add", counting)
        done = embed(name, [tmp_path / "long.wav"], tmp_path / "out", asked)
    assert len(rows) - before == (8 - 6 if "+" in name else 4 - 3)
    assert done.files == whole.files
    assert not list((tmp_path / "out" / ".bab").rglob("rows-*.npy"))
    file = "embeddings.npy" if per == "clip" else "long.npy"
    assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_results_of_other_options_are_not_taken_for_these(tmp_path: Path) -> None:
    noise(tmp_path / "a.wav", 1.0)

    def embedded(layer: str) -> tuple[int, bytes]:
        asked = EmbedOptions(layer=layer)
        done = embed("fbank", [tmp_path / "a.wav"], tmp_path / "o", asked)
        return done.again, (tmp_path / "o" / "a.npy").read_bytes()

    last = embedded("last")
    assert embedded("mean")[0] == 0 and embedded("last") == last

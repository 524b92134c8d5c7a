"""`bab export --to onnx`, against the run's model, and where torch can't be imported."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from made_models import SIZE, made
from places import SAMPLES

from bab.core.errors import BabError, NotApplicableError
from bab.core.types import Batch, Waves
from bab.exporting import graph
from bab.exporting.export import export
from bab.exporting.settings import decodes, settings
from bab.exporting.source import open_source
from bab.predicting.predict import predict
from bab.running.saved import load_saved

NONE = torch.empty(0)
STABLE = {"size": SIZE | {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}}
ALONE = """
import runpy, sys
for name in ("torch", "bab", "transformers"):
    sys.modules[name] = None
runpy.run_path("label.py", run_name="__main__")
"""


def batch_of(count: int, samples: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(samples).normal(size=(count, samples))).astype("f4")


def session_of(folder: Path):
    import onnxruntime

    return onnxruntime.InferenceSession(folder / "model.onnx")


def labelled(folder: Path, *files: Path) -> str:
    """What label.py prints, without torch."""
    command = [sys.executable, "-c", ALONE, *map(str, files)]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("vtc", {}),
        ("vtc", {"options": STABLE, "layers": 1}),
        ("vtc", {"encoder": "wavlm", "options": {"normalize": True}}),
        ("vtc", {"encoder": "wav2vec2", "head": {"rnn": "bilstm", "hidden": 4, "conv": 6}}),
        ("vtc", {"encoder": "fbank", "head": {"rnn": "bilstm", "hidden": 4}}),
        ("gender", {"layers": "last"}),
        ("gender", {"options": STABLE, "pool": True}),
    ],
)
def test_onnxruntime_says_the_same_at_any_length(tmp_path, task, changes):
    run = made(tmp_path / "run", task, **changes)
    out = export(run, "onnx", tmp_path / "out").folder
    session, model = session_of(out), load_saved(run).model
    for count, samples in ((1, 400), (3, 8000), (1, 16123), (2, 70001)):
        x = batch_of(count, samples)
        more = {"first": np.zeros(count, np.int64)} if task == "gender" else {}
        (logits,) = session.run(None, {"samples": x, **more})
        waves = Waves(torch.from_numpy(x), torch.full((count,), samples))
        with torch.no_grad():
            own = model(Batch(waves, NONE, NONE, (), 0))[0].numpy()
        np.testing.assert_allclose(logits, own, atol=1e-4)


@pytest.mark.parametrize("pool", [True, False])
def test_a_clips_first_frames_can_be_left_out(tmp_path, pool):
    run = made(tmp_path / "run", "gender", pool=pool)
    out = export(run, "onnx", tmp_path / "out").folder
    x = batch_of(2, 9000)
    (logits,) = session_of(out).run(None, {"samples": x, "first": np.array([3, 20])})
    keep = torch.tensor([[3, 99], [20, 99]])
    waves = Waves(torch.from_numpy(x), torch.full((2,), 9000), keep)
    with torch.no_grad():
        own = load_saved(run).model(Batch(waves, NONE, NONE, (), 0))[0].numpy()
    np.testing.assert_allclose(logits, own, atol=1e-4)


def test_an_encoders_graph(tmp_path):
    run = made(tmp_path / "run", "asr", layers="last")
    with pytest.raises(NotApplicableError, match=r"head of task asr.*the whole model with --to hf"):
        export(run, "onnx", tmp_path / "out")
    out = export(run, "onnx", tmp_path / "out", encoder_only=True).folder
    assert sorted(p.name for p in out.iterdir()) == ["README.md", "bab.json", "model.onnx"]
    x = batch_of(2, 12345)
    last, layers = session_of(out).run(["last", "layers"], {"samples": x})
    waves = Waves(torch.from_numpy(x), torch.full((2,), 12345))
    with torch.no_grad():
        own = torch.stack(load_saved(run).encoder(waves).layers, dim=1).numpy()
    np.testing.assert_allclose(layers, own, atol=1e-4)
    np.testing.assert_array_equal(last, layers[:, -1])
    soundfile.write(out / "recording.wav", batch_of(1, 9000)[0], 16000)
    code = (out / "README.md").read_text().split("```python\n")[1].split("```")[0]
    ran = subprocess.run([sys.executable, "-c", code], cwd=out, capture_output=True, text=True)
    assert ran.stdout == "(1, 27, 32)\n", ran.stderr


def test_embeddings_of_speakers(tmp_path):
    run = made(tmp_path / "run", "sv", head={"relu": True})
    out = export(run, "onnx", tmp_path / "out").folder
    assert not (out / "label.py").exists()
    for count, samples in ((1, 5200), (2, 30000)):
        x = batch_of(count, samples)
        (vectors,) = session_of(out).run(None, {"samples": x})
        waves = Waves(torch.from_numpy(x), torch.full((count,), samples))
        with torch.no_grad():
            own = load_saved(run).model.embed(Batch(waves, NONE, NONE, (), 0)).numpy()
        np.testing.assert_allclose(vectors, own, atol=1e-4 * max(1.0, abs(own).max()))
    soundfile.write(out / "recording.wav", batch_of(1, 9000)[0], 16000)
    code = (out / "README.md").read_text().split("```python\n")[1].split("```")[0]
    ran = subprocess.run([sys.executable, "-c", code], cwd=out, capture_output=True, text=True)
    assert ran.stdout == "(1, 512)\n", ran.stderr


def test_the_script_labels_voices_as_predict_does(tmp_path):
    run = made(tmp_path / "run", "vtc", options={"normalize": True})
    out = export(run, "onnx", tmp_path / "out").folder
    short = tmp_path / "a short one.wav"
    soundfile.write(short, batch_of(1, 44100)[0][:, None].repeat(2, 1), 44100)
    files = [*sorted((SAMPLES / "rttm" / "wav").glob("home0[67].*")), short]
    predict(run, files, tmp_path / "own")
    own = "".join((tmp_path / "own" / f"{path.stem}.rttm").read_text() for path in files)
    said = labelled(out, *files)
    # Audio that isn't at 16 kHz is resampled in one piece here, in several there: to 1e-4.
    assert len(said.splitlines()) > 20
    assert rows_of(said) == rows_of(own)


def rows_of(text: str) -> list[tuple[str, ...]]:
    return [(*line.split()[:8],) for line in text.splitlines()]


@pytest.mark.parametrize("task", ["gender", "valence"])
def test_the_script_labels_clips_as_predict_does(tmp_path, task):
    run = made(tmp_path / "run", task, pool=True)
    out = export(run, "onnx", tmp_path / "out").folder
    files = []
    for seconds in (1.3, 5.7, 41.0):  # gender hears 30 s at once: its last window looks back
        rng = np.random.default_rng(round(seconds))
        wave = rng.normal(size=round(16000 * seconds)) * np.linspace(
            0.01, 0.3, round(16000 * seconds)
        )
        files.append(tmp_path / f"{round(seconds)}.wav")
        soundfile.write(files[-1], wave, 16000, subtype="FLOAT")
    predict(run, files, tmp_path / "own")
    rows = list(csv.DictReader(labelled(out, *files).splitlines()))
    with (tmp_path / "own" / "predictions.csv").open() as table:
        own = {row["id"]: row for row in csv.DictReader(table)}
    for row in rows:
        mine = own[row["id"]]
        mine.pop("notice", None)
        assert row.keys() == mine.keys() and row[task] == mine[task]
        for key in [key for key in row if "=" in key]:
            assert float(row[key]) == pytest.approx(float(mine[key]), abs=1e-5)
    assert len(rows) == 3


def test_a_task_that_decodes_otherwise_gets_no_script(tmp_path, monkeypatch):
    source = open_source(made(tmp_path / "run", "vtc"), True, False)
    about = settings(source, True)
    assert decodes(source.saved, about)
    assert not decodes(source.saved, about | {"fill_gaps": 500})
    monkeypatch.setattr(graph, "decodes", lambda saved, about: False)
    done = export(tmp_path / "run", "onnx", tmp_path / "out")
    assert "no label.py" in done.notices[0] and not (tmp_path / "out" / "label.py").exists()
    assert "session.run(None" in (tmp_path / "out" / "README.md").read_text()


def test_the_script_is_short_and_needs_little(tmp_path):
    source = Path(graph.label.__file__).read_text().splitlines()
    assert len([line for line in source if line.strip()]) < 60
    out = export(made(tmp_path / "run", "vtc"), "onnx", tmp_path / "out").folder
    import onnx

    made_of = onnx.load(out / "model.onnx")
    assert [one.version for one in made_of.opset_import if not one.domain] == [17]
    shapes = [
        (one.name, [d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim])
        for one in (*made_of.graph.input, *made_of.graph.output)
    ]
    assert shapes == [("samples", ["batch", "time"]), ("logits", ["batch", "frames", 4])]
    needs = (out / "requirements.txt").read_text().split()
    assert [one.split(">")[0] for one in needs] == ["numpy", "onnxruntime", "soundfile", "soxr"]
    assert json.loads((out / "bab.json").read_text())["presets"]["f1"]["thresholds"]["OCH"] == 0.4


def test_several_encoders_are_refused(tmp_path, monkeypatch):
    from bab.exporting import export as module

    source = open_source(made(tmp_path / "run", "gender"), True, False)
    saved = dataclasses.replace(source.saved, members=[source.encoder] * 2)
    several = dataclasses.replace(source, saved=saved)
    monkeypatch.setattr(module, "open_source", lambda *given: several)
    for to in ("hf", "onnx"):
        with pytest.raises(
            NotApplicableError, match=r"a fusion of 2 encoders\. Nothing of this run"
        ):
            export(tmp_path / "run", to, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_refusals(tmp_path, model, monkeypatch):
    with pytest.raises(
        NotApplicableError, match=r"encoder fbank\. .*the whole model with --to onn"
    ):
        export(model, "hf", tmp_path / "out")
    with pytest.raises(BabError, match="--to tflite: known are hf, onnx"):
        export(model, "tflite", tmp_path / "out")
    run = made(tmp_path / "run", "vtc")
    monkeypatch.setattr(graph, "_MOST", 1000)
    with pytest.raises(NotApplicableError, match="of at most 2 GB"):
        export(run, "onnx", tmp_path / "out")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BabError, match=r"pip install 'bab\[onnx\]'"):
        export(run, "onnx", tmp_path / "out")

"""bab explain points at planted sounds; its shares sum to the answer; layers and worst errors."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import planted
import pytest
import soundfile
import torch
from made_models import SIZE
from torch import Tensor, nn

import bab
from bab.cli import main
from bab.config.resolve import run_config
from bab.core import registry
from bab.core.types import Clip
from bab.explaining import attribution, errors
from bab.explaining.errors import worst_errors
from bab.explaining.explain import ExplainOptions, explain
from bab.explaining.layers import layer_weights
from bab.plugins.encoders.shared import speech
from bab.running.runner import run

pytest.importorskip("captum")
pytest.importorskip("matplotlib")
CLASSES = "task.classes=[KCHI,FEM]"


class ToneFront(bab.Encoder):
    """A front made by hand: a convolution tuned to the planted tone, rectified, at 10 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 400, stride=160, bias=False)
        time = torch.arange(400) / planted.RATE
        waves = [torch.sin(2 * math.pi * planted.TONE * time + p) for p in (0.0, math.pi / 2)]
        self.conv.weight.data = torch.stack(waves)[:, None] * torch.hann_window(400) / 20
        self.act = nn.ReLU()

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"conv": list(self.conv.parameters())}

    def score(self, samples: Tensor) -> Tensor:
        """f32[B, S] -> f32[B]: how much tone there is."""
        return self.act(self.conv(samples[:, None])).sum(1).mean(1)


def inside(count: int, seconds: float, segments: list, label: str) -> np.ndarray:
    """bool[count]: which of so many equal steps lie in the sound that was planted."""
    centres = (np.arange(count) + 0.5) * seconds / count
    return np.any([(centres >= a) & (centres < b) for a, b, what in segments if what == label], 0)


def test_a_front_made_by_hand_is_seen_where_the_tone_is() -> None:
    sound, segments = planted.scene(3)
    front, wave = ToneFront(), torch.from_numpy(sound.astype("f4"))
    assert attribution.last_convolution(front, nn.Linear(1, 1)) is front.conv
    shares = attribution.integrated_gradients(front.score, wave, planted.RATE)
    assert abs(shares.delta) < 0.02 * abs(shares.output - shares.baseline)
    assert shares.values.sum() == pytest.approx(
        shares.output - shares.baseline, rel=0.03
    )  # completeness
    time = shares.values.sum(0)
    assert time[inside(len(time), 4.0, segments, "KCHI")].sum() > 0.9 * time.sum()
    hertz = np.linspace(0, planted.RATE / 2, len(shares.values))
    near = np.abs(hertz - planted.TONE) < 150
    assert shares.values[near].sum() > 0.9 * shares.values.sum()
    cam = attribution.grad_cam(front.score, wave, front.conv)
    assert len(cam) == (len(sound) - 400) // 160 + 1 and cam.min() >= 0
    assert cam[inside(len(cam), 4.0, segments, "KCHI")].sum() > 0.5 * cam.sum()


def test_an_encoder_that_fills_short_sounds_up_is_noticed() -> None:
    front, wave = ToneFront(), torch.randn(8000)
    assert not attribution.fills_up(front.score, wave, front.conv)
    padded = lambda x: front.score(nn.functional.pad(x, (0, 16000 - x.shape[1])))  # noqa: E731
    assert attribution.fills_up(padded, wave, front.conv)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.lay(tmp_path_factory.mktemp("planted") / "corpus")


@pytest.fixture(scope="module")
def detector(corpus: Path) -> Path:
    """A small model that has learned to tell the planted sounds."""
    asked = {"encoder": "fbank", "task": "vtc", "corpus": f"rttm:{corpus}", "observers": []}
    sets = [
        "head.conv=16", "train.steps=120", "train.eval_every=60", "train.lr=1e-2",
        "train.batch=8", "view.window=2.0", CLASSES,
        f"cache.dir={corpus.parent / 'cache'}",
    ]  # fmt: skip
    record, folder = run(run_config(None, {**asked, "runs": str(corpus.parent / "runs")}, sets))
    assert record.metrics["f1"] > 0.85
    return folder


@pytest.mark.parametrize("label", ["KCHI", "FEM"])
def test_it_points_at_what_was_planted(
    detector: Path, corpus: Path, tmp_path: Path, label: str
) -> None:
    segments = planted.scene(11)[1]
    asked = ExplainOptions(label=label)
    done, paths = explain(detector, corpus / "wav/scene11.wav", tmp_path, asked)
    shares = done.shares
    assert abs(shares.delta) < 0.05 * (shares.output - shares.baseline)
    speaking = shares.values.clip(min=0).sum(0)
    there = inside(len(speaking), 4.0, segments, label)
    assert speaking[there].sum() > 0.6 * speaking.sum()  # a seventh or fifth of the time
    assert done.cam is not None and done.cam.min() >= 0
    if label == "FEM":
        cam = inside(len(done.cam), 4.0, segments, label)
        assert done.cam[cam].sum() > 0.7 * done.cam.sum()
    assert {s.label for s in done.segments} == {"KCHI", "FEM"}
    assert [path.suffix for path in paths] == [".png", ".svg", ".json"]
    assert paths[0].read_bytes()[:4] == b"\x89PNG"
    svg = paths[1].read_text()
    assert "frequency (Hz)" in svg and "time in the recording (s)" in svg and "KCHI" in svg
    facts = json.loads(paths[2].read_text())
    assert facts["logit"] == pytest.approx(shares.output)
    assert len(facts["grad_cam"]) == len(done.cam)


def test_one_frame_and_a_stretch(detector: Path, corpus: Path, tmp_path: Path) -> None:
    """Named in seconds of the file, whatever stretch is heard."""
    file = corpus / "wav/scene11.wav"
    asked = ExplainOptions(label="KCHI", at=3.1, start=2.5, end=3.9, formats=("svg",))
    done, paths = explain(detector, file, tmp_path, asked)
    assert done.start == 2.5 and len(done.sound) == round(1.4 * planted.RATE)
    time = done.shares.values.clip(min=0).sum(0)
    centres = 2.5 + np.arange(len(time)) * done.shares.hop
    assert abs(centres[time.argmax()] - 3.1) < 0.2
    assert len(paths) == 2 and "2.5-3.9" in paths[0].name


def test_the_worst_errors_of_frames(detector: Path, corpus: Path, tmp_path: Path, capsys) -> None:
    from bab.core.components import build_task
    from bab.data.annotations import open_format

    wrong = worst_errors(detector, 5)
    assert [one.clip.id for one in wrong] and wrong[0].error >= wrong[-1].error
    task = build_task("vtc", {"classes": ["KCHI", "FEM"]})
    for one in wrong:  # by hand: the file that the run wrote against the corpus
        path = detector / f"predictions/{task.presets[0]}/{one.clip.id}.rttm"
        marks = open_format("rttm").read(path)[0].marks
        seconds = 0.0
        for label in ("KCHI", "FEM"):
            grid = np.arange(0, 4, 1e-3) + 5e-4
            truth = inside(4000, 4.0, [(s.start, s.end, s.label) for s in one.clip.segments], label)
            said = np.zeros(4000, bool)
            for m in marks:
                said |= (grid >= m.start) & (grid < m.end) & (m.label == label)
            seconds += (truth != said).sum() * 1e-3
        assert one.error == pytest.approx(seconds, abs=0.02)
    # Names of files may be cut: what was said is known by the recording's whole name.
    copied = tmp_path / "run"
    place = Path(shutil.copytree(detector, copied)) / "predictions" / task.presets[0]
    for number, path in enumerate(sorted(place.glob("*.rttm"))):
        path.rename(place / f"cut-{number}.rttm")
    assert worst_errors(copied, 5) == wrong
    for table in place.glob("*.csv"):
        table.unlink()
    again = worst_errors(copied, 5)
    assert [(one.clip.id, one.error) for one in again] == [
        (one.clip.id, pytest.approx(one.error, abs=1e-6)) for one in wrong
    ]
    assert main(["explain", str(detector), "--errors", "1", "--out", str(tmp_path / "e")]) == 0
    (row,) = csv.DictReader((tmp_path / "e/errors.csv").open())
    assert row["clip"] == wrong[0].clip.id and row["unit"] == "wrong seconds"
    assert (tmp_path / f"e/error-01-{row['clip']}.png").exists()
    capsys.readouterr()


def test_layer_weights_are_those_of_the_mix(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "_TINY", SIZE | {"num_hidden_layers": 4})
    asked = {"encoder": "hubert:random-tiny", "task": "gender", "corpus": "kaldi", "observers": []}
    sets = ["train.steps=5", f"cache.dir={tmp_path / 'cache'}"]
    _, folder = run(run_config(None, {**asked, "runs": str(tmp_path / "runs")}, sets))
    (one,) = layer_weights(folder)
    tensors = bab.read_tensors(folder / "model/model.safetensors")
    assert one.shares == pytest.approx(tensors["mix.logits"].softmax(0).tolist())
    assert len(one.shares) == 5 and sum(one.shares) == pytest.approx(1)
    assert main(["explain", str(folder), "--layers", "--out", str(tmp_path / "l")]) == 0
    assert len((tmp_path / "l/layers.csv").read_text().splitlines()) == 6
    wrong = worst_errors(folder, 3)
    assert wrong[0].unit == "loss (nats)" and wrong[0].error >= wrong[1].error
    path = next((folder / "predictions").rglob("predictions.csv"))
    rows = {row["id"]: row for row in csv.DictReader(path.open())}
    right = f"gender={wrong[0].reference}"
    assert wrong[0].error == pytest.approx(-math.log(float(rows[wrong[0].clip.id][right])))
    clip, short = wrong[0].clip, ExplainOptions(end=0.6, formats=("svg",))
    done, _ = explain(folder, clip.path, tmp_path / "g", short)
    assert done.probabilities.shape[0] == 1 and not done.segments
    capsys.readouterr()


def test_tokens_of_a_text_model(tmp_path: Path, capsys) -> None:
    asked = {"encoder": "fbank", "task": "asr", "corpus": "kaldi", "observers": []}
    sets = ["train.steps=5", f"cache.dir={tmp_path / 'cache'}"]
    _, folder = run(run_config(None, {**asked, "runs": str(tmp_path / "runs")}, sets))
    wrong = worst_errors(folder, 2)
    assert "%" in wrong[0].unit and wrong[0].reference
    file = wrong[0].clip.path
    asked_for = ExplainOptions(token="a", end=1.0, formats=("svg",))
    done, _ = explain(folder, file, tmp_path / "t", asked_for)
    assert done.target == "a" and done.cam is None
    assert any("no Grad-CAM" in line for line in done.notices)
    shares = done.shares
    assert abs(shares.delta) < 0.1 * abs(shares.output - shares.baseline) + 0.01
    for words, part in (
        (["--label", "a"], "--token"), (["--token", "€"], "--token €"),
        (["--start", "99"], "99"), (["--at", "77"], "77"), (["--format", "pdf"], "pdf"),
    ):  # fmt: skip
        command = ["explain", str(folder), file, "--out", str(tmp_path / "x")]
        assert main([*command, *words]) == 2, words
        assert part in capsys.readouterr().err
    assert main(["explain", str(folder), "--layers", "--out", str(tmp_path / "x")]) == 2
    assert "mixes no layers" in capsys.readouterr().err
    assert main(["explain", str(folder), "--out", str(tmp_path / "x")]) == 2


@pytest.mark.slow
def test_a_trained_convolutional_front(corpus: Path, tmp_path: Path) -> None:
    """Grad-CAM of an encoder's own front, trained end to end: a minute on one core."""
    size = (
        "{hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 48, "
        "conv_dim: [16, 16, 16, 16, 16, 16, 16], num_conv_pos_embeddings: 16, "
        "num_conv_pos_embedding_groups: 4}"
    )
    asked = {"encoder": "hubert:random-tiny", "task": "vtc", "corpus": f"rttm:{corpus}"}
    sets = [
        f"encoder.size={size}", "encoder.dropout=0", "freeze=none", "train.steps=200",
        "train.eval_every=50", "train.lr=3e-3", "train.batch=8", "view.window=2.0",
        CLASSES, "mode=finetune", f"runs={tmp_path / 'runs'}",
    ]  # fmt: skip
    _, folder = run(run_config(None, {**asked, "observers": []}, sets))
    file, segments = corpus / "wav/scene11.wav", planted.scene(11)[1]
    done, _ = explain(folder, file, tmp_path, ExplainOptions(label="KCHI"))
    assert done.cam is not None
    there = inside(len(done.cam), 4.0, segments, "KCHI")
    assert done.cam[there].sum() > 0.7 * done.cam.sum()
    speaking = done.shares.values.clip(min=0).sum(0)
    there = inside(len(speaking), 4.0, segments, "KCHI")
    assert speaking[there].sum() > 0.6 * speaking.sum()
    assert soundfile.info(file).duration == 4.0


def test_errors_of_clips_are_those_that_have_a_row_and_count(tmp_path: Path) -> None:
    rows = ["id,gender,gender=female,gender=male", "a,female,0.75,0.25", "b,male,0.5,0.5"]
    (tmp_path / "predictions.csv").write_text("\n".join([*rows, "c,male,0.1,0.9"]) + "\n")
    cls = registry.load("tasks", "gender")
    listed = [
        Clip(name, "x.wav", 0.0, 1.0, "g", labels={"gender": label} if label else {})
        for name, label in (("a", "male"), ("b", "male"), ("c", ""), ("d", "female"))
    ]
    labels = {"gender": ("female", "male")}
    wrong = list(errors._clips(cls(cls.Options()), listed, tmp_path, labels))
    assert [one.clip.id for one in wrong] == ["a", "b"]  # c has no label, d no row
    assert [one.error for one in wrong] == pytest.approx([math.log(4), math.log(2)])
    assert [(one.reference, one.said) for one in wrong] == [
        ("male", "female (0.75)"),
        ("male", "male (0.50)"),
    ]

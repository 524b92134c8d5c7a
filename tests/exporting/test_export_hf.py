"""`bab export --to hf`, against transformers, and where bab can't be imported."""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

import forks
import numpy as np
import pytest
import soundfile
import torch
import transformers
from huggingface_hub import ModelCard
from made_models import LABELS, SIZE, made

from bab.core.errors import BabError, NotApplicableError
from bab.core.types import Batch, Waves
from bab.exporting.export import export
from bab.running.saved import load_saved

NONE = torch.empty(0)
STABLE = {"size": SIZE | {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}}


def audio(seconds: float, seed: int = 1) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=round(16000 * seconds))).astype("f4")


def theirs(folder: Path, auto: str, wave: np.ndarray):
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = getattr(transformers, auto).from_pretrained(folder)
    with torch.no_grad():
        return model(**extractor(wave, sampling_rate=16000, return_tensors="pt"))


def code_of(folder: Path) -> str:
    """The program in a folder's card."""
    return (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]


CASES = [
    ("vtc", {}, "AutoModelForAudioFrameClassification"),
    ("vtc", {"encoder": "wav2vec2", "layers": "last"}, "AutoModelForAudioFrameClassification"),
    ("vtc", {"encoder": "wavlm", "layers": 1}, "AutoModelForAudioFrameClassification"),
    ("vtc", {"options": STABLE, "layers": 1}, "AutoModelForAudioFrameClassification"),
    ("vtc", {"options": STABLE, "layers": "last"}, "AutoModelForAudioFrameClassification"),
    ("vtc", {"options": {"normalize": True}}, "AutoModelForAudioFrameClassification"),
    ("gender", {"pool": True}, "AutoModelForAudioClassification"),
    ("gender", {"head": {"hidden": 0}, "layers": 0}, "AutoModelForAudioClassification"),
    ("valence", {"pool": True, "layers": "last"}, "AutoModelForAudioClassification"),
    ("sv", {}, "AutoModelForAudioXVector"),
    ("sv", {"encoder": "wavlm", "head": {"size": 64}}, "AutoModelForAudioXVector"),
    ("asr", {"layers": "last"}, "AutoModelForCTC"),
    ("phonemes", {"layers": "last", "head": {"widths": [24]}}, "AutoModelForCTC"),
]


@pytest.mark.parametrize(("task", "changes", "auto"), CASES)
def test_transformers_says_the_same(tmp_path, task, changes, auto):
    run = made(tmp_path / "run", task, **changes)
    done = export(run, "hf", tmp_path / "out")
    assert done.loads == auto
    saved = load_saved(run)
    for seconds in (0.5, 2.3):
        wave = audio(seconds)
        out = theirs(tmp_path / "out", auto, wave)
        samples = torch.from_numpy(wave)[None]
        batch = Batch(Waves(samples, torch.tensor([len(wave)])), NONE, NONE, (), 0)
        with torch.no_grad():
            torch.testing.assert_close(out.logits, saved.model(batch)[0], atol=1e-5, rtol=1e-5)
            if task == "sv":
                own = saved.model.embed(batch)
                torch.testing.assert_close(out.embeddings, own, atol=1e-5, rtol=1e-5)
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    if task in ("vtc", "gender", "valence"):
        assert list(config.id2label.values()) == next(iter(LABELS[task].values()))
    written = "".join(
        p.read_text() for p in (tmp_path / "out").iterdir() if p.suffix != ".safetensors"
    )
    assert "Secret" not in written and str(tmp_path) not in written


def test_the_tokenizer_spells_as_the_task_does(tmp_path):
    for task, ids, text in (
        ("asr", [3, 3, 0, 3, 1, 1, 5, 2, 0], "aa é'"),
        ("phonemes", [1, 0, 1, 3, 3, 2], "AA AA sh B"),
    ):
        out = export(made(tmp_path / task, task, layers="last"), "hf", tmp_path / f"{task}-out")
        assert not [line for line in out.notices if "tokenizer" in line]
        processor = transformers.AutoProcessor.from_pretrained(out.folder)
        assert processor.decode(ids).strip() == text
        model = transformers.AutoModelForCTC.from_pretrained(out.folder)
        (names,) = LABELS[task].values()
        assert model.config.vocab_size == len(processor.tokenizer) == len(names)


@pytest.mark.parametrize(
    ("task", "changes", "says"),
    [
        (
            "vtc",
            {"head": {"rnn": "bilstm", "hidden": 4}},
            "head frames with rnn: bilstm.*--to onnx",
        ),
        ("vtc", {"head": {"conv": 4}}, "head frames with conv"),
        ("vtc", {"options": STABLE}, "layers mix over .* do_stable_layer_norm"),
        ("asr", {"layers": "last", "head": {"rnn": "bilstm", "hidden": 4}}, "--encoder-only"),
        ("asr", {"layers": "mix"}, "layers mix under a CTC head"),
        ("phonemes", {"layers": "last", "head": {"widths": [8], "activation": "relu"}}, "relu"),
        ("sv", {"head": {"relu": True}}, "head xvector with relu"),
    ],
)
def test_what_has_no_place_is_named(tmp_path, task, changes, says):
    run = made(tmp_path / "run", task, **changes)
    with pytest.raises(NotApplicableError, match=says) as caught:
        export(run, "hf", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert export(run, "hf", tmp_path / "out", encoder_only=True).loads == "AutoModel"


def test_an_encoder_alone(tmp_path):
    run = made(tmp_path / "run", "vtc", head={"conv": 4})
    out = export(run, "hf", tmp_path / "out", encoder_only=True).folder
    wave = audio(1.0)
    states = theirs(out, "AutoModel", wave).last_hidden_state
    waves = Waves(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))
    with torch.no_grad():
        own = load_saved(run).encoder(waves).layers[-1]
    torch.testing.assert_close(states, own, atol=1e-5, rtol=1e-5)
    assert transformers.AutoConfig.from_pretrained(out).model_type == "hubert"
    settings = json.loads((out / "bab.json").read_text())
    assert settings["hop"] == 320 and "labels" not in settings


def test_no_foreign_folder_is_replaced(tmp_path, model):
    run = made(tmp_path / "run", "vtc")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(BabError, match="no export has written"):
        export(run, "hf", tmp_path / "mine")
    with pytest.raises(BabError, match="is a file"):
        export(run, "hf", tmp_path / "mine" / "thesis.txt")
    export(run, "hf", tmp_path / "out")
    export(run, "hf", tmp_path / "out")
    with pytest.raises(BabError, match="no such run folder"):
        export(tmp_path / "nothing", "hf", tmp_path / "out2")
    with pytest.raises(NotApplicableError, match="no place for encoder fbank"):
        export(model, "hf", tmp_path / "out2")


@pytest.mark.parametrize(
    ("task", "changes"),
    [("gender", {}), ("sv", {}), ("asr", {"layers": "last"}), ("vtc", {"encoder": "wavlm"})],
)
def test_the_cards_code_runs_as_printed(tmp_path, monkeypatch, capsys, task, changes):
    out = export(made(tmp_path / "run", task, **changes), "hf", tmp_path / "out").folder
    ModelCard.load(out / "README.md")
    for name, seed in (("recording", 1), ("first", 2), ("second", 3)):
        soundfile.write(out / f"{name}.wav", np.stack([audio(9.5, seed)] * 2, axis=1), 22050)
    (out / "usage.py").write_text(code_of(out))
    monkeypatch.chdir(out)
    runpy.run_path("usage.py")
    said = capsys.readouterr().out
    wanted = {"gender": "gender: female 0.", "sv": "cosine ", "asr": "", "vtc": "KCHI: "}
    assert wanted[task] in said


def test_the_folder_works_where_bab_is_not(tmp_path):
    out = export(made(tmp_path / "run", "vtc"), "hf", tmp_path / "out").folder
    soundfile.write(out / "recording.wav", audio(9.5), 16000)
    (out / "usage.py").write_text("import sys; sys.modules['bab'] = None\n" + code_of(out))
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    ran = forks.run([sys.executable, "usage.py"], out, env)
    assert ran.returncode == 0, ran.stderr
    assert [line.split(":")[0] for line in ran.stdout.splitlines()] == ["KCHI", "OCH", "MAL", "FEM"]

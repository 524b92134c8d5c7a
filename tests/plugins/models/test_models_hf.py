"""hf: against transformers itself, on random weights saved to disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hf_models import STABLE, saved_model

from bab.core.errors import BabError
from bab.core.types import Batch, Waves
from bab.running.saved import load_saved

VOCABULARY = {"<s>": 1, "<pad>": 2, "</s>": 3, "|": 0, "a": 4, "b": 5, "ç": 6}


def audio(seconds: float = 2.3) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.1, round(16000 * seconds)).astype(np.float32)


def both(folder: Path, model, extractor, embed: bool = False):
    """What transformers says of some audio, and what bab says: f32, without the batch."""
    samples = audio()
    given = extractor(samples, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        out = model(**given)
        saved = load_saved(f"hf:{folder}")
        waves = Waves(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
        batch = Batch(waves, torch.empty(0), torch.empty(0), (), 0)
        said = saved.model.embed(batch) if embed else saved.model(batch)[0]
    return saved, (out.embeddings if embed else out.logits)[0], said[0]


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("wav2vec2", {}),
        ("wav2vec2", STABLE),
        ("wav2vec2", {"use_weighted_layer_sum": True}),
        ("hubert", {}),
        ("hubert", STABLE),
        ("wavlm", {}),
    ],
)
def test_clip_labels_are_transformers_own(tmp_path, family, changes):
    names = {0: "angry", 1: "calm", 2: "sad"}
    model, extractor = saved_model(
        tmp_path, family, "SequenceClassification", id2label=names, **changes
    )
    saved, wanted, said = both(tmp_path, model, extractor)
    assert torch.allclose(said, wanted, atol=1e-4) and wanted.std() > 1e-3
    assert saved.labels == {"label": ("angry", "calm", "sad")}


def test_mixed_layers_end_with_the_normed_state(tmp_path):
    """As transformers 4 had it, which models with a mix of layers were trained with: transformers
    5 hands over the last layer's output before the final norm (decisions.md)."""
    changes = {**STABLE, "use_weighted_layer_sum": True}
    model, extractor = saved_model(tmp_path, "wav2vec2", "SequenceClassification", **changes)
    _, _, said = both(tmp_path, model, extractor)
    given = extractor(audio(), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        out = model.wav2vec2(**given, output_hidden_states=True)
        states = torch.stack([*out.hidden_states[:-1], out.last_hidden_state])
        mixed = torch.einsum("l,lbtd->btd", model.layer_weights.softmax(0), states)
        wanted = model.classifier(model.projector(mixed).mean(1))[0]
    assert torch.allclose(said, wanted, atol=1e-4)


@pytest.mark.parametrize("family", ["wav2vec2", "wavlm"])
def test_frame_labels_are_transformers_own(tmp_path, family):
    names = {0: "FEM", 1: "KCHI"}
    model, extractor = saved_model(tmp_path, family, "AudioFrameClassification", id2label=names)
    saved, wanted, said = both(tmp_path, model, extractor)
    assert said.shape == wanted.shape and torch.allclose(said, wanted, atol=1e-4)
    assert saved.labels == {"voice": ("FEM", "KCHI")}
    assert saved.spec["task"]["options"]["classes"] == ["KCHI", "FEM"]


@pytest.mark.parametrize("shared", [False, True])
def test_speaker_vectors_are_transformers_own(tmp_path, shared):
    model, extractor = saved_model(
        tmp_path, "wav2vec2", "XVector", use_weighted_layer_sum=shared, num_labels=7
    )
    saved, wanted, said = both(tmp_path, model, extractor, embed=True)
    assert torch.allclose(said, wanted, atol=1e-4)
    assert len(saved.labels["speaker"]) == 7 and saved.task.pairs
    _, wanted, said = both(tmp_path, model, extractor)
    assert torch.allclose(said, wanted, atol=1e-4)


@pytest.mark.parametrize("family", ["wav2vec2", "hubert"])
def test_texts_are_transformers_own(tmp_path, family):
    model, extractor = saved_model(tmp_path, family, "CTC", vocab_size=7, pad_token_id=2)
    (tmp_path / "vocab.json").write_text(json.dumps(VOCABULARY), encoding="utf-8")
    tokenizer = transformers.Wav2Vec2CTCTokenizer(tmp_path / "vocab.json", unk_token="<s>")
    tokenizer.save_pretrained(tmp_path)
    saved, wanted, said = both(tmp_path, model, extractor)
    order = [2, 0, 1, 3, 4, 5, 6]
    assert torch.allclose(said, wanted[:, order], atol=1e-4)
    assert saved.labels["char"] == ("<blank>", " ", "<s>", "</s>", "a", "b", "ç")

    import bab

    text = tokenizer.batch_decode(wanted.argmax(-1)[None])[0]
    predicted = bab.Predictor(f"hf:{tmp_path}")(audio(), sampling_rate=16000).text
    assert len(set(text)) > 1 and predicted == " ".join(text.split())


def test_phones_are_read_for_their_own_task(tmp_path):
    saved_model(tmp_path, "wav2vec2", "CTC", vocab_size=4, pad_token_id=0)
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "a": 1, "tʃ": 2, "o": 3}))
    said = {"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    saved = load_saved(f"hf:{tmp_path}")
    assert saved.spec["task"]["name"] == "phonemes"
    assert saved.labels["phone"] == ("<blank>", "a", "tʃ", "o")


def test_what_is_not_read_is_refused_by_name(tmp_path):
    with pytest.raises(BabError, match=r"hf:DIR or hf:OWNER/NAME"):
        load_saved("hf:")
    with pytest.raises(BabError, match=r"no config\.json"):
        load_saved(f"hf:{tmp_path}")
    wrong = tmp_path / "wrong"
    saved_model(wrong, "wav2vec2", "AudioFrameClassification", num_labels=2)
    with pytest.raises(BabError, match=r"LABEL_0, LABEL_1.*id2label"):
        load_saved(f"hf:{wrong}")
    config = wrong / "config.json"
    said = json.loads(config.read_text())
    for changes, match in (
        ({"architectures": ["Wav2Vec2Model"]}, "holds Wav2Vec2Model of type 'wav2vec2'"),
        ({"model_type": "whisper"}, "of type 'whisper'"),
        ({"add_adapter": True}, "adapter"),
    ):
        config.write_text(json.dumps({**said, **changes}))
        with pytest.raises(BabError, match=match):
            load_saved(f"hf:{wrong}")
    lost = tmp_path / "lost"
    saved_model(lost, "wav2vec2", "CTC", vocab_size=4, pad_token_id=0)
    with pytest.raises(BabError, match=r"no vocab\.json"):
        load_saved(f"hf:{lost}")
    said = json.loads((lost / "config.json").read_text())
    said["architectures"] = ["Wav2Vec2ForXVector"]
    (lost / "config.json").write_text(json.dumps(said))
    with pytest.raises(BabError, match=r"lacks 'tdnn"):
        load_saved(f"hf:{lost}")


def test_a_name_that_no_reader_has(tmp_path):
    with pytest.raises(BabError, match=r"no models are called 'nobody'.*hf:"):
        load_saved(f"nobody:{tmp_path}")
    with pytest.raises(BabError, match="no such run folder"):
        load_saved(tmp_path / "nowhere")

"""hubert on BabyHuBERT's format, against torchaudio's own HuBERTPretrainModel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bab.core.types import Waves
from bab.core.weights import WeightsError
from bab.plugins.encoders.hubert import Hubert
from bab.plugins.encoders.wav2vec2 import Wav2Vec2


def load(path: Path) -> Any:
    return Hubert.load(str(path), Hubert.Options())


def pretraining_model(norm: str = "group_norm", width: int = 128, conv: Any = None) -> nn.Module:
    """A small HuBERTPretrainModel; torchaudio's own base has the same shape in large."""
    from torchaudio.models import hubert_pretrain_model

    torch.manual_seed(3)
    return hubert_pretrain_model(
        extractor_mode=norm,
        extractor_conv_layer_config=conv or [(32, 10, 5), *[(32, 3, 2)] * 4, *[(32, 2, 2)] * 2],
        extractor_conv_bias=norm == "layer_norm",
        encoder_embed_dim=width,
        encoder_projection_dropout=0.1,
        encoder_pos_conv_kernel=32,
        encoder_pos_conv_groups=8,
        encoder_num_layers=3,
        encoder_num_heads=width // 64,
        encoder_attention_dropout=0.1,
        encoder_ff_interm_features=96,
        encoder_ff_interm_dropout=0.1,
        encoder_dropout=0.1,
        encoder_layer_norm_first=norm == "layer_norm",
        encoder_layer_drop=0.1,
        mask_prob=0.8,
        mask_selection="static",
        mask_other=0.0,
        mask_length=10,
        no_mask_overlap=False,
        mask_min_space=1,
        mask_channel_prob=0.0,
        mask_channel_selection="static",
        mask_channel_other=0.0,
        mask_channel_length=10,
        no_mask_channel_overlap=False,
        mask_channel_min_space=1,
        skip_masked=False,
        skip_nomask=False,
        num_classes=20,
        final_dim=16,
        feature_grad_mult=0.1,
    ).eval()


def lightning(model: nn.Module, path: Path) -> Path:
    """Save as Lightning does, with what else such a file holds."""
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    extra = {"epoch": 3, "global_step": 9, "optimizer_states": [{"state": {}}], "loops": {}}
    torch.save({"state_dict": state, **extra}, path)
    return path


def assert_same_as_torchaudio(encoder: Any, model: Any, stable: bool) -> None:
    torch.manual_seed(5)
    batch = Waves(torch.randn(2, 9001) * 0.1, torch.tensor([9001, 5555]))
    with torch.no_grad():
        got = encoder(batch)
        for row, size in enumerate(batch.lengths.tolist()):
            clip = batch.samples[row : row + 1, :size]
            states, _ = model.wav2vec2.extract_features(clip)
            if stable:  # extract_features stops before the last layer norm
                states[-1], _ = model.wav2vec2(clip)
            assert len(states) == encoder.depth - 1
            for mine, theirs in zip(got.layers[1:], states, strict=True):
                frames = theirs.shape[1]
                torch.testing.assert_close(mine[row, :frames], theirs[0], atol=1e-4, rtol=0)


def test_babyhubert_format_at_full_size(tmp_path: Path) -> None:
    from torchaudio.models import hubert_pretrain_base

    torch.manual_seed(1)
    model = hubert_pretrain_base(num_classes=500).eval()
    file = lightning(model, tmp_path / "epoch=45-step=400000.ckpt")
    encoder = load(file)
    assert encoder.resolved == f"hubert:{file}" and encoder.normalize is False
    assert (encoder.dim, encoder.depth) == (768, 13)
    assert_same_as_torchaudio(encoder, model, stable=False)
    embedding = encoder.model.masked_spec_embed
    assert torch.equal(embedding, model.mask_generator.mask_embedding)


@pytest.mark.parametrize("norm", ["group_norm", "layer_norm"])
def test_babyhubert_format(norm: str, tmp_path: Path) -> None:
    model = pretraining_model(norm)
    stable = norm == "layer_norm"
    lightning(model, tmp_path / "a.ckpt")
    assert_same_as_torchaudio(load(tmp_path), model, stable)  # the folder's only one
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    assert_same_as_torchaudio(load(tmp_path / "plain.pt"), model, stable)
    # Weight norm's names before torch 2, as older checkpoints have them.
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in model.state_dict().items()
    }
    assert old.keys() != model.state_dict().keys()
    torch.save({"state_dict": {f"model.{k}": v for k, v in old.items()}}, tmp_path / "old.ckpt")
    assert_same_as_torchaudio(load(tmp_path / "old.ckpt"), model, stable)


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    conv = [(32, 10, 5), *[(32, 3, 2)] * 4, *[(32, 3, 2)] * 2]
    cases = {
        "linear.pt": (nn.Linear(2, 2), "is no torchaudio HuBERT: it has no tensor"),
        "conv.ckpt": (pretraining_model(conv=conv), "convolutions of width"),
        "cut.ckpt": (pretraining_model().wav2vec2.feature_extractor, "no torchaudio HuBERT"),
    }
    for name, (model, says) in cases.items():
        with pytest.raises(WeightsError, match=says):
            load(lightning(model, tmp_path / name))
    state = pretraining_model().state_dict()
    del state["wav2vec2.encoder.transformer.layers.1.final_layer_norm.bias"]
    torch.save(state, tmp_path / "hole.pt")
    with pytest.raises(WeightsError, match=r"hole.pt lacks 1 of .*layers\.1\.final_layer_norm"):
        load(tmp_path / "hole.pt")
    with pytest.raises(WeightsError, match="only hubert reads those"):
        Wav2Vec2.load(str(tmp_path / "hole.pt"), Wav2Vec2.Options())

"""Objective masked: against torchaudio's HuBERTPretrainModel with the loss of its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bab.core.errors import ConfigError, PluginError
from bab.core.interfaces import Encoder
from bab.core.types import Batch, Encoded, Loss, Waves
from bab.plugins.encoders.fbank import Fbank
from bab.plugins.encoders.hubert import Hubert
from bab.plugins.objectives.masked import Masked
from bab.pretraining.masking import span_mask

CLUSTERS = 20


class Bare:
    """What the core's pretraining model does: the encoder's last state of the masked batch."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def encode(self, batch: Batch) -> Encoded:
        assert isinstance(batch.inputs, Waves)
        return self.encoder(batch.inputs, batch.mask, "last")


def make_batch(encoder: Encoder, sizes: list[int], first: int = 0) -> Batch:
    """Noise of the given lengths in samples; each example depends on its number alone."""
    frames = [encoder.grid.frames(size) for size in sizes]
    samples = torch.zeros(len(sizes), max(sizes))
    mask = torch.zeros(len(sizes), max(frames), dtype=torch.bool)
    targets = torch.zeros(len(sizes), max(frames), dtype=torch.int64)
    for row, (size, count) in enumerate(zip(sizes, frames, strict=True)):
        draw = torch.Generator().manual_seed(first + row)
        samples[row, :size] = torch.randn(size, generator=draw) * 0.1
        targets[row, :count] = torch.randint(CLUSTERS, (count,), generator=draw)
        mask[row, :count] = span_mask(count, 0.8, 10, 2, first + row)
    waves = Waves(samples, torch.tensor(sizes))
    return Batch(waves, targets, torch.tensor(frames), (), 0, mask=mask)


def of_torchaudio(
    norm: str = "group_norm", full: bool = False, scale: float | None = 0.1
) -> nn.Module:
    """A HuBERTPretrainModel without randomness, small or (full) of hubert_pretrain_base's size."""
    from torchaudio.models import hubert_pretrain_base, hubert_pretrain_model

    torch.manual_seed(3)
    still: dict[str, Any] = {
        "encoder_projection_dropout": 0.0,
        "encoder_attention_dropout": 0.0,
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": 0.0,
        "encoder_layer_drop": 0.0,
        "feature_grad_mult": scale,
        "num_classes": CLUSTERS,
    }
    if full:
        return hubert_pretrain_base(**still)
    return hubert_pretrain_model(
        extractor_mode=norm,
        extractor_conv_layer_config=[(32, 10, 5), *[(32, 3, 2)] * 4, *[(32, 2, 2)] * 2],
        extractor_conv_bias=norm == "layer_norm",
        encoder_embed_dim=128,
        encoder_pos_conv_kernel=32,
        encoder_pos_conv_groups=8,
        encoder_num_layers=2,
        encoder_num_heads=2,
        encoder_ff_interm_features=96,
        encoder_layer_norm_first=norm == "layer_norm",
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
        final_dim=16,
        **still,
    )


def recipe_loss(model: Any, batch: Batch, mask: Tensor, unmasked: float) -> Tensor:
    """The loss of torchaudio's HuBERT recipe, summed over masked frames, over their number.

    Written anew from its definition: cross-entropy with the right class first, the features'
    mean square x 10 x masked frames, the other frames with their weight.
    """
    assert isinstance(batch.inputs, Waves)
    right, other, penalty = model(batch.inputs.samples, batch.targets)
    loss = 10.0 * penalty * mask.sum()
    for logits, weight in ((right, 1.0), (other, unmasked)):
        first = torch.zeros(len(logits), dtype=torch.int64)
        loss = loss + weight * functional.cross_entropy(logits, first, reduction="sum")
    return loss / mask.sum()


def divided(objective: Masked, loss: Loss, batch: Batch) -> Tensor:
    """What the trainer makes of one batch."""
    counts = objective.counts(batch)
    assert counts == {name: term.count for name, term in loss.terms.items()}
    parts = [t.weight * t.total / counts[name] for name, t in loss.terms.items()]
    return torch.stack(parts).sum()


def ours_of(theirs: Any, folder: Path, **options: Any) -> tuple[Any, Masked]:
    """Encoder and objective with torchaudio's weights, by way of a file."""
    path = folder / "model.pt"
    torch.save(theirs.state_dict(), path)
    scale = theirs.feature_grad_mult or 1.0
    encoder = Hubert.load(str(path), Hubert.Options(dropout=0.0, feature_grad_mult=scale))
    width = theirs.logit_generator.label_embeddings.shape[1]
    objective = Masked(encoder.dim, [CLUSTERS], Masked.Options(final_dim=width, **options))
    objective.attach(encoder)
    assert objective.load_pretrained(encoder.extras())
    return encoder.train(), objective.train()


def check_equal(
    theirs: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, size: int, unmasked: float = 0.0
) -> None:
    """The loss and every gradient, to 1e-4."""
    from torchaudio.models.wav2vec2 import components

    from bab.plugins.encoders.shared.torchaudio import convert

    encoder, objective = ours_of(theirs, folder, unmasked_weight=unmasked)
    batch = make_batch(encoder, [size] * 3)
    assert batch.mask is not None
    mask = batch.mask
    monkeypatch.setattr(components, "_compute_mask_indices", lambda *a, **k: mask.clone())
    wanted = recipe_loss(theirs.train(), batch, mask, unmasked)
    got = divided(objective, objective(Bare(encoder), batch), batch)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(got, wanted, **close)
    wanted.backward()
    got.backward()
    grads = {
        k: torch.zeros_like(p) if p.grad is None else p.grad for k, p in theirs.named_parameters()
    }
    _, inside, outside = convert(grads, "")
    own = dict(encoder.model.named_parameters())
    own |= {f"masked.{name}": p for name, p in objective.named_parameters()}
    assert inside.keys() | outside.keys() == own.keys()
    for name, gradient in {**inside, **outside}.items():
        mine = own[name].grad
        torch.testing.assert_close(mine, gradient, **close, msg=lambda m, n=name: f"{n}: {m}")
        # Some gradients are small: they agree beyond the absolute tolerance, too.
        assert float((mine - gradient).norm()) <= 1e-3 * float(gradient.norm()) + 1e-6, name


@pytest.mark.parametrize("norm", ["group_norm", "layer_norm"])
@pytest.mark.parametrize("unmasked", [0.0, 0.5])
def test_equals_torchaudio(
    norm: str, unmasked: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_equal(of_torchaudio(norm), tmp_path, monkeypatch, 16000, unmasked)


def test_equals_torchaudio_without_gradient_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_equal(of_torchaudio(scale=None), tmp_path, monkeypatch, 8000)


@pytest.mark.slow
def test_equals_hubert_pretrain_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_equal(of_torchaudio(full=True), tmp_path, monkeypatch, 48000)


def untrained(**options: Any) -> tuple[Any, Masked]:
    torch.manual_seed(1)
    encoder = Hubert.load("random-tiny", Hubert.Options(dropout=0.0))
    objective = Masked(encoder.dim, [CLUSTERS], Masked.Options(**options))
    objective.attach(encoder)
    return encoder, objective


def test_sums_do_not_depend_on_how_the_batch_is_cut() -> None:
    encoder, objective = untrained(unmasked_weight=0.3)
    sizes = [16000, 9000, 12345, 16000]
    with torch.no_grad():
        whole = objective(Bare(encoder), make_batch(encoder, sizes))
        parts = [
            objective(Bare(encoder), make_batch(encoder, [size], first=row))
            for row, size in enumerate(sizes)
        ]
    assert whole.terms.keys() == {"masked", "penalty", "unmasked"}
    for name, term in whole.terms.items():
        assert term.exact
        assert term.count == sum(part.terms[name].count for part in parts)
        summed = sum(float(part.terms[name].total) for part in parts)
        assert float(term.total) == pytest.approx(summed, rel=1e-4)
    for key in ("accuracy", "mask_share"):
        assert whole.logs[key] == tuple(sum(part.logs[key][i] for part in parts) for i in (0, 1))


def test_counts_are_of_valid_frames() -> None:
    encoder, objective = untrained()
    batch = make_batch(encoder, [16000, 8000])
    assert batch.mask is not None
    counts = objective.counts(batch)
    assert counts == {"masked": float(batch.mask.sum()), "penalty": 49.0 + 24.0}


def test_nothing_masked() -> None:
    encoder, objective = untrained()
    batch = make_batch(encoder, [8000])
    assert batch.mask is not None
    batch.mask[:] = False
    loss = objective(Bare(encoder), batch)
    assert not loss.terms["masked"].total.any()
    assert objective.counts(batch)["masked"] == 0
    loss.terms["masked"].total.backward()
    assert all(p.grad is not None and not p.grad.any() for p in objective.parameters())


def test_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, objective = untrained()
    batch = make_batch(encoder, [16000, 16000])
    with torch.no_grad():
        for value in (objective.final_proj.weight, objective.final_proj.bias):
            value.zero_()
        objective.final_proj.bias.copy_(objective.label_embeddings[4] * 3)
        # Far from the others, so that nothing else is ever predicted.
        objective.label_embeddings.neg_()
        objective.label_embeddings[4].neg_()
    told: list[bool] = []
    real = objective._logs
    monkeypatch.setattr(
        objective, "_logs", lambda x, *more: told.append(x.requires_grad) or real(x, *more)
    )
    logs = objective(Bare(encoder), batch).logs
    assert not any(isinstance(value, torch.Tensor) for pair in logs.values() for value in pair)
    assert told == [False]  # on a GPU they would hold the step's graph until they are fetched
    assert batch.mask is not None
    masked = float(batch.mask.sum())
    hits = float((batch.targets[batch.mask] == 4).sum())
    assert 0 < hits < masked and logs["accuracy"] == (hits, masked)
    assert logs["perplexity"][0] / masked == pytest.approx(1.0, abs=0.01)
    assert logs["mask_share"] == (masked, 98.0)


def test_extras_go_out_and_come_back(tmp_path: Path) -> None:
    encoder, objective = untrained()
    encoder.export(tmp_path, objective.extras())
    again = Hubert.load(str(tmp_path), Hubert.Options())
    assert again.fingerprint == encoder.fingerprint
    other = Masked(again.dim, [CLUSTERS], Masked.Options())
    assert other.load_pretrained(again.extras()) and objective.state_dict()
    for name, tensor in objective.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    more = Masked(again.dim, [CLUSTERS + 1], Masked.Options())
    before = more.final_proj.weight.clone()
    assert not more.load_pretrained(again.extras())
    assert torch.equal(more.final_proj.weight, before)
    assert not more.load_pretrained({})


def test_what_can_not_be_pretrained() -> None:
    fbank = Fbank.load(Fbank.default, Fbank.Options())
    with pytest.raises(ConfigError, match="can't pretrain 'fbank"):
        Masked(40, [9], Masked.Options()).attach(fbank)
    with pytest.raises(PluginError, match="one set of clusters"):
        Masked(40, [9, 9], Masked.Options())
    encoder, objective = untrained()
    batch = make_batch(encoder, [8000])
    batch.targets = batch.targets[:, :-1]
    with pytest.raises(PluginError, match="targets of"):
        objective(Bare(encoder), batch)
    batch.mask = None
    with pytest.raises(PluginError, match="mask"):
        objective.counts(batch)


def test_defaults_are_huberts() -> None:
    """fairseq's config/hubert/config/pretrain/hubert_base_librispeech.yaml."""
    said = Masked.Options().model_dump()
    assert said == {
        "final_dim": 256,
        "temperature": 0.1,
        "masked_weight": 1.0,
        "unmasked_weight": 0.0,
        "feature_penalty": 10.0,
    }
    assert Masked.defaults["mask"] == {"prob": 0.8, "length": 10}

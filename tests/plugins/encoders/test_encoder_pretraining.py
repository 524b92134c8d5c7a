"""What pretraining asks of hubert, wav2vec2 and wavlm: local features, options, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from pydantic import ValidationError
from torch import nn

from bab.core.errors import BabError, ConfigError
from bab.core.types import Waves
from bab.core.weights import WeightsError
from bab.plugins.encoders.hubert import Hubert
from bab.plugins.encoders.wav2vec2 import Wav2Vec2
from bab.plugins.encoders.wavlm import WavLM

FAMILIES = [Hubert, Wav2Vec2, WavLM]
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def waves(*sizes: int) -> Waves:
    torch.manual_seed(sum(sizes))
    samples = torch.zeros(len(sizes), max(sizes))
    for row, size in zip(samples, sizes, strict=True):
        row[:size] = torch.randn(size) * 0.1
    return Waves(samples, torch.tensor(sizes))


def small(cls: Any, **options: Any) -> Any:
    size = {**SMALL, **options.pop("size", {})}
    return cls.load("random-tiny", cls.Options(size=size, **options))


def test_options_of_training_leave_the_fingerprint() -> None:
    """Caches and records depend on it; a size said and a size by default are one."""
    plain = Hubert.load("random-tiny", Hubert.Options())
    assert plain.model.config.hidden_size == 192
    said = Hubert.Options(size={"hidden_size": 192}, feature_grad_mult=0.1, checkpointing=True)
    assert Hubert.load("random-tiny", said).fingerprint == plain.fingerprint
    other = Hubert.Options(size={"hidden_size": 96})
    assert Hubert.load("random-tiny", other).fingerprint != plain.fingerprint


@pytest.mark.parametrize("cls", FAMILIES)
@pytest.mark.parametrize("large", [{}, LARGE], ids=["group", "layer"])
def test_any_size(cls: Any, large: dict[str, Any]) -> None:
    encoder = small(cls, size=large)
    config = encoder.model.config
    for key, value in {**SMALL, **large}.items():
        assert getattr(config, key) == value
    assert (encoder.dim, encoder.depth, encoder.local_dim) == (32, 3, 16)
    encoded = encoder(waves(16000, 9000))
    assert encoded.layers[-1].shape == (2, 49, 32)


def test_sizes_that_can_not_be() -> None:
    with pytest.raises(WeightsError, match="bad configuration"):
        small(Hubert, size={"num_attention_heads": 5})
    with pytest.raises(ValidationError):
        Hubert.Options(size={"hidden_sizes": 3})
    with pytest.raises(ValidationError):
        Hubert.Options(size={"conv_dim": [16] * 6})


def test_trained_weights_have_their_own_size(tmp_path: Path) -> None:
    small(Hubert).export(tmp_path, {})
    with pytest.raises(ConfigError, match=r"encoder\.size\.hidden_size.*its own size"):
        Hubert.load(str(tmp_path), Hubert.Options(size={"hidden_size": 64}))


@pytest.mark.parametrize("cls", FAMILIES)
def test_local_and_normed_are_what_transformers_computes(cls: Any, tmp_path: Path) -> None:
    encoder = small(cls, normalize=False)
    encoder.export(tmp_path, {})
    theirs = transformers.AutoModel.from_pretrained(tmp_path)
    both = waves(16000, 9000)
    encoded = encoder(both)
    assert encoded.local is not None and encoded.normed is not None
    assert not encoded.local[1, 27:].any() and not encoded.normed[1, 27:].any()
    for row, frames in ((0, 49), (1, 27)):
        samples = both.samples[row : row + 1, : both.lengths[row]]
        raw = theirs.feature_extractor(samples).transpose(1, 2)
        normed = theirs.feature_projection.layer_norm(raw)
        torch.testing.assert_close(encoded.local[row, :frames], raw[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(encoded.normed[row, :frames], normed[0], rtol=1e-4, atol=1e-4)


def test_no_norm_no_normed(tmp_path: Path) -> None:
    config = {**SMALL, "feat_proj_layer_norm": False}
    transformers.HubertModel(transformers.HubertConfig(**config)).save_pretrained(tmp_path)
    encoded = Hubert.load(str(tmp_path), Hubert.Options())(waves(8000))
    assert encoded.local is not None and encoded.normed is None


def gradients(encoder: Any, of: str) -> dict[str, torch.Tensor]:
    encoder.zero_grad()
    encoded = encoder.train()(waves(12000, 16000), layers="last")
    (encoded.layers[-1] if of == "states" else encoded.local).square().sum().backward()
    return {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("of", ["states", "local"])
@pytest.mark.parametrize("scale", [0.1, 0.0])
def test_feature_grad_mult_scales_the_gradient_of_the_convolutions(of: str, scale: float) -> None:
    """Of the local features, too: HuBERT's penalty is scaled in torchaudio's recipe."""
    plain = gradients(small(Hubert, dropout=0.0), of)
    scaled = gradients(small(Hubert, dropout=0.0, feature_grad_mult=scale), of)
    front = {name for name in plain if ".feature_extractor." in name}
    assert len(front) == 9 and plain.keys() == scaled.keys()
    for name, gradient in plain.items():
        wanted = gradient * scale if name in front else gradient
        torch.testing.assert_close(scaled[name], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cls", FAMILIES)
@pytest.mark.parametrize("large", [{}, LARGE], ids=["group", "layer"])
def test_checkpointing_gives_the_same_gradients(cls: Any, large: dict[str, Any]) -> None:
    """With dropout: its noise is drawn again as it was."""
    found = []
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    for on in (False, True):
        encoder = small(cls, size=large, dropout=0.2, checkpointing=on)
        encoder.model.encoder.layers[0].feed_forward.register_forward_pre_hook(count)
        encoder.model.feature_extractor.conv_layers[0].conv.register_forward_pre_hook(count)
        torch.manual_seed(4)
        found.append(gradients(encoder, "states"))
    assert calls == 2 + 3  # the layer twice, the convolution once
    plain, kept = found
    assert plain.keys() == kept.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(kept[name], gradient, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------------------------- export


@pytest.mark.parametrize("cls", FAMILIES)
@pytest.mark.parametrize("large", [{}, LARGE], ids=["group", "layer"])
def test_export_and_back(cls: Any, large: dict[str, Any], tmp_path: Path) -> None:
    """bab reads the very encoder again; transformers' own model says the same."""
    encoder = small(cls, size=large, normalize=False, dropout=0.3, layerdrop=0.2)
    encoder.export(tmp_path, {})
    again = cls.load(str(tmp_path), cls.Options())
    assert again.fingerprint == encoder.fingerprint and not again.extras()
    theirs, told = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(theirs).__name__ == cls.family.model
    assert not any(told[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    one = waves(16000)
    with torch.no_grad():
        wanted = theirs.eval()(one.samples).last_hidden_state
        got = encoder.eval()(one).layers[-1]
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_exported_files(tmp_path: Path) -> None:
    small(Hubert, dropout=0.3, layerdrop=0.2).export(tmp_path, {})
    assert {p.name for p in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    config = json.loads((tmp_path / "config.json").read_text())
    usual = transformers.HubertConfig()
    assert config["architectures"] == ["HubertModel"] and config["model_type"] == "hubert"
    for key in ("layerdrop", "hidden_dropout", "mask_time_prob", "mask_feature_prob"):
        assert config[key] == getattr(usual, key)  # not what this run was trained with
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path)
    assert extractor.do_normalize and extractor.sampling_rate == 16000
    assert not extractor.return_attention_mask


def test_half_precision_file_is_half_the_size_and_reads_as_single(tmp_path: Path) -> None:
    encoder = small(Wav2Vec2)
    extras = {"quantizer.codevectors": torch.rand(1, 4, 3)}
    encoder.export(tmp_path / "full", extras)
    encoder.export(tmp_path / "half", extras, dtype="float16")
    full, half = (
        (tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")
    )
    assert half < 0.6 * full
    again = Wav2Vec2.load(str(tmp_path / "half"), Wav2Vec2.Options())
    assert all(p.dtype == torch.float32 for p in again.parameters())
    for name, parameter in encoder.named_parameters():
        assert torch.equal(again.state_dict()[name], parameter.half().float())
    assert again.extras()["quantizer.codevectors"].dtype == torch.float16
    theirs = transformers.Wav2Vec2Model.from_pretrained(tmp_path / "half", dtype="float32")
    assert torch.equal(
        theirs.feature_projection.projection.weight,
        again.model.feature_projection.projection.weight,
    )
    with pytest.raises(BabError, match="bfloat17"):
        encoder.export(tmp_path / "odd", {}, dtype="bfloat17")


def test_export_after_pretraining_again_and_again(tmp_path: Path) -> None:
    """What was loaded with a quantiser, adapter and all keeps its mask embedding and training
    settings, and loses the adapter."""
    config = {**SMALL, "add_adapter": True, "layerdrop": 0.07}
    model = transformers.Wav2Vec2Model(
        transformers.Wav2Vec2Config(**config, mask_time_prob=0.0, mask_feature_prob=0.01)
    )
    model.save_pretrained(tmp_path / "a")
    first = Wav2Vec2.load(str(tmp_path / "a"), Wav2Vec2.Options())
    first.export(tmp_path / "b", {"masked.final_proj.bias": torch.ones(3)})
    second = Wav2Vec2.load(str(tmp_path / "b"), Wav2Vec2.Options())
    assert second.fingerprint == first.fingerprint
    assert set(second.extras()) == {"masked.final_proj.bias"}
    said = json.loads((tmp_path / "b" / "config.json").read_text())
    assert said["layerdrop"] == 0.07 and said["mask_feature_prob"] == 0.01
    assert not said["add_adapter"]
    theirs, told = transformers.Wav2Vec2Model.from_pretrained(
        tmp_path / "b", output_loading_info=True
    )
    assert not told["missing_keys"] and set(told["unexpected_keys"]) == {"masked.final_proj.bias"}
    assert torch.equal(theirs.masked_spec_embed, model.masked_spec_embed)


def test_extras_are_not_the_encoder(tmp_path: Path) -> None:
    with pytest.raises(BabError, match="own 'masked_spec_embed'"):
        small(Hubert).export(tmp_path, {"masked_spec_embed": torch.zeros(3)})
    assert not tmp_path.exists() or not any(tmp_path.iterdir())


def test_task_models_have_no_extras(tmp_path: Path) -> None:
    config = transformers.HubertConfig(**SMALL, vocab_size=9)
    transformers.HubertForCTC(config).save_pretrained(tmp_path)
    assert not Hubert.load(str(tmp_path), Hubert.Options()).extras()


def test_encoders_without_a_format_say_so() -> None:
    from bab.plugins.encoders.fbank import Fbank

    fbank = Fbank.load(Fbank.default, Fbank.Options())
    assert fbank.local_dim is None and fbank.extras() == {}
    with pytest.raises(BabError, match="can't be exported"):
        fbank.export(Path("nowhere"), {})
    assert isinstance(fbank, nn.Module)

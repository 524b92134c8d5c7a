"""What encoders are made of, against references and slow formulations."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio
from torch import nn
from torch.nn import functional

from bab.core.types import Waves
from bab.core.weights import WeightsError
from bab.plugins.encoders.hubert import Hubert
from bab.plugins.encoders.pyannet import Pyannet
from bab.plugins.encoders.shared import ast
from bab.plugins.encoders.shared.htsat import audio_config, frame_count
from bab.plugins.encoders.shared.measure import measured
from bab.plugins.encoders.shared.sincnet import PyanNet, SincConv, sized
from bab.plugins.encoders.shared.torchaudio import convert, modern

# --- SincNet


def test_filters_begin_equally_spaced_on_the_mel_scale() -> None:
    """From 30 Hz to 8000 - 100, as Ravanelli and Bengio's code; mels by torchaudio."""
    to_mel = torchaudio.functional.functional._hz_to_mel
    conv = SincConv(10)
    low, band = conv.low_hz_.detach()[:, 0], conv.band_hz_.detach()[:, 0]
    edges = [*low.tolist(), float(low[-1] + band[-1])]
    assert (edges[0], edges[-1]) == pytest.approx((30.0, 7900.0), rel=1e-4)
    mels = [to_mel(edge, "htk") for edge in edges]
    steps = np.diff(mels)
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-3)
    np.testing.assert_allclose(low[1:], (low + band)[:-1], rtol=1e-4)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_filters_are_differences_of_two_sincs(sign: float) -> None:
    """In numpy, by its own sinc: an ideal band-pass under a Hamming window, 1 in the middle."""
    conv = SincConv(6)
    with torch.no_grad():
        conv.band_hz_[-1] = 9000.0  # beyond half the rate: it ends there
        conv.low_hz_.mul_(sign), conv.band_hz_.mul_(sign)
    low = 50 + conv.low_hz_.detach().abs().double().numpy()
    high = np.clip(low + 50 + conv.band_hz_.detach().abs().double().numpy(), 50, 8000)
    n = np.arange(-125, 0)
    lags = np.linspace(0, 251 / 2 - 1, 125)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * lags / 251)
    ideal = 2 * high * np.sinc(2 * high * n / 16000) - 2 * low * np.sinc(2 * low * n / 16000)
    left = ideal * window / (2 * (high - low))
    wanted = np.concatenate([left, np.ones((6, 1)), left[:, ::-1]], 1)
    np.testing.assert_allclose(conv.filters().detach()[:, 0], wanted, atol=2e-5)
    x = torch.randn(2, 1, 400)
    np.testing.assert_allclose(
        conv(x).detach()[1, 3], np.correlate(x[1, 0].numpy(), wanted[3], "valid"), atol=1e-4
    )


def norm(x: torch.Tensor, module: nn.InstanceNorm1d) -> torch.Tensor:
    """Over the time of each channel, by its definition."""
    mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    assert module.weight is not None and module.bias is not None
    return (x - mean) / (var + 1e-5).sqrt() * module.weight[:, None] + module.bias[:, None]


@torch.no_grad()
def by_hand(net: PyanNet, samples: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    sinc = net.sincnet_
    x = norm(samples[:, None], sinc.waveform_normalize_)
    for i in range(3):
        x = sinc.conv1d_[i](x)
        x = functional.max_pool1d(x.abs() if i == 0 else x, 3, 3)
        x = norm(x, sinc.instance_norm1d_[i])
        x = torch.where(x > 0, x, 0.2 * x)
    x = x.transpose(1, 2)
    if mask is not None:
        x[mask] = 0.0
    x = net.rnn_.rnn_(x)[0]
    for layer in net.ff_.linear_:
        x = torch.tanh(functional.linear(x, layer.weight, layer.bias))
    return x


def small() -> PyanNet:
    torch.manual_seed(3)
    net = PyanNet((8, 6, 5), 4, 3, (7, 9)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def test_pyannet_is_its_layers_one_after_the_other() -> None:
    net, samples = small(), torch.randn(2, 2000)
    frames = net(samples).shape[1]
    mask = torch.zeros(2, frames, dtype=torch.bool)
    mask[0, 3], mask[1, -1] = True, True
    torch.testing.assert_close(net(samples), by_hand(net, samples, None), atol=1e-5, rtol=1e-4)
    wide = functional.pad(mask, (0, 4))  # a batch's mask may be longer
    torch.testing.assert_close(
        net(samples, wide), by_hand(net, samples, mask), atol=1e-5, rtol=1e-4
    )
    assert net.dim == 9 and PyanNet().dim == 128
    assert [p.shape[0] for n, p in PyanNet().named_parameters() if n.endswith("low_hz_")] == [80]
    one = net(samples[:, :325])  # a single frame has nothing to be normalised by
    assert one.shape == (2, 1, 9) and bool(one.isfinite().all())


def test_a_net_has_the_size_of_its_tensors(tmp_path: Path) -> None:
    net, samples = small(), torch.randn(1, 900)
    output = {"linear_.weight": torch.zeros(5, 9), "linear_.bias": torch.zeros(5)}
    again = sized({**net.state_dict(), **output})
    torch.testing.assert_close(again.eval()(samples), net(samples))
    with pytest.raises(KeyError):
        sized(output)
    with pytest.raises(RuntimeError):
        sized({**net.state_dict(), "more": torch.zeros(1)})
    other = PyanNet((8, 6, 5), 4, 1, (3,)).eval()
    for name, one in (("0002.pt", net), ("0001.pt", other)):
        torch.save({**one.state_dict(), **output}, tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    both = Pyannet.load(str(tmp_path), Pyannet.Options())
    assert (both.dim, both.resolved) == (12, f"pyannet:{tmp_path}")
    with torch.no_grad():
        state = both(Waves(samples, torch.tensor([900]))).layers[0]
        torch.testing.assert_close(state, torch.cat([other(samples), net(samples)], -1))
    names = {id(p): n for n, p in both.named_parameters()}
    groups = {k: {names[id(p)].split(".")[2] for p in v} for k, v in both.groups().items()}
    assert groups == {"conv": {"sincnet_"}, "layer0": {"rnn_"}, "layer1": {"ff_"}}
    assert sum(map(len, both.groups().values())) == len(names)


def test_clips_of_any_length_are_padded_up_to_a_frame() -> None:
    encoder = Pyannet.load("random", Pyannet.Options())
    assert (encoder.grid.hop, encoder.grid.field) == (27, 325)
    torch.manual_seed(0)
    samples = torch.randn(3, 352)
    samples[0, 200:] = 5.0  # padding
    mask = torch.zeros(3, 2, dtype=torch.bool)
    mask[1, 0] = True
    with torch.no_grad():
        out = encoder(Waves(samples, torch.tensor([200, 352, 351])), mask)
        short = encoder(Waves(samples[:1, :200], torch.tensor([200])))
        plain = encoder(Waves(samples[1:2], torch.tensor([352])))
    assert out.lengths.tolist() == [1, 2, 1] and out.layers[0].shape == (3, 2, 128)
    torch.testing.assert_close(out.layers[0][:1, :1], short.layers[0])
    assert not out.layers[0][0, 1].any() and not out.layers[0][2, 1].any()
    assert not torch.allclose(out.layers[0][1], plain.layers[0][0], atol=1e-4)


# --- grids


@pytest.mark.parametrize("hop", [80, 160, 320])
@pytest.mark.parametrize(("field", "padding"), [(400, 0), (400, 200), (1024, 512), (325, 100)])
def test_a_measured_grid_counts_as_the_encoder_does(hop: int, field: int, padding: int) -> None:
    def count(samples: int) -> int:
        return (samples + 2 * padding - field) // hop + 1

    for near in (16000, 16000 + hop // 2, 16000 + hop - 1):
        grid = measured(count, 16000, hop, near)
        assert grid.hop == hop and grid.sample_rate == 16000
        assert [grid.frames(n) for n in range(2000, 5000, 7)] == [
            count(n) for n in range(2000, 5000, 7)
        ]
        # Frames stand where those of the padded clip do, to half a sample.
        centre = (field / 2 - padding) / 16000
        assert grid.centre(0) == pytest.approx(centre, abs=1 / 16000)


@pytest.mark.parametrize(
    ("stride", "size", "depths", "mels", "frames"),
    [(4, 256, 4, 64, 32), ((4, 4), 256, 4, 64, 32), ((4, 8), 256, 4, 64, 16), (4, 64, 2, 32, 16),
     (4, 64, 2, 64, 8)],
)  # fmt: skip
def test_frames_of_htsats_last_map(
    stride: Any, size: int, depths: int, mels: int, frames: int
) -> None:
    config = SimpleNamespace(
        patch_stride=stride, spec_size=size, depths=[2] * depths, num_mel_bins=mels
    )
    assert frame_count(config) == frames


@pytest.mark.parametrize(
    ("given", "audio"),
    [
        ({"hidden_size": 3, "projection_dim": 4}, {"hidden_size": 3, "projection_dim": 4}),
        ({"audio_config": {"a": 1, "projection_dim": 2}, "projection_dim": 4, "b": 5},
         {"a": 1, "projection_dim": 4}),
        ({"audio_config": None, "projection_hidden_act": "relu"},
         {"projection_hidden_act": "relu"}),
    ],
)  # fmt: skip
def test_the_audio_part_of_claps_configuration(
    given: dict[str, Any], audio: dict[str, Any]
) -> None:
    assert audio_config(given) == audio


@pytest.mark.parametrize("size", [1, 393, 399, 400])
def test_speech_shorter_than_a_frame_gets_silence_behind_it(size: int) -> None:
    encoder = Hubert.load("random-tiny", Hubert.Options(normalize=False))
    samples = torch.randn(1, 400, generator=torch.Generator().manual_seed(0))
    samples[:, size:] = 0.0
    with torch.no_grad():
        brief = encoder(Waves(samples[:, :size], torch.tensor([size])))
        whole = encoder(Waves(samples, torch.tensor([400])))
    assert brief.lengths.tolist() == [1]
    for one, other in zip(brief.layers, whole.layers, strict=True):
        torch.testing.assert_close(one, other)


def test_sizes_of_untrained_speech_encoders() -> None:
    size = {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "conv_dim": (6, 7, 8, 9, 10, 11, 12),
        "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
    }  # fmt: skip
    encoder: Any = Hubert.load("random", Hubert.Options(size=size))
    assert (encoder.local_dim, encoder.dim, encoder.depth) == (12, 24, 3)
    assert (encoder.grid.hop, encoder.grid.field, encoder.max_seconds) == (320, 400, 30.0)
    with torch.no_grad():
        out = encoder(Waves(torch.randn(1, 1039), torch.tensor([1039])))
    assert out.local.shape == out.normed.shape == (1, 2, 12)
    wide = encoder.model.config.conv_dim
    assert list(wide) == [6, 7, 8, 9, 10, 11, 12] and encoder.resolved == "hubert:random"


# --- torchaudio's checkpoints

LAYER = "encoder.transformer.layers.0"


def checkpoint(width: int = 128, **changes: Any) -> dict[str, torch.Tensor]:
    """The tensors that a configuration is read from."""
    kernels = changes.pop("kernels", [10, 3, 3, 3, 3, 2, 2])
    conv = "feature_extractor.conv_layers"
    shapes: dict[str, tuple[int, ...]] = {
        f"{conv}.{i}.conv.weight": (8 + i, 1 if i == 0 else 7 + i, k) for i, k in enumerate(kernels)
    }
    shapes |= {
        "encoder.feature_projection.projection.weight": (width, 14),
        "encoder.transformer.pos_conv_embed.conv.weight_v": (width, width // 4, 16),
        f"{LAYER}.attention.k_proj.weight": (width, width),
        f"{LAYER}.feed_forward.intermediate_dense.weight": (40, width),
        **changes,
    }
    shapes = {name: shape for name, shape in shapes.items() if shape}
    return {f"model.wav2vec2.{name}": torch.zeros(shape) for name, shape in shapes.items()}


def test_a_configuration_is_read_off_the_shapes() -> None:
    more = {
        "model.mask_generator.mask_embedding": torch.ones(128),
        "model.logit_generator.label_embeddings": torch.ones(5, 4),
    }
    config, tensors, objective = convert({**checkpoint(), **more}, "f.pt")
    assert config == {
        "model_type": "hubert", "conv_dim": [8, 9, 10, 11, 12, 13, 14],
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2],
        "conv_bias": False, "feat_extract_norm": "group", "do_stable_layer_norm": False,
        "hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 40, "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    }  # fmt: skip
    assert list(objective) == ["masked.label_embeddings"] and "masked_spec_embed" in tensors
    assert "encoder.pos_conv_embed.conv.parametrizations.weight.original1" in tensors
    assert "feature_projection.projection.weight" in tensors
    assert "encoder.layers.0.attention.k_proj.weight" in tensors
    first, second = (f"feature_extractor.conv_layers.{i}" for i in (0, 1))
    given = {f"{first}.conv.bias": (8,), f"{second}.layer_norm.weight": (9,)}
    config, _, objective = convert(checkpoint(**given), "f.pt")
    assert config["conv_bias"] and config["do_stable_layer_norm"] and objective == {}
    assert config["feat_extract_norm"] == "layer"
    config, _, _ = convert(checkpoint(1280), "f.pt")
    assert config["num_attention_heads"] == 16  # xlarge: heads of 80


def test_what_is_no_hubert_of_torchaudios() -> None:
    def refused(tensors: dict[str, torch.Tensor]) -> str:
        with pytest.raises(WeightsError) as raised:
            convert(tensors, "f.pt")
        return str(raised.value)

    assert refused({"a": torch.zeros(1)}) == (
        "f.pt is no torchaudio HuBERT: it has no tensor '...feature_extractor.conv_layers.0.conv."
        "weight' (of a transformers model, name the folder that holds its config.json)"
    )
    assert refused(checkpoint(100)) == "f.pt: width 100 is no multiple of 64: heads unknown"
    assert refused(checkpoint(kernels=[10, 3, 3])) == (
        "f.pt: convolutions of width [10, 3, 3], but only [10, 3, 3, 3, 3, 2, 2] is known to have "
        "the strides [5, 2, 2, 2, 2, 2, 2], which a checkpoint doesn't hold"
    )
    lost = f"{LAYER}.feed_forward.intermediate_dense.weight"
    assert refused(checkpoint(**{lost: ()})) == (
        "f.pt is no torchaudio HuBERT: it lacks "
        "'encoder.layers.0.feed_forward.intermediate_dense.weight'"
    )


def test_weight_norms_old_names() -> None:
    new = "encoder.pos_conv_embed.conv.parametrizations.weight.original"
    assert modern("encoder.pos_conv_embed.conv.weight_g") == f"{new}0"
    assert modern("encoder.pos_conv_embed.conv.weight_v") == f"{new}1"
    for name in (f"{new}0", "other.conv.weight_g", "encoder.pos_conv_embed.conv.weight_gv"):
        assert modern(name) == name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("encoder.layer.3.attention.attention.query.weight", "layers.3.attention.q_proj.weight"),
        ("encoder.layer.3.attention.attention.key.bias", "layers.3.attention.k_proj.bias"),
        ("layers.0.attention.attention.value.bias", "layers.0.attention.v_proj.bias"),
        ("encoder.layer.0.attention.output.dense.bias", "layers.0.attention.o_proj.bias"),
        ("encoder.layer.11.intermediate.dense.weight", "layers.11.mlp.fc1.weight"),
        ("encoder.layer.11.output.dense.weight", "layers.11.mlp.fc2.weight"),
        *((name, name) for name in ("layernorm.weight", "my.encoder.layer.1.output.dense.bias",
                                    "layers.1.attention.q_proj.weight", "layers.x.output.dense.a",
                                    "layers.1.attention.attention.quality.weight")),
    ],
)  # fmt: skip
def test_names_of_asts_tensors(old: str, new: str) -> None:
    assert ast.modern(old) == new

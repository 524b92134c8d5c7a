"""wavlm: the contract, equality with transformers, options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bab.core.grid import Grid
from bab.core.interfaces import Encoder
from bab.core.types import Waves
from bab.core.weights import WeightsError
from bab.plugins.encoders.hubert import Hubert
from bab.plugins.encoders.wavlm import WavLM
from bab.testing.encoders import CHECKS, check_identity

SMALL: dict[str, Any] = {
    "conv_dim": [24] * 7,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_buckets": 32,
    "max_bucket_distance": 80,
    "codevector_dim": 16,
    "proj_codevector_dim": 16,
    "vocab_size": 9,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def save(kind: str, folder: Path, normalize: bool | None = None, **config: Any) -> Any:
    """A small random model whose position biases and gates are not at their start values."""
    torch.manual_seed(7)
    made = transformers.WavLMConfig(**{**SMALL, **config})
    model = getattr(transformers, kind)(made).eval()
    for name, parameter in model.named_parameters():
        if "gru_rel_pos" in name or "rel_attn_embed" in name:
            torch.nn.init.normal_(parameter, std=1.0)
    model.save_pretrained(folder)
    if normalize is not None:
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize)
        extractor.save_pretrained(folder)
    return model


def load(weights: Path | str, **options: Any) -> WavLM:
    encoder = WavLM.load(str(weights), WavLM.Options(**options))
    assert isinstance(encoder, WavLM)
    return encoder


def waves(*sizes: int) -> Waves:
    torch.manual_seed(sum(sizes))
    samples = torch.zeros(len(sizes), max(sizes))
    for row, size in zip(samples, sizes, strict=True):
        row[:size] = torch.randn(size) * 0.05
    return Waves(samples, torch.tensor(sizes))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("wavlm")
    save("WavLMModel", root / "base")
    save("WavLMModel", root / "large", **LARGE)
    return {"base": root / "base", "large": root / "large"}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["random-tiny", "base", "large"])
def test_contract(name: str, check: Callable[..., None], folders: dict[str, Path]) -> None:
    """Among them: a clip's frames at every layer, alone and in a padded batch, to 1e-4."""
    check(lambda: load(folders.get(name, name)))


@pytest.mark.parametrize("config", [{}, LARGE], ids=["base", "large"])
@pytest.mark.parametrize("normalize", [True, False])
def test_equals_transformers(config: dict[str, Any], normalize: bool, tmp_path: Path) -> None:
    reference = save("WavLMModel", tmp_path, normalize, **config)
    encoder = load(tmp_path)
    assert encoder.normalize is normalize and encoder.resolved == f"wavlm:{tmp_path}"
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)
    batch = waves(6403, 40000, 9001)
    with torch.no_grad():
        got = encoder(batch)
        for row, size in enumerate(batch.lengths.tolist()):
            clip = batch.samples[row, :size].numpy()
            values = extractor(clip, sampling_rate=16000, return_tensors="pt").input_values
            want = reference(values, output_hidden_states=True)
            states = (*want.hidden_states[:-1], want.last_hidden_state)
            assert int(got.lengths[row]) == states[0].shape[1] == encoder.grid.frames(size)
            assert len(states) == len(got.layers) == encoder.depth
            for mine, theirs in zip(got.layers, states, strict=True):
                frames = theirs.shape[1]
                torch.testing.assert_close(mine[row, :frames], theirs[0], atol=1e-4, rtol=0)
                assert not mine[row, frames:].any()


def test_gradients_equal_transformers_too(tmp_path: Path) -> None:
    """With padding, through the gated positions; in double precision, so that it is exact."""
    reference = save("WavLMModel", tmp_path, False, **LARGE).double()
    encoder = load(tmp_path, dropout=0.0).double().train()
    batch = waves(6403, 16000)
    batch.samples = batch.samples.double()
    keep = (torch.arange(49) < torch.tensor([[19], [49]]))[..., None]
    mask = (torch.arange(16000) < batch.lengths[:, None]).long()
    (encoder(batch).layers[-1] * keep).square().sum().backward()
    want = reference(batch.samples, attention_mask=mask).last_hidden_state
    (want * keep).square().sum().backward()
    mine = dict(encoder.model.named_parameters())
    for name, parameter in reference.named_parameters():
        if name != "masked_spec_embed":
            torch.testing.assert_close(mine[name].grad, parameter.grad, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("kind", ["WavLMForCTC", "WavLMForXVector"])
def test_task_models_give_their_encoder(kind: str, tmp_path: Path) -> None:
    reference = save(kind, tmp_path)
    batch = waves(8000)
    with torch.no_grad():
        want = reference.wavlm(batch.samples).last_hidden_state
        got = load(tmp_path, normalize=False)(batch, layers="last").layers[0]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_attention_dropout_is_the_options(folders: dict[str, Path]) -> None:
    batch = waves(8000)
    for dropout, same in ((0.0, True), (0.5, False)):
        encoder = load(folders["base"], dropout=dropout)
        assert {layer.attention.dropout for layer in encoder.model.encoder.layers} == {dropout}
        still = encoder(batch).layers[-1]
        assert torch.allclose(still, encoder.train()(batch).layers[-1], atol=1e-5) is same


def test_controls_and_names() -> None:
    tiny = load("random-tiny")
    assert sum(p.numel() for p in tiny.parameters()) == pytest.approx(1.7e6, rel=0.05)
    assert (tiny.grid, tiny.resolved) == (Grid(16000, 320, 400), "wavlm:random-tiny")
    assert set(WavLM.family.hub) | {"random", "random-tiny"} == set(WavLM.weights)
    assert WavLM.weights["base-plus"].startswith("microsoft/wavlm-base-plus")

    def make(**options: Any) -> Callable[[], Encoder]:
        return lambda: load("random-tiny", **options)

    check_identity(make(), make(seed=1))
    check_identity(make(), make(normalize=False))


def test_fingerprint_covers_the_buckets(tmp_path: Path) -> None:
    """How far apart positions are told apart is not in the weights' shapes."""
    for name, distance in (("near", 80), ("far", 400)):
        save("WavLMModel", tmp_path / name, max_bucket_distance=distance)
    check_identity(lambda: load(tmp_path / "near"), lambda: load(tmp_path / "far"))


def test_another_family(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"describes a 'wavlm' model.*--encoder wavlm:/"):
        Hubert.load(str(folders["base"]), Hubert.Options())
    with pytest.raises(WeightsError, match="only hubert reads those"):
        (tmp_path / "a.ckpt").touch()
        load(tmp_path / "a.ckpt")
    with pytest.raises(WeightsError, match="did you mean 'base-plus'"):
        load("base-pluss")

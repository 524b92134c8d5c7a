"""ast: the contract, equality with transformers (features, states, frames), bad weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from bab.core.errors import BabError
from bab.core.grid import Grid
from bab.core.interfaces import Encoder
from bab.core.types import Waves
from bab.core.weights import WeightsError
from bab.plugins.encoders.ast import Ast
from bab.testing.encoders import CHECKS, check_identity

SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
# As MIT/ast-finetuned-speech-commands-v2: 1.28 s at a time, other statistics.
SHORT: dict[str, Any] = {"max_length": 128}
STATISTICS: dict[str, Any] = {"mean": -6.845978, "std": 5.5654526}
# Coarser patches that overlap in frequency only.
COARSE: dict[str, Any] = {"patch_size": 12, "time_stride": 12, "num_mel_bins": 64}


def save(folder: Path, kind: str = "ASTModel", said: Any = None, **config: Any) -> Any:
    """A small model of transformers whose tokens and positions are not at zero."""
    torch.manual_seed(3)
    model = getattr(transformers, kind)(transformers.ASTConfig(**{**SMALL, **config})).eval()
    for name, parameter in model.named_parameters():
        if "position" in name or "token" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    sizes = {"max_length": model.config.max_length, "num_mel_bins": model.config.num_mel_bins}
    transformers.ASTFeatureExtractor(**{**sizes, **(said or {})}).save_pretrained(folder)
    return model


def load(weights: Path | str, **options: Any) -> Ast:
    return Ast.load(str(weights), Ast.Options(**options))


def waves(*sizes: int) -> Waves:
    """Clips of growing loudness, padded with noise."""
    torch.manual_seed(1)
    loudness = torch.logspace(-3, -0.5, len(sizes))[:, None]
    return Waves(torch.randn(len(sizes), max(sizes)) * loudness, torch.tensor(sizes))


def extracted(folder: Path, clip: Tensor) -> Tensor:
    """f32[1, max_length, mels]: transformers' features of one clip."""
    extractor = transformers.ASTFeatureExtractor.from_pretrained(folder)
    found = extractor(clip.numpy(), sampling_rate=16000, return_tensors="pt")
    values: Tensor = found.input_values
    return values


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("config", [None, COARSE], ids=["random-tiny", "coarse"])
def test_contract(
    config: dict[str, Any] | None, check: Callable[..., None], tmp_path: Path
) -> None:
    if config is None:
        check(lambda: load("random-tiny"))
    else:
        save(tmp_path, **config)
        check(lambda: load(tmp_path))


@pytest.mark.parametrize(
    ("config", "said"),
    [({}, None), (SHORT, STATISTICS), (COARSE, {"do_normalize": False})],
    ids=["audioset", "speech commands", "coarse, not normalised"],
)
def test_equals_transformers(config: dict[str, Any], said: Any, tmp_path: Path) -> None:
    """Features, every layer, and each frame as the mean of the patches at its time."""
    reference = save(tmp_path, said=said, **config)
    encoder = load(tmp_path)
    longest = round(encoder.max_seconds * 16000)
    batch = waves(400, 9001, 2799, longest // 2, longest)
    bands, times = reference.embeddings.get_shape(reference.config)
    with torch.no_grad():
        features, got = encoder.features(batch), encoder(batch)
        for row, size in enumerate(batch.lengths.tolist()):
            values = extracted(tmp_path, batch.samples[row, :size])
            torch.testing.assert_close(features[row], values[0], atol=1e-4, rtol=0)
            want = reference(values, output_hidden_states=True)
            states = (*want.hidden_states[:-1], want.last_hidden_state)
            assert len(states) == len(got.layers) == encoder.depth
            frames = encoder.grid.frames(size)
            assert int(got.lengths[row]) == frames <= times
            for mine, theirs in zip(got.layers, states, strict=True):
                by_time = [theirs[0, 2:][t::times].mean(0) for t in range(frames)]
                assert len(theirs[0, 2:][0::times]) == bands
                torch.testing.assert_close(
                    mine[row, :frames], torch.stack(by_time), atol=1e-4, rtol=0
                )
                assert not mine[row, frames:].any()


def test_the_published_grid() -> None:
    """101 x 12 patches: a frame each 100 ms, seeing 16 filter bank frames of 25 ms every 10 ms."""
    encoder = load("random-tiny")
    assert (encoder.bands, encoder.times) == (12, 101)
    assert encoder.grid == Grid(16000, 1600, 2800) and encoder.max_seconds == 10.24
    assert encoder.grid.frames(round(10.24 * 16000)) == 101
    assert encoder.grid.span(1) == (0.1, 0.275)
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(1.16e6, rel=0.05)


def test_frames_of_a_moved_sound_move_with_it() -> None:
    """The first state, positions removed, is the same wherever a sound stands."""
    encoder = load("random-tiny")
    torch.nn.init.zeros_(encoder.model.embeddings.position_embeddings)
    sound = torch.randn(3200, generator=torch.Generator().manual_seed(0)) * 0.1
    early, late = torch.zeros(2, 1, 64000)
    early[0, 8000:11200] = sound
    late[0, 8000 + 7 * 1600 : 11200 + 7 * 1600] = sound
    with torch.no_grad():
        first, second = (
            encoder(Waves(x, torch.tensor([64000]))).layers[0][0] for x in (early, late)
        )
    torch.testing.assert_close(first[:30], second[7:37], atol=1e-5, rtol=0)


def test_what_fills_a_short_clip() -> None:
    """Log energies of 0 before normalisation, as in AST's training; not silence."""
    encoder = load("random-tiny")
    features = encoder.features(waves(8000))
    assert features.shape == (1, 1024, 128)
    filled = torch.full((1024 - 48, 128), 4.2677393 / (2 * 4.5689974))
    torch.testing.assert_close(features[0, 48:], filled)


def test_too_long_is_an_error() -> None:
    encoder = load("random-tiny")
    encoder(waves(164239))  # 1024 filter bank frames
    with pytest.raises(BabError, match=r"at most 10\.24 s at a time, but was given 10\.27 s"):
        encoder(waves(164240))


@pytest.mark.parametrize("kind", ["ASTModel", "ASTForAudioClassification"])
@pytest.mark.parametrize("names", ["old", "new"])
def test_checkpoints_of_either_age(kind: str, names: str, tmp_path: Path) -> None:
    """The published files hold the names that ASTModel had in transformers 4."""
    from safetensors.torch import load_file, save_file

    reference = save(tmp_path, kind)
    file = tmp_path / "model.safetensors"
    if names == "new":
        save_file({k: v.contiguous() for k, v in reference.state_dict().items()}, file)
    else:
        assert any("encoder.layer.1.attention.attention.query" in key for key in load_file(file))
    model = getattr(reference, "audio_spectrogram_transformer", reference)
    batch = waves(16000)
    with torch.no_grad():
        want = model(extracted(tmp_path, batch.samples[0])).last_hidden_state[0, 2:]
        got = load(tmp_path)(batch, layers="last").layers[0][0]
    by_band = want.view(12, 101, -1)
    torch.testing.assert_close(got, by_band.mean(0)[: len(got)], atol=1e-4, rtol=0)


def test_a_masked_frame_hides_its_patches() -> None:
    encoder = load("random-tiny")
    torch.nn.init.zeros_(encoder.model.embeddings.position_embeddings)
    batch = waves(32000)
    mask = torch.zeros(1, 19, dtype=torch.bool)
    mask[0, 4:9] = True
    with torch.no_grad():
        plain, masked, after = encoder(batch), encoder(batch, mask=mask), encoder(batch)
    assert not masked.layers[0][0, 4:9].any()
    assert torch.equal(masked.layers[0][~mask], plain.layers[0][~mask])
    assert torch.equal(after.layers[-1], plain.layers[-1])  # the mask is forgotten


def test_dropout_is_the_options() -> None:
    batch = waves(16000)
    for dropout, same in ((None, True), (0.5, False)):
        encoder = load("random-tiny", dropout=dropout)
        still = encoder(batch).layers[-1]
        assert torch.allclose(still, encoder.train()(batch).layers[-1], atol=1e-5) is same


def test_fingerprint_follows_output(tmp_path: Path) -> None:
    def make(weights: Path | str, **options: Any) -> Callable[[], Encoder]:
        return lambda: load(weights, **options)

    check_identity(make("random-tiny"), make("random-tiny", seed=1))
    save(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    transformers.ASTFeatureExtractor(**STATISTICS).save_pretrained(tmp_path / "b")
    check_identity(make(tmp_path / "a"), make(tmp_path / "b"))
    with_dropout = make("random-tiny", dropout=0.3)().fingerprint
    assert with_dropout == make("random-tiny")().fingerprint


def test_bad_folders(tmp_path: Path) -> None:
    transformers.HubertConfig().save_pretrained(tmp_path / "hubert")
    with pytest.raises(WeightsError, match=r"describes a 'hubert' model.*--encoder hubert:/"):
        load(tmp_path / "hubert")
    save(tmp_path / "a", said={"sampling_rate": 8000})
    with pytest.raises(WeightsError, match="8000 Hz; ast runs at 16000"):
        load(tmp_path / "a")
    save(tmp_path / "b")
    config = tmp_path / "b" / "config.json"
    config.write_text(config.read_text().replace('"num_mel_bins": 128', '"num_mel_bins": 64'))
    with pytest.raises(WeightsError, match=r"'embeddings.position_embeddings' is \[1, 1214, 48\]"):
        load(tmp_path / "b")
    with pytest.raises(WeightsError, match="did you mean 'base'"):
        load("bases")

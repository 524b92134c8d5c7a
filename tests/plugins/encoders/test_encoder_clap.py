"""clap: the contract, equality with transformers (features, states, vectors), bad weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from bab.cli import main
from bab.core.errors import BabError
from bab.core.grid import Grid
from bab.core.interfaces import Encoder
from bab.core.types import Waves
from bab.core.weights import WeightsError
from bab.plugins.encoders.clap import Clap
from bab.testing.encoders import CHECKS, check_identity

AUDIO: dict[str, Any] = {
    "patch_embeds_hidden_size": 16,
    "hidden_size": 128,
    "depths": [2, 2, 2, 2],
    "num_attention_heads": [1, 2, 4, 8],
    "projection_dim": 24,
}
TEXT: dict[str, Any] = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
# What laion/clap-htsat-unfused says; transformers' own defaults are those of fused models.
UNFUSED: dict[str, Any] = {"truncation": "rand_trunc", "frequency_min": 50}
FUSED: dict[str, Any] = {"truncation": "fusion", "frequency_min": 50}


def save(folder: Path, kind: str = "ClapModel", said: Any = None, **audio: Any) -> Any:
    """A small model of transformers with weights large enough that every part counts."""
    torch.manual_seed(3)
    config = transformers.ClapAudioConfig(**{**AUDIO, **audio})
    if kind == "ClapModel":
        text = transformers.ClapTextConfig(**TEXT)
        # The projection's width is the whole model's.
        config = transformers.ClapConfig(text_config=text, audio_config=config, projection_dim=24)
    model = getattr(transformers, kind)(config).eval()
    for name, parameter in model.named_parameters():
        if "relative_position" in name or "bias" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    for name, buffer in model.named_buffers():
        if "audio_encoder.batch_norm.running" in name:
            torch.nn.init.uniform_(buffer, *((-60, -40) if "mean" in name else (300, 900)))
    model.save_pretrained(folder)
    transformers.ClapFeatureExtractor(**(said or UNFUSED)).save_pretrained(folder)
    return model


def load(weights: Path | str, **options: Any) -> Clap:
    return Clap.load(str(weights), Clap.Options(**options))


def waves(*sizes: int) -> Waves:
    """Clips of growing loudness, padded with noise."""
    torch.manual_seed(1)
    loudness = torch.logspace(-3, -0.5, len(sizes))[:, None]
    return Waves(torch.randn(len(sizes), max(sizes)) * loudness, torch.tensor(sizes))


def extracted(folder: Path, clip: Tensor) -> dict[str, Tensor]:
    """transformers' features of one clip."""
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    return dict(extractor(clip.numpy(), sampling_rate=48000, return_tensors="pt"))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("output", ["frames", "clip", "projected"])
def test_contract(output: str, check: Callable[..., None]) -> None:
    check(lambda: load("random-tiny", output=output))


def _tone() -> Tensor:
    return (torch.arange(48000) * (2 * torch.pi * 440 / 48000)).sin() * 0.9


@pytest.mark.parametrize("said", [UNFUSED, FUSED], ids=["unfused", "fused"])
def test_features_equal_transformers(said: dict[str, Any], tmp_path: Path) -> None:
    """Short, odd, exact and full lengths, a pure tone, and silence with one click."""
    save(tmp_path, said=said)
    encoder = load(tmp_path)
    click = torch.zeros(30000)
    click[7] = 0.5
    noise = waves(600, 30001, 160000, 240001, 480000)
    clips = [noise.samples[i, :n] for i, n in enumerate(noise.lengths.tolist())]
    for clip in (*clips, _tone(), click):
        padded = torch.cat([clip, torch.randn(100)])[None]  # nobody may look behind the end
        got = encoder.mel(Waves(padded, torch.tensor([len(clip)])))
        want = extracted(tmp_path, clip)["input_features"][:, :1]
        assert got.shape == want.shape == (1, 1, 1001, 64)
        torch.testing.assert_close(got, want.float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["ClapModel", "ClapAudioModel", "ClapAudioModelWithProjection"])
def test_states_equal_transformers(kind: str, tmp_path: Path) -> None:
    reference = save(tmp_path, kind)
    tower = getattr(reference, "audio_model", reference)
    frames, clips = load(tmp_path), load(tmp_path, output="clip")
    batch = waves(30001, 220000, 480000)
    with torch.no_grad():
        states, vectors = frames(batch), clips(batch)
        for row, size in enumerate(batch.lengths.tolist()):
            values = extracted(tmp_path, batch.samples[row, :size])["input_features"]
            want = tower(values)
            inside = frames.grid.frames(size)
            assert int(states.lengths[row]) == inside == max(1, size // 15000)
            by_time = want.last_hidden_state[0].mean(1).T  # [D, bands, 32] -> [32, D]
            assert by_time.shape == (32, 128)
            got = states.layers[0][row]
            torch.testing.assert_close(got[:inside], by_time[:inside], atol=1e-4, rtol=0)
            assert not got[inside:].any()
            torch.testing.assert_close(
                vectors.layers[0][row, 0], want.pooler_output[0], atol=1e-4, rtol=0
            )
    torch.testing.assert_close(states.layers[0][2].mean(0), vectors.layers[0][2, 0])


def test_projected_equals_get_audio_features(tmp_path: Path) -> None:
    reference = save(tmp_path)
    encoder = load(tmp_path, output="projected")
    batch = waves(30001)
    with torch.no_grad():
        want = reference.get_audio_features(
            extracted(tmp_path, batch.samples[0])["input_features"]
        ).pooler_output
        got = encoder(batch)
    assert (encoder.dim, got.layers[0].shape) == (24, (1, 1, 24))
    torch.testing.assert_close(got.layers[0][0], want, atol=1e-5, rtol=0)
    save(tmp_path / "audio", "ClapAudioModel")
    with pytest.raises(WeightsError, match=r"lacks 4 of the encoder's .*audio_projection"):
        load(tmp_path / "audio", output="projected")


def test_fused_weights_take_their_path_for_clips_that_fit(tmp_path: Path) -> None:
    reference = save(tmp_path, said=FUSED, enable_fusion=True)
    batch = waves(100000)
    values = extracted(tmp_path, batch.samples[0])["input_features"]
    assert values.shape[1] == 4
    with torch.no_grad():
        # transformers' extractor calls one clip of each batch longer than it is, at random.
        want = reference.audio_model(values, is_longer=torch.tensor([[False]])).pooler_output
        got = load(tmp_path, output="clip")(batch).layers[0][:, 0]
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


def test_the_published_grid() -> None:
    encoder = load("random-tiny")
    assert (encoder.sample_rate, encoder.depth, encoder.max_seconds) == (48000, 1, 10.0)
    assert encoder.grid == Grid(48000, 15000, 15000) and encoder.grid.frames(480000) == 32
    assert load("random-tiny", output="clip").grid.frames(12345) == 1
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(1.3e6, rel=0.05)
    # Of untrained weights: decibels as measured on read speech, in each of the 64 bands.
    norm = encoder.tower.batch_norm
    assert norm.running_mean.tolist() == [-55.0] * 64 and norm.running_var.tolist() == [1024.0] * 64


def test_frames_stand_where_the_grid_says() -> None:
    """A click in the middle of each frame moves that frame's patches most: HTSAT stacks stretches
    of time into its image's height, and they must come out in order."""
    encoder = load("random-tiny")
    kept: list[Tensor] = []
    encoder.tower.patch_embed.register_forward_hook(lambda m, i, out: kept.append(out))
    wave = torch.randn(480000, generator=torch.Generator().manual_seed(0)) * 0.01
    clicked = wave.repeat(32, 1)
    for frame in range(32):
        clicked[frame, round(encoder.grid.centre(frame) * 48000)] = 0.9
    with torch.no_grad():
        encoder(Waves(clicked, torch.full((32,), 480000)))
        encoder(Waves(wave[None], torch.tensor([480000])))
    change = (kept[0] - kept[1]).norm(dim=-1).view(32, 4, 16, 64)  # stretch, band, time
    by_time = change.sum(2).flatten(1)  # 256 patches of 39 ms
    # The stretched click lies at most 5 ms from the border between a frame's two middle patches.
    nearest = by_time.argmax(1)
    for frame in range(32):
        assert int(nearest[frame]) - 8 * frame in (3, 4)


def test_short_clips_are_repeated_then_padded() -> None:
    encoder = load("random-tiny")
    clip = torch.randn(140000)
    filled = encoder.mel.fill(Waves(clip[None], torch.tensor([140000])))[0]
    assert torch.equal(filled[:420000], clip.repeat(3)) and not filled[420000:].any()


def test_too_long_is_an_error() -> None:
    with pytest.raises(BabError, match=r"at most 480000 samples \(10 s\).* given 480001"):
        load("random-tiny")(waves(480001))


def test_a_masked_frame_is_the_mean_in_every_repetition() -> None:
    encoder = load("random-tiny")
    batch = waves(120000)  # four repetitions of eight frames
    mels = encoder.mel(batch)
    mask = torch.zeros(1, 8, dtype=torch.bool)
    mask[0, 2] = True
    hidden = (encoder._hide(mels, mask, batch.lengths) == -55.0).all(-1)[0, 0]
    starts = [2 * 15000 + 120000 * repetition for repetition in range(4)]
    want = [any(s <= 480 * i < s + 15000 for s in starts) for i in range(1001)]
    assert hidden.tolist() == want


def test_what_is_too_short_for_a_frame_goes_with_the_last_one() -> None:
    encoder = load("random-tiny")
    batch = waves(22500)  # a frame and a half
    mels = encoder.mel(batch)
    for masked in (True, False):
        hidden = encoder._hide(mels, torch.tensor([[masked]]), batch.lengths)
        assert torch.equal(hidden, torch.full_like(mels, -55.0) if masked else mels)


def test_training_keeps_the_learned_statistics() -> None:
    encoder = load("random-tiny", dropout=0.0)
    batch = waves(50000, 90000)
    still = encoder(batch).layers[0]
    before = encoder.tower.batch_norm.running_mean.clone()
    assert torch.allclose(encoder.train()(batch).layers[0], still, atol=1e-5)
    assert torch.equal(encoder.tower.batch_norm.running_mean, before)
    noisy = load("random-tiny", dropout=0.5)
    assert not torch.allclose(noisy.train()(batch).layers[0], still, atol=1e-3)


@pytest.mark.parametrize("output", ["clip", "projected"])
def test_a_task_over_frames_refuses_one_vector_per_clip(
    output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"run --encoder clap --task vtc --set encoder.output={output} --runs {tmp_path}"
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert "task 'vtc' needs frames, but 'clap:random-tiny' as set gives one vector" in said
    assert not list(tmp_path.rglob("record.json"))


def test_fingerprint_follows_output(tmp_path: Path) -> None:
    def make(weights: Path | str, **options: Any) -> Callable[[], Encoder]:
        return lambda: load(weights, **options)

    tiny = make("random-tiny")
    check_identity(tiny, make("random-tiny", seed=1))
    check_identity(tiny, make("random-tiny", output="clip"))
    save(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    transformers.ClapFeatureExtractor(**FUSED).save_pretrained(tmp_path / "b")
    check_identity(make(tmp_path / "a"), make(tmp_path / "b"))
    assert tiny().fingerprint == make("random-tiny", dropout=0.3)().fingerprint


def test_bad_folders(tmp_path: Path) -> None:
    transformers.ASTConfig().save_pretrained(tmp_path / "ast")
    with pytest.raises(WeightsError, match=r"'audio-spectrogram-transformer'.*--encoder ast:/"):
        load(tmp_path / "ast")
    save(tmp_path / "a", said={**UNFUSED, "sampling_rate": 16000})
    with pytest.raises(WeightsError, match="16000 Hz; clap runs at 48000"):
        load(tmp_path / "a")
    save(tmp_path / "b", said={**UNFUSED, "padding": "pad"})
    with pytest.raises(WeightsError, match="says padding 'pad'; clap repeats and pads"):
        load(tmp_path / "b")
    with pytest.raises(WeightsError, match="did you mean 'fused'"):
        load("fusedd")

"""hubert and wav2vec2: the contract, equality with transformers, options, and bad weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
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
from bab.plugins.encoders.fbank import Fbank
from bab.plugins.encoders.hubert import Hubert
from bab.plugins.encoders.wav2vec2 import Wav2Vec2
from bab.testing.encoders import CHECKS, check_identity

SMALL: dict[str, Any] = {
    "conv_dim": [24] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "codevector_dim": 16,
    "proj_codevector_dim": 16,
    "vocab_size": 9,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
ODD = {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False}  # as mHuBERT-147


def waves(*sizes: int, loudness: float = 0.1) -> Waves:
    """Noise of the given lengths, zero-padded."""
    torch.manual_seed(sum(sizes))
    samples = torch.zeros(len(sizes), max(sizes))
    for row, size in zip(samples, sizes, strict=True):
        row[:size] = torch.randn(size) * loudness
    return Waves(samples, torch.tensor(sizes))


def save(kind: str, folder: Path, normalize: bool | None = None, **config: Any) -> Any:
    """A small random model of transformers, saved to `folder`; kind: its class."""
    torch.manual_seed(7)
    family = "Hubert" if kind.startswith("Hubert") else "Wav2Vec2"
    made = getattr(transformers, f"{family}Config")(**{**SMALL, **config})
    model = getattr(transformers, kind)(made).eval()
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 2.0)
    model.save_pretrained(folder)
    if normalize is not None:
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize)
        extractor.save_pretrained(folder)
    return model


def load(cls: type[Encoder], weights: Path | str, **options: Any) -> Any:
    return cls.load(str(weights), cls.Options(**options))


# ------------------------------------------------------------------------------ the contract


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One saved model of each kind that behaves differently under padding."""
    root = tmp_path_factory.mktemp("models")
    kinds = {
        "hubert-base": ("HubertModel", {}),
        "hubert-large": ("HubertModel", LARGE),
        "hubert-odd": ("HubertModel", ODD),
        "wav2vec2-base": ("Wav2Vec2Model", {}),
        "wav2vec2-large": ("Wav2Vec2Model", LARGE),
    }
    for name, (kind, config) in kinds.items():
        save(kind, root / name, **config)
    return {name: root / name for name in kinds}


MAKERS: dict[str, Callable[[dict[str, Path]], Encoder]] = {
    "fbank": lambda _: Fbank.load("", Fbank.Options()),
    "hubert:random-tiny": lambda _: load(Hubert, "random-tiny"),
    "wav2vec2:random-tiny": lambda _: load(Wav2Vec2, "random-tiny"),
    "hubert large": lambda dirs: load(Hubert, dirs["hubert-large"]),
    "hubert with batch norm": lambda dirs: load(Hubert, dirs["hubert-odd"]),
    "wav2vec2 large": lambda dirs: load(Wav2Vec2, dirs["wav2vec2-large"]),
    "wav2vec2 not normalised": lambda dirs: load(Wav2Vec2, dirs["wav2vec2-base"], normalize=False),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", MAKERS)
def test_contract(name: str, check: Callable[..., None], folders: dict[str, Path]) -> None:
    check(lambda: MAKERS[name](folders))


def test_names_in_the_package_are_these_classes() -> None:
    from importlib.metadata import entry_points

    found = {entry.name: entry.load() for entry in entry_points(group="bab.encoders")}
    for name, cls in (("fbank", Fbank), ("hubert", Hubert), ("wav2vec2", Wav2Vec2)):
        assert found[name] is cls
    for cls in (Hubert, Wav2Vec2):
        assert cls.default in cls.weights and set(cls.family.hub) <= set(cls.weights)


def test_importing_loads_nothing_heavy() -> None:
    """`bab list` names encoders, `bab info` imports one: neither waits for transformers."""
    code = (
        "import sys, bab.core.weights; assert 'torch' not in sys.modules;"
        "import bab.plugins.encoders.hubert, bab.plugins.encoders.wav2vec2;"
        "assert not {'transformers', 'torchaudio', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fingerprint_changes_with_output(folders: dict[str, Path], tmp_path: Path) -> None:
    def tiny(**options: Any) -> Callable[[], Encoder]:
        return lambda: load(Hubert, "random-tiny", **options)

    check_identity(tiny(), tiny(seed=1))
    check_identity(tiny(), tiny(normalize=False))
    check_identity(tiny(), lambda: load(Hubert, folders["hubert-base"]))
    # The same tensors under another configuration: heads are not in the weights.
    shutil.copytree(folders["hubert-base"], tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config, "num_attention_heads": 2}))
    check_identity(
        lambda: load(Hubert, folders["hubert-base"]), lambda: load(Hubert, tmp_path / "m")
    )
    # What only matters in training doesn't make cached features stale.
    assert tiny()().fingerprint == tiny(dropout=0.3, layerdrop=0.1)().fingerprint


# ------------------------------------------------------------------------------ transformers


@pytest.mark.parametrize("config", [{}, LARGE, ODD], ids=["base", "large", "odd"])
@pytest.mark.parametrize("normalize", [True, False])
def test_equals_transformers(config: dict[str, Any], normalize: bool, tmp_path: Path) -> None:
    reference = save("HubertModel", tmp_path, normalize, **config)
    encoder = load(Hubert, tmp_path)
    assert encoder.resolved == f"hubert:{tmp_path}" and encoder.normalize is normalize
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)
    batch = waves(6403, 16000, 9001, loudness=0.02)
    with torch.no_grad():
        got = encoder(batch)
        for row, size in enumerate(batch.lengths.tolist()):
            clip = batch.samples[row, :size].numpy()
            values = extractor(clip, sampling_rate=16000, return_tensors="pt").input_values
            want = reference(values, output_hidden_states=True)
            states = (*want.hidden_states[:-1], want.last_hidden_state)
            frames = states[0].shape[1]
            assert int(got.lengths[row]) == frames == encoder.grid.frames(size)
            for mine, theirs in zip(got.layers, states, strict=True):
                torch.testing.assert_close(mine[row, :frames], theirs[0], atol=1e-4, rtol=0)
                assert not mine[row, frames:].any()
            local = reference.feature_extractor(values)[0].T
            torch.testing.assert_close(got.local[row, :frames], local, atol=1e-4, rtol=0)


def test_plain_transformers_does_depend_on_the_batch(tmp_path: Path) -> None:
    """What the replaced norm is for: without it, the same comparison is far off."""
    reference = save("HubertModel", tmp_path)
    batch = waves(6400, 16000)
    mask = (torch.arange(16000) < batch.lengths[:, None]).long()
    with torch.no_grad():
        alone = reference(batch.samples[:1, :6400]).last_hidden_state[0]
        padded = reference(batch.samples, attention_mask=mask).last_hidden_state[0, : len(alone)]
    assert float((alone - padded).abs().max()) > 0.01


@pytest.mark.parametrize(
    "kind",
    ["HubertForCTC", "HubertForSequenceClassification", "Wav2Vec2ForPreTraining", "Wav2Vec2ForCTC"],
)
def test_task_models_give_their_encoder(kind: str, tmp_path: Path) -> None:
    reference = save(kind, tmp_path, add_adapter=False)
    cls = Hubert if kind.startswith("Hubert") else Wav2Vec2
    encoder = load(cls, tmp_path, normalize=False)
    base = getattr(reference, cls.family.model_type)
    batch = waves(8000)
    with torch.no_grad():
        want = base(batch.samples).last_hidden_state
        torch.testing.assert_close(encoder(batch, layers="last").layers[0], want)


def test_wav2vec2_adapter_is_left_out(tmp_path: Path) -> None:
    """It would change the frame rate, after the encoder."""
    save("Wav2Vec2Model", tmp_path, add_adapter=True)
    encoder = load(Wav2Vec2, tmp_path)
    assert encoder(waves(16000)).layers[-1].shape == (1, 49, 48)


def test_old_formats(folders: dict[str, Path], tmp_path: Path) -> None:
    """pytorch_model.bin, half precision, weight norm's old names, no mask embedding, shards."""
    from safetensors.torch import load_file, save_file

    new = load(Hubert, folders["hubert-base"])
    tensors = load_file(folders["hubert-base"] / "model.safetensors")
    pos = "encoder.pos_conv_embed.conv."
    old = {
        k.replace(f"{pos}parametrizations.weight.original", f"{pos}weight_"): v
        for k, v in tensors.items()
        if k != "masked_spec_embed"
    }
    old = {
        k.replace("weight_0", "weight_g").replace("weight_1", "weight_v"): v for k, v in old.items()
    }
    assert f"{pos}weight_g" in old and f"{pos}weight_v" in old
    shutil.copy(folders["hubert-base"] / "config.json", tmp_path)
    torch.save(old, tmp_path / "pytorch_model.bin")
    batch = waves(8000)
    with torch.no_grad():
        want = new(batch).layers[-1]
        torch.testing.assert_close(load(Hubert, tmp_path)(batch).layers[-1], want)
    names = sorted(tensors)
    index: dict[str, str] = {}
    for part in (0, 1):
        file = f"model-{part}.safetensors"
        save_file({name: tensors[name].half() for name in names[part::2]}, tmp_path / file)
        index |= dict.fromkeys(names[part::2], file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (tmp_path / "pytorch_model.bin").unlink()
    with torch.no_grad():
        got = load(Hubert, tmp_path)(batch).layers[-1]
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want, atol=0.05, rtol=0)


def test_mask_is_that_of_transformers(tmp_path: Path) -> None:
    reference = save("Wav2Vec2Model", tmp_path)
    encoder = load(Wav2Vec2, tmp_path, normalize=False)
    batch = waves(16000, 16000)
    mask = torch.rand(2, 49, generator=torch.Generator().manual_seed(0)) < 0.4
    with torch.no_grad():
        want = reference(batch.samples, mask_time_indices=mask).last_hidden_state
        got = encoder(batch, mask=mask)
        torch.testing.assert_close(got.layers[-1], want)
        torch.testing.assert_close(got.local, encoder(batch).local)


# ------------------------------------------------------------------------------ bad folders


def test_wrong_family(folders: dict[str, Path]) -> None:
    with pytest.raises(WeightsError, match=r"describes a 'wav2vec2' model.*--encoder wav2vec2:/"):
        load(Hubert, folders["wav2vec2-base"])
    with pytest.raises(WeightsError, match=r"describes a 'hubert' model.*--encoder hubert:/"):
        load(Wav2Vec2, folders["hubert-base"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hidden_size": 96}, "the configuration asks for"),
        ({"num_hidden_layers": 5}, "lacks 32 of the encoder's"),
        ({"num_attention_heads": 5}, "bad configuration"),
        ({"conv_stride": [5, 2]}, "bad configuration"),
        ({"feat_extract_norm": "none"}, "bad configuration.*feat_extract_norm"),
        ({"hidden_size": "wide"}, "bad configuration"),
        ({"model_type": "bert"}, "describes a 'bert' model, not a 'hubert': name hubert weights"),
    ],
)
def test_bad_configurations(
    change: dict[str, Any], says: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders["hubert-base"], tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(WeightsError, match=says) as caught:
        load(Hubert, tmp_path / "m")
    assert str(tmp_path / "m") in str(caught.value) and "\n" not in str(caught.value)


def test_another_sample_rate(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["hubert-base"], tmp_path / "m")
    (tmp_path / "m" / "preprocessor_config.json").write_text('{"sampling_rate": 8000}')
    with pytest.raises(WeightsError, match="8000 Hz; hubert runs at 16000"):
        load(Hubert, tmp_path / "m")


# ------------------------------------------------------------------------------ options, training


def test_random_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (load(Hubert, "random-tiny", seed=s) for s in (0, 0, 5))
    assert torch.equal(torch.get_rng_state(), before)
    batch = waves(4000)
    states = [encoder(batch).layers[-1] for encoder in (first, again, other)]
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])
    assert sum(p.numel() for p in first.parameters()) == pytest.approx(1.7e6, rel=0.05)
    assert (first.grid, first.resolved) == (Grid(16000, 320, 400), "hubert:random-tiny")


def test_dropout() -> None:
    batch = waves(8000)
    for dropout, same in ((0.0, True), (0.5, False), (None, False)):
        encoder = load(Hubert, "random-tiny", dropout=dropout)
        still = encoder(batch).layers[-1]
        moving = encoder.train()(batch).layers[-1]
        assert torch.allclose(still, moving, atol=1e-5) is same, dropout


def test_layerdrop() -> None:
    """Off unless asked for; with it, the states of skipped layers are missing."""
    assert load(Hubert, "random-tiny").model.config.layerdrop == 0
    encoder = load(Hubert, "random-tiny", layerdrop=0.9, dropout=0.0)
    batch = waves(8000)
    still = encoder(batch, layers="last").layers[0]
    encoder.train()
    with pytest.raises(BabError, match="layers: last"):
        encoder(batch)
    torch.manual_seed(0)
    assert not torch.allclose(encoder(batch, layers="last").layers[0], still, atol=1e-3)


def test_training_masks_nothing_by_itself(tmp_path: Path) -> None:
    """SpecAugment is on by default in these configurations; here only the given mask masks."""
    save(
        "Wav2Vec2Model",
        tmp_path,
        mask_time_prob=0.9,
        mask_feature_prob=0.9,
        apply_spec_augment=True,
    )
    encoder = load(Wav2Vec2, tmp_path, dropout=0.0)
    batch = waves(16000, 9000)
    still = encoder(batch).layers[-1]
    assert torch.allclose(encoder.train()(batch).layers[-1], still, atol=1e-5)


def test_a_frozen_front_end_has_no_backward_pass() -> None:
    encoder = load(Hubert, "random-tiny").train()
    for parameter in encoder.groups()["conv"]:
        parameter.requires_grad_(False)
    out = encoder(waves(8000))
    assert not out.local.requires_grad and out.layers[0].requires_grad


def test_groups_are_in_order_of_depth(folders: dict[str, Path]) -> None:
    for name in ("hubert-base", "hubert-large"):
        encoder = load(Hubert, folders[name])
        groups = encoder.groups()
        assert list(groups) == ["conv", "input", "layer0", "layer1", "layer2"]
        norm: Tensor = encoder.model.encoder.layer_norm.weight
        home = "layer2" if name == "hubert-large" else "input"
        assert any(parameter is norm for parameter in groups[home])

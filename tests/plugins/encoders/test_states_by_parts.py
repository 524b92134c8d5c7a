"""From files to tensors with transformers' names, and back: what is filled, refused and written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from bab.core.errors import BabError
from bab.core.weights import WeightsError
from bab.plugins.encoders.shared import export, passing
from bab.plugins.encoders.shared.clap import DecibelMel, MelSettings
from bab.plugins.encoders.shared.states import Kind, Weights, build, dropouts, from_folder

SMALL: dict[str, Any] = {
    "conv_dim": [8] * 7, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 24, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip


def refused(call: Any, *given: Any) -> str:
    with pytest.raises(BabError) as raised:
        call(*given)
    return str(raised.value)


# --- filling


class Model(nn.Module):
    """Two tensors, and one that a checkpoint may lack."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 3))
        self.new_bias = nn.Parameter(torch.zeros(2))
        self.masked_spec_embed = nn.Parameter(torch.full((3,), 7.0))


def modern(name: str) -> str:
    return name.replace("old_", "new_")


def test_tensors_are_filled_in_under_old_and_new_names() -> None:
    for name in ("old_bias", "new_bias"):
        model = Model()
        tensors = {"weight": torch.ones(2, 3), name: torch.ones(2), "more": torch.ones(1)}
        Weights({}, tensors, "w").fill(model, modern)
        assert bool((model.weight == 1).all()) and bool((model.new_bias == 1).all())
        assert model.masked_spec_embed.tolist() == [7.0] * 3  # as it was drawn
    tensors["masked_spec_embed"] = torch.zeros(3)
    Weights({}, tensors, "w").fill(model, modern)
    assert not model.masked_spec_embed.any()


def test_tensors_that_lack_or_do_not_fit_are_named() -> None:
    one = {"weight": torch.ones(2, 3)}
    assert refused(Weights({}, one, "w").fill, Model()) == (
        "w lacks 1 of the encoder's 3 tensors, e.g. 'new_bias': it doesn't hold the model that its "
        "configuration describes"
    )
    assert "w lacks 2 of the encoder's 3 tensors" in refused(Weights({}, None, "w").fill, Model())
    odd = {"weight": torch.ones(3, 2), "new_bias": torch.ones(2)}
    assert refused(Weights({}, odd, "w").fill, Model()) == (
        "w: 'weight' is [3, 2], but the configuration asks for [2, 3]"
    )


def test_a_model_without_memory_takes_what_was_read() -> None:
    with torch.device("meta"):
        model = Model()
    model.masked_spec_embed = nn.Parameter(torch.full((3,), 7.0))
    given = {"weight": torch.ones(2, 3, dtype=torch.float16), "new_bias": torch.ones(4)[::2]}
    Weights({}, given, "w").fill(model)
    assert model.weight.dtype == torch.float32 and not model.weight.is_meta
    assert model.new_bias.is_contiguous() and model.masked_spec_embed.tolist() == [7.0] * 3


def test_weights_are_drawn_from_the_seed_or_left_to_be_filled_in() -> None:
    def made(seed: int, tensors: Any = None) -> Any:
        return build("HubertModel", "HubertConfig", Weights(SMALL, tensors, "w"), {}, seed)

    before = torch.get_rng_state()
    one, same, other = made(1), made(1), made(2)
    assert torch.equal(torch.get_rng_state(), before)
    state = one.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in same.state_dict().items())
    assert not all(torch.equal(v, state[k]) for k, v in other.state_dict().items())
    empty = made(3, state)  # all of it is there: nothing is drawn
    left = {name for name, tensor in empty.state_dict().items() if not tensor.is_meta}
    assert left <= {"masked_spec_embed"}  # which transformers makes by itself
    lacking = {k: v for k, v in state.items() if k != "masked_spec_embed"}
    drawn, full = made(4, lacking).state_dict(), made(4).state_dict()
    assert torch.equal(drawn["masked_spec_embed"], full["masked_spec_embed"])
    assert drawn["feature_projection.projection.weight"].is_meta
    less = {k: v for k, v in state.items() if "projection" not in k}
    assert not any(tensor.is_meta for tensor in made(5, less).state_dict().values())
    with pytest.raises(WeightsError) as raised:
        build("HubertModel", "HubertConfig", Weights(SMALL, None, "w"), {"conv_stride": [1]}, 0)
    assert str(raised.value).startswith("w: bad configuration: ") and len(str(raised.value)) < 330
    assert "\n" not in str(raised.value)


def test_dropouts_of_layers() -> None:
    assert dropouts(None) == {}
    assert dropouts(0.25) == {
        "hidden_dropout_prob": 0.25, "attention_probs_dropout_prob": 0.25,
    }  # fmt: skip


# --- folders

KIND = Kind("hubert", ("hubert", "hubert2"), ("a.b.", "a."), 16000)


def folder(place: Path, tensors: Any, extractor: Any = None, **config: Any) -> Path:
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps({"model_type": "hubert", **config}))
    save_file({name: one.clone() for name, one in tensors.items()}, place / "model.safetensors")
    if extractor is not None:
        (place / "preprocessor_config.json").write_text(json.dumps(extractor))
    return place


def test_an_encoders_part_of_a_folder(tmp_path: Path) -> None:
    one, two = torch.ones(1), torch.zeros(2)
    place = folder(tmp_path / "x", {"a.b.w": one, "a.v": two, "masked.e": two, "quantizer.c": one})
    read = from_folder(place, KIND)
    assert list(read.tensors or {}) == ["w"]  # the longest prefix that there is
    assert sorted(read.extras) == ["masked.e", "quantizer.c"]
    assert (read.where, read.extractor) == (str(place), {})
    place = folder(tmp_path / "y", {"a.v": one, "u": two}, {"sampling_rate": 16000, "x": 1})
    read = from_folder(place, KIND)
    assert list(read.tensors or {}) == ["v"] and read.extractor == {"sampling_rate": 16000, "x": 1}
    plain = {"w": one, "project_hid.w": one, "project_q.w": two}
    read = from_folder(folder(tmp_path / "z", plain, model_type="hubert2"), KIND)
    assert sorted(read.tensors or {}) == ["project_hid.w", "project_q.w", "w"]
    assert sorted(read.extras) == ["project_hid.w", "project_q.w"]


@pytest.mark.parametrize(
    ("written", "remedy"),
    [
        ("wavlm", "try --encoder wavlm:{place}"),
        ("clap_audio_model", "try --encoder clap:{place}"),
        ("audio-spectrogram-transformer", "try --encoder ast:{place}"),
        ("whisper", "name hubert weights"),
        (None, "name hubert weights"),
    ],
)
def test_another_familys_folder_is_told_by_name(
    tmp_path: Path, written: str | None, remedy: str
) -> None:
    place = folder(tmp_path / "x", {"w": torch.ones(1)}, model_type=written)
    assert refused(from_folder, place, KIND) == (
        f"{place / 'config.json'} describes a '{written}' model, not a 'hubert': "
        + remedy.format(place=place)
    )


def test_another_sample_rate_is_refused(tmp_path: Path) -> None:
    place = folder(tmp_path / "x", {"w": torch.ones(1)}, {"sampling_rate": 8000})
    assert refused(from_folder, place, KIND) == (
        f"{place / 'preprocessor_config.json'}: sampling_rate is 8000 Hz; hubert runs at 16000"
    )


# --- export

NAMES = ("Wav2Vec2Model", "Wav2Vec2ForPreTraining")
QUANTISER = {
    "quantizer.codevectors": torch.ones(1, 12, 5),
    "quantizer.weight_proj.weight": torch.ones(12, 8),
    "project_q.weight": torch.ones(6, 20),
}


def written(place: Path, extras: Any, dtype: str = "float32", **config: Any) -> Any:
    made = transformers.Wav2Vec2Config(**SMALL, **config)
    states = {"w": torch.full((2,), 1 / 3), "n": torch.ones(1, dtype=torch.int64)}
    export.write(place, made, True, states, extras, dtype, NAMES)
    read = {
        name: json.loads((place / f"{name}.json").read_text())
        for name in ("config", "preprocessor_config")
    }
    return read["config"], read["preprocessor_config"], load_file(place / "model.safetensors")


def test_a_bare_encoder_is_written(tmp_path: Path) -> None:
    config, extractor, tensors = written(tmp_path, {"masked.x": torch.ones(2)})
    assert config["architectures"] == ["Wav2Vec2Model"] and config["dtype"] == "float32"
    assert "torch_dtype" not in config and "_name_or_path" not in config
    assert sorted(tensors) == ["masked.x", "n", "w"] and tensors["w"].dtype == torch.float32
    assert extractor == {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1,
        "sampling_rate": 16000, "padding_side": "right", "padding_value": 0.0,
        "do_normalize": True, "return_attention_mask": False,
    }  # fmt: skip
    _, extractor, tensors = written(tmp_path, {}, "float16", feat_extract_norm="layer")
    assert extractor["return_attention_mask"] is True
    assert tensors["w"].dtype == torch.float16 and tensors["n"].dtype == torch.int64


def test_with_a_quantiser_it_is_the_model_for_pretraining(tmp_path: Path) -> None:
    config, _, tensors = written(tmp_path, QUANTISER)
    assert config["architectures"] == ["Wav2Vec2ForPreTraining"]
    assert sorted(tensors) == sorted(["wav2vec2.w", "wav2vec2.n", *QUANTISER])
    wanted = {
        "codevector_dim": 20, "proj_codevector_dim": 6, "num_codevector_groups": 4,
        "num_codevectors_per_group": 3,
    }  # fmt: skip
    assert {key: config[key] for key in wanted} == wanted
    for name in QUANTISER:
        less = {key: value for key, value in QUANTISER.items() if key != name}
        assert written(tmp_path, less)[0]["architectures"] == ["Wav2Vec2Model"]


def test_what_can_not_be_written(tmp_path: Path) -> None:
    assert refused(written, tmp_path / "a", {}, "bfloat16") == (
        "export dtype 'bfloat16': known are float32, float16"
    )
    said = refused(written, tmp_path / "a", {"w": torch.ones(1), "x": torch.ones(1)})
    assert said == "extras may not hold the encoder's own 'w'"
    assert not (tmp_path / "a").exists()


# --- threads


@pytest.mark.parametrize(
    ("module", "safe"),
    [(SimpleNamespace(capture_outputs=None), True), (SimpleNamespace(), False), (None, False)],
)
def test_threads_are_safe_where_hidden_states_are_captured_for_each(
    module: Any, safe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers.utils.output_capturing", module)
    monkeypatch.delattr(transformers.utils, "output_capturing", raising=False)
    if module is not None:
        monkeypatch.setattr(transformers.utils, "output_capturing", module, raising=False)
    assert passing.threads_are_safe() is safe


# --- CLAP's features


def test_clap_reads_its_extractors_settings() -> None:
    assert MelSettings.read({}, "w") == MelSettings()
    said = {
        "max_length_s": 5, "feature_size": 32, "fft_window_size": 512, "hop_length": 240,
        "frequency_min": 20, "frequency_max": 9000, "truncation": "fusion", "sampling_rate": 1,
    }  # fmt: skip
    read = MelSettings.read(said, "w")
    assert read == MelSettings(48000, 5, 32, 512, 240, 20.0, 9000.0, "fusion")
    assert read.samples == 240000 and MelSettings().samples == 480000
    assert refused(MelSettings.read, {"padding": "repeat"}, "w") == (
        "w: preprocessor_config.json says padding 'repeat'; clap repeats and pads short clips "
        "('repeatpad')"
    )


@pytest.mark.parametrize(("length", "whole"), [(1, 7), (2, 6), (3, 6), (4, 4), (7, 7)])
def test_a_clip_is_repeated_whole_as_often_as_it_fits(length: int, whole: int) -> None:
    from bab.core.types import Waves

    settings = MelSettings(rate=7, seconds=1, fft=4, hop=2, mels=1, low=0.0, high=3.0)
    clip = torch.arange(1.0, 8.0)[None]
    filled = DecibelMel(settings).fill(Waves(clip, torch.tensor([length])))[0].tolist()
    assert filled == [float(i % length + 1) if i < whole else 0.0 for i in range(7)]

"""What readers make of a folder: every part of the model that they hand over, and their errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import bab
from bab.core.errors import BabError
from bab.core.weights import WeightsError
from bab.plugins.models.babycry import NOTICE, BabyCry
from bab.plugins.models.hf import HuggingFace
from bab.plugins.models.segma import PUBLISHED, Segma
from bab.plugins.models.shared.files import read_settings
from bab.plugins.models.shared.heads import READERS
from bab.plugins.models.vtc1 import Vtc1

Z = torch.zeros


def refused(call: Any, *given: Any) -> str:
    with pytest.raises(WeightsError) as caught:
        call(*given)
    return str(caught.value)


def parts_of(parts: bab.ModelParts) -> dict[str, Any]:
    """Its fields, tensors as lists."""
    said = {name: getattr(parts, name) for name in type(parts).__dataclass_fields__}
    return {**said, "tensors": {k: v.tolist() for k, v in parts.tensors.items()}}


def same_but(parts: bab.ModelParts, **wanted: Any) -> None:
    """Equal to the contract's defaults but for these."""
    plain = parts_of(bab.ModelParts(task="", labels={}, encoder="", head="", tensors={}))
    assert parts_of(parts) == {**plain, **wanted}


# --- settings


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("a.toml", "x = 1\n[y]\nz = 'ä'\n", {"x": 1, "y": {"z": "ä"}}),
        ("a.toml", "x: 1\ny: {z: ä}\n", {"x": 1, "y": {"z": "ä"}}),  # segma's was YAML once
        ("a.yml", "x: 1\n", {"x": 1}),
        ("a.yaml", "x = 1\n", None),
        ("a.yml", "- 1\n", None),
        ("a.yml", "", None),
    ],
)
def test_settings_are_keys_and_values(
    tmp_path: Path, name: str, text: str, values: dict[str, Any] | None
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    if values is None:
        assert refused(read_settings, path) == f"{path} holds no keys and values"
    else:
        assert read_settings(path) == values


def test_settings_that_can_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    assert refused(read_settings, path).startswith(f"{path} can't be read: [Errno 2] No such file")
    path.write_bytes(b"x: \xff\n")
    assert "can't be read: 'utf-8' codec can't decode" in refused(read_settings, path)
    path.write_text("x: [" + "1, " * 200)
    said = refused(read_settings, path)
    assert said.startswith(f"{path} can't be read: while parsing a flow")
    assert "\n" not in said and len(said) <= len(f"{path} can't be read: ") + 200


# --- segma

CONV = {"feature_extractor.conv_layers.0.conv.weight": Z(4, 1, 10)}


def head(label: str, value: float) -> dict[str, Any]:
    name = f"net.task_heads.linear_head_{label}"
    return {f"{name}.weight": torch.full((1, 2), value), f"{name}.bias": torch.tensor([-value])}


def test_vtc_2_as_a_whole(tmp_path: Path) -> None:
    torch.save({"state_dict": CONV | head("MAL", 1) | head("FEM", 2)}, tmp_path / "best.ckpt")
    settings: dict[str, Any] = {
        "model": {"name": "surgical_hubert_hydra"}, "data": {"classes": ["FEM", "MAL"]},
        "audio": {"chunk_duration_s": 4, "sample_rate": 16000},
    }  # fmt: skip
    (tmp_path / "config.yml").write_text(json.dumps(settings))
    wanted: dict[str, Any] = {
        "task": "vtc",
        "task_options": {"classes": ["FEM", "MAL"]},
        "labels": {"voice": ("FEM", "MAL")},
        "encoder": f"segma:{tmp_path / 'best.ckpt'}",
        "head": "frames",
        "head_options": {"dropout": 0.5},
        "tensors": {"head.output.weight": [[2, 2], [1, 1]], "head.output.bias": [-2, -1]},
        "view": bab.View(window=4.0, crop=True, tail="short"),
    }
    published = "thresholds of preset {} are those published with VTC 2"
    notice = f"{tmp_path.name} holds no {{}}.toml: {published}"
    same_but(
        Segma().read(str(tmp_path)),
        **wanted,
        tuned={
            "f1": {"thresholds": {"FEM": 0.377, "MAL": 0.429}},
            "high-precision": {"thresholds": {"FEM": 0.8, "MAL": 0.75}},
        },
        notices=(notice.format("f1", "f1"), notice.format("hp", "high-precision")),
    )
    (tmp_path / "best_thresholds.yml").write_text("FEM: {lower_bound: 0}\nMAL: 1\n")
    (tmp_path / "hp.toml").write_text("FEM = 0.25\nMAL = 0.5\n")
    same_but(
        Segma().read(str(tmp_path)),
        **wanted,
        tuned={
            "f1": {"thresholds": {"FEM": 0.0, "MAL": 1.0}},
            "high-precision": {"thresholds": {"FEM": 0.25, "MAL": 0.5}},
        },
    )
    settings["data"]["classes"] = ["FEM", "KCH"]
    torch.save({"state_dict": CONV | head("FEM", 1) | head("KCH", 2)}, tmp_path / "best.ckpt")
    (tmp_path / "config.yml").write_text(json.dumps(settings))
    said = refused(Segma().read, str(tmp_path))
    assert said == f"{tmp_path}: label 'KCH': did you mean 'KCHI' or 'OCH'?"


def test_the_published_thresholds_are_the_pages() -> None:
    assert PUBLISHED == {  # LAAC-LSCP/VTC, thresholds/f1.toml and hp.toml
        "f1": {"KCHI": 0.437, "OCH": 0.378, "MAL": 0.429, "FEM": 0.377},
        "high-precision": {"KCHI": 0.8, "OCH": 0.52, "MAL": 0.75, "FEM": 0.8},
    }


def test_the_addressee_model_as_a_whole(tmp_path: Path) -> None:
    top = {"net.classifier.weight": torch.arange(6.0).view(3, 2), "net.classifier.bias": Z(3)}
    torch.save({"state_dict": CONV | top}, tmp_path / "best.ckpt")
    (tmp_path / "config.yml").write_text("context_size: 12\n")
    same_but(
        Segma().read(str(tmp_path)),
        task="addressee",
        labels={"addressee": ("ADS", "KCDS", "Other")},
        encoder=f"segma:{tmp_path / 'best.ckpt'}",
        head="pooled",
        head_options={"hidden": 0, "dropout": 0.5},
        tensors={
            "head.output.weight": [[0, 1], [2, 3], [4, 5]],
            "head.output.bias": [0, 0, 0],
        },
        view=bab.View(context=6.0),
    )


# --- VTC 1.0


def old(folder: Path, names: tuple[str, ...] = ("SPEECH", "FEM", "CHI"), **specs: Any) -> Path:
    """VTC 1.0's layout: checkpoint n has n + 1 states; its rows are 10 n, 10 n + 1, ..."""
    weights = folder / "train" / "weights"
    weights.mkdir(parents=True)
    for epoch, name in enumerate(names, 1):
        rows = torch.arange(float(len(names)))[:, None] + 10 * epoch
        output = {"linear_.weight": rows.expand(-1, epoch + 1).clone(), "linear_.bias": -rows[:, 0]}
        torch.save(output, weights / f"{epoch:04d}.pt")
        place = weights.parent / f"validate_{name}" / "Some.development"
        place.mkdir(parents=True)
        said = {"epoch": epoch, "params": {"onset": epoch / 10}}
        (place / "params.yml").write_text(json.dumps(said))
    said = {"y": {"classes": list(names)}, **specs}
    (weights / "specs.yml").write_text(json.dumps(said))
    return weights


def test_vtc_1_as_a_whole(tmp_path: Path) -> None:
    """Each voice reads the states of its own net: CHI, the later releases' OCH, is in the third."""
    weights = old(tmp_path)
    thresholds = {"OCH": 0.3, "FEM": 0.2}
    same_but(
        Vtc1().read(str(tmp_path)),
        task="vtc",
        task_options={"classes": ["OCH", "FEM"], "fill_gaps": 0.0, "min_segment": 0.0},
        labels={"voice": ("OCH", "FEM")},
        encoder=f"pyannet:{weights}",
        head="frames",
        tensors={
            "head.output.weight": [[0] * 5 + [32] * 4, [0] * 2 + [21] * 3 + [0] * 4],
            "head.output.bias": [-32, -21],
        },
        tuned={"f1": {"thresholds": thresholds}, "high-precision": {"thresholds": thresholds}},
        view=bab.View(window=2.0, hop=0.5),
        notices=("VTC 1.0 has one set of thresholds: both presets are the same",),
    )
    second = old(tmp_path / "second", ("OCH", "KCHI", "MAL"))
    read = Vtc1().read(str(second))
    assert read.labels == {"voice": ("KCHI", "OCH", "MAL")}
    assert read.tuned["f1"]["thresholds"] == {"KCHI": 0.2, "OCH": 0.1, "MAL": 0.3}


def test_a_folder_may_be_named_from_home_or_from_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder that is written down is named by its whole path."""
    old(tmp_path / "vtc1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    top = {"net.classifier.weight": Z(3, 2), "net.classifier.bias": Z(3)}
    (tmp_path / "segma").mkdir()
    torch.save({"state_dict": CONV | top}, tmp_path / "segma" / "best.ckpt")
    (tmp_path / "segma" / "config.yml").write_text("context_size: 12\n")
    for read in (Vtc1().read, Segma().read):
        name = read.__self__.__class__.__name__.lower()  # type: ignore[attr-defined]
        whole = read(str(tmp_path / name)).encoder
        assert str(tmp_path / name) in whole
        assert read(name).encoder == read(f"~/{name}").encoder == whole
    for name in ("babycry", "~/babycry"):
        told = f"{tmp_path / 'babycry'} holds no model.json: name a run of task valence"
        assert refused(BabyCry().read, name) == told


def test_what_is_no_vtc_1(tmp_path: Path) -> None:
    place = str(tmp_path)
    assert refused(Vtc1().read, f"{place}/no") == f"{tmp_path}/no: there is no such folder"
    weights = old(tmp_path)
    specs, params = weights / "specs.yml", next(tmp_path.rglob("validate_FEM/**/params.yml"))
    read = Vtc1().read
    for text in ("y: 3\n", "x: 3\n", "y: {classes: FEM}\n"):
        specs.write_text(text)
        assert refused(read, place) == f"{specs} names no classes under y"
    specs.write_text("y: {classes: [SPEECH, NOISE]}\n")
    said = refused(read, place)
    assert said == f"{weights.parent}: none of SPEECH, NOISE is a voice"
    specs.write_text("y: {classes: [SPEECH, FEM, CHI]}\n")
    for text, lack in (
        ("epoch: 2\n", "'params'"), ("params: {onset: .5}\n", "'epoch'"),
        ("epoch: 2\nparams: 3\n", "'int' object is not subscriptable"),
        ("epoch: two\nparams: {onset: .5}\n", "invalid literal for int() with base 10: 'two'"),
    ):  # fmt: skip
        params.write_text(text)
        assert refused(read, place) == f"{params} lacks {lack}"
    for onset, good in ((0, True), (1, True), (-0.01, False), (1.01, False)):
        params.write_text(f"epoch: 2\nparams: {{onset: {onset}}}\n")
        if good:
            assert read(place).tuned["f1"]["thresholds"]["FEM"] == onset
        else:
            said = refused(read, place)
            assert said == f"{params}: 0002.pt is not there, or onset is no share"
    params.write_text("epoch: 2\nparams: {onset: 0.5}\n")
    for lost in ("weight", "bias"):
        whole = torch.load(weights / "0001.pt", weights_only=True)
        torch.save({k: v for k, v in whole.items() if not k.endswith(lost)}, weights / "0001.pt")
        said = refused(read, place)
        assert said == f"{weights / '0001.pt'} has no output layer 'linear_': no net of VTC 1.0"
        torch.save(whole, weights / "0001.pt")


# --- babycry


def test_babycry_as_a_whole(tmp_path: Path) -> None:
    view = {"window": 2.0, "hop": 1.0, "pool": "mean"}
    spec: dict[str, Any] = {
        "task": {"name": "valence"}, "view": view, "pool": True, "layers": "last",
        "labels": {"valence": ["distress", "positive"]},
        "encoder": {"name": "clap", "weights": "tiny", "options": {"a": 1}},
        "head": {"name": "logistic", "options": {"c": 2.0}},
    }  # fmt: skip
    for folder in (tmp_path, tmp_path / "model"):
        folder.mkdir(exist_ok=True)
        (folder / "model.json").write_text(json.dumps(spec))
        save_file({"head.w": Z(2)}, folder / "model.safetensors")
    wanted = {
        "task": "valence", "labels": {"valence": ("distress", "positive")},
        "encoder": "clap:tiny", "encoder_options": {"a": 1}, "head": "logistic",
        "head_options": {"c": 2.0}, "tensors": {"head.w": [0, 0]}, "layers": "last",
        "view": bab.View(window=2.0, hop=1.0, pool="mean"), "pool": True, "notices": (NOTICE,),
    }  # fmt: skip
    same_but(BabyCry().read(str(tmp_path)), **wanted)
    same_but(BabyCry().read(str(tmp_path / "model")), **wanted)
    plain = {**spec, "encoder": {"name": "clap", "weights": "", "options": {}}, "pool": False}
    (tmp_path / "model" / "model.json").write_text(json.dumps(plain))
    same_but(
        BabyCry().read(str(tmp_path)),
        **{**wanted, "encoder": "clap", "encoder_options": {}, "pool": False},
    )
    for change in ({"window": 3.0}, {"hop": 2.0}, {"pool": "max"}):
        (tmp_path / "model" / "model.json").write_text(json.dumps({**spec, "view": view | change}))
        other = {**view, **change}
        assert refused(BabyCry().read, str(tmp_path)) == (
            f"{tmp_path / 'model'} was made with windows of {other['window']} s every "
            f"{other['hop']} s (pool {other['pool']}); babycry's are of 2 s every 1 s, averaged"
        )


# --- transformers


def saved(folder: Path, config: dict[str, Any], tensors: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("files", "normalised"),
    [
        ({}, True),
        ({"preprocessor_config.json": {}}, True),
        ({"preprocessor_config.json": {"do_normalize": False}}, False),
        ({"processor_config.json": {"feature_extractor": {"do_normalize": False}}}, False),
        ({"processor_config.json": {"do_normalize": False},
          "preprocessor_config.json": {"do_normalize": True}}, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("weighted", [False, True])
def test_transformers_as_a_whole(
    tmp_path: Path, files: dict[str, Any], normalised: bool, weighted: bool
) -> None:
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    config = {
        "architectures": ["Odd", "Wav2Vec2ForAudioFrameClassification"], "model_type": "wavlm",
        "id2label": {"0": "MAL"}, "use_weighted_layer_sum": weighted,
    }  # fmt: skip
    tensors = {"classifier.weight": Z(1, 3), "classifier.bias": Z(1)}
    saved(tmp_path, config, tensors | {"layer_weights": torch.ones(2)})
    output = {"head.output.weight": [[0, 0, 0]], "head.output.bias": [0]}
    same_but(
        HuggingFace().read(str(tmp_path)),
        task="vtc",
        task_options={"classes": ["MAL"]},
        labels={"voice": ("MAL",)},
        encoder=f"wavlm:{tmp_path}",
        encoder_options={"normalize": normalised},
        head="frames",
        layers="mix" if weighted else "last",
        view=bab.View(),
        tensors={**output, **({"mix.logits": [1, 1]} if weighted else {})},
    )


def test_a_mix_that_is_promised_and_not_there_is_the_last_layer(tmp_path: Path) -> None:
    config = {
        "architectures": ["Wav2Vec2ForAudioFrameClassification"], "model_type": "hubert",
        "id2label": {"0": "MAL"}, "use_weighted_layer_sum": True,
    }  # fmt: skip
    saved(tmp_path, config, {"classifier.weight": Z(1, 3), "classifier.bias": Z(1)})
    assert HuggingFace().read(str(tmp_path)).layers == "last"
    for names in ([], None):
        saved(tmp_path, {**config, "architectures": names}, {})
        with pytest.raises(BabError) as raised:
            HuggingFace().read(str(tmp_path))
        assert str(raised.value) == (
            f"{tmp_path} holds no architecture of type 'hubert': read are ForXVector, ForCTC, "
            "ForSequenceClassification, ForAudioFrameClassification of wav2vec2, hubert, wavlm"
        )


def test_texts_and_phones_of_transformers(tmp_path: Path) -> None:
    """The blank comes first, in names as in tensors."""
    read = READERS["CTC"]
    tensors = {"lm_head.weight": torch.arange(3.0)[:, None], "lm_head.bias": torch.arange(3.0)}
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "<pad>": 1, "|": 2}))
    order = [1.0, 0.0, 2.0]
    said = read({"pad_token_id": 1, "final_dropout": 0.25}, tensors, tmp_path)
    made = {k: v.flatten().tolist() for k, v in said.pop("tensors").items()}
    assert made == {"head.output.weight": order, "head.output.bias": order}
    assert said == {
        "task": "asr", "labels": {"char": ("<blank>", "a", " ")}, "head": "ctc",
        "head_options": {"dropout": 0.25}, "tuned": {"greedy": {"search": "greedy"}},
    }  # fmt: skip
    kind = {"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(kind))
    said = read({}, tensors, tmp_path)
    del said["tensors"]
    assert said == {
        "task": "phonemes", "labels": {"phone": ("<blank>", "a", " ")}, "head": "ctc",
        "head_options": {"dropout": 0.0}, "tuned": {"greedy": {}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("token", "names"),
    [
        ({"content": "x"}, (" ", "y")),
        (None, ("x", "y")),
        ("y", ("x", " ")),
    ],
)
def test_what_stands_for_a_space(tmp_path: Path, token: Any, names: tuple[str, ...]) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "x": 1, "y": 2}))
    said = {"word_delimiter_token": token, "pad_token": {"content": "<pad>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    tensors = {"lm_head.weight": Z(3, 1), "lm_head.bias": Z(3)}
    read = READERS["CTC"]({}, tensors, tmp_path)
    assert read["labels"] == {"char": ("<blank>", *names)}

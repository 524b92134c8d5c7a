"""Folders that are no model of the kind that is asked for: what is said, and what just passes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from bab.core.errors import BabError, ConfigError
from bab.core.weights import WeightsError
from bab.plugins.models.babycry import BabyCry
from bab.plugins.models.segma import Segma
from bab.plugins.models.shared.files import one_file
from bab.plugins.models.shared.heads import READERS
from bab.plugins.models.shared.vocabulary import blank_first, tokenizer_of
from bab.plugins.models.vtc1 import Vtc1

Z = torch.zeros


def refused(kind: type[BabError], call: Any, *given: Any) -> str:
    with pytest.raises(kind) as caught:
        call(*given)
    return str(caught.value)


@pytest.mark.parametrize("reader", [Segma, BabyCry, Vtc1])
def test_a_folder_must_be_named(reader: Any) -> None:
    name = reader.__name__.lower()
    assert re.match(
        rf"{name} needs a folder: .*{name}:(DIR|RUN)", refused(ConfigError, reader().read, "")
    )


CONV = {"feature_extractor.conv_layers.0.conv.weight": Z(4, 1, 10)}
LARGE = {"x.feature_extractor.conv_layers.1.layer_norm.weight": Z(4)}
HEADS = {
    f"task_heads.linear_head_{name}.{part}": Z(*shape)
    for name in ("KCHI", "FEM")
    for part, shape in (("weight", (1, 4)), ("bias", (1,)))
}
SETTINGS = {
    "model": {"name": "surgical_hubert_hydra"},
    "data": {"classes": ["FEM", "KCHI"]},
    "audio": {"chunk_duration_s": 4},
}


@pytest.mark.parametrize(
    ("tensors", "settings", "said"),
    [
        (HEADS, SETTINGS, "best.ckpt holds no HuBERT of torchaudio's: no convolutions"),
        (CONV | LARGE | HEADS, SETTINGS, "best.ckpt holds a large HuBERT; read are those of base"),
        (CONV, SETTINGS, "has neither 'task_heads.linear_head_LABEL' (VTC 2) nor 'classifier' (ad"),
        (CONV | HEADS, {**SETTINGS, "model": {}}, "segma's configuration lacks 'name'"),
        (CONV | HEADS, {**SETTINGS, "data": 3}, "segma's configuration lacks "),
        (CONV | HEADS, {**SETTINGS, "model": {"name": "x"}}, "model 'x' at 16000 Hz; read is surg"),
        (CONV | HEADS, {**SETTINGS, "audio": {"chunk_duration_s": 4, "sample_rate": 8000}},
         "model 'surgical_hubert_hydra' at 8000 Hz; read is"),
        (CONV | HEADS, {**SETTINGS, "data": {"classes": ["FEM", "MAL"]}},
         "has no head for 'MAL', which its config names"),
        (CONV | {"classifier.weight": Z(4, 8), "classifier.bias": Z(4)}, {},
         "4 classes; the addressee model has ADS, KCDS, Other"),
    ],
)  # fmt: skip
def test_what_is_no_segma(tmp_path: Path, tensors: Any, settings: Any, said: str) -> None:
    torch.save({"state_dict": tensors}, tmp_path / "best.ckpt")
    (tmp_path / "config.yml").write_text(json.dumps(settings))
    assert said in refused(WeightsError, Segma().read, str(tmp_path))


def test_segmas_labels_thresholds_and_window(tmp_path: Path) -> None:
    heads = {k: v + i for i, (k, v) in enumerate(HEADS.items())}
    torch.save({"state_dict": CONV | heads}, tmp_path / "best.ckpt")
    (tmp_path / "config.yml").write_text(json.dumps(SETTINGS))
    (tmp_path / "hp.toml").write_text("KCHI = 0\n[FEM]\nlower_bound = 1\n")
    parts = Segma().read(str(tmp_path))
    assert parts.labels == {"voice": ("FEM", "KCHI")} and parts.view is not None
    assert (parts.view.window, parts.view.crop, parts.view.tail) == (4.0, True, "short")
    assert parts.tensors["head.output.weight"].tolist() == [[2.0] * 4, [0.0] * 4]
    assert parts.tensors["head.output.bias"].tolist() == [3.0, 1.0]
    assert parts.tuned["high-precision"]["thresholds"] == {"FEM": 1.0, "KCHI": 0.0}
    (notice,) = parts.notices
    assert "holds no f1.toml: thresholds of preset f1 are those published" in notice
    for value in ("true", "-0.1", "1.01", "'x'"):
        (tmp_path / "hp.toml").write_text(f"KCHI = 0.5\nFEM = {value}\n")
        said = refused(WeightsError, Segma().read, str(tmp_path))
        assert "hp.toml: FEM needs a lower_bound from 0 to 1, and has " in said
    addressee = {"classifier.weight": Z(3, 8), "classifier.bias": torch.ones(3)}
    torch.save({"state_dict": CONV | addressee}, tmp_path / "best.ckpt")
    for context, heard in (({}, 10.0), ({"context_size": 6}, 3.0)):
        (tmp_path / "config.yml").write_text(json.dumps(context))
        parts = Segma().read(str(tmp_path))
        assert parts.view is not None and parts.view.context == heard
        assert parts.tensors["head.output.bias"].tolist() == [1, 1, 1]
        assert parts.head_options == {"hidden": 0, "dropout": 0.5}


def test_one_file_of_a_name(tmp_path: Path) -> None:
    def one(*names: str, what: str = "a model", suffixes: tuple[str, ...] = (".ckpt",)) -> Any:
        return one_file(tmp_path, suffixes, names, what)

    assert refused(WeightsError, one_file, tmp_path / "no", (".ckpt",), ("best",)).endswith(
        "no: there is no such folder"
    )
    assert refused(WeightsError, one, "best").endswith("holds no best.ckpt, a model")
    assert one("best", what="") is None
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "last.ckpt").touch()
    assert one("best") == tmp_path / "a" / "last.ckpt"  # the only one
    (tmp_path / "a" / "c.yml").touch()
    told = refused(WeightsError, lambda: one("config", suffixes=(".yml",)))
    assert told.endswith("holds no config.yml, a model; there is c.yml")
    (tmp_path / "a" / "first.ckpt").touch()
    assert "there is first.ckpt, last.ckpt" in refused(WeightsError, one, "best")
    assert one("best", "last") == tmp_path / "a" / "last.ckpt"
    (tmp_path / "last.ckpt").touch()
    assert "holds several of them: " in refused(WeightsError, one, "best", "last")
    (tmp_path / "best.ckpt").touch()
    assert one("best", "last") == tmp_path / "best.ckpt"


def reader(task: str) -> Any:
    """The reader that makes models of a task."""
    return next(read for names, read in READERS.items() if task in read.__name__)


def test_clip_labels_of_transformers(tmp_path: Path) -> None:
    tensors = {"projector.weight": Z(5, 8), "projector.bias": Z(5)}
    tensors |= {"classifier.weight": Z(2, 5), "classifier.bias": Z(2)}
    read = reader("clips")
    said = read({"id2label": {"1": "b", "0": "a"}}, tensors, tmp_path)
    assert said["labels"] == {"label": ("a", "b")} and said["head_options"] == {"hidden": 5}
    assert read({"id2label": {"1": "b"}}, tensors, tmp_path)["labels"] == {
        "label": ("LABEL_0", "b")
    }
    read({"problem_type": "single_label_classification"}, tensors, tmp_path)
    told = refused(WeightsError, read, {"problem_type": "regression"}, tensors, tmp_path)
    assert told.endswith("problem_type 'regression'; read is one label for each clip")
    one = tensors | {"classifier.weight": Z(1, 5), "classifier.bias": Z(1)}
    assert "has one output, a regression" in refused(WeightsError, read, {}, one, tmp_path)
    less = {k: v for k, v in tensors.items() if k != "projector.bias"}
    told = refused(WeightsError, read, {}, less, tmp_path)
    assert told == f"{tmp_path} lacks 'projector.bias', which its config.json promises"


def test_vectors_of_transformers(tmp_path: Path) -> None:
    read = reader("xvector")
    names = [*(f"tdnn.{i}.kernel" for i in range(5)), "projector", "feature_extractor"]
    tensors = {f"{n}.{p}": Z(3) for n in (*names, "classifier") for p in ("weight", "bias")}
    said = read({"tdnn_dim": [512, 512, 512, 512, 1500]}, tensors, tmp_path)
    assert said["head_options"] == {"size": 3} and said["labels"] == {"speaker": ()}
    said = read({}, tensors | {"objective.weight": Z(4, 2)}, tmp_path)
    assert said["labels"] == {"speaker": ("LABEL_0", "LABEL_1")} and len(said["tensors"]) == 16
    told = refused(WeightsError, read, {"tdnn_dim": [512] * 5}, tensors, tmp_path)
    assert (
        "tdnn_dim is [512, 512, 512, 512, 512]; head xvector has [512, 512, 512, 512, 1500]" in told
    )


def vocabulary(folder: Path, ids: Any, size: int, blank: int | None, **said: Any) -> Any:
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return tokenizer_of(folder, size, blank)


def test_what_outputs_of_ctc_stand_for(tmp_path: Path) -> None:
    ids = {"<pad>": 0, "|": 1, "A": 2, "b": 3}
    told = vocabulary(tmp_path, ids, 5, None)
    assert told.names == ("<pad>", " ", "A", "b", "<4>") and told.blank == 0 and not told.phones
    assert vocabulary(tmp_path, ids, 4, 3).blank == 3  # config.json goes before the tokenizer
    assert vocabulary(tmp_path, ids, 4, 4).blank == 0  # beyond the outputs: the tokenizer's
    lower = vocabulary(tmp_path, ids, 4, None, do_lower_case=True, word_delimiter_token="b")
    assert lower.names == ("<pad>", "|", "a", " ")
    assert vocabulary(tmp_path, ids, 4, 0, tokenizer_class="Wav2Vec2PhonemeCTCTokenizer").phones
    for size, blank, ids_ in ((3, None, {"a": 0}), (3, 3, {"a": 0}), (2, None, {"<pad>": 2})):
        told = refused(WeightsError, vocabulary, tmp_path, ids_, size, blank)
        assert "neither config.json nor the tokenizer names the blank (pad)" in told
    both = {"deu": {"<pad>": 0, "ä": 1}, "eng": {"<pad>": 1, "a": 0}}
    assert vocabulary(tmp_path, both, 2, None, target_lang="eng").names == ("a", "<pad>")
    told = refused(WeightsError, vocabulary, tmp_path, both, 2, None)
    assert told.endswith("vocab.json holds several languages, and none is chosen")
    (tmp_path / "added_tokens.json").write_text('{"<s>": 2}')
    assert vocabulary(tmp_path, ids | {"A": 5}, 3, None).names[2] == "<s>"
    assert blank_first(4, 2) == [2, 0, 1, 3] and blank_first(2, 0) == [0, 1]


def test_what_is_no_babycry(tmp_path: Path) -> None:
    told = refused(WeightsError, BabyCry().read, str(tmp_path))
    assert told.endswith("holds no model.json: name a run of task valence")
    view = {"window": 3.0, "hop": 1.5, "pool": "mean"}
    whole = {"task": {"name": "valence"}, "view": view, "labels": {"valence": ["x"]}}

    def said(**change: Any) -> str:
        (tmp_path / "model.json").write_text(json.dumps({**whole, **change}))
        return refused(WeightsError, BabyCry().read, str(tmp_path))

    assert "model.json lacks 'task'" in said(task={}).replace("'name'", "'task'")
    for change in ({"task": None}, {"view": {}}, {"view": None}, {"labels": []}, {"labels": None}):
        assert "model.json lacks " in said(**change)
    assert said(task={"name": "vtc"}).endswith("is a model of task 'vtc', not of valence")
    assert "is a model of task 'valence', not of valence" in said()  # of other classes

"""What is saved of a model, and models of other tools: what is named, what is said of faults."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_models import LABELS, made

import bab
from bab.core import registry
from bab.core.errors import BabError, PluginError
from bab.core.types import (
    View,
)
from bab.running import model as models
from bab.running import published
from bab.running.model import load_spec, load_weights
from bab.running.published import ModelParts, Reference, digest_of, reference, spec_of
from bab.running.saved import Saved, choose_preset, load_saved, shown_as


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("saved") / "vtc", "vtc", encoder="fbank")


def test_what_is_missing_of_a_saved_model_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BabError) as error:
        load_spec(tmp_path)
    told = "holds no model (model.json is missing): name a finished run's `model` folder"
    assert str(error.value) == f"{tmp_path} {told}"
    spec = load_spec(folder / "model")
    assert models.sealed_by_bab(spec) and not models.sealed_by_bab({"run": "x"})
    path = tmp_path / "model.json"

    def said(values: dict[str, Any]) -> str:
        path.write_text(json.dumps({k: v for k, v in values.items() if k != "checksum"}))
        with pytest.raises(BabError) as caught:
            load_spec(tmp_path)
        return str(caught.value)

    assert said(dict(spec) | {"format": 9}) == f"{path} has format 9; this bab reads format 1"
    less = {k: v for k, v in spec.items() if k != "layers"}
    assert said(less) == f"{path} is damaged (it lacks 'layers'): run again with --force"
    with pytest.raises(BabError) as error:
        load_weights(tmp_path, spec)
    weights = tmp_path / "model.safetensors"
    assert str(error.value) == f"{weights} is missing: run again with --force"
    models.save(tmp_path, {"head.x": torch.ones(1)}, {"run": spec["run"]})
    with pytest.raises(BabError) as error:
        load_weights(tmp_path, spec)
    told = "holds other weights than model.json was written with: run again with --force"
    assert str(error.value) == f"{weights} {told}"
    assert list(load_weights(tmp_path, {"run": spec["run"]})) == ["head.x"]


def test_what_fails_in_a_model_that_is_as_it_was_written_is_no_edit(
    folder: Path, tmp_path: Path, replaced: Callable[..., list[Any]]
) -> None:
    """An encoder's own fault is told as that; of a file that anybody may have changed, the file."""
    edited = shutil.copytree(folder / "model", tmp_path / "model")
    spec = json.loads((edited / "model.json").read_text())
    (edited / "model.json").write_text(
        json.dumps({k: v for k, v in spec.items() if k not in ("checksum", "weights")})
    )
    replaced("bab.running.saved.open_encoder", KeyError("mels"))
    with pytest.raises(BabError, match=r"model\.json can't be used: 'mels'$"):
        load_saved(edited)
    with pytest.raises(KeyError):
        load_saved(folder)


def test_an_encoder_that_was_trained_further_is_another(tmp_path: Path) -> None:
    folder = made(tmp_path / "g", "gender", layers="last")
    before = load_saved(folder)
    assert before.encoder.fingerprint == before.spec["fingerprint"]
    assert shown_as(before) == (before.spec["resolved"], "gender")
    tensors = dict(load_weights(folder / "model", before.spec))
    name = "encoder." + min(before.encoder.state_dict())
    tensors[name] = before.model.state_dict()[name].clone()
    plain = {k: v for k, v in before.spec.items() if k not in ("checksum", "weights", "format")}
    models.save(folder / "model", tensors, plain)
    one, two = load_saved(folder), load_saved(folder)
    assert one.encoder.fingerprint == two.encoder.fingerprint != before.spec["fingerprint"]
    assert len(one.encoder.fingerprint) == 32 and shown_as(one) == ("", "gender")


def test_a_saved_model_is_frozen_and_named(folder: Path) -> None:
    saved = load_saved(folder)
    assert saved.name == "fbank@made" and saved.place == folder / "model"
    assert not saved.model.training and not any(p.requires_grad for p in saved.model.parameters())
    assert saved.labels == {"voice": tuple(LABELS["vtc"]["voice"])}
    other = Saved(
        *(getattr(saved, n) if n != "spec" else {"published": "x:y"} for n in Saved.__slots__)
    )
    assert other.name == "x:y"
    first, *rest = saved.task.presets
    assert choose_preset(saved, None) == first and choose_preset(saved, rest[0]) == rest[0]


# ------------------------------------------------------------------------------- published


def test_a_published_model_is_named_by_its_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vtc2").mkdir()
    assert reference("segma:vtc2") == Reference("segma", "vtc2")
    assert Reference("segma", "vtc2").text == f"segma:{tmp_path / 'vtc2'}"
    assert Reference("segma", "owner/name").text == "segma:owner/name"
    assert Reference("segma", "").text == "segma"
    assert (
        reference("runs/x") is None and reference(tmp_path) is None and reference("a/b:c") is None
    )
    with pytest.raises(BabError) as error:
        reference("sigma:x")
    known = ", ".join(f"{name}:..." for name in registry.names("models"))
    assert str(error.value) == (
        f"'sigma:x': no folder, and no models are called 'sigma': known are {known}"
    )
    (tmp_path / "sigma:x").mkdir()
    assert reference("sigma:x") is None  # a folder of that name
    for left in ("model.json", "model", "folds"):
        place = tmp_path / f"segma:{left}"
        place.mkdir()
        (place / left).mkdir()
        assert reference(f"segma:{left}") is None  # a run's


def parts(**changes: Any) -> ModelParts:
    given: dict[str, Any] = {"task": "gender", "labels": {"gender": ("f", "m")}, "head": "pooled"}
    given |= {"encoder": "fbank", "tensors": {}}
    return ModelParts(**(given | changes))


def test_what_a_published_model_would_say_as_a_run() -> None:
    spec = spec_of(parts(notices=("a",), layers=2, pool=True), Reference("x", "y"))
    task = bab.load("tasks", "gender")
    assert spec["encoder"]["name"] == "fbank" and spec["encoder"]["options"]["cmvn"] == "none"
    assert (spec["layers"], spec["pool"], spec["notices"], spec["published"]) == (
        2,
        True,
        ["a"],
        "x:y",
    )
    assert spec["labels"] == {"gender": ["f", "m"]} and spec["tuned"] == {"default": {}}
    assert spec["task_version"] == task.version and spec["view"]["window"] == task.view.window
    assert spec["notice"] == task.notice and spec["head"]["name"] == "pooled"
    own = spec_of(parts(view=View(window=3.0), tuned={"default": {"t": 1}}), Reference("x", "y"))
    assert own["view"]["window"] == 3.0 and own["tuned"] == {"default": {"t": 1}}
    plain = spec_of(parts(task="vtc", labels={"voice": ("a",)}, head="frames"), Reference("x", "y"))
    assert plain["encoder"]["options"]["cmvn"] != "none"  # a frame task's default
    both = parts(
        encoder="fbank+hubert:tiny", encoder_options={"fusion": "late", "fbank": {"mels": 20}}
    )
    options = spec_of(both, Reference("x", "y"))["encoder"]["options"]
    assert list(options) == ["fusion", "fbank", "hubert"] and options["fusion"] == "late"
    assert options["fbank"]["mels"] == 20 and options["hubert"]
    plain_both = spec_of(parts(encoder="fbank+hubert:tiny"), Reference("x", "y"))["encoder"]
    assert plain_both["options"]["fusion"] == "concat" and plain_both["name"] == "fbank+hubert:tiny"
    with pytest.raises(PluginError) as error:
        spec_of(parts(tuned={"z": {}, "y": {}}), Reference("x", "y"))
    assert str(error.value) == "x:y: task 'gender' has no preset 'y'"
    vtc = {"task": "vtc", "labels": {"voice": ("a",)}, "head": "frames"}
    for value in ("high", None, math.nan, math.inf):
        with pytest.raises(PluginError) as error:
            spec_of(parts(**vtc, tuned={"f1": {"thresholds": {"a": value}}}), Reference("x", "y"))
        assert str(error.value) == (
            f"x:y: threshold a of preset 'f1' is {value!r}: a number expected"
        )
    for value in (0, 0.5, np.float32(0.5)):
        spec_of(parts(**vtc, tuned={"f1": {"thresholds": {"a": value}}}), Reference("x", "y"))


def test_a_models_digest_is_of_all_but_its_name() -> None:
    spec, tensors = {"a": 1}, {"w": torch.ones(2, 3), "b": torch.zeros(1)}
    plain = digest_of(spec, tensors)
    assert len(plain) == 24
    assert plain == digest_of(
        {**spec, "published": "x", "notices": ["n"]}, dict(reversed(tensors.items()))
    )
    others = [
        digest_of({"a": 2}, tensors), digest_of(spec, {**tensors, "c": torch.ones(1)}),
        digest_of(spec, {**tensors, "w": torch.ones(3, 2)}),
        digest_of(spec, {**tensors, "w": torch.ones(2, 3).int()}),
        digest_of(spec, {**tensors, "b": torch.ones(1)}),
        digest_of(spec, {"w": tensors["w"], "x": tensors["b"]}),
    ]  # fmt: skip
    assert len({plain, *others}) == 7


def test_a_reader_is_asked_with_what_the_user_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Reader:
        def read(self, where: str, **allowed: bool) -> ModelParts:
            asked.append((where, allowed))
            return given

    given = parts()
    monkeypatch.setattr(published.registry, "load", lambda kind, name: Reader)
    assert published.read_published(Reference("x", "y"), True, False) is given
    assert asked == [("y", {"offline": True, "trust_code": False})]

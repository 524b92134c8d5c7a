"""What a run takes over from the model that it begins from: each tensor, each label, each word."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from made_models import LABELS, made
from torch import nn

from bab.core.errors import ConfigError, NotApplicableError
from bab.running import start as module
from bab.running.saved import Saved, load_saved
from bab.running.start import begin, inherit, model_settings


class Body(nn.Module):
    """A mix, and a head of a hidden layer and outputs."""

    def __init__(self, layers: int, hidden: int, outputs: int, fill: float = 0.0) -> None:
        super().__init__()
        self.mix = nn.Module()
        self.mix.logits = nn.Parameter(torch.full((layers,), fill))
        self.head = Head(hidden, outputs, None, fill)


class Head(nn.Module):
    Options = staticmethod(lambda **options: None)

    def __init__(self, dim: int, classes: int, options: Any, fill: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Parameter(torch.full((dim, 2), fill))
        rows = torch.arange(classes).float()[:, None].expand(classes, dim)
        self.output = nn.Parameter(rows * fill + fill)


@pytest.fixture(autouse=True)
def heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.registry, "load", lambda kind, name: Head)


def theirs(labels: dict[str, tuple[str, ...]], layers: int = 3, dim: int = 4) -> Saved:
    count = sum(map(len, labels.values()))
    model = Body(layers, dim, count, fill=10.0)
    spec = {"head": {"name": "two"}, "resolved": "hubert:x", "run": "r1"}
    return cast(
        Saved,
        SimpleNamespace(
            model=model,
            spec=spec,
            labels=labels,
            name="hubert:x@r1",
            encoder=SimpleNamespace(dim=dim),
        ),
    )


def config(head: str = "two") -> Any:
    return SimpleNamespace(head=SimpleNamespace(name=head, options={}))


def taken(mine: Body, start: Saved, labels: dict[str, tuple[str, ...]], head: str = "two") -> str:
    return inherit(cast(Any, mine), start, config(head), labels)


OLD = {"voice": ("KCHI", "OCH", "MAL", "FEM")}


def test_all_that_fits_is_taken() -> None:
    mine = Body(3, 4, 4)
    said = taken(mine, theirs(OLD), OLD)
    assert said == "from hubert:x@r1: the encoder and the head, 4 of 4 labels"
    assert mine.mix.logits.tolist() == [10.0] * 3 and bool((mine.head.inner == 10).all())
    assert mine.head.output[:, 0].tolist() == [10, 20, 30, 40]


def test_outputs_of_labels_that_it_did_not_know_stay_as_drawn() -> None:
    """By name; else by the name in another case; of two of one name the first."""
    new = {"a": ("fem", "DOG"), "b": ("KCHI",)}
    mine = Body(3, 4, 3, fill=0.5)
    said = taken(mine, theirs(OLD), new)
    assert said == "from hubert:x@r1: the encoder and the head, 2 of 3 labels"
    assert mine.head.output[:, 0].tolist() == [40.0, 1.0, 10.0]
    twice = {"voice": ("x", "Fem", "FEM", "x")}
    mine = Body(3, 4, 4)
    assert "3 of 4" in taken(mine, theirs(twice), {"v": ("FEM", "fem", "x", "y")})
    assert mine.head.output[:, 0].tolist() == [30.0, 20.0, 10.0, 0.0]


def test_another_head_begins_anew() -> None:
    mine = Body(3, 4, 4)
    said = taken(mine, theirs(OLD), OLD, head="other")
    assert said == "from hubert:x@r1: the encoder; head other begins anew (its own is two)"
    assert mine.mix.logits.tolist() == [10.0] * 3 and not mine.head.output.any()


def test_what_has_another_shape_begins_anew() -> None:
    mine = Body(2, 5, 4)
    said = taken(mine, theirs(OLD), OLD)
    begun = "from hubert:x@r1: the encoder; head two begins anew where it differs (e.g. head.inner)"
    assert said == begun
    assert not mine.mix.logits.any() and not mine.head.inner.any() and not mine.head.output.any()


def test_a_head_whose_shape_knows_no_labels_is_taken_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Fixed(Head):
        def __init__(self, dim: int, classes: int, options: Any) -> None:
            super().__init__(dim, 2, options)

    monkeypatch.setattr(module.registry, "load", lambda kind, name: Fixed)
    mine = Body(3, 4, 2)
    start = theirs({"v": ("a", "b")})
    assert (
        taken(mine, start, {"w": ("c", "d", "e")}) == "from hubert:x@r1: the encoder and the head"
    )
    assert mine.head.output[:, 0].tolist() == [10.0, 20.0]


# ------------------------------------------------------------------------------- what is evaluated


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("begun")
    return {task: made(top / task, task, encoder="fbank") for task in ("vtc", "gender")}


def asked(model: Path | None, **changes: Any) -> Any:
    values = {"model": None if model is None else str(model), "mode": "evaluate"}
    values |= {"offline": True, "trust_code": False, "protocol": "given", "layers": "mix"}
    saved = load_saved(model) if model is not None else None
    head = saved.spec["head"] if saved else {}
    values["head"] = SimpleNamespace(model_dump=lambda mode: head)
    values["task"] = SimpleNamespace(name=saved.spec["task"]["name"] if saved else "vtc")
    return SimpleNamespace(**(values | changes))


def clip_task(*needs: str, one_output: bool = True) -> Any:
    return SimpleNamespace(one_output=one_output, needs=frozenset(needs))


def test_labels_of_whole_clips_get_the_tasks_name(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    gender = folders["gender"]
    names = tuple(LABELS["gender"]["gender"])
    task = clip_task("sex")
    begun = begin(asked(gender, task=SimpleNamespace(name="other")), task)
    assert begun is not None and begun.labels == {"sex": names} and begun.task is task
    two = begin(asked(gender), clip_task("sex", "age"))
    assert two is not None and two.labels == {"gender": names}
    frames = clip_task("sex", one_output=False)
    own = begin(asked(gender), frames)  # its own task, by name
    assert own is not None and own.labels == {"gender": names}
    with pytest.raises(NotApplicableError) as error:
        begin(asked(gender, task=SimpleNamespace(name="other")), frames)
    told = "is a model for task 'gender', not for 'other'"
    assert str(error.value) == f"{load_saved(gender).name} {told}"
    with pytest.raises(NotApplicableError):
        begin(asked(folders["vtc"], task=SimpleNamespace(name="other")), clip_task("sex"))


def test_what_may_not_be_changed_is_named(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    gender, name = folders["gender"], load_saved(folders["gender"]).name

    def said(**changes: Any) -> str:
        with pytest.raises(ConfigError) as error:
            begin(asked(gender, **changes), clip_task("gender"))
        return str(error.value)

    told = f"{name} is evaluated as it is; to train another"
    assert said(layers="last") == f"layers: {told} layers, leave out --evaluate"
    other = SimpleNamespace(model_dump=lambda mode: {})
    assert said(head=other) == f"head: {told} head, leave out --evaluate"
    assert said(protocol="kfold") == (
        "protocol=kfold: a model that isn't trained has no folds; it is scored on the test split "
        "(protocol=given)"
    )
    with pytest.raises(ConfigError, match=r"^mode evaluate scores a trained model: name it with"):
        begin(asked(None), clip_task())
    assert begin(asked(None, mode="probe"), clip_task()) is None
    begun = begin(asked(gender, mode="probe", protocol="kfold", layers="last"), clip_task())
    assert begun is not None and begun.task.needs == frozenset({"gender"})  # as it is


def test_keys_that_a_model_brings(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    gender = folders["gender"]
    spec = load_saved(gender).spec
    (under, keys), (over, fixed) = model_settings({"model": str(gender)})
    assert under == over == f"the model {gender}"
    shown = {key: spec[key] for key in ("task", "head", "layers", "view")}
    assert keys == {**shown, "mode": "finetune"}
    assert fixed == {"encoder": spec["encoder"], "model": str((gender / "model").resolve())}
    solved = made(gender.parent / "solved", "gender", encoder="fbank", head={"name": "logistic"})
    assert model_settings({"model": str(solved)})[0][1]["mode"] == "probe"

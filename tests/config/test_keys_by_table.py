"""Keys laid over one another, texts as values, and each mistake in a key: by table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import field_validator

import bab
from bab.config.files import assignment, merged, read, spelled_out
from bab.config.merge import Merge, merge, unknown
from bab.config.resolve import component_config, encoder_config, pretrain_config, run_config
from bab.config.run import EncoderConfig, RunConfig
from bab.core.errors import ConfigError


def refused(call: Any, *given: Any, **more: Any) -> str:
    with pytest.raises(ConfigError) as error:
        call(*given, **more)
    return str(error.value)


# ------------------------------------------------------------------------------- merging


def test_what_is_above_replaces_and_mappings_are_merged() -> None:
    below = {"a": {"x": 1, "y": {"z": 2}}, "b": [1], "c": {"k": 1}}
    above = {"a": {"y": {"w": 3}}, "b": [2, 3], "c": 5, "d": {"n": 1}}
    whole = {"a": {"x": 1, "y": {"z": 2, "w": 3}}, "b": [2, 3], "c": 5, "d": {"n": 1}}
    assert merged(below, above) == whole and below["a"] == {"x": 1, "y": {"z": 2}}
    assert merged({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}}
    given = {"a.b.c": 1, "a.b": {"d": 2}, "e": {"f.g": 3}, "a.b.c ": 4}
    assert spelled_out(given) == {"a": {"b": {"c": 1, "d": 2, "c ": 4}}, "e": {"f.g": 3}}


@pytest.mark.parametrize(
    ("sources", "values"),
    [
        # Another component drops the options of the one before; the same one keeps them.
        ([{"encoder": {"name": "fbank", "mels": 40}}, {"encoder": {"name": "hubert"}}],
         {"name": "hubert"}),
        ([{"encoder": {"name": "hubert", "x": 1}}, {"encoder": {"name": "hubert", "y": 2}}],
         {"name": "hubert", "x": 1, "y": 2}),
        # Naming it names its weights, too; an option alone leaves them.
        ([{"encoder": {"name": "hubert", "weights": "base", "x": 1}},
          {"encoder": {"name": "hubert"}}],
         {"name": "hubert", "x": 1}),
        ([{"encoder": {"name": "hubert", "weights": "base"}}, {"encoder": {"x": 1}}],
         {"name": "hubert", "weights": "base", "x": 1}),
        ([{"encoder": {"name": "hubert", "weights": "base"}},
          {"encoder": {"name": "hubert", "weights": "tiny"}}],
         {"name": "hubert", "weights": "tiny"}),
        ([{"encoder": {"x": 1}}, {"encoder": {"name": "fbank"}}], {"x": 1, "name": "fbank"}),
    ],
)  # fmt: skip
def test_components_over_components(sources: list[dict[str, Any]], values: dict[str, Any]) -> None:
    whole = Merge()
    for number, keys in enumerate(sources):
        whole.add(f"source {number}", keys)
    assert whole.values == {"encoder": values}


def test_each_keys_source_is_remembered() -> None:
    whole = Merge()
    whole.add("low", {"train": {"lr": 1, "betas": {}}, "seed": 1})
    whole.add("high", {"train": {"lr": 2}, "encoder": {"name": "fbank", "mels": 5}})
    known = {"train.lr": "high", "train.betas": "low", "seed": "low", "train.betas.0": "low",
             "encoder.mels": "high", "train": "high", "encoder": "high", "none": "",
             "train.other": ""}  # fmt: skip
    assert {path: whole.source(path) for path in known} == known
    whole.add("higher", {"train": {"betas": {"first": 1}}})  # the nearest key's counts
    assert (whole.source("train.betas.first"), whole.source("train.betas.0")) == ("higher", "low")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"sed": 1}, "unknown key 'sed' (from x): did you mean 'seed'?"),
        ({"lr": 1}, "unknown key 'lr' (from x): did you mean 'train.lr'?"),
        ({"train": {"step": 1}}, "unknown key 'train.step' (from x): did you mean 'train.steps'?"),
        ({"train": {"seed": 1}}, "unknown key 'train.seed' (from x): did you mean 'seed'?"),
        ({"train": 5}, "train: expected keys and values, found 5 (from x)"),
        ({"encoder": 5}, "encoder: expected a name or a mapping, found 5 (from x)"),
        ({"encoder": {"name": 5}}, "encoder.name: expected a name, found 5 (from x)"),
        ({"encoder": {"name": "hubert", "weights": 5}},
         "encoder.weights: expected text, found 5: quote it (from x)"),
        ({"corpus": {"root": 5}}, "corpus.root: expected text, found 5: quote it (from x)"),
        ({"head": {"options": [1]}}, "head.options: expected a mapping, found [1] (from x)"),
        ({"encoder": "hubert:"},
         "encoder 'hubert:' is not spelled NAME or NAME:WEIGHTS (from x)"),
        ({"bootstrap": 5}, "unknown key 'bootstrap' (from x): nothing is drawn any more for the "
         "intervals (docs/intervals.md): leave it out"),
        ({"hear": "all"}, "unknown key 'hear' (from x): it is called `use` now: use=train, or "
         "use=all"),
    ],
)  # fmt: skip
def test_a_key_that_is_wrong_is_told_with_its_source(keys: dict[str, Any], told: str) -> None:
    assert refused(merge, [("x", keys)]) == told
    both = refused(merge, [("x", keys), ("y", {"tran": 1, "seed": 2})])
    assert both.splitlines()[0] == told and len(both.splitlines()) == 2


@pytest.mark.parametrize(
    ("section", "value", "keys"),
    [
        ("encoder", "hubert:base", {"name": "hubert", "weights": "base"}),
        ("encoder", {"name": "hubert:base", "x": 1}, {"name": "hubert", "weights": "base", "x": 1}),
        (
            "encoder",
            {"name": "hubert:base", "weights": "tiny"},
            {"name": "hubert", "weights": "tiny"},
        ),
        ("encoder", {"options": {"x": 1, "y": 2}, "y": 3}, {"x": 1, "y": 3}),
        ("encoder", {"options": None, "weights": None}, {"weights": None}),
        ("head", {"name": "pooled", "weights": 5}, {"name": "pooled", "weights": 5}),
    ],
)
def test_a_component_is_spelled_out(section: str, value: Any, keys: dict[str, Any]) -> None:
    assert merge([("x", {section: value})]).values == {section: keys}
    assert merge([("x", {section: None, "train": None})]).values == {}


def test_near_names_of_a_key() -> None:
    known = ["seed", "train.lr", "train.steps", "view.hop"]
    assert unknown("view.hopp", "y", known).endswith("did you mean 'view.hop'?")
    assert unknown("train.hop", "y", known).endswith("did you mean 'view.hop'?")
    assert unknown("zzz", "y", known).endswith("known: seed, train.lr, train.steps, view.hop")


# ------------------------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1e-3", {"a": 0.001}), ("a.b=[1, x]", {"a": {"b": [1, "x"]}}), ("a=", {"a": None}),
        (" a . b=no", {"a ": {" b": "no"}}), ("a=x=y", {"a": "x=y"}), ("a=1:30", {"a": "1:30"}),
        ("a='5'", {"a": "5"}), ("a={b: 1}", {"a": {"b": 1}}), ("a=010", {"a": 10}),
        ("a=true", {"a": True}), ("a=~", {"a": None}), ("a=.5", {"a": 0.5}), ("a=-7", {"a": -7}),
        ("a=x # y", {"a": "x # y"}), ("a=c: d", {"a": "c: d"}),
    ],
)  # fmt: skip
def test_what_a_set_says(text: str, value: dict[str, Any]) -> None:
    assert assignment(text) == value


@pytest.mark.parametrize("text", ["a", "=5", ".a=5", "a.=5", "a..b=5", ""])
def test_a_set_without_key_or_value(text: str) -> None:
    assert refused(assignment, text) == (
        f"--set {text}: expected KEY=VALUE, for example --set train.steps=300 (`bab info run` "
        "shows the keys)"
    )


def test_sets_that_do_not_parse_or_nest_too_deep() -> None:
    assert refused(assignment, "a=[1").startswith("--set a=[1: line 1, column 3: ")
    deep = ".".join("a" * 51)
    nested = "nested over 50 deep, or in itself"
    assert refused(assignment, f"{deep}=1") == f"--set {deep}=1: {nested}"
    assert assignment(f"{'.'.join('a' * 50)}=1")
    lists = f"a={'[' * 52}{']' * 52}"
    assert refused(assignment, lists) == f"--set {lists}: {nested}"
    assert assignment(f"a={'[' * 51}{']' * 51}")


def test_a_file_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("")
    assert read(path) == (str(path), {})
    path.write_text("# nothing\n")
    assert read(path)[1] == {}
    path.write_text("[1, 2]")
    assert refused(read, path) == f"{path}: expected keys and values, found [1, 2]"
    path.write_text("a: 1\nb: 2\na: 3\n")
    assert refused(read, path) == f"{path}: line 3, column 1: the key 'a' stands twice"
    path.write_text("a: !!int x\n")
    assert refused(read, path).startswith(f"{path}: ")
    path.write_text("a: !!bool maybe\n")
    told = "a value that isn't of its tag's type ('maybe')"
    assert refused(read, path) == f"{path}: {told}"
    path.write_bytes(b"\xff")
    assert refused(read, path).startswith(f"{path}: can't be read as text: ")
    path.unlink()
    assert refused(read, path) == f"{path}: there is no such file. A recipe is a YAML file"
    toml = tmp_path / "bab.toml"
    toml.write_text('a = 1\n[b]\nc = "x"\n')
    assert read(toml) == (str(toml), {"a": 1, "b": {"c": "x"}})
    toml.write_text("a = \n")
    assert refused(read, toml).startswith(f"{toml}: ")


# ------------------------------------------------------------------------------- resolving


def test_a_components_keys_outside_a_run() -> None:
    for given, freeze in ({}, "none"), ({"freeze": "conv"}, "conv"):
        asked = {"encoder": "hubert:random-tiny", "task": "vtc", "mode": "finetune", **given}
        assert run_config(None, asked, []).freeze == freeze  # untrained convolutions learn, too
    made = component_config("encoder", "fbank", ["encoder.mels=40"])
    assert made["options"]["mels"] == 40 and made["name"] == "fbank"
    assert encoder_config("hubert:tiny").weights == "tiny" and encoder_config("fbank").weights == ""
    odd = {"encoder": {"name": "fbank", "mels": Path("40")}, "task": "vtc"}  # nothing of JSON's
    assert refused(run_config, None, odd, []).startswith("encoder.mels: '40' is not")
    said = refused(component_config, "encoder", "fbank", ["corpus.x=1"])
    assert said == "--set corpus: only keys of 'encoder' have a meaning here"
    said = refused(component_config, "encoder", "fbank", ["encoder.mel=1"])
    assert said.startswith("unknown key 'encoder.mel' (from --set encoder.mel=1): did you mean '")
    said = refused(component_config, "encoder", "fbank", ["encoder.mels=few"])
    assert said.startswith("encoder.mels: 'few' is not valid (from --set encoder.mels=few): ")


def asked(*sets: str, **options: Any) -> RunConfig:
    return run_config(None, {"encoder": "fbank", "task": "vtc", **options}, sets)


def test_observers_that_are_added_come_last_and_none_is_none() -> None:
    def observers(*sets: str, more: Any = ()) -> tuple[str, ...]:
        return run_config(None, {"encoder": "fbank", "task": "vtc"}, sets, more).observers

    assert observers() == ("progress", "jsonl") and observers(more=["x"]) == (
        "progress",
        "jsonl",
        "x",
    )
    assert observers("observers=[a]", more=["x"]) == ("a", "x") and observers("observers=") == ()
    assert "observers: 'a' is not valid" in refused(observers, "observers=a")


def test_values_that_are_wrong_are_told_all_at_once() -> None:
    said = refused(asked, "train.steps=0", "train.lr=fast", "seed=-1", "layers=none")
    assert said.splitlines() == [
        "layers: 'none' is not valid (from --set layers=none): expected 'mix' or 'last' or "
        "expected a valid integer. Nothing is written `null`",
        "seed: -1 is not valid (from --set seed=-1): expected greater than or equal to 0",
        "train.steps: 0 is not valid (from --set train.steps=0): expected greater than 0",
        "train.lr: 'fast' is not valid (from --set train.lr=fast): expected a valid number",
    ]


def test_members_of_an_ensemble_and_their_options() -> None:
    config = asked("encoder.fbank.mels=20", encoder="fbank+hubert", task="gender")
    assert config.encoder.name == "fbank+hubert:tiny" and config.encoder.weights == ""
    assert list(config.encoder.options) == ["fusion", "fbank", "hubert"]
    assert config.encoder.fusion == "concat" and config.encoder.options["fbank"]["mels"] == 20
    assert config.encoder.options["fbank"]["cmvn"] == "none"  # as clip tasks have it
    one, two = config.encoder.members
    assert (one.name, two.spec, two.fusion) == ("fbank", "hubert:tiny", "")
    assert one.options == config.encoder.options["fbank"] and one.members == (one,)
    said = refused(asked, "encoder.fbank=5", encoder="fbank+hubert", task="gender")
    assert said == "encoder.fbank: expected keys and values, found 5"
    twice = asked(encoder="hubert:tiny+hubert:random-tiny", task="gender").encoder
    assert twice.name == "hubert:tiny+hubert:random-tiny" and len(twice.members) == 2


@pytest.mark.parametrize(
    ("sets", "seed"),
    [(["seed=5"], 5), (["seed=5", "encoder.seed=2"], 2), ([], 0)],
)
def test_untrained_weights_are_drawn_from_the_runs_seed(sets: list[str], seed: int) -> None:
    config = asked(*sets, encoder="hubert:random-tiny")
    assert config.encoder.options["seed"] == seed
    inner = [text.replace("encoder.seed", "encoder.hubert.seed") for text in sets]
    both = asked(*inner, encoder="fbank+hubert:random-tiny", task="gender").encoder
    assert both.options["hubert"]["seed"] == seed
    assert asked("seed=5", encoder="hubert:tiny").encoder.options["seed"] == 0


def test_roots_are_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    whole = str((tmp_path / "here").resolve())
    assert asked(corpus="rttm:here").corpus.root == whole
    other = asked("test_corpus=rttm:here").test_corpus
    assert other is not None and other.root == whole
    assert asked("test_corpus={}").test_corpus is None  # an empty section says nothing
    assert asked(corpus="rttm:gone").corpus.root == "gone"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert asked("runs=~/mine").runs == str(tmp_path / "mine")


def test_a_runs_protocol_and_corpora_in_words() -> None:
    assert asked().rounds == "given" and asked("protocol=leave-one-group-out").rounds == (
        "leave-one-group-out"
    )
    assert asked("protocol=kfold", "folds=4").rounds == "kfold-4"
    assert asked().corpus_name == "rttm"
    assert asked("test_corpus=childproject").corpus_name == "rttm→childproject"
    assert EncoderConfig(name="x", options={}).spec == "x"
    assert EncoderConfig(name="x", weights="y", options={}).spec == "x:y"


def test_nothing_is_named_and_by_whom(tmp_path: Path) -> None:
    said = refused(run_config, None, {"encoder": "fbank"})
    assert said.startswith("no task is named: give --task NAME. Known: ")
    (tmp_path / "bab.toml").write_text("seed = 1\n")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("kind: run\nseed: 2\n")
    said = refused(run_config, recipe, {}, folder=tmp_path)
    first, second = said.splitlines()
    where = f"in {tmp_path / 'bab.toml'} or {recipe}"
    assert first.startswith(f"no encoder is named {where}: give --encoder NAME. Known: ")
    assert second.startswith(f"no task is named {where}: give --task NAME. Known: ")
    said = refused(pretrain_config, None, {"encoder": "hubert"})
    assert [line.split()[1] for line in said.splitlines()] == ["objective", "corpus"]


def test_defaults_that_are_wrong_are_told_with_whose_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task and an objective may be a stranger's."""
    vtc, masked = bab.load("tasks", "vtc"), bab.load("objectives", "masked")
    monkeypatch.setattr(vtc, "head", "")
    told = "no head is named, and the task has no default: give --head"
    assert refused(asked).splitlines()[0] == told
    monkeypatch.setattr(vtc, "head", "frames:x")
    assert refused(asked).endswith("is not spelled NAME (from the defaults of task 'vtc')")
    monkeypatch.undo()
    monkeypatch.setattr(vtc, "defaults", {"finetune": {"stepz": 5}})
    assert "(from the defaults of task 'vtc' in mode finetune)" in refused(asked, "mode=finetune")
    monkeypatch.setattr(masked, "defaults", {"stepz": 5})
    given = {"encoder": "hubert:random-tiny", "objective": "masked", "corpus": "rttm"}
    assert "(from the defaults of objective 'masked')" in refused(pretrain_config, None, given)


def test_options_that_must_be_given_and_that_a_component_refuses_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vtc = bab.load("tasks", "vtc")

    class Needs(vtc.Options):  # type: ignore[misc, name-defined]
        place: str
        floor: int = 0

        @field_validator("floor")
        @classmethod
        def above(cls, floor: int) -> int:
            if floor < 0:
                raise ValueError("floors are counted from 0")
            return floor

    monkeypatch.setattr(vtc, "Options", Needs)
    assert refused(asked) == "task.place must be given"
    assert asked("task.place=here").task.options["place"] == "here"
    assert refused(asked, "task.floor=-1").splitlines() == [
        "task.place must be given",
        "task.floor: -1 is not valid (from --set task.floor=-1): floors are counted from 0",
    ]


@pytest.mark.parametrize("mode", ["", "probe", "finetune"])
def test_a_task_has_defaults_for_each_mode(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "probe": {"train": {"steps": 11}},
        "finetune": {"train": {"steps": 22}, "layers": "last"},
    }
    monkeypatch.setattr(bab.load("tasks", "vtc"), "defaults", own)
    config = asked(**({"mode": mode, "encoder": "hubert:tiny"} if mode else {}))
    assert config.mode == (mode or "probe") and config.train.steps == (
        22 if mode == "finetune" else 11
    )
    assert config.layers == ("last" if mode == "finetune" else "mix")
    assert asked("train.steps=5").train.steps == 5


def test_a_model_brings_its_encoder() -> None:
    given = {"model": "m", "encoder": "fbank"}

    def expand(stated: Any) -> Any:
        return ("m", {"seed": 3, "task": {"name": "vtc"}}), ("m", {"encoder": {"name": "fbank"}})

    said = refused(run_config, None, given, expand=expand)
    assert said == "--encoder with --model: a model has its own encoder; leave one out"
    config = run_config(None, {"model": "m"}, ["seed=4"], expand=expand)
    assert (config.seed, config.encoder.name, config.task.name) == (4, "fbank", "vtc")
    assert run_config(None, {"model": "m"}, [], expand=expand).seed == 3

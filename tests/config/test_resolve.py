"""The run's configuration: precedence, strictness, and messages that say where a mistake stands."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from pydantic import BaseModel

from bab.config.files import assignment, read
from bab.config.resolve import corpus_config, encoder_config, run_config
from bab.config.run import RunConfig
from bab.core.errors import ConfigError, PluginError
from bab.core.types import View

TOYS = """
    from typing import Literal
    from pydantic import Field
    from bab import Corpus, Encoder, Head, Objective, Options, Task, View

    class EncoderOptions(Options):
        cmvn: Literal["none", "utterance"] = "utterance"
        bands: tuple[int, ...] = (1, 2)

    class Whole(Encoder):
        @classmethod
        def load(cls, weights, options, *, offline=False, trust_code=False): ...
        def forward(self, waves, mask=None, layers="all"): ...

    class ToyEncoder(Whole):
        Options = EncoderOptions
        weights = {"random-tiny": "untrained", "base": "trained"}
        default = "random-tiny"

    class BareEncoder(Whole):
        pass

    class HeadOptions(Options):
        rnn: Literal["none", "bilstm"] = "none"
        hidden: int = Field(64, ge=1)

    class WholeHead(Head):
        level = ("frame",)
        def forward(self, x, lengths): ...

    class ToyHead(WholeHead):
        Options = HeadOptions

    class PooledOptions(Options):
        width: int = 8

    class PooledHead(WholeHead):
        Options = PooledOptions

    class ToyObjective(Objective):
        def counts(self, batch): ...
        def forward(self, model, batch): ...

    class CorpusOptions(Options):
        labels: dict[str, str] = {}

    class ToyCorpus(Corpus):
        Options = CorpusOptions
        def clips(self, split=None): ...

    class WholeTask(Task):
        def fit(self, clips): ...
        def targets(self, clip, grid, frames, labels): ...
        def decode(self, output, grid, labels, tuned): ...
        def write(self, predictions, folder): ...
        def statistics(self, reference, prediction): ...
        def metrics(self, totals): ...

    class ToyTask(WholeTask):
        corpus, head, objective = "toy-corpus", "toy-head", "toy-loss"
        view = View(window=4.0, crop=True)
        defaults = {
            "probe": {"train": {"steps": 11, "lr": 0.5}},
            "finetune": {"layers": "last", "head": {"hidden": 32}},
        }

    class OpenTask(WholeTask):
        head, objective = "toy-head", "toy-loss"
"""


@pytest.fixture(autouse=True)
def toys(install, tmp_path, monkeypatch):
    entries = {
        "encoders": {"toy": "cfg_toys:ToyEncoder", "bare": "cfg_toys:BareEncoder"},
        "heads": {"toy-head": "cfg_toys:ToyHead", "toy-pooled": "cfg_toys:PooledHead"},
        "objectives": {"toy-loss": "cfg_toys:ToyObjective"},
        "datasets": {"toy-corpus": "cfg_toys:ToyCorpus"},
        "tasks": {"toy-task": "cfg_toys:ToyTask", "open": "cfg_toys:OpenTask"},
    }
    install("cfg-toys", entries, {"cfg_toys": TOYS})
    monkeypatch.chdir(tmp_path)


NAMED = {"encoder": "toy", "task": "toy-task"}


def made(*sets: str, **options) -> RunConfig:
    return run_config(None, NAMED | options, sets)


def refused(*sets: str, **options) -> str:
    with pytest.raises(ConfigError) as caught:
        made(*sets, **options)
    return str(caught.value)


# ------------------------------------------------------------------------------- precedence


def test_every_source_in_its_place(tmp_path):
    """task defaults < bab.toml < recipe < command line; among --set, the last."""
    assert made().train.steps == 11  # the task's, for mode probe
    assert made(mode="finetune").train.steps == 500  # bab's own
    (tmp_path / "bab.toml").write_text("[train]\nsteps = 22\nbatch = 2\n")
    assert made().train.steps == 22
    recipe = tmp_path / "r.yaml"
    recipe.write_text("encoder: toy:base\ntask: toy-task\ntrain: {steps: 33}\n")
    config = run_config(recipe)
    assert (config.train.steps, config.train.batch, config.train.lr) == (33, 2, 0.5)
    config = run_config(recipe, {}, ["train.steps=44", "train.steps=55"])
    assert config.train.steps == 55
    assert config.encoder.weights == "base"


def test_the_task_names_what_is_not_named():
    config = made()
    assert [config.corpus.name, config.head.name, config.objective.name] == [
        "toy-corpus", "toy-head", "toy-loss",
    ]  # fmt: skip
    assert config.view.view() == View(window=4.0, hop=None, crop=True)
    assert made("view.window=8", "view.crop=false").view.view() == View(8.0, None, False)
    assert made(mode="finetune").head.options == {"rnn": "none", "hidden": 32}
    assert made(mode="finetune").layers == "last"
    assert "no corpus is named" in refused(task="open")


def test_options_are_resolved_whole():
    assert made("encoder.cmvn=none").encoder.options == {"cmvn": "none", "bands": [1, 2]}
    assert made("encoder.bands=[3]").encoder.options["bands"] == [3]
    assert made("corpus.labels.CHI=KCHI", "corpus.labels.OCH=OCH").corpus.options == {
        "labels": {"CHI": "KCHI", "OCH": "OCH"}
    }


def test_naming_another_component_drops_the_options_of_the_first(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "{encoder: {name: 'toy:base', cmvn: none}, task: toy-task, head: {rnn: bilstm}}"
    )
    assert run_config(recipe).head.options["rnn"] == "bilstm"
    other = run_config(recipe, {"head": "toy-pooled"})
    assert other.head.options == {"width": 8}
    same = run_config(recipe, {"encoder": "toy"})
    assert same.encoder.options["cmvn"] == "none"
    assert same.encoder.spec == "toy:random-tiny"  # naming an encoder names its weights too


def test_weights_and_roots(tmp_path):
    assert made(encoder="toy:owner/name@v1").encoder.weights == "owner/name@v1"
    assert made("encoder.weights=base").encoder.spec == "toy:base"
    assert made(encoder="bare").encoder.spec == "bare"
    assert made().corpus.root is None
    assert made(corpus="toy-corpus:not/there").corpus.root == "not/there"
    (tmp_path / "here").mkdir()
    assert made(corpus="toy-corpus:here").corpus.root == str((tmp_path / "here").resolve())


def test_random_convolutions_are_not_frozen_unless_asked():
    assert made().freeze == "conv"
    assert made(mode="finetune").freeze == "none"
    assert made(mode="finetune", encoder="toy:base").freeze == "conv"
    assert made(mode="finetune", freeze="conv").freeze == "conv"


def test_observers_are_added():
    assert run_config(None, NAMED, [], ["x"]).observers == ("progress", "jsonl", "x")
    config = run_config(None, NAMED, ["observers=[jsonl]"], ["x"])
    assert config.observers == ("jsonl", "x")


def test_a_record_s_configuration_builds_the_same_run():
    config = made("head.rnn=bilstm", "view.hop=2.5", "layers=3", corpus="toy-corpus:/x", seed=7)
    assert run_config(over=("record", config.model_dump(mode="json"))) == config


# ------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trian.steps=3", "'trian' (from --set trian.steps=3): did you mean 'train'"),
        ("train.stesp=3", "'train.stesp' (from --set train.stesp=3): did you mean 'train.steps'"),
        ("lr=3", "'lr' (from --set lr=3): did you mean 'train.lr'"),
        ("head.rn=x", "'head.rn' (from --set head.rn=x): did you mean 'head.rnn'"),
        ("encoder.cmnv=none", "'encoder.cmnv' (from --set encoder.cmnv=none): did you mean"),
        ("objective.x=1", "'objective.x' (from --set objective.x=1): known: none"),
        ("train.steps=many", "train.steps: 'many' is not valid (from --set train.steps=many)"),
        ("train.steps=many", "expected a valid integer"),
        ("train.steps=1.5", "expected a valid integer"),
        ("train.steps=true", "expected a valid integer"),
        ("train.steps=0", "expected greater than 0"),
        ("train.lr='1'", "train.lr: '1' is not valid"),
        ("train.lr=.inf", "train.lr: inf is not valid"),
        ("train.clip=none", "Nothing is written `null`"),
        ("train.betas=[.9]", "train.betas"),
        ("train=3", "train: expected keys and values, found 3"),
        ("layers=first", "layers: 'first' is not valid (from --set layers=first): expected 'mix'"),
        ("mode=prob", "mode: 'prob' is not valid (from --set mode=prob): expected 'probe', 'fine"),
        ("head.hidden='5'", "head.hidden: '5' is not valid (from --set head.hidden='5')"),
        ("head.hidden=0", "greater than or equal to 1"),
        ("corpus.labels.CHI=3", "corpus.labels.CHI: 3 is not valid (from --set corpus.labels"),
        ("head=[1]", "head: expected a name or a mapping"),
        ("head={name: 3}", "head.name: expected a name, found 3"),
        ("head={name: toy-head, options: [1]}", "head.options: expected a mapping, found [1]"),
        ("encoder={name: toy, weights: 3}", "encoder.weights: expected text, found 3: quote it"),
        ("head=toy-head:x", "not spelled NAME"),
        ("seed", "--set seed: expected KEY=VALUE"),
        ("a..b=3", "expected KEY=VALUE"),
        ("train.betas=[1", "--set train.betas=[1: line 1"),
    ],
)  # fmt: skip
def test_mistakes_say_key_value_source_and_remedy(text, said):
    assert said in refused(text)


def test_a_folder_alone_is_no_corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "homes").mkdir()
    said = r"'homes' is a folder: say how it is laid out, as in rttm:homes or audio:homes"
    for asks in (lambda: corpus_config("homes"), lambda: made(corpus="homes")):
        with pytest.raises(PluginError, match=said):
            asks()
    with pytest.raises(PluginError, match="there is no corpus called 'gone'"):
        corpus_config("gone")


def test_mistakes_in_files_name_the_file(tmp_path):
    (tmp_path / "bab.toml").write_text("[cache]\nbudget = 3\n")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "encoder: toy\ntask: toy-task\nhead:\n  name: toy-head\n  hiden: 3\nseed: x\n"
    )
    with pytest.raises(ConfigError, match=r"unknown key 'cache.budget' \(from bab.toml\)"):
        run_config(recipe)
    (tmp_path / "bab.toml").unlink()
    with pytest.raises(ConfigError) as caught:
        run_config(recipe)
    assert f"'head.hiden' (from {recipe}): did you mean 'head.hidden'" in str(caught.value)
    assert f"seed: 'x' is not valid (from {recipe})" in str(caught.value)  # all at once


def test_files_that_do_not_parse_name_the_line(tmp_path):
    for content, said in (
        ("a: 1\nb: [1\n", "line 3"),
        ("train: {lr: 1}\ntrain: {lr: 2}\n", "line 2, column 1: the key 'train' stands twice"),
        ("- a\n", "expected keys and values"),
    ):
        path = tmp_path / "bad.yaml"
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"bad\.yaml") as caught:
            read(path)
        assert said in str(caught.value)
    (tmp_path / "bab.toml").write_text("a = \n")
    with pytest.raises(ConfigError, match=r"bab.toml: .*line 1"):
        made()
    with pytest.raises(ConfigError, match="there is no such file"):
        read(tmp_path / "missing.yaml")


def test_nothing_named():
    with pytest.raises(ConfigError, match=r"give --encoder NAME.*\n.*give --task NAME"):
        run_config()
    with pytest.raises(PluginError, match=r"did you mean 'toy'\? \(named by --encoder\)"):
        made(encoder="tyo")


def test_values_are_read_as_yaml_core_does():
    """Expected values written down by hand from the YAML 1.2 core schema."""
    for text, value in {
        "1e-3": 0.001, "3": 3, "-.5": -0.5, "010": 10, "no": "no", "NO": "NO", "none": "none",
        "null": None, "~": None, "true": True, "1:30": "1:30", "2020-01-01": "2020-01-01",
        "/a b#c: d": "/a b#c: d", "'3'": "3", "[1, x]": [1, "x"], "{a: 1e2}": {"a": 100.0},
        "": None,
    }.items():  # fmt: skip
        found = assignment(f"k={text}")["k"]
        assert found == value and type(found) is type(value), text
    assert math.isinf(assignment("k=.inf")["k"])


# ------------------------------------------------------------------------------- identity


def leaves(model: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += leaves(kind, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


CHANGES = {  # every key, another value, and whether the result may then differ
    "encoder.name": ("bare", True), "encoder.weights": ("base", True),
    "task.name": ("open", True), "corpus.root": ("/elsewhere", True),
    "head.name": ("toy-pooled", True), "head.rnn": ("bilstm", True),
    "encoder.cmvn": ("none", True), "corpus.labels.A": ("B", True),
    "view.window": ("2", True), "view.hop": ("1", True), "view.crop": ("false", True),
    "view.context": ("1", True), "view.train_seconds": ("1", True), "view.pool": ("mean", True),
    "view.train_minimum": ("1", True), "view.tail": ("short", True),
    "model": ("runs/x", False), "tune": ("dev", False),  # the model's digest counts: test_evaluate
    "mode": ("probe", True), "freeze": ("all", True), "layers": ("2", True),
    "protocol": ("given", True), "folds": ("3", True), "seed": ("1", True),
    "train.steps": ("7", True), "train.batch": ("7", True), "train.accumulation": ("2", True),
    "train.lr": ("0.1", True), "train.weight_decay": ("0.1", True),
    "train.betas": ("[0.1, 0.2]", True), "train.eps": ("1e-3", True), "train.clip": ("null", True),
    "train.schedule": ("linear", True), "train.warmup": ("1", True),
    "train.eval_every": ("7", True), "train.save_every": ("7", False),
    "train.save_minutes": ("1.5", False),
    "train.hold": ("7", True), "train.workers": ("2", False),
    "train.patience": ("1", True), "train.precision": ("bf16", True),
    "train.deterministic": ("true", True),
    "train.layer_decay": ("0.5", True), "device": ("cpu", False), "skip_bad": ("true", True),
    "offline": ("true", False), "trust_code": ("true", False), "cache.dir": ("x", False),
    "cache.budget_gb": ("1", False), "cache.dtype": ("float16", False), "runs": ("x", False),
    "test_corpus": ("toy-corpus", True), "test_names": ("distinct", False),
    "allow_leakage": ("true", True),
    "observers": ("[]", False), "quiet": ("true", False),
}  # fmt: skip


def test_identity_holds_what_changes_the_result_and_nothing_else():
    """In finetune mode with folds, where every key but the cache's is read."""
    fixed = ["mode=finetune", "protocol=kfold", "corpus=toy-corpus"]
    base = made(*fixed)
    for key, (value, matters) in CHANGES.items():
        if key == "corpus.root":
            other = made(*fixed, f"corpus.root={value}")
        else:
            other = made(*fixed, f"{key}={value}")
        assert other != base, key
        assert (other.identity() != base.identity()) is matters, key


def test_every_key_is_decided_on():
    decided = set(CHANGES) | {"task.options", "head.options", "encoder.options", "corpus.options",
                              "objective.name", "objective.options", "corpus.name"}  # fmt: skip
    assert set(leaves(RunConfig)) - decided == set()


def test_identity_in_probe_mode_ignores_what_only_finetuning_reads():
    base = made("freeze=conv").identity()
    assert made("freeze=all").identity() == base
    assert made("train.layer_decay=0.5").identity() == base
    assert made("folds=3").identity() == base
    assert made("cache.dtype=float16").identity() != base


def test_every_key_is_explained():
    def unexplained(model: type[BaseModel], prefix: str = "") -> list[str]:
        missing = []
        for name, field in model.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                missing += unexplained(kind, f"{prefix}{name}.")
            missing += [] if field.description else [prefix + name]
        return missing

    assert unexplained(RunConfig) == []


# ------------------------------------------------------------------------------- one component


def test_one_component_outside_a_run(tmp_path: Path):
    found = corpus_config("toy-corpus:/x", ["corpus.labels.A=B"])
    assert (found.name, found.root, found.options) == ("toy-corpus", "/x", {"labels": {"A": "B"}})
    encoder = encoder_config("toy:base", ["encoder.cmvn=none"])
    assert (encoder.spec, encoder.options) == ("toy:base", {"cmvn": "none", "bands": [1, 2]})
    with pytest.raises(ConfigError, match=r"did you mean 'corpus\.labels'"):
        corpus_config("toy-corpus", ["corpus.label.A=B"])
    with pytest.raises(ConfigError, match="only keys of 'corpus'"):
        corpus_config("toy-corpus", ["train.steps=1"])


def test_fbank_keeps_a_clips_mean_where_whole_clips_are_told_apart() -> None:
    def cmvn(task: str, *sets: str, encoder: str = "fbank") -> object:
        options = run_config(None, {"encoder": encoder, "task": task}, sets).encoder.options
        return options.get("fbank", options).get("cmvn")

    assert [cmvn(t) for t in ("vtc", "sv", "asr")] == ["utterance"] * 3  # SUPERB's
    assert [cmvn(t) for t in ("gender", "valence", "classify")] == ["none"] * 3
    assert cmvn("gender", "encoder.cmvn=utterance") == "utterance"
    assert cmvn("gender", encoder="hubert+fbank") == "none"
    assert cmvn("gender", "encoder.fbank.cmvn=utterance", encoder="hubert+fbank") == "utterance"


def test_a_key_that_is_gone_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'bootstrap'.*docs/intervals.md.*leave it"):
        run_config(None, {"encoder": "fbank", "task": "vtc"}, ["bootstrap=20"])

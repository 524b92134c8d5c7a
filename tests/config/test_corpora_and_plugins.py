"""Where corpora are, which tasks they are for, plugins of one file, and settings of a smoke run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import bab
from bab.config import corpora, plugins
from bab.config.corpora import (
    open_corpora,
    open_corpus,
    place_of,
    refuse_other_sets,
    sets_of,
    tasks_for,
)
from bab.config.pretrain import PretrainConfig
from bab.config.run import CorpusConfig, RunConfig
from bab.config.smoke import smoke_settings
from bab.core.errors import ConfigError, CorpusError, PluginError
from bab.core.types import Permissions


def refused(call: Any, *given: Any, **more: Any) -> str:
    with pytest.raises(ConfigError) as error:
        call(*given, **more)
    return str(error.value)


def test_where_a_corpus_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place_of(CorpusConfig(name="rttm")).is_dir()
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "homes").mkdir()
    assert place_of(CorpusConfig(name="rttm", root="~/homes")) == tmp_path / "homes"
    with pytest.raises(CorpusError) as error:
        place_of(CorpusConfig(name="rttm", root="/none/there"))
    assert str(error.value) == "/none/there: there is no such folder or file (corpus 'rttm')"
    cls = bab.load("datasets", "rttm")
    monkeypatch.setattr(cls, "sample", None)
    assert refused(place_of, CorpusConfig(name="rttm")) == (
        "corpus 'rttm' ships no sample: name its folder, rttm:PATH"
    )
    monkeypatch.setattr(cls, "hub", True)
    assert place_of(CorpusConfig(name="rttm", root="owner/name")) == Path("owner/name")


def test_a_corpus_gets_permissions_where_it_asks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asks(bab.Corpus):
        def __init__(self, root: Any, options: Any, permissions: Any = None) -> None:
            self.given = (root, permissions)

    class Plain(bab.Corpus):
        def __init__(self, root: Any, options: Any) -> None:
            self.given = (root,)

    allowed = Permissions(leakage=True)
    for cls, given in ((Asks, (tmp_path, allowed)), (Plain, (tmp_path,))):
        monkeypatch.setattr(corpora.registry, "load", lambda kind, name, c=cls: c)
        made: Any = open_corpus(CorpusConfig(name="mine", root=str(tmp_path)), allowed)
        assert made.given == given and made.name == "mine"
    said = refused(open_corpora, ["a:x", "b", "a:x"])
    assert said == "--corpus a:x stands twice: name each corpus once"


def test_sets_of_a_section_alone() -> None:
    sets = ["corpus.x=1", "encoder.y=2", "corpusx=3", "corpus.z=4"]
    assert sets_of("corpus", sets) == ["corpus.x=1", "corpus.z=4"]
    refuse_other_sets(["corpus", "encoder"], [sets[0], sets[1]])
    assert refused(refuse_other_sets, ["corpus", "encoder"], sets) == (
        "--set corpusx=3: here only corpus.KEY=VALUE and encoder.KEY=VALUE have a meaning"
    )


def test_tasks_that_a_corpus_may_be_for() -> None:
    assert set(tasks_for("gender", [], frozenset())) == {"gender"}
    assert tasks_for(None, [], frozenset({"text"})) == {}
    for segments in tasks_for(None, [], frozenset({"segments", "text"})).values():
        assert segments.needs == {"segments"}
    assert "vtc" in tasks_for(None, [], frozenset({"segments"}))


def test_plugin_files_that_cannot_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.FILES, "")
    for name in ("none.py", "x.txt"):
        (tmp_path / "x.txt").write_text("")
        path = tmp_path / name
        assert refused(bab.use_plugin, path) == f"--plugin {path}: there is no such Python file"
    odd = tmp_path / f"a{os.pathsep}b.py"
    odd.write_text("")
    assert refused(bab.use_plugin, odd) == f"--plugin {odd}: rename it without '{os.pathsep}'"
    with pytest.raises(PluginError) as error:
        plugins.read_plugin(tmp_path / "none.py")
    told = "can't be read: No such file or directory"
    assert str(error.value) == f"the plugin {tmp_path / 'none.py'} {told}"
    assert os.environ[plugins.FILES] == ""


@pytest.mark.parametrize(
    ("name", "called"),
    [("MyEncoder", "my-encoder"), ("HTTPHead", "http-head"), ("Wav2Vec", "wav2-vec"), ("X", "x")],
)
def test_what_a_class_without_a_name_is_called(name: str, called: str) -> None:
    assert plugins._called(type(name, (), {})) == called
    assert plugins._called(type(name, (), {"name": "own"})) == "own"
    assert plugins._called(type(name, (), {"name": ""})) == called
    assert plugins._called(type(name, (), {"name": 5})) == called


@pytest.mark.parametrize("kind", ["run", "pretrain"])
def test_a_smoke_runs_settings(tmp_path: Path, kind: str) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"kind: {kind}\nencoder: hubert:base\ncorpus: rttm:/data\n")
    (source, over), said = smoke_settings(recipe)
    assert source == "--smoke" and over["runs"] == "smoke-runs"
    assert over["encoder"] == {"name": "hubert", "weights": "random-tiny"}
    assert over["corpus"] == {"name": "rttm"} and over["train"]["steps"] == 3
    assert said == [
        "base -> random-tiny (untrained)", "corpus -> the sample of rttm that ships with bab",
        "3 steps: the figures mean nothing",
    ]  # fmt: skip
    assert ("folds" in over) is (kind == "run") and ("audio" in over) is (kind == "pretrain")
    recipe.write_text(f"kind: {kind}\nencoder: fbank\n")
    (_, plain), lines = smoke_settings(recipe)
    assert plain["encoder"] == {"name": "fbank"} and "corpus" not in plain and len(lines) == 1
    recipe.write_text(f"kind: {kind}\nencoder: fbank+hubert\n")
    assert "weights" not in smoke_settings(recipe)[0][1]["encoder"]
    recipe.write_text(f"kind: {kind}\nencoder: hubert\n")
    assert smoke_settings(recipe)[1][0] == "the default weights -> random-tiny (untrained)"
    assert set(PretrainConfig.model_fields) != set(RunConfig.model_fields)

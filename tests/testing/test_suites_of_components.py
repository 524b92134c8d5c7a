"""The suite of an installed component: its checks, and what they are handed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from good_parts import GoodCorpus, GoodHead, GoodObjective, GoodObserver, GoodTask, make_corpus

import bab
from bab.core import registry
from bab.core.errors import ConfigError
from bab.testing import (
    corpora,
    encoders,
    formats,
    heads,
    launchers,
    models,
    objectives,
    observers,
    subjects,
    tasks,
)
from bab.testing.formats import FormatCase
from bab.testing.heads import HeadCase
from bab.testing.launchers import LauncherCase
from bab.testing.models import ModelCase
from bab.testing.objectives import ObjectiveCase
from bab.testing.observers import ObserverCase
from bab.testing.subjects import Asked, Suite, suite_of


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The suite of a class that is installed as `mine`."""
    monkeypatch.chdir(tmp_path)

    def made(kind: str, cls: Any, **more: Any) -> Suite:
        def load(*asked: str) -> Any:
            assert asked == (kind, "mine")
            return cls

        monkeypatch.setattr(registry, "load", load)
        return suite_of(Asked(kind, "mine", tmp_path, **more))

    return made


def test_an_encoder_is_loaded_as_a_run_does(suite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []

    def build(*given: Any) -> str:
        built.append(given)
        return "made"

    monkeypatch.setattr(subjects, "build_encoder", build)

    class Mine:
        default = "small"

        class Options(bab.Options):
            width: int = 3

    plain = suite("encoders", Mine)
    assert plain.checks is encoders.ALL
    assert built == [("mine", "small", {"width": 3}, False, False)]  # at once: a user's slip
    assert plain.subject() == "made" and built[0] == built[1]
    built.clear()
    suite("encoders", Mine, where="big", options={"width": 4}, offline=True).subject()
    suite("encoders", Mine, trust_code=True)
    assert built == [
        *[("mine", "big", {"width": 4}, True, False)] * 2, ("mine", "small", {"width": 3}, False,
                                                            True),
    ]  # fmt: skip


def test_a_corpus_is_its_sample_or_a_folder(
    suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    root = make_corpus(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    for where in ("here", "~/here", str(root)):
        one = suite("datasets", GoodCorpus, where=where, options={"words": False})
        assert one.checks is corpora.CHECKS and one.subject.root == root.resolve()
        assert one.subject.options.words is False
    shipped = type("Shipped", (GoodCorpus,), {"__doc__": "x", "sample": Path("here")})
    assert suite("datasets", shipped).subject.root == root.resolve()
    with pytest.raises(
        ConfigError,
        match=r"^corpus 'mine' ships no sample: name a small folder, mine:FOLDER$",
    ):
        suite("datasets", GoodCorpus)
    asked = SimpleNamespace(sample=None)
    suite("datasets", lambda root, options: setattr(asked, "root", root), where="gone/x")
    assert asked.root == Path("gone/x")  # what isn't there is for the corpus to refuse


def test_a_task_needs_clips(suite: Any, tmp_path: Path) -> None:
    corpus = GoodCorpus(make_corpus(tmp_path), GoodCorpus.Options())
    one = suite("tasks", GoodTask, corpus=corpus)
    assert one.checks is tasks.CHECKS and isinstance(one.subject.task, GoodTask)
    assert [clip.id for clip in one.subject.test] == [clip.id for clip in corpus.clips("test")]
    corpus.provides = frozenset()  # type: ignore[misc]
    with pytest.raises(
        ConfigError,
        match=r"^task 'mine' can't be tried: the corpus does not provide .*\. Name a corpus: "
        r"--corpus NAME:ROOT$",
    ):
        suite("tasks", GoodTask, corpus=corpus)


def test_what_a_corpus_lacks_is_listed_in_order(suite: Any, tmp_path: Path) -> None:
    needs = frozenset({"mood", "where", "speaker", "age", "what", "when", "a"})
    asking = type("Asking", (GoodTask,), {"__doc__": "x", "needs": needs})
    with pytest.raises(ConfigError, match=r"does not provide a, age, what, when, where\. Name a"):
        suite("tasks", asking, corpus=GoodCorpus(make_corpus(tmp_path), GoodCorpus.Options()))


def test_a_launchers_engine_is_asked_first(suite: Any, tmp_path: Path) -> None:
    polled: list[Any] = []

    class Mine:
        class Options(bab.Options):
            queue: str = "x"

        def __init__(self, options: Any) -> None:
            self.options = options

        def poll(self, ids: Any) -> None:
            polled.append((ids, self.options.queue))

    one = suite("launchers", Mine, options={"queue": "y"})
    assert one == Suite(launchers.CHECKS, LauncherCase(Mine, Mine.Options(queue="y"), tmp_path))  # type: ignore[arg-type]
    assert polled == [(["0"], "y")]


def test_the_others_are_their_class(suite: Any, tmp_path: Path) -> None:
    options = GoodHead.Options()
    assert suite("heads", GoodHead) == Suite(heads.CHECKS, HeadCase(GoodHead, options))
    loss = ObjectiveCase(GoodObjective, GoodObjective.Options(), "frame")
    assert suite("objectives", GoodObjective) == Suite(objectives.CHECKS, loss)
    watch = Suite(observers.CHECKS, ObserverCase(GoodObserver, tmp_path))
    assert suite("observers", GoodObserver) == watch and not hasattr(GoodObserver, "Options")
    form: Any = type("Form", (), {})
    paths = (Path("a"), Path("b"))
    assert suite("formats", form, samples=paths) == Suite(
        formats.CHECKS, FormatCase(form, tmp_path, paths)
    )
    assert suite("models", form, where="x") == Suite(
        models.CHECKS, ModelCase("mine", "x", tmp_path)
    )

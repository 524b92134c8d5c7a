"""Rows and splits of a Hugging Face data set: what each comes to."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import made_corpora
import pytest
from made_corpora import load

from bab.core.errors import CorpusError
from bab.plugins.datasets.hf import HuggingFace

lay = partial(made_corpora.lay, seconds=1.0)


def test_rows_of_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    lay(tmp_path, "a.wav", "b.wav", seconds=2)

    def made(**columns: list[Any]) -> Path:
        rows = {"audio": [str(tmp_path / n) for n in ("a.wav", "b.wav")], **columns}
        monkeypatch.setattr(
            "bab.plugins.datasets.hf.load_parts",
            lambda *asked: {"all": datasets.Dataset.from_dict(rows)},
        )
        return tmp_path / "set"

    root = made(
        name=["x/1", "y"], home=["h", "h"], who=["s", "t"], said=["hi", ""], mood=["", "glad"]
    )
    options = {
        "id": "name",
        "group": "home",
        "speaker": "who",
        "text": "said",
        "labels": {"m": "mood"},
    }
    one, two = load(HuggingFace, root, **options).clips()
    assert (one.id, one.group, one.speaker, one.text, dict(one.labels)) == (
        "x_1",
        "h",
        "s",
        "hi",
        {},
    )
    assert (two.id, two.text, dict(two.labels), two.end) == ("y", "", {"m": "glad"}, 2.0)
    bare = list(load(HuggingFace, root, speaker="who").clips())
    assert [(c.id, c.group, c.text) for c in bare] == [
        ("all-000000", "s", None), ("all-000001", "t", None),
    ]  # fmt: skip
    alone = load(HuggingFace, root)
    assert [c.group for c in alone.clips()] == ["all-000000", "all-000001"]
    assert alone.notices == [
        "No column for group or speaker: every clip is a group of its own, and a voice that stands "
        "in two splits is not seen."
    ]
    assert load(HuggingFace, root, group="home").notices == []
    monkeypatch.chdir(tmp_path)
    assert load(HuggingFace, Path()).root == tmp_path.resolve()
    assert load(HuggingFace, Path("owner/name")).root == Path("owner/name")  # the hub's
    for what in ("id", "group", "speaker"):
        with pytest.raises(CorpusError) as caught:
            load(HuggingFace, made(x=["a", ""]), **{what: "x"})
        told = f"{root}: row 1 of 'all': {what} (column 'x') is empty."
        assert str(caught.value) == told
    with pytest.raises(CorpusError) as caught:
        load(HuggingFace, made(x=["a/b", "a_b"]), id="x")
    assert str(caught.value) == (
        f"{root}: two clips are called 'a_b' (column 'x'). Name a column without repeats, or none."
    )


def test_splits_of_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    lay(tmp_path, *(f"{i}.wav" for i in range(4)))

    def made(*names: str) -> Path:
        parts = {
            name: datasets.Dataset.from_dict({"audio": [str(tmp_path / f"{i}.wav")]})
            for i, name in enumerate(names)
        }
        monkeypatch.setattr("bab.plugins.datasets.hf.load_parts", lambda *asked: parts)
        return tmp_path / "set"

    corpus = load(HuggingFace, made("Test", "validation", "train", "extra"))
    assert corpus.splits() == ("train", "dev", "test") and len(list(corpus.clips())) == 3
    assert corpus.notices[0] == "Split 'extra' is neither train, dev nor test: left out."
    root = made("test", "val", "validation")
    with pytest.raises(CorpusError) as caught:
        load(HuggingFace, root)
    told = "two splits mean 'dev'. Say which: --set corpus.splits.dev=NAME"
    assert str(caught.value) == f"{root}: {told}"
    chosen = load(HuggingFace, root, splits={"test": "test", "train": "val"})
    assert chosen.splits() == ("train", "test")
    with pytest.raises(CorpusError) as caught:
        load(HuggingFace, made("a", "b"))
    assert str(caught.value) == (
        f"{root}: its splits are a, b. Say which is what: --set corpus.splits.train=a"
    )
    one = load(HuggingFace, made("only"))
    assert not one.splits_given and len(list(one.clips())) == 1

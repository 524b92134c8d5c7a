"""hf: data sets on disk in the library's own forms, with audio as bytes and as paths."""

from __future__ import annotations

import builtins
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bab.audio import reading
from bab.config.corpora import open_corpus
from bab.config.run import CorpusConfig
from bab.core.errors import CorpusError, PluginError
from bab.core.types import Permissions
from bab.data.content import cache_root
from bab.plugins.datasets.hf import HuggingFace
from bab.testing.corpora import check_corpus

datasets = pytest.importorskip("datasets")

SIZE = 12
COLUMNS = {"speaker": "who", "text": "sentence", "labels": {"gender": "sex"}}


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "bab"))
    datasets.disable_progress_bars()


def tone(number: int) -> np.ndarray:
    time = np.arange(3000 + 100 * number) / 16000
    return 0.5 * np.sin(2 * np.pi * (200 + 20 * number) * time)


def encoded(number: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(number), 16000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def as_bytes(number: int) -> dict:
    return {"bytes": encoded(number), "path": f"{number}.wav"}


def data_set(sound=as_bytes, sex=lambda i: i % 2):
    value = datasets.Value
    features = datasets.Features(
        {
            "audio": {"bytes": value("binary"), "path": value("string")},
            "sex": datasets.ClassLabel(names=["f", "m"]),
            "who": value("string"),
            "sentence": value("string"),
        }
    )
    rows = {
        "audio": [sound(i) for i in range(SIZE)],
        "sex": [sex(i) for i in range(SIZE)],
        "who": [f"s{i // 2}" for i in range(SIZE)],
        "sentence": [f"word {i}" for i in range(SIZE)],
    }
    found = datasets.Dataset.from_dict(rows, features=features)
    # In two steps: encoding into the feature would ask for torchcodec, a cast doesn't.
    undecoded = found.cast_column("audio", datasets.Audio(decode=False))
    return undecoded.cast_column("audio", datasets.Audio(sampling_rate=16000))


def parted(whole, **sizes):
    at, parts = 0, {}
    for name, size in sizes.items():
        parts[name] = whole.select(range(at, at + size))
        at += size
    return datasets.DatasetDict(parts)


def load(root: Path, **options) -> HuggingFace:
    return HuggingFace(root, HuggingFace.Options(**options))


def test_bytes_become_readable_files_and_columns_become_fields(tmp_path):
    parted(data_set(), train=6, validation=2, test=4).save_to_disk(tmp_path / "set")
    corpus = load(tmp_path / "set", **COLUMNS)
    check_corpus(corpus)
    assert corpus.provides == {"text", "speaker", "gender"}
    assert HuggingFace.provides == frozenset()
    clips = list(corpus.clips())
    assert [len(list(corpus.clips(s))) for s in corpus.splits()] == [6, 2, 4]
    assert [c.id for c in clips[:2]] == ["train-000000", "train-000001"]
    for number, clip in enumerate(clips):
        assert Path(clip.path).is_relative_to(cache_root() / "hf-audio")
        np.testing.assert_allclose(reading.read(clip.path), tone(number), atol=1e-4)
        assert (clip.text, clip.speaker) == (f"word {number}", f"s{number // 2}")
        assert clip.group == clip.speaker and clip.labels == {"gender": "fm"[number % 2]}


def test_audio_is_written_once_by_content(tmp_path):
    data_set(lambda i: as_bytes(i % 3)).save_to_disk(tmp_path / "set")
    first = [c.path for c in load(tmp_path / "set").clips()]
    assert len(set(first)) == 3
    states = {path: Path(path).stat().st_mtime_ns for path in first}
    Path(first[0]).write_bytes(b"torn")
    again = [c.path for c in load(tmp_path / "set").clips()]
    assert again == first
    assert Path(first[0]).read_bytes() == encoded(0)  # mended
    assert Path(first[1]).stat().st_mtime_ns == states[first[1]]  # left alone
    assert sum(f.is_file() for f in (cache_root() / "hf-audio").rglob("*")) == 3


def test_audio_that_stays_in_files_is_used_where_it_lies(tmp_path, monkeypatch):
    """A table of paths: from the data set's folder, or absolute."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    root = tmp_path / "set"
    root.mkdir()
    lines = ["audio,who"]
    for number in range(SIZE):
        path = root / "wav" / f"{number}.wav" if number % 2 else tmp_path / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(number))
        lines.append(f"{path if number % 2 == 0 else f'wav/{number}.wav'},s{number}")
    (root / "train.csv").write_text("\n".join(lines))
    corpus = load(root, speaker="who")
    check_corpus(corpus)
    assert [Path(c.path).name for c in corpus.clips()] == [f"{i}.wav" for i in range(SIZE)]
    assert not (cache_root() / "hf-audio").exists()
    (root / "wav" / "5.wav").unlink()
    with pytest.raises(CorpusError, match=r"row 5 of 'all': no audio: .*wav/5.wav"):
        load(root, speaker="who")


def test_one_part_is_split_by_speaker_and_parquet_is_read(tmp_path, monkeypatch):
    (tmp_path / "set" / "data").mkdir(parents=True)
    data_set().to_parquet(tmp_path / "set" / "data" / "train.parquet")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    corpus = load(tmp_path / "set", **COLUMNS)
    check_corpus(corpus)
    where = {s: {c.speaker for c in corpus.clips(s)} for s in corpus.splits()}
    assert all(where.values()) and sum(map(len, where.values())) == 6


def test_unknown_classes_and_empty_cells_have_no_label(tmp_path):
    data_set(sex=lambda i: -1 if i == 0 else 1).save_to_disk(tmp_path / "set")
    clips = list(load(tmp_path / "set", labels={"gender": "sex"}).clips())
    assert clips[0].labels == {} and clips[1].labels == {"gender": "m"}


def test_without_groups_it_says_what_is_not_seen(tmp_path):
    data_set().save_to_disk(tmp_path / "set")
    corpus = load(tmp_path / "set")
    assert any("No column for group or speaker" in notice for notice in corpus.notices)
    assert len({c.group for c in corpus.clips()}) == SIZE


def test_splits_by_name(tmp_path):
    whole = data_set()
    parted(whole, train=4, other=4, held=4).save_to_disk(tmp_path / "set")
    corpus = load(tmp_path / "set")
    assert corpus.splits() == ("train",)
    assert sum("left out" in notice for notice in corpus.notices) == 2
    mapped = load(tmp_path / "set", splits={"train": "train", "dev": "other", "test": "held"})
    check_corpus(mapped)
    with pytest.raises(CorpusError, match="no split 'hold': did you mean 'held'"):
        load(tmp_path / "set", splits={"test": "hold"})
    with pytest.raises(CorpusError, match=r"corpus\.splits\.tset: did you mean 'test'"):
        load(tmp_path / "set", splits={"tset": "held"})
    parted(whole, dev=6, validation=6).save_to_disk(tmp_path / "two")
    with pytest.raises(CorpusError, match="two splits mean 'dev'"):
        load(tmp_path / "two")
    parted(whole, a=6, b=6).save_to_disk(tmp_path / "odd")
    with pytest.raises(CorpusError, match=r"its splits are a, b.*splits\.train=a"):
        load(tmp_path / "odd")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"audio": "adio"}, "no column 'adio' in 'all': did you mean 'audio'"),
        ({"labels": {"x": "sexe"}}, "no column 'sexe' in 'all': did you mean 'sex'"),
        ({"audio": "sex"}, "row 0 of 'all': no audio"),
        ({"id": "who"}, "two clips are called 's0' .column 'who'."),
    ],
)
def test_columns_that_can_not_serve_are_named(tmp_path, options, message):
    data_set().save_to_disk(tmp_path / "set")
    with pytest.raises(CorpusError, match=message):
        load(tmp_path / "set", **options)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ValueError("\n  a split is gone.\nand more"), "a split is gone"), (KeyError(), "KeyError")],
)
def test_of_what_the_library_says_the_first_line_is_told(tmp_path, replaced, error, reason):
    replaced("datasets.load_dataset", error)
    with pytest.raises(CorpusError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"hf:{tmp_path.as_posix()} can't be loaded (a folder): {reason}. Check the name, "
        "corpus.config and, for the hub, the connection and HF_TOKEN."
    )


def test_a_missing_extra_and_a_folder_without_data_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(CorpusError, match=r"can't be loaded \(a folder\)"):
        load(tmp_path)
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "datasets":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PluginError, match=r"pip install 'bab\[hf\]'"):
        load(tmp_path)


def test_a_root_may_be_a_name_on_the_hub(monkeypatch):
    """What isn't a folder is asked of the hub by its name, configuration and commit."""
    asked = []

    def answer(path, name, revision):
        asked.append((path, name, revision))
        return parted(data_set(), train=6, dev=2, test=4)

    monkeypatch.setattr(datasets, "load_dataset", answer)
    options = {"config": "hi", "revision": "v1", "speaker": "who"}
    corpus = open_corpus(CorpusConfig(name="hf", root="owner/name", options=options))
    assert asked == [("owner/name", "hi", "v1")]
    assert len(list(corpus.clips())) == SIZE
    with pytest.raises(CorpusError, match=r"^owner/name"):
        open_corpus(CorpusConfig(name="esc50", root="owner/name"))


def test_offline_asks_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set that isn't here is one quick error, without a connection."""
    import socket

    import datasets
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for module in (datasets.config, constants):  # which read it when they were imported
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)

    asked: list[object] = []

    def connect(self: socket.socket, address: object) -> None:
        asked.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: asked.append(a[0]) or [])
    config = CorpusConfig(name="hf", root="bab-tests/no-such-data-set", options={})
    with pytest.raises(CorpusError, match=r"--offline forbids asking"):
        open_corpus(config, Permissions(offline=True))
    assert asked == []
    assert not datasets.config.HF_HUB_OFFLINE and not constants.HF_HUB_OFFLINE  # as they were

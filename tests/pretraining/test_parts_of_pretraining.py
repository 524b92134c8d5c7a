"""Parts of a pretraining run by themselves: crops, what is heard, labels, sizes of steps."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from made_pretraining import GRID, clip, config

from bab.audio import reading
from bab.config.corpora import open_corpus
from bab.config.pretrain import AudioConfig, MaskConfig, PretrainTrain
from bab.core.errors import AudioError, ConfigError, CorpusError, LeakageError
from bab.core.seeds import derive
from bab.core.types import Clip
from bab.pretraining import labels
from bab.pretraining.crops import Crops, PretrainCollator, order_of
from bab.pretraining.data import Material, gather, refuse_twice
from bab.targets.job import TargetOptions


def crops(*ends: float, **options: Any) -> Crops:
    return Crops([clip(end) for end in ends], AudioConfig(**options), GRID)


# --- crops


@pytest.mark.parametrize(
    ("options", "ends", "kept", "seconds"),
    [
        ({"minimum": 1.0}, (0.999, 1.0, 8.0, 9.0), [0, 1, 2], [1.0, 8.0, 8.0]),
        ({"minimum": 0.001}, (0.024, 0.025), [0], [0.025]),  # a field of 400 samples, at least
        ({"crop": None}, (3.0, 60.0), [0, 1], [3.0, 60.0]),
        ({"crop": 8.0}, (8.0, 11.9, 12.1, 20.1), [0, 1, 2, 2, 3, 3, 3], [8.0] * 7),
        ({"crop": 8.0, "per_clip": 2}, (8.0, 8.5), [0, 1, 1], [8.0] * 3),
    ],
)  # fmt: skip
def test_clips_that_are_long_enough_and_how_often(
    options: dict[str, Any], ends: tuple[float, ...], kept: list[int], seconds: list[float]
) -> None:
    made = crops(*ends, **options)
    assert made.short == len(ends) - len(made.clips)
    assert made.places == kept
    assert [made.seconds(place) for place in range(len(kept))] == seconds


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """6 s whose samples say where they stand."""
    soundfile.write(tmp_path / "r.wav", np.arange(96000) / 1e5, 16000, subtype="FLOAT")
    return tmp_path / "r.wav"


def test_a_crop_is_its_stretch_and_a_short_clip_is_itself(ramp: Path) -> None:
    made = Crops([clip(4.0, 1.0, str(ramp))], AudioConfig(crop=2.0, rms=0.0), GRID)
    for seed in range(12):
        got, wave = made.crop(0, (seed,))
        first = round(got.start * 16000)
        assert (first - 16000) % 320 == 0 and 16000 <= first <= 32000
        assert (got.end - got.start, len(wave)) == (pytest.approx(2.0), 32000)
        np.testing.assert_allclose(wave[[0, -1]], np.array([first, first + 31999]) / 1e5, atol=1e-6)
    for end in (3.0, 3.0 + 319 / 16000):  # no other place on the raster
        whole = Crops([clip(end, 1.0, str(ramp))], AudioConfig(crop=2.0, rms=0.0), GRID)
        got, wave = whole.crop(0, (1,))
        assert got == whole.clips[0] and len(wave) == round((end - 1.0) * 16000)


def test_a_quiet_crop_is_drawn_so_often_and_no_more(
    ramp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[float] = []

    def read(path: str, start: float, end: float, rate: int) -> Any:
        reads.append(start)
        return np.full(round((end - start) * rate), 0.25, np.float32)

    monkeypatch.setattr(reading, "read", read)
    for rms, retries, drawn in ((0.25, 3, 1), (0.2501, 3, 4), (0.2501, 0, 1), (0.0, 3, 1)):
        made = Crops([clip(6.0)], AudioConfig(crop=2.0, rms=rms, retries=retries), GRID)
        reads.clear()
        got, _ = made.crop(0, ("s",))
        assert len(reads) == drawn and got.start == reads[-1]
        assert len(set(reads)) == drawn  # each draw is another


@pytest.mark.parametrize(
    ("train", "parts", "said"),
    [
        ({"seconds": 16.0}, 2, ""),
        ({"seconds": 15.9}, 2, "train.seconds=15.9: a step must hold 2 examples (one per process "
         "and micro-batch) of up to 8.0 s: raise it, or lower audio.crop"),
        ({"batch": 4}, 4, ""),
        ({"batch": 3}, 4, "train.batch=3: 4 processes x micro-batches need that many examples"),
    ],
)  # fmt: skip
def test_a_step_holds_an_example_for_each_part(
    train: dict[str, Any], parts: int, said: str
) -> None:
    made = crops(*[8.0] * 9, 3.0)
    if not said:
        epoch, places = order_of(made, PretrainTrain(**train), parts, 0).at(0)
        assert epoch == 0 and len(places) >= parts
        return
    with pytest.raises(ConfigError) as raised:
        order_of(made, PretrainTrain(**train), parts, 0)
    assert str(raised.value) == said
    with pytest.raises(CorpusError) as error:
        order_of(crops(0.5), PretrainTrain(**train), parts, 0)
    assert str(error.value) == ("there is nothing to pretrain on: no clip of train is long enough")


def test_a_batch_is_padded_and_says_what_is_hidden(ramp: Path) -> None:
    clips = [clip(1.0, path=str(ramp), name="a"), clip(2.5, path=str(ramp), name="b")]

    class Labels:
        def labels(self, clip: Clip, frames: int) -> torch.Tensor:
            return torch.arange(frames) + (100 if clip.id == "b" else 0)

    made = Crops(clips, AudioConfig(crop=None), GRID)
    store: Any = Labels()
    batch = PretrainCollator(made, MaskConfig(prob=0.5), store, 7)([1, 0], 2, 9)
    assert batch.clips == (clips[1], clips[0]) and batch.step == 9
    assert batch.inputs.lengths.tolist() == [40000, 16000]
    assert batch.target_lengths.tolist() == [124, 49]
    assert not batch.inputs.samples[1, 16000:].any()  # type: ignore[union-attr]
    assert batch.targets[0].tolist() == [*range(100, 224)]
    assert batch.targets[1].tolist() == [*range(49), *[0] * 75]
    assert batch.mask is not None and batch.mask.shape == (2, 124)
    assert batch.mask[1, :49].any() and not batch.mask[1, 49:].any()
    plain = PretrainCollator(made, MaskConfig(prob=0.5), None, 7)([1, 0], 2, 9)
    assert plain.targets.dtype == torch.long and not plain.targets.any()
    assert torch.equal(plain.mask, batch.mask) and plain.seeds == batch.seeds  # type: ignore[arg-type]


def test_twenty_crops_in_a_row_that_can_not_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[str] = []

    def read(path: str, *rest: Any) -> Any:
        tried.append(path)
        raise AudioError(f"{path} is broken")

    monkeypatch.setattr(reading, "read", read)
    made = Crops([clip(3.0, path=f"{i}.wav") for i in range(4)], AudioConfig(), GRID)
    collate = PretrainCollator(made, MaskConfig(), None, 7, skip_bad=True)
    with pytest.raises(AudioError) as raised:
        collate([2], 0, 0)
    assert len(tried) == 20 and tried[0] == "2.wav" and set(tried) == set(collate.failed)
    last = [*collate.failed.values()][-1]
    assert str(raised.value) == f"20 crops in a row couldn't be read, the last: {last}"
    assert collate.failed["1.wav"] == "1.wav is broken"


def test_another_crop_in_place_of_one_that_can_not_be_read_has_a_seed_of_its_own() -> None:
    made: Any = Crops([clip(3.0, path=f"{i}.wav") for i in range(4)], AudioConfig(), GRID)
    asked: list[tuple[int, tuple[object, ...]]] = []

    def crop(place: int, seed: tuple[object, ...]) -> Any:
        asked.append((place, seed))
        if len(asked) < 4:
            raise AudioError("broken")
        return made.clips[made.places[place]], np.zeros(16000, np.float32)

    made.crop = crop
    batch = PretrainCollator(made, MaskConfig(), None, 7, skip_bad=True)([2], 5, 9)
    (first, seed), *others = asked
    assert first == 2 and [own for _, own in others] == [(*seed, n) for n in (1, 2, 3)]
    drawn = [random.Random(derive(*seed, "instead", n)).randrange(4) for n in (0, 1, 2)]
    assert [place for place, _ in others] == drawn and len(batch.clips) == 1
    asked.clear()
    PretrainCollator(made, MaskConfig(), None, 8, skip_bad=True)([2], 5, 9)
    assert asked[0][1] != seed  # of another run


# --- what is heard


def folder_of(folder: Path, rows: dict[str, str], seconds: float = 2.0) -> Path:
    """A manifest: clip -> its split ("": none), each of a group of its own."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(rows):
        noise = np.random.default_rng(number).normal(0, 0.1, round(16000 * seconds))
        soundfile.write(folder / f"{name}.wav", noise, 16000)
    split = any(rows.values())
    lines = [f"{n},{n}.wav,g{n}" + f",{s}" * split for n, s in rows.items()]
    (folder / "m.csv").write_text("\n".join(["id,path,group" + ",split" * split, *lines]) + "\n")
    return folder / "m.csv"


def heard(path: Path, *sets: str) -> Material:
    made = config(*sets, corpus=f"manifest:{path}")
    return gather(made, [open_corpus(made.corpus)], lambda *a: None)


def ids(clips: list[Clip]) -> str:
    return "".join(sorted(one.id for one in clips))


def test_given_splits_are_kept_and_a_test_is_left_out(tmp_path: Path) -> None:
    rows = {"a": "train", "b": "train", "c": "dev", "d": "test"}
    for use in ("train", "all"):
        got = heard(folder_of(tmp_path, rows), f"use={use}")
        assert (ids(got.train), ids(got.dev), got.skipped) == ("ab", "c", {})
    assert len(got.heard) == 2  # of train alone


def test_broken_files_of_train_and_of_dev_are_named_or_left_out(tmp_path: Path) -> None:
    rows = {"a": "train", "b": "train", "c": "dev", "d": "dev", "e": "test"}
    path = folder_of(tmp_path, rows)
    for bad in ("b", "d", "e"):
        (tmp_path / f"{bad}.wav").write_text("no audio")
    with pytest.raises(AudioError, match=r"b\.wav"):
        heard(path)
    got = heard(path, "skip_bad=true")
    assert (ids(got.train), ids(got.dev)) == ("a", "c")
    assert sorted(Path(name).name for name in got.skipped) == ["b.wav", "d.wav"]


@pytest.mark.parametrize(
    ("error", "given", "listed", "whole"),
    [
        (CorpusError, False, (), True),
        (CorpusError, True, ("train",), True),
        (CorpusError, True, ("train", "test"), False),
        (CorpusError, True, (), False),
        (LeakageError, False, (), False),
        (LeakageError, True, ("train",), False),
    ],
)
def test_what_can_not_be_divided_is_used_whole_and_what_leaks_is_not(
    tmp_path: Path, error: type[Exception], given: bool, listed: tuple[str, ...], whole: bool
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 32000), 16000)

    class Undivided:
        name, splits_given = "made", given

        def clips(self, split: str | None = None) -> list[Clip]:
            if split:
                raise error(f"no {split}")
            return [clip(2.0, path=str(path))]

    corpus: Any = Undivided()
    corpus.listed = listed
    if not whole:
        with pytest.raises(error, match="no train"):
            gather(config("use=train"), [corpus], lambda *a: None)
        return
    got = gather(config("use=train"), [corpus], lambda *a: None)
    assert (len(got.train), got.dev) == (1, [])


def test_a_digest_stands_for_the_audio_and_its_places(tmp_path: Path) -> None:
    rows = {"a": "train", "b": "train", "c": "dev"}
    path = folder_of(tmp_path / "one", rows)
    first = heard(path)
    same = heard(folder_of(tmp_path / "two", rows))
    assert same.digest == first.digest and same.heard == first.heard  # wherever it lies
    other = path.read_text()
    digests = {first.digest}
    for old, new in (("a,a.wav,ga", "a,a.wav,gx"), ("c,c.wav,gc,dev", "c,c.wav,gc,train")):
        path.write_text(other.replace(old, new))
        digests.add(heard(path).digest)
    path.write_text(other)
    soundfile.write(path.parent / "a.wav", np.zeros(32000), 16000)
    assert len(digests | {heard(path).digest}) == 4


def test_progress_of_the_checks_is_told(tmp_path: Path) -> None:
    told: list[tuple[Any, ...]] = []
    rows = {"a": "train", "b": "dev", "c": "test"}
    made = config(corpus=f"manifest:{folder_of(tmp_path, rows)}")
    gather(made, [open_corpus(made.corpus)], lambda *given: told.append(given))
    assert {(what, unit) for what, _, _, unit in told} == {
        ("checking files", "files"),
        ("taking checksums", "files"),
    }
    assert all(done <= total for _, done, total, _ in told)


def test_a_corpus_that_is_named_twice(tmp_path: Path) -> None:
    one, other = (
        SimpleNamespace(name="rttm", root=tmp_path / "x"),
        SimpleNamespace(name="rttm", root=tmp_path / "y"),
    )
    kaldi = SimpleNamespace(name="kaldi", root=tmp_path / "x")
    given: Any = [one, other, kaldi]
    refuse_twice(given)
    with pytest.raises(ConfigError) as raised:
        refuse_twice([*given, one])
    assert str(raised.value) == (
        f"--corpus rttm:{tmp_path / 'x'} stands twice: name each corpus once"
    )


# --- labels


def test_labels_need_a_layer_and_are_kept_apart_by_what_they_depend_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(labels, "make", lambda *given: asked.append(given))
    looked: list[Any] = []

    class Store(type(tmp_path)):  # a folder that is looked into
        require = looked.append

    monkeypatch.setattr(labels, "TargetStore", Store)
    clips = [clip(2.0)]

    def made(*sets: str, digest: str = "d1") -> Any:
        whole = config(f"runs={tmp_path}", "device=cpu", *sets, objective="masked")
        return labels.targets_for(whole, clips, digest, lambda *a: None)

    with pytest.raises(ConfigError) as raised:
        made("targets.encoder=fbank")
    assert str(raised.value) == "targets.encoder=fbank: which layer? Give targets.layer"
    layer = ("targets.encoder=fbank", "targets.layer=0")
    more = ("targets.sample_hours=2", "targets.clusters=3", "seed=4", "skip_bad=true")
    folders = [
        made(*layer), made(*layer, *more), made(*layer, digest="d2"), made(*layer, "seed=1"),
        made("targets.encoder=mfcc"), made(*layer),
    ]  # fmt: skip
    assert len(set(folders)) == 5 and folders[-1] == folders[0]
    assert all(f.parent == tmp_path / "targets" and len(f.name) == 12 for f in folders)
    heard, features, folder, options, _, _ = asked[1]
    assert (heard, folder, features.dim, features.layer) == (clips, folders[1], 240, 0)
    assert options == TargetOptions(3, 4, sample_hours=2.0, skip_bad=True, rank=0, world=1)
    assert asked[0][3] == TargetOptions(100, 0, sample_hours=20.0, skip_bad=False)
    assert made("targets.folder=~/there") == Path("~/there").expanduser() and len(asked) == 6
    assert looked == [clips]  # what was just made has all

"""A pretraining run: the sizes of its steps, what it says, where it stands, who may not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from made_pretraining import GRID, TINY, clip, config
from places import SAMPLES

from bab.core.errors import BabError, ConfigError
from bab.core.record import RunInfo
from bab.core.types import Permissions
from bab.pretraining import runner
from bab.pretraining.data import Material
from bab.pretraining.runner import pretrain
from bab.pretraining.running import Pretraining, Running


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


def running(tmp_path: Path, *sets: str, **life: Any) -> Any:
    """A run's settings, on a machine that is made up."""
    handle = SimpleNamespace(
        num_processes=life.get("processes", 1), process_index=0,
        device=torch.device(life.get("device", "cpu")),
    )  # fmt: skip
    material = Material(life.get("train", []), life.get("dev", []), {}, "d", frozenset())
    encoder: Any = SimpleNamespace(grid=GRID, resolved="hubert:x", parameters=list)
    watchers = SimpleNamespace(said=[])
    watchers.bab_notice = lambda run, message: watchers.said.append(message)
    own: Any = SimpleNamespace(accelerator=handle, watchers=watchers, main=True)
    objective: Any = SimpleNamespace(groups=life.get("groups", 2), parameters=list)
    info: Any = SimpleNamespace(folder=str(tmp_path))
    return Running(config(*sets), encoder, objective, None, material, own, info, tmp_path)


@pytest.mark.parametrize(
    ("sets", "processes", "parts"),
    [
        ((), 1, 1),
        (("train.accumulation=3",), 1, 3),
        (("train.micro_seconds=32", "train.batch=16"), 1, 4),  # 128 s
        (("train.micro_seconds=31.9", "train.batch=16"), 1, 5),
        (("train.micro_seconds=32", "train.batch=16"), 2, 2),
        (("train.micro_seconds=1000", "train.accumulation=3"), 1, 3),
        (("train.micro_seconds=50", "train.seconds=100"), 1, 2),
        (("train.micro_seconds=50", "train.seconds=101", "audio.crop=null"), 1, 3),
    ],
)
def test_micro_batches_fit_the_memory(
    tmp_path: Path, sets: tuple[str, ...], processes: int, parts: int
) -> None:
    assert running(tmp_path, *sets, processes=processes).accumulation() == parts


def test_micro_batches_of_clips_of_any_length_are_not_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        running(tmp_path, "train.micro_seconds=9", "audio.crop=null").accumulation()
    assert str(raised.value) == (
        "train.micro_seconds: how long a step is isn't known: give train.seconds, or audio.crop "
        "(it is None)"
    )


@pytest.mark.parametrize(
    ("sets", "device", "processes", "seconds"),
    [
        (("train.batch=12",), "cuda", 1, "96"),
        (("train.batch=13",), "cuda", 1, None),
        (("train.batch=12",), "cpu", 1, None),
        (("train.batch=13",), "cuda", 2, "52"),
        (("train.batch=25", "train.accumulation=2"), "cuda", 1, None),
        (("train.batch=24", "train.accumulation=2"), "cuda", 1, "96"),
        (("audio.crop=null",), "cuda", 1, None),
    ],
)
def test_a_gpu_that_would_mostly_wait_is_told_of(
    tmp_path: Path, sets: tuple[str, ...], device: str, processes: int, seconds: str | None
) -> None:
    made = running(tmp_path, *sets, device=device, processes=processes)
    lines = [line for line in made.opening([], True) if "micro-batch" in line]
    assert lines == (
        []
        if seconds is None
        else [
            f"a micro-batch holds {seconds} s of audio: a GPU needs about 100 to be busy. Raise "
            "train.batch (or train.seconds), or lower train.accumulation"
        ]
    )


def test_what_was_understood_is_said_before_anything_slow(tmp_path: Path) -> None:
    hour = [clip(5400.0), clip(1800.0, name="d")]
    made = running(tmp_path, "seed=3", train=hour, dev=hour[1:])
    corpora: Any = [
        SimpleNamespace(name="rttm", notices=("a notice",)),
        SimpleNamespace(name="kaldi", notices=()),
    ]
    made.encoder.parameters = lambda: [torch.zeros(3, 4)]
    made.objective.parameters = lambda: [torch.zeros(7)]
    made.material.skipped.update({"a.wav": "x", "b.wav": "y"})
    assert [*made.opening(corpora, False)] == [
        "encoder hubert:x (12 parameters)",
        "objective contrastive (7 weights of its own, new)",
        "corpus rttm + kaldi: 2.00 h to train on, 0.50 h of dev",
        "device cpu, seed 3",
        f"folder {tmp_path}",
        "a notice",
        "2 unreadable files left out: a.wav, b.wav",
    ]
    lines = [*made.opening(corpora, True)]
    assert lines[1] == "objective contrastive (7 weights of its own, taken from the checkpoint)"


@pytest.mark.parametrize(("groups", "said"), [(2, 2), (0, 0), (None, 0), ("two", 0)])
def test_groups_of_a_quantiser(tmp_path: Path, groups: Any, said: int) -> None:
    assert running(tmp_path, groups=groups).groups == said


def test_without_dev_audio_no_dev_loss_is_measured(tmp_path: Path) -> None:
    made = running(tmp_path, dev=[clip(0.5)])
    assert made.evaluation(Pretraining(made.encoder)) is None
    assert made.life.watchers.said == ["no dev clip is long enough: no dev loss is measured"]


def test_an_ensemble_or_a_loss_of_labels_can_not_pretrain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = {"observers": [], "device": "cpu"}
    for change, said in (
        ({"encoder": "hubert:random-tiny+wavlm"},
         "ensemble 'hubert:random-tiny+wavlm:random-tiny' can't be pretrained: name one encoder"),
        ({"objective": "ctc"},
         "objective 'ctc' learns from labels: `bab run` uses it. `bab pretrain` takes contrastive "
         "or masked"),
        ({"corpus": "rttm", "also": ["kaldi", "rttm"]},
         f"--corpus rttm:{SAMPLES / 'rttm'} stands twice: name each corpus once"),
    ):  # fmt: skip
        with pytest.raises(BabError) as raised:
            pretrain(config(**{**asked, **change}))
        assert str(raised.value) == said
    assert not (tmp_path / "runs").exists()


def test_a_folder_is_named_by_what_was_heard_and_by_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """runs/pretrain/<corpora>/<encoder>/<id>; a finished run is read from there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Running, "train", lambda self: {"format": 1, "id": self.info.id})
    path = folder_of(tmp_path / "set", dict.fromkeys("abc", "train"))
    seen = set()
    for corpus, also, name in (
        ("rttm", [], "rttm-sample"),
        (f"manifest:{path}", [], "manifest-m"),
        (f"manifest:{path}", ["rttm"], "manifest-m+rttm"),
    ):
        more = {"observers": [], "device": "cpu", "also": also}
        result, folder = pretrain(config(corpus=corpus, **more))
        assert folder.parts[:3] == ("runs", "pretrain", name)
        assert folder.parts[3].startswith("hubert-random-tiny") and folder.name == result["id"]
        seen.add(folder.name)
    assert len(seen) == 3
    (folder / "pretrain.json").write_text(json.dumps({"found": 1}))
    assert pretrain(config(corpus=corpus, **more)) == ({"found": 1}, folder)


def test_what_a_run_is_begun_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine, the observers and the corpora are asked for as the settings say."""
    monkeypatch.chdir(tmp_path)
    asked: dict[str, Any] = {}

    def noted(name: str) -> Any:
        real = getattr(runner, name)

        def call(*given: Any, **more: Any) -> Any:
            asked[name] = (given, more)
            return real(*given, **more)

        monkeypatch.setattr(runner, name, call)

    for name in ("set_up", "lifecycle", "open_corpus", "open_corpora", "build_encoder", "freeze"):
        noted(name)
    told: list[RunInfo] = []
    real = Running.opening
    monkeypatch.setattr(
        Running, "opening", lambda self, *a: told.append(self.info) or real(self, *a)
    )
    monkeypatch.setattr(Running, "train", lambda self: {"id": self.info.id})
    sets = ("offline=true", "train.deterministic=true", "train.steps=7", "freeze=conv")
    corpus = f"manifest:{folder_of(tmp_path / 'set', {'a': 'train'})}"
    sets = (*sets, TINY, "encoder.layerdrop=0.1")
    made = config(*sets, corpus=corpus, observers=["jsonl"], device="cpu")
    result, folder = pretrain(made)
    assert asked["set_up"] == (("cpu", True), {})
    assert asked["lifecycle"] == (("cpu", made.train.precision, True, ("jsonl",)), {})
    offline = Permissions(offline=True)
    assert asked["open_corpus"] == ((made.corpus, offline), {})
    assert asked["open_corpora"] == (((),), {"permissions": offline})
    given = made.encoder
    assert asked["build_encoder"][0] == ("hubert", "random-tiny", given.options, True, False)
    assert asked["freeze"][0][1] == "conv"
    (info,) = told
    assert info == RunInfo(
        result["id"], str(folder), "pretrain", "manifest", "hubert:random-tiny", 7,
        made.model_dump(mode="json"), "loss",
    )  # fmt: skip
    pretrain(config(TINY, corpus=corpus, observers=[], device="cpu"))
    assert asked["lifecycle"][0][2] is False  # every layer has a gradient in every step
    left = folder / "checkpoints"
    left.mkdir()
    (folder / "pretrain.json").write_text("{}")
    assert pretrain(made) == ({}, folder) and left.exists()
    assert pretrain(made, force=True) == (result, folder)
    assert not left.exists() and not (folder / "pretrain.json").exists()

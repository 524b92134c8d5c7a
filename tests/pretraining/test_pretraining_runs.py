"""A pretraining run: the sizes of its steps, what it says, where it stands, who may not."""

from __future__ import annotations

import json
import math
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
from bab.core.seeds import derive
from bab.core.types import Batch, Permissions, Waves
from bab.pretraining import runner
from bab.pretraining import running as runs
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


def test_what_is_trained_with_and_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that the trainer is handed, and every file and fact afterwards."""
    clips = [clip(4.0, name="a"), clip(0.5, name="short"), clip(9.0, name="b")]
    sets = ("train.steps=5", "seed=9", "keep=best", "export_dtype=float16", "skip_bad=true")
    made = running(tmp_path, *sets, train=clips, dev=[clip(2.0, name="d")])
    made.material.skipped["x.wav"] = "x.wav: broken"
    object.__setattr__(made.material, "heard", frozenset({"0" * 32}))
    life, asked, ended = made.life, [], []  # type: ignore[var-annotated]
    life.stop = lambda: False
    life.watchers.join = lambda one: asked.append(one)
    life.accelerator.wait_for_everyone = lambda: ended.append("together")
    made.info.id = "i"
    made.objective.extras = lambda: {"e": 1}
    made.encoder.export = lambda *given: given[0].mkdir(exist_ok=True) or ended.append(given)
    monkeypatch.setattr(runs, "watch_objective", lambda one: asked.append(one))
    monkeypatch.setattr(runs, "same_checkpoint", lambda *given: asked.append(given))
    monkeypatch.setattr(runs.Watch, "told", lambda self, run, wait: ended.append((run, wait)))
    monkeypatch.setattr(runs.Watch, "leave", lambda self: ended.append("left"))
    places = tmp_path / "checkpoints"

    class Fits:
        def __init__(self, training: Any) -> None:
            asked.append(training)

        def fit(self) -> Any:
            places.mkdir()
            made.collate.failed["b.wav"] = "b.wav: lost"
            return SimpleNamespace(step=5, best_metrics={"loss": 2.0}, audio_seconds=7200.0,
                                   seconds=1.5)  # fmt: skip

    monkeypatch.setattr(runs, "Trainer", Fits)
    result = made.train()
    watch, objective, same, training = asked
    assert (watch.config, watch.folder, watch.groups) == (made.config, tmp_path, 2)
    assert watch.watchers is life.watchers and watch.export == made.export and not watch.beside
    assert objective is made.objective and same == (places, life.accelerator)
    assert training.model.encoder is made.encoder and training.objective is made.objective
    assert (training.config, training.seed, training.folder) == (made.config.train, 9, places)
    assert training.accelerator is life.accelerator and training.watchers is life.watchers
    assert (training.info, training.stop, training.keep) == (made.info, life.stop, "best")
    assert training.evaluate is not None and training.doubt([]) == ""
    assert life.watchers.said == [
        "1 clip shorter than audio.minimum left out", "used in part: b.wav: lost",
    ]  # fmt: skip
    model = (tmp_path / "model", {"e": 1}, "float16")
    assert ended == [(made.info, True), "left", model, "together"]
    told = json.loads((tmp_path / "pretrain.json").read_text())
    assert told == json.loads(json.dumps(result)) and not places.exists()
    assert 0 <= result.pop("wall_seconds") < 60 and "torch" in result.pop("versions")
    assert result.pop("config") == made.config.model_dump(mode="json")
    assert result.pop("device") and isinstance(result.pop("cost"), dict)
    assert result == {
        "format": 1, "id": "i", "encoder": "hubert:x", "objective": "contrastive",
        "corpora": ["rttm"], "corpus_digest": "d", "steps": 5, "dev": {"loss": 2.0},
        "audio_hours": 2.0, "train_seconds": 1.5, "clips": {"train": 3, "dev": 1}, "short": 1,
        "skipped": {"x.wav": "x.wav: broken", "b.wav": "b.wav: lost"}, "targets": "",
    }  # fmt: skip
    heard = json.loads((tmp_path / "model" / "heard.json").read_text())
    assert heard == {"format": 1, "digest": "blake2b-128 of a file", "files": ["0" * 32]}


class Collates:
    """In PretrainCollator's place: keeps what it is asked for."""

    made: list[Collates]

    def __init__(self, *given: Any) -> None:
        self.given, self.asked = given, []  # type: ignore[var-annotated]
        self.made.append(self)

    def __call__(self, places: Any, epoch: int, step: int) -> Any:
        self.asked.append((list(places), epoch, step))
        empty = torch.zeros(0)
        return Batch(Waves(empty, empty), empty, empty, (), step)


@pytest.fixture
def collates(monkeypatch: pytest.MonkeyPatch) -> list[Collates]:
    Collates.made = []
    monkeypatch.setattr(runs, "PretrainCollator", Collates)
    return Collates.made


def test_dev_is_always_the_same_crops(
    tmp_path: Path, collates: list[Collates], monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = [clip(seconds, name=f"d{seconds}") for seconds in (5.0, 30.0, 2.0, 6.0, 40.0)]
    sets = ("audio.crop=null", "dev_seconds=1000", "seed=3", "skip_bad=true", "mask.prob=0.5")
    made = running(tmp_path, *sets, dev=dev)
    handed: list[Any] = []
    told = {"loss": 2.5, "perplexity": 30.0}

    def losses(*given: Any) -> dict[str, float]:
        handed.append(given)
        return told

    monkeypatch.setattr(runs, "dev_losses", losses)
    scorer = Pretraining(made.encoder)
    evaluate = made.evaluation(scorer)
    assert evaluate(7) == (told, -2.5) and evaluate(9)[1] == -2.5
    (collate,) = collates
    crops, mask, targets, seed, skips = collate.given
    assert (crops.clips, targets, seed, skips) == (dev, None, derive(3, "dev"), True)
    assert mask is made.config.mask and mask.prob == 0.5
    # The shortest first; 64 s with the padding: 2, 5 and 6, then 30, then 40.
    plan = [([2, 0, 3], 0, 0), ([1], 0, 1), ([4], 0, 2)]
    assert collate.asked == plan * 2
    assert handed[0][:2] == (scorer, made.objective) and handed[0][3] is made.life.accelerator
    assert [[one.step for one in given[2]] for given in handed] == [[7] * 3, [9] * 3]
    told = {"loss": 2.5, "perplexity": 2.0}  # one code of each group
    assert evaluate(11)[1] == -math.inf
    few = running(tmp_path, *sets, "dev_seconds=6", dev=dev)
    few.evaluation(scorer)(1)
    assert len(collates[1].asked) == 1 and len(collates[1].asked[0][0]) == 1


def test_the_micro_batches_of_a_process(
    tmp_path: Path, collates: list[Collates], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def order_of(*given: Any) -> Any:
        asked.append(given)
        return SimpleNamespace(at=lambda step: (step // 3, [step, *range(10, 19)]))

    monkeypatch.setattr(runs, "order_of", order_of)
    made = running(tmp_path, "train.accumulation=2", "seed=3", processes=2)
    made.life.accelerator.process_index = 1
    crops: Any = SimpleNamespace()
    batches = made.batches(crops)
    assert asked == [(crops, made.config.train, 4, derive(3, "order"))]
    assert [one.step for one in batches(4)] == [4, 4]
    (collate,) = collates
    assert collate is made.collate
    assert collate.given == (crops, made.config.mask, None, 3, False)
    assert collate.asked == [([10, 14, 18], 1, 4), ([12, 16], 1, 4)]

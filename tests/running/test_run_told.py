"""What a run says of itself: its opening lines, its record's every field, its folder."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import soundfile
import torch

import bab
from bab.config.resolve import run_config
from bab.config.run import CorpusConfig, RunConfig
from bab.core.errors import ConfigError
from bab.core.record import RunInfo
from bab.core.types import Clip
from bab.data.splits import Fold
from bab.running import folder as folders
from bab.running import runner
from bab.running.context import Context
from bab.running.data import Data
from bab.running.doubts import doubts, notices
from bab.running.parts import Parts
from bab.running.saved import load_saved
from bab.running.session import Session


class Seen:
    """What an observer is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.progress: list[tuple[str, float, float, str]] = []
        self.info: Any = None

    @bab.hookimpl
    def bab_run_start(self, run: RunInfo) -> None:
        self.info = run

    @bab.hookimpl
    def bab_notice(self, message: str) -> None:
        self.lines.append(message)

    @bab.hookimpl
    def bab_progress(self, stage: str, done: float, total: float, unit: str) -> None:
        self.progress.append((stage, done, total, unit))


def corpus(top: Path) -> Path:
    """A second of noise by each of twelve people, two clips each, in three splits."""
    rows = ["path,split,speaker,gender,age"]
    for i in range(24):
        noise = np.random.default_rng(i).normal(0, 0.1 * (1 + i // 2 % 2), 16000)
        soundfile.write(top / f"{i}.wav", noise, 16000, subtype="PCM_16")
        split = ("train", "dev", "test")[i // 8]
        rows.append(f"{i}.wav,{split},s{i // 2},{('female', 'male')[i // 2 % 2]},{3 + i % 2}")
    (top / "clips.csv").write_text("\n".join(rows) + "\n")
    return top / "clips.csv"


SETS = ("train.steps=4", "train.eval_every=2", "train.batch=4", "encoder.cmvn=none")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A probe: its record, folder, configuration, and what was told."""
    top, seen = tmp_path_factory.mktemp("ran"), Seen()
    listed = corpus(top)
    asked = {"encoder": "fbank", "task": "gender", "corpus": f"manifest:{listed}", "observers": []}
    sets = [*SETS, f"cache.dir={top / 'cache'}"]
    config = run_config(None, {**asked, "runs": str(top / "runs")}, sets)
    record, folder = runner.run(config, watching=[seen])
    return SimpleNamespace(record=record, folder=folder, config=config, seen=seen, top=top)


def test_a_run_opens_with_what_was_understood(ran: Any) -> None:
    assert ran.seen.lines == [
        "encoder fbank (0 parameters), probe",
        f"task gender on manifest ({ran.top / 'clips.csv'}): 0.01 h of audio",
        "head pooled, device cpu, seed 0",
        f"folder {ran.folder}",
    ]
    info = ran.seen.info
    assert (info.id, info.folder, info.task, info.corpus) == (
        ran.record.id, str(ran.folder), "gender", "manifest",
    )  # fmt: skip
    assert (info.encoder, info.steps, info.primary, info.folds) == (
        "fbank",
        4,
        ran.record.primary,
        1,
    )
    assert info.config == ran.record.config
    stages = dict.fromkeys((stage, unit) for stage, _, _, unit in ran.seen.progress)
    assert [s for s, _ in stages] == [
        "checking files",
        "taking checksums",
        "features",
        "dev",
        "test",
    ]
    last = {stage: (done, total) for stage, done, total, _ in ran.seen.progress}
    assert last["features"] == (24.0, 24.0) and last["dev"] == last["test"] == (8.0, 8.0)


def test_a_record_says_all_of_a_run(ran: Any) -> None:
    record, config = ran.record, ran.config
    assert (record.status, record.task, record.corpus, record.encoder) == (
        "done", "gender", "manifest", "fbank",
    )  # fmt: skip
    assert (record.head, record.objective, record.mode, record.seed) == (
        "pooled", "cross_entropy", "probe", 0,
    )  # fmt: skip
    assert (record.protocol, record.split, record.leakage) == ("given", "test", False)
    task, kind = bab.load("tasks", "gender"), bab.load("datasets", "manifest")
    assert (record.task_version, record.corpus_version) == (task.version, kind.version)
    assert record.units == dict(task.units) and record.primary == task(task.Options()).primary
    assert record.higher_is_better is True
    assert record.labels == {"gender": ["female", "male"]}
    assert record.metrics == record.presets["default"]["metrics"]
    assert record.intervals == record.presets["default"]["intervals"]
    assert set(record.groups) == {f"s{i}" for i in range(8, 12)} == set(record.jackknife["groups"])
    assert record.jackknife["sizes"] == [2.0] * 4 and record.jackknife["unit"] == "speaker"
    assert set(record.subgroups) == {"gender", "age"}
    said = {row.split(",")[0]: row.split(",")[1] for row in lines(ran.folder)[1:]}
    right = {n: said[n] == ("female", "male")[int(n) // 2 % 2] for n in said}
    assert set(said) == {str(i) for i in range(16, 24)}
    assert record.metrics["accuracy"] == pytest.approx(sum(right.values()) / 8)
    for group, scores in record.groups.items():
        own = [right[str(i)] for i in range(16, 24) if f"s{i // 2}" == group]
        assert scores["accuracy"] == pytest.approx(np.mean(own))
    for age in ("3", "4"):
        own = [right[str(i)] for i in range(16, 24) if str(3 + i % 2) == age]
        assert record.subgroups["age"][age]["accuracy"] == pytest.approx(np.mean(own))
    matrix = record.confusion["gender"]
    assert sum(x for row in matrix.values() for x in row.values()) == 8
    assert set(record.dev) == set(record.metrics) and record.tuned == {"default": {}}
    eight = {"clips": 8, "hours": 0.0022}
    assert record.data == {
        "skipped": {}, "left_out": {}, "train": eight, "dev": eight, "test": eight,
    }  # fmt: skip
    cost, model = record.cost, load_saved(ran.folder).model
    trained = sum(p.numel() for part in (model.head, model.mix) for p in part.parameters())
    assert (cost["encoder_parameters"], cost["trained_parameters"]) == (0.0, trained)
    assert 0 <= cost["train_seconds"] <= cost["seconds"] < 600  # to the hundredth
    assert cost["encoder_audio_per_second"] > 1 and cost["peak_memory_gb"] > 0.1
    assert record.versions["torch"] and record.device.startswith("cpu (")
    assert (
        record.config == config.model_dump(mode="json") | {"cache": record.config["cache"]}
        and record.config["cache"]["dtype"] == "float32"
    )
    assert record.notices == [] and record.created[:2] == "20" and len(record.id) == 12
    assert record.encoder_fingerprint and len(record.corpus_digest) > 10


def lines(folder: Path) -> list[str]:
    return (folder / "predictions" / "default" / "predictions.csv").read_text().splitlines()


def test_a_finished_run_is_found_and_its_folder_holds_what_it_made(ran: Any) -> None:
    assert ran.folder == ran.top / "runs/gender/manifest-clips.csv/fbank" / ran.record.id
    there = sorted(
        p.relative_to(ran.folder).as_posix() for p in ran.folder.rglob("*") if p.is_file()
    )
    assert there == [
        ".lock", "model/model.json", "model/model.safetensors",
        "predictions/default/predictions.csv", "record.json",
    ]  # fmt: skip
    spec = json.loads((ran.folder / "model/model.json").read_text())
    assert (spec["run"], spec["pool"], spec["layers"], spec["tuned"]) == (
        ran.record.id, True, "mix", {"default": {}},
    )  # fmt: skip
    assert spec["labels"] == ran.record.labels and spec["view"]["window"] is None
    own, config = ran.record, ran.record.config
    assert (spec["resolved"], spec["fingerprint"]) == ("fbank", own.encoder_fingerprint)
    assert [spec[k] for k in ("encoder", "task", "head", "view", "layers")] == [
        config[k] for k in ("encoder", "task", "head", "view", "layers")
    ]
    assert (spec["task_version"], spec["notice"]) == (own.task_version, "")
    assert set(spec) == {
        "format", "encoder", "resolved", "fingerprint", "task", "task_version", "head", "layers",
        "view", "pool", "labels", "tuned", "run", "notice", "weights", "checksum",
    }  # fmt: skip
    before = (ran.folder / "record.json").stat().st_mtime_ns
    seen = Seen()
    again, folder = runner.run(ran.config, watching=[seen])
    assert (again.id, folder) == (ran.record.id, ran.folder) and seen.lines == []
    fresh, _ = runner.run(ran.config, force=True, fresh=[folder], watching=[seen])
    assert (ran.folder / "record.json").stat().st_mtime_ns == before and fresh.id == again.id


@pytest.mark.parametrize("protocol", ["given", "kfold"])
def test_a_solved_head_leaves_one_model_of_all_clips_after_several_folds(
    ran: Any, tmp_path: Path, protocol: str
) -> None:
    asked = {"encoder": "fbank", "task": "gender", "corpus": f"manifest:{ran.top / 'clips.csv'}"}
    sets = [
        *SETS,
        f"cache.dir={ran.top / 'cache'}",
        "head=logistic",
        f"protocol={protocol}",
        "folds=3",
    ]
    asked |= {"observers": [], "runs": str(tmp_path)}
    record, folder = runner.run(run_config(None, asked, sets))
    said = [line for line in record.notices if "fitted on all" in line]
    told = (
        "The model kept was fitted on all 24 clips after the folds; the figures are those of the 3 "
        "folds' models, each on clips it never met."
    )
    assert said == ([told] if protocol == "kfold" else [])
    assert (folder / "model" / "model.json").exists()
    assert len([*folder.glob("folds/*/model")]) == (3 if protocol == "kfold" else 0)
    clips = record.data["all" if protocol == "kfold" else "train"]["clips"]
    assert clips == (24 if protocol == "kfold" else 8) and record.cost["train_seconds"] >= 0


def test_features_alone_are_shared_out(ran: Any, tmp_path: Path) -> None:
    seen = Seen()
    config = ran.config.model_copy(
        update={"cache": ran.config.cache.model_copy(update={"dir": str(tmp_path)})}
    )
    hours = [runner.fill(config, number, 2, [seen]) for number in (0, 1)]
    assert hours == [pytest.approx(24 / 3600)] * 2
    done = [total for stage, at, total, _ in seen.progress if stage == "features" and at == total]
    assert sum(done) == 24.0 and len(done) == 2 and min(done) > 0
    with pytest.raises(ConfigError) as error:
        runner.fill(config.model_copy(update={"mode": "finetune"}), 0, 2)
    assert str(error.value) == (
        "a share of the features: mode finetune keeps none; mode=probe does"
    )


def clip(name: str, **changes: Any) -> Clip:
    return Clip(name, f"{name}.wav", 0.0, 1800.0, f"g{name}", **changes)


def opening(**changes: Any) -> list[str]:
    """The opening lines of a run that is made up."""
    values: dict[str, Any] = {
        "start": None,
        "skipped": {},
        "refused": {},
        "leakage": "",
        "doubts": {},
    }
    values |= {"corpus": CorpusConfig(name="rttm"), "test": None, "own": [], "notice": ""}
    values |= changes
    encoder = torch.nn.Linear(10, 10)
    encoder.resolved = "hubert:x"
    config = SimpleNamespace(
        mode="probe", corpus=values["corpus"], test_corpus=values["test"], seed=3,
        corpus_name="rttm", task=SimpleNamespace(name="vtc"), head=SimpleNamespace(name="frames"),
    )  # fmt: skip
    task = SimpleNamespace(notice=values["notice"])
    parts = SimpleNamespace(
        encoder=encoder,
        start=values["start"],
        corpus=SimpleNamespace(notices=values["own"]),
        task=task,
    )
    data = SimpleNamespace(
        clips=[clip("a"), clip("b")], skipped=values["skipped"], refused=values["refused"],
        leakage=values["leakage"],
    )  # fmt: skip
    context = SimpleNamespace(
        config=config, parts=parts, data=data, doubts=values["doubts"],
        accelerator=SimpleNamespace(device=torch.device("cpu")),
        info=SimpleNamespace(folder="runs/x"),
    )  # fmt: skip
    return list(runner._opening(cast(Context, context)))


def test_what_an_opening_says_where_there_is_more_to_say() -> None:
    first = "encoder hubert:x (110 parameters), probe"
    plain = [
        first, "task vtc on rttm (the shipped sample): 1.00 h of audio",
        "head frames, device cpu, seed 3", "folder runs/x",
    ]  # fmt: skip
    assert opening() == plain
    start = SimpleNamespace(name="fbank@1", spec={"notices": ["be careful"]})
    assert opening(start=start)[:3] == ["model fbank@1", "be careful", first]
    two = opening(corpus=CorpusConfig(name="rttm", root="/a"), test=CorpusConfig(name="rttm"))
    assert two[1] == "task vtc on rttm (/a → the shipped sample): 1.00 h of audio"
    refused = {f"why {i}": i + 1 for i in range(12)}
    more = opening(
        own=["a corpus's own"], skipped={"x.wav": "cut", "y.wav": "cut"}, refused=refused,
        leakage="LEAKAGE", doubts={"unseen": "made"}, notice="research only",
    )  # fmt: skip
    assert more[4:6] == ["a corpus's own", "2 unreadable files left out: x.wav, y.wav"]
    assert more[6] == "1 clip left out: why 0" and more[15] == "10 clips left out: why 9"
    assert more[16] == "LEAKAGE" and more[17].startswith("Split clip by clip")
    assert more[18:] == ["research only"]


# ------------------------------------------------------------------------------- doubts, settings


def test_what_can_be_doubted_of_test_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    from bab.running import doubts as doubting

    heard = {"one": frozenset({"h0", "h1", "h3"}), "two": frozenset({"h5"})}
    monkeypatch.setattr(doubting, "heard_by", lambda resolved: heard[resolved])
    clips = [clip(str(i), speaker="s") for i in range(6)]
    fold = Fold(clips[:1], clips[1:3], clips[3:])
    content = {c.path: f"h{c.id}" for c in clips}
    data = cast(Data, SimpleNamespace(folds=[fold], clips=clips, content=content))
    config = cast(RunConfig, SimpleNamespace(test_corpus=None))
    members = cast(Any, [SimpleNamespace(resolved="one"), SimpleNamespace(resolved="two")])
    said = doubts(config, members, data, True)
    assert said == {
        "heard": {
            "dev": {"files": 1, "of": 2, "such_as": "1.wav"},
            "test": {"files": 2, "of": 3, "such_as": "3.wav"},
        }
    }
    assert notices(said) == [
        "PRETRAINED ON: 1 of 2 dev files, such as 1.wav: without labels, but scores on what an "
        "encoder knows may be too high.",
        "PRETRAINED ON: 2 of 3 test files, such as 3.wav: without labels, but scores on what an "
        "encoder knows may be too high.",
    ]
    heard["one"] = heard["two"] = frozenset()
    assert doubts(config, members, data, True) == {} and notices({}) == []
    nobody = [Clip(str(i), f"{i}.wav", 0, 1, f"{i}.wav") for i in range(6)]
    unknown = cast(Data, SimpleNamespace(folds=[fold], clips=nobody, content={}))
    assert doubts(config, members, unknown, True) == {"unseen": "made"}
    assert doubts(config, members, unknown, False) == {"unseen": "given"}
    across = cast(RunConfig, SimpleNamespace(test_corpus="x"))
    assert doubts(across, members, unknown, True) == {}
    assert notices({"unseen": "given"}) == [
        "No speaker and no group is known: whether splits share a voice can't be seen "
        "(docs/corpora.md, Who is heard)."
    ]


def test_what_a_run_depends_on_is_in_its_id(ran: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    parts = session.parts(ran.config)

    def made(config: RunConfig = ran.config, digest: str = "d", **changes: Any) -> str:
        values = {name: getattr(parts, name) for name in Parts.__slots__} | changes  # type: ignore[attr-defined]
        return folders.run_id(config, Parts(**values), digest)

    moved = ran.config.corpus.model_copy(update={"root": "/elsewhere"})
    plain = made()
    assert plain == made(ran.config.model_copy(update={"corpus": moved})) and len(plain) == 12
    encoder, task, corpus_ = (
        SimpleNamespace(**{k: v})
        for k, v in (("fingerprint", "f"), ("version", "9"), ("version", "9"))
    )

    def begun(digest: str = "x", label: str = "a", **tuned: Any) -> str:
        labels = {"k": (label,)}
        return made(start=SimpleNamespace(digest=digest, labels=labels, tuned={"p": tuned}))

    ids = {
        plain, made(digest="e"), made(encoder=encoder), made(task=task), made(corpus=corpus_),
        begun(), begun("y"), begun(label="b"), begun(t=1),
        made(ran.config.model_copy(update={"seed": 1})),
    }  # fmt: skip
    assert len(ids) == 10
    monkeypatch.setattr(folders, "origin", lambda one: "mine 1 m:C" if one is parts.head else "")
    assert folders.plugins(parts) == {"head": "mine 1 m:C"} and made() != plain


def test_a_runs_folder_is_named_by_what_it_is(ran: Any) -> None:
    parts = cast(
        Parts, SimpleNamespace(called="hubert:base", encoder=SimpleNamespace(fingerprint="f" * 32))
    )

    def place(root: str | None, other: Any = None) -> str:
        config = SimpleNamespace(
            corpus=SimpleNamespace(name="rttm", root=root), test_corpus=other, runs="runs",
            task=SimpleNamespace(name="vtc"),
        )  # fmt: skip
        return folders.run_folder(cast(RunConfig, config), parts, "0123").as_posix()

    assert place(None) == "runs/vtc/rttm-sample/hubert-base/0123"
    assert place("/data/homes") == "runs/vtc/rttm-homes/hubert-base/0123"
    two = SimpleNamespace(name="childproject", root="~/corpus")
    assert place("/data/homes", two) == (
        "runs/vtc/rttm-homes-to-childproject-corpus/hubert-base/0123"
    )


def test_only_a_run_that_is_done_is_finished(tmp_path: Path, ran: Any) -> None:
    assert folders.finished(tmp_path) is None
    done = folders.finished(ran.folder)
    assert done is not None and done.id == ran.record.id
    (tmp_path / "sub").mkdir()
    for name in (".lock", "a.txt", "sub/b.txt", "record.json"):
        (tmp_path / name).write_text("x")
    folders.clear(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]
    folders.clear(tmp_path)

"""Whole pretraining runs on shipped samples: exported, resumed, continued, cut up, refused."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import forks
import numpy as np
import pytest
import soundfile
import torch
from no_space import no_file_over
from safetensors.torch import load_file

from bab.config.corpora import open_corpus
from bab.config.resolve import pretrain_config, run_config
from bab.config.run import CorpusConfig
from bab.core import registry
from bab.core.components import build_encoder
from bab.core.errors import AudioError, BabError, ConfigError, DiskFullError, LeakageError
from bab.core.observers import hookimpl, observers
from bab.core.record import RunInfo
from bab.core.types import Waves
from bab.plugins.datasets.rttm import Rttm
from bab.pretraining.data import gather, refuse_twice
from bab.pretraining.runner import pretrain
from bab.pretraining.running import Running
from bab.pretraining.watch import Watch

Go = Callable[..., tuple[dict[str, Any], Path]]
SIZE = (
    "{hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 48, "
    "conv_dim: [16, 16, 16, 16, 16, 16, 16], num_conv_pos_embeddings: 16, "
    "num_conv_pos_embedding_groups: 4}"
)
QUICK = (
    f"encoder.size={SIZE}", "encoder.dropout=0", "audio.crop=1.0", "train.batch=8",
    "train.steps=20", "train.eval_every=10", "train.lr=1e-3", "dev_seconds=8",
)  # fmt: skip
MASKED = (
    "hubert:random-tiny", "masked",
    ("targets.encoder=mfcc", "targets.clusters=12", "targets.sample_hours=0.02"),
)  # fmt: skip
CONTRASTIVE = ("wav2vec2:random-tiny", "contrastive", ("objective.codes=16",))
# Where two trainings are compared: a difference is there from the first step on.
FEW = ("train.steps=8", "train.eval_every=8")
BOTH = pytest.mark.parametrize("kind", [MASKED, CONTRASTIVE], ids=["masked", "contrastive"])


def command(kind: Any, *sets: str) -> list[str]:
    encoder, objective, own = kind
    found = ["pretrain", "--encoder", encoder, "--objective", objective, "--corpus", "rttm"]
    for text in (*QUICK, *own, *sets):
        found += ["--set", text]
    return found


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    """Pretrain as a user would, into tmp_path/runs."""
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def do(kind: Any, *sets: str, force: bool = False, **options: object) -> Any:
        encoder, objective, own = kind
        asked = {"encoder": encoder, "objective": objective, "corpus": "rttm", **options}
        asked.setdefault("observers", ["jsonl"])
        return pretrain(pretrain_config(None, asked, [*QUICK, *own, *sets]), force)

    return do


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def logged(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def loaded(folder: Path, name: str) -> Any:
    return build_encoder(name, str(folder / "model"), {}, True, False)


@BOTH
def test_a_run_leaves_an_encoder_that_every_command_loads(go: Go, kind: Any) -> None:
    result, folder = go(kind)
    assert result["steps"] == 20 and result["audio_hours"] == pytest.approx(20 * 8 / 3600, rel=1e-3)
    assert result["dev"]["loss"] > 0 and not (folder / "checkpoints").exists()
    steps = logged(folder, "step")
    assert [line["step"] for line in steps] == list(range(1, 21))
    wanted = {"loss", "accuracy", "perplexity", "mask_share", "grad_norm", "audio_hours"}
    assert wanted | {"audio_per_second"} <= set(steps[-1])
    assert 0.3 < np.mean([line["mask_share"] for line in steps]) < 0.8
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert [line["step"] for line in logged(folder, "evaluated")] == [10, 20]
    encoder = loaded(folder, kind[0].split(":")[0])
    assert encoder.dim == 32 and encoder.depth == 3
    waves = Waves(torch.randn(1, 16000) * 0.1, torch.tensor([16000]))
    assert torch.isfinite(encoder(waves).layers[-1]).all()


@BOTH
def test_a_finished_run_is_found_and_another_seed_is_another_run(go: Go, kind: Any) -> None:
    first, folder = go(kind, "train.steps=2", "train.eval_every=2")
    stamp = (folder / "pretrain.json").stat().st_mtime_ns
    again, same = go(kind, "train.steps=2", "train.eval_every=2")
    assert same == folder and again == first
    assert (folder / "pretrain.json").stat().st_mtime_ns == stamp
    assert go(kind, "train.steps=2", "train.eval_every=2", "seed=1")[1] != folder
    before = weights(folder)

    def stopped(self: Running) -> Any:
        raise BabError("stopped here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Running, "train", stopped)
        with pytest.raises(BabError, match="stopped here"):
            go(kind, "train.steps=2", "train.eval_every=2", force=True)
    assert not (folder / "pretrain.json").exists()  # nothing that isn't so is said meanwhile
    go(kind, "train.steps=2", "train.eval_every=2", force=True)
    assert (folder / "pretrain.json").stat().st_mtime_ns != stamp
    assert all(torch.equal(value, before[name]) for name, value in weights(folder).items())


@BOTH
def test_accumulation_changes_nothing(go: Go, kind: Any) -> None:
    # The diversity of codes is of a micro-batch's marginals: the one term that may differ.
    plain = ("objective.diversity_weight=0",) if kind is CONTRASTIVE else ()
    whole = weights(go(kind, *plain, *FEW)[1])
    parts = weights(go(kind, *plain, *FEW, "train.accumulation=4")[1])
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=1e-4, rtol=0, msg=name)


@BOTH
def test_two_processes_give_the_model_of_one(go: Go, kind: Any, tmp_path: Path) -> None:
    _, folder = go(kind, *FEW)
    expected, steps = weights(folder), logged(folder, "step")
    shutil.rmtree(folder)
    done = forks.ranks(2, [sys.executable, "-m", "bab", *command(kind, *FEW)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name, value in weights(folder).items():
        torch.testing.assert_close(value, expected[name], atol=1e-4, rtol=0, msg=name)
    both = logged(folder, "step")
    for key in ("loss", "mask_share", "audio_hours", "grad_norm"):
        assert both[-1][key] == pytest.approx(steps[-1][key], abs=1e-4, rel=1e-3), key


def test_interrupted_or_killed_it_goes_on_to_the_same_bytes(go: Go, tmp_path: Path) -> None:
    sets = ("train.steps=60", "train.save_every=5", "train.eval_every=30")
    _, folder = go(CONTRASTIVE, *sets)
    expected = (folder / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(folder)
    codes = []
    for number in (signal.SIGINT, signal.SIGKILL):
        before = sorted(folder.glob("checkpoints/step-*"))
        process = forks.Forked(
            [sys.executable, "-m", "bab", *command(CONTRASTIVE, *sets)], cwd=tmp_path
        )
        deadline = time.monotonic() + 90
        while sorted(folder.glob("checkpoints/step-*")) == before and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
        codes.append((process.communicate(60)[1], process.returncode))
    assert codes[0][1] == 130 and "the same command goes on from here" in codes[0][0], codes[0]
    assert "Traceback" not in codes[0][0] and codes[1][1] == -signal.SIGKILL
    assert "resuming from step" in codes[1][0]
    assert not (folder / "pretrain.json").exists()
    go(CONTRASTIVE, *sets)
    assert (folder / "model" / "model.safetensors").read_bytes() == expected


def test_on_a_full_disk_it_stops_and_goes_on_when_there_is_space(
    go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = ("train.steps=6", "train.save_every=2", "train.eval_every=6")
    _, folder = go(CONTRASTIVE, *sets)
    expected = (folder / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(folder)
    batches = Running.batches
    with ExitStack() as stack, monkeypatch.context() as patch:

        def filling(self: Running, crops: Any) -> Any:
            make, full = batches(self, crops), no_file_over(50_000)
            return lambda step: (step == 4 and stack.enter_context(full), make(step))[1]

        patch.setattr(Running, "batches", filling)
        with pytest.raises(DiskFullError) as caught:
            go(CONTRASTIVE, *sets)
    said = str(caught.value)
    assert str(folder / "checkpoints" / "step-") in said and caught.value.exit_code == 2, said
    assert re.search(r"can't be written \(.*it takes (more than )?\d+\.\d+ MB", said), said
    assert not list(folder.rglob(".tmp-*")) and not (folder / "pretrain.json").exists()
    kept = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
    assert kept and {int(name.partition("-")[2].split(".")[0]) for name in kept} <= {2, 4}
    go(CONTRASTIVE, *sets)
    assert (folder / "model" / "model.safetensors").read_bytes() == expected
    assert [line["step"] for line in logged(folder, "step")][-1] == 6


def test_reading_ahead_with_more_threads_changes_nothing(go: Go) -> None:
    one = weights(go(MASKED, *FEW)[1])
    result, folder = go(MASKED, *FEW, "train.workers=3", force=True)
    assert result["steps"] == 8
    assert all(torch.equal(value, one[name]) for name, value in weights(folder).items())


def test_continued_pretraining_takes_the_quantiser_along(go: Go, tmp_path: Path) -> None:
    _, first = go(CONTRASTIVE, "train.steps=2", "train.eval_every=2")
    held = weights(first)
    assert "quantizer.codevectors" in held and "project_q.weight" in held
    again = (f"wav2vec2:{first / 'model'}", "contrastive", ("objective.codes=16",))
    quick = [text for text in QUICK if not text.startswith("encoder.size")]
    asked = {
        "encoder": again[0],
        "objective": "contrastive",
        "corpus": "rttm",
        "observers": ["jsonl"],
    }
    sets = [*quick, "objective.codes=16", "train.steps=1", "train.lr=1e-12", "train.eval_every=1"]
    _, second = pretrain(pretrain_config(None, asked, sets))
    said = [line["message"] for line in logged(second, "notice")]
    assert any("taken from the checkpoint" in line for line in said)
    for name, value in weights(second).items():
        torch.testing.assert_close(value, held[name], atol=1e-6, rtol=0, msg=name)


@pytest.mark.usefixtures("forked_workers")
def test_a_probe_says_what_the_loss_is_worth(go: Go) -> None:
    quick = "probe.sets=[train.steps=5, train.eval_every=5]"
    _, folder = go(MASKED, "train.steps=5", "probe.every=3", quick, "probe.task=vtc")
    (probed,) = [x for x in logged(folder, "evaluated") if x["split"] == "probe/vtc"]
    assert probed["step"] == 3 and 0 <= probed["metrics"]["f1"] <= 1


def test_a_collapse_is_said_once() -> None:
    said: list[str] = []

    class Listener:
        @hookimpl
        def bab_notice(self, message: str) -> None:
            said.append(message)

    asked = {"encoder": "hubert", "objective": "contrastive", "corpus": "rttm"}
    info = RunInfo("x", ".", "pretrain", "rttm", "hubert", 500, {})
    watchers = observers([])
    watchers.join(Listener())
    watch = Watch(pretrain_config(None, asked), Path(), watchers, lambda folder: None, 2)
    for step in range(1, 200):
        watch.bab_step(info, step, {"perplexity": 2.0 if step > 60 else 30.0})
    assert len(said) == 1 and "collapsed" in said[0]
    assert "step 110" in said[0]  # fifty in a row


def test_dev_has_the_losses_of_the_steps_and_the_end_is_said(go: Go) -> None:
    _, folder = go(MASKED, "train.steps=4", "train.eval_every=4", "objective.feature_penalty=50")
    (dev,) = logged(folder, "evaluated")
    parts = [value for name, value in dev["metrics"].items() if name.startswith("loss/")]
    assert len(parts) == 2 and dev["metrics"]["loss"] == pytest.approx(sum(parts))
    assert logged(folder, "ended")[-1]["status"] == "done"


def test_a_collapsed_model_is_not_the_best(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([(5.0, 30.0), (0.0, 2.0), (4.0, 30.0)])  # all codes alike: nothing to tell apart

    def losses(*args: object) -> dict[str, float]:
        return dict(zip(("loss", "perplexity"), next(found), strict=True))

    monkeypatch.setattr("bab.pretraining.running.dev_losses", losses)
    _, folder = go(CONTRASTIVE, "train.eval_every=1", "train.steps=3")
    assert [line["best"] for line in logged(folder, "evaluated")] == [True, False, True]


def test_what_a_corpus_calls_test_is_never_heard(tmp_path: Path) -> None:
    config = pretrain_config(
        None, {"encoder": "hubert", "objective": "contrastive", "corpus": "rttm", "also": ["kaldi"]}
    )
    corpora = [open_corpus(CorpusConfig(name=name)) for name in ("rttm", "kaldi")]
    found = gather(config, corpora, lambda *a: None)
    names = {clip.id for clip in found.train} | {clip.id for clip in found.dev}
    assert {name.split("/")[0] for name in names} == {"rttm", "kaldi"}
    for corpus in corpora:
        tested = {f"{corpus.name}/{clip.id}" for clip in corpus.clips("test")}
        assert tested and not tested & names
    assert not {c.group for c in found.train} & {c.group for c in found.dev}


def test_mistakes_are_told_with_their_remedy(go: Go, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bab targets"):
        go(("hubert:random-tiny", "masked", ()))
    with pytest.raises(ConfigError, match=r"bab run.*contrastive or masked"):
        go(("hubert:random-tiny", "multilabel", ()))
    with pytest.raises(BabError, match="no targets there"):
        go(("hubert:random-tiny", "masked", ("targets.folder=nowhere",)))
    with pytest.raises(ConfigError, match=r"train\.second"):
        go(CONTRASTIVE, "train.second=5")
    with pytest.raises(ConfigError, match="no corpus is named"):
        pretrain_config(None, {"encoder": "hubert", "objective": "masked"})


def test_broken_short_and_silent_files(go: Go, tmp_path: Path) -> None:
    assert Rttm.sample is not None
    homes = Path(shutil.copytree(Rttm.sample, tmp_path / "homes"))
    names = (homes / "train.txt").read_text().split()
    files = {name: next((homes / "wav").glob(f"{name}.*")) for name in names}
    broken, silent = files[names[0]], files[names[1]]
    about = soundfile.info(silent)
    soundfile.write(silent, np.zeros(about.frames, np.float32), about.samplerate)
    whole = broken.read_bytes()
    broken.write_bytes(b"not audio")
    with pytest.raises(AudioError, match=broken.name):
        go(CONTRASTIVE, corpus=f"rttm:{homes}")
    few = ("train.steps=2", "train.eval_every=2")
    result, _ = go(CONTRASTIVE, *few, "skip_bad=true", corpus=f"rttm:{homes}")
    assert [Path(path).name for path in result["skipped"]] == [broken.name]
    broken.write_bytes(whole)
    result, folder = go(CONTRASTIVE, *few, "audio.crop=2", corpus=f"rttm:{homes}")
    assert result["skipped"] == {} and np.isfinite(result["dev"]["loss"])
    assert all(np.isfinite(line["loss"]) for line in logged(folder, "step"))


def test_a_leak_between_train_and_dev_is_refused(tmp_path: Path) -> None:
    assert Rttm.sample is not None
    homes = Path(shutil.copytree(Rttm.sample, tmp_path / "homes"))
    names = (homes / "train.txt").read_text().split()
    (homes / "dev.txt").write_text("\n".join(names[:1]) + "\n")
    config = pretrain_config(
        None, {"encoder": "hubert", "objective": "contrastive", "corpus": f"rttm:{homes}"}
    )
    with pytest.raises(LeakageError, match=names[0]):
        gather(config, [open_corpus(config.corpus)], lambda *a: None)


def test_objectives_say_their_published_defaults() -> None:
    for name, prob in (("masked", 0.8), ("contrastive", 0.65)):
        config = pretrain_config(None, {"encoder": "hubert", "objective": name, "corpus": "rttm"})
        assert (config.mask.prob, config.mask.length) == (prob, 10)
        assert config.train.betas == (0.9, 0.98) and config.train.schedule == "linear"
        assert registry.load("objectives", name).pretrains


def test_patience_ends_it_and_the_last_weights_are_kept(go: Go) -> None:
    sets = ("train.lr=1e-12", "train.eval_every=2", "train.patience=1", "train.steps=12")
    result, folder = go(CONTRASTIVE, *sets)
    assert result["steps"] < 12
    assert any(not line["best"] for line in logged(folder, "evaluated"))


def test_two_corpora_of_one_kind_keep_their_names_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for i in range(6):
            path = tmp_path / name / f"{i}.wav"
            path.parent.mkdir(exist_ok=True)
            noise = np.random.default_rng(i + (name == "b") * 100).normal(0, 0.1, 32000)
            soundfile.write(path, noise, 16000)
        rows = "".join(f"{i},{name}/{i}.wav,{i}\n" for i in range(6))
        (tmp_path / f"{name}.csv").write_text("id,path,group\n" + rows)
    root = f"manifest:{tmp_path}/a.csv"
    asked = {"encoder": "hubert", "objective": "contrastive", "corpus": root}
    config = pretrain_config(None, asked)
    corpora = [
        open_corpus(CorpusConfig(name="manifest", root=str(tmp_path / f"{name}.csv")))
        for name in ("a", "b")
    ]
    found = gather(config, corpora, lambda *a: None)
    assert {c.id.split("/")[0] for c in [*found.train, *found.dev]} == {"manifest1", "manifest2"}
    with pytest.raises(ConfigError, match="stands twice"):
        refuse_twice([corpora[0], corpora[0]])


def test_a_clip_is_heard_as_far_as_its_file_goes(tmp_path: Path) -> None:
    for i in range(4):
        soundfile.write(tmp_path / f"{i}.wav", np.ones(16000 * 3) * 0.1, 16000)
    rows = "".join(f"{i},{i}.wav,0,60,{i}\n" for i in range(4))
    rows += "behind,0.wav,3,60,0\n"  # nothing of it is left
    (tmp_path / "m.csv").write_text("id,path,start,end,group\n" + rows)
    root = str(tmp_path / "m.csv")
    config = pretrain_config(
        None, {"encoder": "hubert", "objective": "contrastive", "corpus": f"manifest:{root}"}
    )
    found = gather(config, [open_corpus(config.corpus)], lambda *a: None)
    assert {c.end for c in [*found.train, *found.dev]} == {3.0}
    assert "behind" not in {c.id for c in [*found.train, *found.dev]}


def test_a_settings_file_serves_runs_and_pretraining(tmp_path: Path) -> None:
    (tmp_path / "bab.toml").write_text('runs = "here"\nfolds = 5\n[audio]\ncrop = 3.0\n')
    asked = {"encoder": "hubert", "objective": "contrastive", "corpus": "rttm"}
    made = pretrain_config(None, asked, folder=tmp_path)
    assert (made.runs, made.audio.crop) == ("here", 3.0)
    run = run_config(None, {"encoder": "fbank", "task": "vtc"}, folder=tmp_path)
    assert (run.runs, run.folds) == ("here", 5)

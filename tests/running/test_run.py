"""Whole runs on the shipped sample: found again, resumed, repeated, rescored, refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import forks
import numpy as np
import pytest
import soundfile
from made_models import SIZE
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.detection import DetectionPrecisionRecallFMeasure
from safetensors.torch import load_file

from bab.config.resolve import run_config
from bab.core import trainer
from bab.core.errors import AudioError, BabError, ConfigError, CorpusError, InterruptedRunError
from bab.core.grid import Grid
from bab.core.record import Record
from bab.plugins.datasets.rttm import Rttm
from bab.plugins.encoders.shared import speech
from bab.predicting.predict import PredictOptions, predict
from bab.running import session
from bab.running.parts import Parts
from bab.running.runner import run

Go = Callable[..., tuple[Record, Path]]
QUICK = ("train.steps=30", "train.eval_every=15", "train.lr=0.01")
FEW = ("train.steps=2", "train.eval_every=2")  # what it learns is asked nowhere


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests here: they share the sample's features."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def go(tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    """Run vtc as a user would, into tmp_path/runs."""
    monkeypatch.setenv("BAB_CACHE", str(features))
    monkeypatch.chdir(tmp_path)

    def do(*sets: str, force: bool = False, **options: object) -> tuple[Record, Path]:
        asked = {"encoder": "fbank", "task": "vtc", "observers": ["jsonl"], **options}
        return run(run_config(None, asked, [*QUICK, *sets]), force)

    return do


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A copy of the shipped recordings that a test may spoil."""
    assert Rttm.sample is not None
    return Path(shutil.copytree(Rttm.sample, tmp_path / "homes"))


@pytest.fixture
def short(sample: Path) -> str:
    """The first 16 s of each of its recordings, as a corpus."""
    for path in sorted((sample / "wav").iterdir()):
        audio, rate = soundfile.read(path, frames=soundfile.info(path).samplerate * 16)
        path.unlink()
        soundfile.write(path.with_suffix(".wav"), audio, rate)
        known = sample / "rttm" / f"{path.stem}.rttm"
        rows = [line.split() for line in known.read_text().splitlines()]
        kept = [" ".join(row) for row in rows if float(row[3]) + float(row[4]) < 16]
        known.write_text("\n".join(kept) + "\n")
    shutil.rmtree(sample / "uem")
    return f"rttm:{sample}"


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def rttm(path: Path) -> list[tuple[float, float, str]]:
    rows = [line.split() for line in path.read_text().splitlines()]
    return [(float(r[3]), float(r[3]) + float(r[4]), r[7]) for r in rows]


def test_the_score_is_what_pyannote_makes_of_the_written_files(go: Go) -> None:
    record, folder = go()
    root = Rttm.sample
    assert root is not None
    for preset, scores in record.presets.items():
        values = []
        for voice in ("KCHI", "OCH", "MAL", "FEM"):
            metric = DetectionPrecisionRecallFMeasure(collar=0.0, skip_overlap=False)
            for uri in (root / "test.txt").read_text().split():
                sides = []
                for path in (
                    root / "rttm" / f"{uri}.rttm",
                    folder / "predictions" / preset / f"{uri}.rttm",
                ):
                    side = Annotation(uri)
                    for start, end, label in rttm(path):
                        if label == voice:
                            side[Segment(start, end), len(side)] = voice
                    sides.append(side)
                rows = [
                    line.split() for line in (root / "uem" / f"{uri}.uem").read_text().splitlines()
                ]
                metric(*sides, uem=Timeline([Segment(float(r[2]), float(r[3])) for r in rows]))
            values.append(abs(metric))
            assert scores["metrics"][f"f1/{voice}"] == pytest.approx(values[-1], abs=1e-6)
        assert scores["metrics"]["f1"] == pytest.approx(np.mean(values), abs=1e-6)


def test_a_finished_run_is_found_and_force_repeats_it_to_the_same_bytes(go: Go) -> None:
    first, folder = go()
    before = (folder / "record.json").stat().st_mtime_ns
    bytes_before = weights(folder)
    again, same = go()
    assert same == folder and (folder / "record.json").stat().st_mtime_ns == before
    assert again.metrics == first.metrics
    forced, _ = go(force=True)
    assert (folder / "record.json").stat().st_mtime_ns != before
    assert forced.metrics == first.metrics and weights(folder) == bytes_before
    assert not (folder / "checkpoints").exists()


def test_what_changes_the_result_changes_the_run(go: Go, sample: Path) -> None:
    root = f"rttm:{sample}"
    _, folder = go(*FEW, corpus=root)
    assert go(*FEW, corpus=root, device="cpu")[1] == folder
    assert go(*FEW, "seed=1", corpus=root)[1] != folder
    assert go(*FEW, "encoder.cmvn=none", corpus=root)[1] != folder
    moved = sample.rename(sample.with_name("moved"))
    assert go(*FEW, corpus=f"rttm:{moved}")[1].name == folder.name
    edited = next((moved / "rttm").glob("*.rttm"))
    edited.write_text("\n".join(edited.read_text().splitlines()[:-1]) + "\n")
    assert go(*FEW, corpus=f"rttm:{moved}")[1].name != folder.name


def test_interrupted_or_killed_it_goes_on_to_the_same_bytes(go: Go, tmp_path: Path) -> None:
    """SIGINT, then SIGKILL, in processes of their own; the next ends as if nothing happened."""
    _, folder = go("train.save_every=5", "train.steps=60")
    expected = weights(folder)
    shutil.rmtree(folder)
    command = [sys.executable, "-m", "bab.cli", "run", "--encoder", "fbank", "--task", "vtc"]
    for text in (*QUICK, "train.save_every=5", "train.steps=60"):
        command += ["--set", text]
    codes = []
    for number in (signal.SIGINT, signal.SIGKILL):
        before = sorted(folder.glob("checkpoints/step-*"))
        process = forks.Forked(command, cwd=tmp_path)
        deadline = time.monotonic() + 90
        while sorted(folder.glob("checkpoints/step-*")) == before and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
        codes.append((process.communicate(60)[1], process.returncode))
    assert codes[0][1] == 130 and "the same command goes on from here" in codes[0][0], codes[0]
    assert "Traceback" not in codes[0][0]
    assert codes[1][1] == -signal.SIGKILL
    assert not (folder / "record.json").exists()
    go("train.save_every=5", "train.steps=60")
    assert weights(folder) == expected


@pytest.mark.parametrize("start", ["forks", pytest.param("torchrun", marks=pytest.mark.slow)])
def test_two_processes_give_the_model_of_one(go: Go, tmp_path: Path, start: str) -> None:
    _, folder = go()
    expected = load_file(folder / "model" / "model.safetensors")
    record = json.loads((folder / "record.json").read_text())
    shutil.rmtree(folder)
    command = ["-m", "bab.cli", "run", "--encoder", "fbank", "--task", "vtc"]
    for text in QUICK:
        command += ["--set", text]
    if start == "forks":
        done = forks.ranks(2, [sys.executable, *command], cwd=tmp_path)
    else:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        done = subprocess.run(
            [*torchrun, "--nproc-per-node=2", *command], cwd=tmp_path, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name, value in load_file(folder / "model" / "model.safetensors").items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)
    both = json.loads((folder / "record.json").read_text())
    assert both["metrics"]["f1"] == pytest.approx(record["metrics"]["f1"], abs=5e-3)
    assert "x 2 processes" in both["device"]


def test_folds_test_every_recording_once(go: Go) -> None:
    record, folder = go("protocol=kfold", "folds=3", "train.steps=10", "train.eval_every=5")
    assert record.protocol == "kfold-3" and len(record.groups) == 10
    assert len(record.jackknife["groups"]) == 10 and record.jackknife["unit"] == "recording"
    assert len(list((folder / "predictions" / "f1").glob("*.rttm"))) == 10
    assert len(list((folder / "folds").glob("*/model/model.safetensors"))) == 3


def test_a_fine_tuned_model_keeps_its_encoder_and_conv_stays_frozen(go: Go, short: str) -> None:
    sets = ("train.steps=2", "train.eval_every=2", "train.batch=2", "train.accumulation=1")
    more = {"encoder": "hubert:random-tiny", "mode": "finetune", "corpus": short}
    record, folder = go(*sets, "freeze=conv", **more)
    saved = load_file(folder / "model" / "model.safetensors")
    assert any(name.startswith("encoder.") for name in saved)
    assert not any("feature_extractor" in name for name in saved)
    assert record.mode == "finetune" and record.cost["trained_parameters"] > 1e6
    whole = load_file(go(*sets, **more)[1] / "model" / "model.safetensors")
    assert any("feature_extractor" in name for name in whole)  # random weights: nothing is frozen


def test_each_fold_fine_tunes_an_encoder_of_its_own(
    go: Go, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder of the fold before has met the recordings that this one tests."""
    seen = []
    fit = trainer.Trainer.fit

    def spy(self: trainer.Trainer) -> object:
        encoder = self.training.model.encoder
        seen.append(sum(p.double().sum().item() for p in encoder.parameters()))
        return fit(self)

    monkeypatch.setattr(trainer.Trainer, "fit", spy)
    sets = ("protocol=kfold", "folds=3", "train.steps=1", "train.batch=1", "train.accumulation=1")
    monkeypatch.setattr(speech, "_TINY", SIZE)
    go(*sets, "view.window=2", encoder="hubert:random-tiny", mode="finetune", corpus=short)
    assert len(seen) == 3 and len(set(seen)) == 1


def test_a_split_without_a_voice_is_refused_before_anything_slow(go: Go, sample: Path) -> None:
    for uri in (sample / "dev.txt").read_text().split():
        (sample / "rttm" / f"{uri}.rttm").write_text("")
    with pytest.raises(CorpusError, match="dev recordings hold no segment"):
        go(corpus=f"rttm:{sample}")
    assert not list(Path("runs").rglob("*"))


@pytest.mark.parametrize(
    "setting,message",
    [
        ("layers=77", "layers=77: this encoder has layers 0 to 0"),
        ("view.window=0.01", r"takes in 0\.025 s"),
    ],
)
def test_what_an_encoder_does_not_have_is_refused_before_a_folder_is_made(
    go: Go, setting: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        go(setting)
    assert not list(Path("runs").rglob("*"))


def test_a_damaged_model_is_named(go: Go, tmp_path: Path) -> None:
    _, folder = go(*FEW)
    path = folder / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    assert Rttm.sample is not None
    with pytest.raises(BabError, match=r"model\.safetensors is damaged"):
        predict(folder, [Rttm.sample / "wav"], tmp_path / "out")


def test_features_that_cannot_be_kept_cost_speed_alone(go: Go, tmp_path: Path) -> None:
    record, _ = go(*FEW)
    (tmp_path / "file").write_text("in the way")
    sets = (*FEW, f"cache.dir={tmp_path / 'file'}")
    again, folder = go(*sets, force=True)
    assert again.metrics == record.metrics
    assert "can't be kept" in (folder / "log.jsonl").read_text()


def test_a_saved_model_says_of_a_recording_what_the_run_said(go: Go, tmp_path: Path) -> None:
    _, folder = go()
    assert Rttm.sample is not None
    uri = (Rttm.sample / "test.txt").read_text().split()[0]
    (audio,) = (Rttm.sample / "wav").glob(f"{uri}.*")
    for preset in ("f1", "high-precision"):
        predict(folder, [audio], tmp_path / preset, PredictOptions(preset))
        written = (tmp_path / preset / f"{uri}.rttm").read_text()
        assert written == (folder / "predictions" / preset / f"{uri}.rttm").read_text()
    with pytest.raises(BabError, match="did you mean 'high-precision'"):
        predict(folder, [audio], tmp_path / "x", PredictOptions("high-precison"))
    with pytest.raises(BabError, match="holds no model"):
        predict(tmp_path, [audio], tmp_path / "x")


def test_bad_audio_is_named_or_left_out_and_counted(go: Go, sample: Path) -> None:
    uri = (sample / "train.txt").read_text().split()[0]
    (spoilt,) = (sample / "wav").glob(f"{uri}.*")
    spoilt.write_bytes(b"")
    with pytest.raises(AudioError, match=f"{spoilt.name}.*--skip-bad".replace(".", "[^$]")):
        go(corpus=f"rttm:{sample}")
    record, _ = go(corpus=f"rttm:{sample}", skip_bad=True)
    assert list(record.data["skipped"]) == [str(spoilt)]
    assert record.data["train"]["clips"] == 5


def test_an_empty_split_and_a_missing_folder_are_errors(go: Go, sample: Path) -> None:
    (sample / "dev.txt").write_text("")
    with pytest.raises(CorpusError, match="dev"):
        go(corpus=f"rttm:{sample}")
    with pytest.raises(CorpusError, match="no such folder"):
        go(corpus=f"rttm:{sample}/nowhere")


def test_half_precision_is_refused_where_it_only_hurts(
    go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    with pytest.raises(ConfigError, match="no bf16 units"):
        go("train.precision=bf16", device="cpu")
    with pytest.raises(ConfigError, match="no fp16 units"):
        go("train.precision=fp16", device="cpu")


def test_a_device_that_is_not_there_is_refused(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="'cuda' is not available here"):
        go(device="cuda")


def test_features_may_be_kept_in_half_the_room(go: Go) -> None:
    whole, _ = go()
    half, _ = go("cache.dtype=float16")
    assert half.id != whole.id
    assert half.metrics["f1"] == pytest.approx(whole.metrics["f1"], abs=0.03)


def test_frames_that_take_much_room_are_kept_in_half(
    go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = ("train.steps=2", "train.eval_every=2")
    whole, _ = go(*sets)
    assert whole.config["cache"]["dtype"] == "float32"
    assert go(*sets, "cache.dtype=float32")[0].id == whole.id
    monkeypatch.setattr(session, "_MUCH", 40_000)  # bytes: fbank's 120 numbers, 100 times a second
    half, _ = go(*sets)
    assert half.config["cache"]["dtype"] == "float16" and half.id != whole.id
    assert go(*sets, "cache.dtype=float16")[0].id == half.id
    assert go(*sets, "cache.dtype=float32")[0].id == whole.id


@pytest.mark.parametrize(
    ("depth", "dim", "sets", "pooled", "kept"),
    [
        (13, 768, (), False, "float16"),  # a base model: 2.0 MB a second
        (13, 768, ("layers=last",), False, "float32"),
        (13, 768, (), True, "float32"),
        (13, 768, ("mode=finetune",), False, "float32"),
        (13, 768, ("cache.dtype=float32",), False, "float32"),
        (5, 192, (), False, "float32"),
        (5, 1000, (), False, "float32"),  # the limit itself: 1 MB
        (5, 1001, (), False, "float16"),
        (5, 192, ("cache.dtype=float16",), True, "float16"),
    ],
)
def test_what_takes_much_room(
    depth: int, dim: int, sets: tuple[str, ...], pooled: bool, kept: str
) -> None:
    config = run_config(None, {"encoder": "hubert", "task": "vtc"}, sets)
    encoder = SimpleNamespace(depth=depth, dim=dim, sample_rate=16000, grid=Grid(16000, 320, 400))
    parts = cast(Parts, SimpleNamespace(encoder=encoder, pooled=pooled))
    assert session.settled(config, parts).cache.dtype == kept


def test_a_cache_without_room_changes_nothing(go: Go, tmp_path: Path) -> None:
    _, folder = go("train.steps=4", "train.eval_every=4")
    kept = weights(folder)
    none = [f"cache.dir={tmp_path / 'none'}", "cache.budget_gb=0"]
    assert weights(go("train.steps=4", "train.eval_every=4", *none, force=True)[1]) == kept
    assert not list((tmp_path / "none").rglob("*.safetensors"))


def test_a_run_at_work_is_not_disturbed_by_another(go: Go) -> None:
    import fcntl

    _, folder = go()
    (folder / "record.json").unlink()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BabError, match="another bab process"):
            go()


def test_stopping_while_features_are_computed_keeps_them(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bab.starting import lifecycle

    def begun() -> bool:
        return any((tmp_path / "fresh").rglob("*.safetensors"))

    monkeypatch.setattr(lifecycle, "stopper", lambda: nullcontext(begun))
    with pytest.raises(InterruptedRunError, match="computing features"):
        go(f"cache.dir={tmp_path / 'fresh'}")
    assert begun()

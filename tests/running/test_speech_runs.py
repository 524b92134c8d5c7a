"""Whole runs of `sv`, `asr` and `phonemes` on the shipped samples; their figures, from the files
that they write, by other means."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

from bab.config.resolve import run_config
from bab.core.errors import CorpusError
from bab.core.record import Record
from bab.plugins.datasets.kaldi import Kaldi
from bab.plugins.datasets.librispeech import LibriSpeech
from bab.plugins.datasets.voxceleb import VoxCeleb
from bab.predicting.predict import predict
from bab.running.runner import run

Go = Callable[..., tuple[Record, Path]]
QUICK = ("train.steps=4", "train.eval_every=2", "train.batch=4")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def go(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    """Run a task as a user would, into tmp_path/runs."""
    monkeypatch.setenv("BAB_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)

    def do(task: str, *sets: str, encoder: str = "fbank", **options: str) -> tuple[Record, Path]:
        asked = {"encoder": encoder, "task": task, "observers": ["jsonl"], **options}
        return run(run_config(None, asked, [*QUICK, *sets]))

    return do


def copy_of(corpus: type[Kaldi] | type[VoxCeleb], tmp_path: Path) -> Path:
    assert corpus.sample is not None
    return Path(shutil.copytree(corpus.sample, tmp_path / "corpus"))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table, delimiter="\t" if path.suffix == ".tsv" else ","))


def brute_eer(same: np.ndarray, scores: np.ndarray) -> float:
    """Where miss and false alarm cross, on straight lines between all thresholds."""
    points = []
    for threshold in sorted({*scores.tolist(), np.inf}, reverse=True):
        accepted = scores >= threshold
        points.append(((~same & accepted).sum() / (~same).sum(), 1 - accepted[same].mean()))
    for (a0, m0), (a1, m1) in pairwise(points):
        if a1 >= m1:
            share = (m0 - a0) / ((m0 - a0) + (a1 - m1))
            return float(100 * (a0 + share * (a1 - a0)))
    raise AssertionError("the rates never cross")


def test_verification_can_be_scored_again_from_its_files(go: Go, tmp_path: Path) -> None:
    root = copy_of(VoxCeleb, tmp_path)
    for path in root.glob("wav/*/video000001/00001.opus"):  # one of each speaker: 1.5 s
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(path, samples[: rate * 3 // 2], rate, format="OGG", subtype="OPUS")
    record, folder = go("sv", corpus=f"voxceleb:{root}")
    place = folder / "predictions" / "default"
    listed = rows(place / "trials.tsv")
    vectors = load_file(place / "embeddings.safetensors")
    same = np.array([row["same"] == "1" for row in listed])
    scores = np.array([float(row["score"]) for row in listed])
    cosines = [float(vectors[row["enrol"]] @ vectors[row["test"]]) for row in listed]
    np.testing.assert_allclose(scores, cosines, atol=1e-5)
    assert record.metrics["eer"] == pytest.approx(brute_eer(same, scores), abs=1e-9)
    assert VoxCeleb.sample is not None
    given = [line.split() for line in (VoxCeleb.sample / "veri_test.txt").read_text().splitlines()]
    assert len(listed) == len(given) and sum(same) == sum(line[0] == "1" for line in given)
    assert record.primary == "eer" and record.units["eer"] == "%" and not record.higher_is_better
    assert record.jackknife["unit"] == "speaker"
    preset = next(iter(record.presets.values()))
    assert set(record.intervals) | set(preset["no_interval"]) == set(record.metrics)
    speakers = len(record.labels["speaker"])
    assert record.data["untrained"] == {"no longer than 2 s": speakers}
    assert record.data["train"]["clips"] > speakers
    done = predict(folder, [next(VoxCeleb.sample.glob("wav/*/*/*"))], tmp_path / "out")
    (said,) = done.predictions()
    assert np.linalg.norm(said.vector) == pytest.approx(1.0)


def test_verification_needs_trials_of_both_kinds(go: Go, tmp_path: Path) -> None:
    root = copy_of(VoxCeleb, tmp_path)
    trials = root / "veri_test.txt"
    trials.write_text("".join(x for x in trials.read_text().splitlines(True) if x[0] == "1"))
    with pytest.raises(CorpusError, match=r"test split has .* both kinds are needed"):
        go("sv", corpus=f"voxceleb:{root}")
    with pytest.raises(
        CorpusError, match=r"no training clip is longer than view.train_minimum = 60 s"
    ):
        go("sv", "view.train_minimum=60")


def test_recognition_can_be_scored_again_from_its_file(go: Go, tmp_path: Path) -> None:
    record, folder = go("asr", "train.steps=60", "train.eval_every=20", "train.lr=0.01",
                        "head.widths=[]", "head.rnn=none")  # fmt: skip
    said = {row["id"]: row["hypothesis"] for row in rows(folder / "predictions/greedy/asr.csv")}
    assert LibriSpeech.sample is not None
    texts = dict(
        line.strip().split(" ", 1)
        for path in (LibriSpeech.sample / "test-clean").rglob("*.trans.txt")
        for line in path.read_text().splitlines()
    )
    assert set(said) == set(texts) and any(said.values())
    raw, found = list(texts.values()), [said[name] for name in texts]
    lower = [text.lower() for text in raw]
    assert record.metrics["wer_raw"] == pytest.approx(100 * jiwer.wer(raw, found))
    assert record.metrics["wer"] == pytest.approx(100 * jiwer.wer(lower, found))
    assert record.metrics["cer"] == pytest.approx(100 * jiwer.cer(lower, found))
    assert record.metrics["cer"] < 100 and record.labels["char"][0] == "<blank>"
    assert set(record.groups) == {"107", "108"} and "gender" in record.subgroups
    audio = sorted((LibriSpeech.sample / "test-clean").rglob("*.flac"))[:2]
    for one in predict(folder, audio, tmp_path / "out").predictions():
        assert one.text == said[one.id]


def test_targets_that_do_not_fit_are_left_out_and_counted(go: Go, tmp_path: Path) -> None:
    root = copy_of(Kaldi, tmp_path)
    path = root / "train" / "text"
    lines = path.read_text().splitlines()
    lines[0] = lines[0].split()[0] + " " + "tell me more " * 200
    lines[1] = lines[1].split()[0] + " ..."  # nothing is said: no label
    path.write_text("\n".join(lines) + "\n")
    record, _ = go("asr", "head.rnn=none", corpus=f"kaldi:{root}")
    assert record.data["untrained"] == {"more labels than frames": 1}
    assert np.isfinite(record.metrics["wer"])
    assert set(record.subgroups) == {"age", "gender"}  # phones are a text, no kind of clip


def test_phonemes_with_context_probed_and_fine_tuned(go: Go) -> None:
    short = ("train.steps=1", "train.eval_every=1", "train.batch=2", "train.accumulation=1")
    for mode in ("probe", "finetune"):
        record, folder = go("phonemes", "view.context=0.5", *short, encoder="hubert", mode=mode)
        said = rows(folder / "predictions" / "greedy" / "phonemes.csv")
        assert len(said) == record.data["test"]["clips"] and "per" in record.metrics
        assert record.config["view"]["context"] == 0.5

"""Whole runs of clip tasks on the shipped samples; their figures recomputed with scikit-learn."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bab.audio import reading
from bab.config.corpora import open_corpus
from bab.config.resolve import run_config
from bab.config.run import CorpusConfig
from bab.core.errors import ConfigError, CorpusError
from bab.core.interfaces import Corpus
from bab.core.record import Record
from bab.core.types import Clip, Waves
from bab.plugins.encoders.fbank import Fbank
from bab.predicting.predict import predict
from bab.running.model import load_spec
from bab.running.runner import run

Go = Callable[..., tuple[Record, Path]]
QUICK = ("train.steps=6", "train.eval_every=3", "train.batch=8", "train.lr=0.01")
RAW = "encoder.cmvn=none"  # normalised features have a mean of zero: nothing to pool


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def go(tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    """A run as a user would start it, into tmp_path/runs."""
    monkeypatch.setenv("BAB_CACHE", str(features))
    monkeypatch.chdir(tmp_path)

    def do(task: str, *sets: str, **options: object) -> tuple[Record, Path]:
        asked = {"encoder": "fbank", "task": task, "observers": ["jsonl"], **options}
        return run(run_config(None, asked, [*QUICK, *sets]))

    return do


def written(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "predictions" / "default" / "predictions.csv").open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def sample(name: str, **options: object) -> Corpus:
    return open_corpus(CorpusConfig(name=name, options=options))


def test_classify_scores_follow_from_the_written_predictions(go: Go) -> None:
    record, folder = go("classify", "task.labels=[reason]")
    rows = written(folder)
    clips = list(sample("donateacry").clips("test"))
    assert sorted(rows) == sorted(c.id for c in clips)
    y, p = [c.labels["reason"] for c in clips], [rows[c.id]["reason"] for c in clips]
    assert record.metrics["accuracy"] == pytest.approx(np.mean(np.array(y) == p))
    assert record.metrics["macro_f1"] == pytest.approx(f1_score(y, p, average="macro"))
    assert record.metrics["uar"] == pytest.approx(balanced_accuracy_score(y, p))
    assert record.primary == "accuracy" and record.labels["reason"] == sorted(set(y))
    assert rows
    for row in rows.values():
        assert sum(float(v) for k, v in row.items() if "=" in k) == pytest.approx(1)


def test_clips_that_a_task_cant_use_are_left_out_and_counted(go: Go) -> None:
    record, _ = go("classify", "task.labels=[reason]", "task.classes.reason=[hungry, tired]")
    everything = list(sample("donateacry").clips(None))
    dull = sum(c.labels["reason"] == "belly_pain" for c in everything)
    assert record.data["left_out"] == {"reason 'belly_pain'": dull}
    sizes = [record.data[split]["clips"] for split in ("train", "dev", "test")]
    assert sum(sizes) == len(everything) - dull
    with pytest.raises(CorpusError, match=r"train split has no clip.*reason 'belly_pain'"):
        go("classify", "task.labels=[reason]", "task.map.reason={belly_pain: '', hungry: '', "
           "tired: ''}")  # fmt: skip


def test_balanced_weights_come_from_the_training_clips(go: Go, monkeypatch) -> None:
    from bab.plugins.objectives.cross_entropy import CrossEntropy

    seen: list[torch.Tensor] = []
    monkeypatch.setattr(CrossEntropy, "observe", lambda self, targets: seen.append(targets))
    go("classify", "task.labels=[reason]")
    train = list(sample("donateacry").clips("train"))
    names = sorted({c.labels["reason"] for c in train})
    assert seen[0].tolist() == [[names.index(c.labels["reason"])] for c in train]


def test_a_class_or_label_that_is_not_there_is_named_before_any_work(go: Go) -> None:
    with pytest.raises(CorpusError, match="no training clip has reason 'burping'"):
        go("classify", "task.labels=[reason]", "task.classes.reason=[hungry, burping]")
    with pytest.raises(ConfigError, match=r"needs mood, which corpus 'donateacry'"):
        go("classify", "task.labels=[mood]")
    with pytest.raises(ConfigError, match=r"one kind of label, not for gender and reason"):
        go("classify", "task.labels=[gender, reason]", head="logistic")


def test_a_clip_task_can_be_fine_tuned(go: Go) -> None:
    record, folder = go("gender", "train.steps=2", "train.eval_every=2", "train.batch=2",
                        "train.accumulation=1", encoder="hubert", mode="finetune",
                        corpus="donateacry")  # fmt: skip
    assert record.mode == "finetune" and 0 <= record.metrics["macro_f1"] <= 1
    assert any(k.startswith("encoder.") for k in load_file(folder / "model" / "model.safetensors"))


def test_addressee_hears_context_and_pools_the_utterance_alone(go: Go) -> None:
    record, folder = go("addressee", RAW)
    corpus = sample("childproject", clips="utterances")
    clips = list(corpus.clips("test"))
    rows = written(folder)
    assert sorted(rows) == sorted(c.id for c in clips) and corpus.provides == {"addressee", "voice"}
    assert record.labels == {"addressee": ["ADS", "KCDS", "Other"]}
    assert record.config["view"]["context"] == 10.0 and record.config["head"]["options"] == {
        "hidden": 0,
        "dropout": 0.5,
    }
    weights = load_file(folder / "model" / "model.safetensors")
    for clip in clips:
        # The frames whose centres lie in the utterance, of what is heard ten seconds around it.
        start, end = max(0.0, clip.start - 10), min(reading.duration(clip.path), clip.end + 10)
        states, centres = encoded(clip.path, start, end)
        inside = (centres + start >= clip.start) & (centres + start < clip.end)
        logits = weights["head.output.weight"] @ states[torch.from_numpy(inside)].mean(0)
        shares = (logits + weights["head.output.bias"]).softmax(0)
        for name, share in zip(("ADS", "KCDS", "Other"), shares.tolist(), strict=True):
            assert float(rows[clip.id][f"addressee={name}"]) == pytest.approx(share, abs=1e-3)


def encoded(path: str, start: float, end: float) -> tuple[torch.Tensor, np.ndarray]:
    """The last layer's frames of a stretch of a file, f32[T, D], and their centres in seconds."""
    encoder = Fbank.load("", Fbank.Options(cmvn="none")).eval()
    wave = torch.from_numpy(reading.read(path, start, end, encoder.sample_rate))[None]
    with torch.no_grad():
        frames = encoder(Waves(wave, torch.tensor([wave.shape[1]])), layers="last").layers[0][0]
    return frames, encoder.grid.centres(len(frames))


def vector(clip: Clip) -> np.ndarray:
    """babycry's vector of a clip: windows of 2 s every second, the mean over all their frames."""
    starts = np.arange(clip.start, max(clip.end - 2.0, clip.start) + 1e-6, 1.0).tolist()
    if clip.duration <= 2.0:
        return encoded(clip.path, clip.start, clip.end)[0].mean(0).numpy()
    if clip.end - 2.0 - starts[-1] > 0.01:
        starts.append(int((clip.end - 2.0 - clip.start) * 100) / 100 + clip.start)
    return torch.cat([encoded(clip.path, s, s + 2.0)[0] for s in starts]).mean(0).numpy()


def test_valence_leaves_one_participant_out_and_keeps_a_model_of_all(
    go: Go, tmp_path: Path
) -> None:
    record, folder = go("valence", RAW)
    clips = list(sample("babycry").clips(None))
    tested = [c for c in clips if c.labels["source"] == "recanvo"]
    rows = written(folder)
    assert record.protocol == "leave-one-group-out"
    assert sorted(rows) == sorted(c.id for c in tested)
    x = {c.id: vector(c) for c in clips}

    def solved(train: list[Clip]) -> LogisticRegression:
        pipe = make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000)
        )
        return pipe.fit([x[c.id] for c in train], [c.labels["valence"] for c in train])

    for group in {c.group for c in tested}:
        held = [c for c in tested if c.group == group]
        model = solved([c for c in clips if c.group != group])
        for clip, share in zip(
            held, model.predict_proba([x[c.id] for c in held])[:, 1], strict=True
        ):
            assert float(rows[clip.id]["valence=positive"]) == pytest.approx(share, abs=5e-3)
    y = [c.labels["valence"] == "positive" for c in tested]
    p = [rows[c.id]["valence"] == "positive" for c in tested]
    chance = [float(rows[c.id]["valence=positive"]) for c in tested]
    assert record.metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, p))
    assert record.metrics["auc"] == pytest.approx(roc_auc_score(y, chance))
    assert record.metrics["macro_f1"] == pytest.approx(f1_score(y, p, average="macro"))
    left = record.presets["default"]["no_interval"]  # of two dozen clips some scores are exactly 1
    assert set(record.intervals) | set(left) == set(record.metrics)
    assert set(left.values()) <= {"exactly 1", "exactly 0"}
    assert any("not a medical" in notice for notice in record.notices)
    assert any(f"fitted on all {len(clips)} clips" in notice for notice in record.notices)
    assert all("not a medical" in row["notice"] for row in rows.values())
    assert "not a medical" in load_spec(folder / "model")["notice"]
    # The kept model, on a file, says what one solved from every clip says.
    clip = next(c for c in clips if c.labels["source"] == "donateacry")
    (said,) = predict(folder, [Path(clip.path)], tmp_path / "said").predictions()
    share = solved(clips).predict_proba([x[clip.id]])[0, 1]
    assert said.scores["valence=positive"] == pytest.approx(share, abs=5e-3)

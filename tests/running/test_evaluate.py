"""Runs that score a trained model, or begin from one."""

from __future__ import annotations

import json
import shutil

import pytest
from hf_models import saved_model

from bab.config.resolve import run_config
from bab.core.errors import BabError
from bab.core.observers import hookimpl
from bab.results.record import load
from bab.results.table import table
from bab.running.runner import run
from bab.running.saved import load_saved
from bab.running.start import model_settings


def config(tmp_path, sets=(), **options):
    options = {"observers": [], "runs": str(tmp_path / "runs"), **options}
    given = [f"cache.dir={tmp_path / 'cache'}", *sets]
    return run_config(None, options, given, expand=model_settings)


class Steps:
    """Notes how many steps a run is said to have."""

    def __init__(self):
        self.told = []

    @hookimpl
    def bab_run_start(self, run):
        self.told.append(run.steps)


def test_ones_own_run_has_its_own_scores(model, tmp_path):
    steps = Steps()
    record, folder = run(config(tmp_path, model=str(model), mode="evaluate"), watching=[steps])
    assert steps.told == [0]
    own = load(model / "record.json")
    assert record.metrics == pytest.approx(own.metrics, abs=1e-6)
    assert record.corpus_digest == own.corpus_digest and record.id != own.id
    assert (record.mode, record.cost["trained_parameters"]) == ("evaluate", 0.0)
    assert record.encoder == f"fbank@{own.id}" and not (folder / "model").exists()
    assert (record.objective, own.objective) == ("", "multilabel")  # nothing is trained
    assert table([own, record]).count("| vtc@rttm") == 1  # one column for both
    rows = [line for line in table([own, record]).splitlines() if line.startswith("| fbank")]
    assert len(rows) == 2 and "evaluate" in rows[1]


def test_its_id_is_the_models_not_the_places(model, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(model, moved)
    one, _ = run(config(tmp_path, model=str(model), mode="evaluate"))
    two, _ = run(config(tmp_path, model=str(moved), mode="evaluate"))
    assert one.id == two.id
    spec = json.loads((moved / "model" / "model.json").read_text())
    del spec["checksum"]
    spec["tuned"]["f1"]["thresholds"]["KCHI"] = 0.99
    (moved / "model" / "model.json").write_text(json.dumps(spec))
    three, _ = run(config(tmp_path, model=str(moved), mode="evaluate"))
    assert three.id != one.id and three.metrics != one.metrics


def test_begun_from_a_run(model, tmp_path):
    sets = ["train.steps=1", "train.lr=1e-9", "train.eval_every=1"]
    steps = Steps()
    _, folder = run(config(tmp_path, sets, model=str(model), mode="probe"), watching=[steps])
    assert steps.told == [1]
    one, two = load_saved(model), load_saved(folder)
    assert two.spec["start"] == str((model / "model").resolve())
    mine, theirs = two.model.head.state_dict(), one.model.head.state_dict()
    assert all((mine[k] - theirs[k]).abs().max() < 1e-6 for k in mine)


@pytest.mark.parametrize(
    ("options", "sets", "match"),
    [
        ({"task": "sv", "mode": "evaluate"}, (), "is a model for task 'vtc', not for 'sv'"),
        ({"mode": "evaluate"}, ("head.rnn=bilstm",), "head: fbank@.* is evaluated as it is"),
        ({"mode": "evaluate", "protocol": "kfold"}, (), "has no folds"),
        ({"encoder": "fbank"}, (), "--encoder with --model"),
    ],
)
def test_what_contradicts_it_is_refused(model, tmp_path, options, sets, match):
    with pytest.raises(BabError, match=match):
        run(config(tmp_path, sets, model=str(model), **options))


def test_nothing_to_evaluate(tmp_path):
    with pytest.raises(BabError, match="name it with --model"):
        run(config(tmp_path, encoder="fbank", task="vtc", mode="evaluate"))


def test_speaker_verification(tmp_path):
    saved_model(tmp_path / "sv", "wav2vec2", "XVector", num_labels=5)
    asked = config(tmp_path, model=f"hf:{tmp_path / 'sv'}", task="sv", mode="evaluate")
    record, folder = run(asked)
    assert 0 <= record.metrics["eer"] <= 100 and record.head == "xvector"
    assert (folder / "predictions" / "default" / "trials.tsv").exists()


@pytest.mark.slow
def test_speaker_verification_at_full_size(tmp_path):
    """The size of wav2vec2-base-superb-sv: 95 M parameters, random."""
    import transformers

    settings = transformers.Wav2Vec2Config(num_labels=1251, use_weighted_layer_sum=True)
    transformers.Wav2Vec2ForXVector(settings).save_pretrained(tmp_path / "sv")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "sv")
    asked = config(tmp_path, model=f"hf:{tmp_path / 'sv'}", task="sv", mode="evaluate")
    record, _ = run(asked)
    assert record.cost["encoder_parameters"] > 9e7 and 0 <= record.metrics["eer"] <= 100


def test_clip_labels_serve_any_task_that_has_them(tmp_path):
    """Under the task's own name; a class of the corpus that the model lacks is one clear line."""
    names = {0: "female", 1: "male"}
    saved_model(tmp_path / "g", "wav2vec2", "SequenceClassification", id2label=names)
    asked = {"model": f"hf:{tmp_path / 'g'}", "mode": "evaluate"}
    record, _ = run(config(tmp_path, task="gender", **asked))
    assert record.labels == {"gender": ["female", "male"]} and 0 <= record.metrics["accuracy"] <= 1
    with pytest.raises(
        BabError, match=r"knows other labels than the corpus \(accent: female, male\): accent '"
    ):
        run(config(tmp_path, task="accent", **asked))

"""The model card says what the record says, and nothing about who was recorded."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import made_records
import pytest
from huggingface_hub import ModelCard
from made_models import made

import bab
from bab.cli import main
from bab.config.pretrain import PretrainConfig
from bab.exporting import card as card_of
from bab.exporting.card import public
from bab.results.record import save


def put_record(folder, **changes):
    """A finished run's record and log beside a made model."""
    record = made_records.make(
        encoder="hubert:/data/anna/secret/weights",
        metrics={"f1": 0.6, "f1/KCHI": 0.8, "recall/KCHI": 0.75},
        groups={"family-of-Anna": {"f1": 0.1}},
        subgroups={
            "gender": {"female": {"f1": 0.123}, "male": {"f1": 0.2}},
            "session": {"Anna-monday": {"f1": 0.3}},
        },
        dev={"f1": 0.5},
        data={
            "train": {"clips": 12, "hours": 3.5},
            "test": {"clips": 3, "hours": 0.25},
            "skipped": {"/data/anna/x.wav": "broken"},
            "left_out": {},
        },
        notices=["/data/anna/x.wav heard in part"],
        versions={"bab": "0.0.7"},
    )
    config = {
        "encoder": {"name": "hubert", "weights": "/data/anna/secret/weights"},
        "corpus": {"name": "rttm", "root": "/data/anna/homes", "options": {"audio": "/x"}},
        "train": {"lr": 0.01, "patience": None},
    }
    save(dataclasses.replace(record, **{"config": config, **changes}), folder)
    steps = [{"event": "step", "step": i + 1, "loss": 4.0 - i / 10} for i in range(40)]
    (folder / "log.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))


def test_a_card_of_a_run(tmp_path):
    run = made(tmp_path / "run", "vtc")
    put_record(run)
    done = bab.export(run, to="hf", out=tmp_path / "out")
    card = ModelCard.load(done.folder / "README.md")
    assert card.data.library_name == "transformers" and card.data.license == "unknown"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_type) == ("f1", 0.6, "rttm")
    text = card.text
    for line in (
        "| train |    12 |  3.50 |",
        "Training loss: 3.95 at the start, 0.15 at the end",
        "lr: 0.01",
        "0.600 [0.550, 0.750]",
        "| KCHI |",
        "| female | 0.123 |",
        "was chosen on dev",
        "0.750",
        "Test holds 3 recordings: so few",
        "`KCHI`, `OCH`, `MAL`, `FEM`",
        "pauses under 100 ms are closed",
        "Licence: not stated",
        "bab 0.0.7, run `made`",
    ):
        assert line in text, line
    for secret in ("anna", "Anna", str(tmp_path), "patience"):
        assert secret not in str(card), secret


def test_what_weakens_figures_is_said(tmp_path):
    run = made(tmp_path / "run", "valence", pool=True)
    put_record(run, leakage=True, corpus="babycry", units={}, metrics={}, intervals={})
    (run / "folds").mkdir()
    text = (bab.export(run, "onnx", tmp_path / "out").folder / "README.md").read_text()
    assert "the figures are too high" in text
    assert "trained on all of them, and was tested on none" in text
    assert "**Research only: not a medical, safety or child-care device.**" in text
    assert "without intervals" in text
    assert "library_name: onnx" in text and "pip install -r requirements.txt" in text
    assert "padding of a batch" not in text  # that is transformers'


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("hubert:/a/b/model", "hubert:model"),
        ("hubert:facebook/hubert-base-ls960@c0ffee", "hubert:facebook/hubert-base-ls960@c0ffee"),
        ("C:\\data\\lm.arpa", "lm.arpa"),
        ({"lm": ["~/x/lm.arpa", 3]}, {"lm": ["lm.arpa", 3]}),
        ("wav2vec2:tiny", "wav2vec2:tiny"),
    ],
)
def test_folders_stay_at_home(value, shown):
    assert public(value) == shown


def test_a_pretraining_run(tmp_path, capsys, monkeypatch):
    from made_models import SIZE

    from bab.core.components import build_encoder

    folder = tmp_path / "runs" / "0123"
    encoder = build_encoder("wav2vec2", "random-tiny", {"size": SIZE}, True, False)
    encoder.export(folder / "model", {})
    config = PretrainConfig.model_validate(
        {
            "encoder": {"name": "wav2vec2", "weights": "random-tiny", "options": {}},
            "objective": {"name": "contrastive", "options": {}},
            "corpus": {"name": "kaldi", "root": None, "options": {}},
        }
    ).model_dump(mode="json")
    result = {
        "id": "0123",
        "encoder": "wav2vec2:random-tiny",
        "objective": "contrastive",
        "corpora": ["kaldi"],
        "corpus_digest": "d",
        "dev": {"loss": 1.25},
        "audio_hours": 2.0,
        "clips": {"train": 4, "dev": 2},
        "config": config,
    }
    (folder / "pretrain.json").write_text(json.dumps(result))
    monkeypatch.chdir(tmp_path)
    assert main(["export", "runs/0123", "out"]) == 0
    assert "out: AutoModel loads it" in capsys.readouterr().out
    text = (tmp_path / "out" / "README.md").read_text()
    assert "4 clips of training" in text and "| loss |  1.25 |" in text
    (folder / "pretrain.json").unlink()
    assert main(["export", "runs/0123", "more"]) == 2
    assert "is not finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("began", "base"),
    [
        ("hubert:facebook/hubert-base-ls960@abc", "facebook/hubert-base-ls960"),
        ("hubert:facebook/hubert-base-ls960", "facebook/hubert-base-ls960"),
        ("hubert:./mine", None), ("hubert:~/mine", None), ("hubert:/data/anna", None),
        ("hubert:a/b/c", None), ("hubert:tiny", None), ("fbank", None), ("", None),
    ],
)  # fmt: skip
def test_the_model_that_it_began_from_is_named_where_it_is_on_the_hub(began, base):
    source = SimpleNamespace(record=None, saved=None, began=began, encoder=SimpleNamespace())
    folder = SimpleNamespace(head=False, library="transformers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card_of, "title", lambda source, head: "x")
        told = card_of._data(source, folder)
    assert told.base_model == base and told.eval_results is None and told.license == "unknown"

"""Cells of a table taken apart."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bab.cli import main
from bab.core.errors import BabError
from bab.core.record import Record
from bab.results import breakdown
from bab.results.record import save

RATES = [0.2, 0.9, 0.4, 0.7, 0.1, 0.8]


def make(name: str, encoder: str, shift: float = 0.0, **changes: Any) -> Record:
    picks = np.random.default_rng(0).integers(0, len(RATES), (300, len(RATES)))
    rates = np.asarray(RATES) + shift
    record = Record(
        id=name,
        status="done",
        task="gender",
        task_version="1",
        corpus="kaldi",
        corpus_version="1",
        corpus_digest="d",
        encoder=encoder,
        encoder_fingerprint="f",
        head="pooled",
        objective="cross_entropy",
        mode="probe",
        seed=0,
        protocol="given",
        split="test",
        primary="accuracy",
        metrics={"accuracy": float(rates.mean())},
        resamples={"groups": "g", "metric": "accuracy", "values": rates[picks].mean(1).tolist()},
        bootstrap={"samples": 300, "unit": "speaker", "units": 6},
        groups={"s1": {"accuracy": 0.5 + shift}, "s2": {"accuracy": 0.25}},
        subgroups={"age": {"4": {"accuracy": 0.5 + shift}, "12": {"accuracy": 0.7}}},
        config={"layers": "mix"},
    )
    return dataclasses.replace(record, **changes)


def test_one_encoder_against_another() -> None:
    records = [make("a", "fbank"), make("b", "hubert", 0.1), make("c", "hubert", 0.2, seed=1)]
    (gap,) = breakdown.gaps(records, "hubert", "fbank")
    assert gap.difference == pytest.approx(0.15) == pytest.approx(gap.a - gap.b)
    assert gap.low is not None and 0.09 < gap.low <= 0.15 <= gap.high < 0.21  # type: ignore[operator]
    assert gap.better == "hubert"
    (back,) = breakdown.gaps(records, "fbank", "hubert")
    assert back.difference == pytest.approx(-0.15) and back.better == "hubert"
    lower = [dataclasses.replace(r, higher_is_better=False) for r in records]
    assert breakdown.gaps(lower, "hubert", "fbank")[0].better == "fbank"
    text = " ".join(breakdown.versus(records, "hubert", "fbank").split())
    assert "| gender@kaldi accuracy | probe | | 0.667 | 0.517 | 0.150 | [" in text
    bare = [dataclasses.replace(r, resamples={}) for r in records]
    assert "not available" in breakdown.versus(bare, "hubert", "fbank")
    assert json.loads(breakdown.versus(bare, "hubert", "fbank", "json"))[0]["low"] is None
    with pytest.raises(BabError, match="did you mean 'hubert'"):
        breakdown.gaps(records, "huber", "fbank")
    with pytest.raises(BabError, match="in common"):
        breakdown.gaps([records[0], make("d", "ast", mode="finetune")], "ast", "fbank")


def test_encoders_are_compared_on_what_both_have_run() -> None:
    records = [make("a", "fbank"), make("b", "hubert", 0.1)]
    records.append(make("c", "fbank", task="phonemes", head="ctc"))  # one row: "ctc, pooled"
    (gap,) = breakdown.gaps(records, "hubert", "fbank")
    assert gap.column == "gender@kaldi"
    with pytest.raises(BabError, match="in common"):  # of other heads nothing is said
        breakdown.gaps([records[0], make("d", "hubert", head="logistic")], "hubert", "fbank")


def test_scores_by_subgroup_and_group_are_averaged_over_seeds() -> None:
    records = [make("a", "fbank"), make("b", "fbank", 0.1, seed=1), make("c", "hubert")]
    found = {
        (e.encoder, e.section, e.name): e.value for e in breakdown.entries(records, "subgroups")
    }
    assert found["fbank", "age", "4"] == pytest.approx(0.55)
    assert found["hubert", "age", "12"] == pytest.approx(0.7)
    text = " ".join(breakdown.show(records, "subgroups").split())
    assert "gender@kaldi accuracy, by age" in text
    assert "| settings | 4 | 12 |" in text and "| fbank | probe | | 0.550 | 0.700 |" in text
    rows = list(csv.DictReader(io.StringIO(breakdown.show(records, "recordings", "csv"))))
    assert {(r["section"], r["name"]) for r in rows} == {("speaker", "s1"), ("speaker", "s2")}
    with pytest.raises(BabError, match="no labels to part them"):
        breakdown.entries([make("a", "fbank", subgroups={})], "subgroups")


def test_layers_make_a_curve() -> None:
    records = [
        make(
            f"{layer}-{seed}",
            "hubert",
            layer / 100 + seed / 10,
            seed=seed,
            config={"layers": layer},
        )
        for layer in (0, 2, 10)
        for seed in (0, 1)
    ]
    found = breakdown.entries([*records, make("mix", "hubert")], "layers")
    assert [(e.name, e.settings) for e in found] == [("0", ""), ("10", ""), ("2", "")]
    assert found[1].value == pytest.approx(np.mean(RATES) + 0.15)
    assert "| settings | 0 | 2 | 10 |" in " ".join(breakdown.show(records, "layers").split())
    with pytest.raises(BabError, match="--layers N"):
        breakdown.entries([make("mix", "hubert")], "layers")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for record in (make("a", "fbank"), make("b", "hubert", 0.1)):
        save(record, tmp_path / "runs" / record.id)
    runs = str(tmp_path / "runs")
    assert main(["table", runs, "--compare", "hubert", "fbank", "--format", "csv"]) == 0
    assert "hubert" in capsys.readouterr().out.splitlines()[1]
    assert main(["table", runs, "--subgroups"]) == 0
    assert "by age" in capsys.readouterr().out
    assert main(["table", runs, "--per-recording", "--format", "latex"]) == 0
    assert "by speaker" in capsys.readouterr().out
    assert main(["table", runs, "--per-layer"]) == 2
    assert "no run used a single layer" in capsys.readouterr().err

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
from made_records import kept

from bab.cli import main
from bab.core.errors import BabError
from bab.core.record import Record
from bab.results import breakdown
from bab.results.record import save

RATES = [0.2, 0.9, 0.4, 0.7, 0.1, 0.8]


def make(name: str, encoder: str, shift: float = 0.0, **changes: Any) -> Record:
    # Each encoder takes the groups in its own way: the difference has a spread.
    rates = np.asarray(RATES) + shift + shift / 10 * np.cos(np.arange(len(RATES)))
    rates += shift - (rates - RATES).mean()
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
        jackknife=kept(rates.tolist(), metric="accuracy", unit="speaker"),
        groups={"home00": {"accuracy": 0.5 + shift}, "home01": {"accuracy": 0.25}},
        subgroups={"age": {"4": {"accuracy": 0.5 + shift}, "12": {"accuracy": 0.7}}},
        config={"layers": "mix"},
    )
    return dataclasses.replace(record, **changes)


def test_one_encoder_against_another() -> None:
    records = [make("a", "fbank"), make("b", "hubert", 0.1), make("c", "hubert", 0.2, seed=1)]
    records.append(make("d", "fbank", 0.01, seed=1))
    (gap,) = breakdown.gaps(records, ["hubert", "fbank"])
    assert gap.difference == pytest.approx(0.145) == pytest.approx(gap.a - gap.b)
    assert gap.low is not None and gap.low < 0 < 0.145 < gap.high  # type: ignore[operator]
    assert gap.better == gap.why == ""  # its two seeds are as far apart as that
    (gap,) = breakdown.gaps(records[:2], ["hubert", "fbank"])
    assert gap.low is not None and 0.09 < gap.low < 0.1 < gap.high < 0.11  # type: ignore[operator]
    assert gap.better == "hubert" and gap.one_seed
    (back,) = breakdown.gaps(records[:2], ["fbank", "hubert"])
    assert back.difference == pytest.approx(-0.1) and back.better == "hubert"
    lower = [dataclasses.replace(r, higher_is_better=False) for r in records[:2]]
    assert breakdown.gaps(lower, ["hubert", "fbank"])[0].better == "fbank"
    text = " ".join(breakdown.versus(records[:2], ["hubert", "fbank"]).split())
    assert "| gender@kaldi accuracy | probe | | hubert | fbank | 0.617 | 0.517 | 0.100 | [" in text
    assert "one seed: trained models" in text
    bare = [dataclasses.replace(r, jackknife={}) for r in records]
    assert "can't be told" in breakdown.versus(bare, ["hubert", "fbank"])
    assert json.loads(breakdown.versus(bare, ["hubert", "fbank"], "json"))[0]["low"] is None
    with pytest.raises(BabError, match="did you mean 'hubert'"):
        breakdown.gaps(records, ["huber", "fbank"])
    with pytest.raises(BabError, match="name two or more"):
        breakdown.gaps(records, ["fbank", "fbank"])
    with pytest.raises(BabError, match="in common"):
        other = make("d", "ast", mode="finetune")
        breakdown.gaps([records[0], other], ["ast", "fbank"])


def test_few_groups_give_an_interval_and_no_verdict() -> None:
    few = [0.2, 0.5, 0.4, 0.3]
    records = [
        make("a", "fbank", jackknife=kept(few)),
        make("b", "hubert", jackknife=kept([0.6, 0.91, 0.8, 0.7])),
    ]
    records[1].metrics["accuracy"] = 0.7525
    records[0].metrics["accuracy"] = 0.35
    (gap,) = breakdown.gaps(records, ["hubert", "fbank"])
    assert gap.low is not None and gap.low > 0 and gap.better == "" and gap.why == "4 groups"


def test_several_encoders_are_compared_together() -> None:
    """The intervals of all pairs are wider than each pair's own would be."""
    records = [make(name, name, shift) for name, shift in (("a", 0.0), ("b", 0.1), ("c", 0.3))]
    pairs = {(g.encoder_a, g.encoder_b): g for g in breakdown.gaps(records, ["c", "a", "b"])}
    assert list(pairs) == [("c", "a"), ("c", "b"), ("a", "b")]
    (alone,) = breakdown.gaps(records, ["a", "b"])
    both = pairs["a", "b"]
    assert both.low is not None and alone.low is not None and both.low < alone.low
    text = breakdown.versus(records, ["c", "a", "b"])
    assert "hold all together" in text and text.count("gender@kaldi") == 3
    assert "hold all together" not in breakdown.versus(records, ["a", "b"])


def test_encoders_are_compared_on_what_both_have_run() -> None:
    records = [make("a", "fbank"), make("b", "hubert", 0.1)]
    records.append(make("c", "fbank", task="phonemes", head="ctc"))  # one row: "ctc, pooled"
    (gap,) = breakdown.gaps(records, ["hubert", "fbank"])
    assert gap.column == "gender@kaldi"
    with pytest.raises(BabError, match="in common"):  # of other heads nothing is said
        breakdown.gaps([records[0], make("d", "hubert", head="logistic")], ["hubert", "fbank"])


def test_encoders_are_compared_beside_runs_that_were_made_in_another_way() -> None:
    def config(steps: int, **options: str) -> dict[str, object]:
        return {"train": {"steps": steps}, "encoder": {"options": options}}

    records = [
        make("a", "fbank", config=config(50, cmvn="utterance")),
        make("b", "fbank", 0.1, config=config(500, cmvn="none")),
        make("c", "hubert", 0.2, config=config(50)),
        make("d", "hubert", 0.3, config=config(9)),
    ]
    (gap,) = breakdown.gaps(records, ["hubert", "fbank"])
    assert (gap.settings, gap.difference) == ("train.steps=50", pytest.approx(0.2))
    other = [make("f", "fbank", task="accent"), make("g", "hubert", 0.1, task="accent")]
    both = breakdown.gaps([*records, *other], ["hubert", "fbank"])  # a column doesn't hide another
    assert [(g.column, g.settings) for g in both] == [
        ("accent@kaldi", ""), ("gender@kaldi", "train.steps=50"),
    ]  # fmt: skip
    records.append(make("e", "fbank", config=config(50, cmvn="none")))  # which of the two?
    with pytest.raises(BabError, match=r"settings in common \(`bab table` shows each one's\)$"):
        breakdown.gaps(records, ["hubert", "fbank"])


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
    assert {(r["section"], r["name"]) for r in rows} == {
        ("speaker", "home00"),
        ("speaker", "home01"),
    }
    day = make("d", "fbank", groups={"day1": {"accuracy": 0.5}})  # of a frame task: recordings
    assert [e.section for e in breakdown.entries([day], "recordings")] == ["recording"]
    with pytest.raises(BabError, match="no labels to part them"):
        breakdown.entries([make("a", "fbank", subgroups={})], "subgroups")


def test_many_parts_stand_below_each_other() -> None:
    def ages(first: int) -> dict[str, object]:
        return {"age": {str(age): {"accuracy": age / 100} for age in range(first, first + 14)}}

    records = [make("a", "fbank", subgroups=ages(1)), make("b", "hubert", subgroups=ages(2))]
    text = breakdown.show(records, "subgroups").splitlines()
    assert text[2:7] == [
        "| age | fbank, probe | hubert, probe |",
        "| --- | -----------: | ------------: |",
        "| 1   |        0.010 |               |",
        "| 2   |        0.020 |         0.020 |",
        "| 3   |        0.030 |         0.030 |",
    ]
    assert text[-1] == "| 15  |              |         0.150 |"
    many = [make(f"{i}", f"e{i}", subgroups=ages(1)) for i in range(14)]
    assert "| encoder | mode" in breakdown.show(many, "subgroups")  # as wide one way as the other


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
    save(make("c", "ast", 0.2), tmp_path / "runs" / "c")
    assert main(["table", runs, "--compare", "hubert", "fbank", "ast", "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.split()) == 4
    assert main(["table", runs, "--compare", "hubert", "fbank", "asd"]) == 2
    assert "did you mean 'ast'" in capsys.readouterr().err
    assert main(["table", runs, runs]) == 2
    assert "one folder of runs" in capsys.readouterr().err
    assert main(["table", str(tmp_path / "none")]) == 2
    assert "`bab run` makes it; `--runs` names it" in capsys.readouterr().err
    assert main(["table", runs, "--subgroups"]) == 0
    assert "by age" in capsys.readouterr().out
    assert main(["table", runs, "--per-recording", "--format", "latex"]) == 0
    assert "by speaker" in capsys.readouterr().out
    assert main(["table", runs, "--per-layer"]) == 2
    assert "no run used a single layer" in capsys.readouterr().err

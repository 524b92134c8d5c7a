"""Records on disk: written, read, gathered."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from made_records import CONFIG, edit, kept, make, put

from bab.core.errors import BabError
from bab.results.detail import detail
from bab.results.record import collect, load, save
from bab.results.summary import summarise
from bab.results.table import table


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    record = make(
        groups={"home01": {"f1": 0.5}},
        subgroups={"gender": {"f": {"f1": 0.25}}},
        presets={"f1": {"metrics": {"f1": 0.65}, "intervals": {"f1": (0.5, 0.75)}}},
        tuned={"f1": {"thresholds": {"KCHI": 0.4}}},
        notices=["«näher»"],
    )
    path = save(record, tmp_path / "run")
    back = load(path)
    back.presets["f1"]["intervals"]["f1"] = tuple(back.presets["f1"]["intervals"]["f1"])
    assert back == record
    assert load(tmp_path / "run").id == "r1"
    assert isinstance(back.intervals["f1"], tuple)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["record.json"]


def test_numbers_that_json_lacks(tmp_path: Path) -> None:
    path = save(make(metrics={"f1": math.nan}, dev={"f1": math.inf}), tmp_path)
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    back = load(path)
    assert math.isnan(back.metrics["f1"]) and math.isnan(back.dev["f1"])
    assert "undefined" in table([back])
    assert json.loads(table([back], "json"))["rows"][0]["cells"][0]["value"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "format 3, this bab reads formats 1 and 2"),
        ({"format": None}, "no format number"),
        ({"extra": 1, "more": 2}, "unknown fields: extra, more"),
        ({"seed": "zero"}, "seed: .*integer"),
        ({"metrics": {"f1": "high"}}, r"metrics.f1: .*number"),
        ({"intervals": {"f1": [0.1]}}, r"intervals.f1"),
    ],
)
def test_strange_records_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = save(make(), tmp_path)
    edit(path, **change)
    with pytest.raises(BabError, match=f"record.json: .*{message}"):
        load(path)


def test_an_earlier_babs_record_is_shown_without_marks(tmp_path: Path) -> None:
    before = {"bootstrap": {"samples": 9, "unit": "child", "units": 3}, "resamples": {"values": []}}
    for name, encoder in (("a", "fbank"), ("b", "hubert")):
        path = put(tmp_path, make(name, encoder=encoder))
        values = json.loads(path.read_text()) | before | {"format": 1}
        del values["jackknife"], values["checksum"]
        path.write_text(json.dumps(values))
    record = load(path)
    assert record.jackknife == {"unit": "child"} and record.format == 1
    text = table(tmp_path)
    assert "0.650" in text and "★" not in text and "[" not in text
    assert "an earlier bab's record" in text
    assert "an earlier bab's record" in detail(record) and "0.650 [0.550, 0.750]" in detail(record)
    options = {"task": {"name": "vtc", "options": {"convention": "bab"}}}  # one that came later
    for path in tmp_path.rglob("record.json"):
        of_old = json.loads(path.read_text())["config"]
        edit(path, config=of_old | {"task": {"name": "vtc", "options": {}}, "bootstrap": 1000})
        assert load(path).config["task"] == options["task"]  # as it was before it was an option
    put(tmp_path, make("c", config=CONFIG | options))  # the same run, made anew: it alone counts
    cell = next(r for r in summarise(collect(tmp_path)[0]).rows if r.encoder == "fbank").cells[0]
    assert cell is not None and cell.seeds == (0,) and not cell.old


def test_broken_and_missing_records_are_named(tmp_path: Path) -> None:
    path = save(make(), tmp_path)
    values = json.loads(path.read_text())
    del values["encoder"], values["checksum"]
    path.write_text(json.dumps(values))
    with pytest.raises(BabError, match="encoder: Field required"):
        load(path)
    path.write_text('{"format": 1, "id":')
    with pytest.raises(BabError, match="is not JSON"):
        load(path)
    path.write_text("[" * 100_000)
    with pytest.raises(BabError, match=r"is not JSON .*: repeat the run with --force"):
        load(path)
    path.write_text("[]")
    with pytest.raises(BabError, match="is not a record"):
        load(path)
    with pytest.raises(BabError, match="can't be read"):
        load(tmp_path / "elsewhere.json")


def test_collect_walks_and_reports_what_it_leaves_out(tmp_path: Path) -> None:
    put(tmp_path, make("a"))
    put(tmp_path, make("b", encoder="hubert:/models/mine"))
    broken = put(tmp_path, make("c"))
    broken.write_text("{")
    unfinished = tmp_path / "vtc/rttm/fbank/d"
    (unfinished / "checkpoints").mkdir(parents=True)
    (unfinished / ".lock").touch()
    pretrained = tmp_path / "pretrain/rttm/hubert/e"
    pretrained.mkdir(parents=True)
    for name in (".lock", "pretrain.json"):
        (pretrained / name).touch()
    inside = tmp_path / "vtc/rttm/fbank/a/folds/0"  # a run's own affairs
    inside.mkdir(parents=True)
    (inside / "record.json").write_text("{")
    put(tmp_path / "vtc/.search", make("hidden"))  # the runs of a search, half-written folders
    put(tmp_path / ".tmp-1-a", make("hidden too"))
    found, skipped = collect(tmp_path)
    assert [r.id for r in found] == ["a", "b"]
    assert [(Path(s.path).name, re.split(r" is not|:", s.reason)[0]) for s in skipped] == [
        ("c", "record.json"),
        ("d", "unfinished"),
    ]
    text = table(tmp_path)
    assert "fbank/c" in text and "fbank/d: unfinished" in text
    assert [s["path"][-1] for s in json.loads(table(tmp_path, "json"))["skipped"]] == [
        "c",
        "d",
    ]
    assert [r.id for r in collect(tmp_path / "vtc/rttm/fbank/a")[0]] == ["a"]
    assert [r.id for r in collect(broken.parent.parent / "a/record.json")[0]] == ["a"]
    with pytest.raises(BabError, match="no such folder"):
        collect(tmp_path / "none")


def test_a_table_of_records_read_in_brief_is_that_of_whole_ones(tmp_path: Path) -> None:
    """What is left out of memory is nothing that a table says."""
    few = {"home1": {"f1": 0.5, "f1/KCHI": 0.4}, "home2": {"f1": 0.7}}
    long = kept([0.2, 0.9, 0.4, 0.7, 0.1, 0.8])
    for i in range(3):
        for encoder, groups in (("fbank", few), ("hubert:base", few), ("wavlm", {})):
            jackknife = kept([0.5, 0.7], groups=list(few)) if groups else long
            record = make(
                f"{encoder[:2]}{i}", 0.5 + i / 50, encoder=encoder, seed=i, groups=groups,
                jackknife=jackknife, presets={"f1": {"metrics": {"f1": 0.5}}},
                data={"heard": {"test": 1}, "unseen": "made"}, notices=["long"],
                versions={"torch": "2", "mine plugin": f"{1 + (encoder == 'wavlm')}.0"},
                format=1 if i == 0 and encoder == "fbank" else 2,
            )  # fmt: skip
            put(tmp_path / encoder[:2], record)
    put(tmp_path, make("failed", status="failed", reason="no disk", metrics={}))
    whole, brief = collect(tmp_path)[0], collect(tmp_path, brief=True)[0]
    assert len(whole) == len(brief) == 10
    for form in ("markdown", "csv", "latex", "json"):
        shown = table(tmp_path, form)
        expected = table(whole, form)
        assert (
            json.loads(shown)["rows"] == json.loads(expected)["rows"]
            if form == "json"
            else (shown == expected)
        )
    assert brief[0].presets == {} and whole[0].presets
    one, two, _ = (r for r in brief if r.encoder == "wavlm")
    for values, other in (
        (one.config["train"], two.config["train"]),
        (one.jackknife["groups"], two.jackknife["groups"]),
    ):
        assert values and values is other  # held once
    assert one.jackknife["left_out"] is not two.jackknife["left_out"]


def test_any_flipped_bit_of_a_record_is_found_by_name(tmp_path: Path) -> None:
    path = save(make(groups={"home01": {"f1": 0.5}}), tmp_path / "vtc/rttm/fbank/r1")
    good, wrong = path.read_bytes(), 0
    for place in range(0, 8 * len(good), 37):
        data = bytearray(good)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        for brief in (False, True):
            with pytest.raises(BabError, match=re.escape(str(path))):
                load(path, brief)
        wrong += 1
    assert wrong > 300
    (skipped,) = collect(tmp_path)[1]
    assert skipped.path == str(path.parent)
    edited = good.replace(b'"f1": 0.65', b'"f1": 0.75')
    path.write_bytes(edited)
    with pytest.raises(
        BabError, match=r"record.json is damaged, or was edited .*--force.*'checksum'"
    ):
        load(path)
    edit(path)  # the checksum is gone: an earlier version's, or a change on purpose
    assert load(path).metrics["f1"] == 0.75


def test_records_of_few_groups_keep_their_scores_in_brief(tmp_path: Path) -> None:
    for count in (3, 6):
        groups = {f"home{i:02}": {"f1": i / 10} for i in range(count)}
        rates = [i / 10 for i in range(count)]
        record = make(groups=groups, jackknife=kept(rates), metrics={"f1": 0.5, "\n  other": 1.0})
        short = load(save(record, tmp_path), brief=True)
        assert short.metrics == {"f1": 0.5} and short.jackknife == record.jackknife
        assert short.groups == (groups if count == 3 else {}) and short.presets == {}

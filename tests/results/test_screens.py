"""What people read: folded tables, brief settings, short headings, encoders by short names."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from made_records import CONFIG, make

from bab.cli.echo import echo_table
from bab.core.errors import BabError, counted, did_you_mean
from bab.results import breakdown
from bab.results.folding import folded
from bab.results.record import load, save
from bab.results.settings import brief
from bab.results.table import table


def config(**changes: object) -> dict[str, object]:
    return {**CONFIG, **changes}


def test_a_wide_table_folds_into_blocks_and_loses_nothing() -> None:
    wide = table([make("a", 0.7), make("b", 0.6, encoder="hubert:tiny")])
    assert folded(wide, 0) == wide and folded(wide, 300) == wide
    narrow = folded(wide, 60)
    assert all(len(line) <= 60 for line in narrow.splitlines())
    for word in ("fbank, probe, frames", "hubert:tiny, probe", "0.700", "94.4 M", "parameters"):
        assert word in narrow
    short = "| a | b |\n| --- | ---: |\n| x | 1 |\n"
    assert folded(short, 60) == short
    code = "    " + "x " * 60
    assert folded(code, 60) == code


def test_folded_tables_to_the_letter() -> None:
    """Words name a block; a value has a line, or more of at least twenty characters."""
    fits, long = "aaaaaaaaaa bbbbbbbbb", "aaaaaaaaaa bbbbbbbbbb"
    wide = "\n".join([
        "| encoder | mode  |  score |     parameters |",
        "| ------- | ----- | -----: | -------------: |",
        f"| x       | probe |    0.5 | {fits} |",
        f"|         | y     |        | {long} |",
        "",
    ])  # fmt: skip
    one = "x, probe\n  score       0.5\n  parameters  " + fits
    two = "y\n  parameters  aaaaaaaaaa\n              bbbbbbbbbb\n"
    head = "a b\n- one two three four five six\n"
    assert folded(head + wide + "end\n", 24) == (
        f"a b\n- one two three four\n  five six\n{one}\n\n{two}\nend\n"
    )
    longest = max(map(len, wide.splitlines()))
    assert folded(wide, longest) == wide and folded("x" * 12, 12) == "x" * 12
    # Of one column of words too many, and of numbers alone.
    only = "| number of things |\n| ---------------: |\n|                1 |\n"
    assert folded(only, 12) == "1\n  number of things  1\n"


def test_settings_of_a_recipe_beside_a_default_are_brief() -> None:
    keys = {"head.rnn": "none", "head.hidden": "96", "train.lr": "0.01", "train.steps": "500"}
    keys |= {f"train.other{i}": "0" for i in range(12)}
    default = ", ".join(f"{k}={v}" for k, v in keys.items())
    recipe = default.replace("rnn=none", "rnn=bilstm").replace("0.01", "0.002")
    one, two, none = brief([default, recipe, ""])
    assert two == "rnn=bilstm, hidden=96, lr=0.002, +13" and none == ""
    assert one == "hidden=96, lr=0.01, steps=500, +13" and len(one) < 50
    # As many as it takes to tell two rows apart; a word that two keys end in stays whole.
    alike = [f"a.x=1, b.x=1, c=1, d=1, e={i}" for i in (1, 2)]
    assert brief(alike) == [f"a.x=1, b.x=1, c=1, d=1, e={i}" for i in (1, 2)]
    assert brief(["betas=[0.9, 0.98], lr=1"]) == ["betas=[0.9, 0.98], lr=1"]
    # It is enough to be like one of several others.
    three = ["a=1, b=1, c=1, d=1", "a=1, b=1, c=1, d=2", "a=2, b=2, c=2, d=1"]
    assert brief(three) == [three[0], three[1], "a=2, b=2, c=2, +1"]


def test_the_settings_column_is_narrow_and_csv_has_all() -> None:
    deep = {f"option{i}": i for i in range(20)}
    rows = [
        make("a", 0.7, config=config(head={"options": deep})),
        make("b", 0.6, config=config(head={"options": {k: v + 1 for k, v in deep.items()}})),
    ]
    header = table(rows).splitlines()[0]
    assert "settings" in header and len(header) < 160
    assert "head.options.option19=20" in table(rows, "csv")


def test_latex_headings_stand_in_two_lines() -> None:
    first = table([make("a", 0.7)], "latex").splitlines()
    (heading,) = [line for line in first if line.startswith("encoder &")]
    assert r"\shortstack{vtc@rttm \\ f1 $\uparrow$}" in heading


def test_compare_takes_what_encoder_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    folder = f"hubert:{tmp_path.resolve() / 'mine'}"
    runs = [
        make(str(i), 0.5 + i / 10, encoder=name, encoder_fingerprint=f"{i}" * 16)
        for i, name in enumerate(("fbank", "hubert:tiny", "hubert:base", folder, "wavlm:base"))
    ]

    def pair(*names: str) -> list[tuple[str, str]]:
        return [(g.encoder_a, g.encoder_b) for g in breakdown.gaps(runs, names)]

    assert pair("hubert", "fbank") == [("hubert:tiny", "fbank")]  # its default weights
    assert pair("wavlm", "fbank") == [("wavlm:base", "fbank")]  # the only ones there are
    assert pair("hubert:mine", "hubert:base") == [(folder, "hubert:base")]
    with pytest.raises(BabError, match=r"no run is of encoder 'hubert:larg'.*did you mean"):
        pair("hubert:larg", "fbank")


def test_messages_name_the_five_nearest_of_many_and_count_nouns() -> None:
    many = [f"train.key{i}" for i in range(40)]
    said = did_you_mean("zzz", many)
    assert said.startswith("nearest: ") and said.count(",") == 4
    assert did_you_mean("zzz", many[:3]) == "known: train.key0, train.key1, train.key2"
    assert (counted(1, "recording"), counted(2, "recording")) == ("1 recording", "2 recordings")
    assert counted(1200, "file") == "1,200 files"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_table_folds_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    """COLUMNS is often exported; what is piped into a file is read by programs."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    wide = table([make("a", 0.7), make("b", 0.6, encoder="hubert:tiny")])
    echo_table(wide)
    assert (capsys.readouterr().out == wide + "\n") is not terminal


def test_a_record_keeps_lists_of_numbers_on_a_line(tmp_path: Path) -> None:
    many, names = [i / 7 for i in range(300)], [f"home{i}" for i in range(300)]
    told = ["a sentence that is longer than forty letters [x]\n", "b" * 60]
    record = make("a", 0.7, notices=told)
    record.jackknife |= {"left_out": many, "groups": names, "sizes": many}
    text = save(record, tmp_path).read_text()
    assert len(text.splitlines()) < 120 and load(tmp_path / "record.json").jackknife == (
        record.jackknife
    )
    plain = json.loads(text)
    assert plain.pop("checksum").startswith("bab:")
    assert plain["notices"] == told
    assert plain == json.loads(json.dumps(dataclasses.asdict(record)))


def test_a_folded_table_to_the_letter() -> None:
    wide = [
        "| encoder | task |   f1 | words of a long heading |",
        "| ------- | ---- | ---: | ----------------------: |",
        "| fbank   | vtc  | 0.61 |                   a b c |",
        "|         |      |      |                     0.5 |",
        "| hubert  |      | 0.75 |                         |",
    ]
    told = folded("\n".join(["before", *wide, "after", ""]), 40).splitlines()
    name = len("words of a long heading")
    assert told == [
        "before",
        "fbank, vtc",
        f"  {'f1':<{name}}  0.61",
        f"  {'words of a long heading':<{name}}  a b c",
        "",
        *("", f"  {'words of a long heading':<{name}}  0.5", ""),
        *("hubert", f"  {'f1':<{name}}  0.75", ""),
        "after",
    ]
    assert folded("\n".join(wide), 80) == "\n".join(wide)
    assert folded(
        "a long line of words\n- a point of words\n    code that stays as it is\n", 12
    ) == ("a long line\nof words\n- a point of\n  words\n    code that stays as it is\n")

"""Results beside their shortcut: what is above it, and what a table says."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from made_records import kept, make
from made_records import table as markdown_table

from bab.core.errors import BabError
from bab.core.record import Record
from bab.results.audit import BELOW, Audit, Trait, collect, fitting, gap, load, render, save
from bab.results.table import table

HOMES = [0.50, 0.53, 0.47, 0.55, 0.45, 0.52, 0.48, 0.51]


def one(name: str, shift: float, homes: list[float] = HOMES, **more: object) -> Record:
    """A result that is so much higher in every home, give or take a little."""
    rates = [x + shift + (0.01 if i % 2 else -0.01) for i, x in enumerate(homes)]
    value = sum(rates) / len(rates)
    return make(name, value, metrics={"f1": value}, jackknife=kept(rates), **more)


def made(shift: float = 0.0, **more: object) -> Audit:
    flat = make("c", 0.3, metrics={"f1": 0.3}, jackknife=kept([0.3] * 8), **more)
    rows = {name: [flat] for name in ("names", "majority", "shuffled")}
    rows["traits"] = [one("t", shift, **more)]
    traits = [
        Trait("sample rate", "Hz", 0.5, 0.2, False, {"KCHI": 8000.0, "FEM": 44100.0}),
        Trait("name length", "letters", 0.3, None, True, {}),
    ]
    return Audit("a", rows, traits, ["a notice"])


def test_above_is_told_by_the_paired_interval() -> None:
    shortcut = made().shortcut
    high, same, low = (gap([one("x", d)], shortcut) for d in (0.1, 0.0, -0.1))
    assert high.above and high.value == pytest.approx(0.1)
    assert not same.above and not low.above and low.value == pytest.approx(-0.1)
    noisy = make("n", 0.55, metrics={"f1": 0.55}, jackknife=kept([0.9, 0.2] * 4))
    wide = gap([noisy], shortcut)
    assert not wide.above and wide.low is not None and wide.low < 0 < wide.value
    few = gap([one("x", 0.3, HOMES[:4])], [one("y", 0.0, HOMES[:4])])
    assert not few.above  # four homes: nothing can be shown
    other = make("o", 0.9, metrics={"f1": 0.9}, jackknife=kept([0.9] * 8, groups=list("abcdefgh")))
    assert not gap([other], shortcut).above  # of other groups


def test_of_error_rates_less_is_above() -> None:
    better, worse = (one("x", d, higher_is_better=False) for d in (-0.1, 0.1))
    shortcut = [one("y", 0.0, higher_is_better=False)]
    assert gap([better], shortcut).above and gap([better], shortcut).value > 0
    assert not gap([worse], shortcut).above


def test_a_table_has_a_column_beside_the_audited_one_and_marks() -> None:
    rows = [one("r1", 0.2, encoder="good"), one("r2", 0.0, encoder="shallow")]
    text = table(rows, audits=[made()])
    lines = text.splitlines()
    assert "above its shortcut (0.501)" in lines[0]
    good, shallow = lines[2], lines[3]
    assert good.startswith("| good") and BELOW not in good and "+0.200" in good
    assert BELOW in shallow and "+0.000" in shallow
    assert f"- {BELOW} not shown to be above" in text
    assert "The sample rate alone gives 0.500" in text
    assert BELOW not in table(rows) and "nabla" in table(rows, "latex", [made()])
    cells = list(csv.DictReader(table(rows, "csv", [made()]).splitlines()))
    assert [cell["above_shortcut"] for cell in cells] == ["True", "False"]
    assert '"shortcuts"' in table(rows, "json", [made()])


def test_beside_a_row_that_lacks_the_audited_task_nothing_stands() -> None:
    rows = [one("r1", 0.2, encoder="good"), one("r2", 0.1, encoder="other", task="age"),
            make("r3", encoder="bad", status="failed", reason="no disk", metrics={})]  # fmt: skip
    cells = {row[0]: row for row in markdown_table(table(rows, audits=[made()]))}
    place = cells["encoder"].index("above its shortcut (0.501)")
    assert cells["good"][place].startswith("+0.200 [")
    assert [cells[name][place - 1 : place + 1] for name in ("other", "bad")] == [
        ["", ""], ["failed: no disk", ""],
    ]  # fmt: skip
    lines = csv.DictReader(table(rows, "csv", [made()]).splitlines())
    told = {line["encoder"]: [line[k] for k in ("shortcut", "gap", "above_shortcut")]
            for line in lines}  # fmt: skip
    assert told["other"] == told["bad"] == ["", "", ""] and told["good"][2] == "True"


def test_an_audit_of_other_data_stands_beside_nothing() -> None:
    for other in (
        {"corpus_digest": "d2"},
        {"labels": {"voice": ["KCHI"]}},
        {"protocol": "kfold-6"},
    ):
        assert fitting([made(**other)], [one("r", 0.1)]) is None
        assert "shortcut" not in table([one("r", 0.1)], audits=[made(**other)])
    older, newer = made(0.0, created="2026-01-01"), made(0.1, created="2026-02-01")
    assert fitting([newer, older], [one("r", 0.1)]) is newer


def test_kept_read_and_printed(tmp_path: Path) -> None:
    path = tmp_path / ".audit" / "vtc" / "rttm" / "a.json"
    save(made(), path)
    assert collect(tmp_path) == [load(path)]
    assert load(path).rows["traits"] == list(made().rows["traits"])
    text = render(made())
    assert "SHORTCUT: recording traits alone get f1 0.501" in text
    assert "KCHI 8000, FEM 44100" in text
    assert "the same for all clips: name length" in text and "- a notice" in text
    assert len(render(made(), "csv").splitlines()) == 3
    path.write_text('{"format": 9}')
    with pytest.raises(BabError, match=r"a\.json: is no audit .*format is 9"):
        load(path)

"""What an audit says, how it is printed and kept, and which column it fits."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_records import GROUPS, kept, make, notes, one, table

from bab.core.errors import BabError
from bab.core.record import Record
from bab.results import audit
from bab.results.audit import NAMES, SHUFFLED, TRAITS, Audit, Trait


def audited(trait: float, names: float, shuffled: float = 0.3, **more: Any) -> Audit:
    def flat(value: float) -> list[Record]:
        return [one("z", "z", value - np.mean(GROUPS), 0.01, **more)]

    rows = {TRAITS: [one("t", "t", trait - np.mean(GROUPS), 0.03, **more)], NAMES: flat(names),
            "majority": flat(0.25), SHUFFLED: flat(shuffled)}  # fmt: skip
    listed = [
        Trait("name digits", "digits in it", 0.6, None, False, {}),
        Trait(
            "sample rate", "Hz", 0.5, -0.125, False, {"A": 44100.0, "B": 0.38521, "C": -3.811e-6}
        ),
        *[Trait(f"t{i}", "m", 0.4, 0.0, False, {}) for i in range(9)],
        Trait("flat", "m", 0.3, 0.0, True, {}),
    ]
    return Audit("id", rows, listed, ["a notice"])


def test_what_an_audit_says() -> None:
    made = audited(0.6, 0.7)
    assert audit.control(made) == SHUFFLED and audit.control(audited(0.6, 0.7, 0.2)) == "majority"
    lower = {"higher_is_better": False}
    assert audit.control(audited(0.6, 0.7, **lower)) == "majority"
    low, high = (x for x in audit.interval(made.rows[TRAITS])[:2])
    traits, names = audit.verdict(made)
    assert traits == (
        f"SHORTCUT: recording traits alone get f1 0.600 [{low:.3f}, {high:.3f}], where chance "
        "(shuffled) gets 0.300. The sample rate alone gives 0.500. A model shows that it uses more "
        "only where its score is above that."
    )
    assert names.startswith("SHORTCUT: file names alone get f1 0.700 [")
    assert names.endswith("where chance (shuffled) gets 0.300. The name digits alone gives 0.600.")
    none = audit.verdict(audited(0.3, 0.3))
    assert none[0].startswith("No shortcut shown: recording traits alone get f1 0.300 [")
    assert none[0].endswith(", chance (shuffled) 0.300.") and len(none) == 2
    assert audit.column_notes("c", made) == [f"c: {text}" for text in (traits, names)]
    few = audited(0.6, 0.7, jackknife=kept(GROUPS[:4]))
    assert audit.verdict(few)[0].startswith("No shortcut shown (4 groups: too few to tell): record")
    assert audit.column_notes("c", few)[-1] == (
        "c: 4 groups: nothing can be shown to be above its shortcut"
    )


def test_an_audit_on_paper() -> None:
    made = audited(0.6, 0.7, units={"f1": "%"})
    text = audit.render(made)
    assert text.startswith("### vtc@rttm, given: what needs no listening\n")
    scores, traits = text.split("### Which traits\n")
    assert table(scores)[0] == ["from", "which is", "f1 (%)"]
    assert [row[0] for row in table(scores)[2:]] == ["traits", "names", "majority", "shuffled"]
    assert notes(scores) == [*audit.verdict(made), "a notice"]
    assert table(traits)[0] == ["trait", "what it is", "alone", "drop", "median of each class"]
    assert table(traits)[2] == ["name digits", "digits in it", "0.6", "", ""]
    assert table(traits)[3] == [
        *("sample rate", "Hz", "0.5", "-0.125", "A 44100, B 0.3852, C -3.811e-06"),
    ]
    assert table(traits)[4][3] == "+0.000" and len(table(traits)) == 2 + 10
    assert notes(traits)[0].startswith(
        "alone: f1 of one tree of at most eight leaves on this trait"
    )
    assert "largest of 12 is above chance" in notes(traits)[0]
    assert notes(traits)[3:] == [
        "the same for all clips: flat", "the first 10 of 11 that vary; --format csv has all"
    ]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(audit.render(made, "csv"))))
    assert list(rows[0]) == ["trait", "alone", "drop", "constant"] and len(rows) == 12
    assert json.loads(audit.render(made, "json"))["traits"][1]["classes"]["A"] == 44100.0
    # Words are aligned left, numbers right.
    assert re.findall(r"\\begin{tabular}{(\w+)}", audit.render(made, "latex")) == ["llr", "llrrr"]
    assert [row[1] for row in table(scores)[2:]] == list(audit.ROWS.values())
    assert notes(traits)[1:3] == [
        "drop: how much the trees on all traits lose when this one is shuffled among the tested "
        "clips (mean of 3); traits that say the same stand in for each other",
        "medians by class are over all clips",
    ]
    with pytest.raises(BabError, match="no table format"):
        audit.render(made, "text")


def test_audits_on_disk(tmp_path: Path) -> None:
    made = audited(0.6, 0.7)
    path = tmp_path / audit.FOLDER / "x.json"
    audit.save(made, path)
    values = json.loads(path.read_text())
    values["traits"][0]["alone"] = None
    path.write_text(json.dumps(values))
    assert math.isnan(audit.load(path).traits[0].alone) and len(audit.collect(tmp_path)) == 1
    with pytest.raises(BabError, match=r"none\.json: can't be read \(No such file"):
        audit.load(tmp_path / "none.json")
    for change in ({"format": 2}, {"rows": {}}, {"rows": None}, {"traits": [{"name": "x"}]}):
        path.write_text(json.dumps(values | change))
        with pytest.raises(
            BabError, match=r"x\.json: is no audit \(.*\): `bab audit --force` makes"
        ):
            audit.load(path)


def test_an_audit_fits_a_column_of_its_data(tmp_path: Path) -> None:
    made = audited(0.6, 0.7)
    fits = [make("a", status="failed", task="x"), make("b")]
    assert audit.fitting([made], fits) is made and audit.fitting([made], fits[:1]) is None
    for change in (
        "task",
        "task_version",
        "corpus",
        "corpus_digest",
        "protocol",
        "split",
        "primary",
    ):
        assert audit.fitting([made], [make("b", **{change: "other"})]) is None, change

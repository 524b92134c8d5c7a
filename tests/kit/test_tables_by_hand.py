"""Tables, trial lists and mistakes of a corpus: read, and told by file and line, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from bab.core.errors import CorpusError, LeakageError
from bab.core.types import Clip, Trial
from bab.kit import short, tables
from bab.kit.faults import Faults
from bab.kit.utterances import made_trials, read_trials


def refused(call, *given) -> tuple[str, list[str]]:
    with pytest.raises(CorpusError) as caught:
        result = call(*given)
        list(result)
    return str(caught.value), getattr(caught.value, "__notes__", [])


def test_rows_by_name_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\ufeffid , b,c\n x ,1,2\n,,\n\ny, 3 ,4\n", encoding="utf-8")
    rows = [(2, {"id": "x", "b": "1", "c": "2"}), (5, {"id": "y", "b": "3", "c": "4"})]
    assert list(tables.read_table(path, ("b", "id"))) == rows
    assert list(tables.read_columns(path, ("c", "id"))) == [(2, ("2", " x ")), (5, ("4", "y"))]
    assert refused(tables.read_table, path, ("id", "d"))[0].endswith(
        "a.csv: no column 'd'. Its columns: id, b, c"
    )
    path.write_text("")
    assert refused(tables.read_table, path, ("id",))[0].endswith(
        "no column 'id'. Its columns: none"
    )
    path.write_text("a,b\n1\n1,2\n1,2,3\n")
    said, notes = refused(tables.read_table, path, ("a",))
    assert said.startswith(f"{path}:2: 1 cells under 2 columns.\n1 more of the corpus's mistakes")
    assert notes == [f"{path}:2: 1 cells under 2 columns.", f"{path}:4: 3 cells under 2 columns."]
    path.write_bytes(b"a,b\n\xff,2\n")
    assert ": can't be read as a table (" in refused(tables.read_table, path, ("a",))[0]
    path.unlink()
    assert refused(tables.read_table, path, ("a",))[0] == f"{path}: no such file."
    path.symlink_to(tmp_path / "annexed")
    assert refused(tables.read_table, path, ("a",))[0].endswith("fetch it first: datalad get")


def test_mistakes_are_gathered() -> None:
    faults = Faults()
    faults.refuse()
    faults.add(LeakageError("one"))
    with pytest.raises(LeakageError) as caught:
        faults.refuse()
    assert str(caught.value) == "one" and caught.value.__notes__ == ["one"]
    with faults.caught():
        raise CorpusError("two")
    many = CorpusError("three")
    for number in range(1000):
        many.add_note(f"n{number}")
    faults.add(many)
    faults.say(Path("x.csv"), 7, "four")
    with pytest.raises(LeakageError) as caught:
        faults.refuse()
    notes = caught.value.__notes__
    assert str(caught.value).startswith("one\n1002 more of the corpus's mistakes: ")
    assert notes[:3] == ["one", "two", "n0"] and notes[999] == "n997" and len(notes) == 1001
    assert notes[-1] == "and 3 more, of which each looks like these"


def test_trial_lists(tmp_path: Path) -> None:
    path, known = tmp_path / "trials.txt", {"a": "A", "b": "B"}.get
    path.write_text("1 a b\n\n0 b a\na b target\nb b nontarget\n")
    same, apart = Trial("A", "B", True), Trial("B", "B", False)
    assert read_trials(path, known) == [same, Trial("B", "A", False), same, apart]
    path.write_text("1 a c\na b maybe\nd b target\n2 a b\n1 a\n")
    said, notes = refused(read_trials, path, known)
    assert said.startswith(f"{path}:1: no audio for 'c'. A list with trials left out gives another")
    places = [note.removeprefix(f"{path}:").partition(".")[0] for note in notes]
    assert places == [
        "1: no audio for 'c'",
        "2: not a trial ('1 ENROL TEST', or 'ENROL TEST target'): 'a b maybe'",
        "3: no audio for 'd'",
        *(f"{n}: not a trial ('1 ENROL TEST', or 'ENROL TEST target'): '{t}'"
          for n, t in ((4, "2 a b"), (5, "1 a"))),
    ]  # fmt: skip
    path.write_text("\n")
    assert refused(read_trials, path, known)[0] == (
        f"{path}: the trial list is empty. Fill it, or remove it."
    )


def clips(*speakers: str | None, each: int = 3) -> list[Clip]:
    return [
        Clip(f"{who}{i}", "a.wav", 0.0, 1.0, "g", speaker=who)
        for who in speakers
        for i in range(each)
    ]


def test_trials_that_are_made() -> None:
    def made(listed: list[Clip], count: int, seed: str, session: str = "") -> list[Trial]:
        return made_trials(listed, count, lambda clip: session or clip.id[-1], seed)

    listed = clips("x", "y", "z", None)
    trials = made(listed, 12, "s")
    assert sum(t.same for t in trials) == len(trials) - sum(t.same for t in trials) == 6
    assert all((t.enrol[0] == t.test[0]) == t.same and t.enrol != t.test for t in trials)
    assert len({(t.enrol, t.test) for t in trials}) == 12
    assert made(listed[::-1], 12, "s") == trials  # whatever the order of the list
    assert made(listed, 12, "t") != trials
    assert made(clips("x", None), 12, "s") == []
    assert len(made(clips("x", "y", each=2), 100, "s")) == 4  # as many same as there are
    assert len(made(listed, 7, "s")) == 6
    apart = made_trials(clips("x", "y", each=4), 8, lambda clip: str(int(clip.id[1]) // 2), "s")
    assert all(int(t.enrol[1]) // 2 != int(t.test[1]) // 2 for t in apart if t.same)


def test_listed_names_are_clips(tmp_path: Path) -> None:
    listed = clips("x", each=2)
    assert short.given_splits(tmp_path, listed) is None
    (tmp_path / "train.txt").write_text("x0\n")
    (tmp_path / "test.txt").write_text("x1\nx2\n")
    said, _ = refused(short.given_splits, tmp_path, listed)
    assert said == f"{tmp_path / 'test.txt'}:2: no clip is called 'x2'. Take it off the list."
    (tmp_path / "test.txt").write_text("x1\n")
    assert set(short.given_splits(tmp_path, listed) or {}) == {"train", "test"}
    notices: list[str] = []
    gone = short.whole_file("a", tmp_path / "a.wav", "g", {"x": "y"}, notices, "s")
    assert (gone.start, gone.end, gone.speaker, gone.labels) == (0.0, 0.0, "s", {"x": "y"})
    assert len(notices) == 1 and notices[0].startswith("Unreadable: ")

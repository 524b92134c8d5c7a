"""A manifest's rows: found, read in every format, and what each of their cells means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bab.core.errors import CorpusError
from bab.kit import Faults, Headers
from bab.plugins.datasets.shared.layout import Layout, Listed, by_rows, stem
from bab.plugins.datasets.shared.rows import cell, find_manifest, read_rows


def refused(call: Any, *given: Any) -> str:
    with pytest.raises(CorpusError) as caught:
        call(*given)
    return str(caught.value)


def notes(faults: Faults) -> list[str]:
    with pytest.raises(CorpusError) as caught:
        faults.refuse()
    return list(caught.value.__notes__)


def test_where_a_manifest_is(tmp_path: Path) -> None:
    head = f"{tmp_path}: no manifest.csv, .tsv, .jsonl or .parquet there."
    assert refused(find_manifest, tmp_path) == f"{head} Add it."
    for name in ("g.csv", "a.tsv", "b.jsonl", "c.parquet", "d.csv", "e.csv", "f.txt"):
        (tmp_path / name).touch()
    listed = "a.tsv, b.jsonl, c.parquet, d.csv, e.csv"
    assert refused(find_manifest, tmp_path) == f"{head} Name the file itself: {listed}."
    assert find_manifest(tmp_path / "a.tsv") == tmp_path / "a.tsv"
    (tmp_path / "x.CSV").touch()
    assert find_manifest(tmp_path / "x.CSV").name == "x.CSV"
    assert refused(find_manifest, tmp_path / "f.txt") == (
        f"{tmp_path / 'f.txt'}: a manifest's name ends in .csv, .tsv, .jsonl, .parquet."
    )
    for name in ("manifest.parquet", "manifest.tsv"):
        (tmp_path / name).touch()
        if name == "manifest.parquet":
            assert find_manifest(tmp_path) == tmp_path / name
    assert refused(find_manifest, tmp_path) == (
        f"{tmp_path / 'manifest.tsv'} and {tmp_path / 'manifest.parquet'}: two manifests. Name the "
        "file itself."
    )


def rows(path: Path, text: str) -> tuple[list[tuple[int, list[str]]], list[str]]:
    path.write_text(text, encoding="utf-8")
    faults = Faults()
    made = list(read_rows(path, faults))
    return made, notes(faults) if faults._told else []


def test_rows_of_text(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    assert rows(path, ' a ,b\n1,"x\ny"\n\n,\n3,4\n') == (
        [(1, ["a", "b"]), (3, ["1", "x\ny"]), (6, ["3", "4"])], [],
    )  # fmt: skip
    assert rows(path, "a,b\n1\n1,2,3\n4,5\n") == (
        [(1, ["a", "b"]), (4, ["4", "5"])],
        [f"{path}:{n}: {count} cells under 2 columns. A cell that holds the separator must stand "
         "in quotes." for n, count in ((2, 1), (3, 3))],
    )  # fmt: skip
    assert rows(tmp_path / "m.tsv", 'a\tb\n1,2\t"x"\n')[0][1] == (2, ["1,2", "x"])
    assert refused(rows, path, "") == f"{path}:1: the manifest is empty."
    assert refused(rows, path, "a,b,a,b\n") == f"{path}:1: two columns are called 'a'."
    long = "x" * 140_000
    assert refused(rows, path, f"a\n{long}\n") == (
        f"{path}:2: field larger than field limit (131072)."
    )


def test_rows_of_json(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    text = '{"a": 1, "b": null}\n\n{"c": true, "a": "x"}\n[1]\n{"a": {}}\n{\n{"b": 0.5}\n'
    made, told = rows(path, text)
    assert made == [
        (1, ["a", "b", "c"]), (1, ["1", "", ""]), (3, ["x", "", "true"]), (7, ["", "0.5", ""]),
    ]  # fmt: skip
    assert told[0] == f"{path}:4: not a JSON object: [1]"
    assert told[1].startswith(f"{path}:6: not JSON: Expecting") and told[1].endswith(".")
    assert told[2] == f"{path}:5: 'a' must be text or a number, not {{}}" and len(told) == 3
    assert refused(rows, path, "") == f"{path}:1: the manifest is empty."
    assert "not JSON" in refused(rows, path, "{\n")  # what is wrong comes before "empty"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "true"), (False, "false"), (1, "1"), (0.5, "0.5"), ("a ", "a "), ("", "")],
)
def test_values_as_text(value: Any, text: str) -> None:
    assert cell(Path("m"), 1, "k", value) == text


def layout(root: Path, header: str, unit: float = 1.0, **options: Any) -> Layout:
    columns = header.split(",")
    roles: Any = {name: name for name in columns if name not in options.get("labels", ())}
    labels = options.pop("labels", ())
    return Layout(root / "m.csv", columns, roles, labels, options.get("splits", {}), unit,
                  Headers([]))  # fmt: skip


def listed(made: Layout, *lines: str) -> tuple[Listed, list[str]]:
    faults = Faults()
    cells = ((number, line.split(",")) for number, line in enumerate(lines, 2))
    done = by_rows(made, cells, faults)
    return done, notes(faults) if faults._told else []


@pytest.mark.parametrize(
    ("header", "line", "expected"),
    [
        ("path,start,end", "a.wav,0.5,2", ("a_0.500-2.000", 0.5, 2.0)),
        ("path,start,end", "a.wav, 0.5 , 2 ", ("a_0.500-2.000", 0.5, 2.0)),
        ("path,start,duration", "a.wav,0.5,2", ("a_0.500-2.500", 0.5, 2.5)),
        ("path,duration", "a.wav,1.5", ("a", 0.0, 1.5)),  # all of a file, as far as is said
        ("path,end", "a.wav,1.5", ("a_0.000-1.500", 0.0, 1.5)),
        ("path,start", "a.wav,0.5", ("a_0.500-2.000", 0.5, 2.0)),
        ("path", "a.wav", ("a", 0.0, 2.0)),
        ("path,start,end", "a.wav,,", ("a", 0.0, 2.0)),
        ("path,id,start,end", "a.wav,x,0,1", ("x", 0.0, 1.0)),
        ("path,start,end,duration", "a.wav,0.5,2,1.549", ("a_0.500-2.000", 0.5, 2.0)),
        ("path,start,end,duration", "a.wav,0.5,2,", ("a_0.500-2.000", 0.5, 2.0)),
    ],
)
def test_the_times_of_a_row(
    tmp_path: Path, header: str, line: str, expected: tuple[str, float, float]
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 8000)
    done, told = listed(layout(tmp_path, header), line)
    assert told == []
    (clip,) = done.builder.clips()
    assert (clip.id, clip.start, clip.end) == expected and clip.path == str(tmp_path / "a.wav")
    assert clip.group == "a.wav" and clip.speaker is None and clip.text is None


@pytest.mark.parametrize(
    ("header", "line", "told"),
    [
        ("path,start,end", "a.wav,1,1", "the end, 1 s, is not after the start, 1 s. If these are "
         "milliseconds: --set corpus.times=ms"),
        ("path,start,duration", "a.wav,1,0", "the end, 1 s, is not after the start, 1 s. If these "
         "are milliseconds: --set corpus.times=ms"),
        ("path,start,end,duration", "a.wav,0.5,2,1.56", "start 0.5 s and duration 1.56 s do not "
         "end at 2 s. Correct the row, or leave one of the columns out"),
        ("path,start,end", "a.wav,-1,1", "start is '-1', not a time."),
        ("path,start,end", "a.wav,0,inf", "end is 'inf', not a time."),
        ("path,duration", "a.wav,soon", "duration is 'soon', not a time."),
        ("path,end", ",1", "the path is empty."),
        ("path,end,split", "a.wav,1,fold1", "'fold1' is no split. Say what it means: --set "
         "corpus.splits.fold1=train (dev, test, or '' for none)"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_row(tmp_path: Path, header: str, line: str, told: str) -> None:
    done, said = listed(layout(tmp_path, header), line, line.replace("a.wav", "b.wav"))
    assert said == [f"{tmp_path / 'm.csv'}:{n}: {told}" for n in (2, 3)]
    assert len(done.builder.clips()) == 0


def test_milliseconds_groups_labels_and_splits(tmp_path: Path) -> None:
    made = layout(tmp_path, "path,start,end,split,group,speaker,text,mood", 1000.0,
                  labels=("mood",), splits={"1": "train", "x": ""})  # fmt: skip
    done, told = listed(
        made,
        "a.wav,500,1500,1,g,s,hi,glad",
        "a.wav,1500,2000,Valid,,t,,",
        "b.wav,0,1000,x,,,yes, glad ",
        "b.wav,1000,2000,TEST,,s,yes,sad",
        "b.wav,2000,3000,,h,,yes,sad",
    )
    assert told == [] and done.labels == {"mood"} and done.lacking == {"text": 3, "speaker": 4}
    assert done.splits == ["train", "dev", "", "test"]
    clips = done.builder.clips()
    assert [(c.start, c.end, c.group, c.speaker, c.text, dict(c.labels)) for c in clips] == [
        (0.5, 1.5, "g", "s", "hi", {"mood": "glad"}), (1.5, 2.0, "t", "t", None, {}),
        (0.0, 1.0, "b.wav", None, "yes", {"mood": "glad"}),
        (1.0, 2.0, "s", "s", "yes", {"mood": "sad"}),
        (2.0, 3.0, "h", None, "yes", {"mood": "sad"}),
    ]  # fmt: skip
    parts = {split: [c.id for c in part] for split, part in done.parts(clips).items()}
    assert parts == {
        "train": ["a_0.500-1.500"], "dev": ["a_1.500-2.000"],
        "": ["b_0.000-1.000", "b_2.000-3.000"], "test": ["b_1.000-2.000"],
    }  # fmt: skip


def test_one_split_is_all_and_twins_are_told(tmp_path: Path) -> None:
    made = layout(tmp_path, "path,end")
    done, told = listed(made, "a.wav,1", "b.wav,1", "a.wav,1")
    assert told == [
        f"{tmp_path / 'm.csv'}:4: 'a_0.000-1.000' stands twice. Give each row another path, start "
        "and end, or a column 'id'."
    ]
    clips = done.builder.clips()
    assert done.parts(clips)[""] is clips and done.splits == [""]
    assert done.code("") == 0 and done.code("dev") == 1 and done.code("") == 0


def test_rows_are_kept_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bab.plugins.datasets.shared import layout as module

    monkeypatch.setattr(module, "_PIECE", 3)
    monkeypatch.setattr(module, "_KEPT", 2)
    for count in (0, 2, 3, 7):
        done, told = listed(
            layout(tmp_path, "path,end"), *(f"{i % 5}.wav,{i + 1}" for i in range(count))
        )
        clips = done.builder.clips()
        assert told == [] and [c.end for c in clips] == [i + 1 for i in range(count)]
        assert [c.path for c in clips] == [str(tmp_path / f"{i % 5}.wav") for i in range(count)]
        assert sum(map(len, done.codes)) == count


def test_ids_of_whole_files() -> None:
    assert [stem(name) for name in ("a.wav", "x/a.b.wav", "a", ".wav")] == [
        "a",
        "x/a.b",
        "a",
        ".wav",
    ]

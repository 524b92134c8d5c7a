"""How a long manifest is cut into blocks and columns: borders, quotes, and what is left to rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bab.kit import Headers
from bab.plugins.datasets.manifest import Manifest
from bab.plugins.datasets.shared import columns
from bab.plugins.datasets.shared.layout import Layout


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (b"a\nb\nc", 4), (b"a\nb\n", 4), (b"abc", 0), (b"", 0), (b'a\n"b\nc', 2),
        (b'a\n"b\nc"\nd', 8), (b'"a"\n"b', 4), (b'"a\n', 0), (b'a""b\n', 5), (b"\n", 1),
    ],
)  # fmt: skip
def test_where_the_last_whole_row_ends(text: bytes, end: int) -> None:
    assert columns._cut(text) == end


@pytest.mark.parametrize(
    ("text", "longest"),
    [(b"", 0), (b"abc", 3), (b"abc\nde\n", 3), (b"a\nbcd\ne", 4), (b"a\nbcde", 5)],
)
def test_the_longest_line(text: bytes, longest: int) -> None:
    """But for the first, with the end of the line before it."""
    assert columns._longest(text) == longest


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        (b"a,b\n", False), (b'"a",b\n', True), (b'a,"b"\n', True), (b'a,"b"', True),
        (b'"a""b",c\n', True), (b'"a\nb"\n', True), (b'"",""\n', True), (b'a"b",c\n', None),
        (b'"a"b,c\n', None), (b'"a\n', None), (b'a,"b" \n', None), (b'"a";"b"\n', None),
    ],
)  # fmt: skip
def test_quotes_are_around_whole_cells(text: bytes, quoted: bool | None) -> None:
    if quoted is None:
        with pytest.raises(columns._UnusualError):
            columns._quoted(text, ord(","))
    else:
        assert columns._quoted(text, ord(",")) is quoted


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 1 << 24])
def test_blocks_are_the_rows_below_the_header(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "_BLOCK", size)
    path = tmp_path / "m.csv"

    def blocks(content: bytes) -> list[bytes]:
        path.write_bytes(content)
        made = list(columns._blocks(path, ord(",")))
        for block, quoted, longest in made:
            assert quoted == (b'"' in block) and longest == columns._longest(block)
        return [block for block, _, _ in made]

    for content, rows in (
        (b"a,b\n1,2\n3,4\n", b"1,2\n3,4\n"), (b"\xef\xbb\xbfa,b\r\n1,2\r\n3,4", b"1,2\n3,4"),
        (b'a\n"x\r\ny"\r\nz\r\n', b'"x\ny"\nz\n'), (b"a\n", b""), (b"a", b""),
    ):  # fmt: skip
        made = blocks(content)
        assert b"".join(made) == rows and all(block.endswith(b"\n") for block in made[:-1])
    for content in (b'"a"\n1\n', b"a\n1\r2\n", b"a\n1\0\n", b"a\0\n1\n", b"a\rb\n1\n", b"a\n1\r"):
        with pytest.raises(columns._UnusualError):
            blocks(content)


def read(path: Path, header: str, labels: tuple[str, ...] = (), **options: Any) -> Any:
    """What is listed in columns; None where rows are asked."""
    names = header.split(",")
    roles: Any = {name: name for name in names if name not in labels}
    unit = options.pop("unit", 1.0)
    layout = Layout(path, names, roles, labels, options.pop("splits", {}), unit, Headers([]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "LONG", 0)
        return columns.by_columns(layout)


@pytest.mark.parametrize(
    ("header", "rows", "expected"),
    [
        ("path,start,end", "a.wav,0.5,2\nb.wav,,\n",
         [("a_0.500-2.000", 0.5, 2.0), ("b", 0.0, 2.0)]),
        ("path,end", "a.wav,1.5\nb.wav,\n", [("a_0.000-1.500", 0.0, 1.5), ("b", 0.0, 2.0)]),
        ("path,duration", "a.wav,1.5\n", [("a", 0.0, 1.5)]),
        ("path,start,duration", "a.wav,1,0.5\n", [("a_1.000-1.500", 1.0, 1.5)]),
        ("path,start", "a.wav,1\nb.wav,\n", [("a_1.000-2.000", 1.0, 2.0), ("b", 0.0, 2.0)]),
        ("path,start,end,duration", "a.wav,1,2,1.049\n", [("a_1.000-2.000", 1.0, 2.0)]),
        ("path,id,end", "a.wav,x,1\na.wav,,1\n", [("x", 0.0, 1.0), ("a_0.000-1.000", 0.0, 1.0)]),
        ("path", "a.wav\nb.wav", [("a", 0.0, 2.0), ("b", 0.0, 2.0)]),
        ("path,start,end", "a.wav,1,1\n", None),
        ("path,start,end,duration", "a.wav,1,2,1.06\n", None),
        ("path,start,end,duration", "a.wav,1,2,0.94\n", None),
        ("path,duration", "a.wav,0\n", None),
        ("path,end", ",1\n", None),
        ("path,end", "a.wav,1\na.wav,1\n", None),
    ],
)  # fmt: skip
def test_times_in_columns(tmp_path: Path, header: str, rows: str, expected: Any) -> None:
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(16000), 8000)
    path = tmp_path / "m.csv"
    path.write_text(f"{header}\n{rows}")
    made = read(path, header)
    if expected is None:
        assert made is None
        return
    assert [(c.id, c.start, c.end) for c in made[1]] == expected
    if "split" not in header:
        assert made[0].splits == [""] and not made[0].lacking


def test_facts_in_columns(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    header = "path,end,split,group,speaker,text,mood,sex"
    rows = ["a.wav,1000,1,g,s,hi,glad,f", "b.wav,1500,Valid,,t,,,f", "c.wav,2000,TEST,,,ho, glad ,",
            "d.wav,500,1,,,yo,glad,f"]  # fmt: skip
    path.write_text("\n".join([header, *rows]) + "\n")
    listed, clips = read(path, header, ("mood", "sex"), unit=1000.0, splits={"1": "train"})
    assert [(c.id, c.end, c.group, c.speaker, c.text, dict(c.labels)) for c in clips] == [
        ("a_0.000-1.000", 1.0, "g", "s", "hi", {"mood": "glad", "sex": "f"}),
        ("b_0.000-1.500", 1.5, "t", "t", None, {"sex": "f"}),
        ("c_0.000-2.000", 2.0, "c.wav", None, "ho", {"mood": "glad"}),
        ("d_0.000-0.500", 0.5, "d.wav", None, "yo", {"mood": "glad", "sex": "f"}),
    ]
    assert clips[0].labels is clips[3].labels and clips[0].path == str(tmp_path / "a.wav")
    assert listed.splits == ["train", "dev", "test"] and listed.labels == {"mood", "sex"}
    assert listed.lacking == {"text": 3, "speaker": 4}
    parts = {split: [c.id[0] for c in part] for split, part in listed.parts(clips).items()}
    assert parts == {"train": ["a", "d"], "dev": ["b"], "test": ["c"]}
    path.write_text("path,end,group\na.wav,1,\nb.wav,1,g\n")
    assert [c.group for c in read(path, "path,end,group")[1]] == ["a.wav", "g"]
    path.write_text("path,end,text\na.wav,1,\nb.wav,1,\n")
    listed, clips = read(path, "path,end,text")
    assert [c.text for c in clips] == [None, None] and listed.lacking == {"text": 2}


def test_lines_are_told_as_far_as_rows_are_lines(tmp_path: Path, monkeypatch: Any) -> None:
    """A row of two lines shifts those below it: then rows have to be asked which line it is."""
    path = tmp_path / "m.csv"
    header = "path,end,speaker"
    path.write_text(f'{header}\na.wav,1,s\n"b\nc.wav",1,s\nd.wav,1,t\n')
    listed, clips = read(path, header)
    assert len(clips) == 3 and listed.lacking == {}
    path.write_text(f'{header}\na.wav,1,s\n"b\nc.wav",1,s\nd.wav,1,\n')
    assert read(path, header) is None
    path.write_text(f"{header}\na.wav,1,s\nb.wav,1,s\nc.wav,1,\n")
    for size in (1 << 24, 12):  # in one block, and in several
        monkeypatch.setattr(columns, "_BLOCK", size)
        assert read(path, header)[0].lacking == {"speaker": 4}
    path.write_text(f"{header}\na.wav,1,s\n\nb.wav,1,s\nc.wav,1,\n")  # a blank line is no row
    monkeypatch.setattr(columns, "_BLOCK", 1 << 24)
    assert read(path, header) is None


def test_parquet_in_columns(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "m.parquet"
    table = pa.table({
        "path": pa.array(["a.wav", "b.wav", "a.wav"]).dictionary_encode(),
        "start": pa.array([0.5, None, 1.5]), "end": pa.array([1, 2, 2], pa.int64()),
        "age": pa.array([3, None, 3]), "child": pa.array([True, False, None]),
        "speaker": pa.array([7, 8, None]),
    })  # fmt: skip
    parquet.write_table(table, path, row_group_size=2)
    layout = Layout(path, table.column_names, {"path": "path", "start": "start", "end": "end",
                    "speaker": "speaker"}, ("age", "child"), {}, 1.0, Headers([]))  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "LONG", 0)
        made = columns.by_columns(layout)
    assert made is not None
    listed, clips = made
    assert [(c.id, c.start, c.end, c.speaker, dict(c.labels)) for c in clips] == [
        ("a_0.500-1.000", 0.5, 1.0, "7", {"age": "3", "child": "true"}),
        ("b_0.000-2.000", 0.0, 2.0, "8", {"child": "false"}),
        ("a_1.500-2.000", 1.5, 2.0, None, {"age": "3"}),
    ]
    assert listed.lacking == {"speaker": 4}
    by_rows = Manifest(path, Manifest.Options(labels=("age", "child")))
    assert list(by_rows.clips()) == list(clips)

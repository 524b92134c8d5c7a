"""A long manifest is read in columns: what it says, and what is wrong with it, is as by rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from bab.core.errors import CorpusError
from bab.plugins.datasets.manifest import Manifest
from bab.plugins.datasets.shared import columns

ROWS, COLUMNS = 1 << 60, 0  # what `LONG` is where a manifest is read so


def told(call) -> object:
    """What a call gives, or what it raises."""
    try:
        return call()
    except CorpusError as error:
        return type(error), str(error), getattr(error, "__notes__", None)


def said(path: Path, long: int, **options) -> object:
    """All that a manifest says, read in one way; what it raises, where it does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "LONG", long)
        corpus = told(lambda: Manifest(path, Manifest.Options(**options)))
        if isinstance(corpus, tuple):
            return corpus
        parts = {split: told(lambda s=split: list(corpus.clips(s))) for split in corpus.splits()}
    return list(corpus.clips()), parts, corpus.notices, corpus.provides, corpus.unit, corpus.listed


def alike(path: Path, by_columns: bool | None = None, **options) -> object:
    """The same in both ways; by_columns: whether rows were left alone, where that is known."""
    used = []
    with pytest.MonkeyPatch.context() as patch:
        once = columns.by_columns
        module = "bab.plugins.datasets.manifest.by_columns"
        patch.setattr(module, lambda layout: used.append(once(layout)) or used[-1])
        quick = said(path, COLUMNS, **options)
        assert said(path, ROWS, **options) == quick
    if by_columns is not None:
        assert (used[0] is not None) == by_columns
    return quick


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two seconds of a.wav and b.wav, and one that can't be read."""
    root = tmp_path_factory.mktemp("long")
    for name in ("a", "b"):
        soundfile.write(root / f"{name}.wav", np.full(16000, 0.1), 8000)
    (root / "bad.wav").write_bytes(b"")
    return root


CELLS = {
    "path": ["a.wav", "b.wav", "./a.wav", "x//y.wav", "/abs/z.flac", "bad.wav", "no", "a,b.wav"],
    "start": ["", "0", "0.25", "1e-1", " .5 ", "-0", "0.0005"],
    "end": ["", "1.5", "2", "1.0005", "7"],
    "duration": ["", "1", "1.5"],
    "split": ["train", "dev", "TEST", "validation", ""],
    "group": ["", "g", "h", "\u00a0g "],
    "speaker": ["", "s", "t", "\u0915"],
    "text": ["", "hi", 'she said "no"', "two\nlines", "a, b", "\u3000x"],
    "id": ["", "one", "two", "three"],
    "mood": ["", "glad", "sad"],
    "note": ["", "n", "nul\0"],
}
FAULTS = {
    "path": "",
    "start": "soon",
    "end": "0",
    "duration": "nan",
    "split": "fold1",
    "speaker": "1_0",
    "start ": "1_0",
}


@st.composite
def tables(draw) -> tuple[list[str], list[list[str]]]:
    header = draw(st.lists(st.sampled_from([*CELLS][1:]), unique=True, max_size=7))
    header = draw(st.permutations(["path", *header]))
    quiet = draw(st.booleans())  # without quotes, so that columns can be read as they are
    rows = []
    for _ in range(draw(st.integers(0, 9))):
        row = [draw(st.sampled_from(CELLS[name])) for name in header]
        rows.append(["plain" if quiet and set(cell) & set('",\n\0') else cell for cell in row])
    if rows and draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from([*FAULTS]))
        if name.strip() in header:
            draw(st.sampled_from(rows))[header.index(name.strip())] = FAULTS[name]
    return header, rows


def written(header: list[str], rows: list[list[str]], delimiter: str, end: str) -> str:
    out = io.StringIO()
    table = csv.writer(out, delimiter=delimiter, lineterminator=end)
    table.writerow(header)
    table.writerows(rows)
    return out.getvalue()


@settings(max_examples=80, deadline=None)
@given(
    tables(),
    st.sampled_from([("csv", ","), ("tsv", "\t")]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", "\ufeff"]),
    st.sampled_from([40, 1 << 24]),
    st.sampled_from(["", "\n", "\n\n", '"', "a.wav\n", "x,y,z,\n", '"a"b,c\n', " \n", ",\n"]),
)
def test_rows_and_columns_say_the_same(folder, table, form, end, mark, block, tail):
    suffix, delimiter = form
    path = folder / f"made.{suffix}"
    text = mark + written(*table, delimiter, end) + tail
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_BLOCK", block)
        alike(path)
        alike(path, times="ms", splits={"fold1": "test"})


def test_usual_tables_are_read_in_columns(folder):
    rows = [[f"{n}.wav", str(i), str(i + 1), "train", f"s{n}", "so, he\nsaid", "x"]
            for n in "abc" for i in range(3)]  # fmt: skip
    path = folder / "usual.csv"
    header = ["path", "start", "end", "split", "speaker", "text", "mood"]
    for end in ("\n", "\r\n"):
        cells = [[*row[:5], row[5].replace("\n", end), "x"] for row in rows]
        text = written(header, cells, ",", end)
        path.write_text(text, encoding="utf-8", newline="")
        clips, *_ = alike(path, True)
        assert [clip.id for clip in clips][:2] == ["a_0.000-1.000", "a_1.000-2.000"]
        assert clips[0].text == "so, he\nsaid" and clips[0].labels == {"mood": "x"}
    loud = folder / "LOUD.CSV"
    loud.write_text(text, encoding="utf-8", newline="")
    assert alike(loud, True)[0] == clips
    loud = folder / "LOUD.TSV"
    loud.write_text(written(header, cells, "\t", end), encoding="utf-8", newline="")
    assert alike(loud, True)[0] == clips
    path.write_text("path,speaker\na.wav,s\nb.wav,\n")
    assert any("usual.csv:3: no speaker" in notice for notice in alike(path, True)[2])
    path.write_text("path,text\na.wav,s\nb.wav,\n")
    assert any("usual.csv:3: no text" in notice for notice in alike(path, True)[2])


@pytest.mark.parametrize(
    "text",
    [
        "path,end\na.wav,1\na.wav,1\n",  # an id twice
        "path,end\nb.wav,1\na.wav\n",
        "path,split\nb.wav,fold1\n",
        "path,x\na.wav,say \"no\"\n",
        "path,speaker\n\na.wav,s\nb.wav,\n",  # whose line has to be told
        "path\na.wav\n \n",
        "path,x\na.wav," + "y" * 140_000 + "\n",
    ],
)  # fmt: skip
def test_what_is_unusual_is_read_by_rows(folder, text):
    path = folder / "unusual.csv"
    path.write_text(text, encoding="utf-8")
    alike(path, False)


def test_bytes_that_are_no_text(folder):
    path = folder / "bytes.csv"
    good = "".join(f"{i}.wav,1\n" for i in range(9000))
    path.write_bytes(b"path,end\n" + good.encode() + b"\xff.wav,1\n")
    assert "UTF-8" in alike(path, False)[1]


@pytest.mark.parametrize("kind", ["text", "numbers", "coded", "nulls"])
def test_parquet(folder, kind):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    data = {
        "path": pa.array(["a.wav", "b.wav", "a.wav"]),
        "start": pa.array(["0", "", "0.5"] if kind == "text" else [0.0, None, 0.5]),
        "end": pa.array([1.5, 2.0, 1.25], pa.float32()) if kind != "text" else ["1", "2", "1.1"],
        "age": pa.array([3, 4, None] if kind == "nulls" else [3, 4, 5]),
        "child": pa.array([True, False, True]),
        "score": pa.array([0.1, 2.0, 1e-7]),
        "speaker": pa.array(["s", "t", None if kind == "nulls" else "s"]),
    }
    if kind == "coded":
        data = {name: pa.array(cells).dictionary_encode() for name, cells in data.items()}
    path = folder / f"{kind}.parquet"
    parquet.write_table(pa.table(data), path)
    clips, *_ = alike(path, True)
    assert alike(path.replace(folder / f"{kind}.PARQUET"), True)[0] == clips
    assert clips[0].labels == {"age": "3", "child": "true", "score": "0.1"}
    assert clips[1].start == 0.0 and clips[1].id == "b_0.000-2.000"
    bad = pa.table({"path": ["a.wav"], "tags": [["x"]]})
    parquet.write_table(bad, path)
    assert "must be text or a number" in alike(path, False)[1]

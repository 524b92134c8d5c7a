"""JSON, bytes and Parquet tables that hold their own checksum: what is taken, and what is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from damaged import flipped

from bab.core.errors import BabError, CorpusError
from bab.core.sealed import DamagedError
from bab.data import sealed


def refused(path: Path, *keys: str) -> str:
    with pytest.raises(DamagedError) as caught:
        sealed.read_json(path, keys, "make it again")
    return str(caught.value)


def test_an_object_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    given = {"b": [1, 2.5, None], "a": {"x": float("nan")}, "c": "é"}
    sealed.write_json(path, given)
    assert sealed.read_json(path, ("a", "b"), "") == {**given, "a": {"x": None}}
    text = path.read_text()
    assert text.startswith('{\n  "b": [\n') and list(json.loads(text)) == [
        "b",
        "a",
        "c",
        "checksum",
    ]
    assert json.loads(text)["checksum"].startswith("bab:")
    sealed.write_json(path, given, indent=None)
    assert len(path.read_text().splitlines()) == 1
    assert sealed.sealed(given) == json.loads(path.read_text())
    shuffled = dict(reversed(list(json.loads(text).items())))  # the order says nothing
    path.write_text(json.dumps(shuffled))
    assert sealed.read_json(path, (), "")["c"] == "é"


def test_what_has_no_checksum_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert sealed.read_json(path, ("a",), "") == {"a": 1}
    with pytest.raises(FileNotFoundError):
        sealed.read_json(tmp_path / "none.json", (), "")


EDITED = (
    "is damaged, or was edited (its checksum doesn't hold): make it again. If the change is yours, "
    "delete the entry 'checksum'"
)


def test_what_is_said_of_damaged_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text, said in (
        ("[1]", "is damaged (it is no JSON object): make it again"),
        ('{"a": 1}', "is damaged (it lacks 'b'): make it again"),
        ('{"a": 1, "checksum": "bab:0"}', EDITED),
        ('{"a": 1, "checksum": null}', EDITED),
        ('{"a": 1, "checksun": "bab:0"}', EDITED),  # its name is damaged, too
        ('{"a": "bab:x"}', EDITED),
    ):
        path.write_text(text)
        assert refused(path, "a", "b", "c") == f"{path} {said}"
    path.write_text("{")
    told = refused(path)
    assert told.startswith(f"{path} is damaged (Expecting") and told.endswith("): make it again")
    path.write_bytes(b'{"a": "\xff"}')
    assert refused(path).startswith(f"{path} is damaged ('utf-8' codec")
    path.write_text("[" * 200_000)
    assert refused(path).startswith(f"{path} is damaged (")


def test_no_bit_of_sealed_bytes_is_believed() -> None:
    for plain in (b"", b"some bytes"):
        whole = sealed.seal(plain)
        assert whole.startswith(plain + b"bab:") and len(whole) == len(plain) + 12
        assert sealed.unsealed(whole) == plain
        for bit in range(8 * len(whole)):
            assert sealed.unsealed(flipped(whole, bit)) is None
        assert sealed.unsealed(whole[:-1]) is None and sealed.unsealed(whole + b"x") is None
    assert sealed.unsealed(b"") is None and sealed.unsealed(b"plain text, no more") is None


# ------------------------------------------------------------------------------- tables


def put(path: Path, **columns: Any) -> Path:
    pa = pytest.importorskip("pyarrow")
    sealed.write_parquet(path, pa.table(columns), {b"bab.what": b"made"})
    return path


def again(path: Path, **changes: Any) -> None:
    """The table with other columns under the metadata that it had."""
    import pyarrow as pa
    from pyarrow import parquet

    table = parquet.read_table(path)
    kept = table.schema.metadata
    columns = {name: table.column(name) for name in table.column_names} | changes
    parquet.write_table(pa.table(columns).replace_schema_metadata(kept), path)


FACTS: dict[str, Any] = {
    "text": ["a", "bc", None, "", "é"],
    "number": [1, 2, 3, 4, 5],
    "times": [0.5, None, 1.5, 2.0, 0.0],
    "said": [True, True, False, True, False],
}


def test_a_table_is_checked_whatever_its_chunks(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = put(tmp_path / "a.parquet", **FACTS)
    sealed.check_parquet(path, "make it again")
    metadata = parquet.read_schema(path).metadata
    assert metadata[b"bab.what"] == b"made" and set(metadata) == {b"bab.what", b"bab.sum"}
    table = parquet.read_table(path)
    parts = pa.concat_tables([table.slice(0, 2), table.slice(2, 1), table.slice(3)])
    assert parts.column("text").num_chunks == 3
    other = tmp_path / "b.parquet"
    sealed.write_parquet(other, parts, {b"bab.what": b"made"})
    assert parquet.read_schema(other).metadata == metadata
    sealed.write_parquet(tmp_path / "c.parquet", table.slice(0, 0), {})
    sealed.check_parquet(tmp_path / "c.parquet", "")


@pytest.mark.parametrize(
    "change",
    [
        {"text": ["a", "bc", None, "", "e"]},
        {"text": ["b", "bc", None, "", "é"]},  # as long
        {"text": ["a", "bc", None, "", "è"]},
        {"text": ["ab", "c", None, "", "é"]},  # the same letters, cut elsewhere
        {"text": ["a", "bc", "", None, "é"]},
        {"text": ["a", "bc", "", "", "é"]},
        {"number": [1, 2, 3, 4, 6]},
        {"times": [0.5, None, 1.5, 2.0, 0.25]},
        {"said": [True, True, False, True, True]},
        {"said": [True, None, False, True, False]},
        {"more": [1, 2, 3, 4, 5]},
    ],
)
def test_another_value_in_a_table_is_seen(tmp_path: Path, change: dict[str, Any]) -> None:
    path = put(tmp_path / "a.parquet", **FACTS)
    again(path)
    sealed.check_parquet(path, "make it again")
    if change != {"text": ["a", "bc", "", None, "é"]}:  # as many nulls, elsewhere: not told apart
        again(path, **change)
        with pytest.raises(CorpusError) as caught:
            sealed.check_parquet(path, "make it again")
        said = f"{path} is damaged (its checksum doesn't hold): make it again"
        assert str(caught.value) == said


def test_what_is_said_of_a_table_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(CorpusError) as caught:
        sealed.check_parquet(path, "make it again")
    said = str(caught.value)
    assert said.startswith(f"{path}: can't be read as a Parquet table (")
    assert said.endswith("): make it again") and "\n" not in said
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BabError) as missing:
        sealed.check_parquet(path, "")
    assert str(missing.value) == f"{path}: Parquet needs pyarrow: pip install 'bab[prepare]'"


def test_strangers_tables_are_not_looked_at_and_older_ones_of_bab_are(tmp_path: Path) -> None:
    """A stranger's may be damaged inside: who reads it sees. Bab's own have page checksums."""
    import pyarrow as pa
    from pyarrow import parquet

    plain = pa.table({"path": [f"{i:08}" for i in range(2000)]})
    for name, metadata, fine in (
        ("stranger", {b"theirs": b"x"}, True),
        ("older", {b"bab.prepare": b"{}"}, False),
    ):
        path = tmp_path / f"{name}.parquet"
        table = plain.replace_schema_metadata(metadata)
        parquet.write_table(table, path, write_page_checksum=True, compression="none")
        sealed.check_parquet(path, "")
        data = path.read_bytes()
        path.write_bytes(flipped(data, 8 * (len(data) // 2)))
        if fine:
            sealed.check_parquet(path, "")
        else:
            with pytest.raises(CorpusError, match="can't be read as a Parquet table"):
                sealed.check_parquet(path, "")
    sealed.write_parquet(tmp_path / "x.parquet", plain, {b"bab.prepare": b"{}", b"theirs": b"x"})
    sealed.check_parquet(tmp_path / "x.parquet", "")

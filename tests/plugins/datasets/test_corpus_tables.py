"""The tables that corpora are read from, cell by cell: what each means, and what is said of it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, time
from pathlib import Path
from typing import Any

import pytest

from bab.core.errors import CorpusError
from bab.core.types import Clip, Segment
from bab.kit import Faults
from bab.plugins.datasets.shared import childproject, commonvoice, converted, hub, voices, voxceleb


def refused(call: Any, *given: Any) -> str:
    with pytest.raises(CorpusError) as caught:
        call(*given)
    return str(caught.value)


def all_told(faults: Faults) -> list[str]:
    with pytest.raises(CorpusError) as caught:
        faults.refuse()
    return list(caught.value.__notes__)


# ------------------------------------------------------------------------------- childproject


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("a.wav", "a"), ("a.b.WAV", "a.b"), ("a.b", "a.b"), ("plain", "plain"), (" a.mp3 ", "a"),
        ("x/y z/a.ogg", "x_y_z_a"), ("x\\a.flac", "x_a"), ("a  b.txt", "a_b.txt"), (".wav", ""),
    ],
)  # fmt: skip
def test_ids_of_recordings(name: str, made: str) -> None:
    assert childproject.clip_id(name) == made


def test_when_a_recording_began_and_how_old_the_child_was() -> None:
    def began(day: str, clock: str) -> datetime | time | None:
        return childproject.began_at({"date_iso": day, "start_time": clock})

    assert began("2024-05-17", "08:30") == datetime(2024, 5, 17, 8, 30)
    assert began("2024-05-17", "08:30:15") == datetime(2024, 5, 17, 8, 30, 15)
    assert began("NA", "08:30") == time(8, 30) and began("2024-05-17", "NA") is None
    assert childproject.began_at({}) is None

    def months(born: str, then: str) -> str | None:
        return childproject.labels_of({"child_dob": born}, {"date_iso": then}).get("age_months")

    assert months("2020-01-01", "2020-01-31") == "0" and months("2020-01-01", "2020-02-01") == "1"
    assert months("2020-01-15", "2022-01-15") == "24" and months("2020-01-15", "2022-01-14") == "23"
    assert months("NA", "2020-01-01") is None and months("2020-01-01", "") is None


def test_labels_are_what_the_tables_know() -> None:
    child = {"child_sex": "f", "language": "NA", "monoling": "Y", "normative": "", "notes": "x"}
    recording = {"recording_device_type": "usb", "noisy_setting": "nan", "location_id": "l1"}
    assert childproject.labels_of(child, recording) == {
        "child_sex": "f", "monoling": "Y", "recording_device_type": "usb", "location_id": "l1",
    }  # fmt: skip


def test_spans_in_milliseconds() -> None:
    def span(onset: str, offset: str) -> tuple[float, float]:
        return childproject.span_of(Path("x.csv"), 7, onset, offset, ("on", "off"))

    assert span("0", "1500") == (0.0, 1.5) and span("250", "250") == (0.25, 0.25)
    assert refused(span, "x", "1") == "x.csv:7: on and off must be milliseconds: 'x', '1'"
    for onset, offset in (("2", "1"), ("-1", "1"), ("0", "inf"), ("nan", "1")):
        told = f"x.csv:7: on {onset} to off {offset} is no span of time."
        assert refused(span, onset, offset) == told


def test_splits_of_a_column() -> None:
    rows = {"a.wav": {"split": "test"}, "b/c.wav": {"split": "Val"}, "d": {"split": "NA"}, "e": {},
            "f.wav": {"split": "TRAIN"}}  # fmt: skip
    path = Path("/x/metadata/recordings.csv")
    made = childproject.split_column(Path("/x"), rows)
    assert made == {
        "train": {"f": f"{path} (f.wav)"}, "dev": {"b_c": f"{path} (b/c.wav)"},
        "test": {"a": f"{path} (a.wav)"},
    }  # fmt: skip
    assert (
        list(made) == ["train", "dev", "test"]
        and childproject.split_column(Path("/x"), {"e": {}}) is None
    )
    told = refused(childproject.split_column, Path("/x"), {"a.wav": {"split": "tset"}})
    assert told.startswith(f"{path}: 'a.wav' has split 'tset': did you mean 'test'?")


def test_lists_of_what_can_t_be_used() -> None:
    known = {"a.wav": {}, "b.wav": {}, "c.wav": {}}
    ranges: Any = {"a.wav": [], "b.wav": []}
    paths = {"a.wav": Path("a")}
    childproject.check_lists(None, known, ranges, paths)
    childproject.check_lists({"train": {"a": "l:1"}}, known, ranges, paths)
    lists = {"train": {"a": "l:1", "b": "l:2"}, "dev": {"c": "d:1", "d": "d:2"}}
    with pytest.raises(CorpusError) as caught:
        childproject.check_lists(lists, known, ranges, paths)
    assert caught.value.__notes__ == [
        "l:2: 'b' has no audio here. Take it off the list.",
        "d:1: 'c' has no annotation in this set. Take it off the list.",
        "d:2: 'd' is not in recordings.csv, or is marked 'discard'. Take it off the list.",
    ]


def test_which_recordings_are_discarded(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    rows = ["r1.wav,c,1", "r2.wav,c,1.0", "r3.wav,c,0", "r4.wav,c,yes", "r5.wav,c,", "r6.wav,d,0"]
    path = tmp_path / "metadata" / "recordings.csv"
    path.write_text("recording_filename,child_id,discard\n" + "\n".join(rows) + "\n")
    children = {"c": {"child_id": "c"}, "d": {"child_id": "d", "discard": "1"}}
    notices: list[str] = []
    kept = childproject.read_recordings(tmp_path, children, notices)
    assert list(kept) == ["r3.wav", "r4.wav", "r5.wav"]
    assert notices == ["3 recordings marked 'discard' were left out."]
    path.write_text("recording_filename,child_id\nNA,c\nx.wav,z\nx.wav,c\nx.mp3,c\nx.wav,c\n")
    with pytest.raises(CorpusError) as caught:
        childproject.read_recordings(tmp_path, children, [])
    assert caught.value.__notes__ == [
        f"{path}:2: recording_filename is empty. Fill it in",
        f"{path}:3: child_id 'z' is not in children.csv. Add it there",
        f"{path}:5: 'x.mp3' can't be told from 'x.wav'. Rename one, or keep one row",
        f"{path}:6: 'x.wav' can't be told from 'x.wav'. Rename one, or keep one row",
    ]
    notices.clear()
    path.write_text("recording_filename,child_id\nx.wav,c\n")
    assert list(childproject.read_recordings(tmp_path, children, notices)) == ["x.wav"]
    assert notices == []
    listed = tmp_path / "metadata" / "children.csv"
    listed.write_text("child_id,x\nc,1\nNA,2\nc,3\nd,4\n")
    with pytest.raises(CorpusError) as caught:
        childproject.read_children(tmp_path)
    assert caught.value.__notes__ == [
        f"{listed}:{n}: child_id '{who}' is empty or there already. Keep one row"
        for n, who in ((3, "NA"), (4, "c"))
    ]


# ------------------------------------------------------------------------------- converted


def table(path: Path, *rows: str, head: str = "segment_onset,segment_offset,speaker_type") -> Path:
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_segments_are_cut_to_what_their_file_annotates(tmp_path: Path) -> None:
    rows = ("0,1000,CHI", "1500,2500,FEM", "1900,2100,XX", "3000,3000,MAL", "1500,2500,FEM",
            "500,2600,OCH", "2500,3500,MAL", "4000,5000,CHI")  # fmt: skip
    path = table(tmp_path / "a.csv", *rows)
    other = table(tmp_path / "b.csv", "0,9000,CHI")
    dropped: Counter[str] = Counter()
    ranges = [(path, (2.0, 2.5)), (path, (0.5, 1.0)), (path, (2.25, 3.0)), (other, (7.0, 8.0))]
    assert converted.read_turns(ranges, dropped) == [
        (0.5, 1.0, "KCHI"), (0.5, 1.0, "OCH"), (2.0, 2.5, "FEM"), (2.0, 2.6, "OCH"),
        (2.5, 3.0, "MAL"), (7.0, 8.0, "KCHI"),
    ]  # fmt: skip
    assert dropped == {"XX": 1}
    bad = table(tmp_path / "c.csv", "x,1,CHI", "0,1,CHI", "2,1,CHI")
    with pytest.raises(CorpusError) as caught:
        converted.read_turns([(bad, (0.0, 9.0))], dropped)
    columns = "segment_onset and segment_offset must be milliseconds: 'x', '1'"
    assert caught.value.__notes__ == [
        f"{bad}:2: {columns}", f"{bad}:4: segment_onset 2 to segment_offset 1 is no span of time.",
    ]  # fmt: skip


def test_utterances_and_to_whom_they_are(tmp_path: Path) -> None:
    head = "segment_onset,segment_offset,speaker_type,addressee"
    rows = ("1000,2000,FEM, T ", "0,500,CHI,NA", "500,900,XX,C", "1000,2000,FEM,A",
            "2500,4000,MAL,A", "3000,3500,OCH,O", "600,600,FEM,T")  # fmt: skip
    path = table(tmp_path / "a.csv", *rows, head=head)
    recording = Clip("r", "r.wav", 0.0, 3.0, "g", labels={"sex": "f"},
                     segments=(Segment(0, 1, "FEM"),), scored=((0.0, 3.0),))  # fmt: skip
    made, missing = converted.spoken_to(recording, [(path, (0.0, 5.0))])
    assert missing == 1
    assert [(c.id, c.start, c.end, dict(c.labels)) for c in made] == [
        ("r-500-900-NA", 0.5, 0.9, {"sex": "f", "addressee": "C", "voice": "NA"}),
        ("r-1000-2000-FEM", 1.0, 2.0, {"sex": "f", "addressee": "T", "voice": "FEM"}),
        ("r-2500-3000-MAL", 2.5, 3.0, {"sex": "f", "addressee": "A", "voice": "MAL"}),
    ]
    assert all(c.segments == () and c.scored is None and c.group == "g" for c in made)


def test_times_that_were_written_in_seconds() -> None:
    def clips(*lengths: float) -> list[Clip]:
        segments = tuple(Segment(i, i + x, "FEM") for i, x in enumerate(lengths))
        return [Clip("a", "a", 0, 99, "g", segments=segments)]

    converted.refuse_seconds(Path("/x"), clips())
    converted.refuse_seconds(Path("/x"), clips(0.001, 0.021, 0.5))
    told = refused(converted.refuse_seconds, Path("/x"), clips(0.001, 0.019, 0.5))
    assert told == (
        "/x: half of its 3 segments are shorter than 0.0190 s. Are the times of the converted "
        "annotations seconds? segment_onset, segment_offset, range_onset and range_offset are "
        "milliseconds"
    )


# ------------------------------------------------------------------------------- common voice


def test_rows_of_a_release(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    head = "client_id\tpath\tsentence\tgender\taccents\taccent\tage"
    path.write_text(f"{head}\r\nc\ta.mp3\t said \tF\t x \ty\t\n\n  \nc\tb.mp3\t\tF\t x \ty\t\n")
    shared: dict[tuple[str, ...], Any] = {}
    one, two = commonvoice.read_rows(path, shared)
    assert one == ("c", "a.mp3", "said", {"accent": "x", "gender": "female"})
    assert two[:3] == ("c", "b.mp3", "") and two[3] is one[3]
    path.write_text(f"{head}\na\tb\nc\t\tsaid\tF\tx\ty\tz\nc\ta.mp3\tx\t\t\t\t\n")
    with pytest.raises(CorpusError) as caught:
        list(commonvoice.read_rows(path, shared))
    assert caught.value.__notes__ == [
        f"{path}:2: 2 cells under 7 columns.", f"{path}:3: the cell 'path' is empty.",
    ]  # fmt: skip
    path.write_text("client_id\tpaht\tsentence\n")
    told = refused(lambda: list(commonvoice.read_rows(path, shared)))
    assert told == f"{path}:1: no column 'path' (did you mean 'paht'?)."
    path.write_text("")
    assert "no column 'client_id'" in refused(lambda: list(commonvoice.read_rows(path, shared)))


def test_durations_of_a_release(tmp_path: Path) -> None:
    path = tmp_path / "clip_durations.tsv"
    assert commonvoice.read_durations(path) == {}
    path.write_text("clip\tduration[ms]\na.mp3\t1500\nb\t1500\nc.mp3\t0\nd.x.mp3\t20\n")
    made = commonvoice.read_durations(path)
    assert made == {"a": 1.5, "b": 1.5, "d.x": 0.02} and made["a"] is made["b"]
    path.write_text("clip\tduration[ms]\na.mp3\t1.5\nb.mp3\t-1\nc.mp3\n")
    with pytest.raises(CorpusError) as caught:
        commonvoice.read_durations(path)
    assert caught.value.__notes__ == [
        f"{path}:2: not a duration in ms: 'a.mp3\\t1.5'", f"{path}:3: not a duration in ms: "
        "'b.mp3\\t-1'", f"{path}:4: not a duration in ms: 'c.mp3'",
    ]  # fmt: skip
    path.write_text("clip,duration\n")
    assert refused(commonvoice.read_durations, path) == (
        f"{path}:1: the columns must be 'clip' and 'duration[ms]', separated by a tab; they are: "
        "clip,duration. Correct or remove it: headers are read instead."
    )


# ------------------------------------------------------------------------------- voxceleb


def test_speakers_of_voxceleb(tmp_path: Path) -> None:
    one, two = tmp_path / "vox1_meta.csv", tmp_path / "vox2_meta.csv"
    assert voxceleb.read_meta(tmp_path) == {}
    one.write_text("VoxCeleb1 ID\tVGG\tGender\tNationality\nid1\tx\tm\tNorway\n\nid2\tx\tf\n")
    two.write_text("id ,VGG ,Gender ,Set\nid3 ,y ,f ,dev\n,y,m,dev\n")
    assert voxceleb.read_meta(tmp_path) == {
        "id1": ("male", "Norway"), "id2": ("female", ""), "id3": ("female", ""),
    }  # fmt: skip
    two.write_text("id,VGG\nid3,y\n")
    assert refused(voxceleb.read_meta, tmp_path) == f"{two}:1: no column 'Gender': 'id,VGG'"


def test_names_of_utterances() -> None:
    assert (
        voxceleb.clip_id("wav/id1/v/00001.wav") == "id1/v/00001" == voxceleb.clip_id("id1/v/00001")
    )
    assert voxceleb.clip_id("/a/b/c/d.e.flac") == "b/c/d.e"


# ------------------------------------------------------------------------------- voices


def meaning(given: dict[str, Any] | None = None, **counts: int) -> tuple[dict[str, Any], list[str]]:
    notices: list[str] = []
    return voices.label_map(counts, given or {}, Path("/x"), notices), notices


def test_what_labels_mean() -> None:
    assert meaning() == ({}, [])
    assert meaning(KCHI=1, fem=2) == ({"KCHI": "KCHI", "fem": "FEM"}, [])
    assert meaning(chi=1, KCHI=1) == (
        {"chi": "OCH", "KCHI": "KCHI"}, ["chi was read as OCH."],
    )  # fmt: skip
    assert meaning({"CHI": "KCHI"}, CHI=1, OCH=1)[1] == []
    made, notices = meaning({"x": "MAL", "FEM": "NA", "gone": "OCH"}, x=1, FEM=3, y=5, z=3)
    assert made == {"x": "MAL", "FEM": None, "y": None, "z": None}
    assert notices == [
        "labels.gone is set, but no segment is labelled gone.",
        "Segments left out, by label: y (5), FEM (3), z (3) (to use them: --set "
        "corpus.labels.FEM=FEM, for example).",
    ]
    for counts, beside in (({"CHI": 1}, "neither KCHI nor OCH"),
                           ({"CHI": 1, "KCHI": 1, "OCH": 1}, "both KCHI and OCH")):  # fmt: skip
        assert refused(lambda c=counts: meaning(**c)) == (
            f"/x: CHI stands beside {beside}, so it may mean the key child or another one. Say "
            "which: --set corpus.labels.CHI=KCHI (or OCH)"
        )
    many = {f"l{i:02}": i for i in range(1, 15)}
    listed = ", ".join(f"l{i:02} ({i})" for i in range(14, 2, -1))
    assert refused(lambda: meaning(**many)) == (
        f"/x: no segment is labelled KCHI, OCH, MAL, FEM. The labels are: {listed} and 2 more. Say "
        "what they mean, e.g. --set corpus.labels.l01=FEM"
    )
    twelve = refused(lambda: meaning(**dict(list(many.items())[:12])))
    assert "l01 (1). Say" in twelve and "more" not in twelve


def test_groups_of_voices(tmp_path: Path) -> None:
    path = tmp_path / "groups.tsv"
    assert voices.read_groups(path) == voices.Groups({}, {})
    path.write_text(
        "recording\tgroup\tvoice\nx/a.wav\tf1\tmum\na\tf1\tmum\na\t\tdad\n\t\t\nb\tf2\t\n"
    )
    groups = voices.read_groups(path)
    assert groups.voices == {"a": ("mum", "dad")} and groups.group == {"a": "f1", "b": "f2"}
    path.write_text("recording\tvoice\na\tx\n\ty\n")
    assert refused(voices.read_groups, path) == f"{path}:3: a cell is missing: '\\ty'"
    path.write_text("voice\tgroup\n")
    assert refused(voices.read_groups, path) == (
        f"{path}:1: the header must name the columns 'recording' and 'voice' (or 'group'), "
        "separated by tabs; it names: voice, group."
    )
    path.write_text("recording\tgroup\tx\na\tf\t\t\na\tg\t\n")
    assert refused(voices.read_groups, path) == f"{path}:3: 'a' is of group 'g' here and 'f' above."


# ------------------------------------------------------------------------------- hub


def test_cells_of_a_data_set() -> None:
    assert hub.cell_text(None, None) == "" == hub.cell_text(None, ["a"]) == hub.cell_text(-1, ["a"])
    assert hub.cell_text(" a ", None) == "a" and hub.cell_text(-1, None) == "-1"
    assert hub.cell_text(1, ["a", " b"]) == "b" and hub.cell_text(0, ["a", "b"]) == "a"
    assert hub.cell_text(True, None) == "True"


def test_audio_of_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.wav").write_bytes(b"a")
    for audio in ("a.wav", {"path": "a.wav"}, {"bytes": None, "path": str(tmp_path / "a.wav")}):
        assert hub.on_disk(audio, tmp_path, "row") == tmp_path / "a.wav"
    made = {hub.on_disk(audio, tmp_path, "row") for audio in (b"x", {"bytes": b"x"})}
    (path,) = made
    assert path.suffix == "" and path.read_bytes() == b"x"
    assert path.parent.parent == tmp_path / "cache" / "hf-audio" and len(path.parent.name) == 2
    named = hub.on_disk({"bytes": b"x", "path": "deep/x.WAV"}, tmp_path, "row")
    assert named == path.with_suffix(".wav") and named.stem == path.stem
    for audio, shown in ((7, ""), ({}, ""), ("b.wav", "b.wav"), ("", ""), ({"path": None}, "")):
        assert refused(hub.on_disk, audio, tmp_path, "row 3") == (
            f"row 3: no audio: neither encoded bytes nor the path of a file here ({shown!r}). Say "
            "which column has it: --set corpus.audio=COLUMN"
        )

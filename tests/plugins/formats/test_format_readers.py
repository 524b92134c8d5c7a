"""What other programs read in the files that bab writes, and in those that it reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from format_files import DAY, ITS, read, said, write

from bab.core.annotations import Annotation, Mark


def test_pyannote_reads_rttm(tmp_path):
    util = pytest.importorskip("pyannote.database.util")
    write("rttm", tmp_path / "a.rttm", DAY, Annotation("b", (Mark(1, 2, "MAL"),)))
    found = util.load_rttm(tmp_path / "a.rttm")
    assert set(found) == {"home_01", "b"}
    turns = [
        (round(s.start, 3), round(s.end, 3), label)
        for s, _, label in found["home_01"].itertracks(yield_label=True)
    ]
    expected = [(0.123, 1.5, "KCHI"), (1.4, 2.75, "FEM"), (2.0, 3.0, "FEM")]
    assert sorted(turns) == sorted([*expected, (36000.0, 36001.001, "OCH")])


def test_praatio_reads_textgrid(tmp_path):
    textgrid = pytest.importorskip("praatio.textgrid")
    path = tmp_path / "a.TextGrid"
    write("textgrid", path, DAY)
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    assert grid.maxTimestamp == 57600.0
    entries = {tier.name: [tuple(entry) for entry in tier.entries] for tier in grid.tiers}
    assert entries == {
        "CHI": [(0.123, 1.5, "baba")],
        "vcm@CHI": [(0.123, 1.5, "C")],
        "FA1": [(1.4, 2.75, "où ?")],
        "xds@FA1": [(1.4, 2.75, "T")],
        "FA2": [(2.0, 3.0, "FA2")],
        "OCH": [(36000.0, 36001.001, "OCH")],
        "code": [(0.0, 60.0, "1"), (36000.0, 36060.0, "2")],
    }


def test_pympi_reads_eaf(tmp_path):
    elan = pytest.importorskip("pympi.Elan")
    path = tmp_path / "a.eaf"
    assert write("eaf", path, DAY) == []
    eaf = elan.Eaf(str(path))
    assert eaf.get_annotation_data_for_tier("CHI") == [(123, 1500, "baba")]
    assert eaf.get_annotation_data_for_tier("UC1") == [(36000000, 36001001, "")]
    assert eaf.get_ref_annotation_data_for_tier("vcm@CHI") == [(123, 1500, "C", "baba")]
    assert eaf.get_ref_annotation_data_for_tier("xds@FA1") == [(1400, 2750, "T", "où ?")]
    assert eaf.get_linked_files()[0]["MEDIA_URL"] == "home 01.wav"
    assert eaf.get_parameters_for_tier("vcm@CHI")["PARENT_REF"] == "CHI"


def test_eaf_is_sound_xml_by_elan_s_rules(tmp_path):
    """Ids are unique, references lead somewhere, dependent types have their constraint."""
    path = tmp_path / "a.eaf"
    write("eaf", path, DAY)
    root = ElementTree.parse(path).getroot()
    annotations = [*root.iter("ALIGNABLE_ANNOTATION"), *root.iter("REF_ANNOTATION")]
    ids = [one.get("ANNOTATION_ID") for one in annotations]
    assert len(ids) == len(set(ids)) == 8
    slots = {one.get("TIME_SLOT_ID") for one in root.iter("TIME_SLOT")}
    for one in root.iter("ALIGNABLE_ANNOTATION"):
        assert {one.get("TIME_SLOT_REF1"), one.get("TIME_SLOT_REF2")} <= slots
    assert {one.get("ANNOTATION_REF") for one in root.iter("REF_ANNOTATION")} <= set(ids)
    types = {one.get("LINGUISTIC_TYPE_ID"): one for one in root.iter("LINGUISTIC_TYPE")}
    for tier in root.iter("TIER"):
        kind = types[tier.get("LINGUISTIC_TYPE_REF")]
        assert (kind.get("CONSTRAINTS") is not None) == (tier.get("PARENT_REF") is not None)


PROJECT = """
import sys
from pathlib import Path
from ChildProject.projects import ChildProject
from ChildProject.annotations import AnnotationManager
project = ChildProject(Path(sys.argv[1]))
manager = AnnotationManager(project)
errors, warnings = manager.validate()
segments = manager.get_segments(manager.annotations)
sets = manager.get_sets_metadata()
print([str(e) for e in manager.errors + errors], [str(w) for w in manager.warnings + warnings])
print(segments[["segment_onset", "segment_offset", "speaker_type"]].values.tolist())
print(sets[["method", "has_speaker_type", "has_vcm_type", "has_addressee"]].values.tolist())
"""


def childproject_python() -> str:
    """A Python that has ChildProject: this one, or that of BAB_CHILDPROJECT (it holds pandas and
    much else back, so that the tests' own environment may lack it)."""
    from importlib.util import find_spec

    named = os.environ.get("BAB_CHILDPROJECT", "")
    if not named and find_spec("ChildProject") is None:
        pytest.skip("ChildProject isn't here; BAB_CHILDPROJECT=PYTHON names one that has it")
    return named or sys.executable


def test_childproject_validates_what_is_written(tmp_path):
    python = childproject_python()
    converted = tmp_path / "annotations" / "bab" / "converted"
    write("childproject", converted / "home01.csv", DAY, method="automated", algorithm="VTC")
    metadata = tmp_path / "metadata"
    metadata.mkdir()
    (metadata / "children.csv").write_text("experiment,child_id,child_dob\nx,c1,2023-01-01\n")
    (metadata / "recordings.csv").write_text(
        "experiment,child_id,date_iso,start_time,recording_device_type,recording_filename,duration\n"
        "x,c1,2024-05-17,08:30,usb,home01.wav,57600000\n"
    )
    (metadata / "annotations.csv").write_text(
        "set,recording_filename,time_seek,range_onset,range_offset,raw_filename,format,"
        "annotation_filename,imported_at,package_version\n"
        "bab,home01.wav,0,0,57600000,home01.csv,custom,home01.csv,2024-05-18 10:00:00,0.4.6\n"
    )
    done = subprocess.run(
        [python, "-c", PROJECT, str(tmp_path)],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr
    faults, segments, sets = done.stdout.strip().splitlines()[-3:]
    assert faults == "[] []"
    assert json.loads(segments.replace("'", '"')) == [
        [123, 1500, "CHI"],
        [1400, 2750, "FEM"],
        [2000, 3000, "FEM"],
        [36000000, 36001001, "OCH"],
    ]
    assert sets == "[['automated', 'Y', 'Y', 'Y']]"


CONVERTERS = """
import sys, json
from ChildProject.converters import EafConverter, TextGridConverter, ChatConverter, VtcConverter
from ChildProject.converters import ItsConverter
kind = dict(eaf=EafConverter, textgrid=TextGridConverter, cha=ChatConverter, rttm=VtcConverter,
            its=ItsConverter)
table = kind[sys.argv[1]].convert(sys.argv[2], new_tiers=[])
columns = ["segment_onset", "segment_offset", "speaker_type"]
print(json.dumps(sorted(map(list, table[columns].astype(object).values.tolist()))))
"""
VOICES = [
    [123, 1500, "CHI"],
    [1400, 2750, "FEM"],
    [2000, 3000, "FEM"],
    [36000000, 36001001, "OCH"],
]


@pytest.mark.parametrize("name", ["eaf", "textgrid", "cha", "rttm", "its"])
def test_childproject_s_own_converters_say_the_same(name, tmp_path):
    """Also that its reader of LENA and ours agree. (CHAT: by pylangacq, below 0.20.)"""
    python = childproject_python()
    path = tmp_path / f"home01.{name}"
    if name == "its":
        path.write_text(ITS)
        one, _ = read("its", path, segments="voices")
        types = {"KCHI": "CHI", "OCH": "OCH", "FEM": "FEM", "MAL": "MAL"}
        expected = [[round(a * 1e3), round(b * 1e3), types[k]] for a, b, k, _ in said(one)]
    else:
        options = {"names": "aclew", "scored": ""} if name in ("textgrid", "eaf") else {}
        bare = [Mark(m.start, m.end, m.label, m.speaker, m.text) for m in DAY.marks]
        write(name, path, Annotation("home01", tuple(bare)), **options)
        expected = VOICES
    done = subprocess.run(
        [python, "-c", CONVERTERS, name, str(path)],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert [row for row in found if row[2] != "NA"] == expected

"""`bab convert`: files, folders, what is said of losses, and what goes on after a bad file."""

from __future__ import annotations

from pathlib import Path

import pytest
from format_files import EAF, ITS, read, said
from test_cli import bab, shell

RTTM = "SPEAKER {} 1 {} 1.5 <NA> <NA> {} <NA> <NA>\n"


def rttm(path: Path, *labels: str, uri: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (RTTM.format(uri or path.stem, 2 * i, label) for i, label in enumerate(labels))
    path.write_text("".join(rows))
    return path


def tree(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_file_by_its_suffixes_with_a_notice_of_what_is_lost(tmp_path):
    (tmp_path / "a.eaf").write_text(EAF)
    done = bab("convert", str(tmp_path / "a.eaf"), str(tmp_path / "b.rttm"))
    assert done.status == 0 and done.out == f"1 file -> {tmp_path / 'b.rttm'}\n"
    assert "notice: a.eaf: rttm can't hold the text of a mark: 2 left out\n" in done.err
    assert "notice: a.eaf: rttm can't hold which stretches were annotated: 1 " in done.err
    one, _ = read("rttm", tmp_path / "b.rttm")
    assert said(one) == [(0.0, 1.5, "KCHI", ""), (1.4, 2.75, "FEM", "")]


def test_a_folder_keeps_its_tree_and_goes_on_after_a_bad_file(tmp_path):
    given, out = tmp_path / "in", tmp_path / "out"
    rttm(given / "child1" / "rec.rttm", "KCHI")
    rttm(given / "child2" / "rec.rttm", "FEM", "MAL")
    rttm(given / ".hidden" / "rec.rttm", "FEM")
    bad = rttm(given / "child3" / "bad.rttm", "FEM")
    bad.write_text(bad.read_text() + "SPEAKER bad 1 x 1 <NA> <NA> FEM <NA> <NA>\n")
    (given / "notes.docx").write_bytes(b"\x00")
    done = bab("convert", str(given), str(out), "--to", "textgrid")
    assert done.status == 1
    assert tree(out) == ["child1/rec.TextGrid", "child2/rec.TextGrid"]
    assert f"bab: error: {bad}:2: onset and duration must be numbers: 'x'" in done.err
    assert done.out == f"2 files -> {out}\n"
    again = bab("convert", str(given / "child1"), str(out), "--to", "textgrid", "--quiet")
    assert again == (0, "", "") and "rec.TextGrid" in tree(out)


def test_notices_of_a_folder_are_added_up(tmp_path):
    for name in "ab":
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.eaf").write_text(EAF)
    done = bab("convert", str(tmp_path / "in"), str(tmp_path / "out"), "--to", "csv")
    assert done.status == 0
    assert "notice: 2 files: 2 annotations without a time or a length" in done.err
    assert "csv can't hold the text" not in done.err


def test_labels_and_options(tmp_path):
    path = rttm(tmp_path / "v.rttm", "KCHI", "CHI", "SPEECH", "FEM")
    refused = bab("convert", str(path), str(tmp_path / "v.eaf"))
    assert refused.status == 1 and "--set labels.CHI=OCH" in refused.err
    assert not (tmp_path / "v.eaf").exists()
    sets = ("--set", "labels.CHI=OCH", "--set", "labels.SPEECH=NA", "--set", "to.names=labels")
    assert bab("convert", str(path), str(tmp_path / "v.eaf"), *sets).status == 0
    one, _ = read("eaf", tmp_path / "v.eaf")
    assert said(one) == [(0, 1.5, "KCHI", ""), (2, 3.5, "OCH", ""), (6, 7.5, "FEM", "")]
    (tmp_path / "e.its").write_text(ITS)
    lena = ("--to", "childproject", "--set", "from.segments=voices")
    assert bab("convert", str(tmp_path / "e.its"), str(tmp_path / "e.csv"), *lena).status == 0
    one, _ = read("childproject", tmp_path / "e.csv")
    assert [m.speaker for m in one.marks] == ["CHN", "FAN", "MAN", "CXN"]
    assert (tmp_path / "metannots.yml").exists()


def test_several_recordings_become_files_of_a_folder(tmp_path):
    path = rttm(tmp_path / "all.rttm", "KCHI", uri="home01")
    path.write_text(path.read_text() + RTTM.format("home 02".replace(" ", "_"), 5, "FEM"))
    one = bab("convert", str(path), str(tmp_path / "x.eaf"))
    assert one.status == 1 and "holds 2 recordings" in one.err and "--to" in one.err
    assert bab("convert", str(path), str(tmp_path / "out"), "--to", "eaf").status == 0
    assert tree(tmp_path / "out") == ["home01.eaf", "home_02.eaf"]
    assert bab("convert", str(path), str(tmp_path / "x.csv")).status == 0
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["uid", "home01", "home_02"]


def test_files_are_not_written_over_each_other(tmp_path):
    rttm(tmp_path / "in" / "a.rttm", "FEM")
    (tmp_path / "in" / "a.eaf").write_text(EAF)
    done = bab("convert", str(tmp_path / "in"), str(tmp_path / "out"), "--to", "csv")
    assert done.status == 2 and "would both become" in done.err and not (tmp_path / "out").exists()
    chosen = ("--to", "csv", "--from", "eaf")
    assert bab("convert", str(tmp_path / "in"), str(tmp_path / "out"), *chosen).status == 0
    for name in ("one", "two"):  # both hold home01 and home02
        path = rttm(tmp_path / "more" / f"{name}.rttm", "FEM", uri="home01")
        path.write_text(path.read_text() + RTTM.format("home02", 5, "FEM"))
    done = bab("convert", str(tmp_path / "more"), str(tmp_path / "apart"), "--to", "audacity")
    assert done.status == 1 and "was written from another file" in done.err
    path = rttm(tmp_path / "same.rttm", "FEM")
    done = bab("convert", str(path), str(path))
    assert done.status == 1 and "written over itself" in done.err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("gone.rttm", "x.eaf"), "gone.rttm: there is no such file"),
        (("a.rttm", "out"), "say which format to write with --to. known: audacity"),
        (("a.rttm", "x.its"), "x.its: 'its' is only read; say which format to write with --to."),
        (("a.rttm", "x.rttm", "--to", "its"), "read only"),
        (("a.rttm", "x.rttm", "--to", "elan"), "there is no format called 'elan'"),
        ((".", "out", "--to", "rttm", "--from", "its"), "no annotation file of the format its"),
        (("a.rttm", "x.eaf", "--set", "corpus.x=1"), "labels.KEY=VALUE"),
        (("a.rttm", "x.eaf", "--set", "labels=1"), "labels.KEY=VALUE"),
        (("a.rttm", "x.eaf", "--set", "labels.A=1"), "expected a label"),
        (("a.rttm", "x.eaf", "--set", "to.tiers=1"), "option 'tiers'"),
    ],
)
def test_what_can_t_be_is_said_before_anything_is_written(arguments, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rttm(Path("a.rttm"), "FEM")
    done = bab("convert", *arguments)
    assert done.status == 2 and word in done.err, done.err
    assert tree(tmp_path) == ["a.rttm"]


def test_a_file_of_no_format_is_named(tmp_path):
    (tmp_path / "a.xyz").write_text("x")
    done = bab("convert", str(tmp_path / "a.xyz"), str(tmp_path / "b.rttm"))
    assert done.status == 1 and "a.xyz: no format has the suffix '.xyz'" in done.err


def test_csv_is_read_as_whichever_table_it_is(tmp_path):
    (tmp_path / "a.csv").write_text("segment_onset,segment_offset,speaker_type\n0,1500,CHI\n")
    assert bab("convert", str(tmp_path / "a.csv"), str(tmp_path / "a.rttm")).status == 0
    assert said(read("rttm", tmp_path / "a.rttm")[0]) == [(0.0, 1.5, "KCHI", "")]
    (tmp_path / "b.csv").write_text("x,y\n1,2\n")
    done = bab("convert", str(tmp_path / "b.csv"), str(tmp_path / "b.rttm"))
    assert done.status == 1 and "as csv: " in done.err and "as childproject: " in done.err


def test_converting_imports_no_torch(tmp_path):
    path = rttm(tmp_path / "a.rttm", "FEM")
    script = (
        "import sys; from bab.cli import main; "
        f"assert main(['convert', {str(path)!r}, {str(tmp_path / 'a.csv')!r}]) == 0; "
        "assert not {'torch', 'numpy', 'transformers'} & set(sys.modules), 'heavy'"
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_info_shows_a_corpus_and_a_format_of_one_name():
    said = bab("info", "rttm")
    assert said.status == 0
    assert "rttm: corpus of bab" in said.out and "rttm: format of bab" in said.out
    assert "read and written" in said.out and "--set corpus.KEY=VALUE" in said.out
    assert "names   tiers of marks" in bab("info", "eaf").out
    assert "  eaf " in bab("list", "formats").out


def test_in_a_process_of_its_own(tmp_path):
    path = rttm(tmp_path / "a.rttm", "FEM")
    done = shell("convert", str(path), str(tmp_path / "grids"), "--to", "audacity")
    assert (done.status, tree(tmp_path / "grids")) == (0, ["a.txt"])

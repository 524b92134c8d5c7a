"""recanvo, donateacry, esc50 and babycry: their layouts, the real data where it is, mistakes."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from places import REAL
from pydantic import ValidationError

from bab.core.errors import CorpusError, LeakageError
from bab.data import splits
from bab.data.check import check_corpus as data_check
from bab.plugins.datasets.babycry import VALENCE, BabyCry
from bab.plugins.datasets.donateacry import DonateACry
from bab.plugins.datasets.esc50 import Esc50
from bab.plugins.datasets.recanvo import Recanvo
from bab.testing.corpora import check_corpus

needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the recordings do not ship")

UUID = "{:08x}-1b81-4a4f-9b5e-0123456789ab"


def make(kind, root: Path, **options):
    return kind(root, kind.Options(**options))


def tone_bytes(tmp_path: Path, suffix: str = "wav", seconds: float = 0.05) -> bytes:
    path = tmp_path / f"tone.{suffix}"
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * 8000)) / 8000)
    soundfile.write(path, wave, 8000)
    data = path.read_bytes()
    path.unlink()
    return data


def write_rows(path: Path, header: str, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def recanvo_root(root: Path, tmp_path: Path, rows) -> Path:
    """rows: (file name, participant, label)."""
    write_rows(root / "dataset_file_directory.csv", "Filename,Participant,Label", rows)
    tone = tone_bytes(tmp_path)
    (root / "wav").mkdir()
    for name, _, _ in rows:
        (root / "wav" / name).write_bytes(tone)
    return root


ROWS = [
    (f"200{p}26_21{s}0_00-0{s}-04.06--00-00-04.{s}{p}.wav", f"P0{p}", label)
    for p in range(1, 5)
    for s, label in enumerate(("delighted", "frustrated", "selftalk"), 1)
]


def donated(n: int, reason: str = "hu", upper: bool = False, **parts) -> str:
    uuid = UUID.format(parts.get("app", n))
    middle = f"{1430000000 + n}-1.0-{parts.get('gender', 'm')}-{parts.get('age', '04')}"
    return f"{uuid.upper() if upper else uuid}-{middle}-{reason}"


def donate_root(root: Path, tmp_path: Path, names: dict[str, str]) -> Path:
    """names: path below the root, with its suffix -> how it is encoded."""
    for name, suffix in names.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(tone_bytes(tmp_path, suffix))
    return root


def esc_rows(per_fold: int = 2):
    """(filename, fold, target, category, esc10, src_file, take): cries and rain in each fold."""
    for fold in range(1, 6):
        for k in range(per_fold):
            category, target = (("crying_baby", 20), ("rain", 10))[k % 2]
            source = fold * 1000 + k
            name = f"{fold}-{source}-A-{target}.wav"
            yield [name, fold, target, category, category == "rain", source, "A"]


ESC_HEADER = "filename,fold,target,category,esc10,src_file,take"


def esc_root(root: Path, tmp_path: Path, rows, suffix: str = "wav") -> Path:
    write_rows(root / "meta" / "esc50.csv", ESC_HEADER, rows)
    (root / "audio").mkdir()
    tone = tone_bytes(tmp_path, suffix)
    for row in rows:
        (root / "audio" / row[0]).with_suffix(f".{suffix}").write_bytes(tone)
    return root


# --- the contract, on the samples that ship


@pytest.mark.parametrize("kind", [Recanvo, DonateACry, Esc50, BabyCry])
def test_samples_obey_the_contract(kind):
    corpus = make(kind, kind.sample)
    check_corpus(corpus)
    report = data_check(corpus)
    assert not report.problems
    assert all(part.clips for part in report.splits.values())


def test_samples_are_small_and_serve_the_protocols():
    for kind, groups in ((Recanvo, 5), (DonateACry, 8)):
        clips = list(make(kind, kind.sample).clips())
        assert len({c.group for c in clips}) == groups
        assert len(splits.leave_one_group_out(clips)) == groups
        assert sum(f.stat().st_size for f in kind.sample.rglob("*") if f.is_file()) < 120_000
    esc50 = list(make(Esc50, Esc50.sample).clips())
    assert {c.labels["fold"] for c in esc50} == set("12345")


# --- recanvo


def test_recanvo_rows_become_clips(tmp_path):
    corpus = make(Recanvo, recanvo_root(tmp_path / "r", tmp_path, ROWS))
    check_corpus(corpus)
    first = next(iter(corpus.clips()))
    assert (first.group, first.speaker) == ("P01", "P01")
    assert first.labels == {"vocalisation": "delighted", "session": "200126_2110"}
    assert first.id == ROWS[0][0].removesuffix(".wav")
    assert first.end == pytest.approx(0.05)
    assert [c.id + ".wav" for c in corpus.clips()] == [row[0] for row in ROWS]


def test_recanvo_keeps_to_lists_where_there_are_some(tmp_path):
    root = recanvo_root(tmp_path / "r", tmp_path, ROWS)
    parts = {"train": ("P01", "P02"), "dev": ("P03",), "test": ("P04",)}
    for split, people in parts.items():
        names = [row[0] for row in ROWS if row[1] in people]
        (root / f"{split}.txt").write_text("\n".join(names))
    corpus = make(Recanvo, root)
    check_corpus(corpus)
    assert {c.group for c in corpus.clips("train")} == {"P01", "P02"}
    (root / "test.txt").write_text("elsewhere.wav")
    with pytest.raises(CorpusError, match=r"test\.txt:1: no clip is called 'elsewhere'"):
        make(Recanvo, root)


def test_recanvo_audio_that_is_missing_stops_or_is_left_out(tmp_path):
    root = recanvo_root(tmp_path / "r", tmp_path, ROWS)
    (root / "wav" / ROWS[5][0]).unlink()
    with pytest.raises(CorpusError, match=rf"1 of 12 files .*'{ROWS[5][0]}'.*missing=skip"):
        make(Recanvo, root)
    corpus = make(Recanvo, root, missing="skip")
    assert len(list(corpus.clips())) == 11
    assert any(n.startswith("1 of 12 files") for n in corpus.notices)
    for path in (root / "wav").iterdir():
        path.unlink()
    with pytest.raises(CorpusError, match="none of its 12 files"):
        make(Recanvo, root, missing="skip")


def test_recanvo_audio_may_be_in_any_folder_and_another_format_but_once(tmp_path):
    root = recanvo_root(tmp_path / "r", tmp_path, ROWS)
    moved = root / "wav" / ROWS[0][0]
    (root / "P01" / "flac").mkdir(parents=True)
    flac = root / "P01" / "flac" / moved.with_suffix(".flac").name
    flac.write_bytes(tone_bytes(tmp_path, "flac"))
    moved.unlink()
    assert next(iter(make(Recanvo, root).clips())).path == str(flac)
    (root / "P01" / ROWS[1][0]).write_bytes((root / "wav" / ROWS[1][0]).read_bytes())
    with pytest.raises(CorpusError, match="audio files with one name"):
        make(Recanvo, root)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("x.wav", "", "happy"), "csv:14: Participant is empty"),
        (("x.wav", "P01", ""), "csv:14: Label is empty"),
        ((ROWS[0][0], "P01", "happy"), "csv:14: .*listed above already"),
    ],
)
def test_recanvo_faulty_rows_are_named(tmp_path, row, message):
    root = recanvo_root(tmp_path / "r", tmp_path, ROWS)
    write_rows(root / "dataset_file_directory.csv", "Filename,Participant,Label", [*ROWS, row])
    with pytest.raises(CorpusError, match=message):
        make(Recanvo, root)


def test_too_few_participants_for_three_splits_is_said(tmp_path):
    rows = [row for row in ROWS if row[1] in ("P01", "P02")]
    corpus = make(Recanvo, recanvo_root(tmp_path / "r", tmp_path, rows))
    with pytest.raises(CorpusError, match="leaves 2 independent parts"):
        corpus.clips("train")


def test_unreadable_audio_is_a_finding_of_data_check_not_a_crash(tmp_path):
    root = recanvo_root(tmp_path / "r", tmp_path, ROWS)
    (root / "wav" / ROWS[3][0]).write_bytes(b"not audio at all")
    report = data_check(make(Recanvo, root))
    problems = [p for p in report.problems if p.kind != "same audio"]  # the rows share one sound
    assert [p.path for p in problems if p.fatal] == [str(root / "wav" / ROWS[3][0])]


# --- donateacry


def test_donateacry_names_say_it_all(tmp_path):
    names = {
        f"hungry/{donated(1, upper=True)}.wav": "wav",
        f"hungry/{donated(2, app=1)}.flac": "flac",  # the same app, its uuid in small letters
        f"tired/{donated(3, 'ti', age='22', gender='f')}.ogg": "ogg",
        f"loose/{donated(4, 'sc', age='72')}.wav": "wav",
        f"hungry/{UUID.format(5)}-1430130772174-1.7-m-48-hu.wav": "wav",  # Android: milliseconds
    }
    corpus = make(DonateACry, donate_root(tmp_path / "d", tmp_path, names))
    check_corpus(corpus)
    found = {c.path.rsplit("/", 2)[1] + "/" + c.path.rsplit("/", 1)[1]: c for c in corpus.clips()}
    assert found.keys() == names.keys()
    clips = [found[name] for name in names]
    assert clips[0].group == clips[1].group == UUID.format(1)
    assert len({c.group for c in clips}) == 4
    assert clips[2].labels == {"reason": "tired", "gender": "female", "age": "over 2 years"}
    assert clips[3].labels == {"reason": "scared", "gender": "male", "age": "7-24 months"}
    assert clips[4].labels["age"] == "4-8 weeks"


def test_donateacry_folder_or_name_says_the_reason(tmp_path):
    names = {f"discomfort/{donated(1, 'ch')}.wav": "wav", f"x/{donated(2, 'dc')}.wav": "wav"}
    root = donate_root(tmp_path / "d", tmp_path, names)
    for option, reasons in (("folder", ["discomfort"] * 2), ("name", ["cold_hot", "discomfort"])):
        corpus = make(DonateACry, root, reason=option)
        assert [c.labels["reason"] for c in corpus.clips()] == reasons
        assert any("1 'cold_hot' in folder 'discomfort'" in n for n in corpus.notices)


@pytest.mark.parametrize(
    "name",
    [
        "cry1",
        donated(1).replace("-hu", "-zz"),
        donated(1).replace("-04-", "-05-"),
        donated(1).replace("-m-", "-x-"),
        donated(1)[1:],
        donated(1) + "-2",
    ],
)
def test_odd_donateacry_names_are_refused_by_name(tmp_path, name):
    names = {f"hungry/{donated(9)}.wav": "wav", f"hungry/{name}.wav": "wav"}
    with pytest.raises(CorpusError) as caught:
        make(DonateACry, donate_root(tmp_path / "d", tmp_path, names))
    assert f"{name}.wav: not a DonateACry name" in str(caught.value)


def test_donateacry_twins_and_raw_uploads(tmp_path):
    names = {f"hungry/{donated(n)}.wav": "wav" for n in range(3)}
    root = donate_root(tmp_path / "d", tmp_path, names)
    (root / "ios").mkdir()
    (root / "ios" / f"{donated(0)}.caf").write_bytes(b"caff")  # there as wav: no word about it
    assert not make(DonateACry, root).notices
    (root / "ios" / f"{donated(7)}.caf").write_bytes(b"caff")
    assert "1 files as the app uploaded them" in make(DonateACry, root).notices[0]
    (root / "ios" / f"{donated(1)}.flac").write_bytes(tone_bytes(tmp_path, "flac"))
    with pytest.raises(CorpusError, match="the same clip twice"):
        make(DonateACry, root)
    for path in root.rglob("*.*"):
        if path.suffix != ".caf":
            path.unlink()
    with pytest.raises(CorpusError, match="must be converted to wav"):
        make(DonateACry, root)


# --- esc50


def test_esc50_folds_are_the_splits(tmp_path):
    corpus = make(Esc50, esc_root(tmp_path / "e", tmp_path, list(esc_rows()), "flac"))
    check_corpus(corpus)
    folds = {s: {c.labels["fold"] for c in corpus.clips(s)} for s in corpus.splits()}
    assert folds == {"train": {"1", "2", "3"}, "dev": {"4"}, "test": {"5"}}
    first = next(iter(corpus.clips()))
    assert first.group == "1000" and first.path.endswith("1-1000-A-20.flac")
    assert first.labels == {"category": "crying_baby", "esc10": "false", "fold": "1"}
    other = make(Esc50, corpus.root, test_fold=1, dev_fold=2)
    assert {c.labels["fold"] for c in other.clips("train")} == {"3", "4", "5"}


def test_esc50_mistakes(tmp_path):
    rows = list(esc_rows())
    root = esc_root(tmp_path / "e", tmp_path, rows)
    with pytest.raises(ValidationError, match="can't both tune and test"):
        make(Esc50, root, test_fold=4)
    with pytest.raises(CorpusError, match=r"no clip is in fold 9 .*1, 2, 3, 4, 5.*test_fold=N"):
        make(Esc50, root, test_fold=9)
    index = root / "meta" / "esc50.csv"
    for column, value, message in (
        (1, "x", "fold is 'x', not a number"),
        (5, "", "src_file is empty"),
        (0, rows[0][0], "listed above already"),
    ):
        bad = [list(row) for row in rows]
        bad[3][column] = value
        write_rows(index, ESC_HEADER, bad)
        with pytest.raises(CorpusError, match=rf"esc50\.csv:5: .*{message}"):
            make(Esc50, root)
    shared = [list(row) for row in rows]
    shared[0][5] = shared[-2][5]  # one recording in folds 1 and 5
    write_rows(index, ESC_HEADER, shared)
    with pytest.raises(LeakageError, match="group '5000'"):
        make(Esc50, root).clips("test")


# --- babycry


def union(tmp_path: Path, recanvo_rows, cries: int, babies: int) -> Path:
    """A folder of the three corpora: ReCANVo's rows, n DonateACry cries, n ESC-50 babies."""
    root = tmp_path / "union"
    root.mkdir()
    recanvo_root(root / "recanvo", tmp_path, recanvo_rows)
    names = {f"hungry/{donated(n, app=n // 3)}.wav": "wav" for n in range(cries)}
    tone = tone_bytes(tmp_path)
    (root / "donateacry" / "hungry").mkdir(parents=True)
    for name in names:
        (root / "donateacry" / name).write_bytes(tone)
    esc_root(root / "esc50", tmp_path, list(esc_rows(2 * babies // 5)))
    return root


def test_babycry_tests_on_recanvo_alone(tmp_path):
    corpus = make(BabyCry, union(tmp_path, ROWS, 6, 5))
    check_corpus(corpus)
    clips = list(corpus.clips())
    assert Counter(c.labels["source"] for c in clips) == {"recanvo": 8, "donateacry": 6, "esc50": 5}
    assert Counter(c.labels["valence"] for c in clips) == {"positive": 4, "distress": 15}
    assert all(corpus.testable(c) == (c.labels["source"] == "recanvo") for c in clips)
    for split in ("dev", "test"):
        assert all(corpus.testable(c) for c in corpus.clips(split))
    assert sum(not corpus.testable(c) for c in corpus.clips("train")) == 11
    assert {c.group for c in clips if corpus.testable(c)} == {"P01", "P02", "P03", "P04"}
    others = [c for c in clips if not corpus.testable(c)]
    assert others and all(c.group.startswith(f"{c.labels['source']}-") for c in others)
    assert all(c.id.startswith(f"{c.labels['source']}-") for c in clips)
    assert any("6 of donateacry and 5 of esc50" in notice for notice in corpus.notices)


def test_babycry_folders_are_options(tmp_path):
    root = union(tmp_path, ROWS, 3, 5)
    alone = make(BabyCry, root / "recanvo", recanvo=".", donateacry="", esc50="")
    assert {c.labels["source"] for c in alone.clips()} == {"recanvo"}
    assert not any("training alone" in notice for notice in alone.notices)
    away = make(
        BabyCry, tmp_path, recanvo="union/recanvo", donateacry="", esc50=str(root / "esc50")
    )
    assert Counter(c.labels["source"] for c in away.clips()) == {"recanvo": 8, "esc50": 5}
    with pytest.raises(CorpusError, match=r"nowhere: no such folder.*corpus\.esc50="):
        make(BabyCry, root, donateacry="nowhere")


@needs_real
def test_babycry_counts_are_the_published_ones(tmp_path):
    """ReCANVo's real index with made tones, and as many cries as the full corpora hold."""
    with (REAL / "recanvo" / "dataset_file_directory.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert len(rows) == 7077
    kept = [tuple(row) for row in rows if row[2] in VALENCE]  # others need no audio
    root = union(tmp_path, kept, 457, 40)
    write_rows(root / "recanvo" / "dataset_file_directory.csv", "Filename,Participant,Label", rows)
    corpus = make(BabyCry, root)
    clips = list(corpus.clips())
    assert Counter(c.labels["valence"] for c in clips) == {"positive": 1571, "distress": 2829}
    tested = [c for c in clips if corpus.testable(c)]
    assert Counter(c.labels["valence"] for c in tested) == {"positive": 1571, "distress": 2332}
    folds = splits.leave_one_group_out(tested)
    assert len(folds) == 8 and sum(len(fold.test) for fold in folds) == 3903
    assert all(len({c.group for c in fold.test}) == 1 for fold in folds)


@needs_real
def test_recanvo_reads_every_row_of_the_real_index(tmp_path):
    with (REAL / "recanvo" / "dataset_file_directory.csv").open(newline="") as file:
        rows = [tuple(row) for row in list(csv.reader(file))[1:]]
    clips = list(make(Recanvo, recanvo_root(tmp_path / "r", tmp_path, rows)).clips())
    assert [(c.id + ".wav", c.group, c.labels["vocalisation"]) for c in clips] == rows
    assert {c.group for c in clips} == {f"P{n:02d}" for n in (1, 2, 3, 5, 6, 8, 11, 16)}
    assert len({c.labels["session"] for c in clips}) == 211


@needs_real
def test_real_cries_and_sounds():
    cries = list(make(DonateACry, REAL / "donateacry").clips())
    assert len(cries) == 340
    assert Counter(c.labels["reason"] for c in cries) == {
        "hungry": 287,
        "discomfort": 18,
        "tired": 16,
        "belly_pain": 12,
        "burping": 7,
    }
    check_corpus(make(DonateACry, REAL / "donateacry"))
    check_corpus(make(Esc50, REAL / "esc50"))
    counts = Counter(c.labels["category"] for c in make(Esc50, REAL / "esc50").clips())
    assert counts["crying_baby"] == 10 and counts["laughing"] == 8 and sum(counts.values()) == 50

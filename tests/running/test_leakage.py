"""`--allow-leakage`: refused without, and marked wherever a result of it is shown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bab.cli import main
from bab.config.corpora import open_corpus
from bab.config.resolve import run_config
from bab.config.run import CorpusConfig
from bab.core.errors import CorpusError, LeakageError
from bab.core.record import Record
from bab.core.types import Clip, Permissions
from bab.data import splits
from bab.data.check import check_corpus
from bab.results import breakdown
from bab.results.detail import detail
from bab.results.record import load
from bab.results.render import FORMATS
from bab.results.table import table
from bab.running.runner import run

Go = Callable[..., tuple[Record, Path]]
QUICK = ("train.steps=4", "train.eval_every=4", "train.batch=8")
REASON = ("task.labels=[reason]", "encoder.cmvn=none")
SPEAKERS = ("task.labels=[speaker]", "protocol=clip-kfold", "folds=4", "encoder.cmvn=none")


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def do(task: str, *sets: str, **options: object) -> tuple[Record, Path]:
        asked = {"encoder": "fbank", "task": task, "observers": ["jsonl"], **options}
        return run(run_config(None, asked, [*QUICK, *sets]))

    return do


def spoken(speaker: str, count: int) -> list[Clip]:
    return [
        Clip(f"{speaker}{i}", f"/x/{speaker}{i}.wav", 0.0, 1.0, speaker, speaker)
        for i in range(count)
    ]


def manifest(folder: Path) -> Path:
    """A manifest whose two speakers are in all its splits."""
    rows = ["path,split,group,speaker,gender"]
    rng = np.random.default_rng(0)
    for split in ("train", "dev", "test"):
        for who, gender in (("ann", "female"), ("bob", "male")):
            name = f"{split}-{who}.wav"
            soundfile.write(folder / name, rng.normal(0, 0.1, 16000), 16000)
            rows.append(f"{name},{split},{who},{who},{gender}")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    return folder / "clips.csv"


# ------------------------------------------------------------------------------- splits


@pytest.mark.parametrize("folds", [4, 5, 6, 9])
def test_clip_kfold_tests_each_clip_once_and_trains_on_every_speaker(folds: int) -> None:
    clips = [c for i, n in enumerate([2, 2, 3, 7, 20, 2, 11]) for c in spoken(f"s{i}", n)]
    rounds = splits.clip_kfold(clips, folds)
    assert sorted(c.id for fold in rounds for c in fold.test) == sorted(c.id for c in clips)
    for fold in rounds:
        parts = [{c.id for c in part} for part in (fold.train, fold.dev, fold.test)]
        assert sum(map(len, parts)) == len(set().union(*parts)) == len(clips)
        assert {c.speaker for c in fold.train} == {f"s{i}" for i in range(7)}
    sizes = [len(fold.test) for fold in rounds]
    assert max(sizes) - min(sizes) <= 4
    assert splits.clip_kfold(clips, folds) == rounds != splits.clip_kfold(clips, folds, 1)


def test_clip_kfold_needs_three_folds_and_as_many_clips() -> None:
    for clips, folds in ((spoken("a", 9), 2), (spoken("a", 3), 4)):
        with pytest.raises(CorpusError, match=f"can't be divided into {folds} folds"):
            splits.clip_kfold(clips, folds)


def test_what_is_allowed_to_one_corpus_is_allowed_to_no_other(tmp_path: Path) -> None:
    listed = manifest(tmp_path)
    kind = CorpusConfig(name="manifest", root=str(listed))
    allowed = open_corpus(kind, Permissions(leakage=True))
    parts = {split: list(allowed.clips(split)) for split in ("train", "dev", "test")}
    assert all(len(part) == 2 for part in parts.values())
    with pytest.raises(LeakageError, match="'ann' stands in two splits"):
        open_corpus(kind).clips("train")
    with pytest.raises(LeakageError):
        splits.check_disjoint(parts)


# ------------------------------------------------------------------------------- runs


def test_without_the_flag_clips_of_one_speaker_are_not_split(go: Go) -> None:
    with pytest.raises(LeakageError, match=r"protocol=kfold.*--allow-leakage marks it"):
        go("classify", *SPEAKERS, corpus="kaldi")


@pytest.mark.parametrize("corpus", ["kaldi", "voxceleb", "librispeech"])
def test_speaker_identification_by_superbs_head_is_marked_everywhere(go: Go, corpus: str) -> None:
    record, folder = go("classify", *SPEAKERS, corpus=corpus, allow_leakage=True)
    assert record.head == "pooled" and record.config["head"]["options"]["hidden"] == 256
    assert record.protocol == "clip-kfold-4" and record.leakage
    assert record.notices[0].startswith("LEAKAGE (allowed): ") and "speakers" in record.notices[0]
    assert json.loads((folder / "record.json").read_text())["leakage"] is True
    assert load(folder).leakage
    # A clean run beside it is not marked.
    clean, _ = go("classify", *REASON, corpus="donateacry")
    assert not clean.leakage and not any("LEAKAGE" in line for line in clean.notices)
    both = [record, clean]
    tables = {form: table(both, form) for form in FORMATS}
    assert f"classify@{corpus} † accuracy" in tables["markdown"]
    row = next(line for line in tables["markdown"].splitlines() if line.startswith("| fbank"))
    assert row.count("†") == 1 and "- † leakage, allowed by --allow-leakage" in tables["markdown"]
    assert r"$\dagger$" in tables["latex"]
    lines = tables["csv"].splitlines()
    place = lines[0].split(",").index("leakage")
    marked = {line.split(",")[4]: line.split(",")[place] for line in lines[1:]}
    assert marked == {f"classify@{corpus} †": "True", "classify@donateacry": "False"}
    cells = json.loads(tables["json"])["rows"][0]["cells"]
    assert sorted(cell["leakage"] for cell in cells) == [False, True]
    whole = {form: detail(record, form) for form in FORMATS}
    assert "accuracy †" in whole["markdown"] and r"$\dagger$" in whole["latex"]
    assert whole["csv"].splitlines()[1].split(",")[1] == "True"
    assert json.loads(whole["json"])["leakage"] is True
    assert "†" not in detail(clean)
    assert "† leakage" in breakdown.show(both, "recordings")


def test_the_flag_marks_nothing_that_shares_nothing(go: Go) -> None:
    record, _ = go("classify", *REASON, corpus="donateacry", allow_leakage=True)
    assert not record.leakage


def test_given_splits_that_leak_run_only_with_the_flag(go: Go, tmp_path: Path) -> None:
    """A corpus that refuses them itself does so no longer."""
    corpus = f"manifest:{manifest(tmp_path)}"
    with pytest.raises(LeakageError, match=r"'ann' stands in two splits"):
        go("gender", "encoder.cmvn=none", corpus=corpus)
    record, _ = go("gender", "encoder.cmvn=none", corpus=corpus, allow_leakage=True)
    assert record.leakage and "2 speakers" in record.notices[0]


# ------------------------------------------------------------------------------- the same audio


def copied(folder: Path, how: str) -> Path:
    """A manifest of six speakers, two in each split, and in its test split a file of train's under
    another name (and another speaker's)."""
    rows = ["path,split,group,gender"]
    rng = np.random.default_rng(0)
    for i, split in enumerate(("train", "train", "dev", "dev", "test", "test")):
        soundfile.write(folder / f"{i}.wav", rng.normal(0, 0.1, 16000), 16000)
        rows.append(f"{i}.wav,{split},g{i},{('female', 'male')[i % 2]}")
    other = "again.wav"
    if how == "copy":
        shutil.copy(folder / "0.wav", folder / other)
    elif how == "link":
        (folder / other).symlink_to(folder / "0.wav")
    else:
        (folder / "w").mkdir()
        other = "w/../0.wav"
    rows.append(f"{other},test,g6,female")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    return folder / "clips.csv"


@pytest.mark.parametrize("how", ["copy", "link", "dots"])
@pytest.mark.parametrize("protocol", ["given", "leave-one-group-out"])
def test_one_files_audio_under_two_names_is_refused(
    go: Go, tmp_path: Path, how: str, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = f"manifest:{copied(tmp_path, how)}"
    asked = ("encoder.cmvn=none", f"protocol={protocol}")
    with pytest.raises(LeakageError, match=r"hold the same audio|stands in two splits"):
        go("gender", *asked, corpus=corpus)
    assert main(["data", "check", corpus]) == 1
    assert "a run would stop" in capsys.readouterr().out


def test_the_same_audio_is_marked_where_it_is_allowed(go: Go, tmp_path: Path) -> None:
    corpus = f"manifest:{copied(tmp_path, 'copy')}"
    record, _ = go("gender", "encoder.cmvn=none", corpus=corpus, allow_leakage=True)
    assert record.leakage and "0.wav (train) and" in record.notices[0]


def test_data_check_names_the_same_audio_in_two_splits(tmp_path: Path) -> None:
    report = check_corpus(
        open_corpus(CorpusConfig(name="manifest", root=str(copied(tmp_path, "copy"))))
    )
    assert report.fatal and any("hold the same audio" in p.message for p in report.problems)


def test_the_same_audio_in_one_split_is_a_warning(tmp_path: Path) -> None:
    """Two groups of one split share it: k-fold may part them."""
    listed = copied(tmp_path, "copy")
    listed.write_text(listed.read_text().replace("again.wav,test", "again.wav,train"))
    report = check_corpus(open_corpus(CorpusConfig(name="manifest", root=str(listed))))
    assert [p.kind for p in report.problems] == ["same audio"] and not report.fatal

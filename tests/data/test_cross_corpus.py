"""`--test-corpus`: trained and tuned on one corpus, tested on another."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bab.config.corpora import open_corpus
from bab.config.resolve import run_config
from bab.config.run import CorpusConfig
from bab.core.errors import ConfigError, LeakageError, NotApplicableError
from bab.core.record import Record
from bab.results.table import table
from bab.running.runner import run

Go = Callable[..., tuple[Record, Path]]
QUICK = ("train.steps=4", "train.eval_every=4", "train.batch=8")


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def do(task: str, *sets: str, **options: object) -> tuple[Record, Path]:
        asked = {"encoder": "fbank", "task": task, "observers": ["jsonl"], **options}
        return run(run_config(None, asked, [*QUICK, *sets]))

    return do


def ids(name: str, split: str | None, root: Path | None = None) -> list[str]:
    corpus = open_corpus(CorpusConfig(name=name, root=None if root is None else str(root)))
    return sorted(c.id for c in corpus.clips(split))


def scored(folder: Path) -> list[str]:
    lines = (folder / "predictions" / "default" / "predictions.csv").read_text().splitlines()[1:]
    return sorted(line.split(",")[0] for line in lines)


def manifest(folder: Path, split: str = "", rows: str = "", seed: int = 0) -> Path:
    """Two voices, named as asked for, in a manifest without splits or with one."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    lines = ["path,speaker,group,gender" + (",split" if split else "")]
    for i in range(4):
        who, gender = (("ann", "female"), ("bob", "male"))[i % 2]
        who = f"{rows}{who}"
        soundfile.write(folder / f"{rows}{i}.wav", rng.normal(0, 0.1, 16000), 16000)
        lines.append(f"{rows}{i}.wav,{who},{who},{gender}" + (f",{split}" if split else ""))
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder / "clips.csv"


# ------------------------------------------------------------------------------- what is tested


def test_frames_of_one_corpus_on_another(go: Go) -> None:
    record, folder = go("vtc", test_corpus="childproject")
    assert record.corpus == "rttm→childproject" and record.corpus_version == "1→1"
    assert folder.parent.parent.name == "rttm-sample-to-childproject-sample"
    assert sorted(record.groups) == ids("childproject", None)  # its sample lists no splits
    assert record.data["train"]["clips"] == len(ids("rttm", "train"))
    assert record.jackknife["unit"] == "child" and not record.leakage
    told = "Trained and tuned on rttm, tested on childproject: all of it, as it lists no splits."
    assert told in record.notices
    alone, _ = go("vtc")
    assert record.corpus_digest != alone.corpus_digest and record.id != alone.id
    shown = table([record, alone])
    assert "vtc@rttm→childproject f1" in shown and "vtc@rttm f1" in shown


def test_sequences_of_one_corpus_on_another(go: Go) -> None:
    record, _ = go("asr", "head.rnn=none", "train.batch=4", corpus="librispeech",
                   test_corpus="kaldi")  # fmt: skip
    assert record.corpus == "librispeech→kaldi" and record.status == "done"
    assert record.data["test"]["clips"] == len(ids("kaldi", "test"))


def test_trials_of_one_corpus_with_a_model_of_another(go: Go) -> None:
    record, folder = go("sv", "train.batch=4", corpus="voxceleb", test_corpus="kaldi")
    trials = open_corpus(CorpusConfig(name="kaldi")).trials("test")
    lines = (folder / "predictions" / "default" / "trials.tsv").read_text().splitlines()[1:]
    assert [tuple(line.split("\t")[1:3]) for line in lines] == [(t.enrol, t.test) for t in trials]
    assert record.corpus == "voxceleb→kaldi"


def test_all_of_a_corpus_without_splits_and_the_labels_of_training(go: Go, tmp_path: Path) -> None:
    listed = manifest(tmp_path / "a")
    record, folder = go("gender", "encoder.cmvn=none", test_corpus=f"manifest:{listed}")
    assert scored(folder) == ids("manifest", None, listed) and len(scored(folder)) == 4
    assert any("all of it, as it lists no splits" in line for line in record.notices), (
        record.notices
    )
    assert record.labels["gender"] == ["female", "male"]
    split = manifest(tmp_path / "b", "test", seed=5)
    again, folder = go("gender", "encoder.cmvn=none", test_corpus=f"manifest:{split}")
    assert scored(folder) == ids("manifest", "test", split)
    assert any("its test split" in line for line in again.notices)
    assert again.id != record.id and again.corpus_digest != record.corpus_digest


def test_where_the_other_corpus_lies_does_not_matter_but_what_it_holds(go: Go, tmp_path) -> None:
    first = manifest(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "moved")
    one, _ = go("gender", "encoder.cmvn=none", test_corpus=f"manifest:{first}")
    same, _ = go("gender", "encoder.cmvn=none",
                 test_corpus=f"manifest:{tmp_path / 'moved' / 'clips.csv'}")  # fmt: skip
    assert same.id == one.id
    first.write_text(first.read_text().replace("bob,male", "bob,female", 1))
    other, _ = go("gender", "encoder.cmvn=none", test_corpus=f"manifest:{first}")
    assert other.id != one.id


# ------------------------------------------------------------------------------- what is refused


def test_names_and_audio_in_both_corpora(go: Go, tmp_path: Path) -> None:
    train = manifest(tmp_path / "a")
    header, *lines = train.read_text().splitlines()
    for who, gender in (("eve", "female"), ("tom", "male"), ("ivy", "female"), ("jim", "male")):
        soundfile.write(tmp_path / "a" / f"{who}.wav", np.sin(np.arange(16000) * len(lines)), 16000)
        lines.append(f"{who}.wav,{who},{who},{gender}")
    splits = ["train"] * 4 + ["dev"] * 2 + ["test"] * 2
    given = [f"{line},{split}" for line, split in zip(lines, splits, strict=True)]
    train.write_text("\n".join([f"{header},split", *given]) + "\n")
    corpus = f"manifest:{train}"
    raw = "encoder.cmvn=none"
    fresh = manifest(tmp_path / "b", seed=1)  # other audio, the same names
    with pytest.raises(LeakageError, match=r"stands in two splits.*test_names=distinct"):
        go("gender", raw, corpus=corpus, test_corpus=f"manifest:{fresh}")
    record, folder = go("gender", raw, "test_names=distinct", corpus=corpus,
                        test_corpus=f"manifest:{fresh}")  # fmt: skip
    assert not record.leakage and all(name.startswith("manifest-") for name in scored(folder))
    copied = manifest(tmp_path / "c", rows="x")  # other names, the same audio
    with pytest.raises(LeakageError, match=r"wav \((train|dev)\) and .*x\d\.wav \(test\) hold"):
        go("gender", raw, corpus=corpus, test_corpus=f"manifest:{copied}")
    marked, _ = go("gender", raw, corpus=corpus, test_corpus=f"manifest:{copied}",
                   allow_leakage=True)  # fmt: skip
    assert marked.leakage and "hold the same audio" in marked.notices[0]


def test_other_protocols_and_missing_labels(go: Go) -> None:
    with pytest.raises(ConfigError, match="protocol=kfold has no meaning"):
        go("vtc", test_corpus="childproject", protocol="kfold")
    with pytest.raises(NotApplicableError, match="'commonvoice→rttm' does not provide"):
        go("gender", test_corpus="rttm")
    with pytest.raises(ConfigError, match=r"unknown key 'test_corpus\.sufix'"):
        run_config(
            None, {"encoder": "fbank", "task": "gender", "test_corpus": "commonvoice"},
            ["test_corpus.sufix=.wav"],
        )  # fmt: skip


def test_a_run_without_it_keeps_its_identity() -> None:
    config = run_config(None, {"encoder": "fbank", "task": "vtc"})
    assert not {"test_corpus", "test_names", "allow_leakage"} & set(config.identity())

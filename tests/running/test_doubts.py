"""Test audio that the encoder was pretrained on, and splits where leakage can't be seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bab.cli import main
from bab.config.resolve import pretrain_config, run_config
from bab.core.types import Clip
from bab.core.weights import WeightsError
from bab.data.content import content_id
from bab.data.heard import HEARD, heard_by, write_heard
from bab.data.splits import ungrouped
from bab.pretraining.runner import pretrain
from bab.results.detail import detail
from bab.results.table import table
from bab.running.runner import run

QUICK = ("train.steps=2", "train.eval_every=2", "train.batch=4")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def pretrained(weights: str, corpus: str) -> Path:
    asked = {"encoder": f"wav2vec2:{weights}", "objective": "contrastive", "corpus": corpus}
    sets = [*QUICK, "train.batch=1", "dev_seconds=2", "audio.minimum=0.5", "audio.crop=1"]
    _, folder = pretrain(pretrain_config(None, {**asked, "observers": ["jsonl"]}, sets))
    return folder / "model"


def spoken(folder: Path, order: tuple[str, ...]) -> Path:
    """A manifest of six speakers, two in each split, in another order of splits."""
    rows = ["path,split,speaker,gender"]
    for i in range(12):
        rows.append(f"{i}.wav,{order[i // 4]},s{i // 2},{('female', 'male')[i // 2 % 2]}")
    path = folder / f"{order[0]}.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_an_encoder_keeps_what_it_heard_and_a_run_on_it_is_marked(tmp_path: Path) -> None:
    listed(tmp_path, "path,gender")
    first = spoken(tmp_path, ("train", "dev", "test"))
    model = pretrained("random-tiny", f"manifest:{first}")
    digests = heard_by(f"wav2vec2:{model.resolve()}")
    assert digests == {content_id(tmp_path / f"{i}.wav") for i in range(4)}
    # Trained on from there with other audio, it has heard both.
    last = spoken(tmp_path, ("test", "dev", "train"))
    more = heard_by(f"wav2vec2:{pretrained(str(model), f'manifest:{last}').resolve()}")
    assert more == digests | {content_id(tmp_path / f"{i}.wav") for i in range(8, 12)}
    # A corpus that is tested on what was trained on; and one that isn't.
    records, count = [], 4
    for corpus in (last, first):
        asked = {"encoder": f"wav2vec2:{model}", "task": "gender", "corpus": f"manifest:{corpus}"}
        record, _ = run(run_config(None, {**asked, "observers": ["jsonl"]}, QUICK))
        records.append(record)
    known, unknown = records
    assert known.data["heard"]["test"]["files"] == known.data["heard"]["test"]["of"] == count
    assert known.notices[0].startswith(f"PRETRAINED ON: {count} of {count} test file")
    assert "heard" not in unknown.data and not known.leakage
    assert "accuracy ‡" in detail(known) and "‡" not in detail(unknown)
    both = table(records)
    row = next(line for line in both.splitlines() if "wav2vec2" in line)
    assert row.count("‡") == 1 and "- ‡ the encoder was pretrained on test audio" in both
    assert r"$\ddagger$" in table(records, "latex")
    cells = json.loads(table(records, "json"))["rows"][0]["cells"]
    assert sorted(cell["heard"] for cell in cells) == [False, True]


def test_a_damaged_list_is_named_and_none_is_nothing(tmp_path: Path) -> None:
    assert heard_by("hubert:tiny") == heard_by(f"hubert:{tmp_path}") == heard_by("fbank") == set()
    write_heard(tmp_path, ["0" * 32])
    assert heard_by(f"hubert:{tmp_path}") == {"0" * 32}
    for text in ('{"files": ["x"]}', "[]", "{"):
        (tmp_path / HEARD).write_text(text)
        with pytest.raises(WeightsError, match=HEARD):
            heard_by(f"hubert:{tmp_path}")


def listed(folder: Path, header: str, count: int = 12) -> Path:
    rng = np.random.default_rng(0)
    rows = [header]
    for i in range(count):
        soundfile.write(folder / f"{i}.wav", rng.normal(0, 0.1, 8000), 8000)
        speaker = f",s{i // 2}" if "speaker" in header else ""
        rows.append(f"{i}.wav,{('female', 'male')[i // 2 % 2]}{speaker}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.parametrize("protocol", ["given", "kfold"])
def test_clips_without_speakers_are_said_to_be_split_clip_by_clip(
    tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = f"manifest:{listed(tmp_path, 'path,gender')}"
    sets = [*QUICK, f"protocol={protocol}", "folds=3", "encoder.cmvn=none"]
    asked = {"encoder": "fbank", "task": "gender", "corpus": corpus, "observers": ["jsonl"]}
    record, _ = run(run_config(None, asked, sets))
    assert record.data["unseen"] == "made"
    assert sum("can't be seen" in text for text in record.notices) == 1  # said once
    assert not any("split by group" in text for text in record.notices)
    assert "split clip by clip, no speaker or group is known" in table([record])
    assert "split clip by clip" in detail(record)
    assert main(["data", "check", corpus]) == 0
    out = capsys.readouterr().out
    assert "split clip by clip into" in out
    assert out.count("note: No speaker and no group is known: whether splits share a voice") == 1


def test_clips_with_speakers_are_not(tmp_path: Path) -> None:
    corpus = f"manifest:{listed(tmp_path, 'path,gender,speaker')}"
    asked = {"encoder": "fbank", "task": "gender", "corpus": corpus, "observers": ["jsonl"]}
    record, _ = run(run_config(None, asked, [*QUICK, "encoder.cmvn=none"]))
    assert "unseen" not in record.data
    assert any("split by group" in text for text in record.notices)


def test_who_is_known_by_a_group_a_speaker_or_a_voice() -> None:
    plain = [Clip(f"{i}", f"/x/{i}.wav", 0.0, 1.0, f"{i}.wav") for i in range(3)]
    assert ungrouped(plain)
    assert not ungrouped([*plain, Clip("a", "/x/a.wav", 0.0, 1.0, "family7")])
    assert not ungrouped([*plain, Clip("a", "/x/a.wav", 0.0, 1.0, "a", speaker="ann")])
    assert not ungrouped([*plain, Clip("a", "/x/a.wav", 0.0, 1.0, "a", voices=("ann",))])

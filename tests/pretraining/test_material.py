"""What pretraining hears of a corpus, and what it leaves for dev."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_pretraining import TINY

from bab.config.corpora import open_corpus
from bab.config.resolve import pretrain_config
from bab.core.errors import CorpusError
from bab.pretraining.data import Material, gather
from bab.pretraining.runner import pretrain


def manifest(folder: Path, groups: int, split: str = "", header: str = "id,path,group") -> Path:
    """A clip of 2 s for each group, all in one split where there is one."""
    for i in range(groups):
        noise = np.random.default_rng(i).normal(0, 0.1, 32000)
        soundfile.write(folder / f"{i}.wav", noise, 16000)
    rows = [f"{i},{i}.wav,g{i}" + (f",{split}" if split else "") for i in range(groups)]
    path = folder / "manifest.csv"
    path.write_text("\n".join([header + (",split" if split else ""), *rows]) + "\n")
    return path


def heard(path: Path, *sets: str) -> Material:
    asked = {"encoder": "hubert", "objective": "contrastive", "corpus": f"manifest:{path}"}
    config = pretrain_config(None, asked, sets)
    return gather(config, [open_corpus(config.corpus)], lambda *a: None)


def test_without_splits_it_hears_what_a_run_would_train_on(tmp_path: Path) -> None:
    found = heard(manifest(tmp_path, 20))
    assert (len(found.train), len(found.dev)) == (12, 4)  # and four are left for a test


@pytest.mark.parametrize(("share", "dev"), [(0.1, 2), (0.5, 10)])
def test_or_all_but_a_share(tmp_path: Path, share: float, dev: int) -> None:
    found = heard(manifest(tmp_path, 20), "use=all", f"dev_share={share}")
    assert (len(found.train), len(found.dev)) == (20 - dev, dev)


def test_one_group_is_heard_whole(tmp_path: Path) -> None:
    found = heard(manifest(tmp_path, 1))
    assert (len(found.train), found.dev) == (1, [])


def test_so_is_one_that_is_train_by_name(tmp_path: Path) -> None:
    found = heard(manifest(tmp_path, 1, "train"))
    assert (len(found.train), found.dev) == (1, [])


def test_a_test_split_is_not_heard_for_want_of_a_dev(tmp_path: Path) -> None:
    path = manifest(tmp_path, 2, "train")
    path.write_text(path.read_text().replace("1,1.wav,g1,train", "1,1.wav,g1,test"))
    with pytest.raises(CorpusError, match="no dev split"):
        heard(path)


def test_where_targets_left_a_file_out_another_crop_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = manifest(tmp_path, 6)
    wave, rate = soundfile.read(tmp_path / "0.wav")
    wave[-100] = np.nan  # its beginning is good
    soundfile.write(tmp_path / "0.wav", wave, rate, subtype="FLOAT")
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    asked = {
        "encoder": "hubert:random-tiny", "objective": "masked", "corpus": f"manifest:{path}",
        "observers": ["jsonl"],
    }  # fmt: skip
    sets = [
        TINY, "use=all", "skip_bad=true", "targets.encoder=mfcc", "targets.clusters=4",
        "audio.crop=1.0", "train.batch=6", "train.steps=6", "train.eval_every=6",
    ]  # fmt: skip
    result, _ = pretrain(pretrain_config(None, asked, sets), False)
    assert result["steps"] == 6
    assert any(name.endswith("0.wav") for name in result["skipped"])

"""What keeps a score honest: dev alone tunes, frozen means frozen, and empty splits are refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import soundfile

from bab.config.corpora import open_corpus
from bab.config.resolve import run_config
from bab.config.run import CorpusConfig, RunConfig
from bab.core.components import build_task
from bab.core.errors import CorpusError, LeakageError
from bab.core.types import Clip
from bab.data.cross_corpus import Across
from bab.plugins.encoders.fbank import Fbank
from bab.plugins.tasks.vtc import VoiceType
from bab.running.data import read_data
from bab.running.report import subgroups
from bab.running.runner import run
from bab.running.start import model_settings


def quiet(what: str, done: float, total: float, unit: str) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def spied(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A probe on the sample: what was tuned on, and what the encoder was given, in which mode."""
    folder = tmp_path_factory.mktemp("spied")
    seen = SimpleNamespace(tuned_on=[], heard=[])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAB_CACHE", str(folder / "cache"))
        watch_tuning(patch, seen.tuned_on)
        real = Fbank.forward

        def forward(self: Fbank, waves: Any, *rest: Any, **more: Any) -> Any:
            seen.heard.append((len(waves.lengths), self.training))
            return real(self, waves, *rest, **more)

        patch.setattr(Fbank, "forward", forward)
        asked = {"encoder": "fbank", "task": "vtc", "observers": [], "runs": str(folder / "runs")}
        run(run_config(None, asked, ["train.steps=2", "train.eval_every=1"]))
    return seen


def watch_tuning(patch: pytest.MonkeyPatch, tuned_on: list[set[str]]) -> None:
    real = VoiceType.tune

    def tune(self: VoiceType, outputs: Any, *rest: Any) -> Any:
        tuned_on.append({output.clip.id for output in outputs})
        return real(self, outputs, *rest)

    patch.setattr(VoiceType, "tune", tune)


def dev_ids() -> set[str]:
    return {c.id for c in open_corpus(CorpusConfig(name="rttm")).clips("dev")}


def test_thresholds_are_tuned_on_dev_alone(spied: SimpleNamespace) -> None:
    assert spied.tuned_on == [dev_ids()] * 2  # two evaluations; the best weights' stays known


def test_those_of_a_model_that_is_evaluated_too(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned_on: list[set[str]] = []
    watch_tuning(monkeypatch, tuned_on)
    asked = {"task": "vtc", "observers": [], "runs": str(tmp_path), "model": str(model)}
    sets = ["tune=dev", f"cache.dir={model.parents[4] / 'cache'}"]
    run(run_config(None, {**asked, "mode": "evaluate"}, sets, expand=model_settings))
    assert tuned_on == [dev_ids()]


def test_on_a_cpu_each_window_is_encoded_alone_and_nothing_frozen_is_in_training(
    spied: SimpleNamespace,
) -> None:
    """Or what a cache holds would decide over a score's last digits, and dropout over all."""
    assert len(spied.heard) > 20 and set(spied.heard) == {(1, False)}


# --- splits -------------------------------------------------------------------------------------


def manifest(folder: Path, rows: dict[str, str]) -> Path:
    """Files and their splits: noise of its own for each, unless the name ends in a file's whose
    bytes it shares (`again=a`)."""
    folder.mkdir()
    lines = ["path,split,group,gender"]
    for i, (name, split) in enumerate(rows.items()):
        name, _, other = name.partition("=")
        seed = list(rows).index(other) if other else i
        wave = np.random.default_rng(seed).normal(0, 0.1, 16000)
        soundfile.write(folder / f"{name}.wav", wave, 16000)
        lines.append(f"{name}.wav,{split},g-{name},{('female', 'male')[i % 2]}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder / "clips.csv"


EACH = {"a": "train", "b": "train", "c": "dev", "d": "dev", "e": "test", "f": "test"}


def asked(corpus: Path, *sets: str, **more: Any) -> RunConfig:
    options = {"encoder": "fbank", "task": "gender", "corpus": f"manifest:{corpus}", **more}
    return run_config(None, options, ["encoder.cmvn=none", *sets])


def read(config: RunConfig, corpus: Any = None, task: Any = None) -> Any:
    corpus = corpus or open_corpus(config.corpus)
    return read_data(config, task or build_task("gender", {}), corpus, quiet)


@pytest.mark.parametrize(
    ("split", "other"), [("dev", "a"), ("test", "a"), ("test", "c"), ("dev", "e")]
)
def test_audio_in_any_two_splits_is_refused(tmp_path: Path, split: str, other: str) -> None:
    listed = manifest(tmp_path / "a", {**EACH, f"z={other}": split})
    with pytest.raises(LeakageError, match="hold the same audio"):
        read(asked(listed))
    read(asked(manifest(tmp_path / "b", {**EACH, f"z={other}": EACH[other]})))  # in one split


@pytest.mark.parametrize("held", ["a", "c"])
def test_audio_of_the_trained_corpus_is_not_tested_in_another(tmp_path: Path, held: str) -> None:
    """Also where it is dev that holds it."""
    one = manifest(tmp_path / "one", EACH)
    two = tmp_path / "two"
    two.mkdir()
    (two / "clips.csv").write_text("path,group,gender\nx.wav,x,female\ny.wav,y,male\n")
    (two / "x.wav").write_bytes((one.parent / f"{held}.wav").read_bytes())
    soundfile.write(two / "y.wav", np.random.default_rng(99).normal(0, 0.1, 16000), 16000)
    config = asked(one, test_corpus=f"manifest:{two / 'clips.csv'}")
    corpora = [open_corpus(config.corpus), open_corpus(cast(CorpusConfig, config.test_corpus))]
    with pytest.raises(LeakageError, match=rf"{held}\.wav \({EACH[held]}\) and .*x\.wav \(test\)"):
        read(config, Across(corpora[0], corpora[1], distinct=True))


def test_clips_that_may_not_be_tested_are_not_tested_across_corpora() -> None:
    """babycry's cries of DonateACry and ESC-50 are all distress: for training alone."""
    cries = open_corpus(CorpusConfig(name="babycry"))
    across = Across(open_corpus(CorpusConfig(name="recanvo")), cries, distinct=True)
    whole = list(cries.clips("test" if cries.splits_given else None))
    tested = list(across.clips("test"))
    assert 0 < len(tested) < len(whole)
    assert {c.labels["source"] for c in tested} == {"recanvo"}


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_split_of_which_a_task_can_use_nothing_is_refused(tmp_path: Path, split: str) -> None:
    task = build_task("gender", {})
    refused = {name for name, own in EACH.items() if own == split}
    task.refuses = lambda clip: "too loud" if Path(clip.path).stem in refused else ""  # type: ignore
    config = asked(manifest(tmp_path / "a", EACH))
    with pytest.raises(CorpusError, match=rf"the {split} split has no clip.*too loud \(2\)"):
        read(config, task=task)


# --- records ------------------------------------------------------------------------------------


def test_a_label_that_all_clips_share_parts_nothing() -> None:
    card = cast(Any, SimpleNamespace(of=lambda members: {"f1": float(len(members))}))
    clips = [
        Clip(f"{i}", "", 0, 1, "", labels={"home": "one", "age": str(i % 2), "id": str(i)})
        for i in range(21)
    ]
    assert subgroups(card, clips) == {"age": {"0": {"f1": 11.0}, "1": {"f1": 10.0}}}
    assert set(subgroups(card, clips[:20])) == {"age", "id"}  # as many values as are shown

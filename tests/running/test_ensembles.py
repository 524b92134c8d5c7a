"""Ensembles: against scikit-learn on vectors made by hand, and against the members alone."""

from __future__ import annotations

import csv
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from made_models import SIZE
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bab.audio import reading
from bab.benching.asked import cell_of
from bab.config.corpora import open_corpus
from bab.config.resolve import run_config
from bab.config.run import CorpusConfig, EncoderConfig
from bab.core import names
from bab.core.components import build_encoder
from bab.core.errors import ConfigError, InterruptedRunError, NotApplicableError, PluginError
from bab.core.record import Record
from bab.core.types import Clip, View, Waves
from bab.data.content import content_memo
from bab.data.windows import Examples
from bab.features.passes import Passes
from bab.features.source import FeatureSource
from bab.features.store import Store
from bab.plugins.encoders.shared import speech
from bab.predicting import maker as module
from bab.predicting.fused import member_walk, vectors_of
from bab.predicting.predict import predict
from bab.predicting.recordings import Recording
from bab.predicting.walking import Held, Rows, listen
from bab.results.table import table
from bab.running.assembly import open_encoder
from bab.running.ensemble import EnsembleMix, EnsembleSource
from bab.running.model import LayerMix
from bab.running.runner import run

Go = Callable[..., tuple[Record, Path]]
QUICK = ("train.steps=6", "train.eval_every=6", "train.batch=8", "train.lr=0.01")
THREE = "fbank+hubert:random-tiny+clap:random-tiny"  # 16 kHz and 48 kHz; 1, 3 and 1 layers
TWO = "fbank+hubert:random-tiny"
QUICKER = "fbank+hubert:random-tiny+wav2vec2:random-tiny"  # where the numbers alone count
RAW = {"fbank": {"cmvn": "none"}}


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def go(tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    monkeypatch.setattr(speech, "_TINY", SIZE)
    monkeypatch.setenv("BAB_CACHE", str(features))
    monkeypatch.chdir(tmp_path)

    def do(encoder: str, *sets: str, task: str = "gender", **options: object):
        known = {one.name for one in names.members(encoder)}
        raw = [] if "fbank" not in known else ["encoder.fbank.cmvn=none"]
        raw = ["encoder.cmvn=none"] if encoder == "fbank" else raw
        asked = {"encoder": encoder, "task": task, "observers": ["jsonl"], **options}
        return run(run_config(None, asked, [*QUICK, *raw, *sets]))

    return do


def written(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "predictions" / "default" / "predictions.csv").open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def chances(folder: Path) -> dict[str, float]:
    return {name: float(row["gender=female"]) for name, row in written(folder).items()}


@torch.no_grad()
def vector(encoder: torch.nn.Module, clip: Clip) -> NDArray[np.float32]:
    """The mean over the last state's frames, without any of the core's machinery."""
    wave = torch.from_numpy(reading.read(clip.path, clip.start, clip.end, encoder.sample_rate))
    encoded = encoder(Waves(wave[None], torch.tensor([len(wave)])))
    return encoded.layers[-1][0].mean(0).numpy()


# ------------------------------------------------------------------------------- what is asked for


def test_a_plus_parts_members_only_before_an_encoders_name() -> None:
    def specs(text: str) -> list[str]:
        return [one.spec for one in names.members(text)]

    assert specs("ast+wav2vec2:base+clap") == ["ast", "wav2vec2:base", "clap"]
    assert specs("hubert:/data/a+b/x+fbank") == ["hubert:/data/a+b/x", "fbank"]
    assert specs("hubert:me/model+data") == ["hubert:me/model+data"]
    with pytest.raises(PluginError, match=r"'fbank\+hubrt'"):
        run_config(None, {"encoder": "fbank+hubrt", "task": "gender"})


def test_members_have_their_own_weights_and_options() -> None:
    asked = {"encoder": "fbank+hubert", "task": "gender"}
    config = run_config(None, asked, ["encoder.fbank.mels=40", "encoder.fusion=late"])
    assert config.encoder.spec == "fbank+hubert:tiny"
    assert config.encoder.options["fbank"]["mels"] == 40
    assert config.encoder.options["fusion"] == "late" and "hubert" in config.encoder.options
    built, members = open_encoder(config.encoder, True, False)
    assert [m.dim for m in members] == [120, built.dim - 120]
    with pytest.raises(ConfigError, match=r"unknown key 'encoder\.fbank\.mel'.*fbank\.mels"):
        run_config(None, asked, ["encoder.fbank.mel=40"])
    with pytest.raises(ConfigError, match=r"unknown key 'encoder\.clap'"):
        run_config(None, asked, ["encoder.clap.pool=clip"])
    with pytest.raises(ConfigError, match=r"encoder\.fusion: 'early'.*late"):
        run_config(None, asked, ["encoder.fusion=early"])
    assert cell_of("fbank+hubert", "gender").encoder == "fbank+hubert"
    with pytest.raises(PluginError, match="there is no encoder called 'hubrt'"):
        cell_of("hubrt:x+fbank", "gender")


@pytest.mark.parametrize("task", ["vtc", "phonemes", "sv"])
def test_tasks_that_need_frames_are_refused(go: Go, task: str) -> None:
    with pytest.raises(
        NotApplicableError, match=f"one vector per clip; task '{task}' needs frames"
    ):
        go("fbank+hubert", task=task)


def test_members_are_not_fine_tuned(go: Go) -> None:
    with pytest.raises(ConfigError, match="members stay frozen: use --mode probe"):
        go("fbank+hubert", mode="finetune")


# ------------------------------------------------------------------------------- numbers


def test_each_member_has_a_layer_mix_of_its_own() -> None:
    torch.manual_seed(0)
    options = {"fusion": "concat", "hubert": {}, "fbank": {}}
    config = EncoderConfig(name="hubert:random-tiny+fbank", options=options)
    _, members = open_encoder(config, True, False)
    hubert, fbank = members
    states = [torch.randn(4, m.depth, 1, m.dim) for m in (hubert, fbank)]
    mix = EnsembleMix(members, "mix")
    alone = LayerMix(hubert.depth, "mix")
    torch.nn.init.normal_(alone.logits)
    mix.mixes[0].load_state_dict(alone.state_dict())
    flat = torch.cat([s[:, :, 0].flatten(1) for s in states], -1)[:, None, None]
    wanted = torch.cat([alone(states[0]), states[1][:, 0]], -1)
    assert torch.allclose(mix(flat), wanted, atol=1e-6)
    assert len(list(mix.parameters())) == 1  # fbank has one layer: nothing to mix


def test_concatenated_vectors_under_scikit_learn(go: Go) -> None:
    record, folder = go(TWO, head="logistic", layers="last")
    assert record.encoder == TWO and "fbank+hubert" in folder.parent.name
    corpus = open_corpus(CorpusConfig(name="commonvoice"))
    fitted = [*corpus.clips("train"), *corpus.clips("dev")]
    test = list(corpus.clips("test"))
    options = {"fusion": "concat", "hubert": {}, **RAW}
    _, members = open_encoder(EncoderConfig(name=TWO, options=options), True, False)
    x, z = (
        np.array([np.concatenate([vector(m, c) for m in members]) for c in part])
        for part in (fitted, test)
    )
    solver = LogisticRegression(C=1.0, class_weight="balanced", max_iter=5000)
    model = make_pipeline(StandardScaler(), solver)
    model.fit(x, [c.labels["gender"] for c in fitted])
    wanted = model.predict_proba(z)[:, list(solver.classes_).index("female")]
    found = chances(folder)
    assert [found[c.id] for c in test] == pytest.approx(wanted, abs=2e-3)


@pytest.mark.parametrize("head", ["logistic", "pooled"])
def test_late_fusion_is_the_mean_of_the_members_alone(go: Go, head: str) -> None:
    # Heads in training share the gradient norm, and which examples (sorted by length, in frames)
    # stand in a batch together: no clipping, and all examples in each batch.
    sets = ("train.clip=null", "train.batch=30")
    alone = [chances(go(one, *sets, head=head)[1]) for one in QUICKER.split("+")]
    record, folder = go(QUICKER, "encoder.fusion=late", *sets, head=head)
    assert record.encoder == f"{QUICKER} (late)"
    found = chances(folder)
    wanted = {name: np.mean([one[name] for one in alone]) for name in found}
    assert found == pytest.approx(wanted, abs=1e-4)
    spread = [abs(alone[0][name] - alone[1][name]) for name in found]
    assert max(spread) > 0.01  # or nothing was shown


def test_what_members_have_encoded_alone_is_not_encoded_again(go: Go, monkeypatch) -> None:
    for one in THREE.split("+"):
        go(one, "seed=3")

    def never(self: Passes, *given: object) -> None:
        raise AssertionError(f"{self.encoder.resolved} was asked again")

    monkeypatch.setattr(Passes, "_states", never)
    record, _ = go(THREE, "seed=3")
    assert record.status == "done"
    go(THREE, "encoder.fusion=late", "seed=3")


@pytest.mark.parametrize("fusion", ["concat", "late"])
def test_a_saved_ensemble_says_the_same_of_the_same_files(
    go: Go, fusion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # donateacry's clips are whole files; Common Voice's durations are the release's, not the file's
    _, folder = go(THREE, f"encoder.fusion={fusion}", "task.labels=[reason]", task="classify")
    rows = written(folder)
    clips = {c.id: c for c in open_corpus(CorpusConfig(name="donateacry")).clips("test")}
    found = predict(folder, [Path(c.path) for c in clips.values()], folder / "again")
    again = {p.id: p.scores for p in found.predictions()}
    assert len(again) == len(rows) > 0
    for name, c in clips.items():
        wanted = {k: float(v) for k, v in rows[name].items() if "=" in k}
        assert again[Path(c.path).stem] == pytest.approx(wanted, abs=1e-5)
    _stopped_it_goes_on(folder, next(iter(clips.values())).path, monkeypatch, again)


def _stopped_it_goes_on(
    folder: Path, path: str, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, object]
) -> None:
    """In the encoder in which it was stopped: what others have heard isn't heard again."""
    own, added = module.Spool.add, []

    def add(spool: module.Spool, rows: Rows) -> None:
        own(spool, rows)
        added.append(spool.folder.name)
        if len(added) == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(module.Spool, "add", add)
        with pytest.raises(InterruptedRunError):
            predict(folder, [path], folder / "stopped")
        (said,) = predict(folder, [path], folder / "stopped").predictions()
    assert added == ["0", "1", "2"] and said.scores == wanted[Path(path).stem]


def test_long_windows_folds_and_the_table(go: Go, tmp_path: Path) -> None:
    """valence: windows of 2 s that overlap, each member's own; one row per fusion."""
    quick = ("protocol=kfold", "folds=3")
    for fusion in ("concat", "late"):
        record, folder = go("fbank+hubert", f"encoder.fusion={fusion}", *quick, task="valence")
        assert record.head == "logistic" and (folder / "model" / "model.json").exists()
        assert record.cost["encoder_audio_per_second"] > 0
    shown = table(tmp_path / "runs")
    assert "fbank+hubert:tiny " in shown and "fbank+hubert:tiny (late)" in shown


@pytest.mark.parametrize("view", [View(window=2.0, hop=1.0), View()])
def test_a_stream_gives_the_vector_of_the_whole_file(tmp_path: Path, view: View) -> None:
    members = (
        build_encoder("fbank", "", {}, True, False),
        build_encoder("hubert", "random-tiny", {}, True, False),
    )
    samples = np.random.default_rng(0).normal(0, 0.1, 16000 * 7 + 123).astype(np.float32)
    path = tmp_path / "noise.wav"
    soundfile.write(path, samples, 16000, "FLOAT")
    device = torch.device("cpu")
    walks = [member_walk(member, "mix", view, device) for member in members]
    held, told = [Held() for _ in walks], []
    listen(walks, Recording("noise", str(path)), held, told.append)
    features, seconds = vectors_of(held, [walk.rate for walk in walks])
    store = Store(tmp_path / "store", budget=0)
    sources = [
        FeatureSource(m, LayerMix(m.depth, "mix").wanted, store, content_memo(), device, pool=True)
        for m in members
    ]
    clip = Clip("noise", str(path), 0.0, len(samples) / 16000, "")
    item = Examples([clip], view, members[0].grid, None, True).items[0]
    wanted = EnsembleSource(sources, view).inputs([item]).states
    assert features.states.shape == wanted.shape
    assert torch.allclose(features.states, wanted, atol=1e-5)
    assert seconds == pytest.approx(clip.duration, abs=0.02) and told == sorted(told)  # a hop

"""What a run, a prediction or an embedding refuses: what is said, and that the next best passes."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import soundfile
import torch
from made_models import made

from bab.config.resolve import run_config
from bab.core import registry
from bab.core.components import build_encoder
from bab.core.errors import AudioError, BabError, ConfigError, NotApplicableError, PluginError
from bab.core.grid import Grid
from bab.core.types import Prediction, Trial
from bab.predicting import overview
from bab.predicting.embed import EmbedOptions, embed
from bab.predicting.hearing import Hearing
from bab.predicting.maker import PredictOptions
from bab.predicting.predict import predict
from bab.predicting.predictor import Predictor
from bab.predicting.recordings import of_array, recordings
from bab.running import model as models
from bab.running import parts
from bab.running.model import load_spec, load_weights
from bab.running.published import ModelParts, Reference, read_published, spec_of
from bab.running.saved import load_saved, model_folder, with_thresholds


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs with models of random weights on filter banks, by task."""
    top = tmp_path_factory.mktemp("refused")
    return {task: made(top / task, task, encoder="fbank") for task in ("vtc", "gender", "sv")}


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 32000), 16000)
    return path


@pytest.mark.parametrize(
    ("task", "asked", "said"),
    [
        ("gender", {"overlap": 0.5}, "--overlap: task 'gender' gives no frames that could be ave"),
        ("vtc", {"overlap": 1.0}, "--overlap 1: a share of the window, at least 0 and below 1"),
        ("vtc", {"overlap": -0.1}, "--overlap -0.1: a share of the window, at least 0 and below"),
        ("gender", {"formats": ["rttm"]}, "--format: task 'gender' gives labels of whole recordi"),
        ("vtc", {"formats": ["its"]}, "--format its: that format is only read"),
        ("gender", {"timeline": ["png"]}, "--timeline: task 'gender' doesn't say who speaks when"),
        ("vtc", {"timeline": ["pdf"]}, "--timeline pdf: a timeline is drawn as "),
        ("gender", {"thresholds": {"female": 0.5}}, "--threshold: task 'gender' has no threshol"),
        ("vtc", {"thresholds": {"MALE": 0.5}}, "--threshold MALE: did you mean 'MAL'?"),
        ("vtc", {"thresholds": {"MAL": 1.01}}, "--threshold MAL=1.01: a threshold is a probabil"),
        ("vtc", {"thresholds": {"MAL": -0.01}}, "--threshold MAL=-0.01: a threshold is a probab"),
        ("vtc", {"preset": "balance"}, "preset 'balance': "),
        ("vtc", {"enrol": Path("x")}, "--enrol: task 'vtc' compares no recordings"),
        ("sv", {"enrol": Path("not/there")}, "--enrol not/there: no such folder"),
    ],
)
def test_a_prediction(
    folders: dict[str, Path], sound: Path, task: str, asked: dict[str, Any], said: str
) -> None:
    out = sound.parent / "out"
    with pytest.raises(BabError) as caught:
        predict(folders[task], [sound], out, PredictOptions(**asked))
    assert str(caught.value).startswith(said), caught.value
    assert not list(out.rglob("*.rttm")) and not list(out.rglob("*.csv"))


def test_thresholds_may_be_0_and_1_and_the_others_stay(folders: dict[str, Path]) -> None:
    saved = load_saved(folders["vtc"])
    before = saved.tuned["default" if "default" in saved.tuned else next(iter(saved.tuned))]
    preset = next(iter(saved.tuned))
    now = with_thresholds(saved, preset, {"MAL": 1.0, "FEM": 0.0})["thresholds"]
    assert now == {**before["thresholds"], "MAL": 1.0, "FEM": 0.0}
    assert with_thresholds(saved, preset, {}) == saved.tuned[preset]


def test_a_recording_without_sound(folders: dict[str, Path], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    with pytest.raises(AudioError, match=r"none\.wav: "):
        Predictor(folders["vtc"])(tmp_path / "none.wav")
    done = predict(folders["vtc"], [tmp_path / "none.wav"], tmp_path / "out", PredictOptions())
    assert [*done.left] == [str(tmp_path / "none.wav")] and not [*done.predictions()]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"per": "second"}, "--per second: frame, window or clip"),
        ({"format": "csv"}, "--format csv: one of "),
        ({"window": 0.0}, "--window 0: seconds, above 0"),
        ({"window": -1.5}, "--window -1.5: seconds, above 0"),
        ({"layer": "5"}, "layer"),
    ],
)
def test_an_embedding(sound: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        embed("fbank", [sound], sound.parent / "out", EmbedOptions(**asked))
    assert said in str(caught.value) and not (sound.parent / "out" / "a.npy").exists()


def test_an_embedding_of_several(sound: Path) -> None:
    several = "fbank+hubert:random-tiny"

    def said(kind: type[BabError], encoder: str, audio: Any, **asked: Any) -> str:
        with pytest.raises(kind) as caught:
            embed(encoder, [audio], sound.parent / "out", EmbedOptions(**asked))
        return str(caught.value)

    assert said(ConfigError, several, sound, per="window") == (
        "--per window: the encoders of 'fbank+hubert:random-tiny' have frames and windows of their "
        "own; together they give one vector per clip (--per clip)"
    )
    one = "--set encoder.cmvn=none: of several encoders options can't be set here"
    assert said(ConfigError, several, sound, per="clip", sets=["encoder.cmvn=none", "x=1"]) == one
    spec = f"audio:{sound.parent}"
    assert said(BabError, "fbank", spec, segments=True) == (
        "--segments: corpus 'audio' has none: leave it out for its clips"
    )


def test_what_is_no_recording(tmp_path: Path, sound: Path) -> None:
    with pytest.raises(BabError, match=r"^no audio file was named$"):
        recordings([])
    more, lines = tmp_path / "more.txt", tmp_path / "files.txt"
    more.write_text("a.wav\n")
    lines.write_text(f"# a comment\n\na.wav\n@{more}\n")
    with pytest.raises(BabError, match=r"files\.txt:4: a list can't name another list"):
        recordings([f"@{lines}"])
    lines.write_text(f"# a comment\n\na.wav\n{sound}\n")  # beside the list, and by its whole path
    named, left = recordings([f"@{lines}"])
    assert [Path(one.path) for one in named] == [sound] and not left


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((), "audio of shape (): expected [samples] or [channels, samples]"),
        ((0,), "audio of shape (0,): expected [samples] or [channels, samples]"),
        ((1, 2, 8), "audio of shape (1, 2, 8): expected [samples] or [channels, samples]"),
        ((8, 2), "audio of shape (8, 2): channels come first"),
    ],
)
def test_numbers_that_are_no_sound(shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        of_array(np.zeros(shape, np.float32), 16000)
    assert str(caught.value) == said


@pytest.mark.parametrize("rate", [None, 0, -1])
def test_numbers_without_a_rate(rate: int | None) -> None:
    with pytest.raises(ValueError) as caught:
        of_array(np.zeros(8, np.float32), rate)
    told = "sampling_rate is required with arrays: their samples per second (Hz)"
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros(4, np.int16),
         "audio of type int16: give floats in [-1, 1] (of 16-bit PCM: x / 32768)"),
        ([0.5, float("nan")], "audio with values that aren't finite"),
        ([[0.0, float("-inf")]], "audio with values that aren't finite"),
    ],
)  # fmt: skip
def test_numbers_of_another_kind(values: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        of_array(values, 16000)
    assert str(caught.value) == said


def test_the_mean_of_channels_is_heard() -> None:
    both = np.array([[0.5, 0.0, -0.5], [0.0, 0.0, 0.5]])
    assert of_array(both, 8000).array is not None
    assert np.allclose(cast(Any, of_array(both, 8000).array), [0.25, 0, 0])
    assert len(cast(Any, of_array(np.zeros((3, 3)), 1).array)) == 3  # as many channels as samples


def test_a_model_that_does_not_fit_what_it_says(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["vtc"], tmp_path / "run"))
    place = model_folder(folder)
    spec = load_spec(place)
    tensors = dict(load_weights(place, spec))

    def said(tensors: dict[str, torch.Tensor], **more: Any) -> str:
        plain = {k: v for k, v in spec.items() if k not in ("checksum", "weights", "format")}
        models.save(place, tensors, plain | more)
        with pytest.raises(BabError) as caught:
            load_saved(folder)
        return str(caught.value)

    name = max(k for k in tensors if k.startswith("head."))
    less = {k: v for k, v in tensors.items() if k != name}
    assert said(less) == f"{place} does not fit its own description ({name})"
    more = tensors | {"head.more": torch.ones(1)}
    assert said(more) == f"{place} does not fit its own description (head.more)"
    wide = tensors | {name: torch.ones(3, *tensors[name].shape)}
    shape = list(tensors[name].shape)
    assert said(wide).endswith(f": {name} is {[3, *shape]}, and {shape} is described")
    changed = said(tensors, fingerprint="another")
    assert changed == (
        f"{place} was trained on fbank, whose weights or code have changed since (fingerprint "
        f"another, now {spec['fingerprint']}): use the weights and the bab version of its record, "
        "or train again"
    )


def test_a_model_by_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ModelParts("vtc", {"voice": ("KCHI",)}, "fbank", "frames", {}, tuned={"loud": {}})
    with pytest.raises(PluginError) as caught:
        spec_of(given, Reference("mine", "x"))
    assert str(caught.value) == "mine:x: task 'vtc' has no preset 'loud'"
    reader = SimpleNamespace(read=lambda *given, **more: {"task": "vtc"})
    monkeypatch.setattr(registry, "load", lambda kind, name: lambda: reader)
    with pytest.raises(PluginError, match=r"the model 'mine' reads no bab\.ModelParts: \{'task'"):
        read_published(Reference("mine", "x"), True, False)
    with pytest.raises(BabError, match=r"no such run folder; one is RUNS/TASK/CORPUS/ENCODER/ID"):
        model_folder(tmp_path / "none")
    for fold in (10, 9):
        (tmp_path / "folds" / str(fold) / "model").mkdir(parents=True)
    for place in (tmp_path, tmp_path / "folds"):
        with pytest.raises(BabError) as error:
            model_folder(place)
        assert str(error.value) == (
            f"{tmp_path} has 2 folds, each with a model of its own that has not met the recordings "
            f"it was tested on. Name one of them: {tmp_path}/folds/9 (or train one model on given "
            "splits: --set protocol=given)"
        )
    assert model_folder(tmp_path / "folds" / "9") == tmp_path / "folds" / "9" / "model"


@pytest.mark.parametrize(
    ("asked", "sets", "said"),
    [
        ({"task": "vtc"}, ["head=pooled"], "head 'pooled' gives "),
        ({"task": "gender", "mode": "finetune"}, ["head=logistic"], "head 'logistic' is solved, n"),
        ({"task": "sv"}, ["protocol=kfold"], "trial lists belong to given splits: use protocol=g"),
        ({"task": "vtc"}, ["objective=masked"], "objective 'masked' learns from audio alone: `ba"),
        ({"task": "vtc"}, ["objective=ctc"], "objective 'ctc' is for tasks of level sequence; ta"),
        ({"task": "vtc"}, ["layers=9"], "layer"),
        ({"task": "vtc"}, ["view.window=0.02"], "view.window=0.02: one frame of 'fbank"),
    ],
)
def test_a_run(asked: dict[str, Any], sets: list[str], said: str, tmp_path: Path) -> None:
    given = {"encoder": "fbank", "runs": str(tmp_path / "runs"), **asked}
    with pytest.raises(ConfigError) as caught:
        parts.build_parts(run_config(None, given, sets, folder=tmp_path))
    assert said in str(caught.value) and not (tmp_path / "runs").exists()


def test_scores_of_too_many_pairs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = [cast(Any, SimpleNamespace(name=f"r{i}", prediction=None)) for i in range(4)]
    monkeypatch.setattr(overview, "MOST_PAIRS", 5)  # four recordings are six pairs
    said = overview.write_scores(cast(Any, None), done, tmp_path / "scores.csv")
    assert said == "no scores of 4 recordings with each other: name --enrol FOLDER"
    assert not (tmp_path / "scores.csv").exists()
    monkeypatch.setattr(overview, "MOST_PAIRS", 6)
    kind = SimpleNamespace(compare=lambda trials, known: [0.5] * len(trials))
    saved = cast(Any, SimpleNamespace(task=kind))
    assert not overview.write_scores(saved, done, tmp_path / "scores.csv")
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 7


def test_a_recording_beside_each_enrolled_speaker(tmp_path: Path) -> None:
    def heard(name: str, *vector: float) -> Any:
        return SimpleNamespace(name=name, prediction=Prediction(name, vector=vector))

    def compare(trials: list[Trial], known: dict[str, Prediction]) -> list[float]:
        return [float(np.dot(known[t.enrol].vector, known[t.test].vector)) for t in trials]

    done = [heard(".enrolled/ann/1", 1, 0), heard(".enrolled/ann/2", 0, 1), heard("x", 1, 0)]
    done += [heard(".enrolled/bo", 0, -1), heard("y", 0, 1)]
    saved = cast(Any, SimpleNamespace(task=SimpleNamespace(compare=compare)))
    assert overview.write_scores(saved, done, tmp_path / "scores.csv") == ""
    assert (tmp_path / "scores.csv").read_text().splitlines() == [
        *("enrolled,recording,score", "ann,x,0.7071", "bo,x,0.0000"),
        *("ann,y,0.7071", "bo,y,-1.0000"),
    ]
    plain = [one for one in done if not one.name.startswith(".")]
    assert overview.write_scores(saved, [*plain, heard("z", 1, 0)], tmp_path / "s.csv") == ""
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert lines == ["first,second,score", "x,y,0.0000", "x,z,1.0000", "y,z,0.0000"]
    assert overview.write_scores(saved, plain[:1], tmp_path / "s.csv") == ""
    assert (tmp_path / "s.csv").read_text().splitlines() == ["first,second,score"]


def test_what_lies_in_a_folder(tmp_path: Path, sound: Path) -> None:
    top = tmp_path / "top"
    for name in ("a/one.wav", ".git/two.wav", "a/.hid/three.wav", "a/.four.wav", "b/five.wav"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sound, top / name)
    (top / "b" / "text.txt").write_text("no sound")
    (top / "b" / "again").symlink_to(top)  # in a circle
    (tmp_path / "else").mkdir()
    shutil.copy(sound, tmp_path / "else" / "six.wav")
    (top / "link").symlink_to(tmp_path / "else")
    (top / "c.wav").mkdir()
    named, left = recordings([top])
    assert [one.name for one in named] == ["a/one", "b/five", "link/six"]
    assert not left
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.txt").touch()
    with pytest.raises(BabError, match=r"empty holds no audio file: looked for wav, flac"):
        recordings([tmp_path / "empty"])


def hearing(
    per: str = "frame", layer: str = "last", window: float | None = None, **set_: Any
) -> Any:
    encoder = build_encoder("fbank", "", {}, True, False)
    for name, value in set_.items():
        setattr(encoder, name, value)
    return Hearing(encoder, layer, per, window, torch.device("cpu"))


def test_how_an_encoder_can_hear() -> None:
    whole = {"grid": Grid(16000, 0, 400)}  # one vector for a window
    with pytest.raises(NotApplicableError) as error:
        hearing("frame", **whole)
    assert str(error.value) == (
        "--per frame: 'fbank' gives one vector for each window: --per window, or clip (`bab info "
        "ENCODER` lists its options)"
    )
    for per in ("window", "clip"):
        assert hearing(per, **whole).described()["hop"] == 0
        assert hearing(per).described()["hop"] == 0.01
    assert hearing().described()["window"] == 30.0 == hearing(window=30.0).described()["window"]
    assert hearing(max_seconds=8.0).described()["window"] == 8.0
    assert hearing(window=8.0, max_seconds=8.0).described()["window"] == 8.0
    with pytest.raises(ConfigError, match=r"--window 8\.5: 'fbank' takes in 8 s at most"):
        hearing(window=8.5, max_seconds=8.0)
    assert hearing(window=2.0).described()["step"] == pytest.approx(1.98)
    for layer in ("-1", "7", "first"):
        with pytest.raises(ConfigError) as told:
            hearing(layer=layer)
        assert str(told.value) == (
            f"--layer {layer}: 'fbank' has last, mean, and 0 (the input embedding) to 0"
        )
    assert hearing(layer="0").layer == "0" and hearing(layer="mean").layer == "mean"


@pytest.mark.parametrize(
    ("sets", "pooled"),
    [
        ([], True),  # linear: the mean over frames may be taken before it
        (["mode=finetune"], False),
        (["mode=finetune", "view.pool=mean"], True),
        (["encoder=fbank+hubert:random-tiny"], True),
    ],
)
def test_which_heads_get_one_mean_frame(sets: list[str], pooled: bool, tmp_path: Path) -> None:
    given = {"encoder": "fbank", "task": "gender"}
    config = run_config(None, given, ["freeze=none", *sets], folder=tmp_path)
    assert parts.build_parts(config).pooled is pooled


def test_a_picture_lies_as_deep_as_its_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(overview, "annotation_of", lambda done: ("of", done))
    monkeypatch.setattr(
        overview, "draw_timeline", lambda *given, voices: drawn.append((*given, voices))
    )
    paths = [tmp_path / "a" / "b" / f"c.{kind}" for kind in ("png", "svg")]
    overview.draw(cast(Any, "done"), ("A",), paths)
    assert drawn == [(("of", "done"), *paths, ("A",))] and paths[0].parent.is_dir()


def test_a_recordings_files_lie_as_deep_as_it_does(
    folders: dict[str, Path], sound: Path, tmp_path: Path
) -> None:
    deep = tmp_path / "in" / "a" / "b" / "c.wav"
    deep.parent.mkdir(parents=True)
    shutil.copy(sound, deep)
    asked = PredictOptions(formats=["rttm", "csv"], probabilities="npy")
    predict(folders["vtc"], [tmp_path / "in"], tmp_path / "out", asked)
    names = [p.name for p in (tmp_path / "out" / "a" / "b").iterdir()]
    assert sorted(names) == ["c.csv", "c.probabilities.npy", "c.rttm"]

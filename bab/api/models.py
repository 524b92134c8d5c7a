"""Models and encoders by name: loaded, run over recordings, explained."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from bab.api.settings import Sets, texts
from bab.core import registry
from bab.core.atomic import StrPath

if TYPE_CHECKING:
    from bab.core.interfaces import Encoder
    from bab.explaining.pictures import Explained
    from bab.predicting.embed import Embedded
    from bab.predicting.predict import Predicted
    from bab.predicting.predictor import Predictor


class Explanation(NamedTuple):
    """explained: the shares of the spectrogram, what the model says, notices; written: pictures."""

    explained: Explained
    written: tuple[Path, ...]


@overload
def load(model: StrPath, /, **options: Any) -> Predictor: ...
@overload
def load(kind: str, name: str, /) -> Any: ...


def load(model: StrPath, name: str = "", /, **options: Any) -> Any:
    """A trained model, or a component's class.

    >>> bab.load("runs/vtc/rttm-homes/hubert-base/1f0c...")("home1.wav").segments
    >>> bab.load("segma:VTC-2", preset="high-precision")
    >>> bab.load("encoder", "hubert")       # the class: what a plugin builds on

    Args:
        model: a finished run, its folder, or a published model (`bab list models`); with a second
            argument, a kind of component ("encoder", "head", "task", ...).
        name: the component's name.
        options: of a model, as for `bab.Predictor`: preset, thresholds, device, precision, overlap,
            offline, trust_code.

    Raises:
        BabError: no model there, with the remedy.
        PluginError: no such component, or one that can't be loaded.
    """
    if name:
        return registry.load(str(model), name)
    from bab.core.errors import BabError

    text = os.fspath(model)
    bare = text.partition(":")[0]
    known = registry.known("encoders", bare) and not registry.known("models", bare)
    if known and not Path(text).exists():
        raise BabError(
            f"'{text}' is an encoder, and no trained model: bab.load_encoder('{text}'), or "
            f"bab.load('encoder', '{bare}') for its class"
        )
    from bab.predicting.predictor import Predictor

    return Predictor(text, **options)


def load_encoder(
    encoder: str, *, set: Sets = (), offline: bool = False, trust_code: bool = False
) -> Encoder:
    """An encoder with its weights, in evaluation mode.

    >>> encoder = bab.load_encoder("hubert:base")
    >>> states = encoder(bab.Waves(samples, lengths)).layers     # f32[B, T, D], encoder.depth times

    Args:
        encoder: NAME or NAME:WEIGHTS, as for `bab run --encoder`.
        set: its options, `{"encoder.cmvn": "none"}` or texts, as for `bab.run`.
        offline: never ask a hub; trust_code: let a hub model's code run.

    Raises:
        BabError: weights that can't be had, with the remedy.
    """
    from bab.config.corpora import refuse_other_sets
    from bab.config.resolve import encoder_config
    from bab.core.components import build_encoder
    from bab.core.errors import BabError
    from bab.core.names import members

    if len(members(encoder)) > 1:
        raise BabError(f"'{encoder}' is several encoders: load each by itself")
    sets = texts(set)
    refuse_other_sets(("encoder",), sets)
    config = encoder_config(encoder, sets)
    return build_encoder(config.name, config.weights, config.options, offline, trust_code)


def predict(
    model: StrPath,
    files: StrPath | Sequence[StrPath],
    out: StrPath,
    *,
    preset: str | None = None,
    threshold: Mapping[str, float] | None = None,
    format: str | Sequence[str] | None = None,
    probabilities: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    overlap: float | None = None,
    timeline: str | Sequence[str] = (),
    enrol: StrPath | None = None,
    set: Sets = (),
    jobs: int = 1,
    offline: bool = False,
    trust_code: bool = False,
    quiet: bool = False,
) -> Predicted:
    """Use a trained model on recordings of any length: `bab predict`.

    >>> done = bab.predict("segma:VTC-2", "/data/homes", "predictions", format="eaf")
    >>> for one in done.predictions(): print(one.clip, one.segments)

    The arguments are the command's options (`bab predict --help`). For audio in memory, and answers
    without files, use `bab.load(model)(audio, sampling_rate=...)`.

    Args:
        model: a finished run, its folder, or a published model.
        files: one or several of audio or video files, folders, lists (@files.txt), corpora
            (rttm:/data/homes).
        out: the folder that gets the predictions; the same call goes on where it was stopped.
        threshold: by class, in place of the tuned ones.
        format: annotation files: "rttm", "eaf,textgrid", or a list.
        set: options of the corpora among `files`, `{"corpus.set": "eaf"}`.

    Returns:
        files: name -> seconds; left: path -> why it was left out; `predictions()`: what was
        predicted, read back one by one.

    Raises:
        BabError: no model there, nothing to predict, an unknown preset, class or format.
        InterruptedRunError: Ctrl-C; what was done is kept.
    """
    from bab.api.progress import ticker
    from bab.predicting.maker import PredictOptions
    from bab.predicting.predict import predict as work

    asked = PredictOptions(
        preset=preset,
        thresholds=threshold or {},
        formats=_several(format) or None,
        probabilities=probabilities or "",
        device=device,
        precision=precision,
        overlap=overlap,
        timeline=_several(timeline),
        enrol=None if enrol is None else _path(enrol),
        corpus=texts(set),
        jobs=jobs,
        offline=offline,
        trust_code=trust_code,
    )
    with ticker(quiet) as display:
        return work(os.fspath(model), _paths(files), _path(out), asked, display.tell, display.say)


def embed(
    encoder: str,
    files: StrPath | Sequence[StrPath],
    out: StrPath,
    *,
    layer: str | int = "last",
    per: str = "frame",
    format: str = "npy",
    window: float | None = None,
    segments: bool = False,
    set: Sets = (),
    device: str = "auto",
    precision: str = "fp32",
    offline: bool = False,
    trust_code: bool = False,
    quiet: bool = False,
) -> Embedded:
    """Write an encoder's states of recordings of any length, with their times: `bab embed`.

    >>> bab.embed("hubert:base", "/data/homes", "states", layer=9, format="parquet")

    The arguments are the command's options (`bab embed --help`).

    Args:
        encoder: NAME[:WEIGHTS], or several joined by "+".
        files: as for `bab.predict`.
        out: the folder that gets the files; the same call goes on where it was stopped.
        layer: "last", "mean" (of all), or a number, 0 = the input embedding.
        per: what a row is: "frame", "window" or "clip".
        window: longest stretch that is encoded at once, seconds.
        segments: of a corpus, its annotated segments in place of its clips.
        set: the encoder's options, as for `bab.load_encoder`.

    Raises:
        BabError: an unknown encoder or layer, nothing to embed.
        InterruptedRunError: Ctrl-C; what was done is kept.
    """
    from bab.api.progress import ticker
    from bab.config.corpora import refuse_other_sets
    from bab.predicting.embed import EmbedOptions
    from bab.predicting.embed import embed as work

    sets = texts(set)
    refuse_other_sets(("encoder",), sets)
    how = (str(layer), per, format, window, segments)
    asked = EmbedOptions(*how, device, precision, sets, offline, trust_code)
    with ticker(quiet) as display:
        return work(encoder, _paths(files), _path(out), asked, display.tell, display.say)


def explain(
    model: StrPath,
    file: StrPath,
    out: StrPath,
    *,
    label: str | None = None,
    token: str | None = None,
    at: float | None = None,
    start: float | None = None,
    end: float | None = None,
    format: str | Sequence[str] = "png,svg",
    device: str = "auto",
    offline: bool = False,
    trust_code: bool = False,
    quiet: bool = False,
) -> Explanation:
    """Show what a model's answer to a sound depends on: `bab explain MODEL FILE`.

    >>> bab.explain("runs/vtc/...", "home1.wav", "why", label="KCHI").explained.shares

    The arguments are the command's options (`bab explain --help`); docs/explain.md says what is
    drawn.

    Raises:
        BabError: no model there, an unknown class, no captum or matplotlib.
    """
    from bab.api.progress import ticker
    from bab.explaining.explain import ExplainOptions
    from bab.explaining.explain import explain as work

    kinds = tuple(_several(format))
    asked = ExplainOptions(label, token, at, start, end, kinds, device, offline, trust_code)
    with ticker(quiet) as display:
        done, written = work(
            os.fspath(model), _path(file), _path(out), asked, display.say, display.tell
        )
    return Explanation(done, tuple(written))


def _paths(files: StrPath | Sequence[StrPath]) -> list[str]:
    """One path or several, as texts."""
    several = [files] if isinstance(files, (str, os.PathLike)) else files
    return [os.fspath(one) for one in several]


def _path(given: StrPath) -> Path:
    return Path(given).expanduser()


def _several(given: str | Sequence[str] | None) -> list[str]:
    """`"a,b"` or a list; None: nothing."""
    parts = given.split(",") if isinstance(given, str) else given or ()
    return [part.strip() for part in parts]

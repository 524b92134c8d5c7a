"""A stretch of a recording, as a model hears it: what its answer depends on, drawn and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bab.audio import streaming
from bab.audio.decoding import of_a_file
from bab.core.atomic import write_json
from bab.core.device import resolve_device
from bab.core.errors import AudioError, BabError, ConfigError, NotApplicableError, did_you_mean
from bab.core.names import file_name
from bab.core.record import now, versions
from bab.core.types import Batch, Clip, Output, Segment, Tell, Waves
from bab.explaining import attribution
from bab.explaining.attribution import Score, Shares
from bab.explaining.pictures import Explained, draw
from bab.running.model import Model
from bab.running.saved import Saved, load_saved

LONGEST = 10.0  # seconds that are explained where none are named
SPACE = "space"
_NONE = torch.empty(0)


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """What to explain. label: None = the likeliest. token: of a text task, in place of a label. at:
    one frame, seconds. start, end: the stretch that is heard, seconds; None = the first ten."""

    label: str | None = None
    token: str | None = None
    at: float | None = None
    start: float | None = None
    end: float | None = None
    formats: Sequence[str] = ("png", "svg")
    device: str = "auto"
    offline: bool = False
    trust_code: bool = False


def explain(
    folder: str | Path,
    file: str | Path,
    out: str | Path,
    asked: ExplainOptions = ExplainOptions(),
    say: Callable[[str], None] = lambda line: None,
    tell: Tell = lambda stage, done, total, unit: None,
) -> tuple[Explained, list[Path]]:
    """Explain a model's answer to a stretch of a recording.

    Args:
        folder: a run's folder, or the `model` folder in it.
        file: of audio.
        out: the folder for the pictures and the numbers behind them.
        asked: what to explain.
        say: is told before the slow part begins; tell: how far it is.

    Returns:
        What was found, and the files that were written: pictures, and a JSON file.

    Raises:
        BabError: no model there, an unknown label, a stretch outside of the file, captum or
            matplotlib missing, a task or an encoder whose answer can't be traced to the sound.
    """
    for form in asked.formats:
        if form not in ("png", "svg"):
            raise ConfigError(f"--format {form}: png, svg or both")
    saved = load_saved(Path(folder), asked.offline, asked.trust_code)
    if saved.task.pairs or len(saved.members) > 1:
        what = "compares recordings" if saved.task.pairs else "has several encoders"
        raise NotApplicableError(f"{folder} {what}: `bab explain` takes models of one answer")
    Path(out).mkdir(parents=True, exist_ok=True)  # before the slow part: it may not be allowed
    device = torch.device(resolve_device(asked.device))
    model = saved.model.to(device)
    start, sound, notices = _sound(saved, Path(file), asked)
    waves = torch.from_numpy(sound).to(device)
    with torch.no_grad():
        answer = _logits(model, waves[None])[0].float().cpu().numpy()
    aim = _aim(saved, answer, len(sound) / saved.encoder.sample_rate, asked, start)
    frames = torch.from_numpy(aim.frames).to(device)
    seconds = len(sound) / saved.encoder.sample_rate
    say(f"explaining {aim.name} in {start:g} to {start + seconds:g} s")

    passes = 0

    def score(samples: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        tell("explaining", min(passes, attribution.PASSES), attribution.PASSES, "passes")
        mean: Tensor = _logits(model, samples)[:, frames, aim.column].mean(1)
        return mean

    done = _explained(saved, Path(file), start, sound, waves, score, aim, answer, tuple(notices))
    return done, _write(done, saved, Path(out), Path(file), asked)


def _logits(model: Model, samples: Tensor) -> Tensor:
    """f32[B, S] -> f32[B, T, C]; T is 1 where a clip has one answer."""
    lengths = torch.full((len(samples),), samples.shape[1], device=samples.device)
    values: Tensor = model(Batch(Waves(samples, lengths), _NONE, _NONE, (), 0))[0]
    framed: Tensor = values if values.ndim == 3 else values[:, None]
    return framed


def _explained(
    saved: Saved,
    file: Path,
    start: float,
    sound: NDArray[np.float32],
    waves: Tensor,
    score: Score,
    aim: _Aim,
    answer: NDArray[np.float32],
    notices: tuple[str, ...],
) -> Explained:
    rate = saved.encoder.sample_rate
    shares = attribution.integrated_gradients(score, waves, rate)
    layer = attribution.last_convolution(saved.encoder, saved.model.head)
    cam = None if layer is None else attribution.grad_cam(score, waves, layer)
    most, seconds = saved.encoder.max_seconds, len(sound) / rate
    if cam is not None and layer is not None and most is not None:
        fixed = attribution.fills_up(lambda part: _logits(saved.model, part), waves, layer)
        cam = cam[: max(1, round(len(cam) * min(1.0, seconds / most)))] if fixed else cam
    if cam is None:
        notices = (*notices, "no Grad-CAM: neither encoder nor head has a convolution")
    lost = abs(shares.delta) / max(1e-6, abs(shares.output - shares.baseline))
    if lost > 0.1:
        notices = (
            *notices,
            f"integrated gradients miss {lost:.0%} of the difference from the baseline: read them "
            "with care",
        )
    edges = saved.encoder.grid.edges(len(answer), seconds) if len(answer) > 1 else _whole(seconds)
    return Explained(
        file.name, start, sound, rate, aim.name, shares, cam, _probabilities(saved, answer),
        _names(saved), edges, _spoken(saved, answer, start, seconds), notices,
    )  # fmt: skip


def _sound(
    saved: Saved, file: Path, asked: ExplainOptions
) -> tuple[float, NDArray[np.float32], list[str]]:
    """The stretch's beginning in seconds, its samples at the encoder's rate, what is to be told."""
    encoder, notices = saved.encoder, list[str]()
    try:
        stream = streaming.open_stream(str(file))
    except AudioError as error:
        raise BabError(of_a_file(error)) from None
    start, total = asked.start or 0.0, stream.duration
    longest = min(LONGEST, encoder.max_seconds or LONGEST)
    end = min(total, start + longest) if asked.end is None else asked.end
    if asked.end is not None and asked.end <= start:
        raise ConfigError(f"--end {end:g}: must come after --start {start:g}")
    if not 0 <= start < total or end > total + 0.01:
        wrong = f"--start {start:g}" + (f" --end {end:g}" if asked.end is not None else "")
        raise ConfigError(f"{wrong}: {file} has {total:.2f} s; name a stretch inside")
    if asked.end is None and end < total:
        told = f"{end - start:g} s of {total:.1f} s are explained"
        notices.append(f"{told}: --start and --end name others")
    if encoder.max_seconds is not None and end - start > encoder.max_seconds:
        raise ConfigError(
            f"--end {end:g}: '{encoder.resolved}' takes in {encoder.max_seconds:g} s at once"
        )
    parts = list(streaming.blocks(stream, encoder.sample_rate, start, min(end, total)))
    sound = np.concatenate(parts) if parts else np.empty(0, np.float32)
    if not len(sound):
        raise BabError(f"{file}: it holds no sound")
    return start, sound, notices


@dataclass(frozen=True, slots=True)
class _Aim:
    """What is explained: the mean logit of a class over some frames. name: for people."""

    column: int
    frames: NDArray[np.int64]
    name: str


def _aim(
    saved: Saved,
    answer: NDArray[np.float32],
    seconds: float,
    asked: ExplainOptions,
    start: float,
) -> _Aim:
    """Raises ConfigError: an unknown label or token, or a moment outside."""
    names, sequence = _names(saved), saved.task.in_order
    option = "--token" if sequence else "--label"
    wrong = asked.label if sequence else asked.token
    if wrong is not None:
        kind = "tokens (--token)" if sequence else "labels (--label)"
        raise ConfigError(f"task '{saved.spec['task']['name']}' has {kind}")
    name = asked.token if sequence else asked.label
    if name is None:
        most = _probabilities(saved, answer).max(0)
        if sequence:  # the blank and the space say nothing
            most[[i for i, one in enumerate(names) if i == 0 or one == SPACE]] = -1
        column = int(most.argmax())
    elif name in names:
        column = names.index(name)
    else:
        raise ConfigError(f"{option} {name}: {did_you_mean(name, names)}")
    if len(answer) == 1:
        return _Aim(column, np.zeros(1, np.int64), names[column])
    if asked.at is not None:
        edges = saved.encoder.grid.edges(len(answer), seconds)
        frame = int(np.searchsorted(edges, asked.at - start, side="right")) - 1
        if not 0 <= frame < len(answer):  # the last of the edges is the stretch's end
            end = start + seconds
            raise ConfigError(f"--at {asked.at:g}: outside of {start:g} to {end:g} s")
        return _Aim(column, np.array([frame]), f"{names[column]} at {asked.at:g} s")
    if sequence:
        said = np.flatnonzero(answer.argmax(1) == column)
        said = said if len(said) else np.array([answer[:, column].argmax()])
    else:
        said = np.flatnonzero(answer[:, column] > 0)  # likelier than not
        said = said if len(said) else np.arange(len(answer))
    return _Aim(column, said, names[column])


def _names(saved: Saved) -> list[str]:
    """All labels; the token between words by a name that can be seen and typed."""
    names = [name for group in saved.labels.values() for name in group]
    return [SPACE if name == " " else name for name in names]


def _probabilities(saved: Saved, answer: NDArray[np.float32]) -> NDArray[np.float64]:
    """f64[T, C]: of frame tasks a class each, otherwise a choice within each group of labels."""
    values = torch.from_numpy(answer).double()
    if saved.task.level == "frame":
        return values.sigmoid().numpy()
    sizes = [len(group) for group in saved.labels.values()]
    if sum(sizes) != values.shape[1]:
        return values.softmax(-1).numpy()
    parts = torch.split(values, sizes, dim=-1)
    return torch.cat([one.softmax(-1) for one in parts], dim=-1).numpy()


def _spoken(
    saved: Saved, answer: NDArray[np.float32], start: float, seconds: float
) -> tuple[Segment, ...]:
    """What the model says of the stretch, with times: segments, or words and phones."""
    if len(answer) == 1:
        return ()
    clip = Clip("explained", "", start, start + seconds, "")
    tuned: Any = saved.tuned[saved.task.presets[0]]
    said = saved.task.decode(Output(clip, answer), saved.encoder.grid, saved.labels, tuned)
    return said.segments


def _whole(seconds: float) -> NDArray[np.float64]:
    return np.array([0.0, seconds])


def _write(
    done: Explained, saved: Saved, out: Path, file: Path, asked: ExplainOptions
) -> list[Path]:
    """Pictures, then the numbers."""
    seconds = len(done.sound) / done.rate
    base = file_name(f"{file.stem}.{done.target}.{done.start:g}-{done.start + seconds:g}")
    paths = [out / f"{base}.{form}" for form in dict.fromkeys(asked.formats)]
    draw(done, *paths)
    shares: Shares = done.shares
    facts = {
        "model": str(saved.place),
        "task": saved.spec["task"]["name"],
        "encoder": saved.spec["resolved"],
        "fingerprint": saved.spec["fingerprint"],
        "file": str(file),
        "start": done.start,
        "end": done.start + seconds,
        "target": done.target,
        "logit": shares.output,
        "baseline": shares.baseline,
        "delta": shares.delta,
        "hop": shares.hop,
        "integrated_gradients": [round(float(x), 7) for x in shares.values.sum(0)],
        "grad_cam": None if done.cam is None else [round(float(x), 7) for x in done.cam],
        "segments": [[s.start, s.end, s.label] for s in done.segments],
        "notices": list(done.notices),
        "date": now(),
        "versions": versions(),
    }
    write_json(out / f"{base}.json", facts)
    return [*paths, out / f"{base}.json"]

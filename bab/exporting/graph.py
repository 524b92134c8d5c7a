"""An ONNX model of an encoder, or of an encoder with a frame or clip head; any batch and length."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from bab.core.atomic import write_text
from bab.core.errors import BabError, NotApplicableError
from bab.core.interfaces import Encoder
from bab.exporting import label
from bab.exporting.hf import refuse_different
from bab.exporting.settings import decodes
from bab.exporting.source import Source, said, sound
from bab.running.model import Model

FILE = "model.onnx"
SCRIPT = "label.py"
REQUIREMENTS = ("numpy>=1.26", "onnxruntime>=1.20", "soundfile>=0.13", "soxr>=0.5")
_OPSET = 17  # the first with layer norm as one operator
_LIMIT = 1e-4  # of the outputs' size: how far onnxruntime may be from the run's own model
_MOST = 2 * 10**9  # bytes that a file of this format can hold
_TRIED = ((1, 1.5), (2, 0.7), (1, 4.1))  # batch and seconds; the graph is made from the first


def write(
    folder: Path, source: Source, encoder_only: bool, about: Mapping[str, Any]
) -> tuple[bool, list[str]]:
    """Write model.onnx and, for what it can decode, label.py with requirements.txt. Returns whether
    the script is there, and notices.

    Raises:
        BabError: a part that has no such graph, which is named; no onnx or onnxruntime.
    """
    _refuse_missing()
    head = source.saved is not None and not encoder_only
    graph = _graph(source, head)
    size = 4 * sum(parameter.numel() for parameter in graph.parameters())
    if size > _MOST:
        raise NotApplicableError(f"{size / 1e9:.1f} GB of weights in one file, of at most 2 GB")
    _trace(graph, source, folder / FILE)
    _check(folder / FILE, source, head, graph.inputs)
    if not head or source.saved is None or source.saved.task.pairs:
        return False, []
    if not decodes(source.saved, about):
        task = source.saved.spec["task"]["name"]
        return False, [f"task {task} decodes in a way of its own: the folder has no {SCRIPT}"]
    write_text(folder / SCRIPT, Path(label.__file__).read_text(encoding="utf-8"))
    write_text(folder / "requirements.txt", "\n".join(REQUIREMENTS) + "\n")
    return True, []


class Graph(nn.Module):
    """samples f32[B, S], all of one length -> what is exported."""

    inputs: ClassVar[tuple[str, ...]] = ("samples",)
    outputs: ClassVar[tuple[str, ...]] = ()
    axes: ClassVar[Mapping[str, Mapping[int, str]]] = {}


class EncoderGraph(Graph):
    """-> last f32[B, T, D] and layers f32[B, L, T, D]."""

    outputs = ("last", "layers")
    axes: ClassVar[Mapping[str, Mapping[int, str]]] = {
        "last": {0: "batch", 1: "frames"},
        "layers": {0: "batch", 2: "frames"},
    }

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder: Any = encoder

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        layers = self.encoder.traceable(samples)
        return layers[-1], torch.stack(layers, dim=1)


class FrameGraph(Graph):
    """-> logits f32[B, T, C]."""

    outputs = ("logits",)
    axes: ClassVar[Mapping[str, Mapping[int, str]]] = {"logits": {0: "batch", 1: "frames"}}

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model: Any = model

    def frames(self, samples: Tensor) -> Tensor:
        """What the head is given, f32[B, T, D]."""
        layers, wanted = self.model.encoder.traceable(samples), self.model.mix.wanted
        if wanted != "all":
            layers = (layers[-1 if wanted == "last" else wanted],)
        mixed: Tensor = self.model.mix(torch.stack(layers, dim=1))
        return mixed

    def forward(self, samples: Tensor) -> Tensor:
        x = self.frames(samples)
        logits: Tensor = self.model.head(x, _lengths(x))
        return logits


class PairGraph(FrameGraph):
    """-> embeddings f32[B, E], of clips as long as the head's field at least."""

    outputs = ("embeddings",)
    axes: ClassVar[Mapping[str, Mapping[int, str]]] = {"embeddings": {0: "batch"}}

    def forward(self, samples: Tensor) -> Tensor:
        x = self.frames(samples)
        vectors: Tensor = self.model.head.embed(x, _lengths(x))
        return vectors


class ClipGraph(FrameGraph):
    """-> logits f32[B, C]. first i64[B]: frames at the beginning that don't count (0: all do),
    which a window before this one has heard."""

    inputs = ("samples", "first")
    axes: ClassVar[Mapping[str, Mapping[int, str]]] = {"logits": {0: "batch"}}

    def forward(self, samples: Tensor, first: Tensor) -> Tensor:  # type: ignore[override]
        x = self.frames(samples)
        frames = torch.arange(x.shape[1], device=x.device)
        lengths = x.shape[1] - first
        if self.model.pool:
            inside = (frames >= first[:, None])[..., None].to(x.dtype)
            x = (x * inside).sum(1, keepdim=True) / inside.sum(1, keepdim=True)
            lengths = torch.ones_like(lengths)
        else:  # moved to the front: what is behind the length counts for nothing
            at = (frames + first[:, None]).clamp(max=x.shape[1] - 1)
            x = x.gather(1, at[..., None].expand(-1, -1, x.shape[2]))
        logits: Tensor = self.model.head(x, lengths)
        return logits


def _lengths(x: Tensor) -> Tensor:
    """All frames of f32[B, T, D], i64[B], in operations that follow the batch's size."""
    return torch.ones_like(x[:, 0, 0], dtype=torch.long) * x.shape[1]


def _graph(source: Source, head: bool) -> Graph:
    """Raises NotApplicableError: what has no graph."""
    saved = source.saved
    if saved is not None and len(saved.members) > 1:
        raise NotApplicableError(f"a fusion of {len(saved.members)} encoders")
    if not hasattr(source.encoder, "traceable"):
        raise NotApplicableError(f"encoder {source.encoder.resolved.partition(':')[0]}")
    if not head or saved is None:
        return EncoderGraph(source.encoder).eval()
    kinds: Mapping[str, type[FrameGraph]] = {
        "frame": FrameGraph,
        "clip": ClipGraph,
        "pair": PairGraph,
    }
    if saved.task.level not in kinds:
        task = saved.spec["task"]["name"]
        raise NotApplicableError(f"the head of task {task} (of frames, clips and pairs it has)")
    return kinds[saved.task.level](saved.model).eval()


def _given(source: Source, graph: Graph, batch: int, seconds: float) -> tuple[Tensor, ...]:
    wave = sound(batch * seconds, source.encoder.sample_rate)
    samples = wave[: len(wave) // batch * batch].reshape(batch, -1)
    first = torch.zeros(batch, dtype=torch.long)
    return (samples, first)[: len(graph.inputs)]


@torch.no_grad()
def _trace(graph: Graph, source: Source, path: Path) -> None:
    """By PyTorch's tracing exporter (docs/decisions.md says why not by the newer one)."""
    axes: dict[str, Mapping[int, str]] = {
        "samples": {0: "batch", 1: "time"},
        "first": {0: "batch"},
        **graph.axes,
    }
    names = (*graph.inputs, *graph.outputs)
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            _given(source, graph, *_TRIED[0]),
            str(path),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes={name: dict(axes[name]) for name in names},
            opset_version=_OPSET,
            dynamo=False,
        )


def _check(path: Path, source: Source, head: bool, inputs: tuple[str, ...]) -> None:
    """Run it with onnxruntime at several lengths. Raises BabError: it says something else."""
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    graph = _graph(source, head)
    for batch, seconds in _TRIED:
        given = _given(source, graph, batch, seconds)
        feed = {name: np.asarray(value) for name, value in zip(inputs, given, strict=True)}
        other = dict(zip(graph.outputs, session.run(None, feed), strict=True))
        own = said(source, given[0], head)
        for name, value in other.items():
            refuse_different(name, own[name], torch.from_numpy(value), _LIMIT, "onnxruntime")


def _refuse_missing() -> None:
    """Raises BabError: the libraries are not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise BabError(f"--to onnx needs {error.name}: pip install 'bab[onnx]'") from None

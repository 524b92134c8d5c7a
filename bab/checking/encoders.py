"""What an encoder says of itself, and what it gives: all of it of the first batch of each kind,
and of every other one what costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from bab.checking.faults import described, fault
from bab.core import registry
from bab.core.grid import Grid
from bab.core.interfaces import Encoder
from bab.core.types import Batch, Encoded, Features, Waves

_seen: WeakKeyDictionary[Encoder, set[tuple[object, ...]]] = WeakKeyDictionary()


def check_made(encoder: Encoder) -> Encoder:
    """An encoder as `load` gave it: its attributes are there and agree.

    Raises:
        PluginError: naming the attribute.
    """
    kinds = (("sample_rate", int), ("dim", int), ("depth", int), ("grid", Grid))
    for name, kind in (*kinds, ("resolved", str), ("fingerprint", str)):
        value = getattr(encoder, name, None)
        if not isinstance(value, kind) or not value:
            raise fault(encoder, "load", f"leaves {name} = {value!r:.60}: {kind.__name__} expected")
    if encoder.grid.sample_rate != encoder.sample_rate:
        rates = (
            f"grid.sample_rate = {encoder.grid.sample_rate}, sample_rate = {encoder.sample_rate}"
        )
        raise fault(encoder, "load", f"leaves {rates}")
    longest = getattr(encoder, "max_seconds", "missing")
    if longest is not None and not (isinstance(longest, (int, float)) and longest > 0):
        raise fault(
            encoder, "load", f"leaves max_seconds = {longest!r}: seconds, or None, expected"
        )
    groups = encoder.groups()
    if not isinstance(groups, dict) or not all(isinstance(g, list) for g in groups.values()):
        raise fault(
            encoder, "groups", f"gives {groups!r:.60}: lists of parameters by name expected"
        )
    entry, bare = registry.owner(encoder), encoder.resolved.partition(":")[0]
    claimed = registry.names("encoders").get(bare)
    if entry is not None and claimed is not None and bare != entry.name and "+" not in bare:
        told = f"leaves resolved = '{encoder.resolved}', the name of {claimed.described}"
        raise fault(encoder, "load", told)
    return encoder


def encode(
    encoder: Encoder,
    waves: Waves,
    mask: Tensor | None = None,
    layers: Literal["last", "all"] = "all",
) -> Encoded:
    """`encoder(waves, mask, layers)`, checked.

    Raises:
        PluginError: see `check_encoded`.
    """
    kind = (layers, mask is not None, encoder.training)
    seen = _seen.setdefault(encoder, set())
    before = None if kind in seen else (waves.samples.clone(), waves.lengths.clone())
    encoded: Encoded = encoder(waves, mask, layers=layers)
    check_encoded(encoder, waves, encoded, layers, before)
    seen.add(kind)
    return encoded


def check_encoded(
    encoder: Encoder,
    waves: Waves,
    encoded: Encoded,
    layers: Literal["last", "all"],
    before: tuple[Tensor, Tensor] | None,
) -> None:
    """An encoder's answer: how many states, their width, frames as the grid has them; where
    `before` is given (samples and lengths, copied before the call), numbers too.

    Raises:
        PluginError: naming what differs.
    """
    if not isinstance(encoded, Encoded):
        raise fault(encoder, "forward", f"gives {type(encoded).__name__}, not bab.Encoded")
    wanted = 1 if layers == "last" else encoder.depth
    if len(encoded.layers) != wanted:
        said = f"depth = {encoder.depth}" if layers == "all" else "layers='last' asks for one"
        raise fault(encoder, "forward", f"gives {len(encoded.layers)} states: {said}")
    clips = len(waves.lengths)
    for state in encoded.layers:
        if state.ndim != 3 or state.shape[0] != clips or state.shape[2] != encoder.dim:
            shape, want = list(state.shape), f"[{clips}, T, {encoder.dim}] (batch, frames, dim)"
            raise fault(encoder, "forward", f"gives a state of shape {shape}: {want} expected")
    lengths = encoded.lengths
    if not isinstance(lengths, Tensor) or lengths.dtype != torch.int64:
        told = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
        raise fault(encoder, "forward", f"gives lengths as {told}: an int64 tensor expected")
    if before is not None or waves.lengths.device.type == "cpu":  # else the device would wait
        _check_frames(encoder, waves, encoded)
    if before is not None:
        _check_numbers(encoder, waves, encoded, before)


def _check_frames(encoder: Encoder, waves: Waves, encoded: Encoded) -> None:
    counts = encoded.lengths.tolist()
    for samples, frames in zip(waves.lengths.tolist(), counts, strict=False):
        if frames != encoder.grid.frames(samples):
            told = f"{frames} frames for {samples} samples: its grid says"
            raise fault(encoder, "forward", f"gives {told} {encoder.grid.frames(samples)}")
    short = [state.shape[1] for state in encoded.layers if state.shape[1] < max(counts)]
    if len(counts) != len(waves.lengths) or short:
        told = f"{len(counts)} lengths up to {max(counts)} with states of {short} frames"
        raise fault(encoder, "forward", f"gives {told} for {len(waves.lengths)} clips")


def _check_numbers(
    encoder: Encoder, waves: Waves, encoded: Encoded, before: tuple[Tensor, Tensor]
) -> None:
    device = waves.samples.device.type
    allowed = {torch.float32}
    if torch.is_autocast_enabled(device):
        allowed.add(torch.get_autocast_dtype(device))
    for state in encoded.layers:
        if state.dtype not in allowed:
            raise fault(encoder, "forward", f"gives {state.dtype}: torch.float32 expected")
    same = (torch.equal(a, b) for a, b in zip(before, (waves.samples, waves.lengths), strict=True))
    if not all(same):
        raise fault(encoder, "forward", "alters the audio it is handed: it must work on a copy")
    local, width = encoded.local, getattr(encoder, "local_dim", None)
    if local is not None and width is not None and local.shape[2] != width:
        raise fault(encoder, "forward", f"gives local of width {local.shape[2]}: local_dim={width}")
    if bool(waves.samples.isfinite().all()):
        lengths = encoded.lengths.tolist()
        for index, state in enumerate(encoded.layers):
            if not all(bool(state[i, :n].isfinite().all()) for i, n in enumerate(lengths)):
                told = f"gives values that are not finite (state {index}) for finite audio"
                raise fault(encoder, "forward", told)


@torch.no_grad()
def not_finite(encoder: Encoder | None, name: str, parts: Sequence[Batch]) -> str:
    """Whether a loss that isn't finite comes from the encoder: a sentence that names it, or "".

    encoder: None where inputs are cached features. name: of the encoder those come from.
    """
    for part in parts:
        clips = ", ".join(sorted({clip.id for clip in part.clips})[:5])
        if isinstance(part.inputs, Features):
            if not bool(part.inputs.states.isfinite().all()):
                return f"{name} gives values that are not finite (clips: {clips})"
        elif encoder is not None and bool(part.inputs.samples.isfinite().all()):
            training = encoder.training
            device = next((p.device for p in encoder.parameters()), part.inputs.samples.device)
            mask = None if part.mask is None else part.mask.to(device)
            out = encoder.eval()(part.inputs.to(device), mask, layers="last")
            encoder.train(training)
            lengths = out.lengths.tolist()
            if not all(bool(out.layers[0][i, :n].isfinite().all()) for i, n in enumerate(lengths)):
                trained = any(p.requires_grad for p in encoder.parameters())
                told = f"{described(encoder)} gives values that are not finite (clips: {clips})"
                hint = "; where only training made it so, a lower train.lr helps" if trained else ""
                return told + hint
    return ""

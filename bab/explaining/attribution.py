"""What of a sound an output depends on: integrated gradients and Grad-CAM, by captum.

**Integrated gradients** (Sundararajan et al. 2017, arXiv 1703.01365) of the complex spectrogram:
the sound is what an inverse STFT makes of it, so that each cell of time and frequency has its
share, and all shares sum to the difference of the output from that of a baseline. The baseline is
faint white noise, 20 dB below the sound: encoders that normalise their input (wav2vec2, HuBERT)
hear a sound and its softer copies alike, so on the way from silence nothing would change but at its
very beginning.

**Grad-CAM** (Selvaraju et al. 2017, arXiv 1610.02391) of the last layer of the convolutional front:
its channels, weighted by the mean of the output's gradient, summed, negative sums cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bab.core.errors import BabError, NotApplicableError
from bab.core.interfaces import Encoder

FFT, HOP = 0.032, 0.008  # seconds, of the spectrogram that is attributed to
_FAINT = 0.1  # the baseline's share of the sound's root mean square: -20 dB
_STEPS = 64
_PER_PASS = 4  # steps that go through the model together
PASSES = _STEPS // _PER_PASS  # of integrated gradients, and a few more
Score = Callable[[Tensor], Tensor]  # f32[B, S] -> f32[B], what is explained


@dataclass(frozen=True, slots=True)
class Shares:
    """values: f64[F, T], what each cell of frequency (Hz, linear from 0 to half the rate) and time
    adds; output, baseline: what is explained, of the sound and of the noise; delta: by how much
    `values.sum()` misses their difference."""

    values: NDArray[np.float64]
    hop: float  # seconds; column t is centred at t * hop
    output: float
    baseline: float
    delta: float


def integrated_gradients(score: Score, sound: Tensor, rate: int, steps: int = _STEPS) -> Shares:
    """sound: f32[S].

    Raises:
        NotApplicableError: nothing of the output's gradient reaches the sound.
    """
    attr = _captum()
    size, hop = round(FFT * rate), round(HOP * rate)
    window = torch.hann_window(size, device=sound.device)
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(len(sound), generator=draw).to(sound.device)
    noise = noise * sound.pow(2).mean().sqrt().clamp(min=1e-5) * _FAINT

    def spectrum(x: Tensor) -> Tensor:
        return torch.view_as_real(torch.stft(x, size, hop, window=window, return_complex=True))

    def heard(spectra: Tensor) -> Tensor:
        """f32[B, F, T, 2] -> f32[B]."""
        complex_ones = torch.view_as_complex(spectra.contiguous())
        return score(torch.istft(complex_ones, size, hop, window=window, length=len(sound)))

    target, start = spectrum(sound)[None], spectrum(noise)[None]
    try:
        values, delta = attr.IntegratedGradients(heard).attribute(
            target, start, n_steps=steps, internal_batch_size=_PER_PASS,
            return_convergence_delta=True,
        )  # fmt: skip
    except RuntimeError as error:
        if "grad" not in str(error):
            raise
        raise NotApplicableError(f"no gradient reaches the sound: {error}") from None
    with torch.no_grad():
        output, baseline = float(heard(target)), float(heard(start))
    summed = values[0].sum(-1).double().cpu().numpy()
    return Shares(summed, hop / rate, output, baseline, float(delta))


def grad_cam(score: Score, sound: Tensor, layer: nn.Module) -> NDArray[np.float64]:
    """f64[T], at least 0: how much each frame of a convolution's output speaks for the score, from
    the sound's beginning to its end; of a layer with an axis of frequency, summed over it."""
    attr = _captum()
    heard = sound[None].clone().requires_grad_(True)
    values = attr.LayerGradCam(score, layer).attribute(heard, relu_attributions=True)
    frames: NDArray[np.float64] = values.detach()[0, 0].double().cpu().numpy()
    return frames if frames.ndim == 1 else np.asarray(frames.sum(0))


@torch.no_grad()
def fills_up(hear: Callable[[Tensor], Tensor], sound: Tensor, layer: nn.Module) -> bool:
    """Does half of the sound give as many frames as all of it? Then short sounds are filled up to
    one length (AST, CLAP), and a layer's frames reach beyond the sound."""
    lengths: list[int] = []
    hook = layer.register_forward_hook(lambda _, __, out: lengths.append(out.shape[-1]))
    try:
        hear(sound[None])
        hear(sound[None, : max(1, len(sound) // 2)])
    finally:
        hook.remove()
    return len(lengths) == 2 and lengths[0] == lengths[1] > 1


def last_convolution(encoder: Encoder, head: nn.Module) -> nn.Module | None:
    """The last convolution of the encoder's front (its group "conv"), else of the encoder, else of
    the head; None where there is none."""
    front = {id(p) for p in encoder.groups().get("conv", [])}
    inside = [m for m in encoder.modules() if isinstance(m, nn.Conv1d | nn.Conv2d)]
    in_front = [m for m in inside if id(m.weight) in front]
    for some in (in_front, inside, [m for m in head.modules() if isinstance(m, nn.Conv1d)]):
        if some:
            return some[-1]
    return None


def _captum() -> Any:
    try:
        from captum import attr
    except ImportError:
        raise BabError("`bab explain` needs captum: pip install 'bab[explain]'") from None
    return attr

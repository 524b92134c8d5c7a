"""Which frames are masked, and which serve as negatives: drawn from a seed, without loops.

Spans as in fairseq's `compute_mask_indices`, kind "static" (wav2vec 2.0, Baevski et al. 2020,
arXiv 2006.11477, section 3.1; HuBERT keeps it). Published settings, probability / length: HuBERT
and BabyHuBERT .8 / 10, wav2vec 2.0 base .65 / 10, HindiBabyNet .05 / 10. Overlaps make the share
that is masked smaller than the probability: of 400 frames, .8 masks .57 and .65 masks .49.
"""

from __future__ import annotations

import torch
from torch import Tensor


def span_mask(
    frames: int, prob: float, length: int, minimum: int, seed: int, overlap: bool = True
) -> Tensor:
    """bool[frames], True where masked: a function of the arguments alone.

    The number of spans is prob * frames / length, rounded up or down at random so that it is right
    on average, and at least `minimum`. Starts are drawn without replacement from all places where a
    span fits. Each clip keeps its own number: fairseq drops masked frames until all clips of a
    batch have equally many, which would make a clip's mask depend on its neighbours.

    An input no longer than one span gets a single span of half its frames, so that something is
    left to predict from; one of a single frame is not masked.

    Args:
        frames: valid frames of the clip.
        prob: share of the frames that the spans add up to, overlaps counted twice; in [0, 1].
        length: frames in a span.
        minimum: of spans, where so many fit.
        seed: any 63-bit integer.
        overlap: whether spans may overlap; if not, all arrangements are equally likely.
    """
    mask = torch.zeros(frames, dtype=torch.bool)
    if frames < 2:
        return mask
    draw = torch.Generator().manual_seed(seed)
    if frames > length:
        span = length
        count = max(minimum, int(prob * frames / span + torch.rand(1, generator=draw).item()))
    else:
        span, count = frames // 2, 1
    if overlap:
        places = frames - span + 1
        starts = torch.randperm(places, generator=draw)[:count]
    else:
        # Draw among the places that are left when every span is shrunk to one frame, then swell.
        count = min(count, frames // span)
        places = frames - count * (span - 1)
        starts = torch.randperm(places, generator=draw)[:count].sort().values
        starts = starts + torch.arange(count) * (span - 1)
    mask[(starts[:, None] + torch.arange(span)).flatten()] = True
    return mask

"""Audio and clips to make frame targets of, and what they should come to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio

from bab.audio import reading
from bab.core.types import Clip
from bab.targets.features import Mfcc, pieces
from bab.targets.job import TargetOptions
from bab.targets.make import make
from bab.targets.store import Stretch, TargetStore

RATE = 16000


def noise(path: Path, seconds: float, seed: int = 0, rate: int = RATE) -> Path:
    """Noise whose colour and loudness change every 0.2 s, so that there is something to cluster."""
    draw = np.random.default_rng(seed)
    parts = []
    for i in range(int(np.ceil(seconds * 5))):
        part = draw.normal(size=rate // 5) * draw.uniform(0.01, 0.2)
        parts.append(np.cumsum(part) * 0.1 if i % 2 else part)
    wave = np.concatenate(parts)[: round(seconds * rate)]
    soundfile.write(path, np.clip(wave, -0.99, 0.99).astype(np.float32), rate, "PCM_16")
    return path


def clip_of(path: Path, start: float, end: float, segments=()) -> Clip:
    return Clip(f"{path.stem}-{start}", str(path), start, end, path.stem, segments=tuple(segments))


def silent(*_args, **_keys):
    return None


def mfcc_reference(wave: torch.Tensor) -> torch.Tensor:
    """fairseq's simple_kmeans/dump_mfcc_feature.py, written with torchaudio alone."""
    base = torchaudio.compliance.kaldi.mfcc(
        wave[None], sample_frequency=16000, use_energy=False
    ).transpose(0, 1)
    delta = torchaudio.functional.compute_deltas(base)
    return torch.cat([base, delta, torchaudio.functional.compute_deltas(delta)]).T


def whole(features, stretch: Stretch) -> torch.Tensor:
    return torch.cat(features.extract(pieces(stretch, features)))


def corpus_of(tmp_path: Path, count: int = 4, seconds: float = 3.0) -> list[Clip]:
    paths = [noise(tmp_path / f"n{i}.wav", seconds + 0.37 * i, i) for i in range(count)]
    return [clip_of(p, 0.0, reading.duration(p)) for p in paths]


def run_make(clips, out: Path, features=None, **settings) -> TargetStore:
    make(clips, features or Mfcc(), out, TargetOptions(**{"clusters": 8, **settings}), {}, silent)
    return TargetStore(out)

"""Audio through a device, in times real time: cache filling, targets, a frame probe, predict."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import gpu_checks as checks
import numpy as np
import soundfile
import torch

from bab.config.resolve import run_config
from bab.core.interfaces import Encoder
from bab.core.types import Clip, View
from bab.data.windows import Examples
from bab.features.source import FeatureSource
from bab.features.store import Store
from bab.machine.arithmetic import arithmetic
from bab.machine.measure import room
from bab.predicting.engine import Engine
from bab.predicting.recordings import recordings
from bab.running.runner import run
from bab.running.saved import load_saved
from bab.targets.features import LayerFeatures, passes, pieces
from bab.targets.store import stretches

RATE = 16000


def written(folder: Path, clips: int, long: float) -> tuple[list[Clip], Clip]:
    """Utterances of 1 to 9 s, each a file, and one long recording: noise."""
    draw = np.random.default_rng(0)

    def one(name: str, seconds: float) -> Clip:
        path = folder / f"{name}.wav"
        wave = draw.standard_normal(round(seconds * RATE)).astype("f4") * 0.1
        soundfile.write(path, wave, RATE, subtype="PCM_16")
        return Clip(name, str(path), 0.0, seconds, name)

    short = [one(f"utterance-{i}", 1.0 + 8 * (i % 17) / 16) for i in range(clips)]
    return short, one("long", long)


def filling(
    encoder: Encoder, clips: list[Clip], view: View, device: torch.device, precision: str, at: Path
) -> tuple[float, FeatureSource]:
    """Times real time of filling the cache with all layers' frames, and what was filled."""
    source = FeatureSource(
        encoder.to(device), "all", Store(at / "cache", 10**11), at / "memo", device, torch.float16,
        batch=1 if device.type == "cpu" else 512, precision=precision, resident=room(device),
    )  # fmt: skip
    windows = Examples(clips, view, encoder.grid, encoder.max_seconds, True).windows
    source.plan(windows)
    began = time.perf_counter()
    source.fill(0, 1, lambda done, total: None, lambda: False)
    return sum(c.duration for c in clips) / (time.perf_counter() - began), source


def probing(source: FeatureSource, clips: list[Clip], view: View, device: torch.device) -> float:
    """Batches of 16 x 8 s of kept frames a second, brought to the device; the second time round."""
    encoder = source.encoder
    items = Examples(clips, view, encoder.grid, encoder.max_seconds, True).items
    groups = [items[i : i + 16] for i in range(0, len(items), 16)]
    for _ in range(2):
        began = time.perf_counter()
        for group in groups:
            source.inputs(group).to(device).states.float().mean().item()
    return len(groups) / (time.perf_counter() - began)


def targets(encoder: Encoder, clip: Clip, device: torch.device, precision: str) -> float:
    """Times real time of a layer's states for k-means."""
    features = LayerFeatures(encoder, max(1, encoder.depth // 2), device, precision)
    listed = [piece for stretch in stretches([clip]) for piece in pieces(stretch, features)]
    began = time.perf_counter()
    for part in passes(listed, features.seconds):
        features.extract(part)[-1][:1].cpu()
    return clip.duration / (time.perf_counter() - began)


def predicting(model: Path, clip: Clip, device: torch.device, precision: str) -> float:
    """Times real time of the model over a long recording."""
    engine = Engine(load_saved(model), device, precision)
    ((recording,), _) = recordings([Path(clip.path)])
    began = time.perf_counter()
    for _ in engine.walks[0].of(recording):
        pass
    return clip.duration / (time.perf_counter() - began)


def trained(at: Path, size: str, device: torch.device) -> Path:
    """A voice type classifier of one step: what it says is nothing, how fast is what matters."""
    corpus = at / "homes"
    for kind in ("wav", "rttm"):
        (corpus / kind).mkdir(parents=True)
    for seed, split in enumerate(("train", "dev", "test")):
        (corpus / f"{split}.txt").write_text(f"{split}\n")
        noise = np.random.default_rng(seed).standard_normal(4 * RATE) * 0.1
        soundfile.write(corpus / "wav" / f"{split}.wav", noise, RATE)
        spoken = [
            f"SPEAKER {split} 1 {i}.0 0.9 <NA> <NA> {label} <NA> <NA>\n"
            for i, label in enumerate(("KCHI", "OCH", "MAL", "FEM"))
        ]
        (corpus / "rttm" / f"{split}.rttm").write_text("".join(spoken))
    asked = {
        "encoder": f"hubert:{size}", "task": "vtc", "corpus": f"rttm:{corpus}", "observers": [],
        "quiet": True, "runs": str(at / "runs"), "mode": "finetune", "device": device.type,
    }  # fmt: skip
    sets = ["train.steps=1", "train.batch=1", "train.accumulation=1", f"cache.dir={at / 'c'}"]
    return run(run_config(None, asked, sets))[1]


def measured(
    device: torch.device, precisions: list[str], size: str, clips: int, long: float
) -> dict[str, Any]:
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        at = Path(place)
        short, whole = written(at, clips, long)
        model = trained(at, size, device)
        for precision in [p for p in precisions if p in ("fp32", "bf16")]:
            encoder = checks.open_encoder("hubert", size)
            one = f"in {precision}"
            told[f"utterances {one}"], _ = filling(
                encoder, short, View(), device, precision, at / f"u{precision}"
            )
            told[f"long file {one}"], source = filling(
                encoder, [whole], View(window=8.0), device, precision, at / f"l{precision}"
            )
            told[f"probe batches a second {one}"] = probing(
                source, [whole], View(window=8.0), device
            )
            told[f"targets {one}"] = targets(encoder, whole, device, precision)
            told[f"predict {one}"] = predicting(model, whole, device, precision)
            with arithmetic(device, precision), torch.no_grad():
                waves = checks.waves(RATE, [min(8.0, long)]).to(device)
                encoder(waves)
                began = time.perf_counter()
                encoder(waves).layers[-1][:1, :1].cpu()
            told[f"bare forward {one}"] = min(8.0, long) / (time.perf_counter() - began)
    return {key: round(value, 1) for key, value in told.items()}

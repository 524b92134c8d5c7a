"""Filling the feature cache beside the bare forward pass of transformers' model.

    python benchmarks/fill_cache.py [--audio FOLDER] [--clips 30] [--rounds 5] [--threads 1]
        [--precision fp32,bf16] [--padded]

The encoder is a HuBERT-base with random weights. Without --audio there are six clips of 1 to 3.5 s
of noise, as wav files; with it, the first files of a folder, a clip each (15 s of it at most).
"bare" is transformers' `HubertModel` in fp32 on each clip by itself, already read, with all hidden
states, without a gradient; nothing is kept. "fill" is bab's `FeatureSource.fill` into an empty
cache: files are read, all layers encoded, checksums taken, blocks written and synced. --padded adds
what the usual tools do: one batch of all clips, padded to the longest.

All are in one process, which keeps its memory (`bab.machine.memory`), and alternate; printed are
medians of wall and CPU seconds, and how many times faster than bare each is. Before anything is
timed, the features are compared with transformers'.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import soundfile
import torch
import transformers
from torch import Tensor

from bab.audio import reading
from bab.core.types import Clip, Item, Window
from bab.kit.layers import standardise
from bab.machine.arithmetic import halve
from bab.machine.memory import keep_memory
from bab.machine.packed import pack
from bab.plugins.encoders.hubert import Hubert
from bab.running.features import FeatureSource
from bab.running.store import Store

RATE, LONGEST = 16_000, 15.0
SECONDS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5)
CPU = torch.device("cpu")


def made(folder: Path) -> list[Clip]:
    """Six clips of noise."""
    draw, clips = torch.Generator().manual_seed(0), []
    for number, seconds in enumerate(SECONDS):
        path = folder / f"{number}.wav"
        noise = 0.1 * torch.randn(round(seconds * RATE), generator=draw)
        soundfile.write(path, noise.numpy(), RATE)
        clips.append(Clip(str(number), str(path), 0.0, seconds, "noise"))
    return clips


def listed(folder: Path, count: int) -> list[Clip]:
    """The first audio files of a folder."""
    kinds = {".wav", ".flac", ".mp3", ".ogg"}
    paths = sorted(path for path in folder.rglob("*") if path.suffix in kinds)[:count]
    lengths = [min(LONGEST, soundfile.info(path).duration) for path in paths]
    return [
        Clip(str(path), str(path), 0.0, seconds, "real")
        for path, seconds in zip(paths, lengths, strict=True)
    ]


def filled(weights: Path, clips: Sequence[Clip], precision: str, place: Path) -> FeatureSource:
    """A cache with nothing in it yet, planned."""
    encoder = Hubert.load(str(weights), Hubert.Options())
    encoder.requires_grad_(False)
    halve(encoder, precision)
    packed = pack(encoder, CPU)
    store = Store(place, 10**11)
    more = {"precision": precision, "packed": packed}
    source = FeatureSource(encoder, "all", store, place / "memo", CPU, **more)
    source.plan([Window(clip) for clip in clips])
    return source


def fill(source: FeatureSource) -> None:
    """Fill it from nothing."""
    shutil.rmtree(source.store.root, ignore_errors=True)
    source.store = Store(source.store.root, 10**11)
    source._filled = 0
    source.fill(0, 1, lambda done, total: None, lambda: False)


@torch.no_grad()
def bare(model: torch.nn.Module, waves: Sequence[Tensor]) -> list[Tensor]:
    """[L, T, D] of each clip."""
    passes = (model(wave, output_hidden_states=True) for wave in waves)
    return [torch.stack(out.hidden_states)[:, 0] for out in passes]


@torch.no_grad()
def batched(model: torch.nn.Module, waves: Sequence[Tensor]) -> None:
    """All clips in one batch, zeros after each, without a mask, as HuBERT-base is fed."""
    together = torch.nn.utils.rnn.pad_sequence([wave[0] for wave in waves], batch_first=True)
    model(together, output_hidden_states=True)


def apart(source: FeatureSource, clips: Sequence[Clip], wanted: Sequence[Tensor]) -> float:
    """The largest relative difference of a state of a clip from the bare one."""
    worst = 0.0
    for clip, reference in zip(clips, wanted, strict=True):
        states = source.inputs([Item(clip, (Window(clip),))]).states[0]
        norms = (states - reference).flatten(1).norm(dim=1) / reference.flatten(1).norm(dim=1)
        worst = max(worst, float(norms.max()))
    return worst


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--audio", type=Path, help="a folder with audio files")
    parser.add_argument("--clips", type=int, default=30, help="of that folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of torch; unset: its default")
    parser.add_argument("--precision", default="fp32,bf16")
    parser.add_argument("--padded", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    keep_memory()
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        model = transformers.HubertModel(transformers.HubertConfig()).eval()
        model.save_pretrained(folder / "weights")
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder / "weights")
        clips = listed(args.audio, args.clips) if args.audio else made(folder)
        read = [torch.from_numpy(reading.read(c.path, c.start, c.end, RATE))[None] for c in clips]
        waves = [standardise(wave, torch.tensor([wave.shape[1]])) for wave in read]
        wanted = bare(model, waves)
        works: dict[str, Callable[[], object]] = {"bare": lambda: bare(model, waves)}
        if args.padded:
            works["padded"] = lambda: batched(model, waves)
        for precision in args.precision.split(","):
            source = filled(folder / "weights", clips, precision, folder / precision)
            fill(source)
            far = apart(source, clips, wanted)
            print(f"{precision}: relative difference from transformers {far:.1e}", flush=True)
            if far > (1e-5 if precision == "fp32" else 0.1):
                sys.exit("that is not the same: no times")
            works[f"fill {precision}"] = lambda source=source: fill(source)
        times: dict[str, list[tuple[float, float]]] = {key: [] for key in works}
        for _ in range(args.rounds):
            for key, work in works.items():
                times[key].append(timed(work))
    report(times, sum(clip.duration for clip in clips), len(clips))


def report(times: dict[str, list[tuple[float, float]]], seconds: float, clips: int) -> None:
    """Medians, as a table."""
    middles = {
        key: [statistics.median(pair[which] for pair in pairs) for which in (0, 1)]
        for key, pairs in times.items()
    }
    for key, (wall, cpu) in middles.items():
        by = [middles["bare"][0] / wall, middles["bare"][1] / cpu]
        print(f"{key:<10} wall {wall:6.2f} s ({by[0]:.2f} x)   CPU {cpu:6.2f} s ({by[1]:.2f} x)")
    print(
        f"{clips} clips, {seconds:.1f} s, {torch.get_num_threads()} threads, load "
        f"{os.getloadavg()[0]:.1f}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}"
    )


if __name__ == "__main__":
    main()

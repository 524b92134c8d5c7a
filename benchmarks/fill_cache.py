"""Filling the feature cache beside the bare forward pass of transformers' model.

    python benchmarks/fill_cache.py [--audio FOLDER] [--clips 30] [--rounds 5] [--threads 1]
        [--precision fp32,bf16]

The encoder is a HuBERT-base with random weights. Without --audio there are six clips of 1 to 3.5 s
of noise, as wav files; with it, the first files of a folder, a clip each (15 s of it at most).

    bare    transformers' `HubertModel` in fp32 on each clip by itself, already read, with all
            hidden states, without a gradient; nothing is kept. As a script has it
    kept    the same in a process that keeps its memory (`bab.machine.memory`), as bab's runs do
    padded  one batch of all clips, padded to the longest, as the usual tools have it
    fill    bab's `FeatureSource.fill` into an empty cache, in the precisions asked for: files are
            read, all layers encoded, checksums taken, blocks written and synced

Each is a process of its own, and they take turns; printed are medians of wall and CPU seconds, and
how many times faster than bare each is. Before anything is timed, features are compared with
transformers'.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import soundfile
import torch
import transformers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bab.audio import reading
from bab.core.types import Clip, Item, Window
from bab.features.source import FeatureSource
from bab.features.store import Store
from bab.kit.layers import standardise
from bab.machine.arithmetic import halve
from bab.machine.memory import keep_memory
from bab.machine.packed import pack
from bab.plugins.encoders.hubert import Hubert

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
    """[L, T, D] of each clip, or of all in one batch."""
    passes = [model(wave, output_hidden_states=True).hidden_states for wave in waves]
    return [torch.stack(states)[:, 0] for states in passes]


def apart(source: FeatureSource, clips: Sequence[Clip], wanted: Sequence[Tensor]) -> float:
    """The largest relative difference of a state of a clip from the bare one."""
    worst = 0.0
    for clip, reference in zip(clips, wanted, strict=True):
        states = source.inputs([Item(clip, (Window(clip),))]).states[0]
        norms = (states - reference).flatten(1).norm(dim=1) / reference.flatten(1).norm(dim=1)
        worst = max(worst, float(norms.max()))
    return worst


def worker(pipe: Any, kind: str, folder: Path, clips: Sequence[Clip], threads: int | None) -> None:
    """Do one kind of work each time it is asked for, and say its wall and CPU seconds."""
    if threads:
        torch.set_num_threads(threads)
    if kind not in ("bare", "padded"):
        keep_memory()
    if kind.startswith("fill"):
        precision = kind.split()[1]
        source = filled(folder / "weights", clips, precision, folder / precision)
        fill(source)
        model, waves = theirs(folder, clips)
        pipe.send(apart(source, clips, bare(model, waves)))
        del model
        work: Callable[[], object] = lambda: fill(source)  # noqa: E731
    else:
        model, waves = theirs(folder, clips)
        if kind == "padded":
            waves = [pad_sequence([wave[0] for wave in waves], batch_first=True)]
        work = lambda: bare(model, waves)  # noqa: E731
        work()
        pipe.send(0.0)
    while pipe.recv():
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu))


def theirs(folder: Path, clips: Sequence[Clip]) -> tuple[torch.nn.Module, list[Tensor]]:
    """transformers' model, and clips as its feature extractor has them."""
    model = transformers.HubertModel.from_pretrained(folder / "weights").eval()
    read = [torch.from_numpy(reading.read(c.path, c.start, c.end, RATE))[None] for c in clips]
    return model, [standardise(wave, torch.tensor([wave.shape[1]])) for wave in read]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--audio", type=Path, help="a folder with audio files")
    parser.add_argument("--clips", type=int, default=30, help="of that folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of torch; unset: its default")
    parser.add_argument("--precision", default="fp32,bf16")
    args = parser.parse_args()
    kinds = ["bare", "kept", "padded", *(f"fill {one}" for one in args.precision.split(","))]
    processes = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        transformers.HubertModel(transformers.HubertConfig()).save_pretrained(folder / "weights")
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder / "weights")
        clips = listed(args.audio, args.clips) if args.audio else made(folder)
        pipes = {}
        for kind in kinds:
            pipes[kind], end = processes.Pipe()
            given = (end, kind, folder, clips, args.threads)
            processes.Process(target=worker, args=given, daemon=True).start()
            far = pipes[kind].recv()
            if kind.startswith("fill"):
                print(f"{kind}: relative difference from transformers {far:.1e}", flush=True)
            if far > (0.1 if "16" in kind else 1e-5):
                sys.exit("that is not the same: no times")
        times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for _ in range(args.rounds):
            for kind, pipe in pipes.items():
                pipe.send(True)
                times[kind].append(pipe.recv())
        for pipe in pipes.values():
            pipe.send(False)
    report(times, clips, args.threads)


def report(
    times: dict[str, list[tuple[float, float]]], clips: Sequence[Clip], threads: int | None
) -> None:
    """Medians, as a table."""
    middles = {
        kind: [statistics.median(pair[which] for pair in pairs) for which in (0, 1)]
        for kind, pairs in times.items()
    }
    for kind, (wall, cpu) in middles.items():
        by = [middles["bare"][0] / wall, middles["bare"][1] / cpu]
        print(f"{kind:<10} wall {wall:6.2f} s ({by[0]:.2f} x)   CPU {cpu:6.2f} s ({by[1]:.2f} x)")
    print(
        f"{len(clips)} clips, {sum(clip.duration for clip in clips):.1f} s, "
        f"{threads or torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


if __name__ == "__main__":
    main()

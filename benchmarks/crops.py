"""Random 8 s crops out of long recordings beside decoding those recordings whole.

    python benchmarks/crops.py [--hours 2] [--files 10] [--crops 200] [--formats wav,flac,mp3]

Makes recordings in a temporary folder (one per format, then hard links: the same content under
several names), and prints for each format: crops per second and worker, read at 16 kHz as
`bab pretrain` reads them; seconds to decode a whole recording with soundfile, as a script does
that loads files for every crop; and how many times faster a crop is. The first crop of every
file is part of what is timed: MP3 needs its frames counted once.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from bab.config.pretrain import AudioConfig
from bab.core.grid import Grid
from bab.core.types import Clip
from bab.pretraining.crops import Crops

RATE = 16000
GRID = Grid(RATE, 320, 400)


def recording(path: Path, hours: float) -> None:
    """Noise with a slow envelope, a minute at a time."""
    draw = np.random.default_rng(0)
    kind = {".mp3": "MPEG_LAYER_III"}.get(path.suffix, "PCM_16")
    with soundfile.SoundFile(path, "w", RATE, 1, kind) as file:
        for minute in range(round(hours * 60)):
            noise = draw.normal(0, 0.05, 60 * RATE)
            file.write(noise * (1.2 + np.sin(minute + np.arange(60 * RATE) / RATE)))


def measure(folder: Path, suffix: str, args: argparse.Namespace) -> None:
    first = folder / f"0.{suffix}"
    recording(first, args.hours)
    for number in range(1, args.files):
        os.link(first, folder / f"{number}.{suffix}")
    clips = [
        Clip(str(i), str(folder / f"{i}.{suffix}"), 0.0, args.hours * 3600, str(i))
        for i in range(args.files)
    ]
    crops = Crops(clips, AudioConfig(per_clip=1, crop=8.0), GRID)
    began = time.perf_counter()
    for number in range(args.crops):
        _, wave = crops.crop(number % args.files, ("bench", number))
        assert len(wave) == 8 * RATE
    each = (time.perf_counter() - began) / args.crops
    whole = []
    for _ in range(3):
        began = time.perf_counter()
        soundfile.read(first, dtype="float32")
        whole.append(time.perf_counter() - began)
    decode = statistics.median(whole)
    print(
        f"{suffix:5} {1 / each:8.0f} crops/s and worker   whole file {decode:6.2f} s   "
        f"a crop is {decode / each:7.0f} times faster",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--crops", type=int, default=200)
    parser.add_argument("--formats", default="wav,flac,mp3")
    args = parser.parse_args()
    for suffix in args.formats.split(","):
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), suffix, args)


if __name__ == "__main__":
    main()

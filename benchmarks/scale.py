"""What a corpus of daylong recordings costs in time, machines and storage: docs/scale.md's tables.

    python benchmarks/scale.py                            # from the rates that are written below
    python benchmarks/scale.py --recordings 500 --cores 64
    python benchmarks/scale.py --measure AUDIO --out rates.json     # 30 min or so; one thread
    python benchmarks/scale.py --rates rates.json

--measure takes a folder of recordings (docs/scale.md: the 18 constructed home recordings, of 10
minutes each), runs bab's own commands on 10 and on 40 minutes of them (base models: 2.5 and 10), as
FLAC at 16 kHz, and takes the difference, so that starting up isn't counted. Time is processor time
of one thread. What the file of rates knows already isn't measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HOURS = 16  # of a daylong recording
# Audio hours per hour of one core, and bytes per audio hour; docs/scale.md says when and on what.
MEASURED: dict[str, float] = {
    "prepare energy": 2107.0,
    "prepare silero": 52.1,
    "targets mfcc": 742.4,
    "targets base": 5.0,
    "predict base": 6.0,  # half of the 11.9 of two cores in docs/predict.md
    "pretrain base": 1.49,  # benchmarks/pretrain_step.py: 5.38 s for 8 s of audio, fp32
    "flac bytes": 56_763_819.0,
    "segments": 253.5,
    "prepare bytes": 15_202.5,
    "targets bytes": 362_325.0,
    "targets files": 1,  # one an hour or more, and four of the store
    "predict bytes": 810_000.0,  # RTTM, CSV and what is kept to go on; a poor model with many turns
    "predict files": 2,  # of a recording
    "features bytes": 13 * 768 * 4 * 50 * 3600,  # counted: states, values, fp32, frames
}
# Audio hours per hour of one GPU (H100 class), in bf16: predicted from counted operations, never
# measured; the lower and the upper end.
PREDICTED = {"pretrain": (3000.0, 4500.0), "forward": (9000.0, 13500.0)}
PASSES = 3  # times that pretraining hears the corpus


# ------------------------------------------------------------------------------------ measuring


def spent(command: list[str], folder: Path) -> float:
    """Seconds of processor time that a command and its children take."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "BAB_CACHE": str(folder / "cache")}
    log = folder / "log.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "bab", *command], cwd=folder, env=environment, stdout=out,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"bab {' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    return usage.ru_utime + usage.ru_stime


def size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def material(source: Path, folder: Path) -> dict[str, float]:
    """short/, middle/ and long/ with 2.5, 10 and 40 minutes of FLAC; the hours of each."""
    import numpy as np
    import soundfile

    from bab import read_audio

    files = sorted(p for p in source.rglob("*") if p.suffix in (".ogg", ".wav", ".flac"))[:4]
    hours = {}
    for name, some, share in (("short", 1, 4), ("middle", 1, 1), ("long", 4, 1)):
        (folder / name).mkdir()
        wave = np.concatenate([read_audio(path, 0.0, None, 16000) for path in files[:some]])
        wave = wave[: len(wave) // share]
        soundfile.write(folder / name / "day.flac", wave, 16000)
        hours[name] = len(wave) / 16000 / 3600
    return hours


class Meter:
    """Runs bab's commands in a folder, and takes their time."""

    def __init__(self, folder: Path, hours: dict[str, float], out: Path) -> None:
        self.folder, self.hours, self.out = folder, hours, out
        self.rates: dict[str, float] = json.loads(out.read_text()) if out.exists() else {}

    def keep(self, name: str, value: float) -> None:
        self.rates[name] = value
        self.out.write_text(json.dumps(self.rates, indent=1) + "\n")

    def rate(self, what: str, command: list[str], parts: tuple[str, str]) -> None:
        """Audio hours per hour of processor time; what is known already isn't measured again."""
        if what in self.rates:
            return
        times = []
        for part in parts:
            shutil.rmtree(self.folder / "cache", ignore_errors=True)
            times.append(spent([word.replace("PART", part) for word in command], self.folder))
        span = self.hours[parts[1]] - self.hours[parts[0]]
        self.keep(what, span * 3600 / (times[1] - times[0]))
        print(f"{what}: {self.rates[what]:.1f} ({times[0]:.1f} s, {times[1]:.1f} s)", flush=True)

    def left(self, what: str, place: str, part: str) -> None:
        """Bytes per audio hour, and files, that a command has left."""
        path = self.folder / place
        self.keep(f"{what} bytes", size(path) / self.hours[part])
        self.keep(f"{what} files", sum(p.is_file() for p in path.rglob("*")))


def measure(source: Path, out: Path) -> None:
    """The rates of this machine."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hours = material(source, folder)
        meter = Meter(folder, hours, out)
        meter.keep("flac bytes", size(folder / "long") / hours["long"])
        cheap, dear = ("middle", "long"), ("short", "middle")
        for vad in ("energy", "silero"):
            asked = ["prepare", "--corpus", "audio:PART", "--vad", vad, "--use", "all"]
            asked += ["--jobs", "1", "--out", f"{vad}-PART.parquet"]
            meter.rate(f"prepare {vad}", asked, cheap)
        segments(meter)
        fit = ["--clusters", "100", "--sample-frames", "5000"]
        again = ["targets", "--corpus", "audio:PART", "--centroids"]
        spent(["targets", "--corpus", "audio:short", "--out", "mfcc", *fit], folder)
        meter.rate("targets mfcc", [*again, "mfcc", "--out", "t-PART"], cheap)
        if (folder / "t-long").exists():
            meter.left("targets", "t-long", "long")
        base = ["--encoder", "hubert:random", "--layer", "6"]
        spent(["targets", "--corpus", "audio:short", "--out", "base", *fit, *base], folder)
        meter.rate("targets base", [*again, "base", "--out", "b-PART", *base], dear)
        train = ["--set", "train.steps=20", "--set", "train.eval_every=20"]
        asked = ["run", "--encoder", "hubert:random", "--task", "vtc", "--set", "layers=last"]
        spent([*asked, *train], folder)
        trained = str(next(folder.glob("runs/**/record.json")).parent)
        meter.rate("predict base", ["predict", trained, "PART", "--out", "p-PART"], dear)
        meter.left("predict", "p-middle", "middle")
        pretraining(meter)


def segments(meter: Meter) -> None:
    """How many segments `bab prepare` lists in an hour, and in how many bytes."""
    from pyarrow import parquet

    command = ["prepare", "--corpus", "audio:long", "--vad", "energy", "--use", "all"]
    spent([*command, "--out", "made.parquet"], meter.folder)
    path = meter.folder / "made.parquet"
    rows = parquet.ParquetFile(path).metadata.num_rows
    meter.keep("segments", rows / meter.hours["long"])
    meter.keep("prepare bytes", path.stat().st_size / meter.hours["long"])


def pretraining(meter: Meter) -> None:
    """Audio hours per hour of processor time: steps of 2 crops of 8 s, start-up taken off."""
    if "pretrain base" in meter.rates:
        return
    asked = ["pretrain", "--encoder", "wav2vec2:random", "--objective", "contrastive"]
    asked += ["--corpus", "audio:long", "--set", "audio.crop=8"]
    asked += ["--set", "train.batch=2", "--set", "train.eval_every=1000"]
    times = [spent([*asked, "--steps", str(steps)], meter.folder) for steps in (2, 8)]
    meter.keep("pretrain base", 6 * 2 * 8 / (times[1] - times[0]))
    print(f"pretrain base: {meter.rates['pretrain base']:.2f} ({times[0]:.1f} s, {times[1]:.1f} s)")


# ------------------------------------------------------------------------------------- the tables


def told(hours: float) -> str:
    """A stretch of time, for people."""
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:,.0f} h" if hours < 72 else f"{hours / 24:,.0f} days"


def stored(size: float) -> str:
    """Bytes, for people."""
    units = ["B", "KB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        del units[0]
    return f"{size:,.0f} {units[0]}" if size >= 10 else f"{size:.1f} {units[0]}"


def times(rates: dict[str, float], hours: float, cores: int, gpus: int) -> None:
    """What each stage takes, on one core, on some, and on GPUs."""
    forward = tuple(gpus * rate for rate in PREDICTED["forward"])
    train = tuple(gpus * rate for rate in PREDICTED["pretrain"])
    stages: list[tuple[str, str, float, tuple[float, ...] | None]] = [
        ("prepare, energy", "prepare energy", 1, None),
        ("prepare, silero", "prepare silero", 1, None),
        ("targets, MFCC", "targets mfcc", 1, None),
        ("targets, layer 6 of a base model", "targets base", 1, forward),
        (f"pretraining, base, {PASSES} passes", "pretrain base", PASSES, train),
        ("predict, base", "predict base", 1, forward),
    ]
    heads = ("stage", "times real time, one core", "one core", f"{cores} cores")
    print(f"| {' | '.join(heads)} | {gpus} GPUs, predicted |")
    print("|---|--:|--:|--:|--:|")
    for name, key, passes, gpu in stages:
        alone = passes * hours / rates[key]
        there = " to ".join(told(passes * hours / rate) for rate in (gpu or ())[::-1]) or "-"
        print(f"| {name} | {rates[key]:,.1f} | {told(alone)} | {told(alone / cores)} | {there} |")


def storage(rates: dict[str, float], hours: float, recordings: int) -> None:
    """What each stage leaves on disk."""
    rows = f"1 file, {rates['segments'] * hours / 1e6:.1f} million rows"
    kinds: list[tuple[str, str, str]] = [
        ("recordings, FLAC, 16 kHz, mono", "flac", f"{recordings:,} files"),
        ("manifest of `bab prepare`", "prepare", rows),
        ("targets", "targets", f"{rates['targets files']:g} an hour at most"),
        ("predictions", "predict", f"{rates['predict files'] * recordings:,.0f}"),
        ("features, all layers of a base model", "features", "at most `cache.budget_gb`"),
    ]
    print("| what | bytes per audio hour | all of it | files |\n|---|--:|--:|---|")
    for name, key, files in kinds:
        each = rates[f"{key} bytes"]
        print(f"| {name} | {stored(each)} | {stored(each * hours)} | {files} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=HOURS, help="of each recording")
    parser.add_argument("--cores", type=int, default=256)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--rates", type=Path, help="JSON, as --measure writes it")
    parser.add_argument("--measure", type=Path, metavar="AUDIO")
    parser.add_argument("--out", type=Path, default=Path("rates.json"))
    args = parser.parse_args()
    if args.measure:
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        measure(args.measure.resolve(), args.out.absolute())
        print(f"load {os.getloadavg()[0]:.1f}; {args.out}")
        return
    rates: dict[str, Any] = json.loads(args.rates.read_text()) if args.rates else MEASURED
    hours = args.recordings * args.hours
    print(f"{args.recordings:,} recordings of {args.hours:g} h: {hours:,.0f} h\n")
    times(rates, hours, args.cores, args.gpus)
    print()
    storage(rates, hours, args.recordings)


if __name__ == "__main__":
    main()

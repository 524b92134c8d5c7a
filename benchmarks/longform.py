"""`bab predict` on long recordings: speed beside the bare model, memory by length.

    python benchmarks/longform.py RUN [--minutes 10] [--hours 16] [--precision fp32 bf16]
        [--device auto] [--threads N] [--window 4] [--batch 4]

RUN is a finished run's folder. Each case is a process of its own, on synthetic audio (noise with
pauses, 16 kHz), and is run on one minute and on `--minutes`: the speed is of what lies between, so
that no import and no loading counts. Beside it stands the model alone in the same precision, on
windows
that are in memory already: what no program around it can beat. Memory is the process's peak
(resident), on 10 minutes and on `--hours`; 0 leaves the long one out. On a GPU also its own peak.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def make_audio(path: Path, seconds: float) -> Path:
    """Noise that comes and goes, written a minute at a time."""
    draw = np.random.default_rng(0)
    minute = draw.normal(0, 0.05, RATE * 60) * (np.sin(np.arange(RATE * 60) / RATE) > 0)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        left = round(seconds * RATE)
        while left > 0:
            file.write(minute[:left])
            left -= len(minute)
    return path


def measured(command: list[str], threads: int) -> tuple[float, float]:
    """Seconds and peak GB of a process.

    Raises:
        SystemExit: it failed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB on Linux
    return time.perf_counter() - began, usage.ru_maxrss * unit / 1e9


def bare(run: str, audio: str, precision: str, device: str, window: float, batch: int) -> None:
    """The model alone, on windows in memory."""
    import torch

    from bab.core.device import resolve_device
    from bab.core.types import Batch, Waves
    from bab.machine.memory import keep_memory
    from bab.running.saved import load_saved

    name = resolve_device(device)
    if name == "cpu":
        keep_memory()
    model = load_saved(Path(run)).model.to(name).eval()
    samples = torch.from_numpy(soundfile.read(audio, dtype="float32")[0])
    windows = samples.unfold(0, round(window * RATE), round(window * RATE))
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    none = torch.empty(0)
    with torch.inference_mode(), torch.autocast(name, half, enabled=half is not None):
        for part in windows.split(batch):
            lengths = torch.full((len(part),), part.shape[1])
            waves = Waves(part.contiguous(), lengths, None).to(torch.device(name))
            model(Batch(waves, none, none, (), 0))[0].float().cpu()


def speed(case: list[str], audio: tuple[Path, Path], minutes: float, threads: int) -> str:
    short, _ = measured([*case, str(audio[0])], threads)
    long, peak = measured([*case, str(audio[1])], threads)
    return f"{(minutes - 1) * 60 / max(1e-9, long - short):8.1f} x real time, {peak:.2f} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("run")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--hours", type=float, default=16)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--window", type=float, default=4.0, help="seconds, of the bare model")
    parser.add_argument("--batch", type=int, default=4, help="windows at once, of the bare model")
    parser.add_argument("--bare", nargs=2, metavar=("PRECISION", "AUDIO"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        bare(given.run, given.bare[1], given.bare[0], given.device, given.window, given.batch)
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        one = make_audio(place / "one.wav", 60)
        audio = one, make_audio(place / "some.wav", given.minutes * 60)
        for number, precision in enumerate(given.precision):
            alone = [sys.executable, __file__, given.run, "--device", given.device]
            alone += ["--window", str(given.window), "--batch", str(given.batch)]
            alone += ["--bare", precision]
            whole = [sys.executable, "-m", "bab", "predict", given.run, "--device", given.device]
            whole += ["--precision", precision, "--quiet", "--out", str(place / f"out{number}")]
            print(f"{precision}: model alone {speed(alone, audio, given.minutes, given.threads)}")
            print(f"{precision}: bab predict {speed(whole, audio, given.minutes, given.threads)}")
        if given.hours:
            make_audio(place / "long.wav", given.hours * 3600)
            for name, path in (("10 min", make_audio(place / "ten.wav", 600)),
                               (f"{given.hours:g} h", place / "long.wav")):  # fmt: skip
                command = [sys.executable, "-m", "bab", "predict", given.run, str(path), "--quiet"]
                command += ["--device", given.device, "--out", str(place / "out")]
                seconds, peak = measured(command, given.threads)
                print(f"{name}: peak {peak:.2f} GB, {seconds:.0f} s")


if __name__ == "__main__":
    main()

"""Is the loss of pretraining in bf16 within the noise of fp32's? 200 tiny steps, several seeds.

    python benchmarks/half_loss.py [--steps 200] [--seeds 3] [--device cpu]
        [--objectives masked,contrastive]

Both objectives, on tones that change four times a second (so that what is hidden can be told from
what is heard; the masked objective's labels are the tones), with the trainer's own step. A seed
draws the audio, the masks and the labels. Printed are the mean losses of the last tenth of the
steps: of each seed in both precisions, the difference, and the standard deviation over seeds in
fp32, which is the noise. Exit status 1: the mean difference is above that noise.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import gpu_checks as checks
import torch

from bab.core.interfaces import Encoder
from bab.core.types import Batch

RATE, PIECE, TONES, CLIPS, SECONDS = 16_000, 4000, 9, 4, 1.2


def batch(encoder: Encoder, step: int, seed: int) -> Batch:
    """Tones and their numbers, masked as wav2vec 2.0 does."""
    made = checks.pretraining_batch(encoder, [SECONDS] * CLIPS, TONES, step + 100_000 * seed)
    draw = torch.Generator().manual_seed(step + 100_000 * seed)
    samples = round(SECONDS * RATE)
    tones = torch.randint(TONES, (CLIPS, samples // PIECE + 1), generator=draw)
    each = tones.repeat_interleave(PIECE, dim=1)[:, :samples]
    pitch = 200.0 * 2.0 ** (each / 3)
    noise = 0.02 * torch.randn(CLIPS, samples, generator=draw)
    made.inputs.samples = 0.2 * torch.sin(torch.cumsum(2 * torch.pi * pitch / RATE, 1)) + noise  # type: ignore[union-attr]
    middle = torch.from_numpy(encoder.grid.centres(encoder.grid.frames(samples)) * RATE).long()
    made.targets = each[:, middle]
    return made


def end(objective: str, precision: str, steps: int, seed: int, device: str) -> float:
    """The mean loss of the last tenth of some steps."""
    losses = []
    with tempfile.TemporaryDirectory() as place:
        runs = checks.training(
            device, precision, steps, Path(place), lambda e, step: batch(e, step, seed), objective
        )
        for trainer, own in runs:
            trainer._train_mode()
            for step in range(steps):
                losses.append(trainer._step(step, own.batches(step))[0]["loss"])
    return statistics.fmean(losses[-max(1, steps // 10) :])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--objectives", default="masked,contrastive")
    given = parser.parse_args()
    worse = False
    for objective in given.objectives.split(","):
        ends = {
            precision: [
                end(objective, precision, given.steps, seed, given.device)
                for seed in range(given.seeds)
            ]
            for precision in ("fp32", "bf16")
        }
        apart = [b - a for a, b in zip(ends["fp32"], ends["bf16"], strict=True)]
        noise = statistics.stdev(ends["fp32"]) if given.seeds > 1 else float("nan")
        for seed, pair in enumerate(zip(ends["fp32"], ends["bf16"], strict=True)):
            print(f"{objective} seed {seed}: fp32 {pair[0]:.4f}, bf16 {pair[1]:.4f}")
        mean = statistics.fmean(apart)
        print(
            f"{objective}: bf16 less fp32 {mean:+.4f}; fp32 over seeds +- {noise:.4f}", flush=True
        )
        worse |= mean > noise
    print(f"{given.steps} steps, load {os.getloadavg()[0]:.1f}")
    sys.exit(worse)


if __name__ == "__main__":
    main()

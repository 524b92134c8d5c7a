"""A small training job, run by the trainer's tests in processes of their own.

`python train_worker.py OUT --steps 20 --accumulation 4` trains a two-layer encoder with a frame
head on made-up waves of unequal lengths and writes the last weights to OUT/final.safetensors.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import nn

from bab.core.grid import Grid
from bab.core.interfaces import Encoder
from bab.core.observers import observers
from bab.core.options import TrainConfig
from bab.core.record import RunInfo
from bab.core.trainer import Trainer, Training
from bab.core.types import Batch, Clip, Encoded, Waves
from bab.data.sampling import Counted, Order, Share
from bab.plugins.heads.frames import Frames
from bab.plugins.objectives.multilabel import Multilabel
from bab.running.model import LayerMix, Model

EXAMPLES, CLASSES, RATE = 60, 4, 100


class Small(Encoder):
    """Ten samples a frame, two layers, optional dropout: enough to train, quick to run."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.sample_rate, self.dim, self.depth = RATE, 8, 2
        self.grid, self.max_seconds = Grid(RATE, 10, 10), None
        self.fingerprint, self.resolved = "small", "small"
        self.conv = nn.Conv1d(1, 8, 10, stride=10)
        self.layer = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(dropout))

    def forward(self, waves: Waves, mask: Any = None, layers: str = "all") -> Encoded:
        x = self.conv(waves.samples[:, None]).transpose(1, 2)
        y = self.layer(x)
        return Encoded((x, y) if layers == "all" else (y,), waves.lengths // 10)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"conv": list(self.conv.parameters()), "layer0": list(self.layer.parameters())}


def example(index: int, spoil: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """samples [S] and multi-hot targets [T, 4] of one made-up example, 3 to 32 frames long."""
    draw = torch.Generator().manual_seed(index)
    frames = 3 + (index * 7) % 30
    wave = torch.randn(frames * 10, generator=draw)
    targets = (torch.rand(frames, CLASSES, generator=draw) < 0.3).float()
    return (wave * float("nan") if spoil else wave), targets


def batch(indices: list[int], step: int, spoil: bool = False) -> Batch:
    """The padded batch of some examples."""
    pairs = [example(i, spoil) for i in indices]
    clips = tuple(
        Clip(f"clip{i}", "", 0.0, len(w) / RATE, "")
        for i, (w, _) in zip(indices, pairs, strict=True)
    )
    pad = nn.utils.rnn.pad_sequence
    return Batch(
        Waves(pad([w for w, _ in pairs], True), torch.tensor([len(w) for w, _ in pairs])),
        pad([t for _, t in pairs], True),
        torch.tensor([len(t) for _, t in pairs]),
        clips,
        step,
    )


def examples(size: int) -> Order:
    """What each step holds. Lengths aren't told: sorted by them, processes would have the same
    number of frames, and a division by a process's own count would pass for one by that of all."""
    return Order([1.0] * EXAMPLES, 1, Counted(size))


def make_job(folder: Path, config: TrainConfig, **changes: Any) -> Training:
    """The job; `changes` replaces fields of it, or says `dropout=`, `delay=`, `spoil_at=`."""
    dropout, delay = changes.pop("dropout", 0.0), changes.pop("delay", 0.0)
    spoil_at = changes.pop("spoil_at", -1)
    accelerator = Accelerator(cpu=True)
    order = examples(config.batch)
    share = Share(accelerator.process_index, accelerator.num_processes, config.accumulation)
    torch.manual_seed(7)
    encoder = Small(dropout)
    head = Frames(8, CLASSES, Frames.Options())
    model = Model(encoder, LayerMix(2, "mix"), head)

    def batches(step: int) -> list[Batch]:
        time.sleep(delay)
        return [batch(part, step, step == spoil_at) for part in share.cut(order.at(step)[1])]

    def evaluate(step: int) -> tuple[dict[str, float], float]:
        with torch.no_grad():
            logits, _ = model(batch(list(range(8)), 0))
        return {"mean": float(logits.mean())}, float(logits.mean())

    job = Training(
        model,
        Multilabel(CLASSES, [CLASSES], Multilabel.Options()),
        batches,
        evaluate,
        config,
        11,
        folder / "checkpoints",
        accelerator,
        observers([]),
        RunInfo("x", str(folder), "t", "c", "e", config.steps, {}),
        lambda: False,
    )
    for key, value in changes.items():
        setattr(job, key, value)
    return job


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--no-dev", action="store_true")
    parser.add_argument("--bare", action="store_true", help="an update in proportion to gradients")
    args = parser.parse_args()
    # AdamW takes a gradient's scale away, and clipping the scale of a large one: neither would show
    # that a loss was divided by a wrong number. With a large eps, and unclipped, it does.
    bare = {"eps": 10.0, "clip": None, "lr": 1.0} if args.bare else {"lr": 1e-2}
    config = TrainConfig(
        steps=args.steps, batch=12, accumulation=args.accumulation,
        schedule="linear", warmup=3, save_every=2, eval_every=5, **bare,
    )  # fmt: skip
    # The last weights: the best ones may have been reached before a stop, and say nothing of it.
    changes: dict[str, Any] = {"keep": "last"} | ({"evaluate": None} if args.no_dev else {})
    job = make_job(args.out, config, dropout=args.dropout, delay=args.delay, **changes)
    Trainer(job).fit()
    if job.accelerator.is_main_process:
        save_file(job.model.state_dict(), args.out / "final.safetensors")
    job.accelerator.wait_for_everyone()
    job.accelerator.end_training()  # closes the connections in order


if __name__ == "__main__":
    main()

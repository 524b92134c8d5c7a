"""A small pretraining job, run by test_pretrain_layout in processes of its own.

`python objectives_worker.py masked OUT --accumulation 4` trains a small encoder for 20 steps on
made-up waves of unequal lengths and writes the final weights to OUT/final.safetensors.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from bab.core.interfaces import Objective
from bab.core.observers import observers
from bab.core.options import TrainConfig
from bab.core.record import RunInfo
from bab.core.seeds import derive
from bab.core.trainer import Trainer, Training
from bab.core.types import Batch, Clip, Waves
from bab.data.sampling import Counted, Order, Share
from bab.plugins.encoders.wav2vec2 import Wav2Vec2
from bab.plugins.objectives.contrastive import Contrastive
from bab.plugins.objectives.masked import Masked
from bab.pretraining.masking import span_mask
from bab.pretraining.running import Pretraining

EXAMPLES, BATCH, CLUSTERS = 32, 8, 12
SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": [24] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def make_batch(encoder: Any, indices: list[int], step: int) -> Batch:
    """Noise, masks and labels; each example's from its number, and its mask from the step too."""
    sizes = [6000 + 700 * (index % 7) for index in indices]
    frames = [encoder.grid.frames(size) for size in sizes]
    samples = torch.zeros(len(sizes), max(sizes))
    mask = torch.zeros(len(sizes), max(frames), dtype=torch.bool)
    targets = torch.zeros(len(sizes), max(frames), dtype=torch.int64)
    for row, (index, size, count) in enumerate(zip(indices, sizes, frames, strict=True)):
        draw = torch.Generator().manual_seed(index)
        samples[row, :size] = torch.randn(size, generator=draw) * 0.1
        targets[row, :count] = torch.randint(CLUSTERS, (count,), generator=draw)
        mask[row, :count] = span_mask(count, 0.5, 3, 1, derive("mask", step, index))
    seeds = tuple(derive("example", step, index) for index in indices)
    clips = tuple(Clip(f"{i}", "", 0.0, n / 16000, "") for i, n in zip(indices, sizes, strict=True))
    waves = Waves(samples, torch.tensor(sizes))
    return Batch(waves, targets, torch.tensor(frames), clips, step, mask=mask, seeds=seeds)


def make_objective(kind: str, encoder: Any) -> Objective:
    """masked; contrastive; or plain: contrastive without the term that is not a sum."""
    objective: Objective
    if kind == "masked":
        objective = Masked(encoder.dim, [CLUSTERS], Masked.Options(final_dim=16))
    else:
        options = Contrastive.Options(
            codes=10,
            codevector_dim=16,
            projection=16,
            negatives=10,
            diversity_weight=0.0 if kind == "plain" else 1.0,
        )
        objective = Contrastive(encoder.dim, [], options)
    objective.attach(encoder)
    return objective


def make_job(kind: str, folder: Path, accumulation: int, steps: int) -> Training:
    accelerator = Accelerator(cpu=True)
    share = Share(accelerator.process_index, accelerator.num_processes, accumulation)
    order = Order([1] * EXAMPLES, 1, Counted(BATCH))
    torch.manual_seed(7)
    encoder = Wav2Vec2.load("random-tiny", Wav2Vec2.Options(dropout=0.0, size=SIZE))
    objective = make_objective(kind, encoder)
    # Plain gradients: Adam divides them by their size, and with it tells rounding from rounding.
    config = TrainConfig(
        steps=steps, batch=BATCH, accumulation=accumulation, lr=2e-3, warmup=2, eps=1e-3
    )
    return Training(
        Pretraining(encoder),
        objective,
        lambda step: [make_batch(encoder, part, step) for part in share.cut(order.at(step)[1])],
        None,
        config,
        11,
        folder / "checkpoints",
        accelerator,
        observers([]),
        RunInfo("x", str(folder), "t", "c", "e", config.steps, {}),
        lambda: False,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["masked", "contrastive", "plain"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--accumulation", type=int, default=1)
    args = parser.parse_args()
    job = make_job(args.kind, args.out, args.accumulation, args.steps)
    trainer = Trainer(job)
    before = {name: value.clone() for name, value in trainer.bundle.state_dict().items()}
    trainer.fit()
    if job.accelerator.is_main_process:
        after = trainer.bundle.state_dict()
        save_file(
            {**after, **{f"before.{k}": v for k, v in before.items()}},
            args.out / "final.safetensors",
        )
    job.accelerator.wait_for_everyone()
    job.accelerator.end_training()  # closes the connections in order


if __name__ == "__main__":
    main()

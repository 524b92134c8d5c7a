"""One step of contrastive pretraining in bab beside the same step in transformers.

    python benchmarks/pretrain_step.py [--size base|tiny] [--batch 4] [--seconds 8] [--pairs 7]
        [--device cpu|cuda] [--precision fp32|bf16] [--their-precision fp32] [--threads N]
        [--cpu-time] [--keep-memory]

Both are in one process, with the same weights, audio (equal lengths, no attention mask), masks,
dropouts and AdamW (bab's in one kernel, as its trainer has it; transformers' as its script has it,
which is torch's default). transformers' side is its `Wav2Vec2ForPreTraining` with what that script
does on the way: `_compute_mask_indices`, `_sample_negative_indices`. bab's is the encoder,
the objective, and its own masks and negatives. A timed step is masks, negatives, forward, backward,
gradient norm, update. bab standardises the audio inside its step; transformers gets it done.

Each draws masks for itself, at its own cost, and then both take transformers': the work that
follows is on the same frames. Before anything is timed, the two losses are compared, with the same
negatives and without noise. Steps alternate, and which comes first alternates too; medians are
printed, with the range of the ratio over pairs. --keep-memory is
`bab.machine.memory.keep_memory`, for the whole process, and so for both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    _compute_mask_indices,
    _sample_negative_indices,
)

from bab.core.seeds import derive
from bab.core.types import Batch, Waves
from bab.kit.layers import standardise
from bab.machine.memory import keep_memory
from bab.plugins.encoders.wav2vec2 import Wav2Vec2
from bab.plugins.objectives.contrastive import Contrastive
from bab.plugins.objectives.shared.negatives import negatives
from bab.pretraining.masking import span_mask
from bab.pretraining.running import Pretraining

RATE = 16_000
PROB, LENGTH, MINIMUM, NEGATIVES = 0.65, 10, 2, 100
TINY: dict[str, Any] = {
    "conv_dim": [96] * 7,
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 576,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 16,
}


class Both:
    """The two models on the same weights, each with its optimizer."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device, self.precision = torch.device(args.device), args.precision
        self.their_precision = args.their_precision or args.precision
        self.clock = time.process_time if args.cpu_time else time.perf_counter
        torch.manual_seed(0)
        config = transformers.Wav2Vec2Config(
            **(TINY if args.size == "tiny" else {}), layerdrop=0.0, num_negatives=NEGATIVES
        )
        self.theirs = transformers.Wav2Vec2ForPreTraining(config)
        with tempfile.TemporaryDirectory() as folder:
            self.theirs.save_pretrained(folder)
            transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
            encoder = Wav2Vec2.load(str(Path(folder)), Wav2Vec2.Options())
        self.objective = Contrastive(encoder.dim, [], Contrastive.Options(negatives=NEGATIVES))
        self.objective.attach(encoder)
        assert self.objective.load_pretrained(encoder.extras())
        self.model, self.grid = Pretraining(encoder), encoder.grid
        for module in (self.theirs, self.model, self.objective):
            module.to(self.device)
        samples = torch.randn(args.batch, round(args.seconds * RATE), device=self.device) * 0.1
        lengths = torch.full((args.batch,), samples.shape[1], device=self.device)
        self.waves, self.standardised = Waves(samples, lengths), standardise(samples, lengths)
        self.shape = (args.batch, self.grid.frames(samples.shape[1]))
        self.our_weights = [*self.model.parameters(), *self.objective.parameters()]
        # As bab's trainer has it; transformers' pretraining script takes torch's default.
        self.our_optimizer = torch.optim.AdamW(self.our_weights, lr=5e-5, fused=True)
        self.their_optimizer = torch.optim.AdamW(self.theirs.parameters(), lr=5e-5)

    def train(self, mode: bool) -> None:
        for module in (self.theirs, self.model, self.objective):
            module.train(mode)

    def cast(self, precision: str) -> AbstractContextManager[Any]:
        on = precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=on)

    def batch(self, mask: Tensor, step: int) -> Batch:
        seeds = tuple(derive("example", step, row) for row in range(len(mask)))
        frames = torch.full((len(mask),), mask.shape[1])
        return Batch(self.waves, torch.zeros(0), frames, (), step, mask=mask, seeds=seeds)

    def our_loss(self, batch: Batch) -> Tensor:
        loss = self.objective(self.model, batch)
        counts = self.objective.counts(batch)
        return sum(
            (term.weight * term.total / counts[name] for name, term in loss.terms.items()),
            torch.zeros((), device=self.device),
        )

    def their_loss(self, mask: np.ndarray[Any, Any], drawn: np.ndarray[Any, Any]) -> Tensor:
        out = self.theirs(
            self.standardised,
            mask_time_indices=torch.from_numpy(mask).to(self.device),
            sampled_negative_indices=torch.from_numpy(drawn).to(self.device),
        )
        loss: Tensor = out.loss / mask.sum()
        return loss

    def mask(self) -> np.ndarray[Any, Any]:
        return _compute_mask_indices(self.shape, PROB, LENGTH, min_masks=MINIMUM)


def ours(both: Both, mask: np.ndarray[Any, Any], step: int) -> None:
    """One step of bab's, on the given mask, after drawing one of its own."""
    for row in range(both.shape[0]):
        span_mask(both.shape[1], PROB, LENGTH, MINIMUM, derive("mask", step, row))
    chosen = torch.from_numpy(mask).to(both.device)
    with both.cast(both.precision):
        loss = both.our_loss(both.batch(chosen, step))
    update(loss, both.our_weights, both.our_optimizer)


def theirs(both: Both, mask: np.ndarray[Any, Any], step: int) -> None:
    """One step of transformers', on the given mask, after drawing one."""
    both.mask()
    drawn = _sample_negative_indices(both.shape, NEGATIVES, mask)
    with both.cast(both.their_precision):
        loss = both.their_loss(mask, drawn)
    update(loss, list(both.theirs.parameters()), both.their_optimizer)


def update(loss: Tensor, weights: list[Any], optimizer: torch.optim.Optimizer) -> None:
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    optimizer.zero_grad()


def difference(both: Both) -> float:
    """Relative, between the two losses: same mask and negatives, no dropout, no noise."""
    both.train(False)
    mask = both.mask()
    batch = both.batch(torch.from_numpy(mask).to(both.device), 0)
    drawn = np.zeros((*both.shape, NEGATIVES), dtype=np.int64)
    for row, (places, seed) in enumerate(zip(mask, batch.seeds, strict=True)):
        found = np.flatnonzero(places)
        picked = negatives(len(found), NEGATIVES, derive(seed, "negatives"), both.device)
        drawn[row, found] = row * both.shape[1] + found[picked.cpu().numpy()]
    with torch.no_grad():
        a, b = float(both.our_loss(batch)), float(both.their_loss(mask, drawn))
    both.train(True)
    return abs(a - b) / abs(b)


def timed(
    step: Callable[[Both, np.ndarray[Any, Any], int], None],
    both: Both,
    mask: np.ndarray[Any, Any],
    number: int,
) -> float:
    """Wall seconds of one step, or the CPU's."""
    wait = torch.cuda.synchronize if both.device.type == "cuda" else lambda: None
    wait()
    began = both.clock()
    step(both, mask, number)
    wait()
    return both.clock() - began


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=["base", "tiny"], default="base")
    parser.add_argument("--batch", type=int, default=4, help="clips in a batch")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a clip")
    parser.add_argument("--pairs", type=int, default=7, help="steps of each, after one to warm up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--their-precision", choices=["fp32", "bf16"], help="unset: the same")
    parser.add_argument("--cpu-time", action="store_true", help="of this process, not by the clock")
    parser.add_argument("--threads", type=int, default=None, help="of torch; unset: its default")
    parser.add_argument("--keep-memory", action="store_true", help="see bab.machine.memory")
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    kept = args.keep_memory and keep_memory()
    np.random.seed(0)
    both = Both(args)
    apart = difference(both)
    print(f"losses differ by {apart:.1e} (relative)")
    if apart > 1e-4:
        sys.exit("the two do not compute the same: no times")
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number in range(args.pairs + 1):
        mask, pair = both.mask(), [("ours", ours), ("theirs", theirs)]
        for name, step in pair if number % 2 else reversed(pair):
            spent = timed(step, both, mask, number)
            if number:  # the first warms up
                seconds[name].append(spent)
    audio = args.batch * args.seconds
    for name, label in (("ours", "bab"), ("theirs", "transformers")):
        middle = statistics.median(seconds[name])
        print(
            f"{label:<13} {middle:8.3f} s a step   {audio / middle:10.1f} audio seconds per second"
        )
    ratios = sorted(b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True))
    print(
        f"ratio {statistics.median(seconds['theirs']) / statistics.median(seconds['ours']):.2f} "
        f"of medians; {ratios[0]:.2f} to {ratios[-1]:.2f} over {args.pairs} pairs\n"
        f"{args.size}, {args.batch} x {args.seconds:g} s, {both.precision} beside "
        f"{both.their_precision}, {args.device}{', CPU time' if args.cpu_time else ''}, "
        f"{torch.get_num_threads()} threads, {'memory kept, ' if kept else ''}"
        f"torch {torch.__version__}, "
        f"transformers {transformers.__version__}"
    )


if __name__ == "__main__":
    main()

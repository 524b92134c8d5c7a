"""Many linear heads on frames at once: see bab.benching.sweep, whose members get one frame a clip.

A member's layer mix and head are one matrix (bab.benching.affine). The members of a seed see the
same batch, so its frames are read once for all their learning rates, and go through one product.
On dev all members answer together, and each is tuned and scored by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from bab.benching import affine
from bab.benching.sweep import Sweep
from bab.core.trainer import weighted
from bab.core.types import Batch, Features, Output
from bab.running.fold import Evaluation
from bab.running.model import Answered, Model


class FrameSweep(Sweep):
    """Trains what `unfit` has no objection to, where heads map each frame by itself."""

    def _total(self, made: dict[int, list[Batch]], divisors: dict[int, dict[str, float]]) -> Tensor:
        matrices, biases = self._maps(_width(next(iter(made.values()))[0]))
        total = torch.zeros((), device=self.device)
        for seed, parts in made.items():
            own = [i for i, member in enumerate(self.members) if member.seed == seed]
            objective = self.members[own[0]].objective
            for part in parts:
                told = affine.said(_states(part), matrices[own], biases[own])
                model = Answered(told.flatten(0, 1), part.inputs.lengths.repeat(len(own)))
                loss = objective(model, _repeated(part, len(own)))
                total = total + weighted(loss, divisors[seed])[0]
        return total

    def _maps(self, dim: int) -> tuple[Tensor, Tensor]:
        return affine.maps(self.base, self.parameters, self.buffers, dim)

    def _judged(self, step: int) -> Iterator[tuple[int, tuple[dict[str, float], float]]]:
        judges = [member.evaluate for member in self.members]
        first = judges[0]
        if not isinstance(first, Evaluation):
            yield from super()._judged(step)
            return
        with torch.no_grad():
            model = _Together(*self._maps(first.context.parts.encoder.dim))
            outputs = first.outputs(model)
        for i, judge in enumerate(judges):
            if self.alive[i] and isinstance(judge, Evaluation):
                yield i, judge.judged(list(model.of(i, outputs)))


class _Together(Model):
    """The models of `affine.maps` as one whose classes are those of the first, the second, ..."""

    def __init__(self, matrices: Tensor, biases: Tensor) -> None:
        nn.Module.__init__(self)  # it has no parts
        self.matrices, self.biases = matrices, biases

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        told = affine.said(_states(batch), self.matrices, self.biases)
        return told.permute(1, 2, 0, 3).flatten(2), batch.inputs.lengths

    def of(self, model: int, outputs: Sequence[Output]) -> Iterator[Output]:
        """What one of the models said."""
        classes = self.biases.shape[1]
        begin = model * classes
        for one in outputs:
            yield Output(one.clip, one.values[:, begin : begin + classes].copy(), one.first)


def _states(batch: Batch) -> Tensor:
    assert isinstance(batch.inputs, Features)
    return batch.inputs.states


def _width(batch: Batch) -> int:
    return _states(batch).shape[-1]


def _repeated(batch: Batch, times: int) -> Batch:
    """A batch's examples, again for each member; the inputs, which nobody reads, once."""
    targets = batch.targets
    return Batch(
        batch.inputs,
        targets.repeat(times, *[1] * (targets.ndim - 1)),
        batch.target_lengths.repeat(times),
        batch.clips * times,
        batch.step,
    )

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

    def _gradients(
        self, made: dict[int, list[Batch]], divisors: dict[int, dict[str, float]]
    ) -> Sequence[Tensor]:
        # A seed after the other, with respect to what the maps are: its frames are near yet when
        # the gradient is taken.
        maps = self._maps(_width(next(iter(made.values()))[0]))
        slopes = [torch.zeros_like(one) for one in maps]
        for seed, parts in made.items():
            own = [i for i, member in enumerate(self.members) if member.seed == seed]
            objective = self.members[own[0]].objective
            told = [one.detach()[own].requires_grad_() for one in maps]
            for part in parts:
                logits = affine.said(_states(part), *told).flatten(0, 1)
                model = Answered(logits, part.inputs.lengths.repeat(len(own)))
                loss = objective(model, _repeated(part, len(own)))
                total = weighted(loss, divisors[seed])[0]
                for slope, more in zip(slopes, torch.autograd.grad(total, told), strict=True):
                    slope[own] += more
        return torch.autograd.grad(maps, list(self.parameters.values()), slopes)

    def _maps(self, dim: int) -> tuple[Tensor, Tensor]:
        return affine.maps(self.base, self.parameters, self.buffers, dim)

    def _judged(self, step: int) -> Iterator[tuple[int, tuple[dict[str, float], float]]]:
        judges = [member.evaluate for member in self.members]
        first = judges[0]
        if not isinstance(first, Evaluation):
            yield from super()._judged(step)
            return
        with torch.no_grad():
            model = _Mapped(*self._maps(first.context.parts.encoder.dim))
            outputs = first.outputs(model)
        for i, judge in enumerate(judges):
            if self.alive[i] and isinstance(judge, Evaluation):
                yield i, judge.judged(list(model.of(i, outputs)), step)


class Together(Model):
    """Models as one whose classes are those of the first, the second, ..."""

    classes: int  # of each

    def of(self, model: int, outputs: Sequence[Output]) -> Iterator[Output]:
        """What one of the models said."""
        begin = model * self.classes
        for one in outputs:
            yield Output(one.clip, one.values[:, begin : begin + self.classes].copy(), one.first)


class Several(Together):
    """Models that answer one after the other, as each would alone, to the same features."""

    def __init__(self, models: Sequence[Model]) -> None:
        nn.Module.__init__(self)  # it has no parts
        self.models, self.classes = list(models), models[0].head.outputs

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return torch.cat([one.eval()(batch)[0] for one in self.models], -1), batch.inputs.lengths


class _Mapped(Together):
    """The models of `affine.maps`."""

    def __init__(self, matrices: Tensor, biases: Tensor) -> None:
        nn.Module.__init__(self)  # it has no parts
        self.matrices, self.biases, self.classes = matrices, biases, biases.shape[1]

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        told = affine.said(_states(batch), self.matrices, self.biases)
        return told.permute(1, 2, 0, 3).flatten(2), batch.inputs.lengths


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

"""Many small heads at once: the runs of a learning-rate grid and its seeds in one vectorised pass.

Where a head gets one frame per clip (cached means), a training step is a few tiny products, and its
cost is overhead. So the members' parameters are stacked, the forward and backward passes are done
for all of them together, and AdamW is elementwise with a rate per member. Each member sees the very
batches, weights and schedule that its own Trainer would give it, and leaves the checkpoint that the
Trainer would have left after its last step: the run then goes on from there, to its dev and test
scores. Equal to one after the other up to the rounding of sums (tests/test_sweep.py: 1e-5).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from bab.core import checkpoint
from bab.core.checkpoint import State
from bab.core.errors import InterruptedRunError
from bab.core.interfaces import Scorer
from bab.core.model import Model
from bab.core.records import Batch, Features
from bab.core.trainer import Bundle, Job, schedule

Tensors = dict[str, Tensor]  # by parameter name, each with the members first: [M, ...]


def unfit(jobs: Sequence[Job]) -> str:
    """Why these can't be trained together exactly; "" where they can.

    Together go jobs that differ in nothing but the learning rate and the seed, of heads that get
    one frame per clip and draw nothing at random, under objectives without weights of their own.
    """
    first = jobs[0]
    plain = replace_rate(first)
    if any(replace_rate(job) != plain for job in jobs):
        return "they differ in more than the learning rate and the seed"
    if first.model.encoder is not None or not first.model.pool:
        return "the head does not get one cached frame per clip"
    assert isinstance(first.model, Model)
    if not first.model.head.linear:
        return "the head is not linear after pooling"
    if any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in first.model.modules()):
        return "the head has dropout"
    if any(True for _ in first.objective.parameters()):
        return "the objective has weights of its own"
    if first.config.patience is not None:
        return "train.patience ends each run at a step of its own"
    if first.config.precision != "fp32" or first.accelerator.num_processes > 1:
        return "only fp32 in one process is trained together"
    return ""


def replace_rate(job: Job) -> object:
    """A job's training options with the learning rate taken out."""
    return job.config.model_copy(update={"lr": 1.0})


class Sweep:
    """Trains jobs for which `unfit` has no objection."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.config = jobs[0].config
        self.device = jobs[0].accelerator.device
        self.states = [State() for _ in jobs]
        self.alive = [True] * len(jobs)
        models = [job.model.to(self.device) for job in jobs]
        for job in jobs:
            job.objective.to(self.device)
        parameters, self.buffers = stack_module_state(models)
        self.parameters: Tensors = {k: v.detach().requires_grad_() for k, v in parameters.items()}
        self.mean = {k: torch.zeros_like(v) for k, v in self.parameters.items()}
        self.square = {k: torch.zeros_like(v) for k, v in self.parameters.items()}
        self.base = copy.deepcopy(models[0]).to("meta")

    def fit(self) -> list[State | None]:
        """Train to the last step. Each member's checkpoints are in its job's folder afterwards; one
        that diverged has None and no checkpoint, for its own run to report.

        Raises:
            InterruptedRunError: the user wants out; nothing is kept, a sweep is short.
        """
        for step in range(self.config.steps):
            if self.jobs[0].stop():
                raise InterruptedRunError(f"stopped at step {step} of {self.config.steps}")
            self._step(step)
            if step + 1 == self.config.steps or (step + 1) % self.config.eval_every == 0:
                self._evaluate(step + 1)
        return [self._keep(i) if self.alive[i] else None for i in range(len(self.jobs))]

    def _step(self, step: int) -> None:
        batches = {job.seed: job for job in self.jobs}
        made = {
            seed: [part.to(self.device) for part in job.batches(step)]
            for seed, job in batches.items()
        }
        total = torch.zeros((), device=self.device)
        for index in range(len(made[self.jobs[0].seed])):
            parts = [made[job.seed][index] for job in self.jobs]
            for i, logits in enumerate(self._forward(parts)):
                total = total + self._loss(i, made[self.jobs[i].seed], parts[i], logits)
        found = torch.autograd.grad(total, list(self.parameters.values()))
        gradients = dict(zip(self.parameters, found, strict=True))
        for i, finite in enumerate(self._clip(gradients).isfinite().tolist()):
            self.alive[i] = self.alive[i] and finite
        rate = schedule(self.config, step)
        self._update(gradients, [job.config.lr * rate for job in self.jobs], step + 1)
        for i, job in enumerate(self.jobs):
            self.states[i].step = step + 1
            clips = [clip for part in made[job.seed] for clip in part.clips]
            self.states[i].audio_seconds += sum(clip.duration for clip in clips)

    def _forward(self, parts: Sequence[Batch]) -> Tensor:
        """The outputs of all members, each for its own batch: f32[M, B, C]."""
        inputs = [part.inputs for part in parts]
        states = torch.stack([one.states for one in inputs if isinstance(one, Features)])
        lengths = torch.stack([one.lengths for one in inputs])

        def one(parameters: Tensors, buffers: Tensors, x: Tensor, n: Tensor) -> Tensor:
            batch = Batch(Features(x, n), n, n, (), 0)
            output: Tensor = functional_call(self.base, (parameters, buffers), (batch,))[0]
            return output

        found: Tensor = torch.vmap(one)(self.parameters, self.buffers, states, lengths)
        return found

    def _loss(self, i: int, parts: Sequence[Batch], part: Batch, logits: Tensor) -> Tensor:
        """What the Trainer takes the gradient of: each term's sum over its count in the step."""
        objective = self.jobs[i].objective
        counts: dict[str, float] = {}
        for one in parts:
            for key, count in objective.counts(one).items():
                counts[key] = counts.get(key, 0.0) + count
        loss = objective(_Said(logits, part.inputs.lengths), part)
        terms = [t.weight * t.total / (counts[key] or 1.0) for key, t in loss.terms.items()]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def _clip(self, gradients: Tensors) -> Tensor:
        """Scale each member's gradient as `clip_grad_norm_` does; its norms, f32[M]."""
        squares = [g.flatten(1).square().sum(1) for g in gradients.values()]
        norms = torch.stack(squares).sum(0).sqrt()
        if self.config.clip is not None:
            scale = (self.config.clip / (norms + 1e-6)).clamp(max=1.0)
            for gradient in gradients.values():
                gradient.mul_(_column(scale, gradient))
        return norms

    @torch.no_grad()
    def _update(self, gradients: Tensors, rates: Sequence[float], count: int) -> None:
        """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with a rate per member."""
        first, second = self.config.betas
        rate = torch.tensor(rates, dtype=torch.float64, device=self.device)
        decay = (1 - rate * self.config.weight_decay).float()
        size = (rate / (1 - first**count)).float()
        correction = (1 - second**count) ** 0.5
        for name, p in self.parameters.items():
            gradient, mean, square = gradients[name], self.mean[name], self.square[name]
            p.mul_(_column(decay, p))
            mean.lerp_(gradient, 1 - first)
            square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            p.sub_(_column(size, p) * (mean / (square.sqrt() / correction + self.config.eps)))

    def _evaluate(self, step: int) -> None:
        for i, job in enumerate(self.jobs):
            if not self.alive[i] or job.evaluate is None:
                continue
            bundle, state = self._bundle(i), self.states[i]
            bundle.eval()
            metrics, value = job.evaluate(step)
            if state.best_step < 0 or value > state.best_value:
                state.best_step, state.best_value, state.best_metrics = step, value, metrics
                state.stale = 0
                checkpoint.save_best(job.folder, bundle, step)
            else:
                state.stale += 1

    @torch.no_grad()
    def _bundle(self, i: int) -> Bundle:
        """A member's model with its weights of this moment in it, and its objective."""
        job = self.jobs[i]
        for name, parameter in job.model.named_parameters():
            parameter.copy_(self.parameters[name][i])
        return Bundle(job.model, job.objective)

    def _keep(self, i: int) -> State:
        """Leave the checkpoint that a Trainer at its end would have left."""
        job, bundle, state = self.jobs[i], self._bundle(i), self.states[i]
        optimizer = torch.optim.AdamW(bundle.parameters(), lr=job.config.lr)
        for name, parameter in job.model.named_parameters():
            optimizer.state[parameter] = {
                "step": torch.tensor(float(state.step)),
                "exp_avg": self.mean[name][i].clone(),
                "exp_avg_sq": self.square[name][i].clone(),
            }
        checkpoint.save(job.folder, bundle, optimizer, state)
        checkpoint.prune(job.folder, state)
        return replace(state)


class _Said(Scorer):
    """Stands for the model before an objective: its output is known already."""

    def __init__(self, logits: Tensor, lengths: Tensor) -> None:
        super().__init__()
        self.encoder = None
        self.logits, self.lengths = logits, lengths

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.logits, self.lengths


def _column(values: Tensor, like: Tensor) -> Tensor:
    """[M] -> [M, 1, ...], to multiply [M, ...]."""
    return values.view(-1, *[1] * (like.ndim - 1))

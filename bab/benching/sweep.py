"""Many small heads at once: the runs of a learning-rate grid and its seeds in one vectorised pass.

Where a head gets one frame per clip (cached means), a training step is a few tiny products, and its
cost is overhead. So the members' parameters are stacked, the forward and backward passes are done
for all of them together, and one fused AdamW updates the members of each rate at once. Each
member sees the very batches, weights and schedule that its own Trainer would give it, and leaves
the checkpoint that the Trainer would have left after its last step: the run then goes on from
there, to its dev and test scores. Equal to one after the other up to the rounding of sums
(tests/test_sweep.py: 1e-5).
A sweep that is stopped leaves each member's checkpoint of that step, and goes on from those.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from bab.benching.affine import Tensors, affine
from bab.core import checkpoint
from bab.core.checkpoint import State
from bab.core.errors import InterruptedRunError
from bab.core.loader import Prefetcher
from bab.core.trainer import Bundle, Training, adamw, counted, schedule, weighted
from bab.core.types import Batch, Features
from bab.running.model import Answered, Model

_SAVE_SECONDS = 60.0  # after which all members are saved in any case
_OFTEN = 10.0  # no sooner than that after the last time, at a multiple of `train.save_every`


def unfit(members: Sequence[Training], dim: int = 0) -> str:
    """Why these can't be trained together exactly; "" where they can.

    Together go those that differ in nothing but the learning rate and the seed, of linear heads
    that get one frame per clip, or map each frame by itself, and draw nothing at random, under
    objectives without weights of their own. dim: the width of a frame, where they map each one.
    """
    first = members[0]
    plain = replace_rate(first)
    if any(replace_rate(member) != plain for member in members):
        return "they differ in more than the learning rate and the seed"
    assert isinstance(first.model, Model)
    framed = not first.model.pool
    if first.model.encoder is not None or (framed and not dim):
        return "the head does not get one cached frame per clip"
    if not framed and not first.model.head.linear:
        return "the head is not linear after pooling"
    if any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in first.model.modules()):
        return "the head has dropout"
    if framed and not affine(first.model.head, dim):
        return "the head gets more than one cached frame per clip, and is not linear on each"
    if any(True for _ in first.objective.parameters()):
        return "the objective has weights of its own"
    if first.config.patience is not None:
        return "train.patience ends each run at a step of its own"
    if first.config.precision != "fp32" or first.accelerator.num_processes > 1:
        return "only fp32 in one process is trained together"
    return ""


def replace_rate(member: Training) -> object:
    """A training's options with the learning rate taken out."""
    return member.config.model_copy(update={"lr": 1.0})


class Sweep:
    """Trains what `unfit` has no objection to, from their checkpoints if they have any.

    Raises:
        ValueError: the newest checkpoints are not of one step; BabError: one is damaged.
    """

    def __init__(self, members: Sequence[Training]) -> None:
        # Members of one rate stand together: a slice of the stacks is updated at once.
        order = sorted(range(len(members)), key=lambda i: members[i].config.lr)
        self.places = [order.index(i) for i in range(len(members))]
        members = self.members = [members[i] for i in order]
        self.config = members[0].config
        self.device = members[0].accelerator.device
        self.states = [State() for _ in members]
        self.alive = [True] * len(members)
        models = [member.model.to(self.device) for member in members]
        for member in members:
            member.objective.to(self.device)
        resumed = [self._resumed(i) for i in range(len(members))]
        if len({state.step for state in self.states}) > 1:
            raise ValueError("jobs of different steps can't be trained together")
        parameters, self.buffers = stack_module_state(models)
        self.parameters: Tensors = {
            k: _laid(v.detach()).requires_grad_() for k, v in parameters.items()
        }
        self.rates = _runs([member.config.lr for member in members])
        self.slices = [
            {k: v.detach()[where].requires_grad_() for k, v in self.parameters.items()}
            for _, where in self.rates
        ]
        self.optimizer = self._optimizer(resumed)
        first = models[0]
        assert isinstance(first, Model)
        self.base: Model = copy.deepcopy(first).to("meta")

    def _resumed(self, i: int) -> torch.optim.Optimizer:
        """Put a member where its newest checkpoint stands; its optimizer of that moment."""
        member = self.members[i]
        bundle = Bundle(member.model, member.objective)
        optimizer = torch.optim.AdamW(bundle.parameters())
        newest, _ = checkpoint.newest(member.folder, member.run)
        if newest is not None:
            self.states[i] = checkpoint.restore(newest, bundle, optimizer)
        return optimizer

    def _optimizer(self, resumed: Sequence[torch.optim.Optimizer]) -> torch.optim.Optimizer:
        """AdamW over all slices, a group for each rate, each member as its own optimizer stood."""
        groups = [{"params": list(own.values()), "lr": 0.0} for own in self.slices]
        optimizer = adamw(groups, self.config, fused=True)
        for (_, where), own in zip(self.rates, self.slices, strict=True):
            for name, part in own.items():
                each = [
                    before.state.get(member.model.get_parameter(name), {})
                    for member, before in zip(self.members[where], resumed[where], strict=True)
                ]
                for key, value in each[0].items():
                    many = torch.stack([known[key].to(self.device) for known in each])
                    # AdamW counts its steps once for all that it updates at once.
                    whole = value.to(self.device) if value.ndim == 0 else _laid(many)
                    optimizer.state[part][key] = whole
        return optimizer

    def fit(self) -> list[State | None]:
        """Train to the last step. Each member's checkpoints are in its folder afterwards; one that
        diverged has None and no checkpoint of that step, for its own run to report.

        Raises:
            InterruptedRunError: the user wants out; each member's state was saved.
        """
        first, steps = self.members[0], self.config.steps
        began = saved = time.perf_counter()
        ahead = Prefetcher(self._made, self.states[0].step, steps, self.config.workers)
        for step, parts in ahead:
            self._step(step, parts)
            done, stopping = step + 1, first.stop()
            if done == steps or done % self.config.eval_every == 0:
                self._evaluate(done)
            now = time.perf_counter()
            for state in self.states:  # each has its share of the time
                state.seconds += (now - began) / len(self.members)
            began = now
            first.watchers.bab_progress(
                run=first.info, stage="training together", done=done, total=steps, unit="steps"
            )
            wait = _OFTEN if done % self.config.save_every == 0 else _SAVE_SECONDS
            due = now - saved > wait
            if done < steps and (stopping or due):
                self._save()
                saved = time.perf_counter()
            if done < steps and stopping:
                raise InterruptedRunError(
                    f"stopped at step {done} of {steps}; the same command goes on from here"
                )
        states = self._save()
        return [states[place] for place in self.places]

    def _made(self, step: int) -> list[Batch]:
        """The micro-batches of a step, of one seed after the other."""
        by_seed = {member.seed: member for member in self.members}
        return [part for member in by_seed.values() for part in member.batches(step)]

    def _step(self, step: int, parts: Sequence[Batch]) -> None:
        by_seed = {member.seed: member for member in self.members}
        each = len(parts) // len(by_seed)
        made = {
            seed: [part.to(self.device) for part in parts[i * each : (i + 1) * each]]
            for i, seed in enumerate(by_seed)
        }
        divisors = {
            seed: {k: n or 1.0 for k, n in counted(by_seed[seed].objective, parts).items()}
            for seed, parts in made.items()
        }
        raw = self._gradients(made, divisors)
        own = self.parameters.items()
        gradients = {k: _like(g, p) for (k, p), g in zip(own, raw, strict=True)}
        for i, finite in enumerate(self._clip(gradients).isfinite().tolist()):
            self.alive[i] = self.alive[i] and finite
        rate = schedule(self.config, step)
        self._update(gradients, rate)
        seconds = {
            seed: sum(clip.duration for part in parts for clip in part.clips)
            for seed, parts in made.items()
        }
        for member, state in zip(self.members, self.states, strict=True):
            state.step = step + 1
            state.audio_seconds += seconds[member.seed]

    def _gradients(
        self, made: dict[int, list[Batch]], divisors: dict[int, dict[str, float]]
    ) -> Sequence[Tensor]:
        """Of the sum of the members' losses, with respect to each stack of parameters.

        made, divisors: micro-batches, and the counts of terms over them, by seed.
        """
        total = torch.zeros((), device=self.device)
        for index in range(len(made[self.members[0].seed])):
            parts = [made[member.seed][index] for member in self.members]
            logits = self._forward(parts)
            for counts, members in self._alike(divisors):
                total = total + self._loss(members, counts, parts, logits)
        return torch.autograd.grad(total, list(self.parameters.values()))

    def _alike(
        self, divisors: dict[int, dict[str, float]]
    ) -> Iterator[tuple[dict[str, float], list[int]]]:
        """Members whose terms have the same counts in a step, so that one sum is theirs all."""
        groups: dict[tuple[tuple[str, float], ...], list[int]] = {}
        for i, member in enumerate(self.members):
            groups.setdefault(tuple(divisors[member.seed].items()), []).append(i)
        for counts, members in groups.items():
            yield dict(counts), members

    def _forward(self, parts: Sequence[Batch]) -> Tensor:
        """The outputs of all members, each for its own batch: f32[M, B, C]."""
        inputs = [part.inputs for part in parts]
        states = torch.stack([one.states for one in inputs if isinstance(one, Features)])
        lengths = torch.stack([one.lengths for one in inputs])

        def one(parameters: Tensors, buffers: Tensors, x: Tensor, n: Tensor) -> Tensor:
            batch = Batch(Features(x, n), n, n, (), 0)
            output: Tensor = functional_call(self.base, (parameters, buffers), (batch,))[0]
            return output

        logits: Tensor = torch.vmap(one)(self.parameters, self.buffers, states, lengths)
        return logits

    def _loss(
        self, members: list[int], counts: dict[str, float], parts: Sequence[Batch], logits: Tensor
    ) -> Tensor:
        """What each member's Trainer takes the gradient of, summed over the members: each term's
        sum over its count in the step. Terms are sums, so one batch of all gives the same."""
        own = [parts[i] for i in members]
        together = Batch(
            own[0].inputs,
            torch.cat([part.targets for part in own]),
            torch.cat([part.target_lengths for part in own]),
            tuple(clip for part in own for clip in part.clips),
            own[0].step,
        )
        said = logits[members].flatten(0, 1)
        lengths = torch.cat([part.inputs.lengths for part in own])
        loss = self.members[members[0]].objective(Answered(said, lengths), together)
        return weighted(loss, counts)[0]

    @torch.no_grad()
    def _clip(self, gradients: Tensors) -> Tensor:
        """Scale each member's gradient as `clip_grad_norm_` does; its norms, f32[M]."""
        # `mT` only so that a row is in one piece: a norm does not mind the order.
        rows = [(g.mT if g.ndim == 3 else g).flatten(1) for g in gradients.values()]
        each = [torch.linalg.vector_norm(row, dim=1) for row in rows]
        norms: Tensor = torch.linalg.vector_norm(torch.stack(each), dim=0)
        if self.config.clip is not None and (norms > self.config.clip - 1e-5).any():
            scale = (self.config.clip / (norms + 1e-6)).clamp(max=1.0)
            for gradient in gradients.values():
                gradient.mul_(_column(scale, gradient))
        return norms

    def _update(self, gradients: Tensors, rate: float) -> None:
        """A step of each member. rate: the schedule's share of the members' learning rates."""
        groups = self.optimizer.param_groups
        for (lr, where), own, group in zip(self.rates, self.slices, groups, strict=True):
            group["lr"] = lr * rate
            for name, part in own.items():
                part.grad = gradients[name][where]
        self.optimizer.step()

    def _evaluate(self, step: int) -> None:
        for i, judged in self._judged(step):
            if self.states[i].judge(*judged):
                member = self.members[i]
                checkpoint.save_best(member.folder, self._bundle(i), step, member.run)

    def _judged(self, step: int) -> Iterator[tuple[int, tuple[dict[str, float], float]]]:
        """What dev says of each member that is still alive."""
        for i, member in enumerate(self.members):
            if self.alive[i] and member.evaluate is not None:
                self._bundle(i).eval()
                yield i, member.evaluate(step)

    @torch.no_grad()
    def _bundle(self, i: int) -> Bundle:
        """A member's model with its weights of this moment in it, and its objective."""
        member = self.members[i]
        for name, parameter in member.model.named_parameters():
            parameter.copy_(self.parameters[name][i])
        return Bundle(member.model, member.objective)

    def _save(self) -> list[State | None]:
        """Leave each member's checkpoint as a Trainer would; None for those that diverged."""
        return [self._keep(i) if self.alive[i] else None for i in range(len(self.members))]

    def _keep(self, i: int) -> State:
        member, bundle, state = self.members[i], self._bundle(i), self.states[i]
        optimizer = torch.optim.AdamW(bundle.parameters())
        group = next(g for g, (_, where) in enumerate(self.rates) if i < where.stop)
        place = i - self.rates[group][1].start
        for name, parameter in member.model.named_parameters():
            known = self.optimizer.state[self.slices[group][name]].items()
            optimizer.state[parameter] = {
                k: (v if v.ndim == 0 else v[place]).clone() for k, v in known
            }
        checkpoint.save(member.folder, bundle, optimizer, state, member.run)
        checkpoint.prune(member.folder, state)
        return replace(state)


def _runs(rates: Sequence[float]) -> list[tuple[float, slice]]:
    """Each stretch of equal rates: the rate, and where it stands."""
    stretches, begin = [], 0
    for rate, members in groupby(rates):
        end = begin + len(list(members))
        stretches.append((rate, slice(begin, end)))
        begin = end
    return stretches


def _laid(stacked: Tensor) -> Tensor:
    """The same values, matrices column by column in memory: so do the gradients of a stacked linear
    layer come, and nothing has to be turned round at each step. [M, ...] -> [M, ...]"""
    if stacked.ndim != 3:
        return stacked.contiguous()
    return stacked.transpose(1, 2).contiguous().transpose(1, 2)


def _like(gradient: Tensor, parameter: Tensor) -> Tensor:
    """A gradient in its parameter's memory order, which the fused update needs."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def _column(values: Tensor, like: Tensor) -> Tensor:
    """[M] -> [M, 1, ...], to multiply [M, ...]."""
    return values.view(-1, *[1] * (like.ndim - 1))

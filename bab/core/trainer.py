"""The one training loop, on Accelerate: probing, fine-tuning and pretraining alike.

A step's update is a function of the global batch alone. The loss arrives as sums with counts; the
counts of all micro-batches and ranks are added up before the first backward pass, and each sum is
divided by them once. So accumulation and DDP give what one big batch gives. All randomness is
drawn from (seed, step, rank), so a resumed run goes on to the same bytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bab.core import checkpoint
from bab.core.checkpoint import State
from bab.core.device import one_thread
from bab.core.errors import BabError, DivergedError, InterruptedRunError
from bab.core.interfaces import Objective, Scorer
from bab.core.loader import Prefetcher
from bab.core.observers import Watchers
from bab.core.options import TrainConfig
from bab.core.record import RunInfo
from bab.core.seeds import derive
from bab.core.types import Batch, Loss, pinned

_SKIPS = 50  # updates that fp16's scale, of 2^16 at first, may skip in a row: it is 2^-34 then
Evaluate = Callable[[int], tuple[dict[str, float], float]]
Logs = dict[str, tuple[float, float]]  # sums, and the counts they are over
Said = list[tuple[str, float | Tensor, float]]  # the same before anything was fetched or added up


class Bundle(nn.Module):
    """Model and objective as one module, so that DDP sees one forward pass and all the weights."""

    def __init__(self, model: Scorer, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(
        self, batch: Batch, divisors: dict[str, float]
    ) -> tuple[Tensor, dict[str, Tensor], Mapping[str, tuple[float | Tensor, float]]]:
        """The weighted sum of the terms, each over its divisor; the terms, and what else is worth
        a line in the log."""
        loss = self.objective(self.model, batch)
        total, parts = weighted(loss, divisors)
        return total, {k: v.detach() for k, v in parts.items()}, loss.logs


@dataclass(slots=True)
class Training:
    """What to train, on what, and who watches."""

    model: Scorer
    objective: Objective
    batches: Callable[[int], list[Batch]]  # this process's micro-batches of a step
    evaluate: Evaluate | None  # step -> dev metrics and the one that decides, higher is better
    config: TrainConfig
    seed: int
    folder: Path  # of checkpoints
    accelerator: Any
    watchers: Watchers
    info: RunInfo
    stop: Callable[[], bool]  # True once the user wants out
    keep: Literal["best", "last"] = "best"  # the weights that are in the model afterwards
    doubt: Callable[[Sequence[Batch]], str] = lambda parts: ""  # who made a loss infinite, if known

    @property
    def run(self) -> str:
        """Whose its checkpoints are."""
        return f"{self.info.id}/{self.info.fold}"


class Trainer:
    """Runs a Training to its end, from its newest checkpoint if there is one."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.accelerator = training.accelerator
        self.bundle = Bundle(training.model, training.objective)
        groups = parameter_groups(self.bundle, training.config)
        # One kernel for all: else the update is mostly overhead, at small sizes and on GPUs.
        device = self.accelerator.device.type
        self.optimizer = adamw(groups, training.config, fused=device in ("cpu", "cuda"))
        self.scales = [group["scale"] for group in self.optimizer.param_groups]
        self.state = State()
        self.bundle.to(self.accelerator.device)
        newest, damaged = checkpoint.newest(training.folder, training.run)
        for line in damaged:
            training.watchers.bab_notice(run=training.info, message=line)
        if newest is not None:
            self.state = checkpoint.restore(newest, self.bundle, self.optimizer)
            if self.state.step < training.config.steps:
                told = f"resuming from step {self.state.step} of {training.config.steps}"
                training.watchers.bab_notice(run=training.info, message=told)
        self.saved = time.monotonic()
        # One process without a loss scale needs none of Accelerate's costly care.
        self.plain = self.accelerator.num_processes == 1 and self.accelerator.scaler is None
        self.wrapped, self.stepper = self.bundle, self.optimizer
        if not self.plain or device != "cpu" or self.accelerator.mixed_precision != "no":
            self.wrapped, self.stepper = self.accelerator.prepare(self.bundle, self.optimizer)
        self._refuse_apart()
        self.parameters = list(self.bundle.parameters())
        self.skipped = 0  # updates in a row
        if self.state.scaler and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(self.state.scaler)

    def _refuse_apart(self) -> None:
        """Raises BabError: where one process alone went back from a checkpoint that it could not
        read, they would train on from two steps."""
        every = self.accelerator.num_processes * self.state.step
        if self._reduce([float(self.state.step)]) != [every]:
            raise BabError(
                f"the processes can't all read the checkpoints in {self.training.folder} (this one "
                f"goes on from step {self.state.step}): give the same command again"
            )

    def fit(self) -> State:
        """Train to the last step, or until dev has not improved for `patience` evaluations.

        The weights of the best dev score are in the model afterwards.

        Raises:
            DivergedError: a loss or gradient that is not finite; the last checkpoint stands.
            InterruptedRunError: Ctrl-C or SIGTERM; state was saved.
        """
        scorer = self.training.model
        with one_thread(scorer.encoder is None and scorer.pool):
            self._loop()
        self._load_best()
        if self.stepper is not self.optimizer:
            self.accelerator.free_memory()  # it would keep this model as long as it lives
        return self.state

    def _loop(self) -> None:
        self._train_mode()
        workers = self.training.config.workers
        steps = Prefetcher(self._made, self.state.step, self._end(), workers)
        for step, parts in steps:
            began = time.perf_counter()
            values, stopping = self._step(step, parts)
            self.state.step = step + 1
            self.state.seconds += time.perf_counter() - began
            self.training.watchers.bab_step(run=self.training.info, step=step + 1, values=values)
            last = step + 1 == self.training.config.steps
            evaluated = last or (step + 1) % self.training.config.eval_every == 0
            if evaluated:
                self._evaluate()
            late = time.monotonic() - self.saved >= 60 * self.training.config.save_minutes
            if evaluated or stopping or late or (step + 1) % self.training.config.save_every == 0:
                self._save()
            if stopping and not last:
                raise InterruptedRunError(
                    f"stopped at step {step + 1} of {self.training.config.steps}; "
                    "the same command goes on from here"
                )
            if self._patience_spent():
                break

    def _made(self, step: int) -> list[Batch]:
        """A step's batches; where a GPU waits for them, in memory that it reads by itself."""
        gpu = self.accelerator.device.type == "cuda"
        return [part.each(pinned) if gpu else part for part in self.training.batches(step)]

    def _end(self) -> int:
        """No further steps where the run had already stopped for want of improvement."""
        return self.state.step if self._patience_spent() else self.training.config.steps

    def _patience_spent(self) -> bool:
        patience = self.training.config.patience
        return patience is not None and self.state.stale >= patience

    def _step(self, step: int, parts: Sequence[Batch]) -> tuple[dict[str, float], bool]:
        self._seed(derive(self.training.seed, "step", step, self.accelerator.process_index))
        began = time.perf_counter()
        rate = self.training.config.lr * schedule(self.training.config, step)
        for group, scale in zip(self.optimizer.param_groups, self.scales, strict=True):
            group["lr"] = rate * scale
        sums, logs, norm = self._fetched(*self._backward(parts, self._divisors(parts)))
        seconds = sum(clip.duration for part in parts for clip in part.clips)
        flat = [x for pair in logs.values() for x in pair]
        totals = self._reduce([*sums.values(), *flat, seconds, float(self.training.stop())])
        losses = dict(zip(sums, totals, strict=False))
        whole = math.fsum(losses.values())
        self._check(whole, step, parts, "loss")
        self._update(step, parts, norm)
        self.state.audio_seconds += totals[-2]
        values = {"loss": whole, "lr": rate, "grad_norm": norm}
        if len(losses) > 1:
            values.update({f"loss/{k}": v for k, v in losses.items()})
        values.update(_means(logs, totals[len(sums) : -2]))
        values["audio_seconds"] = totals[-2]
        values["audio_hours"] = self.state.audio_seconds / 3600
        values["audio_per_second"] = totals[-2] / (time.perf_counter() - began)
        return values, totals[-1] > 0

    def _seed(self, seed: int) -> None:
        if self.accelerator.device.type == "cpu":
            # torch.manual_seed also notes, with a stack trace, what to do should CUDA come up.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _backward(
        self, parts: Sequence[Batch], divisors: dict[str, float]
    ) -> tuple[Said, Said, float | Tensor]:
        """Gradients of all micro-batches, cut to the largest norm; the terms of this process, what
        else was logged, and the norm: where the device has them."""
        sums: Said = [(key, 0.0, 0.0) for key in divisors]
        logs: Said = []
        for index, part in enumerate(parts):
            wait = index + 1 < len(parts)
            with self.accelerator.no_sync(self.wrapped) if wait else nullcontext():
                loss, terms, said = self.wrapped(part.to(self.accelerator.device), divisors)
                # DDP averages gradients over ranks; the sums were divided by the count over all.
                if self.plain:
                    loss.backward()
                else:
                    self.accelerator.backward(loss * self.accelerator.num_processes)
            sums += [(key, value, 0.0) for key, value in terms.items()]
            logs += [(key, total, count) for key, (total, count) in said.items()]
        return sums, logs, self._clipped()

    def _fetched(
        self, sums: Said, logs: Said, norm: float | Tensor
    ) -> tuple[dict[str, float], Logs, float]:
        """The same as numbers, added up by name: the one moment of a step that waits for a GPU."""
        values = [value for _, value, _ in (*sums, *logs)] + [norm]
        # A stranger's total may be of shape [1], and what it logs on another device.
        tensors = [value.detach().reshape(()) for value in values if isinstance(value, Tensor)]
        tensors = [one.to(tensors[-1].device) for one in tensors]
        fetched = iter(torch.stack(tensors).tolist() if tensors else [])
        numbers = iter([next(fetched) if isinstance(v, Tensor) else v for v in values])
        terms, told = dict[str, float](), Logs()
        for key, _, _ in sums:
            terms[key] = terms.get(key, 0.0) + next(numbers)
        for key, _, count in logs:
            before = told.get(key, (0.0, 0.0))
            told[key] = (before[0] + next(numbers), before[1] + count)
        return terms, told, next(numbers)

    def _divisors(self, parts: Sequence[Batch]) -> dict[str, float]:
        """The count of each term over all micro-batches and ranks."""
        own = counted(self.training.objective, parts)
        # A step may hold nothing that a term counts; its sum is 0 then. Weighted counts may be < 1.
        return {k: v or 1.0 for k, v in zip(own, self._reduce(list(own.values())), strict=True)}

    def _reduce(self, values: list[float]) -> list[float]:
        """Sums over ranks, in double precision where the device has it."""
        if self.accelerator.num_processes == 1:
            return values
        exact = torch.float32 if self.accelerator.device.type == "mps" else torch.float64
        tensor = torch.tensor(values, dtype=exact, device=self.accelerator.device)
        summed: list[float] = self.accelerator.reduce(tensor, reduction="sum").tolist()
        return summed

    def _update(self, step: int, parts: Sequence[Batch], norm: float) -> None:
        # In fp16 a gradient that overflows is expected now and then: the scaler skips that update,
        # and halves its scale. One that never ends is no matter of scale.
        self.skipped = 0 if math.isfinite(norm) else self.skipped + 1
        if self.accelerator.scaler is None or self.skipped > _SKIPS:
            self._check(norm, step, parts, "gradient norm")
        (self.optimizer if self.plain else self.stepper).step()
        for parameter in self.parameters:
            parameter.grad = None

    def _clipped(self) -> float | Tensor:
        """`clip_grad_norm_`, whose formula this is; on a CPU without its product where nothing is
        cut, elsewhere without waiting for the norm."""
        limit = math.inf if self.training.config.clip is None else self.training.config.clip
        if not self.plain:
            norm: Tensor = self.accelerator.clip_grad_norm_(self.wrapped.parameters(), limit)
            return norm
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not gradients:
            return 0.0
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if self.accelerator.device.type != "cpu":
            torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
        elif (known := float(norm)) + 1e-6 > limit:
            torch._foreach_mul_(gradients, limit / (known + 1e-6))
        return norm

    def _check(self, value: float, step: int, parts: Sequence[Batch], what: str) -> None:
        if math.isfinite(value):
            return
        newest = checkpoint.latest(self.training.folder)
        if who := self.training.doubt(parts):
            raise DivergedError(f"the {what} is {value} at step {step + 1}: {who}")
        ids = sorted({clip.id for part in parts for clip in part.clips})
        raise DivergedError(
            f"the {what} is {value} at step {step + 1} (clips: {', '.join(ids[:5])}"
            f"{', ...' if len(ids) > 5 else ''}). The last good state is "
            f"{newest or 'the start: nothing was saved yet'}. A lower train.lr, a longer "
            "train.warmup or a smaller train.clip usually helps; `bab data check` finds bad audio"
        )

    def _evaluate(self) -> None:
        if self.training.evaluate is None:
            return
        self.bundle.eval()
        metrics, value = self.training.evaluate(self.state.step)
        self._train_mode()
        best = self.state.judge(metrics, value)
        if best and self.accelerator.is_main_process:
            checkpoint.save_best(
                self.training.folder, self.bundle, self.state.step, self.training.run
            )
        self.training.watchers.bab_evaluated(
            run=self.training.info, step=self.state.step, split="dev", metrics=metrics, best=best
        )

    def _save(self) -> None:
        self.saved = time.monotonic()
        if not self.accelerator.is_main_process:
            return
        if self.accelerator.scaler is not None:
            self.state.scaler = self.accelerator.scaler.state_dict()
        folder, state = self.training.folder, self.state
        path = checkpoint.save(folder, self.bundle, self.optimizer, state, self.training.run)
        checkpoint.prune(folder, state)
        self.training.watchers.bab_checkpoint(
            run=self.training.info, step=self.state.step, path=str(path)
        )

    def _load_best(self) -> None:
        self.accelerator.wait_for_everyone()
        stale = self.state.best_step >= 0 and self.state.best_step != self.state.step
        if self.training.keep == "best" and stale:
            folder, step = self.training.folder, self.state.best_step
            checkpoint.restore_best(folder, self.bundle, step, self.training.run)
        self.bundle.eval()

    def _train_mode(self) -> None:
        self.bundle.train()
        encoder = self.training.model.encoder
        if encoder is not None and not any(p.requires_grad for p in encoder.parameters()):
            encoder.eval()


def _means(logs: Logs, flat: Sequence[float]) -> dict[str, float]:
    """What was logged, over all ranks: `flat` has each one's sum and count, in the order of `logs`;
    what nothing was counted for is left out."""
    pairs = zip(logs, flat[::2], flat[1::2], strict=True)
    return {name: total / count for name, total, count in pairs if count}


def weighted(loss: Loss, divisors: Mapping[str, float]) -> tuple[Tensor, dict[str, Tensor]]:
    """What the gradient is taken of: the weighted sum of the terms, each over its divisor; and the
    terms."""
    parts = {k: term.weight * term.total / divisors[k] for k, term in loss.terms.items()}
    return torch.stack(list(parts.values())).sum(), parts


def counted(objective: Objective, parts: Iterable[Batch]) -> dict[str, float]:
    """The count of each term over some micro-batches."""
    counts: dict[str, float] = {}
    for part in parts:
        for key, count in objective.counts(part).items():
            counts[key] = counts.get(key, 0.0) + count
    return counts


def adamw(groups: list[dict[str, Any]], config: TrainConfig, fused: bool) -> torch.optim.Optimizer:
    """AdamW as a run's options have it."""
    return torch.optim.AdamW(
        groups,
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=fused,
    )


def schedule(config: TrainConfig, step: int) -> float:
    """The learning rate of a step (from 0), as a share of `config.lr`.

    Linear warm-up over `warmup` steps, then constant, linear to 0, half a cosine to 0, or, as
    fairseq's `tri_stage`, `hold` steps at the peak and an exponential decay to 1 % of it.
    """
    if step < config.warmup:
        return (step + 1) / config.warmup
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "tri-stage":
        start = config.warmup + config.hold
        return float(0.01 ** min(1.0, max(0.0, (step - start) / max(1, config.steps - start))))
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    if config.schedule == "linear":
        return max(0.0, 1.0 - progress)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def parameter_groups(bundle: Bundle, config: TrainConfig) -> list[dict[str, Any]]:
    """Trainable parameters with their learning-rate scales.

    Head and objective take the full rate; encoder groups, from the last to the first, take
    `layer_decay` to the power of their distance from the head (layer-wise decay, Clark et al. 2020,
    arXiv 2003.10555). At 1.0 all are alike.
    """
    encoder = bundle.model.encoder
    inside = list(encoder.groups().values()) if encoder is not None else []
    of_encoder = {id(p) for group in inside for p in group}
    rest = [p for p in bundle.parameters() if p.requires_grad and id(p) not in of_encoder]
    groups = [{"params": rest, "scale": 1.0}]
    for distance, parameters in enumerate(reversed(inside), start=1):
        held = [p for p in parameters if p.requires_grad]
        if held:
            groups.append({"params": held, "scale": config.layer_decay**distance})
    return groups

"""A loss and its counts, looked at where the first batch is: sums over examples, as announced."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from bab.checking.encoders import not_finite
from bab.checking.faults import fault
from bab.core.interfaces import Objective, Scorer
from bab.core.types import Batch, Features, Loss, Term, Waves

_SHARE = 0.1  # by which twice the examples may give something else than twice the loss


def watch_objective(objective: Objective) -> None:
    """Have the first counts and the first loss that an objective gives checked (`check_loss`); in
    training the loss must have a gradient."""

    def look(module: nn.Module, given: tuple[Any, ...], loss: Loss) -> None:
        handle.remove()
        check_loss(objective, given[0], given[1], loss)
        trained = module.training and torch.is_grad_enabled()
        if trained and not any(term.total.requires_grad for term in loss.terms.values()):
            _blame_cut(objective, given[0], given[1])

    def first(batch: Batch) -> Mapping[str, float]:
        vars(objective).pop("counts", None)
        return _counts(objective, batch)

    handle = objective.register_forward_hook(look)
    vars(objective)["counts"] = first


def check_loss(objective: Objective, model: Scorer, batch: Batch, loss: Loss) -> None:
    """Terms as `counts` announces them, finite before any training, and sums: an example that
    comes twice counts twice, and gives twice the loss.

    Raises:
        PluginError: naming the term and what differs; the encoder or the head, where it is their
            output that isn't finite.
    """
    if not isinstance(loss, Loss):
        raise fault(objective, "forward", f"gives {type(loss).__name__}, not bab.Loss")
    counts = _counts(objective, batch)
    if set(counts) != set(loss.terms):
        told = f"gives terms {sorted(loss.terms)}, counts announces {sorted(counts)}"
        raise fault(objective, "forward", told)
    for name, term in loss.terms.items():
        total = term.total
        if not isinstance(term, Term) or not isinstance(total, Tensor) or total.numel() != 1:
            raise fault(objective, "forward", f"gives no bab.Term(total, count) as '{name}'")
        if not math.isclose(term.count, counts[name], rel_tol=1e-4, abs_tol=1e-6):
            told = f"gives count {term.count:g} of '{name}', counts announces {counts[name]:g}"
            raise fault(objective, "forward", told)
        if batch.step == 0 and not math.isfinite(total.item()):
            _blame(objective, model, batch, name, total.item())
    if not getattr(model, "known", False):  # one that has an answer to this batch alone
        with _still(objective, model):
            _check_sums(objective, model, batch)


def _counts(objective: Objective, batch: Batch) -> Mapping[str, float]:
    counts = objective.counts(batch)
    fine = isinstance(counts, Mapping) and all(
        isinstance(value, (int, float)) and 0 <= value < math.inf for value in counts.values()
    )
    if not fine:
        raise fault(objective, "counts", f"gives {counts!r:.80}: a finite number per term expected")
    return counts


def _blame(objective: Objective, model: Scorer, batch: Batch, name: str, total: float) -> None:
    """Raises PluginError: before any training, a loss that isn't finite is somebody's fault."""
    encoder = model.encoder
    with _still(objective, model):
        if encoder is not None and not_finite(encoder, "", [batch]):
            raise fault(encoder, "forward", "gives values that are not finite")
        if not objective.pretrains and not bool(model(batch)[0].isfinite().all()):
            head = getattr(model, "head", model)
            raise fault(head, "forward", "gives values that are not finite before any training")
    raise fault(objective, "forward", f"gives {total} as '{name}' before any training")


def _blame_cut(objective: Objective, model: Scorer, batch: Batch) -> NoReturn:
    """Raises PluginError: nothing leads from the loss back to the weights."""
    told = "without a gradient: it is cut off from the weights (detach, no_grad, numpy)"
    if not objective.pretrains and not model(batch)[0].requires_grad:
        raise fault(getattr(model, "head", model), "forward", f"gives an output {told}")
    raise fault(objective, "forward", f"gives a loss {told}")


def _check_sums(objective: Objective, model: Scorer, batch: Batch) -> None:
    """The longest example alone, and twice."""
    place = int(batch.inputs.lengths.argmax())
    once, two = (_some(batch, [place] * times) for times in (1, 2))
    counts, doubled = _counts(objective, once), _counts(objective, two)
    one, both = objective(model, once), objective(model, two)
    for name, count in counts.items():
        if not one.terms[name].exact or not count:
            continue
        if not math.isclose(doubled[name], 2 * count, rel_tol=1e-3):
            told = f"{count:g} for one example and {doubled[name]:g} for two of the same"
            raise fault(objective, "counts", f"gives {told} ('{name}'): it must scale with them")
        single, twice = float(one.terms[name].total), float(both.terms[name].total)
        finite = math.isfinite(single) and math.isfinite(twice)
        if finite and abs(twice - 2 * single) > _SHARE * abs(2 * single) + 1e-3:
            told = f"{single:.4g} for one example and {twice:.4g} for two of the same"
            raise fault(objective, "forward", f"gives {told} ('{name}'): a sum, not a mean, is due")


def _some(batch: Batch, places: list[int]) -> Batch:
    """Some examples of a batch, the longest of them its longest."""

    def rows(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[places]

    inputs = batch.inputs
    picked: Waves | Features
    if isinstance(inputs, Waves):
        picked = Waves(inputs.samples[places], inputs.lengths[places], rows(inputs.keep))
    else:
        picked = Features(inputs.states[places], inputs.lengths[places])
    lengths, targets = batch.target_lengths, batch.targets
    if len(lengths) == len(batch.clips):  # else there are no targets
        lengths, targets = lengths[places], targets[places]
        if targets.ndim > 1:
            targets = targets[:, : int(lengths.max())]
    return replace(
        batch,
        inputs=picked,
        targets=targets,
        target_lengths=lengths,
        clips=tuple(batch.clips[i] for i in places),
        weights=rows(batch.weights),
        mask=rows(batch.mask),
        seeds=tuple(batch.seeds[i] for i in places) if batch.seeds else (),
        host=None,
    )


@contextmanager
def _still(*modules: nn.Module) -> Iterator[None]:
    """Without dropout, gradients, or a draw that anything later would miss."""
    modes = {module: module.training for one in modules for module in one.modules()}
    cuda = torch.cuda.is_available()
    try:
        for one in modules:
            one.eval()
        with torch.no_grad(), torch.random.fork_rng([torch.cuda.current_device()] if cuda else []):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode

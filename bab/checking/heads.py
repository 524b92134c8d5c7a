"""A head's output, and the claims that the core builds on: `linear`, `closed_form`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bab.checking.faults import fault
from bab.core.interfaces import Head, Level

_TOLERANCE = 1e-3  # of the largest value


def watch_head(head: Head, level: Level) -> None:
    """Have the first output that a head gives checked (`check_output`), once."""

    def look(module: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:
        handle.remove()
        if module is head:  # a copy, which has the hook too, keeps it
            check_output(head, level, given[0], output)

    handle = head.register_forward_hook(look)


def check_output(head: Head, level: Level, x: Tensor, output: Tensor) -> None:
    """[B, T, C] of frames and sequences, [B, C] of clips and pairs; C is what `outputs` says.

    Raises:
        PluginError: another shape, or no floating-point numbers.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        raise fault(head, "forward", f"gives {type(output).__name__}: floating-point expected")
    frames = [x.shape[1]] if level in ("frame", "sequence") else []
    want = [x.shape[0], *frames, head.outputs]
    if list(output.shape) != want:
        shapes = f"{list(output.shape)} for an input of {list(x.shape)}: {want} expected"
        raise fault(head, "forward", f"gives an output of shape {shapes}")


@torch.no_grad()
def check_linear(head: Head, dim: int) -> None:
    """That the mean over time may be taken before the head, and over windows behind it.

    Raises:
        PluginError: a head that says `linear` and is not.
    """
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 6, dim, generator=generator)
    lengths, one = torch.tensor([6, 4]), torch.ones(2, dtype=torch.long)
    training = head.training
    head.eval()
    whole = head(x, lengths)
    means = torch.stack([x[0].mean(0), x[1, :4].mean(0)])[:, None]
    pooled = head(means, one)
    halves = (head(means * 3, one) + head(-means, one)) / 2  # whose inputs' mean is `means`
    head.train(training)
    scale = _TOLERANCE * max(float(whole.abs().max()), 1e-6)
    if whole.shape != pooled.shape or float((whole - pooled).abs().max()) > scale:
        told = "gives something else of frames than of their mean"
    elif float((halves - pooled).abs().max()) > scale:
        told = "of the mean of two inputs is not the mean of its outputs"
    else:
        return
    raise fault(head, "forward", f"{told}, and the head says linear = True")


def check_fitted(head: Head, before: dict[str, Tensor], x: Tensor) -> None:
    """That `fit` did what `closed_form` says. before: the head's state, copied; x: f32[N, 1, D].

    Raises:
        PluginError: it left the weights as they were, or such that the output isn't finite.
    """
    after = head.state_dict()
    if all(torch.equal(value, after[name]) for name, value in before.items() if name in after):
        raise fault(head, "fit", "left the weights as they were, and the head says closed_form")
    with torch.no_grad():
        output = head(x, torch.ones(len(x), dtype=torch.long))
    if not bool(output.isfinite().all()):
        raise fault(head, "fit", "left weights whose output is not finite")

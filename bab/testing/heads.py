"""The contract of a head, as checks that the author of a plugin runs.

    from bab.testing import HeadContract

    class TestMine(HeadContract):
        component = Mine
        options = Mine.Options(hidden=32)     # its defaults, where nothing is said

Each check takes a `HeadCase`: the class and its options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn

from bab.core.interfaces import Head, Level
from bab.testing.declared import described, seeded_by, standard, untouched
from bab.testing.suite import Contract
from bab.testing.tools import close

DIM, CLASSES = 6, 3
LENGTHS = (40, 17, 23)  # frames of three examples
_CLUSTERS = 90  # examples of CLASSES well separated clusters
_STEPS = 150


@dataclass(frozen=True)
class HeadCase:
    """A head's class and the options that it is built with."""

    cls: type[Head]
    options: Any

    def __call__(self, seed: int = 0) -> Head:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.cls(DIM, CLASSES, self.options).eval()


def check_described(case: HeadCase) -> None:
    """The class has a docstring, and each option a description; level, linear and closed_form are
    what they may be.

    To do: level = ("clip",) and its like, a tuple of frame, clip, sequence, pair.
    """
    described(case.cls)
    known = get_args(Level)
    level = case.cls.level
    assert isinstance(level, tuple) and level, f"level {level!r} is no tuple of {', '.join(known)}"
    strange = [one for one in level if one not in known]
    assert not strange, f"level names {strange}; there are {', '.join(known)}"
    for name in ("linear", "closed_form"):
        assert isinstance(getattr(case.cls, name), bool), f"{name} is no truth value"


def check_shapes(case: HeadCase) -> None:
    """Frames in, logits out: f32 [B, T, C] (frame, sequence), [B, C] (clip), [B, E] (pair).

    To do: super().__init__(dim, classes, options) sets `outputs` = C; a pair head sets it to E.
    """
    head = case()
    x, lengths = _frames()
    with torch.no_grad():
        out = head(x, lengths)
    assert isinstance(out, Tensor), f"forward gives {type(out).__name__}, no tensor"
    want = _shape(head)
    assert tuple(out.shape) == want, f"the output is {tuple(out.shape)}, not {want}"
    assert out.dtype == torch.float32, f"the output is {out.dtype}, not float32"
    if "pair" not in case.cls.level:
        assert head.outputs == CLASSES, f"outputs is {head.outputs}, the classes are {CLASSES}"
        return
    with torch.no_grad():
        vectors = head.embed(x, lengths)
    assert vectors.ndim == 2 and len(vectors) == len(LENGTHS), f"embed: {tuple(vectors.shape)}"
    assert bool(vectors.isfinite().all()), "embed gives values that are no numbers"


def check_padding(case: HeadCase) -> None:
    """An example's output doesn't depend on the others, nor on what stands in the padding: NaN.

    To do: replace the padding before anything is summed (x.masked_fill), and use `lengths`.
    """
    head = case()
    x, lengths = _frames()
    inside = torch.arange(x.shape[1]) < lengths[:, None]
    bad = x.masked_fill(~inside[..., None], float("nan"))
    with torch.no_grad():
        many = head(bad, lengths)
        for row, size in enumerate(LENGTHS):
            alone = head(x[row : row + 1, :size], lengths[row : row + 1])[0]
            here = many[row][:size] if many.ndim == 3 else many[row]
            assert bool(here.isfinite().all()), f"example {row}: NaN of the padding got in"
            close(here, alone, f"example {row}, in a batch and alone")


def check_effects(case: HeadCase) -> None:
    """forward leaves its input as it was, says the same twice in eval mode, and neither it nor
    building the head touches a global random generator beyond drawing initial weights.

    To do: no in-place operation on x; no torch.manual_seed; dropout only in training mode.
    """
    seeded = seeded_by(lambda: case.cls(DIM, CLASSES, case.options))
    assert not seeded, f"building the head seeds {' and '.join(seeded)} global generator"
    head = case()
    x, lengths = _frames()
    before = (x.clone(), lengths.clone())
    with untouched() as used, torch.no_grad():
        first, second = head(x, lengths), head(x, lengths)
        drawn = used()
    assert not drawn, f"a forward pass in eval mode draws from {' and '.join(drawn)} generator"
    assert torch.equal(x, before[0]) and torch.equal(lengths, before[1]), (
        "forward changed its input"
    )
    assert torch.equal(first, second), "the same input gives another output on a second pass"


def check_linear(case: HeadCase) -> str | None:
    """`linear` is true: the head of the mean over time is the head of all frames, and it is affine.

    To do: linear = False, unless nothing non-linear stands between frames and output: the core
    keeps one mean frame per clip of a linear head, and the results would be another head's.
    """
    if not case.cls.linear:
        return "it doesn't say that it is linear"
    head = case()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=_generator(3)))
        x, lengths = _frames()
        inside = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
        mean = (x * inside).sum(1, keepdim=True) / lengths[:, None, None]
        one = torch.ones(len(LENGTHS), dtype=torch.int64)
        whole, pooled = head(x, lengths), head(mean, one)
        assert whole.shape == pooled.shape, f"of the mean {tuple(pooled.shape)}: {whole.shape}"
        close(pooled, whole, "of the mean over time, and of all frames")
        zero = head(torch.zeros_like(mean), one)
        close(head(3 * mean, one) - zero, 3 * (pooled - zero), "three times the input")
    return None


def check_fit(case: HeadCase) -> str | None:
    """`closed_form` is true: `fit` alone solves an easy problem, the same way twice, and the state
    dict holds the solution.

    To do: fit(x f32[N, D], y i64[N]) copies its coefficients into buffers (register_buffer).
    """
    if not case.cls.closed_form:
        return "it is trained, not solved"
    x, y = _clusters()
    one, two = case(), case()
    for head in (one, two):
        head.fit(x.clone(), y.clone())
    lengths = torch.ones(len(y), dtype=torch.int64)
    with torch.no_grad():
        said, again = (head(x[:, None], lengths) for head in (one, two))
    right = float((said.argmax(1) == y).float().mean())
    assert right >= 0.95, f"after fit, {right:.0%} of clearly separated clusters are right"
    close(again, said, "two fits of the same examples")
    other = case()
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        close(other(x[:, None], lengths), said, "another head with the fitted state dict")
    return None


def check_learns(case: HeadCase) -> str | None:
    """Every parameter gets a gradient, and gradient descent solves an easy problem.

    To do: return logits, not probabilities; register every layer as a module.
    """
    if case.cls.closed_form:
        return "it is solved, not trained"
    head = case().train()
    x, lengths = _frames()
    torch.autograd.backward(head(x, lengths).square().mean())
    missing = [n for n, p in head.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing, f"without a gradient: {', '.join(missing[:5])}"
    if "pair" in case.cls.level:
        return None
    points, y = _clusters()
    frames = points[:, None].expand(-1, 5, -1)
    five = torch.full((len(y),), 5)
    descent = torch.optim.AdamW(head.parameters(), lr=1e-2)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        for _ in range(_STEPS):
            out = head(frames, five)
            out = out.mean(1) if out.ndim == 3 else out
            descent.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(out, y))
            descent.step()
    with torch.no_grad():
        out = head.eval()(frames, five)
    out = out.mean(1) if out.ndim == 3 else out
    right = float((out.argmax(1) == y).float().mean())
    assert right >= 0.9, f"after {_STEPS} steps of AdamW {right:.0%} of easy examples are right"
    return None


def check_state(case: HeadCase) -> None:
    """The state dict makes another head say the same, in float32.

    To do: keep all that the output depends on in parameters or persistent buffers.
    """
    head, other = case(), case(1)
    with torch.no_grad(), _spread(head):
        other.load_state_dict(head.state_dict())
        x, lengths = _frames()
        close(other(x, lengths), head(x, lengths), "another head with this one's state dict")
    for name, tensor in head.state_dict().items():
        single = not tensor.is_floating_point() or tensor.dtype == torch.float32
        assert single, f"{name} is {tensor.dtype}, not float32"


CHECKS: tuple[Callable[[HeadCase], str | None], ...] = (
    check_described,
    check_shapes,
    check_padding,
    check_effects,
    check_linear,
    check_fit,
    check_learns,
    check_state,
)


class HeadContract(Contract):
    """`component` is the class; `options` what it is built with (None: its defaults)."""

    checks: ClassVar = CHECKS
    component: ClassVar[type[Head]]
    options: ClassVar[Any] = None

    def subject(self, folder: Path) -> HeadCase:
        return HeadCase(self.component, self.options or standard(self.component))


# ------------------------------------------------------------------------------ tools


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _frames() -> tuple[Tensor, Tensor]:
    """f32[3, 40, DIM] with noise in the padding, i64[3]."""
    x = torch.randn(len(LENGTHS), max(LENGTHS), DIM, generator=_generator(1)) + 0.5
    return x, torch.tensor(LENGTHS)


def _clusters() -> tuple[Tensor, Tensor]:
    """f32[N, DIM] around CLASSES far points, i64[N]."""
    y = torch.arange(_CLUSTERS) % CLASSES
    x = 4.0 * torch.eye(DIM)[y] + 0.3 * torch.randn(_CLUSTERS, DIM, generator=_generator(2))
    return x, y


def _shape(head: Head) -> tuple[int, ...]:
    if {"frame", "sequence"} & set(head.level):
        return (len(LENGTHS), max(LENGTHS), head.outputs)
    return (len(LENGTHS), head.outputs)


@contextmanager
def _spread(head: Head) -> Iterator[None]:
    """Every tensor of the state moved, so that nothing is equal by its initial value."""
    for index, tensor in enumerate(head.state_dict().values()):
        if tensor.is_floating_point():
            tensor.add_(0.1 * torch.rand(tensor.shape, generator=_generator(index)))
    yield

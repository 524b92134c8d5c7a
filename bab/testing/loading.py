"""Encoders, beyond one forward pass: loading, exporting, options, identity, side effects.

Each check takes `make`, as those of `bab.testing.encoders` do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bab.core.components import identify
from bab.core.errors import BabError
from bab.core.interfaces import Encoder
from bab.core.types import Encoded
from bab.testing.declared import described, seeded_by, standard, untouched, variants
from bab.testing.tools import close, longest, noise, run, waves

Make = Callable[[], Encoder]
_OPTIONS = 8  # options that are tried, each with one other value
_SMALL = 50_000_000  # parameters: a larger encoder isn't loaded once for each of its options


def check_described(make: Make) -> None:
    """The class has a docstring, and each option a description.

    To do: write them; `bab info NAME` shows them to whoever uses the encoder.
    """
    described(type(make()))


def check_answer(make: Make) -> None:
    """forward returns bab.Encoded: a tuple of tensors, and lengths that are whole numbers, i64[B].

    To do: return Encoded((state, ...), lengths), lengths being one frame count per clip.
    """
    encoder = make()
    out = run(encoder, [noise(min(9000, longest(encoder)))])
    assert isinstance(out, Encoded), f"forward returns {type(out).__name__}, not bab.Encoded"
    assert isinstance(out.layers, tuple), f"layers is a {type(out.layers).__name__}, not a tuple"
    assert isinstance(out.lengths, Tensor), f"lengths is a {type(out.lengths).__name__}"
    assert out.lengths.dtype == torch.int64, f"lengths are {out.lengths.dtype}, not int64"
    assert out.lengths.shape == (1,), f"lengths are {list(out.lengths.shape)} for a batch of 1"


def check_input(make: Make) -> None:
    """forward leaves what it is given as it was: samples, lengths and mask.

    To do: no in-place operation (`+=`, `x[...] =`, `mul_`) on an argument; copy it first.
    """
    encoder = make()
    size = min(9000, longest(encoder))
    given = waves([noise(size), noise(size // 2, 1)])
    mask = torch.zeros(2, encoder.grid.frames(size), dtype=torch.bool)
    mask[:, 0] = True
    before = (given.samples.clone(), given.lengths.clone(), mask.clone())
    with torch.no_grad():
        encoder(given)
        try:
            encoder(given, mask)
        except BabError:
            mask = before[2]  # it can't be masked
    for name, one, two in zip(
        ("samples", "lengths", "mask"), before, (given.samples, given.lengths, mask), strict=True
    ):
        assert torch.equal(one, two), f"forward changed the {name} that it was given"


def check_generators(make: Make) -> None:
    """Neither loading nor a forward pass seeds a global random generator.

    To do: draw from a torch.Generator of your own, or inside torch.random.fork_rng().
    """
    seeded = seeded_by(make)
    assert not seeded, f"loading seeds {' and '.join(seeded)} global generator"
    encoder = make()
    clip = noise(min(9000, longest(encoder)))
    with untouched() as used:
        run(encoder, [clip])
        drawn = used()
    assert not drawn, f"a forward pass in eval mode draws from {' and '.join(drawn)} generator"


def check_memory(make: Make) -> None:
    """What was encoded before changes nothing: A, B, A gives the first A again, after training
    mode too. And another clip gives another answer.

    To do: keep nothing of a forward pass in buffers or attributes while in eval mode.
    """
    encoder = make()
    size = min(9000, longest(encoder))
    one, two = noise(size), noise(size, 1)
    first, other = run(encoder, [one]).layers[-1], run(encoder, [two]).layers[-1]
    again = run(encoder, [one]).layers[-1]
    assert torch.equal(first, again), "after another clip, the first one's states are others"
    assert not torch.equal(first, other), "two different clips have the same states"
    encoder.train().eval()
    _same(run(encoder, [one]).layers[-1], first, "after train() and eval() again")


def check_local(make: Make) -> None:
    """local_dim, where it is set, is the width of the local features (None: not for pretraining);
    `normed` has their shape.

    To do: set self.local_dim to local.shape[-1], or leave it None.
    """
    encoder = make()
    out = run(encoder, [noise(min(9000, longest(encoder)))])
    width = None if out.local is None else out.local.shape[-1]
    assert encoder.local_dim in (None, width), (
        f"local_dim is {encoder.local_dim}, local is {width} wide"
    )
    if out.normed is not None:
        shape = None if out.local is None else tuple(out.local.shape)
        assert tuple(out.normed.shape) == shape, f"normed is {tuple(out.normed.shape)}: {shape}"


def check_export(make: Make) -> str | None:
    """What `export` writes, `load` reads: the same output, and the extras that were given.

    To do: write all that `load` needs; an encoder without a format of its own leaves `export` out.
    """
    encoder = make()
    clip = noise(min(9000, longest(encoder)))
    extra = {"masked.bab_check": torch.arange(3.0)}
    with tempfile.TemporaryDirectory(prefix="bab-check-") as name:
        try:
            encoder.export(Path(name), extra)
        except BabError as error:
            return str(error)
        left = [path.name for path in Path(name).rglob(".*")]
        assert not left, f"export left {left} behind"
        options = options_of(make, encoder)
        again = type(encoder).load(name, options, offline=True)
        identify(again, options)
        assert not again.training, "load gives an exported encoder in training mode"
        _same(run(again, [clip]).layers[-1], run(encoder, [clip]).layers[-1], "exported and loaded")
        back = dict(again.extras()).get("masked.bab_check")
        assert back is not None, f"export drops extras: load gives {sorted(again.extras())[:5]}"
        close(back.float(), extra["masked.bab_check"], "an extra tensor, exported and loaded")
    return None


def check_options(make: Make) -> str | None:
    """An option that changes the output changes the fingerprint: cached features depend on it.

    To do: bab.fingerprint(self, CODE_VERSION, options.model_dump()) takes all of them in.
    """
    encoder = make()
    size = sum(parameter.numel() for parameter in encoder.parameters())
    others = list(variants(options_of(make, encoder)))[:_OPTIONS]
    if not others or not _loads(encoder):
        return "it has no options of which another value could be tried"
    if size > _SMALL:
        return f"{size / 1e6:.0f} million parameters are too many to load for each option"
    clip = noise(min(9000, longest(encoder)))
    mine = run(encoder, [clip]).layers[-1]
    for what, options in others:
        try:
            other = type(encoder).load(weights_of(make, encoder), options, offline=True).eval()
            identify(other, options)
            theirs = run(other, [clip]).layers[-1]
        except BabError:
            continue  # an option that asks for something that isn't here
        differ = theirs.shape != mine.shape or not torch.equal(theirs, mine)
        if differ:
            assert other.fingerprint != encoder.fingerprint, (
                f"with {what} the output is another, under the same fingerprint "
                f"{encoder.fingerprint:.16}"
            )
    return None


def check_weights(make: Make) -> str | None:
    """`default` is one of `weights`; weights that can't be had are a BabError, at once.

    To do: raise bab.WeightsError with what can be named; never load something else instead.
    """
    encoder = make()
    cls = type(encoder)
    if cls.weights and cls.default:
        assert cls.default in cls.weights, f"default {cls.default!r} is none of {[*cls.weights]}"
    if not _loads(encoder):
        return "it has no `load` of its own"
    wrong = "/no/such/folder/bab-check"
    try:
        cls.load(wrong, options_of(make, encoder), offline=True)
    except BabError as error:
        assert str(error), "the error for weights that aren't there says nothing"
        return None
    raise AssertionError(f"load({wrong!r}) gives an encoder; it must be a BabError")


CHECKS: tuple[Callable[[Make], str | None], ...] = (
    check_described,
    check_answer,
    check_input,
    check_generators,
    check_memory,
    check_local,
    check_export,
    check_options,
    check_weights,
)


def options_of(make: Make, encoder: Encoder) -> Any:
    """The options that `make` loads with, where it or the encoder knows them; else defaults."""
    known = getattr(make, "options", None) or getattr(encoder, "options", None)
    return known if isinstance(known, type(encoder).Options) else standard(type(encoder))


def weights_of(make: Make, encoder: Encoder) -> str:
    """What stands after the colon, where `make` knows it; else the default."""
    return str(getattr(make, "weights", type(encoder).default))


def _loads(encoder: Encoder) -> bool:
    return type(encoder).load.__func__ is not Encoder.load.__func__  # type: ignore[attr-defined]


def _same(got: Tensor, want: Tensor, what: str) -> None:
    assert got.shape == want.shape, f"{what}: {tuple(got.shape)}, not {tuple(want.shape)}"
    close(got, want, what)

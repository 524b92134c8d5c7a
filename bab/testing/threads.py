"""Encoders that say that several threads may call them at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from bab.core.interfaces import Encoder
from bab.testing.tools import close, longest, noise, run

_THREADS = 3
_SWITCH = 1e-5  # seconds after which Python lets another thread go on, 5e-3 otherwise


def check_concurrent(make: Callable[[], Encoder]) -> str | None:
    """Passes over other clips at the same time, in other threads, leave a clip's states as they
    are, the local ones too."""
    encoder = make()
    if not encoder.concurrent:
        return "it doesn't say that it is concurrent"
    field, hop = encoder.grid.field, max(1, encoder.grid.hop)
    sizes = [min(field + hop * frames, longest(encoder)) for frames in (3, 40, 12, 25, 7, 60)]
    clips = [noise(size, seed) for seed, size in enumerate(sizes)]
    alone = [run(encoder, [clip]) for clip in clips]
    with _switching(), ThreadPoolExecutor(_THREADS) as pool:
        many = list(pool.map(lambda clip: run(encoder, [clip]), clips * 2))
    for place, out in enumerate(many):
        want, what = alone[place % 6], f"clip {place % 6} while other threads encode others"
        said, due = out.lengths.tolist(), want.lengths.tolist()
        assert said == due, f"{what}: {said} frames, not {due}"
        for layer, (got, own) in enumerate(zip(out.layers, want.layers, strict=True)):
            close(got, own, f"{what}, layer {layer}")
        if out.local is not None and want.local is not None:
            close(out.local, want.local, f"{what}, local features")
    return None


@contextmanager
def _switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)
    try:
        yield
    finally:
        sys.setswitchinterval(before)

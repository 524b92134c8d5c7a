"""What is asked of components of every kind: documentation, options, no hand on global generators.

A docstring says what it is, each option says what it does: `bab info` prints both.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args, get_origin

import numpy as np
import torch
from pydantic import ValidationError

from bab.core.options import Options

_UNUSUAL = 271_828_182


def described(cls: type) -> None:
    """Assert that a class has a docstring of its own, and each of its options a description."""
    own = vars(cls).get("__doc__")
    assert own and own.strip(), f"class {cls.__name__} has no docstring: `bab info` shows nothing"
    options = getattr(cls, "Options", Options)
    assert issubclass(options, Options), f"{cls.__name__}.Options is no subclass of bab.Options"
    bare = [name for name, field in options.model_fields.items() if not field.description]
    assert not bare, (
        f"options without a description: {', '.join(bare)}; write "
        f"{bare[0] if bare else ''}: TYPE = pydantic.Field(DEFAULT, description=...)"
    )


def standard(cls: Any) -> Any:
    """An instance of a class's options, all at their defaults.

    Raises:
        AssertionError: an option without a default.
    """
    try:
        return cls.Options()
    except ValidationError as error:
        first = error.errors()[0]
        raise AssertionError(
            f"Options() can't be made: option '{'.'.join(map(str, first['loc']))}': {first['msg']}"
        ) from error


def variants(options: Options) -> Iterator[tuple[str, Options]]:
    """(what is set, options) that differ in one option each, by a value near to its default."""
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        for other in _others(field.annotation, value):
            try:
                yield f"{name}={other}", type(options)(**{**options.model_dump(), name: other})
                break
            except ValidationError:
                continue


def _others(kind: Any, value: Any) -> list[Any]:
    if get_origin(kind) is Literal:
        return [one for one in get_args(kind) if one != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1, 2 * value]
    if isinstance(value, float):
        return [one for one in (value * 1.5, value / 2, value + 0.1) if one != value]
    return []


@contextmanager
def untouched() -> Iterator[Callable[[], list[str]]]:
    """Gives a function that names the global generators that were used since. Meanwhile they have
    a seed that nobody else would choose."""
    kept = (torch.get_rng_state(), np.random.get_state(), random.getstate())
    torch.manual_seed(_UNUSUAL)
    np.random.seed(_UNUSUAL)
    random.seed(_UNUSUAL)
    before = (torch.get_rng_state(), np.random.get_state(), random.getstate())

    def used() -> list[str]:
        same = {
            "torch's": torch.equal(torch.get_rng_state(), before[0]),
            "numpy's": str(np.random.get_state()) == str(before[1]),
            "random's": random.getstate() == before[2],
        }
        return [name for name, equal in same.items() if not equal]

    try:
        yield used
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])


def seeded_by(act: Callable[[], object]) -> list[str]:
    """The global generators that `act` seeds: afterwards they draw the same, whatever was before.

    Drawing from one is no fault by itself; whoever seeds it makes others' draws equal.
    """
    draws: list[tuple[float, float, float]] = []
    with untouched():
        for _ in range(2):
            act()
            draws.append((float(torch.rand(())), float(np.random.rand()), random.random()))
    names = ("torch's", "numpy's", "random's")
    return [name for name, one, two in zip(names, *draws, strict=True) if one == two]


def takes(function: Callable[..., Any], *names: str) -> list[str]:
    """Which of these arguments a function doesn't take."""
    parameters = inspect.signature(function).parameters
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return [] if anything else [name for name in names if name not in parameters]

"""What a component's class must have, known without making one: methods, and what they take."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, get_args

_NEEDED: Mapping[str, tuple[str, ...]] = {  # contract -> what its class can't do without
    "Encoder": ("load", "forward"),
    "Head": ("forward",),
    "Objective": ("counts", "forward"),
    "Task": ("fit", "targets", "decode", "write"),
    "Corpus": ("clips",),
    "ModelReader": ("read",),
    "Launcher": ("submit", "poll", "cancel"),
}

_WIDER: Mapping[type, Any] = {  # the type of a contract's attribute -> what serves as well
    bool: bool,
    str: str,
    tuple: (tuple, list),
    frozenset: (frozenset, set),
    dict: Mapping,
}


def contract_fault(base: type, cls: type) -> str:
    """What a class lacks of its contract, in words; "" where it has all of it."""
    if wrong := next(_attributes(base, cls), ""):
        return wrong
    wanted = (*_NEEDED.get(base.__name__, ()), *_claimed(base.__name__, cls))
    lacking = [name for name in wanted if _raw(cls, name) is _raw(base, name)]
    if lacking:
        return f"it has no method {' and no '.join(lacking)} of its own (pydoc bab.{base.__name__})"
    if base.__name__ in ("Head", "Task", "Objective"):
        given = (cls.level,) if isinstance(cls.level, str) else cls.level  # type: ignore[attr-defined]
        from bab.core.interfaces import Level  # torch: formats need none of it

        unknown = [repr(level) for level in given if level not in get_args(Level)]
        if unknown or (not given and base.__name__ == "Head"):
            known = ", ".join(map(repr, get_args(Level)))
            return f"its level is {', '.join(unknown) or 'not said'}: it may be {known}"
    return next(_signatures(base, cls), "")


def _attributes(base: type, cls: type) -> Iterator[str]:
    """Each of the contract's class attributes that is of another type."""
    for name, theirs in vars(base).items():
        kinds = next((wide for one, wide in _WIDER.items() if isinstance(theirs, one)), None)
        own = _raw(cls, name)
        if kinds is None or name.startswith("_") or hasattr(own, "__get__"):
            continue  # None of ours to say, or a property
        if not isinstance(own, kinds):
            yield f"its {name} is {own!r:.60}: {type(theirs).__name__} expected"


def _claimed(base: str, cls: Any) -> Iterator[str]:
    """The methods that what a class says of itself asks for."""
    if base == "Head":
        yield from ["fit"] * bool(cls.closed_form)
        yield from ["embed"] * ("pair" in cls.level)
    if base == "Task" and cls.level == "pair":
        yield from ("compare", "rate")
    elif base == "Task":
        yield from ("statistics", "metrics") if cls.additive else ("score",)
    if base == "Format":
        yield from ["read"] * bool(cls.reads) + ["write"] * bool(cls.writes)


def _signatures(base: type, cls: type) -> Iterator[str]:
    """Each method of the contract that doesn't take what the core hands it."""
    for name, theirs in vars(base).items():
        public = not name.startswith("_") or name == "__init__"
        if not public or _raw(cls, name) is theirs or not callable(getattr(base, name)):
            continue
        own = getattr(cls, name)
        if isinstance(theirs, classmethod) and not inspect.ismethod(own):
            yield f"{name} must be a classmethod"
        elif callable(own):
            yield from _refused(name, own, getattr(base, name))


def _refused(name: str, own: Any, theirs: Any) -> Iterator[str]:
    """Why a method can't be called as the contract's can: all by place, and options by name."""
    try:
        mine, wanted = inspect.signature(own), inspect.signature(theirs)
    except (TypeError, ValueError):  # written in C: nothing to read
        return
    placed = [p for p in wanted.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = {p.name: None for p in wanted.parameters.values() if p.kind is p.KEYWORD_ONLY}
    optional = {p.name: None for p in placed if p.default is not p.empty}
    required = [None] * (len(placed) - len(optional))
    try:
        if name != "__init__":  # whose later arguments a class may do without
            mine.bind(*[None] * len(placed), **named)
        mine.bind(*required, **({} if name == "__init__" else optional), **named)
    except TypeError as error:
        yield f"{name}{_plain(mine)} can't be called as {name}{_plain(wanted)}: {error}"


def _plain(signature: inspect.Signature) -> str:
    """Names and defaults, without types."""
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(bare))


def _raw(cls: type, name: str) -> object:
    return inspect.getattr_static(cls, name, None)

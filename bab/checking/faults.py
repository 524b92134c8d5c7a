"""How a breach of a contract is said: kind, name, distribution, version, class and method."""

from __future__ import annotations

from bab.core import registry
from bab.core.errors import PluginError


def described(component: object) -> str:
    """A component, or its class, as messages name it."""
    entry = registry.owner(component)
    if entry is not None:
        return entry.described
    cls = component if isinstance(component, type) else type(component)
    return f"{cls.__module__}:{cls.__qualname__}"


def fault(component: object, method: str, what: str) -> PluginError:
    """The error for what a component handed over. what: "gives 3 states: depth = 4"."""
    return PluginError(
        f"{described(component)} breaks its contract: {method} {what}. Tell its authors "
        "(`bab check` tries it without a run), or do without it"
    )

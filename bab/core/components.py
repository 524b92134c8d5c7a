"""Components by name: built with their options, and held fixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from bab.core import registry
from bab.core.errors import ConfigError, PluginError
from bab.core.interfaces import Encoder, Task
from bab.core.options import Options
from bab.core.weights import fingerprint


def build_task(name: str, options: Mapping[str, Any]) -> Task:
    """A task. options: all that it has, checked already."""
    cls = registry.load("tasks", name)
    task: Task = cls(cls.Options(**options))
    return task


def build_encoder(
    name: str, weights: str, options: Mapping[str, Any], offline: bool, trust_code: bool
) -> Encoder:
    """One encoder. weights: "" = its default ones.

    Raises:
        BabError: with a remedy, where the weights can't be had.
        PluginError: what `load` gives is no encoder, or lacks something.
    """
    entry, cls = registry.find("encoders", name), registry.load("encoders", name)
    given = cls.Options(**options)
    encoder: Encoder = cls.load(
        weights or cls.default, given, offline=offline, trust_code=trust_code
    )
    if not isinstance(encoder, Encoder):
        raise PluginError(f"{entry.described} breaks its contract: load gives {encoder!r:.60}")
    registry.claim(encoder, entry)
    identify(encoder, given)
    if "/" in name:  # whatever it calls itself, tables must tell it from its namesake
        encoder.resolved = entry.full + "".join(encoder.resolved.partition(":")[1:])
    return encoder.eval()


def identify(encoder: Encoder, options: Options) -> None:
    """Make the fingerprint of an encoder that has none of its own."""
    if "fingerprint" not in vars(encoder):
        encoder.fingerprint = fingerprint(encoder, encoder.version, options.model_dump(mode="json"))


def identity(encoder: Encoder) -> str:
    """What its output is found by: the fingerprint, and of a stranger's encoder the distribution,
    version and class, as nobody else vouches that they tell apart what differs."""
    return " ".join(filter(None, [encoder.fingerprint, registry.origin(encoder)]))


def freeze(encoder: Encoder, what: Literal["none", "conv", "all"]) -> None:
    """Hold parameters fixed: none of them, the convolutional front ("conv"), or all.

    Raises:
        ConfigError: "conv" for an encoder that has no group of that name.
    """
    groups = encoder.groups()
    if what == "conv" and groups and "conv" not in groups:
        raise ConfigError(
            f"freeze=conv: '{encoder.resolved}' has no convolutional front: --freeze none or all"
        )
    for name, parameters in groups.items():
        trainable = what == "none" or (what == "conv" and name != "conv")
        for parameter in parameters:
            parameter.requires_grad_(trainable)

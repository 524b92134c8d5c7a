"""Components by name: built with their options, and held fixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from bab.core import registry
from bab.core.errors import ConfigError
from bab.core.interfaces import Encoder, Task


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
    """
    cls = registry.load("encoders", name)
    encoder: Encoder = cls.load(
        weights or cls.default, cls.Options(**options), offline=offline, trust_code=trust_code
    )
    return encoder.eval()


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

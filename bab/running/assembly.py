"""From an encoder's configuration to modules: the one room where several encoders are not one.

An ensemble is several members and one vector. How many there are is known from the configuration;
everything else of a run sees one encoder, one source of features and one model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from bab.checking.encoders import check_made
from bab.config.run import EncoderConfig
from bab.core.components import build_encoder
from bab.core.interfaces import Encoder, Head
from bab.core.types import Clip, View, Window
from bab.features.source import FeatureSource, FrozenSource
from bab.running.ensemble import Ensemble, EnsembleMix, EnsembleSource, fused_head
from bab.running.model import LayerMix, Model

Which = Literal["mix", "last"] | int  # of an encoder's layers


def open_encoder(
    config: EncoderConfig, offline: bool, trust_code: bool
) -> tuple[Encoder, tuple[Encoder, ...]]:
    """The encoder that was named, and the members that it is made of: of a single one, itself.

    Raises:
        BabError: with a remedy, where the weights can't be had.
    """
    members = tuple(
        check_made(build_encoder(one.name, one.weights, one.options, offline, trust_code))
        for one in config.members
    )
    return (members[0] if len(members) == 1 else Ensemble(members, config.fusion)), members


def layer_mix(members: Sequence[Encoder], layers: Which) -> LayerMix:
    """What makes one sequence of the encoder's layers; of several encoders, of each one's.

    Raises:
        ConfigError: a layer that one of them doesn't have.
    """
    if len(members) == 1:
        return LayerMix(members[0].depth, layers)
    return EnsembleMix(members, layers)


def assemble(
    encoder: Encoder | None,
    members: Sequence[Encoder],
    fusion: str,
    layers: Which,
    head: Callable[[int], Head],
    sizes: Sequence[int],
    pool: bool,
) -> Model:
    """The model of a fold, or of a finished run.

    Args:
        encoder: the encoder that takes in audio; None where inputs are features.
        members: the encoders that the features are of.
        fusion: "late" gives each member a head of its own.
        layers: which of their layers.
        head: makes the head for so many dimensions.
        sizes: how many classes each group of labels has.
        pool: the head gets one frame, the mean over each example's.
    """
    dims = [member.dim for member in members]
    dims = dims if fusion == "late" else [sum(dims)]
    whole = fused_head([head(dim) for dim in dims], dims, sizes)
    return Model(encoder, layer_mix(members, layers), whole, pool)


def frozen_source(
    members: Sequence[Encoder],
    source: Callable[[Encoder], FeatureSource],
    view: View,
    clips: Sequence[Clip],
    windows: Callable[[], Sequence[Window]],
) -> FrozenSource:
    """The features of frozen encoders, planned for some clips.

    source: makes one encoder's own. windows: those of the clips, for a single encoder; several
    have their own.
    """
    sources = [source(member) for member in members]
    if len(sources) == 1:
        sources[0].plan(windows())
        return sources[0]
    joined = EnsembleSource(sources, view)
    joined.plan(clips)
    return joined

"""The frame labels of a pretraining run: a folder that was named, or made here before it begins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from bab.checking.encoders import check_made
from bab.config.pretrain import PretrainConfig
from bab.config.resolve import encoder_config
from bab.core.components import build_encoder
from bab.core.device import resolve_precision
from bab.core.errors import ConfigError
from bab.core.types import Clip, Tell
from bab.targets.features import FrameFeatures, LayerFeatures, Mfcc, is_mfcc, own_device, process
from bab.targets.job import TargetOptions
from bab.targets.make import make
from bab.targets.store import TargetStore


def targets_for(
    config: PretrainConfig,
    clips: Sequence[Clip],
    digest: str,
    tell: Tell,
) -> TargetStore:
    """The labels of these clips; what is missing is made, by all processes together.

    digest: stands for the clips and their audio.

    Raises:
        ConfigError: neither a folder nor what to cluster is named.
        BabError: the folder has no labels of one of the files.
    """
    asked = config.targets
    if asked.folder is not None:
        store = TargetStore(Path(asked.folder).expanduser())
        store.require(clips)
        return store
    if asked.encoder is None:
        raise ConfigError(
            f"objective '{config.objective.name}' needs frame labels: make them with `bab targets "
            "--corpus ... --out FOLDER` and give --targets FOLDER, or say what to cluster: "
            "--set targets.encoder=mfcc"
        )
    rank, world, _ = process()
    features = _features(config)
    known = [asked.model_dump(), features.identity, digest, config.seed]
    facts = json.dumps(known, sort_keys=True)
    name = hashlib.blake2b(facts.encode(), digest_size=6).hexdigest()
    folder = Path(config.runs) / "targets" / name
    options = TargetOptions(
        asked.clusters,
        config.seed,
        sample_hours=asked.sample_hours,
        skip_bad=config.skip_bad,
        rank=rank,
        world=world,
    )
    make(clips, features, folder, options, {"unreadable": []}, tell)
    return TargetStore(folder)


def _features(config: PretrainConfig) -> FrameFeatures:
    asked = config.targets
    assert asked.encoder is not None
    if is_mfcc(asked.encoder):
        return Mfcc()
    if asked.layer is None:
        raise ConfigError(f"targets.encoder={asked.encoder}: which layer? Give targets.layer")
    named = encoder_config(asked.encoder)
    encoder = check_made(
        build_encoder(named.name, named.weights, named.options, config.offline, config.trust_code)
    )
    device = own_device(config.device)
    return LayerFeatures(encoder, asked.layer, device, resolve_precision(device.type, "auto"))

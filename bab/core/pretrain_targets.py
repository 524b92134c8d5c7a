"""The frame labels of a pretraining run: a folder that was named, or made here before it begins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from bab.core.build import build_encoder, resolve_device
from bab.core.config import component
from bab.core.errors import ConfigError
from bab.core.framefeatures import FrameFeatures, LayerFeatures, Mfcc
from bab.core.maketargets import Settings, Tell, make, process
from bab.core.pretrain_schema import PretrainConfig
from bab.core.records import Clip
from bab.core.schema import EncoderConfig
from bab.core.targets import TargetStore


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
    """
    asked = config.targets
    if asked.folder is not None:
        return TargetStore(Path(asked.folder).expanduser())
    if asked.encoder is None:
        raise ConfigError(
            f"objective '{config.objective.name}' needs frame labels: make them with `bab targets "
            "--corpus ... --out FOLDER` and give --targets FOLDER, or say what to cluster: "
            "--set targets.encoder=mfcc"
        )
    rank, world, _ = process()
    features = _features(config)
    known = [asked.model_dump(mode="json"), features.identity, digest, config.seed]
    facts = json.dumps(known, sort_keys=True)
    name = hashlib.blake2b(facts.encode(), digest_size=6).hexdigest()
    folder = Path(config.runs) / "targets" / name
    settings = Settings(
        asked.clusters,
        config.seed,
        sample_hours=asked.sample_hours,
        skip_bad=config.skip_bad,
        rank=rank,
        world=world,
    )
    make(clips, features, folder, settings, {"unreadable": []}, tell)
    return TargetStore(folder)


def _features(config: PretrainConfig) -> FrameFeatures:
    asked = config.targets
    assert asked.encoder is not None
    if asked.encoder == "mfcc":
        return Mfcc()
    if asked.layer is None:
        raise ConfigError(f"targets.encoder={asked.encoder}: which layer? Give targets.layer")
    _, keys, options = component("encoder", asked.encoder)
    named = EncoderConfig(**keys, options=options.model_dump(mode="json"))
    device = resolve_device(config.device)
    if device == "cuda" and process()[1] > 1:
        device = f"cuda:{process()[2] % torch.cuda.device_count()}"
    return LayerFeatures(
        build_encoder(named, config.offline, config.trust_code), asked.layer, torch.device(device)
    )

"""One pretraining run: crops, masks, a self-supervised loss, and an encoder that others can load.

A run's folder is named by a hash of all that its weights depend on, as in `bab.running.runner`: a
finished run is found and not repeated, an unfinished one goes on from its newest checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from bab.checking.blame import naming
from bab.checking.encoders import check_made
from bab.config.corpora import open_corpora, open_corpus
from bab.config.pretrain import PretrainConfig
from bab.core import registry
from bab.core.components import build_encoder, freeze, identity
from bab.core.errors import ConfigError, PluginError
from bab.core.interfaces import Corpus, Encoder, Objective
from bab.core.names import short
from bab.core.record import RunInfo
from bab.core.seeds import derive
from bab.core.types import Permissions
from bab.machine.memory import set_up
from bab.pretraining.data import gather, refuse_twice
from bab.pretraining.labels import targets_for
from bab.pretraining.running import RESULT, Running
from bab.pretraining.watch import PROBES
from bab.starting import folders
from bab.starting.lifecycle import lifecycle
from bab.targets.store import TargetStore


@naming()
def pretrain(config: PretrainConfig, force: bool = False) -> tuple[dict[str, Any], Path]:
    """Do one pretraining run, or find it done.

    Returns:
        What `pretrain.json` holds, and the run's folder; the encoder is in its `model` folder.

    Raises:
        BabError: a user's mistake, with its remedy; what was computed so far is kept.
    """
    set_up(config.device, config.train.deterministic)
    skips = bool(config.encoder.options.get("layerdrop"))  # layers without a gradient
    with lifecycle(config.device, config.train.precision, skips, config.observers) as life:
        permissions = Permissions(offline=config.offline)
        corpora = [open_corpus(config.corpus, permissions)]
        corpora += open_corpora(config.also, permissions=permissions)
        refuse_twice(corpora)
        encoder = _encoder(config)
        labelled = _check_objective(config).targets
        quiet, spec = config.quiet, config.encoder.spec
        tell = life.before("pretrain", config.corpus.name, spec, quiet)
        with life.accelerator.main_process_first():
            material = gather(config, corpora, tell)
        targets = None
        if labelled:
            heard = [*material.train, *material.dev]
            targets = targets_for(config, heard, material.digest, tell)
        objective, continued = _objective(config, encoder, targets)
        identifier = _identifier(config, encoder, targets, material.digest)
        folder = _folder(config, corpora, encoder, identifier)
        life.accelerator.wait_for_everyone()
        if not force and (folder / RESULT).exists():
            return json.loads((folder / RESULT).read_text(encoding="utf-8")), folder
        info = _info(config, encoder, identifier, folder)
        run = Running(config, encoder, objective, targets, material, life, info, folder)

        def clean() -> None:
            if force:
                _clear(folder)

        def opening() -> Iterator[str]:
            return run.opening(corpora, continued)

        return life.work(info, folder, clean, opening, run.train), folder


def _clear(folder: Path) -> None:
    """Throw an earlier result of the run away."""
    for name in ("checkpoints", PROBES):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / RESULT).unlink(missing_ok=True)


def _encoder(config: PretrainConfig) -> Encoder:
    """Raises ConfigError: an ensemble, whose members stay frozen."""
    named = config.encoder
    if named.fusion:
        raise ConfigError(f"ensemble '{named.name}' can't be pretrained: name one encoder")
    encoder = check_made(
        build_encoder(named.name, named.weights, named.options, config.offline, config.trust_code)
    )
    freeze(encoder, config.freeze)
    return encoder


def _check_objective(config: PretrainConfig) -> type[Objective]:
    cls: type[Objective] = registry.load("objectives", config.objective.name)
    if not cls.pretrains:
        raise ConfigError(
            f"objective '{config.objective.name}' learns from labels: `bab run` uses it. "
            f"`bab pretrain` takes {_pretraining() or 'one that pretrains: none is installed'}"
        )
    return cls


def _pretraining() -> str:
    """The objectives that learn from audio alone, of those that load."""
    each = []
    for name in registry.names("objectives"):
        with suppress(PluginError):
            each += [name] * bool(registry.load("objectives", name).pretrains)
    return " or ".join(each)


def _objective(
    config: PretrainConfig, encoder: Encoder, targets: TargetStore | None
) -> tuple[Objective, bool]:
    """The objective with its weights, and whether they come from the encoder's checkpoint."""
    cls = registry.load("objectives", config.objective.name)
    options = cls.Options(**config.objective.options)
    torch.manual_seed(derive(config.seed, "weights"))
    objective: Objective = cls(encoder.dim, [targets.clusters] if targets else [], options)
    objective.attach(encoder)
    return objective, objective.load_pretrained(encoder.extras())


def _identifier(
    config: PretrainConfig, encoder: Encoder, targets: TargetStore | None, digest: str
) -> str:
    more = hashlib.blake2b(digest_size=16)  # a checkpoint's quantiser and projections
    for name, value in sorted(encoder.extras().items()):
        more.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    labels = targets.fingerprint if targets else ""
    facts = [config.identity(), identity(encoder), more.hexdigest(), labels, digest]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=6).hexdigest()


def _folder(
    config: PretrainConfig, corpora: Sequence[Corpus], encoder: Encoder, identifier: str
) -> Path:
    """runs/pretrain/<corpora>/<encoder>/<id>."""
    first = "sample" if config.corpus.root is None else corpora[0].root.stem
    name = "+".join([f"{config.corpus.name}-{first}", *(c.name for c in corpora[1:])])
    called = short(encoder.resolved, encoder.fingerprint)
    return folders.place(config.runs, "pretrain", name, called, identifier)


def _info(config: PretrainConfig, encoder: Encoder, identifier: str, folder: Path) -> RunInfo:
    return RunInfo(
        identifier,
        str(folder),
        "pretrain",
        config.corpus.name,
        encoder.resolved,
        config.train.steps,
        config.model_dump(mode="json"),
        "loss",
    )

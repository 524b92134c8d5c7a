"""`--smoke`: a recipe run for a few steps on what ships with bab, to see that it runs at all.

Weights that can't be had everywhere are replaced by untrained tiny ones, the corpus by its sample.
The figures mean nothing, and the run says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bab.config.files import Settings, read
from bab.config.merge import merge
from bab.config.pretrain import PretrainConfig
from bab.config.run import RunConfig
from bab.core import names, registry

FOLDER = "smoke-runs"  # not among the runs: their tables hold results
_TRAIN = {
    "steps": 3,
    "batch": 4,
    "accumulation": 1,
    "warmup": 1,
    "hold": 0,
    "eval_every": 3,
    "save_every": 3,
    "workers": 1,
    "precision": "fp32",
}


def smoke_settings(recipe: Path) -> tuple[Settings, list[str]]:
    """What goes over a recipe's keys, and what it replaces, in words.

    Raises:
        ConfigError: unknown keys in the recipe.
    """
    name, keys = read(recipe)
    pretrains = keys.pop("kind", "run") == "pretrain"
    values = merge([(name, keys)], PretrainConfig if pretrains else RunConfig).values
    said: list[str] = []
    over: dict[str, Any] = {"runs": FOLDER, "train": dict(_TRAIN)}
    encoder = values.get("encoder", {})
    if "name" in encoder:
        over["encoder"] = {"name": encoder["name"]}
        weights = _weights(str(encoder["name"]))
        if weights:
            over["encoder"]["weights"] = weights
            named = encoder.get("weights") or "the default weights"
            said.append(f"{named} -> {weights} (untrained)")
    corpus = values.get("corpus", {})
    if "name" in corpus:
        over["corpus"] = {"name": corpus["name"]}
        said.append(f"corpus -> the sample of {corpus['name']} that ships with bab")
    if pretrains:
        over["train"]["seconds"] = 16.0
        over |= {"audio": {"crop": 2.0}, "dev_seconds": 8.0, "also": [], "probe": {"every": None}}
        over["targets"] = {"folder": None, "encoder": "mfcc", "layer": None, "clusters": 8}
    else:
        over["folds"] = 3
    said.append("3 steps: the figures mean nothing")
    return ("--smoke", over), said


def _weights(name: str) -> str:
    """Untrained weights, tiny ones where the encoder has them: those that it calls random, and
    tiny; none for an ensemble."""
    members = names.members(name)
    if len(members) > 1:
        return ""
    listed = registry.load("encoders", members[0].name).weights
    untrained = [one for one in listed if one.startswith("random")]
    return next((one for one in untrained if "tiny" in one), next(iter(untrained), ""))

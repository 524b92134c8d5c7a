"""Which of a frozen encoder's layers a probe reads: the weights that its layer mix has learned."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bab.core.atomic import write_text
from bab.core.errors import NotApplicableError
from bab.core.names import members
from bab.explaining.pictures import AGAINST, FOR, figure
from bab.running.saved import model_folder


class Weights(NamedTuple):
    """encoder: as the record has it; shares: of its layers, the input embedding first; sum 1."""

    encoder: str
    shares: tuple[float, ...]


def layer_weights(folder: str | Path) -> list[Weights]:
    """Of each encoder of a run's model.

    Raises:
        BabError: no model there.
        NotApplicableError: a run that mixes no layers.
    """
    from bab.running import model

    place = model_folder(Path(folder))
    spec = model.load_spec(place)
    tensors = model.load_weights(place, spec)
    names = sorted(name for name in tensors if name.startswith("mix.") and name.endswith("logits"))
    if not names:
        raise NotApplicableError(
            f"{place} mixes no layers (layers={spec['layers']}): layer weights are those of probes "
            "with layers=mix on an encoder of several layers"
        )
    called = [member.spec for member in members(spec["resolved"].removesuffix(" (late)"))]
    weights = []
    for name in names:
        part = name.split(".")  # mix.logits, or mix.mixes.N.logits of an ensemble
        one = called[int(part[2])] if len(part) == 4 else spec["resolved"]
        weights.append(Weights(one, tuple(tensors[name].softmax(0).tolist())))
    return weights


def write_layers(folder: str | Path, out: str | Path, formats: Sequence[str]) -> list[Path]:
    """`layers.csv`, and bars; the files that were written."""
    weights, out = layer_weights(folder), Path(out)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("encoder", "layer", "weight"))
    for one in weights:
        table.writerows((one.encoder, i, f"{share:.6f}") for i, share in enumerate(one.shares))
    write_text(out / "layers.csv", text.getvalue())
    paths = [out / f"layers.{form}" for form in dict.fromkeys(formats)]
    with figure(7.0, 2.6 * len(weights) + 0.3, *paths) as page:
        panels = page.subplots(len(weights), 1, squeeze=False)[:, 0]
        for panel, one in zip(panels, weights, strict=True):
            best = max(one.shares)
            colours = [FOR if share == best else AGAINST for share in one.shares]
            panel.bar(range(len(one.shares)), one.shares, color=colours)
            even = 1 / len(one.shares)
            panel.axhline(even, color="black", lw=0.8, ls="--")
            panel.set_ylim(0, 1.1 * best)
            panel.set_xticks(range(len(one.shares)))
            panel.set_xlabel("layer (0: the input embedding)")
            panel.set_ylabel("weight")
            panel.set_title(f"{one.encoder} (dashed: all alike)", loc="left", fontsize=10)
    return [out / "layers.csv", *paths]

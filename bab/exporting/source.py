"""What is exported: a run's model, or a pretraining run's encoder, and all that is known of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bab.core.components import build_encoder
from bab.core.errors import BabError
from bab.core.interfaces import Encoder
from bab.core.record import Record
from bab.core.types import Batch, Waves
from bab.results.record import PRETRAINED, RECORD, load
from bab.running.saved import Saved, load_saved

_EDGE = 0.05  # share of the steps that "at the start" and "at the end" mean
_NONE = torch.empty(0)


@dataclass(frozen=True, slots=True)
class Source:
    """A run's model. saved: None of a pretraining run, which has an encoder alone; record, result:
    of a run, of a pretraining run; losses: mean over the first and the last steps, None where no
    log was kept; fold: the number of the fold that it is of, "" where there are none."""

    folder: Path
    encoder: Encoder
    saved: Saved | None
    record: Record | None
    result: Mapping[str, Any]
    losses: tuple[float, float] | None
    fold: str = ""

    @property
    def id(self) -> str:
        """The run's."""
        return str(self.saved.spec["run"] if self.saved else self.result["id"])

    @property
    def config(self) -> Mapping[str, Any]:
        """All keys of the run; of a model whose record is gone, what the model itself knows."""
        if self.record is not None:
            return self.record.config
        return self.saved.spec if self.saved else self.result["config"]

    @property
    def began(self) -> str:
        """The encoder that the run began with, as it names it."""
        return str(self.saved.spec["resolved"] if self.saved else self.result["encoder"])


def open_source(folder: Path, offline: bool, trust_code: bool) -> Source:
    """A run's folder, a fold's, or a pretraining run's.

    Raises:
        BabError: there is no finished run, or its encoder has changed since.
    """
    for place in (folder, folder.parent):
        if (place / PRETRAINED).is_file():
            return _pretrained(place, offline, trust_code)
    if (folder / "model" / "config.json").is_file() or (folder / "checkpoints").is_dir():
        raise BabError(f"{folder} is not finished: the command that began it goes on with it")
    saved = load_saved(folder, offline, trust_code)
    top = saved.place.parent
    fold = top.name if top.parent.name == "folds" else ""
    run = top.parent.parent if fold else top
    record = load(run) if (run / RECORD).is_file() else None
    several = (run / "folds").is_dir()  # beside them, a model of all recordings: its log is mixed
    losses = None if several and not fold else _losses(run / "log.jsonl", int(fold or 0))
    return Source(run, saved.encoder, saved, record, {}, losses, fold)


def sound(seconds: float, rate: int) -> Tensor:
    """f32[S]: a gliding tone in faint noise, the same each time, to compare models on."""
    time = torch.arange(round(seconds * rate)) / rate
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    return 0.3 * torch.sin(2 * torch.pi * (200 + 300 * time) * time) + 0.05 * noise


@torch.no_grad()
def said(source: Source, samples: Tensor, head: bool) -> dict[str, Tensor]:
    """What the run's own model gives for clips of one length, f32[B, S].

    head: "logits" of its head, and "embeddings" of a pair task; else "last" and all "layers",
    f32[B, T, D] and f32[B, L, T, D], of its encoder.
    """
    waves = Waves(samples, torch.full((len(samples),), samples.shape[1]))
    if not head or source.saved is None:
        layers = source.encoder(waves).layers
        return {"last": layers[-1], "layers": torch.stack(layers, dim=1)}
    model, batch = source.saved.model, Batch(waves, _NONE, _NONE, (), 0)
    values = {"logits": model(batch)[0]}
    if source.saved.task.pairs:
        values["embeddings"] = model.embed(batch)
    return values


def _pretrained(folder: Path, offline: bool, trust_code: bool) -> Source:
    result = json.loads((folder / PRETRAINED).read_text(encoding="utf-8"))
    if not (folder / "model").is_dir():
        raise BabError(f"{folder} has no model folder: run the pretraining again with --force")
    name = result["config"]["encoder"]["name"]
    encoder = build_encoder(name, str(folder / "model"), {}, offline, trust_code)
    return Source(folder, encoder, None, None, result, _losses(folder / "log.jsonl"))


def _losses(log: Path, fold: int = 0) -> tuple[float, float] | None:
    """The mean loss of the first and of the last twentieth of a fold's steps that a log has."""
    values = {step: loss for step, loss in _steps(log, fold) if loss is not None}
    rows = [values[step] for step in sorted(values)]
    if not rows:
        return None
    part = max(1, round(len(rows) * _EDGE))
    return sum(rows[:part]) / part, sum(rows[-part:]) / part


def _steps(log: Path, fold: int) -> Iterator[tuple[int, float | None]]:
    """Each step's loss; one that was repeated after a stop comes again."""
    if not log.is_file():
        return
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            if '"event": "step"' in line:
                event = json.loads(line)
                if event.get("fold", 0) == fold:
                    yield event["step"], event.get("loss")

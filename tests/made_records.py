"""Records made up for tests of tables."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from bab.core.record import Record
from bab.results.record import save

CONFIG: dict[str, Any] = {
    "seed": 0,
    "device": "auto",
    "corpus": {"name": "rttm", "root": None, "options": {}},
    "train": {"steps": 300, "lr": 0.001},
}
GROUPS = [0.2, 0.9, 0.4, 0.7, 0.1, 0.8]  # a rate of each of six


def kept(rates: list[float], **changes: Any) -> dict[str, Any]:
    """What a run keeps, where each group's metric is one number and groups are of one size."""
    rest = [(sum(rates) - rate) / (len(rates) - 1) for rate in rates]
    return {
        "unit": "recording",
        "groups": [f"home{i:02}" for i in range(len(rates))],
        "sizes": [60.0] * len(rates),
        "effective": float(len(rates)),
        "metric": "f1",
        "scale": "share",
        "left_out": rest,
        "rare": {},
    } | changes


def make(name: str = "r1", value: float = 0.65, **changes: Any) -> Record:
    record = Record(
        id=name,
        status="done",
        task="vtc",
        task_version="1",
        corpus="rttm",
        corpus_version="1",
        corpus_digest="d1" * 8,
        encoder="fbank",
        encoder_fingerprint="f1" * 8,
        head="frames",
        objective="multilabel",
        mode="probe",
        seed=0,
        protocol="given",
        split="test",
        metrics={"f1": value, "f1/KCHI": 0.8},
        intervals={"f1": (value - 0.1, value + 0.1), "f1/KCHI": (0.7, 0.9)},
        units={"f1": "", "f1/KCHI": ""},
        primary="f1",
        jackknife=kept([value - 0.05, value, value + 0.05]),
        labels={"voice": ["KCHI", "FEM"]},
        cost={"encoder_parameters": 94.4e6, "encoder_audio_per_second": 7.7},
        config=CONFIG,
    )
    return dataclasses.replace(record, **changes)


def config(**train: Any) -> dict[str, Any]:
    return CONFIG | {"train": CONFIG["train"] | train}


def put(root: Path, record: Record) -> Path:
    folder = root / record.task / record.corpus / record.encoder / record.id
    return save(record, folder)


def edit(path: Path, **changes: Any) -> None:
    """Change what a record's file says, as a person may: without the checksum."""
    values = json.loads(path.read_text()) | changes
    values.pop("checksum", None)
    path.write_text(json.dumps(values))


def one(name: str, encoder: str, shift: float = 0.0, wiggle: float = 0.0, **more: Any) -> Record:
    """A record whose groups differ from `GROUPS` by a shift, and by a little each."""
    changes = np.array([1, -1, 1, -1, 1, -1]) * wiggle
    rates = (np.array(GROUPS) + shift + changes).tolist()
    value = float(np.mean(rates))
    more = {"metrics": {"f1": value}, "jackknife": kept(rates), **more}
    return make(name, value, encoder=encoder, **more)


def table(text: str) -> list[list[str]]:
    """The cells of a Markdown table."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in rows]


def notes(text: str) -> list[str]:
    """What stands in a Markdown list."""
    return [line[2:] for line in text.splitlines() if line.startswith("- ")]

"""One run: what an observer is told of it, and its result."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_LIBRARIES = (
    "bab", "torch", "torchaudio", "transformers", "accelerate", "numpy", "soundfile", "soxr",
    "scikit-learn", "pyannote.metrics",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What an observer is told about the run that it watches.

    Each fold counts its steps from 1: `fold` of `folds` (from 0) says which one an event is from.
    """

    id: str
    folder: str
    task: str
    corpus: str
    encoder: str
    steps: int
    config: Mapping[str, Any]
    primary: str = ""  # the task's headline metric
    fold: int = 0
    folds: int = 1


@dataclass(slots=True)
class Record:
    """One run's result, as `record.json` holds it (docs/records.md explains every field)."""

    id: str
    status: str  # done | failed | not-applicable
    task: str
    task_version: str
    corpus: str
    corpus_version: str
    corpus_digest: str
    encoder: str
    encoder_fingerprint: str
    head: str
    objective: str
    mode: str
    seed: int
    protocol: str
    split: str
    metrics: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    primary: str = ""
    higher_is_better: bool = True
    jackknife: dict[str, Any] = field(default_factory=dict)
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, dict[str, float]] = field(default_factory=dict)
    subgroups: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    confusion: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    dev: dict[str, float] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    tuned: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, list[str]] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    leakage: bool = False
    notices: list[str] = field(default_factory=list)
    reason: str = ""
    created: str = ""
    format: int = 2

    @classmethod
    def failed(
        cls,
        status: str,
        reason: str,
        *,
        id: str,
        task: str,
        corpus: str,
        encoder: str,
        seed: int,
        config: dict[str, Any],
        head: str = "",
        objective: str = "",
        mode: str = "probe",
        protocol: str = "given",
        task_class: Any = None,
        corpus_class: Any = None,
    ) -> Record:
        """The record of a run that came to nothing.

        status: failed | not-applicable. task_class, corpus_class: None where they can't be loaded,
        which may be why it failed.
        """
        return cls(
            id=id,
            status=status,
            task=task,
            task_version=str(getattr(task_class, "version", "")),
            corpus=corpus,
            corpus_version=str(getattr(corpus_class, "version", "")),
            corpus_digest="",
            encoder=encoder,
            encoder_fingerprint="",
            head=head,
            objective=objective,
            mode=mode,
            seed=seed,
            protocol=protocol,
            split="test",
            primary=str(getattr(task_class, "primary", "")),
            higher_is_better=bool(getattr(task_class, "higher_is_better", True)),
            units=dict(getattr(task_class, "units", {})),
            config=config,
            reason=reason,
            created=now(),
        )


def now() -> str:
    """The date and time, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Python's and the libraries' versions, by name."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    known = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            known[name] = version(name)
        except PackageNotFoundError:  # e.g. bab from a source folder, not installed
            known[name] = "not installed"
    return known

"""The suite of a component that is installed: which checks, and what they are handed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bab.core import registry
from bab.core.components import build_encoder
from bab.core.errors import ConfigError
from bab.core.interfaces import Corpus, Encoder
from bab.testing.suite import Check


class Suite(NamedTuple):
    """Checks, and the one thing that each of them is handed."""

    checks: Sequence[Check]
    subject: Any


@dataclass(frozen=True)
class _Make:
    """Loads an encoder as a run does."""

    name: str
    weights: str
    options: Any
    offline: bool
    trust_code: bool

    def __call__(self) -> Encoder:
        return build_encoder(
            self.name, self.weights, self.options.model_dump(), self.offline, self.trust_code
        )


@dataclass(frozen=True)
class Asked:
    """What is to be checked.

    where: what stands after the colon: weights, a root, a model. options: those of `Options`.
    corpus: for a task, in place of its own sample. samples: files of a format.
    """

    kind: str
    name: str
    folder: Path
    where: str = ""
    options: Mapping[str, Any] | None = None
    corpus: Corpus | None = None
    samples: tuple[Path, ...] = ()
    offline: bool = False
    trust_code: bool = False


def suite_of(asked: Asked) -> Suite:
    """The suite of one component.

    Raises:
        PluginError: it can't be loaded.
        ConfigError: it lacks something to be checked on.
        BabError: whatever the component says of weights or folders.
    """
    cls = registry.load(asked.kind, asked.name)
    options = cls.Options(**(asked.options or {})) if hasattr(cls, "Options") else None
    return _SUITES[asked.kind](asked, cls, options)


def _encoder(asked: Asked, cls: Any, options: Any) -> Suite:
    from bab.testing.encoders import ALL

    weights = asked.where or cls.default
    make = _Make(asked.name, weights, options, asked.offline, asked.trust_code)
    make()  # weights that can't be had are no fault of the plugin's
    return Suite(ALL, make)


def _corpus(asked: Asked, cls: Any, options: Any) -> Suite:
    from bab.testing.corpora import CHECKS

    place = Path(asked.where).expanduser() if asked.where else cls.sample
    if place is None:
        raise ConfigError(
            f"corpus '{asked.name}' ships no sample: name a small folder, {asked.name}:FOLDER"
        )
    corpus: Corpus = cls(Path(place).resolve() if Path(place).exists() else place, options)
    return Suite(CHECKS, corpus)


def _task(asked: Asked, cls: Any, options: Any) -> Suite:
    from bab.testing.taskcase import TaskCase
    from bab.testing.tasks import CHECKS

    try:
        return Suite(CHECKS, TaskCase.of(cls(options), asked.corpus))
    except AssertionError as error:
        raise ConfigError(
            f"task '{asked.name}' can't be tried: {error}. Name a corpus: --corpus NAME:ROOT"
        ) from error


def _head(asked: Asked, cls: Any, options: Any) -> Suite:
    from bab.testing.heads import CHECKS, HeadCase

    return Suite(CHECKS, HeadCase(cls, options))


def _objective(asked: Asked, cls: Any, options: Any) -> Suite:
    from bab.testing.objectives import CHECKS, ObjectiveCase, level_of

    return Suite(CHECKS, ObjectiveCase(cls, options, level_of(cls, options)))


def _observer(asked: Asked, cls: Any, options: Any) -> Suite:
    from bab.testing.observers import CHECKS, ObserverCase

    return Suite(CHECKS, ObserverCase(cls, asked.folder))


def _format(asked: Asked, cls: Any, options: Any) -> Suite:
    from bab.testing.formats import CHECKS, FormatCase

    return Suite(CHECKS, FormatCase(cls, asked.folder, asked.samples))


def _model(asked: Asked, cls: Any, options: Any) -> Suite:
    from bab.testing.models import CHECKS, ModelCase

    return Suite(CHECKS, ModelCase(asked.name, asked.where, asked.folder))


def _launcher(asked: Asked, cls: Any, options: Any) -> Suite:
    from bab.testing.launchers import CHECKS, LauncherCase

    cls(options).poll(["0"])  # an engine that isn't up is no fault of the plugin's
    return Suite(CHECKS, LauncherCase(cls, options, asked.folder))


_SUITES = {
    "encoders": _encoder,
    "datasets": _corpus,
    "tasks": _task,
    "heads": _head,
    "objectives": _objective,
    "observers": _observer,
    "formats": _format,
    "models": _model,
    "launchers": _launcher,
}

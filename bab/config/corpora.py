"""The corpora of a command, as a person names them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bab.config.resolve import corpus_config, task_config
from bab.config.run import CorpusConfig
from bab.core import registry
from bab.core.components import build_task
from bab.core.errors import BabError, ConfigError, CorpusError
from bab.core.interfaces import Corpus, Task
from bab.core.types import Permissions


def open_corpus(config: CorpusConfig, permissions: Permissions = Permissions()) -> Corpus:
    """A corpus at its root; None = its shipped sample.

    Raises:
        ConfigError: no root was named and no sample of this layout ships.
        CorpusError: the root isn't there (nor can be a name on a hub); a corpus that needs a
            folder, or takes a file, says so itself.
    """
    cls, place = registry.load("datasets", config.name), place_of(config)
    asks = "permissions" in inspect.signature(cls.__init__).parameters
    more = {"permissions": permissions} if asks else {}
    corpus: Corpus = cls(place, cls.Options(**config.options), **more)
    corpus.name = config.name
    return corpus


def place_of(config: CorpusConfig) -> Path:
    """Where a corpus is: its root, or the shipped sample.

    Raises:
        ConfigError, CorpusError: as `open_corpus`, where there is no such place.
    """
    cls = registry.load("datasets", config.name)
    place: Path | None = cls.sample if config.root is None else Path(config.root).expanduser()
    if place is None:
        raise ConfigError(
            f"corpus '{config.name}' ships no sample: name its folder, {config.name}:PATH"
        )
    if os.path.exists(place):  # noqa: PTH110  (`Path.exists` raises where a name is too long)
        return place.resolve()
    if not cls.hub:
        raise CorpusError(f"{place}: there is no such folder or file (corpus '{config.name}')")
    return place


def tasks_for(asked: str | None, sets: Sequence[str], provides: frozenset[str]) -> dict[str, Task]:
    """The task that is asked for, by name; else, of a corpus that provides segments, those that
    need nothing else: what other corpora are meant for can't be known.

    sets: texts of `--set task.KEY=VALUE`.
    """
    if asked is not None:
        return {asked: _task(asked, sets)}
    made: dict[str, Task] = {}
    for name in registry.names("tasks") if "segments" in provides else ():
        with suppress(BabError):  # a broken plugin, or an option that must be given
            made[name] = _task(name, ())
    return {name: task for name, task in made.items() if task.needs == {"segments"}}


def _task(name: str, sets: Sequence[str]) -> Task:
    config = task_config(name, sets)
    return build_task(config.name, config.options)


def open_corpora(
    specs: Sequence[str],
    sets: Sequence[str] = (),
    permissions: Permissions = Permissions(),
) -> list[Corpus]:
    """The corpora that are named NAME or NAME:ROOT; `sets` (corpus.KEY=VALUE) holds for all.

    Raises:
        ConfigError: one that is named twice, or a key that it doesn't have.
        CorpusError: a root that isn't there, or files that disagree.
    """
    for spec in specs:
        if specs.count(spec) > 1:
            raise ConfigError(f"--corpus {spec} stands twice: name each corpus once")
    return [open_corpus(corpus_config(spec, sets), permissions) for spec in specs]


def sets_of(section: str, sets: Sequence[str]) -> list[str]:
    """Those of `--set KEY=VALUE` that begin with a section's name ("corpus", "encoder")."""
    return [text for text in sets if text.startswith(f"{section}.")]


def refuse_other_sets(sections: Sequence[str], sets: Sequence[str]) -> None:
    """Refuse a `--set` of a section that this command doesn't have.

    Raises:
        ConfigError: naming it.
    """
    for text in sets:
        if text.partition(".")[0] not in sections:
            known = " and ".join(f"{name}.KEY=VALUE" for name in sections)
            raise ConfigError(f"--set {text}: here only {known} have a meaning")

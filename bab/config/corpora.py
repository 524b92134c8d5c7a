"""The corpora of a command, as a person names them."""

from __future__ import annotations

from collections.abc import Sequence

from bab.config.resolve import corpus_config
from bab.config.run import CorpusConfig
from bab.core.components import build_corpus
from bab.core.errors import ConfigError
from bab.core.interfaces import Corpus
from bab.core.types import Permissions


def open_corpus(config: CorpusConfig, permissions: Permissions = Permissions()) -> Corpus:
    """A corpus at its root, or its shipped sample.

    Raises:
        ConfigError, CorpusError: see `bab.core.components.build_corpus`.
    """
    return build_corpus(config.name, config.root, config.options, permissions)


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

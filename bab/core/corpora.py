"""Several corpora of one command, as a person names them."""

from __future__ import annotations

from collections.abc import Sequence

from bab.core.build import build_corpus
from bab.core.config import component
from bab.core.errors import AudioError, ConfigError
from bab.core.interfaces import Corpus
from bab.core.schema import CorpusConfig


def open_corpora(specs: Sequence[str], sets: Sequence[str] = ()) -> list[Corpus]:
    """The corpora that are named NAME or NAME:ROOT; `sets` (corpus.KEY=VALUE) holds for all.

    Raises:
        ConfigError: one that is named twice, or a key that it doesn't have.
        CorpusError: a root that isn't there, or files that disagree.
    """
    for spec in specs:
        if specs.count(spec) > 1:
            raise ConfigError(f"--corpus {spec} stands twice: name each corpus once")
    found = []
    for spec in specs:
        _, keys, options = component("corpus", spec, sets)
        found.append(build_corpus(CorpusConfig(**keys, options=options.model_dump(mode="json"))))
    return found


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


def refuse_bad(bad: dict[str, str], skip: bool) -> None:
    """Stop at unreadable files, unless they may be left out. bad: file -> why.

    Raises:
        AudioError: naming the first five.
    """
    if not bad or skip:
        return
    shown = "\n  ".join(list(bad.values())[:5])
    more = f"\n  and {len(bad) - 5} more" if len(bad) > 5 else ""
    raise AudioError(
        f"{len(bad)} unreadable file(s):\n  {shown}{more}\n"
        "Mend them (`bab data check` lists all), or leave them out with --skip-bad"
    )

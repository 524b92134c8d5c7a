"""The audio of a pretraining run: the clips of its corpora, split, cut to what is there, named."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bab.audio import reading
from bab.config.pretrain import PretrainConfig
from bab.core.errors import ConfigError, CorpusError, LeakageError
from bab.core.interfaces import Corpus
from bab.core.types import Clip, Tell
from bab.data import splits
from bab.data.check import bad_files, refuse_bad
from bab.data.content import contents
from bab.data.cross_corpus import names_apart, prefixed


@dataclass(frozen=True, slots=True)
class Material:
    """The audio of a run: clips by split, what was left out, and what stands for it all."""

    train: list[Clip]
    dev: list[Clip]
    skipped: dict[str, str]  # file -> why
    digest: str
    heard: frozenset[str]  # what the files hold that are trained on


def gather(config: PretrainConfig, corpora: Sequence[Corpus], tell: Tell) -> Material:
    """The clips to train on and those of dev: each corpus's splits, or as `config.use` says.

    What a corpus calls test is never used. One that can't be divided is used whole, without a
    dev. Of several corpora, ids and groups begin with the corpus's name.

    Raises:
        AudioError: unreadable files, unless `skip_bad`.
        CorpusError, LeakageError: as `bab.data.splits`.
    """
    train: list[Clip] = []
    dev: list[Clip] = []
    skipped: dict[str, str] = {}
    for name, corpus in zip(names_apart(corpora), corpora, strict=True):
        given = _given(corpus, config.use)
        listed = given[0] + given[1]
        bad = bad_files(listed, lambda n, of: tell("checking files", n, of, "files"))
        refuse_bad(bad, config.skip_bad)
        skipped |= bad
        good = [_inside([c for c in part if c.path not in bad]) for part in given]
        if len(splits.components(good[0])) > 1 and not good[1]:
            shares = {"train": 1 - config.dev_share, "dev": config.dev_share}
            good = [list(part) for part in splits.by_group(good[0], shares, 0).values()]
        if len(corpora) > 1:
            good = [[prefixed(clip, f"{name}/") for clip in part] for part in good]
        train += good[0]
        dev += good[1]
    splits.check_disjoint({"train": train, "dev": dev})
    parts = {"train": train, "dev": dev}
    content = contents(train + dev, lambda n, of: tell("taking checksums", n, of, "files"))
    heard = frozenset(content[clip.path] for clip in train)
    return Material(train, dev, skipped, _digest(parts, content), heard)


def _given(corpus: Corpus, use: str) -> list[list[Clip]]:
    """What a corpus gives to train on, and its dev, which may be empty.

    Raises:
        CorpusError: splits that are named and can't be used.
    """
    if use == "all" and not corpus.splits_given:
        return [list(corpus.clips(None)), []]
    try:
        return [list(corpus.clips(name)) for name in ("train", "dev")]
    except LeakageError:
        raise
    except CorpusError:
        if corpus.splits_given and corpus.listed != ("train",):  # the rest may be its test
            raise
        return [list(corpus.clips(None)), []]


def _inside(clips: Sequence[Clip]) -> list[Clip]:
    """The clips as far as their files go: what is claimed beyond the end can't be heard."""
    ends = {path: reading.duration(path) for path in {clip.path for clip in clips}}
    kept = [replace(c, end=min(c.end, ends[c.path])) for c in clips]
    return [clip for clip in kept if clip.duration > 0]


def refuse_twice(corpora: Sequence[Corpus]) -> None:
    """Raises ConfigError: a corpus that is named twice would be heard twice."""
    places = [(corpus.name, corpus.root) for corpus in corpora]
    for name, root in places:
        if places.count((name, root)) > 1:
            raise ConfigError(f"--corpus {name}:{root} stands twice: name each corpus once")


def _digest(good: dict[str, list[Clip]], content: Mapping[str, str]) -> str:
    """A hash of the audio and of where its clips are."""
    state = hashlib.blake2b(digest_size=16)
    for name, part in good.items():
        for c in part:
            state.update(repr((name, c.id, content[c.path], c.start, c.end, c.group)).encode())
    return state.hexdigest()

"""Several corpora as one: told apart by name, or one to train and one to test (`--test-corpus`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bab.core.errors import ConfigError
from bab.core.interfaces import Corpus
from bab.core.types import Clip, Trial


def names_apart(corpora: Sequence[Corpus]) -> list[str]:
    """A name for each corpus; those of one kind are numbered: rttm1, kaldi, rttm2."""
    kinds = [corpus.name for corpus in corpora]
    return [
        name if kinds.count(name) == 1 else f"{name}{kinds[: i + 1].count(name)}"
        for i, name in enumerate(kinds)
    ]


def prefixed(clip: Clip, prefix: str) -> Clip:
    """A clip whose names can't be those of another corpus's."""
    if not prefix:
        return clip
    return replace(
        clip,
        id=prefix + clip.id,
        group=prefix + clip.group,
        speaker=None if clip.speaker is None else prefix + clip.speaker,
        voices=tuple(prefix + voice for voice in clip.voices),
    )


class Across(Corpus):
    """Train and dev of one corpus, test of another: its test split, or where it lists no splits all
    of its clips that may be tested on."""

    def __init__(self, trained: Corpus, tested: Corpus, distinct: bool) -> None:
        """distinct: names of the tested corpus mean other people and recordings than in the
        trained one; they are then told apart by the corpus's name."""
        self.trained, self.tested, self.distinct = trained, tested, distinct
        self.corpora = (trained, tested)
        self.name = f"{trained.name}→{tested.name}"
        self.root = tested.root
        self.version = f"{trained.version}→{tested.version}"  # type: ignore[misc]
        self.provides = trained.provides & tested.provides  # type: ignore[misc]
        self.unit = tested.unit  # type: ignore[misc]

    @property
    def notices(self) -> list[str]:  # type: ignore[override]
        """Those of both, and what was tested on."""
        what = "its test split" if self.tested.splits_given else "all of it, as it lists no splits"
        both = [
            f"{corpus.name} ({role}): {notice}"
            for corpus, role in ((self.trained, "train, dev"), (self.tested, "test"))
            for notice in corpus.notices
        ]
        return [
            *both,
            f"Trained and tuned on {self.trained.name}, tested on {self.tested.name}: {what}.",
        ]

    def clips(self, split: str | None = None) -> Iterator[Clip]:
        """A split, or all three."""
        for name in self.splits() if split is None else (split,):
            if name != "test":
                yield from self.trained.clips(name)
                continue
            clips = self.tested.clips("test" if self.tested.splits_given else None)
            yield from (prefixed(c, self._prefix) for c in clips if self.tested.testable(c))

    def trials(self, split: str) -> list[Trial]:
        """The trained corpus's for dev, the tested one's for test."""
        if split != "test":
            return list(self.trained.trials(split))
        prefix = self._prefix
        return [
            replace(trial, enrol=prefix + trial.enrol, test=prefix + trial.test)
            for trial in self.tested.trials(split)
        ]

    @property
    def _prefix(self) -> str:
        """What tells the tested corpus's names from the trained one's."""
        return f"{self.tested.name}-" if self.distinct else ""


def check_protocol(protocol: str) -> None:
    """Raises ConfigError: folds are made of one corpus."""
    if protocol != "given":
        raise ConfigError(
            f"--test-corpus tests on another corpus, so protocol={protocol} has no meaning: use "
            "protocol=given"
        )

"""Train and tune on one corpus, test on another (`--test-corpus`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from bab.core.errors import ConfigError
from bab.core.interfaces import Corpus
from bab.core.records import Clip, Trial
from bab.core.splits import Fold


class Across(Corpus):
    """Train and dev of one corpus, test of another: its test split, or where it lists no splits all
    of its clips that may be tested on."""

    def __init__(self, trained: Corpus, tested: Corpus, distinct: bool) -> None:
        """distinct: names of the tested corpus mean other people and recordings than in the
        trained one; they are then told apart by the corpus's name."""
        self.trained, self.tested, self.distinct = trained, tested, distinct
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
            yield from (self._named(c) for c in clips if self.tested.testable(c))

    def trials(self, split: str) -> list[Trial]:
        """The trained corpus's for dev, the tested one's for test."""
        if split != "test":
            return list(self.trained.trials(split))
        found = self.tested.trials(split)
        return [replace(t, enrol=self._name(t.enrol), test=self._name(t.test)) for t in found]

    def _named(self, clip: Clip) -> Clip:
        if not self.distinct:
            return clip
        return replace(
            clip,
            id=self._name(clip.id),
            group=self._name(clip.group),
            speaker=clip.speaker and self._name(clip.speaker),
            voices=tuple(map(self._name, clip.voices)),
        )

    def _name(self, name: str) -> str:
        return f"{self.tested.name}-{name}" if self.distinct else name


def same_audio(fold: Fold, content: Mapping[str, str]) -> str:
    """Which file of train or dev holds the same audio as one of test; "" where none does.

    content: path -> what it holds (bab.core.content).
    """
    known = {content[c.path]: c.path for c in (*fold.train, *fold.dev)}
    for clip in fold.test:
        if content[clip.path] in known:
            return (
                f"{known[content[clip.path]]} (train or dev) and {clip.path} (test) hold the same "
                "audio"
            )
    return ""


def check_protocol(protocol: str) -> None:
    """Raises ConfigError: folds are made of one corpus."""
    if protocol != "given":
        raise ConfigError(
            f"--test-corpus tests on another corpus, so protocol={protocol} has no meaning: use "
            "protocol=given"
        )

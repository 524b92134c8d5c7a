"""A corpus that is a list of clips: splits by lists or by group, and verification trials."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from bab.core.errors import CorpusError
from bab.core.interfaces import Corpus
from bab.core.types import Clip, Permissions, Trial
from bab.kit.recordings import SPLITS, Divided
from bab.kit.short import given_splits
from bab.kit.utterances import made_trials


class ListedCorpus(Corpus):
    """A corpus whose `read` gives all clips. The rest follows from them:

    - the splits that `given` says, else those of `train.txt`, `dev.txt` and `test.txt` in the root,
      a clip's id on each line, else splits by group, 60/20/20 % of the seconds;
    - `provides`: what all clips have (segments: what any has), unless the class says it;
    - `trials`, where `trial_count` isn't 0: that many for each split, made of the speakers.
    """

    trial_count: ClassVar[int] = 0  # verification trials that are made for each split

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        super().__init__(Path(root).resolve(), options, permissions)
        if not self.root.exists():
            raise CorpusError(f"{self.root}: no such folder.")
        clips = list(self.read())
        if not clips:
            raise CorpusError(f"{self.root}: there is no clip in it.")
        given = self.given(clips)
        self._divided = Divided(clips, given, self.root, self.notices, permissions)
        self.splits_given = self._divided.given
        if not type(self).provides:
            self.provides = _provided(clips)  # type: ignore[misc]

    def read(self) -> Iterable[Clip]:
        """Every clip, in a stable order.

        Raises:
            CorpusError: naming file, line and remedy.
        """
        raise NotImplementedError

    def given(self, clips: Sequence[Clip]) -> dict[str, Iterable[str]] | None:
        """Split -> ids of its clips; None where there is none.

        Raises:
            CorpusError: a listed name that no clip has.
        """
        lists = given_splits(self.root, clips) if self.root.is_dir() else None
        return dict(lists) if lists else None

    def splits(self) -> tuple[str, ...]:
        return tuple(self._divided.names)

    def clips(self, split: str | None = None) -> list[Clip]:
        return self._divided.clips(split)

    def trials(self, split: str) -> list[Trial]:
        return list(self._trials[split]) if self.trial_count and split in SPLITS else []

    @cached_property
    def _trials(self) -> dict[str, list[Trial]]:
        return {
            split: made_trials(
                self.clips(split), self.trial_count, lambda c: c.path, f"trials {split}"
            )
            for split in self.splits()
        }


def _provided(clips: Sequence[Clip]) -> frozenset[str]:
    names = set.intersection(*({*clip.labels} for clip in clips))
    names |= {what for what in ("text", "speaker") if all(getattr(c, what) for c in clips)}
    return frozenset(names | ({"segments"} if any(c.segments for c in clips) else set()))

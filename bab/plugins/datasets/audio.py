"""Corpus `audio`: any folder of recordings, without annotations.

FOLDER/
  GROUP/.../RECORDING.wav      a group is the first folder below FOLDER: a child, a family
  RECORDING.wav                a recording that lies in no folder is a group of its own
  train.txt dev.txt test.txt   optional: a recording on each line, its path below FOLDER
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar

import bab
from bab import Clip, CorpusError, Permissions
from bab.kit import AUDIO_SUFFIXES, Divided, given_splits, walk, whole_file


class Audio(bab.Corpus):
    """Recordings in whatever folders, grouped by the first folder below the corpus's own."""

    version: ClassVar[str] = "1"
    provides: ClassVar[frozenset[str]] = frozenset()
    unit: ClassVar[str] = "folder"
    # The recordings of another sample are a folder of recordings too.
    sample: ClassVar[Path | None] = (
        Path(__file__).parent / "samples" / "hindibabynet" / "RawAudioData"
    )
    source: ClassVar[str] = "bab's own: no layout is asked for"

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        super().__init__(Path(root).resolve(), options, permissions)
        paths = [p for p in walk(self.root) if p.suffix.lower() in AUDIO_SUFFIXES]
        if not paths:
            raise CorpusError(
                f"{self.root}: no audio in it or below it ({', '.join(AUDIO_SUFFIXES)})."
            )
        ids = self._ids(paths)
        inner = [path.relative_to(self.root).parts for path in paths]
        clips = [
            whole_file(name, path, parts[0] if len(parts) > 1 else name, {}, self.notices)
            for name, path, parts in zip(ids, paths, inner, strict=True)
        ]
        alone = sum(len(parts) == 1 for parts in inner)
        if alone:
            self.notices.append(
                f"{alone} recording{'s' * (alone != 1)} in no folder below {self.root}: each is a "
                "group of its own. Where one child or speaker is in several, put them into one "
                "folder."
            )
        listed = {"/".join(parts): name for parts, name in zip(inner, ids, strict=True)}
        lists = given_splits(self.root, clips, lambda line: _listed_id(line, listed))
        self._divided = Divided(clips, lists, self.root, self.notices, permissions)
        self.splits_given = self._divided.given

    def splits(self) -> tuple[str, ...]:
        return self._divided.names

    def clips(self, split: str | None = None) -> list[Clip]:
        return self._divided.clips(split)

    def _ids(self, paths: list[Path]) -> list[str]:
        """Each recording's path below the root without its ending; with it, where two differ in
        nothing else. White space becomes "_"."""
        whole = ["_".join(str(p.relative_to(self.root).as_posix()).split()) for p in paths]
        bare = [name[: -len(path.suffix)] for name, path in zip(whole, paths, strict=True)]
        times = Counter(bare)
        pairs = zip(bare, whole, strict=True)
        ids = [short if times[short] == 1 else name for short, name in pairs]
        twice = [name for name, times in Counter(ids).items() if times > 1]
        if twice:
            first, second = [p for p, name in zip(paths, ids, strict=True) if name == twice[0]][:2]
            raise CorpusError(f"{first} and {second} differ in white space only. Rename one.")
        return ids


def _listed_id(line: str, listed: dict[str, str]) -> str:
    """The clip that a line of a split list names: by its path below the root, or by its id."""
    path = "/".join(PureWindowsPath(line).parts)
    return listed.get(path, "_".join(path.split()))

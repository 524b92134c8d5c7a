"""What the corpora of short clips share: audio by the name that a table gives, whole-file clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from bab.core.errors import CorpusError
from bab.core.types import Clip
from bab.kit.faults import Faults
from bab.kit.recordings import (
    audio_by_uri,
    duration_of,
    read_split_lists,
    uri_of,
    walk,
)


class AudioIndex:
    """The audio files under a folder, found by name, in whatever folder and format they are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_stem = audio_by_uri(walk(root))

    def find(self, name: str) -> Path | None:
        """The file called `name`; failing that, the one that differs in its extension only.

        Raises:
            CorpusError: two files answer to the name.
        """
        alike = self._by_stem.get(uri_of(name), [])
        paths = [path for path in alike if path.name == name] or alike
        if len(paths) > 1:
            raise CorpusError(f"{paths[0]} and {paths[1]}: audio files with one name. Keep one.")
        return paths[0] if paths else None


def whole_file(
    clip_id: str,
    path: Path,
    group: str,
    labels: Mapping[str, str],
    notices: list[str],
    speaker: str | None = None,
) -> Clip:
    """A clip that is all of a file, as long as its header says. An unreadable file becomes a notice
    and a clip of no length, which `bab data check` and every run report by name."""
    end = duration_of(path, 0.0, notices)
    return Clip(clip_id, str(path), 0.0, end, group, speaker=speaker, labels=labels)


def given_splits(
    root: Path, clips: Iterable[Clip], name: Callable[[str], str] = uri_of
) -> dict[str, dict[str, str]] | None:
    """Split lists as `read_split_lists` finds them, every name of which is a clip's id.

    Raises:
        CorpusError: a listed name that no clip has.
    """
    faults = Faults()
    lists = read_split_lists(root, name, faults)
    known = {clip.id for clip in clips}
    for names in (lists or {}).values():
        for uri, place in names.items():
            if uri not in known:
                told = f"{place}: no clip is called '{uri}'. Take it off the list."
                faults.add(CorpusError(told))
    faults.refuse()
    return lists

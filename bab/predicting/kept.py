"""What is done in an out folder: a result for each recording, found by what made it and by audio.

Beside each result stand the files that were written of it, with a digest: what an earlier model has
left and nobody has changed since can be told from a person's work.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar

from bab.core.sealed import DamagedError
from bab.data.sealed import read_json, sealed, write_json
from bab.predicting.recordings import Named, Recording

STATE = ".bab"  # below the out folder: what is done, and what was begun
_BEGUN = "recording.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One recording's result. key: of options and audio; made_by: of options; digest: of the audio;
    start, end: of the recording in its file (start None: of a version that didn't note them);
    files: what was written of it, below the out folder -> digest."""

    key: str
    made_by: str
    name: str
    path: str
    digest: str
    seconds: float
    start: float | None = None
    end: float | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Self:
        """What `asdict` gave, read again."""
        return cls(**values)


K = TypeVar("K", bound=Kept)


class Results(Generic[K]):
    """What is done in an out folder, by recording."""

    def __init__(self, out: Path, kind: type[K], below: str = "") -> None:
        """below: the part of the state that is this command's."""
        self.out, self.kind = out, kind
        self.folder = out / STATE / below
        self._seen: dict[Path, _Seen | None] = {}

    def place(self, name: str) -> Path:
        """Where a recording's result is."""
        digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        return self.folder / "done" / digest[:2] / f"{digest}.json"

    def spool(self, key: str) -> Path:
        """Where an unfinished recording's rows are."""
        return self.folder / "begun" / key

    def begin(self, key: str, recording: Recording, digest: str) -> None:
        """Say on disk that files of a recording are about to be written: what a killed process
        leaves of them is then known as ours. Not waited for, as a result is: it is of no use where
        the power goes before those files are there."""
        self.spool(key).mkdir(parents=True, exist_ok=True)
        named = Named(recording.name, recording.path, recording.start, recording.end, digest)
        text = json.dumps(sealed(named._asdict()))
        (self.spool(key) / _BEGUN).write_text(text, encoding="utf-8")

    def end(self, key: str) -> None:
        """Forget what was begun: its result is kept."""
        shutil.rmtree(self.spool(key), ignore_errors=True)

    def find(self, name: str, key: str | None = None) -> K | None:
        """A recording's result; with a key, if it is of these options and this audio."""
        done = self._load(self.place(name))
        return done if done is not None and key in (None, done.key) else None

    def keep(self, done: K) -> None:
        """Write a result."""
        write_json(self.place(done.name), asdict(done), indent=None)
        self._seen[self.place(done.name)] = _seen(done)

    def all(self, made_by: str) -> Iterator[K]:
        """What these options have done in this folder, by name, one result in memory at a time."""
        names = sorted(its.name for its in self._looked() if its.made_by == made_by)
        for name in names:
            done = self.find(name)
            if done is not None:
                yield done

    def others(self, made_by: str) -> int:
        """How many results here are of another model, or of other options."""
        return sum(its.made_by != made_by for its in self._looked())

    def names(self) -> list[Named]:
        """The names that recordings have in this folder: those done, and those whose files may be
        there though they are not."""
        known = [its.named for its in self._looked() if its.named is not None]
        for path in (self.folder / "begun").glob(f"*/{_BEGUN}"):
            with suppress(OSError, DamagedError, ValueError, TypeError):
                known.append(Named(**read_json(path, (), "")))
        return known

    def clear(self, done: K) -> list[str]:
        """Remove what an earlier result of this recording has left and `done` has not. Lines about
        those that were changed since, which stay."""
        old = self.find(done.name)
        lines = []
        for name, digest in (old.files if old is not None else {}).items():
            path = self.out / name
            if name in done.files or not path.is_file():
                continue
            if digest_of(path) == digest:
                path.unlink(missing_ok=True)
            else:
                lines.append(
                    f"{name} is of an earlier model or other options, and was changed since: it "
                    "stays as it is"
                )
        return lines

    def files(self, paths: Iterable[Path]) -> dict[str, str]:
        """`Kept.files` of what was just written."""
        return {path.relative_to(self.out).as_posix(): digest_of(path) for path in paths}

    def _looked(self) -> list[_Seen]:
        """All results, in short. A file is read once."""
        for path in (self.folder / "done").glob("*/*.json"):
            if path not in self._seen:
                done = self._load(path)
                self._seen[path] = _seen(done) if done is not None else None
        return [its for its in list(self._seen.values()) if its is not None]

    def _load(self, path: Path) -> K | None:
        # One that is damaged isn't done.
        with suppress(OSError, DamagedError, ValueError, TypeError, KeyError, AttributeError):
            return self.kind.of_json(read_json(path, (), ""))
        return None


def digest_of(path: Path) -> str:
    """What a file holds, as a short name."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


class _Seen(NamedTuple):
    """Of a result, what is remembered."""

    made_by: str
    name: str
    named: Named | None


def _seen(done: Kept) -> _Seen:
    named = None
    if done.start is not None:
        named = Named(done.name, done.path, done.start, done.end, done.digest)
    return _Seen(done.made_by, done.name, named)

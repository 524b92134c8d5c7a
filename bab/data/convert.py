"""Annotation files from one format to another: one file, or a folder with its tree kept."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bab.core import registry
from bab.core.annotations import Annotation, Format, Mark
from bab.core.errors import BabError, did_you_mean
from bab.core.names import fitted
from bab.core.types import Tell
from bab.data.annotations import names_of, open_format


@dataclass
class Converted:
    """What a conversion did: files written; what was not kept, file by file; what failed."""

    written: list[Path] = field(default_factory=list)
    notices: list[tuple[Path, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)  # that the marks had


@dataclass(frozen=True)
class Conversion:
    """What is asked for. source: a format, "" = by suffix; labels: old label -> new one, NA = leave
    such marks out; read, write: options of the two formats."""

    source: str = ""
    target: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    read: Mapping[str, Any] = field(default_factory=dict)
    write: Mapping[str, Any] = field(default_factory=dict)


def convert(given: Path, out: Path, asked: Conversion, tell: Tell) -> Converted:
    """Convert a file, or every annotation file of a folder.

    A file that fails is named in the result, and the rest goes on. `out` is a file where a file is
    given and its suffix is of a format, or a folder.

    Raises:
        BabError: nothing to convert, no format to write, or two files that would become one.
    """
    if not given.exists():
        raise BabError(f"{given}: there is no such file or folder")
    folder = given.is_dir() or out.is_dir() or not out.suffix
    target = asked.target or _target(out, folder)
    form = open_format(target, asked.write)
    if not form.writes:
        raise BabError(f"--to {target}: this format is read only. {_known(writes=True)}")
    if given.is_dir() and out.exists() and not out.is_dir():
        raise BabError(f"{out}: is a file, and {given} a folder: name a folder for what is written")
    files = _files(given, out, asked.source) if given.is_dir() else [given]
    places = _places(files, given, out, form) if folder else {given: out}
    done = Converted()
    for number, (path, place) in enumerate(places.items(), 1):
        try:
            _convert_one(path, place, folder, asked, form, done)
        except BabError as error:
            done.failed.append(str(error))
        except OSError as error:
            why = f"can't be written ({error.strerror or error})"
            done.failed.append(f"{place}: {why}: see its folder, or name another place")
        done.notices += [(path, notice) for notice in form.notices]
        form.notices.clear()
        tell("converting", number, len(places), "files")
    for label in sorted(asked.labels.keys() - done.labels) if done.written else ():
        done.notices.append((given, f"labels.{label} is set, but no mark is labelled {label}"))
    return done


def _convert_one(
    path: Path, place: Path, folder: bool, asked: Conversion, form: Format, done: Converted
) -> None:
    annotations, notices = read_any(path, asked.source, asked.read)
    done.notices += [(path, notice) for notice in notices]
    done.labels |= {mark.label for one in annotations for mark in one.marks}
    annotations = [_relabelled(one, asked.labels) for one in annotations]
    if len(annotations) == 1 or "several" in form.keeps:
        parts = {place: annotations}
    elif folder:
        parts = {place.with_name(f"{_file_name(a.uri)}{place.suffix}"): [a] for a in annotations}
        if len(parts) < len(annotations):
            raise BabError(f"{path}: names of its recordings can't be told apart as files")
    else:
        raise BabError(
            f"{path}: holds {len(annotations)} recordings, and {place.name} can hold one: name a "
            "folder instead (with --to)"
        )
    for part, some in parts.items():
        if part.exists() and part.samefile(path):
            raise BabError(f"{path}: would be written over itself: name another place")
        if part in done.written:
            raise BabError(f"{path}: {part} was written from another file: convert it by itself")
        form.write(some, part)
        if "several" not in form.keeps and some[0].uri != part.stem:
            form.notices.append("1 recording takes the new file's name")
        done.written.append(part)


def read_any(
    path: Path, name: str = "", options: Mapping[str, Any] | None = None
) -> tuple[list[Annotation], list[str]]:
    """A file's annotations, and notices. name: its format; "" = by its suffix, and where several
    formats share that, the first which can read the file.

    Raises:
        BabError: no format has this suffix, or none of them can read the file.
    """
    names = [name] if name else names_of(path, lambda cls: cls.reads)
    if not names:
        raise BabError(f"{path}: no format has the suffix '{path.suffix}': say which with --from")
    errors = []
    for each in names:
        form = open_format(each, options)
        if not form.reads:
            raise BabError(f"--from {each}: this format can't be read. {_known()}")
        try:
            return form.read(path), form.notices
        except BabError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    tried = "; as ".join(f"{each}: {error}" for each, error in zip(names, errors, strict=True))
    raise BabError(f"{path}: can't be read as {tried}")


def summed(notices: Sequence[tuple[Path, str]]) -> list[str]:
    """Notices of many files as a few lines: those that differ in a number alone are added up."""
    numbers: Counter[tuple[str, ...]] = Counter()
    files: dict[tuple[str, ...], list[Path]] = {}
    for path, notice in notices:
        before, *rest = re.split(r"\b(\d+)\b", notice, maxsplit=1)  # not those of a format's name
        shape = (before, *rest[1:])
        numbers[shape] += int(rest[0]) if rest else 0
        files.setdefault(shape, []).append(path)
    return [
        f"{paths[0].name if len(paths) == 1 else f'{len(paths)} files'}: "
        + str(numbers[shape]).join(shape)
        for shape, paths in files.items()
    ]


def _relabelled(one: Annotation, labels: Mapping[str, str]) -> Annotation:
    if not labels:
        return one
    marks: list[Mark] = []
    for mark in one.marks:
        label = labels.get(mark.label, mark.label)
        if label == mark.label:
            marks.append(mark)
        elif label != "NA":
            speaker = "" if mark.speaker == mark.label else mark.speaker
            marks.append(replace(mark, label=label, speaker=speaker))
    return replace(one, marks=tuple(marks))


def _target(out: Path, folder: bool) -> str:
    names = names_of(out, lambda cls: cls.writes)
    if names and not folder:
        return names[0]
    only = [] if folder else names_of(out, lambda cls: cls.reads)
    told = f"'{only[0]}' is only read; " if only else ""
    raise BabError(f"{out}: {told}say which format to write with --to. {_known(writes=True)}")


def _known(writes: bool = False) -> str:
    each = {name: registry.load("formats", name) for name in registry.names("formats")}
    return did_you_mean("", [n for n, cls in each.items() if (cls.writes if writes else cls.reads)])


def _files(given: Path, out: Path, source: str) -> list[Path]:
    """The annotation files under a folder, sorted; hidden ones and those in `out` are not."""
    if source:
        cls = registry.load("formats", source)
        suffixes = {suffix.lower() for suffix in cls.suffixes}
    else:
        each = [registry.load("formats", name) for name in registry.names("formats")]
        suffixes = {s.lower() for cls in each if cls.reads for s in cls.suffixes}
    inside = out.resolve() if out.resolve() != given.resolve() else None
    files = [
        path
        for path in _walk(given)
        if path.suffix.lower() in suffixes
        and not (inside and path.resolve().is_relative_to(inside))
    ]
    if not files:
        kind = f"of the format {source}" if source else "of any format"
        raise BabError(f"{given}: holds no annotation file {kind} ({', '.join(sorted(suffixes))})")
    return files


def _walk(folder: Path) -> Iterator[Path]:
    for here, below, files in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from (Path(here, name) for name in sorted(files) if not name.startswith("."))


def _places(files: Sequence[Path], given: Path, out: Path, form: Format) -> dict[Path, Path]:
    """Where each file's result goes: the same place under `out`, with the format's suffix.

    Raises:
        BabError: two files that would become one.
    """
    top = given if given.is_dir() else given.parent
    places: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    for path in files:
        place = (out / path.relative_to(top)).with_suffix("")
        place = place.with_name(fitted(place.name) + form.suffixes[0])
        other = owners.setdefault(place, path)
        if other != path:
            raise BabError(f"{other} and {path} would both become {place}: choose with --from")
        places[path] = place
    return places


def _file_name(uri: str) -> str:
    """A recording's name as a file's, without folders."""
    return fitted(re.sub(r"[^\w.\- ]+", "_", uri).lstrip(".") or "_")

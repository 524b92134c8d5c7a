"""What corpora say of the samples that ship with bab, and what formats read and write, in words.

tests/plugins/told.txt is what was read beside the files themselves and found right: `python
tests/told.py` writes it again, after a change that was read as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import format_files

import bab
from bab.core import registry
from bab.core.errors import BabError
from bab.core.types import Clip, Permissions
from bab.data.annotations import open_format

FILE = Path(__file__).parent / "plugins" / "told.txt"
MORE: Mapping[str, list[dict[str, Any]]] = {
    "commonvoice": [{"use": "validated"}],
    "librispeech": [{"train": ("train-clean-100",)}],
    "voxceleb": [{"protocol": "identification"}],
    "childproject": [{"set": "its"}],
    "rttm": [{"labels": {"FEM": "MAL"}}],
}


def lines(top: Path) -> Iterator[str]:
    """Of all corpora with a sample, and of all formats; top: an empty folder to write to."""
    for name, entry in sorted(registry.names("datasets").items()):
        cls = registry.load("datasets", name) if entry.built_in else None
        if cls is not None and cls.sample is not None:
            for options in ({}, *MORE.get(name, ())):
                yield f"== {name} {options or ''}".rstrip()
                try:
                    yield from _corpus(cls(cls.sample, cls.Options(**options), Permissions()))
                except BabError as error:
                    yield f"{type(error).__name__} {_plain(error)}"
    for name, entry in sorted(registry.names("formats").items()):
        if entry.built_in:
            yield f"== format {name}"
            yield from _format(name, top)


def _plain(value: object) -> str:
    return str(value).replace(str(Path(bab.__file__).parent), "BAB")


def _corpus(corpus: Any) -> Iterator[str]:
    yield f"{corpus.version} {sorted(corpus.provides)} {corpus.splits_given}"
    every = {clip.id for clip in corpus.clips()}
    for split in corpus.splits():
        clips = list(corpus.clips(split))
        every -= {clip.id for clip in clips}
        yield f"{split}: {len(clips)} clips"
        yield from (f"  {_clip(corpus, clip)}" for clip in clips[:6])
        for trial in list(corpus.trials(split))[:4]:
            yield f"  {trial.enrol} {trial.test} {trial.same}"
    yield f"in no split: {sorted(every)[:5]}"
    yield from (f"note: {_plain(notice)}" for notice in corpus.notices)


def _clip(corpus: Any, clip: Clip) -> str:
    path = Path(clip.path).relative_to(corpus.root if corpus.root.is_dir() else corpus.root.parent)
    marks = " ".join(f"{s.label}:{s.start:g}-{s.end:g}" for s in clip.segments[:8])
    told = [clip.id, path.as_posix(), f"{clip.start:g}-{clip.end:g}", clip.group, clip.speaker]
    told += [dict(clip.labels), clip.text, clip.scored, f"{len(clip.segments)} {marks}"]
    return " | ".join(str(one) for one in told) + f" | {corpus.testable(clip)}"


def _format(name: str, top: Path) -> Iterator[str]:
    form = open_format(name)
    path = top / f"home 01{form.suffixes[0]}"
    if form.writes:
        form.write([format_files.DAY], path)
        for written in sorted(p for p in top.rglob("*") if p.is_file()):
            text = written.read_text(encoding="utf-8")
            for line in text.splitlines():
                if "bab " not in line and "DATE=" not in line:  # versions, times of writing
                    yield f"  > {line}"
    else:
        path.write_text(format_files.ITS, encoding="utf-8")
    yield from (f"note: {notice}" for notice in form.notices)
    form.notices.clear()
    for one in form.read(path):
        facts = (one.uri, one.duration, one.began, Path(one.media).name, one.scored)
        yield f"  {facts}"
        for m in one.marks:
            yield f"  {m.start:g}-{m.end:g} {m.label} {m.speaker!r} {m.text!r} {dict(m.values)}"
    yield from (f"note: {notice}" for notice in form.notices)
    for file in [p for p in top.rglob("*") if p.is_file()]:
        file.unlink()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        FILE.write_text("\n".join(lines(Path(folder))) + "\n", encoding="utf-8")

"""Recordings -> a manifest of speech segments: resumable, in several processes.

Each recording's segments are written in a file of their own as soon as they are found; when all are
there, they become one Parquet table, and the small files go.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from bab.core.atomic import sweep_beside
from bab.core.errors import AudioError, BabError, CorpusError, LeakageError
from bab.core.interfaces import Corpus
from bab.core.sealed import DamagedError
from bab.core.types import Clip, Tell
from bab.data import check, sealed, segments, vad
from bab.data.check import refuse_bad
from bab.data.cross_corpus import names_apart, prefixed
from bab.data.shards import Shard
from bab.data.workers import workers

_KEY = b"bab.prepare"  # of the table's metadata


@dataclass(frozen=True, slots=True)
class Recording:
    """A clip of a corpus, and the split that it is in ("" = none)."""

    clip: Clip
    split: str


@dataclass(frozen=True, slots=True)
class Speech:
    """What a recording holds. segments: (start, end) in seconds of the file; speech: seconds;
    bursts: too short to be speech, and their seconds; why: it can't be read."""

    segments: tuple[tuple[float, float], ...] = ()
    speech: float = 0.0
    bursts: int = 0
    burst_seconds: float = 0.0
    why: str = ""


@dataclass(slots=True)
class Prepared:
    """What `prepare` wrote. hours: of all recordings; speech, kept: hours found, hours in segments.
    splits: name -> (segments, hours)."""

    recordings: int = 0
    hours: float = 0.0
    speech: float = 0.0
    kept: float = 0.0
    splits: dict[str, tuple[int, float]] = field(default_factory=dict)
    bursts: int = 0
    burst_hours: float = 0.0
    silent: list[str] = field(default_factory=list)  # recordings without speech
    unreadable: list[str] = field(default_factory=list)  # why
    notices: list[str] = field(default_factory=list)


def prepare(
    corpora: Sequence[Corpus],
    out: Path,
    name: vad.Name,
    jobs: int,
    skip_bad: bool,
    tell: Tell,
    use: Literal["train", "all"] = "train",
    shard: Shard | None = None,
) -> Prepared:
    """Write the manifest, or finish what was begun; one that is there already isn't made again.

    use: `all` names no split of a corpus that names none, so that all of it may be trained on.
    shard: find the speech in a share of the recordings alone, and write no manifest: the call
    without one does that, and finds what the shards have left.

    Raises:
        BabError: what it needs isn't installed; no speech at all.
        AudioError: files that can't be read, unless `skip_bad`.
    """
    _require(out, name)
    recordings, notices = gather(corpora, use)
    bad = check.bad_files(
        [r.clip for r in recordings],
        lambda done, total: tell("checking files", done, total, "files"),
    )
    refuse_bad(bad, skip_bad)
    good = [r for r in recordings if r.clip.path not in bad]
    keys = [_key(r.clip, name) for r in good]
    plan = _digest(keys, [(r.clip.id, r.clip.group, r.split) for r in good], sorted(bad))
    done = _known(out, plan)
    if done is not None:
        return done
    parts = parts_of(out)
    if shard is not None:
        own = shard.of(range(len(good)), [one.clip.duration for one in good])
        good, keys = [good[i] for i in own], [keys[i] for i in own]
        return _summary(good, _detected(good, keys, parts, name, jobs, tell), [], [])
    heard = _detected(good, keys, parts, name, jobs, tell)
    failed = {r.clip.path: h.why for r, h in zip(good, heard, strict=True) if h.why}
    refuse_bad(failed, skip_bad)
    summary = _summary(good, heard, [*bad.values(), *failed.values()], notices)
    if not summary.kept:
        raise BabError(
            f"no speech in {len(good)} recordings ({summary.hours:.2f} h) by --vad {name}; listen "
            "to one, or try the other --vad"
        )
    _write(out, _rows(good, heard), {"plan": plan, "vad": name, "summary": asdict(summary)})
    shutil.rmtree(parts, ignore_errors=True)
    sweep_beside(out)
    return summary


def parts_of(out: Path) -> Path:
    """Where what is found stands until all is."""
    return out.with_name(out.name + ".parts")


def gather(
    corpora: Sequence[Corpus], use: Literal["train", "all"] = "train"
) -> tuple[list[Recording], list[str]]:
    """The clips of all corpora with their splits, and what is to be said of them.

    With several corpora, ids and groups begin with the corpus's name, so that groups of different
    corpora stay different (see bab.data.cross_corpus).
    """
    recordings: list[Recording] = []
    notices: list[str] = []
    for name, corpus in zip(names_apart(corpora), corpora, strict=True):
        named = use == "train" or corpus.splits_given
        own = _parted(corpus, notices) if named else [Recording(c, "") for c in corpus.clips()]
        if len(corpora) > 1:
            own = [Recording(prefixed(one.clip, f"{name}:"), one.split) for one in own]
        recordings += own
        notices += [f"{corpus.name}: {notice}" for notice in corpus.notices]
    if not recordings:
        raise CorpusError("there is no recording: name another --corpus")
    return recordings, notices


def _parted(corpus: Corpus, notices: list[str]) -> list[Recording]:
    clips = list(corpus.clips())
    try:
        split_of = {clip.id: name for name in corpus.splits() for clip in corpus.clips(name)}
    except LeakageError:
        raise
    except CorpusError as error:
        notices.append(f"{corpus.name}: all of it is train, because no splits can be made: {error}")
        split_of = {clip.id: "train" for clip in clips}
    return [Recording(clip, split_of.get(clip.id, "")) for clip in clips]


def find(clip: Clip, name: vad.Name) -> Speech:
    """The segments of one recording; what can't be read says why."""
    try:
        speech, bursts, lost = vad.detect(clip.path, clip.start, clip.end, name)
    except AudioError as error:
        return Speech(why=str(error))
    total = round(clip.end * vad.RATE) - round(clip.start * vad.RATE)
    spans = segments.segments(speech, total, vad.RATE)
    seconds = tuple(
        (clip.start + a / vad.RATE, min(clip.start + b / vad.RATE, clip.end)) for a, b in spans
    )
    heard = sum(b - a for a, b in speech) / vad.RATE
    return Speech(seconds, heard, bursts, lost / vad.RATE)


def _detected(
    recordings: Sequence[Recording],
    keys: Sequence[str],
    parts: Path,
    name: vad.Name,
    jobs: int,
    tell: Tell,
) -> list[Speech]:
    """What each recording holds, from the files of an earlier try where they are there."""
    heard: list[Speech | None] = [_read(_part(parts, key)) for key in keys]
    total = sum(r.clip.duration for r in recordings)
    done = sum(r.clip.duration for r, h in zip(recordings, heard, strict=True) if h is not None)
    todo = [i for i, one in enumerate(heard) if one is None]
    # The longest first: none is left to run alone at the end.
    todo.sort(key=lambda i: -recordings[i].clip.duration)
    for i, one in _each([(i, recordings[i].clip) for i in todo], name, jobs):
        if not one.why:  # a file that is repaired is read again
            sealed.write_json(_part(parts, keys[i]), asdict(one), indent=None)
        heard[i] = one
        done += recordings[i].clip.duration
        tell("finding speech", min(done, total), total, "s")
    return [one for one in heard if one is not None]


def _each(
    clips: Sequence[tuple[int, Clip]], name: vad.Name, jobs: int
) -> Iterator[tuple[int, Speech]]:
    if jobs == 1 or len(clips) < 2:
        for i, clip in clips:
            yield i, find(clip, name)
        return
    try:
        with workers(min(jobs, len(clips)), _alone) as pool:
            waiting = {pool.submit(find, clip, name): i for i, clip in clips}
            for future in as_completed(waiting):
                yield waiting[future], future.result()
    except BrokenProcessPool:
        raise BabError(
            "a process that looked for speech died (was it out of memory?). Use fewer --jobs; the "
            "same command goes on where it stopped"
        ) from None


def _alone() -> None:
    """One thread for each process: there are as many of these as cores."""
    import torch

    torch.set_num_threads(1)


def _key(clip: Clip, name: vad.Name) -> str:
    """What a recording's segments depend on; its content by size and time of change."""
    state = Path(clip.path).stat()
    where = (
        str(Path(clip.path).absolute()),
        state.st_size,
        state.st_mtime_ns,
        clip.start,
        clip.end,
    )
    return _digest(where, name, vad.VERSION, segments.VERSION)


def _part(parts: Path, key: str) -> Path:
    return parts / key[:2] / f"{key}.json"


def _read(path: Path) -> Speech | None:
    with suppress(OSError, ValueError, TypeError, DamagedError):
        values = sealed.read_json(path, ("segments",), "")
        spans = tuple((float(a), float(b)) for a, b in values.pop("segments"))
        return Speech(spans, **values)
    return None


def _rows(recordings: Sequence[Recording], heard: Sequence[Speech]) -> dict[str, list[Any]]:
    """The columns of the manifest."""
    names = ("id", "path", "start", "end", "duration", "split", "group", "recording")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for one, what in zip(recordings, heard, strict=True):
        clip = one.clip
        for start, end in what.segments:
            row = (f"{clip.id}_{start:.3f}-{end:.3f}", clip.path, start, end, end - start)
            for name, value in zip(names, (*row, one.split, clip.group, clip.id), strict=True):
                columns[name].append(value)
    return columns


def _require(out: Path, name: vad.Name) -> None:
    vad.require(name)
    if out.suffix.lower() != ".parquet":
        raise BabError(f"--out {out}: the manifest is a Parquet table, name it .parquet")
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise BabError(f"--out {out}: Parquet needs pyarrow: pip install 'bab[prepare]'") from None


def _write(out: Path, columns: dict[str, list[Any]], about: dict[str, Any]) -> None:
    import pyarrow

    sealed.write_parquet(out, pyarrow.table(columns), {_KEY: json.dumps(about).encode()})


def _known(out: Path, plan: str) -> Prepared | None:
    """The summary of a finished manifest of the same plan.

    Raises:
        BabError: another one stands there, or it is damaged.
    """
    if not out.exists():
        return None
    sealed.check_parquet(out, "delete it, and give the same command again")
    from pyarrow import ArrowException, parquet

    about: dict[str, Any] = {}
    with suppress(ArrowException, ValueError):
        about = json.loads((parquet.read_schema(out).metadata or {}).get(_KEY, b"{}"))
    if about.get("plan") != plan:
        raise BabError(
            f"{out} is there, made of other recordings or settings: name another --out, or delete "
            "it"
        )
    return Prepared(**about["summary"])


def _digest(*facts: object) -> str:
    return hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def _summary(
    recordings: Sequence[Recording],
    heard: Sequence[Speech],
    unreadable: Sequence[str],
    notices: Sequence[str],
) -> Prepared:
    summary = Prepared(len(recordings), unreadable=list(unreadable), notices=list(notices))
    for one, what in zip(recordings, heard, strict=True):
        if what.why:
            summary.recordings -= 1
            continue
        kept = sum(end - start for start, end in what.segments) / 3600
        count, hours = summary.splits.get(one.split, (0, 0.0))
        summary.splits[one.split] = (count + len(what.segments), hours + kept)
        summary.hours += one.clip.duration / 3600
        summary.speech += what.speech / 3600
        summary.kept += kept
        summary.bursts += what.bursts
        summary.burst_hours += what.burst_seconds / 3600
        if not what.segments:
            summary.silent.append(one.clip.id)
    return summary


def describe(summary: Prepared) -> str:
    """A summary, for a person."""
    share = summary.kept / summary.hours if summary.hours else 0.0
    lines = [
        f"{summary.recordings} recordings, {summary.hours:.2f} h; speech {summary.speech:.2f} h; "
        f"in segments {summary.kept:.2f} h ({share:.1%} of the audio is kept)"
    ]
    for split, (count, hours) in summary.splits.items():
        lines.append(f"  {split or 'in no split'}: {count:,} segments, {hours:.2f} h")
    if summary.bursts:
        lines.append(
            f"{summary.bursts:,} bursts of 0.25 s or less were not taken for speech "
            f"({summary.burst_hours * 60:.2f} min in all)"
        )
    if summary.silent:
        lines.append(f"{len(summary.silent)} without speech: {_some(summary.silent)}")
    if summary.unreadable:
        lines.append(f"{len(summary.unreadable)} unreadable, left out:")
        lines += [f"  {why}" for why in summary.unreadable]
    return "\n".join([*lines, *summary.notices])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")

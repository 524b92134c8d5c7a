"""Questions about many clips, answered from columns where there are some, else clip by clip.

Columns say quickly that nothing is wrong, or narrow a question to few clips: those are then looked
at as ever, so that answers and messages are the same from columns and from a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bab.columns.clips import Clips, Table
from bab.core.types import Clip


def listed(clips: Iterable[Clip]) -> Sequence[Clip]:
    """The clips as they are, where they are in columns; else as a list."""
    return clips if isinstance(clips, Clips) else list(clips)


def table_of(parts: Iterable[Sequence[Clip]]) -> Table | None:
    """The table that all of these clips are of; None where there is no one table."""
    tables = {id(p.table): p.table for p in parts if isinstance(p, Clips)}
    if len(tables) != 1 or any(len(p) for p in parts if not isinstance(p, Clips)):
        return None
    return next(iter(tables.values()))


def joined(parts: Sequence[Sequence[Clip]]) -> Sequence[Clip]:
    """The clips of some parts, one part after the other."""
    there = [part for part in parts if len(part)]
    table = table_of(there)
    if table is None:
        return [clip for part in parts for clip in part]
    if len(there) == 1:
        return there[0]
    rows = [part.rows for part in there if isinstance(part, Clips)]
    return Clips(table, np.concatenate(rows))


def those(clips: Iterable[Clip], keep: Callable[[Clip], bool]) -> Sequence[Clip]:
    """The clips of which `keep` is true; each is asked once, in order."""
    if not isinstance(clips, Clips):
        return [clip for clip in clips if keep(clip)]
    kept = np.fromiter((keep(clip) for clip in clips), bool, len(clips))
    return clips if kept.all() else clips.take(kept)


def picked(clips: Sequence[Clip], chosen: NDArray[np.bool_]) -> Sequence[Clip]:
    """The clips at which a mask, bool[N], is true."""
    if isinstance(clips, Clips):
        return clips.take(chosen)
    return [clip for clip, wanted in zip(clips, chosen.tolist(), strict=True) if wanted]


def paths_of(clips: Sequence[Clip]) -> list[str]:
    """The files of some clips, each once, in the order of the clips."""
    if not isinstance(clips, Clips):
        return list(dict.fromkeys(clip.path for clip in clips))
    numbers = clips.numbers("recording")
    assert numbers is not None
    firsts = np.sort(np.unique(numbers, return_index=True)[1])
    return clips.table.paths.at(clips.rows[firsts])


def without_files(clips: Sequence[Clip], paths: Mapping[str, Any]) -> Sequence[Clip]:
    """The clips of other files than these."""
    return those(clips, lambda clip: clip.path not in paths) if paths else clips


def durations(clips: Sequence[Clip]) -> NDArray[np.float64]:
    """f64[N]: seconds of each clip."""
    if isinstance(clips, Clips):
        return clips.ends - clips.starts
    return np.array([clip.duration for clip in clips], np.float64)


def total(clips: Sequence[Clip]) -> float:
    """Seconds of all clips together, added one by one."""
    lasting: Any = durations(clips)
    return float(sum(memoryview(lasting)))


def count_of(clips: Sequence[Clip], kind: str) -> int:
    """How many "recording"s, "group"s, "speaker"s or "voice"s there are."""
    if isinstance(clips, Clips):
        numbers = _numbers(clips, kind)
        return len(np.unique(numbers[numbers >= 0]))
    names: Mapping[str, Callable[[Clip], Iterable[str]]] = {
        "recording": lambda clip: (clip.path,),
        "group": lambda clip: (clip.group,),
        "speaker": lambda clip: () if clip.speaker is None else (clip.speaker,),
        "voice": lambda clip: clip.voices,
    }
    return len({name for clip in clips for name in names[kind](clip)})


def labelled(clips: Sequence[Clip]) -> Iterator[tuple[Mapping[str, str], int]]:
    """Labels that clips have, and how many clips have them; equal ones may come again."""
    if not isinstance(clips, Clips):
        yield from ((clip.labels, 1) for clip in clips)
        return
    codes = clips.table.labels.codes[clips.rows]
    _, firsts, counts = np.unique(codes, return_index=True, return_counts=True)
    values = clips.table.labels.at(clips.rows[firsts])
    yield from zip(values, counts.tolist(), strict=True)


def after(
    clips: Sequence[Clip], lasting: Callable[[str], float], tolerance: float
) -> Sequence[Clip]:
    """The clips, narrowed to those that may begin or end after the end of their file, which lasts
    `lasting(path)` seconds."""
    if not isinstance(clips, Clips):
        return clips
    numbers = _numbers(clips, "recording")
    firsts, places = np.unique(numbers, return_index=True)
    lengths = np.zeros(int(numbers.max(initial=-1)) + 1)
    lengths[firsts] = list(map(lasting, clips.table.paths.at(clips.rows[places])))
    end = lengths[numbers]
    return clips.take((clips.starts >= end) | (clips.ends > end + tolerance))


def ids(clips: Sequence[Clip]) -> Iterable[str]:
    """The id of each clip."""
    if isinstance(clips, Clips):
        return (name for rows in clips.pieces() for name in clips.table.ids.at(rows))
    return (clip.id for clip in clips)


def in_two(parts: Mapping[str, Sequence[Clip]], kind: str) -> Mapping[str, Sequence[Clip]]:
    """The clips of each part, narrowed to those whose name of a kind ("recording", "clip", "group",
    "speaker", "voice") may stand in another part too."""
    table = table_of(parts.values())
    if table is None:
        return parts
    numbers = {name: _numbers(part, kind) for name, part in parts.items()}
    size = max(int(n.max(initial=-1)) for n in numbers.values()) + 1
    holding = np.zeros(size, np.int32)
    for own in numbers.values():
        there = np.zeros(size, bool)
        there[own[own >= 0]] = True
        holding += there
    doubled = np.append(holding > 1, False)  # at -1: no name
    return {name: picked(part, doubled[numbers[name]]) for name, part in parts.items()}


def repeated(parts: Mapping[str, Sequence[Clip]]) -> Mapping[str, Sequence[Clip]]:
    """The clips of each part, narrowed to those whose id another clip may have."""
    if table_of(parts.values()) is None:
        return parts
    numbers = {name: _numbers(part, "clip") for name, part in parts.items()}
    count = np.bincount(np.concatenate(list(numbers.values())))
    return {name: picked(part, count[numbers[name]] > 1) for name, part in parts.items()}


def _numbers(part: Sequence[Clip], kind: str) -> NDArray[np.int32]:
    """A number for the name that each clip has of a kind; -1 where it has none."""
    numbers = part.numbers(kind) if isinstance(part, Clips) else None
    return np.full(len(part), -1, np.int32) if numbers is None else numbers


def linked(clips: Clips) -> NDArray[np.int64]:
    """i64[N]: clips that share a recording, id, group or speaker, or are linked by a chain of such,
    have one number, others don't.

    Every clip has a group, so groups are what is linked: by each further name, that of its first
    clip with those of its others.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups = _numbers(clips, "group")
    count = int(groups.max(initial=-1)) + 1
    one, other = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for kind in ("recording", "clip", "speaker"):
        numbers = _numbers(clips, kind)
        named = np.flatnonzero(numbers >= 0)
        firsts = np.zeros(int(numbers.max(initial=-1)) + 1, np.int32)
        firsts[numbers[named][::-1]] = groups[named][::-1]
        here, there = firsts[numbers[named]], groups[named]
        apart = here != there
        pairs = np.unique(here[apart].astype(np.int64) * count + there[apart])
        one.append(pairs // count)
        other.append(pairs % count)
    places = (np.concatenate(one), np.concatenate(other))
    graph = coo_array((np.ones(len(places[0]), np.int8), places), shape=(count, count))
    of: NDArray[np.int64] = connected_components(graph, directed=False)[1][groups]
    return of

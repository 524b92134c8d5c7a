"""Checks of what a corpus says, beyond its audio: lists, annotation, what tasks need."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from bab.audio.reading import Problem
from bab.columns.ask import those
from bab.columns.clips import Clips
from bab.core.errors import BabError, CorpusError, counted
from bab.core.interfaces import Task
from bab.core.types import Clip, Segment

_ROUNDED = 0.005  # seconds by which two segments may overlap: times are rounded


def faults(root: object, error: BabError, kind: str) -> list[Problem]:
    """What an error says. One that stands for several (a corpus's lists are read to their end)
    has a note for each: `BaseException.add_note`."""
    notes = getattr(error, "__notes__", None)
    return [Problem(str(root), "files" if notes else kind, str(t), True) for t in notes or [error]]


def unfit(
    tasks: Mapping[str, Task], splits: Mapping[str, Sequence[Clip]], provides: frozenset[str]
) -> Iterator[Problem]:
    """What a run of each of these tasks on the given splits would stop at."""
    for name, task in tasks.items():
        try:
            task.suit(provides)
        except BabError as error:
            yield Problem("", "task", f"{name}: {error}", True)
            continue
        if missing := task.needs - provides:
            told = f"{name} needs {', '.join(sorted(missing))}, which this corpus doesn't provide"
            yield Problem("", "task", told, True)
            continue
        usable = {s: usable_by(task, clips) for s, clips in splits.items()}
        for split, clips in usable.items():
            if not clips and splits[split]:
                why = task.refuses(splits[split][0])
                yield Problem("", "task", f"{name}: no clip of {split} can be used: {why}", True)
        if not usable.get("train"):
            continue
        try:
            labels = task.fit(usable["train"])
        except CorpusError as error:
            yield Problem("", "task", f"{name}: {error}", True)
            continue
        for split in ("dev", "test"):
            try:
                if usable.get(split):
                    task.check(labels, usable[split], split)
            except CorpusError as error:
                yield Problem("", "task", f"{name}: {error}", True)


def doubled(clips: Sequence[Clip]) -> Iterator[Problem]:
    """Segments of one label that overlap in one clip: a voice can't be heard beside itself. Of
    "other child" or "female adult" two may speak at once, so it is a warning."""
    for clip in () if isinstance(clips, Clips) else clips:  # in columns there are no segments
        kinds: defaultdict[str, list[Segment]] = defaultdict(list)
        for segment in clip.segments:
            kinds[segment.label].append(segment)
        for label, segments in sorted(kinds.items()):
            both = list(_overlapping(sorted(segments, key=lambda s: (s.start, s.end))))
            if both:
                one, two = both[0]
                message = (
                    f"{clip.path}: clip '{clip.id}' has {counted(len(both), 'overlap')} of "
                    f"'{label}' with itself, the first of {one.start:.3f} to {one.end:.3f} s and "
                    f"{two.start:.3f} to {two.end:.3f} s: join them, unless two such voices are "
                    "meant"
                )
                yield Problem(clip.path, "same voice", message, False)


def _overlapping(segments: Sequence[Segment]) -> Iterator[tuple[Segment, Segment]]:
    """Each segment that begins before one that began earlier has ended, and that one."""
    latest: Segment | None = None
    for segment in segments:
        if latest is not None and segment.start < latest.end - _ROUNDED:
            yield latest, segment
        if latest is None or segment.end > latest.end:
            latest = segment


def usable_by(task: Task, clips: Sequence[Clip]) -> Sequence[Clip]:
    """The clips that a task doesn't refuse."""
    return those(clips, lambda clip: not task.refuses(clip))

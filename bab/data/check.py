"""What a corpus holds and what is wrong with it, before a run finds out."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bab.audio import reading, seen
from bab.audio.decoding import UnreadableError
from bab.audio.reading import Problem
from bab.checking.clips import check_trials, checked_clips, same_ids
from bab.columns.ask import (
    after,
    count_of,
    durations,
    in_two,
    joined,
    labelled,
    paths_of,
    total,
)
from bab.columns.clips import Clips
from bab.core.errors import AudioError, BabError, CorpusError, counted, lasting
from bab.core.interfaces import Corpus, Task
from bab.core.types import Clip
from bab.data.content import content_id, same_audio
from bab.data.fingerprint import near_identical
from bab.data.lines import doubled, faults, unfit
from bab.data.splits import KINDS, UNSEEN, shared, ungrouped


def refuse_bad(bad: dict[str, str], skip: bool) -> None:
    """Stop at unreadable files, unless they may be left out. bad: file -> why.

    Raises:
        AudioError: naming the first five.
    """
    if not bad or skip:
        return
    shown = "\n  ".join(list(bad.values())[:5])
    more = f"\n  and {len(bad) - 5} more" if len(bad) > 5 else ""
    raise AudioError(
        f"{counted(len(bad), 'unreadable file')}:\n  {shown}{more}\n"
        "Repair or replace them (`bab data check` lists all), or leave them out with --skip-bad"
    )


Progress = Callable[[int, int], None]  # files done, files in all
# Times are written with a few decimals, and durations in headers are rounded.
_TOLERANCE = 0.05  # seconds
_TELL = 0.1  # seconds between two words of progress
_SHOWN = 20  # problems of one kind that are printed
_VALUES = 60  # values of one label that are printed: ESC-50 has 50 categories


@dataclass(slots=True)
class SplitSummary:
    """What one split holds. hours: of its clips; annotated: of what is scored in them.

    seconds: of each segment label; counts: clips by "key=value" of their labels.
    """

    recordings: int
    clips: int
    hours: float
    annotated: float
    groups: int
    speakers: int
    voices: int
    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Report:
    """All that `bab data check` found."""

    corpus: str
    root: str
    files: int
    splits: dict[str, SplitSummary]
    problems: list[Problem]
    notices: list[str]

    @property
    def fatal(self) -> bool:
        """Whether a run would stop."""
        return any(problem.fatal for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "fatal": self.fatal}


def unopened(name: str, root: object, error: CorpusError) -> Report:
    """The report of a corpus whose files can't be read as what they are."""
    return Report(name, str(root), 0, {}, faults(root, error, "files"), [])


def check_corpus(
    corpus: Corpus,
    jobs: int = 1,
    progress: Progress | None = None,
    tasks: Mapping[str, Task] | None = None,
    deep: Progress | None = None,
) -> Report:
    """Decode every file of a corpus once, and look at its splits and times.

    Args:
        corpus: any corpus.
        jobs: files that are read at once.
        progress: is told (files done, files in all).
        tasks: by name: those whose runs are to go through. A corpus that needs `protocol=kfold` for
            them has no splits that could be tried.
        deep: look for files that sound the same, too; told as `progress` is.

    Faults of the corpus's own lists, which a run would stop at, become problems of kind "split".
    """
    whole, problems = _listed(corpus, None)
    splits: dict[str, Sequence[Clip]] = {}
    for name in corpus.splits():
        splits[name], faults = _listed(corpus, name)
        problems += [problem for problem in faults if problem not in problems]
    clips = whole or joined(list(splits.values()))
    paths = paths_of(clips)
    problems += _check_files(paths, jobs, progress)
    problems += [
        Problem("", "id", f"{told}: a run would stop", True)
        for told in same_ids(splits or {"all": clips})
    ]
    problems += _beyond(clips)
    problems += _overlaps(splits)
    problems += _same_audio(splits or {"all": clips})
    notes = [UNSEEN] if clips and ungrouped(clips) else []
    if deep is not None:
        alike = list(near_identical(paths, deep))
        heard = f"{counted(len(paths), 'file')} compared by sound: no two sound the same."
        problems, notes = problems + alike, notes + [heard] * (not alike)
    problems += doubled(clips)
    if all(splits.get(name) for name in ("train", "dev", "test")):
        problems += unfit(tasks or {}, splits, corpus.provides)
    problems += _trials(corpus, splits)
    return Report(
        getattr(corpus, "name", type(corpus).__name__),
        str(corpus.root),
        len(paths),
        {name: summarise(part) for name, part in splits.items()} or {"all": summarise(clips)},
        problems,
        [*corpus.notices, *notes],
    )


def bad_files(clips: Sequence[Clip], progress: Progress | None = None) -> dict[str, str]:
    """Files that can't be used, by path, and why: their headers and ends are looked at.

    Quick, unlike `check_corpus`: what is wrong inside of a file is found when it is read.
    """
    paths = paths_of(clips)
    bad = {}
    told = time.monotonic()
    try:
        for done, path in enumerate(paths, start=1):
            problem = reading.peek(path)
            if problem is not None:
                bad[path] = problem.message
            if progress is not None and (done == len(paths) or time.monotonic() - told > _TELL):
                told = time.monotonic()
                progress(done, len(paths))
    finally:
        seen.save()
    return bad


def summarise(clips: Sequence[Clip]) -> SplitSummary:
    """Count what clips hold."""
    seconds: defaultdict[str, float] = defaultdict(float)
    annotated = 0.0
    if isinstance(clips, Clips):  # which have no segments, and are scored as a whole
        annotated = float(np.cumsum(np.append(0.0, durations(clips)))[-1])
    else:
        for clip in clips:
            spans = ((clip.start, clip.end),) if clip.scored is None else clip.scored
            annotated += sum(end - start for start, end in spans)
            for segment in clip.segments:
                seconds[segment.label] += segment.end - segment.start
    counts: Counter[str] = Counter()
    for labels, times in labelled(clips):
        for key, value in labels.items():
            counts[f"{key}={value}"] += times
    return SplitSummary(
        recordings=count_of(clips, "recording"),
        clips=len(clips),
        hours=total(clips) / 3600,
        annotated=annotated / 3600,
        groups=count_of(clips, "group"),
        speakers=count_of(clips, "speaker"),
        voices=count_of(clips, "voice"),
        seconds=dict(sorted(seconds.items())),
        counts=dict(sorted(counts.items())),
    )


def _listed(corpus: Corpus, split: str | None) -> tuple[Sequence[Clip], list[Problem]]:
    """The clips of a split, or why they can't be had."""
    try:
        return checked_clips(corpus, corpus.clips(split)), []
    except BabError as error:
        return [], faults(corpus.root, error, "split")


def _trials(corpus: Corpus, splits: Mapping[str, Sequence[Clip]]) -> list[Problem]:
    """Trial lists that can't be read, or name what isn't there. A warning: only speaker
    verification needs them."""
    problems: list[Problem] = []
    if "speaker" not in corpus.provides:
        return problems
    for split in sorted(set(corpus.splits()) & {"dev", "test"}):
        try:
            check_trials(corpus, split, list(corpus.trials(split)), splits[split])
        except BabError as error:
            told = f"speaker verification would stop: {error}"
            problems.append(Problem(str(corpus.root), "trials", told, fatal=False))
    return problems


def _check_files(paths: Sequence[str], jobs: int, progress: Progress | None) -> list[Problem]:
    """`audio.check` of every file, in the order of `paths`. Decoding leaves Python's lock free."""
    by_path: dict[str, list[Problem]] = {}
    pool = ThreadPoolExecutor(max(1, jobs))
    try:
        waiting = {pool.submit(reading.check, path): path for path in paths}
        for done, future in enumerate(as_completed(waiting), start=1):
            by_path[waiting[future]] = future.result()
            if progress is not None:
                progress(done, len(paths))
    finally:
        pool.shutdown(cancel_futures=True)
    return [problem for path in paths for problem in by_path[path]]


def _beyond(clips: Sequence[Clip]) -> Iterator[Problem]:
    """Clips and annotations that lie after the end of their file.

    A clip that begins there can't be read; what ends there is cut, and worth a warning.
    """
    lasting: dict[str, float | None] = {path: _duration(path) for path in paths_of(clips)}
    for clip in after(clips, lambda path: lasting[path] or 0.0, _TOLERANCE):
        end = lasting[clip.path]
        if end is None:
            continue
        where = f"{clip.path}: clip '{clip.id}'"
        if clip.start >= end:
            message = f"{where} begins at {clip.start:.3f} s; the file ends at {end:.3f} s"
            yield Problem(clip.path, "beyond", message, fatal=True)
        elif clip.end > end + _TOLERANCE:
            message = f"{where} ends at {clip.end:.3f} s; the file ends at {end:.3f} s"
            yield Problem(clip.path, "beyond", message, fatal=False)
        late = [s for s in clip.segments if s.end > end + _TOLERANCE]
        if late:
            message = (
                f"{where} has {counted(len(late), 'segment')} after the file's end ({end:.3f} s), "
                f"the first '{late[0].label}' at {late[0].start:.3f} to {late[0].end:.3f} s"
            )
            yield Problem(clip.path, "beyond", message, fatal=False)


def _duration(path: str) -> float | None:
    try:
        return reading.duration(path)
    except UnreadableError:  # reported by the check of the file itself
        return None


def _overlaps(splits: Mapping[str, Sequence[Clip]]) -> Iterator[Problem]:
    """What stands in two splits; a recording's other keys (its clips, its group) come with it."""
    shares = list(shared(splits))
    wanted = {(one.kind, one.name) for one in shares}
    first: dict[tuple[str, str, str], Clip] = {}
    for kind, of in KINDS.items() if shares else ():
        for split, clips in in_two(splits, kind).items():
            for clip in clips:
                for name in of(clip):
                    if (kind, name) in wanted:
                        first.setdefault((kind, name, split), clip)
    for kind, name, one, other in shares:
        here, there = first[kind, name, one], first[kind, name, other]
        message = (
            f"{kind} '{name}' stands in two splits: '{one}' (clip '{here.id}') and "
            f"'{other}' (clip '{there.id}'); move it, so that all of it is in one"
        )
        yield Problem(there.path, "overlap", message, fatal=True)


def _same_audio(splits: Mapping[str, Sequence[Clip]]) -> Iterator[Problem]:
    """Files that hold the same audio under two names: in two splits, or in two groups, which a run
    may part."""
    content = {}
    paths = paths_of(joined(list(splits.values())))
    for path in paths:
        with suppress(AudioError):  # reported by the check of the file itself
            content[path] = content_id(path)
    if len(set(content.values())) == len(content):
        return
    for twice in same_audio(splits, content):
        yield Problem(twice.other, "same audio", f"{twice}; leave one of them out", fatal=True)
    for clips in splits.values():
        groups: dict[str, list[Clip]] = {}
        for clip in clips:
            groups.setdefault(clip.group, []).append(clip)
        for twice in same_audio(groups, content):
            yield Problem(twice.other, "same audio", f"{twice}, of two groups", fatal=False)


def render(report: Report) -> str:
    """The report as plain text."""
    if report.splits:
        lines = [f"{report.corpus}: {report.files} audio files in {report.root}", ""]
        lines += _table(report.splits)
    else:
        lines = [f"{report.corpus}: can't be read as it is, in {report.root}"]
    lines += [f"note: {notice}" for notice in report.notices]
    for fatal, word in ((True, "error"), (False, "warning")):
        kinds: defaultdict[str, list[Problem]] = defaultdict(list)
        for problem in report.problems:
            if problem.fatal == fatal:
                kinds[problem.kind].append(problem)
        for kind, problems in kinds.items():
            lines += ["", f"{word}: {kind} ({len(problems)})"]
            shown = None if kind == "files" else _SHOWN  # what must be corrected by hand, all of it
            lines += [f"  {problem.message}" for problem in problems[:shown]]
            if shown and len(problems) > shown:
                lines.append(f"  and {len(problems) - shown} more")
    errors = sum(problem.fatal for problem in report.problems)
    warnings = len(report.problems) - errors
    verdict = "a run would stop" if report.fatal else "ready to run"
    lines += ["", f"{counted(errors, 'error')}, {counted(warnings, 'warning')}: {verdict}"]
    return "\n".join(lines)


def _table(splits: Mapping[str, SplitSummary]) -> list[str]:
    """One row for each split, then its labels."""
    columns = ("split", "files", "clips", "hours", "annotated h", "groups", "speakers", "voices")
    rows = [columns]
    for name, s in splits.items():
        hours = (f"{s.hours:.2f}", f"{s.annotated:.2f}")
        rest = (str(s.groups), str(s.speakers), str(s.voices))
        rows.append((name, str(s.recordings), str(s.clips), *hours, *rest))
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    many = _many(splits.values())
    for name, s in splits.items():
        labels = [f"{label} {lasting(value)}" for label, value in s.seconds.items()]
        labels += _values(s.counts, many)
        if labels:
            lines.append(f"{name}: {', '.join(labels)}")
    return lines


def _key(label: str) -> str:
    """What a count of "key=value" is about."""
    return label.split("=", 1)[0]


def _many(summaries: Iterable[SplitSummary]) -> set[str]:
    """The labels, such as a session, with too many values to print, over all splits."""
    values = {label for summary in summaries for label in summary.counts}
    return {key for key, count in Counter(map(_key, values)).items() if count > _VALUES}


def _values(counts: Mapping[str, int], many: set[str]) -> list[str]:
    """How often each label has each value; of the labels in `many`, how many values there are."""
    listed = [f"{label} x{n}" for label, n in counts.items() if _key(label) not in many]
    sizes = Counter(_key(label) for label in counts if _key(label) in many)
    return listed + [f"{key}: {n} values" for key, n in sizes.items()]

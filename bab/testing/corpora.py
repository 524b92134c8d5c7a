"""The contract of a corpus, as checks that the author of a plugin runs.

    from bab.testing.corpora import check_corpus

    def test_contract():
        check_corpus(Mine(Mine.sample, Mine.Options()))

A corpus that passes can be given to any task that needs no more than it `provides`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from bab.audio import reading
from bab.core.interfaces import Corpus
from bab.core.types import Clip, Permissions
from bab.data import splits

SLACK = 1e-3  # seconds: a time may pass the end of its file by less than a rounded millisecond


def check_corpus(corpus: Corpus) -> None:
    """Every check of this module, on a corpus whose audio is there.

    Raises:
        AssertionError: saying which clip breaks which rule.
        LeakageError: where two splits share a file, id, group, speaker or voice, and the corpus
            was made without `Permissions(leakage=True)`.
    """
    clips = list(corpus.clips())
    assert clips, "clips() gives no clip"
    check_ids(clips)
    durations: dict[str, float] = {}
    for clip in clips:
        if clip.path not in durations:
            durations[clip.path] = reading.info(Path(clip.path)).duration
        check_times(clip, durations[clip.path])
        check_segments(clip)
    check_splits(corpus, clips)
    check_stable(corpus, clips)
    check_provides(corpus, clips)
    check_trials(corpus)


def check_ids(clips: Sequence[Clip]) -> None:
    """Ids and groups are non-empty text, and no id is used twice."""
    seen: set[str] = set()
    for clip in clips:
        assert isinstance(clip.id, str) and clip.id, f"an empty id: {clip}"
        assert clip.id not in seen, f"{clip.id}: two clips have this id"
        assert isinstance(clip.group, str) and clip.group, f"{clip.id}: no group"
        seen.add(clip.id)


def check_times(clip: Clip, duration: float) -> None:
    """The path is absolute; the clip and its scored spans are ordered and lie inside the file.

    duration: of the file, seconds.
    """
    assert Path(clip.path).is_absolute(), f"{clip.id}: the path is not absolute: {clip.path}"
    assert 0 <= clip.start < clip.end, f"{clip.id}: runs from {clip.start} to {clip.end} s"
    assert clip.end <= duration + SLACK, f"{clip.id}: ends at {clip.end} s, its file at {duration}"
    if clip.scored is not None:
        assert clip.scored, f"{clip.id}: nothing of it is scored; None means all of it"
        for start, end in clip.scored:
            inside = clip.start - SLACK <= start < end <= clip.end + SLACK
            assert inside, f"{clip.id}: scored from {start} to {end} s"
        for (_, before), (after, _) in pairwise(clip.scored):
            assert before <= after, f"{clip.id}: scored spans overlap at {after} s"


def check_segments(clip: Clip) -> None:
    """Segments are sorted by start, have a length and a label, and lie inside the clip."""
    for segment in clip.segments:
        where = f"{clip.id}: segment {segment}"
        assert segment.label, f"{where} has no label"
        assert segment.start < segment.end, f"{where} has no length"
        inside = clip.start - SLACK <= segment.start and segment.end <= clip.end + SLACK
        assert inside, f"{where} is outside of the clip"
    for one, two in pairwise(clip.segments):
        assert one.start <= two.start, f"{clip.id}: segments not sorted at {two.start} s"


def check_splits(corpus: Corpus, clips: Sequence[Clip]) -> None:
    """Each split has clips, all of them the corpus's own, and shares nothing with the others
    (unless the corpus was made with permission to)."""
    known = {clip.id: clip for clip in clips}
    parts = {split: list(corpus.clips(split)) for split in corpus.splits()}
    for split, part in parts.items():
        assert part, f"split '{split}' is empty"
        check_ids(part)
        for clip in part:
            assert known.get(clip.id) == clip, f"split '{split}': {clip.id} is not in clips()"
    if not _permissions(corpus).leakage:
        splits.check_disjoint(parts)


def check_stable(corpus: Corpus, clips: Sequence[Clip]) -> None:
    """A second call, and a second corpus made alike, give the same clips in the same order."""
    asks = "permissions" in inspect.signature(type(corpus).__init__).parameters
    more = {"permissions": _permissions(corpus)} if asks else {}
    again = type(corpus)(corpus.root, corpus.options, **more)
    for other in (corpus, again):
        assert list(other.clips()) == list(clips), "clips() is not stable"
        for split in corpus.splits():
            assert list(other.clips(split)) == list(corpus.clips(split)), f"'{split}' is not stable"


def check_provides(corpus: Corpus, clips: Sequence[Clip]) -> None:
    """What a corpus says that it provides is there.

    `segments`: some clip has some. `text`, `speaker`: every clip has it. Any other name: it is a
    key of some clip's `labels`. Segments that are not announced would never be found.
    """
    for what in corpus.provides:
        if what == "segments":
            assert any(clip.segments for clip in clips), "no clip has segments"
        elif what in ("text", "speaker"):
            lacking = [clip.id for clip in clips if getattr(clip, what) is None]
            assert not lacking, f"clips without {what}: {lacking[:3]}"
        else:
            assert any(what in clip.labels for clip in clips), f"no clip has a label '{what}'"
    if "segments" not in corpus.provides:
        assert not any(clip.segments for clip in clips), "`provides` does not name 'segments'"


def check_trials(corpus: Corpus) -> None:
    """Trials name two clips of their split."""
    for split in corpus.splits():
        ids: set[str] | None = None
        for trial in corpus.trials(split):
            ids = {clip.id for clip in corpus.clips(split)} if ids is None else ids
            for side in (trial.enrol, trial.test):
                assert side in ids, f"split '{split}': a trial names '{side}', which is not in it"


def _permissions(corpus: Corpus) -> Permissions:
    """What it was made with; none where its `__init__` never called the contract's."""
    return getattr(corpus, "permissions", Permissions())

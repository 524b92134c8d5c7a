"""The contract of a corpus, as checks that the author of a plugin runs.

    from bab.testing import CorpusContract

    class TestMine(CorpusContract):
        def make(self):
            return Mine(Mine.sample, Mine.Options())

A corpus that passes can be given to any task that needs no more than it `provides`. Each check
takes the corpus, whose audio is there.
"""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, time
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from bab.audio import reading
from bab.core.errors import BabError
from bab.core.interfaces import Corpus
from bab.core.types import Clip, Permissions, Segment, Trial
from bab.data import splits
from bab.testing.declared import described
from bab.testing.suite import Contract

SLACK = 1e-3  # seconds: a time may pass the end of its file by less than a rounded millisecond


def check_corpus(corpus: Corpus) -> None:
    """Every check of this module.

    Raises:
        AssertionError: saying which clip breaks which rule.
        LeakageError: where two splits share a file, id, group, speaker or voice, and the corpus
            was made without `Permissions(leakage=True)`.
    """
    for check in CHECKS:
        check(corpus)


def check_ids(corpus: Corpus) -> None:
    """Ids and groups are non-empty text of one line, and no id is used twice.

    To do: make ids of what tells the clips apart, such as the path below the root.
    """
    clips = list(corpus.clips())
    assert clips, "clips() gives no clip"
    _unique(clips)


def check_types(corpus: Corpus) -> None:
    """Labels, texts, speakers and voices are text, times are finite numbers of seconds.

    To do: str(label) for class numbers; voices=(name,) for one voice; leave out what isn't known.
    """
    for clip in corpus.clips():
        where = clip.id
        for name in ("speaker", "text"):
            value = getattr(clip, name)
            assert value is None or isinstance(value, str), f"{where}: {name} {value!r} is no text"
        assert clip.speaker != "", f"{where}: speaker is '', which must be None"
        assert isinstance(clip.path, str), f"{where}: path is a {type(clip.path).__name__}, no str"
        assert isinstance(clip.labels, Mapping), f"{where}: labels {clip.labels!r:.60} are no dict"
        for key, value in clip.labels.items():
            both = isinstance(key, str) and isinstance(value, str)
            assert both, f"{where}: label {key!r}: {value!r} is not text: write '{value}'"
        assert isinstance(clip.voices, tuple), f"{where}: voices {clip.voices!r:.60} is no tuple"
        strange = [voice for voice in clip.voices if not isinstance(voice, str) or not voice]
        assert not strange, f"{where}: voices {strange[:3]} are no names"
        for value in (clip.start, clip.end):
            number = isinstance(value, (int, float)) and math.isfinite(value)
            assert number, f"{where}: time {value!r} is no finite number"
        began = clip.began
        assert began is None or isinstance(began, (datetime, time)), f"{where}: began {began!r}"


def check_times(corpus: Corpus) -> None:
    """Paths are absolute; clips and their scored spans are ordered and lie inside the file.

    To do: count seconds from the start of the file; cut what ends after it (bab.audio_duration).
    """
    durations: dict[str, float] = {}
    for clip in corpus.clips():
        if clip.path not in durations:
            assert Path(clip.path).is_absolute(), f"{clip.id}: no absolute path: {clip.path}"
            durations[clip.path] = reading.info(Path(clip.path)).duration
        _check_times(clip, durations[clip.path])


def check_segments(corpus: Corpus) -> None:
    """Segments are sorted by start, have a length and a label, and lie inside the clip.

    To do: tuple(sorted(segments, key=lambda s: s.start)), cut to the clip.
    """
    for clip in corpus.clips():
        assert isinstance(clip.segments, tuple), f"{clip.id}: segments is no tuple"
        for segment in clip.segments:
            where = f"{clip.id}: segment {segment}"
            assert isinstance(segment, Segment), f"{where} is no bab.Segment"
            assert isinstance(segment.label, str) and segment.label, f"{where} has no label"
            assert segment.start < segment.end, f"{where} has no length"
            inside = clip.start - SLACK <= segment.start and segment.end <= clip.end + SLACK
            assert inside, f"{where} is outside of the clip"
        for one, two in pairwise(clip.segments):
            assert one.start <= two.start, f"{clip.id}: segments not sorted at {two.start} s"


def check_splits(corpus: Corpus) -> None:
    """Each split has clips, all of them the corpus's own, and shares nothing with the others
    (unless the corpus was made with permission to); a split that isn't there is a BabError.

    To do: bab.split_by_group makes splits of whole groups, bab.check_disjoint refuses given ones.
    """
    names = corpus.splits()
    assert isinstance(names, tuple) and all(isinstance(n, str) for n in names), f"splits {names!r}"
    known = {clip.id: clip for clip in corpus.clips()}
    parts = {split: list(corpus.clips(split)) for split in names}
    for split, part in parts.items():
        assert part, f"split '{split}' is empty"
        _unique(part)
        for clip in part:
            assert known.get(clip.id) == clip, f"split '{split}': {clip.id} is not in clips()"
    if not _permissions(corpus).leakage:
        splits.check_disjoint(parts)
    try:
        given = list(corpus.clips("no-such-split"))
    except BabError:
        return
    raise AssertionError(f"clips('no-such-split') gives {len(given)} clips: raise bab.CorpusError")


def check_stable(corpus: Corpus) -> None:
    """A second call, and a second corpus made alike, give the same clips in the same order.

    To do: sort what a folder or a set gives; keep clips in a list, not in a generator.
    """
    again = _made(corpus, corpus.root)
    clips = list(corpus.clips())
    for other in (corpus, again):
        assert list(other.clips()) == clips, "clips() is not stable"
        for split in corpus.splits():
            assert list(other.clips(split)) == list(corpus.clips(split)), f"'{split}' is not stable"
            same = list(other.trials(split)) == list(corpus.trials(split))
            assert same, f"the trials of '{split}' are not stable"


def check_provides(corpus: Corpus) -> None:
    """What a corpus says that it provides is there, and nothing else: tasks are refused by it.

    `segments`: some clip has some. `text`, `speaker`: every clip has it. Any other name: it is a
    key of some clip's `labels`.

    To do: set `provides`, on the class or on the instance, to what the clips hold.
    """
    clips = list(corpus.clips())
    assert isinstance(corpus.provides, frozenset), f"provides {corpus.provides!r} is no frozenset"
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


def check_trials(corpus: Corpus) -> str | None:
    """Trials name two different clips of their split, once, and say `same` where the speakers are;
    there are some of both kinds.

    To do: compare Trial.same with Clip.speaker; bab.made_trials makes a fair list.
    """
    several = False
    for split in corpus.splits():
        trials = list(corpus.trials(split))
        several = several or bool(trials)
        clips = {clip.id: clip for clip in corpus.clips(split)} if trials else {}
        for trial in trials:
            _check_trial(trial, clips, split)
        assert len(set(trials)) == len(trials), f"split '{split}': a trial stands twice"
        kinds = {trial.same for trial in trials}
        assert len(kinds) != 1, f"split '{split}': all trials say same={kinds}: no error rate"
    return None if several else "it has no trials"


def check_described(corpus: Corpus) -> None:
    """The class has a docstring, and each option a description; version, unit and notices are text.

    To do: write them; `bab info NAME` shows them to whoever uses the corpus.
    """
    described(type(corpus))
    assert isinstance(corpus.version, str) and corpus.version, (
        f"version is {corpus.version!r}, no text"
    )
    assert isinstance(corpus.unit, str) and corpus.unit, f"unit is {corpus.unit!r}, no text"
    strange = [one for one in corpus.notices if not isinstance(one, str)]
    assert not strange, f"notices that are no text: {strange[:3]}"


def check_empty(corpus: Corpus) -> str | None:
    """A folder with nothing in it is a BabError that names the folder or a file in it.

    To do: raise bab.CorpusError(f"{path}: what is missing, and what to do").
    """
    if not corpus.root.is_dir():
        return "its root is no folder"
    with tempfile.TemporaryDirectory(prefix="bab-check-") as name:
        place = Path(name).resolve()
        try:
            clips = list(_made(corpus, place).clips())
        except BabError as error:
            assert place.name in str(error), f"the error doesn't name the folder: {error}"
            return None
    raise AssertionError(f"an empty folder gives {len(clips)} clips and no error")


CHECKS: tuple[Callable[[Corpus], str | None], ...] = (
    check_ids,
    check_types,
    check_times,
    check_segments,
    check_splits,
    check_stable,
    check_provides,
    check_trials,
    check_described,
    check_empty,
)


class CorpusContract(Contract):
    """`make` gives the corpus, on a small folder of its layout."""

    checks: ClassVar = CHECKS

    def make(self) -> Corpus:
        raise NotImplementedError

    def subject(self, folder: Path) -> Corpus:
        return self.make()


# ------------------------------------------------------------------------------ tools


def _unique(clips: Sequence[Clip]) -> None:
    seen: set[str] = set()
    for clip in clips:
        assert isinstance(clip, Clip), f"clips() gives {clip!r:.60}, no bab.Clip"
        assert isinstance(clip.id, str) and clip.id, f"an empty id, or no text: {clip.id!r}"
        assert clip.id.isprintable(), f"{clip.id!r}: an id is one line of printable text"
        assert clip.id not in seen, f"{clip.id}: two clips have this id"
        assert isinstance(clip.group, str) and clip.group, f"{clip.id}: group {clip.group!r}"
        seen.add(clip.id)


def _check_times(clip: Clip, duration: float) -> None:
    """duration: of the file, seconds."""
    assert 0 <= clip.start < clip.end, f"{clip.id}: runs from {clip.start} to {clip.end} s"
    assert clip.end <= duration + SLACK, f"{clip.id}: ends at {clip.end} s, its file at {duration}"
    if clip.scored is None:
        return
    assert clip.scored, f"{clip.id}: nothing of it is scored; None means all of it"
    for start, end in clip.scored:
        inside = clip.start - SLACK <= start < end <= clip.end + SLACK
        assert inside, f"{clip.id}: scored from {start} to {end} s"
    for (_, before), (after, _) in pairwise(clip.scored):
        assert before <= after, f"{clip.id}: scored spans overlap at {after} s"


def _check_trial(trial: Any, clips: Mapping[str, Clip], split: str) -> None:
    where = f"split '{split}': {trial}"
    assert isinstance(trial, Trial), f"{where} is no bab.Trial"
    assert isinstance(trial.same, bool), f"{where}: same is {trial.same!r}, no truth value"
    for side in (trial.enrol, trial.test):
        assert side in clips, f"split '{split}': a trial names '{side}', which is not in it"
    assert trial.enrol != trial.test, f"{where} compares a clip with itself"
    one, two = clips[trial.enrol].speaker, clips[trial.test].speaker
    if one is not None and two is not None:
        assert trial.same == (one == two), f"{where}: the speakers are {one} and {two}"


def _made(corpus: Corpus, root: Path) -> Corpus:
    """Another corpus of the same class, options and permissions."""
    asks = "permissions" in inspect.signature(type(corpus).__init__).parameters
    more = {"permissions": _permissions(corpus)} if asks else {}
    return type(corpus)(root, corpus.options, **more)


def _permissions(corpus: Corpus) -> Permissions:
    """What it was made with; none where its `__init__` never called the contract's."""
    return getattr(corpus, "permissions", Permissions())

"""What a corpus lists: clips of the right types, each id once, trials of clips that are there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bab.checking.faults import fault
from bab.columns.ask import repeated
from bab.columns.clips import Clips
from bab.core.errors import CorpusError
from bab.core.interfaces import Corpus
from bab.core.types import Clip, Segment, Trial

_SHOWN = 5


def checked_clips(corpus: Corpus, clips: Iterable[Clip]) -> Sequence[Clip]:
    """The clips, all looked at: a list, or in columns as they came.

    Raises:
        PluginError: a clip that isn't one, or a field of another type than the contract's.
    """
    if not isinstance(clips, Clips):
        return list(check_clips(corpus, clips))
    for _ in check_clips(corpus, clips.take(_doubtful(clips))):
        pass
    return clips


def _doubtful(clips: Clips) -> NDArray[np.bool_]:
    """bool[N]: clips of which something may be wrong. Columns have the right types by themselves.
    One text that is empty puts all clips in doubt, as it is looked for in what occurs alone."""
    table = clips.table
    if table.ids.some_empty or table.paths.some_empty or table.groups.some_empty:
        return np.ones(len(clips), bool)
    starts, ends = clips.starts, clips.ends
    fine = np.isfinite(starts) & np.isfinite(ends) & (starts >= 0) & (starts <= ends)
    return ~fine


def check_clips(corpus: Corpus, clips: Iterable[Clip]) -> Iterator[Clip]:
    """The clips as they are, each looked at on its way.

    Raises:
        PluginError: a clip that isn't one, or a field of another type than the contract's.
    """
    if not isinstance(clips, Iterable):
        raise fault(corpus, "clips", f"gives {type(clips).__name__}: clips, one by one, expected")
    for clip in clips:
        wrong = _wrong(clip)
        if wrong:
            raise fault(corpus, "clips", f"gives {wrong}")
        yield clip


def _wrong(clip: Clip) -> str:
    """What of a clip is of another type than it should be; "" where nothing is."""
    if not isinstance(clip, Clip):
        return f"{type(clip).__name__}, not bab.Clip"
    for name in ("id", "path", "group"):
        if not isinstance(getattr(clip, name), str) or not getattr(clip, name):
            return f"a clip ({clip.id!r:.60}) whose {name} is {getattr(clip, name)!r:.60}"
    where = f"clip '{clip.id}'"
    times = (clip.start, clip.end)
    if not all(isinstance(t, (int, float)) and math.isfinite(t) for t in times):
        return f"{where} from {clip.start!r:.40} to {clip.end!r:.40}: finite seconds expected"
    if not 0 <= clip.start <= clip.end:
        return f"{where} from {clip.start:g} to {clip.end:g} s"
    for key, value in clip.labels.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            said = f"{type(value).__name__} {value!r:.40}"
            return f"{where} with label {key!r:.40} = {said}: labels are texts"
    for name in ("speaker", "text"):
        if not isinstance(getattr(clip, name), (str, type(None))):
            return f"{where} whose {name} is {getattr(clip, name)!r:.60}: a text, or None, expected"
    if not isinstance(clip.voices, tuple) or not isinstance(clip.segments, tuple):
        return f"{where} whose voices or segments are no tuple"
    for segment in clip.segments:
        if not isinstance(segment, Segment) or not isinstance(segment.label, str):
            return f"{where} with segment {segment!r:.80}: bab.Segment(start, end, label) expected"
        if not segment.start <= segment.end:  # False of nan too
            return f"{where} with a segment from {segment.start} to {segment.end} s"
    return ""


def same_ids(splits: Mapping[str, Sequence[Clip]]) -> Iterator[str]:
    """Ids that two clips have, in words: of what is scored by id, one would stand for the other."""
    first: dict[str, tuple[str, Clip]] = {}
    for split, clips in repeated(splits).items():
        for clip in clips:
            before = first.setdefault(clip.id, (split, clip))
            if before[1] is clip:
                continue
            one, two = (f"{c.path} {c.start:g}-{c.end:g} s" for c in (before[1], clip))
            if one == two and before[0] != split:
                continue  # one clip in two splits: leakage, which is looked for by itself
            where = f" of {split}" if before[0] == split else f" of {before[0]} and {split}"
            yield f"two clips{where} have the id '{clip.id}': {one} and {two}"


def refuse_same_ids(corpus: Corpus, splits: Mapping[str, Sequence[Clip]]) -> None:
    """Raises CorpusError: clips that share an id."""
    told = list(same_ids(splits))
    if told:
        more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        raise CorpusError(
            f"{corpus.root}: {'; '.join(told[:_SHOWN])}{more}. A clip's id stands for it in "
            "predictions and scores: each needs one of its own"
        )


def check_trials(
    corpus: Corpus, split: str, trials: Sequence[Trial], clips: Sequence[Clip]
) -> None:
    """Trials are of clips that the split lists, and `same` is what their speakers say.

    Raises:
        PluginError: something that is no trial.
        CorpusError: a trial of an unknown clip, or one that speakers contradict.
    """
    speakers = {clip.id: clip.speaker for clip in clips}
    unknown: Counter[str] = Counter()
    for trial in trials:
        if not isinstance(trial, Trial) or not isinstance(trial.same, bool):
            raise fault(corpus, "trials", f"gives {trial!r:.80}: bab.Trial(id, id, bool) expected")
        unknown.update(side for side in (trial.enrol, trial.test) if side not in speakers)
        one, two = speakers.get(trial.enrol), speakers.get(trial.test)
        if one is not None and two is not None and (one == two) != trial.same:
            said = "the same speaker" if trial.same else "two speakers"
            raise CorpusError(
                f"{corpus.root}: the trial '{trial.enrol}' '{trial.test}' of {split} is said to be "
                f"of {said}, but its clips are of '{one}' and '{two}'"
            )
    if unknown:
        shown = ", ".join(f"'{name}'" for name in list(unknown)[:_SHOWN])
        raise CorpusError(
            f"{corpus.root}: trials of {split} name {len(unknown)} clip(s) that the split doesn't "
            f"list: {shown}"
        )

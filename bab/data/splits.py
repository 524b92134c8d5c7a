"""Splits that leak nothing: given ones are checked, others are made by group.

What must not stand in two splits is a *key* of a clip: its file, its id, its group (child,
speaker, family), its speaker, and every voice that is heard in it. Clips that share a key, or are
linked by a chain of shared keys, form a *component* and always move together. The order that
decides where a component goes comes from SHA-256 of seed and name, so that it is the same with
every version of Python, and doesn't depend on the order in which clips are listed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bab.columns.ask import durations, ids, in_two, linked, picked
from bab.columns.clips import Clips
from bab.core.errors import CorpusError, LeakageError
from bab.core.types import Clip

THREE_WAY: Mapping[str, float] = {"train": 0.6, "dev": 0.2, "test": 0.2}


@dataclass(frozen=True, slots=True)
class Fold:
    """One round of a cross-validation. No key is shared between the three."""

    train: Sequence[Clip]
    dev: Sequence[Clip]
    test: Sequence[Clip]


# What ties a clip to others, by kind. The most telling comes first: messages use that one. One kind
# is looked at after the other, so that only one kind's names are held at a time.
KINDS: Mapping[str, Callable[[Clip], Sequence[str]]] = {
    "recording": lambda clip: (clip.path,),
    "clip": lambda clip: (clip.id,),
    "group": lambda clip: (clip.group,),
    "speaker": lambda clip: () if clip.speaker is None else (clip.speaker,),
    "voice": lambda clip: clip.voices,
}


class Shared(NamedTuple):
    """What stands in two splits: a kind of thing, which one, and the two splits."""

    kind: str
    name: str
    one: str
    other: str


def shared(
    splits: Mapping[str, Sequence[Clip]], kinds: Iterable[str] = tuple(KINDS)
) -> Iterator[Shared]:
    """Each thing that stands in two splits, once per further split, the most telling kind first.

    Names are kept of all splits but the largest: of millions of clips, the train split.
    """
    if not splits:
        return
    largest = max(splits, key=lambda split: len(splits[split]))
    order = {split: place for place, split in enumerate(splits)}
    for kind in kinds:
        of = KINDS[kind]
        home: dict[str, str] = {}
        told: set[tuple[str, str]] = set()
        parts = in_two(splits, kind)
        for split in sorted(splits, key=lambda split: split == largest):
            for clip in parts[split]:
                for name in of(clip):
                    if split != largest:
                        there = home.setdefault(name, split)
                    elif name in home:
                        there = home[name]
                    else:
                        continue
                    if there != split and (name, split) not in told:
                        told.add((name, split))
                        yield Shared(kind, name, *sorted((there, split), key=order.__getitem__))


UNSEEN = (
    "No speaker and no group is known: whether splits share a voice can't be seen "
    "(docs/corpora.md, Who is heard)."
)


def ungrouped(clips: Sequence[Clip]) -> bool:
    """Whether nothing is known of who is heard: no speaker, no voice, and each clip's group is only
    the name of its file. Splits of such clips may share voices, and nobody can see it."""
    return all(
        clip.speaker is None
        and not clip.voices
        and (clip.group == clip.id or clip.path.endswith(clip.group))
        for clip in clips
    )


def check_disjoint(splits: Mapping[str, Sequence[Clip]], remedy: str = "") -> None:
    """Refuse splits that share a file, an id, a group, a speaker or a voice. A corpus whose
    `permissions.leakage` is set leaves this out: who scores on it looks for itself.

    remedy: what else can be done about it, for the message.

    Raises:
        LeakageError: naming what is shared, the two splits, and a clip of each.
    """
    first = next(shared(splits), None)
    if first is not None:
        raise LeakageError(leak(first, splits, remedy))


def leak(first: Shared, splits: Mapping[str, Sequence[Clip]], remedy: str = "") -> str:
    """What is to be said of something in two splits."""
    of = KINDS[first.kind]
    one, other = (
        next(clip.id for clip in splits[split] if first.name in of(clip))
        for split in (first.one, first.other)
    )
    return (
        f"{first.kind} '{first.name}' stands in two splits: in '{first.one}' (clip '{one}') and "
        f"in '{first.other}' (clip '{other}'). A score on it would flatter the model: "
        f"keep everything of one {first.kind} in one split{remedy}."
    )


def components(clips: Sequence[Clip]) -> list[Sequence[Clip]]:
    """Clips in lists that share no key with one another; clips keep their order in each."""
    parts = _Parts(clips)
    return [parts.clips(i) for i in range(len(parts))]


class _Parts:
    """Which component each clip is in, and how long each component lasts."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._all = clips
        of = linked(clips) if isinstance(clips, Clips) else _linked(clips)
        _, firsts, of = np.unique(of, return_index=True, return_inverse=True)
        rank = np.empty(len(firsts), np.int32)  # numbered by the first clip of each
        rank[np.argsort(firsts)] = np.arange(len(firsts), dtype=np.int32)
        self.of: NDArray[np.int32] = rank[of]
        self._order = np.argsort(self.of, kind="stable").astype(np.int32)
        sizes = np.bincount(self.of)
        self._ends: list[int] = np.append(0, np.cumsum(sizes)).tolist()
        lasting: Any = durations(clips)[self._order]
        view = memoryview(lasting)  # whose values are Python's
        self.seconds = [math.fsum(view[a:b]) for a, b in pairwise(self._ends)]

    def __len__(self) -> int:
        return len(self.seconds)

    def clips(self, part: int) -> Sequence[Clip]:
        """A component, in the order of the corpus."""
        places = self._order[self._ends[part] : self._ends[part + 1]]
        if isinstance(self._all, Clips):
            return self._all.take(places)
        return [self._all[i] for i in places.tolist()]

    def dealt(self, seed: int) -> list[int]:
        """Components in the order in which they are dealt: long ones first, so that the short ones
        can even things out; those within a factor of two of each other as the seed has it."""
        levels = [-math.floor(math.log2(max(seconds, 1e-3))) for seconds in self.seconds]
        keys = [*self.hashed(f"{seed}\0"), np.array(levels)]
        order: list[int] = np.lexsort(keys).tolist()
        return order

    def hashed(self, prefix: str) -> list[NDArray[Any]]:
        """SHA-256 of each component's least id, as keys of `np.lexsort`."""
        least: list[str | None] = [None] * len(self)
        of: Any = self.of
        for part, name in zip(memoryview(of), ids(self._all), strict=True):
            known = least[part]
            if known is None or name < known:
                least[part] = name
        digests = b"".join(hashlib.sha256(f"{prefix}{name}".encode()).digest() for name in least)
        return list(np.frombuffer(digests, ">u8").reshape(-1, 4).T[::-1])


def _linked(clips: Sequence[Clip]) -> NDArray[np.int64]:
    """i64[N]: clips of one component have one number."""
    parent = list(range(len(clips)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for of in KINDS.values():
        first: dict[str, int] = {}
        for i, clip in enumerate(clips):
            for name in of(clip):
                there = first.setdefault(name, i)
                if there != i:
                    parent[root(i)] = root(there)
    return np.array([root(i) for i in range(len(clips))], np.int64)


def by_group(
    clips: Sequence[Clip], fractions: Mapping[str, float] = THREE_WAY, seed: int = 0
) -> dict[str, Sequence[Clip]]:
    """Split into shares of the total duration, whole components at a time.

    Args:
        clips: in any order; each split keeps that order.
        fractions: split -> share of the seconds; scaled to sum to one.
        seed: another seed gives another split.

    Raises:
        CorpusError: with fewer components than splits, or a share that isn't positive.
    """
    if not fractions or any(not 0 < share < math.inf for share in fractions.values()):
        raise CorpusError(f"shares of a split must be positive numbers, not {dict(fractions)}.")
    parts = _Parts(clips)
    if len(parts) < len(fractions):
        raise CorpusError(
            _too_few(clips, parts, len(fractions), f"splits ({', '.join(fractions)})")
        )
    total = sum(fractions.values())
    seconds = sum(parts.seconds)
    missing = {name: share / total * seconds for name, share in fractions.items()}
    names, taken, empty = list(fractions), [0] * len(parts), list(fractions)
    for left, part in zip(range(len(parts), 0, -1), parts.dealt(seed), strict=True):
        open_to = empty if left <= len(empty) else names
        name = max(open_to, key=missing.__getitem__)
        if name in empty:
            empty.remove(name)
        taken[part] = names.index(name)
        missing[name] -= parts.seconds[part]
    of = np.array(taken, np.int32)[parts.of]
    return {name: picked(clips, of == i) for i, name in enumerate(names)}


def split_off(
    clips: Sequence[Clip], one_in: int
) -> tuple[int, int, Sequence[Clip], Sequence[Clip]]:
    """How many components there are, how many of them are taken (one in so many, two at least,
    never all; 0 where there is but one), and the clips that stay and that are taken."""
    parts = _Parts(clips)
    # Two at least, so that speakers can be compared in it.
    count = min(max(2, len(parts) // one_in), len(parts) - 1)
    if count < 1:
        return len(parts), 0, clips, []
    taken = np.zeros(len(parts), bool)
    taken[np.lexsort(parts.hashed(""))[:count]] = True
    of = taken[parts.of]
    return len(parts), count, picked(clips, ~of), picked(clips, of)


def kfold(clips: Sequence[Clip], folds: int, seed: int = 0) -> list[Fold]:
    """`folds` rounds; each component is tested exactly once, each time by models that never met it.

    A round tests on one fold, tunes on the next one, and trains on the others.

    Raises:
        CorpusError: with fewer than three folds, or fewer components than folds.
    """
    if folds < 3:
        raise CorpusError(
            f"{folds} folds are too few: one tests, one tunes and the others train, so 3 or more."
        )
    parts = _Parts(clips)
    if len(parts) < folds:
        raise CorpusError(_too_few(clips, parts, folds, "folds"))
    bins: list[list[float]] = [[] for _ in range(folds)]  # seconds of what each holds
    held, taken = [0.0] * folds, [0] * len(parts)
    for part in parts.dealt(seed):
        best = min(range(folds), key=lambda i: (bool(bins[i]), held[i]))
        bins[best].append(parts.seconds[part])
        held[best] = sum(bins[best])
        taken[part] = best
    return _rotate(clips, np.array(taken, np.int32)[parts.of], folds)


def leave_one_group_out(clips: Sequence[Clip]) -> list[Fold]:
    """One round for each component (group, and what shares a voice with it), as in `kfold`.

    Raises:
        CorpusError: with fewer than three components.
    """
    parts = _Parts(clips)
    if len(parts) < 3:
        raise CorpusError(_too_few(clips, parts, 3, "parts (train, dev, test)"))
    return _rotate(clips, parts.of, len(parts))


def clip_kfold(clips: Sequence[Clip], folds: int, seed: int = 0) -> list[Fold]:
    """`folds` rounds as in `kfold`, clip by clip, whatever they share: speakers and groups stand in
    train and test.

    The clips of each speaker are spread evenly, and first over folds that aren't neighbours: of
    four folds or more, whoever has two clips is in every round's train.

    Raises:
        CorpusError: with fewer than three folds, or fewer clips than folds.
    """
    if folds < 3 or len(clips) < folds:
        raise CorpusError(f"{len(clips)} clips can't be divided into {folds} folds (3 or more).")

    def place(clip: Clip) -> tuple[str, bytes]:
        digest = hashlib.sha256(f"{seed}\0{clip.id}".encode()).digest()
        return clip.speaker or clip.group, digest

    places = [place(clip) for clip in clips]
    bins, sizes = np.zeros(len(places), np.int32), [0] * folds
    order = sorted(range(len(places)), key=places.__getitem__)
    for _, own in groupby(order, key=lambda i: places[i][0]):
        held = [0] * folds  # this speaker's clips in each fold

        def cost(i: int, held: list[int] = held) -> tuple[int, int, int]:
            beside = held[i - 1] + held[(i + 1) % folds]
            return held[i], beside, sizes[i]

        for clip in own:
            best = min(range(folds), key=cost)
            bins[clip] = best
            sizes[best] += 1
            held[best] += 1
    return _rotate(clips, bins, folds)


def _rotate(clips: Sequence[Clip], bins: NDArray[np.int32], count: int) -> list[Fold]:
    """Round i tests on bin i, tunes on bin i + 1, trains on the rest. bins: i32[N], each clip's."""
    folds = []
    for i in range(count):
        test, dev = bins == i, bins == (i + 1) % count
        folds.append(Fold(*(picked(clips, part) for part in (~(test | dev), dev, test))))
    return folds


def _too_few(clips: Sequence[Clip], parts: _Parts, needed: int, what: str) -> str:
    return (
        f"{len(clips)} clips can't be divided into {needed} {what}: what must stay together "
        f"(files, groups, speakers, voices) leaves {len(parts)} independent parts. "
        "Ask for fewer, or add recordings of other homes."
    )

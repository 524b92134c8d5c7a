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
from itertools import groupby
from typing import NamedTuple

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
        for split in sorted(splits, key=lambda split: split == largest):
            for clip in splits[split]:
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


def components(clips: Sequence[Clip]) -> list[list[Clip]]:
    """Clips in lists that share no key with one another; clips keep their order in each."""
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
    by_root: dict[int, list[Clip]] = {}
    for i, clip in enumerate(clips):
        by_root.setdefault(root(i), []).append(clip)
    return list(by_root.values())


def by_group(
    clips: Sequence[Clip], fractions: Mapping[str, float] = THREE_WAY, seed: int = 0
) -> dict[str, list[Clip]]:
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
    parts = components(clips)
    if len(parts) < len(fractions):
        raise CorpusError(_too_few(parts, len(fractions), f"splits ({', '.join(fractions)})"))
    total = sum(fractions.values())
    seconds = sum(_seconds(part) for part in parts)
    missing = {name: share / total * seconds for name, share in fractions.items()}
    chosen: dict[str, list[list[Clip]]] = {name: [] for name in fractions}
    for left, part in zip(range(len(parts), 0, -1), _order(parts, seed), strict=True):
        empty = [name for name, taken in chosen.items() if not taken]
        open_to = empty if left <= len(empty) else list(chosen)
        name = max(open_to, key=lambda split: missing[split])
        chosen[name].append(part)
        missing[name] -= _seconds(part)
    return {name: _in_order(clips, taken) for name, taken in chosen.items()}


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
    parts = components(clips)
    if len(parts) < folds:
        raise CorpusError(_too_few(parts, folds, "folds"))
    bins: list[list[list[Clip]]] = [[] for _ in range(folds)]
    for part in _order(parts, seed):
        min(bins, key=lambda taken: (bool(taken), sum(map(_seconds, taken)))).append(part)
    return _rotate(clips, bins)


def leave_one_group_out(clips: Sequence[Clip]) -> list[Fold]:
    """One round for each component (group, and what shares a voice with it), as in `kfold`.

    Raises:
        CorpusError: with fewer than three components.
    """
    parts = components(clips)
    if len(parts) < 3:
        raise CorpusError(_too_few(parts, 3, "parts (train, dev, test)"))
    return _rotate(clips, [[part] for part in parts])


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

    bins: list[list[list[Clip]]] = [[] for _ in range(folds)]
    for _, own in groupby(sorted(clips, key=place), key=lambda clip: clip.speaker or clip.group):
        held = [0] * folds  # this speaker's clips in each fold

        def cost(i: int, held: list[int] = held) -> tuple[int, int, int]:
            beside = held[i - 1] + held[(i + 1) % folds]
            return held[i], beside, len(bins[i])

        for clip in own:
            best = min(range(folds), key=cost)
            bins[best].append([clip])
            held[best] += 1
    return _rotate(clips, bins)


def _rotate(clips: Sequence[Clip], bins: Sequence[list[list[Clip]]]) -> list[Fold]:
    """Round i tests on bin i, tunes on bin i + 1, trains on the rest."""
    folds = []
    for i in range(len(bins)):
        after = (i + 1) % len(bins)
        rest = [part for j, taken in enumerate(bins) if j not in (i, after) for part in taken]
        folds.append(Fold(*(_in_order(clips, parts) for parts in (rest, bins[after], bins[i]))))
    return folds


def _order(parts: list[list[Clip]], seed: int) -> list[list[Clip]]:
    """Components in the order in which they are dealt: long ones first, so that the short ones can
    even things out; those within a factor of two of each other as the seed has it."""

    def place(part: list[Clip]) -> tuple[int, bytes]:
        name = min(clip.id for clip in part)
        digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
        return -math.floor(math.log2(max(_seconds(part), 1e-3))), digest

    return sorted(parts, key=place)


def _seconds(part: Sequence[Clip]) -> float:
    return math.fsum(clip.duration for clip in part)


def _in_order(clips: Sequence[Clip], parts: Sequence[Sequence[Clip]]) -> list[Clip]:
    """The clips of some components, in the order of the corpus."""
    wanted = {clip.id for part in parts for clip in part}
    return [clip for clip in clips if clip.id in wanted]


def _too_few(parts: Sequence[Sequence[Clip]], needed: int, what: str) -> str:
    clips = sum(len(part) for part in parts)
    return (
        f"{clips} clips can't be divided into {needed} {what}: what must stay together (files, "
        f"groups, speakers, voices) leaves {len(parts)} independent parts. "
        "Ask for fewer, or add recordings of other homes."
    )

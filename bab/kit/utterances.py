"""What the corpora of utterances share: headers, tables, splits by speaker, trials."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, zip_longest
from pathlib import Path

from bab.audio.reading import info as audio_info
from bab.columns.ask import joined, listed
from bab.core.errors import AudioError, CorpusError, did_you_mean
from bab.core.types import Clip, Permissions, Trial
from bab.data.splits import by_group as split_by_group
from bab.data.splits import check_disjoint, split_off, ungrouped
from bab.kit.faults import Faults
from bab.kit.recordings import SPLITS, how_split, lines

# How corpora write gender -> how bab does. What isn't here is kept as it is written; an empty value
# and the wish not to say are no label.
GENDERS = {
    "m": "male",
    "male": "male",
    "male_masculine": "male",
    "f": "female",
    "female": "female",
    "female_feminine": "female",
    "other": "other",
    "intersex": "other",
    "transgender": "other",
    "non-binary": "other",
    "do_not_wish_to_say": "",
}
SHARE = 10  # one speaker in so many goes from train to a dev or test split that isn't given
PAIRED = 40  # clips of one speaker that are paired for made trials: 780 pairs


def gender(written: str) -> str:
    """ "F", "female_feminine" -> "female"; "" where it isn't said."""
    key = written.strip().lower()
    return GENDERS.get(key, key)


class Headers:
    """Durations from audio headers; files that can't be read are told of in one notice.

    They are still listed, of no length: a run says which files are bad, or leaves them out.
    """

    def __init__(self, notices: list[str]) -> None:
        self._notices = notices
        self._known: dict[str, float] = {}
        self._bad: list[str] = []

    def seconds(self, path: str) -> float:
        """Seconds of a file; 0 where it can't be read."""
        known = self._known.get(path)
        if known is None:
            try:
                known = float(audio_info(path).duration)
            except AudioError as error:
                known = 0.0
                self._bad.append(str(error))
            self._known[path] = known
        return known

    def tell(self) -> None:
        """Add the notice, if there is anything to tell."""
        if self._bad:
            more = f", and {len(self._bad) - 1} more" if len(self._bad) > 1 else ""
            self._notices.append(f"Unreadable: {self._bad[0]}{more}")


class SharedLabels:
    """Equal sets of labels as one object: a million clips of a thousand speakers share them."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, ...], dict[str, str]] = {}

    def of(self, names: Sequence[str], values: tuple[str, ...]) -> Mapping[str, str]:
        """{name: value} of the values that aren't empty; `names` must be the same each time."""
        known = self._made.get(values)
        if known is None:
            pairs = zip(names, values, strict=True)
            known = self._made[values] = {name: value for name, value in pairs if value}
        return known


def pairs(path: Path, faults: Faults | None = None) -> Iterator[tuple[int, str, str]]:
    """(line number, first field, rest of the line) of each line of a table in Kaldi's manner.

    faults: told of keys that stand twice; None: they are raised when all has been read.

    Raises:
        CorpusError: the file can't be read as text, or a key stands twice.
    """
    seen: set[str] = set()
    told = Faults() if faults is None else faults
    for number, line in lines(path):
        key, _, rest = line.strip().replace("\t", " ", 1).partition(" ")
        if not key:
            continue
        if key in seen:
            told.say(path, number, f"'{key}' stands twice. Keep one of its lines.")
            continue
        seen.add(key)
        yield number, key, rest.strip()
    if faults is None:
        told.refuse()


def table(path: Path) -> dict[str, str]:
    """A table in Kaldi's manner, or nothing where there is no such file."""
    return {key: rest for _, key, rest in pairs(path)} if path.is_file() else {}


class Parted:
    """Clips in their given splits; a dev or test split that isn't given is made from train.

    Nothing given at all: a split by group, 60/20/20 % of the seconds. No train, but others: only
    those exist.
    """

    def __init__(
        self,
        given: Mapping[str, Sequence[Clip]],
        root: Path,
        notices: list[str],
        permissions: Permissions,
        checked: bool = False,
    ) -> None:
        """given: split -> clips, in order; the key "" holds clips that are in no split.

        checked: the caller has looked already for what given splits share and mustn't.
        """
        self._given = {name: listed(given.get(name, ())) for name in (*SPLITS, "")}
        self._root, self._notices = root, notices
        self._check = not (checked or permissions.leakage)
        self._parts: dict[str, Sequence[Clip]] | None = None
        there = tuple(name for name in SPLITS if self._given[name])
        self.names = SPLITS if "train" in there or not there else there
        self.given, self.listed = bool(there), there
        if there and self._given[""]:
            notices.append(f"{len(self._given[''])} clips are in no split.")
        if not there and not self._given[""]:
            raise CorpusError(f"{root}: there is no clip.")

    def clips(self, split: str | None) -> Sequence[Clip]:
        """A split's clips, or all of them, in columns where they were given so; else a new list.

        Raises:
            CorpusError: an unknown split, or too few speakers to make one.
            LeakageError: a speaker, group or file in two of the given splits, unless that is
                allowed.
        """
        if split is None:
            return joined(list(self._given.values()))
        if split not in self.names:
            hint = did_you_mean(split, self.names)
            raise CorpusError(
                f"{self._root}: no split '{split}' ({hint}). It holds {' and '.join(self.names)} "
                "alone; add the training data, or use --set protocol=kfold"
            )
        if self._parts is None:
            self._parts = self._divide()
        return listed(self._parts[split])

    def _divide(self) -> dict[str, Sequence[Clip]]:
        parts = {name: self._given[name] for name in self.names if self._given[name]}
        if self._check:
            check_disjoint(parts)
        missing = [name for name in self.names if name not in parts]
        if len(missing) < 2:
            for name in missing:
                parts["train"], parts[name] = self._carve(name, parts["train"])
            return parts
        clips = parts.get("train") or self._given[""]
        try:
            made = split_by_group(clips)
        except CorpusError as error:
            raise CorpusError(f"{self._root}: no splits are given, and {error}") from error
        sizes = ", ".join(f"{len(part)} {name}" for name, part in made.items())
        self._notices.append(f"No splits are given: split {how_split(clips)} into {sizes} clips.")
        return made

    def _carve(self, name: str, train: Sequence[Clip]) -> tuple[Sequence[Clip], Sequence[Clip]]:
        """What stays in train, and the split that is made of a tenth of its speakers."""
        groups, count, keep, taken = split_off(train, SHARE)
        if not count:
            raise CorpusError(
                f"{self._root}: there is no {name} split, and train has one speaker or group "
                "only, so none can be made. Add one."
            )
        what = "clips" if ungrouped(train) else "speakers or groups"
        self._notices.append(
            f"No {name} split is given: {count} of train's {groups} {what} are it."
        )
        return keep, taken


def made_trials(
    clips: Sequence[Clip], count: int, session: Callable[[Clip], str], seed: str
) -> list[Trial]:
    """Verification trials where a corpus has none: half of one speaker, half of two.

    Same-speaker trials go round the speakers, pairs from two sessions before pairs from one; at
    most `PAIRED` clips of a speaker are paired. Different speakers are drawn evenly, whatever their
    gender, so such trials are easier than a published list's. They don't depend on the order of the
    clips. There are fewer than `count` where no more can be made,
    still half and half.

    Args:
        clips: of one split; those without a speaker are left out.
        session: what recordings of one occasion share.
        seed: another one gives another list.
    """
    by_speaker: dict[str, list[Clip]] = {}
    for clip in _shuffled(clips, seed):
        if clip.speaker is not None:
            by_speaker.setdefault(clip.speaker, []).append(clip)
    spoken = [part[:PAIRED] for _, part in sorted(by_speaker.items())]
    if len(spoken) < 2:
        return []
    same = _same_pairs(spoken, count // 2, session)
    different = _different_pairs(spoken, count // 2, seed)
    size = min(len(same), len(different))
    both = [(pair, True) for pair in same[:size]] + [(pair, False) for pair in different[:size]]
    return [Trial(one.id, two.id, target) for (one, two), target in both]


def _shuffled(clips: Iterable[Clip], seed: str) -> list[Clip]:
    """In the order of a hash: it doesn't depend on the order in which they were listed."""
    return sorted(clips, key=lambda c: hashlib.sha256(f"{seed}\0{c.id}".encode()).digest())


def _same_pairs(
    spoken: Sequence[Sequence[Clip]], count: int, session: Callable[[Clip], str]
) -> list[tuple[Clip, Clip]]:
    def together(pair: tuple[Clip, Clip]) -> bool:
        return session(pair[0]) == session(pair[1])

    # False sorts first: two sessions before one.
    rounds = zip_longest(*(sorted(combinations(part, 2), key=together) for part in spoken))
    return [pair for at_once in rounds for pair in at_once if pair is not None][:count]


def _different_pairs(
    spoken: Sequence[Sequence[Clip]], count: int, seed: str
) -> list[tuple[Clip, Clip]]:
    draw = random.Random(f"{seed} different")
    drawn: dict[tuple[str, str], tuple[Clip, Clip]] = {}
    for _ in range(20 * count):  # enough, unless nearly every pair there is has been drawn
        if len(drawn) == count:
            break
        one, two = (spoken[i] for i in sorted(draw.sample(range(len(spoken)), 2)))
        pair = (draw.choice(one), draw.choice(two))
        drawn.setdefault((pair[0].id, pair[1].id), pair)
    return list(drawn.values())


def read_trials(path: Path, known: Callable[[str], str | None]) -> list[Trial]:
    """A trial list: `1 enrol test` (VoxCeleb) or `enrol test target|nontarget` (Kaldi).

    Args:
        known: from a name in the list to a clip's id; None where there is no such clip.

    Raises:
        CorpusError: naming file and line: not a trial, or a clip that isn't there.
    """
    meaning = {"1": True, "0": False, "target": True, "nontarget": False}
    trials, faults = [], Faults()
    for number, line in lines(path):
        fields = line.split()
        if not fields:
            continue
        if len(fields) == 3 and fields[0] in ("0", "1"):
            fields = [*fields[1:], fields[0]]
        if len(fields) != 3 or fields[2] not in meaning:
            told = "not a trial ('1 ENROL TEST', or 'ENROL TEST target'): "
            faults.say(path, number, told + repr(line.strip()))
            continue
        sides = [known(name) for name in fields[:2]]
        for name, side in zip(fields, sides, strict=False):
            if side is None:
                told = f"no audio for '{name}'. A list with trials left out gives another error "
                told += "rate: add the file, or remove its trials from the list."
                faults.say(path, number, told)
        trials.append(Trial(str(sides[0]), str(sides[1]), meaning[fields[2]]))
    faults.refuse()
    if not trials:
        raise CorpusError(f"{path}: the trial list is empty. Fill it, or remove it.")
    return trials

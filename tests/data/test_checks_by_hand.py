"""The checks of a corpus and its splits, by hand: what is told, in which order, how sure."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audio_files import sound, write

from bab.core.errors import CorpusError, LeakageError
from bab.core.interfaces import Corpus
from bab.core.types import Clip, Segment, Trial
from bab.data import check, content, splits
from bab.data.check import Problem, Report, SplitSummary, check_corpus, render, summarise, unopened


class Made(Corpus):
    """A corpus of clips that a test made up."""

    name = "made"

    def __init__(self, root: Path, parts: Mapping[str, list[Clip]], provides: str = "") -> None:
        super().__init__(root, None)
        self.parts, self.notices = parts, ["a note"]
        self.provides = frozenset(provides.split())  # type: ignore[misc]

    def splits(self) -> tuple[str, ...]:
        return tuple(self.parts)

    def clips(self, split: str | None = None) -> list[Clip]:
        every = [clip for part in self.parts.values() for clip in part]
        return every if split is None else self.parts[split]

    def trials(self, split: str) -> list[Trial]:
        raise CorpusError(f"{split}: no list")


def clip(name: str, seconds: float = 1.0, **facts: Any) -> Clip:
    facts = {"path": f"/x/{name}.wav", "group": f"g-{name}"} | facts
    return Clip(id=name, start=facts.pop("start", 0.0), end=seconds, **facts)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two seconds of three sounds, and a copy of the first."""
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    waves = [sound(8000, 2.0, seed=i % 3) for i in range(4)]
    return [str(write(tmp_path / f"{i}.wav", wave, 8000)) for i, wave in enumerate(waves)]


def test_a_report_of_what_can_t_be_opened() -> None:
    error = CorpusError("first and more")
    error.add_note("line 1")
    report = unopened("rttm", Path("/x"), error)
    assert report == Report("rttm", "/x", 0, {}, [Problem("/x", "files", "line 1", True)], [])
    assert render(report).splitlines() == [
        "rttm: can't be read as it is, in /x", "", "error: files (1)", "  line 1", "",
        "1 error, 0 warnings: a run would stop",
    ]  # fmt: skip
    assert report.fatal and report.to_dict()["fatal"] is True and report.to_dict()["files"] == 0
    assert not Report("x", "y", 0, {}, [], []).fatal


def test_the_same_audio_under_two_names(tmp_path: Path, files: list[str]) -> None:
    parts = {
        "train": [clip("a", path=files[0]), clip("b", path=files[1])],
        "test": [clip("d", path=files[3])],
    }
    (one,) = check_corpus(Made(tmp_path, parts)).problems
    assert (one.path, one.kind, one.fatal) == (files[3], "same audio", True)
    assert one.message == (
        f"{files[0]} (train) and {files[3]} (test) hold the same audio; leave one of them out"
    )
    inside = {"train": [*parts["train"], *parts["test"]], "test": [clip("c", path=files[2])]}
    (one,) = check_corpus(Made(tmp_path, inside)).problems
    assert (one.path, one.kind, one.fatal) == (files[3], "same audio", False)
    assert (
        one.message == f"{files[0]} (g-a) and {files[3]} (g-d) hold the same audio, of two groups"
    )
    one_home = [clip(c.id, path=c.path, group="g") for c in inside["train"]]
    grouped = {"train": one_home, "test": inside["test"]}
    assert check_corpus(Made(tmp_path, grouped)).problems == []
    report = check_corpus(Made(tmp_path, {}))  # without splits, and without clips
    assert report.files == 0 and list(report.splits) == ["all"] and report.notices == ["a note"]


def test_late_clips_and_segments_to_the_letter(tmp_path: Path, files: list[str]) -> None:
    late = (Segment(1.0, 2.04, "FEM"), Segment(1.5, 2.06, "MAL"), Segment(3.0, 4.0, "OCH"))
    clips = [
        clip("a", 2.05, path=files[0], segments=late),
        clip("b", 2.06, path=files[1]),
        clip("c", 3.0, path=files[2], start=2.0),
    ]
    problems = check_corpus(Made(tmp_path, {"train": clips})).problems
    assert [(p.path, p.kind, p.fatal, p.message) for p in problems] == [
        (files[0], "beyond", False, f"{files[0]}: clip 'a' has 2 segments after the file's end "
         "(2.000 s), the first 'MAL' at 1.500 to 2.060 s"),
        (files[1], "beyond", False,
         f"{files[1]}: clip 'b' ends at 2.060 s; the file ends at 2.000 s"),
        (files[2], "beyond", True,
         f"{files[2]}: clip 'c' begins at 2.000 s; the file ends at 2.000 s"),
    ]  # fmt: skip
    assert check_corpus(Made(tmp_path, {"train": [clip("a", 2.05, path=files[0])]})).problems == []
    broken = [clip("a", 9.0, path=str(tmp_path / "gone.wav"))]
    made = check_corpus(Made(tmp_path, {"train": [*broken, clips[1]]})).problems
    assert [(p.path, p.kind) for p in made] == [
        (broken[0].path, "missing"), (files[1], "beyond"),  # those after it are looked at, too
    ]  # fmt: skip


def test_overlaps_name_a_clip_of_each_split(tmp_path: Path, files: list[str]) -> None:
    parts = {
        "train": [clip("a", path=files[0]), clip("b", path=files[1], speaker="s")],
        "dev": [clip("c", path=files[2], speaker="s"), clip("d", path=files[2], speaker="s")],
    }
    told = "speaker 's' stands in two splits: 'train' (clip 'b') and 'dev' (clip 'c'); move it, so "
    told += "that all of it is in one"
    problems = check_corpus(Made(tmp_path, parts)).problems
    assert problems == [Problem(files[2], "overlap", told, True)]


def test_trial_lists_are_asked_of_dev_and_test_where_there_are_speakers(
    tmp_path: Path, files: list[str]
) -> None:
    parts = {name: [clip(name, path=path, speaker=name)]
             for name, path in zip(("test", "train", "dev"), files, strict=False)}  # fmt: skip
    problems = check_corpus(Made(tmp_path, parts, "speaker")).problems
    assert [(p.path, p.kind, p.message, p.fatal) for p in problems] == [
        (str(tmp_path), "trials", f"speaker verification would stop: {s}: no list", False)
        for s in ("dev", "test")
    ]
    assert check_corpus(Made(tmp_path, parts)).problems == []
    del parts["dev"]
    assert [p.message[-13:] for p in check_corpus(Made(tmp_path, parts, "speaker")).problems] == [
        "test: no list"
    ]


def test_files_are_checked_in_their_order_whatever_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(tmp_path / f"{i}.wav") for i in range(9)]
    told: list[tuple[int, int]] = []
    problems = check._check_files(paths, 4, lambda *now: told.append(now))
    assert [p.path for p in problems] == paths and told == [(i, 9) for i in range(1, 10)]
    made: list[int] = []
    real = check.ThreadPoolExecutor
    monkeypatch.setattr(
        check, "ThreadPoolExecutor", lambda count: made.append(count) or real(count)
    )
    for jobs in (0, 1, 3):
        assert check._check_files(paths[:1], jobs, None) == problems[:1]
    assert made == [1, 1, 3]


def test_stopped_no_further_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    go_on = threading.Event()

    def look(path: str) -> list[Problem]:
        asked.append(path)
        assert path == "0" or go_on.wait(20)  # the others wait for what becomes of the first
        return []

    def stop(done: int, total: int) -> None:
        threading.Timer(0.05, go_on.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr(check.reading, "check", look)
    with pytest.raises(KeyboardInterrupt):
        check._check_files([str(i) for i in range(50)], 2, stop)
    assert len(asked) < 5


def test_progress_of_a_quick_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str]
) -> None:
    """Told of the last file, and of others where a tenth of a second has gone by."""
    clips = [clip(str(i), path=path) for i, path in enumerate([*files, files[0]])]
    for step, expected in ((0.2, [1, 2, 3, 4]), (0.0, [4])):
        for module, call in (
            (check, check.bad_files), (content, content.contents),
        ):  # fmt: skip
            clock = iter(np.arange(0, 99, step) if step else [0.0] * 99)
            monkeypatch.setattr(module.time, "monotonic", lambda clock=clock: float(next(clock)))
            told: list[tuple[float, float]] = []
            call(clips, lambda *now, told=told: told.append(now))  # type: ignore[operator]
            assert told[-1] == (4, 4) and all(total == 4 for _, total in told)
            assert [done for done, _ in told] == expected


def test_what_clips_hold_in_all() -> None:
    clips = [
        clip("a", 10.0, scored=((0.0, 2.0), (5.0, 6.5)), labels={"sex": "f", "age": "3"},
             segments=(Segment(0, 1, "FEM"), Segment(0.5, 2.5, "FEM"), Segment(1, 2, "CHI"))),
        clip("b", 8.0, start=3.0, labels={"sex": "f"}, voices=("v", "w")),
        clip("c", 8.0, path="/x/a.wav", group="g-a", speaker="s", scored=(), voices=("v",)),
    ]  # fmt: skip
    made = summarise(clips)
    assert made == SplitSummary(2, 3, 23 / 3600, 8.5 / 3600, 2, 1, 2, {"CHI": 1.0, "FEM": 3.0},
                                {"age=3": 1, "sex=f": 2})  # fmt: skip
    assert summarise([]) == SplitSummary(0, 0, 0.0, 0.0, 0, 0, 0)


def test_a_label_of_sixty_values_is_listed_and_one_of_more_counted() -> None:
    def lines(count: int) -> list[str]:
        counts = {f"k=v{i:02}": i + 1 for i in range(count)} | {"a=x=y": 3}
        one = SplitSummary(1, 1, 0, 0, 1, 0, 0, {}, counts)
        return render(Report("c", "r", 1, {"train": one}, [], [])).splitlines()

    assert lines(60)[4].endswith("k=v59 x60, a=x=y x3") and "values" not in lines(60)[4]
    assert lines(61)[4] == "train: a=x=y x3, k: 61 values"


# ------------------------------------------------------------------------------- splits


def test_what_leaks_is_told_to_the_letter() -> None:
    parts = {"train": [clip("a"), clip("b", speaker="s")], "test": [clip("c", speaker="s")]}
    with pytest.raises(LeakageError) as caught:
        splits.check_disjoint(parts, " or say test_names=distinct")
    assert str(caught.value) == (
        "speaker 's' stands in two splits: in 'train' (clip 'b') and in 'test' (clip 'c'). A score "
        "on it would flatter the model: keep everything of one speaker in one split or say "
        "test_names=distinct."
    )
    splits.check_disjoint({})
    assert list(splits.shared({})) == []
    for largest in (0, 1):  # every voice of a clip is looked at, in the larger split and the other
        one = [clip("a", voices=("x", "bob", "y")), *(clip(f"m{i}") for i in range(2 - largest))]
        two = [clip("c", voices=("z", "bob")), *(clip(f"n{i}") for i in range(2 * largest))]
        made = list(splits.shared({"train": one, "dev": two}))
        assert made == [splits.Shared("voice", "bob", "train", "dev")]


@pytest.mark.parametrize(
    ("facts", "blind"),
    [
        ({"group": "a"}, True),
        ({"group": "a.wav"}, True),
        ({"group": "x/a.wav"}, True),
        ({"group": "home"}, False),
        ({"group": "a", "speaker": "s"}, False),
        ({"group": "a", "voices": ("v",)}, False),
    ],
)
def test_whether_anybody_is_known(facts: dict[str, Any], blind: bool) -> None:
    assert splits.ungrouped([clip("a", **facts)]) == blind
    assert splits.ungrouped([clip("a", **facts), clip("b", group="b")]) == blind
    assert not splits.ungrouped([clip("a", **facts), clip("b", group="other")])


def test_what_belongs_together_is_in_the_order_of_the_corpus() -> None:
    clips = [
        clip("a", group="g"), clip("b", speaker="s"), clip("c", voices=("v",)),
        clip("d", group="g"), clip("e", speaker="s", voices=("w",)), clip("f", path="/x/a.wav"),
    ]  # fmt: skip
    parts = [[c.id for c in part] for part in splits.components(clips)]
    assert parts == [["a", "d", "f"], ["b", "e"], ["c"]]
    assert splits.components([]) == []


def order_of(names: list[str], prefix: str = "") -> list[str]:
    """By SHA-256, as the module says."""
    return sorted(names, key=lambda n: hashlib.sha256(f"{prefix}{n}".encode()).digest())


@pytest.mark.parametrize(
    ("count", "one_in", "taken"),
    [(1, 10, 0), (2, 10, 1), (3, 10, 2), (10, 10, 2), (30, 10, 3), (9, 3, 3)],
)
def test_a_part_is_taken_off(count: int, one_in: int, taken: int) -> None:
    clips = [clip(f"c{i}") for i in range(count)]
    parts, number, kept, off = splits.split_off(clips, one_in)
    assert (parts, number, len(off), len(kept)) == (count, taken, taken, count - taken)
    wanted = order_of([c.id for c in clips])[:taken]
    assert {c.id for c in off} == set(wanted) and [c for c in clips if c not in off] == kept


def test_components_are_dealt_by_length_and_then_by_hash() -> None:
    """Long ones first, by powers of two; each share gets the next where it lacks most."""
    seconds = {"a": 40.0, "b": 33.0, "c": 8.0, "d": 9.0, "e": 15.9, "f": 1.0, "g": 1.9, "h": 3.0}
    clips = [clip(name, length) for name, length in seconds.items()]
    for seed in range(4):
        levels = [["a", "b"], ["c", "d", "e"], ["h"], ["f", "g"]]
        order = [name for level in levels for name in order_of(level, f"{seed}\0")]
        missing = {"x": sum(seconds.values()) * 0.75, "y": sum(seconds.values()) * 0.25}
        expected: dict[str, list[str]] = {"x": [], "y": []}
        for name in order:
            share = "x" if missing["x"] >= missing["y"] else "y"
            expected[share].append(name)
            missing[share] -= seconds[name]
        made = splits.by_group(clips, {"x": 3.0, "y": 1.0}, seed)
        assert {k: [c.id for c in v] for k, v in made.items()} == {
            k: sorted(v) for k, v in expected.items()
        }
        held: list[list[str]] = [[], [], []]
        for name in order:
            i = min(range(3), key=lambda i: (bool(held[i]), sum(seconds[n] for n in held[i])))
            held[i].append(name)
        folds = splits.kfold(clips, 3, seed)
        assert [[c.id for c in fold.test] for fold in folds] == [sorted(part) for part in held]


def test_no_split_is_left_empty_however_the_seconds_lie() -> None:
    clips = [clip("a", 100.0), clip("b", 1.0), clip("c", 1.0)]
    made = splits.by_group(clips, {"train": 98.0, "dev": 1.0, "test": 1.0})
    assert [len(part) for part in made.values()] == [1, 1, 1]
    assert [c.id for c in made["train"]] == ["a"]
    brief = splits.by_group([clip("a", 0.0), clip("b", 0.0), clip("c", 0.0)])
    assert [len(part) for part in brief.values()] == [1, 1, 1]
    rounds = splits.kfold([clip(name, 0.0) for name in "abc"], 3)
    assert [len(fold.test) for fold in rounds] == [1, 1, 1]


def test_what_is_said_of_too_few_parts() -> None:
    two = [clip("a"), clip("b"), clip("c", group="g-b")]
    rest = (
        "what must stay together (files, groups, speakers, voices) leaves 2 independent parts. Ask "
        "for fewer, or add recordings of other homes."
    )
    for call, what in (
        (lambda: splits.by_group(two), "3 splits (train, dev, test)"),
        (lambda: splits.kfold(two, 4), "4 folds"),
        (lambda: splits.leave_one_group_out(two), "3 parts (train, dev, test)"),
    ):
        with pytest.raises(CorpusError) as caught:
            call()
        assert str(caught.value) == f"3 clips can't be divided into {what}: {rest}"
    with pytest.raises(CorpusError) as caught:
        splits.kfold(two, 2)
    assert str(caught.value) == (
        "2 folds are too few: one tests, one tunes and the others train, so 3 or more."
    )
    for clips, folds in ((two, 4), (two, 2)):
        with pytest.raises(CorpusError) as caught:
            splits.clip_kfold(clips, folds)
        told = f"3 clips can't be divided into {folds} folds (3 or more)."
        assert str(caught.value) == told
    with pytest.raises(CorpusError) as caught:
        splits.by_group(two, {"a": 0.5, "b": float("inf")})
    assert str(caught.value) == (
        "shares of a split must be positive numbers, not {'a': 0.5, 'b': inf}."
    )


def test_folds_of_clips_spread_each_speaker() -> None:
    clips = [clip(f"{who}{i}", speaker=who) for who in "abcde" for i in range(2)]
    clips += [clip(f"g{i}", group="home") for i in range(5)]
    for folds in (3, 4, 5):
        made = splits.clip_kfold(clips, folds, seed=1)
        assert len(made) == folds
        assert sorted(c.id for f in made for c in f.test) == sorted(c.id for c in clips)
        sizes = [len(f.test) for f in made]
        assert max(sizes) - min(sizes) <= 2
        for fold, after in zip(made, [*made[1:], made[0]], strict=True):
            assert fold.dev == after.test
            if folds > 3:
                assert {c.speaker for c in fold.train if c.speaker} == set("abcde")
        for who in (*"abcde", None):
            own = [sum(c.speaker == who for c in f.test) for f in made]
            assert max(own) - min(own) <= 1
    assert splits.clip_kfold(clips, 3, 1) != splits.clip_kfold(clips, 3, 2)
    three = [*(clip(f"a{i}", speaker="a") for i in range(3)), clip("z1"), clip("z2")]
    own = [i for i, f in enumerate(splits.clip_kfold(three, 5)) for c in f.test if c.speaker]
    assert own == [0, 2, 3]  # of 3 and 4, which have a neighbour each, the first
    draw = random.Random(0)
    for seed in range(20):  # speakers of one to three clips: two are never in neighbouring folds
        counts = {f"s{i}": draw.randrange(1, 4) for i in range(12)}
        some = [clip(f"{who}-{i}", speaker=who) for who, n in counts.items() for i in range(n)]
        made = splits.clip_kfold(some, 5, seed)
        for who in (who for who, count in counts.items() if count == 2):
            one, two = (i for i, f in enumerate(made) for c in f.test if c.speaker == who)
            assert two - one in (2, 3)
    assert len(splits.clip_kfold(clips[:3], 3)) == 3

"""Thirty ways to write a wrong corpus: the suite finds each, by the check that is for it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from good_parts import GoodCorpus, make_corpus

import bab
from bab import Clip, Segment, Trial
from bab.testing.corpora import CHECKS
from bab.testing.suite import name_of, run_checks


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def broken(**members):
    return type("Broken", (GoodCorpus,), {"__doc__": "Broken.", **members})


def clips(**changes):
    """Every clip changed; a value may be a function of the clip."""

    def clip(self, row):
        made = GoodCorpus.clip(self, row)
        told = {k: v(made) if callable(v) else v for k, v in changes.items()}
        return replace(made, **told)

    return broken(clip=clip)


def trials(change):
    return broken(trials=lambda self, split: change(list(GoodCorpus.trials(self, split)), self))


def once(self, split=None):
    """A generator that is exhausted after its first use."""
    if not hasattr(self, "left"):
        self.left = iter(GoodCorpus.clips(self))
    return self.left if split is None else GoodCorpus.clips(self, split)


def shuffled(self, split=None):
    return random.sample(GoodCorpus.clips(self, split), k=len(GoodCorpus.clips(self, split)))


def split_names_are_free(self, split=None):
    known = {"train", "dev", "test", None}
    return GoodCorpus.clips(self, split if split in known else None)


def same_speaker_in_two(self, split=None):
    here = GoodCorpus.clips(self, split)
    return [*here, GoodCorpus.clips(self, "train")[0]] if split == "test" else here


def stranger_in_a_split(self, split=None):
    here = GoodCorpus.clips(self, split)
    return [replace(here[0], labels={"mood": "other"}), *here[1:]] if split == "dev" else here


def lenient(self, root, options, permissions=bab.Permissions()):
    bab.Corpus.__init__(self, root, options, permissions)
    there = (root / "rows.json").exists()
    self._clips = list(GoodCorpus(root, options)._clips) if there else []


def crashing(self, root, options, permissions=bab.Permissions()):
    if not (root / "rows.json").exists():
        raise KeyError("rows")
    GoodCorpus.__init__(self, root, options, permissions)


class Undescribed(bab.Options):
    words: bool = True


FAULTS = {
    "one id for all": (clips(id="clip"), "ids"),
    "two clips of one id": (clips(id=lambda c: c.id.replace("clip01", "clip00")), "ids"),
    "an empty id": (clips(id=""), "ids"),
    "a number as id": (clips(id=lambda c: int(c.id[4:])), "ids"),
    "an id of two lines": (clips(id=lambda c: f"{c.id}\n"), "ids"),
    "no group": (clips(group=""), "ids"),
    "a dict in place of a clip": (
        broken(clips=lambda self, split=None: [{"id": "a"}]),
        "ids",
    ),
    "class numbers as labels": (clips(labels=lambda c: {"mood": 1}), "types"),
    "a label that is None": (clips(labels=lambda c: {"mood": None}), "types"),
    "a number as speaker": (clips(speaker=7), "types"),
    "an empty speaker": (clips(speaker=""), "types"),
    "voices in a text": (clips(voices="anna"), "types"),
    "a list of words as text": (clips(text=lambda c: ["a", "b"]), "types"),
    "a time that is no number": (clips(end=float("nan")), "types"),
    "a Path as path": (clips(path=lambda c: bab.cache_root() / c.path), "types"),
    "a relative path": (clips(path=lambda c: c.path.rsplit("/", 1)[-1]), "times"),
    "a file that isn't there": (clips(path="/nowhere/clip.wav"), "times"),
    "clips longer than their file": (clips(end=2.5), "times"),
    "clips of no length": (clips(end=0.0), "times"),
    "times in milliseconds": (clips(end=2000.0), "times"),
    "scored spans that overlap": (clips(scored=((0.0, 1.0), (0.5, 2.0))), "times"),
    "scored spans outside": (clips(scored=((1.0, 9.0),)), "times"),
    "nothing scored": (clips(scored=()), "times"),
    "segments not sorted": (clips(segments=lambda c: c.segments[::-1]), "segments"),
    "segments outside": (clips(segments=(Segment(1.5, 2.5, "word"),)), "segments"),
    "a segment without a label": (clips(segments=(Segment(0.5, 1.0, ""),)), "segments"),
    "a segment backwards": (clips(segments=(Segment(1.0, 0.5, "word"),)), "segments"),
    "tuples as segments": (clips(segments=((0.5, 1.0, "word"),)), "segments"),
    "a speaker in two splits": (broken(clips=same_speaker_in_two), "splits"),
    "one voice everywhere": (clips(voices=("mother",)), "splits"),
    "an empty split": (broken(splits=lambda self: ("train", "dev", "test", "more")), "splits"),
    "another clip in a split": (broken(clips=stranger_in_a_split), "splits"),
    "any split will do": (broken(clips=split_names_are_free), "splits"),
    "splits in a list": (broken(splits=lambda self: ["train", "dev", "test"]), "splits"),
    "another order each time": (broken(clips=shuffled), "stable"),
    "clips only once": (broken(clips=once), "stable"),
    "promised, and not there": (broken(provides=frozenset({"speaker", "age"})), "provides"),
    "segments without notice": (broken(provides=frozenset({"speaker", "mood"})), "provides"),
    "speakers of some": (
        clips(speaker=lambda c: None if c.id == "clip00" else c.speaker),
        "provides",
    ),
    "trials of unknown clips": (trials(lambda t, c: [*t, Trial("a", "b", True)]), "trials"),
    "trials that are wrong": (
        trials(lambda t, c: [replace(one, same=not one.same) for one in t]),
        "trials",
    ),
    "a clip against itself": (
        trials(lambda t, c: [*t, Trial(t[0].enrol, t[0].enrol, True)]),
        "trials",
    ),
    "trials of one kind": (trials(lambda t, c: [one for one in t if one.same]), "trials"),
    "a trial twice": (trials(lambda t, c: [*t, t[0]]), "trials"),
    "same as a number": (trials(lambda t, c: [replace(one, same=1) for one in t]), "trials"),
    "an empty folder is a corpus": (broken(__init__=lenient), "empty"),
    "a folder without the table is a crash": (broken(__init__=crashing), "empty"),
    "an option without a word": (broken(Options=Undescribed), "described"),
    "no docstring": (broken(__doc__=None), "described"),
    "a version that is a number": (broken(version=2), "described"),
}


def run(cls, root, checks=CHECKS):
    outcomes = run_checks(checks, cls(root, cls.Options()))
    return {one.name: one.told for one in outcomes if one.verdict == "failed"}


def test_the_good_one_passes(root):
    assert run(GoodCorpus, root) == {}
    assert isinstance(GoodCorpus(root, GoodCorpus.Options()).clips()[0], Clip)


def test_there_are_more_than_were_planted_in_the_trial():
    assert len(FAULTS) > 19


@pytest.mark.parametrize("fault", FAULTS)
def test_found(fault, root):
    cls, check = FAULTS[fault]
    failed = run(cls, root, [one for one in CHECKS if name_of(one) == check])
    assert check in failed, f"caught by {run(cls, root) or 'nothing'}"
    assert len(failed[check]) > 15, "and it says in what"

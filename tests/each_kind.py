"""A file with a plugin of each kind, which says all that `bab info` shows."""

from __future__ import annotations

PLUGIN = '''"""Corpus `homes`: recordings of
homes.

  FOLDER/
    a.wav   audio

More of it.
"""

from pathlib import Path

import torch
from pydantic import Field

import bab


class Loud(bab.Encoder):
    """Loudness.

    A second paragraph, which is long enough to be folded where the terminal is narrow, and not
    where it is wide.
    """

    weights = {"tiny": "whose they are", "big": "and others"}
    default = "tiny"
    defaults = {"clip": {"x": None, "deep": {"y": True, "z": [1, "a"]}}}
    source = "a page"
    licence = "CC0"

    def forward(self, waves, mask=None, layers="all"): ...

    class Options(bab.Options):
        mels: int = Field(default=8, ge=4, lt=64, description="bands")

    @classmethod
    def load(cls, weights, options, offline=False, trust_code=False):
        made = cls()
        made.sample_rate, made.grid, made.dim, made.depth = 8000, bab.Grid(8000, 100, 333), 5, 2
        made.max_seconds = 12.5 if weights == "tiny" else None
        return made


class Whole(Loud):
    """One frame."""

    weights, default, defaults, source, licence = {}, "", {}, "", ""

    class Options(bab.Options):
        pass

    @classmethod
    def load(cls, weights, options, offline=False, trust_code=False):
        made = cls()
        made.sample_rate, made.grid, made.dim, made.depth = 8000, bab.Grid(8000, 0, 1), 5, 2
        made.max_seconds = None
        return made


class Never(Whole):
    """Can't be made."""

    @classmethod
    def load(cls, weights, options, offline=False, trust_code=False):
        raise RuntimeError("an extra is missing")


class Away(Loud):
    """Its default is no name of its own weights."""

    weights = {"big": "and others"}


class Top(bab.Head):
    """A head."""

    level = ("clip", "frame")
    linear = True

    def forward(self, x, lengths): ...


class Loss(bab.Objective):
    """A loss."""

    defaults = {"mask": {"share": 0.5}}
    source = "a paper"

    def counts(self, batch): ...
    def forward(self, model, batch): ...


class Say(bab.Task):
    """A task."""

    level, corpus, head, objective, needs = "clip", "kaldi", "top", "loss", frozenset("ba")
    view = bab.View(window=2.5, hop=0.5, crop=True)
    defaults = {"probe": {"layers": "mix"}, "finetune": {}}
    primary, presets, notice = "uar", ("one", "two"), "research only"

    def fit(self, clips): ...
    def targets(self, clip, grid, frames, labels): ...
    def decode(self, output, grid, labels, tuned): ...
    def statistics(self, reference, prediction): ...
    def metrics(self, totals): ...
    def write(self, predictions, folder): ...


class Homes(bab.Corpus):
    """A corpus."""

    provides, unit = frozenset({"text", "age"}), "child"

    def clips(self, split=None): ...


class Eyes:
    """Watches."""

    @bab.hookimpl
    def bab_step(self, run, step): ...

    @bab.hookimpl
    def bab_ended(self, run): ...


class Form(bab.Format):
    """A format."""

    suffixes, reads, writes = (".f", ".g"), True, False

    def read(self, path): ...


class Away2(bab.Launcher):
    """A launcher."""

    where = "elsewhere"

    def submit(self, work): ...
    def poll(self, ids): ...
    def cancel(self, ids): ...
'''

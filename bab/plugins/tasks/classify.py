"""Task `classify`: any labels that a corpus gives whole clips, one kind or several at once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bab import Clip, ConfigError, Options, did_you_mean
from bab.kit import ClipTask

NOT_KINDS = frozenset({"segments", "text", "phones"})  # what isn't one word for a whole clip


class ClassifyOptions(Options):
    """What can be set under `task`."""

    labels: tuple[str, ...] = Field(
        (), description="kinds of label to learn; none = the only one that the corpus has"
    )
    map: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="of a kind: a corpus's word and its class, or '' to leave it out; a word that "
        "isn't here is a class of its own",
    )
    classes: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="of a kind: the classes to tell apart, in the order of the outputs; clips with "
        "others are left out. Default: all that the training clips have",
    )
    metric: Literal["accuracy", "macro_f1", "uar"] = Field(
        "accuracy", description="the headline: it chooses the checkpoint and stands in tables"
    )


class Classify(ClipTask):
    """Clip-level labels: keyword, intent, emotion, reason of a cry, kind of speaker, ..."""

    Options = ClassifyOptions
    source = "SUPERB's utterance-level tasks (arXiv 2105.01051): head, and accuracy as the metric"
    corpus = "donateacry"
    remedy = (
        "Leave out with --set task.classes.KIND='[...]', join to another class with "
        "--set task.map.KIND.CLASS=OTHER, or split otherwise"
    )

    options: ClassifyOptions

    def __init__(self, options: ClassifyOptions) -> None:
        super().__init__(options)
        self.primary = options.metric
        self.wanted = options.classes
        self._choose(options.labels)

    def suit(self, provides: frozenset[str]) -> None:
        """Take the corpus's only kind of label where none was named.

        Raises:
            ConfigError: none, or several; options about a kind that isn't learned.
        """
        there = sorted(provides - NOT_KINDS)
        if not self.kinds:
            if len(there) != 1:
                shown = " and ".join(there) or "no label"
                raise ConfigError(
                    f"task 'classify': this corpus has {shown}; say what to learn, e.g. "
                    f"--set task.labels='[{there[0] if there else 'KIND'}]'"
                )
            self._choose((there[0],))
        for option, kinds in (("map", self.options.map), ("classes", self.options.classes)):
            for kind in kinds:
                if kind not in self.kinds:
                    raise ConfigError(
                        f"task.{option}.{kind}: not a kind of label that this run learns "
                        f"({did_you_mean(kind, self.kinds)})"
                    )

    def _choose(self, kinds: tuple[str, ...]) -> None:
        self.kinds = kinds
        self.needs = frozenset(kinds)

    def written(self, kind: str, clip: Clip) -> str:
        """A label, or the speaker's name."""
        if kind == "speaker" and "speaker" not in clip.labels:
            return clip.speaker or ""
        return super().written(kind, clip)

    def mapped(self, kind: str, written: str) -> str:
        return self.options.map.get(kind, {}).get(written, written)

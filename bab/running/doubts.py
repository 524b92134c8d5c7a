"""What can't be trusted, or can't be known, of the audio that a run is scored on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bab.config.run import RunConfig
from bab.core.errors import counted
from bab.core.interfaces import Encoder
from bab.data.heard import heard_by
from bab.data.splits import UNSEEN, ungrouped
from bab.running.data import Data

_UNSEEN_MADE = (
    "Split clip by clip: no speaker and no group is known, so a voice may be in two splits: "
    "leakage can't be seen."
)


def doubts(config: RunConfig, members: Sequence[Encoder], data: Data, made: bool) -> dict[str, Any]:
    """What the record's `data` says of it; nothing where there is nothing to say.

    heard: of dev and test, how many files an encoder was pretrained on, of how many, and one.
    unseen: "made" where bab split clips of which neither speaker nor group is known, "given" where
    the corpus did. made: whether the splits are bab's.
    """
    said: dict[str, Any] = {}
    digests = frozenset[str]().union(*(heard_by(member.resolved) for member in members))
    for split in ("dev", "test"):
        paths = {clip.path for fold in data.folds for clip in getattr(fold, split)}
        both = sorted(path for path in paths if data.content.get(path) in digests)
        if both:
            files = {"files": len(both), "of": len(paths), "such_as": both[0]}
            said.setdefault("heard", {})[split] = files
    if config.test_corpus is None and ungrouped(data.clips):
        said["unseen"] = "made" if made else "given"
    return said


def notices(said: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = [
        f"PRETRAINED ON: {its['files']} of {counted(its['of'], split + ' file')}, such as "
        f"{its['such_as']}: without labels, but scores on what an encoder knows may be too high."
        for split, its in said.get("heard", {}).items()
    ]
    if "unseen" in said:
        lines.append(_UNSEEN_MADE if said["unseen"] == "made" else UNSEEN)
    return lines

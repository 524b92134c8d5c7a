"""What is known of a fold's model before it is asked: what dev tuned, and what it says of test.

Each evaluation leaves what it tuned, so that dev is not asked again once training has ended. A
sweep (bab.benching) leaves what all its models say of test, for which features are read once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bab.core.record import RunInfo
from bab.core.types import Output

_Key = tuple[str, int]  # of a run, and a fold


@dataclass
class Answers:
    """By run and fold. What was asked for is forgotten."""

    _tuned: dict[_Key, tuple[int, float, dict[str, Any]]] = field(default_factory=dict)
    _tested: dict[_Key, tuple[int, Sequence[Output]]] = field(default_factory=dict)

    def tune(self, info: RunInfo, step: int, value: float, tuned: Mapping[str, Any]) -> None:
        """Note what dev tuned with the weights of a step; the best ones' is kept, as
        `State.judge` has it. value: the one that decides, higher is better."""
        known = self._tuned.get((info.id, info.fold))
        if known is None or value > known[1]:
            self._tuned[info.id, info.fold] = step, value, dict(tuned)

    def tuned(self, info: RunInfo, step: int) -> dict[str, Any] | None:
        """What dev tuned with the weights of a step."""
        known = self._tuned.pop((info.id, info.fold), None)
        return known[2] if known is not None and known[0] == step else None

    def test(self, info: RunInfo, step: int, outputs: Sequence[Output]) -> None:
        """Note what the weights of a step say of test."""
        self._tested[info.id, info.fold] = step, outputs

    def tested(self, info: RunInfo, step: int) -> Sequence[Output] | None:
        """What the weights of a step say of test."""
        known = self._tested.pop((info.id, info.fold), None)
        return known[1] if known is not None and known[0] == step else None

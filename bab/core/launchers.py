"""Jobs on other machines: what one is, and the contract of what runs them there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from bab.core.options import Component


@dataclass(frozen=True, slots=True)
class Work:
    """A command line to be run elsewhere. name: letters, digits, `-`, `_`, `.`; argv: the program
    first; folder: it runs there; env: over the environment that it finds; log: what it prints is
    appended to it; spread: whether it runs once on each of `Launcher.layout`'s machines."""

    name: str
    argv: tuple[str, ...]
    folder: Path
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    spread: bool = False


class Standing(NamedTuple):
    """How a job is. ended: it runs no more, and won't by itself; why: what the engine says of it,
    in a few words ("OUT_OF_MEMORY", "Priority"); "" = nothing."""

    state: Literal["queued", "running", "ended"]
    why: str = ""


class Launcher(Component):
    """Runs jobs elsewhere, and neither waits for them nor reads what they make: that stands in
    files, and engines forget. All machines see the same folders under the same paths."""

    where: ClassVar[str] = ""  # what it needs, for `bab info`

    def __init__(self, options: Any) -> None:
        self.options = options

    @property
    def layout(self) -> tuple[int, int]:
        """Of work that is `spread`: the machines, and the processes on each."""
        return 1, 1

    def submit(self, work: Work) -> str:
        """Queue a job; its id, by which any process finds it again. It outlives this process, and
        gets 30 s at least to save on SIGTERM; ended by a limit it may come back under its id.
        Raises BabError: the engine can't be reached, or refuses it: why, and the remedy."""
        raise NotImplementedError

    def poll(self, ids: Sequence[str]) -> Mapping[str, Standing]:
        """How jobs are; one that the engine doesn't know has ended. BabError as `submit`."""
        raise NotImplementedError

    def cancel(self, ids: Sequence[str]) -> None:
        """End jobs, as SIGTERM does; those that have ended already are none of its business."""
        raise NotImplementedError

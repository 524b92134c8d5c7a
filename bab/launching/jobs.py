"""Jobs whose command lines are known beforehand: shards of a command, or one over several machines.

A job that was lost, or stopped by a limit, is submitted again; what it had done stands where the
command keeps it. One that fails by a mistake ends the others.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bab.core.errors import BabError, InterruptedRunError, counted
from bab.core.types import Tell
from bab.launching.asked import Launch, interrupted
from bab.launching.fleet import Ended, Fleet
from bab.starting.signals import terminable

_TICK = 0.5  # seconds
_LIVES = 3  # times that a job may be lost


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be done. commands: name -> what Python is given (`-m bab ...`); most: in the queue
    at a time; what: one of them, for people ("shard"); fine: exit statuses of those that did what
    can be done (1: something was left out); follow: show what they print."""

    commands: Mapping[str, Sequence[str]]
    most: int
    what: str = "shard"
    fine: tuple[int, ...] = (0, 1)
    spread: bool = False
    follow: bool = False
    done: set[str] = field(default_factory=set)


def folder_of(place: Path, argv: Sequence[str]) -> Path:
    """Where the jobs of a command line keep their state: the same for the same command."""
    text = json.dumps(argv)
    return place / hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def run_jobs(
    launch: Launch, folder: Path, wanted: Wanted, tell: Tell, say: Callable[[str], None]
) -> bool:
    """Have jobs done, or go on with what an earlier such call has left at work.

    Args:
        folder: of their state; it goes when all is done.
        tell: is told how many are done; say: gets a line for each.

    Returns:
        Whether all is done; False where jobs were to be cancelled, and nothing else.

    Raises:
        BabError: one of them failed, with the end of what it printed; or can't be submitted.
        InterruptedRunError: Ctrl-C; the jobs are left, or cancelled.
    """
    fleet = Fleet(launch.open(), launch.name, folder)
    if launch.cancel:
        many = len(fleet.jobs)
        fleet.cancel()
        say(f"{counted(many, 'job')} cancelled")
        return False
    if fleet.jobs:
        say(f"{counted(len(fleet.jobs), 'job')} of an earlier call still at work")
    watch = _Watch(fleet, wanted, tell, say)
    try:
        with terminable():
            watch.run()
    except KeyboardInterrupt:
        raise interrupted(fleet, launch, "what was finished stands") from None
    except BabError as error:
        if fleet.jobs and not isinstance(error, InterruptedRunError):
            fleet.cancel()
        raise
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # of other commands' jobs
        folder.parent.rmdir()
    return True


class _Watch:
    """One call of `run_jobs`."""

    def __init__(
        self, fleet: Fleet, wanted: Wanted, tell: Tell, say: Callable[[str], None]
    ) -> None:
        self.fleet, self.wanted, self.tell, self.say = fleet, wanted, tell, say
        self.todo = [name for name in wanted.commands if name not in fleet.jobs]
        self.lost: dict[str, int] = {}
        self.shown: dict[str, int] = {}  # bytes of logs; an earlier call has shown what is there
        for name in fleet.jobs:
            self.shown[name] = _size(fleet.log(name))

    def run(self) -> None:
        done, wanted = self.wanted.done, self.wanted
        while len(done) < len(wanted.commands):
            for ended in self.fleet.look():
                self._show(ended.name)
                self._ended(ended)
            while self.todo and len(self.fleet.jobs) < wanted.most:
                name = self.todo.pop(0)
                self.fleet.submit(name, wanted.commands[name], wanted.spread)
            if wanted.follow:
                for name in self.fleet.jobs:
                    self._show(name)
            else:
                self.tell(f"{wanted.what}s", len(done), len(wanted.commands), "jobs")
            if len(done) < len(wanted.commands):
                time.sleep(_TICK)

    def _ended(self, ended: Ended) -> None:
        name, end = ended.name, ended.end
        if name not in self.wanted.commands:
            return
        if end is not None and end.status in self.wanted.fine:
            self.wanted.done.add(name)
            if not self.wanted.follow:
                number = f"[{len(self.wanted.done)}/{len(self.wanted.commands)}]"
                self.say(f"{number} {name}: done in {end.seconds:.0f} s")
            if end.note:
                self.say(f"{name}: {end.note}")
            return
        if end is None or end.interrupted or end.status < 0:
            if end is None or not end.interrupted:
                self.lost[name] = self.lost.get(name, 0) + 1
            if self.lost.get(name, 0) < _LIVES:
                self.say(f"{name}: {ended.why}; it begins again")
                self.todo.insert(0, name)
                return
        raise BabError(
            f"the job {name} failed: {ended.why}. The last lines of "
            f"{self.fleet.log(name)}:\n{self.fleet.tail(name) or '(empty)'}"
        )

    def _show(self, name: str) -> None:
        """What a job has printed since the last time, in whole lines."""
        if not self.wanted.follow:
            return
        path, at = self.fleet.log(name), self.shown.get(name, 0)
        if _size(path) <= at:
            return
        with path.open("rb") as file:
            file.seek(at)
            text = file.read()
        whole = text.rfind(b"\n") + 1
        self.shown[name] = at + whole
        for line in text[:whole].decode("utf-8", "replace").splitlines():
            self.say(line)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0

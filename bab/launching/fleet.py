"""The jobs of one command: submitted, polled, cancelled, and found again by the next such command.

Which jobs there are stands in `<folder>/jobs.json`, written before and after each submission. Of
how a job ended its own file is believed first, the engine second: one may be slow to see files,
the other may have forgotten.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bab.core.atomic import write_json
from bab.core.errors import BabError
from bab.core.launchers import Launcher, Standing, Work
from bab.launching.code import code
from bab.launching.job import End, end_path, read_end

_PASSED = ("BAB_", "HF_", "OMP_", "MKL_", "TORCH_", "TRANSFORMERS_")  # of the environment
_PASSED_TOO = ("PYTHONPATH", "XDG_CACHE_HOME", "PYTHONUTF8")
_NOT_PASSED = ("BAB_LEASH", "BAB_CODE_CHANGED", "BAB_HEAD", "BAB_NODE")
_LATE = 10.0  # seconds that a file may take from another machine to this one
_POLL = 1.0  # seconds between two questions to the engine, at least
_SHARE = 20  # times what a question takes: so much longer is the pause after it


_NEW = Standing("queued")


@dataclass(slots=True)
class _Job:
    """id: the engine's; gone: since when the engine has it no more, and its file isn't there."""

    id: str
    standing: Standing = _NEW
    gone: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that runs no more. end: what it wrote itself; None: it was lost; why: in words."""

    name: str
    end: End | None
    why: str


class Fleet:
    """Jobs under one launcher, whose state is in a folder."""

    def __init__(self, launcher: Launcher, called: str, folder: Path) -> None:
        """called: the launcher's name.

        Raises:
            BabError: jobs of another launcher may still be at work here.
        """
        self.launcher, self.called, self.folder = launcher, called, folder
        self.jobs: dict[str, _Job] = {}
        self.made = 0  # jobs so far, of earlier calls too
        self._asked, self._pause = -1e9, _POLL
        self._code: dict[str, str] | None = None
        self._load()

    @property
    def state(self) -> Path:
        """The file that says which jobs there are."""
        return self.folder / "jobs.json"

    @property
    def ids(self) -> list[str]:
        """What the engine calls those that haven't ended."""
        return [job.id for job in self.jobs.values() if job.id]

    def count(self, state: str) -> int:
        """How many are queued, or running."""
        return sum(job.standing.state == state for job in self.jobs.values())

    def log(self, name: str) -> Path:
        """What a job prints."""
        return self.folder / f"{name}.log"

    def submit(self, name: str, argv: Sequence[str], spread: bool = False) -> None:
        """Queue a job. argv: what Python is given (`-m bab ...`); spread: over the launcher's
        layout, under torchrun.

        Raises:
            BabError: see Launcher.submit.
        """
        if self._code is None:
            self._code = code()
        nodes, processes = self.launcher.layout if spread else (1, 1)
        file = self.folder / f"{name}.json"
        asked = {"name": name, "argv": list(argv), "nodes": nodes, "processes": processes}
        end_path(file).unlink(missing_ok=True)
        write_json(file, {**asked, "code": self._code})
        self.made += 1
        self.jobs[name] = _Job("")
        self._save()  # the name is taken, whatever happens now
        work = Work(
            name,
            (sys.executable, "-m", "bab.launching.job", str(file.absolute())),
            Path.cwd(),
            self.log(name).absolute(),
            _environment(),
            spread,
        )
        try:
            self.jobs[name].id = self.launcher.submit(work)
        except BaseException:
            del self.jobs[name]
            raise
        finally:
            self._save()

    def look(self) -> list[Ended]:
        """The jobs that have ended since the last look."""
        asked = time.monotonic() - self._asked >= self._pause and bool(self.jobs)
        if asked:
            self._poll()
        ended = [one for name, job in list(self.jobs.items()) if (one := self._over(name, job))]
        for one in ended:
            del self.jobs[one.name]
        if ended:
            self._save()
        return ended

    def cancel(self, patience: float = 60.0) -> None:
        """End all jobs; wait until they have saved what they were at.

        Raises:
            BabError: see Launcher.cancel.
        """
        self.launcher.cancel(self.ids)
        deadline = time.monotonic() + patience
        while self.jobs and time.monotonic() < deadline:
            self._poll()
            self.jobs = {n: j for n, j in self.jobs.items() if j.standing.state != "ended"}
            self._save()
            if self.jobs:
                time.sleep(_POLL)

    def tail(self, name: str, lines: int = 12) -> str:
        """The last lines that a job printed."""
        try:
            text = self.log(name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.rstrip().splitlines()[-lines:])

    def _poll(self) -> None:
        began = time.monotonic()
        told = self.launcher.poll(self.ids)
        self._asked = time.monotonic()
        self._pause = max(_POLL, _SHARE * (self._asked - began))
        for job in self.jobs.values():
            job.standing = told.get(job.id, Standing("ended"))

    def _over(self, name: str, job: _Job) -> Ended | None:
        """A job that has ended; None of one that may still say something."""
        end, engine = read_end(self.folder / f"{name}.json"), job.standing.state
        if end is not None and (not end.interrupted or engine == "ended"):
            return Ended(name, end, _told(end))
        if engine != "ended":
            job.gone = None
            return None
        now = time.monotonic()
        job.gone = job.gone or now
        if now - job.gone < _LATE and job.standing.why == "":
            return None
        return Ended(name, None, job.standing.why or "it was lost")

    def _load(self) -> None:
        try:
            known = json.loads(self.state.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise BabError(f"{self.state} can't be read ({error}): delete it") from error
        self.made = int(known["made"])
        there = {name: number for name, number in known["jobs"].items() if number}
        if there and known["launcher"] != self.called:
            raise BabError(
                f"jobs of launcher '{known['launcher']}' may still be at work on this (ids "
                f"{', '.join(there.values())}): give the command with --launcher "
                f"{known['launcher']}, or delete {self.state} if they are gone"
            )
        self.jobs = {name: _Job(number) for name, number in there.items()}
        if self.jobs:
            self._poll()

    def _save(self) -> None:
        jobs = {name: job.id for name, job in self.jobs.items()}
        value: dict[str, Any] = {"launcher": self.called, "made": self.made, "jobs": jobs}
        write_json(self.state, value)


def _told(end: End) -> str:
    """How a job ended, in words."""
    if end.interrupted:
        return f"stopped after {end.seconds:.0f} s on {end.host}"
    if end.status < 0:
        killed = " (out of memory?)" if end.status == -9 else ""
        return f"killed by signal {-end.status} on {end.host}{killed}"
    return f"status {end.status} on {end.host}"


def _environment() -> dict[str, str]:
    """What of this process's environment goes with a job: how bab and its libraries work."""
    return {
        name: value
        for name, value in os.environ.items()
        if (name.startswith(_PASSED) or name in _PASSED_TOO) and name not in _NOT_PASSED
    }

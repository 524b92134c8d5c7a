"""Launcher `local`: processes of this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

import psutil
from pydantic import Field, PositiveInt

import bab


class LocalOptions(bab.Options):
    processes: PositiveInt = Field(
        default=1, description="bab pretrain: processes that train together"
    )
    threads: PositiveInt | None = Field(
        default=None, description="of each job, for torch; null = as OMP_NUM_THREADS says"
    )


class Local(bab.Launcher):
    """Processes of this machine, which outlive the command that started them.

    `bab bench` keeps its own worker processes under this name: the same as without a launcher.
    """

    Options = LocalOptions
    where = "this machine"

    def __init__(self, options: LocalOptions) -> None:
        super().__init__(options)
        self._own: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def layout(self) -> tuple[int, int]:
        return 1, self.options.processes

    def submit(self, work: bab.Work) -> str:
        environment = {**os.environ, **work.env}
        if self.options.threads:
            environment["OMP_NUM_THREADS"] = str(self.options.threads)
        try:
            work.log.parent.mkdir(parents=True, exist_ok=True)
            with work.log.open("ab") as log:
                process = subprocess.Popen(
                    work.argv,
                    cwd=work.folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is for the command alone
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
        except OSError as error:
            raise bab.BabError(f"the job {work.name} can't be started: {error}") from error
        number = _id(process.pid)
        self._own[number] = process
        return number

    def poll(self, ids: Sequence[str]) -> Mapping[str, bab.Standing]:
        for own in self._own.values():
            own.poll()  # what has ended is no zombie
        return {one: bab.Standing("running" if _there(one) else "ended") for one in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        for one in ids:
            process = _there(one)
            if process is not None:
                with suppress(psutil.NoSuchProcess):
                    process.terminate()


def _id(pid: int) -> str:
    """A process by its number and when it began: numbers are used again."""
    try:
        return f"{pid}-{psutil.Process(pid).create_time():.2f}"
    except psutil.NoSuchProcess:
        return f"{pid}-0"


def _there(number: str) -> psutil.Process | None:
    """The process of an id, where it still runs."""
    pid, _, began = number.partition("-")
    with suppress(psutil.NoSuchProcess, ValueError):
        process = psutil.Process(int(pid))
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if abs(process.create_time() - float(began)) < 0.05:
            return process
    return None

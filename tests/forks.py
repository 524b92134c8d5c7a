"""Processes of their own, for tests, that need not import torch again: each is a fork.

A server (multiprocessing's fork server, one for each process of pytest) imports the large libraries
once, 5 s of CPU, and nothing of bab; a command then starts in a tenth of a second. What is asked of
it is said as subprocess says it: `python -m MODULE ...`, `python -c CODE ...` or `python FILE ...`,
environment, folder.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_LIBRARIES = """
torch torch._dynamo torch.distributed torchaudio accelerate transformers numpy scipy.stats pandas
sklearn soundfile pydantic yaml click rich.console rich.progress safetensors.torch pyannote.core
pyannote.metrics.detection pluggy pyarrow.parquet
"""
_get_context = multiprocessing.get_context
_CONTEXT = _get_context("forkserver")
_CONTEXT.set_forkserver_preload(_LIBRARIES.split())


class Forked:
    """What the tests use of subprocess.Popen, for a process that was forked."""

    def __init__(
        self,
        command: Sequence[str],
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.args = [str(word) for word in command]
        assert self.args[0] == sys.executable, self.args
        self._said = [Path(tempfile.mkstemp(prefix="bab-forked-")[1]) for _ in range(2)]
        given = {"OMP_NUM_THREADS": "1", **(os.environ if env is None else env)}
        streams = {1: str(self._said[0]), 2: str(self._said[1])}
        self._start(self.args[1:], str(cwd or Path.cwd()), given, streams, False)

    def _start(self, *asked: Any) -> None:
        self._process = _CONTEXT.Process(target=_become, args=asked)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it wrote to standard output and error, when it has ended."""
        self.wait(timeout)
        out, err = (path.read_text(encoding="utf-8", errors="replace") for path in self._said)
        for path in self._said:
            path.unlink()
        return out, err


def run(
    command: Sequence[str],
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run(command, capture_output=True, text=True)."""
    process = Forked(command, cwd, env)
    try:
        out, err = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.wait(), out, err)


def ranks(
    count: int,
    command: Sequence[str],
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """The command in `count` processes that know of each other, as torchrun starts them; what they
    say, one after the other, and the first exit status that isn't 0."""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    size = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    base = {**(os.environ if env is None else env), **place, **size}
    started = [
        Forked(command, cwd, {**base, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]
    try:
        said = [process.communicate(120) for process in started]
    finally:
        for process in started:
            process.kill()
    codes = [process.wait() for process in started]
    out, err = ("".join(texts) for texts in zip(*said, strict=True))
    return subprocess.CompletedProcess(list(command), next(filter(None, codes), 0), out, err)


class Worker(Forked):
    """What bab itself uses of subprocess.Popen for a worker, which is forked as well."""

    def __init__(
        self,
        command: Sequence[str],
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: Any = None,
        env: Mapping[str, str] | None = None,
        start_new_session: bool = False,
        creationflags: int = 0,
        cwd: Path | str | None = None,
    ) -> None:
        self.args = list(command)
        self.stdin = self.stdout = None
        streams: dict[int, Any] = {}
        ends = []
        if stdin == subprocess.PIPE:
            theirs, ours = os.pipe()
            streams[0], self.stdin = Connection(theirs, writable=False), os.fdopen(ours, "wb")
            ends.append(streams[0])
        if stdout == subprocess.PIPE:
            ours, theirs = os.pipe()
            streams[1], self.stdout = Connection(theirs, readable=False), os.fdopen(ours, "rb")
            ends.append(streams[1])
        else:
            streams[1] = os.devnull
        streams[2] = os.devnull if stderr in (None, subprocess.DEVNULL) else stderr.name
        given = dict(os.environ if env is None else env)
        self._start(self.args[1:], str(cwd or Path.cwd()), given, streams, start_new_session)
        for end in ends:
            end.close()
        if WORKERS in os.environ:
            with Path(os.environ[WORKERS]).open("a") as listed:
                listed.write(f"{self.pid}\n")


class _Spawned(_CONTEXT.Process):  # type: ignore[name-defined,misc]
    """Has the environment of the process that starts it, not that of the server."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._environment = dict(os.environ)

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self._environment)
        super().run()


class _Spawning(type(_CONTEXT)):  # type: ignore[misc]
    Process = _Spawned


def context(method: str | None = None) -> Any:
    """In multiprocessing.get_context's place: what would be spawned is forked."""
    return _Spawning() if method == "spawn" else _get_context(method)


# Names the file that the workers' process ids are written to.
WORKERS = "BAB_TESTS_WORKERS"
_Popen = subprocess.Popen


def popen(command: Any, *positional: Any, **options: Any) -> Any:
    """In subprocess.Popen's place: bab's own workers are forked, all others started."""
    own = isinstance(command, list) and command[:2] == [sys.executable, "-m"]
    if own and command[2].startswith("bab") and not positional and not options.get("text"):
        return Worker(command, **options)
    return _Popen(command, *positional, **options)


def _become(
    words: list[str], cwd: str, env: dict[str, str], streams: dict[int, Any], session: bool
) -> None:
    """In the fork: what `python WORDS` does."""
    gc.freeze()  # the libraries stay; nothing need look through them
    if session:
        os.setsid()
    for number, end in streams.items():
        place = isinstance(end, str)
        opened = os.open(end, os.O_WRONLY | os.O_APPEND) if place else end.fileno()
        os.dup2(opened, number)
        os.close(opened) if place else end.close()
    if 0 in streams:  # multiprocessing has put /dev/null in its place
        sys.stdin = os.fdopen(0, closefd=False)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    if WORKERS in env:
        subprocess.Popen = popen  # type: ignore[assignment,misc]
    sys.path[:0] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        if words[0] == "-c":
            sys.argv = ["-c", *words[2:]]
            exec(words[1], {"__name__": "__main__"})
        elif words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            sys.path[0] = str(Path(words[0]).parent)
            runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()

"""Processes of their own, for tests, that need not import torch again: each is a fork.

A server (multiprocessing's fork server, one for each process of pytest) imports the large libraries
once, 5 s of CPU, and nothing of bab; a command then starts in a tenth of a second. What is asked of
it is said as subprocess says it: `python -m MODULE ...` or `python FILE ...`, environment, folder.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_LIBRARIES = """
torch torch._dynamo torch.distributed torchaudio accelerate transformers numpy scipy.stats pandas
sklearn soundfile pydantic yaml click rich.console rich.progress safetensors.torch pyannote.core
pyannote.metrics.detection pluggy pyarrow.parquet
"""
_CONTEXT = multiprocessing.get_context("forkserver")
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
        self._process = _CONTEXT.Process(
            target=_become,
            args=(self.args[1:], str(cwd or Path.cwd()), given, *map(str, self._said)),
        )
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


def _become(words: list[str], cwd: str, env: dict[str, str], out: str, err: str) -> None:
    """In the fork: what `python WORDS` does."""
    for number, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:0] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            sys.path[0] = str(Path(words[0]).parent)
            runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()

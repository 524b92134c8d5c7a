"""What every job runs: `python -m bab.launching.job FILE`. It starts the command that stands in the
file, hands SIGTERM on, and writes beside the file how the command ended.

So what a job came to is known without its engine, which may forget it, and may know nothing of exit
statuses. Imports nothing heavy.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from bab.core.atomic import write_json
from bab.core.errors import InterruptedRunError

LEASH = "BAB_LEASH"  # in the environment: end when standard input does (a launcher that died)
CHANGED = "BAB_CODE_CHANGED"  # for the run's notices: what of the code isn't as it was
_PORT = 29_500  # torchrun's own default
_STOPPED = InterruptedRunError.exit_code


class End(NamedTuple):
    """How a job's command ended. status: as of a process, negative: a signal; interrupted: it was
    asked to save and stop; note: what is to be said of its code."""

    status: int
    interrupted: bool
    seconds: float
    host: str
    note: str


def end_path(file: Path) -> Path:
    """Where it stands how a job ended."""
    return file.with_name(f"{file.stem}.end.json")


def read_end(file: Path) -> End | None:
    """How a job ended; None where nothing says so."""
    with suppress(OSError, ValueError, TypeError):
        return End(**json.loads(end_path(file).read_text(encoding="utf-8")))
    return None


def command(asked: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """The process that a job starts on this node: Python, or torchrun over several processes."""
    nodes, processes = asked["nodes"], asked["processes"]
    if nodes * processes == 1:
        return [sys.executable, *asked["argv"]]
    head = ["--standalone"]
    if nodes > 1:
        # A port of the job's own: two of them may share their first machine.
        port = _PORT + sum(asked["name"].encode()) % 500
        where = f"{environment.get('BAB_HEAD', 'localhost')}:{port}"
        head = [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={where}"]
        first = environment.get("BAB_NODE", "0") == "0"
        head += [f"--rdzv-conf=is_host={str(first).lower()}", f"--rdzv-id={asked['name']}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    return [*torchrun, *head, f"--nproc-per-node={processes}", *asked["argv"]]


def main(arguments: Sequence[str]) -> int:
    """Run a job; its exit status: that of its command, 130 where it was asked to stop."""
    file = Path(arguments[0])
    asked = json.loads(file.read_text(encoding="utf-8"))
    leads = os.environ.get("BAB_NODE", "0") == "0"
    if leads:
        end_path(file).unlink(missing_ok=True)
    note = _note(asked)
    environment = {**os.environ, CHANGED: note}
    began, asked_to_stop = time.monotonic(), []
    # A group of its own: an engine that signals all processes of a group would be heard twice.
    process = subprocess.Popen(
        command(asked, os.environ),
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )

    def stop(number: int, frame: FrameType | None) -> None:
        asked_to_stop.append(number)
        process.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if os.environ.get(LEASH):
        threading.Thread(target=_leash, args=(process,), daemon=True).start()
    status = process.wait()
    if leads:
        seconds, host = round(time.monotonic() - began, 2), socket.gethostname()
        end = End(status, bool(asked_to_stop) or status == _STOPPED, seconds, host, note)
        write_json(end_path(file), end._asdict())
    if asked_to_stop and status != 0:
        return _STOPPED
    return status if status >= 0 else 128 - status


def _note(asked: Mapping[str, Any]) -> str:
    """What of the code isn't as it was at submission."""
    from bab.launching.code import changed, code

    note = changed(asked["code"], code())
    if note:
        print(f"bab: note: {note}", file=sys.stderr, flush=True)
    return note


def _leash(process: subprocess.Popen[bytes]) -> None:
    """End with whoever holds the other end of standard input."""
    with suppress(OSError):
        while os.read(0, 1024):  # sys.stdin would be locked at this process's end
            pass
    process.terminate()
    time.sleep(30)
    process.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

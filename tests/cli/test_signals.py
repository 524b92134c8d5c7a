"""SIGTERM and SIGHUP end every command as Ctrl-C does."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import forks
import pytest

SCRIPT = """
import signal, sys, time

# A shell's background job has SIGINT ignored, one under nohup SIGHUP; and so have its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_IGN if "nohup" in sys.argv else signal.SIG_DFL)
from bab.cli import cli, main
from bab.starting.lifecycle import stopper

@cli.command("plain")
def plain():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("closed", flush=True)

@cli.command("careful")
def careful():
    with stopper() as stop:
        print("ready", flush=True)
        while not stop():
            time.sleep(0.01)
    print("closed", flush=True)
    raise KeyboardInterrupt

sys.exit(main(sys.argv[1:2]))
"""


@pytest.mark.parametrize("command", ["plain", "careful"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_in_order(
    tmp_path: Path, command: str, number: signal.Signals
) -> None:
    ended, said = _signalled(tmp_path, [command], number)
    assert ended == 130 and said == "closed\n"


def test_a_hang_up_that_is_ignored_stays_so(tmp_path: Path) -> None:
    for command in ("plain", "careful"):
        ended, said = _signalled(tmp_path, [command, "nohup"], signal.SIGHUP, signal.SIGINT)
        assert ended == 130 and said == "closed\n"


def _signalled(folder: Path, words: list[str], *numbers: signal.Signals) -> tuple[int, str]:
    """Exit status and output of a process that gets signals, a moment apart, when it is ready."""
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "script.py"), *words]
    process = forks.Worker(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        for number in numbers:
            assert process.poll() is None
            process.send_signal(number)
            if number != numbers[-1]:
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.5)
        rest = process.stdout.read().decode()
        return process.wait(30), rest
    finally:
        process.kill()

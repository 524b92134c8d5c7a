"""SIGTERM and SIGHUP end every command as Ctrl-C does."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import sys, time
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

sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["plain", "careful"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_in_order(command: str, number: signal.Signals) -> None:
    ended, said = _signalled([sys.executable, "-c", SCRIPT, command], number)
    assert ended == 130 and said == "closed\n"


def test_a_hang_up_that_is_ignored_stays_so() -> None:
    for command in ("plain", "careful"):
        nohup = ["nohup", sys.executable, "-c", SCRIPT, command]
        ended, said = _signalled(nohup, signal.SIGHUP, signal.SIGINT)
        assert ended == 130 and said == "closed\n"


def _signalled(command: list[str], *numbers: signal.Signals) -> tuple[int, str]:
    """Exit status and output of a process that gets signals, a moment apart, when it is ready."""
    # A shell's background job has SIGINT ignored, one under nohup SIGHUP; and so have its children.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=_attentive,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for number in numbers:
            assert process.poll() is None
            process.send_signal(number)
            if number != numbers[-1]:
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.5)
        rest = process.stdout.read()
        return process.wait(30), rest


def _attentive() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

"""What launchers `local` and `slurm` start, ask and say, to the letter."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

import bab
from bab.plugins.launchers import local, slurm
from bab.plugins.launchers.local import Local
from bab.plugins.launchers.slurm import Slurm

# --- local --------------------------------------------------------------------------------------

SAID = (
    "import os, sys; e = os.environ.get; print(e('OMP_NUM_THREADS'), e('BAB_X'), e('BAB_Y'));"
    "print(os.path.realpath('.'), os.getsid(0) == os.getpid(), sys.stdin.read() == '');"
    "print('err', file=sys.stderr)"
)


def work(here: Path, *argv: str, **env: str) -> bab.Work:
    return bab.Work("w1", argv or (sys.executable, "-c", SAID), here, here / "logs" / "log", env)


def made(**options: Any) -> Local:
    return Local(Local.Options(**options))


def waited(launcher: Local, number: str) -> None:
    psutil.wait_procs([psutil.Process(int(number.partition("-")[0]))], timeout=30)


@pytest.mark.parametrize(("threads", "told"), [(None, "5"), (3, "3")])
def test_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int | None, told: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("BAB_Y", "kept")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "log").write_text("before\n")
    launcher = made(threads=threads)
    number = launcher.submit(work(tmp_path, BAB_X="given"))
    launcher._own[number].wait(30)
    here = os.path.realpath(tmp_path)
    lines = (tmp_path / "logs" / "log").read_text().splitlines()
    assert sorted(lines) == sorted(["before", f"{told} given kept", f"{here} True True", "err"])
    assert launcher.poll([number]) == {number: ("ended", "")}


def test_standing_and_cancelling(tmp_path: Path) -> None:
    launcher, other = made(), made()
    number = launcher.submit(work(tmp_path, "sleep", "60"))
    pid, began = number.split("-")
    assert abs(float(began) - psutil.Process(int(pid)).create_time()) < 0.01
    later = f"{pid}-{float(began) + 1:.2f}"
    ids = [number, later, "none", f"{pid}-", f"-{began}"]
    expected = [("running", ""), *[("ended", "")] * 4]
    # Any process knows it by its id; a number that was used again is none of ours.
    assert list(other.poll(ids).values()) == expected and list(other.poll(ids)) == ids
    other.cancel([later, "none"])
    assert launcher.poll([number])[number].state == "running"
    other.cancel([number])
    assert launcher._own[number].wait(30) == -signal.SIGTERM
    assert launcher.poll([number])[number].state == "ended"
    other.cancel([number])


def test_a_zombie_has_ended(tmp_path: Path) -> None:
    launcher, other = made(), made()
    number = launcher.submit(work(tmp_path, "true"))
    os.waitid(os.P_PID, int(number.partition("-")[0]), os.WEXITED | os.WNOWAIT)
    assert psutil.Process(int(number.partition("-")[0])).status() == psutil.STATUS_ZOMBIE
    assert other.poll([number])[number].state == "ended"
    launcher.poll([])
    assert launcher._own[number].returncode == 0  # and is none any more


def test_what_cannot_be_started_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(bab.BabError, match=r"^the job w1 can't be started: .*no/such'$"):
        made().submit(work(tmp_path, "/no/such"))
    number = local._id(2**22 + 1)  # a process that is over already
    assert number == f"{2**22 + 1}-0" and made().poll([number])[number].state == "ended"


def test_layouts() -> None:
    assert made().layout == (1, 1) and made(processes=3).layout == (1, 3)


# --- slurm --------------------------------------------------------------------------------------

HERE = Path("/data/a b")


def script(spread: bool = False, **options: Any) -> str:
    argv, env = ("python", "-c", "print('a b')"), {"BAB_X": "it's $5"}
    asked = bab.Work("w1", argv, HERE, HERE / "100%.log", env, spread)
    return Slurm(Slurm.Options(**options)).script(asked)


PLAIN = """\
#!/bin/bash
#SBATCH --requeue
#SBATCH --job-name=bab-w1
#SBATCH --output='/data/a b/100%%.log'
#SBATCH --open-mode=append
#SBATCH --chdir='/data/a b'
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --signal=B:TERM@120
export BAB_X='it'"'"'s $5'
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}
python -c 'print('"'"'a b'"'"')' &
child=$!
trap 'kill -TERM $child 2>/dev/null' TERM
wait $child
status=$?
while kill -0 $child 2>/dev/null; do wait $child; status=$?; done
if [ $status -eq 130 ] && [ "$(squeue -h -j $SLURM_JOB_ID -o %T)" = RUNNING ]; then
    echo "bab: saved; back into the queue"
    scontrol requeue $SLURM_JOB_ID && sleep 60
fi
exit $status
"""


def test_a_script_to_the_letter() -> None:
    assert script() == script(nodes=3) == PLAIN  # a share needs one machine
    more = {"partition": "gpu", "account": "lab", "constraint": "a100", "extra": ("--qos=x y",)}
    more |= {"memory": "16G", "time": "1:00:00", "grace": 60}
    several = script(True, nodes=2, gpus=4, cpus=3, **more)
    head, _, tail = several.partition("export BAB_X")
    assert head.splitlines() == [
        *PLAIN.splitlines()[:6],
        "#SBATCH --nodes=2", "#SBATCH --ntasks=2", "#SBATCH --cpus-per-task=3",
        "#SBATCH --gpus-per-node=4", "#SBATCH --mem=16G", "#SBATCH --time=1:00:00",
        "#SBATCH --signal=TERM@60", "#SBATCH --partition=gpu", "#SBATCH --account=lab",
        "#SBATCH --constraint=a100", "#SBATCH --qos=x y",
    ]  # fmt: skip
    lines = tail.splitlines()
    assert lines[2] == "export BAB_HEAD=$(hostname)"
    inner = "export BAB_NODE=$SLURM_NODEID; exec python -c 'print('\"'\"'a b'\"'\"')'"
    command = shlex.split(lines[3])
    assert command == [
        *("srun", "--kill-on-bad-exit=0", "--ntasks-per-node=1", "bash", "-c", inner, "&"),
    ]
    assert lines[4:] == PLAIN.splitlines()[13:]


@pytest.mark.parametrize(
    ("options", "layout"),
    [({}, (1, 1)), ({"gpus": 4}, (1, 4)), ({"nodes": 2, "processes": 3, "gpus": 4}, (2, 3)),
     ({"nodes": 2, "gpus": 1}, (2, 1))],
)  # fmt: skip
def test_processes_of_slurm(options: dict[str, Any], layout: tuple[int, int]) -> None:
    assert Slurm(Slurm.Options(**options)).layout == layout


class Commands:
    """Slurm's, which note how they were called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.called: list[tuple[list[str], dict[str, Any]]] = []
        self.says: str | BaseException = ""
        self.status, self.wrong = 0, ""
        monkeypatch.setattr(slurm.shutil, "which", lambda name: f"/bin/{name}")
        monkeypatch.setattr(slurm.subprocess, "run", self.run)

    def run(self, command: list[str], **how: Any) -> Any:
        self.called.append((list(command), how))
        if isinstance(self.says, BaseException):
            raise self.says
        return subprocess.CompletedProcess(command, self.status, self.says, self.wrong)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(monkeypatch)


def test_a_job_is_submitted_with_its_script(commands: Commands, tmp_path: Path) -> None:
    asked = bab.Work("w1", ("x",), tmp_path, tmp_path / "logs" / "log")
    for commands.says in ("123\n", "123;cluster\n"):
        assert Slurm(Slurm.Options()).submit(asked) == "123"
    how = {"capture_output": True, "text": True, "timeout": 60, "check": False}
    expected = {"input": Slurm(Slurm.Options()).script(asked), **how}
    assert commands.called == [(["sbatch", "--parsable"], expected)] * 2
    assert (tmp_path / "logs").is_dir()


@pytest.mark.parametrize(
    ("state", "standing"),
    [*((s, "queued") for s in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT",
                               "RESV_DEL_HOLD")),
     *((s, "running") for s in ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STAGE_OUT",
                                "SIGNALING", "RESIZING", "STOPPED")),
     *((s, "ended") for s in ("COMPLETED", "TIMEOUT", "NODE_FAIL", ""))],
)  # fmt: skip
def test_states_of_slurm(commands: Commands, state: str, standing: str) -> None:
    commands.says = f" 7|{state}|Priority|x\n\n8|{state}|None\n9|{state}|\n1|{state}\n"
    told = Slurm(Slurm.Options()).poll(["8", "7", "9", "1", "5"])
    why = ["", "Priority|x", "", ""] if standing != "ended" else [state] * 4
    assert list(told.items()) == [
        *zip(("8", "7", "9", "1"), [(standing, text) for text in why], strict=True),
        ("5", ("ended", "")),
    ]
    assert [command for command, _ in commands.called] == [
        ["squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%r"]
    ]


def test_nothing_is_asked_of_no_jobs(commands: Commands) -> None:
    launcher = Slurm(Slurm.Options())
    assert launcher.poll([]) == {}
    launcher.cancel([])
    assert commands.called == []
    launcher.cancel(["1", "2"])
    assert [command for command, _ in commands.called] == [["scancel", "--quiet", "1", "2"]]


def test_what_slurm_refuses(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = Slurm(Slurm.Options())

    def said() -> str:
        with pytest.raises(bab.BabError) as caught:
            launcher.cancel(["1"])
        return str(caught.value)

    commands.status, commands.wrong = 1, "scancel: error: Invalid\n job id\n"
    assert said() == ("scancel: Invalid job id; look at --set launcher.KEY (`bab info slurm`)")
    commands.says = subprocess.TimeoutExpired("scancel", 60)
    assert said() == "scancel doesn't answer: is the cluster up (`sinfo`)?"
    monkeypatch.setattr(slurm.shutil, "which", lambda name: None)
    assert said() == (
        "--launcher slurm: there is no scancel on this machine: give the command on a login node "
        "of the cluster"
    )
